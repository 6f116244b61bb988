"""The server without what is optional: compiled parts, uvloop. It is slower, and nothing else."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Launcher
from tests.interop.datasets import populate
from tests.interop.harness import follow, kvrepl_command, sync_counts, wait_same_data, wait_until


def test_server_in_pure_python_on_asyncio_replicates_saves_and_loads(
    launch: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = ["env", "KVREPL_PURE=1", "RDB_PURE=1", "KVREPL_LOOP=asyncio", *kvrepl_command()]
    monkeypatch.setenv("KVREPL_SERVER", " ".join(bare))
    master, last = launch("redis"), launch("redis")
    middle = launch("kvrepl", appendonly="yes")

    follow(middle, master.port)
    populate(master, 1_000)
    follow(last, middle.port)

    digest = wait_same_data(master, middle, last)
    assert "The compiled parts are not in use" in middle.log_text()
    assert sync_counts(middle)[0] == 1
    middle.call("BGREWRITEAOF")
    wait_until(
        lambda: middle.info("persistence")["aof_rewrite_in_progress"] == 0, "rewritten", middle
    )
    middle.restart()
    assert middle.digest() == digest
