"""The segments of a database: what they hold as they split and merge, RANDOMKEY, and their cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from random import Random
from sys import getsizeof
from time import process_time_ns

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvrepl.keyspace import segments
from kvrepl.keyspace.access import Lru
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.keyspace import Keyspace
from tests.unit.engine.twins import BOTH_DATABASES, Make, PureDatabase
from tests.unit.keyspace.test_scan import fill, key


def check(db: Database, keys: set[bytes], expiring: set[bytes]) -> None:
    """Hold a database against what it should hold, and its directory against its rules."""
    size, half = db.mask + 1, (db.mask + 1) >> 1
    assert half < db.real <= size
    assert db.real >= db.least
    for row in (db.segments, db.expires, db.accessed):
        assert len(row) in (size, 0)
        assert len({id(part) for part in row}) in (db.real, 0)
        assert all(row[i] is row[i - half] for i in range(db.real, len(row)))
    assert set(db.keys()) == keys
    assert len(db) == len(keys)
    assert {name for _, _, part in db.parts() for name in part} == expiring
    assert db.expires_count() == len(expiring)
    assert db.has_keys() == bool(keys)
    assert all(db.peek(name) == b"x" for name in keys)
    for name in expiring:
        assert db.due_ms[hash(name) & (db.least - 1)] <= (db.expires_at_ms(name) or 0)
    if db.accessed:
        assert {name for part in db.accessed[: db.real] for name in part} == keys


STEP = st.one_of(
    st.tuples(st.sampled_from(["set", "delete", "expire", "persist"]), st.integers(0, 6_000)),
    st.tuples(st.sampled_from(["fill", "drop", "expect"]), st.integers(0, 6_000)),
    st.tuples(st.sampled_from(["merge", "shrink", "swap", "clear"]), st.integers(0, 40)),
)


@settings(deadline=None)
@given(steps=st.lists(STEP, max_size=12), tracked=st.booleans(), pure=st.booleans())
def test_segments_after_any_steps_hold_what_was_put_there(
    steps: list[tuple[str, int]], tracked: bool, pure: bool
) -> None:
    keyspace = Keyspace(0)
    if tracked:
        keyspace.track_access(Lru(0))
    make = PureDatabase if pure else Database
    db, other = make(0, keyspace, 2), make(1, keyspace, 2)
    for each in (db, other):
        each.track_access()
    held: dict[Database, tuple[set[bytes], set[bytes]]] = {
        db: (set(), set()),
        other: (set(), set()),
    }
    for step, n in steps:
        keys, expiring = held[db]
        names = (
            {key(n)} if step in ("set", "delete", "expire", "persist") else set(map(key, range(n)))
        )
        if step in ("set", "fill"):
            for name in names:
                db.set(name, b"x")
            keys |= names
            expiring -= names
        elif step in ("delete", "drop"):
            assert [db.delete(name) for name in names] == [name in keys for name in names]
            keys -= names
            expiring -= names
        elif step == "expire":
            for name in names & keys:
                db.expire_at(name, 10**13 + n)
            expiring |= names & keys
        elif step == "persist":
            assert db.persist(key(n)) == (key(n) in expiring)
            expiring -= names
        elif step == "expect":
            db.expect(100 * n)
        elif step == "merge":
            db.merge(n)
        elif step == "shrink":
            db.shrink(n % db.real)
        elif step == "swap":
            db.swap(other)
            held[db], held[other] = held[other], held[db]
        else:
            assert {name for part in db.clear() for name in part} == keys
            held[db] = set(), set()
    for each, (keys, expiring) in held.items():
        check(each, keys, expiring)


@BOTH_DATABASES
def test_segments_of_a_growing_and_shrinking_database_stay_small_and_few(make: Make) -> None:
    db = make(4)
    fill(db, range(20_000))
    assert max(map(len, db.segments)) < 2 * segments.SPLIT_LOAD + 5 * 16
    assert db.real == -(-20_000 // segments.SPLIT_LOAD)
    for number in range(100, 20_000):
        db.delete(key(number))
    db.merge(10)
    assert db.real == -(-20_000 // segments.SPLIT_LOAD) - 10
    db.merge(1 << 20)
    assert db.real == 4
    assert set(db.keys()) == set(map(key, range(100)))


@BOTH_DATABASES
def test_tidy_of_an_emptied_database_ends_with_few_and_small_segments(make: Make) -> None:
    db = make(128)
    fill(db, range(100_000))
    full = sum(map(getsizeof, db.segments[: db.real]))
    for number in range(100_000):
        db.delete(key(number))
    for turn in range(1_000):
        db.tidy(turn)
    assert db.real == len(db.segments) == 128
    assert sum(map(getsizeof, db.segments)) < full / 10


def test_expect_of_a_damaged_file_makes_room_for_a_bounded_number() -> None:
    db = Database(0, Keyspace(0), 4)
    fill(db, range(10))
    db.expect(1 << 60)
    assert db.real == segments.EXPECTED_MAX // segments.SPLIT_LOAD
    assert set(db.keys()) == set(map(key, range(10)))


@BOTH_DATABASES
@pytest.mark.parametrize("keys", [3, 40, 700, 1_000])
def test_pick_takes_each_key_as_often_as_any_other(make: Make, keys: int) -> None:
    db = make(2)
    fill(db, range(keys))
    rng, draws = Random(7), 200 * keys
    found = Counter(db.pick(rng) for _ in range(draws))
    assert set(found) == set(map(key, range(keys)))
    # Pearson's chi-squared of so many degrees of freedom, five standard deviations above its mean.
    distance = sum((count - 200) ** 2 / 200 for count in found.values())
    assert distance < keys - 1 + 5 * (2 * (keys - 1)) ** 0.5


@BOTH_DATABASES
def test_pick_where_most_keys_were_deleted_still_finds_those_left(make: Make) -> None:
    db = make(2)
    fill(db, range(5_000))
    for number in range(3, 5_000):
        db.delete(key(number))
    rng = Random(7)
    assert {db.pick(rng) for _ in range(100)} == {key(0), key(1), key(2)}


@BOTH_DATABASES
def test_halves_part_by_one_bit_of_the_hash(make: Make) -> None:
    # The compiled function has taken the other's place; this is that of whichever is there.
    keys = {key(number): number for number in range(300)}
    stay, move = segments.halves(keys, 8)
    assert stay | move == keys
    assert not any(hash(name) & 8 for name in stay)
    assert all(hash(name) & 8 for name in move)


# ------------------------------------------------------------------ cost

MOST = 6.0
"""Times as long on a hundred times the keys; caches, and how full a segment is, explain some."""


def _calls_ns(db: Database, call: Callable[[Database], object]) -> float:
    """The CPU time of a call, the best of some rounds."""
    best = float("inf")
    for _ in range(40):
        before_ns = process_time_ns()
        for _ in range(50):
            call(db)
        best = min(best, (process_time_ns() - before_ns) / 50)
    return best


@pytest.fixture(scope="module")
def sized() -> dict[type[Database], tuple[Database, Database]]:
    """Give databases of each kind that begin with a few segments: one with few keys, and one with
    a hundred times as many.
    """
    made = {}
    for kind in (Database, PureDatabase):
        made[kind] = kind(0, Keyspace(0), 16), kind(0, Keyspace(0), 16)
        for db, keys in zip(made[kind], (4_000, 400_000), strict=True):
            fill(db, range(keys))
    return made


_rng = random.Random(3)
CALLS: dict[str, Callable[[Database], object]] = {
    "RANDOMKEY": lambda db: db.random_key(_rng),
    "SCAN 0": lambda db: db.scan(0, 10),
    "SCAN 9 COUNT 1": lambda db: db.scan(9, 1),
    "SCAN 9 COUNT 100": lambda db: db.scan(9, 100),
    "DBSIZE": len,
    "INFO keyspace": lambda db: (db.expires_count(), db.mean_ttl_ms()),
}


@pytest.mark.parametrize("kind", [Database, PureDatabase])
@pytest.mark.parametrize("name", CALLS)
def test_call_on_a_hundred_times_the_keys_takes_about_as_long(
    sized: dict[type[Database], tuple[Database, Database]], kind: type[Database], name: str
) -> None:
    small, large = (_calls_ns(db, CALLS[name]) for db in sized[kind])
    assert large <= MOST * small
