"""The end of a turn: the one place that orders durability before answers.

Every batch of commands, from any client or from our master, ends here, once per iteration of the
event loop:

    1  answer the blocked clients whose time is up
    2  write the AOF; with appendfsync always, fsync it
    3  hand new bytes of the replication stream to the replicas
    4  write the replies
    5  weigh who got some, while maxmemory-clients is set

Nothing is answered, and no replica told, before step 2 is done, so one fsync serves every client
of the turn. Replies gather in Client.out wherever they come from (a batch, a client that was
blocked, a message of pub/sub) and leave here only; the stream leaves here only. A client whose
batch was cut short, because it used up its share of time, goes on in the next turn.

Source: Redis 7.0 server.c (beforeSleep).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine


class Turn:
    """Runs the end of each turn.

    Args:
        loop: the event loop.
        engine: whose writers and blocked clients it serves.

    Attributes:
        scheduled: whether the turn is going to be ended anyway.
        steps: what runs before the replies go out, in order (the AOF, then the replicas).
        on_flushed: is told of clients whose output was written; None where nobody weighs them.
        on_fault: gets an exception of the turn; no reply has gone out that it should have held.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Engine) -> None:
        self._loop = loop
        self._engine = engine
        self.scheduled = False
        self._running = False
        self._unfinished: list[Callable[[], None]] = []
        self.steps: list[Callable[[], None]] = []
        self.on_flushed: Callable[[list[Client]], object] | None = None
        self.on_fault: Callable[[BaseException], object] | None = None

    def wake(self) -> None:
        """See to it that the turn is ended soon. O(1)."""
        if not self.scheduled:
            self.scheduled = True
            self._loop.call_soon(self.now)

    def later(self, resume: Callable[[], None]) -> None:
        """Call `resume` at the start of the next turn: a batch that used up its share of time."""
        self._unfinished.append(resume)
        self.wake()

    def end(self) -> None:
        """End the turn now (at shutdown, nothing comes after it)."""
        if self._running:
            return  # a step that writes to a client wakes us anyway
        self._running = True
        engine = self._engine
        try:
            engine.blocking.expire()
            for step in self.steps:
                step()
            while engine.writers:
                writers, engine.writers = engine.writers, []
                for client in writers:
                    client.pending = False
                    client.port.flush()
                if self.on_flushed is not None:
                    self.on_flushed(writers)
        finally:
            self._running = False

    def now(self) -> None:
        """Go on with unfinished batches, and end the turn: once per iteration of the loop.

        Also called where a reply would come too late at its time. A fault goes to `on_fault`.
        """
        self.scheduled = False
        try:
            if self._unfinished:
                unfinished, self._unfinished = self._unfinished, []
                for resume in unfinished:
                    resume()
            self.end()
        except Exception as error:
            if self.on_fault is None:
                raise
            self.on_fault(error)
