"""What the server says of its compiled modules."""

from __future__ import annotations

import tomllib
from pathlib import Path

from kvrepl.server.app import COMPILED


def test_server_knows_every_module_that_the_build_compiles() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    built = {module["name"] for module in project["tool"]["setuptools"]["ext-modules"]}

    assert set(COMPILED) == built
