"""Why a replica needs a whole snapshot, with the figures, and what would have spared it.

A full sync is the dearest thing that replication does, and its cause is soon forgotten: the
backlog has moved on by the time anybody looks. So the cause is named while it can still be seen:
in the log with all figures, and as counters of INFO.

    FullSyncReason        every cause there is; the value is the name of its counter
    judge()               looks at one PSYNC that cannot be granted, and says why
    judge_newcomer()      the same for a replica that has nothing to go on from
    seen_from_replica()   the same from the other end, which knows less

The order of the questions is the one in which Redis decides: the id, how far the second id
reaches, then the backlog.

Source: Redis 7.0, replication.c (masterTryPartialResync), for its log lines; the reasons are ours.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kvrepl.replication import wire
from kvrepl.replication.history import History
from kvrepl.replication.stream import Stream


class FullSyncReason(Enum):
    """Why; the value follows `kvrepl_full_sync_reason_` in INFO."""

    FIRST_ATTACH = "first_attach"
    FORCED = "forced"
    SNAPSHOT_ONLY = "snapshot_only"
    SYNC_COMMAND = "sync_command"
    ID_MISMATCH = "id_mismatch"
    BACKLOG_EXPIRED = "backlog_expired"
    SECOND_ID_PASSED = "second_id_passed"
    NO_BACKLOG = "no_backlog"
    OFFSET_BEFORE_BACKLOG = "offset_before_backlog"
    OFFSET_AHEAD = "offset_ahead"

    @property
    def meaning(self) -> str:
        """One line for whoever reads the counter."""
        return _MEANINGS[self]


_MEANINGS = {
    FullSyncReason.FIRST_ATTACH: "the replica has no history, and is new here",
    FullSyncReason.FORCED: "the replica has no history (any more), but was attached before",
    FullSyncReason.SNAPSHOT_ONLY: "the peer wants the snapshot alone (redis-cli --rdb)",
    FullSyncReason.SYNC_COMMAND: "the peer knows no PSYNC",
    FullSyncReason.ID_MISMATCH: "the replica follows a history that is unknown here",
    FullSyncReason.BACKLOG_EXPIRED: "its history was ours until repl-backlog-ttl ended it",
    FullSyncReason.SECOND_ID_PASSED: "the replica has more of our old history than we have",
    FullSyncReason.NO_BACKLOG: "it is our history, but none of it is kept",
    FullSyncReason.OFFSET_BEFORE_BACKLOG: "what it lacks is no longer in the backlog",
    FullSyncReason.OFFSET_AHEAD: "the replica has more of our history than we have",
}


class Expired(NamedTuple):
    """A history of ours that repl-backlog-ttl ended.

    Attributes:
        replid: its id.
        offset: how far it went.
        ttl_s: that ttl.
    """

    replid: bytes
    offset: int
    ttl_s: int


class Verdict(NamedTuple):
    """Why a request is not granted.

    Attributes:
        reason: the cause.
        line: what Redis logs in this case.
        is_warning: whether Redis logs it as a warning.
        figures: what was asked, what there is, and what would have spared the snapshot.
    """

    reason: FullSyncReason
    line: str
    is_warning: bool
    figures: str


def judge_newcomer(line: str, *, snapshot_only: bool, known: bool) -> Verdict:
    """Judge a replica that has no stream of any history: `PSYNC ? -1`, or one at offset 0.

    Args:
        line: what Redis logs.
        snapshot_only: it declared rdb-only.
        known: a replica of this address has been attached before.
    """
    if snapshot_only:
        return Verdict(FullSyncReason.SNAPSHOT_ONLY, line, False, "it wants the snapshot alone")
    if known:
        figures = (
            "it was attached before and has lost its place: look in its log for a restart without "
            "a usable RDB file (save, or appendonly yes), a failed load or a protocol error"
        )
        return Verdict(FullSyncReason.FORCED, line, False, figures)
    return Verdict(FullSyncReason.FIRST_ATTACH, line, False, "it holds no history to go on from")


def judge(
    stream: Stream,
    name: str,
    replid: bytes,
    offset: int,
    *,
    expired: Expired | None,
    known: bool,
) -> Verdict:
    """Say why `stream` cannot be resumed at (`replid`, `offset`).

    Args:
        stream: ours; not resumable there.
        name: the replica as the log names it.
        replid: the id it asked for.
        offset: the bytes of it that the replica has.
        expired: the last history of ours that repl-backlog-ttl ended; None where it never did.
        known: a replica of this address has been attached before.
    """
    history, backlog = stream.history, stream.backlog
    asked = wire.to_wire(offset)
    own = history.replid.decode(), history.replid2.decode()
    named = replid.lower()
    if named not in (history.replid, history.replid2):
        line = (
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for "
            f"'{replid.decode('ascii', 'backslashreplace')}', my replication IDs are '{own[0]}' "
            f"and '{own[1]}')"
        )
        if expired is not None and named == expired.replid:
            figures = (
                f"it has {offset} bytes of a history that ended here at {expired.offset}, when no "
                f"replica had been attached for {expired.ttl_s} s: a longer repl-backlog-ttl (0 is "
                "for ever) would have spared it"
            )
            return Verdict(FullSyncReason.BACKLOG_EXPIRED, line, False, figures)
        if offset <= 0:
            # A server that was a master until now names its own id, though nothing was counted.
            return judge_newcomer(line, snapshot_only=False, known=known)
        figures = (
            f"it has {offset} bytes of a history that this server knows nothing of; if it was "
            "ours, we restarted since without the RDB file (save) that names it, or from an AOF"
        )
        return Verdict(FullSyncReason.ID_MISMATCH, line, False, figures)
    if not history.continues(replid, offset):
        line = (
            "Partial resynchronization not accepted: Requested offset for second ID was "
            f"{asked}, but I can reply up to {history.second_repl_offset}"
        )
        figures = (
            f"it has {offset} bytes, but the two histories part after {history.replid2_offset}: "
            f"its last {offset - history.replid2_offset} bytes exist nowhere else and are "
            "dropped; min-replicas-to-write bounds what a master left alone can write"
        )
        return Verdict(FullSyncReason.SECOND_ID_PASSED, line, False, figures)
    if backlog is not None and offset > backlog.end:
        line = (
            f"Warning: replica {name} tried to PSYNC with an offset that is greater than the "
            "master replication offset."
        )
        figures = (
            f"it has {offset} bytes and this server {history.offset}: {offset - history.offset} "
            "bytes are lost here"
        )
        return Verdict(FullSyncReason.OFFSET_AHEAD, line, True, figures)
    line = (
        f"Unable to partial resync with replica {name} for lack of backlog (Replica request was: "
        f"{asked})."
    )
    if backlog is None:
        figures = f"it has {offset} bytes and this server {history.offset}, but kept none of them"
        return Verdict(FullSyncReason.NO_BACKLOG, line, False, figures)
    figures = (
        f"it has {offset} bytes, the backlog goes from {backlog.start} to {backlog.end}: missed "
        f"by {backlog.start - offset} bytes; repl-backlog-size {backlog.end - offset} would have "
        f"spared it (it is {backlog.limit_bytes})"
    )
    return Verdict(FullSyncReason.OFFSET_BEFORE_BACKLOG, line, False, figures)


def seen_from_replica(
    history: History, replid: bytes, offset: int, nothing_held: str
) -> tuple[str, str]:
    """Say why a snapshot was announced to us, as far as this end can tell.

    Args:
        history: ours, which the snapshot will replace.
        replid: the id announced.
        offset: the offset announced.
        nothing_held: why we had nothing to go on from; empty where we asked to go on.

    Returns:
        (a name for INFO, a sentence for the log).
    """
    if nothing_held:
        return "nothing_to_resume", f"this replica asked for everything: {nothing_held}"
    if history.offset == 0:
        return "nothing_to_resume", "this replica has no stream of any history yet"
    if replid == history.replid:
        return "not_in_backlog", (
            f"we have {history.offset} bytes of the master's history, which is at {offset}; what "
            "lies between is not in its backlog (repl-backlog-size there)"
        )
    return "other_history", (
        f"we have {history.offset} bytes of {history.replid.decode()}, and the master does not "
        "continue that from there; its log says why"
    )


def refused_empty_master(address: str) -> str:
    """Return the log line of replica-refuse-empty-master, with the ways out."""
    return (
        f"Refused the snapshot of MASTER {address}: it holds no key, and this replica does "
        "(replica-refuse-empty-master yes). Nothing was changed, and the master is not asked "
        "again. If it has lost its data: REPLICAOF NO ONE here, and let it follow this server. To "
        "ask it anew: REPLICAOF. To accept its empty dataset: CONFIG SET "
        "replica-refuse-empty-master no."
    )
