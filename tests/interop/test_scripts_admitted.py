"""Scripts that declare what they do are admitted, refused and held back by that, as by Redis.

Each request is sent as it is, and inside MULTI, in states in which some are refused: the answers of
both kinds of server, and whether there is one at all, must be the same.
"""

from __future__ import annotations

import hashlib
import select
import socket
from collections.abc import Callable

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.differential.peers import encode
from tests.interop.harness import Server, wait_until

HELD = b"held"

LIBRARY = "#!lua name=lib\n" + "".join(
    f"redis.register_function{{function_name='{name}', callback=function() return 1 end,"
    f" flags={{{flags}}}}}\n"
    for name, flags in {
        "reads": "'no-writes'",
        "writes": "",
        "grows": "'allow-oom'",
        "old": "'no-writes', 'allow-stale'",
    }.items()
)

SCRIPTS = [
    b"return 1",
    b"#!lua\nreturn 1",
    b"#!lua flags=no-writes\nreturn 1",
    b"#!lua flags=allow-oom\nreturn 1",
    b"#!lua flags=no-writes,allow-stale\nreturn 1",
    b"#!lua flags=nonsense\nreturn 1",
]


def requests() -> list[list[bytes]]:
    found = []
    for script in SCRIPTS:
        sha = hashlib.sha1(script).hexdigest().encode()
        for suffix in (b"", b"_RO"):
            found += [[b"EVAL" + suffix, script, b"0"], [b"EVALSHA" + suffix, sha, b"0"]]
    for name in (b"reads", b"writes", b"grows", b"old", b"none"):
        found += [[b"FCALL", name, b"0"], [b"FCALL_RO", name, b"0"]]
    found += [[b"SET", b"a", b"b"], [b"GET", b"a"], [b"PUBLISH", b"a", b"b"], [b"PFCOUNT", b"a"]]
    return found


def paused(server: Server) -> None:
    server.call("CLIENT", "PAUSE", 10_000_000, "WRITE")


def few_replicas(server: Server) -> None:
    server.config_set(min_replicas_to_write=1)


def short_of_memory(server: Server) -> None:
    server.config_set(maxmemory=1)


def read_only(server: Server) -> None:
    server.call("REPLICAOF", "127.0.0.1", "1")


def stale(server: Server) -> None:
    server.config_set(replica_serve_stale_data="no")
    server.call("REPLICAOF", "127.0.0.1", "1")


class Caller:
    """One connection, whose requests may be held back."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.settimeout(30)

    def ask(self, request: list[bytes]) -> bytes:
        """Send a request; give its answer, or HELD."""
        self._socket.sendall(encode(request))
        wait_until(lambda: self._is_answered() or self._is_held(), "answered or held", self._server)
        return self._socket.recv(65536) if self._is_answered() else HELD

    def _is_answered(self) -> bool:
        return bool(select.select([self._socket], [], [], 0.1)[0])  # mostly at once

    def _is_held(self) -> bool:
        return bool(self._server.info("clients")["blocked_clients"])

    def close(self) -> None:
        self._socket.close()


def answers(server: Server, batch: list[list[bytes]]) -> list[bytes]:
    """Send requests on a connection of their own, up to one that is held back."""
    caller = Caller(server)
    found: list[bytes] = []
    for request in batch:
        found.append(caller.ask(request))
        if found[-1] == HELD:
            break
    caller.close()
    if found[-1] == HELD:
        wait_until(lambda: server.info("clients")["blocked_clients"] == 0, "it is gone", server)
    return found


@pytest.mark.parametrize("enter", [paused, few_replicas, short_of_memory, read_only, stale])
def test_scripts_are_admitted_by_what_they_declare(
    launch: Launcher, enter: Callable[[Server], None]
) -> None:
    servers = [launch(kind) for kind in KINDS]
    for server in servers:
        server.call("FUNCTION", "LOAD", LIBRARY)
        for script in SCRIPTS[:-1]:
            server.call("SCRIPT", "LOAD", script)
        enter(server)
    for request in requests():
        for batch in ([request], [[b"MULTI"], request, [b"EXEC"]]):
            theirs, ours = (answers(server, batch) for server in servers)
            if b"_RO" in request[0] and theirs == [HELD]:
                # It would only be held to be told afterwards that it may not write at all.
                assert ours == [b"-ERR Can not execute a script with write flag using *_ro"
                                b" command.\r\n"]  # fmt: skip
            else:
                assert ours == theirs, (enter.__name__, batch)
