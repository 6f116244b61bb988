"""Zipmap: the packed hash of Redis before 2.6. Read only.

    u8 count (254 and up: unknown) | {len key, len, u8 free, value, free bytes}* | FF

A len is one byte up to 253, or FE and a little-endian u32. `free` bytes after a value are
unused space that an in-place update left behind.

Invariants checked: fields end exactly at the FF at the end of the blob. The count is a hint
and not checked: old writers left it wrong.

Source: zipmap.c.
"""

from __future__ import annotations

from rdb.errors import RdbError

_END = 0xFF
_LONG_LENGTH = 0xFE


def decode(blob: bytes) -> list[bytes]:
    """Unpack a zipmap.

    Returns:
        field, value, field, value ... Cost: O(bytes).

    Raises:
        RdbError: the blob is not a zipmap.
    """
    if len(blob) < 2 or blob[-1] != _END:
        raise RdbError("zipmap does not end in FF")
    last = len(blob) - 1
    strings: list[bytes] = []
    pos = 1
    while pos < last:
        begin, end = _extent(blob, pos, last)
        strings.append(blob[begin:end])
        begin, end = _extent(blob, end, last)
        if begin >= last:
            raise RdbError("zipmap value is cut off")
        free = blob[begin]
        strings.append(blob[begin + 1 : end + 1])
        pos = end + 1 + free
    if pos != last:
        raise RdbError("zipmap value runs past the end")
    return strings


def _extent(blob: bytes, pos: int, last: int) -> tuple[int, int]:
    length = blob[pos]
    pos += 1
    if length == _LONG_LENGTH:
        length = int.from_bytes(blob[pos : pos + 4], "little")
        pos += 4
    elif length == _END:
        raise RdbError("zipmap ends in the middle of a field")
    if pos + length > last:
        raise RdbError("zipmap field runs past the end")
    return pos, pos + length
