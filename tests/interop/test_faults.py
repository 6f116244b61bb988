"""Either end of a link that vanishes, lags, lies or changes its mind, at each phase.

Source of the behaviour: replication.c, networking.c (client-output-buffer-limit), rdb.c of
Redis 7.0.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.harness import (
    Kind,
    Pair,
    Server,
    follow,
    free_port,
    sync_counts,
    wait_caught_up,
    wait_linked,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Proxy
from tests.interop.raw_replica import STREAM_BYTES, RawReplica, attach, states, write_stream

KEYS = 400
SLOW_SAVE_US = 2_000
SLOW_LOAD_US = 2_000


def fill(server: Server, keys: int = KEYS, *, size: int = 100) -> None:
    """Write incompressible strings, and one collection of each simple type."""
    pipe = server.client().pipeline(transaction=False)
    for number in range(keys):
        pipe.set(f"string:{number}", os.urandom(size))
    pipe.rpush("list", *range(300))
    pipe.hset("hash", mapping={f"field{n}": n for n in range(300)})
    pipe.zadd("zset", {f"member{n}": n for n in range(300)})
    pipe.sadd("set", *range(300))
    pipe.execute()


def saving(server: Server) -> bool:
    """Tell whether a child writes an RDB."""
    return bool(server.info("persistence")["rdb_bgsave_in_progress"])


# ---- replicas that vanish


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_replica_that_vanishes_during_its_snapshot_takes_the_child_with_it(
    launch: Launcher, kind: Kind, diskless: str
) -> None:
    master = launch(kind, repl_diskless_sync=diskless, rdb_key_save_delay=10_000)
    fill(master)
    replica = RawReplica(master)
    assert replica.line().startswith(b"+FULLRESYNC ")
    wait_until(lambda: saving(master), "a child runs", master)

    replica.close()

    wait_until(lambda: not saving(master), "the child was killed", master, timeout_s=2)
    assert states(master) == []
    assert not list(master.folder.glob("temp-*"))
    master.config_set(rdb_key_save_delay=0)
    follower = launch("redis")
    follow(follower, master.port)
    wait_same_data(master, follower)


def test_replica_that_vanishes_while_waiting_is_forgotten(launch: Launcher, kind: Kind) -> None:
    master = launch(kind, repl_diskless_sync_delay=100)
    replica = RawReplica(master)
    wait_until(lambda: states(master) == ["wait_bgsave"], "it waits", master)

    replica.close()

    wait_until(lambda: states(master) == [], "it is forgotten", master)
    assert not saving(master)


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_replica_killed_in_mid_transfer_leaves_the_others_going(
    launch: Launcher, kind: Kind, diskless: str
) -> None:
    master = launch(kind, repl_diskless_sync=diskless, repl_diskless_sync_max_replicas=2)
    master.config_set(repl_diskless_sync_delay=100)
    # 40 MB: more than sockets and pipes take in, so that the one who does not read is stuck.
    fill(master, size=100_000)
    stuck = RawReplica(master)
    wait_until(lambda: len(states(master)) == 1, "the first has come", master)
    replica = launch("redis")
    follow(replica, master.port, wait=False)
    if diskless == "yes":
        assert stuck.line().startswith(b"+FULLRESYNC ")
        assert stuck.line().startswith(b"$EOF:")
        assert replica.info("replication")["master_link_status"] != "up"

    stuck.close()

    wait_linked(replica)
    wait_same_data(master, replica)


def test_replica_that_does_not_read_is_dropped_at_its_limit(launch: Launcher, kind: Kind) -> None:
    master = launch(
        kind,
        repl_backlog_size=1 << 20,
        client_output_buffer_limit="replica 2mb 0 0",
    )
    replica = RawReplica(master)
    assert replica.line().startswith(b"+FULLRESYNC ")
    wait_until(lambda: states(master) == ["online"], "it is online", master)
    follower = launch("redis")
    follow(follower, master.port)

    def write_until_dropped() -> bool:
        master.call("SET", "big", b"x" * 1_000_000)
        return len(states(master)) == 1

    wait_until(write_until_dropped, "it is dropped", master)
    assert "scheduled to be closed ASAP for overcoming of output buffer limits" in master.log_text()
    wait_same_data(master, follower)
    wait_until(
        lambda: master.info("memory")["mem_total_replication_buffers"] < 4 << 20,
        "what was kept for it is freed",
        master,
    )
    replica.close()


def test_ten_replicas_that_do_not_read_share_one_copy_of_the_stream(
    launch: Launcher, kind: Kind
) -> None:
    master = launch(kind, repl_backlog_size=1 << 20)
    replicas = attach(master, 10)
    process = psutil.Process(master.pid)
    before = process.memory_info().rss

    write_stream(master)

    # Far beyond what ten sockets take in.
    grown = process.memory_info().rss - before
    kept = master.info("memory")["mem_total_replication_buffers"]
    assert 0.9 * STREAM_BYTES < kept < 1.1 * STREAM_BYTES
    assert grown < 2 * STREAM_BYTES, "each replica has a copy of its own"
    for replica in replicas:
        replica.close()


def test_diskless_replica_that_stands_still_is_dropped_in_time(
    launch: Launcher, kind: Kind
) -> None:
    master = launch(kind, repl_diskless_sync="yes", repl_timeout=2)
    fill(master, size=100_000)
    stuck = RawReplica(master)
    assert stuck.line().startswith(b"+FULLRESYNC ")

    master.wait_log("Disconnecting timedout replica (full sync)")

    wait_until(lambda: states(master) == [], "it is forgotten", master)
    wait_until(lambda: not saving(master), "the child is gone", master)
    stuck.close()


def test_peer_that_wanted_the_snapshot_alone_and_hangs_is_gone_after_the_timeout(
    launch: Launcher,
) -> None:
    master = launch("kvrepl", repl_diskless_sync="no", repl_timeout=2)
    peers: list[socket.socket] = []

    def saved() -> bool:
        return sync_counts(master)[0] == len(peers) and not saving(master)

    # For some size the last bytes are given to the connection and not taken from it.
    for size in range(1_500_000, 8_000_000, 200_000):
        master.call("SET", "big", os.urandom(size))
        peer = socket.create_connection(("127.0.0.1", master.port))
        peers.append(peer)
        peer.sendall(b"REPLCONF rdb-only 1\r\n")
        assert peer.recv(100) == b"+OK\r\n"
        peer.sendall(b"PSYNC ? -1\r\n")
        wait_until(saved, "its snapshot is made", master)
    wait_until(
        lambda: set(re.findall(rb" flags=(\S+)", master.call("CLIENT", "LIST"))) == {b"N"},
        "they are gone",
        master,
    )
    for peer in peers:
        peer.close()


def test_snapshot_child_killed_by_the_system_is_begun_anew(launch: Launcher, kind: Kind) -> None:
    master = launch(kind, repl_diskless_sync="yes", rdb_key_save_delay=5_000)
    fill(master)
    replica = launch("kvrepl")
    follow(replica, master.port, wait=False)
    wait_until(lambda: saving(master), "a child runs", master)
    child = int(Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()[0])
    master.config_set(rdb_key_save_delay=0)

    os.kill(child, signal.SIGKILL)

    wait_linked(replica)
    wait_same_data(master, replica)
    assert sync_counts(master)[0] == 2


# ---- masters that vanish or lie


def test_master_killed_while_the_replica_loads_is_followed_again(
    launch: Launcher, kind: Kind
) -> None:
    master = launch("redis", repl_diskless_sync="no")
    fill(master)
    master.call("SAVE")
    replica = launch(kind, key_load_delay=SLOW_LOAD_US, loading_process_events_interval_bytes=1024)
    follow(replica, master.port, wait=False)
    wait_until(lambda: replica.info("persistence")["loading"], "it loads", replica)

    master.kill()
    # It has the whole snapshot, so it loads it to the end, and says so meanwhile.
    with pytest.raises(redis.exceptions.BusyLoadingError):
        replica.call("GET", "string:1")
    wait_until(lambda: not replica.info("persistence")["loading"], "it has loaded", replica)
    assert replica.call("DBSIZE") == KEYS + 4
    master.start()

    wait_linked(replica)
    wait_same_data(master, replica)


@pytest.mark.parametrize("loading", ["disabled", "on-empty-db", "swapdb"])
def test_replicaof_no_one_in_mid_transfer(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], kind: Kind, loading: str
) -> None:
    master = launch("redis", repl_diskless_sync="no")
    fill(master, size=10_000)
    replica = launch(kind, repl_diskless_load=loading, loading_process_events_interval_bytes=1024)
    if loading != "on-empty-db":
        replica.call("SET", "old", "data")
    proxy = proxy_to(master)
    proxy.trickle(20_000, 0.01)
    follow(replica, proxy.port, wait=False)

    def receives() -> bool:
        read = replica.info("replication").get("master_sync_read_bytes", 0)
        return read > 0 or bool(replica.info("persistence")["loading"])

    wait_until(receives, "a part has come", replica)

    if loading == "disabled":
        replica.call("REPLICAOF", "NO", "ONE")
        assert replica.call("GET", "old") == b"data"
        replica.call("SET", "mine", "v")
        wait_until(lambda: not list(replica.folder.glob("temp-*")), "no temporary file", replica)
        assert "Internal error" not in replica.log_text(), "it was the operator's wish"
    else:
        # A load into memory cannot be left: it answers as any load does.
        with pytest.raises(redis.exceptions.BusyLoadingError):
            replica.call("REPLICAOF", "NO", "ONE")
        proxy.cut()
        proxy.resume()
        wait_linked(replica)
        wait_same_data(master, replica)


def test_replicaof_itself_goes_on_serving(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.call("SET", "k", "v")
    follow(server, server.port, wait=False)

    server.wait_log("Can't SYNC while not connected with my master")

    assert server.call("GET", "k") == b"v"
    server.call("REPLICAOF", "NO", "ONE")
    server.call("SET", "k", "again")


def test_masterauth_wrong_then_right(launch: Launcher, pair: Pair) -> None:
    master = launch(pair.master)
    master.call("SET", "k", "v")
    master.config_set(requirepass="secret")
    replica = launch(pair.replica, masterauth="wrong")
    follow(replica, master.port, wait=False)
    replica.wait_log("Unable to AUTH to MASTER: -WRONGPASS")

    replica.config_set(masterauth="secret")

    wait_linked(replica)
    wait_until(lambda: replica.call("GET", "k") == b"v", "the data is there", replica)


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"REDIS0099" + b"\xff" + b"\0" * 8, "99"),
        (b"REDIS0010\x00\x01k\x05value\xff" + b"\x01" * 8, "checksum"),
        (b"nonsense!", "not an rdb"),
    ],
    ids=["newer version", "wrong checksum", "no RDB"],
)
def test_snapshot_that_cannot_be_loaded_leaves_the_last_file(
    launch: Launcher, tmp_path: Path, payload: bytes, said: str, loading: str
) -> None:
    port = free_port()
    script = tmp_path / "master.py"
    script.write_text(FAKE_MASTER)
    (tmp_path / "payload").write_bytes(payload)
    with subprocess.Popen(
        ["python3", str(script), str(port), str(tmp_path / "payload")], stdin=subprocess.DEVNULL
    ) as fake:
        try:
            replica = launch("kvrepl", repl_diskless_load=loading)
            replica.call("SET", "old", "data")
            replica.call("SAVE")
            good = (replica.folder / "dump.rdb").read_bytes()
            follow(replica, port, wait=False)

            wait_until(lambda: said in replica.log_text().lower(), "it is refused", replica)
            replica.call("REPLICAOF", "NO", "ONE")

            assert (replica.folder / "dump.rdb").read_bytes() == good
            if loading == "swapdb":
                assert replica.call("GET", "old") == b"data"
            replica.call("SET", "k", "v")
        finally:
            fake.kill()


FAKE_MASTER = r"""
import socket, sys
payload = open(sys.argv[2], "rb").read()
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        link, _ = listener.accept()
        with link:
            reader = link.makefile("rb")
            while line := reader.readline():
                word = line.strip().upper()
                if word == b"PING":
                    link.sendall(b"+PONG\r\n")
                elif word == b"REPLCONF":
                    link.sendall(b"+OK\r\n")
                elif word == b"PSYNC":
                    link.sendall(b"+FULLRESYNC " + b"a" * 40 + b" 0\r\n")
                    link.sendall(b"$%d\r\n" % len(payload) + payload)
