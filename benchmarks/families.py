"""One or a few commands of every family, 16 at a time: throughput, and the server's CPU time.

redis-benchmark sends them from 50 connections. What it cannot say (a transaction, an argument with
NUL in it, an offset without leading zeros) goes out through sockets of our own in the same form.
The CPU time is that of all threads of the server, for one request: it tells more than the
throughput, which the senders bound as well.

Of kvrepl there are two lines more: what a request costs beside its handler, in the engine alone (no
socket, no loop of events): parsing, admission, the call, the streams, the reply.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import kvrepl.commands  # noqa: F401  (registers every command)
from benchmarks.measure import Bench, Sample
from benchmarks.requests import CLIENTS, KEYSPACE, run_redis_benchmark
from kvrepl.config import Config
from kvrepl.engine import batch
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.resp import RequestParser
from kvrepl.resp.values import OK, Reply
from kvrepl.server.clock import RealClock
from tests.interop.datasets import Command, encode, feed
from tests.interop.harness import Kind, Server, wait_until

PIPELINE: Final = 16
ELEMENTS: Final = 10_000
"""Elements of the collections that nothing has filled before."""
CHANNEL: Final = "channel"


class Case(NamedTuple):
    """What is measured.

    Args:
        family: the family of commands that it stands for.
        line: one command, or several with ; between them. # is a number below KEYSPACE, another one
            in each request; for the names of PIECES that stands which they name.
        share: of the scale's requests; slow commands need fewer.
        ours: whether our own sockets send it. All replies must be of one length then.
    """

    family: str
    line: str
    share: float = 1.0
    ours: bool = False


SCRIPT: Final = "return redis.call('incr', KEYS[1])"
LIBRARY: Final = (
    "#!lua name=bench\nredis.register_function('increment',"
    " function(keys) return redis.call('incr', keys[1]) end)"
)

CASES: Final = (
    Case("strings", "SET k:# value"),
    Case("strings", "GET k:#"),
    Case("strings", "INCR n:#"),
    Case("strings", "APPEND a:# x"),
    Case("strings", "GETRANGE k:# 1 3"),
    Case("strings", "SETEX e:# 100 value"),
    Case("strings", "MGET k:# k:# k:# k:# k:#", 0.5),
    Case("bits", "SETBIT bits # 1", ours=True),
    Case("bits", "GETBIT bits #", ours=True),
    Case("bits", "BITCOUNT bits 0 100"),
    Case("bits", "BITFIELD bits SET u1 # 1", ours=True),
    Case("lists", "LPUSH list value"),
    Case("lists", "RPUSH list value"),
    Case("lists", "LINDEX list 5000"),
    Case("lists", "LRANGE list 0 9"),
    Case("lists", "LSET list 5000 other"),
    Case("lists", "LMOVE list list LEFT RIGHT"),
    Case("lists", "LPOP list"),
    Case("hashes", "HSET hash f:# value"),
    Case("hashes", "HGET hash f:#"),
    Case("hashes", "HMGET hash f:# f:# f:#"),
    Case("hashes", "HINCRBY counters f:# 1"),
    Case("hashes", "HGETALL small"),
    Case("sets", "SADD set m:#"),
    Case("sets", "SADD integers #", ours=True),
    Case("sets", "SISMEMBER set m:#"),
    Case("sets", "SRANDMEMBER set"),
    Case("sets", "SINTER few set"),
    Case("sets", "SPOP set"),
    Case("sorted sets", "ZADD zset # m:#"),
    Case("sorted sets", "ZINCRBY zset 1 m:#"),
    Case("sorted sets", "ZSCORE zset m:#"),
    Case("sorted sets", "ZRANK zset m:#"),
    Case("sorted sets", "ZRANGE zset 0 9"),
    Case("sorted sets", "ZRANGEBYSCORE zset # +inf LIMIT 0 10"),
    Case("sorted sets", "ZPOPMIN zset"),
    Case("streams", "XADD stream * field value"),
    Case("streams", "XADD capped MAXLEN ~ 1000 * field value"),
    Case("streams", "XRANGE stream - + COUNT 10", 0.5),
    Case("streams", "XREAD COUNT 1 STREAMS stream 0"),
    Case("streams", "XREADGROUP GROUP group me COUNT 1 NOACK STREAMS stream >"),
    Case("HyperLogLog", "PFADD hll m:#"),
    Case("HyperLogLog", "PFCOUNT hll"),
    Case("geo", "GEOADD geo 13.# 52.# m:#"),
    Case("geo", "GEOPOS places m:5000"),
    Case("geo", "GEOSEARCH places FROMLONLAT 13.5 52.5 BYRADIUS 1 km", 0.2),
    Case("keys", "EXISTS k:#"),
    Case("keys", "EXPIRE k:# 1000"),
    Case("keys", "TTL k:#"),
    Case("keys", "COPY small copy:# REPLACE"),
    Case("keys", "DEL k:#"),
    Case("scan", "SCAN 0", 0.5),
    Case("scan", "HSCAN hash 0", 0.5),
    Case("sort", "SORT numbers LIMIT 0 10", 0.1),
    Case("dump", "DUMP small"),
    Case("dump", "RESTORE made 0 $small REPLACE", 0.5, ours=True),
    Case("transactions", "MULTI ; SET in value ; EXEC", 0.5, ours=True),
    Case("publish", "PUBLISH nobody message"),
    Case("publish", f"PUBLISH {CHANNEL} message"),
    Case("scripts", "EVAL $script 1 n:#"),
    Case("functions", "FCALL increment 1 n:#"),
)


def _collections() -> Iterator[Command]:
    """Yield what the cases need and do not make themselves."""
    rng = random.Random(1)
    yield ("HSET", "small", *(word for n in range(10) for word in (f"field:{n}", f"value:{n}")))
    yield ("SADD", "few", *(f"m:{n:012}" for n in range(10)))
    yield ("RPUSH", "numbers", *(rng.randrange(KEYSPACE) for _ in range(100)))
    yield "XGROUP", "CREATE", "stream", "group", "0", "MKSTREAM"
    yield "FUNCTION", "LOAD", LIBRARY
    for n in range(ELEMENTS):
        yield "GEOADD", "places", 13 + rng.random(), 52 + rng.random(), f"m:{n}"


def families(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Measure every case, one after another, on one server."""
    if kind == "kvrepl":
        yield from _beside_the_handler()
    with bench.server(kind) as server:
        feed(server, _collections())
        pieces = {"$script": SCRIPT, "$small": server.call("DUMP", "small")}
        with _subscriber(server):
            for case in CASES:
                requests = int(bench.scale.requests * 2 * case.share)
                lines = case.line.split(" ; ")
                commands = [[pieces.get(word, word) for word in line.split()] for line in lines]
                before_ns = _cpu_ns(server.pid)
                if case.ours:
                    rps = _send(server, commands, requests)
                else:
                    argv = [str(word).replace("#", "__rand_int__") for word in commands[0]]
                    row = next(run_redis_benchmark(server, argv, requests, PIPELINE))
                    rps = float(row["rps"])
                cpu_us = (_cpu_ns(server.pid) - before_ns) / 1e3 / requests
                name = f"{case.family}: {case.line}"
                yield Sample(name, "throughput", "requests/s", rps, True)
                yield Sample(name, "CPU time", "us", cpu_us)


