"""Random sequences of operations: each collection against the plain container it stands for.

Every sequence starts from a size on one side or the other of where the form changes inside.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.datatypes.records import from_rdb, rdb_type_and_value
from kvrepl.keyspace.digest import digest_value
from rdb.values import decode_value, encode_value

START = st.sampled_from([0, 3, 120, 500, 520, 1600])
MEMBER = st.one_of(
    st.integers(0, 1700).map(lambda number: b"%d" % number),
    st.integers(-(1 << 64), 1 << 64).map(lambda number: b"%d" % number),
    st.binary(max_size=70),
)
SCORE = st.floats(allow_nan=False) | st.integers(0, 20).map(float)


def small_limits() -> Limits:
    limits = Limits()
    limits.set_max_intset_entries = 510
    limits.hash_max_listpack_entries = 510
    return limits


def starting(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@given(START, st.lists(st.tuples(st.booleans(), MEMBER), max_size=60), st.randoms())
def test_set_random_operations_agree_with_a_set(
    count: int, acts: list[tuple[bool, bytes]], rng: Random
) -> None:
    value, model = SetValue(small_limits(), starting(count)), set(starting(count))
    for add, member in acts:
        if add:
            assert value.add(member) == (member not in model)
            model.add(member)
        else:
            assert value.discard(member) == (member in model)
            model.discard(member)
        assert (member in value, len(value)) == (member in model, len(model))
    assert sorted(value) == sorted(model)
    if model:
        popped = value.pop_many(rng.randrange(len(model)), rng)
        assert set(value) | set(popped) == model and len(value) + len(popped) == len(model)


@given(START, st.lists(st.tuples(st.booleans(), MEMBER, MEMBER), max_size=60))
def test_hash_random_operations_agree_with_a_dict(
    count: int, acts: list[tuple[bool, bytes, bytes]]
) -> None:
    model = dict.fromkeys(starting(count), b"v")
    value = HashValue(small_limits(), model.items())
    for put, field, text in acts:
        if put:
            assert value.set(field, text) == (field not in model)
            model[field] = text
        else:
            assert value.delete(field) == (model.pop(field, None) is not None)
        assert (value.get(field), len(value)) == (model.get(field), len(model))
    assert dict(value.items()) == model
    if value.encoding == b"listpack":
        assert list(value.items()) == list(model.items())


@given(
    START,
    st.lists(st.tuples(st.integers(0, 3), MEMBER, SCORE), max_size=60),
    SCORE,
    SCORE,
    st.booleans(),
    st.booleans(),
)
def test_sorted_set_random_operations_agree_with_a_sorted_list(
    count: int,
    acts: list[tuple[int, bytes, float]],
    low: float,
    high: float,
    low_open: bool,
    high_open: bool,
) -> None:
    model = {member: float(number % 7) for number, member in enumerate(starting(count))}
    value = SortedSet(small_limits(), model.items())
    for act, member, score in acts:
        if act < 2:
            assert value.add(member, score) == (member not in model)
            model[member] = score
        elif act == 2:
            assert value.remove(member) == (model.pop(member, None) is not None)
        else:
            for popped, _ in value.pop_min():
                del model[popped]
        assert value.score(member) == model.get(member)
    ordered = [member for _, member in sorted((score, member) for member, score in model.items())]
    assert [member for member, _ in value] == ordered
    start, stop = value.by_score(low, low_open, high, high_open)
    assert [member for member, _ in value.range(start, stop)] == [
        member
        for member in ordered
        if (model[member] > low or (model[member] == low and not low_open))
        and (model[member] < high or (model[member] == high and not high_open))
    ]
    for rank in range(0, len(ordered), 97):
        assert value.rank(ordered[rank]) == rank


@given(
    START,
    st.lists(
        st.tuples(
            st.sampled_from(["left", "right", "pop_left", "pop_right", "insert", "remove", "trim"]),
            st.integers(0, 1700),
            st.integers(-3, 3),
        ),
        max_size=60,
    ),
)
def test_list_random_operations_agree_with_a_list(
    count: int, acts: list[tuple[str, int, int]]
) -> None:
    model = starting(count)
    value = ListValue(Limits(), model)
    for act, number, sign in acts:
        element = b"%d" % (number % 40)
        match act:
            case "left":
                value.push_left(element, b"%d" % number)
                model[:0] = [b"%d" % number, element]
            case "right":
                value.push_right(element, b"%d" % number)
                model += [element, b"%d" % number]
            case "pop_left" if model:
                assert value.pop_left() == model.pop(0)
            case "pop_right" if model:
                assert value.pop_right() == model.pop()
            case "insert":
                found = element in model
                assert value.insert(element, b"new", sign > 0) == found
                if found:
                    model.insert(model.index(element) + (sign > 0), b"new")
            case "remove":
                places = [at for at, each in enumerate(model) if each == element]
                gone = places[:sign] if sign > 0 else places[sign:]
                assert value.remove(sign, element) == len(gone)
                model = [each for at, each in enumerate(model) if at not in gone]
            case "trim" if model and number < 200:
                start = min(number, len(model) - 1)
                value.trim(start, len(model) - 1)
                model = model[start:]
        assert len(value) == len(model)
    assert list(value) == model
    assert [value.get(at) for at in range(0, len(model), 61)] == model[::61]


@given(
    st.one_of(
        st.binary(max_size=80),
        st.lists(MEMBER).map(lambda elements: ListValue(Limits(), elements)),
        st.lists(MEMBER).map(lambda members: SetValue(Limits(), members)),
        st.lists(st.tuples(MEMBER, MEMBER)).map(lambda pairs: HashValue(Limits(), pairs)),
        st.lists(st.tuples(MEMBER, SCORE)).map(lambda pairs: SortedSet(Limits(), pairs)),
    )
)
def test_record_of_any_value_reads_back_the_same(value: Any) -> None:
    type_code, plain = rdb_type_and_value(value, Limits())
    decoded, _ = decode_value(type_code, encode_value(type_code, plain), 0)
    assert digest_value(from_rdb(type_code, decoded, Limits())) == digest_value(value)
