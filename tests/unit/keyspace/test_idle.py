"""Which collections are used: noted at every look-up that gives elements away, and at no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvrepl.datatypes import HashValue, ListValue, SetValue, SortedSet
from kvrepl.datatypes.streams import StreamValue
from kvrepl.keyspace.database import Database
from kvrepl.persistence.packing import pack
from tests.unit.engine.twins import BOTH_DATABASES, Make

KEY = b"key"


def hash_of(db: Database) -> HashValue:
    return HashValue(db.keyspace.limits, [(b"field", b"value")])


def look(db: Database) -> tuple[list[bytes], int]:
    """Look once into the only segment."""
    (segment,) = db.segments
    return db.find_idle(segment)


USES: list[Callable[[Database], Any]] = [
    lambda db: db.get(KEY),
    lambda db: db.get_for_write(KEY),
    lambda db: db.read(KEY, HashValue),
    lambda db: db.edit(KEY, HashValue),
    lambda db: db.set(KEY, db.peek(KEY)),
]
LOOKS: list[Callable[[Database], Any]] = [
    lambda db: db.peek(KEY),
    lambda db: db.get_packed(KEY),
    lambda db: db.inspect(KEY),
    lambda db: db.exists(KEY),
    lambda db: db.exists_for_write(KEY),
    lambda db: db.touch(KEY),
    lambda db: list(db.items()),
    lambda db: db.expire_at(KEY, 1 << 44),
]


@BOTH_DATABASES
def test_collection_is_idle_at_the_second_look_after_its_last_use(make: Make) -> None:
    db = make(1)
    db.set(b"string", b"value")
    db.set(b"array", bytearray(b"value"))
    db.set(b"stream", StreamValue())
    db.set(KEY, hash_of(db))
    assert look(db) == ([], 1)
    assert look(db) == ([KEY], 0)
    assert look(db) == ([KEY], 0), "and stays so"


@BOTH_DATABASES
@pytest.mark.parametrize("kind", [HashValue, ListValue, SetValue, SortedSet])
def test_every_kind_of_collection_is_found(make: Make, kind: type) -> None:
    db = make(1)
    db.set(KEY, kind(db.keyspace.limits))
    assert look(db) == ([], 1)
    assert look(db) == ([KEY], 0)


@BOTH_DATABASES
@pytest.mark.parametrize("use", USES)
def test_look_up_that_gives_the_elements_is_a_use(
    make: Make, use: Callable[[Database], Any]
) -> None:
    db = make(1)
    db.set(KEY, hash_of(db))
    look(db)
    use(db)
    assert db.idle(KEY) is None
    assert look(db) == ([], 1)


@BOTH_DATABASES
@pytest.mark.parametrize("glance", LOOKS)
def test_look_up_that_gives_no_elements_is_no_use(
    make: Make, glance: Callable[[Database], Any]
) -> None:
    db = make(1)
    db.set(KEY, hash_of(db))
    look(db)
    glance(db)
    assert db.idle(KEY) is db.peek(KEY)
    assert look(db) == ([KEY], 0)


@BOTH_DATABASES
def test_packed_value_is_in_no_look_and_unpacking_is_a_use(make: Make) -> None:
    db = make(1)
    db.set(KEY, hash_of(db))
    look(db)
    packed, _ = pack(db.idle(KEY), db.keyspace.limits, True)
    assert packed is not None
    db.pack(KEY, packed)
    db.loose[:] = b"\0"
    assert look(db) == ([], 0) and db.peek(KEY) is packed and db.idle(KEY) is None
    value = db.read(KEY, HashValue)
    assert value is not None and value.get(b"field") == b"value"
    assert db.loose == b"\1" and look(db) == ([], 1)


@BOTH_DATABASES
@pytest.mark.parametrize("segments", [1, 8])
def test_only_segments_that_were_given_a_collection_are_loose(make: Make, segments: int) -> None:
    db = make(segments)
    for number in range(100):
        db.set(b"string:%d" % number, b"value")
    assert not any(db.loose)
    db.set(KEY, hash_of(db))
    place = hash(KEY) & db.mask
    assert [at for at, loose in enumerate(db.loose) if loose] == [place]
    other = make(segments)
    db.swap(other)
    assert other.loose[place] and not any(db.loose)
    other.clear()
    assert not any(other.loose) and len(other.loose) == segments
