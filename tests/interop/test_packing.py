"""Collections that nobody uses are packed: memory falls, and nothing else changes."""

from __future__ import annotations

import pytest
import redis

from benchmarks.datasets import collections_of, make_hash, mixed
from tests.interop.conftest import Launcher
from tests.interop.datasets import feed
from tests.interop.harness import Server, follow, wait_same_data, wait_until

KEYS = 2_100
COLLECTIONS = KEYS * 5 // 7
"""How many of them can be packed: the others are strings and streams."""


def packed(server: Server) -> int:
    return int(server.info("memory")["kvrepl_packed_again"])


def used_bytes(server: Server) -> int:
    return int(server.info("memory")["used_memory"])


def test_written_collections_are_packed_when_nobody_uses_them(launch: Launcher) -> None:
    server = launch("kvrepl", pack_idle_time=1)
    feed(server, mixed(KEYS))
    server.call("SADD", "large", *range(0, 9000, 2))
    digest, before_bytes = server.digest(), used_bytes(server)

    wait_until(lambda: packed(server) == COLLECTIONS, "all are packed", server)
    fallen_bytes, info = before_bytes - used_bytes(server), server.info("memory")
    saved_bytes = int(info["kvrepl_packed_again_saved_bytes"])
    assert 300 * COLLECTIONS < saved_bytes < 1_000 * COLLECTIONS
    if info["mem_allocator"] == "python":  # elsewhere memory is estimated
        assert saved_bytes == pytest.approx(fallen_bytes, rel=0.3)
    assert server.digest() == digest
    theirs, ours = launch("redis"), launch("kvrepl")
    for replica in (theirs, ours):
        follow(replica, server.port)
    wait_same_data(server, theirs, ours)


def test_packed_again_costs_what_loaded_costs(launch: Launcher) -> None:
    server = launch("kvrepl")
    keys, empty_bytes = 40_000, used_bytes(server)  # many, as no two processes start alike

    def bytes_a_key() -> float:
        return (used_bytes(server) - empty_bytes) / keys

    def settled(low: float, high: float) -> float:
        """Wait for an estimate (where nothing is compiled) to follow; give bytes a key."""
        wait_until(lambda: low < bytes_a_key() < high, f"{low} to {high} bytes a key", server)
        return bytes_a_key()

    feed(server, collections_of(keys, make_hash))
    settled(1_000, 2_000)
    assert server.call("DEBUG", "PACK") == keys
    idle = settled(200, 450)
    server.call("SAVE")
    server.restart()
    assert idle < 1.1 * settled(200, 450)


def test_nothing_is_packed_while_a_child_saves(launch: Launcher) -> None:
    server = launch("kvrepl", pack_idle_time=1, rdb_key_save_delay=2_000)
    feed(server, mixed(KEYS))  # some 4 s for the child, 1 to 2 until all is packed
    server.call("BGSAVE")
    seen = set()

    def saved() -> bool:
        seen.add(packed(server))
        return not server.info("persistence")["rdb_bgsave_in_progress"]

    before = packed(server)
    with pytest.raises(redis.ResponseError, match="a child runs"):
        server.call("DEBUG", "PACK")
    wait_until(saved, "the child has ended", server)
    assert before in seen and len(seen) <= 2, "the last look may be after the end"
    wait_until(lambda: packed(server) == COLLECTIONS, "all are packed", server)
