"""The ledger of a master's synchronizations: how many, why, and what the last full one took.

It also remembers the little that is needed to name a cause afterwards: which replicas have been
here before, and which history of ours repl-backlog-ttl ended.

Source: Redis 7.0, server.h (stat_sync_full, stat_sync_partial_ok, stat_sync_partial_err) for the
three totals; the rest is ours.
"""

from __future__ import annotations

from typing import Final

from kvrepl.replication import reasons
from kvrepl.replication.actions import Actions, notice, warning
from kvrepl.replication.fullsync import FullSync
from kvrepl.replication.history import History
from kvrepl.replication.links import ReplicaLink
from kvrepl.replication.reasons import FullSyncReason, Verdict
from kvrepl.replication.stream import Stream

MAX_REMEMBERED: Final = 1024
"""How many addresses of former replicas are kept, to tell a new one from one that comes back."""


class SyncLedger:
    """What a master counts and keeps of synchronizations.

    Attributes:
        full, partial_ok, partial_err: `sync_*` of INFO stats.
        by_reason: `full`, by cause.
        joined, dropped: how many joined a diskless transfer that ran, or were dropped from one.
        last: the last full sync that succeeded, None before the first.
    """

    def __init__(self) -> None:
        self.last: FullSync | None = None
        self._seen: dict[str, None] = {}
        self._expired: reasons.Expired | None = None
        self.clear()

    def clear(self) -> None:
        """Begin to count anew (CONFIG RESETSTAT)."""
        self.full = 0
        self.partial_ok = 0
        self.partial_err = 0
        self.joined = 0
        self.dropped = 0
        self.by_reason = dict.fromkeys(FullSyncReason, 0)

    def refuse(
        self, replica: ReplicaLink, stream: Stream, replid: bytes, offset: int, now_ms: int
    ) -> Actions:
        """A PSYNC cannot be granted: count why, and tell the log with all figures."""
        verdict = self._judge(replica, stream, replid, offset)
        if not replid.startswith(b"?"):
            self.partial_err += 1
        self.open(replica, verdict.reason, now_ms)
        line = warning(verdict.line) if verdict.is_warning else notice(verdict.line)
        told = f"Full sync of replica {replica.name}, {verdict.reason.value}: {verdict.figures}"
        return [line, notice(told)]

    def _judge(self, replica: ReplicaLink, stream: Stream, replid: bytes, offset: int) -> Verdict:
        name, known = replica.name, replica.name in self._seen
        if replid.startswith(b"?"):
            line = f"Full resync requested by replica {name}"
            return reasons.judge_newcomer(line, snapshot_only=replica.rdb_only, known=known)
        return reasons.judge(stream, name, replid, offset, expired=self._expired, known=known)

    def open(self, replica: ReplicaLink, reason: FullSyncReason, now_ms: int) -> None:
        """A replica needs a full sync: count it and begin to time it."""
        self.full += 1
        self.by_reason[reason] += 1
        replica.sync = FullSync(reason.value, now_ms, replica.name)

    def close(self, replica: ReplicaLink, now_ms: int) -> Actions:
        """The full sync of a replica has succeeded, if it was in one: keep its figures."""
        sync, replica.sync = replica.sync, None
        if sync is None:
            return []
        sync.end(now_ms)
        self.last = sync
        return [notice(f"Full sync of replica {replica.name}, {sync.reason}: {sync.told()}")]

    def remember(self, replica: ReplicaLink) -> None:
        """Keep the address of a replica, to know it when it comes again. O(1)."""
        if not replica.port or replica.rdb_only:
            return
        self._seen.pop(replica.name, None)
        self._seen[replica.name] = None
        if len(self._seen) > MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def history_ended(self, history: History, ttl_s: int) -> None:
        """repl-backlog-ttl is about to end this history."""
        self._expired = reasons.Expired(history.replid, history.offset, ttl_s)
