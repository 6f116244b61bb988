"""WAIT: which writes it asks for: those of its client, and those that it may have seen.

Source: replication.c of Redis 7.0 (waitCommand), server.c (processCommand).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server, follow, wait_caught_up, wait_until
from tests.interop.proxy import Direction, Proxy


def wait(client: redis.Redis, timeout_ms: int = 100) -> int:
    """Ask how many replicas have what this client has written; one would be enough."""
    return int(client.wait(1, timeout_ms))


def test_wait_asks_for_the_writes_of_its_own_client_alone(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], kind: Kind
) -> None:
    master, replica = launch(kind), launch("redis")
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    patient, hasty = master.client(), master.client()
    patient.set("k", "acknowledged")
    assert wait(patient, 30_000) == 1
    proxy.stall(Direction.DOWN)

    hasty.set("k", "not acknowledged")

    assert wait(patient) == 1
    assert wait(hasty) == 0


def test_wait_behind_a_write_in_one_pipeline_asks_for_that_write(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], kind: Kind
) -> None:
    master, replica = launch(kind), launch("redis")
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    proxy.stall(Direction.DOWN)

    pipeline = master.client().pipeline(transaction=False)
    pipeline.set("k", "v")
    pipeline.wait(1, 100)
    assert pipeline.execute() == [True, 0]


def test_wait_after_an_element_was_popped_for_a_blocked_client_asks_for_the_pop(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    # Redis itself would answer 1: it notes the offset of a client's commands when they are called.
    master, replica = launch("kvrepl"), launch("redis")
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    proxy.stall(Direction.DOWN)

    pipeline = master.client().pipeline(transaction=False)
    pipeline.blpop(["list"], 0)
    pipeline.wait(1, 100)
    with ThreadPoolExecutor() as pool:
        answers = pool.submit(pipeline.execute)
        wait_until(lambda: master.info("clients")["blocked_clients"] == 1, "it waits", master)
        master.call("RPUSH", "list", "element")
        assert answers.result(60) == [(b"list", b"element"), 0]
