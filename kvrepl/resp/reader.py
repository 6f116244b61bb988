"""Replies in: bytes of a server -> Python values, for links, tools and tests.

The inverse of `kvrepl.resp.replies`, for RESP2 and RESP3:

    + Status     - CommandError (a value, not raised)     : and ( int
    $ bytes      $-1 and _ None        *-1 NULL_ARRAY      , float      # bool
    = Verbatim   * list   ~ SetReply   > Push   % dict     | an attribute, read and dropped

Aggregates nest on an explicit stack of at most MAX_DEPTH, so no input can exhaust Python's own.
Input may come in any pieces; any split gives the same values and the same error.

Source: the RESP2 and RESP3 specifications; Redis 7.0 hiredis/read.c for the limits' kind.
"""

from __future__ import annotations

from typing import Any, Final

from kvrepl.errors import CommandError, ProtocolError
from kvrepl.numbers import parse_float, parse_int
from kvrepl.resp.values import NULL_ARRAY, Push, Reply, SetReply, Status, Verbatim

MAX_DEPTH: Final = 64
MAX_REPLY_LINE_BYTES: Final = 64 * 1024
MAX_REPLY_BULK_BYTES: Final = 1 << 40
MAX_REPLY_ELEMENTS: Final = (1 << 31) - 1
MAX_BIG_NUMBER_DIGITS: Final = 4300
"""What Python's int() takes by default."""

_AGGREGATES: Final = {0x2A: list, 0x7E: SetReply, 0x3E: Push, 0x25: dict, 0x7C: dict}
_ARRAY: Final = 0x2A
_MAP: Final = 0x25
_ATTRIBUTE: Final = 0x7C
_BULK: Final = 0x24
_VERBATIM: Final = 0x3D
_NOTHING: Final = object()


class _Open:
    """An aggregate whose elements are still coming."""

    __slots__ = ("items", "kind", "missing")

    def __init__(self, kind: int, missing: int) -> None:
        self.kind = kind
        self.missing = missing
        self.items: list[Any] = []


