"""repl-compression lz4: between two kvrepl servers, and beside real Redis at either end."""

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
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Direction, Proxy

FRAMINGS = {"disk": "no", "diskless": "yes"}  # repl-diskless-sync


def compression(server: Server) -> dict[str, object] | None:
    """Give what a server tells of its compressed link, None where it has none."""
    info = server.info("replication")
    answer: dict[str, object] | None = info.get("kvrepl_compression0") or info.get(
        "kvrepl_master_compression"
    )
    return answer


def ratio(server: Server) -> float:
    told = compression(server)
    return float(str(told["ratio"])) if told else 0.0


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_snapshot_and_stream_travel_compressed_and_offsets_stay_plain(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], framing: str, loading: str
) -> None:
    master = launch(
        "kvrepl",
        repl_compression="lz4",
        repl_diskless_sync=FRAMINGS[framing],
        rdb_key_save_delay=100,
        rdbcompression="no",
    )
    replica = launch("kvrepl", repl_compression="lz4", repl_diskless_load=loading)
    populate(master, 3_000)
    proxy = proxy_to(master)

    with Load(master) as load:
        follow(replica, proxy.port)
        load.wait_for(500)

    wait_same_data(master, replica)
    assert sync_counts(master)[0] == 1
    # A key that expires between the two questions moves the offset.
    wait_until(lambda: position(master) == position(replica), "one offset", master, replica)
    assert ratio(master) > 1.2
    told, seen = compression(master), compression(replica)
    assert told is not None and seen is not None
    # All but the handshake is in frames.
    plain_bytes = proxy.passed_bytes[Direction.DOWN] - int(str(told["wire_bytes"]))
    assert 0 < plain_bytes < 0.02 * proxy.passed_bytes[Direction.DOWN]


def test_link_that_breaks_is_resumed_compressed_and_answers_wait(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    master = launch("kvrepl", repl_compression="lz4")
    replica = launch("kvrepl", repl_compression="lz4")
    populate(master, 500)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)

    for _ in range(3):
        seen = proxy.connections
        master.call("SET", "before", "x" * 1000)
        proxy.cut()
        master.call("SET", "during", "x" * 1000)
        proxy.wait_reconnected(seen)
        wait_caught_up(master, replica)
        assert master.call("WAIT", 1, 30_000) == 1

    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 3)
    assert ratio(replica) > 1


def test_corrupted_link_is_cut_and_resumed(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    master = launch("kvrepl", repl_compression="lz4")
    replica = launch("kvrepl", repl_compression="lz4")
    populate(master, 500)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)

    proxy.corrupt_next()
    master.call("SET", "k", "x" * 1000)

    replica.wait_log("Corrupt data from MASTER")
    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 1)


def test_setting_at_both_ends_changes_nothing_with_a_real_redis(
    launch: Launcher, pair: Pair
) -> None:
    directives: dict[str, dict[str, str]] = {"kvrepl": {"repl_compression": "lz4"}, "redis": {}}
    master = launch(pair.master, **directives[pair.master])
    replica = launch(pair.replica, **directives[pair.replica])
    populate(master, 1_000)

    follow(replica, master.port)

    wait_same_data(master, replica)
    both = (pair.master, pair.replica) == ("kvrepl", "kvrepl")
    assert (compression(master) is not None) == both


def test_chain_mixes_compressed_and_plain_links(launch: Launcher) -> None:
    top = launch("kvrepl", repl_compression="lz4")
    middle = launch("kvrepl", repl_compression="lz4")
    redis, kvrepl = launch("redis"), launch("kvrepl", repl_compression="lz4")
    populate(top, 500)
    follow(middle, top.port)
    for leaf in (redis, kvrepl):
        follow(leaf, middle.port)

    with Load(top) as load:
        load.wait_for(500)

    wait_same_data(top, middle, redis, kvrepl)
    middle.call("REPLICAOF", "NO", "ONE")
    wait_same_data(middle, redis, kvrepl)
    assert sync_counts(middle) == (2, 2), "each went on from where it stood"
    follow(top, middle.port)
    wait_same_data(middle, top)


def test_setting_takes_effect_with_the_next_connection(launch: Launcher) -> None:
    master, replica = launch("kvrepl"), launch("kvrepl")
    follow(replica, master.port)
    wait_caught_up(master, replica)
    for server in (master, replica):
        server.config_set(repl_compression="lz4")
    assert compression(master) is None

    master.call("CLIENT", "KILL", "TYPE", "replica")

    wait_until(lambda: compression(master) is not None, "a compressed link", master)
    master.call("SET", "k", "v")
    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 1)
