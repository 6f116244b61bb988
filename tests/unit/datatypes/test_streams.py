"""A stream against a plain list of entries, and where its nodes end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvrepl.datatypes.records import file_stream, from_rdb
from kvrepl.datatypes.stream_nodes import MAX_ID, MIN_ID, StreamId, next_id, previous_id
from kvrepl.datatypes.streams import UNKNOWN, Consumer, Group, Pending, StreamValue
from rdb import constants as c
from rdb.values import decode_value, encode_value

IDS = st.tuples(st.integers(0, 30), st.integers(0, 2))
SMALL_NODES = (0, 4)


def filled(count: int, node_entries: int = 4) -> StreamValue:
    value = StreamValue()
    for ms in range(1, count + 1):
        value.append((ms, 0), [b"f", b"%d" % ms], 0, node_entries)
    return value


def check(value: StreamValue, model: dict[StreamId, list[bytes]]) -> None:
    entries = sorted(model.items())
    assert list(value.entries()) == entries
    assert value.length == len(model)
    assert value.first_id == (entries[0][0] if entries else MIN_ID)
    assert value.top_id() == (entries[-1][0] if entries else MIN_ID)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 3), st.sampled_from([b"f", b"g"])),
            st.tuples(st.just("add"), st.integers(1, 3), st.just(b"f")),
            st.tuples(st.just("delete"), IDS, st.none()),
            st.tuples(st.just("length"), st.integers(0, 12), st.none()),
            st.tuples(st.just("minimum"), IDS, st.none()),
            st.tuples(st.just("range"), IDS, IDS),
        ),
        max_size=60,
    )
)
def test_stream_after_any_changes_has_what_a_sorted_table_has(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    value = StreamValue()
    model: dict[StreamId, list[bytes]] = {}
    for what, argument, other in steps:
        if what == "add":
            entry_id = (value.last_id[0] + argument, argument)
            fields = [other, b"%d" % argument]
            value.append(entry_id, fields, *SMALL_NODES)
            model[entry_id] = fields
        elif what == "delete":
            assert value.delete(argument) == (model.pop(argument, None) is not None)
        elif what == "range":
            for count in (0, 1, 5):
                wanted = [e for e in sorted(model.items()) if argument <= e[0] <= other]
                assert value.range(argument, other, count) == wanted[: count or None]
                wanted.reverse()
                assert value.reverse_range(argument, other, count) == wanted[: count or None]
        else:
            before = len(model)
            if what == "length":
                kept = sorted(model)[max(len(model) - argument, 0) :]
                deleted = value.trim(max_length=argument)
            else:
                kept = [entry_id for entry_id in sorted(model) if entry_id >= argument]
                deleted = value.trim(min_id=argument)
            model = {entry_id: model[entry_id] for entry_id in kept}
            assert deleted == before - len(model)
        check(value, model)


def test_trim_by_whole_nodes_stops_at_the_node_that_must_stay() -> None:
    value = filled(10)
    assert value.trim(max_length=3, whole_nodes=True) == 4
    assert value.trim(min_id=(8, 0), whole_nodes=True) == 0
    assert value.trim(min_id=(9, 0), whole_nodes=True) == 4
    assert [entry_id for entry_id, _ in value.entries()] == [(9, 0), (10, 0)]


def test_trim_with_a_limit_stops_before_the_node_beyond_it() -> None:
    value = filled(20)
    assert value.trim(max_length=0, whole_nodes=True, limit=9) == 8
    assert value.trim(max_length=0, whole_nodes=True, limit=3) == 0


def test_deleted_entries_go_on_to_fill_their_node() -> None:
    value = filled(3)
    value.delete((2, 0))
    value.append((4, 0), [b"f", b"v"], 0, 4)
    value.append((5, 0), [b"f", b"v"], 0, 4)
    assert value.count_nodes() == 2


def test_node_size_is_that_of_its_packed_bytes() -> None:
    value = StreamValue()
    for ms in (1, 2, 200, 70_000, 1 << 40):
        value.append((ms, ms - 1), [b"f", b"%d" % ms, b"g", b"x" * 70], 0, 0)
    value.append((1 << 40, MAX_ID[1]), [b"other", b""], 0, 0)
    [(_, packed)] = list(value)
    assert value._tail.size_bytes == len(packed)
    twin = value.copy()
    twin._tail.pack()
    assert list(twin.entries()) == list(value.entries())


def test_copy_changed_leaves_the_original() -> None:
    value = filled(10)
    group = value.groups[b"g"] = Group(MIN_ID)
    group.consumers[b"a"] = Consumer(b"a", 5)
    group.deliver((1, 0), Pending(group.consumers[b"a"], 5, 1))
    twin = value.copy()
    twin.delete((2, 0))
    twin.groups[b"g"].settle((1, 0))
    assert value.length == 10
    assert list(group.pending_ids()) == [(1, 0)] == list(group.consumers[b"a"].pending)


def test_empty_stream_is_kept_by_its_record() -> None:
    value = filled(2)
    value.trim()
    encoded = encode_value(c.TYPE_STREAM_LISTPACKS_2, file_stream(value))
    plain, _ = decode_value(c.TYPE_STREAM_LISTPACKS_2, encoded, 0)
    from_file = from_rdb(c.TYPE_STREAM_LISTPACKS_2, plain, None)  # type: ignore[arg-type]
    assert isinstance(from_file, StreamValue)
    assert len(from_file) == 1
    assert (from_file.length, from_file.last_id, from_file.entries_added) == (0, (2, 0), 2)


def test_radix_nodes_are_counted_as_redis_does() -> None:
    assert StreamValue().radix_nodes() == 1
    assert filled(4).radix_nodes() == 2  # one run of bytes, one leaf
    assert filled(8).radix_nodes() == 6  # keys 1 and 5 part at the eighth byte


def test_lag_is_unknown_behind_a_deletion() -> None:
    value = filled(5)
    group = Group((2, 0), 2)
    assert value.lag(group) == 3
    value.delete((4, 0))
    assert value.lag(group) is None
    assert value.entries_up_to((3, 0)) == UNKNOWN


def test_ids_next_and_previous_end_at_the_edges() -> None:
    assert next_id(MAX_ID) is None
    assert previous_id(MIN_ID) is None
    assert next_id((1, MAX_ID[1])) == (2, 0)
    assert previous_id((2, 0)) == (1, MAX_ID[1])
