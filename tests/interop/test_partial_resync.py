"""Partial resynchronisation: a broken link goes on where it stopped, or starts over when it must.

Source of the behaviour: replication.c of Redis 7.0 (masterTryPartialResynchronization,
replicationCacheMaster) and rdb.c (the repl-* aux fields, read back at a restart).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.conftest import Launcher
from tests.interop.datasets import Load, populate
from tests.interop.harness import (
    Pair,
    Server,
    follow,
    position,
    sync_counts,
    wait_caught_up,
    wait_linked,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Direction, Proxy

LARGE_BACKLOG = "64mb"


@pytest.mark.parametrize("ending", ["fin", "reset"])
def test_cut_link_resumes_from_the_backlog(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair, ending: str
) -> None:
    master, replica = launch(pair.master), launch(pair.replica)
    populate(master, 1_000)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    proxy.refuse()
    proxy.cut(reset=ending == "reset")
    master.call("SET", "written", "while the link was down")
    proxy.accept()

    wait_until(lambda: replica.call("GET", "written"), "the write arrived", master, replica)

    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 1)


def cut_under_load(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair, cuts: int, keys: int
) -> None:
    """Cut a loaded link many times, in both directions at every byte position that comes."""
    master = launch(pair.master, repl_backlog_size=LARGE_BACKLOG)
    replica = launch(pair.replica, repl_backlog_size=LARGE_BACKLOG)
    populate(master, keys)
    proxy = proxy_to(master)
    follow(replica, proxy.port, wait=False)
    wait_linked(replica, timeout_s=300)
    wait_caught_up(master, replica)

    with Load(master) as load:
        for number in range(cuts):
            seen = proxy.connections
            # A little further each time, so that the cut falls inside commands, not between.
            proxy.cut_after(500 + 37 * number, Direction.DOWN)
            proxy.wait_reconnected(seen)
            wait_linked(replica)
        load.wait_for(200)

    wait_same_data(master, replica, timeout_s=120)
    full, partial = sync_counts(master)
    assert full == 1
    assert partial >= cuts


def test_fifty_cuts_under_load_never_cause_a_full_sync(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    cut_under_load(launch, proxy_to, pair, cuts=50, keys=1_000)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_a_thousand_cuts_over_a_million_keys_never_cause_a_full_sync(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    cut_under_load(launch, proxy_to, pair, cuts=1_000, keys=1_000_000)


def test_gap_larger_than_the_backlog_causes_one_full_sync(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    master, replica = launch(pair.master, repl_backlog_size="16kb"), launch(pair.replica)
    populate(master, 500)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    proxy.refuse()
    proxy.cut()
    for number in range(40):
        master.call("SET", f"gap:{number}", b"x" * 1000)
    proxy.accept()

    wait_same_data(master, replica)

    assert sync_counts(master) == (2, 0)


def test_silent_link_is_given_up_after_repl_timeout_and_resumes(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    quick = {"repl_timeout": 2, "repl_ping_replica_period": 1}
    master, replica = launch(pair.master, **quick), launch(pair.replica, **quick)
    populate(master, 200)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)

    proxy.stall()
    wait_until(
        lambda: replica.info("replication")["master_link_status"] == "down",
        "the replica noticed the silence",
        replica,
    )
    proxy.resume()

    wait_same_data(master, replica)
    assert sync_counts(master)[0] == 1


def test_replica_restarted_from_its_rdb_resumes(launch: Launcher, pair: Pair) -> None:
    master, replica = launch(pair.master), launch(pair.replica, save="3600 1")
    populate(master, 2_000)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    replica.terminate()
    master.call("SET", "written", "while the replica was down")

    replica.restart(replicaof=f"127.0.0.1 {master.port}")

    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 1)


def test_master_restarted_from_its_rdb_serves_the_old_history(launch: Launcher, pair: Pair) -> None:
    master, replica = launch(pair.master, save="3600 1"), launch(pair.replica)
    populate(master, 2_000)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    replid, offset = position(master)
    # SIGTERM saves; from then on nothing may be written that the file does not hold.
    master.terminate()

    master.restart()

    wait_same_data(master, replica)
    info = master.info("replication")
    assert info["master_replid"] != replid
    assert info["master_replid2"] == replid
    assert info["second_repl_offset"] >= offset + 1
    assert sync_counts(master) == (0, 1)
