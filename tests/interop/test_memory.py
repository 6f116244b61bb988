"""maxmemory: the same refusals as redis-server, and replicas that lose what their master evicts."""

from __future__ import annotations

import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Pair, Server, follow, wait_same_data, wait_until

MIB = 1 << 20


def limit_above_use(server: Server, room_bytes: int) -> None:
    """Set maxmemory so many bytes above what is in use."""
    used_bytes = int(server.info("memory")["used_memory"])
    server.config_set(maxmemory=used_bytes + room_bytes)


def fill(server: Server, keys: int, *, expiring: bool = False) -> int:
    """Write keys of 4 KiB until one is refused; give how many were taken."""
    client = server.client()
    for i in range(keys):
        try:
            client.set(f"key:{i}", bytes(4096), ex=1000 + i if expiring else None)
        except redis.ResponseError as error:
            assert str(error).endswith("command not allowed when used memory > 'maxmemory'.")
            return i
    return keys


def test_noeviction_refuses_beyond_the_limit_and_takes_reads(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    limit_above_use(server, 4 * MIB)
    taken = fill(server, 3000)

    assert 500 < taken < 1200  # 4 MiB of 4 KiB each, and what comes on top
    assert len(server.call("get", "key:0")) == 4096
    assert server.call("del", "key:0") == 1
    assert int(server.info("stats")["evicted_keys"]) == 0


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-lfu", "volatile-ttl", "volatile-random"]
)
def test_evictions_reach_the_replica_and_both_stay_equal(
    launch: Launcher, pair: Pair, policy: str
) -> None:
    master = launch(pair.master, maxmemory_policy=policy)
    replica = launch(pair.replica)
    follow(replica, master.port)
    limit_above_use(master, 6 * MIB)

    assert fill(master, 4000, expiring=True) == 4000
    assert int(master.info("stats")["evicted_keys"]) > 1000
    wait_same_data(master, replica)
    assert int(replica.info("stats")["evicted_keys"]) == 0
    # A master at its limit may evict once more between two looks.
    wait_until(
        lambda: replica.call("dbsize") == master.call("dbsize"), "both have as many keys", replica
    )


def test_idle_times_and_frequencies_go_from_one_kind_to_the_other(launch: Launcher) -> None:
    for policy, option, field in (
        ("allkeys-lru", "idletime", 5000),
        ("allkeys-lfu", "freq", 200),
    ):
        ours = launch("kvrepl", maxmemory_policy=policy, lfu_decay_time=0)
        theirs = launch("redis", maxmemory_policy=policy, lfu_decay_time=0)
        ours.call("set", "source", "v")
        payload: bytes = ours.call("dump", "source")
        ours.call("restore", "k", "0", payload, option, str(field))
        follow(theirs, ours.port)
        wait_same_data(ours, theirs)
        seen = int(theirs.call("object", option, "k"))
        assert field <= seen <= field + 60
        assert theirs.call("replicaof", "no", "one")
        back = launch("kvrepl", maxmemory_policy=policy, lfu_decay_time=0)
        follow(back, theirs.port)
        wait_same_data(theirs, back)
        assert field <= int(back.call("object", option, "k")) <= field + 120
