"""Values in memory <-> values in an RDB file.

`rdb` knows bytes, lists and pairs; `kvrepl.datatypes` knows encodings. This is what lies between.

    encoding     type written     plain value
    string       0                bytes
    quicklist    18               list of elements
    intset       11               the packed intset
    hashtable    2 / 4            list of members / field, value, field, value ...
    listpack     16 / 17          field, value ... / (member, score) ascending
    skiplist     5                (member, score) ascending
    stream       19               rdb.streams.Stream, which walks the entries as they are written

On loading, the encoding is chosen as Redis 7.0 chooses it, from the type in the file as well as
from the thresholds: what is packed in the file stays packed unless it has too many elements,
however long they are, and what is not packed becomes so if it is small enough in both respects.

Of what newer servers write, whatever has an equivalent is loaded: hashes that share their field
names, hashes whose fields could expire but do not, and streams, of which the producers are
forgotten and released entries given to a consumer (rdb.targets). Arrays, values of modules and
expiring fields have none.

Source: rdbSaveObjectType, rdbSaveObject and rdbLoadObject in rdb.c of Redis 7.0.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from struct import pack
from typing import Any, Final, cast

from kvrepl.datatypes.hashes import HashValue
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.lists import ListValue
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.datatypes.stream_nodes import Entry
from kvrepl.datatypes.streams import Consumer, Group, Pending, StreamValue
from rdb import constants as c
from rdb import streams as file_streams
from rdb.errors import RdbError
from rdb.packed import Packed
from rdb.streams import Stream
from rdb.targets import adopt_released
from rdb.values import ExpiringHash

_UNPACKED_HASHES: Final = (
    c.TYPE_HASH,
    c.TYPE_HASH_ZIPMAP,  # Packed, but Redis looks at the lengths of this one.
    c.TYPE_HASH_METADATA,
    c.TYPE_HASH_METADATA_PRE_GA,
    # The listpack of these holds the values alone.
    c.TYPE_HASH_TEMPLATE_LISTPACK,
    c.TYPE_HASH_TEMPLATE_LISTPACK_REF,
    c.TYPE_HASH_TEMPLATE_ARRAY,
    c.TYPE_HASH_TEMPLATE_ARRAY_REF,
)

Plain = Any
"""A value as rdb.values has it; which, is said by the type code."""


def rdb_type_and_value(value: object, limits: Limits) -> tuple[int, Plain]:
    """Say how a value is written.

    Args:
        value: bytes, bytearray, a collection, also packed, or a stream (also as a file has it).
        limits: the server's thresholds; unused by the types of Redis 7.0, whose encodings are
            the values' own.

    Returns:
        The type code and what rdb.values.encode_value takes for it.

    Cost: O(n); O(bytes) for strings that are kept as bytearray.
    """
    if type(value) is bytes:
        return c.TYPE_STRING, value
    if isinstance(value, Packed):
        return value.type_code, value
    if isinstance(value, bytearray):
        return c.TYPE_STRING, bytes(value)
    if isinstance(value, ListValue):
        return c.TYPE_LIST_QUICKLIST_2, value
    if isinstance(value, SetValue):
        integers = value.integers()
        if integers is None:
            return c.TYPE_SET, value
        return c.TYPE_SET_INTSET, _packed_intset(integers)
    if isinstance(value, HashValue):
        packed = value.encoding == b"listpack"
        flat = list(chain.from_iterable(value.items()))
        return (c.TYPE_HASH_LISTPACK if packed else c.TYPE_HASH), flat
    if isinstance(value, SortedSet):
        packed = value.encoding == b"listpack"
        return (c.TYPE_ZSET_LISTPACK if packed else c.TYPE_ZSET_2), list(value)
    if isinstance(value, StreamValue):
        return c.TYPE_STREAM_LISTPACKS_2, file_stream(value)
    if isinstance(value, Stream):
        return c.TYPE_STREAM_LISTPACKS_2, value
    raise AssertionError(f"{type(value).__name__} is not a value")


def from_rdb(type_code: int, plain: Plain, limits: Limits) -> object:
    """Make the value that a record holds.

    Args:
        type_code: as in the file.
        plain: what the reader gave; its lists may be taken over.
        limits: the server's thresholds.

    Returns:
        bytes or a collection. A list, set, hash or sorted set may be empty: Redis skips such
        keys, and so must the caller. len() of a stream is never 0.

    Raises:
        RdbError: Redis 7.0 has no such value: an array, one of a module, or a hash whose fields
            expire.

    Cost: O(n), O(n log n) for a sorted set that is not in order.
    """
    load = _LOADERS.get(type_code)
    if load is None:
        name = c.TYPE_NAMES.get(type_code, str(type_code))
        raise RdbError(f"a value of type {name} cannot be loaded: Redis 7.0 has none")
    return load(type_code, plain, limits)


def _packed_intset(integers: array[int]) -> bytes:
    """The intset blob: width, count, then the integers, all little-endian. O(n)."""
    if sys.byteorder == "big":
        integers = integers[:]
        integers.byteswap()
    return pack("<II", integers.itemsize, len(integers)) + integers.tobytes()


def _load_string(type_code: int, plain: bytes, limits: Limits) -> bytes:
    return plain


def _load_list(type_code: int, plain: list[bytes], limits: Limits) -> ListValue:
    return ListValue(limits, plain)


def _load_set(type_code: int, plain: list[bytes], limits: Limits) -> SetValue:
    return SetValue.of_members(limits, plain)


def _load_hash(type_code: int, plain: list[bytes] | ExpiringHash, limits: Limits) -> HashValue:
    if isinstance(plain, ExpiringHash):
        if plain.expires_at_ms:
            raise RdbError("a hash whose fields expire cannot be loaded: Redis 7.0 has none")
        plain = plain.fields
    pairs = iter(plain)
    entries = dict(zip(pairs, pairs, strict=True))
    small = len(entries) <= limits.hash_max_listpack_entries
    if small and type_code in _UNPACKED_HASHES:
        small = _longest(plain) <= limits.hash_max_listpack_value
    return HashValue.of_entries(limits, entries, small)


def _load_sorted_set(type_code: int, plain: list[tuple[bytes, float]], limits: Limits) -> SortedSet:
    scores = dict(plain)
    small = len(scores) <= limits.zset_max_listpack_entries
    if small and type_code in (c.TYPE_ZSET, c.TYPE_ZSET_2):
        small = _longest(scores) <= limits.zset_max_listpack_value
    return SortedSet.of_scores(limits, scores, small)


def load_stream(plain: Stream) -> StreamValue:
    """Make the stream that a file holds. O(size).

    Raises:
        RdbError: two of its groups, or two consumers of one of them, have the same name.
    """
    value = StreamValue()
    for entry_id, fields in plain.entries:
        value.add(entry_id, fields)
    value.last_id = plain.last_id
    value.first_id = plain.first_id
    value.max_deleted_id = plain.max_deleted_id
    value.entries_added = plain.entries_added
    for written in plain.groups:
        if written.name in value.groups:
            raise RdbError("a stream has two groups of one name")
        value.groups[written.name] = _load_group(written)
    return value


def _load_newer_stream(type_code: int, plain: Stream, limits: Limits) -> StreamValue:
    adopt_released(plain)
    return load_stream(plain)


def _load_group(written: file_streams.Group) -> Group:
    group = Group(written.last_id, written.entries_read)
    for reader in written.consumers:
        if reader.name in group.consumers:
            raise RdbError("a group has two consumers of one name")
        group.consumers[reader.name] = Consumer(reader.name, reader.seen_ms)
    for owed in written.pending:
        owner = None if owed.consumer is None else group.consumers[owed.consumer]
        group.deliver(owed.id, Pending(owner, owed.delivered_at_ms, owed.deliveries))
    return group


class _Entries:
    """The entries of a stream for a writer, which counts and walks them: unpacked as it goes."""

    __slots__ = ("_value",)

    def __init__(self, value: StreamValue) -> None:
        self._value = value

    def __len__(self) -> int:
        return self._value.length

    def __iter__(self) -> Iterator[Entry]:
        return self._value.entries()


def file_stream(value: StreamValue) -> Stream:
    """A stream as a file has it, for writing at once: it changes when the value does.

    Groups and consumers stand in the order of their names, as Redis writes them.

    Cost: O(pending + consumers); the entries are not touched before they are written.
    """
    stream = Stream(
        cast("list[Entry]", _Entries(value)),
        value.last_id,
        value.first_id,
        value.max_deleted_id,
        value.entries_added,
    )
    for name, group in sorted(value.groups.items()):
        written = file_streams.Group(name, group.last_id, group.entries_read)
        for entry_id in group.pending_ids():
            owed = group.pending[entry_id]
            owner = None if owed.consumer is None else owed.consumer.name
            written.pending.append(
                file_streams.Pending(entry_id, owner, owed.delivered_at_ms, owed.deliveries)
            )
        for consumer in group.sorted_consumers():
            written.consumers.append(
                file_streams.Consumer(consumer.name, consumer.seen_ms, consumer.seen_ms)
            )
        stream.groups.append(written)
    return stream


def _longest(strings: Iterable[bytes]) -> int:
    return max(map(len, strings), default=0)


_LOADERS: Final[dict[int, Callable[[int, Any, Limits], object]]] = {
    c.TYPE_STRING: _load_string,
    c.TYPE_LIST: _load_list,
    c.TYPE_LIST_ZIPLIST: _load_list,
    c.TYPE_LIST_QUICKLIST: _load_list,
    c.TYPE_LIST_QUICKLIST_2: _load_list,
    c.TYPE_SET: _load_set,
    c.TYPE_SET_INTSET: _load_set,
    c.TYPE_SET_LISTPACK: _load_set,
    c.TYPE_HASH: _load_hash,
    c.TYPE_HASH_ZIPMAP: _load_hash,
    c.TYPE_HASH_ZIPLIST: _load_hash,
    c.TYPE_HASH_LISTPACK: _load_hash,
    c.TYPE_HASH_METADATA_PRE_GA: _load_hash,
    c.TYPE_HASH_LISTPACK_EX_PRE_GA: _load_hash,
    c.TYPE_HASH_METADATA: _load_hash,
    c.TYPE_HASH_LISTPACK_EX: _load_hash,
    c.TYPE_HASH_TEMPLATE_LISTPACK: _load_hash,
    c.TYPE_HASH_TEMPLATE_LISTPACK_REF: _load_hash,
    c.TYPE_HASH_TEMPLATE_ARRAY: _load_hash,
    c.TYPE_HASH_TEMPLATE_ARRAY_REF: _load_hash,
    c.TYPE_ZSET: _load_sorted_set,
    c.TYPE_ZSET_2: _load_sorted_set,
    c.TYPE_ZSET_ZIPLIST: _load_sorted_set,
    c.TYPE_ZSET_LISTPACK: _load_sorted_set,
    c.TYPE_STREAM_LISTPACKS: lambda type_code, plain, limits: load_stream(plain),
    c.TYPE_STREAM_LISTPACKS_2: lambda type_code, plain, limits: load_stream(plain),
    c.TYPE_STREAM_LISTPACKS_3: lambda type_code, plain, limits: load_stream(plain),
    c.TYPE_STREAM_LISTPACKS_4: _load_newer_stream,
    c.TYPE_STREAM_LISTPACKS_5: _load_newer_stream,
}
