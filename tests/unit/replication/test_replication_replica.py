"""The replica's side: the handshake byte by byte, both framings, what may be resumed."""

from __future__ import annotations

import pytest

from kvrepl.errors import CommandError
from kvrepl.replication import actions as do
from kvrepl.replication.actions import Actions, Load, SaveInfo
from kvrepl.replication.roles import Replication
from kvrepl.replication.states import TRANSITIONS, State
from tests.unit.replication.machines import ID, ReplicaShell, texts

OTHER_ID = b"f" * 40
MARK = b"29b1f52329b1f52329b1f52329b1f52329b1f523"
PSYNC_ANY = b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"


def kinds(actions: Actions) -> list[type]:
    return [type(action) for action in actions if not isinstance(action, do.Log)]


def test_replica_handshake_sends_exactly_the_bytes_of_redis() -> None:
    shell = ReplicaShell()
    assert kinds(shell.done) == [do.RoleChanged, do.Connect]
    shell.connect()
    assert shell.sent() == b"*1\r\n$4\r\nPING\r\n"
    shell.receive(b"+PONG\r\n")
    assert shell.sent() == (
        b"*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n6380\r\n"
        b"*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"
    )
    shell.receive(b"+OK\r\n")
    assert shell.sent() == b""
    shell.receive(b"+OK\r\n")
    assert shell.sent() == PSYNC_ANY
    assert shell.replica.state is State.RECEIVE_PSYNC_REPLY


