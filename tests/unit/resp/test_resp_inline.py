"""Inline arguments; each case was answered the same by redis-server 7.0.15 (ECHO)."""

from __future__ import annotations

import pytest

from kvrepl.resp.inline import quote, split_inline

CASES: list[tuple[bytes, list[bytes] | None]] = [
    (b"", []),
    (b" \t\v\f ", []),
    (b"a  b\tc", [b"a", b"b", b"c"]),
    (b"a\vb", [b"a\vb"]),  # \v and \f are skipped before an argument, but do not end one
    (b"\va \fb", [b"a", b"b"]),
    (b'"a b" c', [b"a b", b"c"]),
    (b'""', [b""]),
    (b"''", [b""]),
    (b'a"b c"', [b"ab c"]),
    (rb'"\x41\xfF\n\r\t\b\a\"\\\q"', [b'A\xff\n\r\t\b\a"\\q']),
    (rb'"\x4g"', [b"x4g"]),
    (rb"'a\'b\n'", [rb"a'b\n"]),
    (b"'a\"b'", [b'a"b']),
    (b"a\0b c", [b"a"]),
    (b'a "b\0"', None),
    (b'"', None),
    (b'"a', None),
    (b"'a", None),
    (b'"a\\', None),
    (b'"a\\"', None),
    (b'"a"b', None),
    (b"'a'b", None),
    (b'"a""b"', None),
    (b'"a"\v"b"', [b"a", b"b"]),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_split_inline_line_gives_arguments_of_sdssplitargs(
    line: bytes, expected: list[bytes] | None
) -> None:
    assert split_inline(line) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b'"\\', rb'"\"\\"'),
        (b"\n\r\t\a\b", rb'"\n\r\t\a\b"'),
        (b"\0\x7f\xff~", rb'"\x00\x7f\xff~"'),
    ],
)
def test_quote_bytes_gives_text_of_sdscatrepr(data: bytes, expected: bytes) -> None:
    assert quote(data) == expected
