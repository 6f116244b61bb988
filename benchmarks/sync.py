"""Full synchronisation of the string dataset, with the measured server at either end.

The peer is always redis-server, so the Redis column is Redis with itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.measure import Bench, Sample
from benchmarks.snapshots import LONG_S
from tests.interop.harness import Kind, follow, wait_caught_up, wait_linked

FRAMINGS = {"disk": "no", "diskless": "yes"}


def sync(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Time from REPLICAOF to the link being up, for both framings and both ends."""
    bench.dump()  # made before any clock runs
    peer: Kind = "redis"
    for framing, diskless in FRAMINGS.items():
        for role, master_kind, replica_kind in (("master", kind, peer), ("replica", peer, kind)):
            with (
                bench.server_with_data(master_kind, repl_diskless_sync=diskless) as master,
                bench.server(replica_kind) as replica,
            ):
                started = time.perf_counter()
                follow(replica, master.port, wait=False)
                wait_linked(replica, timeout_s=LONG_S)
                elapsed_s = time.perf_counter() - started
                wait_caught_up(master, replica)
                assert replica.call("DBSIZE") == bench.scale.keys
            yield Sample(f"{bench.data_name}, as {role}, {framing}", "time", "s", elapsed_s)
