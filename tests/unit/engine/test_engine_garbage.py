"""Nothing of the engine leaves cycles: everything is freed by its last reference.

The server relies on it: it runs no full collections (kvrepl/server/collector.py).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.unit.engine.twins import LOOPS, Bench

WORKLOAD = (
    b"SET s v", b"GET s", b"SET t 1 PX 5", b"INCR s", b"APPEND s x", b"RPUSH l a b c", b"LPOP l",
    b"LRANGE l 0 -1", b"SADD set a b", b"SPOP set", b"HSET h f v", b"HGETALL h",
    b"ZADD z 1 a 2 b", b"ZPOPMIN z", b"ZRANGE z 0 -1", b"GET h", b"NOSUCH x", b"GET",
    b"MULTI", b"SET s w", b"INCR s", b"EXEC", b"WATCH s", b"MULTI", b"NOSUCH", b"EXEC",
    b"SUBSCRIBE c", b"UNSUBSCRIBE c", b"SCAN 0", b"COPY l m", b"RENAME m n", b"SELECT 1",
    b"FLUSHDB ASYNC", b"SELECT 0", b"FLUSHALL",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_automatic_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("loops", LOOPS)
def test_engine_workload_leaves_no_cyclic_garbage(loops: object) -> None:
    bench = Bench(loops)
    gc.collect()
    for _ in range(3):
        bench.run(*WORKLOAD)
        waiting = bench.engine.connect()
        bench.run(b"BLPOP empty 1", client=waiting)
        bench.clock.ms += 2_000
        bench.engine.tick()
        bench.engine.blocking.expire()
        bench.run(b"BLPOP empty 0", client=waiting)
        bench.engine.disconnect(waiting)
        bench.engine.writers.clear()
        waiting = None  # type: ignore[assignment]
        bench.replies()
    assert gc.collect() == 0
