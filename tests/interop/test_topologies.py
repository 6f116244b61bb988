"""More than one link: chains, promotion, siblings, a demoted master, failover, WAIT.

Source of the behaviour: replication.c of Redis 7.0 (replicationSetMaster, shiftReplicationId,
failoverCommand, waitCommand).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.datasets import Load, populate
from tests.interop.harness import (
    Kind,
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
from tests.interop.proxy import Proxy


def test_chain_of_three_carries_one_history_to_its_end(launch: Launcher, pair: Pair) -> None:
    master = launch(pair.master)
    middle, last = launch(pair.replica), launch(pair.master)
    populate(master, 1_000)
    follow(middle, master.port)
    follow(last, middle.port)

    with Load(master) as load:
        load.wait_for(1_000)

    wait_same_data(master, middle, last)
    assert position(last)[0] == position(middle)[0] == position(master)[0]
    assert sync_counts(master)[0] == sync_counts(middle)[0] == 1


def test_chain_whose_upper_link_is_cut_keeps_the_lower_one(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    master, middle, last = launch(pair.master), launch(pair.replica), launch(pair.master)
    proxy = proxy_to(master)
    follow(middle, proxy.port)
    follow(last, middle.port)
    wait_caught_up(master, middle, last)

    with Load(master) as load:
        load.wait_for(100)
        seen = proxy.connections
        proxy.cut()
        proxy.wait_reconnected(seen)
        load.wait_for(100)

    wait_same_data(master, middle, last)
    assert sync_counts(master)[0] == sync_counts(middle)[0] == 1


def test_promoted_replica_takes_its_sibling_without_full_sync(launch: Launcher, pair: Pair) -> None:
    old = launch(pair.master)
    heir, sibling = launch(pair.replica), launch(pair.master)
    populate(old, 1_000)
    follow(heir, old.port)
    follow(sibling, old.port)
    with Load(old) as load:
        load.wait_for(500)
    wait_caught_up(old, heir, sibling)
    replid, offset = position(old)
    old.kill()

    heir.call("REPLICAOF", "NO", "ONE")
    follow(sibling, heir.port)
    heir.call("SET", "written", "after the promotion")

    wait_same_data(heir, sibling)
    info = heir.info("replication")
    assert info["role"] == "master"
    assert info["master_replid"] != replid
    assert info["master_replid2"] == replid
    assert info["second_repl_offset"] == offset + 1
    assert sync_counts(heir) == (0, 1)


def test_demoted_master_without_further_writes_joins_by_partial_resync(
    launch: Launcher, pair: Pair
) -> None:
    old, heir = launch(pair.master), launch(pair.replica)
    populate(old, 500)
    follow(heir, old.port)
    wait_caught_up(old, heir)

    heir.call("REPLICAOF", "NO", "ONE")
    follow(old, heir.port)

    wait_same_data(heir, old)
    assert sync_counts(heir) == (0, 1)


def test_demoted_master_with_a_write_of_its_own_needs_a_full_sync(
    launch: Launcher, pair: Pair
) -> None:
    old, heir = launch(pair.master), launch(pair.replica)
    populate(old, 500)
    follow(heir, old.port)
    wait_caught_up(old, heir)

    heir.call("REPLICAOF", "NO", "ONE")
    old.call("SET", "only here", "and so to be forgotten")
    follow(old, heir.port)

    wait_same_data(heir, old)
    assert old.call("EXISTS", "only here") == 0
    assert sync_counts(heir) == (1, 0)


def test_replica_refuses_writes_until_replicaof_no_one(launch: Launcher, pair: Pair) -> None:
    master, replica = launch(pair.master), launch(pair.replica)
    master.call("SET", "key", "kept")
    follow(replica, master.port)
    wait_caught_up(master, replica)

    with pytest.raises(redis.ReadOnlyError):
        replica.call("SET", "key", "refused")
    replica.call("REPLICAOF", "NO", "ONE")

    assert replica.call("GET", "key") == b"kept"
    replica.call("SET", "key", "changed")
    assert (master.call("GET", "key"), replica.call("GET", "key")) == (b"kept", b"changed")


def test_failover_command_swaps_the_roles_and_loses_nothing(launch: Launcher, pair: Pair) -> None:
    old, heir = launch(pair.master), launch(pair.replica)
    populate(old, 500)
    follow(heir, old.port)
    wait_caught_up(old, heir)
    digest = old.digest()

    old.call("FAILOVER")

    wait_until(lambda: heir.info("replication")["role"] == "master", "the heir rules", old, heir)
    wait_caught_up(heir, old)
    assert old.digest() == heir.digest() == digest
    assert old.info("replication")["role"] == "slave"
    assert sync_counts(heir)[0] == 0


def test_wait_counts_the_replicas_that_have_the_write(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pair: Pair
) -> None:
    master = launch(pair.master)
    near, far = launch(pair.replica), launch(pair.replica)
    proxy = proxy_to(master)
    follow(near, master.port)
    follow(far, proxy.port)
    wait_caught_up(master, near, far)
    master.call("SET", "key", "both")
    assert master.call("WAIT", 2, 20_000) == 2

    proxy.stall()
    master.call("SET", "key", "one of two")

    assert master.call("WAIT", 2, 300) == 1


def test_client_list_shows_the_master_and_client_kill_cuts_its_link(
    launch: Launcher, pair: Pair
) -> None:
    master = launch(pair.master)
    replica = launch(pair.replica)
    follow(replica, master.port)
    wait_linked(replica)

    listed = replica.call("CLIENT", "LIST", "TYPE", "master")
    assert b"flags=M" in listed and f"addr=127.0.0.1:{master.port}".encode() in listed
    partial = sync_counts(master)[1]
    replica.call("CLIENT", "KILL", "TYPE", "master")

    wait_until(
        lambda: sync_counts(master)[1] == partial + 1, "the link to be resumed", master, replica
    )
    wait_linked(replica)


def test_log_tells_of_every_change_of_role(launch: Launcher, kind: Kind) -> None:
    old, new = launch(kind), launch(kind)
    follow(new, old.port)
    since = {server: len(server.log_text()) for server in (old, new)}
    replid, offset = position(old)

    new.call("REPLICAOF", "NO", "ONE")
    old.config_set(loglevel="warning")
    old.wait_log(f"Connection with replica 127.0.0.1:{new.port} lost.", since=since[old])
    follow(old, new.port)
    new.config_set(loglevel="warning")
    old.call("REPLICAOF", "NO", "ONE")
    new.wait_log(f"Connection with replica 127.0.0.1:{old.port} lost.", since=since[new])

    told = new.log_text()[since[new] :]
    assert "Connection with master lost." in told
    assert "Discarding previously cached master state." in told
    assert f"Setting secondary replication ID to {replid}, valid up to offset: {offset + 1}" in told
    assert "MASTER MODE enabled (user request from 'id=" in told
    told = old.log_text()[since[old] :]  # warnings alone
    assert f"Master replication ID changed to {position(new)[0]}" in told
    assert f"Setting secondary replication ID to {position(new)[0]}, valid up to offset: " in told


def test_reader_that_waits_on_a_replica_is_told_of_another_master(
    launch: Launcher, kind: Kind
) -> None:
    first, second, replica = launch(kind), launch(kind), launch(kind)
    follow(replica, first.port)
    waiting = replica.client().connection_pool.get_connection()
    waiting.send_command("XREAD", "BLOCK", 0, "STREAMS", "s", "$")  # type: ignore[no-untyped-call]
    wait_until(lambda: replica.info("clients")["blocked_clients"] == 1, "it waits", replica)

    replica.call("REPLICAOF", "127.0.0.1", first.port)  # the same one: nothing happens
    assert replica.info("clients")["blocked_clients"] == 1
    follow(replica, second.port)

    with pytest.raises(redis.ResponseError, match=r"^UNBLOCKED force unblock from blocking"):
        waiting.read_response()
