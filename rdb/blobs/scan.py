r"""Listpacks walked in C where nothing of ours is compiled: by the regular expression engine.

An entry that is an integer, or a string of up to MAX_STRING_BYTES, has its size in its first bytes
and in its last. A pattern with a branch for each size is such an entry, and one `findall` walks
them all. Each pattern ends in a branch for all that is left, which leaves its group empty. So what
is found covers the body, and none empty means that entries are all that there is.

    pattern      one match                        its group
    _entries     an entry                         that entry
    _fields      a canonical entry, an entry      the first
    _members     a canonical entry, a score       the first
    _same_size   the same, of strings of one size

An entry is canonical where it is the only form of its text: an integer in its shortest encoding, a
string that is not the text of an integer. Among those, equal texts are equal bytes.

What is not covered gives None, and so does what is malformed: rdb.blobs.listpack, which is exact,
then has the word.

Source: the format is that of rdb.blobs.listpack.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Final

from rdb.blobs.listpack import HEADER_BYTES, integer_of

MAX_STRING_BYTES: Final = 125
"""Longer ones have a backlen of more than a byte."""
_MAX_SHORT_STRING_BYTES: Final = 63
_MAX_SCORE_BYTES: Final = 25
_HEADER: Final = struct.Struct("<IH")
_END: Final = 0xFF

_Find = Callable[[bytes, int, int], list[bytes]]


def _either(*branches: bytes) -> bytes:
    return b"(?:" + b"|".join(branches) + b")"


_STRING: Final = _either(
    *(
        rb"\x%02x.{%d}\x%02x" % (0x80 | size, size, size + 1)
        for size in range(_MAX_SHORT_STRING_BYTES + 1)
    ),
    rb"\xe0"
    + _either(
        *(
            rb"\x%02x.{%d}\x%02x" % (size, size, size + 2)
            for size in range(_MAX_SHORT_STRING_BYTES + 1, MAX_STRING_BYTES + 1)
        )
    ),
)
_INTEGER: Final = _either(
    rb"[\x00-\x7f]\x01",
    rb"[\xc0-\xdf].\x02",
    rb"\xf1.{2}\x03",
    rb"\xf2.{3}\x04",
    rb"\xf3.{4}\x05",
    rb"\xf4.{8}\x09",
)
_ENTRY: Final = _either(_INTEGER, _STRING)
# No digit is a backlen, so the text of an integer ends before the first byte that may be one.
_NO_INTEGER_TEXT: Final = rb"(?![\x81-\x94](?:0|-?[1-9][0-9]*)[\x02-\x15])"
_CANONICAL: Final = _either(
    rb"[\x00-\x7f]\x01",
    rb"(?!\xc0[\x00-\x7f])[\xc0-\xdf].\x02",
    # Each must not be the next smaller one with its sign extended.
    rb"\xf1.[\x10-\xef]\x03",
    rb"\xf2.(?![\x00-\x7f]\x00|[\x80-\xff]\xff).{2}\x04",
    rb"\xf3.{2}(?![\x00-\x7f]\x00|[\x80-\xff]\xff).{2}\x05",
    rb"\xf4.{3}(?![\x00-\x7f]\x00{4}|[\x80-\xff]\xff{4}).{5}\x09",
    _NO_INTEGER_TEXT + _STRING,
)
_SCORE: Final = _either(
    _INTEGER,
    rb"[\x81-\x99]-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf)"
    # The backlen ends the text, and must be that of the entry which began so many bytes before.
    + _either(
        *(
            rb"\x%02x(?<=\x%02x.{%d})" % (size + 1, 0x80 | size, size + 1)
            for size in range(1, _MAX_SCORE_BYTES + 1)
        )
    ),
)


def _finder(one: bytes, more: bytes) -> _Find:
    return re.compile(b"(%b)%b|.+" % (one, more), re.DOTALL).findall


# Compiling a pattern takes some milliseconds, which whoever has the accelerator need not pay.
_entries = cache(lambda: _finder(_ENTRY, b""))
_fields = cache(lambda: _finder(_CANONICAL, _ENTRY))
_members = cache(lambda: _finder(_CANONICAL, _SCORE))


@cache
def _same_size(size: int) -> _Find:
    """As `_members`, where each is a string of `size` bytes, which saves most of the branches."""
    # Refuses more texts than `_NO_INTEGER_TEXT`, but in a third of the time.
    member = rb"\x%02x(?!-?[0-9]++[\x02-\x15]).{%d}\x%02x" % (0x80 | size, size, size + 1)
    return _finder(member, _SCORE)


def entries(blob: bytes) -> list[bytes] | None:
    """The entries of a listpack, encoded; None where it is not covered. O(bytes)."""
    found = _entries()(blob, HEADER_BYTES, len(blob) - 1)
    return found if _is_framed(blob, len(found)) and b"" not in found else None


def fields(blob: bytes) -> int | None:
    """How many pairs a hash has whose fields differ; None where it has not, or is not covered."""
    return _pairs(blob, _fields())


def members(blob: bytes) -> int | None:
    """How many members a sorted set has, which differ and have scores; None as for `fields`."""
    if len(blob) <= HEADER_BYTES:
        return None
    first = blob[HEADER_BYTES]
    # As many bytes like the first must be there as members are to begin with it.
    if 0x80 < first < 0xC0 and 2 * blob.count(first) >= _HEADER.unpack_from(blob)[1]:
        count = _pairs(blob, _same_size(first & 0x3F))
        if count is not None:
            return count
    return _pairs(blob, _members())


def equal_strings(blob: bytes) -> int | None:
    """How many entries a listpack has where all are strings of one size; None where not."""
    first = blob[HEADER_BYTES] if len(blob) > HEADER_BYTES else 0
    if not 0x80 <= first < 0xC0:
        return None
    step = first - 0x80 + 2
    count = (len(blob) - HEADER_BYTES) // step
    if len(blob) != HEADER_BYTES + count * step + 1 or not _is_framed(blob, count):
        return None
    heads = blob[HEADER_BYTES:-1:step]
    backlens = blob[HEADER_BYTES + step - 1 : -1 : step]
    return count if heads.count(first) == backlens.count(step - 1) == count else None


def mask(found: list[bytes], free: Callable[[int], bool]) -> bytes:
    """The bits of a listpack that say what its entries are, and not what they hold.

    Args:
        found: its entries.
        free: given the place of an entry, whether that may hold anything; all of others is set.

    Returns:
        As many bytes as the listpack has.
    """
    parts = [b"\xff" * HEADER_BYTES]
    for place, entry in enumerate(found):
        parts.append(_mask_of(entry) if free(place) else b"\xff" * len(entry))
    return b"".join(parts) + b"\xff"


def _mask_of(entry: bytes) -> bytes:
    first = entry[0]
    if first < 0x80:
        return b"\x80\xff"
    if 0xC0 <= first < 0xE0:
        return b"\xe0\x00\xff"
    head = b"\xff\xff" if first == 0xE0 else b"\xff"
    return head + bytes(len(entry) - len(head) - 1) + b"\xff"


def is_short_string(entry: bytes) -> bool:
    """Whether an entry is a string of up to 63 bytes, which lies between its first and last."""
    return 0x80 <= entry[0] < 0xC0


def _pairs(blob: bytes, find: _Find) -> int | None:
    found = find(blob, HEADER_BYTES, len(blob) - 1)
    count = len(found)
    distinct = {*found}
    if len(distinct) != count or b"" in distinct or not _is_framed(blob, 2 * count):
        return None
    return count


def _is_framed(blob: bytes, count: int) -> bool:
    """Whether head and end are those of a listpack of so many entries."""
    size = len(blob)
    return size > HEADER_BYTES and blob[-1] == _END and _HEADER.unpack_from(blob) == (size, count)


def number_of(entry: bytes) -> int | None:
    """The integer that an encoded entry holds, or the text of which it holds; None for others."""
    first = entry[0]
    if first < 0x80:
        return first
    if first < 0xC0:
        return integer_of(entry[1:-1])
    if first < 0xE0:
        number = (first & 0x1F) << 8 | entry[1]
        return number - 8192 if number >= 4096 else number
    if first < 0xF0:
        return None
    return int.from_bytes(entry[1:-1], "little", signed=True)
