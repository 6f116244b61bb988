"""SegmentedDict: a dict in pieces, its random picks and the guarantee of SCAN."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from kvrepl.datatypes.segments import (
    MERGE_LOAD,
    SEGMENT_FROM,
    SPLIT_LOAD,
    SegmentedDict,
    sample,
    table_of,
)


def keys(count: int, start: int = 0) -> list[bytes]:
    return [b"key:%d" % index for index in range(start, start + count)]


def segment_sizes(table: SegmentedDict[int]) -> list[int]:
    return [len(segment) for segment in table._segments]


def test_table_grown_one_by_one_holds_what_a_dict_holds() -> None:
    table: SegmentedDict[int] = SegmentedDict({})
    for index, key in enumerate(keys(5000)):
        assert table.add(key, index)
        assert not table.add(key, -1)
    assert len(table) == 5000
    assert dict(table.items()) == {key: index for index, key in enumerate(keys(5000))}
    assert all(key in table and table[key] == table.get(key) for key in keys(5000))
    assert b"absent" not in table
    assert table.get(b"absent", 7) == 7


def test_table_growth_splits_one_segment_at_a_time() -> None:
    table: SegmentedDict[int] = SegmentedDict({})
    before = 1
    for key in keys(3000):
        table[key] = 0
        assert len(table._segments) - before in (0, 1)
        before = len(table._segments)
    assert sum(segment_sizes(table)) == 3000
    assert 3000 / before <= SPLIT_LOAD


def test_table_emptied_shrinks_to_one_segment_and_finds_the_rest() -> None:
    table = SegmentedDict(dict.fromkeys(keys(4000), 1))
    for removed, key in enumerate(keys(4000), 1):
        assert table.pop(key, None) == 1
        assert table.pop(key, None) is None
        if removed % 500 == 0:
            assert set(table) == set(keys(4000 - removed, removed))
            assert len(table) >= MERGE_LOAD * len(table._segments) or len(table._segments) == 1
    assert segment_sizes(table) == [0]


def test_table_put_says_whether_the_key_is_new() -> None:
    table: SegmentedDict[int] = SegmentedDict({})
    assert all(table.put(key, 1) for key in keys(1000))
    assert not any(table.put(key, 2) for key in keys(1000))
    assert len(table) == 1000
    assert set(table.values()) == {2}


def test_table_assignment_replaces_the_value_and_keeps_the_count() -> None:
    table = SegmentedDict(dict.fromkeys(keys(1000), 1))
    table[b"key:3"] = 2
    assert (table[b"key:3"], len(table)) == (2, 1000)


def test_table_of_many_entries_is_segmented_and_of_few_is_a_dict() -> None:
    assert type(table_of(dict.fromkeys(keys(SEGMENT_FROM)))) is dict
    assert type(table_of(dict.fromkeys(keys(SEGMENT_FROM + 1)))) is SegmentedDict


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_scan_unchanged_table_returns_every_entry_once(count: int) -> None:
    table = SegmentedDict(dict.fromkeys(keys(5000), 1))
    for key in keys(700, 5000):  # Somewhere between two powers of two.
        table[key] = 1
    found: list[bytes] = []
    cursor, calls = 0, 0
    while True:
        cursor, entries = table.scan(cursor, count)
        found += [key for key, _ in entries]
        calls += 1
        if not cursor:
            break
    assert sorted(found) == sorted(keys(5700))
    assert calls >= 5700 // max(count, 4 * SPLIT_LOAD) // 2


@pytest.mark.parametrize("seed", range(8))
def test_scan_table_growing_and_shrinking_meanwhile_returns_what_stayed(seed: int) -> None:
    rng = Random(seed)
    stay = keys(1500)
    table = SegmentedDict(dict.fromkeys(stay, 1))
    guests = keys(20_000, 1500) if seed % 2 else []
    for guest in guests:
        table[guest] = 0
    seen: set[bytes] = set()
    cursor = 0
    grow = not guests
    sizes = set()
    while True:
        cursor, entries = table.scan(cursor, 1)
        seen.update(key for key, _ in entries)
        if not cursor:
            break
        if rng.random() < 0.1:
            grow = not grow
        for _ in range(rng.randrange(900)):
            if grow:
                guests.append(b"guest:%d" % rng.randrange(1 << 40))
                table[guests[-1]] = 0
            elif guests:
                table.pop(guests.pop(), None)
        sizes.add(len(table._segments))
    assert seen >= set(stay)
    assert len(sizes) > 3


def test_scan_any_integer_cursor_ends() -> None:
    table = SegmentedDict(dict.fromkeys(keys(2000), 1))
    for cursor in (-1, 1 << 63, (1 << 64) - 1, 12345678901234567890):
        for _ in range(len(table._segments) + 1):
            cursor, _entries = table.scan(cursor, 1)
            if not cursor:
                break
        assert cursor == 0


@pytest.mark.parametrize("loaded", [1000, 0], ids=["loaded", "half of the segments split"])
def test_random_key_many_picks_are_even(loaded: int) -> None:
    table = SegmentedDict(dict.fromkeys(keys(loaded), 1))
    for key in keys(1000):
        table.put(key, 1)
    if not loaded:
        for key in keys(500, 1000):
            table.put(key, 1)
        for key in keys(500, 1000):
            table.pop(key, None)
        assert len(table._segments) == 24
    rng = Random(3)
    picks = Counter(table.random_key(rng) for _ in range(60_000))
    assert len(picks) == 1000
    # 60 expected each; Poisson's 6 standard deviations.
    assert max(picks.values()) < 60 + 6 * 60**0.5
    assert min(picks.values()) > 60 - 6 * 60**0.5


def test_pop_random_takes_each_key_once() -> None:
    table = SegmentedDict(dict.fromkeys(keys(3000), 1))
    rng = Random(4)
    popped = [table.pop_random(rng) for _ in range(3000)]
    assert sorted(popped) == sorted(keys(3000))
    assert len(table) == 0
    assert segment_sizes(table) == [0]


def test_random_key_segment_fuller_than_supposed_is_picked_from_whole() -> None:
    table: SegmentedDict[int] = SegmentedDict({})
    table._segments[0].update(dict.fromkeys(keys(300), 1))
    table._count = 300
    rng = Random(1)
    assert {table.random_key(rng) for _ in range(10_000)} == set(keys(300))


def test_random_key_empty_table_raises() -> None:
    with pytest.raises(IndexError):
        SegmentedDict({}).random_key(Random(0))


@pytest.mark.parametrize("count", [0, 1, 10, 400, 999, 1000, 5000])
@pytest.mark.parametrize("size", [300, 1000])
def test_sample_gives_that_many_different_keys(size: int, count: int) -> None:
    picked = sample(table_of(dict.fromkeys(keys(size))), count, Random(count))
    assert len(picked) == len(set(picked)) == min(count, size)
    assert set(picked) <= set(keys(size))
