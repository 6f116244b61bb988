"""The memory of clients, sorted by size: who is the next to go under maxmemory-clients.

    pool 0        clients of less than 32 KiB
    pool 1 to 17  each takes twice what the one below it does
    pool 18       those of 4 GiB and more

A client that may be evicted stands in the pool of its size; one that may not (CLIENT NO-EVICT) in
none, but counts like the others. The largest is looked for from the last pool down, and within a
pool it is the one that came there first: a client costs O(1) when its size changes, and nobody is
ever sorted.

Source: Redis 7.0 networking.c (getMemUsageBucket, evictClients), server.c
(updateClientMemUsageAndBucket).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

POOLS: Final = 19
FIRST_LIMIT_BITS: Final = 15
"""Clients of fewer bits than one more are in pool 0 (CLIENT_MEM_USAGE_BUCKET_MIN_LOG)."""

LEAST_LIMIT_BYTES: Final = 128 * 1024
"""A smaller limit would leave nobody to set it right (getClientEvictionLimit)."""


def eviction_limit_bytes(setting: int, maxmemory_bytes: int) -> int:
    """The limit that maxmemory-clients stands for, 0 for none.

    Args:
        setting: bytes; or, negative, a percentage of maxmemory.
        maxmemory_bytes: 0 where there is none, whereupon a percentage is of nothing.

    Source: networking.c (getClientEvictionLimit).
    """
    limit_bytes = setting if setting >= 0 else maxmemory_bytes * -setting // 100
    return max(limit_bytes, LEAST_LIMIT_BYTES) if limit_bytes else 0


def pool_number(size_bytes: int) -> int:
    """The pool of a client of that size. O(1)."""
    return min(max(size_bytes.bit_length() - FIRST_LIMIT_BITS, 0), POOLS - 1)


class ClientPools:
    """The sizes of clients.

    Attributes:
        total_bytes: of all of them together.
    """

    __slots__ = ("_pools", "_sizes", "total_bytes")

    def __init__(self) -> None:
        self.total_bytes = 0
        self._sizes: dict[Client, int] = {}
        self._pools: list[dict[Client, None]] = [{} for _ in range(POOLS)]

    def note(self, client: Client, size_bytes: int, *, may_go: bool) -> None:
        """Take the size of a client, new or known. O(1)."""
        old_bytes = self._sizes.get(client)
        self._sizes[client] = size_bytes
        self.total_bytes += size_bytes - (old_bytes or 0)
        number = pool_number(size_bytes)
        if old_bytes is not None and (not may_go or pool_number(old_bytes) != number):
            self._pools[pool_number(old_bytes)].pop(client, None)
        if may_go:
            self._pools[number][client] = None

    def forget(self, client: Client) -> None:
        """A client is gone, or became one that does not count. O(1)."""
        size_bytes = self._sizes.pop(client, None)
        if size_bytes is not None:
            self.total_bytes -= size_bytes
            self._pools[pool_number(size_bytes)].pop(client, None)

    def largest(self) -> Client | None:
        """The next one to be evicted, None where nobody may be. O(POOLS)."""
        for pool in reversed(self._pools):
            if pool:
                return next(iter(pool))
        return None

    def describe(self) -> Iterator[tuple[int, int]]:
        """The bytes and the number of clients in each pool, from 0 on. O(clients)."""
        for pool in self._pools:
            yield sum(map(self._sizes.__getitem__, pool)), len(pool)
