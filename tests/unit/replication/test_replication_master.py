"""The master's side: who may go on, who shares a snapshot, when streams begin."""

from __future__ import annotations

from typing import TypeVar

import pytest

from kvrepl.errors import CommandError
from kvrepl.replication import actions as do
from kvrepl.replication import wire
from kvrepl.replication.actions import Actions, Requirements, SaveInfo, Target
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.master import Child
from kvrepl.replication.report import info_fields, role_reply
from kvrepl.resp.values import NO_REPLY, OK
from tests.unit.replication.machines import MasterShell

SET = wire.command(b"SET", b"k", b"v")
ZERO_ID = b"0" * 40
Kind = TypeVar("Kind")


def of_kind(actions: Actions, kind: type[Kind]) -> list[Kind]:
    return [action for action in actions if isinstance(action, kind)]


# --- full sync -----------------------------------------------------------------------------------


def test_first_replica_gets_a_new_id_and_a_disk_snapshot_at_the_present_offset() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    before = shell.repl.history.replid
    shell.modern(1)
    actions = shell.psync(1)
    replid = shell.repl.history.replid
    assert replid != before
    start = do.StartBgsave(Target.DISK, (1,), 0, Requirements(), SaveInfo(0, replid, 0))
    assert of_kind(actions, do.StartBgsave) == [start]
    assert shell.started() == [do.SendToReplica(1, b"+FULLRESYNC %b 0\r\n" % replid)]
    shell.repl.stream.feed(0, SET)
    assert of_kind(shell.done(), do.StartTransfer) == [do.StartTransfer(1)]
    assert shell.state(1) is ReplicaState.SEND_BULK
    shell.keep(shell.master.transfer_done(1, 0))
    assert shell.state(1) is ReplicaState.ONLINE
    assert shell.read(1) == wire.select(0) + SET


def test_diskless_snapshot_waits_its_delay_and_the_stream_waits_for_the_ack() -> None:
    shell = MasterShell(repl_diskless_sync_delay=5)
    shell.modern(1)
    assert not of_kind(shell.psync(1), do.StartBgsave)
    for _ in range(4):
        assert shell.tick() == [do.SendToReplica(1, b"\n")]
    (start,) = of_kind(shell.tick(), do.StartBgsave)
    assert start.target is Target.SOCKETS
    shell.started()
    assert not of_kind(shell.tick(3), do.SendToReplica), "a newline inside of the payload"
    shell.done()
    assert not of_kind(shell.tick(), do.SendToReplica), "a newline inside of the payload"
    shell.keep(shell.master.transfer_done(1, shell.now_ms))
    shell.repl.stream.feed(0, SET)
    assert shell.state(1) is ReplicaState.ONLINE
    assert not shell.streams
    shell.replconf(1, b"ACK", b"0")
    assert SET in shell.read(1)


def test_diskless_snapshot_starts_early_when_enough_replicas_wait() -> None:
    shell = MasterShell(repl_diskless_sync_delay=60, repl_diskless_sync_max_replicas=2)
    shell.modern(1)
    shell.psync(1)
    assert not of_kind(shell.tick(3), do.StartBgsave)
    shell.modern(2)
    shell.psync(2)
    (start,) = of_kind(shell.tick(), do.StartBgsave)
    assert start.links == (1, 2)


def test_replica_without_eof_capability_gets_a_file() -> None:
    shell = MasterShell(repl_diskless_sync=True)
    shell.replconf(1, b"capa", b"psync2")
    (start,) = of_kind(shell.psync(1), do.StartBgsave)
    assert start.target is Target.DISK


def test_late_replica_shares_a_running_disk_snapshot_at_its_offset() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    shell.repl.stream.feed(0, SET)
    shell.modern(2)
    actions = shell.psync(2)
    line = b"+FULLRESYNC %b 0\r\n" % shell.repl.history.replid
    assert do.SendToReplica(2, line) in actions
    shell.repl.stream.feed(0, SET)
    shell.done()
    for link in (1, 2):
        shell.keep(shell.master.transfer_done(link, 0))
    # SELECT again: the newcomer forces one, and both get the same bytes.
    assert shell.read(1) == shell.read(2) == (wire.select(0) + SET) * 2


def test_late_replica_cannot_share_what_lacks_its_capabilities() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    shell.replconf(2, b"capa", b"psync2")
    shell.psync(2)
    assert shell.state(2) is ReplicaState.WAIT_BGSAVE_START
    (start,) = of_kind(shell.done(), do.StartBgsave)
    assert start.links == (2,)


def test_replica_during_a_plain_bgsave_waits_for_another() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.master.child_started(Child.DISK)
    shell.modern(1)
    assert not of_kind(shell.psync(1), do.StartBgsave)
    assert of_kind(shell.done(), do.StartBgsave)


