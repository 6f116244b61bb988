"""Numbers as Redis reads and prints them.

A key, a score or an increment is text on the wire, and Redis is exact about which text is a
number and how a number becomes text again. Replies, the stream, RDB listpacks and the AOF all
carry that text, so one digit of difference is a different dataset. The rules, and their users:

    parse_int           every integer argument and value (INCR, EXPIRE, LRANGE, RESP lengths)
    parse_float         scores and other doubles (ZADD, ZRANGEBYSCORE, GEOADD, timeouts)
    format_double       doubles in replies (ZSCORE, RESP3 `,`), scores in listpacks and in the AOF
    parse_long_double,
    add_long_doubles,
    format_long_double  INCRBYFLOAT, HINCRBYFLOAT; GEOPOS prints through the last of them

Redis computes INCRBYFLOAT in C's `long double`, which on x86-64 has a mantissa of 64 bits, not
the 53 of a Python float. A LongDouble here is the exact integer pair (mantissa, exponent), rounded
to 64 bits half to even after each operation, as the x87 does; so text in gives the same text out,
digit for digit. (A Redis on another architecture, whose long double has 53 or 113 bits, can differ
from both in the last digits; that is why INCRBYFLOAT is propagated as SET.)

Source: Redis 7.0 util.c (string2ll, string2d, string2ld, d2string, ld2string), networking.c
(addReplyDouble); C99 7.20.1.3 (strtod).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
MAX_INT_TEXT_BYTES: Final = 20
"""Length of the longest 64-bit integer, `-9223372036854775808`."""
MAX_LONG_DOUBLE_CHARS: Final = 5 * 1024
"""string2ld refuses text of this length and above (its buffer)."""

_ZERO: Final = 0x30
_SURELY_64_BITS: Final = 19
"""Any number of fewer digits than this fits."""
_EXACT_INTEGERS: Final = float(1 << 53)

_DECIMAL: Final = re.compile(rb"[+-]?(?:(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+))?)")
_HEXADECIMAL: Final = re.compile(
    rb"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP]([+-]?\d+))?"
)
_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)

_MANTISSA_BITS: Final = 64
_MIN_EXPONENT: Final = -16445  # of the last bit of the smallest denormal
_MAX_EXPONENT: Final = 16384  # values of 2**16384 and above do not exist
_INFINITE: Final = 1 << 20  # the exponent that marks an infinity
_FRACTION_DIGITS: Final = 17
_MAX_DECIMAL_EXPONENT: Final = 5000  # beyond 10**+-4933 nothing is finite and not zero

LongDouble = tuple[int, int]
"""(mantissa, exponent): mantissa * 2**exponent, with at most 64 bits of mantissa."""


def parse_int(data: bytes) -> int | None:
    """Read a canonical signed 64-bit integer.

    Args:
        data: the text; one spelling is accepted for each number: no plus, space, leading
            zero, `-0` or underscore.

    Returns:
        The integer, or None where the text is not one. O(len), 20 bytes at most.

    Source: util.c string2ll.
    """
    if len(data) < _SURELY_64_BITS and data.isdigit() and data[0] != _ZERO:
        return int(data)  # hot: INCR, EXPIRE and every index; half the cost of the rest
    if len(data) > MAX_INT_TEXT_BYTES:
        return None
    try:
        value = int(data)
    except ValueError:
        return None
    if b"%d" % value != data or not INT64_MIN <= value <= INT64_MAX:
        return None
    return value


def parse_float(data: bytes) -> float | None:
    """Read a double as strtod does when it must use all of the text.

    Decimal and hexadecimal forms and the infinities are taken, with any sign. Refused are
    NaN, white space, what overflows, and what is not zero but underflows to it.

    Args:
        data: the text.

    Returns:
        The double, or None where the text is not one. O(len).

    Source: util.c string2d, object.c getDoubleFromObject.
    """
    try:
        value = float(data)
    except ValueError:
        return _parse_hexadecimal(data)
    if 0.0 < value < 1e300 or -1e300 < value < 0.0:
        # float() also takes surrounding white space and 1_000, which strtod does not.
        if data[0] > 32 and data[-1] > 32 and b"_" not in data:
            return value
        return None
    return _parse_extreme(data, value)


def _parse_extreme(data: bytes, value: float) -> float | None:
    """Judge text that float() made into zero, an infinity, NaN or something near the limit."""
    if data == b"0":
        return value
    match = _DECIMAL.fullmatch(data)
    if match is None:
        return value if _INFINITY.fullmatch(data) else None
    overflow = value in (float("inf"), float("-inf"))
    underflow = value == 0.0 and match[1].strip(b"0.") != b""
    return None if overflow or underflow else value


def _parse_hexadecimal(data: bytes) -> float | None:
    match = _HEXADECIMAL.fullmatch(data)
    if match is None:
        return None
    try:
        value = float.fromhex(data.decode("ascii"))
    except OverflowError:
        return None
    return None if value == 0.0 and match[1].strip(b"0.") != b"" else value


def format_double(value: float) -> bytes:
    """Print a double as Redis 7.0 does everywhere: 17 significant digits.

    Args:
        value: any double.

    Returns:
        `%.17g` text; b"inf", b"-inf" and b"nan" for what has no digits, b"-0" for minus zero.
        (A zset in a listpack stores minus zero as the integer 0; that is the listpack's doing.)

    Source: networking.c addReplyDouble, util.c d2string; both give the same text.
    """
    if -_EXACT_INTEGERS < value < _EXACT_INTEGERS and value:
        whole = int(value)
        if whole == value:
            return b"%d" % whole
    return b"%.17g" % value


def parse_long_double(data: bytes) -> LongDouble | None:
    """Read a long double as strtold does when it must use all of the text.

    Args:
        data: the text, shorter than MAX_LONG_DOUBLE_CHARS.

    Returns:
        The value rounded to 64 bits of mantissa (infinities included), or None where
        string2ld refuses: malformed, NaN, overflowing, or underflowing to zero. O(len**2)
        for the conversion between the bases.

    Source: util.c string2ld.
    """
    if not 0 < len(data) < MAX_LONG_DOUBLE_CHARS:
        return None
    negative = data[0] == 0x2D
    if _INFINITY.fullmatch(data):
        return (-1 if negative else 1, _INFINITE)
    if match := _DECIMAL.fullmatch(data):
        ratio = _decimal_ratio(match[1], match[2] or b"0")
    elif match := _HEXADECIMAL.fullmatch(data):
        ratio = _hexadecimal_ratio(match[1], match[2] or b"0")
    else:
        return None
    if ratio is None:
        return None
    mantissa, exponent = _round_ratio(*ratio)
    if exponent == _INFINITE or (mantissa == 0 and ratio[0] != 0):
        return None
    return (-mantissa if negative else mantissa, exponent)


def long_double(value: float) -> LongDouble:
    """Widen a finite double; exact.

    Args:
        value: a finite double.
    """
    numerator, denominator = value.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()


def is_exact(data: bytes, value: float) -> bool:
    """Whether text is a number of at most 64 bits that is `value` without rounding. O(len**2)."""
    read = parse_long_double(data)
    difference = add_long_doubles(read, long_double(-value)) if read is not None else None
    return difference is not None and difference[0] == 0


def add_long_doubles(left: LongDouble, right: LongDouble) -> LongDouble | None:
    """Add two long doubles with one rounding, as `value += increment` does in C.

    Returns:
        The sum, or None where it is an infinity or NaN (which INCRBYFLOAT refuses).

    Source: t_string.c incrbyfloatCommand.
    """
    if left[1] == _INFINITE or right[1] == _INFINITE:
        return None
    exponent = min(left[1], right[1])
    total = (left[0] << (left[1] - exponent)) + (right[0] << (right[1] - exponent))
    if exponent < 0:
        result = _round_ratio(abs(total), 1 << -exponent)
    else:
        result = _round_ratio(abs(total) << exponent, 1)
    if result[1] == _INFINITE:
        return None
    return result if total >= 0 else (-result[0], result[1])


def format_long_double(value: LongDouble) -> bytes:
    """Print a long double for people: `%.17Lf` without trailing zeros.

    Args:
        value: finite or infinite.

    Returns:
        Plain decimal digits, never an exponent; what rounds to zero is b"0", without a sign.

    Source: util.c ld2string with LD_STR_HUMAN.
    """
    mantissa, exponent = value
    if exponent == _INFINITE:
        return b"inf" if mantissa > 0 else b"-inf"
    scaled = abs(mantissa) * 10**_FRACTION_DIGITS
    if exponent >= 0:
        scaled <<= exponent
    else:
        scaled = _divide_half_even(scaled, 1 << -exponent)
    if not scaled:
        return b"0"
    whole, fraction = divmod(scaled, 10**_FRACTION_DIGITS)
    # Decimal, because int -> str refuses what has more than 4,300 digits.
    text = b"%b%b" % (b"-" if mantissa < 0 else b"", format(Decimal(whole), "f").encode())
    if not fraction:
        return text
    return b"%b.%b" % (text, (b"%017d" % fraction).rstrip(b"0"))


def _decimal_ratio(digits: bytes, exponent: bytes) -> tuple[int, int] | None:
    """Return |value| as an exact ratio, None where it is surely no finite long double."""
    number = Decimal(digits.decode("ascii"))
    if not number:
        return 0, 1
    scale = _small_exponent(exponent)
    if scale is None or abs(number.adjusted() + scale) > _MAX_DECIMAL_EXPONENT:
        return None
    numerator, denominator = number.as_integer_ratio()
    if scale >= 0:
        return numerator * 10**scale, denominator
    return numerator, denominator * 10**-scale


def _hexadecimal_ratio(digits: bytes, exponent: bytes) -> tuple[int, int] | None:
    whole, _, fraction = digits.partition(b".")
    number = int(whole + fraction, 16)
    if not number:
        return 0, 1
    scale = _small_exponent(exponent)
    if scale is None:
        return None
    scale -= 4 * len(fraction)
    return (number << scale, 1) if scale >= 0 else (number, 1 << -scale)


def _small_exponent(text: bytes) -> int | None:
    """Read an exponent, None where it is absurd (no long double has it, whatever the digits)."""
    sign, digits = (-1, text[1:]) if text[:1] == b"-" else (1, text.lstrip(b"+"))
    digits = digits.lstrip(b"0") or b"0"
    # 5 digits of exponent can be cancelled by 5,119 digits of mantissa, 6 cannot.
    return sign * int(digits) if len(digits) <= 5 else None


def _round_ratio(numerator: int, denominator: int) -> LongDouble:
    """Round a ratio >= 0 to the nearest long double, ties to the even mantissa."""
    if not numerator:
        return 0, 0
    # With this exponent the quotient has 64 or 65 bits; one bit too many costs a second try.
    exponent = numerator.bit_length() - denominator.bit_length() - _MANTISSA_BITS
    if _scaled_divide(numerator, denominator, exponent) >> _MANTISSA_BITS:
        exponent += 1
    exponent = max(exponent, _MIN_EXPONENT)
    if exponent <= 0:
        mantissa = _divide_half_even(numerator << -exponent, denominator)
    else:
        mantissa = _divide_half_even(numerator, denominator << exponent)
    if mantissa.bit_length() + exponent > _MAX_EXPONENT:
        return 1, _INFINITE
    return mantissa, exponent


def _scaled_divide(numerator: int, denominator: int, exponent: int) -> int:
    if exponent <= 0:
        return (numerator << -exponent) // denominator
    return numerator // (denominator << exponent)


def _divide_half_even(numerator: int, denominator: int) -> int:
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient
