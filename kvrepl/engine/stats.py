"""Counters of the engine, as INFO stats and errorstats show them."""

from __future__ import annotations

from typing import Final

from kvrepl.errors import CommandError

ERRORS_LIMIT: Final = 128
"""Kinds of errors counted one by one; a script could invent any number (Redis 7.0.12 on: 128)."""


class Stats:
    """Plain counters; each is raised where the thing happens.

    Attributes:
        error_counts: error code -> replies (INFO errorstats).
        errors: error replies in all.
        connections, rejected_connections: accepted and refused ones.
        net_in_bytes, net_out_bytes: of clients; repl_*: of replication links.
        reads, writes: pieces taken from sockets, and handed to them.
        evicted, evicted_clients: keys and clients evicted.
        expired_cycle_timeouts: expiry cycles that ran out of time.
    """

    __slots__ = (
        "connections", "error_counts", "errors", "evicted", "evicted_clients",
        "expired_cycle_timeouts", "net_in_bytes",
        "net_out_bytes", "reads", "rejected_connections", "repl_in_bytes",
        "repl_out_bytes", "unexpected_error_replies", "writes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.error_counts: dict[bytes, int] = {}
        self.reset()

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self.error_counts.clear()
        self.errors = 0
        self.connections = self.rejected_connections = 0
        self.net_in_bytes = self.net_out_bytes = 0
        self.repl_in_bytes = self.repl_out_bytes = 0
        self.reads = self.writes = 0
        self.evicted = self.evicted_clients = self.expired_cycle_timeouts = 0
        self.unexpected_error_replies = 0

    def error(self, error: CommandError) -> None:
        """Count an error reply under its code, the first word of its text.

        Forgets where it was raised: many errors are constants, and each `raise` of one would add
        to its traceback, which keeps alive every frame, and so every client, that ever met it.
        """
        error.__traceback__ = error.__context__ = error.__cause__ = None
        self.errors += 1
        code = error.text.partition(b" ")[0]
        counts = self.error_counts
        if code in counts or len(counts) < ERRORS_LIMIT:
            counts[code] = counts.get(code, 0) + 1
