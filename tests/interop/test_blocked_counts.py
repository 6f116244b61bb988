"""What a command that waited leaves in the statistics, by the way in which its wait ended.

Compared are the two servers: calls and failures, errors, whether its latency is told, what the slow
log has of it, and how often MONITOR saw it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.interop.conftest import KINDS, Launcher
from tests.interop.differential.peers import Connection
from tests.interop.harness import Kind, Server, follow, wait_caught_up, wait_until
from tests.interop.proxy import Direction, Proxy

GROUP = "XGROUP CREATE k g $ MKSTREAM"
READ_GROUP = "XREADGROUP GROUP g c BLOCK 0 STREAMS k >"
ITSELF = ""
"""The wait ends because its time is over."""


class Case(NamedTuple):
    """A wait.

    Attributes:
        command: what waits.
        end: what another client then sends, {id} being the number of the one who waits.
        before: what was sent before.
    """

    command: str
    end: str
    before: str = "PING"


CASES = [
    Case("BLPOP k 0", "RPUSH k x"),
    Case("BLPOP k 0.1", ITSELF),
    Case("BLPOP k 0", "CLIENT UNBLOCK {id}"),
    Case("BLPOP k 0", "CLIENT UNBLOCK {id} ERROR"),
    Case("BLPOP k 0", "CLIENT KILL ID {id}"),
    Case("BLPOP k 0", "REPLICAOF 127.0.0.1 1"),
    Case("BLMOVE k to LEFT LEFT 0", "RPUSH k x"),
    Case("BLMOVE k to LEFT LEFT 0", "RPUSH k x", "SET to text"),
    Case("BRPOPLPUSH k to 0", "RPUSH k x", "SET to text"),
    Case("BLMPOP 0 1 k LEFT", "RPUSH k x"),
    Case("BZPOPMIN k 0", "ZADD k 1 x"),
    Case("BZMPOP 0 1 k MIN", "ZADD k 1 x"),
    Case("XREAD BLOCK 0 STREAMS k $", "XADD k 1-1 f v"),
    Case("XREAD BLOCK 100 STREAMS k $", ITSELF),
    Case(READ_GROUP, "XADD k 1-1 f v", GROUP),
    Case(READ_GROUP, "DEL k", GROUP),
    Case(READ_GROUP, "SET k text", GROUP),
    Case(READ_GROUP, "XGROUP DESTROY k g", GROUP),
    Case("WAIT 1 100", ITSELF),
    Case("WAIT 1 0", "CLIENT UNBLOCK {id}"),
    Case("WAIT 1 0", "CLIENT UNBLOCK {id} ERROR"),
]


def blocked(server: Server) -> int:
    """How many clients wait."""
    return int(server.info("clients")["blocked_clients"])


def counted(server: Server, connection: Connection, case: Case) -> dict[str, Any]:
    """What there is to see of a command and of the one that ends its wait."""
    name = case.command.split()[0].lower()
    ends = "|".join(case.end.split()[:2]).lower() if "{id}" in case.end else case.end.split(" ")[0]
    stats = server.info("commandstats")
    _, entries = connection.ask([b"SLOWLOG", b"GET", b"-1"])
    slow = [b" ".join(word for _, word in facts[3][1]) for _, facts in entries]
    _, histogram = connection.ask([b"LATENCY", b"HISTOGRAM", name.encode()])
    return {
        "calls and failures": [
            (stats[field]["calls"], stats[field]["failed_calls"])
            for field in (f"cmdstat_{name}", f"cmdstat_{ends.lower()}")
            if field in stats
        ],
        "errors": server.info("errorstats"),
        "percentiles": f"latency_percentiles_usec_{name}" in server.info("latencystats"),
        "histogram": histogram and histogram[1][1][1],
        "slow log": [words for words in slow if words in (b"", *_texts(case))],
    }


def _texts(case: Case) -> tuple[bytes, bytes]:
    return case.command.encode(), case.end.encode()


def watch(server: Server, case: Case) -> list[Any]:
    """Let a command wait and end its wait; give what is counted before and after."""
    connection, waiting, monitor = (Connection(server.port, 2) for _ in range(3))
    connection.ask_all([b"FLUSHALL"], case.before.encode().split())
    monitor.ask([b"MONITOR"])
    _, number = waiting.ask([b"CLIENT", b"ID"])
    connection.ask_all([b"SLOWLOG", b"RESET"], [b"CONFIG", b"RESETSTAT"])

    waiting.send([case.command.encode().split()])
    wait_until(lambda: blocked(server) == 1, f"{case.command} waits", server)
    seen: list[Any] = [counted(server, connection, case)]
    if case.end:
        connection.ask(case.end.encode().replace(b"{id}", number).split())
    wait_until(lambda: blocked(server) == 0, "it waits no more", server)
    seen.append(counted(server, connection, case))

    connection.ask_all([b"REPLICAOF", b"NO", b"ONE"], [b"ECHO", b"the end"])
    shown = b""
    while b"the end" not in shown:
        shown += monitor.read()[1] + b"\n"
    words = b" ".join(b'"%b"' % word for word in case.command.encode().split())
    seen.append(shown.count(words))
    for each in (connection, waiting, monitor):
        each.close()
    return seen


def test_commands_that_wait_are_counted_as_by_redis_however_the_wait_ends(
    launch: Launcher,
) -> None:
    theirs, ours = (launch(kind, slowlog_log_slower_than=0) for kind in KINDS)
    differing = {
        case: (seen, expected)
        for case in CASES
        if (seen := watch(ours, case)) != (expected := watch(theirs, case))
    }
    assert not differing


def test_wait_that_replicas_answer_is_called_and_never_timed(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    seen = []
    for kind in KINDS:
        master, replica = launch(kind, slowlog_log_slower_than=0), launch("redis")
        proxy = proxy_to(master)
        follow(replica, proxy.port)
        wait_caught_up(master, replica)
        connection, waiting = Connection(master.port, 2), Connection(master.port, 2)
        proxy.stall(Direction.UP)
        waiting.ask([b"SET", b"k", b"v"])
        connection.ask_all([b"SLOWLOG", b"RESET"], [b"CONFIG", b"RESETSTAT"])
        waiting.send([[b"WAIT", b"1", b"0"]])
        wait_until(lambda: blocked(master) == 1, "it waits", master)  # noqa: B023
        proxy.resume()
        assert waiting.read() == (b":", b"1")
        seen.append(counted(master, connection, Case("WAIT 1 0", ITSELF)))
        connection.close()
        waiting.close()
    assert seen[0] == seen[1]


def test_serving_what_waited_is_an_event_of_its_own(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, latency_monitor_threshold=1)
    connection, waiting = Connection(server.port, 2), Connection(server.port, 2)
    waiting.send([b"BLMPOP 0 1 k LEFT COUNT 500000".split()])
    wait_until(lambda: blocked(server) == 1, "it waits", server)

    connection.ask([b"RPUSH", b"k", *(b"%d" % number for number in range(500_000))])
    waiting.read()

    _, events = connection.ask([b"LATENCY", b"LATEST"])
    assert {facts[0][1] for _, facts in events} >= {b"command-unblocking", b"fast-command"}
    connection.close()
    waiting.close()


def test_client_unblocked_from_wait_with_an_error_can_wait_again(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind)
    connection, waiting = Connection(server.port, 2), Connection(server.port, 2)
    _, number = waiting.ask([b"CLIENT", b"ID"])
    waiting.send([[b"WAIT", b"1", b"0"]])
    wait_until(lambda: blocked(server) == 1, "it waits", server)
    connection.ask([b"CLIENT", b"UNBLOCK", number, b"ERROR"])
    assert waiting.read()[1].startswith(b"UNBLOCKED")

    assert waiting.ask([b"WAIT", b"1", b"1"]) == (b":", b"0")
    connection.close()
    waiting.close()
