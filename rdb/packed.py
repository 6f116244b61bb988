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
from typing import ClassVar, Final, Protocol, TypeVar

from rdb import constants as c
from rdb.accel import accel
from rdb.blobs import intset, listpack, scan
from rdb.blobs.layout import MAX_BYTES as MAX_LAYOUT_BYTES
from rdb.blobs.layout import Layouts
from rdb.blobs.listpack import HEADER_BYTES
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
stream_counters: Final = re.compile(_LENGTH * 7, re.DOTALL).match
"""The lengths (rdb.lengths) of last, first and highest deleted id, and the entries added."""
_tail_of_one: Final = re.compile(rb"\x01" + _LENGTH * 7 + rb"\x00", re.DOTALL).match
"""What stands behind the nodes of a stream of one entry and no group."""
_PLAIN_SCORE: Final = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf)")


# What has a layout has fewer elements than its bytes, of which there are fewer than MAX_ELEMENTS.
assert MAX_LAYOUT_BYTES <= MAX_ELEMENTS // 2
_from_bytes: Final = int.from_bytes
_HASHES: Final[Layouts[int]] = Layouts()
"""Of listpacks of hashes: the fields."""
_Read = Callable[[bytes], tuple[object, ...]]
_ZSETS: Final[Layouts[tuple[int, _Read, _Read]]] = Layouts()
"""Of listpacks of sorted sets: the members, and what reads their ends and them (`_differ`)."""
_LISTS: Final[Layouts[int]] = Layouts()
"""Of nodes of lists: the entries."""
_ONE_NODE: Final = bytes((1, c.NODE_PACKED))
_ONE_NODE_ID: Final = bytes((1, _RAW_ID_BYTES))
"""What lists and streams of one node begin with."""
_SETS: Final[dict[bytes, tuple[int, int, int, _Read, _Read]]] = {}
"""Of sets whose members have one size, by count and that: the bytes, the mask of the sizes in them,
what that leaves, and what reads the ends of the members and them."""
_MAX_SETS: Final = 256
_ENDS: Final = ((8, "Q"), (4, "I"), (2, "H"), (1, "B"))
"""Numbers read in place of texts that are at least so long."""
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


def _set(data: bytes, pos: int, limits: Thresholds) -> int | None:
    # hot: benchmarks/load-pure; all members are often of one size.
    known = _SETS.get(data[pos : pos + 2]) or _learn_set(data[pos : pos + 2])
    if known is not None:
        size, mask, fixed, read_ends, read = known
        end = pos + size
        value = data[pos:end]
        if len(value) == size and _from_bytes(value, "little") & mask == fixed:
            count = value[0]
            if len({*read_ends(value)}) != count and len({*read(value)}) != count:
                return None
            # Most texts are no integers, which one of them says for all.
            if value[1] > 1 and not value[3 : 2 + value[1]].isdigit():
                return end
            return end if _is_no_intset(decode_strings(data, pos + 1, count)[0], limits) else None
    count, pos = decode_length(data, pos)
    if count > MAX_ELEMENTS:
        return None
    members, pos = decode_strings(data, pos, count)
    if not _small(members) or not _different(members):
        return None
    return pos if _is_no_intset(members, limits) else None


def _is_no_intset(members: Sequence[bytes], limits: Thresholds) -> bool:
    return len(members) > limits.set_max_intset_entries or None in map(listpack.integer_of, members)


def _readers(skip: int, gaps: Sequence[tuple[int, int]]) -> tuple[_Read, _Read]:
    """What reads the ends of texts as numbers, and what reads the texts.

    Texts whose ends differ do so themselves; those of equal ends are to be looked at whole.

    Args:
        skip: bytes before the first; gaps: how long each text is, and what follows it.
    """
    ends, texts = [f"={skip}x"], [f"={skip}x"]
    shortest = min((size for size, _ in gaps), default=0)
    width, form = next((each for each in _ENDS if each[0] <= shortest), (0, ""))
    for size, gap in gaps:
        ends.append(f"{size - width}x{form}{gap}x")
        texts.append(f"{size}s{gap}x")
    return struct.Struct("".join(ends)).unpack, struct.Struct("".join(texts)).unpack


