"""LZF, the compression inside RDB strings.

    control byte c
    000LLLLL                      L+1 literal bytes follow
    LLLooooo oooooooo             copy L+2 bytes from o+1 back (1 <= L <= 6)
    111ooooo LLLLLLLL oooooooo    the same with L+7+2 bytes

A copy may overlap what it makes: three bytes can become 264.

The compressor is greedy with one table from a hash of three bytes to the last place they were
seen. The table is as large as the input asks for (256 to 16,384 places): clearing one of the
65,536 places that liblzf uses would cost more than compressing a short string. So its output
is not liblzf's byte for byte, but any LZF decoder reads it. `compress` and `decompress` are
compiled where the accelerator is built, and give the same bytes as the references here. Where it
is not, liblzf itself decompresses, if python-neo-lzf is there, which has it in its wheels.

Most short strings cannot be shortened, and to know it a byte at a time costs more than anything
else in a snapshot. So a string is left as it is unless its copies

* make MIN_LONGER bytes beyond three each, all together: a copy of three bytes takes two and mostly
  begins another run of literals, so that it saves nothing; and
* where the string has no more than SAMPLED_BYTES, take a window, which is four bytes, from a place
  that is a multiple of STRIDE, one of them at least. One of ten bytes always does.

The first means that as many windows stand in the string for the second time, the second that one
from such a place does. Both are told of the whole string at once (`_may_shorten`), and the second
of many strings at once (`which_may_shorten`).

Source: the format as lzf_d.c of Redis reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, cast

from rdb.accel import accel
from rdb.constants import LZF_MIN_SAVING_BYTES
from rdb.errors import RdbError

MAX_LITERAL = 32
MAX_MATCH = 264
MAX_DISTANCE = 8192
HASH_MULTIPLIER = 2654435761
MIN_TABLE_BITS = 8
MAX_TABLE_BITS = 14
MAX_INPUT_BYTES = 0x7FFFFFFF
"""Longer strings are left as they are: places in the table are 32 bits wide."""
MIN_LONGER: Final = 3
SAMPLED_BYTES: Final = 64
STRIDE: Final = 7
"""No power of two, of which the places of fields often are multiples."""
_WINDOW_BYTES: Final = 4
_MAX_WINDOWED_BYTES: Final = 512
"""Above that most texts hold some window twice."""
_MIN_LANES: Final = 64
"""For fewer texts the operations on columns are no gain."""
_MAX_LANES: Final = 2048
"""As many as leave the columns in the processor's cache."""
_PADDING: Final = bytes(range(SAMPLED_BYTES))
"""Makes texts equally long, and holds no window twice."""


@lru_cache(SAMPLED_BYTES)
def _sampler(size: int) -> tuple[Callable[[bytes], tuple[bytes, ...]], tuple[int, ...]]:
    """What reads the windows at multiples of STRIDE, and the places behind each."""
    places = range(0, max(size - _WINDOW_BYTES, 0) + 1, STRIDE)
    gap = f"{STRIDE - _WINDOW_BYTES}x"
    window = f"{_WINDOW_BYTES}s"
    reader = struct.Struct(gap.join([window] * len(places)))
    return reader.unpack_from, tuple(place + 1 for place in places)


@lru_cache(_MAX_WINDOWED_BYTES)
def _readers(size: int) -> list[Callable[[bytes, int], tuple[int, ...]]]:
    """What reads the windows of so many bytes, four apart, from the first four places on."""
    return [
        struct.Struct(f"@{(size - place) // _WINDOW_BYTES}I").unpack_from
        for place in range(_WINDOW_BYTES)
    ]


def _may_shorten(data: bytes) -> bool:
    """Whether windows of it stand in it again as compressing asks for. O(len(data)), in C."""
    # hot: benchmarks/bgsave-pure
    size = len(data)
    if size <= SAMPLED_BYTES:
        sample, behind = _sampler(size)
        if max(map(data.find, sample(data), behind)) < 0:
            return False
    first, second, third, fourth = _readers(size)
    windows = {*first(data, 0), *second(data, 1), *third(data, 2), *fourth(data, 3)}
    return len(windows) <= size - _WINDOW_BYTES + 1 - MIN_LONGER


def which_may_shorten(texts: Sequence[bytes]) -> list[int]:
    """Say which of many texts compressing can shorten, if any.

    The n-th bytes of all texts are one number, a column, whose lanes of eight bits are the texts.
    So a few operations on columns compare a window of every text with another window of it, and
    adding 0x7F to what differs, seven bits wide, sets the eighth bit of the lanes that do differ.

    Args:
        texts: of up to SAMPLED_BYTES each.

    Returns:
        Places in `texts`, ascending: of all that `compress` makes shorter, and of a few others.

    Cost: O(len(texts)), a quarter of a microsecond each where they are hundreds.
    """
    if len(texts) < _MIN_LANES:
        return [place for place, text in enumerate(texts) if _may_shorten(text)]
    found: list[int] = []
    for start in range(0, len(texts), _MAX_LANES):
        differ = _samples_differ(texts[start : start + _MAX_LANES])
        lane = -1
        while (lane := differ.find(0, lane + 1)) >= 0:
            found.append(start + lane)
    return found