def test_replica_with_auth_and_announced_ip_sends_them_in_order() -> None:
    shell = ReplicaShell(masterauth=b"secret", masteruser=b"joe", replica_announce_ip=b"10.0.0.9")
    shell.connect()
    shell.sent()
    shell.receive(b"-NOAUTH Authentication required.\r\n")
    assert shell.sent() == (
        b"*3\r\n$4\r\nAUTH\r\n$3\r\njoe\r\n$6\r\nsecret\r\n"
        b"*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n6380\r\n"
        b"*3\r\n$8\r\nREPLCONF\r\n$10\r\nip-address\r\n$8\r\n10.0.0.9\r\n"
        b"*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"
    )
    shell.receive(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n")
    assert shell.sent() == PSYNC_ANY


def test_replica_auth_without_user_has_two_words() -> None:
    shell = ReplicaShell(masterauth=b"secret")
    shell.connect()
    shell.sent()
    shell.receive(b"+PONG\r\n")
    assert shell.sent().startswith(b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*3\r\n")


def test_replica_auth_refused_closes_and_tries_again_in_a_second() -> None:
    shell = ReplicaShell(masterauth=b"wrong")
    shell.connect()
    shell.receive(b"+PONG\r\n")
    actions = shell.receive(b"-WRONGPASS invalid username-password pair\r\n")
    assert kinds(actions) == [do.Close]
    assert "Unable to AUTH to MASTER: -WRONGPASS" in texts(actions)
    assert shell.replica.state is State.CONNECT
    assert kinds(shell.tick()) == [do.Connect]


def test_replica_replconf_refused_goes_on() -> None:
    shell = ReplicaShell(replica_announce_ip=b"1.2.3.4")
    shell.connect()
    shell.receive(b"+PONG\r\n")
    shell.sent()
    actions = shell.receive(b"-ERR one\r\n-ERR two\r\n-ERR three\r\n")
    for option in ("listening-port: -ERR one", "ip-address: -ERR two", "capa: -ERR three"):
        assert f"(Non critical) Master does not understand REPLCONF {option}" in texts(actions)
    assert shell.sent() == PSYNC_ANY


@pytest.mark.parametrize(
    ("reply", "accepted"),
    [
        (b"+PONG", True),
        (b"-NOAUTH Authentication required.", True),
        (b"-NOPERM this user has no permissions", True),
        (b"-ERR operation not permitted", True),
        (b"-LOADING Redis is loading the dataset in memory", False),
        (b"-DENIED Redis is running in protected mode", False),
        (b"HTTP/1.1 400 Bad Request", False),
    ],
)
def test_replica_ping_reply_tells_whether_a_master_is_there(reply: bytes, accepted: bool) -> None:
    shell = ReplicaShell()
    shell.connect()
    shell.receive(reply + b"\r\n")
    assert (shell.replica.state is State.RECEIVE_PORT_REPLY) == accepted
    assert (shell.replica.state is State.CONNECT) == (not accepted)


def test_replica_full_sync_from_disk_framing_streams_at_once_and_acks_with_the_second() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.sent()
    actions = shell.receive(b"\n\n+FULLRESYNC %b 42\r\n\n\n$3\r\nRD" % ID)
    assert do.BeginTransfer(3, Load.FROM_FILE, False) in actions
    assert actions[-1] == do.Chunk(b"RD")
    assert shell.repl.history.replid != ID, "adopted before the load"
    actions = shell.receive(b"B*1\r\n$4\r\nping\r\n")
    assert kinds(actions) == [do.Chunk, do.LoadSnapshot]
    assert shell.repl.history.replid != ID, "adopted before the load"
    actions = shell.loaded(db=3)
    assert kinds(actions) == [do.LinkUp, do.ApplyStream]
    assert do.LinkUp(3) in actions
    assert actions[-1] == do.ApplyStream(b"*1\r\n$4\r\nping\r\n")
    assert (shell.repl.history.replid, shell.repl.history.offset) == (ID, 42)
    assert shell.sent() == b""
    shell.replica.applied(14, 3)
    shell.tick()
    assert shell.sent() == b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n56\r\n"


def test_replica_full_sync_with_mark_acks_right_after_the_load() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42\r\n$EOF:%b\r\nSNAP" % (ID, MARK))
    shell.receive(MARK[:17])
    actions = shell.receive(MARK[17:])
    assert kinds(actions)[-1] is do.LoadSnapshot
    got = b"".join(action.data for action in shell.done if isinstance(action, do.Chunk))
    assert got == b"SNAP"
    shell.sent()
    actions = shell.loaded()
    assert kinds(actions) == [do.LinkUp, do.Send]
    assert shell.sent() == b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n42\r\n"


def test_replica_byte_at_a_time_gives_the_same_as_all_at_once() -> None:
    whole = b"+PONG\r\n+OK\r\n+OK\r\n\n+FULLRESYNC %b 42\r\n\n$EOF:%b\r\nSNAPSHOT%b" % (
        ID,
        MARK,
        MARK,
    )
    results = []
    for step in (1, 2, 7, len(whole)):
        shell = ReplicaShell()
        shell.connect()
        for at in range(0, len(whole), step):
            shell.receive(whole[at : at + step])
        others = [a for a in shell.done if not isinstance(a, do.Chunk)]
        chunks = b"".join(a.data for a in shell.done if isinstance(a, do.Chunk))
        results.append((others, chunks))
    assert all(result == results[0] for result in results)


def test_replica_cut_in_transfer_asks_for_everything_again_and_reconnects_at_once() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42\r\n$100\r\nRDB" % ID)
    actions = shell.keep(shell.replica.link_lost("reset", shell.now_ms))
    assert kinds(actions) == [do.AbortTransfer, do.Connect]
    shell.sent()
    shell.to_psync()
    assert shell.sent().endswith(PSYNC_ANY)


def test_replica_cut_stream_asks_for_what_follows_the_applied() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42, db=5)
    shell.receive(b"*1\r\n$4\r\nping\r\n*1\r\n$4\r\npi")
    shell.replica.applied(14, 5)
    actions = shell.keep(shell.replica.link_lost("reset", shell.now_ms))
    assert kinds(actions) == [do.LinkDown, do.Connect]
    shell.to_psync()
    assert shell.sent().endswith(b"*3\r\n$5\r\nPSYNC\r\n$40\r\n%b\r\n$2\r\n57\r\n" % ID)
    actions = shell.receive(b"+CONTINUE\r\n*1\r\n$4\r\nping\r\n")
    assert do.LinkUp(5) in actions
    assert actions[-1] == do.ApplyStream(b"*1\r\n$4\r\nping\r\n")
    shell.replica.applied(14, 5)
    assert shell.repl.history.offset == 70


def test_replica_continue_with_another_id_keeps_the_old_as_second() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    actions = shell.receive(b"+CONTINUE %b\r\n" % OTHER_ID)
    history = shell.repl.history
    assert (history.replid, history.replid2, history.second_repl_offset) == (OTHER_ID, ID, 43)
    assert f"Master replication ID changed to {OTHER_ID.decode()}" in texts(actions)


def test_replica_continue_with_another_id_disconnects_those_who_follow_it() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    shell.repl.on_psync(9, [b"PSYNC", ID, b"43"], 0)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    assert do.CloseReplica(9) in shell.receive(b"+CONTINUE %b\r\n" % OTHER_ID)


def test_replica_full_sync_disconnects_those_who_follow_it_only_when_loading() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    shell.repl.on_psync(9, [b"PSYNC", ID, b"43"], 0)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    actions = shell.receive(b"+FULLRESYNC %b 500\r\n$3\r\nRD" % OTHER_ID)
    assert do.CloseReplica not in kinds(actions)
    assert shell.repl.stream.backlog is not None
    actions = shell.receive(b"B")
    assert kinds(actions) == [do.Chunk, do.CloseReplica, do.LoadSnapshot]
    assert shell.repl.stream.backlog is None
    shell.loaded()
    assert shell.repl.stream.backlog is not None
    assert shell.repl.stream.backlog.start == 500


@pytest.mark.parametrize(
    ("setting", "empty", "load"),
    [
        ("disabled", True, Load.FROM_FILE),
        ("on-empty-db", True, Load.IN_PLACE),
        ("on-empty-db", False, Load.FROM_FILE),
        ("swapdb", False, Load.SWAP),
    ],
)
def test_replica_diskless_load_setting_decides_how_to_load(
    setting: str, empty: bool, load: Load
) -> None:
    shell = ReplicaShell(empty=empty, repl_diskless_load=setting)
    shell.to_psync()
    actions = shell.receive(b"+FULLRESYNC %b 42\r\n$3\r\nR" % ID)
    assert do.BeginTransfer(3, load, False) in actions


def test_replica_swapdb_keeps_history_when_the_transfer_fails() -> None:
    shell = ReplicaShell(repl_diskless_load="swapdb")
    shell.to_stream(offset=42)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    actions = shell.receive(b"+FULLRESYNC %b 900\r\n$3\r\nRDB" % ID)
    assert do.BeginTransfer(3, Load.SWAP, True) in actions
    shell.replica.load_finished(ok=False, stream_db=0, now_ms=0)
    shell.tick()
    shell.sent()
    shell.to_psync()
    assert shell.sent().endswith(b"$40\r\n%b\r\n$2\r\n43\r\n" % ID)


def test_replica_failed_load_from_file_asks_for_everything_again_in_a_second() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 900\r\n$3\r\nRDB" % ID)
    actions = shell.replica.load_finished(ok=False, stream_db=0, now_ms=0)
    assert kinds(actions) == [do.Close]
    assert do.Connect in kinds(shell.tick())
    shell.sent()
    shell.to_psync()
    assert shell.sent().endswith(PSYNC_ANY)


@pytest.mark.parametrize("diskless_load", ["disabled", "swapdb"])
def test_replica_that_cannot_take_the_snapshot_in_asks_again_in_a_second(
    diskless_load: str,
) -> None:
    shell = ReplicaShell(repl_diskless_load=diskless_load)
    shell.to_stream(offset=42)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 900\r\n$100\r\nRDB" % ID)
    actions = shell.keep(shell.replica.transfer_failed("the disk is full", shell.now_ms))
    assert kinds(actions) == [do.AbortTransfer]
    assert shell.replica.state is State.CONNECT
    assert do.Connect in kinds(shell.tick())
    shell.sent()
    shell.to_psync()
    assert shell.sent().endswith(b"$2\r\n43\r\n"), "what it had can still be resumed"


def test_replica_that_cannot_take_the_last_chunk_in_lets_the_load_fail() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 900\r\n$3\r\nRDB" % ID)
    assert shell.keep(shell.replica.transfer_failed("the disk is full", shell.now_ms)) == []
    assert kinds(shell.replica.load_finished(ok=False, stream_db=0, now_ms=0)) == []
    assert do.Connect in kinds(shell.tick())


def test_replica_link_lost_while_loading_finishes_the_load_and_resumes() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42\r\n$3\r\nRDB" % ID)
    assert shell.replica.link_lost("reset", 0) == []
    actions = shell.loaded(db=2)
    assert kinds(actions) == [do.LinkDown, do.Connect]
    shell.sent()
    shell.to_psync()
    assert shell.sent().endswith(b"$40\r\n%b\r\n$2\r\n43\r\n" % ID)


@pytest.mark.parametrize("reply", [b"-NOMASTERLINK Can't SYNC", b"-LOADING Redis is loading"])
def test_replica_psync_put_off_keeps_what_it_has_and_tries_in_a_second(reply: bytes) -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    assert kinds(shell.receive(reply + b"\r\n")) == [do.Close]
    assert shell.replica.state is State.CONNECT
    shell.tick()
    shell.sent()
    shell.to_psync()
    assert shell.sent().endswith(b"$2\r\n43\r\n")


def test_replica_of_master_without_psync_falls_back_to_sync_and_never_acks() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.sent()
    shell.receive(b"-ERR unknown command 'PSYNC'\r\n")
    assert shell.sent() == b"SYNC\r\n"
    shell.receive(b"$3\r\nRDB")
    shell.loaded()
    assert shell.replica.connected
    shell.tick()
    assert shell.replica.acknowledge() == []
    assert shell.sent() == b""
    shell.replica.link_lost("reset", 0)
    shell.to_psync()
    assert shell.sent().endswith(PSYNC_ANY)


def test_replica_of_master_without_psync_starts_the_stream_after_a_diskless_load() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"-ERR unknown command 'PSYNC'\r\n")
    shell.receive(b"$EOF:%b\r\nRDB%b" % (MARK, MARK))
    shell.sent()
    shell.loaded()
    ack = b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n-1\r\n"
    assert shell.sent() == ack
    # Again: a master that sees its child end late takes the first one for nothing.
    shell.tick()
    assert shell.sent() == ack


