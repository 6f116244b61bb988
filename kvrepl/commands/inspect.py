"""How values are kept: OBJECT and MEMORY.

MEMORY USAGE tells what a key costs in this process (kvrepl.keyspace.sizes).

OBJECT IDLETIME tells the truth while maxmemory-policy is one of *-lru, whatever maxmemory is. Under
the other policies no clock of accesses is kept (kvrepl.keyspace.access), and it answers 0, which is
what Redis answers for a key just used.

Source: Redis 7.0 object.c (objectCommand, memoryCommand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import integer
from kvrepl.engine.introspection import help_lines
from kvrepl.engine.spec import command, container
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.keyspace.encoding import encoding
from kvrepl.keyspace.sizes import SLOT_BYTES, key_bytes
from kvrepl.numbers import parse_int
from kvrepl.resp.values import OK, Reply, Verbatim

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

DEFAULT_SAMPLES: Final = 5
DOCTOR_FROM_BYTES: Final = 64 << 20
"""Below this the process itself is what is resident, and its fragments are none of the data's."""

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
    if _look_at(db, key) is None:
        return None
    return key_bytes(db, key, samples)


@command("memory|stats", 2, tips=_SHARDS)
def memory_stats(c: Client, argv: list[bytes]) -> Reply:
    """Show where memory goes. O(segments of all databases + clients)."""
    engine = c.engine
    figures = engine.host.memory()
    stats: dict[bytes, Any] = {
        b"peak.allocated": figures.peak_bytes,
        b"total.allocated": figures.used_bytes,
        b"startup.allocated": figures.start_bytes,
        b"replication.backlog": figures.backlog_bytes,
        b"clients.slaves": figures.replica_bytes,
        b"clients.normal": figures.client_bytes,
        b"cluster.links": 0,
        b"aof.buffer": figures.aof_bytes,
        b"lua.caches": 0,
        b"functions.caches": figures.function_bytes,
    }
    for db in engine.keyspace.nonempty():
        stats[b"db.%d" % db.index] = {
            b"overhead.hashtable.main": len(db) * SLOT_BYTES,
            b"overhead.hashtable.expires": db.expires_count() * SLOT_BYTES,
            b"overhead.hashtable.slot-to-keys": 0,
        }
    keys = len(engine.keyspace)
    net_bytes = max(figures.used_bytes - figures.start_bytes, 0)
    stats[b"overhead.total"] = figures.overhead_bytes
    stats[b"keys.count"] = keys
    stats[b"keys.bytes-per-key"] = net_bytes // keys if keys else 0
    stats[b"dataset.bytes"] = figures.dataset_bytes
    stats[b"dataset.percentage"] = figures.dataset_bytes * 100 / net_bytes if net_bytes else 0.0
    stats[b"peak.percentage"] = figures.used_bytes * 100 / figures.peak_bytes
    stats[b"fragmentation"] = figures.rss_bytes / figures.used_bytes
    stats[b"fragmentation.bytes"] = figures.rss_bytes - figures.used_bytes
    return stats


@command("memory|doctor", 2, tips=_SHARDS)
def memory_doctor(c: Client, argv: list[bytes]) -> Reply:
    """Say what is wrong with the use of memory. O(clients)."""
    figures = c.engine.host.memory()
    limit = c.engine.config.maxmemory
    found = []
    if figures.peak_bytes > figures.used_bytes * 1.5:
        found.append(
            f" * Peak memory: {figures.peak_bytes} bytes were in use once, {figures.used_bytes}"
            " are now. The operating system may not have got back what lies between."
        )
    if figures.rss_bytes > figures.used_bytes * 1.4 and figures.used_bytes > DOCTOR_FROM_BYTES:
        found.append(
            f" * High fragmentation: {figures.rss_bytes} bytes are resident, of which"
            f" {figures.used_bytes} are in use. Pages go back to the system when nothing is left"
            " on them; a restart gives back the rest."
        )
    if limit and figures.used_bytes > limit:
        found.append(
            f" * Over the limit: {figures.used_bytes} bytes are in use, maxmemory is {limit}."
        )
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
