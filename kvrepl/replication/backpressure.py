"""Backpressure: writers wait for a replica that nears its output limit (repl-backpressure).

A replica that reads more slowly than clients write gathers a lag. At the limit of
client-output-buffer-limit it is disconnected, by then often too late for a partial
resynchronization, and the full one that follows gathers the next lag. With backpressure the
writers are held back instead, which brings them down to the speed of the replica:

    IDLE       --lag >= 3/4 of the limit--------------> DELAYING: writers are paused
    DELAYING   --lag <= 5/8 of it, or nobody lags-----> IDLE
    DELAYING   --for repl-backpressure-max-delay------> GIVEN_UP: the old rule holds
    GIVEN_UP   --lag <= 5/8 of it---------------------> IDLE

The two marks are near each other, so that a pause is short; what lies above the upper one has room
for what a turn may still bring. Nothing waits for anything but the replica: reads, replicas and our
own master go on, and a replica that leaves, or a setting turned off, ends the delay at once.

A replica of ours that lags while we follow a master ourselves is under the old rule: our master's
stream cannot be held back from here.

Source: ours; Redis 7.0 has the limit alone (networking.c, checkClientOutputBufferLimits).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from kvrepl.replication.actions import (
    Actions,
    Level,
    Log,
    Pause,
    PauseWrites,
    ResumeWrites,
    warning,
)
from kvrepl.replication.links import ReplicaLink
from kvrepl.replication.settings import ReplicationSettings

LOG_PERIOD_MS: Final = 60_000
"""A delay is told of as a notice once in this time; those in between are verbose."""


class Pressure(Enum):
    """Whether writers wait; the value is what INFO says."""

    IDLE = "idle"
    DELAYING = "delaying"
    GIVEN_UP = "given_up"


class Backpressure:
    """Decides when writers are held back.

    Args:
        settings: read at each use.

    Attributes:
        state: where it is.
        lag_bytes: what the slowest replica lacked at the last look.
        limit_bytes: the limit that it neared.
        delays: how often writers were held back; delayed_ms: for how long, up to the last end.
    """

    __slots__ = (
        "_noticed_ms", "_settings", "_since_ms", "delayed_ms", "delays", "lag_bytes",
        "limit_bytes", "state",
    )  # fmt: skip

    def __init__(self, settings: ReplicationSettings) -> None:
        self.state = Pressure.IDLE
        self.lag_bytes = 0
        self.limit_bytes = 0
        self.delays = 0
        self.delayed_ms = 0
        self._settings = settings
        self._since_ms = 0
        self._noticed_ms = -LOG_PERIOD_MS

    @property
    def watches(self) -> bool:
        """Whether `update` has anything to do. O(1)."""
        return self._settings.repl_backpressure or self.state is not Pressure.IDLE

    def delaying_ms(self, now_ms: int) -> int:
        """How long writers have been waiting now; 0 where they do not. O(1)."""
        return now_ms - self._since_ms if self.state is Pressure.DELAYING else 0

    def update(self, replicas: Iterable[ReplicaLink], limit_bytes: int, now_ms: int) -> Actions:
        """Look at the lags; once a turn, after the sockets have been given what they take.

        Args:
            replicas: those that the stream originating here is written to; none on a replica.
            limit_bytes: the lowest limit of a replica's output that is set, 0 for none.

        Cost: O(replicas).
        """
        slowest = max(replicas, key=_lag, default=None)
        self.lag_bytes = slowest.lag_bytes if slowest is not None else 0
        self.limit_bytes = limit_bytes if self._settings.repl_backpressure else 0
        limit_bytes = self.limit_bytes
        if self.state is Pressure.IDLE:
            if slowest is not None and limit_bytes and 4 * self.lag_bytes >= 3 * limit_bytes:
                return self._begin(slowest, now_ms)
            return []
        if not limit_bytes or 8 * self.lag_bytes <= 5 * limit_bytes:
            return self._end(Pressure.IDLE, now_ms)
        if self.delaying_ms(now_ms) > self._settings.repl_backpressure_max_delay:
            return [self._surrender(slowest), *self._end(Pressure.GIVEN_UP, now_ms)]
        return []

    def _begin(self, slowest: ReplicaLink, now_ms: int) -> Actions:
        self.state = Pressure.DELAYING
        self._since_ms = now_ms
        self.delays += 1
        level = Level.VERBOSE
        if now_ms - self._noticed_ms >= LOG_PERIOD_MS:
            self._noticed_ms, level = now_ms, Level.NOTICE
        text = (
            f"Writers wait for replica {slowest.name}, which lacks {self.lag_bytes} bytes: its "
            f"limit is {self.limit_bytes} (repl-backpressure)"
        )
        return [Log(level, text), PauseWrites(Pause.BACKPRESSURE)]

    def _end(self, state: Pressure, now_ms: int) -> Actions:
        was, self.state = self.state, state
        if was is not Pressure.DELAYING:
            return []
        self.delayed_ms += now_ms - self._since_ms
        return [ResumeWrites(Pause.BACKPRESSURE)]

    def _surrender(self, slowest: ReplicaLink | None) -> Log:
        assert slowest is not None  # whom else would the writers wait for
        return warning(
            f"Writers have waited for replica {slowest.name} for more than "
            f"{self._settings.repl_backpressure_max_delay} ms (repl-backpressure-max-delay) and go "
            f"on; it lacks {self.lag_bytes} bytes and will be disconnected at the limit"
        )


def _lag(replica: ReplicaLink) -> int:
    return replica.lag_bytes
