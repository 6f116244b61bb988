"""Limits of memory, eviction, encodings of small values, the keyspace.

Source: Redis config.c; defaults asked of redis-server 7.0.15.
"""

from __future__ import annotations

from typing import Final

from kvrepl.config.kinds import INT64_MAX, INT_MAX, INT_MIN, UINT64_MAX, Letters
from kvrepl.config.setting import Flags, Setting, choice, memory, number, yes_no

MEMORY: Final[tuple[Setting, ...]] = (
    number("databases", 1, INT_MAX, 16, "Number of databases.", flags=Flags.IMMUTABLE),
    memory("maxmemory", 0, UINT64_MAX, 0, "Memory of the dataset; 0 is no limit."),
    choice(
        "maxmemory-policy",
        "volatile-lru volatile-lfu volatile-random volatile-ttl allkeys-lru allkeys-lfu "
        "allkeys-random noeviction",
        "noeviction",
        "Which keys go when maxmemory is reached.",
    ),
    number("maxmemory-samples", 1, INT_MAX, 5, "Keys looked at to evict one."),
    number("maxmemory-eviction-tenacity", 0, 100, 10, "Patience of eviction; 100 ignores latency."),
    number("lfu-log-factor", 0, INT_MAX, 10, "How slowly the counter of LFU grows."),
    number("lfu-decay-time", 0, INT_MAX, 1, "Minutes after which that counter is halved."),
    number("active-expire-effort", 1, 10, 1, "Effort to find expired keys."),
    yes_no("lazyfree-lazy-eviction", False, "Free evicted values in slices."),
    yes_no("lazyfree-lazy-expire", False, "Free expired values in slices."),
    yes_no("lazyfree-lazy-server-del", False, "Free overwritten values in slices."),
    yes_no("lazyfree-lazy-user-del", False, "DEL acts as UNLINK."),
    yes_no("lazyfree-lazy-user-flush", False, "FLUSHALL and FLUSHDB are ASYNC unless told."),
    Setting("notify-keyspace-events", Letters(), 0, "Events that are published."),
    number(
        "hash-max-listpack-entries",
        0,
        INT64_MAX,
        512,
        "Fields of a hash that is kept as one listpack.",
        "hash-max-ziplist-entries",
    ),
    memory(
        "hash-max-listpack-value",
        0,
        INT64_MAX,
        64,
        "Length of a field or value in such a hash.",
        "hash-max-ziplist-value",
    ),
    number(
        "list-max-listpack-size",
        INT_MIN,
        INT_MAX,
        -2,
        "Elements of a listpack in a list; -1 to -5 are 4 to 64 kb.",
        "list-max-ziplist-size",
    ),
    number(
        "list-compress-depth",
        0,
        INT_MAX,
        0,
        "Uncompressed nodes at each end of a list; 0: all. In memory nothing is compressed.",
        flags=Flags.NO_EFFECT,
    ),
    number(
        "set-max-intset-entries",
        0,
        INT64_MAX,
        512,
        "Members of a set of integers kept as one intset.",
    ),
    number(
        "zset-max-listpack-entries",
        0,
        INT64_MAX,
        128,
        "Members of a sorted set that is kept as one listpack.",
        "zset-max-ziplist-entries",
    ),
    memory(
        "zset-max-listpack-value",
        0,
        INT64_MAX,
        64,
        "Length of a member in such a sorted set.",
        "zset-max-ziplist-value",
    ),
    number(
        "pack-idle-time",
        0,
        INT_MAX,
        60,
        "Seconds, up to twice as many, after which an unused small collection is packed; 0: never.",
        flags=Flags.OWN,
    ),
    memory("hll-sparse-max-bytes", 0, INT64_MAX, 3000, "Size of a sparse HyperLogLog."),
    memory(
        "stream-node-max-bytes", 0, INT64_MAX, 4096, "Bytes of a node of a stream; 0: no limit."
    ),
    number("stream-node-max-entries", 0, INT64_MAX, 100, "Entries of such a node; 0: no limit."),
    choice(
        "sanitize-dump-payload",
        "no yes clients",
        "no",
        "Check all of a payload of RESTORE and of an RDB file: here it always is.",
        Flags.NO_EFFECT,
    ),
)
