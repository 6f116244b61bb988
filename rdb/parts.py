"""A huge value, read some elements at a time (RdbReader's part_bytes).

    Splitter(type code, ...) -- take(data, position) --> parts of the value, position

An element is decoded when all of it is there, and a part is complete when its elements take
part_bytes in the file: where the input is cut makes no difference to the parts. Memory is that of
one part and the largest element.

Types whose values are one string (a packed value; in a server at most some 64 KiB), streams and
modules come whole. Elements that stand twice are refused within a part only: to know them all
would take the memory that this saves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from rdb import constants as c
from rdb.arrays import Array, decode_element
from rdb.blobs import ziplist
from rdb.dialect import Dialect
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length
from rdb.strings import decode_string
from rdb.values import ExpiringHash, decode_node, decode_text_score, refuse_twins

Unit = Callable[["Splitter", bytes, int], int]
"""Decodes one element at a position into Splitter.elements; returns the position after it."""

_DOUBLE: Final = struct.Struct("<d")
_I64: Final = struct.Struct("<q")


class Splitter:
    """The value that is being read.

    Args:
        type_code: one that `splits` knows.
        dialect: that of the file.
        part_bytes: how many bytes of the file make a part.

    Attributes:
        elements: those of the part to come, in the form of the type (rdb.values).
        expires_at_ms: field -> instant, of those among them that expire.
        is_done: whether the last element was read.
    """

    def __init__(self, type_code: int, dialect: Dialect, part_bytes: int) -> None:
        self.elements: list[Any] = []
        self.expires_at_ms: dict[bytes, int] = {}
        self.is_done = False
        self.base_ms = 0
        self._unit = (_VALKEY_UNITS if dialect.valkey else _UNITS)[type_code]
        self._type_code = type_code
        self._part_bytes = part_bytes
        self._bytes = 0
        self._left = -1
        self._cursor: int | None = None

    def take(self, data: bytes, pos: int) -> tuple[list[Any], int]:
        """Decode what is there.

        Returns:
            (the parts that it completes, the position after the last whole element).

        Raises:
            Incomplete: not even one element is there.
            RdbError: it is malformed.
        """
        parts: list[Any] = []
        start = pos
        if self._left < 0:
            pos = self._head(data, pos)
        unit = self._unit
        try:
            while self._left:
                after = unit(self, data, pos)
                self._left -= 1
                self._bytes += after - pos
                pos = after
                if self._bytes >= self._part_bytes or not self._left:
                    parts.append(self._part(pos))
        except Incomplete:
            if pos == start:
                raise
        self.is_done = not self._left
        return parts, pos

    def _head(self, data: bytes, pos: int) -> int:
        """What stands before the elements."""
        if self._type_code == c.TYPE_HASH_METADATA:
            if pos + 8 > len(data):
                raise Incomplete(pos + 8)
            self.base_ms = _I64.unpack_from(data, pos)[0] - 1
            pos += 8
        count, pos = decode_length(data, pos)
        if self._type_code == c.TYPE_ARRAY:
            flag, pos = decode_length(data, pos)
            if flag > 1:
                raise RdbError(f"array cursor flag {flag}", offset=pos - 1)
            if flag:
                self._cursor, pos = decode_length(data, pos)
        self._left = count
        return pos

    def _part(self, pos: int) -> Any:
        elements, self.elements = self.elements, []
        self._bytes = 0
        kind = c.KINDS[self._type_code]
        if kind == "array":
            return Array(elements, self._cursor)
        if kind != "list":
            names = elements
            if kind == "hash":
                names = elements[::2]
            elif kind == "zset":
                names = [member for member, _ in elements]
            try:
                refuse_twins(names, "element")
            except RdbError as error:
                raise RdbError(error.message, offset=pos) from None
        if self._unit in (_ttl_field, _valkey_field):
            expires, self.expires_at_ms = self.expires_at_ms, {}
            return ExpiringHash(elements, expires)
        return elements


def splits(type_code: int, dialect: Dialect) -> bool:
    """Whether values of a type can come in parts."""
    return type_code in (_VALKEY_UNITS if dialect.valkey else _UNITS)


def _string(into: Splitter, data: bytes, pos: int) -> int:
    text, pos = decode_string(data, pos)
    into.elements.append(text)
    return pos


def _field(into: Splitter, data: bytes, pos: int) -> int:
    field, pos = decode_string(data, pos)
    text, pos = decode_string(data, pos)
    into.elements += (field, text)
    return pos


def _text_scored(into: Splitter, data: bytes, pos: int) -> int:
    member, pos = decode_string(data, pos)
    score, pos = decode_text_score(data, pos)
    into.elements.append((member, score))
    return pos


def _scored(into: Splitter, data: bytes, pos: int) -> int:
    member, pos = decode_string(data, pos)
    if pos + 8 > len(data):
        raise Incomplete(pos + 8)
    (score,) = _DOUBLE.unpack_from(data, pos)
    if score != score:
        raise RdbError("a score is not a number", offset=pos)
    into.elements.append((member, score))
    return pos + 8


def _ziplist_node(into: Splitter, data: bytes, pos: int) -> int:
    start = pos
    blob, pos = decode_string(data, pos)
    try:
        into.elements += ziplist.decode(blob)
    except RdbError as error:
        raise RdbError(error.message, offset=start) from None
    return pos


def _node(into: Splitter, data: bytes, pos: int) -> int:
    start = pos
    try:
        elements, pos = decode_node(data, pos)
    except RdbError as error:
        raise RdbError(error.message, offset=max(error.offset, start)) from None
    into.elements += elements
    return pos


def _ttl_field(into: Splitter, data: bytes, pos: int) -> int:
    ttl_ms, pos = decode_length(data, pos)
    pos = _field(into, data, pos)
    if ttl_ms:
        into.expires_at_ms[into.elements[-2]] = into.base_ms + ttl_ms
    return pos


def _valkey_field(into: Splitter, data: bytes, pos: int) -> int:
    field, pos = decode_string(data, pos)
    text, pos = decode_string(data, pos)
    if pos + 8 > len(data):
        raise Incomplete(pos + 8)
    (instant_ms,) = _I64.unpack_from(data, pos)
    into.elements += (field, text)
    if instant_ms != -1:
        into.expires_at_ms[field] = instant_ms
    return pos + 8


def _array_element(into: Splitter, data: bytes, pos: int) -> int:
    start = pos
    index, pos = decode_length(data, pos)
    if into.elements and index <= into.elements[-1][0]:
        raise RdbError("array indexes do not ascend", offset=start)
    text, pos = decode_element(data, pos)
    into.elements.append((index, text))
    return pos


_SHARED_UNITS: dict[int, Unit] = {
    c.TYPE_LIST: _string,
    c.TYPE_SET: _string,
    c.TYPE_ZSET: _text_scored,
    c.TYPE_HASH: _field,
    c.TYPE_ZSET_2: _scored,
    c.TYPE_LIST_QUICKLIST: _ziplist_node,
    c.TYPE_LIST_QUICKLIST_2: _node,
}
_UNITS = _SHARED_UNITS | {
    c.TYPE_HASH_METADATA_PRE_GA: _ttl_field,
    c.TYPE_HASH_METADATA: _ttl_field,
    c.TYPE_ARRAY: _array_element,
    c.TYPE_HASH_TEMPLATE_ARRAY: _field,
}
_VALKEY_UNITS = _SHARED_UNITS | {c.VALKEY_TYPE_HASH_2: _valkey_field}
