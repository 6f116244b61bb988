"""HashValue: its encodings and its random picks."""

from __future__ import annotations

from random import Random

import pytest

from kvrepl.datatypes import HashValue, Limits
from kvrepl.datatypes.segments import SegmentedDict


def entries(count: int) -> dict[bytes, bytes]:
    return {b"f%d" % number: b"v%d" % number for number in range(count)}


def hash_of(count: int, limits: Limits | None = None) -> HashValue:
    return HashValue(limits or Limits(), entries(count).items())


@pytest.mark.parametrize("count", [5, 512, 513, 3000])
def test_set_get_delete_agree_with_a_dict(count: int) -> None:
    value, model = hash_of(count), entries(count)
    assert (dict(value.items()), len(value)) == (model, count)
    assert sorted(value) == sorted(model) and sorted(value.values()) == sorted(model.values())
    for field in list(model)[::2]:
        assert not value.set(field, b"new")
        assert value.get(field) == b"new"
        assert value.delete(field)
        assert not value.delete(field)
        assert field not in value and value.get(field) is None
        del model[field]
    assert dict(value.items()) == model
    assert value.set(b"f0", b"") and value.get(b"f0") == b""
    assert value.delete(b"f0")


def test_listpack_keeps_the_order_of_insertion() -> None:
    value = HashValue(Limits(), [(b"b", b"1"), (b"a", b"2"), (b"c", b"3")])
    value.set(b"b", b"4")
    value.delete(b"a")
    value.set(b"a", b"5")
    assert list(value.items()) == [(b"b", b"4"), (b"c", b"3"), (b"a", b"5")]


def test_listpack_past_the_number_of_fields_becomes_a_hashtable_for_good() -> None:
    value = hash_of(512)
    assert value.encoding == b"listpack"
    value.set(b"f0", b"same number of fields")
    assert value.encoding == b"listpack"
    value.set(b"one more", b"")
    assert value.encoding == b"hashtable"
    for field in list(value)[10:]:
        value.delete(field)
    assert value.encoding == b"hashtable"


@pytest.mark.parametrize(("field", "text"), [(65, 1), (1, 65)])
def test_listpack_given_a_long_string_becomes_a_hashtable(field: int, text: int) -> None:
    value = HashValue(Limits(), [(b"f" * 64, b"v" * 64)])
    assert value.encoding == b"listpack"
    value.set(b"g" * field, b"w" * text)
    assert value.encoding == b"hashtable"


def test_listpack_under_lowered_thresholds_converts_with_the_next_write() -> None:
    limits = Limits()
    value = hash_of(10, limits)
    limits.hash_max_listpack_entries = 5
    value.delete(b"f1")
    assert value.encoding == b"listpack"
    value.set(b"f2", b"x")
    assert value.encoding == b"hashtable"


def test_listpack_of_thousands_by_threshold_converts_whole() -> None:
    limits = Limits()
    limits.hash_max_listpack_entries = 2000
    value = hash_of(2000, limits)
    assert value.encoding == b"listpack"
    assert list(value) == list(entries(2000))
    value.set(b"f0", b"x" * 100)
    assert value.encoding == b"hashtable"
    assert isinstance(value._items, SegmentedDict)
    assert dict(value.items()) == entries(2000) | {b"f0": b"x" * 100}


def test_hashtable_grown_past_one_dict_goes_on_in_segments() -> None:
    value = HashValue(Limits(), [(b"f0", b"x" * 100)])
    assert value.encoding == b"hashtable" and type(value._items) is dict
    for field, text in entries(1000).items():
        value.set(field, text)
    assert isinstance(value._items, SegmentedDict)
    assert dict(value.items()) == entries(1000)


@pytest.mark.parametrize("count", [1, 20, 2000])
def test_random_gives_fields_with_their_values(count: int) -> None:
    value, rng = hash_of(count), Random(1)
    for _ in range(50):
        field, text = value.random(rng)
        assert entries(count)[field] == text
    for wanted in (0, 1, 15, 5000):
        picked = value.random_many(wanted, rng)
        assert len(dict(picked)) == len(picked) == min(wanted, count)
        assert set(picked) <= set(entries(count).items())


def test_scan_returns_every_field_with_its_value() -> None:
    assert hash_of(100).scan(0, 5) == (0, list(entries(100).items()))
    value = hash_of(2000)
    cursor, found = value.scan(0, 5)
    assert cursor
    while cursor:
        cursor, more = value.scan(cursor, 5)
        found += more
    assert sorted(found) == sorted(entries(2000).items())


@pytest.mark.parametrize("count", [10, 2000])
def test_copy_changed_leaves_the_original(count: int) -> None:
    value = hash_of(count)
    copy = value.copy()
    assert copy.encoding == value.encoding
    copy.set(b"f0", b"changed")
    copy.delete(b"f1")
    assert dict(value.items()) == entries(count)
