"""A network in memory: ordered byte pipes that delay, split, stall and break anywhere.

Time is a number and events are a heap; whatever happens by chance comes from one random.Random,
so that a seed is the whole run. A connection has two ends. Bytes arrive after a delay, in order,
cut into pieces at random; breaking it loses what is under way, with a random part of it still
arriving, so that a break falls at any byte. A side that is compressed can be corrupted as well.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Protocol

from kvrepl.replication.compression import compress


class Owner(Protocol):
    """Whoever holds an end of a connection."""

    name: str
    alive: bool

    def on_data(self, end: End, data: bytes) -> None: ...
    def on_lost(self, end: End) -> None: ...


class Scheduler:
    """Virtual time: callbacks at instants, in order.

    Args:
        rng: the one source of chance.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now_ms = 1_000_000
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, when_ms: int, callback: Callable[[], None]) -> None:
        """Call back at an instant, or now where that has passed."""
        heapq.heappush(self._events, (max(when_ms, self.now_ms), next(self._order), callback))

    def after(self, delay_ms: int, callback: Callable[[], None]) -> None:
        """Call back in a while."""
        self.at(self.now_ms + delay_ms, callback)

    def run_until(self, end_ms: int, after_each: Callable[[], None]) -> None:
        """Run events up to an instant, checking after each."""
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, callback = heapq.heappop(self._events)
            callback()
            after_each()
        self.now_ms = end_ms


class End:
    """One end of a connection."""

    def __init__(self, wire: Connection, owner: Owner, number: int) -> None:
        self.connection = wire
        self.owner = owner
        self.number = number
        self.peer: End
        self.open = True
        self.compressed = False
        self.in_flight: list[bytes] = []
        self.in_flight_bytes = 0
        self.plain_bytes = 0  # of these, the first ones

    def send(self, data: bytes | memoryview) -> None:
        """Write to the other end."""
        if self.open and self.connection.up:
            data = compress(data) if self.compressed else bytes(data)
            self.plain_bytes += 0 if self.compressed else len(data)
            self.in_flight.append(data)
            self.in_flight_bytes += len(data)
            self.connection.schedule(self)

    def close(self) -> None:
        """End the connection from this side; bytes already sent still arrive."""
        if self.open:
            self.open = False
            self.connection.finish(self)


class Connection:
    """Two ends and what is on its way between them."""

    _numbers = itertools.count(1)

    def __init__(self, scheduler: Scheduler, client: Owner, server: Owner) -> None:
        self.scheduler = scheduler
        self.up = True
        self.stalled = False
        slow = scheduler.rng.random() < 0.15
        self.delay_ms = scheduler.rng.randint(200, 900) if slow else scheduler.rng.randint(1, 30)
        self.client = End(self, client, next(self._numbers))
        self.server = End(self, server, next(self._numbers))
        self.client.peer, self.server.peer = self.server, self.client

    def schedule(self, sender: End) -> None:
        """Let the oldest bytes on the way from `sender` arrive, some time from now."""
        self.scheduler.after(self.delay_ms, lambda: self._arrive(sender))

    def _arrive(self, sender: End) -> None:
        if not self.up or not sender.in_flight:
            return
        if self.stalled:
            self.scheduler.after(500, lambda: self._arrive(sender))
            return
        data = b"".join(sender.in_flight)
        sender.in_flight.clear()
        sender.in_flight_bytes = sender.plain_bytes = 0
        self._deliver(sender.peer, data)

    def _deliver(self, end: End, data: bytes) -> None:
        rng = self.scheduler.rng
        while data and end.open and end.owner.alive:
            cut = rng.randint(1, len(data)) if rng.random() < 0.3 else len(data)
            end.owner.on_data(end, data[:cut])
            data = data[cut:]

    def corrupt(self) -> None:
        """Change a bit of the frames that are under way.

        Not of the line before the first of them, which no checksum of ours protects.
        """
        rng = self.scheduler.rng
        for end in (self.client, self.server):
            frames = b"".join(end.in_flight)[end.plain_bytes :]
            if frames:
                data = bytearray(frames)
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                plain = b"".join(end.in_flight)[: end.plain_bytes]
                end.in_flight[:] = [plain + data]

    def finish(self, closer: End) -> None:
        """One end closed: the other learns after the bytes that were sent before."""
        self.scheduler.after(self.delay_ms, lambda: self._end(closer))

    def _end(self, closer: End) -> None:
        if not self.up:
            return
        data = b"".join(closer.in_flight)
        closer.in_flight.clear()
        self._deliver(closer.peer, data)
        self.up = False
        if closer.peer.open:
            closer.peer.open = False
            closer.peer.owner.on_lost(closer.peer)

    def cut(self) -> None:
        """Break it now, at any byte; both ends notice."""
        if not self.up:
            return
        for end in (self.client, self.server):
            data = b"".join(end.in_flight)
            self._deliver(end.peer, data[: self.scheduler.rng.randint(0, len(data))])
        self.up = False
        for end in (self.client, self.server):
            if end.open:
                end.open = False
                if end.owner.alive:
                    end.owner.on_lost(end)
