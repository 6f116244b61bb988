"""What errors and mistakes leave behind in the engine: nothing that grows, and a reply."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest

import kvrepl.commands  # noqa: F401  (registers every command)
from kvrepl.clock import Clock
from kvrepl.config import Config
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.resp import ReplyParser


class FixedClock(Clock):
    """Time stands still."""

    def now_ms(self) -> int:
        return 1_000

    def monotonic_ns(self) -> int:
        return 1


@pytest.fixture
def engine() -> Engine:
    return Engine(Config(), FixedClock(), random.Random(1))


def replies(engine: Engine, client: Client, *requests: list[bytes]) -> list[Any]:
    engine.run(client, list(requests))
    return ReplyParser().feed(b"".join(client.out))


def clients_alive() -> list[Client]:
    return [thing for thing in gc.get_objects() if type(thing) is Client]


def test_error_replies_keep_no_client_alive(engine: Engine) -> None:
    others = clients_alive()  # a test that caught a shared error may have left its own
    for _ in range(20):
        client = engine.connect()
        replies(engine, client, [b"SET", b"k", b"v", b"NONSENSE"], [b"SETEX", b"k", b"x", b"v"])
        engine.disconnect(client)
        del client
    engine.writers.clear()
    gc.collect()

    assert len(clients_alive()) == len(others)


def test_handler_that_fails_is_answered_with_an_error_and_reported(engine: Engine) -> None:
    def broken(client: Client, argv: list[bytes]) -> None:
        raise KeyError("a mistake")

    reported: list[Exception] = []
    engine.commands["strlen"].handler = broken
    engine.on_fault = lambda client, command, argv, error: reported.append(error)

    said = replies(engine, engine.connect(), [b"STRLEN", b"k"], [b"PING"])

    assert said[0].text == b"ERR internal error in 'strlen', see the log of the server"
    assert said[1].text == b"PONG"
    assert [type(error) for error in reported] == [KeyError]
    assert engine.commands["strlen"].failed == 1


def test_handler_that_fails_without_a_server_raises(engine: Engine) -> None:
    def broken(client: Client, argv: list[bytes]) -> None:
        raise KeyError("a mistake")

    engine.commands["strlen"].handler = broken

    with pytest.raises(KeyError):
        engine.run(engine.connect(), [[b"STRLEN", b"k"]])


def test_renamed_command_answers_to_its_new_name_only(engine: Engine) -> None:
    client = engine.connect()
    assert engine.find(b"GET") is not None
    engine.rename(b"get", b"Fetch")

    said = replies(engine, client, [b"FETCH", b"k"], [b"GET", b"k"], [b"get", b"k"])

    assert said[0] is None
    assert b"unknown command 'GET'" in said[1].text and b"unknown command" in said[2].text


@pytest.mark.parametrize(
    ("name", "new_name", "reason"),
    [
        (b"nosuch", b"x", "No such command in rename-command"),
        (b"get", b"SET", "Target command name already exists"),
    ],
)
def test_rename_that_cannot_be_done_is_refused(
    engine: Engine, name: bytes, new_name: bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        engine.rename(name, new_name)
    assert engine.find(b"GET") is not None
