"""Every compiled part that the build promises is there, so that none of its tests is skipped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.conftest import IN_CI

ROOT = Path(__file__).parents[2]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())
NAMES = [each["name"] for each in BUILD["tool"]["setuptools"]["ext-modules"]]


@pytest.mark.parametrize("name", NAMES)
def test_compiled_part_is_built_where_there_is_a_compiler(name: str) -> None:
    pure = "RDB_PURE" if name.startswith("rdb.") else "KVREPL_PURE"
    if os.environ.get(pure) == "1":
        pytest.skip(f"{pure}=1 leaves it out")
    if not IN_CI and shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("no C compiler here")
    assert importlib.util.find_spec(name) is not None, "left out by the build: see make venv"


def test_every_compiled_source_is_a_part_of_the_build() -> None:
    found = {
        path.relative_to(ROOT)
        for room in ("kvrepl", "rdb")
        for path in ROOT.glob(f"{room}/**/*.pyx")
    }
    declared = {Path(f"{name.replace('.', '/')}.pyx") for name in NAMES}
    assert found == declared
