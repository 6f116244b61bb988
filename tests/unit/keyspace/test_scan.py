"""SCAN over a database of any size: every key that stays is returned once, some at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from kvrepl.keyspace import database
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.keyspace import Keyspace
from tests.unit.engine.twins import PureDatabase


def compiled(segments: int) -> Database:
    """Give a database as the server has it."""
    return Database(0, Keyspace(0), segments)


def pure(segments: int) -> Database:
    """Give one with the reference methods."""
    return PureDatabase(0, Keyspace(0), segments)


KINDS = pytest.mark.parametrize("make", [pure, compiled])


def _key(number: int) -> bytes:
    return b"key:%d" % number


def _fill(db: Database, numbers: range) -> None:
    for number in numbers:
        db.set(_key(number), b"x")


@KINDS
@pytest.mark.parametrize("segments", [1, 8, 1024])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_scan_of_a_database_at_rest_returns_every_key_once(
    make: Callable[[int], Database], segments: int, count: int
) -> None:
    db = make(segments)
    _fill(db, range(3_000))
    found: Counter[bytes] = Counter()
    cursor, calls = 0, 0
    while calls == 0 or cursor:
        cursor, keys = db.scan(cursor, count)
        assert keys or not cursor
        found.update(keys)
        calls += 1
    assert found == Counter(map(_key, range(3_000)))


@KINDS
def test_scan_while_keys_come_and_go_returns_those_that_stay_once(
    make: Callable[[int], Database],
) -> None:
    db = make(4)
    _fill(db, range(4_000))
    found: Counter[bytes] = Counter()
    cursor, keys = db.scan(0, 10)
    step = 0
    while cursor:
        found.update(keys)
        step += 1
        db.delete(_key(2_000 + step))
        _fill(db, range(4_000 + 40 * step, 4_040 + 40 * step))
        cursor, keys = db.scan(cursor, 10)
    found.update(keys)
    assert all(found[_key(number)] == 1 for number in range(2_000))
    assert max(found.values()) == 1


@KINDS
def test_scan_of_full_segments_looks_at_few_keys_for_each_it_returns(
    make: Callable[[int], Database],
) -> None:
    db = make(2)
    _fill(db, range(20_000))
    cursor, steps = 0, 0
    while steps == 0 or cursor:
        cursor, keys = db.scan(cursor, 10)
        steps += 1
        # As many as there are in its share of a segment, give or take chance.
        assert len(keys) < 2 * 20_000 // 2 // database.SCAN_SHARE
    assert steps <= 2 * 2 * database.SCAN_SHARE


@KINDS
def test_scan_returns_about_as_many_keys_as_are_asked_for(make: Callable[[int], Database]) -> None:
    db = make(16)
    _fill(db, range(16 * 300))
    cursor, returned, calls = 0, 0, 0
    while calls == 0 or cursor:
        cursor, keys = db.scan(cursor, 20)
        returned += len(keys)
        calls += 1
    assert 15 <= returned / calls <= 25


@KINDS
def test_keys_are_counted_and_found_by_number(make: Callable[[int], Database]) -> None:
    db = make(8)
    _fill(db, range(500))
    assert len(db) == 500
    places = [db._place(number) for number in range(500)]
    assert [list(segment)[at] for segment, at in places] == list(db.keys())
    with pytest.raises(IndexError):
        db._place(500)
