"""Both ends of replication. Source: Redis config.c; defaults asked of redis-server 7.0.15."""

from __future__ import annotations

from typing import Final

from kvrepl.config.kinds import INT64_MAX, INT_MAX, MasterAddress, Memory
from kvrepl.config.setting import Flags, Setting, choice, memory, number, secret, text, yes_no

BACKLOG_MIN_BYTES: Final = 16 * 1024
"""CONFIG_REPL_BACKLOG_MIN_SIZE of server.h: CONFIG SET raises smaller sizes to it."""


def at_least_backlog_min(size_bytes: int) -> int:
    """The size that the backlog gets when it is changed at run time."""
    return max(BACKLOG_MIN_BYTES, size_bytes)


REPLICATION: Final[tuple[Setting, ...]] = (
    Setting(
        "replicaof",
        MasterAddress(),
        None,
        "The master to replicate; REPLICAOF changes it.",
        ("slaveof",),
        Flags.IMMUTABLE,
    ),
    text("masteruser", "User name for the master.", flags=Flags.SENSITIVE),
    secret("masterauth", "Password for the master."),
    yes_no(
        "replica-serve-stale-data",
        True,
        "Answer while the link is down.",
        "slave-serve-stale-data",
    ),
    yes_no("replica-read-only", True, "Refuse writes of clients.", "slave-read-only"),
    yes_no(
        "replica-lazy-flush",
        False,
        "Free the old dataset in slices before a full resync.",
        "slave-lazy-flush",
    ),
    yes_no(
        "replica-ignore-maxmemory",
        True,
        "Leave eviction to the master.",
        "slave-ignore-maxmemory",
    ),
    yes_no(
        "replica-ignore-disk-write-errors",
        False,
        "Go on applying the stream where the disk fails.",
    ),
    number(
        "replica-priority",
        0,
        INT_MAX,
        100,
        "Rank for Sentinel; 0 is never promoted.",
        "slave-priority",
    ),
    yes_no("replica-announced", True, "Let Sentinel list this replica."),
    text("replica-announce-ip", "Address told to the master.", "slave-announce-ip"),
    number("replica-announce-port", 0, 65535, 0, "Port told to the master.", "slave-announce-port"),
    choice(
        "propagation-error-behavior",
        "ignore panic panic-on-replicas",
        "ignore",
        "What a command that fails in the stream does: here it is always gone on.",
        Flags.NO_EFFECT,
    ),
    yes_no("repl-diskless-sync", True, "Send snapshots straight to the socket."),
    number("repl-diskless-sync-delay", 0, INT_MAX, 5, "Seconds to wait for more replicas first."),
    number(
        "repl-diskless-sync-max-replicas",
        0,
        INT_MAX,
        0,
        "Replicas that end this wait early; 0 is no number.",
    ),
    memory(
        "repl-diskless-sync-ring-size",
        1,
        INT64_MAX,
        16 * 1024 * 1024,
        "Bytes of a diskless snapshot kept for replicas that are slower than others.",
        flags=Flags.OWN,
    ),
    number(
        "repl-diskless-sync-max-stall",
        0,
        INT_MAX,
        5000,
        "Milliseconds that the others of a diskless transfer wait for a slow replica before it is"
        " dropped; 0: no limit.",
        flags=Flags.OWN,
    ),
    choice(
        "repl-diskless-load",
        "disabled on-empty-db swapdb",
        "disabled",
        "Load a snapshot straight from the socket.",
        Flags.DENY_LOADING,
    ),
    number(
        "repl-max-concurrent-full-syncs",
        0,
        INT_MAX,
        0,
        "Full syncs of replicas that run at once, the others wait in line; 0: no limit.",
        flags=Flags.OWN,
    ),
    choice(
        "repl-compression",
        "no lz4",
        "no",
        "Compress links whose other end is a kvrepl that says so too; from the next connection on.",
        Flags.OWN,
    ),
    yes_no(
        "repl-backpressure",
        False,
        "Slow writers down when a replica nears its output limit.",
        flags=Flags.OWN,
    ),
    number(
        "repl-backpressure-max-delay",
        1,
        INT_MAX,
        10_000,
        "Milliseconds that writers wait at a time before the limit is left to do its work.",
        flags=Flags.OWN,
    ),
    yes_no(
        "replica-refuse-empty-master",
        False,
        "Do not give up data for the snapshot of a master that has none.",
        flags=Flags.OWN,
    ),
    number(
        "repl-ping-replica-period",
        1,
        INT_MAX,
        10,
        "Seconds between pings in the stream.",
        "repl-ping-slave-period",
    ),
    number("repl-timeout", 1, INT_MAX, 60, "Seconds of silence after which a link is dead."),
    yes_no("repl-disable-tcp-nodelay", False, "Fewer packets, more delay."),
    Setting(
        "repl-backlog-size",
        Memory(1, INT64_MAX, unsigned=False),
        1024 * 1024,
        "Bytes of stream kept for partial resyncs.",
        adjust=at_least_backlog_min,
        adjust_at_start=False,
    ),
    number(
        "repl-backlog-ttl", 0, INT64_MAX, 3600, "Seconds until an unused backlog goes; 0: never."
    ),
    number(
        "min-replicas-to-write",
        0,
        INT_MAX,
        0,
        "Good replicas without which writes are refused.",
        "min-slaves-to-write",
    ),
    number(
        "min-replicas-max-lag",
        0,
        INT_MAX,
        10,
        "Seconds of silence of a good replica.",
        "min-slaves-max-lag",
    ),
)
