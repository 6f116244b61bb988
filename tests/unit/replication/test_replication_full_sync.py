"""Full syncs told of: why they were needed, how far they are, what they took. The storm gate."""

from __future__ import annotations

import re

import pytest

from kvrepl.replication import actions as do
from kvrepl.replication import wire
from kvrepl.replication.actions import Actions
from kvrepl.replication.fullsync import FullSync, Phase
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.master import Child
from kvrepl.replication.reasons import FullSyncReason
from kvrepl.replication.report import info_fields
from tests.unit.replication.machines import ID, MasterShell, ReplicaShell, texts

SET = wire.command(b"SET", b"k", b"v" * 1000)
DISK = {"repl_diskless_sync": False}


def info(shell: MasterShell | ReplicaShell, child_fraction: float = 0.0) -> dict[str, str]:
    fields = info_fields(shell.repl, shell.now_ms, child_fraction)
    return {name: str(value) for name, value in fields}


def counted(shell: MasterShell) -> set[str]:
    """The reasons that were counted."""
    return {reason.value for reason, count in shell.master.syncs.by_reason.items() if count}


def master_with_history(writes: int = 40, **settings: object) -> tuple[MasterShell, bytes]:
    """A master that has written more than its backlog holds, and its id."""
    shell = MasterShell(repl_backlog_size=16 * 1024, **DISK, **settings)
    shell.modern(1)
    shell.online(1)
    for _ in range(writes):
        shell.repl.stream.feed(0, SET)
    shell.read(1)
    return shell, shell.repl.history.replid


# --- reasons -------------------------------------------------------------------------------------


def test_first_attach_and_return_of_a_replica_that_asks_for_all_are_told_apart() -> None:
    shell = MasterShell(**DISK)
    shell.modern(1)
    shell.online(1)
    assert counted(shell) == {"first_attach"}

    shell.keep(shell.master.on_closed(1, shell.now_ms))
    shell.replconf(9, b"listening-port", b"7001", b"ip-address", b"10.0.0.1")
    actions = shell.psync(9)

    assert counted(shell) == {"first_attach", "forced"}
    assert (
        "Full sync of replica 10.0.0.1:7001, forced: it was attached before and has lost its place"
        in texts(actions)
    )


def test_unknown_id_of_a_replica_without_any_stream_is_a_first_attach() -> None:
    """A server that was a master until now names its own id at offset 0."""
    shell = MasterShell(**DISK)
    shell.psync(1, b"f" * 40, wire.to_wire(0))

    assert counted(shell) == {"first_attach"}
    assert shell.master.syncs.partial_err == 1


def test_snapshot_only_and_sync_have_reasons_of_their_own() -> None:
    shell = MasterShell(**DISK)
    shell.replconf(1, b"rdb-only", b"1")
    shell.psync(1)
    shell.keep(shell.repl.on_psync(2, [b"SYNC"], shell.now_ms))

    assert counted(shell) == {"snapshot_only", "sync_command"}


def test_offset_before_the_backlog_is_told_with_what_would_have_spared_it() -> None:
    shell, replid = master_with_history()
    backlog = shell.repl.stream.backlog
    assert backlog is not None and backlog.start > 100
    shell.modern(2)

    log = texts(shell.psync(2, replid, wire.to_wire(100)))

    assert counted(shell) == {"first_attach", "offset_before_backlog"}
    assert f"missed by {backlog.start - 100} bytes" in log
    needed = re.search(r"repl-backlog-size (\d+) would have spared it \(it is 16384\)", log)
    assert needed is not None and int(needed[1]) == backlog.end - 100


