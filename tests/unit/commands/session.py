"""An engine without a server around it, and one client of it: what tests of commands talk to."""

from __future__ import annotations

from io import BytesIO
from random import Random
from typing import Any

import kvrepl.commands  # noqa: F401  registers every command
from kvrepl.config import Config
from kvrepl.config.notify import NOTIFY_ALL
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.keyspace.database import Database
from kvrepl.resp.values import BLOCKED

START_MS = 1_700_000_000_000


class HandClock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        """Give the time it was put to."""
        return self.ms

    def monotonic_ns(self) -> int:
        """Never move: no command is slow."""
        return 0


class Recorder:
    """A stream that keeps what it is fed, decoded."""

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []

    def feed(self, db: int, encoded: bytes) -> None:
        """Decode one command."""
        stream = BytesIO(encoded)
        count = int(stream.readline()[1:])
        argv = []
        for _ in range(count):
            size = int(stream.readline()[1:])
            argv.append(stream.read(size + 2)[:-2])
        self.commands.append(argv)


class WatchedEngine(Engine):
    """An engine that notes its notifications."""

    events: list[tuple[bytes, bytes]]

    def notify(self, kind: int, event: bytes, key: bytes, db: Database) -> None:
        """Note an event instead of publishing it."""
        self.events.append((event, key))


def argv_of(arguments: tuple[object, ...]) -> list[bytes]:
    """Turn text and numbers into arguments; bytes stay as they are."""
    return [a if isinstance(a, bytes) else str(a).encode() for a in arguments]


class Session:
    """One client of an engine of its own, and what can be seen of the engine.

    Attributes:
        engine: the engine.
        client: who runs the commands.
        limits: the thresholds of encodings.
    """

    def __init__(self, resp: int = 2) -> None:
        self.clock = HandClock()
        self.engine = WatchedEngine(Config(), self.clock, Random(0))
        self.engine.events = []
        self.engine.keyspace.notify_flags = NOTIFY_ALL
        self._recorder = Recorder()
        self.engine.propagation.connect(aof=None, replicas=self._recorder)
        self.client = self.engine.connect()
        self.client.resp = resp
        self.limits = self.engine.keyspace.limits

    def run(self, *arguments: object) -> Any:
        """Run a command and give the value that it returns, an error included."""
        return self.engine.apply(self.client, argv_of(arguments))

    def error(self, *arguments: object) -> str:
        """Run a command that must fail, and give the text of the error."""
        return str(self.run(*arguments))

    def encoding(self, key: str) -> str:
        """Give the encoding of the collection at a key."""
        value: Any = self.client.db.peek(key.encode())
        return str(value.encoding.decode())

    def propagated(self, *arguments: object) -> list[str]:
        """Run a command and give what it propagates, a line each."""
        self._recorder.commands.clear()
        self.run(*arguments)
        return self.take_propagated()

    def take_propagated(self) -> list[str]:
        """Give what was propagated since this was asked for last."""
        lines = [b" ".join(argv).decode() for argv in self._recorder.commands]
        self._recorder.commands.clear()
        return lines

    def events(self, *arguments: object) -> list[str]:
        """Run a command and give the notifications, `event key` each."""
        self.engine.events.clear()
        self.run(*arguments)
        return [b" ".join(pair).decode() for pair in self.engine.events]

    def dirt(self, *arguments: object) -> int:
        """Run a command and give by how much the dataset got dirtier."""
        before = self.engine.keyspace.dirty
        self.run(*arguments)
        return self.engine.keyspace.dirty - before

    def wait(self, *arguments: object, resp: int = 2) -> Client:
        """Run a command that must wait, as a client of its own."""
        client = self.engine.connect()
        client.resp = resp
        assert self.engine.apply(client, argv_of(arguments)) is BLOCKED
        return client

    def advance(self, span_ms: int) -> None:
        """Let time pass, and answer those whose waiting is over."""
        self.clock.ms += span_ms
        self.engine.tick()
        self.engine.blocking.expire()