def test_replica_during_another_child_waits_for_its_end() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.master.child_started(Child.OTHER)
    shell.modern(1)
    assert not of_kind(shell.psync(1), do.StartBgsave)
    assert not of_kind(shell.tick(5), do.StartBgsave)
    assert of_kind(shell.master.child_exited(shell.now_ms), do.StartBgsave)


def test_failed_fork_tells_every_waiting_replica_and_closes() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.modern(1)
    shell.psync(1)
    actions = shell.master.bgsave_not_started(0)
    error = b"-ERR BGSAVE failed, replication can't continue\r\n"
    assert actions[1:] == [do.SendToReplica(1, error), do.CloseReplica(1, flush=True)]
    assert shell.master.replicas == []


def test_dead_child_disconnects_those_who_waited_for_it() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    assert do.CloseReplica(1) in shell.done(ok=False)
    assert shell.state(1) is ReplicaState.NONE


def test_child_nobody_waits_for_is_killed_where_nobody_else_wants_it() -> None:
    for save_points, diskless, killed in [
        (True, False, False),
        (False, False, True),
        (True, True, True),
    ]:
        shell = MasterShell(
            repl_diskless_sync=diskless, repl_diskless_sync_delay=0, save_points=save_points
        )
        shell.modern(1)
        shell.psync(1)
        shell.started()
        assert (do.KillChild() in shell.master.on_closed(1, 0)) == killed


def test_rdb_only_replica_gets_the_file_and_no_stream() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.replconf(1, b"rdb-only", b"1")
    shell.psync(1)
    shell.started()
    shell.done()
    actions = shell.keep(shell.master.transfer_done(1, 0))
    assert do.CloseReplica(1, flush=True) in actions
    assert not shell.streams


def test_filtered_snapshot_goes_over_the_socket_and_is_shared_with_nobody_else() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    with pytest.raises(CommandError, match="Filtered replica requires EOF capability"):
        shell.replconf(1, b"rdb-filter-only", b"functions")
        shell.psync(1)
    shell.replconf(1, b"capa", b"eof")
    (start,) = of_kind(shell.psync(1), do.StartBgsave)
    assert start.target is Target.SOCKETS
    assert start.requirements == Requirements(exclude_data=True, exclude_functions=False)


def test_sync_gets_the_snapshot_without_a_line() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    assert of_kind(shell.repl.on_psync(1, [b"SYNC"], 0), do.StartBgsave)
    assert shell.started() == []


# --- partial sync --------------------------------------------------------------------------------


def test_psync_within_the_backlog_is_continued_from_its_offset() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.online(1)
    shell.repl.stream.feed(0, SET)
    shell.master.on_closed(1, 0)
    shell.repl.stream.feed(0, SET)
    replid = shell.repl.history.replid
    shell.replconf(2, b"capa", b"psync2")
    actions = shell.psync(2, replid, 23 + len(SET) + 1)
    assert actions[1] == do.SendToReplica(2, b"+CONTINUE %b\r\n" % replid)
    assert shell.read(2) == SET, "no SELECT is forced"
    assert shell.master.syncs.partial_ok == 1
    # A replica that did not declare psync2 is not told the id.
    assert do.SendToReplica(3, b"+CONTINUE\r\n") in shell.psync(3, replid.upper(), 1)


@pytest.mark.parametrize(("ahead", "granted"), [(0, True), (1, True), (2, False)])
def test_psync_at_the_end_is_granted_and_beyond_it_is_not(ahead: int, granted: bool) -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.online(1)
    shell.repl.stream.feed(0, SET)
    shell.psync(2, shell.repl.history.replid, shell.repl.history.offset + ahead)
    assert (shell.state(2) is ReplicaState.ONLINE) == granted
    assert shell.master.syncs.partial_err == int(not granted)


def test_psync_before_the_backlog_is_refused() -> None:
    shell = MasterShell(repl_diskless_sync=False, repl_backlog_size=16 * 1024)
    shell.online(1)
    for _ in range(100):
        shell.repl.stream.feed(0, b"x" * 1000)
        shell.read(1)
    backlog = shell.repl.stream.backlog
    assert backlog is not None and backlog.start > 0
    shell.psync(2, shell.repl.history.replid, backlog.first_byte_offset)
    assert shell.state(2) is ReplicaState.ONLINE
    shell.psync(3, shell.repl.history.replid, backlog.first_byte_offset - 1)
    assert shell.state(3) is not ReplicaState.ONLINE


