"""How much memory the process has in use: what maxmemory is held against, and INFO memory shows.

    Counted     what the interpreter has allocated (kvrepl.server._allocator), to the byte while
                maxmemory is set; otherwise large blocks to the byte and small ones by a sample of
                SURVEY_POOLS pools, which is exact up to 64 MiB and within some 2% above
    Estimated   where that cannot be had: the process as it started, and for every key the mean
                size of the keys sampled in the last second

Both fall at once when keys are deleted, which the resident set does not: its pages go back to the
system when nothing at all is left on them. docs/MEMORY.md has what either costs, and how far it is
from the truth.

Source: Redis 7.0 zmalloc.c (zmalloc_used_memory), evict.c (freeMemoryGetNotCountedMemory).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING, Any, Final

import psutil

from kvrepl.keyspace.sizes import SLOT_BYTES, key_bytes
from kvrepl.resp import ACCELERATED
from kvrepl.scripting.runtime import Scripting
from kvrepl.server.process import wants_huge_pages

allocator: Any
try:
    allocator = import_module("kvrepl.server._allocator")
except ModuleNotFoundError:
    allocator = None

if TYPE_CHECKING:
    from kvrepl.keyspace.keyspace import Keyspace
    from kvrepl.server.app import Server

SURVEY_POOLS: Final = 4096
SAMPLED_KEYS: Final = 200


class Counted:
    """What the interpreter has allocated, by its allocators' own counters.

    Args:
        base_bytes: what was in use when they began to count.
    """

    is_estimate = False

    def __init__(self, base_bytes: int) -> None:
        self._base_bytes = base_bytes
        self._exact = False

    def used_bytes(self) -> int:
        """Bytes in use. O(1) while exact."""
        if self._exact:
            return self._base_bytes + int(allocator.used_bytes())
        small_bytes = int(allocator.survey(SURVEY_POOLS))
        return self._base_bytes + int(allocator.large_bytes()) + small_bytes

    def set_exact(self, wanted: bool) -> None:
        """Count every block, or take a sample when asked. O(pools) to begin."""
        self._exact = wanted
        allocator.count(wanted)

    def each_second(self, keyspace: Keyspace) -> None:
        """Nothing grows old here."""


class Estimated:
    """Keys times their mean size, and what the process was at its start.

    Args:
        base_bytes: what was in use before there were keys.
        rng: chooses the keys to measure.
    """

    is_estimate = True

    def __init__(self, base_bytes: int, rng: Random) -> None:
        self._base_bytes = base_bytes
        self._rng = rng
        self._keyspace: Keyspace | None = None
        self._key_bytes = 0.0

    def used_bytes(self) -> int:
        """Bytes in use, roughly. O(segments of the databases that hold keys)."""
        if self._keyspace is None:
            return self._base_bytes
        return self._base_bytes + int(len(self._keyspace) * self._key_bytes)

    def set_exact(self, wanted: bool) -> None:
        """It is never exact."""

    def each_second(self, keyspace: Keyspace) -> None:
        """Measure some keys. O(SAMPLED_KEYS + segments)."""
        self._keyspace = keyspace
        sizes = []
        for db in keyspace.nonempty():
            for _ in range(SAMPLED_KEYS):
                segment = self._rng.choice(db.segments)
                if segment:
                    key = next(iter(segment))
                    sizes.append(key_bytes(db, key, samples=5))
        if sizes:
            self._key_bytes = sum(sizes) / len(sizes)


class ProcessMeter:
    """The meter of a server's engine.

    Attributes:
        start_bytes: in use before anything was loaded.
        peak_bytes: the highest figure seen, at least once a second.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._process = psutil.Process()
        self._gauge = _gauge(self.look_at_rss(), server.rng, wants_huge_pages(server.config))
        self.start_bytes = self.peak_bytes = self._gauge.used_bytes()

    def start(self) -> None:
        """Begin to serve: this process will neither daemonize nor exec any more."""
        if not self.is_estimate:
            allocator.work_ahead()

    def rest(self, wanted: bool) -> None:
        """Leave the other cores alone: huge pages are made when they are needed, not before."""
        if not self.is_estimate:
            allocator.rest(wanted)

    @property
    def is_estimate(self) -> bool:
        """Whether figures are estimates, for want of the compiled counter."""
        return self._gauge.is_estimate

    def used_bytes(self) -> int:
        """Bytes in use by the process."""
        return self._gauge.used_bytes()

    def uncounted_bytes(self) -> int:
        """Those of them that do not count towards maxmemory.

        The AOF's buffer, and what the stream keeps for replicas beyond the backlog's size.
        """
        server = self._server
        return server.aof.log.writer.buffer_bytes + server.replication.excess_bytes()

    def set_exact(self, wanted: bool) -> None:
        """Be exact at any time, at some 2 ns an allocation."""
        self._gauge.set_exact(wanted)

    def look_at_rss(self) -> int:
        """Bytes that are resident now."""
        return int(self._process.memory_info().rss)

    def each_second(self) -> None:
        """Keep the peak."""
        self._gauge.each_second(self._server.engine.keyspace)
        self.note_peak()

    def note_peak(self) -> int:
        """The bytes in use, remembered if there never were more."""
        used_bytes = self._gauge.used_bytes()
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        return used_bytes


