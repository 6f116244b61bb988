"""Replies out: Python values -> RESP2 or RESP3 bytes; and commands as a server sends them.

`kvrepl.resp.values` has the table of values. This is the only place that knows their wire forms:
clients, EXEC, Lua and the stream all pass here. A value of another type is a mistake of ours and
raises TypeError; `str` is among them on purpose, the wire is bytes.

This file is the reference. `kvrepl._accel` holds encode, encode_many and encode_command compiled;
the tests hold them equal.

Source: Redis 7.0 networking.c (addReply*), the RESP3 specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kvrepl.errors import CommandError, ProtocolError
from kvrepl.numbers import format_double
from kvrepl.resp.values import (
    BLOCKED,
    NO_REPLY,
    NULL_ARRAY,
    Double,
    Encoded,
    Marker,
    Push,
    Reply,
    SetReply,
    Status,
    Verbatim,
)

RESP2: Final = 2
RESP3: Final = 3

_NULL: Final = {RESP2: b"$-1\r\n", RESP3: b"_\r\n"}
_NULL_ARRAY: Final = {RESP2: b"*-1\r\n", RESP3: b"_\r\n"}
_SMALL_INTEGERS: Final = tuple(b":%d\r\n" % n for n in range(1024))
_NO_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")

_Encoder = Callable[[Any, int], bytes]


def encode(value: Reply, protocol: int = RESP2) -> bytes:
    """Encode one reply.

    Args:
        value: what a handler returned; see kvrepl.resp.values.
        protocol: RESP2 or RESP3, as the client chose with HELLO.

    Returns:
        Its wire form; b"" for BLOCKED and NO_REPLY. O(size).

    Raises:
        TypeError: the value has no wire form, or a marker stands inside another value.
    """
    if value is BLOCKED or value is NO_REPLY:
        return b""
    return encode_value(value, protocol)


def encode_many(values: Iterable[Reply], protocol: int = RESP2) -> bytes:
    """Encode the replies of one batch, in order: the same as joining encode() of each."""
    return b"".join([encode(value, protocol) for value in values])


def encode_value(value: Reply, protocol: int) -> bytes:
    """Encode a value that may be an element of another; see encode."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = _inherited_encoder(value)
    return encoder(value, protocol)


def encode_command(argv: Sequence[bytes]) -> bytes:
    """Encode a command as clients, masters and AOF files write it: an array of bulk strings.

    Args:
        argv: the command and its arguments.

    Returns:
        The multibulk request. O(size).
    """
    parts = [b"*%d\r\n" % len(argv)]
    parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in argv]
    return b"".join(parts)


def encode_protocol_error(error: ProtocolError) -> bytes:
    """Encode what a client is told before its connection is closed for broken RESP."""
    return b"-ERR %b\r\n" % error.text.encode("latin-1", "backslashreplace")


def _encode_bytes(value: bytes, protocol: int) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _encode_int(value: int, protocol: int) -> bytes:
    if 0 <= value < 1024:
        return _SMALL_INTEGERS[value]
    return b":%d\r\n" % value


def _encode_none(value: None, protocol: int) -> bytes:
    return _NULL[protocol]


def _encode_bool(value: bool, protocol: int) -> bytes:
    if protocol == RESP2:
        return b":1\r\n" if value else b":0\r\n"
    return b"#t\r\n" if value else b"#f\r\n"


def _encode_float(value: float, protocol: int) -> bytes:
    text = format_double(value)
    return b"$%d\r\n%b\r\n" % (len(text), text) if protocol == RESP2 else b",%b\r\n" % text


def _encode_double(value: Double, protocol: int) -> bytes:
    text = value.text
    return b"$%d\r\n%b\r\n" % (len(text), text) if protocol == RESP2 else b",%b\r\n" % text


def _encode_elements(header: bytes, values: Iterable[Reply], protocol: int) -> bytes:
    parts = [header]
    parts += [  # hot: most arrays hold strings, and a call a string costs half again
        b"$%d\r\n%b\r\n" % (len(value), value)
        if type(value) is bytes
        else encode_value(value, protocol)
        for value in values
    ]
    return b"".join(parts)


def _encode_array(value: Sequence[Reply], protocol: int) -> bytes:
    return _encode_elements(b"*%d\r\n" % len(value), value, protocol)


def _encode_set(value: SetReply, protocol: int) -> bytes:
    header = b"*%d\r\n" if protocol == RESP2 else b"~%d\r\n"
    return _encode_elements(header % len(value), value, protocol)


def _encode_push(value: Push, protocol: int) -> bytes:
    header = b"*%d\r\n" if protocol == RESP2 else b">%d\r\n"
    return _encode_elements(header % len(value), value, protocol)


def _encode_map(value: dict[Reply, Reply], protocol: int) -> bytes:
    size = len(value)
    header = b"*%d\r\n" % (2 * size) if protocol == RESP2 else b"%%%d\r\n" % size
    flat = [part for item in value.items() for part in item]
    return _encode_elements(header, flat, protocol)


def _encode_status(value: Status, protocol: int) -> bytes:
    return value.wire


def _encode_encoded(value: Encoded, protocol: int) -> bytes:
    return value.wire


def _encode_error(value: CommandError, protocol: int) -> bytes:
    # A line end inside would be read as the end of the reply.
    return b"-%b\r\n" % value.text.strip(b"\r\n").translate(_NO_LINE_ENDS)


def _encode_verbatim(value: Verbatim, protocol: int) -> bytes:
    if protocol == RESP2:
        return _encode_bytes(value.text, protocol)
    return b"=%d\r\n%b:%b\r\n" % (len(value.text) + 4, value.format, value.text)


def _encode_marker(value: Marker, protocol: int) -> bytes:
    if value is NULL_ARRAY:
        return _NULL_ARRAY[protocol]
    raise TypeError(f"{value!r} is not a value that can be sent")


_ENCODERS: Final[dict[type, _Encoder]] = {
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    int: _encode_int,
    type(None): _encode_none,
    bool: _encode_bool,
    float: _encode_float,
    list: _encode_array,
    tuple: _encode_array,
    dict: _encode_map,
    Status: _encode_status,
    CommandError: _encode_error,
    Double: _encode_double,
    Encoded: _encode_encoded,
    Marker: _encode_marker,
    Push: _encode_push,
    SetReply: _encode_set,
    Verbatim: _encode_verbatim,
}


def _inherited_encoder(value: Reply) -> _Encoder:
    """Find the encoder of a subclass (an IntEnum, an error of its own class)."""
    for base in type(value).__mro__:
        if base in _ENCODERS:
            return _ENCODERS[base]
    raise TypeError(f"{type(value).__name__} has no wire form: {value!r}")
