"""Time as an argument: what the pure rooms know of a clock.

The shell owns the only real clock (`kvrepl.server.clock`); tests and simulations pass their own.
`now_ms` is Unix time in milliseconds and may jump; `monotonic_ns` never goes back and is only
good for spans.
"""

from __future__ import annotations

from typing import Final, Protocol

FRESH_NS: Final = 100_000
"""How long a time that was taken serves the batches that follow (a tenth of what it counts in)."""


class Clock(Protocol):
    """A source of time."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on a clock that never goes back."""
