"""Strings."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import (
    BAD_SPANS,
    FAR,
    FAR_MS,
    MEMBERS,
    Argv,
    call,
    case,
    integer,
    keys,
    member,
    option,
    pick,
    score,
)


def strings() -> list[st.SearchStrategy[Argv]]:
    """The string commands; what they leave is met by the other families."""
    key = keys(b"str")
    pairs = st.lists(st.tuples(key, member), min_size=1, max_size=3)
    lifetime = st.one_of(
        st.tuples(case(b"EXAT"), pick(FAR, BAD_SPANS)),
        st.tuples(case(b"PXAT"), pick(FAR_MS, BAD_SPANS)),
    )
    condition = option(case(b"NX", b"XX"))
    return [
        call(b"SET", key, member),
        call(b"SET", key, member, condition, option(case(b"GET"))),
        call(b"SET", key, member, lifetime, condition),
        call(b"SET", key, member, condition, option(case(b"GET")), lifetime),
        call(b"SET", key, member, option(case(b"KEEPTTL", b"GET")), option(lifetime)),
        call(b"GET", key),
        call(b"GETEX", key, st.one_of(lifetime, st.just(()), case(b"PERSIST", b"KEEPTTL"))),
        call(b"GETSET", key, member),
        call(b"GETDEL", key),
        call(b"SETNX", key, member),
        call(b"APPEND", key, member),
        call(b"STRLEN", key),
        call(b"GETRANGE", key, integer, integer),
        call(b"SUBSTR", key, integer, integer),
        call(b"SETRANGE", key, pick([b"0", b"3", b"1000"], BAD_OFFSETS), member),
        call(b"INCR", key),
        call(b"DECR", key),
        call(b"INCRBY", key, integer),
        call(b"DECRBY", key, integer),
        call(b"INCRBYFLOAT", key, score),
        call(b"MGET", st.lists(key, min_size=1, max_size=3)),
        call(b"MSET", pairs),
        call(b"MSETNX", pairs),
        call(b"LCS", key, key, st.lists(case(b"LEN", b"IDX", b"WITHMATCHLEN"), max_size=2)),
        call(b"SET", key, pick([b"9223372036854775807", b"-9223372036854775808", b"1e17"])),
        call(b"SET", key, st.sampled_from(MEMBERS).map(lambda each: each * 7)),
    ]


BAD_OFFSETS = [b"-1", b"x", b"536870912", b"9223372036854775807", b""]
