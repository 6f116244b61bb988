"""The library `struct`: values to and from bytes, by a format.

    >  <         big, little endian (little unless said)   ! [n]  align to n (8 if not given)
    b B h H l L  integers of 1, 2 and 8 bytes; T is size_t
    i[n] I[n]    integers of n bytes, 4 if not given; capital letters are not signed
    f d          float, double
    c[n]         n bytes; c0 takes its length from the value before it, or is the whole string
    s            a string up to a zero byte
    x            a byte of padding

Source: struct 0.2 of the Lua library, its documentation (deps/lua/src/lua_struct.c in Redis 7.0).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from kvrepl.scripting.libraries.arguments import (
    ArgumentError,
    bad_argument,
    integer_at,
    number_at,
    text_at,
)

MAX_INTEGER_BYTES: Final = 32
MAX_ALIGN_BYTES: Final = 8
INT_MAX: Final = (1 << 31) - 1
_SIZES: Final = {"b": 1, "h": 2, "l": 8, "t": 8, "f": 4, "d": 8, "x": 1}
_FLOATS: Final = {4: "f", 8: "d"}


class _Item:
    """One option of a format: its letter, its size, and the padding before it."""

    __slots__ = ("is_little", "letter", "padding", "size")

    def __init__(self, letter: str, size: int, padding: int, is_little: bool) -> None:
        self.letter = letter
        self.size = size
        self.padding = padding
        self.is_little = is_little


class _Format:
    """Walks a format; `total` is where the next item would stand, for its alignment."""

    def __init__(self, name: bytes, text: bytes) -> None:
        self._name = name
        self._text = text.partition(b"\0")[0].decode("latin-1")
        self._at = 0
        self._is_little = True
        self._align = 1
        self.total = 0

    def __iter__(self) -> Iterator[_Item]:
        while self._at < len(self._text):
            letter = self._text[self._at]
            self._at += 1
            size = self._size(letter)
            if self._control(letter):
                continue
            yield _Item(letter, size, self._padding(letter, size), self._is_little)

    def _number(self, default: int) -> int:
        start = self._at
        value = 0
        while self._at < len(self._text) and self._text[self._at].isdigit():
            value = value * 10 + int(self._text[self._at])
            if value > INT_MAX:
                raise ArgumentError(b"integral size overflow")
            self._at += 1
        return value if self._at > start else default

    def _size(self, letter: str) -> int:
        if letter in "bBhHlLTfdx":
            return _SIZES[letter.lower()]
        if letter == "c":
            return self._number(1)
        if letter in "iI":
            size = self._number(4)
            if size > MAX_INTEGER_BYTES:
                raise ArgumentError(
                    b"integral size %d is larger than limit of %d" % (size, MAX_INTEGER_BYTES)
                )
            return size
        return 0

    def _control(self, letter: str) -> bool:
        """Do what an option without a value says; any other letter must be one with a value."""
        if letter == "<":
            self._is_little = True
        elif letter == ">":
            self._is_little = False
        elif letter == "!":
            self._align = self._number(MAX_ALIGN_BYTES)
            if self._align == 0 or self._align & (self._align - 1):
                raise ArgumentError(b"alignment %d is not a power of 2" % self._align)
        elif letter != " ":
            if letter not in "bBhHlLTiIfdcsx":
                raise bad_argument(
                    self._name, 1, b"invalid format option '%b'" % letter.encode("latin-1")
                )
            return False
        return True

    def _padding(self, letter: str, size: int) -> int:
        if size == 0 or letter in "cx":
            return 0
        align = min(size, self._align)
        return -self.total & (align - 1)


def size(*arguments: Any) -> int:
    """How many bytes a format takes."""
    form = _Format(b"size", text_at(b"size", arguments, 1))
    for item in form:
        if item.letter == "s":
            raise bad_argument(b"size", 1, b"option 's' has no fixed size")
        if item.letter == "c" and item.size == 0:
            raise bad_argument(b"size", 1, b"option 'c0' has no fixed size")
        if form.total > INT_MAX - item.size - item.padding:
            raise bad_argument(b"size", 1, b"format size overflow")
        form.total += item.padding + item.size
    return form.total


def pack(*arguments: Any) -> bytes:
    """Values as bytes."""
    form = _Format(b"pack", text_at(b"pack", arguments, 1))
    out = bytearray()
    position = 2
    for item in form:
        form.total += item.padding
        out += bytes(item.padding)
        if item.letter == "x":
            out.append(0)
        else:
            data = _packed(item, (*arguments, None), position)
            out += data
            form.total += len(data) - item.size
            position += 1
        form.total += item.size
    return bytes(out)


def _packed(item: _Item, arguments: tuple[Any, ...], position: int) -> bytes:
    order = "<" if item.is_little else ">"
    if item.letter in "cs":
        text = text_at(b"pack", arguments, position)
        wanted = item.size or len(text)
        if len(text) < wanted:
            raise bad_argument(b"pack", position + 1, b"string too short")
        return text[:wanted] + b"\0" if item.letter == "s" else text[:wanted]
    number = number_at(b"pack", arguments, position)
    if item.letter in "fd":
        value = float(number)
        if item.size == 4:
            return struct.pack(order + "f", _single(value))
        return struct.pack(order + "d", value)
    if isinstance(number, float):
        number = int(number) if abs(number) < 2.0**63 else -(1 << 63)
    data = (number & ((1 << 64) - 1)).to_bytes(8, "little")[: item.size].ljust(item.size, b"\0")
    return data if item.is_little else data[::-1]


def _single(value: float) -> float:
    """What C makes of a double that is too large for a float."""
    try:
        struct.pack("<f", value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return value


def unpack(*arguments: Any) -> tuple[Any, ...]:
    """Values out of bytes, and where the next one would begin (counted from 1)."""
    form = _Format(b"unpack", text_at(b"unpack", arguments, 1))
    data = text_at(b"unpack", arguments, 2)
    start = integer_at(b"unpack", arguments, 3, 1)
    if start <= 0:
        raise bad_argument(b"unpack", 3, b"offset must be 1 or greater")
    at = start - 1
    found: list[Any] = []
    for item in form:
        form.total = at
        at += form._padding(item.letter, item.size)
        if at > len(data) or item.size > len(data) - at:
            raise bad_argument(b"unpack", 2, b"data string too short")
        if item.letter == "x":
            at += 1
        elif item.letter == "s":
            end = data.find(b"\0", at)
            if end < 0:
                raise ArgumentError(b"unfinished string in data")
            found.append(data[at:end])
            at = end + 1
        elif item.letter == "c":
            wanted = item.size
            if wanted == 0:
                if not found or isinstance(found[-1], bytes):
                    raise ArgumentError(b"format 'c0' needs a previous size")
                wanted = int(found.pop())
                if wanted < 0 or wanted > len(data) - at:
                    raise bad_argument(b"unpack", 2, b"data string too short")
            found.append(data[at : at + wanted])
            at += wanted
        else:
            found.append(_unpacked(item, data[at : at + item.size]))
            at += item.size
    return (*found, at + 1)


def _unpacked(item: _Item, data: bytes) -> int | float:
    order = "<" if item.is_little else ">"
    if item.letter in "fd":
        (value,) = struct.unpack(order + _FLOATS[item.size], data)
        return float(value)
    low = (data if item.is_little else data[::-1])[:8]
    signed = item.letter.islower()
    return float(int.from_bytes(low, "little", signed=signed and len(low) > 0))


FUNCTIONS: Final[dict[bytes, Callable[..., Any]]] = {
    b"pack": pack, b"size": size, b"unpack": unpack
}  # fmt: skip
