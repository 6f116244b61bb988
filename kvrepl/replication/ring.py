"""The ring of a diskless transfer: what the child has written and some replica has not taken.

    first                                            next
      | chunk | chunk | chunk | chunk | ... | chunk |
          ^ a slow reader                           ^ a ready one

The child's output is kept once and read by each replica with a Reader of its own, so that a replica
waits for another only when the ring is full. What everybody has read stays until its room is
needed: while the first chunk is there (`has_beginning`), a replica that comes can join the
transfer that runs.

Who holds the others up. The ring is *held* while it is full, some (the holders) need its oldest
chunk, and no less than half of the readers have read everything. The time for which a reader has
been a holder adds up over the transfer (`Reader.held_ms`); `overdue` names those for whom the
others have waited too long. They are dropped and come back for a later transfer: not for this one,
which they would begin to hold again. Where most are slow nobody is dropped: that is then the
speed of the transfer.

Invariants: `used_bytes` is the size of the chunks kept, less than the limit and one chunk more
until the child has ended; every reader is within [first, next]; a chunk some reader needs is kept.

Source: ours. Redis 7.0 (replication.c, rdbPipeReadHandler) has one buffer of 16 KiB, and reads on
only when every replica has taken it.
"""

from __future__ import annotations


class Reader:
    """One replica's place in a ring.

    Attributes:
        ring: which it reads.
        at: the number of the chunk it reads next.
        held_ms: how long the others have waited for it, up to the last change.
    """

    __slots__ = ("at", "held_ms", "ring")

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.at = 0
        self.held_ms = 0

    @property
    def done(self) -> bool:
        """Whether it has read the whole snapshot. O(1)."""
        return self.ring.complete and self.at == self.ring.next

    def take(self, now_ms: int) -> bytes | None:
        """Return the next chunk and move on; None where there is none yet.

        Cost: O(1) while the ring has room, O(readers) where it is full.
        """
        ring = self.ring
        if self.at == ring.next:
            return None
        chunk = ring.chunk(self.at)
        self.at += 1
        ring.moved(now_ms)
        return chunk

    def leave(self, now_ms: int) -> None:
        """Read no more. May be called again. O(readers)."""
        self.ring.forget(self, now_ms)


class Ring:
    """The chunks of one transfer.

    Args:
        limit_bytes: how much to keep before the child has to wait for the slowest reader.

    Attributes:
        next: the number of the chunk that comes next.
        used_bytes: what is kept.
        complete: the child has ended with success, and nothing more will come.
        readers: those who take part.
    """

    __slots__ = (
        "_chunks", "_first", "_held_since_ms", "_holders", "_shut", "complete", "limit_bytes",
        "next", "readers", "used_bytes",
    )  # fmt: skip

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.next = 0
        self.used_bytes = 0
        self.complete = False
        self.readers: list[Reader] = []
        self._chunks: list[bytes] = []
        self._first = 0
        self._held_since_ms = 0
        self._holders: tuple[Reader, ...] = ()
        self._shut = False

    @property
    def has_beginning(self) -> bool:
        """Whether a replica that comes now can still read it all. O(1)."""
        return self._first == 0 and not self._shut

    def join(self) -> Reader:
        """Add a reader at the beginning, which must be there. O(1)."""
        assert self.has_beginning, self._first
        reader = Reader(self)
        self.readers.append(reader)
        return reader

    def put(self, chunk: bytes, now_ms: int) -> None:
        """Add what the child has written, not empty; after its end even beyond the limit.

        Cost: O(1) while there is room, O(readers) where the ring is full then.
        """
        self._chunks.append(chunk)
        self.next += 1
        self.used_bytes += len(chunk)
        self.moved(now_ms)

    def has_room(self) -> bool:
        """Tell whether more may be read from the child; lets go of what everybody has read.

        Cost: O(1) while there is room, O(readers + chunks dropped) where it is full.
        """
        if self.used_bytes < self.limit_bytes:
            return True
        slowest = min((reader.at for reader in self.readers), default=self.next)
        gone = 0
        while gone < slowest - self._first and self.used_bytes >= self.limit_bytes:
            self.used_bytes -= len(self._chunks[gone])
            gone += 1
        del self._chunks[:gone]
        self._first += gone
        return self.used_bytes < self.limit_bytes

    def overdue(self, now_ms: int, max_held_ms: int) -> list[Reader]:
        """Return the readers for whom the others have waited longer than that. O(holders)."""
        now_held_ms = now_ms - self._held_since_ms
        return [r for r in self._holders if r.held_ms + now_held_ms > max_held_ms]

    def end(self) -> None:
        """The child has ended with success: what is kept is the rest."""
        self.complete = True
        self._holders = ()

    def shut_out(self) -> None:
        """Let nobody join any more: one was dropped, and would come back to hold again."""
        self._shut = True

    # --- for readers --------------------------------------------------------------------------

    def chunk(self, number: int) -> bytes:
        """Return a chunk that is kept. O(1)."""
        assert self._first <= number < self.next, (self._first, number, self.next)
        return self._chunks[number - self._first]

    def forget(self, reader: Reader, now_ms: int) -> None:
        """Remove a reader. O(readers)."""
        if reader in self.readers:
            self.readers.remove(reader)
            self.moved(now_ms)

    def moved(self, now_ms: int) -> None:
        """Something was put or read, or somebody left: see who holds whom up."""
        if not self._holders and (self.complete or self.used_bytes < self.limit_bytes):
            return
        holders = self._find_holders()
        if holders != self._holders:
            for reader in self._holders:
                reader.held_ms += now_ms - self._held_since_ms
            self._held_since_ms = now_ms
            self._holders = holders

    def _find_holders(self) -> tuple[Reader, ...]:
        if self.complete or self.has_room():
            return ()
        ready = sum(1 for reader in self.readers if reader.at == self.next)
        if 2 * ready < len(self.readers):
            return ()
        return tuple(reader for reader in self.readers if reader.at == self._first)
