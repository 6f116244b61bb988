"""What MONITOR shows of each request, and in which order: as by Redis."""

from __future__ import annotations

import re

from tests.interop.conftest import KINDS, Launcher
from tests.interop.differential.peers import Connection
from tests.interop.harness import Kind, Server, follow, wait_until

SHA = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"  # of b"return 1"
LIBRARY = (
    b"#!lua name=lib\nredis.register_function('f', function() return redis.call('get', 'k') end)"
)
REQUESTS: list[list[bytes]] = [
    [b"SET", b"k", b'\x00\r\n"\xff'],
    [b"EVAL", b"return redis.call('get', KEYS[1])", b"1", b"k"],
    [b"EVAL_RO", b"return 1", b"0"],
    [b"EVALSHA", SHA, b"0"],
    [b"EVALSHA_RO", b"nothing", b"0"],
    [b"EVAL", b"no script (", b"0"],
    [b"EVAL", b"return 1", b"many"],
    [b"EVAL", b"return 1"],
    [b"EVAL", b"return redis.call('eval', 'x', '0')", b"0"],
    [b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY],
    [b"FCALL", b"f", b"0"],
    [b"FCALL_RO", b"nothing", b"0"],
    [b"MULTI"],
    [b"GET", b"k"],
    [b"EVAL", b"return redis.call('get', 'k')", b"0"],
    [b"EXEC"],
    [b"BLPOP", b"list", b"0.01"],
    [b"CONFIG", b"GET", b"maxmemory"],
    [b"AUTH", b"default", b"secret"],
    [b"NOSUCH"],
    [b"SELECT", b"1"],
    [b"GET", b"k"],
]


def shown(server: Server) -> list[bytes]:
    """What a monitor sees of the requests, without times and addresses."""
    monitor, client = Connection(server.port, 2), Connection(server.port, 2)
    monitor.ask([b"MONITOR"])
    client.ask_all(*REQUESTS, [b"ECHO", b"the end"])
    lines: list[bytes] = []
    while not lines or b"the end" not in lines[-1]:
        _, text = monitor.read()
        lines.append(re.sub(rb"^\S+ \[(\d+) [\d.]+:\d+\]", rb"[\1 client]", text))
    monitor.close()
    client.close()
    return [re.sub(rb"^\S+ \[", b"[", line) for line in lines]


def test_monitor_sees_requests_and_what_scripts_call_in_the_order_of_redis(
    launch: Launcher,
) -> None:
    theirs, ours = (shown(launch(kind)) for kind in KINDS)
    assert ours == theirs


def test_monitor_that_asks_gets_its_answer_before_it_sees_the_request(launch: Launcher) -> None:
    seen = []
    for kind in KINDS:
        monitor = Connection(launch(kind).port, 2)
        monitor.ask([b"MONITOR"])
        monitor.send([[b"PING"], [b"GET", b"k"], [b"MULTI"], [b"PING"], [b"EXEC"]])
        seen.append([monitor.read()[1][:1] for _ in range(9)])
        monitor.close()
    assert seen[0] == seen[1]


def test_monitor_of_a_replica_shows_a_script_of_the_master_as_its_effects(
    launch: Launcher, kind: Kind
) -> None:
    master, replica = launch(kind), launch(kind)
    follow(replica, master.port)
    master.call("SET", "first", 1)  # its SELECT is out of the way
    wait_until(lambda: replica.call("GET", "first") == b"1", "the stream flows", replica)
    monitor = Connection(replica.port, 2)
    monitor.ask([b"MONITOR"])
    master.call("EVAL", "redis.call('incr', 'a') redis.call('incr', 'b')", 0)
    master.call("PUBLISH", "the", "end")
    lines: list[bytes] = []
    while not lines or b"PUBLISH" not in lines[-1]:
        _, text = monitor.read()
        lines.append(text)
    monitor.close()
    shown = [re.sub(rb"^\S+ \[0 [\d.]+:\d+\] ", b"", line) for line in lines]
    assert [line for line in shown if line != b'"ping"'] == [
        b'"MULTI"', b'"incr" "a"', b'"incr" "b"', b'"EXEC"', b'"PUBLISH" "the" "end"',
    ]  # fmt: skip


def test_monitor_that_asks_for_the_stream_goes_on_monitoring(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    monitor = Connection(server.port, 2)
    monitor.ask([b"MONITOR"])
    monitor.send([[b"PSYNC", b"?", b"-1"], [b"QUIT"]])
    assert monitor.stream.read() == b"+OK\r\n"
    monitor.close()
    assert server.info("stats")["sync_full"] == 0
