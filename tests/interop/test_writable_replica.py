"""A replica that takes writes (replica-read-only no): what is local, and what becomes of it.

Source of the behaviour: expire.c (expireSlaveKeys), db.c (expireIfNeeded), replication.c
(replicationFeedSlaves) of Redis 7.0.
"""

from __future__ import annotations

from pathlib import Path

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server, follow, wait_caught_up, wait_until

BRIEF_MS = 100


def tracked(server: Server) -> int:
    """Give how many keys a replica is to expire by itself."""
    return int(server.info("stats")["slave_expires_tracked_keys"])


def test_keys_of_its_own_expire_and_those_of_the_master_wait_for_it(
    launch: Launcher, kind: Kind
) -> None:
    master = launch(kind)
    replica = launch(kind, replica_read_only="no", appendonly="yes")
    follow(replica, master.port)
    master.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    master.call("SET", "masters", "v", "PX", BRIEF_MS)
    wait_caught_up(master, replica)
    second = replica.client(db=3)

    replica.call("SET", "string", "v", "PX", BRIEF_MS)
    replica.call("SADD", "set", "v")
    replica.call("PEXPIRE", "set", BRIEF_MS)
    replica.call("SET", "kept", "v", "PX", BRIEF_MS)
    replica.call("PERSIST", "kept")
    replica.call("SET", "far", "v", "EX", 1000)
    replica.call("RENAME", "far", "far off")
    second.set("other database", "v", px=BRIEF_MS)
    wait_until(lambda: tracked(replica) == 1, "the one far off is left", replica)

    assert replica.info("stats")["expired_keys"] == 3
    assert second.dbsize() == 0
    assert replica.call("DBSIZE") == 3
    assert sorted(replica.call("KEYS", "*")) == [b"far off", b"kept"]
    written = b"".join(
        p.read_bytes() for p in Path(replica.folder).glob("appendonlydir/*.incr.aof")
    )
    for key in ("string", "set", "other database"):
        assert b"DEL\r\n$%d\r\n%b\r\n" % (len(key), key.encode()) in written
    replica.call("REPLICAOF", "NO", "ONE")
    wait_until(lambda: replica.call("DBSIZE") == 2, "a master expires them all", replica)
