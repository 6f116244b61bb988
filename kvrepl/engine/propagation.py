"""What goes to the replicas and into the AOF, and in which form.

While a top-level command runs, operations gather in `ops`; when it is over `flush()` hands them to
the sinks: a single one bare, two or more wrapped in MULTI and EXEC, so that a replica applies all
of them or none. By default a command that made the dataset dirtier is propagated as it came; a
handler that must be sent otherwise (relative times, random picks, blocking forms) says so:

    instead(argv, ...)   send these in its place
    nothing()            send nothing in its place
    also(db, argv)       send this as well, before it
    force(targets)       send it though nothing got dirtier (PUBLISH, FLUSHALL)
    only(targets)        leave the other targets out

Operations of keys that expired while a command ran stand before its own, as in Redis.

Source: Redis 7.0 server.c (call, alsoPropagate, propagatePendingCommands).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from kvrepl.resp import encode_command

AOF: Final = 1
REPLICAS: Final = 2
BOTH: Final = AOF | REPLICAS

ANY_DB: Final = -1
"""The database of an operation for which it does not matter (MULTI, EXEC)."""

_MULTI: Final = encode_command([b"MULTI"])
_EXEC: Final = encode_command([b"EXEC"])


class Stream(Protocol):
    """Where propagated commands go: the replication backlog, the AOF."""

    def feed(self, db: int, encoded: bytes) -> None:
        """Append commands; selects the database first where it is not the current one.

        Args:
            db: the number of the database of all of them, ANY_DB where it does not matter.
            encoded: one or more whole commands as RESP.
        """


class Propagation:
    """Gathers what one top-level command propagates.

    Attributes:
        targets: who listens at all now (AOF, REPLICAS); 0 makes everything here a no-op.
        ops: (db, argv, targets) gathered so far.
    """

    __slots__ = ("_aof", "_forced", "_instead", "_only", "_replicas", "_wrap", "ops", "targets")

    def __init__(self) -> None:
        self.targets = 0
        self.ops: list[tuple[int, Sequence[bytes], int]] = []
        self._aof: Stream | None = None
        self._replicas: Stream | None = None
        self._instead: tuple[Sequence[bytes], ...] | None = None
        self._forced = 0
        self._only = BOTH
        self._wrap = True

    def connect(self, *, aof: Stream | None, replicas: Stream | None) -> None:
        """Say who listens from now on; None for nobody."""
        self._aof = aof
        self._replicas = replicas
        self.targets = (AOF if aof is not None else 0) | (REPLICAS if replicas is not None else 0)

    # ------------------------------------------------------- said by handlers

    def instead(self, *commands: Sequence[bytes]) -> None:
        """Send these in place of the running command."""
        self._instead = commands

    def nothing(self) -> None:
        """Send nothing in place of the running command."""
        self._instead = ()

    def also(self, db: int, argv: Sequence[bytes], targets: int = BOTH) -> None:
        """Send this as well, before the running command."""
        if targets & self.targets:
            self.ops.append((db, argv, targets))

    def force(self, targets: int = BOTH) -> None:
        """Send the running command to these, even if it changed nothing."""
        self._forced |= targets

    def only(self, targets: int) -> None:
        """Send the running command to nobody but these."""
        self._only = targets

    def unwrapped(self) -> None:
        """Do not wrap what this command propagates (active expiry, eviction, SCAN)."""
        self._wrap = False

    # ------------------------------------------------------ said by dispatch

    @property
    def unusual(self) -> bool:
        """Whether the running command said anything about how it is to be sent."""
        return self._instead is not None or self._forced != 0 or self._only != BOTH

    def ended(self, db: int, argv: Sequence[bytes], dirtied: bool) -> None:
        """A command ended: note what is to be sent for it, and forget what it said."""
        targets = ((BOTH if dirtied else 0) | self._forced) & self._only & self.targets
        instead = self._instead
        self._instead = None
        self._forced = 0
        self._only = BOTH
        if not targets:
            return
        if instead is None:
            self.ops.append((db, argv, targets))
        else:
            for each in instead:
                self.ops.append((db, each, targets))

    def flush(self) -> None:
        """The top-level command is over: hand what gathered to the streams. O(bytes)."""
        ops = self.ops
        if len(ops) == 1:
            db, argv, targets = ops[0]
            self._emit(db, encode_command(argv), targets)
        elif ops:
            wrap = 0
            if self._wrap:
                for _, _, targets in ops:
                    wrap |= targets
                self._emit(ANY_DB, _MULTI, wrap)
            for db, argv, targets in ops:
                self._emit(db, encode_command(argv), targets)
            if wrap:
                self._emit(ANY_DB, _EXEC, wrap)
        ops.clear()
        self._wrap = True

    def feed(self, db: int, encoded: bytes) -> None:
        """Hand encoded commands on one database to everybody who listens, as they are. O(1)."""
        self._emit(db, encoded, self.targets)

    def _emit(self, db: int, encoded: bytes, targets: int) -> None:
        if targets & AOF and self._aof is not None:
            self._aof.feed(db, encoded)
        if targets & REPLICAS and self._replicas is not None:
            self._replicas.feed(db, encoded)
