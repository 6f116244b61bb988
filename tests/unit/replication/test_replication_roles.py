"""Changes of role: promotion, demotion, restart, planned failover; two servers joined in memory."""

from __future__ import annotations

import itertools

import pytest

from kvrepl.errors import CommandError
from kvrepl.replication import actions as do
from kvrepl.replication import wire
from kvrepl.replication.actions import Actions, SaveInfo
from kvrepl.replication.apply import StreamApplyState
from kvrepl.replication.failover import FailoverRequest, FailoverState, parse_failover
from kvrepl.replication.report import info_fields, role_reply
from kvrepl.replication.roles import ALREADY_CONNECTED, Replication
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.resp.values import OK
from tests.unit.replication.machines import texts

SET = wire.command(b"SET", b"k", b"v")


def make(first: int = 1, **settings: object) -> Replication:
    """A server whose ids are first, first+1, ..."""
    numbers = itertools.count(first)
    chosen = ReplicationSettings(repl_diskless_sync=False, **settings)  # type: ignore[arg-type]
    return Replication(chosen, lambda: b"%040x" % next(numbers), lambda: True, 0)


def replid(number: int) -> bytes:
    return b"%040x" % number


def follow(server: Replication, offset: int = 100, replid: bytes = b"a" * 40) -> None:
    """Make a server an established replica at an offset."""
    server.replicaof("m", 6379, 0)
    server.replica.connected_to_master(0)
    server.replica.receive(b"+PONG\r\n+OK\r\n+OK\r\n", 0)
    server.replica.receive(b"+FULLRESYNC %b %d\r\n$1\r\nx" % (replid, offset), 0)
    server.replica.load_finished(ok=True, stream_db=4, now_ms=0)
    assert server.replica.connected


def attach(server: Replication, link: int, *, port: int = 7001, ack: int | None = None) -> None:
    """Make a link an online replica of a server, by a full sync."""
    server.on_replconf(link, [b"REPLCONF", b"listening-port", b"%d" % port], 0, ip=b"10.0.0.1")
    server.on_psync(link, [b"PSYNC", b"?", b"-1"], 0, ip=b"10.0.0.1")
    server.master.bgsave_started(0)
    server.master.bgsave_done(ok=True, now_ms=0)
    server.master.transfer_done(link, 0)
    acked = server.history.offset if ack is None else ack
    server.on_replconf(link, [b"REPLCONF", b"ACK", b"%d" % acked], 0)


def state_of(server: Replication) -> FailoverState:
    """Read the state anew: a checker takes an attribute for unchanged by the calls between."""
    return server.failover.state


def kinds(actions: Actions) -> list[type]:
    return [type(action) for action in actions if not isinstance(action, do.Log)]


def sent(actions: Actions) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, do.Send))


# --- REPLICAOF -----------------------------------------------------------------------------------


def test_promotion_continues_the_old_history_under_a_new_id() -> None:
    server = make()
    follow(server, 100)
    server.on_psync(9, [b"PSYNC", b"a" * 40, b"101"], 0)
    reply, actions = server.replicaof_no_one(0)
    assert reply is OK
    assert kinds(actions) == [do.LinkDown, do.Close, do.CloseReplica, do.RoleChanged]
    history = server.history
    assert (history.replid2, history.second_repl_offset) == (b"a" * 40, 101)
    assert history.replid != b"a" * 40
    # Who was at that offset, or before it, may go on.
    again = server.on_psync(10, [b"PSYNC", b"a" * 40, b"101"], 0)
    assert do.StartStream in kinds(again)


def test_promotion_selects_anew_even_where_the_database_was_known_before() -> None:
    server = make()
    attach(server, 1)
    server.stream.feed(4, SET)
    follow(server, 100)
    server.replicaof_no_one(0)
    server.stream.feed(4, SET)
    backlog = server.stream.backlog
    assert backlog is not None
    assert b"".join(map(bytes, backlog.read(100, 999))) == wire.select(4) + SET


def test_promotion_of_a_master_does_nothing() -> None:
    server = make()
    before = server.history.replid
    assert server.replicaof_no_one(0) == (OK, [])
    assert server.history.replid == before


def test_demoted_master_asks_to_go_on_from_its_own_history() -> None:
    server = make()
    attach(server, 1)
    server.stream.feed(0, SET)
    offset = server.history.offset
    reply, actions = server.replicaof("b", 6379, 0)
    assert reply is OK
    assert kinds(actions) == [do.RoleChanged, do.Connect], "its replicas stay"
    server.replica.connected_to_master(0)
    asked = sent(server.replica.receive(b"+PONG\r\n+OK\r\n+OK\r\n", 0))
    assert asked.endswith(wire.psync(server.history.replid, offset))


