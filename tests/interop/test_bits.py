"""Bitmaps, HyperLogLog, geo and LCS beside redis-server: all that can be observed agrees.

Replies, propagation, events, dirt and the digest of the dataset, which holds every byte of a
HyperLogLog; and what OBJECT ENCODING says of strings, where it is asked. Not asked are the order of
members at the same distance (each member has places of its own), and BITFIELD whose only new bits
are those that OVERFLOW FAIL refused: there Redis propagates nothing, and we do.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.interop.differential.grammar import Argv, Part, call, case, option, pick
from tests.interop.differential.peers import InProcess, Real
from tests.interop.differential.test_sequences import assert_alike
from tests.interop.harness import Server

pytestmark = pytest.mark.interop

SPARSE_MAX_BYTES = 120
"""Low enough that some values become dense."""

ROOM = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a server asked anew shrinks slowly
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Start a redis-server with low thresholds, watched."""
    directives = Real.directives() | {"hll_sparse_max_bytes": str(SPARSE_MAX_BYTES)}
    server = Server("redis", tmp_path_factory.mktemp("bits"), directives)
    with server:
        peer = Real(server)
        yield peer
        peer.close()


@pytest.fixture(scope="module")
def ours() -> InProcess:
    """Give our engine with the same thresholds."""
    peer = InProcess()
    peer.engine.config.hll_sparse_max_bytes = SPARSE_MAX_BYTES
    return peer


def seldom(good: list[bytes], bad: list[bytes]) -> Part:
    """One of the good texts, very seldom one of the bad: a command takes many."""
    return st.integers(0, 60).flatmap(lambda n: st.sampled_from(good if n else bad))


INTEGERS = [b"0", b"1", b"-1", b"2", b"-2", b"5", b"7", b"8", b"-9", b"15", b"16", b"23", b"100"]
BAD_INTEGERS = [b"x", b"", b"1.5", b"9223372036854775807", b"-9223372036854775808"]
integer = seldom(INTEGERS, BAD_INTEGERS)
OTHERS = [
    call(b"RPUSH", st.just(b"l1"), st.just(b"x")),
    call(b"DEL", st.sampled_from([b"b1", b"b2", b"p1", b"p2", b"g1", b"g2", b"l1"])),
]


# ------------------------------------------------------------------- bitmaps

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
    bitfield(st.just(WIDE), b"FAIL", b"SAT"),
    call(b"BITFIELD_RO", BITMAPS, st.tuples(case(b"GET"), TYPES, OFFSETS)),
    call(b"OBJECT", st.just(b"ENCODING"), BITMAPS),
    call(b"GET", BITMAPS),
]


@pytest.mark.parametrize("resp", [2, 3])
def test_bitmap_commands_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    strings = st.one_of(st.binary(max_size=30), CONTENTS)

    @ROOM
    @given(strings, strings, st.lists(st.one_of(*BITS, *OTHERS), min_size=20, max_size=60))
    def agree(one: bytes, other: bytes, commands: list[Argv]) -> None:
        first = [(b"SETBIT", WIDE, b"1023", b"0"), (b"MSET", b"b1", one, b"b2", other)]
        assert_alike(real, ours, resp, [*first, *commands])

    agree()


# ------------------------------------------------------------------- HyperLogLog

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


def test_hyperloglog_commands_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess
) -> None:
    @ROOM
    @given(st.lists(st.one_of(*HYPERLOGLOGS, *OTHERS), min_size=20, max_size=60))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, 2, commands)

    agree()


