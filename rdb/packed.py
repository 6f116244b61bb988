"""Values kept as the bytes that they have in an RDB: packed.

A Packed is the encoded value itself, whole and checked, without type code and key. It costs what
it costs in the file, is written again by copying it, and rdb.values.decode_packed, which cannot
fail, makes the value of it.

    class            type code   holds
    PackedSet        2           length, member*
    PackedHash       4           length, {field, value}*
    PackedZset       5           length, {member, double}*
    PackedIntset     11          a string: the intset
    PackedHashList   16          a string: the listpack of field, value, ...
    PackedZsetList   17          a string: the listpack of member, score, ...
    PackedList       18          length, {container, string}*
    PackedStream     19          a stream, see rdb.streams

The strings inside may be compressed, and stay so until the value is to be written without LZF: it
is decoded then, if it may hold LZF.

Only what is small is kept packed (MAX_BYTES, MAX_ELEMENTS, MAX_TEXT_BYTES), what every reader
takes for the same value, and what a server with the given thresholds would load into the encoding
that the type code stands for. `packed_end` says whether that holds; all else is for the
decoder, which either decodes it or words the refusal.

Source: rdbLoadObject in rdb.c of Redis 7.0, lpValidateIntegrityAndDups and
intsetValidateIntegrity (sanitize-dump-payload yes).
"""

from __future__ import annotations

import operator
import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import ClassVar, Final, Protocol, TypeVar

from rdb import constants as c
from rdb.accel import accel
from rdb.blobs import intset, listpack, scan
from rdb.blobs.layout import Layouts
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length
from rdb.strings import decode_string, decode_strings

_LZF_MARK: Final = bytes((0xC0 | c.ENC_LZF,))
MAX_BYTES: Final = 1 << 16
"""Encoded size up to which a value is kept packed: it is decoded in one go when it is touched."""
MAX_ELEMENTS: Final = 8192
MAX_TEXT_BYTES: Final = 1 << 18
"""The same in decoded elements, which compression makes many of few bytes, and in their bytes."""

_SHORT: Final = 0x40
"""Lengths below it are one byte."""
_MAX_SCANNED_BYTES: Final = MAX_TEXT_BYTES // 2
"""Of listpacks: no entry has a text of more than twice its bytes."""
_DOUBLE: Final = struct.Struct("<d")
_ID: Final = struct.Struct(">QQ")
_RAW_ID_BYTES: Final = 16
_FLAG_DELETED: Final = 1
_FLAG_SAME_FIELDS: Final = 2
_MAX_GROUPS: Final = 64
_U64: Final = (1 << 64) - 1
_LENGTH: Final = rb"(?:[\x00-\x3f]|[\x40-\x7f].|\x81.{8}|\x80.{4})"
_stream_counters: Final = re.compile(_LENGTH * 7, re.DOTALL).match
"""The lengths (rdb.lengths) of last, first and highest deleted id, and the entries added."""
_PLAIN_SCORE: Final = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf)")


_HASHES: Final[Layouts[int]] = Layouts()
"""Of listpacks of hashes: the fields."""
_Node = tuple[int, list[tuple[int, int]]]
_NODES: Final[Layouts[_Node]] = Layouts()
"""Of nodes of streams: the elements, and how far each entry's id lies behind that of the node."""
_MAX_LEARNED_ENTRIES: Final = 8
"""Of a node: with more of them, no other has the same ids."""


class Thresholds(Protocol):
    """The directives that decide between a packed and an unpacked encoding on loading."""

    hash_max_listpack_entries: int
    hash_max_listpack_value: int
    set_max_intset_entries: int
    zset_max_listpack_entries: int
    zset_max_listpack_value: int


_T = TypeVar("_T")


def _untracked(cls: type[_T]) -> type[_T]:
    """Have the accelerator make the class: instances then have no header for the collector."""
    made: type[_T] = cls if accel is None else accel.packed_type(cls)
    return made


@_untracked
class Packed(bytes):
    """An encoded value; its class says of which type."""

    __slots__ = ()
    type_code: ClassVar[int]

    def may_hold_lzf(self) -> bool:
        """Whether the byte is in it that marks a compressed string. O(bytes)."""
        return self.find(_LZF_MARK) >= 0


@_untracked
class PackedSet(Packed):
    """A set that is a hash table."""

    __slots__ = ()
    type_code = c.TYPE_SET