def test_replica_malformed_fullresync_loads_but_cannot_be_resumed() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC short 42\r\n$3\r\nRDB")
    shell.loaded()
    assert shell.replica.connected
    assert shell.replica.resume_db is None


def test_replica_stray_newline_in_the_stream_counts() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    assert shell.receive(b"\n") == [do.ApplyStream(b"\n")]
    shell.replica.applied(1, 0)
    assert shell.repl.history.offset == 43


def test_replica_protocol_error_is_not_cached() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    actions = shell.replica.protocol_error("expected '*'", 0)
    assert kinds(actions) == [do.Close, do.LinkDown, do.Connect]
    shell.to_psync()
    assert shell.sent().endswith(PSYNC_ANY)


def test_replica_silent_master_is_left_after_the_timeout() -> None:
    shell = ReplicaShell(repl_timeout=10)
    shell.to_stream()
    for _ in range(10):
        assert do.Close not in kinds(shell.tick())
    actions = shell.tick()
    assert kinds(actions) == [do.Close, do.LinkDown, do.Connect]
    assert "MASTER timeout: no data nor PING received..." in texts(actions)


@pytest.mark.parametrize("received", [b"", b"+PONG\r\n", b"+PONG\r\n+OK\r\n+OK\r\n"])
def test_replica_silent_handshake_is_given_up_after_the_timeout(received: bytes) -> None:
    shell = ReplicaShell(repl_timeout=4)
    shell.connect()
    if received:
        shell.receive(received)
    for _ in range(4):
        assert kinds(shell.tick()) == []
    actions = shell.tick()
    assert kinds(actions) == [do.Close, do.Connect]
    assert "Timeout connecting to the MASTER..." in texts(actions)


