"""A restart from the AOF goes on where the stream was: what Redis does from an RDB file only.

The log of a kvrepl-server ends in a position (docs/AOF.md). A restarted master is then followed by
its replicas, of either kind, and a restarted replica follows its master, without a full sync.
Where the log lacks what a replica has, or does not end in a position, only a full sync is right.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.conftest import Launcher
from tests.interop.datasets import Load, populate
from tests.interop.harness import (
    Directive,
    Kind,
    Server,
    follow,
    position,
    sync_counts,
    wait_caught_up,
    wait_same_data,
    wait_until,
)

LOGGED: dict[str, Directive] = {"appendonly": "yes"}


def increment(server: Server) -> Path:
    """Give the last increment of a server's log."""
    files = (server.folder / "appendonlydir").glob("*.incr.aof")
    return max(files, key=lambda path: int(path.name.split(".")[-3]))


def wait_recorded(server: Server) -> None:
    """Wait until the log ends in the position that INFO shows."""
    wait_until(
        lambda: increment(server).read_bytes().endswith(b":%d\r\n" % position(server)[1]),
        f"the position of {server} is in its log",
        server,
    )


def stop(server: Server, how: str) -> None:
    """Shut a server down, or kill it."""
    if how == "kill":
        wait_recorded(server)
        server.kill()
    else:
        server.terminate()


@pytest.mark.parametrize("how", ["kill", "shutdown"])
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_replica_goes_on_after_its_master_restarted_from_its_aof(
    launch: Launcher, kind: Kind, how: str, preamble: str
) -> None:
    master = launch("kvrepl", aof_use_rdb_preamble=preamble, **LOGGED)
    replica = launch(kind)
    populate(master, 500)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    master.client(db=3).set("in another database", "x")
    wait_caught_up(master, replica)
    before = position(master)[0]
    stop(master, how)

    master.restart()

    wait_caught_up(master, replica)
    master.call("SET", "written", "after the restart")
    wait_same_data(master, replica)
    assert sync_counts(master) == (0, 1)
    info = master.info("replication")
    assert info["master_replid2"] == before != info["master_replid"]


@pytest.mark.parametrize("how", ["kill", "shutdown"])
def test_replica_that_restarted_from_its_aof_goes_on(
    launch: Launcher, kind: Kind, how: str
) -> None:
    master = launch(kind)
    replica = launch("kvrepl", replicaof=f"127.0.0.1 {master.port}", **LOGGED)
    populate(master, 500)
    wait_caught_up(master, replica)
    master.client(db=3).set("in another database", "x")
    wait_caught_up(master, replica)
    wait_until(
        lambda: not replica.info("persistence")["aof_rewrite_in_progress"], "it is logged", replica
    )
    stop(replica, how)
    master.client(db=3).set("written", "meanwhile")

    replica.restart()

    wait_same_data(master, replica)
    assert sync_counts(master) == (1, 1)


def test_master_killed_under_load_is_followed_again_with_its_own_data(
    launch: Launcher, kind: Kind
) -> None:
    master = launch("kvrepl", **LOGGED)
    replica = launch(kind)
    follow(replica, master.port)
    with pytest.raises(AssertionError, match="Connection"), Load(master) as load:
        load.wait_for(300)
        master.kill()

    master.restart()

    # Fully, if the connection took some of the last bytes along; whatever it is, it is right.
    wait_same_data(master, replica)


def test_two_restarts_before_a_replica_is_back_are_as_good_as_one(
    launch: Launcher, kind: Kind
) -> None:
    master, replica = launch("kvrepl", **LOGGED), launch(kind)
    follow(replica, master.port)
    master.call("SET", "key", "value")
    wait_caught_up(master, replica)
    stop(master, "kill")
    replica.call("REPLICAOF", "127.0.0.1", 1)  # it does not find its master for now
    master.restart()
    master.kill()
    master.restart()

    follow(replica, master.port)

    wait_same_data(master, replica)
    assert sync_counts(master) == (0, 1)


def test_restart_after_a_rewrite_goes_on(launch: Launcher, kind: Kind) -> None:
    master, replica = launch("kvrepl", **LOGGED), launch(kind)
    populate(master, 500)
    follow(replica, master.port)
    wait_caught_up(master, replica)
    first = increment(master)
    master.call("BGREWRITEAOF")
    wait_until(lambda: not first.exists(), "the log is rewritten", master)
    stop(master, "kill")

    master.restart()

    wait_same_data(master, replica)
    assert sync_counts(master) == (0, 1)


def test_replica_that_has_more_than_the_log_syncs_fully(launch: Launcher, kind: Kind) -> None:
    master, replica = launch("kvrepl", **LOGGED), launch(kind)
    follow(replica, master.port)
    master.call("SET", "kept", "x")
    wait_caught_up(master, replica)
    wait_recorded(master)
    durable = increment(master).read_bytes()
    master.call("SET", "lost", "x")
    wait_caught_up(master, replica)
    master.kill()
    increment(master).write_bytes(durable)  # as a power cut leaves it that comes before the fsync

    master.restart()

    wait_same_data(master, replica)
    assert replica.call("GET", "lost") is None
    assert sync_counts(master) == (1, 0)


def test_redis_takes_the_log_and_what_it_writes_makes_the_position_void(
    launch: Launcher, kind: Kind
) -> None:
    master, replica = launch("kvrepl", **LOGGED), launch(kind)
    follow(replica, master.port)
    for number in range(3):
        master.call("SET", f"key{number}", "x")
        wait_caught_up(master, replica)
    wait_recorded(master)
    master.terminate()
    log = increment(master)
    assert len(re.findall(rb"^#KVREPL:", log.read_bytes(), re.MULTILINE)) >= 3
    manifest = next((master.folder / "appendonlydir").glob("*.manifest"))
    subprocess.run(["redis-check-aof", str(manifest)], check=True, capture_output=True)
    theirs = launch.prepare("redis", **LOGGED)
    shutil.copytree(master.folder / "appendonlydir", theirs.folder / "appendonlydir")
    theirs.start()
    assert theirs.call("DBSIZE") == 3
    theirs.call("SET", "by redis", "x")
    theirs.terminate()
    shutil.rmtree(master.folder / "appendonlydir")
    shutil.copytree(theirs.folder / "appendonlydir", master.folder / "appendonlydir")

    master.restart()

    wait_same_data(master, replica)
    assert replica.call("GET", "by redis") == b"x"
    assert sync_counts(master) == (1, 0)
