"""Each rule of replication, broken on purpose, makes the simulation fail.

A simulation is worth what it catches. Every mutation here replaces one rule by a plausible
mistake, and some seed among the first few must notice.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvrepl.replication import gate, silence, wire
from kvrepl.replication.actions import Actions, StartStream
from kvrepl.replication.apply import StreamApplyState
from kvrepl.replication.backlog import Backlog, Cursor
from kvrepl.replication.backpressure import Backpressure
from kvrepl.replication.compression import CorruptFrame, Decompressor
from kvrepl.replication.handshake import PsyncReply
from kvrepl.replication.history import History
from kvrepl.replication.links import ReplicaLink
from kvrepl.replication.master import MasterSide
from kvrepl.replication.replica import ReplicaSide
from kvrepl.replication.ring import Reader, Ring
from kvrepl.replication.stream import Stream
from tests.simulation.cluster import Cluster

MAX_SEEDS = 150

Patch = pytest.MonkeyPatch


def adopt_when_announced(patch: Patch) -> None:
    """Take over id and offset at +FULLRESYNC, not after the load."""
    real = ReplicaSide._expect_snapshot

    def mutated(self: ReplicaSide, reply: PsyncReply, now_ms: int) -> Actions:
        actions = real(self, reply, now_ms)
        if self.intake is not None and self.intake.announced is not None:
            actions += self._disconnect_sub_replicas(now_ms)
            self._stream.free_backlog()
            self._stream.history.adopt(*self.intake.announced)
            self._stream.create_backlog()
            self.resume_db = 0
        return actions

    patch.setattr(ReplicaSide, "_expect_snapshot", mutated)


def resume_beyond_the_end(patch: Patch) -> None:
    """Grant an offset that is greater than ours, as if there were nothing to send."""
    real = Backlog.cursor
    patch.setattr(Backlog, "covers", lambda self, offset: offset >= self.start)
    patch.setattr(Backlog, "cursor", lambda self, offset: _clamped(real, self, offset))


def resume_before_the_start(patch: Patch) -> None:
    """Grant an offset whose bytes are trimmed already, and send what is left."""
    real = Backlog.cursor
    patch.setattr(Backlog, "covers", lambda self, offset: offset <= self.end)
    patch.setattr(Backlog, "cursor", lambda self, offset: _clamped(real, self, offset))


def _clamped(real: Callable[[Backlog, int], Cursor], backlog: Backlog, offset: int) -> Cursor:
    return real(backlog, min(max(offset, backlog.start), backlog.end))


def old_id_for_ever(patch: Patch) -> None:
    """Accept the second id beyond the offset up to which it is shared."""
    patch.setattr(
        History, "continues", lambda self, replid, offset: replid in (self.replid, self.replid2)
    )


def no_select_after_full_sync(patch: Patch) -> None:
    """Keep the stream's database when a new reader joins."""
    patch.setattr(Stream, "force_select", lambda self: None)


def count_inside_multi(patch: Patch) -> None:
    """Let queued commands of a transaction move the offset."""

    def mutated(self: StreamApplyState, count: int, *, in_multi: bool) -> int:
        return count

    patch.setattr(StreamApplyState, "ran", mutated)


def trim_what_is_unread(patch: Patch) -> None:
    """Trim the backlog below what a slow replica still has to read."""
    real = Backlog.trim

    def mutated(self: Backlog) -> None:
        cursors, self._cursors = self._cursors, []
        real(self)
        self._cursors = cursors

    patch.setattr(Backlog, "trim", mutated)


def join_any_bgsave(patch: Patch) -> None:
    """Attach a replica to a running BGSAVE whose difference nobody has kept."""

    def mutated(self: MasterSide, replica: ReplicaLink, now_ms: int) -> Actions:
        offset = self._stream.history.offset
        replica.cursor = self._backlog_cursor(offset)
        return self._begin_full_sync(replica, offset, now_ms)

    patch.setattr(MasterSide, "_join_running_bgsave", mutated)


def same_id_without_backlog(patch: Patch) -> None:
    """Keep the id over a time in which writes were not counted."""
    patch.setattr(History, "change", lambda self: None)


