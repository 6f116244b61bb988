"""Reading arguments: numbers, ranges, expiry options, timeouts.

Shared by the families; each function either returns a value or raises the CommandError that Redis
would reply.

Source: Redis 7.0 object.c (getLongLongFromObjectOrReply and its kin), timeout.c, t_string.c
(parseExtendedStringArgumentsOrReply).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.errors import NOT_FLOAT, NOT_INTEGER, SYNTAX, CommandError
from kvrepl.numbers import parse_float, parse_int

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1

TIMEOUT_NOT_FLOAT: Final = CommandError(b"ERR timeout is not a float or out of range")
TIMEOUT_NEGATIVE: Final = CommandError(b"ERR timeout is negative")
TIMEOUT_RANGE: Final = CommandError(b"ERR timeout is out of range")


def integer(argument: bytes, error: CommandError = NOT_INTEGER) -> int:
    """A signed 64-bit integer in Redis's strict decimal form."""
    value = parse_int(argument)
    if value is None:
        raise error
    return value


def integer_in(argument: bytes, low: int, high: int, error: CommandError = NOT_INTEGER) -> int:
    """An integer with low <= value <= high."""
    value = parse_int(argument)
    if value is None or not low <= value <= high:
        raise error
    return value


def number(argument: bytes, error: CommandError = NOT_FLOAT) -> float:
    """A double, infinities included, never nan."""
    value = parse_float(argument)
    if value is None:
        raise error
    return value


def timeout_ms(argument: bytes) -> int:
    """The timeout of a blocking command: seconds with a fraction, as a span in milliseconds.

    Rounded up, because 0 would mean for ever (timeout.c, getTimeoutFromObjectOrReply).
    """
    seconds = parse_float(argument)
    if seconds is None:
        raise TIMEOUT_NOT_FLOAT
    if seconds < 0:
        raise TIMEOUT_NEGATIVE
    if seconds * 1000 > INT64_MAX:
        raise TIMEOUT_RANGE
    ms = int(seconds * 1000)
    return ms + 1 if ms < seconds * 1000 else ms


def slice_of(start: int, stop: int, length: int) -> tuple[int, int]:
    """Clamp Redis's inclusive, possibly negative range to 0 <= start <= stop < length.

    Returns:
        (start, stop), both inclusive; start > stop when the range is empty.
    """
    if start < 0:
        start = max(start + length, 0)
    if stop < 0:
        stop = max(stop + length, -1) if stop + length < 0 else stop + length
    return start, min(stop, length - 1)


def expiry_at_ms(c: Client, argument: bytes, unit: bytes, command: bytes) -> int:
    """The instant that an expiry option names.

    Args:
        c: the client whose command it is.
        argument: the number.
        unit: b"EX", b"PX", b"EXAT" or b"PXAT".
        command: the command's name in lower case, for the error.

    Raises:
        CommandError: not a number, not positive, or beyond 64 bits.
    """
    value = integer(argument)
    invalid = CommandError(b"ERR invalid expire time in '%b' command" % command)
    if value <= 0:
        raise invalid
    if unit in (b"EX", b"EXAT"):
        if value > INT64_MAX // 1000:
            raise invalid
        value *= 1000
    if unit in (b"EX", b"PX"):
        if value > INT64_MAX - c.engine.keyspace.now_ms:
            raise invalid
        value += c.engine.keyspace.now_ms
    return value


def require(condition: bool) -> None:
    """Raise Redis's syntax error unless the condition holds."""
    if not condition:
        raise SYNTAX
