"""What happens by the clock: ten times a second, and once a second.

    each tick   active expiry, garbage in slices, pauses, shutdown, replication, the child that is
                due, what is idle is packed, the cyclic collector; then the turn is ended (blocked
                clients, the AOF)
    each second idle clients, memory figures

Every loop here is bounded by time, so that a tick costs clients a millisecond or two.

Source: Redis 7.0 server.c (serverCron, databasesCron), expire.c (activeExpireCycle).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from kvrepl.keyspace.database import DELETE, Database
from kvrepl.server.collector import Collector

if TYPE_CHECKING:
    from kvrepl.server.app import Server

EXPIRE_BUDGET_NS: Final = 1_000_000
"""Time for active expiry in a tick, and a quarter of it more for each step of active-expire-effort;
four times that while it does not keep up."""
EXPIRE_BATCH: Final = 64
LOCAL_EXPIRY_KEYS: Final = 1000
"""How many keys of its own a writable replica looks at each time; some 1 ms."""
GARBAGE_NS: Final = 1_000_000
"""Time for freeing what was dropped, in a slice."""
GARBAGE_PAUSE_S: Final = 0.01
"""From one slice to the next, while there is something: a tenth of the processor."""
GARBAGE_ELEMENTS: Final = 512
"""Elements freed between two looks at the clock."""
PACK_NS: Final = 250_000
"""Time for packing what is idle, in a slice."""
PACK_PAUSE_S: Final = 0.025
"""From one slice to the next, while a pass lasts: a hundredth of the processor."""
PACK_PAUSE_QUIET_S: Final = 0.0025
"""The same where nothing came from anybody meanwhile: a tenth of it."""
SAMPLES: Final = 16
"""Length of the window of the instantaneous figures (server.h, STATS_METRIC_SAMPLES)."""


class Rate:
    """A figure per second, over the last few samples."""

    __slots__ = ("_at_ns", "_last", "_samples")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._last = 0
        self._at_ns = time.monotonic_ns()

    def sample(self, total: int) -> None:
        """Note the running total."""
        now_ns = time.monotonic_ns()
        span_s = (now_ns - self._at_ns) / 1e9
        if span_s > 0:
            self._samples.append((total - self._last) / span_s)
            del self._samples[:-SAMPLES]
        self._last, self._at_ns = total, now_ns

    @property
    def per_second(self) -> float:
        """The mean of the samples."""
        return sum(self._samples) / len(self._samples) if self._samples else 0.0


class Cron:
    """The clockwork of a server.

    Attributes:
        expiry_ns: time spent on active expiry.
        commands, net_in, net_out, repl_in, repl_out: rates for INFO stats.
        active_expiry: whether keys are expired without being asked for (DEBUG
            SET-ACTIVE-EXPIRE).
        paused: DEBUG PAUSE-CRON.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._timer: asyncio.TimerHandle | None = None
        self._collector = Collector()
        self._ticks = 0
        self._place = self._turn = 0
        self._behind = self._evicting = self._freeing = self._packing = False
        self._packed_ns = time.monotonic_ns()
        self._received = 0
        self._next_second_ms = 0
        self.expiry_ns = 0
        self.commands, self.net_in, self.net_out = Rate(), Rate(), Rate()
        self.repl_in, self.repl_out = Rate(), Rate()
        self.active_expiry = True
        self.paused = False

    def start(self) -> None:
        """Begin to tick."""
        self._collector.take_over()
        self._timer = self._server.loop.call_later(0.1, self._tick)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        server = self._server
        hz = max(server.config.hz, 1)
        self._timer = server.loop.call_later(1 / hz, self._tick)
        server.watchdog.alive()
        if self.paused:
            return
        self._ticks += 1
        server.refresh_time()
        now_ms = server.engine.keyspace.now_ms
        if self.active_expiry and server.saver.loading is None:
            before_ns = time.monotonic_ns()
            self._expire()
            self.expiry_ns += time.monotonic_ns() - before_ns
        if not self._freeing:
            self._free_garbage()
        self._shrink()
        server.engine.memory.make_room()
        server.unpause_due(now_ms)
        server.shutdown.cron()
        server.replication.tick()
        if server.saver.loading is None:
            self._start_due_children(now_ms // 1000)
        if not self._packing:
            self._pack_idle()
        if now_ms >= self._next_second_ms or now_ms < self._next_second_ms - 2_000:
            self._next_second_ms = now_ms + 1_000
            self._each_second(now_ms)
        engine = server.engine
        engine.tracking.limit(server.config.tracking_table_max_keys, engine.rng)
        self._sample()
        self._collector.tick()
        server.turn.wake()

    def _each_second(self, now_ms: int) -> None:
        server = self._server
        server.meter.each_second()
        server.clients.each_second()

    def _start_due_children(self, now_s: int) -> None:
        """Start the one child that is due, if none runs: rewrites that wait come first."""
        server = self._server
        saver, aof = server.saver, server.aof
        if server.children.active is None and aof.log.rewrite_scheduled:
            aof.cron()
        if server.children.active is None and (point := saver.due(now_s)) is not None:
            server.log.notice(point.log_line())
            saver.bgsave()
        if server.children.active is None:
            aof.cron()
        if server.children.active is None and saver.scheduled and saver.may_try(now_s):
            saver.bgsave()

    def _sample(self) -> None:
        server = self._server
        stats = server.engine.stats
        self.commands.sample(server.commands_processed())
        self.net_in.sample(stats.net_in_bytes)
        self.net_out.sample(stats.net_out_bytes)
        self.repl_in.sample(stats.repl_in_bytes)
        self.repl_out.sample(stats.repl_out_bytes)

    # ---------------------------------------------------------------- expiry

    def _expire(self) -> None:
        """Remove keys whose time has come, as far as the time allows; on a replica its own."""
        engine = self._server.engine
        keyspace = engine.keyspace
        if keyspace.expiry_mode != DELETE:
            if engine.is_replica and len(keyspace.local_expiry):
                engine.propagation.unwrapped()
                keyspace.local_expiry.expire(keyspace, LOCAL_EXPIRY_KEYS)
                engine.settle()
                engine.propagation.flush()
            return
        effort = self._server.config.active_expire_effort - 1
        budget_ns = EXPIRE_BUDGET_NS * (4 + effort) // 4 * (4 if self._behind else 1)
        deadline_ns = time.monotonic_ns() + budget_ns
        self._behind = False
        engine.propagation.unwrapped()
        for db in keyspace.databases:
            if db.earliest_ms < keyspace.now_ms and not self._expire_in(db, deadline_ns):
                self._behind = True
                engine.stats.expired_cycle_timeouts += 1
                break
        engine.settle()
        engine.propagation.flush()

    def _expire_in(self, db: Database, deadline_ns: int) -> bool:
        """Remove what is due in one database; False if the time did not suffice.

        Starts where it left off, so that no segment waits for ever.
        """
        places = len(db.due_ms)
        now_ms = db.keyspace.now_ms
        for step in range(places):
            place = (self._place + step) % places
            if db.due_ms[place] >= now_ms:
                continue
            while db.expire_due(place, EXPIRE_BATCH) == EXPIRE_BATCH:
                if time.monotonic_ns() > deadline_ns:
                    break
            if time.monotonic_ns() > deadline_ns:
                self._place = place
                return False
        db.earliest_ms = min(db.due_ms)
        return True

    def evict_soon(self) -> None:
        """Go on evicting in the next turns of the loop, a slice in each."""
        if not self._evicting:
            self._evicting = True
            self._server.loop.call_soon(self._evict)

    def _evict(self) -> None:
        self._evicting = False
        server = self._server
        server.refresh_time()
        server.engine.memory.make_room()
        server.turn.wake()

    def _shrink(self) -> None:
        """Give back some of the room that deleted keys left."""
        self._turn += 1
        for db in self._server.engine.keyspace.databases:
            db.tidy(self._turn)

    def _free_garbage(self) -> None:
        """Free some of what UNLINK and FLUSHALL ASYNC left behind, and soon some more."""
        server = self._server
        garbage = server.engine.keyspace.garbage
        deadline_ns = time.monotonic_ns() + GARBAGE_NS
        while garbage and time.monotonic_ns() < deadline_ns:
            garbage.free(GARBAGE_ELEMENTS)
        self._freeing = bool(garbage)
        if garbage:
            server.loop.call_later(GARBAGE_PAUSE_S, self._free_garbage)

    def _pack_idle(self) -> None:
        """Pack some of what nobody uses, and soon some more; none of it while a child runs."""
        server, packing = self._server, self._server.packing
        self._packing = False
        if server.children.active is not None or server.saver.loading is not None:
            return
        idle_ns = server.config.pack_idle_time * 1_000_000_000
        now_ns = time.monotonic_ns()
        if not idle_ns:
            packing.stop()
        elif not packing.running and now_ns >= self._packed_ns + idle_ns:
            self._packed_ns = now_ns
            packing.begin()
        if not packing.running:
            return
        packing.compress = server.config.rdbcompression
        while packing.step() and time.monotonic_ns() < now_ns + PACK_NS:
            pass
        if packing.running:
            self._packing = True
            stats = server.engine.stats
            received = stats.net_in_bytes + stats.repl_in_bytes
            quiet = received == self._received
            self._received = received
            pause_s = PACK_PAUSE_QUIET_S if quiet else PACK_PAUSE_S
            server.loop.call_later(pause_s, self._pack_idle)
