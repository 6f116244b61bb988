"""BGSAVE and loading: the time, the pause that clients feel, the memory the child copies."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from benchmarks.measure import Bench, Sample
from tests.interop.harness import Kind, Server, wait_until

LONG_S = 120


class Pinger:
    """One client that pings without a break and keeps the longest wait for an answer.

    What fork and the snapshot cost is felt as a pause, which no server-side counter shows whole.
    """

    def __init__(self, server: Server) -> None:
        self.longest_ms = 0.0
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

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = time.perf_counter()
            self._socket.sendall(b"PING\r\n")
            self._socket.recv(64)
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - asked) * 1e3)
            time.sleep(0.0005)  # a client, not a load


def bgsave(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Save the string dataset in the background while one client pings."""
    case = bench.data_name
    with bench.server_with_data(kind) as server:
        (server.folder / "dump.rdb").unlink()  # so that the size below is that of a new file
        with Pinger(server) as pinger:
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
        yield Sample(case, "longest pause of a client", "ms", pinger.longest_ms)
        yield Sample(case, "copied by the child", "MB", persistence["rdb_last_cow_size"] / 1e6)
        yield Sample(case, "file", "MB", (server.folder / "dump.rdb").stat().st_size / 1e6)


def load(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Start on an empty folder and on the string dataset; from exec to the first PONG.

    A first start is not counted: it finds the program on disk, not in memory.
    """
    with bench.server(kind):
        pass
    for case, server in (
        ("empty", bench.server(kind)),
        (bench.data_name, bench.server_with_data(kind)),
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
