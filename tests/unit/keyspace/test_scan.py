"""SCAN over a database of any size: every key that stays is returned once, some at a time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvrepl.keyspace import segments
from kvrepl.keyspace.database import Database
from tests.unit.engine.twins import BOTH_DATABASES, Make, compiled_database, pure_database


def key(number: int) -> bytes:
    """Name a key."""
    return b"key:%d" % number


def fill(db: Database, numbers: range) -> None:
    """Set the keys of those numbers."""
    for number in numbers:
        db.set(key(number), b"x")


@BOTH_DATABASES
@pytest.mark.parametrize("segments", [1, 8, 1024])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_scan_of_a_database_at_rest_returns_every_key_once(
    make: Make, segments: int, count: int
) -> None:
    db = make(segments)
    fill(db, range(3_000))
    found: Counter[bytes] = Counter()
    cursor, calls = 0, 0
    while calls == 0 or cursor:
        cursor, keys = db.scan(cursor, count)
        assert keys or not cursor
        found.update(keys)
        calls += 1
    assert found == Counter(map(key, range(3_000)))


@BOTH_DATABASES
def test_scan_while_keys_come_and_go_returns_those_that_stay_once(
    make: Make,
) -> None:
    db = make(4)
    fill(db, range(4_000))
    found: Counter[bytes] = Counter()
    cursor, keys = db.scan(0, 10)
    step = 0
    while cursor:
        found.update(keys)
        step += 1
        db.delete(key(2_000 + step))
        fill(db, range(4_000 + 40 * step, 4_040 + 40 * step))
        cursor, keys = db.scan(cursor, 10)
    found.update(keys)
    assert all(found[key(number)] == 1 for number in range(2_000))
    assert max(found.values()) == 1


@BOTH_DATABASES
def test_scan_returns_few_keys_beyond_the_count_however_many_there_are(make: Make) -> None:
    db = make(2)
    fill(db, range(20_000))
    cursor, steps = 0, 0
    while steps == 0 or cursor:
        cursor, keys = db.scan(cursor, 10)
        steps += 1
        # Half as many again may be looked for, give or take chance.
        assert len(keys) < 10 + 15 + 5 * 4
    assert 20_000 / 15 < steps < 20_000 / 7


@BOTH_DATABASES
def test_scan_while_the_database_grows_and_shrinks_returns_those_that_stay_once(
    make: Make,
) -> None:
    # From 15 segments to 51 and back, again and again.
    db = make(2)
    fill(db, range(1_000))
    found: Counter[bytes] = Counter()
    cursor, keys = db.scan(0, 10)
    sizes = set()
    step = 0
    while cursor:
        found.update(keys)
        if step % 2:
            for number in range(1_000, 13_000):
                db.delete(key(number))
            db.merge(1 << 20)
        else:
            fill(db, range(1_000, 13_000))
        sizes.add(db.real)
        step += 1
        cursor, keys = db.scan(cursor, 100)
    found.update(keys)
    assert sizes == {15, 51}
    assert all(found[key(number)] == 1 for number in range(1_000))


@BOTH_DATABASES
@pytest.mark.parametrize("keys", [0, 3, 5_000])
@pytest.mark.parametrize("cursor", [1, 77, (1 << 48) - 1, (1 << 64) - 1, 0xAAAAAAAAAAAA])
def test_scan_from_any_cursor_comes_to_an_end(make: Make, keys: int, cursor: int) -> None:
    db = make(16)
    fill(db, range(keys))
    calls = 0
    while calls == 0 or cursor:
        cursor, _ = db.scan(cursor, 10)
        calls += 1
        assert calls < 2_000


@BOTH_DATABASES
def test_scan_of_segments_that_were_emptied_passes_a_bounded_number_of_them(make: Make) -> None:
    db = make(1)
    db.expect(segments.SPLIT_LOAD * 20_000)
    fill(db, range(2))
    found: Counter[bytes] = Counter()
    cursor, calls = 0, 0
    while calls == 0 or cursor:
        cursor, keys = db.scan(cursor, 10)
        found.update(keys)
        calls += 1
    assert found == Counter([key(0), key(1)])
    assert 20_000 // segments.PASSED_MAX <= calls <= 20_000 // segments.PASSED_MAX + 4


@given(
    keys=st.integers(0, 3_000),
    cursor=st.integers(0, (1 << 64) - 1) | st.integers(0, 4_000),
    count=st.integers(1, 300) | st.sampled_from([1 << 40, 1 << 70]),
)
@settings(deadline=None)
def test_scan_compiled_is_the_same_as_the_reference(keys: int, cursor: int, count: int) -> None:
    one, other = pure_database(4), compiled_database(4)
    fill(one, range(keys))
    fill(other, range(keys))
    assert one.scan(cursor, count) == other.scan(cursor, count)


@BOTH_DATABASES
def test_scan_returns_about_as_many_keys_as_are_asked_for(make: Make) -> None:
    db = make(16)
    fill(db, range(16 * 300))
    cursor, returned, calls = 0, 0, 0
    while calls == 0 or cursor:
        cursor, keys = db.scan(cursor, 20)
        returned += len(keys)
        calls += 1
    assert 15 <= returned / calls <= 25


@BOTH_DATABASES
def test_keys_are_counted_and_found_by_number(make: Make) -> None:
    db = make(8)
    fill(db, range(500))
    assert len(db) == 500
    places = [db._place(number) for number in range(500)]
    assert [list(segment)[at] for segment, at in places] == list(db.keys())
    with pytest.raises(IndexError):
        db._place(500)
