"""The server without what is optional: compiled parts, uvloop. It is slower, and nothing else."""

from __future__ import annotations

import os
import shutil

import psutil
import pytest

from kvrepl.server.helper import MIN_LOAD_BYTES
from tests.interop.conftest import Launcher
from tests.interop.datasets import populate
from tests.interop.harness import (
    Server,
    follow,
    kvrepl_command,
    sync_counts,
    wait_same_data,
    wait_until,
)


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


BARE = ["env", "KVREPL_PURE=1", "RDB_PURE=1", *kvrepl_command()]


def helpers_of(server: Server) -> list[psutil.Process]:
    """Give the processes that help a server load."""
    try:
        return psutil.Process(server.pid).children()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("dies", [False, True])
def test_second_process_reads_along_while_a_large_file_is_loaded(
    launch: Launcher, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor, so nobody would be helped")
    monkeypatch.setenv("KVREPL_SERVER", " ".join(BARE))
    source, server = launch("redis", save=""), launch("kvrepl", save="")
    populate(source, 20_000)
    source.call("DEBUG", "POPULATE", 150_000)
    digest = source.digest()
    source.call("SAVE")
    file = source.folder / "dump.rdb"
    assert file.stat().st_size > MIN_LOAD_BYTES
    server.terminate()
    shutil.copy(file, server.folder / "dump.rdb")
    seen: list[int] = []

    def watch() -> bool:
        for helper in helpers_of(server):
            try:
                if " ".join(helper.cmdline()).startswith("kvrepl-load"):
                    seen.append(helper.pid)
                    if dies:
                        helper.kill()
            except psutil.NoSuchProcess:
                pass
        return bool(seen)

    server.start(ready=False)
    wait_until(watch, "a helper runs", server, poll_s=0.002)
    wait_until(lambda: server.call("PING"), "it has loaded", server)
    assert server.digest() == digest
    assert helpers_of(server) == []
    assert "Internal error" not in server.log_text()
