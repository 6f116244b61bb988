"""Streams: the one value of an RDB with a structure of its own.

    n listpacks        n * (string: 16-byte big-endian first id, string: listpack)
    length             number of entries
    last id            ms, seq (two lengths, like every id below that is not "raw")
    [first id, max deleted id, entries added]             types 19 and up
    n groups           n * group
    [producers]                                           types 26 and 27

    group              name (string), last delivered id, [entries read: types 19 and up]
      n pending        n * (raw id, i64 delivery ms, delivery count)
      n consumers      n * (name, i64 seen ms, [i64 active ms: 21 and up], n pending, n * raw id)
      [n released      n * raw id]                        type 27

    producers          window in s, window in messages
      n producers      n * (name, n messages, n * (message id (string), entry id))
                       messages ever remembered, messages refused as known

A raw id is 16 bytes, big-endian. A pending entry stands once in the group with its delivery
data and once, id only, under the consumer that owns it, or among the released ones (XNACK),
which belong to no consumer until they are delivered again. The producers are those that XADD
was told of, with the ids of their own that their last messages had, so that a message that is
sent again is not added again.

    stream listpack    master entry, entry*
    master entry       count, deleted, n fields, field*, 0
    entry              flags, ms delta, seq delta, then if SAME_FIELDS: value*,
                       else n fields, (field, value)*; then the number of its elements
    flags              1 = deleted, 2 = the fields are those of the master entry

Deltas are against the node's first id. Deleted entries are skipped on reading and not written.

Invariants checked: every entry is framed by its element count, ids ascend, and every id a
consumer owns, or that was released, is pending in its group, once. Counters (`length`, those of a
master entry) are not held against the entries: Redis does not either, and old releases left them
wrong.

Source: rdbSaveObject, rdbLoadObject, rdbSaveStreamPEL, rdbSaveStreamConsumers in rdb.c;
streamAppendItem in t_stream.c. Types 26 and 27: files of Redis 8.6 and 8.10 (tests/data/rdb).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rdb.blobs import listpack
from rdb.constants import (
    TYPE_STREAM_LISTPACKS,
    TYPE_STREAM_LISTPACKS_2,
    TYPE_STREAM_LISTPACKS_3,
    TYPE_STREAM_LISTPACKS_4,
    TYPE_STREAM_LISTPACKS_5,
)
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length, encode_length
from rdb.strings import decode_string, encode_string

StreamId = tuple[int, int]
"""(milliseconds, sequence); compares as Redis compares ids."""

RAW_ID_BYTES = 16
FLAG_DELETED = 1
FLAG_SAME_FIELDS = 2
UNKNOWN_ENTRIES_READ = -1
"""A group whose distance from the first entry cannot be told (SCG_INVALID_ENTRIES_READ)."""
NODE_MAX_BYTES = 4096
NODE_MAX_ENTRIES = 100
MAX_LISTPACK_BYTES = 1 << 30
"""STREAM_LISTPACK_MAX_SIZE: no node grows past this, whatever stream-node-max-bytes says."""
_TYPES_WITH_PRODUCERS = (TYPE_STREAM_LISTPACKS_4, TYPE_STREAM_LISTPACKS_5)
_TYPES_WITH_ACTIVITY = (TYPE_STREAM_LISTPACKS_3, *_TYPES_WITH_PRODUCERS)
_U64 = (1 << 64) - 1
MAX_ID = (_U64, _U64)
"""What Redis 7.0 takes for the first id of an empty stream in a file that does not store one."""


@dataclass(slots=True)
class Pending:
    """An entry that was delivered and not acknowledged.

    Attributes:
        id: the entry.
        consumer: its owner's name; None where no consumer claims it.
        delivered_at_ms: wall clock of the last delivery.
        deliveries: how often it was delivered.
    """

    id: StreamId
    consumer: bytes | None
    delivered_at_ms: int
    deliveries: int


@dataclass(slots=True)
class Consumer:
    """A consumer of a group; `active_ms` is -1 where it never read anything.

    Before type 21 (Redis 7.2) only the time it was seen is stored; `active_ms` is then the same.
    """

    name: bytes
    seen_ms: int
    active_ms: int


@dataclass(slots=True)
class Group:
    """A consumer group. `pending` ascends by id; `released` are those without an owner."""

    name: bytes
    last_id: StreamId
    entries_read: int = UNKNOWN_ENTRIES_READ
    pending: list[Pending] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    released: list[StreamId] = field(default_factory=list)


@dataclass(slots=True)
class Producer:
    """A producer, and what its last messages were: (its own id, the entry), oldest first."""

    name: bytes
    messages: list[tuple[bytes, StreamId]] = field(default_factory=list)


@dataclass(slots=True)
class Producers:
    """What a stream remembers in order to add no message twice (Redis 8.6).

    Attributes:
        window_s, window_messages: how long, and how many of each producer, are remembered.
        producers: those that have any.
        remembered: how many messages ever were.
        refused: how many were not added, because they were known.
    """

    window_s: int
    window_messages: int
    producers: list[Producer] = field(default_factory=list)
    remembered: int = 0
    refused: int = 0


@dataclass(slots=True)
class Stream:
    """A whole stream.

    Attributes:
        entries: (id, [field, value, field, value ...]), ascending by id.
        last_id: the highest id ever given out.
        first_id: of the first entry that is still there, (0, 0) if none.
        max_deleted_id: the highest id that was ever deleted.
        entries_added: how many were ever added.
        groups: its consumer groups.
        producers: None before type 26.
    """

    entries: list[tuple[StreamId, list[bytes]]] = field(default_factory=list)
    last_id: StreamId = (0, 0)
    first_id: StreamId = (0, 0)
    max_deleted_id: StreamId = (0, 0)
    entries_added: int = 0
    groups: list[Group] = field(default_factory=list)
    producers: Producers | None = None

    @property
    def length(self) -> int:
        """Number of entries."""
        return len(self.entries)


def estimate_entries_read(stream: Stream, last_id: StreamId) -> int:
    """Tell how many entries a group that stands at `last_id` has read.

    It is known at the edges only: where the stream has no entries, at its last entry, and, if
    nothing was deleted from the first entry on, up to its first.

    Returns:
        The count, or UNKNOWN_ENTRIES_READ. Cost: O(1).

    Source: streamEstimateDistanceFromFirstEverEntry in t_stream.c.
    """
    added = stream.entries_added
    if not added:
        return 0
    if last_id == stream.last_id or (not stream.entries and last_id < stream.last_id):
        return added
    if last_id > stream.last_id:
        return UNKNOWN_ENTRIES_READ
    deleted = stream.max_deleted_id
    if deleted == (0, 0) or deleted < stream.first_id:
        if last_id < stream.first_id:
            return added - stream.length
        if last_id == stream.first_id:
            return added - stream.length + 1
    return UNKNOWN_ENTRIES_READ


# --- reading


def decode_stream(type_code: int, data: bytes, pos: int) -> tuple[Stream, int]:
    """Read a stream value.

    Args:
        type_code: 15, 19, 21, 26 or 27.
        data: the buffer; pos: where the value starts in it.

    Returns:
        (stream, position after it). What type 15 does not store (first id, entries added,
        entries read) is filled in as Redis 7.0 does when it loads one. Cost: O(bytes).

    Raises:
        Incomplete, RdbError.
    """
    stream = Stream()
    nodes, pos = decode_length(data, pos)
    for _ in range(nodes):
        start = pos
        first_id, pos = decode_string(data, pos)
        blob, pos = decode_string(data, pos)
        if len(first_id) != RAW_ID_BYTES:
            raise RdbError("stream node key is not an id", offset=start)
        try:
            _decode_node(_unpack_id(first_id), listpack.decode(blob), stream.entries)
        except RdbError as error:
            raise RdbError(f"stream node: {error.message}", offset=start) from None
    # Trimming left the stored length too high in releases before 5.0.0, whose files are read
    # here (corpus: hdt3213__stream_listpacks_1); what is there is what counts.
    length, pos = decode_length(data, pos)
    stream.last_id, pos = _decode_id(data, pos)
    stored_counters = type_code != TYPE_STREAM_LISTPACKS
    if stored_counters:
        stream.first_id, pos = _decode_id(data, pos)
        stream.max_deleted_id, pos = _decode_id(data, pos)
        stream.entries_added, pos = decode_length(data, pos)
    else:
        stream.first_id = stream.entries[0][0] if stream.entries else MAX_ID
        stream.entries_added = length
    groups, pos = decode_length(data, pos)
    for _ in range(groups):
        group, pos = _decode_group(type_code, data, pos)
        if not stored_counters:
            group.entries_read = estimate_entries_read(stream, group.last_id)
        stream.groups.append(group)
    if type_code in _TYPES_WITH_PRODUCERS:
        stream.producers, pos = _decode_producers(data, pos)
    return stream, pos


def _decode_producers(data: bytes, pos: int) -> tuple[Producers, int]:
    window_s, pos = decode_length(data, pos)
    window_messages, pos = decode_length(data, pos)
    found = Producers(window_s, window_messages)
    count, pos = decode_length(data, pos)
    for _ in range(count):
        name, pos = decode_string(data, pos)
        producer = Producer(name)
        messages, pos = decode_length(data, pos)
        for _ in range(messages):
            message_id, pos = decode_string(data, pos)
            entry_id, pos = _decode_id(data, pos)
            producer.messages.append((message_id, entry_id))
        found.producers.append(producer)
    found.remembered, pos = decode_length(data, pos)
    found.refused, pos = decode_length(data, pos)
    return found, pos


def _decode_node(
    master: StreamId, elements: list[bytes], entries: list[tuple[StreamId, list[bytes]]]
) -> None:
    """Append the living entries of one node to `entries`."""
    try:
        _walk_node(master, elements, entries)
    except (IndexError, ValueError):
        # IndexError: it ends early. ValueError: text where a number must be.
        raise RdbError("malformed entry") from None


def _walk_node(
    master: StreamId, elements: list[bytes], entries: list[tuple[StreamId, list[bytes]]]
) -> None:
    living, gone, width = map(int, elements[:3])
    at = 3 + width
    if width < 0 or elements[at] != b"0":
        raise RdbError("malformed master entry")
    master_fields = elements[3:at]
    at += 1
    size = len(elements)
    ms, seq = master
    previous = entries[-1][0] if entries else None
    while at < size:
        start = at
        flags = int(elements[at])
        entry_id = (ms + int(elements[at + 1]) & _U64, seq + int(elements[at + 2]) & _U64)
        at += 3
        if flags & FLAG_SAME_FIELDS:
            fields = [b""] * (2 * width)
            fields[::2] = master_fields
            fields[1::2] = elements[at : at + width]
            at += width
        else:
            pairs = int(elements[at])
            if pairs < 0:
                raise RdbError("an entry with a negative number of fields")
            at += 1
            fields = elements[at : at + 2 * pairs]
            at += 2 * pairs
        if int(elements[at]) != at - start:
            raise RdbError("an entry of the wrong number of elements")
        at += 1
        if flags & FLAG_DELETED:
            gone -= 1
            continue
        if previous is not None and entry_id <= previous:
            raise RdbError("entries are not in the order of their ids")
        previous = entry_id
        living -= 1
        entries.append((entry_id, fields))
    if living or gone:
        raise RdbError("the master entry does not say how many entries there are")


def _decode_group(type_code: int, data: bytes, pos: int) -> tuple[Group, int]:
    name, pos = decode_string(data, pos)
    last_id, pos = _decode_id(data, pos)
    group = Group(name, last_id)
    if type_code != TYPE_STREAM_LISTPACKS:
        entries_read, pos = decode_length(data, pos)
        # Stored as the unsigned image of a signed 64-bit number.
        group.entries_read = entries_read - (1 << 64) if entries_read >> 63 else entries_read
    count, pos = decode_length(data, pos)
    by_id: dict[StreamId, Pending] = {}
    for _ in range(count):
        start = pos
        entry_id, pos = _decode_raw_id(data, pos)
        delivered_at_ms, pos = _decode_ms(data, pos)
        deliveries, pos = decode_length(data, pos)
        if entry_id in by_id:
            raise RdbError("an entry is pending twice in a group", offset=start)
        by_id[entry_id] = Pending(entry_id, None, delivered_at_ms, deliveries)
    consumers, pos = decode_length(data, pos)
    for _ in range(consumers):
        name, pos = decode_string(data, pos)
        seen_ms, pos = _decode_ms(data, pos)
        active_ms = seen_ms
        if type_code in _TYPES_WITH_ACTIVITY:
            active_ms, pos = _decode_ms(data, pos)
        group.consumers.append(Consumer(name, seen_ms, active_ms))
        owned, pos = decode_length(data, pos)
        for _ in range(owned):
            start = pos
            entry_id, pos = _decode_raw_id(data, pos)
            pending = by_id.get(entry_id)
            if pending is None or pending.consumer is not None:
                raise RdbError("a consumer owns an entry that is not pending", offset=start)
            pending.consumer = name
    if type_code == TYPE_STREAM_LISTPACKS_5:
        pos = _decode_released(data, pos, group, by_id)
    group.pending = list(by_id.values())
    return group, pos


def _decode_released(data: bytes, pos: int, group: Group, by_id: dict[StreamId, Pending]) -> int:
    count, pos = decode_length(data, pos)
    for _ in range(count):
        start = pos
        entry_id, pos = _decode_raw_id(data, pos)
        pending = by_id.get(entry_id)
        if pending is None or pending.consumer is not None:
            raise RdbError("an entry was released that is not pending", offset=start)
        group.released.append(entry_id)
    if len(set(group.released)) != count:
        raise RdbError("an entry was released twice", offset=pos)
    return pos


def _decode_id(data: bytes, pos: int) -> tuple[StreamId, int]:
    ms, pos = decode_length(data, pos)
    seq, pos = decode_length(data, pos)
    return (ms, seq), pos


def _decode_raw_id(data: bytes, pos: int) -> tuple[StreamId, int]:
    end = pos + RAW_ID_BYTES
    if end > len(data):
        raise Incomplete(end)
    return _unpack_id(data[pos:end]), end


def _decode_ms(data: bytes, pos: int) -> tuple[int, int]:
    end = pos + 8
    if end > len(data):
        raise Incomplete(end)
    return int.from_bytes(data[pos:end], "little", signed=True), end


def _unpack_id(raw: bytes) -> StreamId:
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")


def _pack_id(entry_id: StreamId) -> bytes:
    return entry_id[0].to_bytes(8, "big") + entry_id[1].to_bytes(8, "big")


# --- writing


def encode_stream(
    stream: Stream,
    type_code: int = TYPE_STREAM_LISTPACKS_2,
    *,
    compress: bool = True,
    node_max_bytes: int = NODE_MAX_BYTES,
    node_max_entries: int = NODE_MAX_ENTRIES,
) -> bytes:
    """Encode a stream value.

    Args:
        stream: what to write.
        type_code: 15, 19 or 21; what it does not store is left out.
        compress: whether LZF may be used.
        node_max_bytes: size at which a node is full (`stream-node-max-bytes`; 0 = no limit).
        node_max_entries: entries at which a node is full (`stream-node-max-entries`; 0 = no limit).

    Returns:
        The value's bytes. Cost: O(bytes).
    """
    nodes = list(_encode_nodes(stream, node_max_bytes, node_max_entries))
    out = [encode_length(len(nodes))]
    for first_id, blob in nodes:
        # The id goes out raw: it has 16 bytes, so no integer or LZF form applies.
        out += (b"\x10", _pack_id(first_id), encode_string(blob, compress))
    out += (encode_length(len(stream.entries)), _encode_id(stream.last_id))
    if type_code != TYPE_STREAM_LISTPACKS:
        out += (
            _encode_id(stream.first_id),
            _encode_id(stream.max_deleted_id),
            encode_length(stream.entries_added),
        )
    out.append(encode_length(len(stream.groups)))
    for group in stream.groups:
        _encode_group(group, type_code, compress, out)
    return b"".join(out)


def _encode_nodes(
    stream: Stream, max_bytes: int, max_entries: int
) -> Iterator[tuple[StreamId, bytes]]:
    """Pack the entries into nodes the way XADD would have grown them."""
    max_bytes = min(max_bytes or MAX_LISTPACK_BYTES, MAX_LISTPACK_BYTES)
    number = listpack.encode_int_entry
    master: StreamId = (0, 0)
    master_fields: list[bytes] = []
    # The master entry behind its count, then the entries; as encoded listpack elements.
    elements: list[bytes] = []
    elements_bytes = count = 0
    for entry_id, fields in stream.entries:
        if count:
            # streamAppendItem holds the bare fields and values against what the node has.
            node_bytes = listpack.HEADER_BYTES + 1 + len(number(count)) + elements_bytes
            full = node_bytes + sum(map(len, fields)) >= max_bytes
            if full or (max_entries and count >= max_entries):
                yield master, listpack.assemble([number(count), *elements])
                count = 0
        if not count:
            master, master_fields = entry_id, fields[::2]
            elements = [number(0), number(len(master_fields))]
            elements += map(listpack.encode_entry, master_fields)
            elements.append(number(0))
            elements_bytes = sum(map(len, elements))
        encoded = _encode_entry(entry_id, fields, master, master_fields)
        elements += encoded
        elements_bytes += sum(map(len, encoded))
        count += 1
    if count:
        yield master, listpack.assemble([number(count), *elements])


def _encode_entry(
    entry_id: StreamId, fields: list[bytes], master: StreamId, master_fields: list[bytes]
) -> list[bytes]:
    number = listpack.encode_int_entry
    same = fields[::2] == master_fields
    encoded = [
        number(FLAG_SAME_FIELDS if same else 0),
        number(_signed(entry_id[0] - master[0])),
        number(_signed(entry_id[1] - master[1])),
    ]
    if same:
        encoded += map(listpack.encode_entry, fields[1::2])
    else:
        encoded.append(number(len(fields) // 2))
        encoded += map(listpack.encode_entry, fields)
    encoded.append(number(len(encoded)))
    return encoded


def _signed(delta: int) -> int:
    """The signed 64-bit image of a difference of unsigned 64-bit numbers."""
    delta &= _U64
    return delta - (1 << 64) if delta >> 63 else delta


def _encode_id(entry_id: StreamId) -> bytes:
    return encode_length(entry_id[0]) + encode_length(entry_id[1])


def _encode_ms(instant_ms: int) -> bytes:
    return instant_ms.to_bytes(8, "little", signed=True)


def _encode_group(group: Group, type_code: int, compress: bool, out: list[bytes]) -> None:
    out += (encode_string(group.name, compress), _encode_id(group.last_id))
    if type_code != TYPE_STREAM_LISTPACKS:
        out.append(encode_length(group.entries_read & _U64))
    out.append(encode_length(len(group.pending)))
    owned: dict[bytes, list[bytes]] = {consumer.name: [] for consumer in group.consumers}
    for pending in group.pending:
        raw_id = _pack_id(pending.id)
        out += (raw_id, _encode_ms(pending.delivered_at_ms), encode_length(pending.deliveries))
        if pending.consumer is not None:
            owned[pending.consumer].append(raw_id)
    out.append(encode_length(len(group.consumers)))
    for consumer in group.consumers:
        out += (encode_string(consumer.name, compress), _encode_ms(consumer.seen_ms))
        if type_code == TYPE_STREAM_LISTPACKS_3:
            out.append(_encode_ms(consumer.active_ms))
        ids = owned[consumer.name]
        out.append(encode_length(len(ids)))
        out += ids
