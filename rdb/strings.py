"""RDB strings: keys, values, elements and packed containers all travel as one of these.

    <length> bytes                plain
    C0 i8 | C1 i16 | C2 i32       the decimal text of a little-endian integer
    C3 <clen> <ulen> bytes        LZF: `clen` bytes that decompress to `ulen`

The writer uses an integer form for canonical decimal text of up to 11 bytes that fits 32 bits,
and LZF for more than 20 bytes where it saves at least 4 (see rdb.lzf for what it leaves alone).

Source: rdbSaveRawString, rdbGenericLoadStringObject, rdbTryIntegerEncoding in rdb.c.
"""

from __future__ import annotations

import struct
from typing import Final

from rdb import lzf
from rdb.accel import accel
from rdb.constants import (
    ENC_INT8,
    ENC_INT16,
    ENC_INT32,
    ENC_LZF,
    MAX_INT_STRING_BYTES,
    MAX_LZF_RATIO,
    MAX_STRING_BYTES,
    MIN_LZF_BYTES,
)
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length, encode_length
from rdb.lzf import try_decompress

_two_lengths: Final = struct.Struct(">xHH").unpack_from
_INT_BYTES = {ENC_INT8: 1, ENC_INT16: 2, ENC_INT32: 4}


def encode_integer(number: int) -> bytes | None:
    """The integer form of `number`, or None where it does not fit 32 bits."""
    if -128 <= number <= 127:
        return b"\xc0" + number.to_bytes(1, "little", signed=True)
    if -32768 <= number <= 32767:
        return b"\xc1" + number.to_bytes(2, "little", signed=True)
    if -2147483648 <= number <= 2147483647:
        return b"\xc2" + number.to_bytes(4, "little", signed=True)
    return None


def encode_string(data: bytes, compress: bool = True) -> bytes:
    """Encode a string as Redis would.

    Args:
        data: the bytes.
        compress: whether LZF may be used (`rdbcompression`).

    Returns:
        Prefix and bytes. Cost: O(len(data)).
    """
    size = len(data)
    if size <= MAX_INT_STRING_BYTES:
        # The first-byte test spares most texts the failing int(); the comparison refuses what
        # int() forgives (blanks, signs, leading zeros, underscores).
        if size and (48 <= data[0] <= 57 or data[0] == 45):
            try:
                number = int(data)
            except ValueError:
                pass
            else:
                if b"%d" % number == data:
                    encoded = encode_integer(number)
                    if encoded is not None:
                        return encoded
    elif compress and size >= MIN_LZF_BYTES:
        packed = lzf.compress(data)
        if packed is not None:
            return b"\xc3" + encode_length(len(packed)) + encode_length(size) + packed
    return encode_length(size) + data


def decode_string(data: bytes, pos: int) -> tuple[bytes, int]:
    """Read the string at `pos`.

    Returns:
        (string, position after it). Cost: O(length).

    Raises:
        Incomplete: the buffer ends inside it.
        RdbError: it is malformed; the offset is `pos`.
    """
    size = len(data)
    if pos >= size:
        raise Incomplete(pos + 1)
    first = data[pos]
    if first < 0xC0:
        # hot: benchmarks/load-pure; most lengths take one byte or two.
        if first < 0x40:
            length, begin = first, pos + 1
        elif first < 0x80 and pos + 1 < size:
            length, begin = (first & 0x3F) << 8 | data[pos + 1], pos + 2
        else:
            length, begin = decode_length(data, pos)
            if length > MAX_STRING_BYTES:
                raise RdbError(f"a string of {length} bytes", offset=pos)
        end = begin + length
        if end > size:
            raise Incomplete(end)
        return data[begin:end], end
    encoding = first & 0x3F
    if encoding == ENC_LZF:
        begin = pos + 5
        # hot: benchmarks/load-pure; what is compressed mostly has two lengths of two bytes.
        if begin <= size:
            packed_size, length = _two_lengths(data, pos)
            end = begin + packed_size - 0x4000
            if begin <= end <= size and 0x4000 <= length < 0x8000 > packed_size:
                try:
                    text = try_decompress(data[begin:end], length - 0x4000)
                except (ValueError, RdbError):
                    text = None
                if text is not None and len(text) == length - 0x4000:
                    return text, end
        return _decode_lzf(data, pos)
    width = _INT_BYTES.get(encoding)
    if width is None:
        raise RdbError(f"unknown string encoding {encoding}", offset=pos)
    end = pos + 1 + width
    if end > size:
        raise Incomplete(end)
    return b"%d" % int.from_bytes(data[pos + 1 : end], "little", signed=True), end


def _decode_lzf(data: bytes, pos: int) -> tuple[bytes, int]:
    packed_size, begin = decode_length(data, pos + 1)
    size, begin = decode_length(data, begin)
    if packed_size > MAX_STRING_BYTES or size > packed_size * MAX_LZF_RATIO:
        raise RdbError(f"LZF string of {packed_size} bytes claims to hold {size}", offset=pos)
    end = begin + packed_size
    if end > len(data):
        raise Incomplete(end)
    try:
        return lzf.decompress(data[begin:end], size), end
    except RdbError as error:
        raise RdbError(error.message, offset=pos) from None


def decode_strings_reference(data: bytes, pos: int, count: int) -> tuple[list[bytes], int]:
    """Read `count` strings that follow each other; see `decode_strings`."""
    strings: list[bytes] = []
    append = strings.append
    size = len(data)
    while count:
        count -= 1
        if pos < size and (length := data[pos]) < 0x40 and pos + length < size:
            pos += 1
            append(data[pos : pos + length])
            pos += length
        else:
            string, pos = decode_string(data, pos)
            append(string)
    return strings, pos


def decode_strings(data: bytes, pos: int, count: int) -> tuple[list[bytes], int]:
    """Read `count` strings that follow each other.

    A count that lies costs nothing: every string takes at least a byte of `data`.

    Returns:
        (strings, position after the last).

    Raises:
        Incomplete, RdbError: as `decode_string`.
    """
    if count > len(data) - pos:
        raise Incomplete(pos + count)
    if accel is None:
        return decode_strings_reference(data, pos, count)
    strings: list[bytes] = []
    # The compiled loop stops at what it does not understand; that string is then read here,
    # where every refusal is worded.
    while True:
        pos = accel.read_strings(data, pos, count, strings)
        if len(strings) == count:
            return strings, pos
        string, pos = decode_string(data, pos)
        strings.append(string)
