"""How values are kept: OBJECT and MEMORY.

MEMORY USAGE estimates what a key costs in this process, in bytes:

    the key and the value as Python objects (sys.getsizeof), and SLOT_BYTES for their place in
    the segment; the same once more, without the value, for a time to live; of a collection the
    mean size of the elements sampled, times their number, and SLOT_BYTES for the place of each

It is no copy of what Redis would answer: it is what this server has to pay.

OBJECT IDLETIME tells the truth while maxmemory-policy is one of *-lru, whatever maxmemory is. Under
the other policies no clock of accesses is kept (kvrepl.keyspace.access), and it answers 0, which is
what Redis answers for a key just used.

Source: Redis 7.0 object.c (objectCommand, memoryCommand).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import integer
from kvrepl.datatypes import HashValue
from kvrepl.engine.introspection import help_lines
from kvrepl.engine.spec import command, container
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.keyspace.encoding import encoding
from kvrepl.numbers import parse_int
from kvrepl.resp.values import OK, Reply, Verbatim
from rdb import Stream

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

_LFU_ADVICE: Final = (
    b" Please note that when switching between policies at runtime LRU and LFU data will take"
    b" some time to adjust."
)
NOT_LFU: Final = CommandError(
    b"ERR An LFU maxmemory policy is not selected, access frequency not tracked." + _LFU_ADVICE
)
IS_LFU: Final = CommandError(
    b"ERR An LFU maxmemory policy is selected, idle time not tracked." + _LFU_ADVICE
)

SHARED_INTEGERS: Final = 10_000
"""Redis keeps one object for each integer below this, with a count that means "shared"."""
SHARED_REFCOUNT: Final = (1 << 31) - 1

SLOT_BYTES: Final = 48
"""A place in a dict: hash, key and value pointers, the index, and what growth leaves empty."""
DEFAULT_SAMPLES: Final = 5

# ----------------------------------------------------------------------- OBJECT

container("object", summary="A container for object introspection commands")

_TIPS: Final = ["nondeterministic_output"]


def _is_lfu(c: Client) -> bool:
    return "lfu" in c.engine.config.maxmemory_policy


@command("object|encoding", 3, "readonly", keys=["RO @2"], acl="keyspace", tips=_TIPS)
def object_encoding(c: Client, argv: list[bytes]) -> Reply:
    """Get the name of the form in which a value is kept. O(1)."""
    value = _look_at(c.db, argv[2])
    return None if value is None else encoding(value)


@command("object|refcount", 3, "readonly", keys=["RO @2"], acl="keyspace", tips=_TIPS)
def object_refcount(c: Client, argv: list[bytes]) -> Reply:
    """Get the number of references that Redis would count for a value. O(1)."""
    value = _look_at(c.db, argv[2])
    if value is None:
        return None
    number = parse_int(value) if type(value) is bytes else None
    return SHARED_REFCOUNT if number is not None and 0 <= number < SHARED_INTEGERS else 1


@command("object|idletime", 3, "readonly", keys=["RO @2"], acl="keyspace", tips=_TIPS)
def object_idletime(c: Client, argv: list[bytes]) -> Reply:
    """Get the seconds since a key was last used; see the module. O(1)."""
    if _look_at(c.db, argv[2]) is None:
        return None
    if _is_lfu(c):
        raise IS_LFU
    return c.db.access_figure(argv[2]) or 0


@command("object|freq", 3, "readonly", keys=["RO @2"], acl="keyspace", tips=_TIPS)
def object_freq(c: Client, argv: list[bytes]) -> Reply:
    """Get how often a key is used, on a logarithmic scale. O(1)."""
    if _look_at(c.db, argv[2]) is None:
        return None
    if not _is_lfu(c):
        raise NOT_LFU
    return c.db.access_figure(argv[2])


@command("object|help", 2, "loading stale", acl="keyspace")
def object_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "OBJECT",
        ("ENCODING <key>", "The form in which the value is kept."),
        ("FREQ <key>", "How often the key is used; needs an LFU policy."),
        ("IDLETIME <key>", "Seconds since the key was used."),
        ("REFCOUNT <key>", "The number of references to the value."),
    )


def _look_at(db: Database, key: bytes) -> Any:
    """The value, maybe packed, without counting a hit or a miss; an expired key is not there."""
    return db.peek(key) if db.exists(key) else None


# ----------------------------------------------------------------------- MEMORY

container("memory", summary="A container for memory diagnostics commands")

_SHARDS: Final = [
    "nondeterministic_output", "request_policy:all_shards", "response_policy:special",
]  # fmt: skip


@command("memory|usage", -3, "readonly", keys=["RO @2"])
def memory_usage(c: Client, argv: list[bytes]) -> Reply:
    """Estimate the memory used by a key. O(samples)."""
    samples = DEFAULT_SAMPLES
    for i in range(3, len(argv), 2):
        if argv[i].upper() != b"SAMPLES" or i + 1 == len(argv):
            raise SYNTAX
        samples = integer(argv[i + 1])
        if samples < 0:
            raise SYNTAX
    db, key = c.db, argv[2]
    value = _look_at(db, key)
    if value is None:
        return None
    used_bytes = getsizeof(key) + SLOT_BYTES + _value_bytes(value, samples)
    expires_at_ms = db.expires_at_ms(key)
    if expires_at_ms is not None:
        used_bytes += SLOT_BYTES + getsizeof(expires_at_ms)
    return used_bytes


def _value_bytes(value: Any, samples: int) -> int:
    """What a value costs; `samples` elements are looked at, 0 for all. O(samples)."""
    if isinstance(value, (bytes, bytearray)):  # strings, and packed collections
        return getsizeof(value)
    elements: Iterable[Any] = value
    if type(value) is HashValue:
        elements = value.items()
    elif type(value) is Stream:
        elements = value.entries
    seen = list(islice(elements, samples or None))
    if not seen:
        return getsizeof(value)
    count = value.length if type(value) is Stream else len(value)
    return getsizeof(value) + sum(map(_element_bytes, seen)) * count // len(seen)


def _element_bytes(element: Any) -> int:
    if type(element) is bytes:
        return getsizeof(element) + SLOT_BYTES
    return SLOT_BYTES + sum(
        sum(map(getsizeof, part)) if type(part) in (list, tuple) else getsizeof(part)
        for part in element
    )


@command("memory|stats", 2, tips=_SHARDS)
def memory_stats(c: Client, argv: list[bytes]) -> Reply:
    """Show where memory goes, as far as that can be told here. O(segments of all databases)."""
    engine = c.engine
    used_bytes, peak_bytes = engine.host.memory()
    stats: dict[bytes, Any] = {b"peak.allocated": peak_bytes, b"total.allocated": used_bytes}
    overhead_bytes = 0
    for db in engine.keyspace.nonempty():
        main, expires = len(db) * SLOT_BYTES, db.expires_count() * SLOT_BYTES
        overhead_bytes += main + expires
        stats[b"db.%d" % db.index] = {
            b"overhead.hashtable.main": main,
            b"overhead.hashtable.expires": expires,
        }
    keys = len(engine.keyspace)
    stats[b"overhead.total"] = overhead_bytes
    stats[b"keys.count"] = keys
    stats[b"keys.bytes-per-key"] = used_bytes // keys if keys else 0
    stats[b"dataset.bytes"] = max(used_bytes - overhead_bytes, 0)
    stats[b"peak.percentage"] = used_bytes * 100 / peak_bytes if peak_bytes else 0.0
    return stats


@command("memory|doctor", 2, tips=_SHARDS)
def memory_doctor(c: Client, argv: list[bytes]) -> Reply:
    """Say what is wrong with the use of memory. O(1)."""
    used_bytes, peak_bytes = c.engine.host.memory()
    limit = c.engine.config.maxmemory
    found = []
    if peak_bytes > used_bytes * 1.5:
        found.append(
            f" * Peak memory: {peak_bytes} bytes were in use once, {used_bytes} are now. The"
            " operating system may not have got back what lies between."
        )
    if limit and used_bytes > limit:
        found.append(f" * Over the limit: {used_bytes} bytes are resident, maxmemory is {limit}.")
    text = "\n".join(["What was found:", *found]) if found else "No problem with memory was found."
    return Verbatim(text.encode() + b"\n")


@command("memory|malloc-stats", 2, tips=_SHARDS)
def memory_malloc_stats(c: Client, argv: list[bytes]) -> Reply:
    """Show the allocator's own figures: the interpreter's has none to show. O(1)."""
    return Verbatim(b"Stats not supported for the current allocator")


@command("memory|purge", 2, tips=["request_policy:all_shards", "response_policy:all_succeeded"])
def memory_purge(c: Client, argv: list[bytes]) -> Reply:
    """Ask the allocator to give memory back: the interpreter's does so by itself. O(1)."""
    return OK


@command("memory|help", 2, "loading stale")
def memory_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "MEMORY",
        ("DOCTOR", "What is wrong with the use of memory."),
        ("MALLOC-STATS", "The allocator's own figures."),
        ("PURGE", "Have the allocator give memory back."),
        ("STATS", "Where memory goes."),
        (
            "USAGE <key> [SAMPLES <count>]",
            "An estimate in bytes; <count> elements are looked at (default 5, 0 for all).",
        ),
    )
