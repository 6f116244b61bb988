"""Text lines <-> arguments: inline commands, redis.conf lines, and quoted text for people.

A line is split at blanks; "..." and '...' may begin anywhere in an argument and keep blanks, and
a closing quote must end its argument. Inside double quotes \\n \\r \\t \\b \\a and \\xHH are
escapes and any other escaped byte is itself; inside single quotes only \\' is one. Text ends at a
NUL.

`split_inline(quote(x)) == [x]` for every x.

Source: Redis 7.0 sds.c sdssplitargs, sdscatrepr.
"""

from __future__ import annotations

import re
from typing import Final

_BLANKS: Final = b" \t\n\v\f\r"
_TOKEN_ENDS: Final = b" \t\n\r"
"""What ends a bare argument; \\v and \\f are only skipped before one."""
_NEEDS_CARE: Final = re.compile(rb"[\"'\v\f\0]")
_ESCAPES: Final = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}
_HEX_PAIR: Final = re.compile(rb"x([0-9a-fA-F]{2})")
_DOUBLE: Final = 0x22
_SINGLE: Final = 0x27
_BACKSLASH: Final = 0x5C

_QUOTED: Final = {
    **{byte: b"\\x%02x" % byte for byte in range(256) if not 0x20 <= byte <= 0x7E},
    **{code: b"\\%c" % letter for letter, code in _ESCAPES.items()},
    _BACKSLASH: b"\\\\",
    _DOUBLE: b'\\"',
}
_TO_QUOTE: Final = re.compile(rb"[^ !#-\[\]-~]")


def split_inline(line: bytes) -> list[bytes] | None:
    """Split a line into arguments.

    Args:
        line: the line, without its end.

    Returns:
        The arguments, or None where quotes are unbalanced. O(len).

    Source: sds.c sdssplitargs.
    """
    if not _NEEDS_CARE.search(line):
        return line.split()
    line = line.partition(b"\0")[0]
    args: list[bytes] = []
    pos, end = 0, len(line)
    while True:
        while pos < end and line[pos] in _BLANKS:
            pos += 1
        if pos == end:
            return args
        arg = bytearray()
        pos = _take_argument(line, pos, arg)
        if pos < 0:
            return None
        args.append(bytes(arg))


def _take_argument(line: bytes, pos: int, arg: bytearray) -> int:
    """Read one argument into arg; return the position after it, -1 where a quote is unbalanced."""
    end = len(line)
    while pos < end:
        byte = line[pos]
        if byte in _TOKEN_ENDS:
            return pos + 1
        if byte in (_DOUBLE, _SINGLE):
            take = _take_double_quoted if byte == _DOUBLE else _take_single_quoted
            pos = take(line, pos + 1, arg)
            if pos < end and (pos < 0 or line[pos] not in _BLANKS):
                return -1
            return pos
        arg.append(byte)
        pos += 1
    return pos


def _take_double_quoted(line: bytes, pos: int, arg: bytearray) -> int:
    """Read up to the closing quote; return the position after it, -1 where there is none."""
    end = len(line)
    while pos < end:
        byte = line[pos]
        if byte == _DOUBLE:
            return pos + 1
        if byte == _BACKSLASH and pos + 1 < end:
            if match := _HEX_PAIR.match(line, pos + 1):
                arg.append(int(match[1], 16))
                pos = match.end()
                continue
            pos += 1
            byte = _ESCAPES.get(line[pos], line[pos])
        arg.append(byte)
        pos += 1
    return -1


def _take_single_quoted(line: bytes, pos: int, arg: bytearray) -> int:
    """Read up to the closing quote; return the position after it, -1 where there is none."""
    end = len(line)
    while pos < end:
        byte = line[pos]
        if byte == _SINGLE:
            return pos + 1
        if byte == _BACKSLASH and line[pos + 1 : pos + 2] == b"'":
            pos += 1
            byte = _SINGLE
        arg.append(byte)
        pos += 1
    return -1


def quote(data: bytes) -> bytes:
    """Print bytes inside double quotes, with escapes for what is not printable ASCII.

    Args:
        data: any bytes.

    Returns:
        Text that split_inline reads back as the one argument data. O(len).

    Source: sds.c sdscatrepr (MONITOR, CONFIG REWRITE, DEBUG, error texts).
    """
    return b'"%b"' % _TO_QUOTE.sub(lambda match: _QUOTED[match[0][0]], data)