def test_backlog_of_the_advised_size_would_indeed_have_spared_the_sync() -> None:
    shell, replid = master_with_history()
    shell.modern(2)
    log = texts(shell.psync(2, replid, wire.to_wire(100)))
    advised = int(re.findall(r"repl-backlog-size (\d+)", log)[0])

    wiser = MasterShell(repl_backlog_size=advised, **DISK)
    wiser.modern(1)
    wiser.online(1)
    for _ in range(40):
        wiser.repl.stream.feed(0, SET)
    wiser.modern(2)
    wiser.psync(2, wiser.repl.history.replid, wire.to_wire(100))

    assert wiser.state(2) is ReplicaState.ONLINE


def test_offset_ahead_is_told_with_the_bytes_that_are_lost() -> None:
    shell, replid = master_with_history(writes=1)
    offset = shell.repl.history.offset

    log = texts(shell.psync(2, replid, wire.to_wire(offset + 7)))

    assert counted(shell) == {"first_attach", "offset_ahead"}
    assert f"it has {offset + 7} bytes and this server {offset}: 7 bytes are lost here" in log


def test_unknown_id_is_told_as_a_mismatch() -> None:
    shell, _ = master_with_history(writes=1)

    log = texts(shell.psync(2, b"f" * 40, wire.to_wire(50)))

    assert counted(shell) == {"first_attach", "id_mismatch"}
    assert "it has 50 bytes of a history that this server knows nothing of" in log


def test_second_id_beyond_the_promotion_is_told_with_the_bytes_to_be_dropped() -> None:
    replica = ReplicaShell()
    replica.to_stream(offset=1000)
    replica.keep(replica.repl.replicaof_no_one(replica.now_ms)[1])
    argv = [b"PSYNC", ID, b"%d" % wire.to_wire(1030)]

    log = texts(replica.repl.on_psync(5, argv, replica.now_ms, ip=b"10.0.0.5"))

    assert replica.repl.master.syncs.by_reason[FullSyncReason.SECOND_ID_PASSED] == 1
    assert "the two histories part after 1000: its last 30 bytes exist nowhere else" in log


def test_history_that_the_backlog_ttl_ended_is_told_as_such() -> None:
    shell, replid = master_with_history(writes=1, repl_backlog_ttl=5)
    offset = shell.repl.history.offset
    shell.keep(shell.master.on_closed(1, shell.now_ms))
    shell.tick(10)
    assert shell.repl.stream.backlog is None

    log = texts(shell.psync(2, replid, wire.to_wire(offset)))

    assert counted(shell) == {"first_attach", "backlog_expired"}
    assert "attached for 5 s: a longer repl-backlog-ttl (0 is for ever)" in log


def test_own_id_without_a_backlog_is_told_as_no_backlog() -> None:
    shell = MasterShell(**DISK)

    shell.psync(1, shell.repl.history.replid, wire.to_wire(0))

    assert counted(shell) == {"no_backlog"}


def test_every_reason_is_in_info_from_the_start_and_is_cleared_by_resetstat() -> None:
    shell = MasterShell(**DISK)
    names = {f"kvrepl_full_sync_reason_{reason.value}" for reason in FullSyncReason}
    assert {name for name in info(shell) if "reason" in name} == names
    assert all(reason.meaning for reason in FullSyncReason)

    shell.psync(1)
    assert info(shell)["kvrepl_full_sync_reason_first_attach"] == "1"
    shell.master.syncs.clear()
    assert info(shell)["kvrepl_full_sync_reason_first_attach"] == "0"


@pytest.mark.parametrize(
    ("announced", "reason"),
    [(ID, "not_in_backlog"), (b"e" * 40, "other_history")],
    ids=["same id", "other id"],
)
def test_replica_tells_why_a_snapshot_comes_though_it_asked_to_go_on(
    announced: bytes, reason: str
) -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    shell.keep(shell.replica.link_lost("cut", shell.now_ms))
    shell.to_psync()

    log = texts(shell.receive(b"+FULLRESYNC %b 9000\r\n" % announced))

    assert f"Full sync, {reason}: we have 42 bytes of " in log
    assert f"reason={reason}," in info(shell)["kvrepl_master_sync"]