def _learn_set(head: bytes) -> tuple[int, int, int, _Read, _Read] | None:
    """Note in _SETS what a set looks like whose count and first size are those of `head`."""
    if len(head) < 2 or not 0 < head[0] < _SHORT > head[1]:
        return None
    count, size = head
    if len(_SETS) == _MAX_SETS:
        _SETS.clear()
    fixed = head[:1] + (head[1:] + bytes(size)) * count
    mask = b"\xff" + (b"\xff" + bytes(size)) * count
    readers = _readers(2, [(size, 1)] * (count - 1) + [(size, 0)])
    known = len(fixed), _from_bytes(mask, "little"), _from_bytes(fixed, "little"), *readers
    _SETS[head] = known
    return known


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


def _is_intset(blob: bytes, limits: Thresholds) -> bool:
    count = intset.natural_members(blob)
    if count is None:
        count = len(intset.members(blob))
    return 0 < count <= limits.set_max_intset_entries and count <= MAX_ELEMENTS


def _is_hash(blob: bytes, limits: Thresholds) -> bool:
    # hot: benchmarks/load-pure, which is why `Layouts.verdict` is not called.
    known = _HASHES.known.get(len(blob))
    if known is not None and _from_bytes(blob, "little") & known[0] == known[1]:
        return 0 < known[2] <= limits.hash_max_listpack_entries
    count = _fields(blob)
    return count is not None and 0 < count <= min(
        MAX_ELEMENTS // 2, limits.hash_max_listpack_entries
    )


def _fields(blob: bytes) -> int | None:
    """How many pairs a hash has; None where it has a flaw, or none and no more than that."""
    count = scan.fields(blob) if len(blob) <= _MAX_SCANNED_BYTES else None
    if count is not None:
        # The fields must stay what they are; their values may be any.
        _HASHES.learn(
            blob, lambda: (scan.mask(scan.entries(blob) or [], lambda at: at % 2 == 1), count)
        )
        return count
    texts = listpack.decode(blob)
    if len(texts) % 2 or not _small(texts) or not _different(texts[::2]):
        return None
    return len(texts) // 2


def _is_zset(blob: bytes, limits: Thresholds) -> bool:
    # hot: benchmarks/load-pure, as in `_is_hash`.
    known = _ZSETS.known.get(len(blob))
    if known is not None and _from_bytes(blob, "little") & known[0] == known[1]:
        count, read_ends, read = known[2]
        if len({*read_ends(blob)}) != count and len({*read(blob)}) != count:
            return False
        return 0 < count <= limits.zset_max_listpack_entries
    found = _members(blob)
    return found is not None and 0 < found <= min(
        MAX_ELEMENTS // 2, limits.zset_max_listpack_entries
    )


def _members(blob: bytes) -> int | None:
    """How many members a sorted set has; None as for `_fields`."""
    count = scan.members(blob) if len(blob) <= _MAX_SCANNED_BYTES else None
    if count is not None:
        _ZSETS.learn(blob, lambda: _layout_of_zset(blob))
        return count
    texts = listpack.decode(blob)
    if len(texts) % 2 or not _small(texts) or not _different(texts[::2]):
        return None
    if not all(map(_PLAIN_SCORE.fullmatch, texts[1::2])):
        return None
    return len(texts) // 2


