"""What a command handler may return, and what each becomes on the wire.

Handlers return Python values, never RESP; `kvrepl.resp.replies` is the one encoder.

    value                RESP2                      RESP3
    bytes, bytearray     bulk string                bulk string
    int                  integer                    integer
    None                 null bulk ($-1)            null (_)
    NULL_ARRAY           null array (*-1)           null (_)
    float                bulk string (%.17g)        double (,)
    bool                 integer 1 / 0              boolean (#t / #f)
    list, tuple          array                      array
    dict                 flat array                 map (%)
    SetReply             array                      set (~)
    Push                 array                      push (>)
    Status               simple string              simple string
    CommandError         error                      error
    Verbatim             bulk string                verbatim string (=)
    Double               bulk string, as given      double, as given
    Encoded              its bytes, unchanged       its bytes, unchanged
    BLOCKED, NO_REPLY    nothing                    nothing
"""

from __future__ import annotations

from typing import Any, Final


class Status:
    """A simple string such as +OK; its two wire forms are the same and made once."""

    __slots__ = ("text", "wire")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.wire = b"+%b\r\n" % text

    def __repr__(self) -> str:
        return f"Status({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Push(list[Any]):
    """An out-of-band message (pub/sub, invalidation): an array in RESP2, a push in RESP3."""


class SetReply(list[Any]):
    """An unordered collection: an array in RESP2, a set in RESP3."""


class Verbatim:
    """Text for people (INFO, LOLWUT): a bulk string in RESP2, a verbatim string in RESP3."""

    __slots__ = ("format", "text")

    def __init__(self, text: bytes, format: bytes = b"txt") -> None:
        self.text = text
        self.format = format


class Double:
    """A double whose decimal text is already chosen (scores): b"1.5" or b"inf"."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class Encoded:
    """Bytes that are a whole reply already."""

    __slots__ = ("wire",)

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


class Marker:
    """A value of its own, compared by identity."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


NULL_ARRAY: Final = Marker("NULL_ARRAY")
"""The null that RESP2 spells `*-1` (EXEC aborted by WATCH, BLPOP timed out)."""
BLOCKED: Final = Marker("BLOCKED")
"""The command waits; the engine answers the client later."""
NO_REPLY: Final = Marker("NO_REPLY")
"""The command never answers, or has written its answers itself (SUBSCRIBE)."""

OK: Final = Status(b"OK")
QUEUED: Final = Status(b"QUEUED")
PONG: Final = Status(b"PONG")

Reply = Any
"""Any of the values above; a union that lists them would stop nothing and slow reading."""
