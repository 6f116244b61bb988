"""Glob patterns; the expectations were checked with KEYS of redis-server 7.0.15.

tests/interop/test_resp.py asks it again, with random patterns.
"""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl import glob


@pytest.mark.parametrize(
    ("pattern", "data", "expected"),
    [
        (b"", b"", True),
        (b"", b"a", False),
        (b"abc", b"abc", True),
        (b"abc", b"abcd", False),
        (b"a?c", b"abc", True),
        (b"a?c", b"ac", False),
        (b"?", b"\n", True),
        (b"*", b"anything\n", True),
        (b"*", b"", False),  # commands treat `*` themselves
        (b"**", b"", False),
        (b"a*", b"a", True),
        (b"*a", b"a", True),
        (b"a*c", b"abbc", True),
        (b"a*c", b"abbcd", False),
        (b"a**c", b"ac", True),
        (b"*ab*cd*", b"xxabyycdzz", True),
        (b"*ab*ab", b"ab", False),
        (b"a*ab", b"aab", True),
        (b"[abc]", b"b", True),
        (b"[^abc]", b"b", False),
        (b"[^abc]", b"d", True),
        (b"[a-c]x", b"bx", True),
        (b"[c-a]x", b"bx", True),
        (b"[a-]", b"_", True),  # the second end is the bracket: a range from ] to a
        (b"[a-]", b"-", False),
        (b"[-a]", b"-", True),
        (b"[]", b"]", False),
        (b"[]", b"", False),
        (b"[^]", b"x", True),
        (b"[]a]", b"]", False),
        (b"[abc", b"c", True),  # never closed
        (b"[", b"[", False),
        (b"[^", b"x", True),
        (rb"[\]]", b"]", True),
        (rb"[a\-c]", b"b", False),
        (b"[\\", b"\\", True),
        (rb"\*", b"*", True),
        (rb"\*", b"a", False),
        (b"\\", b"\\", True),
        (rb"\a", b"a", True),
        (b"[a-\xff]", b"\x01", True),  # bytes are signed: the range is -1 to 97
        (b"[a-\xff]", b"b", False),
        (b"[\x80-\xff]", b"\x90", True),
        (b"a.c", b"abc", False),
        (b"a\nb*", b"a\nbc", True),
        (b"abc\n", b"abc", False),
        (b"abc", b"abc\n", False),
        (b"a*b", b"ab\n", False),
    ],
)
def test_match_pattern_and_data_agree_with_redis(
    pattern: bytes, data: bytes, expected: bool
) -> None:
    assert glob.match(pattern, data) is expected


@pytest.mark.parametrize(
    ("pattern", "data", "expected"),
    [
        (b"MaxMemory", b"maxmemory", True),
        (b"MAX*", b"maxmemory", True),
        (b"[A-C]", b"b", True),
        (b"[XYZ]", b"y", True),
        (rb"[\A]", b"a", False),  # an escaped member is taken as it stands
        (b"[Z-a]", b"z", False),  # the ends are lowered after they are put in order
        (b"\xc4", b"\xe4", False),
    ],
)
def test_match_nocase_folds_ascii_only(pattern: bytes, data: bytes, expected: bool) -> None:
    assert glob.match(pattern, data, nocase=True) is expected
    assert glob.match(pattern, data) is False


def recursive_match(pattern: bytes, data: bytes) -> bool:
    """The definition: plain backtracking, for patterns without classes and escapes."""

    @functools.cache
    def rest(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(data)
        if pattern[i] == 0x2A:
            return rest(i + 1, j) or (j < len(data) and rest(i, j + 1))
        return j < len(data) and pattern[i] in (0x3F, data[j]) and rest(i + 1, j + 1)

    return rest(0, 0)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"*", b"?"]), max_size=12).map(b"".join),
    st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=14).map(b"".join),
)
def test_match_equals_the_recursive_definition(pattern: bytes, data: bytes) -> None:
    assert glob.match(pattern, data) is recursive_match(pattern, data)


@given(st.binary(max_size=20), st.binary(max_size=20), st.booleans())
def test_match_any_pattern_gives_a_bool(pattern: bytes, data: bytes, nocase: bool) -> None:
    assert glob.match(pattern, data, nocase) in (True, False)


@given(st.binary(max_size=30))
def test_match_escaped_data_matches_itself_only(data: bytes) -> None:
    pattern = b"".join(b"\\" + data[i : i + 1] for i in range(len(data)))
    assert glob.match(pattern, data)
    assert not glob.match(pattern, data + b"x")


def test_match_many_stars_takes_polynomial_time() -> None:
    # By the recursive definition this is 10**20 steps and more; the timeout is the assertion.
    for tail in (b"b", b"[bc]", b"?b", b"b*"):
        assert not glob.match(b"*a" * 30 + b"*" + tail, b"a" * 5_000)
