"""Each rule of replication, broken on purpose, makes the simulation fail.

A simulation is worth what it catches. Every mutation here replaces one rule by a plausible
mistake, and some seed among the first few must notice.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvrepl.replication.actions import Actions
from kvrepl.replication.apply import StreamApplyState
from kvrepl.replication.backlog import Backlog, Cursor
from kvrepl.replication.handshake import PsyncReply
from kvrepl.replication.history import History
from kvrepl.replication.links import ReplicaLink
from kvrepl.replication.master import MasterSide
from kvrepl.replication.replica import ReplicaSide
from kvrepl.replication.stream import Stream
from tests.simulation.cluster import Cluster

MAX_SEEDS = 150

Patch = pytest.MonkeyPatch


def adopt_when_announced(patch: Patch) -> None:
    """Take over id and offset at +FULLRESYNC, not after the load."""
    real = ReplicaSide._expect_snapshot

    def mutated(self: ReplicaSide, reply: PsyncReply, now_ms: int) -> Actions:
        actions = real(self, reply, now_ms)
        if self._announced is not None:
            actions += self._disconnect_sub_replicas(now_ms)
            self._stream.free_backlog()
            self._stream.history.adopt(*self._announced)
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
