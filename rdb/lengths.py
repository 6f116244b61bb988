"""Lengths: the variable-size unsigned numbers that prefix everything in an RDB.

    first byte   bytes   meaning
    00xxxxxx     1       6 bits
    01xxxxxx     2       14 bits, big-endian
    10000000     5       32 bits, big-endian
    10000001     9       64 bits, big-endian
    11xxxxxx     -       no length: a specially encoded string (rdb.strings)

Decoders take (data, position) and return (value, new position); Incomplete says that the
buffer ends first.

Source: rdbSaveLen, rdbLoadLenByRef in rdb.c.
"""

from __future__ import annotations

from typing import Final

from rdb.errors import Incomplete, RdbError

_MAX_U32 = 0xFFFFFFFF
SHORT_LENGTHS: Final = (
    *(length.to_bytes(1, "big") for length in range(64)),
    *((0x4000 | length).to_bytes(2, "big") for length in range(64, 256)),
)
"""The lengths that most strings have, encoded."""


def encode_length(length: int) -> bytes:
    """Encode `length` in the shortest form.

    Args:
        length: 0 .. 2**64-1.
    """
    if length < len(SHORT_LENGTHS):
        return SHORT_LENGTHS[length]
    if length < 16384:
        return (0x4000 | length).to_bytes(2, "big")
    if length <= _MAX_U32:
        return b"\x80" + length.to_bytes(4, "big")
    return b"\x81" + length.to_bytes(8, "big")


def decode_length(data: bytes, pos: int) -> tuple[int, int]:
    """Read the length at `pos`; any of the forms is taken, not only the shortest.

    Raises:
        Incomplete: the buffer ends inside it.
        RdbError: the first byte is not one of a length; its offset is `pos`.
    """
    if pos >= len(data):
        raise Incomplete(pos + 1)
    first = data[pos]
    if first < 0x40:
        return first, pos + 1
    if first < 0x80:
        if pos + 2 > len(data):
            raise Incomplete(pos + 2)
        return (first & 0x3F) << 8 | data[pos + 1], pos + 2
    if first == 0x80:
        end = pos + 5
    elif first == 0x81:
        end = pos + 9
    elif first >= 0xC0:
        raise RdbError(f"a length was expected, found string encoding {first & 0x3F}", offset=pos)
    else:
        raise RdbError(f"unknown length encoding 0x{first:02x}", offset=pos)
    if end > len(data):
        raise Incomplete(end)
    return int.from_bytes(data[pos + 1 : end], "big"), end
