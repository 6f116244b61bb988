"""Keys to replicate: a dataset of every type, a load of writes, a writer that keeps count.

All of it is chosen by a seed, so a failing run is repeated by its parameters. Each type has key
names of its own, so no command of the load ever earns WRONGTYPE; an error is a finding.
"""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

import redis

from tests.interop.harness import WAIT_TIMEOUT_S, Server, wait_until

Argument = bytes | str | int | float
Command = tuple[Argument, ...]

FAR_FUTURE_MS: Final = 32_503_680_000_000  # 1 January 3000: an expiry that is set but never comes


def encode(command: Command) -> bytes:
    """Give a command as a RESP array of bulk strings. O(bytes)."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        text = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


def feed(server: Server, commands: Iterator[Command], *, timeout_s: float = 600) -> int:
    """Send commands through `redis-cli --pipe`; give how many replies came.

    Raises:
        AssertionError: one of them was answered with an error.
    """
    try:
        report = server.cli("--pipe", stdin=b"".join(map(encode, commands)), timeout_s=timeout_s)
    except subprocess.CalledProcessError as error:  # its exit status after any error reply
        raise AssertionError(f"{error.stdout[:500]!r} ... {error.stdout[-200:]!r}") from None
    summary = report.decode(errors="replace").strip().splitlines()[-1]  # errors: 0, replies: N
    assert summary.startswith("errors: 0,"), report.decode(errors="replace")[-500:]
    return int(summary.rsplit(" ", 1)[1])


# ---- a dataset of every type and encoding


def mixed(keys: int, seed: int) -> Iterator[Command]:
    """Yield one or more commands for each of `keys` keys, over all types and encodings.

    Mostly small values with a few large enough for the big encoding of their type; every
    eleventh key has an expiry; every seventeenth lives in database 9.
    """
    rng = random.Random(seed)
    makers = (_string, _integer, _list, _set, _intset, _hash, _zset, _stream, _bitmap, _hll)
    for number in range(keys):
        db = 9 if number % 17 == 0 else 0
        if number % 17 in (0, 1):
            yield "SELECT", db
        key = b"k:%d" % number
        yield from makers[number % len(makers)](key, rng)
        if number % 11 == 0:
            yield "PEXPIREAT", key, FAR_FUTURE_MS + number
    yield "SELECT", 0


def populate(server: Server, keys: int = 20_000, seed: int = 1) -> int:
    """Fill a server with `mixed` keys; give how many keys it then holds."""
    feed(server, mixed(keys, seed))
    return count_keys(server)


def count_keys(server: Server) -> int:
    """Give the number of keys over all databases, as INFO keyspace has it."""
    return sum(int(db["keys"]) for db in server.info("keyspace").values())


def text_of(rng: random.Random, size: int) -> bytes:
    """Give `size` printable bytes that do not compress."""
    return b"%0*x" % (size, rng.getrandbits(4 * size))


def _size(rng: random.Random) -> int:
    return rng.randint(150, 700) if rng.random() < 0.01 else rng.randint(1, 12)


def _string(key: bytes, rng: random.Random) -> Iterator[Command]:
    kind = rng.randrange(4)
    if kind == 0:
        yield "SET", key, b"ab" * rng.randint(1, 300)  # compresses
    elif kind == 1:
        yield "SET", key, text_of(rng, rng.randint(1, 40))  # embstr
    elif kind == 2:
        yield "SET", key, rng.randbytes(rng.randint(45, 400))  # raw, not text
    else:
        yield "SET", key, b""


def _integer(key: bytes, rng: random.Random) -> Iterator[Command]:
    bits = rng.choice((7, 15, 31, 62))
    yield "SET", key, rng.randint(-(1 << bits), (1 << bits) - 1)


def _list(key: bytes, rng: random.Random) -> Iterator[Command]:
    items: list[Argument] = [text_of(rng, rng.randint(1, 30)) for _ in range(_size(rng))]
    yield ("RPUSH", key, *items)


def _set(key: bytes, rng: random.Random) -> Iterator[Command]:
    yield ("SADD", key, *(text_of(rng, rng.randint(1, 80)) for _ in range(_size(rng))))


def _intset(key: bytes, rng: random.Random) -> Iterator[Command]:
    top = rng.choice((100, 1 << 14, 1 << 30, 1 << 62))
    yield ("SADD", key, *(rng.randint(-top, top) for _ in range(_size(rng))))


def _hash(key: bytes, rng: random.Random) -> Iterator[Command]:
    fields: list[Argument] = []
    for number in range(_size(rng)):
        fields += (b"f%d" % number, rng.choice((number, text_of(rng, rng.randint(1, 80)))))
    yield ("HSET", key, *fields)


def _zset(key: bytes, rng: random.Random) -> Iterator[Command]:
    fields: list[Argument] = []
    for number in range(_size(rng)):
        score = rng.choice((number, rng.random(), -rng.random() * 1e20, "inf", "-inf"))
        fields += (score if isinstance(score, str) else repr(score), b"m%d" % number)
    yield ("ZADD", key, *fields)


def _stream(key: bytes, rng: random.Random) -> Iterator[Command]:
    entries = _size(rng)
    for number in range(entries):
        yield "XADD", key, f"{1000 + number}-1", "field", number, "text", text_of(rng, 10)
    if rng.random() < 0.5:
        yield "XGROUP", "CREATE", key, "group", 0
        yield "XREADGROUP", "GROUP", "group", "consumer", "COUNT", 3, "STREAMS", key, ">"
        yield "XACK", key, "group", "1000-1"
    if entries > 2:
        yield "XDEL", key, "1001-1"


def _bitmap(key: bytes, rng: random.Random) -> Iterator[Command]:
    yield "SETBIT", key, rng.randrange(2000), 1


def _hll(key: bytes, rng: random.Random) -> Iterator[Command]:
    yield ("PFADD", key, *(rng.randrange(1 << 30) for _ in range(4)))


# ---- a load of random writes

_Maker = Callable[[random.Random], Command]

WRITES: Final[tuple[_Maker, ...]] = (
    lambda r: ("SET", f"s:{r.randrange(500)}", text_of(r, r.randint(1, 60))),
    lambda r: ("SET", f"s:{r.randrange(500)}", "soon gone", "PX", r.randint(1, 800)),
    lambda r: ("GETEX", f"s:{r.randrange(500)}", "EX", 1000),
    lambda r: ("GETDEL", f"s:{r.randrange(500)}"),
    lambda r: ("APPEND", f"a:{r.randrange(50)}", text_of(r, 5)),
    lambda r: ("SETRANGE", f"a:{r.randrange(50)}", r.randrange(50), "x"),
    lambda r: ("INCRBY", f"n:{r.randrange(50)}", r.randint(-1000, 1000)),
    lambda r: ("INCRBYFLOAT", f"f:{r.randrange(50)}", r.randint(-100, 100) / 8),
    lambda r: ("SETBIT", f"b:{r.randrange(50)}", r.randrange(4000), r.randrange(2)),
    lambda r: ("PFADD", f"p:{r.randrange(20)}", r.randrange(10_000)),
    lambda r: ("LPUSH", f"l:{r.randrange(50)}", text_of(r, 8), text_of(r, 3)),
    lambda r: ("RPOP", f"l:{r.randrange(50)}"),
    lambda r: ("LMOVE", f"l:{r.randrange(50)}", f"l:{r.randrange(50)}", "LEFT", "RIGHT"),
    lambda r: ("LTRIM", f"l:{r.randrange(50)}", 0, 100),
    lambda r: ("SADD", f"t:{r.randrange(50)}", r.randrange(1000), text_of(r, 6)),
    lambda r: ("SPOP", f"t:{r.randrange(50)}"),
    lambda r: ("SPOP", f"t:{r.randrange(50)}", 3),
    lambda r: ("SUNIONSTORE", f"t:{r.randrange(50)}", f"t:{r.randrange(50)}", "t:0"),
    lambda r: ("HSET", f"h:{r.randrange(50)}", f"f{r.randrange(200)}", text_of(r, 10)),
    lambda r: ("HINCRBY", f"h:{r.randrange(50)}", "count", r.randint(-5, 5)),
    lambda r: ("HINCRBYFLOAT", f"h:{r.randrange(50)}", "float", r.randint(-100, 100) / 16),
    lambda r: ("HDEL", f"h:{r.randrange(50)}", f"f{r.randrange(200)}"),
    lambda r: ("ZADD", f"z:{r.randrange(50)}", r.randint(0, 1000) / 4, f"m{r.randrange(200)}"),
    lambda r: ("ZINCRBY", f"z:{r.randrange(50)}", r.randint(-9, 9) / 2, f"m{r.randrange(200)}"),
    lambda r: ("ZPOPMIN", f"z:{r.randrange(50)}"),
    lambda r: ("XADD", f"x:{r.randrange(20)}", "MAXLEN", "~", 200, "*", "field", text_of(r, 6)),
    lambda r: ("XTRIM", f"x:{r.randrange(20)}", "MAXLEN", 50),
    lambda r: ("PEXPIRE", f"t:{r.randrange(50)}", r.randint(1, 1500)),
    lambda r: ("PERSIST", f"t:{r.randrange(50)}"),
    lambda r: ("DEL", f"h:{r.randrange(50)}", f"z:{r.randrange(50)}"),
    lambda r: ("UNLINK", f"l:{r.randrange(50)}"),
    lambda r: ("COPY", f"h:{r.randrange(50)}", f"copy:{r.randrange(50)}", "REPLACE"),
    lambda r: ("SMOVE", f"t:{r.randrange(50)}", f"t:{r.randrange(50)}", r.randrange(1000)),
    lambda r: ("MSET", f"s:{r.randrange(500)}", "one", f"s:{r.randrange(500)}", "two"),
    lambda r: ("PUBLISH", "channel", text_of(r, 6)),
)
"""Among them every rewrite of propagation: relative expiries, SPOP, INCRBYFLOAT, XADD with *."""


class Load:
    """Random writes from one thread while the body of a `with` runs.

    One batch of 20 in eight is a transaction and one in eight goes to database 9. Reaching the
    end of the body stops it and asserts that every reply was a good one.

    Args:
        server: a master.
        seed: of the choice of commands.
    """

    def __init__(self, server: Server, seed: int = 1) -> None:
        self.replies = 0
        """Commands answered so far."""
        self._rng = random.Random(seed)
        self._server = server
        self._clients = [server.client(db=0)] * 7 + [server.client(db=9)]
        self._stop = threading.Event()
        self._errors: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def wait_for(self, replies: int) -> None:
        """Wait until this many more commands were answered."""
        goal = self.replies + replies
        wait_until(
            lambda: self.replies >= goal or not self._thread.is_alive(),
            f"{replies} more writes were answered",
            self._server,
        )
        assert self.replies >= goal, f"the load ended early: {sorted(self._errors)}"

    def stop(self) -> None:
        """Stop writing; every command sent was answered by then.

        Raises:
            AssertionError: some command earned an error, or the connection was lost.
        """
        self._stop.set()
        self._thread.join(60)
        assert not self._errors, f"writes to {self._server} failed: {sorted(self._errors)[:10]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.stop()
        else:
            self._stop.set()
            self._thread.join(60)

    def _run(self) -> None:
        rng = self._rng
        while not self._stop.is_set() and not self._errors:
            batch = rng.choice(self._clients).pipeline(transaction=rng.randrange(8) == 0)
            for _ in range(20):
                write = rng.choice(WRITES)(rng)
                batch.execute_command(*write)  # type: ignore[no-untyped-call]
            try:
                answers = batch.execute(raise_on_error=False)
            except redis.RedisError as error:
                self._errors.add(f"{type(error).__name__}: {error}")
                return
            self._errors.update(str(a) for a in answers if isinstance(a, Exception))
            self.replies += len(answers)


# ---- a writer that remembers


class AckedWriters:
    """Writers that each append 0, 1, 2, ... to a list of their own and count the replies.

    After a crash each list must be 0 .. n-1 with n at least the acknowledged count, and at most
    one more: the command in flight may have been applied before its reply was lost.

    Args:
        server: to be written to, and killed, by the test.
        writers: threads, each with a connection; more than one lets a batch hold several.
    """

    def __init__(self, server: Server, writers: int = 4) -> None:
        self.acked = [0] * writers
        self._server = server
        self._threads = [
            threading.Thread(target=self._write, args=(number, server.client()), daemon=True)
            for number in range(writers)
        ]

    def start(self) -> Self:
        """Begin writing."""
        for thread in self._threads:
            thread.start()
        return self

    def wait_for(self, replies: int, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait until this many appends were acknowledged in all."""
        what = f"{replies} acknowledged"
        wait_until(lambda: sum(self.acked) >= replies, what, self._server, timeout_s=timeout_s)

    def join(self) -> None:
        """Wait for the writers, which end when the server's connection does."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a writer outlived its server"

    def assert_nothing_lost(self, survivor: Server) -> None:
        """Compare each list on the survivor with what was acknowledged."""
        for number, acked in enumerate(self.acked):
            found = [int(item) for item in survivor.call("LRANGE", f"acked:{number}", 0, -1)]
            assert found == list(range(len(found))), f"writer {number}: holes or repeats"
            assert acked <= len(found) <= acked + 1, (
                f"writer {number}: {acked} were acknowledged, {len(found)} are there"
            )

    def _write(self, number: int, client: redis.Redis) -> None:
        try:
            while True:
                client.rpush(f"acked:{number}", self.acked[number])
                self.acked[number] += 1
        except redis.ConnectionError:
            return  # the kill that the test is about
