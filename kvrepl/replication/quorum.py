"""How many replicas have it: WAIT, min-replicas, and the check at shutdown and failover.

A replica counts for an offset once it is online and has acknowledged no less. A client in WAIT
asks for the offset of the stream after its last command; it is answered when enough
replicas count, or with what there is when its time is up.

Source: Redis 7.0, replication.c (waitCommand, replicationCountAcksByOffset,
processClientsWaitingReplicas).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from kvrepl.errors import CommandError
from kvrepl.replication.links import ReplicaLink, ReplicaState

WAIT_ON_REPLICA: Final = CommandError(
    b"ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a "
    b"replica is configured to be writable (which is not the default) writes to replicas are "
    b"just local and are not propagated."
)


def count_acknowledged(replicas: Iterable[ReplicaLink], offset: int) -> int:
    """Count the online replicas that have acknowledged `offset` bytes. O(replicas)."""
    return sum(
        1
        for replica in replicas
        if replica.state is ReplicaState.ONLINE and replica.ack_offset >= offset
    )


def count_good(replicas: Iterable[ReplicaLink], max_lag_s: int, now_ms: int) -> int:
    """Count the online replicas heard of within min-replicas-max-lag. O(replicas)."""
    return sum(
        1
        for replica in replicas
        if replica.state is ReplicaState.ONLINE and replica.lag_seconds(now_ms) <= max_lag_s
    )


def lagging(replicas: Iterable[ReplicaLink], offset: int) -> list[ReplicaLink]:
    """Return the replicas a shutdown waits for: those without `offset` bytes. O(replicas)."""
    return [replica for replica in replicas if replica.ack_offset != offset]


class Waiter(NamedTuple):
    """A client in WAIT.

    Attributes:
        client: the shell's name for it.
        offset: what replicas must have acknowledged.
        wanted: how many of them.
        expires_at_ms: when to answer anyway; None for never.
    """

    client: int
    offset: int
    wanted: int
    expires_at_ms: int | None


class Answer(NamedTuple):
    """The reply to a WAIT that has ended: how many replicas count."""

    client: int
    acknowledged: int


class WaitQueue:
    """The clients in WAIT, in the order they came."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        """Let a client wait; it must not be waiting already. O(1)."""
        assert waiter.client not in self._waiters
        self._waiters[waiter.client] = waiter

    def remove(self, client: int) -> None:
        """Forget a client that has gone or was unblocked otherwise. O(1)."""
        self._waiters.pop(client, None)

    def answers(self, replicas: list[ReplicaLink], now_ms: int) -> list[Answer]:
        """Take out those whose wait has ended; called after ACKs, detached replicas and time.

        Args:
            replicas: all replicas of this master.
            now_ms: the present.

        Returns:
            Their answers, in the order they came. O(waiters * replicas), once for each offset.
        """
        counts: dict[int, int] = {}
        ended: list[Answer] = []
        for waiter in list(self._waiters.values()):
            count = counts.get(waiter.offset)
            if count is None:
                count = counts[waiter.offset] = count_acknowledged(replicas, waiter.offset)
            late = waiter.expires_at_ms is not None and now_ms >= waiter.expires_at_ms
            if count >= waiter.wanted or late:
                del self._waiters[waiter.client]
                ended.append(Answer(waiter.client, count))
        return ended

    def next_deadline_ms(self) -> int | None:
        """When the next wait runs out; None where none does. O(waiters)."""
        return min(
            (w.expires_at_ms for w in self._waiters.values() if w.expires_at_ms is not None),
            default=None,
        )
