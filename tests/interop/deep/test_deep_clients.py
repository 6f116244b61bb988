"""redis-benchmark at length: its default list without an error, and how GET and SET compare.

Run by `make deep`; each test prints its figures.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.measure import Bench, Sample, run_interleaved
from benchmarks.requests import PIPELINES, redis_benchmark
from tests.interop.conftest import NO_KVREPL, Launcher
from tests.interop.deep.workload import ratio_lines
from tests.interop.harness import Kind, Tell
from tests.interop.test_clients import benchmark

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900), NO_KVREPL]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_redis_benchmark_runs_its_default_list_at_length_without_an_error(
    launch: Launcher, tell: Tell, pipeline: int
) -> None:
    server = launch("kvrepl")
    errors = server.info("stats")["total_error_replies"]  # of this client's own greeting

    rows = benchmark(server, "-n", "50000", "-r", "100000", "-P", str(pipeline))

    assert len(rows) == 20
    assert server.info("stats")["total_error_replies"] == errors
    figures = ", ".join(
        f"{row['test'].partition(' (')[0]} {float(row['rps']):,.0f}" for row in rows
    )
    tell(f"redis-benchmark -P {pipeline}, requests/s: {figures}")


def test_get_and_set_keep_a_share_of_redis_throughput(bench: Bench, tell: Tell) -> None:
    def get_and_set(bench: Bench, kind: Kind) -> Iterator[Sample]:
        with bench.server(kind) as server:
            for pipeline in PIPELINES:
                count = bench.scale.requests * pipeline
                for row in redis_benchmark(server, ("set", "get"), count, pipeline):
                    rps = float(row["rps"])
                    yield Sample(row["test"], f"-P {pipeline}", "requests/s", rps, True)

    rows = run_interleaved(get_and_set, bench, ("redis", "kvrepl"), tell)

    tell(ratio_lines("50 clients, 64-byte values:", rows))
    # Far below what is measured on a quiet machine: this catches a lost fast path, not a percent.
    assert min(row.ratio() or 0 for row in rows) > 0.2
