"""What UNLINK and FLUSHALL ASYNC leave behind is freed, all of it, and a little at a time."""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

import pytest

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.datatypes.streams import Consumer, Group, Pending, StreamValue
from kvrepl.keyspace.keyspace import Keyspace

ELEMENTS = 20_000
SLICE = 500
MOST_IN_A_SLICE = 2 * SLICE + 600
"""A part is freed whole, and the last one may begin with one element to go."""


def _stream(texts: list[bytes]) -> StreamValue:
    stream = StreamValue()
    for number, text in enumerate(texts):
        # Never packed: every entry holds its text.
        stream.add((number + 1, 0), [b"f", text], node_bytes=1 << 20, node_entries=50_000)
    return stream


def _group(texts: list[bytes]) -> StreamValue:
    stream = StreamValue()
    group = stream.groups[b"group"] = Group((0, 0))
    consumer = group.consumers[b"one"] = Consumer(b"one", 0)
    for number, text in enumerate(texts):
        owed = Pending(consumer, 0, 1)
        owed.deliveries = text  # type: ignore[assignment]  # something to be counted
        group.deliver((number + 1, 0), owed)
    return stream


MAKERS: dict[str, Callable[[list[bytes]], Any]] = {
    "list": lambda texts: ListValue(Limits(), texts),
    "set": lambda texts: SetValue.of_members(Limits(), texts),
    "hash": lambda texts: HashValue(Limits(), [(text, text) for text in texts]),
    "sorted set": lambda texts: SortedSet(Limits(), [(text, 1.0) for text in texts]),
    "group": _group,
}


def _texts(count: int = ELEMENTS) -> list[bytes]:
    return [b"element %d of a large value" % number for number in range(count)]


def _references(texts: list[bytes]) -> list[int]:
    return [getrefcount(text) for text in texts]


def _freed(texts: list[bytes], base: int) -> int:
    return _references(texts).count(base)


@pytest.mark.parametrize("kind", MAKERS)
def test_unlink_of_a_large_value_frees_it_in_slices(kind: str) -> None:
    texts = _texts()
    base = _references(texts)[0]
    keyspace = Keyspace()
    db = keyspace.databases[0]
    db.set(b"key", MAKERS[kind](texts))

    assert db.unlink(b"key")

    assert db.peek(b"key") is None
    garbage = keyspace.garbage
    assert garbage.pending == 1
    before = _freed(texts, base)
    assert before == 0
    while garbage:
        garbage.free(SLICE)
        now = _freed(texts, base)
        assert now - before <= MOST_IN_A_SLICE
        before = now
    assert before == len(texts)
    assert (garbage.freed, garbage.pending) == (1, 0)


def test_unlink_of_a_stream_frees_node_by_node() -> None:
    stream = _stream(_texts(1_000))
    stream.append((2_000, 0), [b"f", b"x"])
    keyspace = Keyspace()
    keyspace.databases[0].set(b"key", stream)
    keyspace.databases[0].unlink(b"key")
    garbage = keyspace.garbage
    garbage.free(1)
    assert garbage
    garbage.free(5_000)
    assert not garbage


def test_unlink_of_a_small_value_leaves_nothing() -> None:
    keyspace = Keyspace()
    db = keyspace.databases[0]
    db.set(b"small", ListValue(Limits(), _texts(10)))
    db.set(b"string", b"x" * 1_000_000)
    assert db.unlink(b"small")
    assert db.unlink(b"string")
    assert not db.unlink(b"none")
    assert not keyspace.garbage


def test_lazy_flush_frees_keys_and_their_large_values_in_slices() -> None:
    texts = _texts(3_000)
    base = _references(texts)[0]
    keyspace = Keyspace()
    db = keyspace.databases[0]
    for number in range(2_000):
        db.set(b"key %d" % number, texts[number])
    db.set(b"list", ListValue(Limits(), texts[2_000:]))

    keyspace.clear(lazily=True)

    garbage = keyspace.garbage
    assert garbage.pending == 2_001
    garbage.free(SLICE)
    assert 0 < _freed(texts, base) <= MOST_IN_A_SLICE
    garbage.free(1 << 30)
    assert not garbage
    assert garbage.freed == 2_001
    assert _freed(texts, base) == len(texts)
