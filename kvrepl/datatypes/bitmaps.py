"""Strings as bitmaps: bit 0 is the highest bit of the first byte.

All functions are given the string as it is, bytes or bytearray; what lies behind its end is zeros.
Whatever may be called on 512 MiB goes through it in pieces of CHUNK_BYTES, by operations of
Python that are one loop in C: a piece becomes one integer (`bit_count`, `&`, `|`, `^`), is compared
with a piece of equal bytes, or is translated.

A *field* is a number of up to 64 bits at any bit offset, highest bit first, signed in two's
complement. Where a new value does not fit, the policy decides: WRAP drops the high bits, SAT takes
the nearest value that fits, FAIL leaves the field alone.

Source: Redis 7.0 bitops.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

CHUNK_BYTES: Final = 1 << 16

WRAP: Final = b"WRAP"
SAT: Final = b"SAT"
FAIL: Final = b"FAIL"

_INVERT: Final = bytes(range(255, -1, -1))
_ZEROS: Final = bytes(CHUNK_BYTES)
_ONES: Final = b"\xff" * CHUNK_BYTES
_INT64_MAX: Final = (1 << 63) - 1
_UINT64: Final = (1 << 64) - 1

String = bytes | bytearray


def get_bit(data: String, offset: int) -> int:
    """The bit at an offset. O(1)."""
    at = offset >> 3
    return data[at] >> (~offset & 7) & 1 if at < len(data) else 0


def set_bit(data: bytearray, offset: int, bit: int) -> None:
    """Set the bit at an offset inside the string. O(1)."""
    mask = 0x80 >> (offset & 7)
    if bit:
        data[offset >> 3] |= mask
    else:
        data[offset >> 3] &= ~mask


def grow(data: bytearray, offset: int) -> bool:
    """Add zeros until the bit at an offset lies inside; False where it did before. O(added)."""
    missing = (offset >> 3) + 1 - len(data)
    if missing <= 0:
        return False
    data.extend(bytes(missing))
    return True


def count(data: String, first: int, last: int) -> int:
    """How many bits are set.

    Args:
        data: the string.
        first: the offset of the first bit looked at.
        last: the offset of the last one, not before the first and inside the string.

    Cost: O(bits looked at), 1 ns a byte.
    """
    start, stop = first >> 3, (last >> 3) + 1
    total = 0
    for at in range(start, stop, CHUNK_BYTES):
        total += int.from_bytes(data[at : min(at + CHUNK_BYTES, stop)], "little").bit_count()
    before = data[start] >> (8 - (first & 7))
    behind = data[stop - 1] & (0x7F >> (last & 7))
    return total - before.bit_count() - behind.bit_count()


def position(data: String, bit: int, first: int, last: int) -> int:
    """The offset of the first bit of a value, -1 where there is none.

    Args:
        data: the string.
        bit: the value, 0 or 1.
        first: the offset of the first bit looked at.
        last: the offset of the last one, not before the first and inside the string.

    Cost: O(bits looked at), 0.1 ns a byte.
    """
    start, stop = first >> 3, (last >> 3) + 1
    # The bits in front are taken for the other value, so that they are not found.
    front = 0xFF >> (first & 7)
    head = data[start] & front if bit else data[start] | (front ^ 0xFF)
    if head != (0 if bit else 0xFF):
        at = start
    else:
        at = _first_other(data, _ZEROS if bit else _ONES, start + 1, stop)
        if at < 0:
            return -1
        head = data[at]
    found = (at << 3) + 8 - (head if bit else head ^ 0xFF).bit_length()
    return found if found <= last else -1


def _first_other(data: String, unwanted: bytes, start: int, stop: int) -> int:
    """The offset of the first byte that is not as in `unwanted`, a chunk of equal bytes; or -1."""
    for at in range(start, stop, CHUNK_BYTES):
        chunk = data[at : min(at + CHUNK_BYTES, stop)]
        if not unwanted.startswith(chunk):
            return at + len(chunk) - len(chunk.lstrip(unwanted[:1]))
    return -1


def combine(operation: bytes, sources: Sequence[String]) -> bytearray:
    """A bitwise operation on strings.

    Args:
        operation: b"AND", b"OR", b"XOR", or b"NOT" with one source.
        sources: shorter ones are filled up with zeros.

    Returns:
        The result, as long as the longest source.

    Cost: O(bytes of all sources), 2 to 4 ns a byte.
    """
    if operation == b"NOT":
        return bytearray(sources[0].translate(_INVERT))
    result = bytearray()
    length = max(map(len, sources))
    for at in range(0, length, CHUNK_BYTES):
        size = min(CHUNK_BYTES, length - at)
        # Little-endian, so that what a shorter source lacks are the high bytes of its number.
        numbers = [int.from_bytes(source[at : at + size], "little") for source in sources]
        combined = numbers[0]
        for number in numbers[1:]:
            if operation == b"AND":
                combined &= number
            elif operation == b"OR":
                combined |= number
            else:
                combined ^= number
        result += combined.to_bytes(size, "little")
    return result


# ------------------------------------------------------------------- fields


class FieldType(NamedTuple):
    """What a field holds.

    Attributes:
        signed: whether in two's complement.
        bits: 1 to 64, to 63 if unsigned.
    """

    signed: bool
    bits: int

    @property
    def lowest(self) -> int:
        """The least value that fits."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The greatest value that fits."""
        return (1 << (self.bits - self.signed)) - 1


def get_field(data: String, kind: FieldType, offset: int) -> int:
    """The number at a bit offset. O(1)."""
    end = offset + kind.bits
    start, stop = offset >> 3, (end + 7) >> 3
    part = bytes(data[start:stop]).ljust(stop - start, b"\0")
    number = int.from_bytes(part, "big") >> (-end & 7) & ((1 << kind.bits) - 1)
    return _signed(number, kind.bits) if kind.signed else number


def set_field(data: bytearray, kind: FieldType, offset: int, number: int) -> None:
    """Put a number that fits at a bit offset inside the string. O(1)."""
    end = offset + kind.bits
    start, stop = offset >> 3, (end + 7) >> 3
    mask = (1 << kind.bits) - 1
    shift = -end & 7
    old = int.from_bytes(data[start:stop], "big")
    new = old & ~(mask << shift) | (number & mask) << shift
    data[start:stop] = new.to_bytes(stop - start, "big")


def fit(kind: FieldType, number: int, increment: int, policy: bytes) -> int | None:
    """The sum of two numbers as it goes into a field.

    Args:
        kind: of the field.
        number: what is in it, or any 64-bit number to be put into it.
        increment: of 64 bits; 0 for a number to be put.
        policy: WRAP, SAT or FAIL.

    Returns:
        The number, None where it does not fit and the policy is FAIL. O(1).
    """
    if not kind.signed:
        number &= _UINT64  # a negative number to be put is a very great one
    wanted = number + increment
    if kind.lowest <= wanted <= kind.highest:
        return wanted
    if policy == FAIL:
        return None
    if policy == SAT:
        # Redis computes the distance to the highest value in 64 bits. For a number put from far
        # below it comes out negative, and the field is taken to overflow upwards (bitops.c,
        # checkSignedBitfieldOverflow; tests/interop/test_bits.py).
        far_below = not increment and kind.highest - number > _INT64_MAX
        return kind.highest if far_below or wanted > kind.highest else kind.lowest
    wrapped = wanted & ((1 << kind.bits) - 1)
    return _signed(wrapped, kind.bits) if kind.signed else wrapped


def _signed(number: int, bits: int) -> int:
    """What a number of some bits means in two's complement."""
    return number - (1 << bits) if number >> (bits - 1) else number