@_untracked
class PackedHash(Packed):
    """A hash that is a hash table."""

    __slots__ = ()
    type_code = c.TYPE_HASH


@_untracked
class PackedZset(Packed):
    """A sorted set that is a skiplist."""

    __slots__ = ()
    type_code = c.TYPE_ZSET_2


@_untracked
class PackedIntset(Packed):
    """A set of integers."""

    __slots__ = ()
    type_code = c.TYPE_SET_INTSET


@_untracked
class PackedHashList(Packed):
    """A hash that is a listpack."""

    __slots__ = ()
    type_code = c.TYPE_HASH_LISTPACK


@_untracked
class PackedZsetList(Packed):
    """A sorted set that is a listpack."""

    __slots__ = ()
    type_code = c.TYPE_ZSET_LISTPACK


@_untracked
class PackedList(Packed):
    """A list."""

    __slots__ = ()
    type_code = c.TYPE_LIST_QUICKLIST_2


@_untracked
class PackedStream(Packed):
    """A stream."""

    __slots__ = ()
    type_code = c.TYPE_STREAM_LISTPACKS_2


PACKED: Final[dict[int, type[Packed]]] = {
    each.type_code: each
    for each in (
        PackedSet,
        PackedHash,
        PackedZset,
        PackedIntset,
        PackedHashList,
        PackedZsetList,
        PackedList,
        PackedStream,
    )
}
"""The classes by type code."""
if accel is not None:
    accel.bind_packed(PACKED)


def packed_end(type_code: int, data: bytes, pos: int, limits: Thresholds) -> int | None:
    """Whether the value at `pos` may be kept packed, and where it ends.

    The compiled form of it is a part of rdb._keys.load_keys.

    Args:
        type_code: one of PACKED.
        data: the buffer; pos: where the value starts in it.
        limits: the thresholds in force.

    Returns:
        The position after the value; None where it must be decoded, is cut off or malformed.

    Cost: O(bytes).
    """
    try:
        end = CHECKS[type_code](data, pos, limits)
    except (Incomplete, IndexError, RdbError):
        return None
    return None if end is None or end - pos > MAX_BYTES else end


def _small(texts: Sequence[bytes]) -> bool:
    return 0 < len(texts) <= MAX_ELEMENTS and sum(map(len, texts)) <= MAX_TEXT_BYTES


def _different(texts: Sequence[bytes]) -> bool:
    return len(set(texts)) == len(texts)


def _longest(texts: Sequence[bytes]) -> int:
    return max(map(len, texts))