def _gauge(base_bytes: int, rng: Random, huge_pages: bool) -> Counted | Estimated:
    if ACCELERATED and allocator is not None and allocator.install(huge_pages):
        return Counted(base_bytes)
    return Estimated(base_bytes, rng)


@dataclass(frozen=True, slots=True)
class Figures:
    """Where memory goes, as INFO memory and MEMORY STATS tell it; all in bytes.

    Attributes:
        used_bytes, peak_bytes, start_bytes: in use now, at most, and before anything was loaded.
        rss_bytes: resident set of the process.
        backlog_bytes: the stream kept for replicas, one copy for all, up to repl-backlog-size.
        aof_bytes: commands waiting to be written.
        client_bytes: all clients but replicas, with their buffers.
        replica_bytes: what was sent to replicas and not taken, and the stream beyond the backlog.
        script_bytes, function_bytes: texts of cached scripts, and of function libraries.
        lua_eval_bytes, lua_function_bytes: what their Lua states have allocated; not part of
            used_bytes, as in Redis.
        table_bytes: places in the dicts of all databases.
        uncounted_bytes: what does not count towards maxmemory.
    """

    used_bytes: int
    peak_bytes: int
    start_bytes: int
    rss_bytes: int
    backlog_bytes: int
    aof_bytes: int
    client_bytes: int
    replica_bytes: int
    script_bytes: int
    function_bytes: int
    lua_eval_bytes: int
    lua_function_bytes: int
    table_bytes: int
    uncounted_bytes: int

    @property
    def overhead_bytes(self) -> int:
        """What is not the dataset: the server itself, buffers, the tables of the databases."""
        return min(
            self.used_bytes,
            self.start_bytes
            + self.backlog_bytes
            + self.aof_bytes
            + self.client_bytes
            + self.replica_bytes
            + self.script_bytes
            + self.function_bytes
            + self.table_bytes,
        )

    @property
    def dataset_bytes(self) -> int:
        """The rest: keys and values."""
        return self.used_bytes - self.overhead_bytes


def figures(server: Server) -> Figures:
    """Take every figure now. O(clients + segments of the databases that hold keys)."""
    meter, engine = server.meter, server.engine
    client_bytes, replica_bytes = 0, server.replication.excess_bytes()
    for client, connection in server.clients.connections.items():
        if client.is_replica:
            replica_bytes += connection.output_bytes()
        else:
            client_bytes += connection.memory_bytes()
    texts = lua_eval = lua_functions = 0
    if isinstance(engine.scripts, Scripting):
        texts = engine.scripts.scripts.text_bytes()
        lua_eval = engine.scripts.scripts.memory_bytes()
        lua_functions = engine.scripts.functions.memory_bytes()
    tables = sum(len(db) + db.expires_count() for db in engine.keyspace.nonempty())
    used_bytes = meter.note_peak()
    return Figures(
        used_bytes=used_bytes,
        peak_bytes=meter.peak_bytes,
        start_bytes=meter.start_bytes,
        rss_bytes=meter.look_at_rss(),
        backlog_bytes=server.replication.backlog_bytes() - server.replication.excess_bytes(),
        aof_bytes=server.aof.log.writer.buffer_bytes,
        client_bytes=client_bytes,
        replica_bytes=replica_bytes,
        script_bytes=texts,
        function_bytes=sum(map(len, engine.function_libraries)),
        lua_eval_bytes=lua_eval,
        lua_function_bytes=lua_functions,
        table_bytes=tables * SLOT_BYTES,
        uncounted_bytes=meter.uncounted_bytes(),
    )
