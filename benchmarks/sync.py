"""Full synchronisation of the string dataset, with the measured server at either end or both.

Where the measured server is at one end the other is redis-server, so the Redis column is always
Redis with itself. The master is asked for keys all the while, by a client that measures its waits
(benchmarks.prober); counted are the requests that were due between REPLICAOF and the end. Nobody
else asks either server anything meanwhile: that the link is up is read in the log of the replica,
which says so in the same words whichever it is, and INFO confirms it when the clocks have stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.datasets import strings
from benchmarks.measure import Bench, Sample
from benchmarks.prober import Prober
from benchmarks.snapshots import LONG_S
from tests.interop.datasets import feed
from tests.interop.harness import Kind, Server, follow, wait_caught_up, wait_linked

FRAMINGS = {"disk": "no", "diskless": "yes"}
PERCENT = 99.9
SYNCED = "MASTER <-> REPLICA sync: Finished with success"
"""What a replica of either kind logs when its link is up."""


def sync(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Time from REPLICAOF to the link being up, and what a client of the master waits meanwhile."""
    bench.dump()  # made before any clock runs
    peer: Kind = "redis"
    ends = {"as master": (kind, peer), "as replica": (peer, kind), "as both": (kind, kind)}
    for framing, diskless in FRAMINGS.items():
        for role, (master_kind, replica_kind) in ends.items():
            case = f"{bench.data_name()}, {role}, {framing}"
            with (
                bench.server_with_data(master_kind, repl_diskless_sync=diskless) as master,
                bench.server(replica_kind) as replica,
            ):
                request = b"GET key:%010d\r\n" % (bench.scale.keys // 2)
                with Prober(master.port, request) as prober:
                    started = time.perf_counter()
                    follow(replica, master.port, wait=False)
                    replica.wait_log(SYNCED, timeout_s=LONG_S)
                    ended = time.perf_counter()
                wait_caught_up(master, replica)
                assert replica.call("DBSIZE") == bench.scale.keys
            waits = prober.between(started, ended)
            yield Sample(case, "time", "s", ended - started)
            yield Sample(case, f"GET, {PERCENT} %", "ms", waits.percentile_ms(PERCENT))
            yield Sample(case, "GET, longest", "ms", waits.longest_ms)


def link(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """What a link between two servers of a kind carries, plain and compressed (kvrepl alone).

    A diskless full sync, and then writes: how long each takes, and the bytes on the wire.
    """
    bench.dump()
    for codec in ("plain", "lz4") if kind == "kvrepl" else ("plain",):
        own: dict[str, Any] = {"repl_compression": codec} if codec != "plain" else {}
        with (
            bench.server_with_data(kind, repl_diskless_sync="yes", **own) as master,
            bench.server(kind, **own) as replica,
        ):
            started = time.perf_counter()
            follow(replica, master.port, wait=False)
            wait_linked(replica, timeout_s=LONG_S)
            wait_caught_up(master, replica, timeout_s=LONG_S)
            case = f"{bench.data_name()}, {codec}"
            yield Sample(case, "full sync", "s", time.perf_counter() - started)
            yield Sample(case, "snapshot on the wire", "MB", _sent_bytes(master) / 1e6)

            before_bytes, started = _sent_bytes(master), time.perf_counter()
            feed(master, strings(bench.scale.requests))
            wait_caught_up(master, replica, timeout_s=LONG_S)
            elapsed_s = time.perf_counter() - started
            case = f"{bench.scale.requests:,} SET, {codec}"
            yield Sample(case, "time to the replica", "s", elapsed_s)
            sent_bytes = _sent_bytes(master) - before_bytes
            yield Sample(case, "stream on the wire", "MB", sent_bytes / 1e6)


def _sent_bytes(master: Server) -> int:
    """Give what a master has sent to its replicas."""
    return int(master.info("stats")["total_net_repl_output_bytes"])