@lru_cache(1024)
def _equal_texts(count: int, size: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """What reads so many strings of up to 63 bytes each, without their heads."""
    return struct.Struct(f"x{size}s" * count).unpack_from


def _set(data: bytes, pos: int, limits: Thresholds) -> int | None:
    count = data[pos]
    size = data[pos + 1]
    end = pos + 1 + count * (size + 1)
    members: Sequence[bytes]
    # hot: benchmarks/load-pure; all members are often of one size.
    if (
        0 < count < _SHORT > size
        and end <= len(data)
        and data[end - size - 1] == size
        and data[pos + 1 : end : size + 1].count(size) == count
    ):
        members, pos = _equal_texts(count, size)(data, pos + 1), end
        if len({*members}) != count:
            return None
    else:
        count, pos = decode_length(data, pos)
        if count > MAX_ELEMENTS:
            return None
        members, pos = decode_strings(data, pos, count)
        if not _small(members) or not _different(members):
            return None
    if count <= limits.set_max_intset_entries and None not in map(listpack.integer_of, members):
        return None
    return pos


def _hash(data: bytes, pos: int, limits: Thresholds) -> int | None:
    count, pos = decode_length(data, pos)
    if 2 * count > MAX_ELEMENTS:
        return None
    texts, pos = decode_strings(data, pos, 2 * count)
    if not _small(texts) or not _different(texts[::2]):
        return None
    if count <= limits.hash_max_listpack_entries:
        return pos if _longest(texts) > limits.hash_max_listpack_value else None
    return pos


def _zset(data: bytes, pos: int, limits: Thresholds) -> int | None:
    count, pos = decode_length(data, pos)
    if count > MAX_ELEMENTS:
        return None
    members: list[bytes] = []
    for _ in range(count):
        member, pos = decode_string(data, pos)
        members.append(member)
        if pos + 8 > len(data):
            return None
        (score,) = _DOUBLE.unpack_from(data, pos)
        if score != score:
            return None
        pos += 8
    if not _small(members) or not _different(members):
        return None
    if count <= limits.zset_max_listpack_entries:
        return pos if _longest(members) > limits.zset_max_listpack_value else None
    return pos


def _intset(data: bytes, pos: int, limits: Thresholds) -> int | None:
    blob, pos = decode_string(data, pos)
    count = len(intset.decode(blob))
    return pos if 0 < count <= limits.set_max_intset_entries and count <= MAX_ELEMENTS else None


def _hash_listpack(data: bytes, pos: int, limits: Thresholds) -> int | None:
    blob, pos = decode_string(data, pos)
    count = _HASHES.verdict(blob)
    if count is None and len(blob) <= _MAX_SCANNED_BYTES:
        count = scan.fields(blob)
        if count is not None:
            # The fields must stay what they are; their values may be any.
            _HASHES.learn(
                blob, lambda: scan.texts(blob, scan.entries(blob) or [], slice(1, None, 2)), count
            )
    if count is None:
        texts = listpack.decode(blob)
        if len(texts) % 2 or not _small(texts) or not _different(texts[::2]):
            return None
        count = len(texts) // 2
    return (
        pos if 0 < 2 * count <= MAX_ELEMENTS and count <= limits.hash_max_listpack_entries else None
    )


def _zset_listpack(data: bytes, pos: int, limits: Thresholds) -> int | None:
    blob, pos = decode_string(data, pos)
    count = scan.members(blob) if len(blob) <= _MAX_SCANNED_BYTES else None
    if count is None:
        texts = listpack.decode(blob)
        if len(texts) % 2 or not _small(texts) or not _different(texts[::2]):
            return None
        if not all(map(_PLAIN_SCORE.fullmatch, texts[1::2])):
            return None
        count = len(texts) // 2
    return (
        pos if 0 < 2 * count <= MAX_ELEMENTS and count <= limits.zset_max_listpack_entries else None
    )


def _list(data: bytes, pos: int, limits: Thresholds) -> int | None:
    nodes, begin = decode_length(data, pos)
    pos = begin
    count = scanned_bytes = 0
    for _ in range(nodes):
        container = data[pos]
        if container != c.NODE_PACKED:
            return _decoded_list(data, begin, nodes)
        blob, pos = decode_string(data, pos + 1)
        scanned_bytes += len(blob)
        if scanned_bytes > _MAX_SCANNED_BYTES:
            return _decoded_list(data, begin, nodes)
        found = scan.equal_strings(blob)
        if found is None:
            found = len(scan.entries(blob) or ())
        if not found:
            return _decoded_list(data, begin, nodes)
        count += found
    return pos if 0 < count <= MAX_ELEMENTS else None


def _decoded_list(data: bytes, pos: int, nodes: int) -> int | None:
    texts: list[bytes] = []
    for _ in range(nodes):
        container, pos = decode_length(data, pos)
        blob, pos = decode_string(data, pos)
        if container == c.NODE_PLAIN:
            texts.append(blob)
            continue
        if container != c.NODE_PACKED or not (node := listpack.decode(blob)):
            return None
        texts += node
    return pos if _small(texts) else None


def _stream(data: bytes, pos: int, limits: Thresholds) -> int | None:
    nodes, pos = decode_length(data, pos)
    ids: list[tuple[int, int]] = []
    elements = blob_bytes = 0
    for _ in range(nodes):
        if data[pos] == _RAW_ID_BYTES:
            pos += 1 + _RAW_ID_BYTES
            raw_id = data[pos - _RAW_ID_BYTES : pos]
        else:
            raw_id, pos = decode_string(data, pos)
        blob, pos = decode_string(data, pos)
        blob_bytes += len(blob)
        if len(raw_id) != _RAW_ID_BYTES or blob_bytes > MAX_TEXT_BYTES:
            return None
        known = _NODES.verdict(blob)
        if known is None and (known := _judge_node(blob)) is None:
            return None
        size, deltas = known
        elements += size
        if elements > MAX_ELEMENTS:
            return None
        ms, seq = _ID.unpack(raw_id)
        ids += [(ms + more_ms & _U64, seq + more_seq & _U64) for more_ms, more_seq in deltas]
    length, pos = decode_length(data, pos)
    if length != len(ids) or (length > 1 and any(map(operator.ge, ids, ids[1:]))):
        return None
    if not (counters := _stream_counters(data, pos)):
        return None
    pos = counters.end()
    if not data[pos]:
        return pos + 1
    groups, pos = decode_length(data, pos)
    return _groups(data, pos, groups) if groups else pos


def _groups(data: bytes, pos: int, count: int) -> int | None:
    """Where so many groups end; None where one has a flaw, or two have one name."""
    if count > _MAX_GROUPS:
        return None
    names: list[bytes] = []
    for _ in range(count):
        name, pos = decode_string(data, pos)
        names.append(name)
        end = _group(data, pos)
        if end is None:
            return None
        pos = end
    return pos if _different(names) else None


def _judge_node(blob: bytes) -> _Node | None:
    """What a node holds; None where its frame or its counters do not hold."""
    number_of: Callable[[bytes], int | None] = scan.number_of
    node = scan.entries(blob)
    if node is None:
        node, number_of = listpack.decode(blob), listpack.integer_of
    values: list[slice] = []
    deltas = _walk_node(node, number_of, values)
    if deltas is None:
        return None
    found = len(node), deltas
    if number_of is scan.number_of and len(values) <= _MAX_LEARNED_ENTRIES:
        _NODES.learn(
            blob, lambda: [at for each in values for at in scan.texts(blob, node, each)], found
        )
    return found


def _walk_node(
    node: list[bytes], number_of: Callable[[bytes], int | None], values: list[slice]
) -> list[tuple[int, int]] | None:
    """How far the ids of a node's entries lie behind its own; None where it has a flaw.

    Args:
        node: its elements; number_of: what gives the number that one holds, None for none.
        values: grows by where values stand whose fields are those of the node.
    """
    size = len(node)
    if size < 4:
        return None
    living, gone, width = map(number_of, node[:3])
    if width is None or not 0 <= width <= size - 4 or number_of(node[3 + width]) != 0:
        return None
    deltas: list[tuple[int, int]] = []
    at = 4 + width
    counters = [0, 0]
    while at < size:
        start = at
        if at + 4 > size:
            return None
        flags, more_ms, more_seq = map(number_of, node[at : at + 3])
        if flags is None or more_ms is None or more_seq is None:
            return None
        if flags & _FLAG_SAME_FIELDS:
            values.append(slice(at + 3, at + 3 + width))
            at += 3 + width
        else:
            pairs = number_of(node[at + 3])
            if pairs is None or pairs < 0:
                return None
            at += 4 + 2 * pairs
        if at >= size or number_of(node[at]) != at - start:
            return None
        at += 1
        deleted = flags & _FLAG_DELETED
        counters[deleted] += 1
        if not deleted:
            deltas.append((more_ms, more_seq))
    return deltas if counters == [living, gone] else None


def _group(data: bytes, pos: int) -> int | None:
    """Where a group ends that begins behind its name; None where it has a flaw."""
    for _ in range(3):
        _, pos = decode_length(data, pos)
    count, pos = decode_length(data, pos)
    pending: list[bytes] = []
    for _ in range(count):
        pending.append(data[pos : pos + _RAW_ID_BYTES])
        _, pos = decode_length(data, pos + _RAW_ID_BYTES + 8)
    consumers, pos = decode_length(data, pos)
    if count + consumers > MAX_ELEMENTS or any(map(operator.ge, pending, pending[1:])):
        return None
    names: list[bytes] = []
    owned: list[bytes] = []
    for _ in range(consumers):
        name, pos = decode_string(data, pos)
        names.append(name)
        count, pos = decode_length(data, pos + 8)
        if pos + count * _RAW_ID_BYTES > len(data):
            return None
        for _ in range(count):
            owned.append(data[pos : pos + _RAW_ID_BYTES])
            pos += _RAW_ID_BYTES
    return pos if _different(names) and sorted(owned) == pending else None


CHECKS: Final[dict[int, Callable[[bytes, int, Thresholds], int | None]]] = {
    c.TYPE_SET: _set,
    c.TYPE_HASH: _hash,
    c.TYPE_ZSET_2: _zset,
    c.TYPE_SET_INTSET: _intset,
    c.TYPE_HASH_LISTPACK: _hash_listpack,
    c.TYPE_ZSET_LISTPACK: _zset_listpack,
    c.TYPE_LIST_QUICKLIST_2: _list,
    c.TYPE_STREAM_LISTPACKS_2: _stream,
}
"""What judges a value, by type code; as `packed_end`, but may raise Incomplete and RdbError."""
