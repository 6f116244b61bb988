"""The storm gate: how many full syncs may run at once (repl-max-concurrent-full-syncs).

When a master of many replicas comes back without its history, all of them ask for a snapshot in
the same second. Redis then serves all at once: every link is full, every stream gathers for as
long as the slowest needs, and replicas that run into an output limit begin anew. With the gate a
few are served at a time and the others wait in line, kept alive by newlines; the log tells of it.

A full sync passes the gate when its snapshot is begun (or joined) and leaves it when the
snapshot has been sent, has failed, or the replica has gone. How long the replica then loads
costs the master nothing, and does not count.

    limit 0     no gate: everybody passes
    places      limit - those inside; a group that shares a snapshot takes one each

Invariant: with a limit that has not been lowered, no more than `limit` replicas are inside.
"""

from __future__ import annotations

from typing import Final

from kvrepl.replication.actions import Actions, notice
from kvrepl.replication.links import ReplicaLink, ReplicaState
from kvrepl.replication.settings import ReplicationSettings

INSIDE: Final = (ReplicaState.WAIT_BGSAVE_END, ReplicaState.SEND_BULK)
"""The states in which a replica costs us a snapshot."""


def running(replicas: list[ReplicaLink]) -> int:
    """Return how many full syncs run. O(replicas)."""
    return sum(1 for replica in replicas if replica.state in INSIDE)


def places(settings: ReplicationSettings, replicas: list[ReplicaLink]) -> int:
    """Return how many more may pass now. O(replicas)."""
    limit = settings.repl_max_concurrent_full_syncs
    if limit == 0:
        return len(replicas)
    return max(0, limit - running(replicas))


def tell_places(settings: ReplicationSettings, replicas: list[ReplicaLink]) -> Actions:
    """Log who stands where in the line, for those whose place has changed. O(replicas).

    Args:
        settings: of this server.
        replicas: in the order in which they came, which is that of the line.
    """
    limit = settings.repl_max_concurrent_full_syncs
    actions: Actions = []
    inside = running(replicas)
    full = limit > 0 and inside >= limit
    place = 0
    for replica in replicas:
        if replica.state is not ReplicaState.WAIT_BGSAVE_START or not full:
            replica.place = 0
            continue
        place += 1
        if replica.place != place:
            replica.place = place
            actions.append(
                notice(
                    f"Full sync of replica {replica.name} waits in line at place {place}: "
                    f"{inside} of at most {limit} run (repl-max-concurrent-full-syncs)"
                )
            )
    return actions