def test_replica_that_asks_for_all_tells_what_it_lost() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    first = texts(shell.receive(b"+FULLRESYNC %b 1\r\n$3\r\nRDB" % ID))
    shell.keep(shell.replica.load_finished(ok=False, stream_db=0, now_ms=shell.now_ms))
    shell.tick()
    shell.to_psync()
    again = texts(shell.receive(b"+FULLRESYNC %b 1\r\n" % ID))

    assert "nothing_to_resume: this replica asked for everything: it has never been" in first
    assert "nothing_to_resume: this replica asked for everything: the load of a snapshot" in again


# --- progress ------------------------------------------------------------------------------------


def test_full_sync_from_disk_is_timed_phase_by_phase_on_the_master() -> None:
    shell = MasterShell(**DISK)
    shell.modern(1)
    shell.master.child_started(Child.DISK)
    shell.psync(1)
    shell.now_ms += 100
    shell.keep(shell.master.bgsave_done(ok=True, now_ms=shell.now_ms))
    shell.started()
    assert "phase=save" in info(shell, 0.25)["kvrepl_full_sync0"]
    assert "perc=25.00,eta_seconds=0" in info(shell, 0.25)["kvrepl_full_sync0"]
    shell.now_ms += 2000
    assert "perc=25.00,eta_seconds=6" in info(shell, 0.25)["kvrepl_full_sync0"]
    shell.done()
    shell.master.snapshot_sent(1, 300, 1000)
    shell.now_ms += 3000
    assert "phase=transfer,bytes=300,total_bytes=1000" in info(shell)["kvrepl_full_sync0"]
    assert "perc=30.00,eta_seconds=7" in info(shell)["kvrepl_full_sync0"]
    shell.master.snapshot_sent(1, 700, 1000)
    shell.keep(shell.master.transfer_done(1, shell.now_ms))
    assert "phase=load" in info(shell)["kvrepl_full_sync0"]
    shell.now_ms += 400
    log = texts(shell.replconf(1, b"ack", b"0"))

    account = "1000 bytes from disk in 5500 ms (wait 100 ms, save 2000 ms, transfer 3000 ms, "
    assert account + "load 400 ms)" in log
    assert info(shell)["kvrepl_last_full_sync"] == (
        "peer=10.0.0.1:7001,reason=first_attach,framing=disk,bytes=1000,total_ms=5500,"
        "wait_ms=100,save_ms=2000,transfer_ms=3000,load_ms=400"
    )
    assert "kvrepl_full_sync0" not in info(shell)


def test_diskless_full_sync_takes_its_progress_from_the_child() -> None:
    shell = MasterShell(repl_diskless_sync_delay=0)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    shell.now_ms += 1000
    shell.master.snapshot_sent(1, 500)

    line = info(shell, 0.5)["kvrepl_full_sync0"]

    assert "phase=transfer,bytes=500,total_bytes=-1" in line
    assert "perc=50.00,eta_seconds=1" in line


def test_replica_side_progress_with_and_without_a_size() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.now_ms += 1000
    shell.receive(b"+FULLRESYNC %b 1\r\n$400\r\n" % ID)
    shell.now_ms += 1000
    shell.receive(b"x" * 100)
    assert "phase=transfer,bytes=100,total_bytes=400" in info(shell)["kvrepl_master_sync"]
    assert "perc=25.00,eta_seconds=3" in info(shell)["kvrepl_master_sync"]
    shell.receive(b"x" * 300)
    shell.loaded()
    assert "framing=disk,bytes=400" in info(shell)["kvrepl_master_last_sync"]

    # The next one has a mark: the size of the one before is the guess.
    shell.keep(shell.replica.protocol_error("garbage", shell.now_ms))
    shell.to_psync()
    mark = b"m" * 40
    shell.receive(b"+FULLRESYNC %b 1\r\n$EOF:%b\r\n" % (ID, mark) + b"x" * 239)
    line = info(shell)["kvrepl_master_sync"]
    assert "bytes=200,total_bytes=-1,expected_bytes=400,perc=50.00" in line