def test_replica_keepalives_before_the_snapshot_keep_it_waiting() -> None:
    shell = ReplicaShell(repl_timeout=2)
    shell.to_psync()
    for _ in range(20):
        shell.tick()
        shell.receive(b"\n")
    assert shell.replica.state is State.RECEIVE_PSYNC_REPLY


def test_replica_half_a_reply_line_is_given_up_after_five_seconds() -> None:
    shell = ReplicaShell()
    shell.connect()
    shell.receive(b"+PO")
    for _ in range(5):
        assert kinds(shell.tick()) == []
    assert kinds(shell.tick()) == [do.Close]


def test_replica_endless_reply_line_is_refused() -> None:
    shell = ReplicaShell()
    shell.connect()
    assert do.Close in kinds(shell.receive(b"+" + b"x" * 5000))


@pytest.mark.parametrize("line", [b"*3", b"$nine", b"$-5"])
def test_replica_bad_framing_line_reconnects_at_once(line: bytes) -> None:
    shell = ReplicaShell()
    shell.to_psync()
    actions = shell.receive(b"+FULLRESYNC %b 42\r\n%b\r\n" % (ID, line))
    assert kinds(actions) == [do.Close, do.Connect]


@pytest.mark.parametrize("reply", [b"+FULLRESYNC %b 42" % ID, b"-NOAUTH Authentication required."])
def test_replica_told_an_error_for_a_snapshot_asks_again_in_a_second(reply: bytes) -> None:
    shell = ReplicaShell()
    shell.to_psync()
    actions = shell.receive(reply + b"\r\n-NOAUTH Authentication required.\r\n")
    assert kinds(actions)[-1] is do.Close
    told = "MASTER aborted replication with an error: NOAUTH Authentication required."
    assert f"{told} (set masterauth" in texts(actions)
    assert shell.replica.intake is None
    assert kinds(shell.tick()) == [do.Connect]


