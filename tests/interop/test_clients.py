"""Redis's own client programs against either kind of server: nothing may tell them apart."""

from __future__ import annotations

import csv
import subprocess

import pytest

from tests.interop.conftest import Launcher
from tests.interop.datasets import Load, populate
from tests.interop.harness import Kind, Pair, Server, wait_caught_up, wait_same_data, wait_until


def benchmark(server: Server, *arguments: str) -> list[dict[str, str]]:
    """Run redis-benchmark, which ends at the first error reply; give its CSV rows."""
    argv = ["redis-benchmark", "-p", str(server.port), "--csv", *arguments]
    run = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    return list(csv.DictReader(run.stdout.splitlines()))


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_redis_benchmark_runs_its_default_list_to_the_end(
    launch: Launcher, kind: Kind, pipeline: str
) -> None:
    server = launch(kind)

    rows = benchmark(server, "-n", "2000", "-c", "20", "-r", "1000", "-P", pipeline)

    assert len(rows) == 20
    assert all(float(row["rps"]) > 0 for row in rows)
    commands = {name.removeprefix("cmdstat_"): calls for name, calls in _calls(server).items()}
    assert commands["set"] >= 2000
    assert commands["mset"] >= 2000


def _calls(server: Server) -> dict[str, int]:
    return {name: stat["calls"] for name, stat in server.info("commandstats").items()}


def test_redis_benchmark_in_resp3_runs(launch: Launcher, kind: Kind) -> None:
    rows = benchmark(launch(kind), "-3", "-n", "1000", "-t", "set,get,zadd,spop,lrange")

    assert {row["test"].split()[0] for row in rows} >= {"SET", "GET", "ZADD", "SPOP"}


def test_redis_cli_rdb_fetches_a_file_that_loads(launch: Launcher, pair: Pair) -> None:
    source = launch(pair.master)
    populate(source, 2_000)
    taker = launch.prepare(pair.replica)

    source.cli("--rdb", str(taker.folder / "dump.rdb"))

    assert taker.start().digest() == source.digest()
    # An rdb-only replica is none: it leaves as soon as it has the file.
    wait_until(
        lambda: source.info("replication")["connected_slaves"] == 0, "redis-cli is gone", source
    )


def test_redis_cli_replica_prints_the_stream(launch: Launcher, kind: Kind) -> None:
    source = launch(kind)
    follower = subprocess.Popen(
        ["redis-cli", "-p", str(source.port), "--replica"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: source.info("replication").get("slave0", {}).get("state") == "online",
            "redis-cli is an online replica",
            source,
        )
        source.call("SET", "key", "seen by the replica")
        assert follower.stdout is not None
        lines: list[bytes] = []
        while not lines or b"seen by the replica" not in lines[-1]:
            lines.append(follower.stdout.readline())
            assert lines[-1], f"redis-cli ended early: {lines}"
    finally:
        follower.kill()
        follower.communicate()

    assert lines[-1].strip().lower() == b'"set","key","seen by the replica"'


def test_sentinel_promotes_the_replica_and_takes_the_old_master_back(
    launch: Launcher, pair: Pair
) -> None:
    old = launch(pair.master)
    heir = launch(pair.replica, replicaof=f"127.0.0.1 {old.port}")
    populate(old, 500)
    wait_caught_up(old, heir)
    sentinel = launch.sentinel(old)
    with Load(old) as load:
        wait_until(
            lambda: sentinel.call("SENTINEL", "REPLICAS", "m"), "the replica is known", sentinel
        )
        load.wait_for(200)
    old.call("SET", "marker", "written before the crash")
    wait_caught_up(old, heir)

    old.kill()
    wait_until(lambda: master_port(sentinel) == heir.port, "the promotion", sentinel, heir)
    old.restart()

    wait_until(lambda: old.info("replication")["role"] == "slave", "the demotion", sentinel, old)
    wait_same_data(heir, old)
    assert old.call("GET", "marker") == b"written before the crash"
    assert master_port(sentinel) == heir.port
    assert heir.info("replication")["role"] == "master"


def master_port(sentinel: Server) -> int:
    """Give the port that Sentinel tells its clients to use."""
    return int(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m")[1])
