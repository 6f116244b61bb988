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

from tests.interop.differential.grammar.bits import (
    BITS,
    CONTENTS,
    FAILING,
    HYPERLOGLOGS,
    LCS_OPTIONS,
    LETTERS,
    WIDE,
)
from tests.interop.differential.grammar.geo import GEO, LATITUDES, LONGITUDES, NAMES, place
from tests.interop.differential.grammar.parts import Argv, call
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


OTHERS = [
    call(b"RPUSH", st.just(b"l1"), st.just(b"x")),
    call(b"DEL", st.sampled_from([b"b1", b"b2", b"p1", b"p2", b"g1", b"g2", b"l1"])),
]


# ------------------------------------------------------------------- bitmaps


@pytest.mark.parametrize("resp", [2, 3])
def test_bitmap_commands_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    strings = st.one_of(st.binary(max_size=30), CONTENTS)

    @ROOM
    @given(strings, strings, st.lists(st.one_of(*BITS, FAILING, *OTHERS), min_size=20, max_size=60))
    def agree(one: bytes, other: bytes, commands: list[Argv]) -> None:
        first = [(b"SETBIT", WIDE, b"1023", b"0"), (b"MSET", b"b1", one, b"b2", other)]
        assert_alike(real, ours, resp, [*first, *commands])

    agree()


# ------------------------------------------------------------------- HyperLogLog


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
            ).map(place)
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
