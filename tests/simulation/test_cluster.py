"""Clusters that are broken in every way converge, seed by seed.

SEED=n    run this seed alone (a failure names its own)
SEEDS=n   run the seeds 0 to n-1
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.cluster import Cluster

DEFAULT_SEEDS = 200
_ONE = os.environ.get("SEED", "")
SEEDS = [int(_ONE)] if _ONE else range(int(os.environ.get("SEEDS", "") or DEFAULT_SEEDS))
GROUP = 20


@pytest.mark.parametrize("first", range(0, len(SEEDS), GROUP))
def test_cluster_broken_and_healed_converges(first: int) -> None:
    for seed in SEEDS[first : first + GROUP]:
        cluster = Cluster(seed)
        try:
            cluster.run()
        except AssertionError as error:
            error.add_note(f"replay with: SEED={seed} pytest {__file__}")
            error.add_note(cluster.last_words())
            raise


def test_simulation_same_seed_gives_same_run() -> None:
    logs = []
    for _ in range(2):
        cluster = Cluster(7)
        cluster.run()
        logs.append(cluster.log)
    assert logs[0] == logs[1]


def test_simulation_of_some_seeds_visits_every_way_of_syncing() -> None:
    """A simulation that never gets anywhere would converge as well."""
    seen = "\n".join(line for seed in range(12) for line in _run(seed))
    for text in (
        "Successful partial resynchronization with master.",
        "Master replication ID changed to",
        "MASTER <-> REPLICA sync: Finished with success",
        "streamed RDB from master with EOF to parser",
        "streamed RDB from master with EOF to disk",
        "bytes from master to disk",
        "Waiting for end of BGSAVE for SYNC",
        "for lack of backlog",
        "Requested offset for second ID was",
        "Replication ID mismatch",
        "I/O error trying to sync with MASTER",
        "MASTER timeout: no data nor PING received...",
        "Disconnecting timedout replica (streaming sync)",
        "Failed trying to load the MASTER synchronization DB",
        "SYNC failed. BGSAVE child returned an error",
        "killing fork child",
        "Replication backlog freed after",
        "is synced, failing over.",
        "Failover request received for replid",
    ):
        assert text in seen, text


def _run(seed: int) -> list[str]:
    cluster = Cluster(seed)
    cluster.run()
    return cluster.log
