"""Logs of Redis 2.4 to 7.0: the server makes the dataset of them that redis-server makes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.harness import ServerExited

pytestmark = pytest.mark.interop

CORPUS = Path(__file__).parents[1] / "data" / "aof" / "corpus"
LOGS: list[dict[str, Any]] = json.loads((CORPUS / "manifest.json").read_text())


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log["file"])
def test_log_of_another_release_gives_the_dataset_that_redis_makes_of_it(
    log: dict[str, Any], launch: Launcher
) -> None:
    servers = [launch.prepare(kind, appendonly="yes", databases=1_024) for kind in KINDS]
    source = CORPUS / log["file"]
    for server in servers:
        if source.is_dir():
            shutil.copytree(source, server.folder / "appendonlydir")
        else:
            shutil.copyfile(source, server.folder / "appendonly.aof")
        if log["refused_because"]:
            with pytest.raises(ServerExited) as refused:
                server.start()
            assert log["refused_because"] in refused.value.log
        else:
            server.start()
    if not log["refused_because"]:
        theirs, ours = (server.digest() for server in servers)
        assert ours == theirs != "0" * 40


def test_corpus_holds_what_its_manifest_names() -> None:
    names = {path.name for path in CORPUS.iterdir()} - {"manifest.json"}
    assert names == {log["file"] for log in LOGS}
    assert sum(log["refused_because"] is None for log in LOGS) == 10
