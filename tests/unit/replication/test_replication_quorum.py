"""WAIT: who is answered when, and with how many."""

from __future__ import annotations

from kvrepl.replication.links import ReplicaLink, ReplicaState
from kvrepl.replication.quorum import Answer, Waiter, WaitQueue, count_acknowledged, lagging


def replica(link: int, ack: int, state: ReplicaState = ReplicaState.ONLINE) -> ReplicaLink:
    made = ReplicaLink(link, b"10.0.0.1", 0)
    made.state, made.ack_offset = state, ack
    return made


def test_count_takes_online_replicas_that_have_no_less() -> None:
    replicas = [
        replica(1, 100),
        replica(2, 99),
        replica(3, 500),
        replica(4, 500, ReplicaState.SEND_BULK),
    ]
    assert count_acknowledged(replicas, 100) == 2
    assert count_acknowledged(replicas, 0) == 3


def test_lagging_names_those_a_shutdown_waits_for() -> None:
    behind, loading, level = replica(1, 99), replica(2, 0, ReplicaState.SEND_BULK), replica(3, 100)
    assert lagging([behind, loading, level], 100) == [behind, loading]


def test_wait_is_answered_when_enough_have_acknowledged() -> None:
    queue = WaitQueue()
    queue.add(Waiter(client=1, offset=100, wanted=2, expires_at_ms=None))
    queue.add(Waiter(client=2, offset=50, wanted=1, expires_at_ms=None))
    replicas = [replica(1, 60), replica(2, 0)]
    assert queue.answers(replicas, 10**9) == [Answer(2, 1)]
    replicas[0].ack_offset = replicas[1].ack_offset = 100
    assert queue.answers(replicas, 0) == [Answer(1, 2)]
    assert len(queue) == 0


def test_wait_that_runs_out_is_answered_with_what_there_is() -> None:
    queue = WaitQueue()
    queue.add(Waiter(client=1, offset=100, wanted=3, expires_at_ms=500))
    queue.add(Waiter(client=2, offset=100, wanted=3, expires_at_ms=None))
    assert queue.next_deadline_ms() == 500
    replicas = [replica(1, 100)]
    assert queue.answers(replicas, 499) == []
    assert queue.answers(replicas, 500) == [Answer(1, 1)]
    assert queue.next_deadline_ms() is None


def test_wait_of_a_client_that_left_is_forgotten() -> None:
    queue = WaitQueue()
    queue.add(Waiter(client=1, offset=0, wanted=0, expires_at_ms=0))
    queue.remove(1)
    queue.remove(1)
    assert queue.answers([], 10) == []