def _samples_differ(texts: Sequence[bytes]) -> bytes:
    """A byte for each text: zero where a sampled window may stand in it again."""
    # hot: benchmarks/bgsave-pure
    sizes = set(map(len, texts))
    width = max(sizes)
    if len(sizes) > 1:
        texts = [text + _PADDING[len(text) : width] for text in texts]
    table = b"".join(texts)
    count = len(texts)
    low = int.from_bytes(b"\x7f" * count, "little")
    columns = [int.from_bytes(table[n::width], "little") & low for n in range(width)]
    differ = high = low + int.from_bytes(b"\x01" * count, "little")
    for place in range(0, width - _WINDOW_BYTES + 1, STRIDE):
        a, b, c, d = columns[place : place + _WINDOW_BYTES]
        behind = (columns[place + n :] for n in range(1, _WINDOW_BYTES + 1))
        for e, f, g, h in zip(*behind, strict=False):
            differ &= ((a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)) + low
    return (differ & high).to_bytes(count, "little")


def compress_reference(data: bytes) -> bytes | None:
    """Compress in Python; see `compress`."""
    size = len(data)
    limit = size - LZF_MIN_SAVING_BYTES
    if limit <= 0 or size > MAX_INPUT_BYTES:
        return None
    if size <= _MAX_WINDOWED_BYTES and not _may_shorten(data):
        return None
    bits = min(max(size.bit_length(), MIN_TABLE_BITS), MAX_TABLE_BITS)
    table = [-1] * (1 << bits)
    shift = 32 - bits
    out = bytearray()
    literals_from = pos = longer = 0
    is_sampled = size > SAMPLED_BYTES
    while pos + 2 < size:
        trigram = data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
        slot = (trigram * HASH_MULTIPLIER & 0xFFFFFFFF) >> shift
        candidate = table[slot]
        table[slot] = pos
        distance = pos - candidate
        if (
            candidate < 0
            or distance > MAX_DISTANCE
            or data[candidate : candidate + 3] != data[pos : pos + 3]
        ):
            pos += 1
            continue
        length = 3
        longest = min(MAX_MATCH, size - pos)
        while length < longest and data[candidate + length] == data[pos + length]:
            length += 1
        _append_literals(out, data, literals_from, pos)
        code, back = length - 2, distance - 1
        if code < 7:
            out.append(code << 5 | back >> 8)
        else:
            out.append(7 << 5 | back >> 8)
            out.append(code - 7)
        out.append(back & 0xFF)
        if len(out) > limit:
            return None
        pos += length
        literals_from = pos
        longer += length - 3
        is_sampled |= -candidate % STRIDE + _WINDOW_BYTES <= length
    _append_literals(out, data, literals_from, size)
    return bytes(out) if len(out) <= limit and longer >= MIN_LONGER and is_sampled else None


def _append_literals(out: bytearray, data: bytes, begin: int, end: int) -> None:
    while begin < end:
        run = min(MAX_LITERAL, end - begin)
        out.append(run - 1)
        out += data[begin : begin + run]
        begin += run


def decompress_reference(data: bytes, length: int) -> bytes:
    """Decompress in Python; see `decompress`.

    Literals and short copies make at most four times the bytes that they take; only long copies
    are held against `length` as they come.
    """
    out = bytearray()
    pos, size = 0, len(data)
    try:
        while pos < size:
            control = data[pos]
            if control < 32:
                begin = pos + 1
                pos = begin + control + 1
                out += data[begin:pos]
                continue
            run = (control >> 5) + 2
            if run == 9:
                pos += 1
                run += data[pos]
                if len(out) > length:
                    raise RdbError(f"LZF string is longer than the {length} bytes it claims")
            distance = ((control & 0x1F) << 8 | data[pos + 1]) + 1
            pos += 2
            begin = len(out) - distance
            if begin < 0:
                raise RdbError("LZF copy reaches before the start")
            if run <= distance:
                out += out[begin : begin + run]
            else:
                out += (out[begin:] * (run // distance + 1))[:run]
    except IndexError:
        raise RdbError("LZF copy is cut off") from None
    if pos > size:
        raise RdbError("LZF literals run past the end")
    if len(out) != length:
        raise RdbError(f"LZF string holds {len(out)} bytes, not the {length} it claims")
    return bytes(out)


def _library() -> Callable[[bytes, int], bytes | None] | None:
    """What liblzf decompresses with, where it is installed."""
    try:
        from lzf import decompress as found
    except ImportError:
        return None
    return cast("Callable[[bytes, int], bytes | None]", found)


_unpack_in_c = _library()


def decompress_with_library(data: bytes, length: int) -> bytes:
    """Decompress with liblzf; see `decompress`.

    It takes less than a twentieth of the time of the reference, which words what it refuses.
    """
    # hot: benchmarks/load-pure
    assert _unpack_in_c is not None
    try:
        text = _unpack_in_c(data, length)
    except ValueError:
        text = None
    if text is None or len(text) != length:
        return decompress_reference(data, length)
    return text


def compress(data: bytes) -> bytes | None:
    """Compress `data` if that is worth it.

    Returns:
        The LZF form, or None unless it is at least 4 bytes shorter by copies as described above.
        Cost: O(len(data)).

    Source: rdbSaveLzfStringObject in rdb.c for the limit.
    """
    return _compress(data)


_compress: Callable[[bytes], bytes | None] = (
    compress_reference if accel is None else accel.lzf_compress
)
decompress: Callable[[bytes, int], bytes]
"""Decompress.

Args:
    data: a whole LZF string.
    length: what it must decompress to, bytes; the caller has bounded it
        (rdb.constants.MAX_LZF_RATIO).

Raises:
    RdbError: it is malformed or makes another length.
"""
try_decompress: Callable[[bytes, int], bytes | None]
"""What `decompress` rests on, with nothing around it.

It may also raise ValueError, or give None or another length: then `decompress` words the refusal.
"""
if accel is not None:
    try_decompress = decompress = accel.lzf_decompress
elif _unpack_in_c is not None:
    try_decompress, decompress = _unpack_in_c, decompress_with_library
else:
    try_decompress = decompress = decompress_reference