def test_replica_while_loading_keeps_the_master_informed_each_second() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42\r\n$3\r\nRDB" % ID)
    shell.sent()
    shell.tick()
    shell.tick()
    assert shell.sent() == b"\n\n"


def test_replica_refuses_another_role_while_loading() -> None:
    shell = ReplicaShell()
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42\r\n$3\r\nRDB" % ID)
    with pytest.raises(CommandError, match="LOADING"):
        shell.repl.replicaof_no_one(0)


def test_replica_getack_tells_the_offset_before_the_getack() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    getack = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
    shell.receive(getack)
    shell.keep(shell.repl.on_replconf(0, [b"REPLCONF", b"GETACK", b"*"], 0)[1])
    assert shell.sent().endswith(b"ACK\r\n$2\r\n42\r\n")
    shell.replica.applied(len(getack), 0)
    shell.tick()
    assert shell.sent().endswith(b"ACK\r\n$2\r\n79\r\n")


def test_replica_applied_bytes_go_down_unchanged() -> None:
    shell = ReplicaShell()
    shell.to_stream(offset=42)
    (start,) = [
        action
        for action in shell.repl.on_psync(9, [b"PSYNC", ID, b"43"], 0)
        if isinstance(action, do.StartStream)
    ]
    for part in (b"*1\r\n$4\r\npi", b"ng\r\n*1\r\n$4\r\nping\r\n*1"):
        shell.receive(part)
    shell.replica.applied(28, 0)
    assert b"".join(map(bytes, start.cursor.peek(99))) == b"*1\r\n$4\r\nping\r\n" * 2
    assert shell.replica.pending.bytes == 2


def test_replica_restarted_from_its_file_asks_to_go_on() -> None:
    shell = ReplicaShell()
    shell.repl = Replication(shell.settings, lambda: b"e" * 40, lambda: False, 0)
    shell.replica = shell.repl.replica
    shell.repl.restore_as_replica(SaveInfo(7, ID, 500))
    shell.keep(shell.repl.continue_as_replica("m", 6379, 0))
    shell.to_psync()
    assert shell.sent().endswith(b"$40\r\n%b\r\n$3\r\n501\r\n" % ID)
    assert do.LinkUp(7) in shell.receive(b"+CONTINUE\r\n")


def test_transitions_every_state_is_reachable_and_can_be_left() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {State.NONE}
    for _ in State:
        reached |= {after for state in reached for after in TRANSITIONS[state]}
    assert reached == set(State)
