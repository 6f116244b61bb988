"""The stream a server hands down: its history, its backlog and the database it is on.

A master *originates*: `feed` encodes nothing, it appends a command that is encoded already,
preceded by SELECT where the command is for another database than the last one. A replica
*relays*: the bytes of its master go to its own backlog unchanged, which keeps offsets and ids
the same down a chain, and it never adds a byte of its own.

Without a backlog nothing is fed and the offset stands still. We can't have replicas attached
and no backlog: the first replica that asks makes one, and it is freed only where none is left
or all have just been disconnected.

Invariants: backlog.end == history.offset; selected_db is -1 (the next command must SELECT) or
the database that every reader of the stream is on.

Source: Redis 7.0, replication.c (replicationFeedSlaves, replicationFeedStreamFromMasterStream,
createReplicationBacklog, freeReplicationBacklog).
"""

from __future__ import annotations

from typing import Final

from kvrepl.replication import wire
from kvrepl.replication.backlog import Backlog
from kvrepl.replication.history import History

ANY_DB: Final = -1
"""The database of stream bytes that belong to none (ping, GETACK): no SELECT precedes them."""


class Stream:
    """What this server hands down to its replicas.

    Args:
        history: the ids and the offset; shared with the rest of this package.
        backlog_limit_bytes: repl-backlog-size.
    """

    __slots__ = ("_limit_bytes", "_sink", "backlog", "history", "originates", "selected_db")

    def __init__(self, history: History, backlog_limit_bytes: int) -> None:
        self.history = history
        self.backlog: Backlog | None = None
        self.selected_db = ANY_DB
        self.originates = True
        self._limit_bytes = backlog_limit_bytes
        self._sink: Backlog | None = None

    # hot: every write of a master comes through here.
    def feed(self, db: int, data: bytes) -> None:
        """Append a command that this master originates; nothing on a replica.

        Args:
            db: the database it is for, or ANY_DB.
            data: the command as a RESP array.

        Cost: O(1), see Backlog.feed.
        """
        backlog = self._sink
        if backlog is None:
            return
        if db != self.selected_db and db >= 0:
            self.selected_db = db
            backlog.feed(wire.select(db))
        backlog.feed(data)
        self.history.offset = backlog.end

    def relay(self, data: bytes) -> None:
        """Append bytes of the master's stream that have been applied here. O(1)."""
        backlog = self.backlog
        assert backlog is not None and not self.originates
        backlog.feed(data)
        self.history.offset = backlog.end

    def force_select(self) -> None:
        """Have the next command preceded by SELECT: a new reader knows of no database yet."""
        self.selected_db = ANY_DB

    def set_originates(self, originates: bool) -> None:
        """Become the source of the stream (a master) or a relay of it (a replica)."""
        self.originates = originates
        self._sink = self.backlog if originates else None

    def create_backlog(self) -> None:
        """Begin to keep the stream at the present offset, where that is not done already."""
        if self.backlog is None:
            self.backlog = Backlog(self._limit_bytes, self.history.offset)
            self._sink = self.backlog if self.originates else None

    def free_backlog(self) -> None:
        """Keep nothing any more. No replica may be reading."""
        self.backlog = None
        self._sink = None

    def resize_backlog(self, limit_bytes: int) -> None:
        """Apply a changed repl-backlog-size. O(blocks dropped)."""
        self._limit_bytes = limit_bytes
        if self.backlog is not None:
            self.backlog.resize(limit_bytes)

    def resumable(self, replid: bytes, offset: int) -> bool:
        """Tell whether a replica at (`replid`, `offset`) can be served from the backlog. O(1)."""
        return (
            self.backlog is not None
            and self.history.continues(replid, offset)
            and self.backlog.covers(offset)
        )