def test_psync_of_unknown_id_is_a_full_sync_and_counts_as_refused() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.online(1)
    shell.psync(2, b"f" * 40, 1)
    shell.psync(3, ZERO_ID, 0)
    shell.psync(4)
    counters = shell.master.syncs
    assert (counters.full, counters.partial_ok, counters.partial_err) == (4, 0, 2)


def test_psync_with_bad_offset_is_refused_in_the_words_of_redis() -> None:
    shell = MasterShell()
    with pytest.raises(CommandError, match="value is not an integer or out of range"):
        shell.repl.on_psync(1, [b"PSYNC", b"?", b"x"], 0)
    assert shell.master.replicas == []


def test_psync_with_pending_output_is_refused() -> None:
    shell = MasterShell()
    with pytest.raises(CommandError, match="invalid with pending output"):
        shell.repl.on_psync(1, [b"PSYNC", b"?", b"-1"], 0, pending_output=True)


def test_psync_of_a_replica_link_is_ignored() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.online(1)
    assert shell.psync(1) == []
    assert len(shell.master.replicas) == 1


# --- REPLCONF ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([b"listening-port"], "ERR syntax error"),
        ([b"listening-port", b"x"], "ERR value is not an integer or out of range"),
        ([b"bogus", b"1"], "ERR Unrecognized REPLCONF option: bogus"),
        ([b"rdb-only", b"2"], "ERR value is out of range, value must between 0 and 1"),
        ([b"rdb-filter-only", b"keys"], "ERR Unsupported rdb-filter-only option: keys"),
        ([b"rdb-filter-only", b'"functions'], "ERR Missing rdb-filter-only values"),
        (
            [b"ip-address", b"x" * 300],
            "ERR REPLCONF ip-address provided by replica instance is too long: 300 bytes",
        ),
    ],
)
def test_replconf_bad_option_is_refused_in_the_words_of_redis(
    words: list[bytes], error: str
) -> None:
    with pytest.raises(CommandError) as caught:
        MasterShell().replconf(1, *words)
    assert str(caught.value) == error


def test_replconf_is_case_blind_and_ignores_unknown_capabilities() -> None:
    shell = MasterShell()
    reply, _ = shell.repl.on_replconf(
        1, [b"replconf", b"CAPA", b"EOF", b"capa", b"teleport", b"Listening-Port", b"7001"], 0
    )
    assert reply is OK
    link = shell.master.find(1)
    assert link is not None
    assert (link.capa_eof, link.capa_psync2, link.port) == (True, False, 7001)


def test_ack_never_replies_and_never_goes_back() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    assert shell.repl.on_replconf(9, [b"REPLCONF", b"ACK", b"5"], 0) == (NO_REPLY, [])
    shell.online(1)
    shell.replconf(1, b"ACK", b"100")
    shell.replconf(1, b"ACK", b"50")
    shell.replconf(1, b"ACK", b"nonsense")
    link = shell.master.find(1)
    assert link is not None and link.ack_offset == 100


def test_ack_before_the_childs_end_asks_to_reap() -> None:
    shell = MasterShell(repl_diskless_sync_delay=0)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    assert shell.replconf(1, b"ACK", b"0") == [do.ReapChildren()]


# --- time ----------------------------------------------------------------------------------------


def test_ping_is_fed_each_period_and_counts() -> None:
    shell = MasterShell(repl_diskless_sync=False, repl_ping_replica_period=10)
    shell.online(1)
    start = shell.repl.history.offset
    shell.tick(21)
    assert shell.read(1) == b"*1\r\n$4\r\nping\r\n" * 3
    assert shell.repl.history.offset == start + 42


def test_getack_is_fed_once_for_many_requests() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.online(1)
    shell.master.request_acks()
    shell.master.request_acks()
    shell.master.flush_requests()
    shell.master.flush_requests()
    assert shell.read(1) == b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"


def test_silent_online_replica_is_disconnected_unless_it_never_acks() -> None:
    shell = MasterShell(repl_diskless_sync=False, repl_timeout=10)
    shell.online(1)
    shell.repl.on_psync(2, [b"SYNC"], 0)
    shell.started()
    shell.done()
    shell.keep(shell.master.transfer_done(2, 0))
    assert not of_kind(shell.tick(10), do.CloseReplica)
    assert of_kind(shell.tick(), do.CloseReplica) == [do.CloseReplica(1)]
    assert not of_kind(shell.tick(30), do.CloseReplica)


def test_loading_replica_lives_by_its_newlines() -> None:
    shell = MasterShell(repl_diskless_sync_delay=0, repl_timeout=5)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    shell.done()
    for _ in range(20):
        assert not of_kind(shell.tick(), do.CloseReplica)
        shell.master.on_keepalive(1, shell.now_ms)


