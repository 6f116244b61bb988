"""replica-refuse-empty-master: data is not given up for the snapshot of a master that has none."""

from __future__ import annotations

import pytest

from kvrepl.replication import actions as do
from kvrepl.replication.actions import Load
from kvrepl.replication.preview import Preview
from kvrepl.replication.report import info_fields, role_reply
from kvrepl.replication.states import State
from rdb.constants import TYPE_STRING
from rdb.writer import RdbWriter
from tests.unit.replication.machines import ID, ReplicaShell, texts

MARK = b"m" * 40


def snapshot(keys: int, *, function: bool = False, resize: bool = True) -> bytes:
    """An RDB as a master sends it."""
    pieces: list[bytes] = []
    writer = RdbWriter(pieces.append)
    writer.aux(b"redis-ver", b"7.0.15")
    writer.aux(b"used-mem", b"123456")
    if function:
        writer.function(b"#!lua name=lib\n" + b"-- filler\n" * 2000, compress=False)
    if keys:
        writer.select_db(0, keys if resize else None)
    for number in range(keys):
        writer.key(b"key%d" % number, TYPE_STRING, b"value")
    writer.end()
    return b"".join(pieces)


EMPTY = snapshot(0)
FULL = snapshot(3)


def framed(data: bytes, *, diskless: bool) -> bytes:
    if diskless:
        return b"$EOF:%b\r\n%b%b" % (MARK, data, MARK)
    return b"$%d\r\n%b" % (len(data), data)


def offer(shell: ReplicaShell, data: bytes, *, diskless: bool = False) -> do.Actions:
    """Let the master announce a snapshot of another history, and send it."""
    shell.to_psync()
    return shell.receive(b"+FULLRESYNC %b 7\r\n" % (b"e" * 40) + framed(data, diskless=diskless))


# --- preview -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "has_keys"),
    [
        (EMPTY, False),
        (snapshot(0, function=True), False),
        (FULL, True),
        (snapshot(2, function=True), True),
        (snapshot(2, resize=False), True),
        (snapshot(1)[:-20], True),
        (FULL[:20], None),
        (b"no snapshot at all", None),
    ],
    ids=["empty", "functions", "keys", "both", "no sizes", "half a key", "head", "garbage"],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_preview_knows_whether_there_is_a_key_in_any_cut(
    data: bytes, has_keys: bool | None, step: int
) -> None:
    preview = Preview()
    for at in range(0, len(data), step):
        preview.feed(data[at : at + step])

    assert preview.has_keys is has_keys


def test_preview_reads_the_memory_of_the_master() -> None:
    preview = Preview()
    preview.feed(FULL)

    assert preview.used_bytes == 123456


# --- refusal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("diskless", [False, True])
@pytest.mark.parametrize("load", ["disabled", "swapdb"])
def test_replica_with_data_refuses_an_empty_snapshot_and_keeps_everything(
    diskless: bool, load: str
) -> None:
    shell = ReplicaShell(replica_refuse_empty_master=True, repl_diskless_load=load)
    shell.to_stream(offset=42)
    shell.keep(shell.replica.link_lost("cut", shell.now_ms))

    actions = offer(shell, EMPTY, diskless=diskless)

    taken = Load.SWAP if load == "swapdb" else Load.FROM_FILE
    assert do.AbortTransfer(taken, unwanted=True) in actions
    assert actions[-1] == do.Close()
    assert not any(isinstance(action, do.LoadSnapshot) for action in actions)
    assert "Refused the snapshot of MASTER m:6379" in texts(actions)
    history = shell.repl.history
    assert (history.replid, history.offset, shell.replica.resume_db) == (ID, 42, 0)
    assert shell.repl.stream.backlog is not None


def test_replica_that_refused_waits_and_says_so_in_info_and_role() -> None:
    shell = ReplicaShell(replica_refuse_empty_master=True)
    offer(shell, EMPTY)

    assert not shell.tick(3600)
    assert shell.replica.state is State.REFUSED
    fields = dict(info_fields(shell.repl, shell.now_ms))
    assert fields["kvrepl_master_refused"] == "empty_dataset"
    assert fields["master_link_status"] == "down"
    assert fields["master_sync_in_progress"] == 0
    assert role_reply(shell.repl) == [b"slave", b"m", 6379, b"refused", -1]


@pytest.mark.parametrize(
    ("setting", "empty", "data"),
    [(False, False, EMPTY), (True, True, EMPTY), (True, False, FULL)],
    ids=["setting off", "nothing to lose", "master has keys"],
)
def test_replica_takes_a_snapshot_that_takes_nothing_away(
    setting: bool, empty: bool, data: bytes
) -> None:
    shell = ReplicaShell(replica_refuse_empty_master=setting, empty=empty)

    assert do.LoadSnapshot(Load.FROM_FILE) in offer(shell, data)


def test_replica_whose_operator_accepts_asks_again_and_loads() -> None:
    shell = ReplicaShell(replica_refuse_empty_master=True)
    offer(shell, EMPTY)
    shell.settings.replica_refuse_empty_master = False

    assert do.Connect("m", 6379) in shell.tick()
    assert do.LoadSnapshot(Load.FROM_FILE) in offer(shell, EMPTY)


def test_replica_told_to_follow_the_same_master_asks_it_anew_under_the_same_rule() -> None:
    shell = ReplicaShell(replica_refuse_empty_master=True)
    offer(shell, EMPTY)

    _, actions = shell.repl.replicaof("m", 6379, shell.now_ms)
    assert do.Connect("m", 6379) in actions
    assert do.Close() not in actions
    offer(shell, EMPTY)
    assert shell.replica.state is State.REFUSED

    shell.repl.replicaof("m", 6379, shell.now_ms)
    assert do.LoadSnapshot(Load.FROM_FILE) in offer(shell, FULL)


def test_replica_that_refused_can_be_promoted_with_its_data() -> None:
    shell = ReplicaShell(replica_refuse_empty_master=True)
    shell.to_stream(offset=42)
    shell.keep(shell.replica.link_lost("cut", shell.now_ms))
    offer(shell, EMPTY)

    shell.repl.replicaof_no_one(shell.now_ms)

    assert shell.repl.is_master
    assert shell.repl.history.continues(ID, 42)
