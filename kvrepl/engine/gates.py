"""Every reason to refuse a command is a bit; one AND in dispatch decides whether to look closer.

A state of the server or of a client raises its bit (`Engine.gates`, `Client.gates`). A command's
mask holds the bits that can matter to it and is computed once, from its flags. Only when the two
meet does `kvrepl.engine.admission` walk through the reasons in Redis's order and word the refusal.

Source: Redis 7.0 server.c, processCommand.
"""

from __future__ import annotations

from typing import Final

# Raised for one client.
AUTH: Final = 1 << 0  # not authenticated
ACL: Final = 1 << 1  # its user may not do everything
MULTI: Final = 1 << 2  # inside MULTI: queue instead of calling
PUBSUB: Final = 1 << 3  # subscribed, RESP2: few commands are allowed
REPLICA: Final = 1 << 4  # the connection of a replica
QUIET: Final = 1 << 5  # CLIENT REPLY OFF or SKIP
TRACKING: Final = 1 << 6  # it is told of keys that change (kvrepl.engine.tracking)
CLOSING: Final = 1 << 7  # no further command is to be run
WEIGHED: Final = 1 << 8  # what it takes counts (kvrepl.server.client_eviction); refuses nothing

# Raised for the whole server.
OOM: Final = 1 << 10  # at maxmemory, or nearly so (kvrepl.engine.memory)
DISK: Final = 1 << 11  # the last save or AOF write failed
FEW_REPLICAS: Final = 1 << 12  # fewer good replicas than min-replicas-to-write
READONLY: Final = 1 << 13  # a read-only replica
STALE: Final = 1 << 14  # a replica without its master that may not serve stale data
LOADING: Final = 1 << 15  # the dataset is being loaded
ASYNC_LOADING: Final = 1 << 16  # the same, with the old data still served
BUSY: Final = 1 << 17  # a script runs for too long
PAUSE_WRITES: Final = 1 << 18  # CLIENT PAUSE ... WRITE, a failover, a slow replica
PAUSE_ALL: Final = 1 << 19  # CLIENT PAUSE ... ALL
MONITORED: Final = 1 << 20  # somebody watches through MONITOR

MASTER_EXEMPT: Final = (
    AUTH | ACL | OOM | FEW_REPLICAS | READONLY | STALE | LOADING | ASYNC_LOADING | BUSY
    | PAUSE_WRITES | PAUSE_ALL
)  # fmt: skip
"""Gates that the link from our master and the AOF loader pass unseen."""

ALLOWED_IN_PUBSUB: Final = frozenset(
    ("ping", "subscribe", "ssubscribe", "sunsubscribe", "psubscribe", "unsubscribe",
     "punsubscribe", "quit", "reset")
)  # fmt: skip

CALLS_SCRIPT: Final = frozenset(("eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro"))
"""Whose flags are those that the script declares; see kvrepl.engine.admission.flags_of."""

NOT_QUEUED: Final = frozenset(("exec", "discard", "multi", "watch", "quit", "reset"))


def mask_of(name: str, flags: frozenset[str]) -> int:
    """The gates that can matter to a command with these flags.

    Args:
        name: the command's name in lower case, "container|sub" for a subcommand.
        flags: as in kvrepl.engine.spec.FLAGS.
    """
    mask = ACL | QUIET | CLOSING | TRACKING
    if "no_auth" not in flags:
        mask |= AUTH
    if name not in NOT_QUEUED:
        mask |= MULTI
    if name not in ALLOWED_IN_PUBSUB:
        mask |= PUBSUB
    if "write" in flags:
        mask |= DISK | FEW_REPLICAS | READONLY | PAUSE_WRITES
    if "may_replicate" in flags:
        mask |= PAUSE_WRITES | REPLICA
    if "denyoom" in flags:
        mask |= OOM
    if "write" in flags or "readonly" in flags:
        mask |= REPLICA
    if name == "ping":
        mask |= DISK
    if "stale" not in flags:
        mask |= STALE
    if "loading" not in flags:
        mask |= LOADING
    if "no_async_loading" in flags:
        mask |= ASYNC_LOADING
    if "allow_busy" not in flags:
        mask |= BUSY
    if "skip_monitor" not in flags:
        mask |= MONITORED
    if name == "exec":
        # The queued commands decide; admission looks at them.
        mask |= OOM | DISK | FEW_REPLICAS | READONLY | STALE | LOADING | PAUSE_WRITES
    return mask | PAUSE_ALL
