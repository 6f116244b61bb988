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


_MAX_LANES: Final = 512
"""Members, as many as an intset has by default: what compares them takes four times their bytes."""
_Lanes = tuple[int, int, int, int, int, int, int, int]
_KNOWN: Final[dict[bytes, tuple[struct.Struct, _Lanes | None]]] = {}
"""By the header of an intset: what reads those of that width and count, and what
`natural_members` compares them with, where they are not too many for it."""
_MAX_KNOWN: Final = 256


def natural_members(blob: bytes) -> int | None:
    """How many members an intset has of which none is negative; None where that is not told.

    The intset is one number whose lanes are the members. Their highest bits are clear, so that, for
    all lanes at once, a member less the one before, less one, plus the highest bit is within a lane
    and keeps that bit just where the one before is smaller. O(bytes), in C.
    """
    # hot: benchmarks/load-pure
    known = _KNOWN.get(blob[:8])
    if known is None or (lanes := known[1]) is None:
        return None
    size, count, bits, mask, head, behind, more, high = lanes
    number = int.from_bytes(blob, "little")
    if number & mask != head or len(blob) != size:
        return None
    return count if (number >> bits) + more - (number & behind) & high == high else None


def _lanes(width: int, count: int) -> _Lanes | None:
    """What `natural_members` compares an intset of so many members with."""
    if not 0 < count <= _MAX_LANES:
        return None
    bits = 8 * width
    highest = 1 << bits - 1

    def each(lane: int, lanes: int) -> int:
        """So many lanes of one value, behind the header."""
        return int.from_bytes(
            bytes(_HEADER.size) + lane.to_bytes(width, "little") * lanes, "little"
        )

    return (
        _HEADER.size + width * count,
        count,
        bits,
        (1 << 8 * _HEADER.size) - 1 | each(highest, count),
        int.from_bytes(_HEADER.pack(width, count), "little"),
        each((1 << bits) - 1, count - 1),
        each(highest - 1, count - 1),
        each(highest, count - 1),
    )


def members(blob: bytes) -> tuple[int, ...]:
    """Unpack an intset, as `decode`."""
    known = _KNOWN.get(blob[:8])
    reader = known[0] if known is not None else _reader(blob)
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
    if len(_KNOWN) == _MAX_KNOWN:
        _KNOWN.clear()
    reader = struct.Struct(f"<{_HEADER.size}x{count}{_FORMATS[width]}")
    _KNOWN[blob[: _HEADER.size]] = reader, _lanes(width, count)
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
