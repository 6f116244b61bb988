"""INFO: the figures that move at redis-server move here too, in the same states."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.interop.conftest import KINDS, Launcher
from tests.interop.harness import Kind, Server, follow, wait_until

NOT_OURS = {
    "redis_build_id": "of their build",
    "allocator_rss_ratio": "one allocator, whose pages are counted in allocator_active",
    "allocator_rss_bytes": "the same",
    "client_recent_max_input_buffer": "of this moment, not of the last eight seconds",
    "client_recent_max_output_buffer": "the same",
    "used_memory_lua": "no Lua is made before the first script",
    "used_memory_lua_human": "the same",
    "used_memory_vm_eval": "the same",
    "mem_aof_buffer": "written by the end of the turn; theirs counts what it allocated",
    "reply_buffer_shrinks": "replies have no fixed buffer",
    "reply_buffer_expands": "the same",
}
"""Fields that may be 0 here and not there, and why."""

BY_CHANCE = {
    "uptime_in_seconds", "instantaneous_ops_per_sec", "instantaneous_input_kbps",
    "instantaneous_output_kbps", "instantaneous_input_repl_kbps", "instantaneous_output_repl_kbps",
    "rdb_last_bgsave_time_sec", "aof_last_rewrite_time_sec", "expire_cycle_cpu_milliseconds",
    "current_cow_size_age", "rss_overhead_bytes", "used_cpu_user_children", "mem_clients_normal",
    "master_last_io_seconds_ago", "mem_not_counted_for_evict", "mem_clients_slaves",
    "rdb_bgsave_in_progress", "rdb_current_bgsave_time_sec", "aof_rewrite_in_progress",
    "aof_rewrite_scheduled", "aof_pending_rewrite", "aof_current_rewrite_time_sec",
    "current_fork_perc", "current_cow_size", "current_cow_peak", "current_save_keys_processed",
    "current_save_keys_total",
}  # fmt: skip
"""Fields that are 0 or not by the moment at which they are asked for."""


def fields(server: Server) -> dict[str, str]:
    """Give every field of INFO, as text."""
    lines = server.cli("INFO", "everything").decode().split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name: value for name, _, value in pairs}


def is_nothing(value: str | None) -> bool:
    return value in ("0", "0B", "0.00", "0.00%", "0.000000", "", None)


def use(server: Server) -> None:
    """Do something of every kind that INFO counts."""
    client = server.client()
    for i in range(100):
        client.set(f"key:{i}", "value", ex=1000 if i % 2 else None)
        client.get(f"key:{i}")
    client.get("none")
    server.call("EVAL", "return redis.call('get', 'key:1')", 0)
    library = "#!lua name=l\nredis.register_function('f', function() return 1 end)"
    server.call("FUNCTION", "LOAD", library)
    server.call("FCALL", "f", 0)
    for wrong in (["GET"], ["NOSUCH"], ["LPUSH", "key:1", "x"]):
        with pytest.raises(redis.ResponseError):
            server.call(*wrong)
    client.set("brief", "v", px=1)
    wait_until(lambda: client.get("brief") is None, "it expired", server)


def is_at(server: Server, section: str, name: str, value: int) -> bool:
    return bool(server.info(section)[name] == value)


def has_mean_ttl(server: Server, least_ms: int, most_ms: int) -> bool:
    return bool(least_ms < server.info("keyspace")["db0"]["avg_ttl"] < most_ms)


def enter(server: Server, *lines: str) -> socket.socket:
    """Open a connection that is in some state after these commands."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    for line in lines:
        connection.sendall(line.encode() + b"\r\n")
        assert connection.recv(4096)
    return connection


