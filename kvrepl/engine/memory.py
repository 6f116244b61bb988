"""The limit of memory: when it is reached, what goes, and what is refused.

While maxmemory is set and memory in use comes near it (HEADROOM_BYTES), the gate OOM is raised;
far below it a command costs nothing more than before. A command that may use memory then goes the
careful way, where `admission` asks `make_room` at the place where Redis does:

    below the limit        OK       nothing to do
    above                  evict keys, one by one, until it is below
      and it is below now  OK
      time is over         RUNNING  the command runs; the rest is evicted in slices from the loop
      nothing to evict     FULL     commands that may use memory are refused (-OOM)

What is counted is the memory of the process (`Meter`), less the buffers that eviction itself fills:
the AOF's, and those of replicas beyond the backlog. Otherwise evicting would make room shrink.

A slice lasts as long as maxmemory-eviction-tenacity allows, half a millisecond by default. Each
eviction is propagated as a DEL of its own (UNLINK with lazyfree-lazy-eviction, which here changes
the word only), never inside another command's MULTI: nothing is evicted within EXEC or a script.

Not evicted, and not refused: a replica that ignores maxmemory (replica-ignore-maxmemory), anybody
while clients are paused or a dataset is loaded.

Between the looks at the meter a batch that allocates more than HEADROOM_BYTES runs to its end; the
next one is held to the limit.

Source: Redis 7.0 evict.c (performEvictions, getMaxmemoryState, evictionTimeLimitUs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from kvrepl.engine import gates
from kvrepl.keyspace.access import Access, Lfu, Lru
from kvrepl.keyspace.eviction import Evictor
from kvrepl.resp import encode_command

if TYPE_CHECKING:
    from kvrepl.engine.dispatch import Engine

OK: Final = 0
RUNNING: Final = 1
FULL: Final = 2

HEADROOM_BYTES: Final = 1 << 20
"""How near the limit every command is looked at: more than a batch of requests usually takes."""
KEYS_BETWEEN_LOOKS: Final = 16
"""Evictions between two looks at the clock (performEvictions)."""


class Meter(Protocol):
    """Tells how much memory is in use."""

    def used_bytes(self) -> int:
        """Bytes in use by the process."""

    def uncounted_bytes(self) -> int:
        """Those of them that do not count towards maxmemory: replicas' and AOF buffers."""

    def set_exact(self, wanted: bool) -> None:
        """Be exact at any time, because there is a limit; or cheap, because there is none."""


class NoMeter:
    """Of an engine without a process of its own: nothing is in use."""

    def used_bytes(self) -> int:
        """Bytes in use by the process."""
        return 0

    def uncounted_bytes(self) -> int:
        """Those of them that do not count towards maxmemory."""
        return 0

    def set_exact(self, wanted: bool) -> None:
        """There is nothing to be exact about."""


def slice_us(tenacity: int) -> float:
    """How long one slice of eviction may last. Source: evict.c (evictionTimeLimitUs).

    Args:
        tenacity: as maxmemory-eviction-tenacity, 0 to 100.

    Returns:
        Microseconds; infinite for 100.
    """
    if tenacity <= 10:
        return 50.0 * tenacity
    if tenacity < 100:
        return 500.0 * 1.15 ** (tenacity - 10)
    return float("inf")


