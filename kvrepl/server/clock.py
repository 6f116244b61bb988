"""The one real clock."""

from __future__ import annotations

import time

from kvrepl.clock import Clock


class RealClock(Clock):
    """The clock of the operating system."""

    monotonic_ns = staticmethod(time.monotonic_ns)

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000