@pytest.mark.timeout(180)
def test_no_figure_stands_still_that_moves_at_redis(launch: Launcher) -> None:
    still: dict[str, tuple[str, str]] = {}
    seen: list[dict[str, dict[str, str]]] = []
    opened = []
    for kind in KINDS:
        master = launch(
            kind, appendonly="yes", maxmemory="900mb", maxmemory_policy="allkeys-lru",
            maxmemory_clients="50%",
        )  # fmt: skip
        replica = launch(kind)
        follow(replica, master.port)
        use(master)
        master.call("BGREWRITEAOF")
        wait_until(
            partial(is_at, master, "persistence", "aof_rewrite_in_progress", 0),
            "the rewrite is over",
            master,
        )
        opened += [
            enter(master, "HELLO 3", "CLIENT TRACKING on", "GET key:1"),
            enter(master, "HELLO 3", "CLIENT TRACKING on BCAST PREFIX x"),
            enter(master, "SUBSCRIBE a", "PSUBSCRIBE b*", "SSUBSCRIBE c"),
        ]
        blocked = enter(master, "PING")
        blocked.sendall(b"BLPOP none 1000\r\n")
        opened.append(blocked)
        wait_until(partial(is_at, master, "clients", "blocked_clients", 1), "it is blocked", master)
        seen.append({"master": fields(master), "replica": fields(replica)})
    for connection in opened:
        connection.close()
    for role in ("master", "replica"):
        for name, theirs in seen[0][role].items():
            ours = seen[1][role].get(name)
            if is_nothing(ours) and not is_nothing(theirs):
                still[f"{role} {name}"] = (theirs, str(ours))
    known = NOT_OURS.keys() | BY_CHANCE
    assert {name: both for name, both in still.items() if name.split()[1] not in known} == {}


def test_counters_of_the_same_requests_are_equal(launch: Launcher) -> None:
    counted = []
    for kind in KINDS:
        server = launch(kind)
        use(server)
        server.call("CONFIG", "RESETSTAT")
        with enter(server, *["GET key:1"] * 5, "LPUSH key:1 x", "GET", "GET a b", "NOSUCH"):
            found = fields(server)
        names = ("keyspace_hits", "keyspace_misses", "total_error_replies", "errorstat_ERR")
        figures = {name: found[name] for name in (*names, "errorstat_WRONGTYPE")}
        for command in ("get", "lpush"):
            words = found[f"cmdstat_{command}"].split(",")
            figures[command] = ",".join(w for w in words if not w.startswith("usec"))
        counted.append(figures)
    assert counted[1] == counted[0]


def test_reads_and_writes_of_sockets_are_counted(launch: Launcher) -> None:
    for kind in KINDS:
        server = launch(kind)
        before = server.info("stats")
        with enter(server, *["PING"] * 50):
            after = server.info("stats")
        for name in ("total_reads_processed", "total_writes_processed"):
            # 50, the first INFO or its answer, and redis-py's greetings
            assert 50 <= after[name] - before[name] <= 60, (kind, name)


def test_average_ttl_is_about_that_of_the_keys(launch: Launcher) -> None:
    for kind in KINDS:
        server = launch(kind)
        client = server.client()
        for i in range(400):
            client.set(f"key:{i}", "v", ex=1000 + i)
        wait_until(
            partial(has_mean_ttl, server, 1_000_000, 1_400_000),
            "the mean is known",
            server,
        )


def test_replica_that_waits_for_its_snapshot_does_not_know_how_long_it_is(
    launch: Launcher, kind: Kind
) -> None:
    master = launch("redis", repl_diskless_sync="no", rdb_key_save_delay=100_000)
    master.call("DEBUG", "POPULATE", 200)  # 20 s to save
    replica = launch(kind)
    follow(replica, master.port, wait=False)
    wait_until(lambda: replica.info("replication")["master_sync_in_progress"], "it waits", replica)
    told = replica.info("replication")
    parts = ("total", "read", "left")
    assert [told[f"master_sync_{part}_bytes"] for part in parts] == [-1, 0, -1]
    assert told["master_sync_perc"] == 0


def test_replica_that_came_through_the_unix_socket_is_told_without_its_path(
    launch: Launcher, kind: Kind, tmp_path: Path
) -> None:
    path = tmp_path / "a,b.sock"  # a comma would break the line of INFO
    master = launch(kind, unixsocket=str(path))
    with socket.socket(socket.AF_UNIX) as replica:
        replica.connect(str(path))
        replica.sendall(b"REPLCONF listening-port 7\r\n")
        assert replica.recv(100) == b"+OK\r\n"
        replica.sendall(b"PSYNC ? -1\r\n")
        wait_until(lambda: master.info("replication")["connected_slaves"], "it is here", master)
        told = master.info("replication")["slave0"]
        assert (told["ip"], told["port"]) == ("/unixsocket", 7)