def same_id_after_promotion(patch: Patch) -> None:
    """Go on under the master's id when promoted."""
    patch.setattr(History, "shift", lambda self: None)


def keep_sub_replicas(patch: Patch) -> None:
    """Keep those who follow us when our dataset is replaced by another history's."""

    def mutated(self: ReplicaSide, now_ms: int) -> Actions:
        self.resume_db = None
        return []

    patch.setattr(ReplicaSide, "_give_up_dataset", mutated)


def keep_resumable_while_loading(patch: Patch) -> None:
    """Ask for the old history again after its dataset was given up for a failed load."""
    real = ReplicaSide._give_up_dataset

    def mutated(self: ReplicaSide, now_ms: int) -> Actions:
        db = self.resume_db
        actions = real(self, now_ms)
        self.resume_db = db
        return actions

    patch.setattr(ReplicaSide, "_give_up_dataset", mutated)


def never_resume(patch: Patch) -> None:
    """Answer every PSYNC with a snapshot, which converges as well."""
    patch.setattr(Stream, "resumable", lambda self, replid, offset: False)


def newlines_to_everybody(patch: Patch) -> None:
    """Send keepalives to a replica that is fed the stream, and counts them."""
    patch.setattr(silence, "is_awaited", lambda replica: True)


def stream_before_the_load(patch: Patch) -> None:
    """Begin the stream right after a diskless snapshot."""
    real = MasterSide._streamed

    def mutated(self: MasterSide, replica: ReplicaLink, now_ms: int) -> Actions:
        actions = real(self, replica, now_ms)
        assert replica.cursor is not None
        return [*actions, StartStream(replica.link, replica.cursor)]

    patch.setattr(MasterSide, "_streamed", mutated)


def snapshot_of_a_later_instant(patch: Patch) -> None:
    """Keep for a replica what is written from a second after its snapshot on."""
    real = MasterSide._begin_full_sync

    def mutated(self: MasterSide, replica: ReplicaLink, offset: int, now_ms: int) -> Actions:
        actions = real(self, replica, offset, now_ms)
        self._stream.feed(0, b"*1\r\n$4\r\nping\r\n")
        replica.cursor = self._backlog_cursor(self._stream.history.offset)
        return actions

    patch.setattr(MasterSide, "_begin_full_sync", mutated)


def wait_for_a_dead_child(patch: Patch) -> None:
    """Keep replicas waiting whose child has failed."""
    real = MasterSide.bgsave_done

    def mutated(self: MasterSide, *, ok: bool, now_ms: int) -> Actions:
        if ok:
            return real(self, ok=ok, now_ms=now_ms)
        self.child = None
        return []

    patch.setattr(MasterSide, "bgsave_done", mutated)


def acknowledge_what_has_not_come(patch: Patch) -> None:
    """Acknowledge a byte more than was applied, as if it named the next one."""
    patch.setattr(wire, "acknowledge", lambda offset: _ack(offset + 1))


def _ack(offset: int) -> bytes:
    return wire.command(b"REPLCONF", b"ACK", b"%d" % offset)


def replica_originates(patch: Patch) -> None:
    """Let a replica ping those who follow it by itself."""
    real = Stream.set_originates

    def mutated(self: Stream, originates: bool) -> None:
        real(self, originates)
        self._sink = self.backlog

    patch.setattr(Stream, "set_originates", mutated)


def promotion_forgets_the_old_id(patch: Patch) -> None:
    """Begin a new history at a promotion that continues nobody's: correct, and all sync fully."""
    patch.setattr(History, "shift", History.change)


def keep_unapplied_bytes(patch: Patch) -> None:
    """Keep the bytes of a lost link that were not applied, and count them with the next one's."""
    real = ReplicaSide._disconnected

    def mutated(self: ReplicaSide, now_ms: int) -> Actions:
        pending = b"".join(self.pending.take(self.pending.bytes))
        actions = real(self, now_ms)
        if pending:
            self._stream.relay(pending)
        return actions

    patch.setattr(ReplicaSide, "_disconnected", mutated)


