"""Streams: the counters that old files lack, and groups that contradict themselves."""

from __future__ import annotations

import pytest

import rdb
from rdb.streams import estimate_entries_read

UNKNOWN = -1


def stream_of(first: int, last: int, added: int, *, deleted: int = 0) -> rdb.Stream:
    entries = [((ms, 0), [b"f", b"v"]) for ms in range(first, last + 1)]
    return rdb.Stream(entries, (last, 0), (first, 0), (deleted, 0), added)


@pytest.mark.parametrize(
    ("stream", "at", "read"),
    [
        (rdb.Stream(), 5, 0),
        (stream_of(3, 9, 9), 9, 9),
        (stream_of(3, 9, 9), 10, UNKNOWN),
        (stream_of(3, 9, 9), 1, 2),
        (stream_of(3, 9, 9), 3, 3),
        (stream_of(3, 9, 9), 5, UNKNOWN),
        (stream_of(3, 9, 9, deleted=2), 1, 2),
        (stream_of(3, 9, 9, deleted=3), 1, UNKNOWN),
        (stream_of(3, 9, 9, deleted=6), 3, UNKNOWN),
        (rdb.Stream([], (9, 0), (0, 0), (9, 0), 4), 5, 4),
    ],
)
def test_estimate_of_entries_read_is_known_at_the_edges(
    stream: rdb.Stream, at: int, read: int
) -> None:
    assert estimate_entries_read(stream, (at, 0)) == read


def group_stream() -> rdb.Stream:
    stream = stream_of(1, 9, 9)
    group = rdb.Group(b"g", (9, 0), 9)
    for name, ms in ((b"ann", 0x1111), (b"bob", 0x2222)):
        group.consumers.append(rdb.Consumer(name, 1, 1))
        group.pending.append(rdb.Pending((ms, 0), name, 1, 1))
    stream.groups.append(group)
    return stream


def raw_id(ms: int) -> bytes:
    return ms.to_bytes(8, "big") + bytes(8)


@pytest.mark.parametrize(
    ("at", "becomes", "reason"),
    [
        (0, 0x2222, "pending twice"),  # the group's first entry
        (2, 0x2222, "not pending"),  # ann's: now bob's, who comes second
        (2, 0x3333, "not pending"),
        (3, 0x1111, "not pending"),
    ],
)
def test_group_whose_lists_disagree_is_refused(at: int, becomes: int, reason: str) -> None:
    encoded = rdb.encode_value(19, group_stream())
    assert rdb.decode_value(19, encoded, 0)[0] == group_stream()
    places = [
        place
        for place in range(len(encoded))
        if encoded[place : place + 16] in (raw_id(0x1111), raw_id(0x2222))
    ]
    assert len(places) == 4
    damaged = encoded[: places[at]] + raw_id(becomes) + encoded[places[at] + 16 :]
    with pytest.raises(rdb.RdbError, match=reason):
        rdb.decode_value(19, damaged, 0)


def test_stream_with_entries_out_of_order_is_refused() -> None:
    stream = stream_of(1, 3, 3)
    stream.entries.reverse()
    with pytest.raises(rdb.RdbError, match="order of their ids"):
        rdb.decode_value(19, rdb.encode_value(19, stream), 0)


def test_stream_ids_of_64_bits_survive() -> None:
    top = 2**64 - 1
    stream = rdb.Stream([((0, top), [b"f", b"v"]), ((top, 0), [b"f", b"w"])], (top, top))
    assert rdb.decode_value(19, rdb.encode_value(19, stream), 0)[0] == stream
