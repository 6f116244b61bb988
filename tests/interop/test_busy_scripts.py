"""A script that runs for too long: others are told so, and can end it; both kinds alike."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server, wait_until

FOR_EVER = "while true do end"
LIBRARY = "#!lua name=lib\nredis.register_function('spin', function() while true do end end)"
BUSY = "BUSY Redis is busy running a script. You can only call {} KILL or SHUTDOWN NOSAVE."
BUSY_AFTER_MS = 50


class Caller(threading.Thread):
    """Calls a command that does not end by itself, and keeps what came of it."""

    def __init__(self, server: Server, *command: str) -> None:
        super().__init__(daemon=True)
        self._client = server.client(socket_timeout=60)
        self._command = command
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = ask(self._client, *self._command)
        except redis.RedisError as error:
            self.outcome = str(error)

    def ended(self) -> str:
        self.join(60)
        assert not self.is_alive()
        return str(self.outcome)


def ask(client: redis.Redis, *command: str) -> Any:
    """What a command is answered."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def said(client: redis.Redis, *command: str) -> str:
    """What a command is answered, an error as its text."""
    try:
        return str(ask(client, *command))
    except redis.ResponseError as error:
        code = type(error).__name__.removesuffix("Error").upper()
        text = str(error)
        return f"BUSY {text}" if code == "BUSYLOADING" else text


def wait_busy(client: redis.Redis, server: Server) -> None:
    wait_until(lambda: said(client, "GET", "k").startswith("BUSY"), "it says BUSY", server)


def test_script_for_ever_lets_others_hear_busy_and_be_killed(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, busy_reply_threshold=BUSY_AFTER_MS)
    other = server.client()
    other.ping()
    caller = Caller(server, "EVAL", FOR_EVER, "0")
    wait_busy(other, server)

    newcomer = server.client()
    assert said(newcomer, "PING") == BUSY.format("SCRIPT")
    assert said(other, "EVAL", "return 1", "0") == BUSY.format("SCRIPT")
    assert said(other, "SHUTDOWN") == BUSY.format("SCRIPT")
    assert said(other, "FUNCTION", "KILL") == BUSY.format("SCRIPT")
    assert said(newcomer, "SCRIPT", "KILL") in ("OK", "b'OK'", "True")

    assert "Script killed by user with SCRIPT KILL" in caller.ended()
    for client in (other, newcomer):
        assert client.set("k", "v")
        assert client.get("k") == b"v"
    assert said(other, "SCRIPT", "KILL") == "NOTBUSY No scripts in execution right now."


def test_function_for_ever_is_told_of_and_killed(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, busy_reply_threshold=BUSY_AFTER_MS)
    other = server.client()
    other.function_load(LIBRARY)
    caller = Caller(server, "FCALL", "spin", "0")
    wait_busy(other, server)

    assert said(other, "GET", "k") == BUSY.format("FUNCTION")
    running = ask(other, "FUNCTION", "STATS")[1]
    assert b"spin" in running
    ask(other, "FUNCTION", "KILL")

    assert "killed by user" in caller.ended()
    assert other.ping()


def test_script_that_wrote_cannot_be_killed_and_ends_with_shutdown_nosave(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind, busy_reply_threshold=BUSY_AFTER_MS, appendonly="yes")
    other = server.client()
    other.set("before", "1")
    caller = Caller(server, "EVAL", "redis.call('set', 'half', '1') " + FOR_EVER, "0")
    wait_busy(other, server)

    assert said(other, "SCRIPT", "KILL").startswith("UNKILLABLE")
    assert said(other, "SHUTDOWN", "SAVE") == BUSY.format("SCRIPT")
    with pytest.raises(redis.ConnectionError):
        ask(other, "SHUTDOWN", "NOSAVE")
    assert server.wait_exit() == 0
    caller.ended()

    server.start()
    assert server.call("MGET", "before", "half") == [b"1", None]


def test_clients_that_came_in_meanwhile_go_on_as_any_other(launch: Launcher) -> None:
    server = launch("kvrepl", busy_reply_threshold=BUSY_AFTER_MS)
    other = server.client()
    other.ping()
    caller = Caller(server, "EVAL", FOR_EVER, "0")
    wait_busy(other, server)
    came = [server.client() for _ in range(20)]
    for client in came:
        assert said(client, "GET", "k").startswith("BUSY")
    came[0].connection_pool.disconnect()

    ask(other, "SCRIPT", "KILL")
    caller.ended()

    large = b"x" * 3_000_000
    for number, client in enumerate(came[1:]):
        assert client.set(f"k{number}", large)
        assert client.get(f"k{number}") == large
    wait_until(
        lambda: server.info("clients")["connected_clients"] <= 23, "the closed one is gone", server
    )
