"""Diskless transfers read through the ring: a slow replica harms only itself, a late one joins.

What is tested is our own, so the master is kvrepl; the replicas are of either kind.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.datasets import Load, populate
from tests.interop.harness import (
    Kind,
    Server,
    follow,
    sync_counts,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Direction, Proxy

peer_kinds = pytest.mark.parametrize("peer", KINDS)


def receivers(master: Server) -> int:
    """Give how many replicas read the ring."""
    ring = master.info("replication").get("kvrepl_diskless_ring")
    return int(ring["readers"]) if ring else 0


def hang(replica: Server, master: Server, proxy_to: Callable[[Server], Proxy]) -> Proxy:
    """Let a replica ask for a snapshot that it then does not take."""
    proxy = proxy_to(master)
    follow(replica, proxy.port, wait=False)
    wait_until(lambda: master.info("replication")["connected_slaves"] == 1, "it has asked", master)
    proxy.stall(Direction.DOWN)
    return proxy


@peer_kinds
def test_replica_that_comes_in_mid_transfer_joins_it_and_loses_no_write(
    launch: Launcher, peer: Kind
) -> None:
    # 2,000 keys at 1 ms each: the child takes two seconds.
    master = launch("kvrepl", rdb_key_save_delay=1000)
    early, late = launch(peer), launch(peer)
    populate(master, 2_000)

    with Load(master) as load:
        follow(early, master.port, wait=False)
        wait_until(lambda: receivers(master) == 1, "the transfer runs", master)
        load.wait_for(200)
        follow(late, master.port, wait=False)
        wait_until(lambda: receivers(master) == 2, "the late one has joined", master)
        load.wait_for(200)

    wait_same_data(master, early, late)
    assert master.info("stats")["total_forks"] == 1
    assert sync_counts(master) == (2, 0)
    assert master.info("replication")["kvrepl_diskless_joined"] == 1


@peer_kinds
def test_slow_replica_is_dropped_within_the_bound_and_is_served_later(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], peer: Kind
) -> None:
    master = launch(
        "kvrepl",
        repl_diskless_sync_delay=60,
        repl_diskless_sync_max_replicas=2,
        repl_diskless_sync_ring_size="1mb",
        repl_diskless_sync_max_stall=500,
        rdbcompression="no",
    )
    healthy, slow = launch(peer), launch(peer)
    # 40 MB: more than the ring and the sockets on the way hold, so the transfer must wait.
    master.call("DEBUG", "POPULATE", 4_000, "big", 10_000)
    proxy = hang(slow, master, proxy_to)

    follow(healthy, master.port, wait=False)

    master.wait_log("Disconnecting slow replica (full sync)")
    wait_same_data(master, healthy)
    assert master.info("replication")["kvrepl_diskless_dropped"] == 1
    master.config_set(repl_diskless_sync_delay=0)  # nobody else will come
    proxy.resume()
    wait_same_data(master, slow)
    assert master.info("stats")["total_forks"] == 2


@peer_kinds
def test_slow_replica_within_the_ring_delays_nobody_and_is_not_dropped(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], peer: Kind
) -> None:
    master = launch(
        "kvrepl",
        repl_diskless_sync_delay=60,
        repl_diskless_sync_max_replicas=2,
        repl_diskless_sync_ring_size="64mb",
        rdbcompression="no",
    )
    healthy, slow = launch(peer), launch(peer)
    master.call("DEBUG", "POPULATE", 4_000, "big", 10_000)
    proxy = hang(slow, master, proxy_to)

    follow(healthy, master.port)

    wait_same_data(master, healthy)
    # The child is gone; what remains for the slow one is in the ring, and others can be served.
    wait_until(lambda: master.info("persistence")["rdb_bgsave_in_progress"] == 0, "the end")
    states = [master.info("replication")[f"slave{number}"]["state"] for number in range(2)]
    assert sorted(states) == ["online", "send_bulk"]
    master.config_set(repl_diskless_sync_delay=0)
    another = launch(peer)
    follow(another, master.port)
    proxy.resume()
    wait_same_data(master, healthy, slow, another)
    assert sync_counts(master) == (3, 0)
    assert master.info("stats")["total_forks"] == 2


def test_last_replica_that_leaves_has_the_child_killed(launch: Launcher) -> None:
    master = launch("kvrepl", rdb_key_save_delay=1000)
    first, second = launch("kvrepl"), launch("kvrepl")
    populate(master, 5_000)
    follow(first, master.port, wait=False)
    wait_until(lambda: receivers(master) == 1, "the transfer runs", master)
    follow(second, master.port, wait=False)
    wait_until(lambda: receivers(master) == 2, "the second has joined", master)

    first.kill()
    wait_until(lambda: receivers(master) == 1, "the first has left", master)
    assert master.info("persistence")["rdb_bgsave_in_progress"] == 1
    second.kill()

    master.wait_log("Diskless rdb transfer, last replica dropped, killing fork child.")
    wait_until(lambda: not receivers(master), "no transfer", master)


@peer_kinds
def test_child_that_dies_in_mid_transfer_is_made_good_by_another(
    launch: Launcher, peer: Kind
) -> None:
    master = launch("kvrepl", rdb_key_save_delay=1000)
    replicas = [launch(peer), launch(peer)]
    populate(master, 3_000)
    for replica in replicas:
        follow(replica, master.port, wait=False)
    wait_until(lambda: receivers(master) == 2, "the transfer runs", master)

    children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)

    master.wait_log("SYNC failed. BGSAVE child returned an error")
    master.config_set(rdb_key_save_delay=0)
    wait_same_data(master, *replicas)
