"""Intset: a set of integers, packed and sorted.

    u32 width (2, 4 or 8) | u32 count | count integers of `width` bytes, ascending

All little-endian. The width is that of the widest member.

Source: intset.c.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Iterable
from typing import Final

from rdb.errors import RdbError

_HEADER: Final = struct.Struct("<II")
_FORMATS = {2: "h", 4: "i", 8: "q"}


_READERS: Final[dict[bytes, struct.Struct]] = {}
"""What reads an intset, by the header, whose width and count are those of it."""
_MAX_READERS: Final = 1024


def members(blob: bytes) -> tuple[int, ...]:
    """Unpack an intset, as `decode`."""
    # hot: benchmarks/load-pure
    reader = _READERS.get(blob[:8]) or _reader(blob)
    if len(blob) != reader.size:
        raise RdbError("intset header does not give its size")
    found = reader.unpack(blob)
    if any(map(operator.ge, found, found[1:])):
        raise RdbError("intset is not sorted")
    return found


def _reader(blob: bytes) -> struct.Struct:
    if len(blob) < _HEADER.size:
        raise RdbError("intset is cut off")
    width, count = _HEADER.unpack_from(blob)
    if width not in _FORMATS:
        raise RdbError(f"intset of width {width}")
    if len(blob) != _HEADER.size + width * count:
        raise RdbError("intset header does not give its size")
    if len(_READERS) == _MAX_READERS:
        _READERS.clear()
    reader = struct.Struct(f"<{_HEADER.size}x{count}{_FORMATS[width]}")
    _READERS[blob[: _HEADER.size]] = reader
    return reader


def decode(blob: bytes) -> list[int]:
    """Unpack an intset.

    Returns:
        The members, ascending. Cost: O(count).

    Raises:
        RdbError: width, count and size do not agree, or members are not strictly ascending.
    """
    return [*members(blob)]


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
