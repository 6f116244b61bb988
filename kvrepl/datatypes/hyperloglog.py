"""HyperLogLog: how many different elements were added, in 12 KiB and with an error of 0.81 %.

The value is a string with a format of its own, kept byte for byte as Redis 7.0 keeps it, so that
it can be dumped, replicated and read by either side:

    0..3    "HYLL"
    4       encoding: 0 dense, 1 sparse
    5..7    unused
    8..15   cached cardinality, little-endian; the top bit says that it is out of date
    16..    16,384 registers of values 0..51

    dense   6 bits a register, the first in the low bits of the first byte: 12,288 bytes
    sparse  operations that give the registers from the first to the last:
                00xxxxxx            ZERO   x + 1 registers are 0
                01xxxxxx yyyyyyyy   XZERO  xy + 1 registers are 0
                1vvvvvxx            VAL    x + 1 registers (4 at most) are v + 1 (32 at most)

An element is hashed to 64 bits: the low 14 choose the register, and the register keeps the largest
number seen of trailing zeros in the other 50, plus one. A sparse value becomes dense for good
when a register exceeds 32 or the string would exceed the setting hll-sparse-max-bytes.

What is added to a sparse value decides its bytes, not only its registers: one operation is split
in up to three, and then equal VALs are joined among the five operations from the one before. This
is followed exactly.

Registers are also handled *plain*, as 16,384 bytes, one a register. Base 64 is the fast way there
and back, since each of its letters is 6 bits; integers of 131,072 bits compare all registers at
once.

A value given to a function that changes it is a bytearray; `is_valid` was asked before.

Source: hyperloglog.c of Redis 7.0; Otmar Ertl, "New cardinality estimation algorithms for
HyperLogLog sketches" (2017), algorithms 2 and 6, for the estimate; MurmurHash64A by Austin Appleby.
"""

from __future__ import annotations

import re
import struct
from binascii import a2b_base64, b2a_base64
from math import inf, sqrt
from typing import Final, NamedTuple

from kvrepl.errors import CommandError

CORRUPT: Final = CommandError(b"INVALIDOBJ Corrupted HLL object detected")

TOO_MANY: Final = -(1 << 63)
"""What Redis answers where the estimate exceeds 64 bits: the result of llround on x86-64."""

REGISTERS: Final = 1 << 14
REGISTER_BITS: Final = 6
HEADER_BYTES: Final = 16
DENSE_BYTES: Final = HEADER_BYTES + REGISTERS * REGISTER_BITS // 8
SPARSE_MAX_VALUE: Final = 32

_MAGIC: Final = b"HYLL"
_DENSE: Final = 0
_SPARSE: Final = 1
_STALE: Final = 0x80
"""The bit of the header's last byte that says that the cached cardinality is out of date."""

_INDEX_BITS: Final = 14
_RANK_BITS: Final = 50
_ALPHA: Final = 0.721347520444481703680
"""1 / (2 ln 2): the constant of the estimate for infinitely many registers."""

_ZERO_MAX: Final = 64
_VAL_MAX: Final = 4
_SPARSE_MAX_BYTES: Final = HEADER_BYTES + 2 * REGISTERS
"""No sparse value that gives 16,384 registers is longer: an operation has 2 bytes at most."""
_JOIN_STEPS: Final = 5

# One XZERO, or a run of other operations; short runs bound what is summed to find a register.
_OPERATIONS: Final = re.compile(rb"[\x40-\x7f].?|[^\x40-\x7f]{1,128}", re.DOTALL)
_SPANS: Final = bytes((op & 3 if op & 0x80 else op & 63) + 1 for op in range(256))
"""Operation -> how many registers it gives; not for XZERO."""
_RUNS: Final = [
    bytes([(op >> 2 & 31) + 1 if op & 0x80 else 0]) * span for op, span in enumerate(_SPANS)
]
"""Operation -> the plain registers that it gives; not for XZERO."""

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BASE64: Final = bytes.maketrans(bytes(range(64)), _BASE64)
_FROM_BASE64: Final = bytes.maketrans(_BASE64, bytes(range(64)))

_LANES: Final = int.from_bytes(b"\x80" * REGISTERS, "little")
_NOT_ZERO: Final = re.compile(rb"[^\x00]")

