"""The backlog: the last bytes of the stream, kept once for everybody who reads them.

One backlog serves PSYNC (a replica that comes back asks for what it missed) and is at the same
time the output buffer of every replica: a replica is a Cursor, an offset into it. Memory is
thus independent of the number of replicas.

Form

    start                                              end
      | block | block | ... | block | pieces not joined |

`start` and `end` are offsets (bytes of stream before them): the backlog holds the bytes between
the two and can serve any cursor with start <= offset <= end. What is fed is kept as it comes
and joined to a block when 16 KiB have gathered or when a reader wants it, so that a
small feed costs an append and nothing else; a feed of 16 KiB or more becomes a block of its own
without a copy.

Trimming drops whole blocks from the front while what remains is no less than the limit, but
never a byte that some cursor has not read: the backlog may so grow beyond its limit, and
the output buffer limit of that replica (`Cursor.lag_bytes`) is what ends it.

Invariants: the sizes of blocks and pieces add up to end - start; every cursor is within
[start, end]; bytes once handed out never change (they are `bytes`).

Source: Redis 7.0, replication.c (feedReplicationBuffer, incrementalTrimReplicationBacklog,
resizeReplicationBacklog).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from kvrepl.replication.wire import to_wire

BLOCK_BYTES: Final = 16 * 1024
"""Small feeds are joined to blocks of this size (Redis: PROTO_REPLY_CHUNK_BYTES)."""
MIN_LIMIT_BYTES: Final = 16 * 1024
"""The smallest backlog there is (Redis: CONFIG_REPL_BACKLOG_MIN_SIZE)."""


class Cursor:
    """One reader of a backlog. Made by `Backlog.cursor`; what it has not read is kept for it."""

    __slots__ = ("_backlog", "offset")

    def __init__(self, backlog: Backlog, offset: int) -> None:
        self._backlog = backlog
        self.offset = offset

    @property
    def lag_bytes(self) -> int:
        """Bytes that are there and not read: what this replica's output buffer holds. O(1)."""
        return self._backlog.end - self.offset

    def peek(self, max_bytes: int) -> list[bytes | memoryview]:
        """Return the next bytes without moving on.

        Args:
            max_bytes: how many at most.

        Returns:
            Pieces to be written in order, views of the shared blocks; empty where all is read.
            O(log blocks + pieces returned).
        """
        return self._backlog.read(self.offset, max_bytes)

    def advance(self, count: int) -> None:
        """Move on by `count` bytes that have been written, letting go of them.

        Cost: O(1) while the backlog is within its limit, else that of `Backlog.trim`.
        """
        backlog = self._backlog
        assert 0 <= count <= backlog.end - self.offset, (count, self.lag_bytes)
        self.offset += count
        if backlog.histlen > backlog.limit_bytes + BLOCK_BYTES:
            backlog.trim()

    def clone(self) -> Cursor:
        """Return another cursor at the same place. O(1)."""
        return self._backlog.cursor(self.offset)

    def close(self) -> None:
        """Let go of the bytes kept for this reader. May be called again. O(cursors)."""
        self._backlog.forget(self)


