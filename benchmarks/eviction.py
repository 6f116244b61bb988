"""Which keys eviction keeps: the hit rate of a cache whose keys are read as popularity falls off.

A reader asks for keys by a Zipf-like law and writes those that it does not find, as a program
in front of a slower store does. Both kinds of server get the same sequence at the same rate (LRU
goes by seconds, so time matters as well as order) and room for the same number of keys: maxmemory
is moved all the time, so that it holds them. What is measured, once the cache is warm, is the
share of reads that find their key, and how many keys the server held meanwhile.

With volatile-ttl a key lives the longer the more popular it is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

from benchmarks.measure import Bench, Sample
from tests.interop.harness import Kind, Server

POLICIES: Final = ("allkeys-lru", "allkeys-lfu", "volatile-ttl")
SKEW: Final = 0.9
"""The exponent of the law: rank r is asked for in proportion to r ** -SKEW."""
KEYS_FOR_EACH_PLACE: Final = 5
VALUE: Final = bytes(100)
BATCH: Final = 250
READS_A_SECOND: Final = 10_000
SHORTEST_S: Final = 100_000
"""Times to live are far beyond the run: nothing expires in it."""


def eviction(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Fill one fresh server for each policy, and read from it."""
    capacity = bench.scale.collections // 5
    batches = bench.scale.requests * 6 // BATCH
    for policy in POLICIES:
        with bench.server(kind, maxmemory_policy=policy) as server:
            reader = Reader(server, capacity, with_ttl=policy.startswith("volatile"))
            reader.fill()
            for _ in range(batches // 2):
                reader.read()
            reader.hits = reader.reads = 0
            kept = [reader.read() for _ in range(batches // 2)]
            name = f"{policy}, room for {capacity:,} of {capacity * KEYS_FOR_EACH_PLACE:,}"
            yield Sample(name, "hit rate", "%", 100 * reader.hits / reader.reads, True)
            yield Sample(name, "keys held", "keys", sum(kept) / len(kept), True)


class Reader:
    """Reads keys by their popularity, and writes those that are missing.

    Args:
        server: that is read from.
        capacity: keys that it is to hold.
        with_ttl: keys get a time to live, by their popularity.

    Attributes:
        reads, hits: so far.
    """

    def __init__(self, server: Server, capacity: int, *, with_ttl: bool) -> None:
        self._server = server
        self._client: Any = server.client()
        self._capacity = capacity
        self._keys = capacity * KEYS_FOR_EACH_PLACE
        self._with_ttl = with_ttl
        self._weights = list(accumulate((rank + 1) ** -SKEW for rank in range(self._keys)))
        self._rng = random.Random(7)
        self._next_s = time.monotonic()
        self._limit_bytes = 0
        self._key_bytes = 0.0
        self.reads = self.hits = 0

    def fill(self) -> None:
        """Write as many keys as there is room for, and set the limit where they end."""
        empty_bytes = self._used_bytes()
        self._write(self._rng.sample(range(self._keys), self._capacity))
        self._limit_bytes = self._used_bytes()
        self._key_bytes = (self._limit_bytes - empty_bytes) / self._capacity
        self._server.config_set(maxmemory=self._limit_bytes)
        self._next_s = time.monotonic()

    def read(self) -> int:
        """Read a batch of keys, at its time, and move the limit towards the capacity.

        Returns:
            How many keys the server held after it.
        """
        self._next_s += BATCH / READS_A_SECOND
        time.sleep(max(self._next_s - time.monotonic(), 0))
        ranks = self._rng.choices(range(self._keys), cum_weights=self._weights, k=BATCH)
        pipe = self._client.pipeline(transaction=False)
        for rank in ranks:
            pipe.get(f"key:{rank}")
        found = pipe.execute()
        missing = [rank for rank, value in zip(ranks, found, strict=True) if value is None]
        self.reads += BATCH
        self.hits += BATCH - len(missing)
        self._write(missing)
        held = int(self._server.call("DBSIZE"))
        self._limit_bytes += int((self._capacity - held) * self._key_bytes / 4)
        self._server.config_set(maxmemory=self._limit_bytes)
        return held

    def _write(self, ranks: list[int]) -> None:
        pipe = self._client.pipeline(transaction=False)
        for rank in ranks:
            ttl_s = SHORTEST_S * 2 - SHORTEST_S * rank // self._keys if self._with_ttl else None
            pipe.set(f"key:{rank}", VALUE, ex=ttl_s)
        pipe.execute()

    def _used_bytes(self) -> int:
        return int(self._server.info("memory")["used_memory"])
