"""The pools of maxmemory-clients: who counts, who goes first, and what the limit is."""

from __future__ import annotations

from random import Random

import pytest

from kvrepl.engine.client import Client
from kvrepl.engine.client_pools import (
    POOLS,
    ClientPools,
    eviction_limit_bytes,
    pool_number,
)
from tests.unit.commands.session import Session

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def clients(count: int) -> list[Client]:
    engine = Session().engine
    return [engine.connect() for _ in range(count)]


@pytest.mark.parametrize(
    ("setting", "maxmemory", "limit"),
    [
        (0, 0, 0),
        (0, GIB, 0),
        (10 * MIB, 0, 10 * MIB),
        (1, 0, 128 * KIB),
        (-50, 0, 0),
        (-50, GIB, GIB // 2),
        (-1, MIB, 128 * KIB),
    ],
)
def test_limit_is_bytes_or_a_share_of_maxmemory_and_never_tiny(
    setting: int, maxmemory: int, limit: int
) -> None:
    assert eviction_limit_bytes(setting, maxmemory) == limit


def test_pool_doubles_from_32_kib_to_4_gib() -> None:
    assert [pool_number(size) for size in (0, 1, 32 * KIB - 1)] == [0, 0, 0]
    assert [pool_number(size) for size in (32 * KIB, 64 * KIB - 1, 64 * KIB)] == [1, 1, 2]
    assert [pool_number(size) for size in (4 * GIB - 1, 4 * GIB, 1 << 60)] == [17, 18, 18]


def test_largest_is_of_the_highest_pool_and_the_first_that_came_there() -> None:
    small, early, late = clients(3)
    pools = ClientPools()
    pools.note(small, KIB, may_go=True)
    pools.note(early, 40 * KIB, may_go=True)
    pools.note(late, 60 * KIB, may_go=True)  # larger, and of the same pool
    assert pools.largest() is early

    pools.note(early, 63 * KIB, may_go=True)
    assert pools.largest() is early
    pools.note(small, MIB, may_go=True)
    assert pools.largest() is small
    pools.forget(small)
    pools.forget(early)
    assert pools.largest() is late


def test_client_that_may_not_go_counts_and_is_never_chosen() -> None:
    kept, other = clients(2)
    pools = ClientPools()
    pools.note(kept, MIB, may_go=True)
    pools.note(kept, MIB, may_go=False)
    pools.note(other, KIB, may_go=True)

    assert pools.total_bytes == MIB + KIB
    assert pools.largest() is other
    pools.forget(other)
    assert pools.largest() is None


def test_pools_agree_with_a_plain_list_of_sizes_whatever_happens() -> None:
    rng = Random(5)
    everybody = clients(20)
    pools = ClientPools()
    sizes: dict[Client, tuple[int, bool]] = {}
    for _ in range(3000):
        client = rng.choice(everybody)
        if rng.random() < 0.1:
            pools.forget(client)
            sizes.pop(client, None)
        else:
            sizes[client] = (int(2 ** rng.uniform(8, 36)), rng.random() < 0.8)
            pools.note(client, sizes[client][0], may_go=sizes[client][1])
        assert pools.total_bytes == sum(size for size, _ in sizes.values())
        found = [(0, 0)] * POOLS
        for size, may_go in sizes.values():
            if may_go:
                total, count = found[pool_number(size)]
                found[pool_number(size)] = (total + size, count + 1)
        assert list(pools.describe()) == found
        doomed = pools.largest()
        highest = max((pool_number(s) for s, may_go in sizes.values() if may_go), default=None)
        assert (None if doomed is None else pool_number(sizes[doomed][0])) == highest