def test_demoted_master_originates_nothing_any_more() -> None:
    server = make()
    attach(server, 1)
    server.replicaof("b", 6379, 0)
    offset = server.history.offset
    server.stream.feed(0, SET)
    server.tick(20_000)
    assert server.history.offset == offset


def test_replicaof_same_master_does_nothing() -> None:
    server = make()
    follow(server)
    reply, actions = server.replicaof("M", 6379, 0)
    assert reply == ALREADY_CONNECTED
    assert kinds(actions) == []


@pytest.mark.parametrize("port", [-1, 65536])
def test_replicaof_bad_port_is_refused(port: int) -> None:
    with pytest.raises(CommandError, match="ERR Invalid master port"):
        make().replicaof("m", port, 0)


def test_replicaof_by_a_replica_is_refused() -> None:
    with pytest.raises(CommandError, match="ERR Command is not valid when client is a replica"):
        make().replicaof("m", 1, 0, from_replica=True)


def test_psync_while_not_connected_with_the_master_is_put_off() -> None:
    server = make()
    server.replicaof("m", 6379, 0)
    with pytest.raises(CommandError) as caught:
        server.on_psync(1, [b"PSYNC", b"?", b"-1"], 0)
    assert caught.value.text == b"NOMASTERLINK Can't SYNC while not connected with my master"


def test_replica_of_an_old_master_can_be_followed_but_not_resumed() -> None:
    server = make()
    server.replicaof("m", 6379, 0)
    server.replica.connected_to_master(0)
    server.replica.receive(b"+PONG\r\n+OK\r\n+OK\r\n-ERR unknown command\r\n$1\r\nx", 0)
    server.replica.load_finished(ok=True, stream_db=4, now_ms=0)
    (start,) = [
        action
        for action in server.on_psync(1, [b"PSYNC", b"?", b"-1"], 0)
        if isinstance(action, do.StartBgsave)
    ]
    assert start.save_info.stream_db == 4
    server.replica.link_lost("reset", 0)
    assert server.save_info() is None


# --- restart -------------------------------------------------------------------------------------


def test_save_info_tells_where_each_role_can_be_gone_on_from() -> None:
    server = make()
    assert server.save_info() is None, "a master without a backlog counts nothing"
    attach(server, 1)
    assert server.save_info() == SaveInfo(0, server.history.replid, 0)
    server.stream.feed(3, SET)
    assert server.save_info() == SaveInfo(3, server.history.replid, server.history.offset)
    server = make()
    server.replicaof("m", 6379, 0)
    server.replica.resume_db = None
    assert server.save_info() is None
    server = make()
    follow(server, 100)
    assert server.save_info() == SaveInfo(4, b"a" * 40, 100)


def test_restarted_master_lets_replicas_of_its_file_go_on() -> None:
    server = make()
    server.restore_as_master(SaveInfo(0, b"a" * 40, 500), 0)
    assert server.history.replid == replid(1)
    assert do.StartStream in kinds(server.on_psync(1, [b"PSYNC", b"a" * 40, b"501"], 0))
    assert do.StartStream not in kinds(server.on_psync(2, [b"PSYNC", b"a" * 40, b"502"], 0))
    assert do.StartStream not in kinds(server.on_psync(3, [b"PSYNC", b"a" * 40, b"500"], 0))


def test_restarted_master_feeds_what_expired_after_the_file() -> None:
    server = make()
    server.restore_as_master(SaveInfo(0, b"a" * 40, 500), 0)
    server.stream.feed(0, SET)
    actions = server.on_psync(1, [b"PSYNC", b"a" * 40, b"501"], 0)
    (start,) = [action for action in actions if isinstance(action, do.StartStream)]
    assert b"".join(map(bytes, start.cursor.peek(999))) == wire.select(0) + SET


# --- failover ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (b"FAILOVER", FailoverRequest()),
        (b"failover abort", FailoverRequest(abort=True)),
        (b"FAILOVER to h 1 timeout 5", FailoverRequest(host="h", port=1, timeout_ms=5)),
        (
            b"FAILOVER TIMEOUT 5 TO h 1 FORCE",
            FailoverRequest(host="h", port=1, timeout_ms=5, force=True),
        ),
    ],
)
def test_failover_command_is_read(words: bytes, request_: FailoverRequest) -> None:
    assert parse_failover(words.split()) == request_


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (b"FAILOVER ABORT", "ERR No failover in progress."),
        (b"FAILOVER TIMEOUT 0", "ERR FAILOVER timeout must be greater than 0"),
        (b"FAILOVER TIMEOUT", "ERR syntax error"),
        (b"FAILOVER ABORT TIMEOUT 5", "ERR syntax error"),
        (b"FAILOVER TO h", "ERR syntax error"),
        (
            b"FAILOVER TIMEOUT 5 FORCE",
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ),
        (b"FAILOVER TO h 1", "ERR FAILOVER target HOST and PORT is not a replica."),
        (b"FAILOVER TO 10.0.0.1 7002", "ERR FAILOVER target replica is not online."),
    ],
)
def test_failover_that_cannot_be_is_refused_in_the_words_of_redis(words: bytes, error: str) -> None:
    server = make()
    attach(server, 1)
    server.on_replconf(2, [b"REPLCONF", b"listening-port", b"7002"], 0, ip=b"10.0.0.1")
    server.on_psync(2, [b"PSYNC", b"?", b"-1"], 0)
    with pytest.raises(CommandError) as caught:
        server.on_failover(words.split(), 0)
    assert str(caught.value) == error


