"""What kvrepl tells of full syncs and what it refuses, with real peers at the other end.

These are our own additions, so at least one end is kvrepl in every test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.datasets import populate
from tests.interop.harness import (
    Kind,
    Server,
    follow,
    wait_caught_up,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Proxy
from tests.interop.raw_replica import RawReplica

peer_kinds = pytest.mark.parametrize("peer", KINDS)


def reasons(master: Server) -> dict[str, int]:
    """Give the causes that the master has counted."""
    prefix = "kvrepl_full_sync_reason_"
    return {
        name.removeprefix(prefix): count
        for name, count in master.info("replication").items()
        if name.startswith(prefix) and count
    }


def lose_everything(master: Server) -> None:
    """Kill it and start it without its files, as a host whose disk was replaced."""
    master.kill()
    (master.folder / "dump.rdb").unlink(missing_ok=True)
    master.restart()


@peer_kinds
def test_backlog_too_small_for_a_cut_is_named_as_the_cause_and_the_advice_helps(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], peer: Kind
) -> None:
    master, replica = launch("kvrepl", repl_backlog_size="16kb"), launch(peer)
    populate(master, 200)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    assert reasons(master) == {"first_attach": 1}

    def write_during_a_cut() -> None:
        proxy.refuse()
        proxy.cut()
        for number in range(100):
            master.call("SET", f"missed{number}", "x" * 1000)
        proxy.accept()
        wait_same_data(master, replica)

    write_during_a_cut()
    assert reasons(master) == {"first_attach": 1, "offset_before_backlog": 1}
    advice = next(line for line in master.log_text().splitlines() if "spared it (it is" in line)
    needed = int(advice.split("repl-backlog-size ")[1].split()[0])
    assert 100_000 < needed < 120_000

    master.config_set(repl_backlog_size=needed + 1000)
    write_during_a_cut()
    assert reasons(master) == {"first_attach": 1, "offset_before_backlog": 1}


@peer_kinds
@pytest.mark.parametrize("framing", ["disk", "diskless"])
def test_last_full_sync_is_told_with_its_size_and_phases_on_both_ends(
    launch: Launcher, peer: Kind, framing: str
) -> None:
    diskless = "yes" if framing == "diskless" else "no"
    master = launch("kvrepl", repl_diskless_sync=diskless)
    replica = launch(peer)
    populate(master, 2_000)
    follow(replica, master.port)
    wait_caught_up(master, replica)

    # The first ACK ends it, which after a sync from disk comes within a second.
    wait_until(
        lambda: "kvrepl_last_full_sync" in master.info("replication"), "the end is told", master
    )
    told = master.info("replication")["kvrepl_last_full_sync"]
    assert (told["framing"], told["reason"]) == (framing, "first_attach")
    assert told["bytes"] > 50_000
    assert told["total_ms"] == sum(
        told[f"{phase}_ms"] for phase in ("wait", "save", "transfer", "load")
    )
    if peer == "kvrepl":
        seen = replica.info("replication")["kvrepl_master_last_sync"]
        assert (seen["framing"], seen["bytes"]) == (framing, told["bytes"])


@peer_kinds
@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_storm_of_replicas_is_served_one_at_a_time_and_all_arrive(
    launch: Launcher, peer: Kind, diskless: str
) -> None:
    master = launch("kvrepl", repl_max_concurrent_full_syncs=1, repl_diskless_sync=diskless)
    populate(master, 2_000)
    # A delay keeps the child of the first alive until the others are in line.
    master.config_set(rdb_key_save_delay=200)
    replicas = [launch(peer) for _ in range(3)]
    for replica in replicas:
        follow(replica, master.port, wait=False)
    wait_until(
        lambda: master.info("replication")["kvrepl_full_syncs_in_line"] == 2, "a line", master
    )
    assert master.info("replication")["kvrepl_full_syncs_running"] == 1
    assert "waits in line at place 2: 1 of at most 1 run" in master.log_text()
    master.config_set(rdb_key_save_delay=0)

    wait_same_data(master, *replicas)
    assert master.info("stats")["sync_full"] == 3
    assert reasons(master) == {"first_attach": 3}


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_replica_that_hangs_in_its_transfer_gives_up_its_place_in_the_storm(
    launch: Launcher, diskless: str
) -> None:
    master = launch(
        "kvrepl",
        repl_max_concurrent_full_syncs=1,
        repl_timeout=2,
        repl_diskless_sync=diskless,
        rdbcompression="no",
    )
    master.call("DEBUG", "POPULATE", 20_000, "key", 1_000)  # more than the sockets hold
    stuck = RawReplica(master)
    assert stuck.line().startswith(b"+FULLRESYNC ")
    replica = launch("redis")
    follow(replica, master.port, wait=False)
    master.wait_log("waits in line at place 1")

    master.wait_log("Disconnecting timedout replica (full sync)")

    wait_same_data(master, replica)
    stuck.close()


@pytest.mark.parametrize("framing", ["disk", "diskless"])
@pytest.mark.parametrize(("peer", "load"), [("redis", "disabled"), ("kvrepl", "swapdb")])
def test_replica_keeps_its_data_from_a_master_that_restarted_without_any(
    launch: Launcher, peer: Kind, framing: str, load: str
) -> None:
    diskless = "yes" if framing == "diskless" else "no"
    master = launch(peer, repl_diskless_sync=diskless)
    replica = launch("kvrepl", replica_refuse_empty_master="yes", repl_diskless_load=load)
    populate(master, 500)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    digest = replica.digest()

    lose_everything(master)
    replica.wait_log("Refused the snapshot of MASTER")

    info = replica.info("replication")
    assert (info["kvrepl_master_refused"], info["master_link_status"]) == ("empty_dataset", "down")
    assert replica.call("ROLE")[3] == b"refused"
    assert replica.digest() == digest
    asked = master.info("stats")["sync_full"]

    # The operator has the last word: here, that the empty dataset is right.
    replica.config_set(replica_refuse_empty_master="no")
    wait_same_data(master, replica)
    assert replica.call("DBSIZE") == 0
    assert master.info("stats")["sync_full"] == asked + 1


@peer_kinds
def test_refusing_replica_can_give_its_data_back_to_the_master(
    launch: Launcher, peer: Kind
) -> None:
    master = launch(peer)
    replica = launch("kvrepl", replica_refuse_empty_master="yes")
    populate(master, 500)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    digest = master.digest()
    lose_everything(master)
    replica.wait_log("Refused the snapshot of MASTER")

    replica.call("REPLICAOF", "NO", "ONE")
    follow(master, replica.port)

    wait_same_data(replica, master)
    assert master.digest() == digest
