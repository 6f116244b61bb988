"""The datasets of the benchmarks, made by one generator for both kinds of server.

Values do not compress, as data in the field mostly does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tests.interop.datasets import Command, text_of

VALUE_BYTES = 64
ELEMENTS = 8
Maker = Callable[[bytes, random.Random], Command]


def strings(keys: int) -> Iterator[Command]:
    """Yield SETs of `keys` values of VALUE_BYTES."""
    rng = random.Random(1)
    for number in range(keys):
        yield b"SET", b"key:%010d" % number, text_of(rng, VALUE_BYTES)


def mixed(keys: int) -> Iterator[Command]:
    """Yield a command for each of `keys` keys: every type in turn, ELEMENTS elements each."""
    rng = random.Random(2)
    makers = (make_string, make_list, make_set, make_intset, make_hash, make_zset, make_stream)
    for number in range(keys):
        yield makers[number % len(makers)](b"key:%010d" % number, rng)


def collections_of(keys: int, make: Maker) -> Iterator[Command]:
    """Yield a command for each of `keys` keys of one type."""
    rng = random.Random(2)
    for number in range(keys):
        yield make(b"key:%010d" % number, rng)


def make_string(key: bytes, rng: random.Random) -> Command:
    """A string of VALUE_BYTES."""
    return ("SET", key, text_of(rng, VALUE_BYTES))


def make_list(key: bytes, rng: random.Random) -> Command:
    """A list of short texts."""
    return ("RPUSH", key, *(text_of(rng, 12) for _ in range(ELEMENTS)))


def make_set(key: bytes, rng: random.Random) -> Command:
    """A set of short texts, a hash table in Redis 7.0."""
    return ("SADD", key, *(text_of(rng, 12) for _ in range(ELEMENTS)))


def make_intset(key: bytes, rng: random.Random) -> Command:
    """A set of integers of 32 bits."""
    return ("SADD", key, *(rng.randrange(1 << 20) for _ in range(ELEMENTS)))


def make_hash(key: bytes, rng: random.Random) -> Command:
    """A hash of short texts."""
    pairs = [part for n in range(ELEMENTS) for part in (b"field%d" % n, text_of(rng, 12))]
    return ("HSET", key, *pairs)


def make_zset(key: bytes, rng: random.Random) -> Command:
    """A sorted set of short texts with whole scores."""
    pairs = [part for _ in range(ELEMENTS) for part in (rng.randrange(1000), text_of(rng, 12))]
    return ("ZADD", key, *pairs)


def make_stream(key: bytes, rng: random.Random) -> Command:
    """A stream of one entry."""
    pairs = [part for n in range(ELEMENTS) for part in (b"field%d" % n, text_of(rng, 12))]
    return ("XADD", key, "1-1", *pairs)
