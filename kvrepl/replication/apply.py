"""Counting what has been applied of a master's stream.

The shell parses the stream and runs its commands; this decides which bytes count. A command
counts when it has run, and within MULTI nothing counts before EXEC has: a link that breaks
inside a transaction is so resumed at its MULTI, and never in the middle of it.

Source: Redis 7.0, networking.c (commandProcessed).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class StreamApplyState:
    """Bytes run but not counted yet. One for each established link (LinkUp to LinkDown)."""

    __slots__ = ("uncounted",)

    def __init__(self) -> None:
        self.uncounted = 0

    def ran(self, count: int, *, in_multi: bool) -> int:
        """A command has run, or was queued in a MULTI.

        Args:
            count: its bytes, with line ends that stood before it.
            in_multi: whether a transaction is open *after* it: true for MULTI and what is
                queued, false for EXEC.

        Returns:
            The bytes that count now, to be told to ReplicaSide.applied; may be 0. O(1).
        """
        self.uncounted += count
        if in_multi:
            return 0
        counted, self.uncounted = self.uncounted, 0
        return counted


class Unapplied:
    """Stream bytes handed to the shell and not reported as applied yet.

    Attributes:
        bytes: how many.
    """

    __slots__ = ("_pieces", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._pieces: deque[bytes] = deque()

    def add(self, data: bytes) -> None:
        """Note what is handed to the shell. O(1)."""
        self._pieces.append(data)
        self.bytes += len(data)

    def take(self, count: int) -> Iterator[bytes]:
        """Give the first `count` bytes, which have been applied; all must be taken.

        Cost: O(1) where count covers what came in one read.
        """
        assert 0 <= count <= self.bytes, (count, self.bytes)
        self.bytes -= count
        pieces = self._pieces
        while count:
            data = pieces.popleft()
            if len(data) > count:
                pieces.appendleft(data[count:])
                data = data[:count]
            count -= len(data)
            yield data

    def clear(self) -> None:
        """Forget them: the link has ended, and they are asked for again."""
        self._pieces.clear()
        self.bytes = 0
