"""What a key would take of a Redis 7.0 server's memory, from its value.

The estimate is that of MEMORY USAGE with SAMPLES 0 on a server that has just loaded the key,
with jemalloc and the default limits of small encodings. What a file cannot tell is estimated:
how tall the nodes of a skiplist happen to be (their mean is taken). What a server adds by
writing to a key after the load, spare room in strings, listpacks and tables, is not in it.

Measured against redis-server 7.0.15 on 347 keys of every type and size: 0.01% off in the sum,
exact on 300 of them, at most 1.6% off on the others but for a hash whose table was in the
middle of growing (4%). tests/interop/test_rdb_tools.py holds a live server's keys to 0.2% in
the sum, 5% for a hash or sorted set, and to the byte for the other types.

Source: objectComputeSize in object.c, streamRadixTreeMemoryUsage; the structs of server.h,
quicklist.h, dict.h and stream.h on 64-bit machines; the size classes of jemalloc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from rdb.arrays import Array
from rdb.blobs import listpack
from rdb.constants import TYPE_STREAM_LISTPACKS_3
from rdb.lengths import decode_length
from rdb.records import Key
from rdb.streams import Stream, StreamId, encode_stream
from rdb.strings import decode_string
from rdb.values import (
    LIST_MAX_LISTPACK_SIZE,
    NODE_ENTRY_OVERHEAD,
    ExpiringHash,
    encode_quicklist,
    node_limits,
    pack_hash,
    pack_zset,
)

_OBJECT_BYTES: Final = 16
_DICT_BYTES: Final = 56
_DICT_ENTRY_BYTES: Final = 24
_DICT_MIN_SLOTS: Final = 4
_POINTER_BYTES: Final = 8
_QUICKLIST_BYTES: Final = 40
_QUICKLIST_NODE_BYTES: Final = 40
_ZSET_BYTES: Final = 16 + 32
_SKIPLIST_HEADER_BYTES: Final = 640
_SKIPLIST_NODE_BYTES: Final = 48 + 16 / 3
"""48 at one level and 16 more for each further one, of which there is a third on average."""
_STREAM_BYTES: Final = 80
_GROUP_BYTES: Final = 40
_CONSUMER_BYTES: Final = 24
_NACK_BYTES: Final = 24
_RAX_KEY_BYTES: Final = 16
_RAX_NODE_BYTES: Final = 4 + 30 * 8

MAX_EMBSTR_BYTES: Final = 44
MAX_INTSET_ENTRIES: Final = 512
MAX_HASH_LISTPACK_ENTRIES: Final = 512
MAX_ZSET_LISTPACK_ENTRIES: Final = 128
MAX_LISTPACK_VALUE_BYTES: Final = 64
_ONE_NODE_BYTES: Final = node_limits(LIST_MAX_LISTPACK_SIZE)[0] - len(listpack.EMPTY)
_I64: Final = range(-(1 << 63), 1 << 63)
_SIZES_KEPT: Final = 1 << 10
"""hot: benchmarks/rdb. A file asks for the same few sizes again and again."""


@lru_cache(maxsize=_SIZES_KEPT)
def allocated(size_bytes: int) -> int:
    """What jemalloc sets aside for `size_bytes`: 8, steps of 16, then four to each doubling."""
    if size_bytes <= 8:
        return 8
    if size_bytes <= 128:
        return (size_bytes + 15) & ~15
    shift = (size_bytes - 1).bit_length() - 3
    return ((size_bytes - 1 >> shift) + 1) << shift


@lru_cache(maxsize=_SIZES_KEPT)
def sds_bytes(length: int) -> int:
    """What a string of its own takes; the header grows with the length."""
    if 0 < length < 32:
        return allocated(length + 2)
    header = 3 if length < 256 else 5 if length < 65536 else 9
    return allocated(length + header + 1)


def memory_usage(key: Key) -> int:
    """Estimate what MEMORY USAGE would answer.

    Args:
        key: with a decoded value.

    Returns:
        Bytes. Cost: O(size).
    """
    value_bytes = _SIZES[key.kind](key.value)
    return _DICT_ENTRY_BYTES + sds_bytes(len(key.key)) + _OBJECT_BYTES + int(value_bytes)


def _string(value: bytes) -> int:
    if len(value) <= 20 and _is_long(value):
        return 0
    if len(value) <= MAX_EMBSTR_BYTES:
        # Object and string are one allocation.
        return allocated(_OBJECT_BYTES + 3 + len(value) + 1) - _OBJECT_BYTES
    return sds_bytes(len(value))


def _is_long(value: bytes) -> bool:
    try:
        number = int(value)
    except ValueError:
        return False
    return number in _I64 and b"%d" % number == value


def _table(entries: int) -> int:
    """A dict of `entries`, without what its entries point to."""
    slots = max(_DICT_MIN_SLOTS, 1 << (entries - 1).bit_length()) if entries else 0
    return _DICT_BYTES + slots * _POINTER_BYTES + entries * _DICT_ENTRY_BYTES


def _texts(texts: Iterable[bytes]) -> int:
    return sum(map(sds_bytes, map(len, texts)))


def _are_short(texts: Iterable[bytes]) -> bool:
    return max(map(len, texts), default=0) <= MAX_LISTPACK_VALUE_BYTES


def _list(value: list[bytes]) -> int:
    # hot: benchmarks/rdb. Most lists have one node; see rdb.values.encode_quicklist.
    if value and sum(map(len, value)) + len(value) * NODE_ENTRY_OVERHEAD <= _ONE_NODE_BYTES:
        node_bytes = allocated(len(listpack.encode(value)))
        return _QUICKLIST_BYTES + _QUICKLIST_NODE_BYTES + node_bytes
    encoded = encode_quicklist(value, compress=False)
    nodes, pos = decode_length(encoded, 0)
    size = _QUICKLIST_BYTES + nodes * _QUICKLIST_NODE_BYTES
    for _ in range(nodes):
        node, pos = decode_string(encoded, pos + 1)
        size += allocated(len(node))
    return size


def _set(value: list[bytes]) -> int:
    if len(value) <= MAX_INTSET_ENTRIES and all(map(_is_long, value)):
        widest = max(map(abs, map(int, value)), default=0)
        width = 2 if widest < 1 << 15 else 4 if widest < 1 << 31 else 8
        return allocated(8 + width * len(value))
    return _table(len(value)) + _texts(value)


def _hash(value: Any) -> int:
    # A server of version 7.0 knows no expiry of fields.
    flat = value.fields if isinstance(value, ExpiringHash) else value
    if len(flat) <= 2 * MAX_HASH_LISTPACK_ENTRIES and _are_short(flat):
        return allocated(len(pack_hash(flat)))
    return _table(len(flat) // 2) + _texts(flat)


def _zset(value: list[tuple[bytes, float]]) -> float:
    members = [member for member, _ in value]
    if len(value) <= MAX_ZSET_LISTPACK_ENTRIES and _are_short(members):
        return allocated(len(pack_zset(value)))
    nodes = _SKIPLIST_HEADER_BYTES + len(value) * _SKIPLIST_NODE_BYTES
    return _ZSET_BYTES + _table(len(value)) + nodes + _texts(members)


def _stream(stream: Stream) -> int:
    encoded = encode_stream(stream, TYPE_STREAM_LISTPACKS_3, compress=False)
    count, pos = decode_length(encoded, 0)
    ids: list[bytes] = []
    size = _STREAM_BYTES
    for _ in range(count):
        first_id, pos = decode_string(encoded, pos)
        node, pos = decode_string(encoded, pos)
        ids.append(first_id)
        size += allocated(len(node))
    size += _rax(ids)
    for group in stream.groups:
        pending = [_raw_id(entry.id) for entry in group.pending]
        size += _GROUP_BYTES + _rax(pending) + _NACK_BYTES * len(pending)
        owned: dict[bytes, list[bytes]] = {consumer.name: [] for consumer in group.consumers}
        for entry, raw_id in zip(group.pending, pending, strict=True):
            if entry.consumer is not None:
                owned[entry.consumer].append(raw_id)
        size += sum(_CONSUMER_BYTES + len(name) + _rax(ids) for name, ids in owned.items())
    return size


def _raw_id(entry_id: StreamId) -> bytes:
    return entry_id[0].to_bytes(8, "big") + entry_id[1].to_bytes(8, "big")


def _rax(keys: Sequence[bytes]) -> int:
    return len(keys) * _RAX_KEY_BYTES + rax_nodes(keys) * _RAX_NODE_BYTES


def rax_nodes(keys: Sequence[bytes]) -> int:
    """Count the nodes of a radix tree.

    A node is a leaf, a fork, or the run of bytes down to the next of those; an empty tree has a
    head all the same.

    Args:
        keys: ascending, all of the same length.

    Returns:
        The count. Cost: O(length of a key * number of keys).

    Source: raxGenericInsert in rax.c.
    """
    if not keys:
        return 1
    nodes = 0
    spans = [(0, len(keys), 0)]
    while spans:
        first, end, start = spans.pop()
        low, high = keys[first], keys[end - 1]
        if end - first == 1:
            nodes += 1 + (len(low) > start)
            continue
        # All that lies between two sorted keys shares what these two share.
        fork = next(at for at in range(start, len(low)) if low[at] != high[at])
        nodes += 1 + (fork > start)
        for at in range(first + 1, end):
            if keys[at][fork] != keys[at - 1][fork]:
                spans.append((first, at, fork + 1))
                first = at
        spans.append((first, end, fork + 1))
    return nodes


def _array(value: Array) -> int:
    # Redis 7.0 has none: a pointer and a text of its own for each, as the nearest there is.
    return len(value) * _POINTER_BYTES + _texts(text for _, text in value.elements)


def _module(value: Any) -> int:
    # Only the module could say; its bytes in the file are the nearest there is.
    return allocated(len(value.payload))


_SIZES: dict[str, Callable[[Any], float]] = {
    "string": _string,
    "list": _list,
    "set": _set,
    "zset": _zset,
    "hash": _hash,
    "stream": _stream,
    "array": _array,
    "module": _module,
}
