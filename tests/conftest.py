"""What every test room shares: the order of rooms, hypothesis profiles, markers.

Markers:
    interop  needs redis-server 7.0. Where it is missing the test is skipped, naming what is
             missing; under CI=true it fails instead, so that CI cannot pass by skipping.
    deep     long runs; deselected unless `-m` names them (`make deep`).

Hypothesis profiles (HYPOTHESIS_PROFILE, otherwise `ci` where CI is set and `dev` elsewhere):
    ci    the same examples on every run: a red build is a change of ours, not of luck
    dev   fresh examples on every run, so that each run on a desk looks somewhere new
    deep  many fresh examples, for `make deep`
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

# A shared machine with few cores makes time limits a matter of luck: no deadline in any profile.
_SLOW_MACHINE = (HealthCheck.too_slow,)
settings.register_profile(
    "ci", derandomize=True, max_examples=100, deadline=None, suppress_health_check=_SLOW_MACHINE
)
settings.register_profile(
    "dev", max_examples=100, deadline=None, suppress_health_check=_SLOW_MACHINE
)
settings.register_profile(
    "deep", max_examples=5_000, deadline=None, suppress_health_check=_SLOW_MACHINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))

ROOM_ORDER = ("unit", "property", "fuzz", "simulation", "interop", "chaos")
"""Cheap evidence first: a broken codec is seen before a hundred servers are started."""

INTEROP_PROGRAMS = (
    "redis-server",
    "redis-cli",
    "redis-benchmark",
    "redis-check-aof",
    "redis-check-rdb",
)


@functools.cache
def missing_for_interop() -> str:
    """Say what keeps interop tests from running here, "" when nothing does."""
    for program in INTEROP_PROGRAMS:
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: redis-server and redis-tools)"
    version = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=False
    ).stdout
    if not re.search(r"\bv=7\.0\.", version):
        return f"redis-server 7.0 is needed, this is: {version.strip() or 'unknown'}"
    return ""


def _room(item: pytest.Item) -> int:
    parts = item.path.parts
    return next((i for i, room in enumerate(ROOM_ORDER) if room in parts), len(ROOM_ORDER))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the rooms, and leave out deep tests unless `-m` names them."""
    items.sort(key=_room)
    if "deep" in config.getoption("markexpr", ""):
        return
    deep = [item for item in items if item.get_closest_marker("deep")]
    if deep:
        config.hook.pytest_deselected(items=deep)
        items[:] = [item for item in items if not item.get_closest_marker("deep")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip an interop test by name where its peer is missing; in CI that is a failure."""
    if item.get_closest_marker("interop") is None:
        return
    missing = missing_for_interop()
    if missing and IN_CI:
        pytest.fail(f"CI must run interop tests, but {missing}", pytrace=False)
    if missing:
        pytest.skip(missing)
