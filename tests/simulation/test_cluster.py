"""Clusters that are broken in every way converge, seed by seed.

SEED=n    run this seed alone (a failure names its own)
SEEDS=n   run the seeds 0 to n-1
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import pytest

from tests.simulation.cluster import Cluster

DEFAULT_SEEDS = 1000
_ONE = os.environ.get("SEED", "")
SEEDS = [int(_ONE)] if _ONE else range(int(os.environ.get("SEEDS", "") or DEFAULT_SEEDS))
GROUP = 50


WAYS = (
    "Successful partial resynchronization with master.",
    "Master replication ID changed to",
    "MASTER <-> REPLICA sync: Finished with success",
    "streamed RDB from master with EOF to parser",
    "streamed RDB from master with EOF to disk",
    "bytes from master to disk",
    "bytes from master to parser",
    "Waiting for end of BGSAVE for SYNC",
    "I/O error trying to sync with MASTER",
    "MASTER timeout: no data nor PING received...",
    "Disconnecting timedout replica (streaming sync)",
    "Failed trying to load the MASTER synchronization DB",
    "SYNC failed. BGSAVE child returned an error",
    "BGSAVE for replication failed",
    "killing fork child",
    "joins the diskless transfer that runs",
    "Disconnecting slow replica (full sync)",
    "Corrupt data from MASTER",
    "Writers wait for replica",
    "Writers have waited for replica",
    "Replication backlog freed after",
    "is synced, failing over.",
    "time out exceeded, failing over.",
    "FAILOVER to any replica aborted",
    "Failover request received for replid",
    "waits in line at place",
    "Refused the snapshot of MASTER",
    ", first_attach: ",
    ", forced: ",
    ", id_mismatch: ",
    ", backlog_expired: ",
    ", second_id_passed: ",
    ", offset_before_backlog: ",
    ", offset_ahead: ",
)


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """Run seeds on every processor; fresh interpreters, as forks would copy this one's threads."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


def run_seed(seed: int) -> str:
    """Run one seed; give what to tell of its failure, empty where there is none."""
    cluster = Cluster(seed)
    try:
        cluster.run()
    except Exception as error:  # whatever is wrong, the seed shows it again
        told = f"{type(error).__name__}: {error}"
        return f"{cluster.last_words()}\n{told}\nreplay with: make sim SEED={seed}"
    return ""


@pytest.mark.parametrize("first", range(0, len(SEEDS), GROUP))
def test_cluster_broken_and_healed_converges(processes: Executor, first: int) -> None:
    for failure in processes.map(run_seed, SEEDS[first : first + GROUP], chunksize=5):
        assert not failure, failure


def test_simulation_same_seed_gives_same_run() -> None:
    logs = []
    for _ in range(2):
        cluster = Cluster(7)
        cluster.run()
        logs.append(cluster.log)
    assert logs[0] == logs[1]


def run_for_log(seed: int) -> str:
    """Run one seed; give everybody's log."""
    cluster = Cluster(seed)
    cluster.run()
    return "\n".join(cluster.log)


def test_simulation_of_some_seeds_visits_every_way_of_syncing(processes: Executor) -> None:
    """A simulation that never gets anywhere would converge as well."""
    seen = "\n".join(processes.map(run_for_log, range(200), chunksize=5))
    unvisited = [text for text in WAYS if text not in seen]
    assert not unvisited