class Backlog:
    """The shared tail of the stream.

    Args:
        limit_bytes: how much to keep for replicas that come back; no less than 16 KiB.
        offset: bytes of the stream before the first one that will be fed.
    """

    __slots__ = ("_blocks", "_cursors", "_loose_bytes", "_pieces", "_starts", "end", "limit_bytes")

    def __init__(self, limit_bytes: int, offset: int) -> None:
        self.limit_bytes = max(limit_bytes, MIN_LIMIT_BYTES)
        self.end = offset
        self._blocks: list[bytes] = []
        # _starts[i] is the offset before _blocks[i]; one entry more than blocks, the last being
        # where the loose pieces begin. bisect needs them in a list of their own.
        self._starts = [offset]
        self._pieces: list[bytes] = []
        self._loose_bytes = 0
        self._cursors: list[Cursor] = []

    @property
    def start(self) -> int:
        """The offset before the first byte kept. O(1)."""
        return self._starts[0]

    @property
    def histlen(self) -> int:
        """Bytes kept. O(1)."""
        return self.end - self._starts[0]

    @property
    def first_byte_offset(self) -> int:
        """`repl_backlog_first_byte_offset` of INFO. O(1)."""
        return to_wire(self._starts[0])

    def covers(self, offset: int) -> bool:
        """Tell whether a reader that has `offset` bytes can go on from here. O(1)."""
        return self._starts[0] <= offset <= self.end

    # hot: every write of a master comes through here.
    def feed(self, data: bytes) -> None:
        """Append to the stream.

        Args:
            data: the bytes, which are kept, not copied, where they are 16 KiB or more.

        Cost: O(1) for small data, amortized; trimming is done once a block.
        """
        count = len(data)
        self._pieces.append(data)
        self.end += count
        self._loose_bytes += count
        if self._loose_bytes >= BLOCK_BYTES:
            self._join()

    def cursor(self, offset: int) -> Cursor:
        """Add a reader.

        Args:
            offset: bytes it has already; `covers(offset)` must hold.

        Returns:
            The cursor; close it when its replica goes. O(1).
        """
        assert self.covers(offset), (offset, self.start, self.end)
        cursor = Cursor(self, offset)
        self._cursors.append(cursor)
        return cursor

    def forget(self, cursor: Cursor) -> None:
        """Remove a reader and trim what was kept for it alone. O(cursors)."""
        if cursor in self._cursors:
            self._cursors.remove(cursor)
            self.trim()

    def resize(self, limit_bytes: int) -> None:
        """Change the limit; what is beyond a smaller one goes at once. O(blocks dropped)."""
        self.limit_bytes = max(limit_bytes, MIN_LIMIT_BYTES)
        self.trim()

    def read(self, offset: int, max_bytes: int) -> list[bytes | memoryview]:
        """Return up to `max_bytes` bytes of the stream after `offset`, as shared pieces."""
        if offset >= self.end or max_bytes <= 0:
            return []
        if offset + max_bytes > self._starts[-1]:
            self._join()
        views: list[bytes | memoryview] = []
        index = bisect_right(self._starts, offset) - 1
        skip = offset - self._starts[index]
        while max_bytes > 0 and index < len(self._blocks):
            block = self._blocks[index]
            taken = min(len(block) - skip, max_bytes)
            views.append(block if taken == len(block) else memoryview(block)[skip : skip + taken])
            max_bytes -= taken
            skip = 0
            index += 1
        return views

    def trim(self) -> None:
        """Drop from the front what is beyond the limit and read by all. O(cursors + dropped)."""
        excess = self.end - self._starts[0] - self.limit_bytes
        if excess <= 0 or not self._blocks:
            return
        readable = min((cursor.offset for cursor in self._cursors), default=self.end)
        boundary = min(self._starts[0] + excess, readable)
        whole = bisect_right(self._starts, boundary) - 1
        if whole:
            del self._blocks[:whole]
            del self._starts[:whole]
        self._cut_huge_block(boundary)

    def _cut_huge_block(self, boundary: int) -> None:
        """Cut a first block much larger than others, so that one huge value is not kept whole.

        Only where more than half of it goes: each byte is then copied O(1) times.
        """
        gone = boundary - self._starts[0]
        if self._blocks and gone > BLOCK_BYTES and gone * 2 > len(self._blocks[0]):
            self._blocks[0] = self._blocks[0][gone:]
            self._starts[0] = boundary

    def _join(self) -> None:
        """Make the loose pieces a block, or part of the last block while that is small."""
        if not self._loose_bytes:
            return
        joined = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._loose_bytes = 0
        if self._blocks and len(self._blocks[-1]) + len(joined) <= BLOCK_BYTES:
            self._blocks[-1] += joined
            self._starts[-1] = self.end
        else:
            self._blocks.append(joined)
            self._starts.append(self.end)
            # Here and not in feed: where readers keep up, it is they who make the blocks.
            self.trim()