def test_stalled_diskless_replica_is_dropped_and_its_child_killed() -> None:
    shell = MasterShell(repl_diskless_sync_delay=0, repl_timeout=5)
    shell.modern(1)
    shell.psync(1)
    shell.started()
    shell.master.on_stall(1, stalled=True, now_ms=shell.now_ms)
    assert not of_kind(shell.tick(5), do.CloseReplica)
    actions = shell.tick()
    assert of_kind(actions, do.CloseReplica) == [do.CloseReplica(1)]
    assert do.KillChild() in actions


def test_replica_that_takes_nothing_of_the_file_is_dropped_and_the_next_in_line_served() -> None:
    shell = MasterShell(repl_diskless_sync=False, repl_timeout=5, repl_max_concurrent_full_syncs=1)
    shell.psync(1)
    shell.started()
    shell.psync(2)
    shell.done()
    shell.master.on_stall(1, stalled=True, now_ms=shell.now_ms)
    shell.tick(5)
    shell.master.on_progress(1, shell.now_ms)
    assert not of_kind(shell.tick(5), do.CloseReplica), "a slow link is not a dead one"
    actions = shell.tick()
    assert of_kind(actions, do.CloseReplica) == [do.CloseReplica(1)]
    assert [action.links for action in of_kind(actions, do.StartBgsave)] == [(2,)]


def test_progress_of_a_replica_that_does_not_stall_means_nothing() -> None:
    shell = MasterShell(repl_diskless_sync=False, repl_timeout=5)
    shell.psync(1)
    shell.started()
    shell.done()
    shell.master.on_progress(1, shell.now_ms)
    shell.master.on_progress(2, shell.now_ms)
    for _ in range(3):
        assert not of_kind(shell.tick(5), do.CloseReplica)


def test_backlog_of_a_lonely_master_is_freed_and_its_id_changed() -> None:
    shell = MasterShell(repl_diskless_sync=False, repl_backlog_ttl=10)
    shell.online(1)
    replid = shell.repl.history.replid
    shell.tick(20)
    assert shell.repl.stream.backlog is not None
    shell.master.on_closed(1, shell.now_ms)
    shell.tick(10)
    assert shell.repl.history.replid == replid
    shell.tick()
    assert shell.repl.stream.backlog is None
    assert shell.repl.history.replid != replid
    offset = shell.repl.history.offset
    shell.repl.stream.feed(0, SET)
    assert shell.repl.history.offset == offset, "nothing is counted without a backlog"


def test_too_few_good_replicas_is_told_by_lag() -> None:
    shell = MasterShell(repl_diskless_sync=False, min_replicas_to_write=1, min_replicas_max_lag=3)
    assert shell.master.too_few_replicas
    shell.online(1)
    assert not shell.master.too_few_replicas
    shell.tick(3)
    assert not shell.master.too_few_replicas
    shell.tick()
    assert shell.master.too_few_replicas
    shell.replconf(1, b"ACK", b"0")
    shell.tick()
    assert not shell.master.too_few_replicas


# --- the stream ----------------------------------------------------------------------------------


def test_stream_selects_once_for_each_change_of_database() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.online(1)
    for db in (0, 0, 11, 0):
        shell.repl.stream.feed(db, SET)
    select0, select11 = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", b"*2\r\n$6\r\nSELECT\r\n$2\r\n11\r\n"
    assert shell.read(1) == select0 + SET + SET + select11 + SET + select0 + SET


# --- what others are told ------------------------------------------------------------------------


def test_info_and_role_of_a_master_name_its_replicas() -> None:
    shell = MasterShell(repl_diskless_sync=False)
    shell.replconf(1, b"listening-port", b"7001")
    shell.online(1)
    shell.repl.stream.feed(0, SET)
    shell.replconf(1, b"ACK", b"%d" % shell.repl.history.offset)
    shell.tick(2)
    shell.modern(2)
    shell.psync(2)
    fields = dict(info_fields(shell.repl, shell.now_ms))
    offset = 23 + len(SET) + 14
    assert fields["slave0"] == f"ip=10.0.0.1,port=7001,state=online,offset={offset - 14},lag=2"
    assert fields["slave1"] == "ip=10.0.0.2,port=7002,state=wait_bgsave,offset=0,lag=0"
    assert fields["connected_slaves"] == 2
    assert fields["master_repl_offset"] == offset
    assert fields["repl_backlog_first_byte_offset"] == 1
    assert fields["repl_backlog_histlen"] == offset
    assert role_reply(shell.repl) == [
        b"master",
        offset,
        [[b"10.0.0.1", b"7001", b"%d" % (offset - 14)]],
    ]
