"""Who shares a snapshot with whom.

A snapshot is the dearest thing that replication makes, so one is made for as many as can use it:

    a group      those who wait when a child can be forked, with equal requirements
    a newcomer   joins the child that runs, where somebody has waited for it from its start: the
                 cursor of that one still stands at the fork, and so holds every byte since

A newcomer reads the snapshot from its first byte. A file has it until it is replaced; of a diskless
transfer it is there while the ring holds the beginning (`ring`).

Source: Redis 7.0, replication.c (syncCommand, startBgsaveForReplication,
shouldStartChildReplication), for disk; joining a diskless transfer is ours.
"""

from __future__ import annotations

from kvrepl.replication import gate
from kvrepl.replication.actions import Requirements, Target
from kvrepl.replication.links import ReplicaLink, ReplicaState
from kvrepl.replication.settings import ReplicationSettings


def waiting_group(settings: ReplicationSettings, replicas: list[ReplicaLink]) -> list[ReplicaLink]:
    """Return the first replica that waits for a snapshot, and those that can share it.

    No more than may pass the storm gate. O(replicas).
    """
    waiting = [r for r in replicas if r.state is ReplicaState.WAIT_BGSAVE_START]
    group = [r for r in waiting if r.requirements == waiting[0].requirements]
    return group[: gate.places(settings, replicas)]


def is_due(settings: ReplicationSettings, group: list[ReplicaLink], now_ms: int) -> bool:
    """Tell whether the snapshot of a group is begun now, and none more is awaited. O(group)."""
    enough = settings.repl_diskless_sync_max_replicas
    longest_s = max(now_ms - replica.last_io_ms for replica in group) // 1000
    return (
        not settings.repl_diskless_sync
        or 0 < enough <= len(group)
        or longest_s >= settings.repl_diskless_sync_delay
    )


def is_delayed(settings: ReplicationSettings, newcomer: ReplicaLink) -> bool:
    """Tell whether a diskless snapshot for a newcomer waits for more replicas to come. O(1)."""
    return (
        settings.repl_diskless_sync and newcomer.capa_eof and settings.repl_diskless_sync_delay > 0
    )


def target(settings: ReplicationSettings, group: list[ReplicaLink]) -> Target:
    """Return where the snapshot of a group goes. O(group)."""
    diskless = settings.repl_diskless_sync or group[0].requirements != Requirements()
    all_eof = all(replica.capa_eof for replica in group)
    return Target.SOCKETS if diskless and all_eof else Target.DISK


def to_join(replicas: list[ReplicaLink], newcomer: ReplicaLink) -> ReplicaLink | None:
    """Return the replica whose snapshot in the making a newcomer can share. O(replicas).

    It must declare no less than that one, and want the same of the snapshot.
    """
    waiting = [r for r in replicas if r.state is ReplicaState.WAIT_BGSAVE_END]
    first = next((r for r in waiting if not r.rdb_only or newcomer.rdb_only), None)
    if (
        first is None
        or (first.capa_eof and not newcomer.capa_eof)
        or (first.capa_psync2 and not newcomer.capa_psync2)
        or first.requirements != newcomer.requirements
    ):
        return None
    return first