def test_failover_without_replicas_or_of_a_replica_is_refused() -> None:
    with pytest.raises(CommandError, match="FAILOVER requires connected replicas"):
        make().on_failover([b"FAILOVER"], 0)
    server = make()
    follow(server)
    with pytest.raises(CommandError, match="not valid when server is a replica"):
        server.on_failover([b"FAILOVER"], 0)


def test_failover_waits_for_the_offset_then_asks_the_target_to_promote_itself() -> None:
    server = make()
    attach(server, 1)
    server.stream.feed(0, SET)
    _, actions = server.on_failover([b"FAILOVER"], 0)
    assert kinds(actions) == [do.PauseWrites]
    with pytest.raises(CommandError, match="already in progress"):
        server.on_failover([b"FAILOVER"], 0)
    with pytest.raises(CommandError, match="REPLICAOF not allowed while failing over"):
        server.replicaof_no_one(0)
    assert state_of(server) is FailoverState.WAIT_FOR_SYNC
    offset = server.history.offset
    _, actions = server.on_replconf(1, [b"REPLCONF", b"ACK", b"%d" % offset], 10)
    assert do.Connect("10.0.0.1", 7001) in actions
    assert state_of(server) is FailoverState.IN_PROGRESS
    with pytest.raises(CommandError, match="NOMASTERLINK Can't SYNC while failing over"):
        server.on_psync(5, [b"PSYNC", b"?", b"-1"], 10)
    server.replica.connected_to_master(10)
    asked = sent(server.replica.receive(b"+PONG\r\n+OK\r\n+OK\r\n", 10))
    assert asked.endswith(wire.psync(server.history.replid, offset, failover=True))
    actions = server.replica.receive(b"+CONTINUE %b\r\n" % (b"b" * 40), 10)
    assert do.ResumeWrites() in actions
    assert not server.failover.running
    assert server.history.replid == b"b" * 40


def test_failover_target_that_refuses_leaves_us_master() -> None:
    server = make()
    attach(server, 1)
    server.on_failover([b"FAILOVER"], 0)
    server.tick(1000)
    assert server.failover.state is FailoverState.IN_PROGRESS
    server.replica.connected_to_master(0)
    actions = server.replica.receive(b"+PONG\r\n+OK\r\n+OK\r\n-ERR no\r\n", 0)
    assert server.is_master
    assert kinds(actions)[-2:] == [do.RoleChanged, do.ResumeWrites]
    assert server.stream.originates


@pytest.mark.parametrize("forced", [False, True])
def test_failover_whose_time_is_up_is_given_up_or_forced(forced: bool) -> None:
    server = make()
    attach(server, 1)
    server.stream.feed(0, SET)
    words = b"FAILOVER TO 10.0.0.1 7001 TIMEOUT 500" + b" FORCE" * forced
    server.on_failover(words.split(), 0)
    actions: Actions = []
    for now_ms in range(100, 700, 100):
        actions += server.tick(now_ms)
    assert (do.ResumeWrites() in actions) == (not forced)
    assert server.is_master == (not forced)


@pytest.mark.parametrize(("timeout", "pinged"), [(b"", True), (b" TIMEOUT 60000", False)])
def test_failover_with_a_time_limit_keeps_the_offset_still(timeout: bytes, pinged: bool) -> None:
    server = make(repl_ping_replica_period=1)
    attach(server, 1)
    server.stream.feed(0, SET)
    server.on_failover((b"FAILOVER" + timeout).split(), 0)
    before = server.history.offset
    server.tick(1000)
    assert (server.history.offset > before) == pinged


def test_failover_aborted_resumes_writes() -> None:
    server = make()
    attach(server, 1)
    server.stream.feed(0, SET)
    server.on_failover([b"FAILOVER"], 0)
    reply, actions = server.on_failover([b"FAILOVER", b"ABORT"], 0)
    assert reply is OK
    assert kinds(actions) == [do.ResumeWrites]
    assert server.is_master


