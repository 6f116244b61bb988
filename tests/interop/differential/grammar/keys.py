"""Keys of any type: their life, their times, SORT, transactions."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import (
    BAD_SPANS,
    FAR,
    FAR_MS,
    LONG_SPAN_MS,
    LONG_SPAN_S,
    ODD_KEYS,
    Argv,
    call,
    case,
    member,
    option,
    pick,
    score,
)

KEY = st.sampled_from([b"k1", b"k2", b"l1", b"h1", b"s1", b"z1", b"i1"])
INSTANT = st.sampled_from([b"33177117420", b"33177117421", b"1", b"0", b"-5", b"x"])
INSTANT_MS = st.sampled_from([b"33177117420000", b"33177117421000", b"1", b"0", b"-5", b"x"])
NUMBERS = [b"1", b"2", b"3", b"10", b"-1", b"1.5", b"01", b"inf"]
CONDITION = option(case(b"NX", b"XX", b"GT", b"LT"))
PRESENCE = option(case(b"NX", b"XX"))
"""For spans: whether the same one is greater a moment later is for the two clocks to say."""


def fillers() -> list[st.SearchStrategy[Argv]]:
    """Keys of every type, and values that change under them."""
    number = pick(NUMBERS, [b"a"])
    return [
        call(b"SET", st.sampled_from([b"k1", b"k2", b"i1", b"w_1", b"w_2"]), number),
        call(b"APPEND", st.sampled_from([b"k1", b"k2"]), number),
        call(b"RPUSH", st.just(b"l1"), number, number),
        call(b"SADD", st.just(b"s1"), number, number),
        call(b"ZADD", st.just(b"z1"), st.sampled_from([b"1", b"2"]), number),
        call(b"HSET", st.sampled_from([b"h1", b"h_1", b"h_2"]), st.just(b"f"), number),
    ]


def on_keys() -> list[st.SearchStrategy[Argv]]:
    """The commands under test."""
    return [
        call(b"DEL", KEY, KEY),
        call(b"UNLINK", KEY),
        call(b"EXISTS", KEY, KEY),
        call(b"TOUCH", KEY, KEY),
        call(b"TYPE", KEY),
        call(b"OBJECT", st.just(b"ENCODING"), KEY),
        call(b"OBJECT", st.just(b"REFCOUNT"), st.sampled_from([b"i1", b"k1", b"h1"])),
        call(b"KEYS", st.sampled_from([b"*", b"?1", b"[kl]*", b"none"])),
        call(b"DBSIZE"),
        call(b"RENAME", KEY, KEY),
        call(b"RENAMENX", KEY, KEY),
        call(b"COPY", KEY, KEY, option(case(b"REPLACE", b"ZZ"))),
        call(b"EXPIREAT", KEY, INSTANT, CONDITION, CONDITION),
        call(b"PEXPIREAT", KEY, INSTANT_MS, CONDITION),
        call(b"PERSIST", KEY),
        call(b"EXPIRETIME", KEY),
        call(b"PEXPIRETIME", KEY),
        call(b"RESTORE", KEY, st.just(b"0"), st.just(b"broken"), option(case(b"REPLACE"))),
        call(b"MOVE", KEY, st.sampled_from([b"0", b"x"])),
    ]


def sorting() -> list[st.SearchStrategy[Argv]]:
    """SORT of lists, and of sets where it decides the order.

    Not of sorted sets: Redis unpacks a small one for good when it sorts it, which is no part of
    the reply and which a reading command here does not do.
    """
    limit = option(
        case(b"LIMIT"),
        st.sampled_from([b"-1", b"0", b"1", b"9"]),
        st.sampled_from([b"-1", b"0", b"1", b"2"]),
    )
    gets = option(case(b"GET"), st.sampled_from([b"#", b"w_*", b"h_*->f", b"none"]))
    store = option(case(b"STORE"), st.sampled_from([b"l1", b"l2"]))
    order = option(case(b"ASC", b"DESC"))
    by = option(case(b"BY"), st.sampled_from([b"w_*", b"h_*->f", b"nosort"]))
    ordered = st.sampled_from([b"l1", b"l1", b"k1"])
    return [
        call(b"SORT", ordered, by, limit, gets, order, store),
        call(b"SORT", ordered, option(case(b"ALPHA")), order, limit, gets, store),
        call(b"SORT", st.just(b"s1"), option(case(b"ALPHA")), order, limit, store),
        call(b"SORT_RO", ordered, by, gets, gets, order),
    ]


def transactions() -> list[st.SearchStrategy[Argv]]:
    """Transactions begun, spoiled and ended anywhere."""
    return [
        call(b"MULTI"),
        call(b"EXEC"),
        call(b"DISCARD"),
        call(b"WATCH", KEY, KEY),
        call(b"UNWATCH"),
        call(b"SET", st.just(b"k1")),
    ]


def any_key() -> list[st.SearchStrategy[Argv]]:
    """Commands on keys of any type."""
    prefixes = (b"l", b"h", b"s", b"z", b"str")
    key = st.sampled_from([prefix + n for prefix in prefixes for n in (b"1", b"2", b"3")])
    return [
        call(b"DEL", st.lists(key, min_size=1, max_size=2)),
        call(b"EXISTS", st.lists(key, min_size=1, max_size=3)),
        call(b"TYPE", key),
        call(b"RENAME", key, key),
        call(b"COPY", key, key, option(case(b"REPLACE"))),
        call(b"KEYS", pick([b"*", b"?1", b"str*"])),
    ]


def timed() -> list[st.SearchStrategy[Argv]]:
    """Times to live by spans, which are over long after the test."""
    key = st.sampled_from([b"k1", b"k2", b"str1", b"l1", b"h1", b"s1", b"z1", b"none"])
    span_s, span_ms = pick(LONG_SPAN_S, BAD_SPANS), pick(LONG_SPAN_MS, BAD_SPANS)
    lifetime = st.one_of(
        st.tuples(case(b"EX"), span_s),
        st.tuples(case(b"PX"), span_ms),
        st.tuples(case(b"EXAT"), pick([*FAR, b"1"], BAD_SPANS)),
        st.tuples(case(b"PXAT"), pick([*FAR_MS, b"1"], BAD_SPANS)),
    )
    return [
        call(b"SET", key, member, lifetime),
        call(b"SET", key, member, case(b"NX", b"XX", b"GET"), lifetime),
        call(b"SET", key, member, lifetime, case(b"NX", b"XX", b"GET", b"KEEPTTL")),
        call(b"SET", key, member, case(b"KEEPTTL"), option(case(b"GET"))),
        call(b"SETEX", key, span_s, member),
        call(b"PSETEX", key, span_ms, member),
        call(b"GETEX", key, lifetime),
        call(b"GETEX", key, option(case(b"PERSIST", b"EX"))),
        call(b"EXPIRE", key, span_s, PRESENCE),
        call(b"PEXPIRE", key, span_ms, PRESENCE, PRESENCE),
        call(b"EXPIREAT", key, pick(FAR, BAD_SPANS), CONDITION),
        call(b"PEXPIREAT", key, pick(FAR_MS, BAD_SPANS), CONDITION),
        call(b"TTL", key),
        call(b"PTTL", key),
        call(b"EXPIRETIME", key),
        call(b"PEXPIRETIME", key),
        call(b"PERSIST", key),
        call(b"RENAME", key, key),
        call(b"COPY", key, key, option(case(b"REPLACE"))),
        call(b"RESTORE", key, span_ms, PAYLOAD, option(case(b"REPLACE"))),
        call(b"RESTORE", key, pick(FAR_MS, BAD_SPANS), PAYLOAD, RESTORE_OPTIONS),
        call(b"RPUSH", key, member),
        call(b"GETSET", key, member),
        call(b"APPEND", key, member),
    ]


def databases() -> list[st.SearchStrategy[Any]]:
    """What reaches beyond one key: databases, iteration, serialized values, other servers."""
    key = st.sampled_from([b"k1", b"k2", b"l1", b"h1", b"s1", b"z1", b"none", *ODD_KEYS])
    db = pick([b"0", b"1", b"3"], [b"-1", b"4", b"x", b"", b"9223372036854775807"])
    # One step is the whole: what else one returns depends on the seed of the hash.
    count = st.tuples(case(b"COUNT"), pick([b"1000"], [b"0", b"x", b"-1"]))
    kind = option(case(b"TYPE"), pick([b"string", b"LIST", b"hash", b"zset", b"stream", b"nope"]))
    here = (b"127.0.0.1", b"1", b"")
    return [
        call(b"SELECT", db),
        call(b"SELECT", pick([b"0"])),
        call(b"SWAPDB", db, db),
        call(b"MOVE", key, db),
        call(b"COPY", key, key, case(b"DB"), db, option(case(b"REPLACE"))),
        call(b"FLUSHDB", option(case(b"SYNC", b"ASYNC", b"NOW"))),
        call(b"FLUSHALL", option(case(b"SYNC", b"ASYNC"), option(case(b"SYNC")))),
        call(b"DBSIZE"),
        # Which of the expired keys it comes across, and so deletes, is chance; SCAN leaves none.
        call(b"RANDOMKEY").map(lambda argv: [(b"SCAN", b"0", b"COUNT", b"1000"), argv]),
        call(b"SCAN", pick([b"0"], [b"x", b"-1"]), option(case(b"MATCH"), PATTERN), count, kind),
        call(b"SCAN", pick([b"0"]), case(b"COUNT"), pick([b"1000"]), kind),
        call(b"KEYS", PATTERN),
        call(b"DUMP", key),
        call(b"RESTORE", key, pick([b"0"], BAD_SPANS), PAYLOAD, RESTORE_OPTIONS),
        call(b"RESTORE", key, pick([b"0"]), PAYLOAD, case(b"REPLACE")),
        call(b"RESTORE-ASKING", key, pick([b"0"]), PAYLOAD, RESTORE_OPTIONS),
        call(b"MIGRATE", st.just(here), st.just((b"0", b"50")), option(case(b"COPY", b"KEYS"))),
        call(b"MIGRATE", st.just(here), st.just((b"0", b"50", b"KEYS")), st.lists(key, max_size=2)),
        call(b"OBJECT", case(b"ENCODING"), key),
        call(b"OBJECT", case(b"FREQ"), key),
        call(b"OBJECT", case(b"IDLETIME"), key),
        call(b"OBJECT", case(b"REFCOUNT"), st.sampled_from([b"l1", b"h1", b"none"])),
        call(b"OBJECT", case(b"HELP", b"NOPE")),
        call(b"SET", key, member),
        call(b"RPUSH", key, member, member),
        call(b"SADD", key, member, member),
        call(b"HSET", key, member, member),
        call(b"ZADD", key, score, member),
        call(b"TOUCH", st.lists(key, min_size=1, max_size=3)),
        call(b"UNLINK", st.lists(key, min_size=1, max_size=3)),
        call(b"RENAMENX", key, key),
        call(b"WAIT", pick([b"0"], [b"-1", b"x"]), pick([b"1"], [b"-1", b"x"])),
        call(b"WAIT", pick([b"1"]), pick([b"1"])),
    ]


PATTERN = pick([b"*", b"?1", b"[kl]*", b"[^k]*", b"k\\1", b"*\xff*", b"", b"[a-", b"none"])
RESTORE_OPTIONS = st.lists(
    st.one_of(
        case(b"REPLACE", b"ABSTTL", b"NOPE"),
        st.tuples(case(b"IDLETIME"), pick([b"0", b"100"], [b"-1", b"x"])),
        st.tuples(case(b"FREQ"), pick([b"0", b"255"], [b"256", b"-1", b"x"])),
    ),
    max_size=2,
)
PAYLOAD = pick(
    [
        b"\x00\xc0\x0c\n\x00<*\xf8Q\\\x04\xbc\xd5",
        b"\x00\tsome text\n\x00\xd4\xf4u\x00K\x16\x89\xdc",
        b"\x00\xc3\n@\xc8\x02aba\xe0\xba\x01\x01ab\n\x00$\xa6\xe8Ap\xc0\xc6\x8c",
        b"\x12\x01\x02\x0f\x0f\x00\x00\x00\x03\x00\x81a\x02\x01\x01\xde\xd4\x02\xff\n\x00\x80\x04 "
        b"H);\xe2\x89",
        b"\x0b\x14\x04\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00p\x11\x01\x00\n"
        b"\x00\x85\xd5\xc1\x06[\x1d\xd0U",
        b"\x02\x03\x01b\x01a\xc0\x01\n\x00\x17\xa8\x9f4\x071\xc3\xde",
        b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81g\x02\x11\x01\xff\n\x00~\xa5p\xb0"
        b"\x11\xc8M1",
        b"\x11\x14\x14\x00\x00\x00\x04\x00\x81a\x02\x01\x01\x81b\x02\x832.5\x04\xff\n\x00\xd4Ln"
        b"\xa4\xf6D\xd9\xd7",
        b"\x13\x01\x10\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x0133\x00\x00"
        b"\x00\x13\x00\x02\x01\x00\x01\x01\x01\x81f\x02\x00\x01\x02\x01\x00\x01\x00\x01\x81v\x02"
        b"\x04\x01\x00\x01\x02\x01\xdf\xff\x02\x02\x01\x81f\x02\x81w\x02\x81g\x02\x01\x01\x08\x01"
        b"\xff\x02\x07\x00\x05\x01\x00\x00\x02\x01\x01g\x00\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff"
        b"\x00\x00\n\x00\xf0@\xf09\x83\xff\x8e\xca",
    ],
    [b"", b"broken", b"\x00\xc0\x0c\n\x00<*\xf8Q\\\x04\xbc\xd6"],
)
"""What redis-server 7.0.15 dumped: 12, "some text", "ab" a hundred times, a list, an intset, a set,
a hash, a sorted set, a stream with a group; and three that are broken."""
