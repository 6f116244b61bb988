"""Fixtures of the deep runs: a voice past pytest's capture, and a folder for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.measure import FULL, Bench, kept_bytecode


@pytest.fixture(scope="session")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that keeps datasets from one deep test to the next."""
    return tmp_path_factory.mktemp("deep")


@pytest.fixture(scope="session")
def bench(deep_folder: Path) -> Iterator[Bench]:
    """Give the benchmarks' workshop at full scale; its dataset is made once."""
    with kept_bytecode(deep_folder / "bytecode"):
        yield Bench(FULL, deep_folder / "bench")
