"""Memory a key: growth of the process (RSS), after writing the keys and after loading them.

RSS is what the machine pays and what fork must copy page tables for. Written data comes by
redis-cli --pipe, loaded data from the RDB file that the same server then saves; both include the
growth of tables and the slack of allocators, as in real use.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import psutil

from benchmarks.measure import Bench, Sample, strings
from tests.interop.datasets import Command, feed, text_of
from tests.interop.harness import Kind, Server

ELEMENTS = 8


def _collections(keys: int, make: Callable[[bytes, random.Random], Command]) -> Iterator[Command]:
    rng = random.Random(2)
    for number in range(keys):
        yield make(b"key:%010d" % number, rng)


def _list(key: bytes, rng: random.Random) -> Command:
    return ("RPUSH", key, *(text_of(rng, 12) for _ in range(ELEMENTS)))


def _set(key: bytes, rng: random.Random) -> Command:
    return ("SADD", key, *(text_of(rng, 12) for _ in range(ELEMENTS)))


def _intset(key: bytes, rng: random.Random) -> Command:
    return ("SADD", key, *(rng.randrange(1 << 20) for _ in range(ELEMENTS)))


def _hash(key: bytes, rng: random.Random) -> Command:
    pairs = [part for n in range(ELEMENTS) for part in (b"field%d" % n, text_of(rng, 12))]
    return ("HSET", key, *pairs)


def _zset(key: bytes, rng: random.Random) -> Command:
    pairs = [part for _ in range(ELEMENTS) for part in (rng.randrange(1000), text_of(rng, 12))]
    return ("ZADD", key, *pairs)


def memory(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Fill one fresh server with each dataset in turn."""
    few = bench.scale.collections
    datasets: dict[str, tuple[int, Iterator[Command]]] = {
        "string of 64 B": (bench.scale.keys, strings(bench.scale.keys)),
        f"list of {ELEMENTS} x 12 B": (few, _collections(few, _list)),
        f"set of {ELEMENTS} x 12 B": (few, _collections(few, _set)),
        f"set of {ELEMENTS} integers": (few, _collections(few, _intset)),
        f"hash of {ELEMENTS} x 12 B": (few, _collections(few, _hash)),
        f"sorted set of {ELEMENTS} x 12 B": (few, _collections(few, _zset)),
    }
    for case, (keys, commands) in datasets.items():
        with bench.server(kind) as server:
            empty_bytes = _resident_bytes(server)
            feed(server, commands)
            assert server.call("DBSIZE") == keys
            yield Sample(case, "written", "B/key", (_resident_bytes(server) - empty_bytes) / keys)
            server.call("SAVE")
            server.restart()
            yield Sample(case, "loaded", "B/key", (_resident_bytes(server) - empty_bytes) / keys)


def _resident_bytes(server: Server) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)
