"""CLIENT REPLY and commands that wait: what is withheld when the wait is over."""

from __future__ import annotations

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.differential.peers import Connection, Tree
from tests.interop.harness import Server, wait_until

ON = [b"CLIENT", b"REPLY", b"ON"]
REQUESTS = ["RESET", "CLIENT REPLY SKIP", "CLIENT REPLY OFF", "CLIENT REPLY ON", "NOSUCH"]
WAITS = [b"BLPOP list 0", b"BLPOP list 0.05", b"XREAD BLOCK 50 STREAMS s $", b"WAIT 1 50"]


def answered(server: Server, mode: bytes, wait: bytes) -> list[Tree]:
    """The replies to requests behind CLIENT REPLY, up to that to an ECHO."""
    waiting, other = Connection(server.port, 2), Connection(server.port, 2)
    waiting.send([[b"CLIENT", b"REPLY", mode], wait.split(), [b"ECHO", b"behind"], ON])
    waiting.send([[b"ECHO", b"the end"]])
    if wait.endswith(b" 0"):
        blocked = b"blocked_clients:1\r\n"
        wait_until(lambda: blocked in other.ask([b"INFO", b"clients"])[1], "it waits", server)
        other.ask([b"RPUSH", b"list", b"element"])
    trees: list[Tree] = []
    while not trees or trees[-1] != (b"$", b"the end"):
        trees.append(waiting.read())
    waiting.close()
    other.close()
    return trees


@pytest.mark.parametrize("mode", [b"OFF", b"SKIP", b"ON"])
def test_reply_of_a_command_that_waited_is_withheld_as_any_other(
    launch: Launcher, mode: bytes
) -> None:
    theirs, ours = (launch(kind) for kind in KINDS)
    for wait in WAITS:
        assert answered(ours, mode, wait) == answered(theirs, mode, wait), wait


@pytest.mark.parametrize("mode", ["OFF", "SKIP", "ON"])
def test_what_follows_a_reply_mode_is_silenced_as_by_redis(launch: Launcher, mode: str) -> None:
    theirs, ours = (launch(kind) for kind in KINDS)
    for first in REQUESTS:
        for second in REQUESTS:
            lines = [f"CLIENT REPLY {mode}", first, second, "PING", "CLIENT REPLY ON", "ECHO end"]
            seen = []
            for server in (theirs, ours):
                connection = Connection(server.port, 2)
                connection.send([line.encode().split() for line in lines])
                trees = [connection.read()]
                while trees[-1] != (b"$", b"end"):
                    trees.append(connection.read())
                connection.close()
                seen.append(trees)
            assert seen[0] == seen[1], lines
