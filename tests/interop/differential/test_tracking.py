"""Client-side caching: the same invalidations, to the same clients, at the same place of the wire.

Seven connections to a real redis-server and to kvrepl do the same random steps. After each step
every connection is asked for a word, and what it had been sent until then is compared byte by byte.
`TRACKING_SEED=n` moves the seeds.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.interop.conftest import Launcher
from tests.interop.harness import Server

FIRST_SEED = int(os.environ.get("TRACKING_SEED", "0"))
STEPS = 250
FIRST_ID = 40
"""The connections have the same ids on both servers: this one and those that follow."""
KEYS = (b"a", b"ab", b"abc", b"b", b"list")
READS = ((b"GET", 1), (b"MGET", 3), (b"EXISTS", 2), (b"STRLEN", 1), (b"LRANGE", 0), (b"TYPE", 1))


class Wire:
    """A connection of which every byte is kept."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self._asked = 0

    def send(self, *requests: tuple[bytes, ...]) -> None:
        self._socket.sendall(
            b"".join(
                b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv)
                for argv in requests
            )
        )

    def taken(self) -> bytes:
        """Everything that was sent to it up to now."""
        self._asked += 1
        word = b"word-%d\r\n" % self._asked
        self.send((b"PING", word.strip()))
        data = b""
        while word not in data:
            more = self._socket.recv(1 << 16)
            assert more, data
            data += more
        return data

    def close(self) -> None:
        self._socket.close()


def seen(wire: Wire) -> bytes:
    """What was sent to it; nulls all in one form.

    "All keys", redirected, is in the protocol of the tracking client with Redis 7.0, in that of
    the receiver here.
    """
    data = wire.taken()
    return data.replace(b"invalidate\r\n$-1\r\n", b"invalidate\r\n_\r\n")


