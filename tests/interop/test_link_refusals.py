"""Links on which one end refuses what the other asks for.

Source of the behaviour: replication.c (syncWithMaster, readSyncBulkPayload), networking.c
(addReply to a replica) of Redis 7.0.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Pair, follow, wait_linked, wait_until
from tests.interop.raw_replica import attach

OURS: Final[list[tuple[Kind, Kind]]] = [
    ("kvrepl", "kvrepl"), ("kvrepl", "redis"), ("redis", "kvrepl")
]  # fmt: skip


# Two real Redis servers may wait for each other for ever here: the one ACK of such a replica is
# lost where it comes before the master has seen its child end.
@pytest.mark.parametrize(
    ("pair", "diskless"),
    [
        (Pair("redis", "redis"), "no"),
        *((Pair(*ends), how) for ends in OURS for how in ("yes", "no")),
    ],
)
def test_replica_that_may_only_sync_gets_the_snapshot_and_the_stream(
    launch: Launcher, pair: Pair, diskless: str
) -> None:
    master = launch(pair.master, repl_diskless_sync=diskless)
    master.call("ACL", "SETUSER", "default", "-psync")
    master.call("SET", "before", 1)
    replica = launch(pair.replica)

    follow(replica, master.port)

    assert replica.call("GET", "before") == b"1"
    master.call("SET", "after", 2)
    wait_until(lambda: replica.call("GET", "after") == b"2", "the stream flows", master, replica)


def test_command_of_a_replica_that_would_be_answered_ends_the_link(
    launch: Launcher, kind: Kind
) -> None:
    master = launch(kind)
    master.expected_words = ("== CRITICAL ==",)
    generated = "Replica generated a reply to command '{}', disconnecting it: id="
    sends_error = (
        "== CRITICAL == This master is sending an error to its replica: '{}' after processing"
        " the command '{}'"
    )
    for line, name, error in (
        ("PING", "ping", ""),
        ("GET k", "get", "Replica can't interact with the keyspace"),
        ("PUBLISH k v", "publish", "Replica can't interact with the keyspace"),
        ('EVAL "return 1" 0', "eval", "Replica can't interact with the keyspace"),
        ("NOSUCH", "<unknown>", "unknown command 'NOSUCH', with args beginning with: "),
    ):
        since = len(master.log_text())
        (replica,) = attach(master, 1)
        replica.socket.sendall(line.encode() + b"\r\n")
        replica.read_to_end()
        log = master.log_text()[since:]
        assert generated.format(name) in log
        assert "flags=S" in log
        assert (sends_error.format(error, name) in log) == bool(error)
        replica.close()


@pytest.mark.parametrize(
    ("rules", "refusal"),
    [
        ("-psync -sync", "NOPERM this user has no permissions to run the 'sync' command"),
        (">secret", "NOAUTH Authentication required."),
    ],
)
def test_replica_that_is_not_let_in_says_so_once_a_second_and_follows_when_it_is(
    launch: Launcher, rules: str, refusal: str
) -> None:
    master = launch("redis")
    replica = launch("kvrepl")
    master.call("ACL", "SETUSER", "default", *rules.split())
    refused = f"MASTER aborted replication with an error: {refusal} ("

    follow(replica, master.port, wait=False)
    wait_until(lambda: replica.log_text().count(refused) == 2, "it is refused twice", replica)
    assert replica.log_text().count("Connecting to MASTER") == 2
    assert replica.log_text().count("MASTER <-> REPLICA sync started") == 2

    if rules == ">secret":
        replica.config_set(masterauth="secret")
    else:
        master.call("ACL", "SETUSER", "default", "+psync")
    wait_linked(replica)
