"""Intset: a set of integers, packed and sorted.

    u32 width (2, 4 or 8) | u32 count | count integers of `width` bytes, ascending

All little-endian. The width is that of the widest member.

Source: intset.c.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from rdb.errors import RdbError

_HEADER: Final = struct.Struct("<II")
_FORMATS = {2: "h", 4: "i", 8: "q"}


@lru_cache(1024)
def _members(width: int, count: int) -> Callable[[bytes, int], tuple[int, ...]]:
    """What reads so many integers."""
    return struct.Struct(f"<{count}{_FORMATS[width]}").unpack_from


def decode(blob: bytes) -> list[int]:
    """Unpack an intset.

    Returns:
        The members, ascending. Cost: O(count).

    Raises:
        RdbError: width, count and size do not agree, or members are not strictly ascending.
    """
    if len(blob) < _HEADER.size:
        raise RdbError("intset is cut off")
    width, count = _HEADER.unpack_from(blob)
    if width not in _FORMATS:
        raise RdbError(f"intset of width {width}")
    if len(blob) != _HEADER.size + width * count:
        raise RdbError("intset header does not give its size")
    members = _members(width, count)(blob, _HEADER.size)
    if any(map(operator.ge, members, members[1:])):
        raise RdbError("intset is not sorted")
    return [*members]


def encode(members: Iterable[int]) -> bytes:
    """Pack integers.

    Args:
        members: distinct integers of up to 64 bits, in any order.

    Returns:
        The whole intset. Cost: O(n log n).
    """
    ordered = sorted(members)
    width = 2
    if ordered:
        if ordered[0] < -(1 << 31) or ordered[-1] >= 1 << 31:
            width = 8
        elif ordered[0] < -(1 << 15) or ordered[-1] >= 1 << 15:
            width = 4
    count = len(ordered)
    return struct.pack(f"<II{count}{_FORMATS[width]}", width, count, *ordered)
