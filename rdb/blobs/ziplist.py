"""Ziplist: the packed list of Redis 2.4 to 6.2. Read only.

    u32 total bytes | u32 offset of the last entry | u16 count (65535: unknown) | entry* | FF
    entry: size of the previous entry (1 byte, or FE + u32), encoding, data

    first byte            entry
    00llllll              string of up to 63 bytes
    01llllll l            string of up to 16383 bytes, big-endian length
    80 l l l l            string, 32-bit big-endian length
    C0 D0 E0              integer of 2, 4, 8 bytes, little-endian
    F0 FE                 integer of 3, 1 bytes
    F1..FD                integer 0..12, in the byte itself

Invariants checked: total bytes is the size of the blob, entries end exactly at the FF, the
count (where known) is the number of entries, and what is there to read it backwards (the offset
of the last entry, the sizes of previous ones) is right, as ziplistValidateIntegrity has it.

Source: ziplist.c.
"""

from __future__ import annotations

from rdb.accel import accel
from rdb.errors import RdbError

HEADER_BYTES = 10
UNKNOWN_COUNT = 65535
_END = 0xFF
_LONG_PREVLEN = 0xFE
_INT_BYTES = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}


def decode(blob: bytes) -> list[bytes]:
    """Unpack a ziplist.

    Returns:
        The elements, integers as their decimal text. Cost: O(bytes).

    Raises:
        RdbError: the blob is not a ziplist.
    """
    if accel is not None:
        # None for what is no ziplist.
        elements: list[bytes] | None = accel.ziplist_decode(blob)
        if elements is not None:
            return elements
    return decode_reference(blob)


def decode_reference(blob: bytes) -> list[bytes]:
    """Unpack in Python; see `decode`."""
    size = len(blob)
    if size < HEADER_BYTES + 1 or int.from_bytes(blob[:4], "little") != size:
        raise RdbError("ziplist header does not give its size")
    if blob[-1] != _END:
        raise RdbError("ziplist does not end in FF")
    elements: list[bytes] = []
    append = elements.append
    last = size - 1
    pos = start = HEADER_BYTES
    while pos < last:
        before = pos - start
        start = pos
        told = blob[pos]
        if told == _LONG_PREVLEN:
            told = int.from_bytes(blob[pos + 1 : pos + 5], "little")
            pos += 4
        pos += 1
        if pos >= last:
            raise RdbError("ziplist entry is cut off")
        if told != before:
            raise RdbError(f"ziplist entry says that {told} bytes are before it, not {before}")
        first = blob[pos]
        begin = pos + 1
        if first < 0x40:
            pos = begin + first
            append(blob[begin:pos])
        elif first < 0x80:
            begin += 1
            pos = begin + ((first & 0x3F) << 8 | blob[begin - 1])
            append(blob[begin:pos])
        elif first == 0x80:
            begin += 4
            pos = begin + int.from_bytes(blob[begin - 4 : begin], "big")
            append(blob[begin:pos])
        elif first in _INT_BYTES:
            pos = begin + _INT_BYTES[first]
            append(b"%d" % int.from_bytes(blob[begin:pos], "little", signed=True))
        elif 0xF1 <= first <= 0xFD:
            pos = begin
            append(b"%d" % ((first & 0x0F) - 1))
        else:
            raise RdbError(f"unknown ziplist encoding 0x{first:02x}")
        if pos > last:
            raise RdbError("ziplist entry runs past the end")
    tail = int.from_bytes(blob[4:8], "little")
    # Where there is no entry the offset is of no use, and only to be inside.
    if tail > last or (elements and tail != start):
        raise RdbError(f"ziplist header has the last entry at {tail}, not {start}")
    count = int.from_bytes(blob[8:10], "little")
    if count not in (UNKNOWN_COUNT, len(elements)):
        raise RdbError(f"ziplist holds {len(elements)} entries, its header says {count}")
    return elements
