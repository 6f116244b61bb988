"""A minute of chaos, and the proof that a round notices when a rule is broken.

SEED=n runs another round; `make chaos` runs many.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import broken
from tests.chaos.round import ROUND_S, run_round
from tests.chaos.schedule import WEIGHTS, Act, make_schedule
from tests.interop.proxy import Direction, Proxy

SEED = int(os.environ.get("SEED", "") or 1)
BROKEN_ROUND_S = 45.0
BROKEN_SEEDS = range(1, 6)
BROKEN_CONVERGE_S = 10.0


def test_schedule_of_a_seed_is_always_the_same() -> None:
    assert make_schedule(7, 40_000) == make_schedule(7, 40_000)
    assert make_schedule(7, 40_000) != make_schedule(8, 40_000)


def test_schedule_made_longer_begins_as_the_shorter_one() -> None:
    short, long = make_schedule(7, 20_000), make_schedule(7, 60_000)
    assert long.servers == short.servers
    assert long.steps[: len(short.steps)] == short.steps


def test_schedules_mix_the_kinds_and_know_every_act() -> None:
    rounds = [make_schedule(seed, 40_000) for seed in range(20)]
    assert all({plan.kind for plan in one.servers} == {"redis", "kvrepl"} for one in rounds)
    assert {one.servers[0].kind for one in rounds} == {"redis", "kvrepl"}
    assert all(sum(not plan.durable for plan in one.servers) == 1 for one in rounds)
    assert {step.act for one in rounds for step in one.steps} == set(Act) == set(WEIGHTS)


@pytest.mark.interop
@pytest.mark.timeout(400)
def test_mixed_cluster_under_faults_converges_and_keeps_what_was_acknowledged(
    tmp_path: Path,
) -> None:
    verdict = run_round(SEED, ROUND_S, tmp_path / "round", print)
    assert verdict.reigns > 1, "nobody was ever promoted"


# ---- what a round must notice


class LeakyProxy(Proxy):
    """Loses a few commands now and then, and tells nobody: what remains is well-formed."""

    def _send(self, *args: Any) -> None:
        _, _, piece, direction = args
        commands = piece.startswith(b"*") and piece.endswith(b"\r\n")
        if direction is Direction.UP or not commands or random.random() > 0.02:
            super()._send(*args)


def assert_noticed(folder: Path, make_front: type[Proxy] = Proxy) -> None:
    """Assert that one of the first seeds fails."""
    for seed in BROKEN_SEEDS:
        try:
            run_round(
                seed, BROKEN_ROUND_S, folder / str(seed), print, make_front, BROKEN_CONVERGE_S
            )
        except AssertionError as error:
            print(f"seed {seed} noticed: {error}")
            return
    pytest.fail("no round noticed")


@pytest.mark.deep
@pytest.mark.interop
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mistake", broken.MISTAKES)
def test_round_with_a_broken_rule_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    monkeypatch.setenv("KVREPL_SERVER", f"{sys.executable} {broken.__file__} {mistake}")
    assert_noticed(tmp_path)


@pytest.mark.deep
@pytest.mark.interop
@pytest.mark.timeout(600)
def test_round_behind_proxies_that_lose_bytes_fails(tmp_path: Path) -> None:
    assert_noticed(tmp_path, LeakyProxy)
