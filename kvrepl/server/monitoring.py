"""The slow log and the latency monitor.

    slow log   the last commands that took longer than slowlog-log-slower-than microseconds
    latency    for each event, the spikes of the last 160 seconds in which there was one

Both hear of a command only when it took as long as the lower of their thresholds, which dispatch
checks with one comparison.

Source: Redis 7.0 slowlog.c, latency.c.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.spec import Command
    from kvrepl.server.app import Server

NEVER_NS: Final = 1 << 62
ARGUMENTS_MAX: Final = 32
ARGUMENT_BYTES_MAX: Final = 128
LATENCY_SAMPLES: Final = 160


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """An entry of the slow log."""

    number: int
    time_s: int
    duration_us: int
    argv: list[bytes]
    address: bytes
    name: bytes


@dataclass(slots=True)
class LatencyEvent:
    """The spikes of one event: (Unix second, worst ms of that second), and the worst ever."""

    samples: deque[tuple[int, int]]
    max_ms: int = 0


class Monitoring:
    """What was slow.

    Attributes:
        slowlog: entries, the newest first.
        latency: event -> its spikes.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.slowlog: deque[SlowCommand] = deque()
        self.latency: dict[bytes, LatencyEvent] = {}
        self._number = 0
        server.engine.on_slow = self._slow
        server.engine.on_spike = lambda event, spent_ns: self.spike(event, spent_ns // 1_000_000)

    def apply_settings(self) -> None:
        """Take the thresholds from the configuration."""
        config = self._server.config
        threshold = NEVER_NS
        if config.slowlog_log_slower_than >= 0:
            threshold = config.slowlog_log_slower_than * 1_000
        if config.latency_monitor_threshold:
            threshold = min(threshold, config.latency_monitor_threshold * 1_000_000)
        self._server.engine.slow_ns = threshold
        while len(self.slowlog) > config.slowlog_max_len:
            self.slowlog.pop()

    def _slow(self, client: Client, command: Command, argv: Sequence[bytes], spent_ns: int) -> None:
        config = self._server.config
        limit_us = config.slowlog_log_slower_than
        if 0 <= limit_us * 1_000 <= spent_ns and "skip_slowlog" not in command.flags:
            self._note_slow(client, argv, spent_ns // 1_000)

    def _note_slow(self, client: Client, argv: Sequence[bytes], duration_us: int) -> None:
        config = self._server.config
        if not config.slowlog_max_len:
            return
        shown = [_shorten(argument) for argument in argv[:ARGUMENTS_MAX]]
        if len(argv) > ARGUMENTS_MAX:
            shown[-1] = b"... (%d more arguments)" % (len(argv) - ARGUMENTS_MAX + 1)
        now_s = self._server.engine.keyspace.now_ms // 1000
        self.slowlog.appendleft(
            SlowCommand(self._number, now_s, duration_us, shown, client.addr, client.name)
        )
        self._number += 1
        while len(self.slowlog) > config.slowlog_max_len:
            self.slowlog.pop()

    def spike(self, event: bytes, ms: int) -> None:
        """Something took `ms` milliseconds; noted if the latency monitor asks for that much."""
        threshold = self._server.config.latency_monitor_threshold
        if not threshold or ms < threshold:
            return
        found = self.latency.get(event)
        if found is None:
            found = self.latency[event] = LatencyEvent(deque(maxlen=LATENCY_SAMPLES))
        found.max_ms = max(found.max_ms, ms)
        now_s = self._server.engine.keyspace.now_ms // 1000
        if found.samples and found.samples[-1][0] == now_s:
            if ms > found.samples[-1][1]:
                found.samples[-1] = (now_s, ms)
        else:
            found.samples.append((now_s, ms))


def _shorten(argument: bytes) -> bytes:
    if len(argument) <= ARGUMENT_BYTES_MAX:
        return argument
    more = len(argument) - ARGUMENT_BYTES_MAX
    return argument[:ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % more
