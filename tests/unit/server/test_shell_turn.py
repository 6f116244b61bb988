"""The end of a turn: durability, then replicas, then answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

import kvrepl.commands  # noqa: F401  (registers every command)
from kvrepl.clock import Clock
from kvrepl.config import Config
from kvrepl.engine.blocking import TIDY_AFTER
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.server.turn import Turn


class StillClock(Clock):
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        """The Unix time."""
        return self.ms

    def monotonic_ns(self) -> int:
        """The same instant, in nanoseconds."""
        return self.ms * 1_000_000


class RecordingPort:
    """Stands for a connection: notes when its client's output leaves."""

    def __init__(self, events: list[str], name: str) -> None:
        self._events = events
        self._name = name
        self.client: Client | None = None

    def flush(self) -> None:
        """The client's output leaves."""
        assert self.client is not None
        said = b"".join(self.client.out).decode()
        self.client.out.clear()
        self._events.append(f"{self._name}: {said!r}")

    def resume(self) -> None:
        """The client goes on."""

    def close_soon(self) -> None:
        """The client is to be closed."""

    def abort(self) -> None:
        """The client is cut."""


@pytest.fixture
def clock() -> StillClock:
    """Give a clock at second one."""
    return StillClock()


@pytest.fixture
def engine(clock: StillClock) -> Engine:
    """Give an engine on that clock."""
    return Engine(Config(), clock, Random(1))


@pytest.fixture
def events() -> list[str]:
    """Give the list of what happened."""
    return []


@pytest.fixture
def turn(engine: Engine, events: list[str]) -> Iterator[Turn]:
    """Give a turn whose steps are noted."""
    loop = asyncio.new_event_loop()
    made = Turn(loop, engine)
    made.steps = [lambda: events.append("aof"), lambda: events.append("replicas")]
    yield made
    loop.close()


def connect(engine: Engine, events: list[str], name: str) -> Client:
    """Give a client whose output is noted."""
    port = RecordingPort(events, name)
    port.client = engine.connect(port)
    return port.client


def test_end_writes_replies_after_the_log_and_the_replicas(
    engine: Engine, events: list[str], turn: Turn
) -> None:
    engine.run(connect(engine, events, "one"), [[b"SET", b"k", b"v"]])
    engine.run(connect(engine, events, "two"), [[b"GET", b"k"]])

    turn.end()

    assert events == ["aof", "replicas", "one: '+OK\\r\\n'", "two: '$1\\r\\nv\\r\\n'"]


def test_end_answers_served_and_subscribed_clients_after_the_log(
    engine: Engine, events: list[str], turn: Turn
) -> None:
    waiting = connect(engine, events, "waiting")
    engine.run(waiting, [[b"BLPOP", b"list", b"0"]])
    subscribed = connect(engine, events, "subscribed")
    engine.run(subscribed, [[b"SUBSCRIBE", b"news"]])
    turn.end()
    events.clear()

    pusher = connect(engine, events, "pusher")
    engine.run(pusher, [[b"RPUSH", b"list", b"x"], [b"PUBLISH", b"news", b"y"]])
    turn.end()

    assert events[:2] == ["aof", "replicas"]
    assert sorted(event.partition(":")[0] for event in events[2:]) == [
        "pusher",
        "subscribed",
        "waiting",
    ]


def test_end_whose_log_fails_answers_nobody(engine: Engine, events: list[str], turn: Turn) -> None:
    def fail() -> None:
        raise OSError("the disk")

    turn.steps[0] = fail
    engine.run(connect(engine, events, "one"), [[b"SET", b"k", b"v"]])

    with pytest.raises(OSError, match="the disk"):
        turn.end()

    assert events == []


def test_end_answers_a_blocked_client_whose_time_is_up(
    engine: Engine, events: list[str], turn: Turn, clock: StillClock
) -> None:
    client = connect(engine, events, "one")
    engine.run(client, [[b"BLPOP", b"list", b"1.5"]])
    turn.end()
    events.clear()

    clock.ms += 1_499
    engine.tick()
    turn.end()
    assert client.wait is not None
    clock.ms += 1
    engine.tick()
    events.clear()
    turn.end()

    assert events == ["aof", "replicas", "one: '*-1\\r\\n'"]


def test_later_resumes_before_the_turn_ends(engine: Engine, events: list[str], turn: Turn) -> None:
    client = connect(engine, events, "one")

    def resume() -> None:
        engine.run(client, [[b"PING"]])

    turn.later(resume)

    turn._loop.call_later(0, turn._loop.stop)
    turn._loop.run_forever()

    assert events == ["aof", "replicas", "one: '+PONG\\r\\n'"]


def test_deadlines_of_clients_served_early_do_not_pile_up(
    engine: Engine, events: list[str]
) -> None:
    client = connect(engine, events, "one")
    patient = connect(engine, events, "two")
    blocking = engine.blocking
    blocking.block(patient, [b"never"], timeout_ms=5_000)

    for _ in range(10 * TIDY_AFTER):
        blocking.block(client, [b"list"], timeout_ms=3_600_000)
        blocking.forget(client)

    assert len(blocking._deadlines) <= 2 * TIDY_AFTER + 2
    assert blocking.next_deadline_ms() == engine.keyspace.now_ms + 5_000
