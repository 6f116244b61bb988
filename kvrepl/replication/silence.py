"""Silence on the link to a replica: when we must break it, and when it has lasted too long.

    waits for a snapshot, or for the end of a file   a newline a second shows that we live
    is sent a snapshot, from disk or diskless        bytes come, or its socket has stalled
    ONLINE                                           it is to acknowledge each second

A peer that knows no PSYNC never acknowledges, and is not found silent when it is ONLINE. Redis does
not look at who is sent a file: one that hangs then keeps the stream gathering, and here it
would keep its place at the storm gate for ever.

Source: Redis 7.0, replication.c (replicationCron).
"""

from __future__ import annotations

from kvrepl.replication.links import WAITING, ReplicaLink, ReplicaState
from kvrepl.replication.settings import ReplicationSettings


def is_awaited(replica: ReplicaLink) -> bool:
    """Tell whether a bare newline must show this replica that we live: nothing else goes to it.

    O(1).
    """
    return replica.state in WAITING and replica.reader is None


def timed_out(settings: ReplicationSettings, replica: ReplicaLink, now_ms: int) -> str:
    """Return what to log of a replica that has been silent for too long, empty where none. O(1)."""
    timeout_ms = settings.repl_timeout * 1000
    since_ms: int | None = None
    kind = "full sync"
    if replica.state is ReplicaState.ONLINE and not replica.pre_psync:
        since_ms, kind = replica.ack_at_ms, "streaming sync"
    elif replica.reader is not None or replica.state is ReplicaState.SEND_BULK:
        since_ms = replica.stalled_since_ms
    if since_ms is None or now_ms - since_ms <= timeout_ms:
        return ""
    return f"Disconnecting timedout replica ({kind}): {replica.name}"


def held_up(settings: ReplicationSettings, replica: ReplicaLink, others: int) -> str:
    """Return what to log of a replica for which a diskless transfer has waited too long. O(1)."""
    return (
        f"Disconnecting slow replica (full sync): {replica.name}: the other {others} of its "
        f"diskless transfer have waited for it for more than "
        f"{settings.repl_diskless_sync_max_stall} ms (repl-diskless-sync-max-stall); a later one "
        "will serve it"
    )
