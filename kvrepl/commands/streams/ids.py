"""Ids in requests and replies: `ms-seq`, `ms`, `ms-*`, `-`, `+` and, in ranges, `(` in front.

Source: Redis 7.0 t_stream.c (streamGenericParseIDOrReply, streamParseIntervalIDOrReply), util.c
(string2ull).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from kvrepl.datatypes.stream_nodes import MAX_ID, MIN_ID, UINT64_MAX, Entry, StreamId, next_id
from kvrepl.datatypes.stream_nodes import previous_id as id_before
from kvrepl.errors import CommandError
from kvrepl.numbers import parse_int

INVALID_ID: Final = CommandError(b"ERR Invalid stream ID specified as stream command argument")
INVALID_START: Final = CommandError(b"ERR invalid start ID for the interval")
INVALID_END: Final = CommandError(b"ERR invalid end ID for the interval")

MAX_TEXT_BYTES: Final = 127
"""Longer arguments are no ids, whatever they say."""

# What strtoull takes, which has the last word on numbers that are not plain: blanks, a sign,
# zeros in front. A negative one stands for its complement.
_LENIENT: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)([0-9]+)\Z")


def parse_id(
    argument: bytes, missing_seq: int = 0, *, strict: bool = True
) -> tuple[StreamId, bool] | None:
    """Read an id.

    Args:
        argument: the text.
        missing_seq: the sequence number where only the milliseconds are given.
        strict: whether `-` and `+`, the lowest and the highest id, are refused.

    Returns:
        The id, and whether its sequence number is left open (`ms-*`; it is then 0); None for
        what is no id.
    """
    if len(argument) > MAX_TEXT_BYTES:
        return None
    text = argument.partition(b"\0")[0]
    if text in (b"-", b"+"):
        return None if strict else (MIN_ID if text == b"-" else MAX_ID, False)
    ms_text, dash, seq_text = text.partition(b"-")
    ms = _unsigned(ms_text)
    if ms is None:
        return None
    if not dash:
        return (ms, missing_seq), False
    if seq_text == b"*":
        return (ms, 0), True
    seq = _unsigned(seq_text)
    return None if seq is None else ((ms, seq), False)


def stream_id(argument: bytes, missing_seq: int = 0, *, strict: bool = True) -> StreamId:
    """An id with its sequence number; see parse_id.

    Raises:
        CommandError: it is none.
    """
    parsed = parse_id(argument, missing_seq, strict=strict)
    if parsed is None or parsed[1]:
        raise INVALID_ID
    return parsed[0]


def interval(start: bytes, end: bytes) -> tuple[StreamId, StreamId]:
    """The bounds of a range, both inclusive. `(` in front of one excludes it.

    Raises:
        CommandError: one is no id, or what it excludes is the last there is.
    """
    return interval_start(start), interval_end(end)


def interval_start(argument: bytes) -> StreamId:
    """The lower bound of a range, inclusive."""
    if not _is_exclusive(argument):
        return stream_id(argument, strict=False)
    above = next_id(stream_id(argument[1:]))
    if above is None:
        raise INVALID_START
    return above


def interval_end(argument: bytes) -> StreamId:
    """The upper bound of a range, inclusive."""
    if not _is_exclusive(argument):
        return stream_id(argument, UINT64_MAX, strict=False)
    below = id_before(stream_id(argument[1:], UINT64_MAX))
    if below is None:
        raise INVALID_END
    return below


def text_of(entry_id: StreamId) -> bytes:
    """An id as replies and propagated commands have it."""
    return b"%d-%d" % entry_id


def entry_replies(entries: Iterable[Entry]) -> list[list[object]]:
    """Entries as a reply: an array of the id and of fields and values, each."""
    return [[b"%d-%d" % entry_id, fields] for entry_id, fields in entries]


def _is_exclusive(argument: bytes) -> bool:
    return len(argument) > 1 and argument.startswith(b"(")


def _unsigned(text: bytes) -> int | None:
    """An unsigned 64-bit number as string2ull reads it."""
    number = parse_int(text)
    if number is not None:
        return number if number >= 0 else None
    match = _LENIENT.match(text)
    if match is None:
        return None
    number = int(match[2])
    if number > UINT64_MAX:
        return None
    return -number & UINT64_MAX if match[1] == b"-" else number
