"""Bitmaps, HyperLogLogs and LCS."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import Argv, Part, call, case, option, pick, seldom

INTEGERS = [b"0", b"1", b"-1", b"2", b"-2", b"5", b"7", b"8", b"-9", b"15", b"16", b"23", b"100"]
BAD_INTEGERS = [b"x", b"", b"1.5", b"9223372036854775807", b"-9223372036854775808"]
integer = seldom(INTEGERS, BAD_INTEGERS)
BITMAPS = st.sampled_from([b"b1", b"b2"] * 8 + [b"b3", b"l1"])
WIDE = b"wide"
"""Always long enough for any field, so that OVERFLOW FAIL never is what lets it grow."""
TYPES = seldom(
    [b"u1", b"u4", b"u8", b"u13", b"u63", b"i1", b"i5", b"i8", b"i33", b"i64"],
    [b"u64", b"i65", b"i0", b"I8", b"u"],
)
OFFSETS = seldom(
    [b"0", b"1", b"7", b"9", b"40", b"#0", b"#1", b"#3", b"#2305843009213693952"],
    [b"-1", b"#-1", b"x", b"#", b"4294967296"],
)
OPERANDS = seldom(
    [
        *(b"1", b"-1", b"0", b"3", b"127", b"128", b"-128", b"-129", b"255", b"256", b"-300"),
        *(b"9223372036854775807", b"-9223372036854775808", b"-9223372036854775680"),
    ],
    [b"x", b"9223372036854775808"],
)
CONTENTS = st.sampled_from(
    [b"", b"12", b"foobar", b"\xff" * 3, b"\xff\xff\x7f", bytes(4), b"\x00\x01", b"\xff" * 20]
)
UNITS = case(b"BIT", b"BYTE")


def bitfield(key: Part, *policies: bytes) -> st.SearchStrategy[Argv]:
    """Several operations on fields."""
    operation = st.one_of(
        st.tuples(case(b"GET"), TYPES, OFFSETS),
        st.tuples(case(b"SET", b"INCRBY"), TYPES, OFFSETS, OPERANDS),
        st.tuples(case(b"OVERFLOW"), case(*policies)),
    )
    return call(b"BITFIELD", key, st.lists(operation, max_size=4))


BITS = [
    call(b"SET", BITMAPS.filter(lambda key: key != b"l1"), CONTENTS),
    call(b"SETBIT", BITMAPS, integer, seldom([b"0", b"1"], [b"2", b"x"])),
    call(b"SETBIT", BITMAPS, integer, st.just(b"1")),
    call(b"GETBIT", BITMAPS, integer),
    call(b"BITCOUNT", BITMAPS, option(integer, integer, option(UNITS))),
    call(b"BITCOUNT", BITMAPS, integer, integer, UNITS),
    call(b"BITPOS", BITMAPS, seldom([b"0", b"1"], [b"2"]), option(integer, option(integer))),
    call(b"BITPOS", BITMAPS, st.sampled_from([b"0", b"1"]), integer, integer, UNITS),
    call(b"BITOP", case(b"AND", b"OR", b"XOR", b"NOT"), BITMAPS, BITMAPS),
    call(b"BITOP", case(b"AND", b"OR", b"XOR"), BITMAPS, st.lists(BITMAPS, max_size=3)),
    bitfield(BITMAPS, b"WRAP", b"SAT"),
    bitfield(BITMAPS, b"WRAP", b"SAT", b"CLIP"),
    call(b"BITFIELD_RO", BITMAPS, st.tuples(case(b"GET"), TYPES, OFFSETS)),
    call(b"OBJECT", st.just(b"ENCODING"), BITMAPS),
    call(b"GET", BITMAPS),
]


LOGS = st.sampled_from([b"p1", b"p2", b"p3"] * 8 + [b"b1", b"l1"])
ELEMENTS = st.one_of(
    st.integers(0, 60).map(lambda n: b"%d" % n), st.binary(max_size=20), st.just(b"x" * 100)
)
HYPERLOGLOGS = [
    call(b"PFADD", LOGS, st.lists(ELEMENTS, max_size=8)),
    call(b"PFADD", LOGS, st.lists(ELEMENTS, min_size=3, max_size=12)),
    call(b"PFCOUNT", LOGS),
    call(b"PFCOUNT", st.lists(LOGS, min_size=1, max_size=3)),
    call(b"PFMERGE", LOGS, st.lists(LOGS, max_size=2)),
    call(b"PFDEBUG", case(b"DECODE", b"ENCODING", b"TODENSE"), LOGS),
    call(b"GET", LOGS),
    call(b"OBJECT", st.just(b"ENCODING"), LOGS),
    call(b"SET", st.just(b"b1"), st.sampled_from([b"12", b"HYLL\x01" + bytes(11) + b"\x7f\xfe"])),
]


LETTERS = st.one_of(st.text("ab", max_size=30), st.text("abcde", max_size=30)).map(str.encode)
LCS_OPTIONS = st.lists(
    st.one_of(
        case(b"LEN", b"IDX", b"IDX", b"WITHMATCHLEN"),
        st.tuples(case(b"MINMATCHLEN"), pick([b"0", b"1", b"2", b"4", b"-1"], [b"x"])),
    ),
    max_size=3,
)


FAILING = bitfield(st.just(WIDE), b"FAIL", b"SAT")
"""To be sent to a WIDE that is there: where OVERFLOW FAIL lets a string grow and changes no bit,
Redis propagates nothing, and its replicas have another string than it."""


def grown(argv: Argv) -> list[Argv]:
    """The command after one that makes WIDE wide."""
    return [(b"SETBIT", WIDE, b"1023", b"0"), argv]


SUBSEQUENCES = [
    call(b"SET", st.sampled_from([b"b1", b"b2"]), LETTERS),
    call(b"LCS", BITMAPS, BITMAPS, LCS_OPTIONS),
    call(b"LCS", st.just((b"b1", b"b2")), case(b"IDX"), case(b"WITHMATCHLEN")),
]
