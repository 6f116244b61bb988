"""Programs that people run on Redis, unmodified, on kvrepl: clients and two applications.

redis-py    pipelines, transactions, pub/sub, locks (Lua), streams and groups, scans, RESP3
coredis     another client, written apart from it, asyncio, RESP3
RQ          a job queue: Lua scripts, blocking pops, registries in sorted sets, pub/sub
django-redis  Django's cache: SET with options, SCAN and DEL, locks, timeouts
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import coredis
import pytest
import redis
from rq import Queue, SimpleWorker
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.timeouts import TimerDeathPenalty

from tests.interop import jobs
from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server


@pytest.fixture
def server(launch: Launcher, kind: Kind) -> Server:
    return launch(kind)


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[redis.Redis]:
    client = redis.Redis(port=server.port, protocol=request.param)
    yield client
    client.close()


# -------------------------------------------------------------------- redis-py


def test_redis_py_transaction_sees_a_change_of_a_watched_key(client: redis.Redis) -> None:
    client.set("balance", 1)
    attempts = []

    def spend(pipe: Any) -> None:
        held = int(pipe.get("balance"))
        attempts.append(held)
        if len(attempts) == 1:
            client.set("balance", 5)  # somebody else is quicker
        pipe.multi()
        pipe.decrby("balance", held)
        pipe.get("balance")

    assert client.transaction(spend, "balance") == [0, b"0"]
    assert attempts == [1, 5]


def test_redis_py_publishes_and_listens(client: redis.Redis) -> None:
    with client.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe("news")
        pubsub.psubscribe("n*")
        kinds = [pubsub.get_message(timeout=10) for _ in range(2)]
        assert client.publish("news", b"\x00text") == 2
        messages = [pubsub.get_message(timeout=10) for _ in range(2)]
    assert [message and message["type"] for message in kinds] == ["subscribe", "psubscribe"]
    assert [message and message["data"] for message in messages] == [b"\x00text"] * 2


def test_redis_py_locks_by_script(client: redis.Redis) -> None:
    lock = client.lock("lock", timeout=30, blocking=False)
    assert lock.acquire()
    assert not client.lock("lock", blocking=False).acquire()
    assert lock.extend(10)
    lock.release()
    assert client.exists("lock") == 0


def test_redis_py_reads_a_stream_as_a_group(client: redis.Redis) -> None:
    client.xgroup_create("events", "group", mkstream=True)
    ids = [client.xadd("events", {"n": n}) for n in range(5)]
    read: Any = client.xreadgroup("group", "me", {"events": ">"}, count=3)
    # RESP3 gives a map of lists of entries, RESP2 a list of pairs.
    rows = read[b"events"][0] if isinstance(read, dict) else read[0][1]
    assert [entry[0] for entry in rows] == ids[:3]
    assert client.xack("events", "group", *ids[:2]) == 2
    assert client.xpending("events", "group")["pending"] == 1
    claimed: Any = client.xautoclaim("events", "group", "you", 0)
    assert claimed[1][0][0] == ids[2]


def test_redis_py_pipelines_and_scans(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(2_000):
            pipe.hset(f"user:{number}", mapping={"name": f"n{number}", "age": number})
        assert pipe.execute() == [2] * 2_000
    assert len(set(client.scan_iter("user:*", count=100))) == 2_000
    assert client.hgetall("user:7") == {b"name": b"n7", b"age": b"7"}
    client.zadd("ranks", {f"m{n}": n / 2 for n in range(100)})
    top = client.zrange("ranks", 0, 1, desc=True, withscores=True)
    assert [(pair[0], float(pair[1])) for pair in top] == [(b"m99", 49.5), (b"m98", 49.0)]
    assert len(list(client.zscan_iter("ranks"))) == 100


# --------------------------------------------------------------------- coredis


def test_coredis_does_its_ordinary_work(server: Server) -> None:
    async def work() -> None:
        async with coredis.Redis(port=server.port, decode_responses=True) as client:
            assert await client.set("k", "v", ex=100)
            assert await client.get("k") == "v"
            assert 0 < await client.ttl("k") <= 100
            await client.hset("h", {"a": "1", "b": "2"})
            assert await client.hgetall("h") == {"a": "1", "b": "2"}
            await client.rpush("l", ["x", "y", "z"])
            assert await client.lrange("l", 0, -1) == ["x", "y", "z"]
            await client.zadd("z", {"one": 1, "two": 2})
            ranked = await client.zrange("z", 0, -1, withscores=True)
            assert [(each[0], float(each[1])) for each in ranked] == [("one", 1.0), ("two", 2.0)]
            await client.sadd("s", ["a", "b"])
            assert await client.smembers("s") == {"a", "b"}
            script = client.register_script("return {KEYS[1], ARGV[1]}")
            assert await script(keys=["k"], args=["x"]) == ["k", "x"]
            async with client.pipeline(transaction=True) as pipe:
                first, second = pipe.incr("n"), pipe.incr("n")
            assert (await first, await second) == (1, 2)

    asyncio.run(work())


# -------------------------------------------------------------------------- RQ


class Worker(SimpleWorker):
    """A worker that runs jobs in this process, and times them without a signal."""

    death_penalty_class = TimerDeathPenalty


def test_rq_runs_what_was_queued(server: Server) -> None:
    connection = redis.Redis(port=server.port)
    queue = Queue("work", connection=connection)
    done = [queue.enqueue(jobs.add, number, 1) for number in range(20)]
    after = queue.enqueue(jobs.add, 1, 1, depends_on=done[3])
    broken = queue.enqueue(jobs.fail)

    Worker([queue], connection=connection).work(burst=True, logging_level="ERROR")

    assert [job.return_value() for job in done] == list(range(1, 21))
    assert after.return_value() == 2
    assert broken.is_failed
    assert broken.id in FailedJobRegistry(queue=queue)
    assert len(FinishedJobRegistry(queue=queue)) == 21
    assert queue.is_empty()
    connection.close()


# ---------------------------------------------------------------- django-redis


def test_django_redis_caches(server: Server) -> None:
    from django.conf import settings
    from django_redis.cache import RedisCache

    if not settings.configured:
        settings.configure()
    cache = RedisCache(f"redis://127.0.0.1:{server.port}/1", {"KEY_PREFIX": "app"})

    cache.set("page", {"html": "<p>", "hits": [1, 2]}, timeout=300)
    assert cache.get("page") == {"html": "<p>", "hits": [1, 2]}
    assert not cache.add("page", 1)
    assert 0 < cache.ttl("page") <= 300
    cache.set("n", 1)
    assert cache.incr("n", 4) == 5
    cache.set_many({f"row:{n}": n for n in range(50)})
    assert cache.get_many(["row:1", "row:49", "none"]) == {"row:1": 1, "row:49": 49}
    assert cache.delete_pattern("row:*") == 50
    with cache.lock("lock", timeout=10):
        assert cache.get("n") == 5
    cache.touch("n", 50)
    assert 0 < cache.ttl("n") <= 50
    cache.clear()
    assert cache.get("page") is None
    cache.close()
