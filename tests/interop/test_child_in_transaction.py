"""A child that a transaction ends: a full sync that waited for it begins when EXEC is over.

Begun in the middle, its snapshot would hold half of a transaction whose whole the stream brings
again.
"""

from __future__ import annotations

from tests.interop.conftest import Launcher
from tests.interop.harness import (
    Kind,
    Pair,
    Server,
    follow,
    wait_linked,
    wait_same_data,
    wait_until,
)

LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
SLOW_US = 5_000
KEYS = 2_000


def start_slow_child(master: Server, command: str) -> None:
    """Start a child that takes ten seconds; the next one will be quick."""
    master.call("DEBUG", "POPULATE", str(KEYS))
    master.config_set(rdb_key_save_delay=SLOW_US)
    master.call(command)
    master.config_set(rdb_key_save_delay=0)


def wait_in_line(master: Server) -> None:
    """Wait for a replica that waits for the end of the child."""
    wait_until(
        lambda: master.info("replication").get("slave0", {}).get("state") == "wait_bgsave",
        "a replica is in line",
        master,
    )


def assert_synced_once(master: Server, replica: Server) -> None:
    wait_linked(replica)
    wait_same_data(master, replica)
    assert master.info("stats")["sync_full"] == 1
    functions = [server.call("FUNCTION", "LIST") for server in (master, replica)]
    assert functions[0] == functions[1]
    log = replica.log_text()
    assert "already exists" not in log
    assert replica.info("stats")["unexpected_error_replies"] == 0


def test_flushall_in_exec_ends_a_bgsave_and_the_sync_in_line_sees_no_half_transaction(
    launch: Launcher, pair: Pair
) -> None:
    master = launch(pair.master, repl_diskless_sync="no")
    replica = launch(pair.replica)
    start_slow_child(master, "BGSAVE")
    follow(replica, master.port, wait=False)
    wait_in_line(master)

    client = master.client().pipeline(transaction=True)
    client.execute_command("FUNCTION", "LOAD", LIBRARY)  # type: ignore[no-untyped-call]
    client.flushall()
    client.incr("after")
    assert client.execute()[1:] == [True, 1]

    assert_synced_once(master, replica)
    assert replica.call("GET", "after") == b"1"


def test_flushall_in_a_script_ends_a_bgsave_and_is_replicated_once(
    launch: Launcher, kind: Kind
) -> None:
    master = launch("kvrepl", repl_diskless_sync="no")
    replica = launch(kind)
    start_slow_child(master, "BGSAVE")
    follow(replica, master.port, wait=False)
    wait_in_line(master)

    script = "redis.call('flushall') redis.call('incr', 'after') return redis.call('dbsize')"
    assert master.call("EVAL", script, "0") == 1

    assert_synced_once(master, replica)


def test_appendonly_turned_off_in_exec_ends_a_rewrite_and_nothing_is_applied_twice(
    launch: Launcher, pair: Pair
) -> None:
    master = launch(pair.master, repl_diskless_sync="no", appendonly="yes")
    replica = launch(pair.replica)
    start_slow_child(master, "BGREWRITEAOF")
    follow(replica, master.port, wait=False)
    wait_in_line(master)

    client = master.client().pipeline(transaction=True)
    client.incr("counter")
    client.config_set("appendonly", "no")
    client.incr("counter")
    assert client.execute()[2] == 2

    assert_synced_once(master, replica)
    assert replica.call("GET", "counter") == b"2"


def test_flushall_in_exec_leaves_a_file_without_the_old_keys(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.config_set(save="3600 1")
    start_slow_child(server, "BGSAVE")

    client = server.client().pipeline(transaction=True)
    client.flushall()
    client.execute()
    server.kill()
    server.restart()

    assert server.call("DBSIZE") == 0
