"""Reading arguments: numbers, ranges, expiry options, timeouts.

Shared by the families; each function either returns a value or raises the CommandError that Redis
would reply.

Source: Redis 7.0 object.c (getLongLongFromObjectOrReply and its kin), timeout.c, t_string.c
(parseExtendedStringArgumentsOrReply).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.errors import NOT_FLOAT, NOT_INTEGER, SYNTAX, CommandError
from kvrepl.numbers import LongDouble, parse_float, parse_int, parse_long_double

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

INT32_MIN: Final = -(1 << 31)
INT32_MAX: Final = (1 << 31) - 1
INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
UINT64_MAX: Final = (1 << 64) - 1
DIGITS: Final = b"0123456789"

REDACTED: Final = b"(redacted)"
"""What MONITOR and the slow log show of a password."""

TIMEOUT_NOT_FLOAT: Final = CommandError(b"ERR timeout is not a float or out of range")
TIMEOUT_NEGATIVE: Final = CommandError(b"ERR timeout is negative")
DB_RANGE: Final = CommandError(b"ERR DB index is out of range")
INT32_RANGE: Final = CommandError(
    b"ERR value is out of range, value must between %d and %d" % (INT32_MIN, INT32_MAX)
)
INVALID_CURSOR: Final = CommandError(b"ERR invalid cursor")
NOT_POSITIVE: Final = CommandError(b"ERR value is out of range, must be positive")
VALUE_RANGE: Final = CommandError(b"ERR value is out of range")
COUNT_RANGE: Final = CommandError(
    b"ERR value is out of range, value must between %d and %d" % (-INT64_MAX, INT64_MAX)
)


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


def positive(argument: bytes) -> int:
    """An integer that is not negative; whatever else it is, Redis calls it out of range."""
    return integer_in(argument, 0, INT64_MAX, NOT_POSITIVE)


def signed_count(argument: bytes) -> int:
    """A count whose sign means something, such that its opposite is a 64-bit integer as well."""
    value = integer(argument)
    if value == INT64_MIN:
        raise COUNT_RANGE
    return value


def pair_count(argv: list[bytes], option: bytes) -> tuple[int, bool]:
    """The count of HRANDFIELD and ZRANDMEMBER, and whether the option behind it is given.

    Args:
        argv: the command, with at least three arguments.
        option: in upper case.
    """
    count = signed_count(argv[2])
    if len(argv) > 4 or (len(argv) == 4 and argv[3].upper() != option):
        raise SYNTAX
    if len(argv) == 4 and abs(count) > INT64_MAX // 2:
        raise VALUE_RANGE
    return count, len(argv) == 4


def timeout_ms(argument: bytes) -> int:
    """The timeout of a blocking command: seconds with a fraction, as a span in milliseconds.

    Rounded up, for 0 would mean for ever. Redis computes in long double, and what then exceeds
    64 bits becomes negative there (timeout.c, getTimeoutFromObjectOrReply).
    """
    seconds = parse_long_double(argument)
    if seconds is None:
        raise TIMEOUT_NOT_FLOAT
    mantissa, exponent = multiply_long_double(seconds, 1000)
    if exponent >= 0:
        ms = mantissa << min(exponent, 64)
    else:
        ms = -(-mantissa >> -exponent)
    if not 0 <= ms <= INT64_MAX:
        raise TIMEOUT_NEGATIVE
    return ms


def multiply_long_double(value: LongDouble, factor: int) -> LongDouble:
    """The product, rounded to the 64 bits that a long double has; infinities stay as they are."""
    mantissa, exponent = value[0] * factor, value[1]
    excess = max(mantissa.bit_length() - 64, 0)
    if excess:
        half = 1 << (excess - 1)
        odd = mantissa >> excess & 1
        mantissa = (mantissa + half - 1 + odd) >> excess
    return mantissa, exponent + excess


def scan_cursor(argument: bytes) -> int:
    """The cursor of the SCAN family, read as strtoul does: wraps a negative one, "" is 0.

    Source: db.c parseScanCursorOrReply.
    """
    text = argument.partition(b"\0")[0]
    if not text:
        return 0
    try:
        value = int(text) if text[-1] in DIGITS and text[0] > 32 and b"_" not in text else None
    except ValueError:
        value = None
    if value is None or abs(value) > UINT64_MAX:
        raise INVALID_CURSOR
    return value & UINT64_MAX


def slice_of(start: int, stop: int, length: int) -> tuple[int, int]:
    """Clamp Redis's inclusive, possibly negative range to 0 <= start <= stop < length.

    Returns:
        (start, stop), both inclusive; start > stop when the range is empty.
    """
    if start < 0:
        start = max(start + length, 0)
    if stop < 0:
        stop = max(stop + length, -1)
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
    scale = 1000 if unit in (b"EX", b"EXAT") else 1
    base_ms = c.engine.keyspace.now_ms if unit in (b"EX", b"PX") else 0
    expires_at_ms = value * scale + base_ms
    if value <= 0 or expires_at_ms > INT64_MAX:
        raise CommandError(b"ERR invalid expire time in '%b' command" % command)
    return expires_at_ms


def require(condition: bool) -> None:
    """Raise Redis's syntax error unless the condition holds."""
    if not condition:
        raise SYNTAX


def database(c: Client, argument: bytes) -> Database:
    """The database that a number names (SELECT, MOVE, COPY)."""
    index = integer(argument)
    if not INT32_MIN <= index <= INT32_MAX:
        raise INT32_RANGE
    databases = c.engine.keyspace.databases
    if not 0 <= index < len(databases):
        raise DB_RANGE
    return databases[index]