Connect = Callable[[Server], list[Wire]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens seven connections to a server, whose ids are known; closes them in the end."""
    opened: list[Wire] = []

    def wire_to(server: Server) -> Wire:
        opened.append(Wire(server))
        return opened[-1]

    def make(server: Server) -> list[Wire]:
        wires: list[Wire] = []
        while len(wires) < 7:
            wire = wire_to(server)
            wire.send((b"CLIENT", b"ID"))
            number = int(wire.taken().split(b"\r\n")[0][1:])
            assert number <= FIRST_ID + len(wires)
            if number < FIRST_ID:
                wire.close()
            else:
                wires.append(wire)
        return wires

    yield make
    for wire in opened:
        wire.close()


def steps(rng: random.Random) -> list[tuple[int, list[tuple[bytes, ...]]]]:
    """(which connection, what it sends) at random; the two last only listen."""
    result: list[tuple[int, list[tuple[bytes, ...]]]] = [
        (0, [(b"HELLO", b"3")]),
        (1, [(b"HELLO", b"3")]),
        (5, [(b"SUBSCRIBE", b"__redis__:invalidate")]),
        (6, [(b"HELLO", b"3")]),
    ]
    for _ in range(STEPS):
        who = rng.choices(range(6), (4, 3, 3, 3, 4, 0.1))[0]
        if who == 5:
            step = [(b"UNSUBSCRIBE",), (b"SUBSCRIBE", b"__redis__:invalidate")]
        elif rng.randrange(4) == 0 and who < 4:
            step = [switch(who, rng)]
        else:
            step = [command(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
            if len(step) > 1 and rng.randrange(2):
                step = [(b"MULTI",), *step, (b"EXEC",)]
        result.append((who, step))
    return result


def switch(who: int, rng: random.Random) -> tuple[bytes, ...]:
    """CLIENT TRACKING and what belongs to it, right or wrong."""
    kind = rng.randrange(12)
    if kind == 0:
        return (b"CLIENT", b"TRACKINGINFO")
    if kind == 1:
        return (b"CLIENT", b"GETREDIR")
    if kind < 5:
        return (b"CLIENT", b"CACHING", rng.choice((b"yes", b"no", b"yes", b"maybe")))
    if kind == 5:
        return (b"CLIENT", b"TRACKING", b"off")
    options: list[bytes] = []
    if who > 1 or rng.randrange(4) == 0:
        other = rng.choice((FIRST_ID + 5, FIRST_ID + 5, FIRST_ID + 6, 999_999))
        options += [b"REDIRECT", b"%d" % other]
    for word in (b"BCAST", b"NOLOOP", b"OPTIN", b"OPTOUT"):
        if rng.randrange(4) == 0:
            options.append(word)
    if b"BCAST" in options or rng.randrange(8) == 0:
        for prefix in rng.choices((b"a", b"ab", b"b", b"", b"list"), k=rng.randrange(3)):
            options += [b"PREFIX", prefix]
    if rng.randrange(20) == 0:
        options.append(rng.choice((b"PREFIX", b"REDIRECT", b"NONSENSE")))
    return (b"CLIENT", b"TRACKING", rng.choice((b"on", b"on", b"on", b"ON", b"perhaps")), *options)


def command(rng: random.Random) -> tuple[bytes, ...]:
    """A read or a write of the few keys."""
    key = rng.choice(KEYS)
    match rng.randrange(16):
        case 0 | 1:
            return (b"SET", key, b"%d" % rng.randrange(9))
        case 2:
            return (b"DEL", *rng.choices(KEYS, k=2))
        case 3:
            return (b"RPUSH", b"list", b"x")
        case 4:
            return (b"MSET", key, b"1", rng.choice(KEYS), b"2")
        case 5:
            # One key: for a read in a script Redis 7.0 remembers all keys of the EVAL, and none
            # that was not named; here it is the key that was read.
            script = b"redis.call('get', KEYS[1]) return redis.call('incr', KEYS[1])"
            return (b"EVAL", script, b"1", key)
        case 6:
            return (b"EVAL_RO", b"return redis.call('get', KEYS[1])", b"1", key)
        case 7:
            return (b"RENAME", key, rng.choice(KEYS))
        case 8:
            return rng.choice(((b"FLUSHALL",), (b"PEXPIRE", key, b"-1"), (b"FLUSHDB", b"ASYNC")))
        case _:
            name, count = rng.choice(READS)
            if not count:
                return (name, b"list", b"0", b"-1")
            return (name, *rng.choices(KEYS, k=count))


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 4))
def test_tracking_clients_are_told_what_redis_tells_them(
    launch: Launcher, connect: Connect, seed: int
) -> None:
    servers = [launch("redis"), launch("kvrepl")]
    theirs, ours = map(connect, servers)
    script = steps(random.Random(seed))
    history: list[object] = []
    for who, requests in script:
        history.append((who, requests))
        theirs[who].send(*requests)
        ours[who].send(*requests)
        # The one that acts first: what it did is then on its way to the others.
        for number in sorted(range(7), key=lambda number: number != who):
            assert seen(ours[number]) == seen(theirs[number]), (
                number,
                "\n".join(map(str, history[-12:])),
            )
    assert ours_and_theirs(servers, "clients", "tracking_clients")
    assert ours_and_theirs(servers, "stats", "tracking_total_prefixes")


def ours_and_theirs(servers: list[Server], section: str, field: str) -> bool:
    """Whether both show the same figure in INFO."""
    theirs, ours = (server.info(section)[field] for server in servers)
    return bool(theirs == ours)


def test_tracking_client_whose_redirection_is_gone_is_told_so(
    launch: Launcher, connect: Connect
) -> None:
    sent = []
    for server in (launch("redis"), launch("kvrepl")):
        wires = connect(server)
        tracker, target, writer = wires[0], wires[5], wires[1]
        tracker.send((b"HELLO", b"3"))
        tracker.send((b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", b"%d" % (FIRST_ID + 5)))
        tracker.send((b"GET", b"k"))
        tracker.taken()
        writer.send((b"CLIENT", b"KILL", b"ID", b"%d" % (FIRST_ID + 5)))
        writer.taken()
        target.close()
        writer.send((b"SET", b"k", b"v"))
        writer.taken()
        tracker.send((b"CLIENT", b"TRACKINGINFO"))
        sent.append(tracker.taken())
    assert sent[1] == sent[0]
    assert b"tracking-redir-broken" in sent[0]


def test_tracking_table_over_its_limit_is_cut_and_its_clients_told(
    launch: Launcher, connect: Connect
) -> None:
    server = launch("kvrepl", tracking_table_max_keys=10)
    tracker = connect(server)[0]
    tracker.send((b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"))
    tracker.taken()
    tracker.send(*((b"GET", b"key:%d" % number) for number in range(100)))
    sent = b""
    while sent.count(b"invalidate") < 90:
        sent += tracker.taken()
    assert server.info("stats")["tracking_total_keys"] == 10


def test_message_for_a_client_inside_exec_comes_after_its_answer(
    launch: Launcher, connect: Connect
) -> None:
    tracker, listener, *_ = connect(launch("kvrepl"))
    listener.send((b"HELLO", b"3"))
    tracker.send(
        (b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", b"%d" % (FIRST_ID + 1)), (b"GET", b"k")
    )
    tracker.taken()
    listener.taken()
    listener.send((b"MULTI",), (b"SET", b"k", b"v"), (b"PING",), (b"EXEC",))

    answer = b"*2\r\n+OK\r\n+PONG\r\n"
    message = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
    assert answer + message in listener.taken() + listener.taken()