class ReplyParser:
    """Decodes the replies of a server.

    Attributes:
        error: what was wrong, once the bytes are not RESP; nothing is decoded after it.
        pending_bytes: bytes received that are part of no complete line or string yet.
    """

    __slots__ = ("_buffer", "_bulk", "_kind", "_stack", "error")

    def __init__(self) -> None:
        self.error: ProtocolError | None = None
        self._buffer = bytearray()
        self._stack: list[_Open] = []
        self._bulk = -1  # length of the string that is being read
        self._kind = _BULK

    @property
    def pending_bytes(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes, max_replies: int = -1) -> list[Reply]:
        """Take bytes; return the replies that they complete.

        Args:
            data: bytes as they came, in any pieces; b"" to go on after max_replies.
            max_replies: stop after so many, -1 for no limit. The rest stays pending, which is how a
                handshake leaves the payload behind a reply alone (take_pending).

        Returns:
            The replies in order. O(len(data)) amortised.
        """
        replies: list[Reply] = []
        buffer = self._buffer
        buffer += data
        pos = 0
        try:
            while self.error is None and len(replies) != max_replies:
                value, after = self._next(buffer, pos)
                if after < 0:
                    break
                pos = after
                if value is not _NOTHING:
                    replies.append(value)
        except ProtocolError as error:
            self.error = error
        del buffer[:pos]
        return replies

    def take_pending(self) -> bytes:
        """Hand over the bytes after the last whole reply and forget them.

        To be called between replies only (a handshake that turns into a payload).
        """
        pending = bytes(self._buffer)
        self._buffer.clear()
        return pending

    def _next(self, buffer: bytearray, pos: int) -> tuple[Any, int]:
        """Read one line or string at pos.

        Returns:
            The reply it completes (_NOTHING where it completes none) and the position after
            it, or -1 where the buffer ends before it does.
        """
        if self._bulk >= 0:
            end = pos + self._bulk
            if len(buffer) < end + 2:
                return _NOTHING, -1
            if buffer[end : end + 2] != b"\r\n":
                raise ProtocolError("Protocol error: no CRLF after a string")
            text = bytes(memoryview(buffer)[pos:end])
            self._bulk = -1
            return self._add(_verbatim(text) if self._kind == _VERBATIM else text), end + 2
        line_end = buffer.find(b"\r\n", pos, pos + MAX_REPLY_LINE_BYTES)
        if line_end < 0:
            if len(buffer) - pos >= MAX_REPLY_LINE_BYTES:
                raise ProtocolError("Protocol error: too big reply line")
            return _NOTHING, -1
        line = bytes(memoryview(buffer)[pos:line_end])
        if not line:
            raise ProtocolError("Protocol error: empty reply line")
        return self._line(line), line_end + 2

    def _line(self, line: bytes) -> Any:
        """Act on a line without its end; return the reply it completes or _NOTHING."""
        kind = line[0]
        if kind in (_BULK, _VERBATIM):
            length = _size(line, MAX_REPLY_BULK_BYTES)
            if length < 0:
                return self._add(None)
            self._bulk, self._kind = length, kind
            return _NOTHING
        if kind not in _AGGREGATES:
            return self._add(_scalar(line))
        size = _size(line, MAX_REPLY_ELEMENTS)
        if size < 0:
            return self._add(NULL_ARRAY)
        if len(self._stack) == MAX_DEPTH:
            raise ProtocolError("Protocol error: reply nested too deep")
        self._stack.append(_Open(kind, size * 2 if kind in (_MAP, _ATTRIBUTE) else size))
        return self._close_complete()

    def _add(self, value: Any) -> Any:
        """Put a value where it belongs; return the reply it completes or _NOTHING."""
        if not self._stack:
            return value
        top = self._stack[-1]
        top.items.append(value)
        top.missing -= 1
        return self._close_complete()

    def _close_complete(self) -> Any:
        """Close the aggregates that have all their elements, from the innermost out."""
        while self._stack and not self._stack[-1].missing:
            closed = self._stack.pop()
            value = _aggregate(closed)
            if closed.kind == _ATTRIBUTE:
                return _NOTHING  # it describes the value that follows in its place
            if not self._stack:
                return value
            top = self._stack[-1]
            top.items.append(value)
            top.missing -= 1
        return _NOTHING


def _aggregate(closed: _Open) -> Any:
    if closed.kind == _ARRAY:
        return closed.items
    if closed.kind not in (_MAP, _ATTRIBUTE):
        return _AGGREGATES[closed.kind](closed.items)
    try:
        return dict(zip(closed.items[::2], closed.items[1::2], strict=True))
    except TypeError:
        raise ProtocolError("Protocol error: the key of a map is an aggregate") from None


def _size(line: bytes, maximum: int) -> int:
    """Read a length or count; -1 is the null of RESP2, which only strings and arrays have."""
    size = parse_int(line[1:])
    if size is None or size > maximum or size < (-1 if line[0] in (_BULK, _ARRAY) else 0):
        raise ProtocolError(f"Protocol error: invalid length in {line[:32]!r}")
    return size


def _scalar(line: bytes) -> Any:
    kind, text = line[:1], line[1:]
    if kind == b"+":
        return Status(text)
    if kind == b"-":
        return CommandError(text)
    value: Any = _NOTHING
    if kind == b":":
        value = parse_int(text)
    elif kind == b",":
        value = float("nan") if text in (b"nan", b"-nan") else parse_float(text)
    elif kind == b"(":
        digits = text.removeprefix(b"-")
        value = int(text) if digits.isdigit() and len(digits) <= MAX_BIG_NUMBER_DIGITS else None
    elif kind == b"#":
        value = {b"t": True, b"f": False}.get(text)
    elif kind == b"_" and not text:
        return None
    if value is _NOTHING or value is None:
        raise ProtocolError(f"Protocol error: unexpected reply {line[:32]!r}")
    return value


def _verbatim(text: bytes) -> Verbatim:
    if text[3:4] != b":":
        raise ProtocolError("Protocol error: verbatim string without a format")
    return Verbatim(text[4:], text[:3])
