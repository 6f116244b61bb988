"""Streams and their groups. Ids are always given, for the clock would make others."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import Argv, Part, case, flat, option, pick

MAX = b"18446744073709551615"

KEYS = st.sampled_from([b"x1", b"x2"] * 12 + [b"str"])
GROUPS = st.sampled_from([b"g", b"h"])
CONSUMERS = st.sampled_from([b"ann", b"bob", b"cid"])
PLAIN_IDS = [b"%d-%d" % (ms, seq) for ms in (1, 2, 3, 5, 8, 13, 300, 70000) for seq in (0, 1, 7)]
ODD_IDS = [b"5", b"0", b"0-1", b"+3-1", b"3-07", b"2- 1", MAX, MAX + b"-" + MAX, b"13-" + MAX]
BAD_IDS = [
    b"", b"-", b"+", b"x", b"1-x", b"-1", b"1-2-3", MAX + b"0", b"1-*", b"(1", b"5--05",
    b"3\x00x", b"1" * 130,
]  # fmt: skip
ids = pick(PLAIN_IDS * 3 + ODD_IDS, BAD_IDS)
new_ids = st.one_of(
    st.integers(1, 40).map(lambda n: b"%d-%d" % (n, n % 3)),
    st.integers(1, 40).map(lambda n: b"%d-*" % n),
    ids,
)
bounds = st.one_of(
    pick([b"-", b"+", b"(0-0", b"(" + MAX + b"-" + MAX]), ids, ids.map(lambda i: b"(" + i)
)
numbers = pick([b"0", b"1", b"2", b"5", b"100"], [b"-1", b"x", b"9223372036854775808"])
idle_spans = pick([b"0", b"60000", b"180000"], [b"-5", b"x"])
COUNT = option(case(b"COUNT"), numbers)
values = pick([b"v", b"w", b"17", b"-300", b"", b"y" * 40])
FIELDS = st.one_of(
    values.map(lambda v: (b"f", v)),
    st.tuples(st.just(b"f"), values, st.just(b"g"), values),
    st.tuples(values, values),
)
MORE = [case(b"MAXLEN"), st.sampled_from([(), b"=", b"~"]), numbers]
LESS = [case(b"MINID"), st.sampled_from([(), b"=", b"~"]), ids]
LIMIT = option(case(b"LIMIT"), numbers)
TRIM = st.one_of(st.tuples(*MORE, LIMIT), st.tuples(*LESS, LIMIT))


def call(name: bytes, *parts: Part) -> st.SearchStrategy[Argv]:
    """A command; one in thirty is cut short or has an argument too many."""
    spoiled = st.sampled_from([0] * 28 + [1, 2])
    return st.tuples(spoiled, st.tuples(st.just(name), *parts).map(flat)).map(
        lambda drawn: (drawn[1], drawn[1][:-1], (*drawn[1], b"junk"))[drawn[0]]
    )


ADD = call(b"XADD", KEYS, new_ids, FIELDS)
ENTRIES = [
    ADD,
    ADD,
    ADD,
    call(b"XADD", KEYS, option(case(b"NOMKSTREAM")), option(TRIM), new_ids, FIELDS),
    call(b"XTRIM", KEYS, TRIM),
    call(b"XLEN", KEYS),
    call(b"XDEL", KEYS, st.lists(ids, min_size=1, max_size=3)),
    call(b"XDEL", KEYS, st.lists(new_ids, min_size=1, max_size=4)),
    call(b"XRANGE", KEYS, bounds, bounds, COUNT),
    call(b"XREVRANGE", KEYS, bounds, bounds, COUNT),
    call(b"XRANGE", KEYS, st.just((b"-", b"+"))),
    call(
        b"XSETID",
        KEYS,
        ids,
        option(case(b"ENTRIESADDED"), numbers),
        option(case(b"MAXDELETEDID"), ids),
    ),
    call(
        b"XREAD",
        COUNT,
        option(case(b"BLOCK"), pick([b"1", b"2"], [b"-1", b"x", b"9223372036854775808"])),
        case(b"STREAMS"),
        st.one_of(
            st.tuples(KEYS, st.one_of(ids, st.just(b"$"))),
            st.tuples(KEYS, KEYS, ids, st.one_of(ids, st.just(b">"))),
        ),
    ),
    call(b"XINFO", st.just(b"STREAM"), KEYS),
    call(b"XINFO", case(b"STREAM"), KEYS, case(b"FULL"), COUNT),
    call(b"DEL", KEYS),
    call(b"SET", st.just(b"str"), values),
]
READ_GROUP = call(
    b"XREADGROUP",
    case(b"GROUP"),
    GROUPS,
    CONSUMERS,
    COUNT,
    option(case(b"NOACK")),
    case(b"STREAMS"),
    st.one_of(
        st.tuples(KEYS, st.just(b">")),
        st.tuples(KEYS, st.just(b">")),
        st.tuples(KEYS, KEYS, st.just((b">", b"0"))),
        st.tuples(KEYS, ids),
    ),
)
CREATE = call(
    b"XGROUP",
    case(b"CREATE"),
    KEYS,
    GROUPS,
    st.one_of(st.just(b"$"), st.just(b"0"), ids),
    option(case(b"MKSTREAM")),
    option(case(b"ENTRIESREAD"), pick([b"0", b"3", b"-1"], [b"-2", b"x"])),
)
GROUPED = [
    CREATE,
    CREATE,
    READ_GROUP,
    READ_GROUP,
    READ_GROUP,
    call(
        b"XGROUP",
        case(b"SETID"),
        KEYS,
        GROUPS,
        st.one_of(st.just(b"$"), st.sampled_from([b"-", b"+"]), ids),
        option(case(b"ENTRIESREAD"), numbers),
    ),
    call(b"XGROUP", case(b"DESTROY"), KEYS, GROUPS),
    call(b"XGROUP", case(b"CREATECONSUMER"), KEYS, GROUPS, CONSUMERS),
    call(b"XGROUP", case(b"DELCONSUMER"), KEYS, GROUPS, CONSUMERS),
    call(b"XACK", KEYS, GROUPS, st.lists(ids, min_size=1, max_size=3)),
    call(b"XPENDING", KEYS, GROUPS),
    call(
        b"XPENDING",
        KEYS,
        GROUPS,
        option(case(b"IDLE"), idle_spans),
        bounds,
        bounds,
        numbers,
        option(CONSUMERS),
    ),
    call(
        b"XCLAIM",
        KEYS,
        GROUPS,
        CONSUMERS,
        idle_spans,
        st.lists(ids, min_size=1, max_size=3),
        option(case(b"IDLE"), idle_spans),
        option(case(b"RETRYCOUNT"), numbers),
        option(case(b"FORCE")),
        option(case(b"JUSTID")),
        option(case(b"LASTID"), ids),
    ),
    call(
        b"XAUTOCLAIM",
        KEYS,
        GROUPS,
        CONSUMERS,
        idle_spans,
        bounds,
        COUNT,
        option(case(b"JUSTID")),
    ),
    call(b"XINFO", case(b"GROUPS"), KEYS),
    call(b"XINFO", case(b"CONSUMERS"), KEYS, GROUPS),
    call(b"XINFO", st.just(b"STREAM"), KEYS, st.just(b"FULL")),
]


def _added_now(argv: Argv) -> list[Argv]:
    """An entry far in the future, then this one: its `*` then goes by the entry, not the clock."""
    return [(b"XADD", b"xf", b"99999999999999-5", b"f", b"v"), argv]


FUTURE: list[st.SearchStrategy[list[Argv]]] = [
    call(b"XADD", st.just(b"xf"), option(TRIM), st.just(b"*"), FIELDS).map(_added_now),
    call(b"XREAD", COUNT, st.just((b"STREAMS", b"xf", b"99999999999999-4"))).map(_added_now),
]

HELP = [
    call(b"XINFO", case(b"HELP", b"NOPE")),
    call(b"XGROUP", case(b"HELP", b"NOPE")),
]
