"""What a client of a server waits, measured from a process of its own.

    Prober (in the benchmark)  --starts-->  this file as a program  --GET, one by one-->  server

The program asks something every half millisecond and keeps how long each answer took. What fork
and a snapshot cost is felt as a pause, which no counter of a server shows whole.

- Each wait counts from when the request was due: those that a pause has kept from being sent have
  waited as well. A stall of 5 ms so gives waits of 5, 4.5, 4, ... ms, and a percentile of a run is
  that of the time in which the server could have been asked, exact to the period: with 99.9 %
  and a run of 2 s, the wait that is exceeded at 2 ms of it.
- It shares nothing with the benchmark, whose own work (polls, reading logs) would else hold the
  interpreter's lock when an answer comes, and be taken for the server's.
- It costs a twentieth of a core or so (`cpu_share`), which is the same whomever it asks.

The program needs nothing but the standard library, so that it is there at once.
"""

from __future__ import annotations

import gc
import resource
import socket
import subprocess
import sys
import threading
import time
from array import array
from math import ceil
from types import TracebackType
from typing import BinaryIO, Self

PERIOD_S = 0.0005
ANSWER_BYTES = 1024
READY = b"ready\n"


class Prober:
    """One client that asks something all the while; a context manager.

    Args:
        port: of the server on this machine that it asks.
        request: with the answer in one piece, of at most ANSWER_BYTES.
        period_s: from one request to the next.

    Attributes:
        began_s: when the first request was due, by time.perf_counter.
        waits_ms: how long each took, in order; the i-th was due at began_s + i * period_s.
        cpu_share: how much of a core the program itself took.
    """

    def __init__(
        self, port: int, request: bytes = b"PING\r\n", *, period_s: float = PERIOD_S
    ) -> None:
        self.began_s = 0.0
        self.waits_ms = array("d")
        self.cpu_share = 0.0
        self._period_s = period_s
        self._argv = [sys.executable, "-IS", __file__, str(port), request.hex(), str(period_s)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it; returns when it has its first answer."""
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdout is not None
        if self._process.stdout.read(len(READY)) != READY:
            self._process.communicate()
            raise RuntimeError(f"the prober did not start: {self._argv}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        told, _ = self._process.communicate()  # the end of its input ends it
        if kind is None:
            assert self._process.returncode == 0, "the prober failed"
            numbers = array("d")
            numbers.frombytes(told)
            self.began_s, self.cpu_share, *_ = numbers
            self.waits_ms = numbers[2:]

    def between(self, from_s: float, to_s: float) -> Waits:
        """Give the waits of the requests that were due in a span, by time.perf_counter."""
        first, end = (ceil((at - self.began_s) / self._period_s) for at in (from_s, to_s))
        return Waits(self.waits_ms[max(first, 0) : max(end, 0)])


class Waits:
    """The waits of one span, in milliseconds, at least one."""

    def __init__(self, waits_ms: array[float]) -> None:
        self._sorted_ms = sorted(waits_ms)

    @property
    def longest_ms(self) -> float:
        """The longest."""
        return self._sorted_ms[-1]

    def percentile_ms(self, percent: float) -> float:
        """Give the wait that so many percent were not longer than. O(1)."""
        waits = self._sorted_ms
        return waits[min(len(waits) - 1, int(len(waits) * percent / 100))]


def probe(port: int, request: bytes, period_s: float, until: BinaryIO, out: BinaryIO) -> None:
    """Ask until there is no more input; then write began_s, cpu_share and the waits as doubles."""
    stopped = threading.Event()

    def wait_for_end() -> None:
        until.read()
        stopped.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    waits_ms = array("d")
    clock, is_stopped = time.perf_counter, stopped.is_set
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sendall(request)
        server.recv(ANSWER_BYTES)
        out.write(READY)
        out.flush()
        gc.disable()
        began_s = due_s = clock()
        while True:
            server.sendall(request)
            server.recv(ANSWER_BYTES)
            now_s = clock()
            waits_ms.append((now_s - due_s) * 1e3)
            due_s += period_s
            if due_s > now_s:  # else a pause has kept requests back, which are still to be sent
                if is_stopped():
                    break
                time.sleep(due_s - now_s)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_share = (used.ru_utime + used.ru_stime) / (clock() - began_s)
    out.write(array("d", [began_s, cpu_share]).tobytes() + waits_ms.tobytes())
    out.flush()


if __name__ == "__main__":
    probe(
        int(sys.argv[1]),
        bytes.fromhex(sys.argv[2]),
        float(sys.argv[3]),
        sys.stdin.buffer,
        sys.stdout.buffer,
    )
