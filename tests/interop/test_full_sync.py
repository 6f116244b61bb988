"""Full synchronisation: every framing and way of loading, faults in mid-transfer.

Source of the behaviour: replication.c of Redis 7.0 (syncCommand, readSyncBulkPayload).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvrepl.server.process import SHORT_TURN_NS, turn_ns
from tests.interop.conftest import Launcher
from tests.interop.datasets import Load, count_keys, populate
from tests.interop.harness import (
    Kind,
    Pair,
    Server,
    follow,
    sync_counts,
    wait_linked,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Direction, Proxy

SLOW_LOAD_US = 1000
FRAMINGS = {"disk": "no", "diskless": "yes"}  # repl-diskless-sync


@pytest.mark.parametrize("loading", ["disabled", "swapdb", "on-empty-db"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_full_sync_of_every_type_gives_equal_datasets(
    launch: Launcher, pair: Pair, framing: str, loading: str
) -> None:
    master = launch(pair.master, repl_diskless_sync=FRAMINGS[framing])
    replica = launch(pair.replica, repl_diskless_load=loading)
    keys = populate(master, 5_000)
    if loading != "on-empty-db":
        replica.call("SET", "stale", "must be gone after the sync")

    follow(replica, master.port)

    wait_same_data(master, replica)
    assert count_keys(replica) == keys
    assert replica.call("EXISTS", "stale") == 0
    assert sync_counts(master)[0] == 1


@pytest.mark.parametrize("framing", FRAMINGS)
def test_full_sync_under_write_load_loses_no_write(
    launch: Launcher, pair: Pair, framing: str
) -> None:
    # 4,000 keys at 100 us each: the child takes 0.4 s, in which the load goes on.
    master = launch(pair.master, repl_diskless_sync=FRAMINGS[framing], rdb_key_save_delay=100)
    replica = launch(pair.replica)
    populate(master, 4_000)

    with Load(master) as load:
        load.wait_for(500)
        follow(replica, master.port)
        load.wait_for(500)

    wait_same_data(master, replica)
    assert sync_counts(master)[0] == 1


@pytest.mark.parametrize("framing", FRAMINGS)
def test_full_sync_cut_in_mid_transfer_starts_over_and_converges(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair, framing: str
) -> None:
    master = launch(pair.master, repl_diskless_sync=FRAMINGS[framing])
    replica = launch(pair.replica)
    populate(master, 5_000)
    proxy = proxy_to(master)
    proxy.cut_after(40_000, Direction.DOWN)

    follow(replica, proxy.port)

    wait_same_data(master, replica)
    assert proxy.connections >= 2
    # A partial resync here would go on over data that was never loaded.
    assert sync_counts(master) == (2, 0)


def test_full_sync_through_a_trickling_link_finds_both_ends_of_the_payload(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    master = launch(pair.master, repl_diskless_sync="yes")
    replica = launch(pair.replica)
    populate(master, 40)
    proxy = proxy_to(master)
    proxy.trickle(7, 0.0005)  # shorter than the 40-byte mark, so every mark is split

    follow(replica, proxy.port)

    wait_same_data(master, replica)
    assert sync_counts(master)[0] == 1


@pytest.mark.parametrize("framing", FRAMINGS)
def test_two_replicas_that_wait_together_share_one_snapshot(
    launch: Launcher, pair: Pair, framing: str
) -> None:
    master = launch(
        pair.master,
        repl_diskless_sync=FRAMINGS[framing],
        repl_diskless_sync_delay=5,
        repl_diskless_sync_max_replicas=2,
        rdb_key_save_delay=500,
    )
    replicas = [launch(pair.replica) for _ in range(2)]
    populate(master, 1_000)

    for replica in replicas:
        follow(replica, master.port, wait=False)

    wait_same_data(master, *replicas)
    assert master.info("stats")["total_forks"] == 1


def test_replica_that_hangs_in_a_diskless_transfer_is_dropped_and_the_other_completes(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    master = launch(
        pair.master,
        repl_diskless_sync="yes",
        repl_diskless_sync_delay=5,
        repl_diskless_sync_max_replicas=2,
        repl_timeout=2,
        repl_ping_replica_period=1,
        rdbcompression="no",
    )
    healthy, hanging = (launch(pair.replica) for _ in range(2))
    # 40 MB: more than the socket buffers on the way hold, so the transfer must block.
    master.call("DEBUG", "POPULATE", 4_000, "big", 10_000)
    proxy = proxy_to(master)
    follow(hanging, proxy.port, wait=False)
    wait_until(lambda: proxy.passed_bytes[Direction.DOWN] > 0, "the handshake has begun", master)
    proxy.stall(Direction.DOWN)

    follow(healthy, master.port, wait=False)

    wait_same_data(master, healthy)
    master.config_set(repl_diskless_sync_delay=0)  # nobody else will come
    proxy.resume()
    wait_same_data(master, hanging)


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_full_sync_of_a_million_keys_under_load_gives_equal_datasets(
    launch: Launcher, pair: Pair, framing: str
) -> None:
    master = launch(pair.master, repl_diskless_sync=FRAMINGS[framing], repl_backlog_size="64mb")
    replica = launch(pair.replica)
    populate(master, 1_000_000)

    with Load(master) as load:
        follow(replica, master.port, wait=False)
        wait_linked(replica, timeout_s=300)
        load.wait_for(1_000)

    wait_same_data(master, replica, timeout_s=120)
    assert sync_counts(master)[0] == 1


@pytest.mark.parametrize(
    ("setting", "stays"),
    [({}, False), ({"save": "3600 1"}, True), ({"rdb_del_sync_files": "no"}, True)],
    ids=["nothing persists", "save points", "not asked for"],
)
def test_file_that_replicas_alone_needed_is_removed(
    launch: Launcher, kind: Kind, setting: dict[str, str], stays: bool
) -> None:
    persistence = {"rdb_del_sync_files": "yes", "repl_diskless_sync": "no", **setting}
    master = launch(kind, **persistence)
    replica = launch(kind)
    master.call("SET", "k", "v")

    follow(replica, master.port)
    wait_same_data(master, replica)

    path = master.folder / "dump.rdb"
    if not stays:
        wait_until(lambda: not path.exists(), "the file is gone", master)
        assert "Removing the RDB file" in master.log_text() or "Removing dump.rdb" in (
            master.log_text()
        )
        return
    began = master.info("server")["uptime_in_seconds"]
    wait_until(lambda: master.info("server")["uptime_in_seconds"] > began + 1, "a while", master)
    assert path.exists()


@pytest.mark.skipif(turn_ns() == 0, reason="the kernel lets no thread choose (before Linux 6.12)")
@pytest.mark.parametrize("loading", ["disabled", "on-empty-db"])
def test_replica_that_loads_takes_short_turns_and_a_server_that_starts_does_not(
    launch: Launcher, loading: str
) -> None:
    master = launch("redis")
    populate(master, 5_000)
    replica = launch(
        "kvrepl",
        repl_diskless_load=loading,
        key_load_delay=SLOW_LOAD_US,
        loading_process_events_interval_bytes=1024,
    )
    usual_ns = turn_ns(replica.pid)

    follow(replica, master.port, wait=False)

    wait_until(lambda: replica.info("persistence")["loading"], "it loads", replica)
    assert turn_ns(replica.pid) == SHORT_TURN_NS < usual_ns
    replica.config_set(key_load_delay=0)
    wait_linked(replica)
    assert turn_ns(replica.pid) == usual_ns

    replica.call("REPLICAOF", "NO", "ONE")
    replica.call("SAVE")
    replica.config_set(key_load_delay=SLOW_LOAD_US)
    replica.call("CONFIG", "REWRITE")
    replica.terminate()
    replica.start(ready=False)
    wait_until(lambda: is_loading(replica), "it loads at its start", replica)
    assert turn_ns(replica.pid) == usual_ns


def is_loading(server: Server) -> bool:
    """Whether a server loads, False while it does not listen yet."""
    return bool(server.info("persistence")["loading"])
