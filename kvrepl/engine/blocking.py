"""Clients that wait: for a key to be filled, for replicas, for the end of a pause, for ours.

A handler that finds nothing calls `block()` and returns BLOCKED. When a key that somebody waits
for gets elements, the keyspace reports it as ready; after the command that filled it is over,
`serve_ready()` asks the waiters in the order of their arrival, and each that is served propagates
on its own, after the command that served it.

    waiting --(key ready, serve() gave a reply)--> answered
    waiting --(deadline)-------------------------> on_timeout
    waiting --(CLIENT UNBLOCK, role change)------> timeout reply or error
    waiting --(connection lost)------------------> forgotten

A command that waits is counted when it begins to, with what it has cost so far. Its latency and
the slow log are told of it when it ends, of what it cost then as well, but not of the time in
between; and never of one whose time is over, nor of a WAIT that replicas answered.

Source: Redis 7.0 blocked.c (handleClientsBlockedOnKeys, unblockClient, updateStatsOnUnblock),
timeout.c.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.errors import CommandError
from kvrepl.resp.values import NO_REPLY, NULL_ARRAY, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine
    from kvrepl.engine.spec import Command
    from kvrepl.keyspace.database import Database

Serve = Callable[["Database", bytes], Any]
"""Tries to serve a waiter from a key; returns the reply, or None if there is nothing for it."""

KEYS: Final = "keys"
REPLICAS: Final = "replicas"
POSTPONED: Final = "postponed"
SHUTDOWN: Final = "shutdown"

NEVER: Final = 0

PRESENT: Final = 1 << 62
"""Client.done_offset where no place of the stream is known to be after its writes."""

AT_FIRST: Final = 16
"""Waiters that are asked when a key gets ready; then twice as many, while there is something."""

TIDY_AFTER: Final = 64
"""Deadlines of clients served meanwhile that are kept without a thought."""


class Wait:
    """What a client waits for.

    Attributes:
        kind: KEYS, REPLICAS, POSTPONED or SHUTDOWN.
        keys: (db, key) it waits for.
        serve: called with a key that became ready.
        deadline_ms: Unix time at which it gives up, NEVER for none.
        on_timeout: makes the reply that it then gets.
        on_end: called when the wait is over, however it ends; None for nothing to do.
        needs_key: it is served as well when its key is gone: there is nothing left to wait for.
        seq: order of arrival.
        command, argv: what waits, and spent_ns: what it took before; None until its handler is
            over, and for POSTPONED, which has not begun.
    """

    __slots__ = (
        "argv", "client", "command", "deadline_ms", "keys", "kind", "needs_key", "on_end",
        "on_timeout", "seq", "serve", "spent_ns",
    )  # fmt: skip

    def __init__(
        self,
        client: Client,
        kind: str,
        keys: tuple[tuple[Database, bytes], ...],
        deadline_ms: int,
        serve: Serve | None,
        on_timeout: Callable[[], Reply],
        on_end: Callable[[], None] | None,
        needs_key: bool,
        seq: int,
    ) -> None:
        self.client = client
        self.kind = kind
        self.keys = keys
        self.deadline_ms = deadline_ms
        self.serve = serve
        self.on_timeout = on_timeout
        self.on_end = on_end
        self.needs_key = needs_key
        self.seq = seq
        self.command: Command | None = None
        self.argv: Sequence[bytes] = ()
        self.spent_ns = 0


class Blocking:
    """All waiting clients of one engine.

    Attributes:
        waiting: client -> its Wait, in order of arrival.
        ready: (db, key) pairs that got elements since the last `serve_ready`, in order.
    """

    __slots__ = ("_deadlines", "_engine", "_needed", "_seq", "_served", "ready", "waiting")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seq = 0
        self._deadlines: list[tuple[int, int, Wait]] = []
        self._served = 0  # of those in _deadlines that wait no more, at most
        # How many wait for a key and are to hear of it when it is gone.
        self._needed: Counter[tuple[Database, bytes]] = Counter()
        self.waiting: dict[Client, Wait] = {}
        self.ready: dict[tuple[Database, bytes], None] = {}

    def block(
        self,
        client: Client,
        keys: Iterable[bytes] = (),
        *,
        timeout_ms: int = NEVER,
        serve: Serve | None = None,
        on_timeout: Callable[[], Reply] | None = None,
        on_end: Callable[[], None] | None = None,
        needs_key: bool = False,
        kind: str = KEYS,
    ) -> Wait:
        """Let a client wait; the handler then returns BLOCKED.

        Args:
            client: who waits; it must not be waiting already.
            keys: keys of its database to wait for.
            timeout_ms: a span after which it gives up, 0 for never.
            serve: called with each key that gets ready; see Serve.
            on_timeout: makes the reply given at the deadline; a null array where left out.
            on_end: called when the wait is over, however it ends.
            needs_key: `serve` is called as well when the key is gone, and says so.
            kind: KEYS, REPLICAS, POSTPONED or SHUTDOWN.
        """
        assert client.wait is None, "a client waits for one thing at a time"
        self._seq += 1
        db = client.db
        deadline_ms = self._engine.keyspace.now_ms + timeout_ms if timeout_ms else NEVER
        wait = Wait(
            client,
            kind,
            tuple((db, key) for key in dict.fromkeys(keys)),
            deadline_ms,
            serve,
            on_timeout if on_timeout is not None else (lambda: NULL_ARRAY),
            on_end,
            needs_key,
            self._seq,
        )
        client.wait = wait
        self.waiting[client] = wait
        for _, key in wait.keys:
            # The first is found in O(1) however many went before, as in no dict.
            db.blocked_keys.setdefault(key, OrderedDict())[client] = wait
        if needs_key:
            self._needed.update(wait.keys)
        if deadline_ms:
            heapq.heappush(self._deadlines, (deadline_ms, wait.seq, wait))
        return wait

    def forget(self, client: Client) -> None:
        """Take a client off every list: it was answered, or is gone."""
        wait = self.waiting.pop(client, None)
        if wait is None:
            return
        client.wait = None
        if wait.deadline_ms:
            self._tidy_deadlines()
        for db, key in wait.keys:
            waiters = db.blocked_keys[key]
            del waiters[client]
            if not waiters:
                del db.blocked_keys[key]
        if wait.needs_key:
            for place in wait.keys:
                self._needed[place] -= 1
                if not self._needed[place]:
                    del self._needed[place]
        if wait.on_end is not None:
            wait.on_end()

    def _tidy_deadlines(self) -> None:
        """Drop the deadlines of those who wait no more, once they are the greater part.

        Otherwise clients that are served well before distant deadlines would pile up. O(1)
        amortized.
        """
        self._served += 1
        if self._served > TIDY_AFTER and self._served * 2 > len(self._deadlines):
            self._deadlines = [
                entry for entry in self._deadlines if entry[2].client.wait is entry[2]
            ]
            heapq.heapify(self._deadlines)
            self._served = 0

    def release(self, client: Client, reply: Reply) -> None:
        """Answer a waiting client and let it go on with its next request."""
        self.forget(client)
        if client.gates & gates.QUIET:
            reply = client.quieten(reply)
        if reply is not NO_REPLY:
            client.send(reply)
        client.port.resume()

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline among the waiting, None where there is none."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].client.wait is not deadlines[0][2]:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def expire(self) -> None:
        """Answer those whose deadline has come."""
        now_ms = self._engine.keyspace.now_ms
        while (deadline_ms := self.next_deadline_ms()) is not None and deadline_ms <= now_ms:
            wait = heapq.heappop(self._deadlines)[2]
            self.release(wait.client, wait.on_timeout())

    def serve_ready(self) -> None:
        """Serve those who wait for keys that got elements. Called when a command is over.

        O(clients served), and O(waiting for the key) where some of them want another type.
        """
        while self.ready:
            ready, self.ready = self.ready, {}
            for db, key in ready:
                self._serve(db, key)

    def _serve(self, db: Database, key: bytes) -> None:
        """Serve those who wait for one key, in the order of their arrival, as far as it lasts."""
        waiters = db.blocked_keys.get(key, {})
        left, some, passed = len(waiters), AT_FIRST, 0  # those who were passed stay in front
        while left > 0:
            for client, wait in list(islice(waiters.items(), passed, passed + min(some, left))):
                if db.peek(key) is None and (db, key) not in self._needed:
                    return
                if client.wait is wait and not self._serve_one(wait, db, key):
                    passed += 1
            left -= some
            some *= 2

    def _serve_one(self, wait: Wait, db: Database, key: bytes) -> bool:
        """Try to serve a waiter from a key; whether it waits no more."""
        if wait.serve is None or (not wait.needs_key and db.peek(key) is None):
            return False
        monotonic_ns = self._engine.clock.monotonic_ns
        before_ns = monotonic_ns()
        try:
            reply = wait.serve(db, key)
        except CommandError as error:
            reply = error
            self._engine.stats.error(error)
        if reply is None:
            return False
        failed = type(reply) is CommandError
        self._engine.waited(wait, wait.argv, monotonic_ns() - before_ns, failed=failed)
        self._engine.propagation.flush()
        wait.client.done_offset = PRESENT  # what it took was written in this turn
        self.release(wait.client, reply)
        return True

    def unblock(self, client: Client, error: CommandError | None) -> None:
        """Somebody else ends a client's wait: it gets that error, or what its timeout would give.

        Either is a failure of the command, and the slow log is told that something ended but not
        what, as by Redis, which has forgotten the arguments by then (networking.c, clientCommand).
        """
        wait = client.wait
        assert wait is not None, "who does not wait cannot be unblocked"
        if error is not None:
            self._engine.stats.error(error)
        self.release(client, error if error is not None else wait.on_timeout())
        self._engine.waited(wait, (), 0, failed=True)

    def of_kind(self, kind: str) -> list[Wait]:
        """Those who wait for one kind of thing, in order of arrival."""
        return [wait for wait in self.waiting.values() if wait.kind == kind]

    def resume_postponed(self) -> None:
        """The pause is over: let the postponed clients run the request they were held at."""
        for wait in self.of_kind(POSTPONED):
            self.forget(wait.client)
            wait.client.port.resume()

    def fail_all(self, error: CommandError) -> None:
        """Answer everyone who waits with an error and close them (role change).

        Not those whose request is yet to run, nor those who wait for the end of this server, to
        which its role is nothing.
        """
        for wait in list(self.waiting.values()):
            if wait.kind not in (POSTPONED, SHUTDOWN):
                self._engine.stats.error(error)
                self.release(wait.client, error)
                wait.client.close_soon()
