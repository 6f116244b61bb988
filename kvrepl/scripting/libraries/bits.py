"""The library `bit`: operations on the low 32 bits of numbers; results are signed.

Numbers are rounded to the nearest integer, halves to the even one, and taken modulo 2^32.

Source: Lua BitOp 1.0.2, its documentation (deps/lua/src/lua_bit.c in Redis 7.0).
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

from kvrepl.scripting.libraries.arguments import number_at

_MASK: Final = 0xFFFFFFFF
_ROUNDING: Final = 2.0**52 + 2.0**51
"""Added to a double it brings the integer, rounded, into the low bits of the mantissa."""


def _bits(name: bytes, arguments: tuple[Any, ...], position: int) -> int:
    """An argument as 32 bits, not signed."""
    value = number_at(name, arguments, position) + _ROUNDING
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits) & _MASK


def _signed(bits: int) -> int:
    bits &= _MASK
    return bits - (1 << 32) if bits >> 31 else bits


def _unary(name: bytes, operation: Callable[[int], int]) -> Callable[..., int]:
    def unary(*arguments: Any) -> int:
        return _signed(operation(_bits(name, arguments, 1)))

    return unary


def _fold(name: bytes, operation: Callable[[int, int], int]) -> Callable[..., int]:
    def fold(*arguments: Any) -> int:
        first = _bits(name, arguments, 1)
        rest = (_bits(name, arguments, each + 1) for each in range(1, len(arguments)))
        return _signed(reduce(operation, rest, first))

    return fold


def _shift(name: bytes, operation: Callable[[int, int], int]) -> Callable[..., int]:
    def shift(*arguments: Any) -> int:
        return _signed(operation(_bits(name, arguments, 1), _bits(name, arguments, 2) & 31))

    return shift


def _rotated(bits: int, count: int) -> int:
    return bits << count | bits >> (32 - count)


def _swapped(bits: int) -> int:
    return int.from_bytes(bits.to_bytes(4, "little"), "big")


def tohex(*arguments: Any) -> bytes:
    """The low digits in hexadecimal, eight or as many as asked for; upper case if negative."""
    bits = _bits(b"tohex", arguments, 1)
    digits = 8
    if len(arguments) > 1:
        digits = _signed(_bits(b"tohex", arguments, 2))
    text = b"%08X" % bits if digits < 0 else b"%08x" % bits
    digits = min(abs(digits), 8)
    return text[8 - digits :]


FUNCTIONS: Final[dict[bytes, Callable[..., Any]]] = {
    b"tobit": _unary(b"tobit", lambda x: x),
    b"bnot": _unary(b"bnot", operator.invert),
    b"bswap": _unary(b"bswap", _swapped),
    b"band": _fold(b"band", operator.and_),
    b"bor": _fold(b"bor", operator.or_),
    b"bxor": _fold(b"bxor", operator.xor),
    b"lshift": _shift(b"lshift", operator.lshift),
    b"rshift": _shift(b"rshift", operator.rshift),
    b"arshift": _shift(b"arshift", lambda x, n: _signed(x) >> n),
    b"rol": _shift(b"rol", _rotated),
    b"ror": _shift(b"ror", lambda x, n: _rotated(x, (32 - n) & 31)),
    b"tohex": tohex,
}
