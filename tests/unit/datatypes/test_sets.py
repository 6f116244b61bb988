"""SetValue: its encodings, its random picks, and the algebra of sets."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from kvrepl.datatypes import Limits, SetValue
from kvrepl.datatypes.sets import difference, intersection, union

EXTREMES = [b"-9223372036854775808", b"-32769", b"-1", b"0", b"32768", b"9223372036854775807"]


def set_of(*members: bytes) -> SetValue:
    return SetValue(Limits(), members)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def words(count: int) -> list[bytes]:
    return [b"m%d" % number for number in range(count)]


def test_set_of_integers_is_an_intset_in_ascending_order() -> None:
    value = set_of(*reversed(EXTREMES))
    assert value.encoding == b"intset"
    assert list(value) == EXTREMES
    integers = value.integers()
    assert integers is not None and integers.itemsize == 8


@pytest.mark.parametrize(
    ("members", "width"), [((b"32767", b"-32768"), 2), ((b"1", b"32768"), 4), ((b"2147483648",), 8)]
)
def test_intset_is_as_wide_as_its_widest_member_needs(
    members: tuple[bytes, ...], width: int
) -> None:
    for value in (set_of(*members), SetValue.of_members(Limits(), members)):
        integers = value.integers()
        assert integers is not None and integers.itemsize == width


@pytest.mark.parametrize("member", [b"a", b"", b"01", b"+1", b"-0", b" 1", b"9223372036854775808"])
def test_intset_given_another_member_becomes_a_hashtable(member: bytes) -> None:
    value = set_of(*numbers(5))
    assert member not in value
    assert not value.discard(member)
    assert value.add(member)
    assert value.encoding == b"hashtable"
    assert sorted(value) == sorted([*numbers(5), member])
    value.discard(member)
    assert value.encoding == b"hashtable"


def test_intset_past_the_threshold_becomes_a_hashtable() -> None:
    limits = Limits()
    value = SetValue(limits, numbers(512))
    assert (value.encoding, value.add(b"5")) == (b"intset", False)
    value.add(b"512")
    assert (value.encoding, len(value)) == (b"hashtable", 513)

    limits.set_max_intset_entries = 0
    assert SetValue(limits, [b"1"]).encoding == b"hashtable"


def test_intset_over_a_lowered_threshold_stays_until_a_member_is_added() -> None:
    limits = Limits()
    value = SetValue(limits, numbers(10))
    limits.set_max_intset_entries = 5
    value.discard(b"3")
    assert (value.add(b"4"), value.encoding) == (False, b"intset")
    assert (value.add(b"11"), value.encoding) == (True, b"hashtable")


@pytest.mark.parametrize("members", [numbers(40), words(40), words(3000)])
def test_add_contains_discard_agree_with_a_set(members: list[bytes]) -> None:
    value = set_of(*members)
    assert len(value) == len(members)
    assert set(value) == set(members)
    for member in members[::2]:
        assert not value.add(member)
        assert member in value
        assert value.discard(member)
        assert not value.discard(member)
        assert member not in value
    assert set(value) == set(members[1::2])


@pytest.mark.parametrize("members", [numbers(20), words(20), words(2000)])
def test_pop_empties_the_set_without_repeating(members: list[bytes]) -> None:
    value, rng = set_of(*members), Random(2)
    assert sorted(value.pop(rng) for _ in members) == sorted(members)
    assert len(value) == 0


@pytest.mark.parametrize("members", [numbers(20), words(20)])
def test_random_many_picks_are_even(members: list[bytes]) -> None:
    value, rng = set_of(*members), Random(5)
    picks = Counter(value.random(rng) for _ in range(4000))
    assert set(picks) == set(members)
    assert min(picks.values()) > 115 and max(picks.values()) < 285


@pytest.mark.parametrize("members", [numbers(20), words(20), words(2000)])
@pytest.mark.parametrize("count", [1, 5, 17, 19])
def test_pop_many_takes_different_members_and_leaves_the_rest(
    members: list[bytes], count: int
) -> None:
    value = set_of(*members)
    taken = value.pop_many(count, Random(count))
    assert len(taken) == len(set(taken)) == count
    assert set(value) == set(members) - set(taken)


def test_pop_many_most_of_a_hashtable_of_integers_leaves_an_intset() -> None:
    value = set_of(*numbers(600))
    value.pop_many(100, Random(1))
    assert value.encoding == b"hashtable"
    value.pop_many(480, Random(1))
    assert (value.encoding, len(value)) == (b"intset", 20)


@pytest.mark.parametrize("members", [numbers(20), words(20), words(2000)])
@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_random_many_gives_different_members(members: list[bytes], count: int) -> None:
    picked = set_of(*members).random_many(count, Random(count))
    assert len(picked) == len(set(picked)) == min(count, len(members))
    assert set(picked) <= set(members)


@pytest.mark.parametrize("members", [numbers(300), words(300)])
def test_scan_small_set_returns_all_at_once(members: list[bytes]) -> None:
    cursor, found = set_of(*members).scan(0, 10)
    assert (cursor, sorted(found)) == (0, sorted(members))


def test_scan_large_set_goes_by_parts() -> None:
    value = set_of(*words(3000))
    cursor, found = value.scan(0, 10)
    assert cursor and len(found) < 500
    while cursor:
        cursor, more = value.scan(cursor, 10)
        found += more
    assert sorted(found) == sorted(words(3000))


@pytest.mark.parametrize("members", [numbers(20), words(20), words(2000)])
def test_copy_changed_leaves_the_original(members: list[bytes]) -> None:
    value = set_of(*members)
    copy = value.copy()
    assert copy.encoding == value.encoding
    copy.discard(members[0])
    copy.add(b"new")
    assert set(value) == set(members)


@pytest.mark.parametrize("members", [numbers(512), numbers(513), words(3), words(2000), []])
def test_of_members_makes_what_adding_makes(members: list[bytes]) -> None:
    loaded, added = SetValue.of_members(Limits(), members), set_of(*members)
    assert loaded.encoding == added.encoding
    assert sorted(loaded) == sorted(added)
    assert loaded.add(b"one more") and len(loaded) == len(members) + 1


def test_algebra_of_sets_of_both_encodings() -> None:
    first, second = set_of(*numbers(10), b"x"), set_of(*numbers(20)[5:])
    third = set_of(b"7", b"x", b"5")
    assert union([first, second, third]) == {*numbers(20), b"x"}
    assert set(intersection([first, second, third])) == {b"5", b"7"}
    assert len(intersection([first, second], limit=3)) == 3
    assert set(difference(first, [second])) == {*numbers(5), b"x"}
    assert set(difference(first, [third, set_of()])) == {*numbers(10)} - {b"5", b"7"}
    assert intersection([first, set_of()]) == []
    assert set(difference(first, [])) == set(first)


def test_difference_by_either_way_is_the_same() -> None:
    large, small = set_of(*words(2000)), set_of(*words(5))
    assert set(difference(large, [small] * 9)) == set(words(2000)[5:])
    assert difference(small, [large] * 9) == []
