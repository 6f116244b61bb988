"""MONITOR: who is told to have sent what, on a master and on its replica.

Source of the behaviour: replication.c (replicationFeedMonitors), eval.c (evalCommand),
function.c (fcallCommandGeneric) of Redis 7.0.
"""

from __future__ import annotations

import re
import socket

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server, follow, wait_until

LIBRARY = "#!lua name=l\nredis.register_function('f', function() redis.call('set', 'f', 1) end)"
END = b'"PUBLISH" "end" "of it"\r\n'


class Monitor:
    """A connection that called MONITOR."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"

    def shown(self) -> list[str]:
        """Give what it was shown up to END, without times, addresses and pings."""
        data = b""
        while not data.endswith(END):
            data += self._socket.recv(65536)
        self._socket.close()
        text = re.sub(r"\+[\d.]+ \[(\d+) (lua)?[^]]*\]", r"\1 \2", data.decode())
        return [line for line in text.splitlines() if line != '0  "ping"']


def test_monitor_names_scripts_and_shows_their_call(launch: Launcher, kind: Kind) -> None:
    master, replica = launch(kind), launch(kind)
    follow(replica, master.port)
    master.call("SET", "first", 1)
    master.call("FUNCTION", "LOAD", LIBRARY)
    wait_until(lambda: replica.call("FUNCTION", "LIST"), "the library is there", replica)
    above, below = Monitor(master), Monitor(replica)

    master.call("EVAL", "redis.call('incr', 'a') redis.call('incr', 'b')", 0)
    master.call("FCALL", "f", 0)
    pipe = master.client().pipeline(transaction=True)
    pipe.set("x", 1)
    pipe.incr("x")
    pipe.eval("return redis.call('get', 'x')", 0)
    pipe.execute()
    master.call("PUBLISH", "end", "of it")

    assert above.shown() == [
        """0  "EVAL" "redis.call('incr', 'a') redis.call('incr', 'b')" "0\"""",
        '0 lua "incr" "a"',
        '0 lua "incr" "b"',
        '0  "FCALL" "f" "0"',
        '0 lua "set" "f" "1"',
        '0  "MULTI"',
        '0  "SET" "x" "1"',
        '0  "INCRBY" "x" "1"',
        """0  "EVAL" "return redis.call('get', 'x')" "0\"""",
        '0 lua "get" "x"',
        '0  "EXEC"',
        '0  "PUBLISH" "end" "of it"',
    ]
    assert below.shown() == [
        '0  "MULTI"',
        '0  "incr" "a"',
        '0  "incr" "b"',
        '0  "EXEC"',
        '0  "set" "f" "1"',
        '0  "MULTI"',
        '0  "SET" "x" "1"',
        '0  "INCRBY" "x" "1"',
        '0  "EXEC"',
        '0  "PUBLISH" "end" "of it"',
    ]