def _layout_of_zset(blob: bytes) -> tuple[bytes, tuple[int, _Read, _Read]]:
    """What sorted sets have in common whose members have these sizes, and whose scores these kinds.

    Where all members are strings in encoding too, their texts differ where their bytes do. Scores
    must be integers, as not every text is a score. Where that is not so, nothing may differ.
    """
    found = scan.entries(blob) or []
    members, scores = found[::2], found[1::2]
    if not all(map(scan.is_short_string, members)) or any(map(scan.is_short_string, scores)):
        places = tuple(range(len(members)))
        return b"\xff" * len(blob), (len(members), lambda blob: places, lambda blob: places)
    gaps = [(len(a) - 2, 2 + len(b)) for a, b in zip(members, scores, strict=True)]
    readers = _readers(HEADER_BYTES + 1, gaps)
    return scan.mask(found, lambda at: True), (len(members), *readers)


def _list(data: bytes, pos: int, limits: Thresholds) -> int | None:
    # hot: benchmarks/load-pure; most of what is small is one node, and has a length of two bytes.
    if data[pos : pos + 2] == _ONE_NODE and 0x40 <= data[pos + 2] < 0x80:
        end = pos + 4 + ((data[pos + 2] & 0x3F) << 8 | data[pos + 3])
        blob = data[pos + 4 : end]
        layout = _LISTS.known.get(len(blob))
        if (
            layout is not None
            and _from_bytes(blob, "little") & layout[0] == layout[1]
            and end <= len(data)
        ):
            return end
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
        if (known := _LISTS.verdict(blob)) is not None:
            count += known
            continue
        found = scan.equal_strings(blob)
        if found is None:
            found = len(scan.entries(blob) or ())
        if not found:
            return _decoded_list(data, begin, nodes)
        _learn_list(blob, found)
        count += found
    return pos if 0 < count <= MAX_ELEMENTS else None


def _learn_list(blob: bytes, count: int) -> None:
    _LISTS.learn(blob, lambda: (scan.mask(scan.entries(blob) or [], lambda at: True), count))


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
    # hot: benchmarks/load-pure; most of what is small is one node of one entry.
    if data[pos : pos + 2] == _ONE_NODE_ID:
        blob, end = decode_string(data, pos + 2 + _RAW_ID_BYTES)
        layout = _NODES.known.get(len(blob))
        if (
            layout is not None
            and _from_bytes(blob, "little") & layout[0] == layout[1]
            and len(layout[2][1]) == 1
            and (tail := _tail_of_one(data, end))
        ):
            return tail.end()
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
    if not (counters := stream_counters(data, pos)):
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
    values: list[range] = []
    deltas = _walk_node(node, number_of, values)
    if deltas is None:
        return None
    found = len(node), deltas
    if number_of is scan.number_of and len(values) <= _MAX_LEARNED_ENTRIES:
        places = {place for each in values for place in each}
        _NODES.learn(blob, lambda: (scan.mask(node, places.__contains__), found))
    return found


def _walk_node(
    node: list[bytes], number_of: Callable[[bytes], int | None], values: list[range]
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
            values.append(range(at + 3, at + 3 + width))
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


TEXT_CHECKS: Final[dict[int, Callable[[bytes, Thresholds], bool]]] = {
    c.TYPE_SET_INTSET: _is_intset,
    c.TYPE_HASH_LISTPACK: _is_hash,
    c.TYPE_ZSET_LISTPACK: _is_zset,
}
"""What judges the text of a value that is a string, by type code; may raise RdbError."""


def _check_of_text(
    check: Callable[[bytes, Thresholds], bool],
) -> Callable[[bytes, int, Thresholds], int | None]:
    def judge(data: bytes, pos: int, limits: Thresholds) -> int | None:
        text, pos = decode_string(data, pos)
        return pos if check(text, limits) else None

    return judge


CHECKS: Final[dict[int, Callable[[bytes, int, Thresholds], int | None]]] = {
    c.TYPE_SET: _set,
    c.TYPE_HASH: _hash,
    c.TYPE_ZSET_2: _zset,
    c.TYPE_LIST_QUICKLIST_2: _list,
    c.TYPE_STREAM_LISTPACKS_2: _stream,
    **{code: _check_of_text(check) for code, check in TEXT_CHECKS.items()},
}
"""What judges a value, by type code; as `packed_end`, but may raise Incomplete and RdbError."""
