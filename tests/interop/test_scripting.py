"""Scripts and functions against redis-server: replies, propagation, persistence, clients' use.

`tests/data/lua/scripts.txt` holds one script a line; both servers run them in that order, so that
what one leaves behind is there for the next.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.lock import Lock

from tests.interop.conftest import Launcher
from tests.interop.harness import (
    Kind,
    Pair,
    Server,
    follow,
    wait_caught_up,
    wait_linked,
    wait_same_data,
    wait_until,
)

SCRIPTS = (Path(__file__).parents[1] / "data" / "lua" / "scripts.txt").read_text().splitlines()

END = b"$8\r\nthat-all\r\n"

LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, argv)
  redis.call('set', keys[1], argv[1])
  redis.call('incr', 'calls')
  return redis.call('get', keys[1])
end)
redis.register_function{function_name='peek', callback=function(keys)
  return redis.call('get', keys[1])
end, flags={'no-writes'}, description='looks at a key'}
"""
OTHER = "#!lua name=other\nredis.register_function('nine', function() return 9 end)\n"


class Wire:
    """A connection whose replies are looked at byte for byte."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)

    def __call__(self, *arguments: str | int) -> bytes:
        """Give the reply of one command, whole."""
        self._socket.sendall(_request(*arguments) + _request("echo", "that-all"))
        reply = b""
        while not reply.endswith(END):
            data = self._socket.recv(1 << 16)
            assert data, f"the connection was closed by {arguments}"
            reply += data
        return reply[: -len(END)]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@pytest.fixture
def wires(launch: Launcher) -> Iterator[tuple[Wire, Wire]]:
    """Give a connection to a redis-server and one to a server of ours."""
    pair = Wire(launch("redis")), Wire(launch("kvrepl"))
    yield pair
    for wire in pair:
        wire.close()


def _request(*arguments: str | int) -> bytes:
    words = [str(each).encode() for each in arguments]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def _functions(server: Server) -> list[tuple[bytes, bytes, list[Any]]]:
    """Give name, code and functions of each library, in an order of their own: Redis has none."""
    found = []
    for library in server.client().function_list(withcode=True):
        told = dict(zip(library[::2], library[1::2], strict=True))
        functions = sorted(told[b"functions"])
        found.append((told[b"library_name"], told[b"library_code"], functions))
    return sorted(found)


@pytest.mark.parametrize("resp", [2, 3])
def test_scripts_answer_as_redis_does(wires: tuple[Wire, Wire], resp: int) -> None:
    theirs, ours = wires
    theirs("hello", resp)
    ours("hello", resp)

    different = [
        (script, expected, found)
        for script in SCRIPTS
        if (expected := theirs("eval", script, 1, "kk", "a1"))
        != (found := ours("eval", script, 1, "kk", "a1"))
    ]

    assert different == []


def test_function_lists_and_errors_are_those_of_redis(wires: tuple[Wire, Wire]) -> None:
    theirs, ours = wires
    requests: list[tuple[str | int, ...]] = [
        ("function", "load", OTHER),
        ("function", "load", OTHER),
        ("function", "load", "replace", OTHER),
        ("function", "load", "#!lua name=x\nreturn 1"),
        ("function", "load", "#!lua name=x\nx x"),
        ("function", "load", "#!lua name=x\nlocal a = string"),
        ("function", "load", "#!lua name=x\nredis.register_function('nine', function() end)"),
        ("function", "load", "#!lua name=x y=1\n"),
        ("function", "load", "#!js name=x\n"),
        ("function", "list"),
        ("function", "list", "withcode"),
        ("function", "list", "libraryname", "x*"),
        ("function", "stats"),
        ("fcall", "nine", 0),
        ("fcall", "nine", "x"),
        ("fcall", "nine", 3),
        ("fcall", "none", 0),
        ("fcall_ro", "nine", 0),
        ("function", "delete", "none"),
        ("function", "delete", "other"),
        ("function", "flush", "later"),
        ("script", "load", "return 1"),
        ("script", "exists", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "x"),
        ("script", "flush", "now"),
        ("script", "kill"),
        ("eval", "return 1", "x"),
        ("eval", "return 1", 2),
        ("eval", "return 1", -1),
        ("evalsha", "x", 0),
        ("eval", "#!lua flags=none\nreturn 1", 0),
        ("eval", "#!lua other=1\nreturn 1", 0),
        ("eval", "#!js\nreturn 1", 0),
        ("eval_ro", "#!lua\nreturn 1", 0),
    ]

    assert [(r, ours(*r)) for r in requests] == [(r, theirs(*r)) for r in requests]


def test_functions_dumped_by_one_are_restored_by_the_other(launch: Launcher) -> None:
    theirs, ours = launch("redis"), launch("kvrepl")
    for giver, taker in ((theirs, ours), (ours, theirs)):
        taker.call("FUNCTION", "FLUSH")
        giver.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        taker.call("FUNCTION", "RESTORE", giver.call("FUNCTION", "DUMP"))

        assert _functions(taker) == _functions(giver)


def test_functions_and_effects_reach_the_replica(launch: Launcher, pair: Pair) -> None:
    master, replica = launch(pair.master), launch(pair.replica)
    master.call("FUNCTION", "LOAD", LIBRARY)
    master.call("FCALL", "put", 1, "before", "1")
    follow(replica, master.port)  # the libraries come with the full sync
    wait_linked(replica)
    master.call("FUNCTION", "LOAD", OTHER)  # and this one with the stream
    master.call("FCALL", "put", 1, "after", "2")
    master.call("EVAL", "for i = 1, 3 do redis.call('rpush', KEYS[1], i) end", 1, "list")
    wait_caught_up(master, replica)

    assert _functions(replica) == _functions(master)
    assert len(_functions(replica)) == 2
    wait_same_data(master, replica)
    assert replica.call("FCALL_RO", "peek", 1, "after") == b"2"
    with pytest.raises(redis.exceptions.ReadOnlyError):
        replica.call("FCALL", "put", 1, "x", "y")


@pytest.mark.parametrize("appendonly", ["no", "yes"])
def test_functions_are_there_after_a_restart(launch: Launcher, appendonly: str) -> None:
    server = launch("kvrepl", appendonly=appendonly, save="3600 1")
    server.call("FUNCTION", "LOAD", LIBRARY)
    server.call("FUNCTION", "LOAD", OTHER)
    server.call("FUNCTION", "DELETE", "other")
    server.call("FCALL", "put", 1, "k", "v")
    before = _functions(server)
    if appendonly == "yes":
        server.call("BGREWRITEAOF")
        wait_until(
            lambda: server.info("persistence")["aof_rewrite_in_progress"] == 0, "the rewrite"
        )
        server.call("FUNCTION", "LOAD", OTHER)
        before = _functions(server)
    server.terminate()
    server.start()

    assert _functions(server) == before
    assert server.call("FCALL", "peek", 1, "k") == b"v"


def test_functions_saved_by_one_are_loaded_by_the_other(launch: Launcher, pair: Pair) -> None:
    writer = launch(pair.master, save="3600 1")
    writer.call("FUNCTION", "LOAD", LIBRARY)
    writer.call("SAVE")
    reader = launch.prepare(pair.replica, save="3600 1")
    (reader.folder / "dump.rdb").write_bytes((writer.folder / "dump.rdb").read_bytes())
    reader.start()

    assert _functions(reader) == _functions(writer)


def test_client_library_scripts_work(launch: Launcher, kind: Kind) -> None:
    client = launch(kind).client()
    double = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1] * 2)")

    assert double(keys=["n"], args=[4]) == 8
    client.script_flush()
    assert double(keys=["n"], args=[1]) == 10  # loaded again after NOSCRIPT


def test_client_library_lock_is_held_by_one(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    first = Lock(server.client(), "lock", timeout=60)
    second = Lock(server.client(), "lock", timeout=60)

    assert first.acquire(blocking=False)
    assert not second.acquire(blocking=False)
    first.extend(30)
    first.reacquire()
    first.release()
    assert second.acquire(blocking=False)
    second.release()
    with contextlib.suppress(redis.exceptions.LockError):
        first.release()
