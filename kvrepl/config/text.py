r"""The text of a configuration: words, quotes, numbers and sizes, as Redis reads and writes them.

A line is words separated by white space. A word may be quoted:

    "..."    with the escapes \n \r \t \b \a \xHH; any other escaped byte stands for itself
    '...'    in which only \' is an escape

A closing quote must be followed by white space or the end of the line. The numbers follow the C
functions that Redis calls, saturation included, because scripts rely on what those accept.

All text is bytes here; `to_text` and `to_bytes` are the two doors to str, and lose nothing.

Source: Redis sds.c (sdssplitargs, sdscatrepr), util.c (memtoull), config.c
(rewriteConfigFormatMemory); strtoll of C99.
"""

from __future__ import annotations

import re

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
UINT64_MASK = 2**64 - 1
BLANKS = b" \t\r\n"
"""What is trimmed from both ends of a line."""

_ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_PRINTED = {v: b"\\" + bytes([k]) for k, v in _ESCAPES.items()} | {34: b'\\"', 92: b"\\\\"}
_HEX = b"0123456789abcdefABCDEF"
_SPACE = b" \t\n\r\v\f"
_WORD_END = b" \n\r\t\0"
_UNITS = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1024,
    b"m": 1000**2,
    b"mb": 1024**2,
    b"g": 1000**3,
    b"gb": 1024**3,
}
_MEMORY = re.compile(rb"(\d{0,127})(\D[\s\S]*)?", re.ASCII)
_C_LONG = re.compile(rb"(?:[ \t\n\v\f\r]*([+-]?\d+))?")
_C_OCTAL = re.compile(rb"(?:[ \t\n\v\f\r]*([+-]?[0-7]+))?")


def to_text(data: bytes) -> str:
    """Bytes as str; bytes that are not UTF-8 survive the way back through `to_bytes`."""
    return data.decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The bytes behind a str made by `to_text` or read with the same error handler."""
    return text.encode("utf-8", "surrogateescape")


def split_words(line: bytes) -> list[bytes] | None:
    """Split a line into its words, quotes resolved.

    Returns:
        The words, or None where quotes are not balanced. O(n).
    Source: sds.c, sdssplitargs.
    """
    words: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in _SPACE:
            at += 1
        if at == end or line[at] == 0:
            return words
        word = bytearray()
        while at < end and (byte := line[at]) not in _WORD_END:
            at += 1
            if byte == 34:
                at = _double_quoted(line, at, word)
            elif byte == 39:
                at = _single_quoted(line, at, word)
            else:
                word.append(byte)
                continue
            if at < 0 or (at < end and line[at] not in _SPACE and line[at] != 0):
                return None
            break
        words.append(bytes(word))


def _double_quoted(line: bytes, at: int, word: bytearray) -> int:
    """Read up to the closing quote into `word`; the position after it, -1 if there is none."""
    end = len(line)
    while at < end and (byte := line[at]) != 0:
        if byte == 34:
            return at + 1
        if byte == 92 and at + 1 < end and line[at + 1] != 0:
            escaped = line[at + 1]
            digits = line[at + 2 : at + 4]
            if escaped == 120 and len(digits) == 2 and digits[0] in _HEX and digits[1] in _HEX:
                word.append(int(digits, 16))
                at += 4
                continue
            byte = _ESCAPES.get(escaped, escaped)
            at += 1
        word.append(byte)
        at += 1
    return -1


def _single_quoted(line: bytes, at: int, word: bytearray) -> int:
    """Read up to the closing quote into `word`; the position after it, -1 if there is none."""
    end = len(line)
    while at < end and (byte := line[at]) != 0:
        if byte == 39:
            return at + 1
        if byte == 92 and line[at + 1 : at + 2] == b"'":
            byte = 39
            at += 1
        word.append(byte)
        at += 1
    return -1


def quote(value: bytes) -> bytes:
    """The value in double quotes, such that `split_words` gives it back. O(n).

    Source: sds.c, sdscatrepr.
    """
    out = bytearray(b'"')
    for byte in value:
        printed = _PRINTED.get(byte)
        if printed is not None:
            out += printed
        elif 32 <= byte < 127:
            out.append(byte)
        else:
            out += b"\\x%02x" % byte
    out += b'"'
    return bytes(out)


def parse_memory(text: bytes) -> int | None:
    """A size such as 100, 1k (1000) or 1kb (1024), in bytes, modulo 2**64; None if it is none.

    No digits at all are 0, and digits that do not fit saturate before the unit multiplies them.
    Source: util.c, memtoull.
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        return None
    unit = _UNITS.get((match[2] or b"").lower())
    if unit is None:
        return None
    return min(int(match[1] or b"0"), UINT64_MASK) * unit & UINT64_MASK


def format_memory(size_bytes: int) -> str:
    """The shortest exact spelling in whole gb, mb, kb or bytes: 1048576 is 1mb.

    Source: config.c, rewriteConfigFormatMemory.
    """
    for unit, name in ((1024**3, "gb"), (1024**2, "mb"), (1024, "kb")):
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return str(size_bytes)


def parse_c_long(text: bytes) -> int | None:
    """What strtoll(text, &end, 10) gives where it reads all of the text, else None.

    White space before, a plus sign and leading zeros pass, empty text is 0, overflow saturates.
    """
    match = _C_LONG.fullmatch(text)
    if match is None:
        return None
    return max(INT64_MIN, min(INT64_MAX, int(match[1] or b"0")))


def parse_c_octal(text: bytes) -> int | None:
    """As `parse_c_long` in base 8, but None on overflow, which the octal settings refuse."""
    match = _C_OCTAL.fullmatch(text)
    if match is None:
        return None
    value = int(match[1] or b"0", 8)
    return value if INT64_MIN <= value <= INT64_MAX else None


def format_double(value: float) -> str:
    """Six decimals, without the zeros (and the point) at their end.

    Source: config.c, getConfigLatencyTrackingInfoPercentilesOutputOption.
    """
    return f"{value:f}".rstrip("0").rstrip(".")


def wrap_int32(value: int) -> int:
    """The value as a C int holds it: the low 32 bits, signed."""
    return (value + 2**31) % 2**32 - 2**31
