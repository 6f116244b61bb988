"""The ring of a diskless transfer: readers, its bound, and who holds whom up."""

from __future__ import annotations

from kvrepl.replication import actions as do
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.report import info_fields
from kvrepl.replication.ring import Reader, Ring
from tests.unit.replication.machines import MasterShell, texts

CHUNK = b"x" * 100


def read_all(reader: Reader, now_ms: int = 0) -> bytes:
    return b"".join(iter(lambda: reader.take(now_ms) or b"", b""))


def full_ring(readers: int) -> tuple[Ring, list[Reader]]:
    """A ring of three chunks, full, of which nobody has read anything."""
    ring = Ring(300)
    joined = [ring.join() for _ in range(readers)]
    for _ in range(3):
        ring.put(CHUNK, 0)
    return ring, joined


def test_every_reader_reads_the_same_bytes_at_its_own_pace() -> None:
    ring = Ring(1000)
    quick, slow = ring.join(), ring.join()
    sent = b""
    for number in range(5):
        chunk = b"%d" % number * 10
        ring.put(chunk, 0)
        sent += chunk
        assert quick.take(0) == chunk
    assert quick.take(0) is None
    assert not quick.done
    ring.end()
    assert quick.done and not slow.done
    assert read_all(slow) == sent
    assert slow.done


def test_full_ring_has_room_again_when_the_slowest_has_read_a_chunk() -> None:
    ring, (quick, slow) = full_ring(2)
    read_all(quick)
    assert not ring.has_room()

    slow.take(0)

    assert ring.has_room()
    assert ring.used_bytes == 200
    ring.put(CHUNK, 0)
    assert not ring.has_room()


def test_full_ring_has_room_again_when_the_slowest_leaves() -> None:
    ring, (quick, slow) = full_ring(2)
    read_all(quick)

    slow.leave(0)
    slow.leave(0)

    assert ring.readers == [quick]
    assert ring.has_room()


def test_what_all_have_read_stays_until_its_room_is_needed() -> None:
    ring = Ring(300)
    first = ring.join()
    ring.put(CHUNK, 0)
    ring.put(CHUNK, 0)
    read_all(first)
    assert ring.has_beginning

    late = ring.join()
    ring.put(CHUNK, 0)
    assert not ring.has_room(), "the late one needs the beginning"
    assert read_all(late) == CHUNK * 3
    read_all(first)
    assert ring.has_room()
    assert not ring.has_beginning


def test_holder_is_overdue_after_the_time_that_it_kept_a_ready_reader_waiting() -> None:
    ring, (quick, slow) = full_ring(2)
    assert ring.overdue(10_000, 0) == [], "both have something to read"

    read_all(quick, 10_000)

    assert ring.overdue(11_000, 1000) == []
    assert ring.overdue(11_001, 1000) == [slow]


def test_time_of_holding_adds_up_over_a_transfer() -> None:
    ring, (quick, slow) = full_ring(2)
    read_all(quick, 0)
    slow.take(600)
    assert ring.overdue(5_000, 0) == [], "there is room, nobody waits"

    ring.put(CHUNK, 5_000)
    read_all(quick, 5_000)

    assert ring.overdue(5_400, 1000) == []
    assert ring.overdue(5_401, 1000) == [slow]
    assert slow.held_ms == 600


def test_nobody_is_overdue_where_most_are_slow() -> None:
    ring, (quick, *slow) = full_ring(3)
    read_all(quick, 0)
    assert ring.overdue(60_000, 1000) == []

    read_all(slow[0], 60_000)

    assert ring.overdue(62_000, 1000) == [slow[1]]


def test_nobody_is_overdue_once_the_child_has_ended() -> None:
    ring, (quick, slow) = full_ring(2)
    read_all(quick, 0)
    ring.end()
    slow.take(60_000)
    assert ring.overdue(90_000, 1000) == []


# --- the transfer as the master sees it -----------------------------------------------------------


def sharing_master(**settings: object) -> tuple[MasterShell, Ring]:
    """A master whose diskless transfer to replica 1 has just begun."""
    shell = MasterShell(repl_diskless_sync_delay=0, **settings)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    assert shell.master.ring is not None
    return shell, shell.master.ring


def reader(shell: MasterShell, link: int) -> Reader:
    replica = shell.master.find(link)
    assert replica is not None and replica.reader is not None
    return replica.reader


def test_late_replica_joins_while_the_ring_has_the_beginning_at_the_offset_of_the_transfer() -> (
    None
):
    shell, ring = sharing_master()
    offset = shell.repl.history.offset
    ring.put(CHUNK, 0)
    read_all(reader(shell, 1))
    shell.repl.stream.feed(0, b"*1\r\n$4\r\nping\r\n")
    shell.modern(2)

    actions = shell.psync(2)

    assert "joins the diskless transfer that runs" in texts(actions)
    assert [a for a in actions if not isinstance(a, do.Log)] == [
        do.SendToReplica(2, b"+FULLRESYNC %b %d\r\n" % (shell.repl.history.replid, offset)),
        do.SendSnapshot(2, reader(shell, 2)),
    ]
    assert read_all(reader(shell, 2)) == CHUNK
    joined = shell.master.find(2)
    assert joined is not None and joined.cursor is not None and joined.cursor.offset == offset
    assert dict(info_fields(shell.repl, 0))["kvrepl_diskless_joined"] == 1


