"""BGSAVE and loading: the time, the pause that clients feel, the memory the child copies."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from benchmarks.measure import Bench, Data, Sample
from tests.interop.harness import Kind, Server, wait_until

LONG_S = 120
DATASETS: tuple[Data, ...] = ("strings", "mixed")


class Prober:
    """One client that asks something a thousand times a second and keeps how long each took.

    What fork and the snapshot cost is felt as a pause, which no server-side counter shows whole.
    Each wait counts from when the request was due: those that a pause has kept from being sent
    have waited as well.

    Args:
        server: whom it asks.
        request: with the answer in one piece, of at most ANSWER_BYTES.
    """

    PERIOD_S = 0.001
    ANSWER_BYTES = 1024

    def __init__(self, server: Server, request: bytes = b"PING\r\n") -> None:
        self.waits_ms: list[float] = []
        self._request = request
        self._stop = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    @property
    def longest_ms(self) -> float:
        """The longest wait."""
        return max(self.waits_ms)

    def percentile_ms(self, percent: float) -> float:
        """Give the wait that so many percent were not longer than. O(n log n)."""
        waits = sorted(self.waits_ms)
        return waits[min(len(waits) - 1, int(len(waits) * percent / 100))]

    def _run(self) -> None:
        due_s = time.perf_counter()
        while not self._stop.is_set():
            self._socket.sendall(self._request)
            self._socket.recv(self.ANSWER_BYTES)
            now_s = time.perf_counter()
            self.waits_ms.append((now_s - due_s) * 1e3)
            due_s += self.PERIOD_S
            if due_s > now_s:
                time.sleep(due_s - now_s)


def bgsave(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Save each dataset in the background while one client pings."""
    for data in DATASETS:
        yield from _bgsave(bench, kind, data)


def _bgsave(bench: Bench, kind: Kind, data: Data) -> Iterator[Sample]:
    case = bench.data_name(data)
    with bench.server_with_data(kind, data) as server:
        (server.folder / "dump.rdb").unlink()  # so that the size below is that of a new file
        with Prober(server) as prober:
            started = time.perf_counter()
            server.call("BGSAVE")
            wait_until(
                lambda: not server.info("persistence")["rdb_bgsave_in_progress"],
                "the save has ended",
                server,
                timeout_s=LONG_S,
                poll_s=0.02,
            )
            elapsed_s = time.perf_counter() - started
        persistence = server.info("persistence")
        assert persistence["rdb_last_bgsave_status"] == "ok", server.log_tail()
        yield Sample(case, "time", "s", elapsed_s)
        yield Sample(case, "fork", "ms", server.info("stats")["latest_fork_usec"] / 1e3)
        yield Sample(case, "longest pause of a client", "ms", prober.longest_ms)
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
