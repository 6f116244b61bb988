"""One full sync as either end sees it: its phases, how far it is, how long it will take.

    phase      the master's end                        the replica's end
    wait       no snapshot has been begun for it       from PSYNC to the first byte
    save       the child writes the file               (part of wait: it cannot be seen)
    transfer   the snapshot is being sent              the snapshot arrives
    load       sent; the first ACK has not come        the dataset is replaced

A diskless transfer has no size until it ends. Its progress on the master is that of the child
(keys written of all keys); on the replica it is a guess, and said to be one (see `preview`).

Invariant: phases are entered in the order of the table, each at most once.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Phase(Enum):
    """A part of a full sync; the value is its name in INFO and in the log."""

    WAIT = "wait"
    SAVE = "save"
    TRANSFER = "transfer"
    LOAD = "load"


_ORDER: Final = list(Phase)


class FullSync:
    """A full sync under way, or the last one that ended.

    Args:
        reason: why it is needed.
        now_ms: when it was asked for.
        peer: who is at the other end.

    Attributes:
        phase: where it is.
        began_ms: when it was asked for.
        spent_ms: how long each phase took that is over.
        size_bytes: the size of the snapshot; -1 where it is not known beforehand.
        moved_bytes: what of it has been sent, or has come.
        expected_bytes: a guess of the size where it is not known; 0 where there is none.
    """

    __slots__ = (
        "_since_ms",
        "began_ms",
        "expected_bytes",
        "moved_bytes",
        "peer",
        "phase",
        "reason",
        "size_bytes",
        "spent_ms",
    )

    def __init__(self, reason: str, now_ms: int, peer: str) -> None:
        self.reason = reason
        self.peer = peer
        self.phase = Phase.WAIT
        self.began_ms = now_ms
        self.spent_ms: dict[Phase, int] = {}
        self.size_bytes = -1
        self.moved_bytes = 0
        self.expected_bytes = 0
        self._since_ms = now_ms

    def enter(self, phase: Phase, now_ms: int) -> None:
        """The phase before has ended."""
        assert _ORDER.index(phase) > _ORDER.index(self.phase), (self.phase, phase)
        self._close_phase(now_ms)
        self.phase = phase

    def end(self, now_ms: int) -> None:
        """It has succeeded."""
        self._close_phase(now_ms)

    def _close_phase(self, now_ms: int) -> None:
        self.spent_ms[self.phase] = now_ms - self._since_ms
        self._since_ms = now_ms

    @property
    def diskless(self) -> bool:
        """Whether the snapshot comes with a mark at its end."""
        return self.size_bytes < 0

    @property
    def total_ms(self) -> int:
        """How long all phases took that are over."""
        return sum(self.spent_ms.values())

    def progress(self, now_ms: int, child_fraction: float = 0.0) -> Progress:
        """Tell how much of the present phase is done, and when it will be. O(1).

        Args:
            now_ms: the present.
            child_fraction: how much of its keys our own child has written; 0 on a replica.
        """
        total_bytes = self.expected_bytes if self.diskless else self.size_bytes
        fraction = 0.0
        if self.phase is Phase.SAVE:
            fraction = child_fraction
        elif self.phase is Phase.TRANSFER:
            # A guess can be too small; what has not ended is not done.
            fraction = min(0.99, self.moved_bytes / total_bytes) if total_bytes else child_fraction
        if not 0.0 < fraction < 1.0:
            return Progress(fraction, -1)
        return Progress(fraction, int((now_ms - self._since_ms) * (1 / fraction - 1) / 1000))

    def told(self) -> str:
        """Return the log's account of one that has ended."""
        phases = ", ".join(f"{phase.value} {ms} ms" for phase, ms in self.spent_ms.items())
        framing = "diskless" if self.diskless else "from disk"
        return f"{self.moved_bytes} bytes {framing} in {self.total_ms} ms ({phases})"


class Progress(NamedTuple):
    """How far a phase is.

    Attributes:
        fraction: done, from 0 to 1; 0 where that cannot be told.
        eta_s: seconds until the phase ends, at the speed so far; -1 where that cannot be told.
    """

    fraction: float
    eta_s: int
