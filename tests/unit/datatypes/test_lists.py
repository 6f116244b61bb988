"""ListValue, small and in blocks."""

from __future__ import annotations

import pytest

from kvrepl.datatypes import Limits, ListValue
from kvrepl.datatypes.lists import BLOCK, SMALL, BlockList

SIZES = [3, SMALL, SMALL + 1, 5 * BLOCK + 7]


def numbered(size: int) -> list[bytes]:
    return [b"%d" % index for index in range(size)]


def list_of(size: int) -> ListValue:
    return ListValue(Limits(), numbered(size))


def assert_holds(value: ListValue, elements: list[bytes]) -> None:
    assert list(value) == elements
    assert len(value) == len(elements)
    items = value._items
    if isinstance(items, BlockList):
        assert all(0 < len(block) <= BLOCK for block in items._blocks)
        assert sum(map(len, items._blocks)) == len(items)


def test_list_encoding_is_quicklist_at_any_size() -> None:
    assert {list_of(size).encoding for size in (1, 10_000)} == {b"quicklist"}


def test_push_left_several_reverses_them() -> None:
    value = ListValue(Limits())
    value.push_left(b"a", b"b", b"c")
    value.push_right(b"d", b"e")
    assert_holds(value, [b"c", b"b", b"a", b"d", b"e"])


def test_push_both_ends_past_many_blocks_keeps_order() -> None:
    value = ListValue(Limits())
    for number in numbered(3 * BLOCK):
        value.push_left(number)
        value.push_right(number)
    assert_holds(value, numbered(3 * BLOCK)[::-1] + numbered(3 * BLOCK))


def test_push_of_very_many_arguments_makes_blocks_first() -> None:
    value = ListValue(Limits(), [b"x"])
    value.push_left(*numbered(100_000))
    assert_holds(value, [*numbered(100_000)[::-1], b"x"])


@pytest.mark.parametrize("size", SIZES)
def test_pop_both_ends_to_the_last_element(size: int) -> None:
    value, left = list_of(size), numbered(size)
    while left:
        assert value.pop_left() == left.pop(0)
        if left:
            assert value.pop_right() == left.pop()
    assert_holds(value, [])
    value.push_right(b"again")
    assert_holds(value, [b"again"])


@pytest.mark.parametrize("size", SIZES)
def test_get_and_set_every_index(size: int) -> None:
    value = list_of(size)
    assert [value.get(index) for index in range(size)] == numbered(size)
    for index in range(size):
        value.set(index, b"new%d" % index)
    assert_holds(value, [b"new%d" % index for index in range(size)])


@pytest.mark.parametrize("size", SIZES)
def test_range_and_trim_both_ends_included(size: int) -> None:
    marks = sorted({0, 1, size // 2, size - 2, size - 1})
    for start in marks:
        for stop in marks:
            expected = numbered(size)[start : stop + 1]
            value = list_of(size)
            assert value.range(start, stop) == expected
            value.trim(start, stop)
            assert_holds(value, expected)
    assert list_of(size).range(0, size + 5) == numbered(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("after", [False, True])
def test_insert_at_every_pivot(size: int, after: bool) -> None:
    value, expected = list_of(size), numbered(size)
    for pivot in numbered(size)[:: max(1, size // 40)]:
        assert value.insert(pivot, b"new", after)
        expected.insert(expected.index(pivot) + after, b"new")
    assert_holds(value, expected)
    assert not value.insert(b"absent", b"new", after)


def test_insert_again_and_again_at_one_place_splits_blocks() -> None:
    value, expected = list_of(SMALL), numbered(SMALL)
    for number in range(3 * BLOCK):
        value.insert(b"100", b"i%d" % number, True)
        expected.insert(expected.index(b"100") + 1, b"i%d" % number)
        assert isinstance(value._items, BlockList)
        assert max(map(len, value._items._blocks)) <= BLOCK
    assert_holds(value, expected)


@pytest.mark.parametrize("count", [0, 1, 2, 700, -1, -2, -700])
@pytest.mark.parametrize("size", [9, 4 * BLOCK])
def test_remove_counts_from_the_end_that_the_sign_names(size: int, count: int) -> None:
    elements = [b"%d" % (index % 3) for index in range(size)]
    value = ListValue(Limits(), elements)
    places = [index for index, element in enumerate(elements) if element == b"1"]
    gone = places[:count] if count > 0 else places[count:]
    assert value.remove(count, b"1") == len(gone)
    assert_holds(value, [e for index, e in enumerate(elements) if index not in set(gone)])
    assert value.remove(0, b"absent") == 0


def test_remove_nearly_everything_joins_thin_blocks() -> None:
    elements = [b"keep" if index % 256 == 0 else b"gone" for index in range(40 * BLOCK)]
    value = ListValue(Limits(), elements)
    assert value.remove(0, b"gone") == len(elements) - 80
    assert_holds(value, [b"keep"] * 80)
    assert isinstance(value._items, BlockList)
    assert len(value._items._blocks) == 1


@pytest.mark.parametrize("size", [9, 4 * BLOCK + 1])
@pytest.mark.parametrize("limit", [0, 1, 4, BLOCK, BLOCK + 1, BLOCK + 4])
def test_positions_from_either_end_within_the_limit(size: int, limit: int) -> None:
    elements = [b"%d" % (index % 3) for index in range(size)]
    value = ListValue(Limits(), elements)
    places = [index for index, element in enumerate(elements) if element == b"2"]
    reach = limit or size
    assert list(value.positions(b"2", max_compared=limit)) == [p for p in places if p < reach]
    assert list(value.positions(b"2", reverse=True, max_compared=limit)) == [
        p for p in places[::-1] if p >= size - reach
    ]


@pytest.mark.parametrize("size", SIZES)
def test_copy_changed_leaves_the_original(size: int) -> None:
    value = list_of(size)
    copy = value.copy()
    copy.push_left(b"x")
    copy.set(3, b"y")
    assert_holds(value, numbered(size))
    assert_holds(copy, [b"x", *numbered(2 + 1)[:2], b"y", *numbered(size)[3:]])
