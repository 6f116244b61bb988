"""Links on which one end refuses what the other asks for.

Source of the behaviour: replication.c (syncWithMaster, readSyncBulkPayload), networking.c
(addReply to a replica) of Redis 7.0.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Pair, follow, wait_until

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