"""


# ---- loading, and who is served meanwhile


def test_swapdb_of_the_same_history_serves_readers_meanwhile(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], kind: Kind
) -> None:
    master = launch("redis", repl_diskless_sync="yes", repl_backlog_size=16 * 1024)
    fill(master)
    replica = launch(kind, repl_diskless_load="swapdb")
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    replica.config_set(key_load_delay=SLOW_LOAD_US, loading_process_events_interval_bytes=1024)
    proxy.refuse()
    proxy.cut()
    master.call("SET", "big", os.urandom(100_000))  # more than the backlog holds
    proxy.accept()

    wait_until(lambda: replica.info("persistence")["async_loading"], "it loads", replica)
    assert replica.info("persistence")["loading"] == 0
    assert replica.call("LLEN", "list") == 300
    assert replica.call("EXISTS", "big") == 0
    replica.config_set(key_load_delay=0)
    wait_linked(replica)
    wait_same_data(master, replica)


def test_load_from_disk_tells_progress_and_refuses_commands(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    fill(server)
    server.call("SAVE")
    server.terminate()
    server.directives.update(
        {"key-load-delay": 5_000, "loading-process-events-interval-bytes": 1024}
    )
    server._write_config()
    server.start(ready=False)

    def info() -> dict[str, int]:
        found = server.info("persistence")
        return found if found["loading"] else {}

    first = wait_until(info, "it loads", server)
    more = wait_until(
        lambda: info().get("loading_loaded_bytes", 0) > first["loading_loaded_bytes"],
        "more",
        server,
    )
    assert more
    assert first["loading_total_bytes"] == (server.folder / "dump.rdb").stat().st_size
    with pytest.raises(redis.exceptions.BusyLoadingError):
        server.call("GET", "k")
    server.call("CONFIG", "SET", "key-load-delay", 0)
    assert server.terminate() == 0


def test_replica_without_its_master_serves_stale_data_or_not(launch: Launcher, kind: Kind) -> None:
    master = launch("redis")
    master.call("SET", "k", "v")
    replica = launch(kind)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    master.kill()
    wait_until(
        lambda: replica.info("replication")["master_link_status"] == "down", "it is down", replica
    )

    assert replica.call("GET", "k") == b"v"
    replica.config_set(replica_serve_stale_data="no")
    for command in (("GET", "k"), ("PING",)):
        with pytest.raises(redis.exceptions.MasterDownError):
            replica.call(*command)
    assert replica.call("INFO")
    with pytest.raises(redis.ResponseError):
        replica.call("SET", "k", "v")


def test_min_replicas_follow_what_is_connected(launch: Launcher, kind: Kind) -> None:
    master = launch(kind, min_replicas_to_write=1)
    with pytest.raises(redis.ResponseError, match=r"^NOREPLICAS"):
        master.call("SET", "k", "v")
    replica = launch("redis")
    follow(replica, master.port)

    def accepted() -> bool:
        try:
            return bool(master.call("SET", "k", "v"))
        except redis.ResponseError:
            return False

    wait_until(accepted, "writes are accepted", master)
    replica.kill()
    wait_until(lambda: not accepted(), "writes are refused", master)


def test_aof_of_a_replica_is_founded_anew_by_a_full_sync(launch: Launcher, kind: Kind) -> None:
    master = launch("redis")
    fill(master)
    replica = launch(kind, appendonly="yes")
    replica.call("SET", "old", "data")
    follow(replica, master.port)
    wait_caught_up(master, replica)
    master.call("SET", "after", "the sync")
    wait_until(
        lambda: (
            replica.info("persistence")["aof_enabled"]
            and not replica.info("persistence")["aof_rewrite_in_progress"]
            and not replica.info("persistence")["aof_rewrite_scheduled"]
        ),
        "the log is founded",
        replica,
    )
    digest = wait_same_data(master, replica)
    assert replica.terminate() == 0

    replica.start()
    replica.call("REPLICAOF", "NO", "ONE")
    assert replica.digest() == digest


# ---- those who want the snapshot alone


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_redis_cli_takes_the_snapshot_alone(
    launch: Launcher, kind: Kind, tmp_path: Path, diskless: str
) -> None:
    master = launch(kind, repl_diskless_sync=diskless)
    fill(master)
    taken = tmp_path / "taken.rdb"

    master.cli("--rdb", str(taken))

    other = launch.prepare("redis")
    (other.folder / "dump.rdb").write_bytes(taken.read_bytes())
    assert other.start().digest() == master.digest()
    wait_until(lambda: states(master) == [], "it is gone", master)
    functions = tmp_path / "functions.rdb"
    master.cli("--functions-rdb", str(functions))
    subprocess.run(["redis-check-rdb", str(functions)], check=True, capture_output=True)
    assert functions.stat().st_size < taken.stat().st_size


def test_redis_cli_as_a_replica_prints_the_stream(launch: Launcher, kind: Kind) -> None:
    master = launch(kind)
    fill(master)
    with subprocess.Popen(
        ["redis-cli", "-p", str(master.port), "--replica"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as cli:
        assert cli.stdout is not None
        try:
            wait_until(lambda: states(master) == ["online"], "it is online", master)
            master.call("SET", "seen", "by the client")
            while b'"seen"' not in (line := cli.stdout.readline()):
                assert line, "the stream ended"
        finally:
            cli.kill()


def test_swapdb_transfer_that_is_cut_leaves_the_aof_of_the_replica_on(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    master = launch("redis", repl_diskless_sync="no")
    fill(master, size=10_000)
    replica = launch(
        "kvrepl", repl_diskless_load="swapdb", appendonly="yes", replica_read_only="no"
    )
    proxy = proxy_to(master)
    proxy.trickle(20_000, 0.01)
    follow(replica, proxy.port, wait=False)
    wait_until(
        lambda: replica.info("replication").get("master_sync_read_bytes", 0) > 0,
        "a part has come",
        replica,
    )

    proxy.refuse()
    proxy.cut()

    wait_until(
        lambda: replica.info("replication")["master_sync_in_progress"] == 0,
        "the transfer is given up",
        replica,
    )
    assert replica.info("persistence")["aof_enabled"] == 1


@pytest.mark.parametrize("held_up", ["master", "replica"])
def test_server_held_up_by_a_command_does_not_call_its_peer_silent(
    launch: Launcher, held_up: str
) -> None:
    settings = {"repl_timeout": 4, "repl_ping_replica_period": 1}
    master, replica = launch("kvrepl", **settings), launch("kvrepl", **settings)
    follow(replica, master.port)

    (master if held_up == "master" else replica).call("DEBUG", "SLEEP", "6")
    master.call("SET", "k", "v")
    wait_same_data(master, replica)

    if held_up == "replica":
        assert "MASTER timeout" not in replica.log_text()
    else:
        assert "Disconnecting timedout replica" not in master.log_text()
