"""One round: a cluster lives through its schedule, heals, and is judged.

    start -> (step, step, ...; tend all the while) -> heal -> all equal, nothing lost

The journal in the round's folder holds the schedule and what came of each step, beside the folders
of the servers with their logs and files.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos.cluster import Cluster
from tests.chaos.load import Load, numbers_on
from tests.chaos.schedule import CALM_MS, Step, make_schedule
from tests.interop.datasets import populate
from tests.interop.harness import wait_same_data
from tests.interop.proxy import Proxy

KEYS: Final = 5_000
ROUND_S: Final = 60.0
HEAL_S: Final = 15.0
"""Share of a round that starting and healing take; the rest is for faults."""
CONVERGE_S: Final = 90.0
TEND_S: Final = 0.25
REST_S: Final = 1.0
"""After the last step, before the writers end."""


class Verdict(NamedTuple):
    """What a round has shown, for the log: how much was done, and that it was not nothing."""

    steps: int
    reigns: int
    acknowledged: int

    def __str__(self) -> str:
        return (
            f"{self.steps} steps, {self.reigns} reigns, converged;"
            f" {self.acknowledged} acknowledged writes kept"
        )


class Journal:
    """Lines with the time of the round, in a file and in sight.

    Args:
        path: the file.
        tell: gets each line too.
    """

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._file = path.open("w")
        self._tell = tell
        self._started_s = time.monotonic()

    def __call__(self, text: str) -> None:
        line = f"[{time.monotonic() - self._started_s:7.2f}] {text}"
        print(line, file=self._file, flush=True)
        self._tell(line)

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def run_round(
    seed: int,
    seconds: float,
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
    make_front: Callable[[int], Proxy] = Proxy,
    converge_s: float = CONVERGE_S,
) -> Verdict:
    """Live through a round.

    Args:
        seed: decides who and what.
        seconds: about how long it takes.
        folder: an empty one; left as it is at the end.
        tell: gets the journal line by line.
        make_front: puts a proxy before a port.
        converge_s: how long it may take all servers to be equal once nothing happens any more.

    Raises:
        AssertionError: the cluster did not converge, or lost what it must not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faults_s = max(CALM_MS / 1000 + 1, seconds - HEAL_S)
    schedule = make_schedule(seed, int(1000 * faults_s))
    journal = Journal(folder / "chaos.log", tell)
    journal(str(schedule))
    cluster = Cluster(schedule, folder, journal, make_front)
    try:
        cluster.start()
        populate(cluster.master.server, KEYS, seed)
        load = Load(lambda: cluster.master.server, cluster.witness, seed)
        steps = _live(cluster, schedule.steps, load, faults_s)
        journal(f"errors that writers met: {load.errors}")
        _judge(cluster, converge_s)
        verdict = Verdict(steps, cluster.reigns, len(cluster.witness.acknowledged))
        journal(str(verdict))
        return verdict
    except BaseException as error:
        journal(f"FAILED: {error}")
        raise
    finally:
        cluster.close()
        journal.close()


def _live(cluster: Cluster, steps: list[Step], load: Load, faults_s: float) -> int:
    """Carry out the steps at their times, and what ends each of them at its own.

    Returns:
        How many were carried out: a start that takes long puts off the steps that follow.
    """
    began_s = started_s = time.monotonic()
    order = itertools.count()
    endings: list[tuple[float, int, Callable[[], None]]] = []
    done = 0
    with load.writing():
        for step in steps:
            due_s = started_s + step.at_ms / 1000
            _tend_until(due_s, cluster, endings)
            started_s += time.monotonic() - due_s
            if time.monotonic() > began_s + faults_s:
                break
            ending = cluster.do(step)
            done += 1
            if ending is not None:
                at_s = time.monotonic() + step.span_ms / 1000
                heapq.heappush(endings, (at_s, next(order), ending))
        _tend_until(time.monotonic() + REST_S, cluster, endings)
    # What is not due yet ends now: a killed master must be looked at before it is written to.
    while endings:
        heapq.heappop(endings)[2]()
    return done


def _tend_until(
    deadline_s: float, cluster: Cluster, endings: list[tuple[float, int, Callable[[], None]]]
) -> None:
    while (now_s := time.monotonic()) < deadline_s:
        if endings and endings[0][0] <= now_s:
            heapq.heappop(endings)[2]()
        cluster.tend()
        time.sleep(min(TEND_S, max(0.0, deadline_s - time.monotonic())))


def _judge(cluster: Cluster, converge_s: float) -> None:
    """Heal, and compare.

    Raises:
        AssertionError: somebody crashed, differs, or lacks what must not be lost.
    """
    cluster.heal()
    faults = [f"{n} died by itself" for n in cluster.nodes if not n.server.running]
    faults += [f"{n}: {line}" for n in cluster.nodes if (line := n.server.crash_line())]
    assert not faults, "\n".join(faults)
    cluster.wait_followed()
    master, *replicas = cluster.servers()
    wait_same_data(master, *replicas, timeout_s=converge_s)
    witness = cluster.witness
    assert witness.acknowledged, "no write was acknowledged: the round proves nothing"
    lost = (witness.acknowledged | witness.answered) - numbers_on(master)
    assert not lost, f"{len(lost)} acknowledged writes are lost, of them {sorted(lost)[:20]}"
