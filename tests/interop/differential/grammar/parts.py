"""Pools of arguments, and what commands are put together from."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Argv = tuple[bytes, ...]
Part = st.SearchStrategy[Any]

LONG = b"x" * 13
MEMBERS = [
    b"a", b"b", b"c", b"d", b"e", b"f", b"0", b"1", b"2", b"3", b"4", b"5", b"-7", b"007", b"",
    b"70000", b"-5000000000", b"9223372036854775807", b"9223372036854775808", b"3.25", b"\x00\xff",
    LONG,
]  # fmt: skip
INTEGERS = [b"0", b"1", b"-1", b"2", b"-2", b"3", b"-4", b"5", b"100", b"-100"]
BAD_INTEGERS = [b"x", b"", b"1.5", b" 1", b"9223372036854775807", b"-9223372036854775808"]
SCORES = [
    b"0", b"1", b"-1", b"2", b"2.5", b"0.1", b"-0", b"3.0", b"1e3", b"0x10", b"inf", b"-inf",
    b"1e17", b"0.30000000000000004", b"12345678901234567890", b"3e-308", b"100000000000000000000",
]  # fmt: skip
"""None below the smallest normal number: reading one leaves ERANGE in the errno of Redis, and SORT
looks at what it finds there, whoever left it. Those are in tests/unit/commands/test_keys.py."""
BAD_SCORES = [b"nan", b"x", b"", b" 1", b"1e400", b"1 "]
SCORE_BOUNDS = [*SCORES, *(b"(" + score for score in SCORES), b"+inf", b"(-inf", b"", b"(", b" 1"]
LEX_BOUNDS = [
    b"-", b"+", *(sign + m for m in (b"a", b"b", b"c", b"e", b"", b"5") for sign in (b"[", b"(")),
]  # fmt: skip
BAD_LEX_BOUNDS = [b"a", b"", b"++", b"-x", b"inf"]

WRONG = st.integers(0, 19).map(lambda n: n == 0)


def pick(good: list[bytes], bad: list[bytes] = []) -> Part:  # noqa: B006  never changed
    """One of the good texts, seldom one of the bad."""
    if not bad:
        return st.sampled_from(good)
    return st.sampled_from(good * max(1, 12 * len(bad) // len(good)) + bad)


def keys(prefix: bytes) -> Part:
    """A key of a family, seldom of another."""
    return st.sampled_from([prefix + n for n in (b"1", b"2", b"3")] * 8 + ALL_KEYS)


ODD_KEYS = [b"", b"\x00\xff\r\n"]
ALL_KEYS = [b"l1", b"h1", b"s1", b"z1", b"str1", *ODD_KEYS]
member = pick(MEMBERS)
integer = pick(INTEGERS, BAD_INTEGERS)
score = pick(SCORES, BAD_SCORES)
score_bound = pick(SCORE_BOUNDS, BAD_SCORES[:2])
lex_bound = pick(LEX_BOUNDS, BAD_LEX_BOUNDS)
timeout = pick([b"0.01", b"0.004"], [b"-1", b"x", b"inf", b"1e5000"])
small_count = pick([b"0", b"1", b"-1", b"3", b"-3", b"20", b"-20"], BAD_INTEGERS[:3])
members = st.lists(member, min_size=1, max_size=5)


def case(*words: bytes) -> Part:
    """One of the words, in upper case, lower case or both."""
    return st.sampled_from([spelled for w in words for spelled in (w, w.lower(), w.title())])


def option(*parts: Part) -> Part:
    """All of the parts, or none of them."""
    return st.one_of(st.just(()), st.tuples(*parts))


def flat(parts: Any) -> Argv:
    """Nested tuples and lists of bytes as one tuple."""
    if isinstance(parts, bytes):
        return (parts,)
    return tuple(each for part in parts for each in flat(part))


def call(name: bytes, *parts: Part) -> st.SearchStrategy[Argv]:
    """A command; one in twenty loses its last argument or gets one too many."""
    whole = st.tuples(st.sampled_from([name] * 7 + [name.lower()]), *parts).map(flat)

    def spoil(drawn: tuple[Argv, bool, bool]) -> Argv:
        argv, wrong, more = drawn
        if not wrong:
            return argv
        return (*argv, b"junk") if more else argv[:-1] or argv

    return st.tuples(whole, WRONG, st.booleans()).map(spoil)


def numkeys(key: Part, low: int = 1) -> Part:
    """A number of keys and the keys, seldom a number that is not theirs."""
    counted = st.lists(key, min_size=low, max_size=3).map(lambda ks: (b"%d" % len(ks), *ks))
    return st.one_of(*[counted] * 9, st.tuples(pick([b"0", b"-1", b"9", b"x"]), key))


def seldom(good: list[bytes], bad: list[bytes]) -> Part:
    """One of the good texts, very seldom one of the bad: a command takes many."""
    return st.integers(0, 60).flatmap(lambda n: st.sampled_from(good if n else bad))


FAR = [b"33177117420", b"33177999999"]
FAR_MS = [b"33177117420000", b"33177999999000"]
"""Instants that no test lives to see."""
LONG_SPAN_S = [b"1000000", b"2000000"]
LONG_SPAN_MS = [b"1000000000", b"2000000000"]
"""Spans that end after every test."""
BAD_SPANS = [b"0", b"-1", b"x", b"", b"9223372036854775807", b"9223372036854776", b"1.5"]
