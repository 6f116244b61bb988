"""Records for servers of another version: what a target cannot hold, and what it gets instead.

    target  read by                      cannot hold
    6       Redis 2.6 and later          access times and frequencies, auxiliary fields, function
                                         libraries, streams, module values, fields with an expiry
    9       Redis 5.0, 6.x, KeyDB        function libraries, counters of streams, fields with an
                                         expiry
    10      Redis 7.0                    when a consumer was last active, fields with an expiry
    11      Redis 7.2, Valkey 7.2 and 8  fields with an expiry
    12      Redis 7.4, 8.0               arrays, producers of streams and released entries, data
                                         of modules on keys, shared field names of hashes

A value whose encoding the target reads is left as it is, byte for byte; any other is decoded and
written in the plainest encoding that the target has. Entries of a stream that were released belong
to a consumer again, as older servers know no others: to the first of their group, where XAUTOCLAIM
finds them. Data of modules outside keys is not kept by any target, and sizes to prepare for are not
needed by any.

Source: rdb.h of the releases, and which of them introduced each number.
"""

from __future__ import annotations

from typing import Final

from rdb import constants as c
from rdb.dialect import REDIS, Dialect
from rdb.records import Key
from rdb.streams import Consumer, Stream
from rdb.values import ExpiringHash, Value, decode_value, encode_value

TARGETS: Final = (6, 9, 10, 11, 12)
FIRST_AUX_VERSION: Final = 7
FIRST_ACCESS_VERSION: Final = 9
"""Where idle times and frequencies came in."""
FIRST_FUNCTION_VERSION: Final = 10
_EXPIRING_TYPES: Final = frozenset(
    (
        c.TYPE_HASH_METADATA_PRE_GA,
        c.TYPE_HASH_LISTPACK_EX_PRE_GA,
        c.TYPE_HASH_METADATA,
        c.TYPE_HASH_LISTPACK_EX,
    )
)
FIRST_VERSIONS: Final = {
    c.TYPE_STRING: 1,
    c.TYPE_LIST: 1,
    c.TYPE_SET: 1,
    c.TYPE_ZSET: 1,
    c.TYPE_HASH: 1,
    c.TYPE_HASH_ZIPMAP: 2,
    c.TYPE_LIST_ZIPLIST: 2,
    c.TYPE_SET_INTSET: 2,
    c.TYPE_ZSET_ZIPLIST: 2,
    c.TYPE_HASH_ZIPLIST: 4,
    c.TYPE_LIST_QUICKLIST: 7,
    c.TYPE_ZSET_2: 8,
    c.TYPE_MODULE_2: 8,
    c.TYPE_STREAM_LISTPACKS: 9,
    c.TYPE_HASH_LISTPACK: 10,
    c.TYPE_ZSET_LISTPACK: 10,
    c.TYPE_LIST_QUICKLIST_2: 10,
    c.TYPE_STREAM_LISTPACKS_2: 10,
    c.TYPE_SET_LISTPACK: 11,
    c.TYPE_STREAM_LISTPACKS_3: 11,
    c.TYPE_HASH_METADATA: 12,
    c.TYPE_HASH_LISTPACK_EX: 12,
    c.TYPE_STREAM_LISTPACKS_4: 13,
    c.TYPE_STREAM_LISTPACKS_5: 14,
    c.TYPE_ARRAY: 14,
    c.TYPE_HASH_TEMPLATE_LISTPACK: 15,
    c.TYPE_HASH_TEMPLATE_LISTPACK_REF: 15,
    c.TYPE_HASH_TEMPLATE_ARRAY: 15,
    c.TYPE_HASH_TEMPLATE_ARRAY_REF: 15,
}
"""Type code -> the version whose readers know it. Those of release candidates are not here."""
_STREAM_TYPES: Final = (
    c.TYPE_STREAM_LISTPACKS_3,
    c.TYPE_STREAM_LISTPACKS_2,
    c.TYPE_STREAM_LISTPACKS,
)
_MAX_MS: Final = (1 << 63) - 1


class Unfit(Exception):
    """The target cannot hold a value; the text says what it is that it cannot hold."""


def fit(key: Key, version: int, dialect: Dialect = REDIS, *, shift_ttl_ms: int = 0) -> Key:
    """Make a key one that readers of `version` know.

    Args:
        key: with its encoded value.
        version: one of TARGETS.
        dialect: that of the file that the key comes from.
        shift_ttl_ms: how much later keys, and fields, are to expire.

    Returns:
        The key, with an encoded value. Cost: O(1) where the encoding may stay, else O(size).

    Raises:
        Unfit: the target has nothing like it.
        RdbError: the value is damaged, and had to be decoded.
    """
    code = key.type_code
    expires_at_ms = key.expires_at_ms
    if expires_at_ms is not None:
        expires_at_ms = _shifted(expires_at_ms, shift_ttl_ms)
    idle_s, freq = key.idle_s, key.freq
    if version < FIRST_ACCESS_VERSION:
        idle_s = freq = None
    expiring = code in _EXPIRING_TYPES
    raw: bytes = key.value
    # Above the shared types the two magics use the same numbers for different things.
    stays = FIRST_VERSIONS.get(code, _MAX_MS) <= version and not (dialect.valkey and expiring)
    if not stays or (expiring and shift_ttl_ms):
        value, _ = decode_value(code, raw, 0, dialect)
        if isinstance(value, ExpiringHash) and shift_ttl_ms:
            for field, at_ms in value.expires_at_ms.items():
                value.expires_at_ms[field] = _shifted(at_ms, shift_ttl_ms)
        code, value = _plainest(key.kind, value, version)
        raw = encode_value(code, value)
    return Key(key.db, key.key, code, raw, expires_at_ms, idle_s, freq)


def _shifted(at_ms: int, shift_ms: int) -> int:
    return max(0, min(at_ms + shift_ms, _MAX_MS)) if shift_ms else at_ms


def adopt_released(stream: Stream) -> None:
    """Give the entries that were released to the first consumer of their group; see above."""
    for group in stream.groups:
        if not group.released:
            continue
        if not group.consumers:
            group.consumers.append(Consumer(b"released", 0, -1))
        released = set(group.released)
        group.released = []
        for pending in group.pending:
            if pending.id in released:
                pending.consumer = group.consumers[0].name


def _plainest(kind: str, value: Value, version: int) -> tuple[int, Value]:
    """The type code and value that hold `value` in the least demanding way."""
    if kind == "zset":
        return (c.TYPE_ZSET_2 if version >= 8 else c.TYPE_ZSET), value
    if kind == "hash" and isinstance(value, ExpiringHash):
        if not value.expires_at_ms:
            return c.TYPE_HASH, value.fields
        if version >= FIRST_VERSIONS[c.TYPE_HASH_METADATA]:
            return c.TYPE_HASH_METADATA, value
        raise Unfit("hash fields with an expiry need version 12 (Redis 7.4)")
    if kind == "stream":
        for code in _STREAM_TYPES:
            if FIRST_VERSIONS[code] <= version:
                adopt_released(value)
                return code, value
        raise Unfit("streams need version 9 (Redis 5.0)")
    if kind == "array":
        raise Unfit("arrays need version 14 (Redis 8.8)")
    if kind == "module":
        raise Unfit("module values need version 8 (Redis 4.0)")
    return {"list": c.TYPE_LIST, "set": c.TYPE_SET, "hash": c.TYPE_HASH}[kind], value
