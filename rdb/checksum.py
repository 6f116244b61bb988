"""CRC-64 as Redis computes it (Jones polynomial), the last eight bytes of an RDB.

Polynomial 0xad93d23594c935a9, input and output reflected, start 0, no final xor:
crc64(b"123456789") == 0xe9c6d914c4b8d9ca. A running checksum is carried by passing the value
so far: crc64(b, crc64(a)) == crc64(a + b).

anycrc computes it at 16 GB/s. Where it has no wheel crcmod does the same at 0.5 GB/s compiled,
15 MB/s not.

Source: crc64.c; checked against `redis-server` files and, in the tests, one against the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

POLYNOMIAL: Final = 0xAD93D23594C935A9

Buffer = bytes | bytearray | memoryview


def crcmod_crc64() -> Callable[[Buffer, int], int]:
    """Return the crcmod implementation, `f(data, crc) -> crc`."""
    import crcmod

    function = crcmod.mkCrcFun((1 << 64) | POLYNOMIAL, initCrc=0, rev=True, xorOut=0)
    return cast("Callable[[Buffer, int], int]", function)


def _fastest() -> Callable[[Any, int], int]:
    try:
        from anycrc import Model
    except ImportError:
        return crcmod_crc64()
    return cast("Callable[[Any, int], int]", Model("CRC64-REDIS").calc)


_crc64 = _fastest()


def crc64(data: Buffer, crc: int = 0) -> int:
    """Return the checksum of `data`, continued from `crc`.

    Args:
        data: any bytes; not kept.
        crc: the checksum of what came before.

    Returns:
        An unsigned 64-bit number. Cost: O(len(data)).
    """
    return _crc64(data, crc)
