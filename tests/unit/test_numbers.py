"""Number texts. Every expectation was printed or refused so by redis-server 7.0.15 on x86-64.

tests/interop/test_resp.py asks it again, with random numbers.
"""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.numbers import (
    INT64_MAX,
    INT64_MIN,
    add_long_doubles,
    format_double,
    format_long_double,
    long_double,
    parse_float,
    parse_int,
    parse_long_double,
)


@pytest.mark.parametrize("value", [0, 1, -1, 9, 10, INT64_MAX, INT64_MIN])
def test_parse_int_canonical_text_gives_integer(value: int) -> None:
    assert parse_int(b"%d" % value) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b"+1",
        b" 1",
        b"1 ",
        b"01",
        b"-0",
        b"-01",
        b"1_0",
        b"1.0",
        b"1e3",
        b"0x1",
        b"1\x00",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1" * 5000,
        b"\xd9\xa1",
    ],
)
def test_parse_int_other_text_gives_none(text: bytes) -> None:
    assert parse_int(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1.5", 1.5),
        (b"+1", 1.0),
        (b"-.5", -0.5),
        (b"1.", 1.0),
        (b"0", 0.0),
        (b"0e999", 0.0),
        (b"-0.0", -0.0),
        (b"1e308", 1e308),
        (b"4.9e-324", 5e-324),
        (b"inf", math.inf),
        (b"-Infinity", -math.inf),
        (b"+INF", math.inf),
        (b"0x10", 16.0),
        (b"-0X1.8p3", -12.0),
        (b"0x.8", 0.5),
        (b"0x0p-9999", 0.0),
    ],
)
def test_parse_float_text_of_strtod_gives_double(text: bytes, value: float) -> None:
    parsed = parse_float(text)
    assert parsed is not None
    assert struct.pack("d", parsed) == struct.pack("d", value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"1e",
        b"++1",
        b"--1",
        b" 1",
        b"1 ",
        b"\t1",
        b"1\n",
        b" 0",
        b"0 ",
        b" inf",
        b"1_0",
        b"0_0",
        b"1\x00",
        b"nan",
        b"-nan",
        b"nan(1)",
        b"infinit",
        b"0x",
        b"0x.",
        b"0x1p",
        b"1,5",
        b"1e400",
        b"-1e400",
        b"1e-400",
        b"2e-324",
        b"0x1p2000",
        b"0x1p-2000",
        b"\xb2",
        b"\xd9\xa1",
    ],
)
def test_parse_float_other_text_gives_none(text: bytes) -> None:
    assert parse_float(text) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, b"3"),
        (-3.0, b"-3"),
        (0.0, b"0"),
        (-0.0, b"-0"),
        (0.1, b"0.10000000000000001"),
        (1e16, b"10000000000000000"),
        (1e17, b"1e+17"),
        (2.0**53, b"9007199254740992"),
        (1e20, b"1e+20"),
        (1e-5, b"1.0000000000000001e-05"),
        (5e-324, b"4.9406564584124654e-324"),
        (1.7976931348623157e308, b"1.7976931348623157e+308"),
        (math.inf, b"inf"),
        (-math.inf, b"-inf"),
        (math.nan, b"nan"),
    ],
)
def test_format_double_value_has_17_digits(value: float, text: bytes) -> None:
    assert format_double(value) == text


@given(st.floats(allow_nan=False))
def test_format_double_any_value_is_parsed_back_exactly(value: float) -> None:
    parsed = parse_float(format_double(value))
    assert parsed is not None
    assert struct.pack("d", parsed) == struct.pack("d", value)


def add(value: bytes, increment: bytes) -> bytes | None:
    left, right = parse_long_double(value), parse_long_double(increment)
    assert left is not None
    assert right is not None
    total = add_long_doubles(left, right)
    return None if total is None else format_long_double(total)


