"""Values: type codes <-> Python values.

    kind     Python value                      type codes read
    string   bytes                             0
    list     list[bytes]                       1, 10, 14, 18
    set      list[bytes]                       2, 11, 20
    zset     list[(member, score)]             3, 5, 12, 17; ascending, but for type 3
    hash     list[bytes]: field, value, ...    4, 9, 13, 16, 29, 30, 31, 32
             ExpiringHash                      22, 23, 24, 25 (fields with a TTL)
    stream   Stream                            15, 19, 21, 26, 27
    array    Array                             28
    module   ModuleValue                       7; kept as bytes

A hash is one flat list because that is what every encoding holds, and what is cheapest to
turn into a dict: `pairs = iter(flat); dict(zip(pairs, pairs))`.

Empty collections decode to empty values: whether a key without elements is skipped (Redis
does) is the consumer's choice. Elements that stand twice in a set, hash or sorted set are
refused.

Source: rdbLoadObject and rdbSaveObject in rdb.c.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rdb import constants as c
from rdb.accel import accel
from rdb.arrays import decode_array
from rdb.blobs import intset, listpack, ziplist, zipmap
from rdb.dialect import REDIS, Dialect
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length, encode_length
from rdb.modules import decode_module
from rdb.packed import Packed
from rdb.streams import NODE_MAX_BYTES, NODE_MAX_ENTRIES, decode_stream, encode_stream
from rdb.strings import decode_string, decode_strings, encode_string
from rdb.templates import REFERENCES, decode_reference, decode_template_listpack

Value = Any
"""One of the Python values in the table above."""

_DOUBLE: Final = struct.Struct("<d")
_I64: Final = struct.Struct("<q")
LIST_MAX_LISTPACK_SIZE: Final = -2
_LISTPACK_BYTES_OF_FILL: Final = {-1: 4096, -2: 8192, -3: 16384, -4: 32768, -5: 65536}
_SAFE_LISTPACK_BYTES: Final = 8192
NODE_ENTRY_OVERHEAD: Final = 8
"""What a quicklist allows for the head and backlen of an element, bytes."""
_MAX_INTEGER_SCORE: Final = 2.0**62
PLAIN_NODE_BYTES: Final = 1 << 30
"""From this size an element stands alone in a PLAIN node (quicklist's packed_threshold)."""


@dataclass(slots=True)
class ExpiringHash:
    """A hash some of whose fields expire (Redis 7.4, Valkey 9).

    Attributes:
        fields: field, value, field, value ...
        expires_at_ms: field -> instant, for the fields that have one.
    """

    fields: list[bytes]
    expires_at_ms: dict[bytes, int]

    def __len__(self) -> int:
        return len(self.fields)


# --- reading

Decoder = Callable[[bytes, int], tuple[Any, int]]


def decode_value(
    type_code: int, data: bytes, pos: int, dialect: Dialect = REDIS
) -> tuple[Value, int]:
    """Decode the value at `pos`.

    Args:
        type_code: how it is encoded.
        data: the buffer; pos: where the value starts in it.
        dialect: that of the file (RdbReader.dialect).

    Returns:
        (value, position after it). Cost: O(bytes).

    Raises:
        Incomplete: the buffer ends inside it.
        RdbError: it is malformed, or the type is unknown; the offset is a position in `data`.
    """
    decoder = (_VALKEY_DECODERS if dialect.valkey else _DECODERS).get(type_code)
    try:
        if decoder is not None:
            return decoder(data, pos)
        if type_code in REFERENCES and not dialect.valkey:
            return decode_reference(type_code, data, pos, dialect)
    except RdbError as error:
        if error.offset >= 0:
            raise
        name = c.TYPE_NAMES[type_code]
        raise RdbError(f"{name}: {error.message}", offset=pos) from None
    raise RdbError(f"unknown value type {type_code}", offset=pos)


def decode_packed(value: Packed) -> Value:
    """Decode a value that was kept packed. Cost: O(bytes)."""
    return decode_value(value.type_code, bytes(value), 0)[0]


def refuse_twins(elements: Collection[bytes], what: str) -> None:
    """Raise RdbError where an element stands twice."""
    if len(set(elements)) != len(elements):
        raise RdbError(f"duplicate {what}")


def _list(data: bytes, pos: int) -> tuple[list[bytes], int]:
    count, pos = decode_length(data, pos)
    return decode_strings(data, pos, count)


def _set(data: bytes, pos: int) -> tuple[list[bytes], int]:
    count, pos = decode_length(data, pos)
    members, pos = decode_strings(data, pos, count)
    refuse_twins(members, "set member")
    return members, pos


def _hash(data: bytes, pos: int) -> tuple[list[bytes], int]:
    count, pos = decode_length(data, pos)
    fields, pos = decode_strings(data, pos, 2 * count)
    refuse_twins(fields[::2], "hash field")
    return fields, pos


def _zset(data: bytes, pos: int) -> tuple[list[tuple[bytes, float]], int]:
    count, pos = decode_length(data, pos)
    pairs: list[tuple[bytes, float]] = []
    for _ in range(count):
        member, pos = decode_string(data, pos)
        score, pos = decode_text_score(data, pos)
        pairs.append((member, score))
    refuse_twins([member for member, _ in pairs], "sorted set member")
    return pairs, pos


_SPECIAL_SCORES = {253: math.nan, 254: math.inf, 255: -math.inf}


def decode_text_score(data: bytes, pos: int) -> tuple[float, int]:
    """Read a score as type 3 stores it. Raises Incomplete, RdbError."""
    if pos >= len(data):
        raise Incomplete(pos + 1)
    length = data[pos]
    pos += 1
    special = _SPECIAL_SCORES.get(length)
    if special is not None:
        if special != special:
            raise RdbError("a score is not a number", offset=pos - 1)
        return special, pos
    end = pos + length
    if end > len(data):
        raise Incomplete(end)
    return _scores([data[pos:end]])[0], end


def _scores(texts: list[bytes]) -> list[float]:
    try:
        scores = list(map(float, texts))
    except ValueError:
        raise RdbError("text is not a score") from None
    if any(map(math.isnan, scores)):
        raise RdbError("a score is not a number")
    return scores


def _zset2(data: bytes, pos: int) -> tuple[list[tuple[bytes, float]], int]:
    count, pos = decode_length(data, pos)
    if 9 * count > len(data) - pos:
        raise Incomplete(pos + 9 * count)
    pairs: list[tuple[bytes, float]] = []
    size = len(data)
    while True:
        if accel is not None:
            # Stops at what it does not understand, which is then read or refused here.
            pos = accel.read_scored(data, pos, count, pairs)
        if len(pairs) == count:
            break
        member, pos = decode_string(data, pos)
        if pos + 8 > size:
            raise Incomplete(pos + 8)
        (score,) = _DOUBLE.unpack_from(data, pos)
        if score != score:
            raise RdbError("a score is not a number", offset=pos)
        pos += 8
        pairs.append((member, score))
    refuse_twins([member for member, _ in pairs], "sorted set member")
    pairs.reverse()  # Written highest first; see _encode_zset2.
    return pairs, pos


def _fields_of(unpack: Callable[[bytes], list[bytes]]) -> Decoder:
    def decode(data: bytes, pos: int) -> tuple[list[bytes], int]:
        blob, pos = decode_string(data, pos)
        fields = unpack(blob)
        if len(fields) % 2:
            raise RdbError("a field without a value")
        refuse_twins(fields[::2], "hash field")
        return fields, pos

    return decode


def _scores_of(unpack: Callable[[bytes], list[bytes]]) -> Decoder:
    def decode(data: bytes, pos: int) -> tuple[list[tuple[bytes, float]], int]:
        blob, pos = decode_string(data, pos)
        elements = unpack(blob)
        if len(elements) % 2:
            raise RdbError("a member without a score")
        members = elements[::2]
        refuse_twins(members, "sorted set member")
        return list(zip(members, _scores(elements[1::2]), strict=True)), pos

    return decode


def _ziplist(data: bytes, pos: int) -> tuple[list[bytes], int]:
    blob, pos = decode_string(data, pos)
    return ziplist.decode(blob), pos


def _intset(data: bytes, pos: int) -> tuple[list[bytes], int]:
    blob, pos = decode_string(data, pos)
    return [b"%d" % member for member in intset.decode(blob)], pos


def _set_listpack(data: bytes, pos: int) -> tuple[list[bytes], int]:
    blob, pos = decode_string(data, pos)
    members = listpack.decode(blob)
    refuse_twins(members, "set member")
    return members, pos


def _quicklist(data: bytes, pos: int) -> tuple[list[bytes], int]:
    nodes, pos = decode_length(data, pos)
    elements: list[bytes] = []
    for _ in range(nodes):
        blob, pos = decode_string(data, pos)
        elements += ziplist.decode(blob)
    return elements, pos


def _quicklist2(data: bytes, pos: int) -> tuple[list[bytes], int]:
    nodes, pos = decode_length(data, pos)
    elements: list[bytes] = []
    for _ in range(nodes):
        node, pos = decode_node(data, pos)
        elements += node
    return elements, pos


def decode_node(data: bytes, pos: int) -> tuple[list[bytes], int]:
    """Read a node of a quicklist2: its elements. Raises Incomplete, RdbError."""
    container, after = decode_length(data, pos)
    if container not in (c.NODE_PLAIN, c.NODE_PACKED):
        raise RdbError(f"unknown quicklist container {container}", offset=pos)
    blob, pos = decode_string(data, after)
    return ([blob] if container == c.NODE_PLAIN else listpack.decode(blob)), pos


def _i64(data: bytes, pos: int) -> tuple[int, int]:
    if pos + 8 > len(data):
        raise Incomplete(pos + 8)
    (number,) = _I64.unpack_from(data, pos)
    return number, pos + 8


def _hash_metadata(data: bytes, pos: int) -> tuple[ExpiringHash, int]:
    """{TTL, field, value}*, each TTL 0 or 1 + the distance from the hash's earliest."""
    earliest_ms, pos = _i64(data, pos)
    return _expiring_fields(data, pos, earliest_ms - 1)


def _hash_metadata_pre_ga(data: bytes, pos: int) -> tuple[ExpiringHash, int]:
    return _expiring_fields(data, pos, 0)


def _expiring_fields(data: bytes, pos: int, base_ms: int) -> tuple[ExpiringHash, int]:
    count, pos = decode_length(data, pos)
    value = ExpiringHash([], {})
    for _ in range(count):
        ttl_ms, pos = decode_length(data, pos)
        field, pos = decode_string(data, pos)
        text, pos = decode_string(data, pos)
        value.fields += (field, text)
        if ttl_ms:
            value.expires_at_ms[field] = base_ms + ttl_ms
    refuse_twins(value.fields[::2], "hash field")
    return value, pos


def _hash_listpack_ex(data: bytes, pos: int) -> tuple[ExpiringHash, int]:
    _, pos = _i64(data, pos)  # The earliest expiry, found again in the fields.
    return _hash_listpack_ex_pre_ga(data, pos)


def _hash_listpack_ex_pre_ga(data: bytes, pos: int) -> tuple[ExpiringHash, int]:
    """A listpack of field, value, instant in ms (0: none)."""
    blob, pos = decode_string(data, pos)
    elements = listpack.decode(blob)
    if len(elements) % 3:
        raise RdbError("a field without value or TTL")
    value = ExpiringHash([], {})
    try:
        for at in range(0, len(elements), 3):
            value.fields += elements[at : at + 2]
            if instant_ms := int(elements[at + 2]):
                value.expires_at_ms[elements[at]] = instant_ms
    except ValueError:
        raise RdbError("a TTL is not a number") from None
    refuse_twins(value.fields[::2], "hash field")
    return value, pos


def _valkey_hash2(data: bytes, pos: int) -> tuple[ExpiringHash, int]:
    """{field, value, i64 instant in ms (-1: none)}*."""
    count, pos = decode_length(data, pos)
    value = ExpiringHash([], {})
    for _ in range(count):
        field, pos = decode_string(data, pos)
        text, pos = decode_string(data, pos)
        instant_ms, pos = _i64(data, pos)
        value.fields += (field, text)
        if instant_ms != -1:
            value.expires_at_ms[field] = instant_ms
    refuse_twins(value.fields[::2], "hash field")
    return value, pos


def _stream_of(type_code: int) -> Decoder:
    return lambda data, pos: decode_stream(type_code, data, pos)


_SHARED_DECODERS: dict[int, Decoder] = {
    c.TYPE_STRING: decode_string,
    c.TYPE_LIST: _list,
    c.TYPE_SET: _set,
    c.TYPE_ZSET: _zset,
    c.TYPE_HASH: _hash,
    c.TYPE_ZSET_2: _zset2,
    c.TYPE_MODULE_2: decode_module,
    c.TYPE_HASH_ZIPMAP: _fields_of(zipmap.decode),
    c.TYPE_LIST_ZIPLIST: _ziplist,
    c.TYPE_SET_INTSET: _intset,
    c.TYPE_ZSET_ZIPLIST: _scores_of(ziplist.decode),
    c.TYPE_HASH_ZIPLIST: _fields_of(ziplist.decode),
    c.TYPE_LIST_QUICKLIST: _quicklist,
    c.TYPE_STREAM_LISTPACKS: _stream_of(c.TYPE_STREAM_LISTPACKS),
    c.TYPE_HASH_LISTPACK: _fields_of(listpack.decode),
    c.TYPE_ZSET_LISTPACK: _scores_of(listpack.decode),
    c.TYPE_LIST_QUICKLIST_2: _quicklist2,
    c.TYPE_STREAM_LISTPACKS_2: _stream_of(c.TYPE_STREAM_LISTPACKS_2),
    c.TYPE_SET_LISTPACK: _set_listpack,
    c.TYPE_STREAM_LISTPACKS_3: _stream_of(c.TYPE_STREAM_LISTPACKS_3),
}
_DECODERS = _SHARED_DECODERS | {
    c.TYPE_HASH_METADATA_PRE_GA: _hash_metadata_pre_ga,
    c.TYPE_HASH_LISTPACK_EX_PRE_GA: _hash_listpack_ex_pre_ga,
    c.TYPE_HASH_METADATA: _hash_metadata,
    c.TYPE_HASH_LISTPACK_EX: _hash_listpack_ex,
    c.TYPE_STREAM_LISTPACKS_4: _stream_of(c.TYPE_STREAM_LISTPACKS_4),
    c.TYPE_STREAM_LISTPACKS_5: _stream_of(c.TYPE_STREAM_LISTPACKS_5),
    c.TYPE_ARRAY: decode_array,
    c.TYPE_HASH_TEMPLATE_LISTPACK: decode_template_listpack,
    c.TYPE_HASH_TEMPLATE_ARRAY: _hash,
}
_VALKEY_DECODERS = _SHARED_DECODERS | {c.VALKEY_TYPE_HASH_2: _valkey_hash2}


# --- writing


def encode_value(
    type_code: int,
    value: Value,
    *,
    compress: bool = True,
    list_max_listpack_size: int = LIST_MAX_LISTPACK_SIZE,
    stream_node_max_bytes: int = NODE_MAX_BYTES,
    stream_node_max_entries: int = NODE_MAX_ENTRIES,
) -> bytes:
    """Encode a value, without type code and key.

    Args:
        type_code: 0, 2, 4, 5, 11, 16, 17, 18, 19 (what Redis 7.0 writes) or 1, 3, 7, 15, 20, 21,
            24 (an ExpiringHash some of whose fields expire).
        value: as the reader gives it. A hash may also be a mapping, a set any collection, a
            sorted set any sequence of (member, score) ascending by score. For 11, 16, 17 and 20
            a value of type bytes is taken for the packed blob itself. A Packed of the type is
            copied, whatever the options say, unless it may hold LZF that is not wanted.
        compress: whether LZF may be used (`rdbcompression`).
        list_max_listpack_size: as the directive of that name: -1..-5 for nodes of 4 to 64 KiB,
            positive for that many elements a node.
        stream_node_max_bytes, stream_node_max_entries: as the directives.

    Returns:
        The bytes of the value. Cost: O(bytes), n log n for an intset.

    Raises:
        ValueError: the type code is not one that can be written.
    """
    if type_code == c.TYPE_STRING:
        return encode_string(value, compress)
    if isinstance(value, Packed):
        assert type_code == value.type_code, "a packed value can be written as nothing else"
        if compress or not value.may_hold_lzf():
            return bytes(value)
        value = decode_packed(value)
    if type_code == c.TYPE_LIST_QUICKLIST_2:
        return encode_quicklist(value, list_max_listpack_size, compress)
    if type_code in (c.TYPE_LIST, c.TYPE_SET):
        return encode_length(len(value)) + encode_elements(value, compress)
    if type_code == c.TYPE_HASH:
        count = len(value) if isinstance(value, Mapping) else len(value) // 2
        return encode_length(count) + encode_elements(value, compress)
    if type_code == c.TYPE_ZSET_2:
        return _encode_zset2(value, compress)
    if type_code == c.TYPE_ZSET:
        return _encode_zset(value, compress)
    if type_code == c.TYPE_HASH_METADATA:
        return _encode_hash_metadata(value, compress)
    if type_code in _BLOB_ENCODERS:
        blob = value if type(value) is bytes else _BLOB_ENCODERS[type_code](value)
        return encode_string(blob, compress)
    if type_code == c.TYPE_MODULE_2:
        return encode_length(value.module_id) + bytes(value.payload)
    if type_code in (
        c.TYPE_STREAM_LISTPACKS,
        c.TYPE_STREAM_LISTPACKS_2,
        c.TYPE_STREAM_LISTPACKS_3,
    ):
        return encode_stream(
            value,
            type_code,
            compress=compress,
            node_max_bytes=stream_node_max_bytes,
            node_max_entries=stream_node_max_entries,
        )
    raise ValueError(f"type {type_code} cannot be written")


def format_score(score: float) -> bytes:
    """The text of a score in a listpack: an integer where it is one, else 17 digits.

    Source: zzlInsertAt in t_zset.c, double2ll and d2string in util.c.
    """
    if score == math.inf:
        return b"inf"
    if score == -math.inf:
        return b"-inf"
    # double2ll takes a score for an integer within half the range of 64 bits.
    if -_MAX_INTEGER_SCORE <= score <= _MAX_INTEGER_SCORE and score == int(score):
        return b"%d" % int(score)
    return b"%.17g" % score


def _flat(value: Mapping[bytes, bytes] | Sequence[bytes]) -> Sequence[bytes]:
    if isinstance(value, Mapping):
        return [text for pair in value.items() for text in pair]
    return value


def encode_elements_reference(
    container: Collection[bytes] | Mapping[bytes, bytes], compress: bool
) -> bytes:
    """Encode in Python; see `encode_elements`."""
    strings = _flat(container) if isinstance(container, Mapping) else container
    return b"".join([encode_string(string, compress) for string in strings])


def encode_elements(container: Collection[bytes] | Mapping[bytes, bytes], compress: bool) -> bytes:
    """Encode the strings of a container, those of a mapping as key, value, key, value ...

    In the compiled form the elements of a list or dict (no subclass) are only borrowed, as a
    snapshot child needs it; see rdb.writer.
    """
    if isinstance(container, Mapping) and type(container) is not dict:
        container = _flat(container)
    return _encode_elements(container, compress)


_encode_elements: Callable[[Any, bool], bytes] = (
    encode_elements_reference if accel is None else accel.encode_elements
)


def _encode_zset2(pairs: Sequence[tuple[bytes, float]], compress: bool) -> bytes:
    out = [encode_length(len(pairs))]
    pack = _DOUBLE.pack
    # Highest first: the loader then inserts every element at the head of its skiplist.
    for member, score in reversed(pairs):
        out += (encode_string(member, compress), pack(score))
    return b"".join(out)


def _encode_zset(pairs: Sequence[tuple[bytes, float]], compress: bool) -> bytes:
    out = [encode_length(len(pairs))]
    for member, score in pairs:
        out.append(encode_string(member, compress))
        if math.isinf(score):
            out.append(b"\xfe" if score > 0 else b"\xff")
        else:
            # As text a zero keeps its sign only here: the packed form of Redis drops it.
            text = b"-0" if str(score) == "-0.0" else format_score(score)
            out += (len(text).to_bytes(1, "big"), text)
    return b"".join(out)


def _encode_hash_metadata(value: ExpiringHash, compress: bool) -> bytes:
    expires = value.expires_at_ms
    earliest_ms = min(expires.values())
    out = [_I64.pack(earliest_ms), encode_length(len(value.fields) // 2)]
    for field, text in zip(value.fields[::2], value.fields[1::2], strict=True):
        at_ms = expires.get(field)
        out.append(encode_length(0 if at_ms is None else at_ms - earliest_ms + 1))
        out += (encode_string(field, compress), encode_string(text, compress))
    return b"".join(out)


def pack_hash(value: Mapping[bytes, bytes] | Sequence[bytes]) -> bytes:
    """The listpack of a hash."""
    return listpack.encode(_flat(value))


def pack_zset(pairs: Iterable[tuple[bytes, float]]) -> bytes:
    """The listpack of a sorted set, given in ascending order."""
    return listpack.encode([text for m, score in pairs for text in (m, format_score(score))])


def pack_intset(members: Iterable[bytes]) -> bytes:
    """The intset of a set of integers, given as text."""
    return intset.encode(map(int, members))


_BLOB_ENCODERS: dict[int, Callable[[Any], bytes]] = {
    c.TYPE_SET_INTSET: pack_intset,
    c.TYPE_HASH_LISTPACK: pack_hash,
    c.TYPE_ZSET_LISTPACK: pack_zset,
    c.TYPE_SET_LISTPACK: listpack.encode,
}


def node_limits(list_max_listpack_size: int) -> tuple[int, int | None]:
    """How many bytes and how many elements a node of a list takes at most; None is no limit."""
    fill = list_max_listpack_size
    if fill < 0:
        return _LISTPACK_BYTES_OF_FILL[max(fill, -5)], None
    return _SAFE_LISTPACK_BYTES, fill


def encode_quicklist(
    elements: Iterable[bytes],
    list_max_listpack_size: int = LIST_MAX_LISTPACK_SIZE,
    compress: bool = True,
    *,
    plain_node_bytes: int = PLAIN_NODE_BYTES,
) -> bytes:
    """Encode a list as quicklist2 nodes, filled the way RPUSH fills them.

    Args:
        elements: the list, head first.
        list_max_listpack_size: how full a node gets; see `encode_value`.
        compress: whether LZF may be used.
        plain_node_bytes: elements of this size and above get a PLAIN node of their own.

    Source: _quicklistNodeAllowInsert in quicklist.c.
    """
    max_bytes, max_entries = node_limits(list_max_listpack_size)
    nodes: list[bytes] = []
    node: list[bytes] = []
    node_bytes = empty_bytes = listpack.HEADER_BYTES + 1

    def close_node() -> None:
        nonlocal node, node_bytes
        if node:
            nodes.append(b"\x02" + encode_string(listpack.assemble(node), compress))
            node = []
            node_bytes = empty_bytes

    for element in elements:
        if len(element) >= plain_node_bytes:
            close_node()
            nodes.append(b"\x01" + encode_string(element, compress))
            continue
        # Redis allows for an entry's overhead with a flat figure, not the true one.
        grown_bytes = node_bytes + len(element) + NODE_ENTRY_OVERHEAD
        if node and (
            grown_bytes > max_bytes or (max_entries is not None and len(node) >= max_entries)
        ):
            close_node()
        entry = listpack.encode_entry(element)
        node.append(entry)
        node_bytes += len(entry)
    close_node()
    return encode_length(len(nodes)) + b"".join(nodes)
