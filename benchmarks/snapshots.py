"""BGSAVE and loading: the time, the pause that clients feel, the memory the child copies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from benchmarks.measure import Bench, Data, Sample
from benchmarks.prober import Prober
from tests.interop.harness import Kind

LONG_S = 120
DATASETS: tuple[Data, ...] = ("strings", "mixed")


def bgsave(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Save each dataset in the background while one client pings."""
    for data in DATASETS:
        yield from _bgsave(bench, kind, data)


def _bgsave(bench: Bench, kind: Kind, data: Data) -> Iterator[Sample]:
    case = bench.data_name(data)
    with bench.server_with_data(kind, data) as server:
        (server.folder / "dump.rdb").unlink()  # so that the size below is that of a new file
        with Prober(server.port) as prober:
            started = time.perf_counter()
            server.call("BGSAVE")
            # The log is watched, and not INFO: to answer it is work that a client would wait for.
            server.wait_log("Background saving terminated with success", timeout_s=LONG_S)
            ended = time.perf_counter()
        persistence = server.info("persistence")
        assert persistence["rdb_last_bgsave_status"] == "ok", server.log_tail()
        yield Sample(case, "time", "s", ended - started)
        yield Sample(case, "fork", "ms", server.info("stats")["latest_fork_usec"] / 1e3)
        waits = prober.between(started, ended)
        yield Sample(case, "longest pause of a client", "ms", waits.longest_ms)
        yield Sample(case, "copied by the child", "MB", persistence["rdb_last_cow_size"] / 1e6)
        copied = persistence["rdb_last_cow_size"] / server.info("memory")["used_memory_rss"]
        yield Sample(case, "copied, of the resident set", "%", copied * 100)
        yield Sample(case, "file", "MB", (server.folder / "dump.rdb").stat().st_size / 1e6)


def load(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Start on an empty folder and on each dataset; from exec to the first PONG.

    A first start is not counted: it finds the program on disk, not in memory.
    """
    with bench.server(kind):
        pass
    for case, server in (
        ("empty", bench.server(kind)),
        *((bench.data_name(data), bench.server_with_data(kind, data)) for data in DATASETS),
    ):
        started = time.perf_counter()
        try:
            server.start(timeout_s=LONG_S)
            yield Sample(case, "start to first PONG", "s", time.perf_counter() - started)
            told = re.search(r"DB loaded from disk: ([\d.]+) seconds", server.log_text())
            if told:
                yield Sample(case, "loading alone", "s", float(told[1]))
        finally:
            server.close()
