"""Keys of an RDB straight into dicts, for whoever keeps a dataset and not records of it.

    load_keys     bytes -> dicts
    parse_keys    bytes -> Run        the two halves of it, for whoever has the first done elsewhere
    load_run      Run -> dicts
    skip_keys     bytes -> position

The dataset is a row of dicts, a key's place in it is `hash(key) & (len(row) - 1)`, and the times
to live stand in a second row under the same index. Strings become bytes, small values of other
types become Packed; a key that is anything else is left to the reader's records.

Source: rdbLoadRioWithLoadingCtx in rdb.c.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import length_hint
from typing import Any, Final, NamedTuple

from rdb import constants as c
from rdb.accel import accel
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length
from rdb.measure import end_of_value
from rdb.packed import CHECKS, MAX_BYTES, PACKED, TEXT_CHECKS, Thresholds, stream_counters
from rdb.strings import decode_string

Row = list[dict[bytes, Any]]
Taken = tuple[int, int, int, int | None]

_TEXTS: Final = frozenset((c.TYPE_STRING, *TEXT_CHECKS))
"""The types whose values are strings in the file."""
_LZF: Final = 0xC0 | c.ENC_LZF
MAX_KEYS: Final = 1 << 62
"""More than there can be."""


class Run(NamedTuple):
    """Keys that follow each other in an RDB, taken out of it, not yet in their places.

    Attributes:
        end: the position after the last.
        keys: of each the key.
        codes: the type code.
        values: a string, or the encoded value of a Packed.
        instants: (index, wall clock instant in ms) of those that expire.
    """

    end: int
    keys: list[bytes]
    codes: bytes | bytearray
    values: list[bytes]
    instants: list[tuple[int, int]]


def parse_keys(data: bytes, pos: int, limits: Thresholds, drop_before_ms: int | None) -> Run:
    """Take keys out of an RDB, from `pos` to the first that `load_keys` would leave to others.

    Args:
        data, pos, limits, drop_before_ms: as for `load_keys`.

    Cost: O(bytes).
    """
    size = len(data)
    keys: list[bytes] = []
    codes = bytearray()
    values: list[bytes] = []
    instants: list[tuple[int, int]] = []
    add_key, add_code, add_value = keys.append, codes.append, values.append
    instant_ms: int | None = None
    texts, text_checks, checks = _TEXTS, TEXT_CHECKS, CHECKS
    # hot: benchmarks/load-pure, which is why the short lengths of strings are read here.
    try:
        while pos < size:
            code = data[pos]
            at = pos + 1
            if code == c.OP_EXPIRE_MS:
                at = pos + 10
                instant_ms = int.from_bytes(data[pos + 1 : pos + 9], "little", signed=True)
                code = data[pos + 9]
                if drop_before_ms is not None and instant_ms < drop_before_ms:
                    break
            if (length := data[at]) < 0x40:
                begin = at + 1
                at = begin + length
                key = data[begin:at]
            else:
                key, at = decode_string(data, at)
            if code in texts:
                start = at
                if (length := data[at]) < 0x40:
                    begin = at + 1
                    at = begin + length
                    value = data[begin:at]
                elif length < 0x80:
                    begin = at + 2
                    at = begin + ((length & 0x3F) << 8 | data[at + 1])
                    value = data[begin:at]
                else:
                    value, at = decode_string(data, at)
                if at > size:
                    break
                if code:
                    if at - start > MAX_BYTES or not text_checks[code](value, limits):
                        break
                    value = data[start:at]
            else:
                if code not in checks:
                    break
                end = checks[code](data, at, limits)
                if end is None or end - at > MAX_BYTES:
                    break
                value = data[at:end]
                at = end
            if instant_ms is not None:
                instants.append((len(keys), instant_ms))
                instant_ms = None
            add_key(key)
            add_code(code)
            add_value(value)
            pos = at
    except (Incomplete, IndexError, RdbError):
        pass  # of the key at `pos`
    return Run(pos, keys, codes, values, instants)


def skip_keys(data: bytes, pos: int, most: int = MAX_KEYS) -> int:
    """Pass over keys that follow each other.

    Args:
        data: whole or part of an RDB.
        pos: where a record starts in it.
        most: so many keys at most.

    Returns:
        The position after the last that is there whole; or after one before it, where the next
        is of a type that is not kept packed, or malformed.

    Cost: O(strings).
    """
    size = len(data)
    # hot: benchmarks/load-pure
    try:
        while pos < size and most:
            most -= 1
            at = pos + 9 if data[pos] == c.OP_EXPIRE_MS else pos
            code = data[at]
            at = _after_string(data, at + 1)
            if code in _TEXTS:
                at = _after_string(data, at)
            elif code == c.TYPE_SET:
                count, at = decode_length(data, at)
                for _ in range(count):
                    at = at + 1 + length if (length := data[at]) < 0x40 else _after_string(data, at)
            elif code == c.TYPE_LIST_QUICKLIST_2:
                count, at = decode_length(data, at)
                for _ in range(count):
                    at = _after_string(data, at + 1)
            elif code == c.TYPE_STREAM_LISTPACKS_2:
                at = _after_stream(data, at)
            elif code in PACKED:
                at = end_of_value(code, data, at)
            else:
                break
            if at > size:
                break
            pos = at
    except (Incomplete, IndexError, RdbError):
        pass  # of the key at `pos`
    return pos


def _after_string(data: bytes, pos: int) -> int:
    """Give the position after a string, whether that is there or not."""
    first = data[pos]
    if first < 0x40:
        return pos + 1 + first
    if first < 0x80:
        return pos + 2 + ((first & 0x3F) << 8 | data[pos + 1])
    if first == _LZF:
        if 0x40 <= (length := data[pos + 1]) < 0x80 and 0x40 <= data[pos + 3] < 0x80:
            return pos + 5 + ((length & 0x3F) << 8 | data[pos + 2])
        length, pos = decode_length(data, pos + 1)
        _, pos = decode_length(data, pos)
        return pos + length
    return decode_string(data, pos)[1]


def _after_stream(data: bytes, pos: int) -> int:
    """Give the position after a stream, Incomplete if that is not there."""
    nodes, at = decode_length(data, pos)
    for _ in range(nodes):
        at = _after_string(data, _after_string(data, at))
    _, at = decode_length(data, at)
    counters = stream_counters(data, at)
    if counters and not data[counters.end()]:
        return counters.end() + 1
    return end_of_value(c.TYPE_STREAM_LISTPACKS_2, data, pos)


def place_keys(
    run: Run, segments: Row, expires: list[dict[bytes, int]], due_ms: list[int]
) -> tuple[int, int, int | None]:
    """Put keys into their places, up to the first that is there already.

    Args:
        run: the keys.
        segments, expires, due_ms: as for `load_keys`.

    Returns:
        (how many were, how many of them expire, the earliest instant among them or None).

    Cost: O(keys).
    """
    _, keys, codes, values, instants = run
    mask = len(segments) - 1
    packed = PACKED
    count = len(keys)
    left = iter(keys)
    # hot: benchmarks/load-pure
    for key, code, value in zip(left, codes, values, strict=True):
        segment = segments[hash(key) & mask]
        if key in segment:
            count -= 1 + length_hint(left)
            break
        segment[key] = packed[code](value) if code else value
    due_mask = len(due_ms) - 1
    expiring = 0
    earliest_ms: int | None = None
    for index, instant_ms in instants:
        if index >= count:
            break
        place = hash(keys[index]) & mask
        expires[place][keys[index]] = instant_ms
        due_ms[place & due_mask] = min(due_ms[place & due_mask], instant_ms)
        earliest_ms = instant_ms if earliest_ms is None else min(earliest_ms, instant_ms)
        expiring += 1
    return count, expiring, earliest_ms


def load_run(
    run: Run,
    data: bytes,
    pos: int,
    segments: Row,
    expires: list[dict[bytes, int]],
    due_ms: list[int],
) -> Taken:
    """As `load_keys`, with what `parse_keys` gives of the same `data` and `pos`. O(keys)."""
    count, expiring, earliest_ms = place_keys(run, segments, expires, due_ms)
    end = run.end if count == len(run.keys) else skip_keys(data, pos, count)
    return end, count, expiring, earliest_ms


def load_keys_reference(
    data: bytes,
    pos: int,
    segments: Row,
    expires: list[dict[bytes, int]],
    due_ms: list[int],
    limits: Thresholds,
    drop_before_ms: int | None,
) -> Taken:
    """Load in Python; see `load_keys`."""
    run = parse_keys(data, pos, limits, drop_before_ms)
    return load_run(run, data, pos, segments, expires, due_ms)


load_keys: Callable[
    [bytes, int, Row, list[dict[bytes, int]], list[int], Thresholds, int | None], Taken
] = load_keys_reference if accel is None else accel.load_keys
"""Put the keys that stand from `pos` on into their places.

It ends before the first that it leaves to others: one that is cut off or malformed, whose value is
neither a string nor to be kept packed, that is over, or that is there already.

Args:
    data: whole or part of an RDB.
    pos: where a record starts in it.
    segments: key -> value, a power of two of dicts.
    expires: key -> wall clock instant in ms, as many dicts.
    due_ms: a lower bound of the instants in each, or in each of those that have so many bits of
        their index in common; kept one. A power of two, no more than there are dicts.
    limits: the thresholds in force.
    drop_before_ms: leave keys that expire before this instant; None for none.

Returns:
    (position after the last key taken, how many were, how many of them expire, the earliest instant
    among them or None).

Cost: O(bytes).
"""