def gate_that_counts_nobody(patch: Patch) -> None:
    """Let everybody through the storm gate."""
    patch.setattr(gate, "running", lambda replicas: 0)


def accept_an_empty_master(patch: Patch) -> None:
    """Give data up for an empty snapshot, whatever the setting says."""
    patch.setattr(ReplicaSide, "_protects_dataset", False)


def join_without_the_beginning(patch: Patch) -> None:
    """Let a replica join a diskless transfer of which the first chunks are gone."""
    real = Ring.join

    def mutated(self: Ring) -> Reader:
        first, self._first = self._first, 0
        shut, self._shut = self._shut, False
        reader = real(self)
        self._first, self._shut = first, shut
        reader.at = first
        return reader

    patch.setattr(Ring, "has_beginning", True)
    patch.setattr(Ring, "join", mutated)


def wait_for_the_slowest(patch: Patch) -> None:
    """Let a replica hold up the others of a diskless transfer for as long as it likes."""
    patch.setattr(MasterSide, "drop_holders", lambda self, now_ms: [])


def mark_before_the_end(patch: Patch) -> None:
    """Take a replica that has read all there is for one that has the whole snapshot."""
    patch.setattr(Reader, "done", property(lambda self: self.at == self.ring.next))


def delay_without_end(patch: Patch) -> None:
    """Let writers wait for a slow replica for as long as it takes."""
    patch.setattr(Backpressure, "delaying_ms", lambda self, now_ms: 0)


def forget_those_who_wait(patch: Patch) -> None:
    """Look for a slow replica only while the setting is on and there is one."""
    real = Backpressure.update

    def mutated(
        self: Backpressure, replicas: list[ReplicaLink], limit_bytes: int, now_ms: int
    ) -> Actions:
        return real(self, replicas, limit_bytes, now_ms) if replicas else []

    patch.setattr(Backpressure, "update", mutated)


def decompress_over_reconnects(patch: Patch) -> None:
    """Take what a new connection brings for frames, because the one before brought some."""
    real = ReplicaSide._connect

    def mutated(self: ReplicaSide, now_ms: int) -> Actions:
        decompressor = self.decompressor
        actions = real(self, now_ms)
        self.decompressor = decompressor
        return actions

    patch.setattr(ReplicaSide, "_connect", mutated)


def use_corrupt_frames(patch: Patch) -> None:
    """Go on after a frame that does not decompress, without what it held."""
    real = Decompressor.feed

    def mutated(self: Decompressor, data: bytes, now_ms: int) -> bytes:
        try:
            return real(self, data, now_ms)
        except CorruptFrame:
            self._rest = b""
            return b""

    patch.setattr(Decompressor, "feed", mutated)


MUTATIONS = [
    adopt_when_announced,
    resume_beyond_the_end,
    resume_before_the_start,
    old_id_for_ever,
    no_select_after_full_sync,
    count_inside_multi,
    trim_what_is_unread,
    join_any_bgsave,
    same_id_without_backlog,
    same_id_after_promotion,
    keep_sub_replicas,
    keep_resumable_while_loading,
    never_resume,
    newlines_to_everybody,
    stream_before_the_load,
    snapshot_of_a_later_instant,
    wait_for_a_dead_child,
    acknowledge_what_has_not_come,
    replica_originates,
    promotion_forgets_the_old_id,
    keep_unapplied_bytes,
    gate_that_counts_nobody,
    accept_an_empty_master,
    join_without_the_beginning,
    wait_for_the_slowest,
    mark_before_the_end,
    delay_without_end,
    forget_those_who_wait,
    decompress_over_reconnects,
    use_corrupt_frames,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_simulation_broken_rule_is_caught(
    mutation: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    mutation(monkeypatch)
    assert _first_failing_seed() is not None, f"nobody noticed: {mutation.__doc__}"


def _first_failing_seed() -> int | None:
    for seed in range(MAX_SEEDS):
        try:
            Cluster(seed).run()
        except (TypeError, AttributeError, NameError):
            raise  # the mutation no longer fits the code, so nobody has noticed anything
        except Exception:  # a wrong program may fail in any other way
            return seed
    return None
