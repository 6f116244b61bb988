"""Listpack: the packed list of Redis 5 and later.

    u32 total bytes | u16 count (65535: unknown) | entry* | FF
    entry: encoding, data, backlen

    first byte            entry
    0xxxxxxx              integer 0..127
    10llllll              string of up to 63 bytes
    110xxxxx x            13-bit integer, two's complement
    1110llll l            string of up to 4095 bytes
    F0 l l l l            string, 32-bit little-endian length
    F1 F2 F3 F4           integer of 2, 3, 4, 8 bytes, little-endian

The backlen is the size of what precedes it in the entry, in 7-bit groups, most significant
first, every byte but the first with its high bit set, so that it can be read from the end. It
has 1 byte up to 127, 2 up to 16383, 3 up to 2097151, 4 up to 268435455, else 5.

An element that is the canonical decimal text of a 64-bit integer is stored as an integer, and
reads back as that text.

Invariants checked: total bytes is the size of the blob, entries end exactly at the one FF,
each backlen is that of its entry, the count (where known) is the number of entries.

Source: listpack.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rdb.accel import accel
from rdb.errors import RdbError

HEADER_BYTES = 6
UNKNOWN_COUNT = 65535
MAX_BYTES = 0xFFFFFFFF
_END = 0xFF
_INT_BYTES = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_MAX_INT_TEXT = 20
EMPTY = b"\x07\x00\x00\x00\x00\x00\xff"


def encode_backlen(size: int) -> bytes:
    """The backlen of an entry whose encoding and data take `size` bytes."""
    if size <= 127:
        return size.to_bytes(1, "big")
    # lpEncodeBacklen compares with < from the third byte on, so the last size that would fit
    # takes one byte more.
    if size < 16383:
        return bytes((size >> 7, size & 127 | 128))
    if size < 2097151:
        return bytes((size >> 14, size >> 7 & 127 | 128, size & 127 | 128))
    if size < 268435455:
        return bytes((size >> 21, size >> 14 & 127 | 128, size >> 7 & 127 | 128, size & 127 | 128))
    return bytes(
        (
            size >> 28,
            size >> 21 & 127 | 128,
            size >> 14 & 127 | 128,
            size >> 7 & 127 | 128,
            size & 127 | 128,
        )
    )


def encode_int_entry(number: int) -> bytes:
    """The entry of an integer, -2**63 .. 2**63-1."""
    if 0 <= number <= 127:
        return bytes((number, 1))
    if -4096 <= number <= 4095:
        number &= 0x1FFF
        return bytes((0xC0 | number >> 8, number & 0xFF, 2))
    if -32768 <= number <= 32767:
        return b"\xf1" + number.to_bytes(2, "little", signed=True) + b"\x03"
    if -8388608 <= number <= 8388607:
        return b"\xf2" + number.to_bytes(3, "little", signed=True) + b"\x04"
    if -2147483648 <= number <= 2147483647:
        return b"\xf3" + number.to_bytes(4, "little", signed=True) + b"\x05"
    return b"\xf4" + number.to_bytes(8, "little", signed=True) + b"\x09"


def integer_of(element: bytes) -> int | None:
    """The integer whose canonical decimal text `element` is, if it fits 64 bits."""
    # hot: benchmarks/load-pure; most texts are told from integers without an exception.
    if len(element) > _MAX_INT_TEXT or not (element.isdigit() or element[1:].isdigit()):
        return None
    try:
        number = int(element)
    except ValueError:
        return None
    if -(1 << 63) <= number < 1 << 63 and b"%d" % number == element:
        return number
    return None


def encode_entry_reference(element: bytes) -> bytes:
    """Encode in Python; see `encode_entry`."""
    number = integer_of(element)
    if number is not None:
        return encode_int_entry(number)
    size = len(element)
    if size < 64:
        return b"%c%b%c" % (0x80 | size, element, size + 1)
    if size < 4096:
        head = bytes((0xE0 | size >> 8, size & 0xFF))
    else:
        head = b"\xf0" + size.to_bytes(4, "little")
    return head + element + encode_backlen(size + len(head))


def encode_reference(elements: Iterable[bytes]) -> bytes:
    """Pack in Python; see `encode`."""
    return assemble([encode_entry_reference(element) for element in elements])


def encode_entry(element: bytes) -> bytes:
    """The entry of one element: encoding, data and backlen."""
    return _encode_entry(element)


def encode(elements: Iterable[bytes]) -> bytes:
    """Pack elements.

    Returns:
        The whole listpack. Cost: O(bytes).

    Raises:
        OverflowError: it would be larger than 4 GiB.
    """
    return _encode(elements)


def assemble(entries: list[bytes]) -> bytes:
    """Join encoded entries to a listpack."""
    body = b"".join(entries)
    total = HEADER_BYTES + len(body) + 1
    count = min(len(entries), UNKNOWN_COUNT)
    return total.to_bytes(4, "little") + count.to_bytes(2, "little") + body + b"\xff"


def decode_reference(blob: bytes) -> list[bytes]:
    """Unpack in Python; see `decode`."""
    size = len(blob)
    if size < HEADER_BYTES + 1 or int.from_bytes(blob[:4], "little") != size:
        raise RdbError("listpack header does not give its size")
    if blob[-1] != _END:
        raise RdbError("listpack does not end in FF")
    elements: list[bytes] = []
    append = elements.append
    last = size - 1
    pos = HEADER_BYTES
    while pos < last:
        first = blob[pos]
        begin = pos + 1
        if first < 0x80:
            end = begin
            append(b"%d" % first)
        elif first < 0xC0:
            end = begin + (first & 0x3F)
            append(blob[begin:end])
        elif first < 0xE0:
            end = begin + 1
            number = (first & 0x1F) << 8 | blob[begin]
            append(b"%d" % (number - 8192 if number >= 4096 else number))
        elif first < 0xF0:
            begin += 1
            end = begin + ((first & 0x0F) << 8 | blob[begin - 1])
            append(blob[begin:end])
        elif first == 0xF0:
            begin += 4
            end = begin + int.from_bytes(blob[pos + 1 : begin], "little")
            append(blob[begin:end])
        elif first in _INT_BYTES:
            end = begin + _INT_BYTES[first]
            append(b"%d" % int.from_bytes(blob[begin:end], "little", signed=True))
        else:
            raise RdbError(f"unknown listpack encoding 0x{first:02x}")
        backlen = encode_backlen(end - pos)
        pos = end + len(backlen)
        if pos > last or blob[end:pos] != backlen:
            raise RdbError("listpack entry is cut off or has a wrong backlen")
    count = int.from_bytes(blob[4:6], "little")
    if count not in (UNKNOWN_COUNT, len(elements)):
        raise RdbError(f"listpack holds {len(elements)} entries, its header says {count}")
    return elements


def decode(blob: bytes) -> list[bytes]:
    """Unpack a listpack.

    Returns:
        The elements, integers as their decimal text. Cost: O(bytes).

    Raises:
        RdbError: the blob is not a listpack.
    """
    return _decode(blob)


_encode_entry: Callable[[bytes], bytes] = (
    encode_entry_reference if accel is None else accel.listpack_entry
)
_encode: Callable[[Iterable[bytes]], bytes] = (
    encode_reference if accel is None else accel.listpack_encode
)
_decode: Callable[[bytes], list[bytes]] = (
    decode_reference if accel is None else accel.listpack_decode
)