def test_full_sync_guess_that_is_too_small_never_says_done() -> None:
    sync = FullSync("reason", 0, "peer")
    sync.enter(Phase.TRANSFER, 0)
    sync.expected_bytes, sync.moved_bytes = 100, 250

    assert sync.progress(1000).fraction == 0.99


def test_full_sync_that_never_ends_is_not_the_last_one() -> None:
    shell = MasterShell(**DISK)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    shell.done(ok=False)

    assert shell.master.syncs.last is None
    assert shell.state(1) is ReplicaState.NONE


# --- storm gate ----------------------------------------------------------------------------------


def waits(shell: MasterShell) -> list[int]:
    return [
        replica.link
        for replica in shell.master.replicas
        if replica.state is ReplicaState.WAIT_BGSAVE_START
    ]


def storm(shell: MasterShell, count: int) -> Actions:
    actions: Actions = []
    for link in range(1, count + 1):
        shell.modern(link)
        for action in shell.psync(link):
            actions.append(action)
            if isinstance(action, do.StartBgsave):
                actions += shell.started()
    return actions


def test_gate_lets_no_more_than_its_limit_share_a_snapshot() -> None:
    shell = MasterShell(repl_max_concurrent_full_syncs=2, **DISK)

    log = texts(storm(shell, 4))

    assert waits(shell) == [3, 4]
    assert "10.0.0.3:7003 waits in line at place 1: 2 of at most 2 run" in log
    assert "10.0.0.4:7004 waits in line at place 2: 2 of at most 2 run" in log
    assert info(shell)["kvrepl_full_syncs_running"] == "2"
    assert info(shell)["kvrepl_full_syncs_in_line"] == "2"


def test_gate_keeps_those_in_line_alive_and_tells_places_only_when_they_change() -> None:
    shell = MasterShell(repl_max_concurrent_full_syncs=1, **DISK)
    storm(shell, 3)

    actions = shell.tick(2)
    newlines = [a.link for a in actions if isinstance(a, do.SendToReplica) and a.data == b"\n"]
    assert newlines.count(2) == newlines.count(3) == 2
    assert "waits in line" not in texts(actions)

    shell.keep(shell.master.on_closed(2, shell.now_ms))
    assert "10.0.0.3:7003 waits in line at place 1" in texts(shell.tick())


def test_gate_is_left_when_the_snapshot_has_been_sent() -> None:
    shell = MasterShell(repl_max_concurrent_full_syncs=1, **DISK)
    storm(shell, 2)
    assert not any(isinstance(a, do.StartBgsave) for a in shell.done())
    assert shell.state(2) is ReplicaState.WAIT_BGSAVE_START

    actions = shell.keep(shell.master.transfer_done(1, shell.now_ms))

    begun = [action for action in actions if isinstance(action, do.StartBgsave)]
    assert [action.links for action in begun] == [(2,)]


def test_gate_groups_a_diskless_snapshot_within_the_limit() -> None:
    shell = MasterShell(repl_max_concurrent_full_syncs=2, repl_diskless_sync_delay=1)
    storm(shell, 3)

    begun = [action for action in shell.tick(2) if isinstance(action, do.StartBgsave)]

    assert [action.links for action in begun] == [(1, 2)]


@pytest.mark.parametrize("raised", [0, 3])
def test_gate_opened_at_run_time_lets_the_line_in(raised: int) -> None:
    shell = MasterShell(repl_max_concurrent_full_syncs=1, **DISK)
    storm(shell, 3)
    assert waits(shell) == [2, 3]
    shell.settings.repl_max_concurrent_full_syncs = raised

    begun = [action for action in shell.done() if isinstance(action, do.StartBgsave)]

    assert [action.links for action in begun] == [(2, 3)]
