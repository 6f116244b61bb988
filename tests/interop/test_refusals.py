"""Errors where they are counted, and in which order they are thought of: as by Redis.

Each line is sent to a fresh connection of a server of either kind; `;` stands between requests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.differential.peers import Connection, Tree
from tests.interop.harness import Server

PROTECTED = """
DEBUG SLEEP 0
DEBUG
DEBUG NOPE
MULTI ; DEBUG SLEEP 0 ; EXEC
MULTI ; MODULE LOAD /nowhere ; EXEC
MODULE LOAD
MODULE LOAD /nowhere
MODULE LOADEX /nowhere
MODULE UNLOAD nothing
MODULE LIST
SUBSCRIBE channel ; DEBUG SLEEP 0
"""

REFUSED = """
CLIENT UNBLOCK 1 TIMEOUT junk
DEBUG JMAP
DEBUG POPULATE -1
DEBUG POPULATE x
DEBUG POPULATE 1 key -1
DEBUG ERROR text
DEBUG ERROR MINE ; DEBUG NOPE ; INFO errorstats
"""

SCRIPTS = [
    "return redis.call('incr', 'text')",
    "return redis.pcall('incr', 'text')",
    "redis.pcall('incr', 'text') return 1",
    "return {1, {err = 'MINE a'}, redis.pcall('incr', 'text')}",
    "return {{err = 'MINE a'}, {err = 'MINE b'}}",
    "return {err = 'MINE a'}",
    "return redis.error_reply('MINE')",
    "error({err = 'MINE a'})",
    "error('text')",
    "return redis.pcall('nosuch')",
    "return redis.call('set', 'x')",
    "return nothing",
    "no script (",
]


def answers(server: Server, requests: Sequence[Sequence[bytes]]) -> list[Tree]:
    """Send requests over a connection of their own; give the replies."""
    connection = Connection(server.port, 2)
    try:
        return connection.ask_all(*requests)
    finally:
        connection.close()


@pytest.mark.parametrize("allowed", ["no", "local", "yes"])
@pytest.mark.parametrize("password", ["", "secret"])
def test_protected_commands_are_refused_before_a_password_is_asked_for(
    launch: Launcher, allowed: str, password: str
) -> None:
    servers = [launch(kind, enable_debug_command=allowed) for kind in KINDS]
    for server in servers:
        server.call("CONFIG", "SET", "requirepass", password)
    for line in PROTECTED.strip().splitlines():
        requests = [each.encode().split() for each in line.split(";")]
        theirs, ours = (answers(server, requests) for server in servers)
        assert ours == theirs, line


def test_words_that_a_command_does_not_take_are_refused_as_by_redis(launch: Launcher) -> None:
    servers = [launch(kind) for kind in KINDS]
    for line in REFUSED.strip().splitlines():
        requests = [each.encode().split() for each in line.split(";")]
        theirs, ours = (answers(server, requests) for server in servers)
        assert ours == theirs, line


@pytest.mark.parametrize("name", [b"EVAL", b"EVAL_RO"])
def test_scripts_that_answer_with_errors_are_failures_as_often_as_by_redis(
    launch: Launcher, name: bytes
) -> None:
    servers = [launch(kind) for kind in KINDS]
    for script in SCRIPTS:
        eval_ = [name, script.encode(), b"0"]
        told = []
        for server in servers:
            answers(server, [[b"SET", b"text", b"x"], [b"CONFIG", b"RESETSTAT"]])
            replies = answers(server, [eval_, [b"MULTI"], eval_, [b"INCR", b"text"], [b"EXEC"]])
            fields = server.info("commandstats").items()
            counts = {
                field: [stats[each] for each in ("calls", "rejected_calls", "failed_calls")]
                for field, stats in fields
                if re.fullmatch("cmdstat_(eval.*|incr|set|exec)", field)
            }
            told.append((replies, counts, server.info("errorstats")))
        theirs, ours = told
        assert ours == theirs, script
