"""One segment of the keyspace as the records of an RDB: what a snapshot child spends its time in.

The compiled form, kvrepl.persistence._walker, must be used where there is one: it only borrows the
values that it walks. Any loop in Python writes a reference count into each object that it looks
at, and so makes the child copy the pages that it is meant to share with its parent: some four
fifths of the memory of a dataset of small values.

Source: rdbSaveKeyValuePair in rdb.c of Redis 7.0.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.records import rdb_type_and_value
from kvrepl.resp import ACCELERATED
from rdb.accel import accel
from rdb.values import node_limits
from rdb.writer import Accesses, encode_key, encode_records


class Walker(Protocol):
    """The signature of both forms."""

    def __call__(
        self,
        segment: dict[bytes, Any],
        expires: dict[bytes, int],
        limits: Limits,
        compress: bool,
        accesses: Accesses | None = None,
    ) -> bytes: ...


def encode_segment_reference(
    segment: dict[bytes, Any],
    expires: dict[bytes, int],
    limits: Limits,
    compress: bool,
    accesses: Accesses | None = None,
) -> bytes:
    """Encode in Python; see `encode_segment`."""
    return encode_records(
        segment,
        expires,
        compress,
        accesses,
        lambda key, value: _encode(key, value, expires, limits, compress, accesses),
    )


def _encode(
    key: bytes,
    value: Any,
    expires: dict[bytes, int],
    limits: Limits,
    compress: bool,
    accesses: Accesses | None,
) -> bytes:
    used = {}
    if accesses is not None:
        used["freq" if accesses.is_lfu else "idle_s"] = accesses.figure(key)
    type_code, plain = rdb_type_and_value(value, limits)
    return encode_key(
        key,
        type_code,
        plain,
        expires.get(key),
        **used,
        compress=compress,
        list_max_listpack_size=limits.list_max_listpack_size,
    )


def _compiled() -> Walker | None:
    """The compiled walker, where it was built and is wanted."""
    if accel is None or not ACCELERATED:
        return None
    try:
        from kvrepl.persistence._walker import encode_segment as walk
    except ImportError:
        return None

    def encode(
        segment: dict[bytes, Any],
        expires: dict[bytes, int],
        limits: Limits,
        compress: bool,
        accesses: Accesses | None = None,
    ) -> bytes:
        def other(key: bytes, value: Any) -> bytes:
            return _encode(key, value, expires, limits, compress, accesses)

        max_bytes, max_entries = node_limits(limits.list_max_listpack_size)
        encoded: bytes = walk(
            segment,
            expires,
            compress,
            max_bytes,
            -1 if max_entries is None else max_entries,
            other,
            accesses,
        )
        return encoded

    return encode


COMPILED: Final = _compiled()
encode_segment: Final[Walker] = COMPILED or encode_segment_reference
"""Encode every key of a segment.

Args:
    segment: key -> value.
    expires: key -> wall clock instant in ms, for the keys that have one, under the same objects:
        comparing equal keys that are two objects touches their reference counts.
    limits: the server's thresholds, of which the size of a list's nodes is looked at.
    compress: LZF for strings, as `rdbcompression`.
    accesses: what is known of the use of the keys, where it is to be stored.

Returns:
    The records, in the order of the segment. Cost: O(bytes).
"""