_SEED: Final = 0xADC83B19
_MULTIPLIER: Final = 0xC6A4A7935BD1E995
_UINT64: Final = (1 << 64) - 1


# ------------------------------------------------------------------- values


def create() -> bytearray:
    """A value to which nothing was added yet: sparse, 18 bytes. O(1)."""
    return bytearray(_MAGIC + bytes((_SPARSE,)) + bytes(11)) + _zeros(REGISTERS)


def is_valid(value: bytes | bytearray) -> bool:
    """Whether a string has the header and, if dense, the length of a HyperLogLog. O(1)."""
    if len(value) < HEADER_BYTES or not value.startswith(_MAGIC):
        return False
    return value[4] == _SPARSE or (value[4] == _DENSE and len(value) == DENSE_BYTES)


def is_sparse(value: bytes | bytearray) -> bool:
    """Whether the encoding is sparse. O(1)."""
    return value[4] == _SPARSE


def cached_count(value: bytes | bytearray) -> int | None:
    """The cardinality noted in the value, None where it is out of date. O(1)."""
    return None if value[15] & _STALE else int.from_bytes(value[8:16], "little")


def cache_count(value: bytearray, count: int) -> None:
    """Note the cardinality in the value; TOO_MANY leaves it out of date. O(1)."""
    value[8:16] = (count & _UINT64).to_bytes(8, "little")


def invalidate(value: bytearray) -> None:
    """Say that the cardinality noted in the value is out of date. O(1)."""
    value[15] |= _STALE


def add(value: bytearray, element: bytes, sparse_max_bytes: int) -> bool:
    """Add an element; True if a register changed. The caller invalidates the count.

    Args:
        value: where to.
        element: what.
        sparse_max_bytes: the setting hll-sparse-max-bytes.

    Raises:
        CommandError: CORRUPT.

    Cost: O(len(element)), and O(operations) in a sparse value.
    """
    hashed = murmur_hash_64a(element)
    index = hashed & (REGISTERS - 1)
    rest = hashed >> _INDEX_BITS | 1 << _RANK_BITS
    rank = (rest & -rest).bit_length()
    if value[4] == _DENSE:
        return _set_dense(value, index, rank)
    changed = _set_sparse(value, _find(value, index), index, rank, sparse_max_bytes)
    if changed is None:
        to_dense(value)
        changed = _set_dense(value, index, rank)
    return changed


def merge(value: bytearray, plain: bytes, sparse_max_bytes: int) -> None:
    """Raise the registers of a value to those given. The caller invalidates the count.

    Args:
        value: what to change.
        plain: registers, none of them lower than in the value.
        sparse_max_bytes: the setting hll-sparse-max-bytes.

    Raises:
        CommandError: CORRUPT.

    Cost: O(registers), some microseconds for each that changes in a sparse value.
    """
    if value[4] == _SPARSE and _merge_sparse(value, plain, sparse_max_bytes):
        return
    # Also after a sparse value had to be given up half way: what is missing is set here.
    value[4] = _DENSE
    value[HEADER_BYTES:] = _pack(plain)


def to_dense(value: bytearray) -> None:
    """Make a value dense; the cached count stays. O(registers).

    Raises:
        CommandError: CORRUPT.
    """
    if value[4] == _SPARSE:
        packed = _pack(registers(value))
        value[4] = _DENSE
        value[HEADER_BYTES:] = packed


def registers(value: bytes | bytearray) -> bytes:
    """The plain registers of a value.

    Raises:
        CommandError: CORRUPT, where a sparse value does not give 16,384 registers.

    Cost: O(registers).
    """
    if value[4] == _DENSE:
        # The first register comes last in base 64, which begins with the highest bits.
        letters = b2a_base64(value[:15:-1], newline=False)
        return letters[::-1].translate(_FROM_BASE64)
    if len(value) > _SPARSE_MAX_BYTES:
        raise CORRUPT
    parts = []
    total = 0
    for operations in _OPERATIONS.findall(value, HEADER_BYTES):
        if 0x40 <= operations[0] <= 0x7F:
            part = bytes(_xzero_span(operations))
        else:
            part = b"".join([_RUNS[operation] for operation in operations])
        parts.append(part)
        total += len(part)
        if total > REGISTERS:
            break
    if total != REGISTERS:
        raise CORRUPT
    return b"".join(parts)


