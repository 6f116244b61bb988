"""Arrays (Redis 8.8): texts at indexes of up to 64 bits, most of which may be empty.

    n elements, cursor flag (0 or 1), [cursor], n * (index, tag, payload)

    tag   payload
    0     string
    1     i64                the element is its decimal text
    2     double             the element is its text: the fewest digits, always with a point
    3     string             one of up to seven bytes, which Redis keeps without an allocation

Numbers are lengths unless said otherwise; i64 and double are little-endian. The cursor is where
ARINSERT goes on. How an element is stored says nothing about it: the tag is the shortest form that
gives the same text back.

Invariants checked: indexes ascend.

Source: files of Redis 8.8 and 8.10 (tests/data/rdb); the tags are those of its array.h.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from rdb import constants as c
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length
from rdb.strings import decode_string

_DOUBLE: Final = struct.Struct("<d")
_I64: Final = struct.Struct("<q")


@dataclass(slots=True)
class Array:
    """An array.

    Attributes:
        elements: (index, text), ascending by index.
        cursor: where the next insertion goes, None before the first one.
    """

    elements: list[tuple[int, bytes]] = field(default_factory=list)
    cursor: int | None = None

    def __len__(self) -> int:
        return len(self.elements)


def decode_array(data: bytes, pos: int) -> tuple[Array, int]:
    """Read an array (type 28).

    Returns:
        (array, position after it). Cost: O(bytes).

    Raises:
        Incomplete, RdbError.
    """
    count, pos = decode_length(data, pos)
    start = pos
    flag, pos = decode_length(data, pos)
    if flag > 1:
        raise RdbError(f"array cursor flag {flag}", offset=start)
    array = Array()
    if flag:
        array.cursor, pos = decode_length(data, pos)
    previous = -1
    for _ in range(count):
        start = pos
        index, pos = decode_length(data, pos)
        if index <= previous:
            raise RdbError("array indexes do not ascend", offset=start)
        previous = index
        text, pos = decode_element(data, pos)
        array.elements.append((index, text))
    return array, pos


def decode_element(data: bytes, pos: int) -> tuple[bytes, int]:
    """Read what stands behind an index: tag and payload. Raises Incomplete, RdbError."""
    start = pos
    tag, pos = decode_length(data, pos)
    if tag in (c.ARRAY_STRING, c.ARRAY_SHORT_STRING):
        return decode_string(data, pos)
    if tag not in (c.ARRAY_INT, c.ARRAY_DOUBLE):
        raise RdbError(f"unknown array element {tag}", offset=start)
    end = pos + 8
    if end > len(data):
        raise Incomplete(end)
    if tag == c.ARRAY_INT:
        return b"%d" % _I64.unpack_from(data, pos)[0], end
    (number,) = _DOUBLE.unpack_from(data, pos)
    if not math.isfinite(number):
        raise RdbError("an array element is not a number", offset=pos)
    # Written out in full: Redis stores no text with an exponent as a double.
    text = f"{Decimal(repr(number)):f}"
    return (text if "." in text else text + ".0").encode(), end