def test_late_replica_waits_for_the_next_transfer_once_the_beginning_is_gone() -> None:
    shell, ring = sharing_master(repl_diskless_sync_ring_size=100)
    ring.put(CHUNK, 0)
    read_all(reader(shell, 1))
    assert ring.has_room()
    shell.modern(2)

    actions = shell.psync(2)

    assert "Current BGSAVE has socket target. Waiting for next BGSAVE" in texts(actions)
    assert shell.state(2) is ReplicaState.WAIT_BGSAVE_START


def test_late_replica_that_wants_another_snapshot_does_not_join() -> None:
    shell, _ = sharing_master()
    shell.modern(2)
    shell.replconf(2, b"rdb-filter-only", b"functions")
    shell.replconf(3, b"capa", b"psync2")

    assert "Can't attach the replica to the current BGSAVE" in texts(shell.psync(2))
    assert "Can't attach the replica to the current BGSAVE" in texts(shell.psync(3))


def test_rdb_only_peer_joins_a_replica_and_no_replica_joins_it() -> None:
    shell, _ = sharing_master()
    shell.modern(2)
    shell.replconf(2, b"rdb-only", b"1")
    assert "joins the diskless transfer that runs" in texts(shell.psync(2))
    shell.keep(shell.master.on_closed(1, shell.now_ms))
    shell.modern(3)

    assert "Can't attach the replica to the current BGSAVE" in texts(shell.psync(3))


def test_slow_replica_is_dropped_and_cannot_join_the_same_transfer_again() -> None:
    shell, ring = sharing_master(
        repl_diskless_sync_ring_size=100, repl_diskless_sync_max_stall=2000
    )
    shell.modern(2)
    shell.psync(2)
    ring.put(CHUNK, 0)
    read_all(reader(shell, 1))
    assert shell.master.drop_holders(2000) == []

    actions = shell.keep(shell.master.drop_holders(2001))

    assert "Disconnecting slow replica (full sync): 10.0.0.2:7002: the other 1 of" in texts(actions)
    assert do.CloseReplica(2) in actions
    assert do.KillChild() not in actions
    assert ring.readers == [reader(shell, 1)]
    assert dict(info_fields(shell.repl, 0))["kvrepl_diskless_dropped"] == 1
    shell.modern(3)
    assert "Waiting for next BGSAVE" in texts(shell.psync(3))


def test_max_stall_of_zero_lets_the_others_wait() -> None:
    shell, ring = sharing_master(repl_diskless_sync_ring_size=100, repl_diskless_sync_max_stall=0)
    shell.modern(2)
    shell.psync(2)
    ring.put(CHUNK, 0)
    read_all(reader(shell, 1))
    assert shell.master.drop_holders(60_000) == []


def test_child_that_ends_leaves_the_rest_to_the_ring_and_its_place_to_the_next() -> None:
    shell, ring = sharing_master()
    shell.modern(2)
    shell.psync(2)
    ring.put(CHUNK, 0)
    read_all(reader(shell, 1))
    slow = reader(shell, 2)

    shell.done()

    assert [shell.state(link) for link in (1, 2)] == [ReplicaState.SEND_BULK] * 2
    assert reader(shell, 1).done and not slow.done
    shell.keep(shell.master.transfer_done(1, 0))
    assert shell.state(1) is ReplicaState.ONLINE
    shell.modern(3)
    shell.psync(3)
    shell.started()
    assert shell.master.ring is not ring, "a second transfer beside the rest of the first"
    assert read_all(slow) == CHUNK
    shell.keep(shell.master.transfer_done(2, 0))
    assert shell.state(2) is ReplicaState.ONLINE
    assert not shell.streams, "the stream waits for the ACK"
    shell.replconf(2, b"ACK", b"0")
    assert list(shell.streams) == [2]


def test_child_that_dies_disconnects_all_who_read() -> None:
    shell, _ = sharing_master()
    shell.modern(2)
    shell.psync(2)

    actions = shell.done(ok=False)

    assert [a for a in actions if isinstance(a, do.CloseReplica)] == [
        do.CloseReplica(1),
        do.CloseReplica(2),
    ]
    assert shell.master.ring is None


def test_rest_of_a_snapshot_that_stalls_is_given_up_after_the_timeout() -> None:
    shell, ring = sharing_master(repl_timeout=5)
    ring.put(CHUNK, 0)
    shell.done()
    shell.master.on_stall(1, stalled=True, now_ms=0)
    shell.tick(5)

    assert "Disconnecting timedout replica (full sync)" in texts(shell.tick())
    assert ring.readers == []