class Memory:
    """Keeps an engine within maxmemory.

    Args:
        engine: whose keys go.
        meter: tells how much is in use; None where nothing limits it.

    Attributes:
        meter: the same.
        is_full: the last `make_room` before a command found nothing to evict.
        on_running: called when a slice ended above the limit; goes on with `make_room` soon.
        exceeded_ns: time spent above the limit so far, without the present spell.
        exceeded_since_ns: when the present spell above the limit began, None below it.
    """

    __slots__ = (
        "_engine", "evictor", "exceeded_ns", "exceeded_since_ns", "is_full", "limit_bytes",
        "meter", "on_running",
    )  # fmt: skip

    def __init__(self, engine: Engine, meter: Meter | None = None) -> None:
        self._engine = engine
        self.meter: Meter = meter if meter is not None else NoMeter()
        self.evictor = Evictor(engine.keyspace, engine.rng)
        self.limit_bytes = 0
        self.is_full = False
        self.on_running: Callable[[], object] = lambda: None
        self.exceeded_ns = 0
        self.exceeded_since_ns: int | None = None
        self.apply_settings()

    def apply_settings(self) -> None:
        """Take maxmemory, its policy and the figures of LFU from the configuration."""
        config, keyspace = self._engine.config, self._engine.keyspace
        evictor = self.evictor
        evictor.samples = config.maxmemory_samples
        if evictor.policy != config.maxmemory_policy:
            evictor.policy = config.maxmemory_policy
            evictor.forget()
        kind: type[Access] | None = None
        if "lru" in evictor.policy:
            kind = Lru
        elif "lfu" in evictor.policy:
            kind = Lfu
        access = keyspace.access
        if kind is not (None if access is None else type(access)):
            if kind is Lfu:
                access = Lfu(keyspace.now_ms, self._engine.rng.random)
            else:
                access = None if kind is None else Lru(keyspace.now_ms)
            keyspace.track_access(access)
        if isinstance(access, Lfu):
            access.log_factor = config.lfu_log_factor
            access.decay_min = config.lfu_decay_time
        if (config.maxmemory > 0) != (self.limit_bytes > 0):
            self.meter.set_exact(config.maxmemory > 0)
        self.limit_bytes = config.maxmemory
        self.watch()

    def watch(self) -> None:
        """Raise the gate exactly while memory is short or nearly so. O(1)."""
        limit_bytes = self.limit_bytes
        near = limit_bytes > 0 and self.meter.used_bytes() + HEADROOM_BYTES > limit_bytes
        self._engine.set_gate(gates.OOM, near)
        if not near:
            self.is_full = False
            if self.exceeded_since_ns is not None:
                self._exceeded(False)

    def excess_bytes(self) -> int:
        """By how much memory in use is above the limit, 0 where it is not."""
        limit_bytes = self.limit_bytes
        if not limit_bytes:
            return 0
        used_bytes = self.meter.used_bytes()
        if used_bytes <= limit_bytes:
            return 0
        return max(used_bytes - self.meter.uncounted_bytes() - limit_bytes, 0)

    def make_room(self) -> int:
        """Evict keys until memory in use is below the limit, or the slice of time is over.

        Called where nothing else is being propagated: before a command, or from the loop.

        Returns:
            OK, RUNNING or FULL.
        """
        result = self._evict() if self._may_evict() and self.excess_bytes() else OK
        self.is_full = result == FULL
        if result == RUNNING:
            self.on_running()
        return result

    def is_short(self) -> bool:
        """Whether a script that begins now may not take memory.

        Inside EXEC nothing is evicted: what holds is what was found before EXEC.
        """
        engine = self._engine
        if engine.gates & gates.OOM and engine.depth == 0:
            self.make_room()
        return self.is_full

    def _may_evict(self) -> bool:
        engine = self._engine
        if engine.depth:
            return False  # others are served while a script is busy
        if engine.gates & (gates.PAUSE_ALL | gates.PAUSE_WRITES) or engine.is_loading:
            return False
        return not (engine.is_replica and engine.config.replica_ignore_maxmemory)

    def _evict(self) -> int:
        engine, meter = self._engine, self.meter
        monotonic_ns = engine.clock.monotonic_ns
        limit_ns = 1000 * slice_us(engine.config.maxmemory_eviction_tenacity)
        verb = b"UNLINK" if engine.config.lazyfree_lazy_eviction else b"DEL"
        began_ns = monotonic_ns()
        ceiling_bytes = self.limit_bytes + meter.uncounted_bytes()
        result = OK
        evicted = 0
        while meter.used_bytes() > ceiling_bytes:
            chosen = self.evictor.choose()
            if chosen is None:
                result = FULL
                break
            db, key = chosen
            db.evict(key)
            # At once, and not with what a command propagates: what gathers takes memory.
            engine.propagation.feed(db.index, encode_command([verb, key]))
            evicted += 1
            if evicted % KEYS_BETWEEN_LOOKS == 0:
                ceiling_bytes = self.limit_bytes + meter.uncounted_bytes()
                if monotonic_ns() - began_ns > limit_ns:
                    result = RUNNING if meter.used_bytes() > ceiling_bytes else OK
                    break
        engine.stats.evicted += evicted
        engine.settle()  # clients that wait for a key may hear that it is gone
        self._exceeded(result != OK)
        return result

    def _exceeded(self, above: bool) -> None:
        """Keep the time spent above the limit."""
        now_ns = self._engine.clock.monotonic_ns()
        if above:
            if self.exceeded_since_ns is None:
                self.exceeded_since_ns = now_ns
        elif self.exceeded_since_ns is not None:
            self.exceeded_ns += now_ns - self.exceeded_since_ns
            self.exceeded_since_ns = None

    def exceeded_ms(self) -> tuple[int, int]:
        """Milliseconds spent above the limit: in all, and in the present spell."""
        now = 0
        if self.exceeded_since_ns is not None:
            now = self._engine.clock.monotonic_ns() - self.exceeded_since_ns
        return (self.exceeded_ns + now) // 1_000_000, now // 1_000_000

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT."""
        self.exceeded_ns = 0
        if self.exceeded_since_ns is not None:
            self.exceeded_since_ns = self._engine.clock.monotonic_ns()