def test_psync_failover_promotes_the_target_and_continues() -> None:
    server = make()
    follow(server, 100)
    argv = [b"PSYNC", b"a" * 40, b"101", b"FAILOVER"]
    server.on_replconf(1, [b"REPLCONF", b"capa", b"psync2"], 0)
    actions = server.on_psync(1, argv, 0)
    assert server.is_master
    assert do.RoleChanged(do.Role.MASTER) in actions
    assert do.SendToReplica(1, b"+CONTINUE %b\r\n" % server.history.replid) in actions


def test_psync_failover_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CommandError, match="PSYNC FAILOVER can't be sent to a master"):
        make().on_psync(1, [b"PSYNC", b"a" * 40, b"1", b"FAILOVER"], 0)
    server = make()
    follow(server)
    actions = server.on_psync(1, [b"PSYNC", b"b" * 40, b"1", b"FAILOVER"], 0)
    error = b"ERR PSYNC FAILOVER replid must match my replid."
    assert actions[-1] == do.SendToReplica(1, b"-%b\r\n" % error)
    assert f"Failover request received for replid {'b' * 40}." in texts(actions)
    assert error.decode() in texts(actions)
    assert not server.is_master


def test_psync_failover_refused_after_promotion_still_tells_of_the_promotion() -> None:
    server = make()
    follow(server)
    actions = server.on_psync(1, [b"PSYNC", b"a" * 40, b"101", b"FAILOVER"], 0, pending_output=True)
    assert do.RoleChanged(do.Role.MASTER) in actions
    assert actions[-1] == do.SendToReplica(
        1, b"-ERR SYNC and PSYNC are invalid with pending output\r\n"
    )


# --- applying ------------------------------------------------------------------------------------


def test_apply_inside_multi_counts_only_at_exec() -> None:
    applying = StreamApplyState()
    assert applying.ran(10, in_multi=False) == 10
    assert applying.ran(15, in_multi=True) == 0
    assert applying.ran(20, in_multi=True) == 0
    assert applying.ran(14, in_multi=False) == 49
    assert applying.ran(1, in_multi=False) == 1


# --- what others are told ------------------------------------------------------------------------


def test_info_and_role_of_a_replica_through_its_states() -> None:
    server = make()
    server.replicaof("m", 6379, 0)
    server.replica.resume_db = None
    fields = dict(info_fields(server, 5000))
    assert fields["role"] == "slave"
    assert fields["master_link_status"] == "down"
    assert fields["slave_repl_offset"] == fields["slave_read_repl_offset"] == 1
    assert fields["master_last_io_seconds_ago"] == -1
    assert fields["master_link_down_since_seconds"] == -1
    assert role_reply(server) == [b"slave", b"m", 6379, b"connecting", -1]
    server.replica.connected_to_master(0)
    assert role_reply(server)[3] == b"handshake"
    server.replica.receive(b"+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC %b 7\r\n" % (b"a" * 40), 0)
    fields = dict(info_fields(server, 2000))
    assert (fields["master_sync_total_bytes"], fields["master_sync_left_bytes"]) == (-1, -1)
    assert fields["master_sync_read_bytes"] == 0
    server.replica.receive(b"$4\r\nx", 0)
    fields = dict(info_fields(server, 2000))
    assert fields["master_sync_in_progress"] == 1
    assert (fields["master_sync_total_bytes"], fields["master_sync_left_bytes"]) == (4, 3)
    assert fields["master_sync_perc"] == "25.00"
    assert role_reply(server)[3] == b"sync"
    server.replica.receive(b"yzx*1\r\n", 0)
    server.replica.load_finished(ok=True, stream_db=0, now_ms=0)
    fields = dict(info_fields(server, 2000))
    assert fields["master_link_status"] == "up"
    assert (fields["slave_read_repl_offset"], fields["slave_repl_offset"]) == (11, 7)
    assert "master_link_down_since_seconds" not in fields
    assert role_reply(server) == [b"slave", b"m", 6379, b"connected", 7]
    server.replica.link_lost("eof", 3000)
    assert dict(info_fields(server, 8500))["master_link_down_since_seconds"] == 5


INFO_ORDER_OF_MASTER = [
    "role",
    "connected_slaves",
    "master_failover_state",
    "master_replid",
    "master_replid2",
    "master_repl_offset",
    "second_repl_offset",
    "repl_backlog_active",
    "repl_backlog_size",
    "repl_backlog_first_byte_offset",
    "repl_backlog_histlen",
]


def test_info_of_a_fresh_master_has_the_fields_of_redis_in_order() -> None:
    fields = info_fields(make(), 0)
    names = [name for name, _ in fields]
    assert names[: len(INFO_ORDER_OF_MASTER)] == INFO_ORDER_OF_MASTER
    ours = names[len(INFO_ORDER_OF_MASTER) :]
    assert ours and all(name.startswith("kvrepl_") for name in ours)
    assert dict(fields)["second_repl_offset"] == -1
    assert dict(fields)["repl_backlog_active"] == 0
