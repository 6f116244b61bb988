"""What a value is called: its type, as TYPE says, and its encoding, as OBJECT ENCODING says.

Source: Redis 7.0 object.c (getObjectTypeName, strEncoding, tryObjectEncoding).
"""

from __future__ import annotations

from typing import Any, Final

from kvrepl.datatypes.hashes import HashValue
from kvrepl.datatypes.lists import ListValue
from kvrepl.datatypes.packed import ENCODINGS
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.datatypes.streams import StreamValue
from kvrepl.numbers import parse_int
from rdb.constants import KINDS
from rdb.packed import PACKED, Packed

EMBSTR_MAX_BYTES: Final = 44
"""Longest string that Redis keeps in one piece with its header (OBJ_ENCODING_EMBSTR_SIZE_LIMIT)."""

TYPES: Final[dict[type, bytes]] = {
    bytes: b"string",
    bytearray: b"string",
    ListValue: b"list",
    SetValue: b"set",
    HashValue: b"hash",
    SortedSet: b"zset",
    StreamValue: b"stream",
} | {packed: KINDS[code].encode() for code, packed in PACKED.items()}


def type_name(value: Any) -> bytes:
    """What TYPE answers for a value, packed or not. O(1)."""
    return TYPES.get(type(value), b"stream")


def encoding(value: Any) -> bytes:
    """What OBJECT ENCODING answers for a value, packed or not. O(1)."""
    if type(value) is bytes:
        if len(value) <= 20 and parse_int(value) is not None:
            return b"int"
        return b"embstr" if len(value) <= EMBSTR_MAX_BYTES else b"raw"
    if type(value) is bytearray:
        return b"raw"
    if isinstance(value, Packed):
        return ENCODINGS[value.type_code]
    name: bytes = getattr(value, "encoding", b"stream")
    return name
