"""Two engines that should be one: the reference loops and lookups, and the compiled ones."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

import kvrepl.commands  # noqa: F401  (registers every command)
from kvrepl.config import Config
from kvrepl.engine import batch
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.resp.requests import RequestParser

REFERENCE = SimpleNamespace(
    serve=batch.serve_reference, run=batch.run_reference, apply=batch.apply_reference
)


def _built(name: str) -> Any:
    """Give a compiled module, None where it was not built."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


COMPILED = _built("kvrepl.engine._batch")
_accel = _built("kvrepl._accel")
_lookup = _built("kvrepl.keyspace._lookup")

LOOPS = [
    pytest.param(REFERENCE, id="reference"),
    pytest.param(
        COMPILED,
        id="compiled",
        marks=pytest.mark.skipif(COMPILED is None, reason="kvrepl.engine._batch is not built"),
    ),
]
needs_compiled = pytest.mark.skipif(
    COMPILED is None or _lookup is None or not _lookup.REFERENCE,
    reason="the compiled loops are not built, or KVREPL_PURE=1 leaves them out",
)
START_MS = 1_700_000_000_000

PureDatabase: type[Database] = Database
if _lookup is not None and _lookup.REFERENCE:
    PureDatabase = type("PureDatabase", (Database,), {"__slots__": (), **_lookup.REFERENCE})

Make = Callable[[int], Database]
"""Makes a database of so many segments."""


def compiled_database(segments: int) -> Database:
    """Give a database as the server has it."""
    return Database(0, Keyspace(0), segments)


def pure_database(segments: int) -> Database:
    """Give one with the reference methods."""
    return PureDatabase(0, Keyspace(0), segments)


BOTH_DATABASES = pytest.mark.parametrize(
    "make", [pure_database, compiled_database], ids=["pure", "compiled"]
)


class HandClock:
    """A clock that the test moves; each look at it takes `step_ns`."""

    def __init__(self) -> None:
        self.ms = START_MS
        self.ns = 0
        self.step_ns = 0

    def now_ms(self) -> int:
        """Give the time it was put to."""
        return self.ms

    def monotonic_ns(self) -> int:
        """Give the time it was put to, and let the step pass."""
        self.ns += self.step_ns
        return self.ns


class Recorder:
    """A stream that keeps its bytes, with a mark wherever the database changes."""

    def __init__(self) -> None:
        self.data = b""
        self.feeds = 0
        self._db = 0

    def feed(self, db: int, encoded: bytes) -> None:
        """Append commands."""
        self.feeds += 1
        if db not in (self._db, -1):
            self._db = db
            self.data += b"<%d>" % db
        self.data += encoded


class Bench:
    """An engine with a client, run by given loops.

    Args:
        loops: holds `serve`, `run` and `apply`.
        pure: take the reference methods of Database too.
    """

    def __init__(self, loops: Any, *, pure: bool = False) -> None:
        self.loops = loops
        self.clock = HandClock()
        config = Config()
        config.databases = 2
        self.engine = Engine(config, self.clock, Random(1))
        if pure:
            keyspace = self.engine.keyspace
            keyspace.databases = [PureDatabase(db.index, keyspace) for db in keyspace.databases]
        self.aof, self.replicas = Recorder(), Recorder()
        self.engine.propagation.connect(aof=self.aof, replicas=self.replicas)
        self.client = self.engine.connect()
        self.parser = RequestParser() if loops is REFERENCE else _accel.RequestParser()

    def run(self, *lines: bytes, client: Client | None = None) -> int:
        """Run a batch of requests, one a line; returns how many were done."""
        requests = [line.split(b" ") for line in lines]
        done: int = self.loops.run(self.engine, client or self.client, requests)
        return done

    def serve(self, data: bytes) -> list[list[bytes]] | None:
        """Serve bytes of the client; returns the requests that are left, None where all is done."""
        left: list[list[bytes]] | None
        left = self.loops.serve(self.engine, self.client, self.parser, data)
        return left

    def replies(self, client: Client | None = None) -> bytes:
        """Take what the client was answered so far."""
        out = (client or self.client).out
        data = b"".join(out)
        out.clear()
        return data

    def state(self) -> dict[str, Any]:
        """Everything that the two kinds of loops must agree on."""
        keyspace, stats = self.engine.keyspace, self.engine.stats
        return {
            "data": [sorted((k, bytes(repr(v), "utf8"), at) for k, v, at in db.items())
                     if not _has_objects(db) else len(db) for db in keyspace.databases],
            "keys": [(len(db), db.expires_count(), db.has_keys()) for db in keyspace.databases],
            "aof": self.aof.data,
            "replicas": self.replicas.data,
            "counters": (keyspace.dirty, keyspace.hits, keyspace.misses, keyspace.expired),
            "errors": (stats.errors, dict(stats.error_counts)),
            "time": (keyspace.now_ms, self.engine.timed_ns, self.client.last_interaction_ms),
            "received": stats.net_in_bytes,
            "writers": len(self.engine.writers),
            "commands": {
                c.name: (c.calls, c.nanoseconds, c.rejected, c.failed)
                for c in self.engine.all_commands()
                if c.calls or c.rejected or c.failed
            },
            "last": self.client.last_command and self.client.last_command.name,
            "gates": (self.engine.gates, self.client.gates),
            "db": self.client.db.index,
        }  # fmt: skip


def _has_objects(db: Database) -> bool:
    """Whether a database holds collections, whose repr says nothing of their content."""
    return any(type(value) not in (bytes, bytearray) for _, value, _ in db.items())