@pytest.mark.parametrize(
    ("value", "increment", "text"),
    [
        (b"3.0e3", b"200", b"3200"),
        (b"10.5", b"0.1", b"10.6"),
        (b"5.0e-3", b"0", b"0.005"),
        (b"0.1", b"0.2", b"0.3"),
        (b"-1", b"1", b"0"),
        (b"0", b"-1e-20", b"0"),
        (b"1", b"1e-17", b"1.00000000000000001"),
        (b"9223372036854775807", b"1", b"9223372036854775808"),
        (b"18446744073709551615", b"1", b"18446744073709551616"),
        (b"36893488147419103233", b"0", b"36893488147419103232"),
        (b"18446744073709551617", b"0", b"18446744073709551616"),  # a tie: to the even mantissa
        (b"18446744073709551619", b"0", b"18446744073709551620"),
        (b"0x1p64", b"0x1", b"18446744073709551616"),
        (b"0x1p64", b"0x3", b"18446744073709551620"),
        (b"0x1p-18", b"0", b"0.00000381469726562"),  # ends in 5 at the 18th digit
        (b"0x3p-18", b"0", b"0.00001144409179688"),
        (b"0x1p63", b"-0x.8", b"9223372036854775807.5"),
        (b"1e27", b"0", b"1" + b"0" * 27),
        (b"1e28", b"0", b"9999999999999999999731564544"),
        (b"-0x10", b"0", b"-16"),
    ],
)
def test_add_long_doubles_sum_has_the_digits_of_an_x87(
    value: bytes, increment: bytes, text: bytes
) -> None:
    assert add(value, increment) == text


def test_add_long_doubles_beyond_the_range_of_double_prints_all_digits() -> None:
    text = add(b"1e400", b"0")
    assert text is not None
    assert text.startswith(b"10000000000000000000281880683947586514586453433629052038625910693539")
    assert len(text) == 401


@pytest.mark.parametrize(
    ("value", "increment"),
    [
        (b"inf", b"1"),
        (b"1", b"-inf"),
        (b"inf", b"-inf"),
        (b"1.18973149535723176502e4932", b"1.18973149535723176502e4932"),
    ],
)
def test_add_long_doubles_infinite_sum_gives_none(value: bytes, increment: bytes) -> None:
    assert add(value, increment) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" 1",
        b"1 ",
        b"nan",
        b"0x",
        b"1_0",
        b"1e5000",
        b"-1e5000",
        b"1e-5000",
        b"1e4933",
        b"1e99999999999999999999",
        b"1e-99999999999999999999",
        b"0x1p16384",
        b"0x1p-16446",
        b"0x1p-99999999",
        b"1" * 5120,
        b"." + b"0" * 5000 + b"1",
    ],
)
def test_parse_long_double_refused_text_gives_none(text: bytes) -> None:
    assert parse_long_double(text) is None


@pytest.mark.parametrize(
    "text",
    [
        b"0e99999999999999999999",
        b"-0",
        b"0x0p99999999",
        b"3.6e-4951",
        b"0x1p-16445",
        b"0x1.8p-16446",
    ],
)
def test_parse_long_double_tiny_text_prints_zero(text: bytes) -> None:
    value = parse_long_double(text)
    assert value is not None
    assert format_long_double(value) == b"0"


def test_parse_long_double_largest_value_keeps_every_digit() -> None:
    value = parse_long_double(b"1.18973149535723176502e4932")
    assert value == ((1 << 64) - 1, 16384 - 64)
    assert len(format_long_double(value)) == 4933


def test_format_long_double_infinities_have_names() -> None:
    texts = [parse_long_double(text) for text in (b"inf", b"-infinity")]
    assert [format_long_double(value) for value in texts if value] == [b"inf", b"-inf"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_long_double_of_a_double_prints_the_nearest_17_fraction_digits(value: float) -> None:
    text = format_long_double(long_double(value))
    assert b"e" not in text
    assert text != b"-0"
    assert abs(float(text) - value) <= max(5e-18, abs(value) * 2**-52)


@given(st.binary(max_size=12) | st.from_regex(rb"[+-]?[0-9.xXpPeE_ inf]{0,12}", fullmatch=True))
def test_number_parsers_any_text_gives_number_or_none(text: bytes) -> None:
    integer, double, long = parse_int(text), parse_float(text), parse_long_double(text)
    assert integer is None or (double == float(integer) and long is not None)
    # Whatever a double can be read from, a long double can; not the other way (1e400).
    assert double is None or long is not None