def union(first: bytes, second: bytes) -> bytes:
    """The larger of each two plain registers. O(registers), 10 us."""
    a = int.from_bytes(first, "little")
    b = int.from_bytes(second, "little")
    # A register has 7 bits at most: the top bit of a lane survives where a's is not less than b's.
    larger = ((a | _LANES) - b & _LANES) >> 7
    return (b ^ (a ^ b) & larger * 0xFF).to_bytes(REGISTERS, "little")


def estimate(plain: bytes) -> int:
    """The cardinality that plain registers stand for, or TOO_MANY. O(registers), 200 us."""
    histogram = [0] * 64
    left = REGISTERS
    for number in range(64):
        histogram[number] = plain.count(number)
        left -= histogram[number]
        if not left:
            break
    m = float(REGISTERS)
    z = m * _tau((m - histogram[_RANK_BITS + 1]) / m)
    for number in range(_RANK_BITS, 0, -1):
        z += histogram[number]
        z *= 0.5
    z += m * _sigma(histogram[0] / m)
    # Registers that no hash can give stand for more than 64 bits hold, or for infinitely many.
    cardinality = _ALPHA * m * m / z if z else inf
    if cardinality >= 1 << 63:
        return TOO_MANY
    whole = int(cardinality)
    return whole + (cardinality - whole >= 0.5)


def describe(value: bytes | bytearray) -> bytes:
    """The operations of a sparse value as text, as PFDEBUG DECODE shows them. O(operations)."""
    words = []
    for operations in _OPERATIONS.findall(value, HEADER_BYTES):
        if 0x40 <= operations[0] <= 0x7F:
            words.append(b"Z:%d" % _xzero_span(operations))
            continue
        for operation in operations:
            if operation & 0x80:
                words.append(b"v:%d,%d" % ((operation >> 2 & 31) + 1, _SPANS[operation]))
            else:
                words.append(b"z:%d" % _SPANS[operation])
    return b" ".join(words)


def murmur_hash_64a(data: bytes, seed: int = _SEED) -> int:
    """MurmurHash64A of some bytes, as on a little-endian machine. O(len)."""
    length = len(data)
    h = seed ^ (length * _MULTIPLIER & _UINT64)
    words = length >> 3
    for k in struct.unpack_from(f"<{words}Q", data):
        k = k * _MULTIPLIER & _UINT64
        h = (h ^ (k ^ k >> 47) * _MULTIPLIER & _UINT64) * _MULTIPLIER & _UINT64
    if length & 7:
        h = (h ^ int.from_bytes(data[words << 3 :], "little")) * _MULTIPLIER & _UINT64
    h = (h ^ h >> 47) * _MULTIPLIER & _UINT64
    return h ^ h >> 47


# ------------------------------------------------------------------- estimate


def _sigma(x: float) -> float:
    """What registers of 0 contribute; infinite where all are."""
    if x == 1.0:
        return inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    """What registers of the highest value contribute."""
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1.0 - x
    while True:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) ** 2 * y
        if z == before:
            return z / 3.0


# ------------------------------------------------------------------- dense


def _pack(plain: bytes) -> bytes:
    return a2b_base64(plain[::-1].translate(_TO_BASE64))[::-1]


def _set_dense(value: bytearray, index: int, rank: int) -> bool:
    """Raise a register; False where it is as high already. O(1)."""
    at, shift = divmod(index * REGISTER_BITS, 8)
    at += HEADER_BYTES
    pair = value[at : at + 2]  # one byte only for the last register, which lies in one
    word = int.from_bytes(pair, "little")
    if word >> shift & 63 >= rank:
        return False
    word = word & ~(63 << shift) | rank << shift
    value[at : at + 2] = word.to_bytes(len(pair), "little")
    return True


# ------------------------------------------------------------------- sparse


class _Place(NamedTuple):
    """Where the operation that gives a register stands.

    Attributes:
        at: its offset in the value.
        first: the first register that it gives.
        span: how many it gives.
        before: the offset of the operation before it, 0 where that is not known.
        before_first: the first register that this one gives.
    """

    at: int
    first: int
    span: int
    before: int
    before_first: int


