"""SortedSet: order, ranges, encodings."""

from __future__ import annotations

import math
from random import Random

import pytest

from kvrepl.datatypes import Limits, SortedSet
from kvrepl.datatypes.score_order import RUN, RunOrder

INF = math.inf


def zset_of(pairs: list[tuple[bytes, float]], limits: Limits | None = None) -> SortedSet:
    return SortedSet(limits or Limits(), pairs)


def shuffled(count: int, seed: int = 0) -> list[tuple[bytes, float]]:
    """Members with scores of which about three are equal each."""
    pairs = [(b"m%d" % number, float(number // 3)) for number in range(count)]
    Random(seed).shuffle(pairs)
    return pairs


def in_order(pairs: list[tuple[bytes, float]]) -> list[tuple[bytes, float]]:
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]))


def assert_holds(value: SortedSet, expected: list[tuple[bytes, float]]) -> None:
    assert list(value) == expected
    assert len(value) == len(expected)
    order = value._order
    if isinstance(order, RunOrder):
        assert all(0 < len(run) <= RUN for run in order._runs)
        assert order._lasts == [(run.scores[-1], run.members[-1]) for run in order._runs]
        assert value._scores is not None and dict(value._scores.items()) == dict(expected)
        assert [value.rank(member) for member, _ in expected[:: max(1, len(expected) // 50)]] == (
            list(range(0, len(expected), max(1, len(expected) // 50)))
        )


SIZES = [5, 128, 129, 4 * RUN]


@pytest.mark.parametrize("size", SIZES)
def test_iteration_is_by_score_then_member(size: int) -> None:
    assert_holds(zset_of(shuffled(size)), in_order(shuffled(size)))


@pytest.mark.parametrize("size", SIZES)
def test_add_existing_member_moves_it(size: int) -> None:
    value, model = zset_of(shuffled(size)), dict(shuffled(size))
    for number, (member, _) in enumerate(shuffled(size, 1)):
        score = float(number % 17)
        assert value.put(member, score) == model[member]
        model[member] = score
        assert value.score(member) == score
    assert_holds(value, in_order(list(model.items())))


@pytest.mark.parametrize("size", SIZES)
def test_remove_every_member_in_any_order(size: int) -> None:
    value, model = zset_of(shuffled(size)), dict(shuffled(size))
    for number, (member, score) in enumerate(shuffled(size, 2)):
        assert value.score(member) == score
        assert value.remove(member)
        assert not value.remove(member)
        assert member not in value and value.rank(member) is None
        del model[member]
        if number % (size // 4) == 0:
            assert_holds(value, in_order(list(model.items())))
    assert_holds(value, [])
    assert value.add(b"again", 1.0)
    assert_holds(value, [(b"again", 1.0)])


@pytest.mark.parametrize("size", SIZES)
def test_rank_from_both_ends(size: int) -> None:
    value = zset_of(shuffled(size))
    for rank, (member, _) in enumerate(in_order(shuffled(size))):
        assert value.rank(member) == rank
        assert value.rank(member, reverse=True) == size - 1 - rank


def test_rank_asked_between_all_kinds_of_writes_stays_right() -> None:
    """The tree of lengths is kept up by each of them, or else made anew."""
    value, left = zset_of(shuffled(6 * RUN)), in_order(shuffled(6 * RUN))
    rng = Random(4)
    for step in range(600):
        last = left[-1]
        assert value.rank(last[0]) == len(left) - 1
        match step % 5:
            case 0:
                pair = (b"new%d" % step, rng.random() * RUN)
                value.add(*pair)
                left = in_order([*left, pair])
            case 1:
                count = rng.randrange(1, 5)
                assert value.pop_min(count) == left[:count]
                del left[:count]
            case 2:
                assert value.remove(left.pop(rng.randrange(40))[0])
            case 3:
                end = rng.choice((0, -1))
                assert value.pop(end) == left.pop(end)
            case _:
                start = rng.randrange(len(left) - 10)
                assert value.remove_range(start, start + 3) == left[start : start + 3]
                del left[start : start + 3]
        probe = left[rng.randrange(len(left))]
        assert value.rank(probe[0]) == left.index(probe)
    assert_holds(value, left)


def test_removal_from_one_run_joins_it_only_where_there_is_room() -> None:
    left = [(b"%06d" % number, float(number)) for number in range(4 * RUN)]
    value = SortedSet.of_scores(Limits(), dict(left), packed=False)
    order = value._order
    assert isinstance(order, RunOrder)
    first = len(order._runs[0])
    for number in range(first, 2 * first - 1):  # Until the second run is full.
        if len(order._runs[1]) < RUN:
            value.add(b"%06d+" % number, float(number))
    assert len(order._runs[1]) == RUN
    left = list(value)
    while len(left) > 10:
        assert value.remove(left.pop(0)[0])
        assert all(0 < len(run) <= RUN for run in order._runs)
    assert_holds(value, left)
    assert len(order._runs) == 1


def test_removal_of_most_members_everywhere_joins_thin_runs() -> None:
    pairs = [(b"%06d" % number, float(number)) for number in range(20 * RUN)]
    value = SortedSet.of_scores(Limits(), dict(pairs), packed=False)
    for number, (member, _) in enumerate(pairs):
        if number % 16:
            value.remove(member)
    assert_holds(value, pairs[::16])
    order = value._order
    assert isinstance(order, RunOrder)
    assert len(order._runs) <= 10


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("low_open", [False, True])
@pytest.mark.parametrize("high_open", [False, True])
def test_by_score_ends_open_or_not(size: int, low_open: bool, high_open: bool) -> None:
    value, expected = zset_of(shuffled(size)), in_order(shuffled(size))
    ends = [-INF, -1.0, 0.0, 0.5, 1.0, size // 6, size // 3, size, INF]
    for low in ends:
        for high in ends:
            inside = [
                pair
                for pair in expected
                if (low < pair[1] or (low == pair[1] and not low_open))
                and (pair[1] < high or (pair[1] == high and not high_open))
            ]
            start, stop = value.by_score(low, low_open, high, high_open)
            assert stop - start == len(inside)
            assert value.range(start, stop) == inside


def test_by_score_infinite_scores_are_reached() -> None:
    value = zset_of([(b"a", -INF), (b"b", 0.0), (b"c", INF)])
    assert value.by_score(-INF, False, INF, False) == (0, 3)
    assert value.by_score(-INF, True, INF, True) == (1, 2)


@pytest.mark.parametrize("size", [5, 129, 4 * RUN])
def test_by_lex_among_equal_scores(size: int) -> None:
    members = sorted(b"m%d" % number for number in range(size))
    value = zset_of([(member, 0.0) for member in members])
    for low in (None, b"", members[1], members[size // 2], b"z"):
        for high in (None, b"", members[1], members[size // 2], b"z"):
            for low_open in (False, True):
                for high_open in (False, True):
                    inside = [
                        each
                        for each in members
                        if (low is None or low < each or (low == each and not low_open))
                        and (high is None or each < high or (each == high and not high_open))
                    ]
                    start, stop = value.by_lex(low, low_open, high, high_open)
                    assert [member for member, _ in value.range(start, stop)] == inside


@pytest.mark.parametrize("size", SIZES)
def test_remove_range_anywhere_returns_what_was_there(size: int) -> None:
    expected = in_order(shuffled(size))
    cuts = [0, 1, 3, size // 2, size - 1, size]
    for start in cuts:
        for stop in cuts:
            if start > stop:
                continue
            value = zset_of(shuffled(size))
            assert value.remove_range(start, stop) == expected[start:stop]
            assert_holds(value, expected[:start] + expected[stop:])


@pytest.mark.parametrize("size", SIZES)
def test_pop_min_and_max_until_empty(size: int) -> None:
    value, left = zset_of(shuffled(size)), in_order(shuffled(size))
    while left:
        count = 1 + len(left) % 7
        assert value.pop_min(count) == left[:count]
        del left[:count]
        assert value.pop_max(2) == left[:-3:-1]
        del left[-2:]
    assert_holds(value, [])
    assert value.pop_min() == value.pop_max() == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ranked", [False, True])
def test_pop_one_of_either_end_until_empty(size: int, ranked: bool) -> None:
    value, left, rng = zset_of(shuffled(size)), in_order(shuffled(size)), Random(5)
    while left:
        end = -(rng.random() < 0.6)
        if ranked:
            assert value.rank(left[-1][0]) == len(left) - 1
        assert value.pop(end) == left.pop(end)
        if len(left) % 500 == 0:
            assert_holds(value, left)


def test_put_new_member_had_no_score() -> None:
    value = zset_of([])
    for number in range(200):
        assert value.put(b"m%d" % number, 1.0) is None
    assert value.encoding == b"skiplist"


def test_listpack_past_the_number_of_members_becomes_a_skiplist_for_good() -> None:
    value = zset_of(shuffled(128))
    value.add(b"m5", 1e9)
    assert value.encoding == b"listpack"
    value.add(b"one more", 0.0)
    assert value.encoding == b"skiplist"
    value.pop_min(120)
    assert (value.encoding, len(value)) == (b"skiplist", 9)


def test_listpack_given_a_long_member_becomes_a_skiplist() -> None:
    value = zset_of([(b"m" * 64, 1.0)])
    assert value.encoding == b"listpack"
    value.add(b"m" * 65, 0.0)
    assert value.encoding == b"skiplist"
    assert_holds(value, [(b"m" * 65, 0.0), (b"m" * 64, 1.0)])


def test_listpack_under_a_lowered_threshold_converts_with_the_next_new_member() -> None:
    limits = Limits()
    value = zset_of(shuffled(10), limits)
    limits.zset_max_listpack_entries = 5
    value.add(b"m1", 99.0)
    value.remove(b"m2")
    assert value.encoding == b"listpack"
    value.add(b"new", 1.0)
    assert value.encoding == b"skiplist"


def test_negative_zero_is_lost_in_a_listpack_and_kept_in_a_skiplist() -> None:
    limits = Limits()
    packed = zset_of([(b"a", -0.0)], limits)
    assert math.copysign(1, packed.score(b"a") or 0.0) == 1
    packed.add(b"b", 1.0)
    packed.add(b"b", -0.0)
    assert [math.copysign(1, score) for _, score in packed] == [1, 1]

    limits.zset_max_listpack_entries = 0
    unpacked = zset_of([(b"a", -0.0)], limits)
    score = unpacked.score(b"a")
    assert score is not None and math.copysign(1, score) == -1
    unpacked.add(b"a", 0.0)
    assert [math.copysign(1, score) for _, score in unpacked] == [-1]


@pytest.mark.parametrize("size", SIZES)
def test_random_gives_members_with_their_scores(size: int) -> None:
    value, model, rng = zset_of(shuffled(size)), set(shuffled(size)), Random(1)
    assert {value.random(rng) for _ in range(50)} <= model
    for wanted in (0, 1, size - 1, size + 5):
        picked = value.random_many(wanted, rng)
        assert len(set(picked)) == len(picked) == min(wanted, size)
        assert set(picked) <= model


@pytest.mark.parametrize("size", SIZES)
def test_scan_returns_every_member_with_its_score(size: int) -> None:
    value = zset_of(shuffled(size))
    cursor, found = value.scan(0, 5)
    assert bool(cursor) == (size > 1000)
    while cursor:
        cursor, more = value.scan(cursor, 5)
        found += more
    assert sorted(found) == sorted(shuffled(size))


@pytest.mark.parametrize("size", SIZES)
def test_copy_changed_leaves_the_original(size: int) -> None:
    value = zset_of(shuffled(size))
    copy = value.copy()
    assert copy.encoding == value.encoding
    copy.add(b"m0", 1e6)
    copy.remove(b"m1")
    assert_holds(value, in_order(shuffled(size)))


@pytest.mark.parametrize("size", SIZES)
def test_of_scores_makes_what_adding_makes(size: int) -> None:
    for pairs in (shuffled(size), in_order(shuffled(size)), in_order(shuffled(size))[::-1]):
        loaded = SortedSet.of_scores(Limits(), dict(pairs), packed=size <= 128)
        assert loaded.encoding == zset_of(pairs).encoding
        assert_holds(loaded, in_order(pairs))
        loaded.add(b"m1", 1e6)
        assert loaded.rank(b"m1") == size - 1
