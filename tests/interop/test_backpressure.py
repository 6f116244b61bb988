"""repl-backpressure: writers wait for a replica that nears its output limit, and for nothing else.

The master is kvrepl, as Redis has no such setting; the replicas are of either kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import redis

from tests.interop.conftest import KINDS, Launcher
from tests.interop.harness import (
    Kind,
    Server,
    follow,
    sync_counts,
    wait_caught_up,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Direction, Proxy

LIMIT = "replica 4mb 0 0"
VALUE = "x" * 50_000
DROPPED = "for overcoming of output buffer limits."


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def pressure(master: Server) -> dict[str, object]:
    """Give what INFO says of writers that wait."""
    answer: dict[str, object] = master.info("replication")["kvrepl_backpressure"]
    return answer


def delaying(master: Server) -> bool:
    return pressure(master)["state"] == "delaying"


def waiting(master: Server) -> int:
    """Give how many clients are held back; INFO does not count those."""
    clients = master.call("CLIENT", "LIST").decode().splitlines()
    return sum("b" in line.partition(" flags=")[2].split(" ")[0] for line in clients)


def write(master: Server, writes: int) -> int:
    """Write on a connection of its own; give how many writes were answered."""
    client = master.client()
    return sum(bool(client.set(f"key{number % 20}", VALUE)) for number in range(writes))


def transaction(master: Server) -> object:
    """Write in MULTI and EXEC."""
    pipeline = master.client().pipeline()
    pipeline.incr("n")
    return pipeline.execute()


def stalled_pair(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], peer: Kind, **directives: str | int
) -> tuple[Server, Server, Proxy]:
    """A master and a replica that is in step, and from now on takes nothing."""
    master = launch(
        "kvrepl", repl_backpressure="yes", client_output_buffer_limit=LIMIT, **directives
    )
    replica = launch(peer)
    proxy = proxy_to(master)
    follow(replica, proxy.port)
    wait_caught_up(master, replica)
    proxy.stall(Direction.DOWN)
    return master, replica, proxy


@pytest.mark.parametrize("peer", KINDS)
def test_writers_wait_for_a_stalled_replica_which_then_needs_no_full_sync(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pool: ThreadPoolExecutor, peer: Kind
) -> None:
    master, replica, proxy = stalled_pair(
        launch, proxy_to, peer, repl_backpressure_max_delay=60_000
    )
    done: list[Future[int]] = [pool.submit(write, master, 200) for _ in range(2)]  # 20 MB

    wait_until(lambda: delaying(master), "writers wait", master)

    # Reads, and writes of nobody, go on; transactions and scripts that may write do not.
    assert master.call("GET", "key0") == VALUE.encode()
    others = [
        pool.submit(master.client().execute_command, "EVAL", "return redis.call('incr', 'n')", 0),
        pool.submit(transaction, master),
    ]
    wait_until(lambda: waiting(master) == 4, "all four writers wait", master)
    assert not any(future.done() for future in (*done, *others))

    proxy.resume()

    assert [future.result(60) for future in done] == [200, 200]
    assert all(future.result(60) for future in others)
    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 0)
    assert DROPPED not in master.log_text()
    assert pressure(master)["state"] == "idle"
    assert int(str(pressure(master)["delayed_ms"])) > 0


def test_delay_ends_at_its_bound_and_the_replica_is_dropped_as_before(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    master, replica, proxy = stalled_pair(
        launch, proxy_to, "redis", repl_backpressure_max_delay=300
    )

    assert write(master, 400) == 400

    master.wait_log("(repl-backpressure-max-delay) and go on")
    master.wait_log(DROPPED)
    wait_until(lambda: pressure(master)["state"] == "idle", "nobody to wait for", master)
    proxy.resume()
    wait_same_data(master, replica)


def test_writers_go_on_when_the_replica_they_wait_for_goes_or_the_setting_is_turned_off(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pool: ThreadPoolExecutor
) -> None:
    master, replica, proxy = stalled_pair(
        launch, proxy_to, "redis", repl_backpressure_max_delay=60_000
    )
    done = pool.submit(write, master, 200)
    wait_until(lambda: delaying(master), "writers wait", master)
    proxy.cut()
    assert done.result(60) == 200

    proxy.resume()
    wait_caught_up(master, replica)
    proxy.stall(Direction.DOWN)
    done = pool.submit(write, master, 200)
    wait_until(lambda: delaying(master), "writers wait", master)
    master.config_set(repl_backpressure="no")
    assert done.result(60) == 200


def test_failover_and_wait_work_while_writers_wait(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], pool: ThreadPoolExecutor
) -> None:
    master, slow, proxy = stalled_pair(
        launch, proxy_to, "kvrepl", repl_backpressure_max_delay=60_000
    )
    target = launch("kvrepl")
    follow(target, master.port)
    done = pool.submit(write, master, 200)
    wait_until(lambda: delaying(master), "writers wait", master)

    assert master.call("WAIT", 1, 60_000) >= 1
    master.call("FAILOVER", "TO", "127.0.0.1", target.port)
    wait_until(lambda: target.call("ROLE")[0] == b"master", "it has taken over", master, target)

    with pytest.raises(redis.RedisError):
        done.result(60)  # its server is a replica now, which refuses or unblocks it
    proxy.cut()
    proxy.resume()
    wait_same_data(target, master, slow)