def _find(value: bytearray, index: int, at: int = HEADER_BYTES, first: int = 0) -> _Place:
    """Find the operation that gives a register.

    Args:
        value: sparse.
        index: the register.
        at: the offset of an operation not behind it.
        first: the first register that this one gives.

    Cost: O(operations passed), some 10 ns each.
    """
    if len(value) > _SPARSE_MAX_BYTES:
        raise CORRUPT
    before = before_first = 0
    for match in _OPERATIONS.finditer(value, at):
        operations = match[0]
        at = match.start()
        if 0x40 <= operations[0] <= 0x7F:
            span = _xzero_span(operations)
            if index < first + span:
                return _Place(at, first, span, before, before_first)
            before, before_first = at, first
            first += span
            continue
        spans = operations.translate(_SPANS)
        if index >= first + (span := sum(spans)):
            before, before_first = at + len(spans) - 1, first + span - spans[-1]
            first += span
            continue
        low, high = 0, len(spans)
        while high - low > 1:
            middle = (low + high) >> 1
            span = sum(spans[low:middle])
            if index < first + span:
                high = middle
            else:
                low = middle
                first += span
        if low:
            before, before_first = at + low - 1, first - spans[low - 1]
        return _Place(at + low, first, spans[low], before, before_first)
    raise CORRUPT


def _set_sparse(
    value: bytearray, place: _Place, index: int, rank: int, max_bytes: int
) -> bool | None:
    """Raise a register; None where the value must be made dense for that.

    Source: hyperloglog.c hllSparseSet.
    """
    if rank > SPARSE_MAX_VALUE:
        return None
    at, first, span, before, _ = place
    operation = value[at]
    left, right = index - first, first + span - 1 - index
    if operation & 0x80:
        old = (operation >> 2 & 31) + 1
        if old >= rank:
            return False
        operations = _values(old, left) + _values(rank, 1) + _values(old, right)
    else:
        operations = _zeros(left) + _values(rank, 1) + _zeros(right)
    size = 2 if 0x40 <= operation <= 0x7F else 1
    if len(operations) > size and len(value) + len(operations) - size > max_bytes:
        return None
    value[at : at + size] = operations
    _join(value, before or HEADER_BYTES)
    return True


def _join(value: bytearray, at: int) -> None:
    """Join neighbouring VALs of the same value, looking at five operations. O(1)."""
    for _ in range(_JOIN_STEPS):
        if at + 1 >= len(value):
            return
        this, following = value[at], value[at + 1]
        if not this & 0x80:
            at += 2 if this & 0x40 else 1
            continue
        if following & 0x80 and this >> 2 == following >> 2:
            length = _SPANS[this] + _SPANS[following]
            if length <= _VAL_MAX:
                value[at : at + 2] = _values((this >> 2 & 31) + 1, length)
                continue
        at += 1


def _merge_sparse(value: bytearray, plain: bytes, max_bytes: int) -> bool:
    """Raise the registers of a sparse value in ascending order; False where it must be dense.

    The search for each goes on where the one before ended, one operation back.
    """
    at, first = HEADER_BYTES, 0
    differing = int.from_bytes(registers(value), "little") ^ int.from_bytes(plain, "little")
    for match in _NOT_ZERO.finditer(differing.to_bytes(REGISTERS, "little")):
        index = match.start()
        place = _find(value, index, at, first)
        if not place.before:  # joined with what stood before: that place is not known here
            place = _find(value, index)
        if _set_sparse(value, place, index, plain[index], max_bytes) is None:
            return False
        at, first = place.before or HEADER_BYTES, place.before_first
    return True


def _xzero_span(operation: bytes) -> int:
    """The registers an XZERO gives; where the string ends after one byte, the other is 0."""
    return ((operation[0] & 63) << 8 | (operation[1] if len(operation) > 1 else 0)) + 1


def _zeros(length: int) -> bytes:
    """The shortest operation for some registers of 0, none for no register."""
    if not length:
        return b""
    if length > _ZERO_MAX:
        return (0x4000 | length - 1).to_bytes(2, "big")
    return bytes((length - 1,))


def _values(rank: int, length: int) -> bytes:
    """The operation for up to 4 registers of one value, none for no register."""
    return bytes((0x80 | rank - 1 << 2 | length - 1,)) if length else b""
