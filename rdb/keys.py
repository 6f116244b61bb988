"""Keys of an RDB straight into dicts, for whoever keeps a dataset and not records of it.

The dataset is a row of dicts, a key's place in it is `hash(key) & (len(row) - 1)`, and the times
to live stand in a second row under the same index. Strings become bytes, small values of other
types become Packed; a key that is anything else is left to the reader's records.

Source: rdbLoadRioWithLoadingCtx in rdb.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rdb import constants as c
from rdb.accel import accel
from rdb.errors import Incomplete, RdbError
from rdb.packed import CHECKS, MAX_BYTES, PACKED, TEXT_CHECKS, Thresholds
from rdb.strings import decode_string

Row = list[dict[bytes, Any]]
Taken = tuple[int, int, int, int | None]

_TEXTS: Final = frozenset((c.TYPE_STRING, *TEXT_CHECKS))
"""The types whose values are strings in the file."""
_TEXT_JUDGES: Final = {code: (check, PACKED[code]) for code, check in TEXT_CHECKS.items()}
_JUDGES: Final = {code: (check, PACKED[code]) for code, check in CHECKS.items()}
"""What judges a packed value, and its class, by type code; the first is given the text of it."""


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
    size = len(data)
    mask = len(segments) - 1
    due_mask = len(due_ms) - 1
    count = expiring = 0
    earliest_ms: int | None = None
    instant_ms: int | None = None
    texts, text_judges, judges = _TEXTS, _TEXT_JUDGES, _JUDGES
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
                    check_text, cls = text_judges[code]
                    if at - start > MAX_BYTES or not check_text(value, limits):
                        break
                    value = cls(data[start:at])
            else:
                if code not in judges:
                    break
                check, cls = judges[code]
                end = check(data, at, limits)
                if end is None or end - at > MAX_BYTES:
                    break
                value = cls(data[at:end])
                at = end
            place = hash(key) & mask
            segment = segments[place]
            if key in segment:
                break
            segment[key] = value
            if instant_ms is not None:
                expires[place][key] = instant_ms
                expiring += 1
                due_ms[place & due_mask] = min(due_ms[place & due_mask], instant_ms)
                earliest_ms = instant_ms if earliest_ms is None else min(earliest_ms, instant_ms)
                instant_ms = None
            count += 1
            pos = at
    except (Incomplete, IndexError, RdbError):
        pass  # of the key at `pos`
    return pos, count, expiring, earliest_ms


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
