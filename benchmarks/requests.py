"""Requests a second and their latency, as redis-benchmark sees them: 50 clients, 64-byte values."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator

from benchmarks.measure import VALUE_BYTES, Bench, Sample
from tests.interop.harness import Kind, Server

CLIENTS = 50
PIPELINES = (1, 16)
KEYSPACE = 100_000
TESTS = (
    *("ping_mbulk", "set", "get", "incr", "lpush", "rpush", "lpop", "rpop", "sadd", "hset"),
    *("spop", "zadd", "lrange_100", "mset"),
)


def redis_benchmark(
    server: Server, tests: tuple[str, ...], requests: int, pipeline: int
) -> Iterator[dict[str, str]]:
    """Run redis-benchmark; yield its CSV rows (test, rps, avg_latency_ms, p99_latency_ms, ...)."""
    argv = ["redis-benchmark", "-p", str(server.port), "-c", str(CLIENTS), "-n", str(requests)]
    argv += ["-P", str(pipeline), "-r", str(KEYSPACE), "-d", str(VALUE_BYTES)]
    run = subprocess.run(
        [*argv, "-t", ",".join(tests), "--csv"], capture_output=True, text=True, check=True
    )
    assert "Error" not in run.stdout, run.stdout
    for row in csv.DictReader(run.stdout.splitlines()):
        if "needed to benchmark" not in row["test"]:
            yield row


def _samples(case: str, pipeline: int, row: dict[str, str]) -> Iterator[Sample]:
    how = "unpipelined" if pipeline == 1 else f"{pipeline} at a time"
    yield Sample(case, f"throughput, {how}", "requests/s", float(row["rps"]), True)
    yield Sample(case, f"p99, {how}", "ms", float(row["p99_latency_ms"]))


def requests(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Measure each command, unpipelined and 16 at a time."""
    with bench.server(kind) as server:
        for pipeline in PIPELINES:
            count = bench.scale.requests * (1 if pipeline == 1 else 4)
            for row in redis_benchmark(server, TESTS, count, pipeline):
                yield from _samples(row["test"], pipeline, row)


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
