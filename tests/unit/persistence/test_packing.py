"""Packing what is idle: the bytes of a snapshot, in steps, and no change to be seen."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.datatypes.packed import unpack
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.digest import digest_value
from kvrepl.keyspace.encoding import encoding
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.persistence.packing import (
    MAX_ELEMENTS,
    MAX_TEXT_BYTES,
    STEP_ELEMENTS,
    Packing,
    pack,
)
from kvrepl.persistence.snapshot import SnapshotInfo, SnapshotLoader, snapshot_chunks
from kvrepl.persistence.walk import encode_segment
from rdb import Packed
from tests.unit.persistence.test_walk import value_of

KINDS = (ListValue, SetValue, HashValue, SortedSet)
SLICE_CPU_MS = 1.0
"""CPU time that a slice may take: what the cron gives to one, and one value that overruns it."""


def passed(packing: Packing) -> int:
    """Run one pass; returns its steps."""
    steps = int(packing.begin())
    while packing.step():
        steps += 1
    return steps


def hash_of(db: Database, fields: int = 1, number: int = 0) -> HashValue:
    entries = [(b"f:%d" % field, b"v:%d:%d" % (number, field)) for field in range(fields)]
    return HashValue(db.keyspace.limits, entries)


def packed_keys(db: Database) -> int:
    return sum(isinstance(db.peek(key), Packed) for key in list(db.keys()))


@pytest.fixture
def db() -> Database:
    return Keyspace(2).databases[0]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("compress", [True, False])
def test_packed_is_what_a_snapshot_writes_and_the_same_value_again(
    seed: int, compress: bool
) -> None:
    rng, limits = random.Random(seed), Limits()
    packed = 0
    while packed < 5:
        value = value_of(rng, limits)
        if type(value) not in KINDS:
            continue
        found, object_bytes = pack(value, limits, compress)
        if found is None:
            continue
        packed += 1
        record = encode_segment({b"key": value}, {}, limits, compress)
        assert record == bytes([found.type_code]) + b"\x03key" + found
        assert record == encode_segment({b"key": found}, {}, limits, compress)
        again = unpack(found, limits)
        assert type(again) is type(value) and encoding(found) == encoding(value)
        assert encoding(again) == encoding(value) and len(again) == len(value)
        order = list(again.items() if type(again) is HashValue else again)
        assert order == list(value.items() if type(value) is HashValue else value)
        assert digest_value(again) == digest_value(value)
        assert object_bytes > len(found)


def test_value_is_packed_in_the_second_pass_after_its_last_use(db: Database) -> None:
    packing = Packing(db.keyspace)
    db.set(b"cold", hash_of(db))
    db.set(b"warm", hash_of(db))
    passed(packing)
    assert packed_keys(db) == packing.packed == 0
    db.get(b"warm")
    passed(packing)
    assert isinstance(db.peek(b"cold"), Packed) and isinstance(db.peek(b"warm"), HashValue)
    assert packing.packed == 1 and packing.saved_bytes > 100
    passed(packing)
    assert packed_keys(db) == 2


def test_pass_over_what_is_packed_or_no_collection_has_no_steps(db: Database) -> None:
    packing = Packing(db.keyspace)
    for number in range(5_000):
        db.set(b"string:%d" % number, b"value")
    assert not packing.begin() and not packing.running and not packing.step()
    db.set(b"hash", hash_of(db))
    assert packing.pack_all() == 1
    assert not packing.begin(), "what is packed is not looked for again"
    db.get(b"hash")
    assert packing.begin() and packing.running


def test_pass_goes_over_every_database_and_the_loose_segments_alone(db: Database) -> None:
    packing = Packing(db.keyspace)
    for other in db.keyspace.databases:
        for number in range(3):
            other.set(b"%d" % number, hash_of(other))
    for step in range(6 * STEP_ELEMENTS):
        db.set(b"string:%d" % step, b"value")
    assert passed(packing) <= 2
    passed(packing)
    assert [packed_keys(other) for other in db.keyspace.databases] == [3, 3]


@pytest.mark.parametrize(
    ("make", "packs"),
    [
        (lambda limits: ListValue(limits, [b"x"] * MAX_ELEMENTS), True),
        (lambda limits: ListValue(limits, [b"x"] * (MAX_ELEMENTS + 1)), False),
        (lambda limits: ListValue(limits, [b"x" * (MAX_TEXT_BYTES - 100)]), True),
        (lambda limits: ListValue(limits, [b"x" * (MAX_TEXT_BYTES + 1)]), False),
        (lambda limits: HashValue(limits, [(b"f", b"x" * (MAX_TEXT_BYTES + 1))]), False),
        (lambda limits: SetValue(limits, [b"x" * (MAX_TEXT_BYTES + 1)]), False),
        (lambda limits: SortedSet(limits, [(b"x" * (MAX_TEXT_BYTES + 1), 1.0)]), False),
    ],
)
def test_only_what_is_small_is_packed(db: Database, make: Any, packs: bool) -> None:
    packing = Packing(db.keyspace)
    db.set(b"key", make(db.keyspace.limits))
    assert packing.pack_all() == packs
    assert any(db.loose) != packs, "what stays may be smaller at the next pass"


def test_table_in_which_a_cursor_may_stand_stays_as_it_is(db: Database) -> None:
    value = SetValue(db.keyspace.limits, [b"m:%d" % n for n in range(2_000)])
    while len(value) > MAX_ELEMENTS:
        value.discard(next(iter(value)))
    db.set(b"set", value)
    cursor, _ = value.scan(0, 10)
    assert cursor
    assert Packing(db.keyspace).pack_all() == 0


def test_time_to_live_and_counters_stay(db: Database) -> None:
    db.set(b"key", hash_of(db))
    db.expire_at(b"key", 1 << 44)
    keyspace = db.keyspace
    before = keyspace.dirty, keyspace.hits, keyspace.misses, db.expires_count(), len(db)
    assert Packing(keyspace).pack_all() == 1
    assert before == (keyspace.dirty, keyspace.hits, keyspace.misses, db.expires_count(), len(db))
    assert db.expires_at_ms(b"key") == 1 << 44


@pytest.mark.parametrize("act", ["delete", "flush", "use", "overwrite", "swap", "string"])
def test_what_happens_between_two_steps_is_respected(act: str) -> None:
    keyspace = Keyspace(2)
    keyspace.databases = [Database(number, keyspace, 1) for number in range(2)]
    db, other = keyspace.databases
    packing = Packing(keyspace)
    keys = [b"%d" % number for number in range(3 * STEP_ELEMENTS)]
    for key in keys:
        db.set(key, hash_of(db))
    passed(packing)
    packing.begin()
    packing.step()
    left = [key for key in keys if not isinstance(db.peek(key), Packed)]
    assert left and len(left) < len(keys)
    for key in left:
        if act == "delete":
            db.delete(key)
        elif act == "use":
            db.get(key)
        elif act == "overwrite":
            db.set(key, hash_of(db))
        elif act == "string":
            db.set(key, b"value")
    if act == "flush":
        db.clear()
    elif act == "swap":
        db.swap(other)
    while packing.step():
        pass
    assert not packing.running
    assert all(type(db.peek(key)) in (HashValue, bytes, type(None)) for key in left)
    passed(packing)
    passed(packing)
    survivors = [db.peek(key) or other.peek(key) for key in left]
    left_as = {"delete": None, "flush": None, "string": bytes}.get(act, Packed)
    assert all(isinstance(value, left_as or type(None)) for value in survivors)


def test_collection_that_a_load_had_to_decode_is_found(db: Database) -> None:
    value = hash_of(db)
    value.set(b"long", b"x" * 1_000)  # a hashtable from now on, which is loaded as a listpack
    value.delete(b"long")
    db.set(b"key", value)
    chunks = list(snapshot_chunks(db.keyspace, SnapshotInfo(0, 0)))
    other = Keyspace(2)
    loader = SnapshotLoader(other)
    for chunk in chunks:
        loader.feed(chunk)
    assert loader.close().keys == 1
    assert isinstance(other.databases[0].peek(b"key"), HashValue)
    assert Packing(other).pack_all() == 1


def test_pass_that_is_stopped_begins_anew(db: Database) -> None:
    db = Database(0, db.keyspace, 1)
    db.keyspace.databases = [db]
    packing = Packing(db.keyspace)
    for number in range(3 * STEP_ELEMENTS):
        db.set(b"%d" % number, hash_of(db))
    passed(packing)
    packing.begin()
    packing.step()
    assert 0 < packed_keys(db) < 3 * STEP_ELEMENTS
    packing.stop()
    assert not packing.running and not packing.step()
    passed(packing)
    assert packed_keys(db) == 3 * STEP_ELEMENTS


@pytest.mark.parametrize("grows", [False, True])
def test_segments_that_were_split_are_gone_over_as_well(db: Database, grows: bool) -> None:
    db = Database(0, db.keyspace, 2)
    db.keyspace.databases = [db]
    packing = Packing(db.keyspace)
    names = [b"%d" % number for number in range(3_000)]
    for name in names:
        db.set(name, hash_of(db))
    before = db.real
    assert before > 2 * db.least
    passed(packing)
    packing.begin()
    packing.step()
    while grows and db.real < 2 * before:
        db.set(b"more:%d" % len(db), b"a string")
    while packing.step():
        pass
    assert packing.packed == len(names)
    assert 1 not in db.loose


def test_step_packs_few_elements(db: Database) -> None:
    packing = Packing(db.keyspace)
    for number in range(400):
        db.set(b"%d" % number, hash_of(db, 8, number))
    passed(packing)
    packing.begin()
    before = 0
    while packing.step():
        assert 8 * (packing.packed - before) <= STEP_ELEMENTS + 8
        before = packing.packed
    assert packing.packed == 400


def test_step_takes_no_more_than_a_slice_whatever_it_packs(db: Database) -> None:
    rng = random.Random(1)
    for number in range(20):
        members = [rng.randbytes(MAX_TEXT_BYTES // MAX_ELEMENTS // 2) for _ in range(MAX_ELEMENTS)]
        entries = [(member, b"v:%d" % number) for member in members]
        db.set(b"h:%d" % number, HashValue(db.keyspace.limits, entries))
        db.set(b"s:%d" % number, SetValue(db.keyspace.limits, members))
        scores = [(member, rng.random()) for member in members]
        db.set(b"z:%d" % number, SortedSet(db.keyspace.limits, scores))
        db.set(b"l:%d" % number, ListValue(db.keyspace.limits, members))
    worst_ms = 1e9
    for _ in range(5):  # CPU time, and yet what else runs slows a processor down
        packing = Packing(db.keyspace)
        for key in list(db.keys()):
            db.get(key)
        passed(packing)
        packing.begin()
        longest_ns, more = 0, True
        while more:
            before_ns = time.thread_time_ns()
            more = packing.step()
            longest_ns = max(longest_ns, time.thread_time_ns() - before_ns)
        assert packing.packed == 80
        worst_ms = min(worst_ms, longest_ns / 1e6)
    assert worst_ms < SLICE_CPU_MS