def _send(server: Server, commands: list[list[str | bytes]], requests: int) -> float:
    """Send `requests` groups of commands from CLIENTS sockets in turn; give the groups a second."""
    rng = random.Random(1)
    sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(CLIENTS)]
    blocks = [
        b"".join(_encoded(commands, rng.randrange(KEYSPACE)) for _ in range(PIPELINE))
        for _ in range(ELEMENTS // PIPELINE)
    ]
    try:
        reply_bytes = PIPELINE * _reply_bytes(sockets[0], _encoded(commands, 0), len(commands))
        rounds = requests // (CLIENTS * PIPELINE)
        began = time.perf_counter()
        for _ in range(rounds):
            for each in sockets:
                each.sendall(rng.choice(blocks))
            for each in sockets:
                reply = each.recv(reply_bytes, socket.MSG_WAITALL)
                assert len(reply) == reply_bytes, reply
        return rounds * CLIENTS * PIPELINE / (time.perf_counter() - began)
    finally:
        for each in sockets:
            each.close()


def _encoded(commands: list[list[str | bytes]], number: int) -> bytes:
    """A group of commands with a number in the place of every #."""
    text = str(number)
    return b"".join(
        encode(tuple(each.replace("#", text) if isinstance(each, str) else each for each in words))
        for words in commands
    )


def _reply_bytes(link: socket.socket, group: bytes, commands: int) -> int:
    """How long the reply to a group is; it must be no error."""
    link.sendall(group)
    file = link.makefile("rb")
    count = 0
    lines = commands
    while lines:
        line = file.readline()
        assert line[:1] in b"+:*", line
        lines += int(line[1:]) - 1 if line[:1] == b"*" else -1
        count += len(line)
    return count


class _Nowhere:
    """A stream that is told everything and keeps nothing."""

    def feed(self, db: int, encoded: bytes) -> None:
        """Forget it."""


def _beside_the_handler() -> Iterator[Sample]:
    """Measure a read and a propagated write whose handlers do nothing."""

    def read(client: Client, argv: list[bytes]) -> Reply:
        return OK

    def write(client: Client, argv: list[bytes]) -> Reply:
        client.engine.keyspace.dirty += 1
        return OK

    for command, handler in ((("GET", "key"), read), (("SET", "key", "value"), write)):
        engine = Engine(Config(), RealClock(), random.Random(1))
        engine.propagation.connect(aof=None, replicas=_Nowhere())
        client, parser = engine.connect(), RequestParser()
        found = engine.find(command[0].encode())
        assert found is not None
        data = encode(command) * PIPELINE
        theirs, found.handler = found.handler, handler
        try:
            spent_us = min(_served_us(engine, client, parser, data) for _ in range(10))
        finally:
            found.handler = theirs  # the table of commands is everybody's
        yield Sample(f"all but the handler of {command[0]}", "CPU time", "us", spent_us)


def _served_us(engine: Engine, client: Client, parser: RequestParser, data: bytes) -> float:
    """The CPU time of one request, in many batches of PIPELINE."""
    rounds = 2_000
    before_ns = time.process_time_ns()
    for _ in range(rounds):
        batch.serve(engine, client, parser, data)
        client.out.clear()
    return (time.process_time_ns() - before_ns) / 1e3 / rounds / PIPELINE


@contextmanager
def _subscriber(server: Server) -> Iterator[None]:
    """Have one subscriber of CHANNEL, who reads what comes and forgets it."""
    reader = socket.create_connection(("127.0.0.1", server.port))
    reader.sendall(encode(("SUBSCRIBE", CHANNEL)))

    def drain() -> None:
        while reader.recv(1 << 16):
            pass

    thread = threading.Thread(target=drain)
    thread.start()
    wait_until(lambda: server.call("PUBSUB", "NUMSUB", CHANNEL)[1] == 1, "a subscriber", server)
    try:
        yield
    finally:
        reader.shutdown(socket.SHUT_RDWR)
        thread.join()
        reader.close()


def _cpu_ns(pid: int) -> int:
    """The CPU time that a process has had, in nanoseconds, of all its threads."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads)