@pytest.mark.parametrize("threshold", [300, 3000, 16000])
def test_hyperloglog_of_thousands_of_elements_has_the_bytes_of_redis(
    real: Real, ours: InProcess, threshold: int
) -> None:
    setting = [b"CONFIG", b"SET", b"hll-sparse-max-bytes", b"%d" % threshold]
    ours.engine.config.hll_sparse_max_bytes = threshold
    commands: list[Argv] = []
    for start in range(0, 4000, 100):
        some = [b"element:%d" % number for number in range(start, start + 100)]
        commands += [(b"PFADD", b"p%d" % (start // 100 % 3), *some), (b"PFMERGE", b"all", b"p1")]
        commands += [(b"PFCOUNT", b"all"), (b"GET", b"all"), (b"PFCOUNT", b"p0", b"p1", b"p2")]
    real.admin.ask(setting)
    try:
        assert_alike(real, ours, 2, commands)
    finally:
        real.admin.ask([*setting[:3], b"%d" % SPARSE_MAX_BYTES])
        ours.engine.config.hll_sparse_max_bytes = SPARSE_MAX_BYTES


# ------------------------------------------------------------------- geo

PLACES = st.sampled_from([b"g1", b"g2"] * 10 + [b"l1", b"none"])
NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
NAME = st.sampled_from(NAMES)
LONGITUDES = [0.0, 13.36, 13.37, 2.35, -74.0, 179.9, -179.9, 179.9999]
LATITUDES = [0.0, 38.11, 37.5, 48.86, -16.5, 84.9, -84.9, 66.5, 80.5]
longitude = seldom([b"%r" % x for x in [*LONGITUDES, 15.0]], [b"180", b"181", b"x", b"inf"])
latitude = seldom([b"%r" % y for y in [*LATITUDES, 37.0]], [b"85.05112878", b"86", b"x", b"-90"])
point = st.tuples(longitude, latitude)
SIZE = seldom(
    [b"0", b"0.5", b"3", b"100", b"200.7", b"1500", b"9000", b"20000", b"1e9"],
    [b"-1", b"x", b"inf", b"nan"],
)
UNIT = seldom([b"m", b"km", b"KM", b"mi", b"ft"], [b"yd"])
TELL = st.lists(case(b"WITHDIST", b"WITHCOORD", b"WITHHASH"), max_size=2)
COUNTS = option(
    case(b"COUNT"), seldom([b"1", b"2", b"3", b"20"], [b"0", b"x"]), option(case(b"ANY"))
)
ORDER = option(case(b"ASC", b"DESC"))
STORE = option(case(b"STORE", b"STOREDIST"), st.sampled_from([b"d1", b"g2"]))


def _entry(drawn: tuple[int, int, int]) -> Argv:
    """A member at one of the places, moved by a distance that is its own."""
    name, x, y = drawn
    return b"%r" % (LONGITUDES[x] - name / 97), b"%r" % (LATITUDES[y] + name / 83), NAMES[name]


ENTRY = st.tuples(
    st.integers(0, len(NAMES) - 1),
    st.integers(0, len(LONGITUDES) - 1),
    st.integers(0, len(LATITUDES) - 1),
).map(_entry)
ENTRIES = st.lists(ENTRY, min_size=1, max_size=8)
SHAPE = st.one_of(
    st.tuples(case(b"BYRADIUS"), SIZE, UNIT), st.tuples(case(b"BYBOX"), SIZE, SIZE, UNIT)
)
CENTER = st.one_of(st.tuples(case(b"FROMMEMBER"), NAME), st.tuples(case(b"FROMLONLAT"), point))
GEO = [
    call(b"GEOADD", PLACES, ENTRIES),
    call(b"GEOADD", PLACES, ENTRIES),
    call(b"GEOADD", PLACES, st.lists(case(b"NX", b"XX", b"CH"), max_size=2), ENTRIES),
    call(b"GEOADD", PLACES, point, NAME),
    call(b"GEOPOS", PLACES, st.lists(NAME, max_size=3)),
    call(b"GEOHASH", PLACES, st.lists(NAME, max_size=3)),
    call(b"GEODIST", PLACES, NAME, NAME, option(UNIT)),
    call(b"GEORADIUS", PLACES, point, SIZE, UNIT, TELL, COUNTS, ORDER),
    call(b"GEORADIUS", PLACES, point, SIZE, UNIT, COUNTS, STORE, ORDER),
    call(b"GEORADIUS_RO", PLACES, point, SIZE, UNIT, COUNTS, TELL, STORE),
    call(b"GEORADIUSBYMEMBER", PLACES, NAME, SIZE, UNIT, STORE, TELL, COUNTS, ORDER),
    call(b"GEORADIUSBYMEMBER_RO", PLACES, NAME, SIZE, UNIT, TELL, COUNTS, ORDER),
    call(b"GEOSEARCH", PLACES, CENTER, SHAPE, ORDER, COUNTS, TELL),
    call(b"GEOSEARCH", PLACES, SHAPE, CENTER, TELL, ORDER),
    call(b"GEOSEARCH", PLACES, option(CENTER), SHAPE, option(SHAPE), ORDER),
    call(b"GEOSEARCHSTORE", st.sampled_from([b"d1", b"g1", b"l1"]), PLACES, CENTER, SHAPE, COUNTS),
    call(
        b"GEOSEARCHSTORE",
        st.sampled_from([b"d1", b"g1"]),
        PLACES,
        SHAPE,
        CENTER,
        option(case(b"STOREDIST")),
        ORDER,
    ),
    call(b"ZRANGE", st.sampled_from([b"d1", b"g1", b"g2"]), st.just((b"0", b"-1", b"WITHSCORES"))),
]


@pytest.mark.parametrize("resp", [2, 3])
def test_geo_commands_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    everybody = st.tuples(
        *(
            st.tuples(
                st.just(name),
                st.integers(0, len(LONGITUDES) - 1),
                st.integers(0, len(LATITUDES) - 1),
            ).map(_entry)
            for name in range(len(NAMES))
        )
    )

    @ROOM
    @given(everybody, st.lists(st.one_of(*GEO, *OTHERS[:1]), min_size=20, max_size=60))
    def agree(entries: tuple[Argv, ...], commands: list[Argv]) -> None:
        first = (b"GEOADD", b"g1", *(part for entry in entries for part in entry))
        assert_alike(real, ours, resp, [first, *commands])

    agree()


@ROOM
@given(
    scores=st.lists(st.floats(allow_nan=False), min_size=1, max_size=8, unique=True),
    asked=st.lists(st.sampled_from([b"GEOPOS", b"GEOHASH"]), min_size=1, max_size=2),
)
def test_geo_of_any_scores_is_answered_as_by_redis(
    real: Real, ours: InProcess, scores: list[float], asked: list[bytes]
) -> None:
    names = NAMES[: len(scores)]
    pairs = (part for s, name in zip(scores, names, strict=True) for part in (b"%r" % s, name))
    reads = [(command, b"g1", *names) for command in asked]
    search = (b"GEORADIUS", b"g1", b"0", b"0", b"30000", b"km", b"WITHHASH", b"WITHCOORD")

    assert_alike(real, ours, 2, [(b"ZADD", b"g1", *pairs), *reads, search])


# ------------------------------------------------------------------- LCS

LETTERS = st.one_of(st.text("ab", max_size=30), st.text("abcde", max_size=30)).map(str.encode)
LCS_OPTIONS = st.lists(
    st.one_of(
        case(b"LEN", b"IDX", b"IDX", b"WITHMATCHLEN"),
        st.tuples(case(b"MINMATCHLEN"), pick([b"0", b"1", b"2", b"4", b"-1"], [b"x"])),
    ),
    max_size=3,
)


@pytest.mark.parametrize("resp", [2, 3])
def test_lcs_of_random_strings_is_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    lcs = call(b"LCS", st.sampled_from([b"b1", b"b1", b"none", b"l1"]), st.just(b"b2"), LCS_OPTIONS)

    @ROOM
    @given(LETTERS, LETTERS, st.lists(st.one_of(lcs, *OTHERS[:1]), min_size=1, max_size=5))
    def agree(a: bytes, b: bytes, commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, [(b"MSET", b"b1", a, b"b2", b), *commands])

    agree()
