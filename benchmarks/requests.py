"""Requests a second and their latency, as redis-benchmark sees them: 50 clients, 64-byte values.

The commands are those that redis-benchmark runs by default, in its order: LPUSH refills the list
that the ranges read.
"""

from __future__ import annotations

import csv
import subprocess
import time
from collections.abc import Iterator

import psutil

from benchmarks.datasets import VALUE_BYTES
from benchmarks.measure import Bench, Sample
from tests.interop.harness import Kind, Server, follow, wait_caught_up
from tests.interop.raw_replica import STREAM_BYTES, attach, write_stream

CLIENTS = 50
PIPELINES = (1, 16)
KEYSPACE = 100_000
TESTS = (
    *("ping_inline", "ping_mbulk", "set", "get", "incr", "lpush", "rpush", "lpop", "rpop"),
    *("sadd", "hset", "spop", "zadd", "zpopmin", "mset"),
)
RANGES = ("lrange_100", "lrange_300", "lrange_500", "lrange_600")
"""Hundreds of elements a reply: a twentieth as many requests take as long as the others."""


def redis_benchmark(
    server: Server, tests: tuple[str, ...], requests: int, pipeline: int
) -> Iterator[dict[str, str]]:
    """Run tests of redis-benchmark's own; yield its rows, as run_redis_benchmark does."""
    return run_redis_benchmark(server, ["-t", ",".join(tests)], requests, pipeline)


def run_redis_benchmark(
    server: Server, what: list[str], requests: int, pipeline: int
) -> Iterator[dict[str, str]]:
    """Run redis-benchmark; yield its CSV rows (test, rps, avg_latency_ms, p99_latency_ms, ...).

    Args:
        server: which one.
        what: the last arguments: tests, or a command with its arguments.
        requests: of each test.
        pipeline: how many at a time.
    """
    argv = ["redis-benchmark", "-p", str(server.port), "-c", str(CLIENTS), "-n", str(requests)]
    argv += ["-P", str(pipeline), "-r", str(KEYSPACE), "-d", str(VALUE_BYTES), "--csv"]
    run = subprocess.run([*argv, *what], capture_output=True, text=True, check=True)
    assert "Error" not in run.stdout, run.stdout
    for row in csv.DictReader(run.stdout.splitlines()):
        if "needed to benchmark" not in row["test"]:
            yield row


def _how(pipeline: int) -> str:
    return "unpipelined" if pipeline == 1 else f"{pipeline} at a time"


def _samples(case: str, pipeline: int, row: dict[str, str]) -> Iterator[Sample]:
    how = _how(pipeline)
    yield Sample(case, f"throughput, {how}", "requests/s", float(row["rps"]), True)
    yield Sample(case, f"p99, {how}", "ms", float(row["p99_latency_ms"]))


def requests(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Measure each command, unpipelined and 16 at a time."""
    with bench.server(kind) as server:
        for pipeline in PIPELINES:
            # Pipelined they take a tenth of the time: more of them, to measure as long.
            count = bench.scale.requests * (1 if pipeline == 1 else 4)
            for tests, share in ((TESTS, 1), (RANGES, 20)):
                for row in redis_benchmark(server, tests, count // share, pipeline):
                    yield from _samples(row["test"].partition(" (")[0], pipeline, row)


def attached(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Measure SET while a redis-server follows, how soon that one has it all, and the buffers."""
    with bench.server(kind) as master, bench.server("redis") as replica:
        follow(replica, master.port)
        wait_caught_up(master, replica)
        for pipeline in PIPELINES:
            count = bench.scale.requests * (1 if pipeline == 1 else 4)
            rows = list(redis_benchmark(master, ("set",), count, pipeline))
            ended = time.perf_counter()
            wait_caught_up(master, replica)
            lag_ms = (time.perf_counter() - ended) * 1e3
            yield from _samples("SET with a replica", pipeline, rows[0])
            yield Sample("SET with a replica", f"replica behind, {_how(pipeline)}", "ms", lag_ms)
        assert master.digest() == replica.digest()
    for count in (1, 10):
        yield _kept_for(bench, kind, count)


def _kept_for(bench: Bench, kind: Kind, count: int) -> Sample:
    """Measure what a master keeps for replicas that are attached and read nothing."""
    # No more of it than must be: what is kept beyond the backlog's size is for the replicas.
    with bench.server(kind, repl_backlog_size=1 << 20) as master:
        replicas = attach(master, count)
        process = psutil.Process(master.pid)
        before_bytes = process.memory_info().rss
        write_stream(master)
        grown_bytes = process.memory_info().rss - before_bytes
        for replica in replicas:
            replica.close()
    who = "one replica" if count == 1 else f"{count} replicas"
    case = f"{STREAM_BYTES // 10**6} MB not read by {who}"
    return Sample(case, "memory", "MB", grown_bytes / 1e6)


def aof(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Measure SET with the append-only file off and under each fsync policy."""
    for policy in ("off", "no", "everysec", "always"):
        directives = {"appendonly": "no"}
        if policy != "off":
            directives = {"appendonly": "yes", "appendfsync": policy}
        with bench.server(kind, **directives) as server:
            for pipeline in PIPELINES:
                # An fsync each: a few thousand a second at most, so fewer requests will do.
                count = bench.scale.requests // (4 if policy == "always" else 1)
                for row in redis_benchmark(server, ("set",), count, pipeline):
                    yield from _samples(policy, pipeline, row)
