"""No command is worse in order than the complexity that Redis documents for it.

Each line is a command that costs O(1), O(log n) or O(what it returns or removes) in Redis, whatever
the size of the value or the database. It is run on two datasets, one SIZES[1] / SIZES[0] times
as large as the other, and must not take MOST times as long there. What is compared is CPU time, the
best of a few rounds, and of many more before a command is found too slow: a busy machine makes no
round faster than it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain
from random import Random

import pytest

import kvrepl.commands  # noqa: F401  (registers every command)
from kvrepl.config import Config
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.errors import CommandError

SIZES = (1_500, 30_000)
DEEP_SIZES = (10_000, 400_000)
MOST = 5.0
"""Times as long; log n and the caches explain up to 3."""
COMMANDS = 12
ROUNDS, PATIENCE = 3, 60

LINES = """
APPEND text x
BITCOUNT text 5 9
BITFIELD text SET u8 100 {i}
BITFIELD_RO text GET u8 100
BITPOS text 1
DBSIZE
EXISTS zset set hash
EXPIRE k{i} 1000
EXPIRETIME k{i}
GET k{i}
GETBIT text {mid}
GETRANGE text -90 -80
GETRANGE text {mid} {mid}
HDEL hash f{i}
HGET hash f{mid}
HINCRBY hash count 1
HLEN hash
HRANDFIELD hash
HRANDFIELD hash -3 WITHVALUES
HRANDFIELD hash 3
HSCAN hash {mid}
HSET hash new{i} v
HSTRLEN hash f{mid}
INCR count
LINDEX list 3
LINDEX list -3
LINSERT row BEFORE e3 x
LREM row 1 e{i}
LLEN list
LMOVE list list LEFT RIGHT
LPOP list
LPOP list 3
LPOS row e20
LPOS row e{last} RANK -1
LPOS row missing MAXLEN 10
LPUSH list x
LRANGE list -5 -1
LRANGE list 5 9
LSET list -4 x
LTRIM list 1 -2
MEMORY USAGE hash
MEMORY USAGE list
MEMORY USAGE set
MEMORY USAGE stream
MEMORY USAGE zset
OBJECT ENCODING text
OBJECT ENCODING zset
PERSIST k{i}
PFADD hll x{i}
PUBLISH channel x
RANDOMKEY
RENAME hash hash2 ; RENAME hash2 hash
RPOP list 3
RPUSH list x
SADD set new{i}
SCAN 0
SCAN {cursor} COUNT 20
SCARD set
SET k{i} other
SETBIT text {mid} {bit}
SETRANGE text {mid} x
SINTER set few
SINTERCARD 2 set others LIMIT 3
SISMEMBER set m{mid}
SMISMEMBER set m1 x
SMOVE others moved m{i}
SORT list BY nosort LIMIT 1 2
SORT zset BY nosort LIMIT 1 2
SPOP set
SPOP set 3
SRANDMEMBER set
SRANDMEMBER set -3
SRANDMEMBER set 3
SREM set m{i}
SSCAN set {mid}
STRLEN text
SWAPDB 3 4
TOUCH k1 list
TTL k{i}
TYPE set
UNLINK k{i}
WATCH k{i} ; UNWATCH
XACK stream group {third}{i}-1
XADD stream * f v
XADD stream MAXLEN {n} * f v
XADD stream MAXLEN ~ {n} * f v
XAUTOCLAIM stream group two 0 {mid} COUNT 3
XCLAIM stream group two 0 {third}{i}-1
XDEL stream {third}{i}-1
XINFO GROUPS stream
XINFO STREAM stream
XINFO STREAM stream FULL COUNT 3
XLEN stream
XPENDING stream group
XPENDING stream group - + 3
XPENDING stream group {mid} + 3 one
XRANGE stream {mid} + COUNT 3
XREAD COUNT 3 STREAMS stream {mid}
XREADGROUP GROUP group one COUNT 3 STREAMS stream {mid}
XREVRANGE stream + - COUNT 3
ZADD zset {mid} new{i}
ZADD zset {mid} new{i} ; ZRANK zset m000000000900
ZCARD zset
ZCOUNT zset 10 {mid}
ZDIFF 2 few_scores zset
ZINCRBY zset 3 m000000000{i}
ZINTER 2 few_scores zset
ZINTERCARD 2 zset lex LIMIT 3
ZLEXCOUNT lex - [m000000000900
ZMPOP 1 zset MIN COUNT 2
ZPOPMAX zset 3
ZPOPMIN zset
ZRANDMEMBER zset
ZRANDMEMBER zset -3
ZRANDMEMBER zset 3
ZRANGE zset {mid} {mid}
ZRANGE lex [m000000000900 + BYLEX LIMIT 2 3
ZRANGE lex + - BYLEX REV LIMIT 2 3
ZRANGE zset {mid} +inf BYSCORE LIMIT 2 3
ZRANGE zset 3 6 REV
ZRANGESTORE stored zset 10 13
ZRANK zset m000000000900
ZREM zset m000000001{i}
ZREMRANGEBYLEX lex [m000000000{i} [m000000000{i}
ZREMRANGEBYRANK zset 100 102
ZREMRANGEBYSCORE zset {third}{i} {third}{i}
ZREVRANGEBYLEX lex + - LIMIT 0 3
ZREVRANGEBYSCORE zset {mid} -inf LIMIT 2 3
ZREVRANK zset m000000000900
ZSCAN zset {mid}
ZSCORE zset m000000000900
GEODIST places p1 p5
GEOPOS places p1
GEOSEARCH places FROMMEMBER p9 BYRADIUS 1 m
"""


class Clock:
    """The time of the tests stands still, and what is measured runs."""

    def now_ms(self) -> int:
        """Give an instant."""
        return 1_700_000_000_000

    def monotonic_ns(self) -> int:
        """Give the time of slow logs, which stands as well."""
        return 0


class World:
    """An engine with values of n elements, and what the lines say with its sizes put in."""

    def __init__(self, n: int) -> None:
        config = Config()
        self.n = n
        self.client: Client = Engine(config, Clock(), Random(1)).connect()
        self._count = 100
        for start in range(0, n, 500):
            self._fill(range(start, min(start + 500, n)))
        for line in (
            "XGROUP CREATE stream group 0",
            f"XREADGROUP GROUP group one COUNT {n} STREAMS stream >",
            f"SETRANGE text {100 * n} x",
            "SADD few m1 m2 m3",
            "ZADD few_scores 1 m000000000001 2 m000000000002",
            "PFADD hll x",
        ):
            self.call(line.encode().split())

    def _fill(self, numbers: range) -> None:
        plain = [b"%d" % number for number in numbers]
        padded = [b"m%012d" % number for number in numbers]
        self.call([b"RPUSH", b"list", *(b"e" + text for text in plain)])
        self.call([b"RPUSH", b"row", *(b"e" + text for text in plain)])
        self.call([b"SADD", b"set", *(b"m" + text for text in plain)])
        self.call([b"SADD", b"others", *(b"m" + text for text in plain)])
        self.call([b"HSET", b"hash", *chain(*((b"f" + text, b"v") for text in plain))])
        self.call([b"ZADD", b"zset", *chain(*zip(plain, padded, strict=True))])
        self.call([b"ZADD", b"lex", *chain(*((b"0", text) for text in padded))])
        self.call([b"MSET", *chain(*((b"k" + text, b"v") for text in plain))])
        places = ((b"%f" % (number * 300 / self.n - 150), b"10", b"p%d" % number)
                  for number in numbers)  # fmt: skip
        self.call([b"GEOADD", b"places", *chain(*places)])
        for text in plain:
            self.call([b"XADD", b"stream", text + b"-1", b"f", b"v"])

    def call(self, argv: list[bytes]) -> None:
        """Run a command."""
        self.client.engine.apply(self.client, argv)

    def commands(self, line: str) -> list[list[bytes]]:
        """Give a line's commands COMMANDS times, with another number in each."""
        found = []
        for _ in range(COMMANDS):
            self._count += 1
            text = line.format(
                n=self.n, mid=self.n // 2, third=self.n // 3000, last=self.n - 5,
                i=self._count % 900 + 100, bit=self._count % 2, cursor=(9 << 10) + 77,
            )  # fmt: skip
            found += [words.encode().split() for words in text.split(" ; ")]
        return found

    def best_ns(self, line: str) -> float:
        """Time a round of a line: the CPU time of one command."""
        commands = self.commands(line)
        call = self.call
        before_ns = time.process_time_ns()
        for argv in commands:
            call(argv)
        spent_ns = time.process_time_ns() - before_ns
        self.client.out.clear()
        self.client.engine.keyspace.garbage.free(1 << 30)
        return spent_ns / len(commands)


def _worlds(sizes: tuple[int, int]) -> tuple[World, World]:
    return World(sizes[0]), World(sizes[1])


@pytest.fixture(scope="module")
def worlds() -> tuple[World, World]:
    """Give a small dataset and a large one."""
    return _worlds(SIZES)


@pytest.fixture(scope="module")
def deep_worlds() -> tuple[World, World]:
    """Give two datasets that are further apart."""
    return _worlds(DEEP_SIZES)


def ratio(small: Callable[[], float], large: Callable[[], float]) -> float:
    """Give how many times as long the best round of the large one takes."""
    best_small = best_large = float("inf")
    for round_ in range(PATIENCE):
        best_small = min(best_small, small())
        best_large = min(best_large, large())
        if round_ >= ROUNDS - 1 and best_large <= MOST * best_small:
            break
    return best_large / best_small


LINE = pytest.mark.parametrize("line", LINES.strip().splitlines())


@LINE
def test_command_on_twenty_times_the_elements_takes_about_as_long(
    worlds: tuple[World, World], line: str
) -> None:
    small, large = worlds
    assert ratio(lambda: small.best_ns(line), lambda: large.best_ns(line)) <= MOST


@pytest.mark.deep
@LINE
def test_command_on_forty_times_the_elements_takes_about_as_long(
    deep_worlds: tuple[World, World], line: str
) -> None:
    small, large = deep_worlds
    assert ratio(lambda: small.best_ns(line), lambda: large.best_ns(line)) <= MOST


@pytest.mark.parametrize("line", ["INCR text", "INCR digits"])
def test_incr_of_a_long_text_is_refused_as_fast_as_of_a_short_one(
    worlds: tuple[World, World], line: str
) -> None:
    small, large = worlds
    for world in worlds:
        world.call([b"SET", b"digits", b"1" * (100 * world.n)])
    assert ratio(lambda: small.best_ns(line), lambda: large.best_ns(line)) <= MOST


def _push_ns(waiters: int) -> float:
    """Time a push that serves one of many clients who wait for the key."""
    engine = Engine(Config(), Clock(), Random(1))
    for _ in range(waiters):
        engine.careful(engine.connect(), [b"BLPOP", b"key", b"0"])
    client = engine.connect()
    before_ns = time.process_time_ns()
    for _ in range(COMMANDS):
        engine.apply(client, [b"RPUSH", b"key", b"x"])
    spent_ns = time.process_time_ns() - before_ns
    assert len(engine.blocking.waiting) == waiters - COMMANDS
    return spent_ns


def test_push_among_many_waiters_asks_only_those_it_serves() -> None:
    assert ratio(lambda: _push_ns(100), lambda: _push_ns(2_000)) <= MOST


def test_lines_name_commands_that_are_answered_without_an_error(
    worlds: tuple[World, World],
) -> None:
    world = worlds[0]
    for line in LINES.strip().splitlines():
        for argv in world.commands(line)[:2]:
            reply = world.client.engine.apply(world.client, argv)
            assert not isinstance(reply, CommandError), (line, reply)
