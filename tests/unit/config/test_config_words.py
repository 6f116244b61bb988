"""Words, sizes and numbers: the corners of Redis's parsers, each as redis-server answers it."""

from __future__ import annotations

import pytest

from kvrepl.config import Config
from kvrepl.config.text import (
    format_double,
    format_memory,
    parse_c_long,
    parse_c_octal,
    parse_memory,
    quote,
    split_words,
)
from kvrepl.errors import CommandError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b" \t\v\f ", []),
        (b"a  b\tc", [b"a", b"b", b"c"]),
        (b'a"b c"', [b"ab c"]),
        (b'"a" "b"', [b"a", b"b"]),
        (b'"a""b"', None),
        (b"'a'b", None),
        (b'"a', None),
        (b"'a", None),
        (b'"a\\', None),
        (b'""', [b""]),
        (b"''", [b""]),
        (b'"\\x41\\xzz\\x4"', [b"Axzzx4"]),
        (b'"\\n\\r\\t\\b\\a\\\\\\""', [b'\n\r\t\b\a\\"']),
        (b"'\\n\\''", [b"\\n'"]),
        (b"a\\n", [b"a\\n"]),
        (b"a\0b c", [b"a"]),
    ],
)
def test_line_splits_into_words(line: bytes, words: list[bytes] | None) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b"1", 1),
        (b"1b", 1),
        (b"1k", 1000),
        (b"1Kb", 1024),
        (b"1m", 1000**2),
        (b"1MB", 1024**2),
        (b"1g", 1000**3),
        (b"1gb", 1024**3),
        (b"010", 10),
        (b"", 0),
        (b"mb", 0),
        (b"18446744073709551615", 2**64 - 1),
        (b"99999999999999999999", 2**64 - 1),
        (b"18446744073709551615gb", 2**64 - 1024**3),
        (b"-1", None),
        (b"+1", None),
        (b" 1", None),
        (b"1 ", None),
        (b"1.5gb", None),
        (b"1kbx", None),
        (b"1" * 127, 2**64 - 1),
        (b"1" * 128, None),
    ],
)
def test_size_is_read_as_memtoull_does(text: bytes, size: int | None) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1kb"),
        (1000, "1000"),
        (5 << 20, "5mb"),
        (1 << 40, "1024gb"),
    ],
)
def test_size_is_written_in_the_largest_whole_unit(size_bytes: int, text: str) -> None:
    assert format_memory(size_bytes) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", 0),
        (b" +07", 7),
        (b"-1", -1),
        (b"99999999999999999999", 2**63 - 1),
        (b"-99999999999999999999", -(2**63)),
        (b"7 ", None),
        (b" ", None),
        (b"+", None),
        (b"7x", None),
    ],
)
def test_number_is_read_as_strtoll_does(text: bytes, value: int | None) -> None:
    assert parse_c_long(text) == value


def test_octal_number_out_of_range_or_digits_is_refused() -> None:
    assert parse_c_octal(b"0755") == 0o755
    assert parse_c_octal(b"8") is None
    assert parse_c_octal(b"7" * 30) is None


def test_quote_escapes_what_does_not_print() -> None:
    assert quote(b'a"\\\n\r\t\a\b\x00\xff') == b'"a\\"\\\\\\n\\r\\t\\a\\b\\x00\\xff"'


@pytest.mark.parametrize(
    ("value", "text"),
    [(50.0, "50"), (99.9, "99.9"), (50.123456789, "50.123457"), (0.0, "0"), (100.0, "100")],
)
def test_percentile_is_shown_without_zeros_at_its_end(value: float, text: str) -> None:
    assert format_double(value) == text


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (b"maxclients", b"-1", b"argument must be between 1 and 4294967295 inclusive"),
        (b"slowlog-max-len", b"-1", b"must be between 0 and 9223372036854775807 inclusive"),
        (b"repl-backlog-size", b"9223372036854775808", b"must be between 1 and 92233720"),
        (b"maxmemory-clients", b"101%", b"percentage argument must be less or equal to 100"),
        (b"maxmemory-clients", b"-5%", b"argument must be a memory or percent value"),
        (b"appendfsync", b"x", b"must be one of the following: everysec, always, no"),
        (b"shutdown-on-sigint", b"save nosave", b"SAVE and NOSAVE can't be used simultaneously"),
        (b"bind", b" ".join([b"a"] * 17), b"Too many bind addresses specified."),
        (b"proc-title-template", b"{title}", b"template format is invalid"),
        (b"proc-title-template", b"{nope} a", b"template format is invalid"),
        (b"proc-title-template", b"a {title", b"template format is invalid"),
        (b"cluster-announce-hostname", b"a_b", b"Hostnames may only contain alphanumeric"),
        (b"oom-score-adj-values", b"1 2", b"wrong number of arguments"),
    ],
)
def test_value_out_of_its_kind_is_refused(name: bytes, value: bytes, reason: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        Config().set_many([(name, value)])
    assert reason in caught.value.text


def test_unsigned_wrap_of_a_percentage_is_shown_as_redis_shows_it() -> None:
    config = Config()
    config.set_many([(b"maxmemory-clients", b"18446744073709551566")])
    assert config.get([b"maxmemory-clients"]) == [(b"maxmemory-clients", b"50%")]
