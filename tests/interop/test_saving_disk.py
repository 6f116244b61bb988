"""A disk that is full: what fails, what is said, what stays whole, and that it heals.

The servers' folders lie on a tmpfs of a few megabytes, which takes the right to mount one.

Source of the behaviour: rdb.c, aof.c, server.c (writeCommandsDeniedByDiskError) of Redis 7.0.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.harness import (
    Kind,
    Server,
    follow,
    sync_counts,
    wait_caught_up,
    wait_linked,
    wait_same_data,
    wait_until,
)

DISK_BYTES = 4 << 20
SAVE_RARELY = "100000 1"
VALUE = b"v" * 10_000
MakeDisk = Callable[[], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Mount a tmpfs of DISK_BYTES for each call; skip where that is not allowed."""
    mounted: list[Path] = []

    def mount() -> Path:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(path)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill_up(disk: Path, *, leave_bytes: int = 0) -> Path:
    """Take all room of a disk but some; give the file that takes it."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    room = free.f_bavail * free.f_frsize - leave_bytes
    ballast.write_bytes(b"\0" * max(room, 0))
    return ballast


def write(server: Server, keys: int, *, start: int = 0) -> None:
    """Write incompressible values of some 10 kB."""
    pipe = server.client().pipeline(transaction=False)
    for number in range(start, start + keys):
        pipe.set(f"key:{number}", os.urandom(len(VALUE)))
    pipe.execute(raise_on_error=False)


def persistence(server: Server, field: str) -> object:
    """Give one field of INFO persistence."""
    return server.info("persistence")[field]


def files_of(folder: Path) -> set[str]:
    """Give the names of all files below a folder."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_bgsave_on_a_full_disk_keeps_the_last_file_and_heals(
    launch: Launcher, small_disk: MakeDisk, kind: Kind
) -> None:
    disk = small_disk()
    server = launch(kind, dir=str(disk), save=SAVE_RARELY)
    write(server, 10)
    server.call("SAVE")
    good = (disk / "dump.rdb").read_bytes()
    write(server, 100)
    ballast = fill_up(disk, leave_bytes=300_000)

    server.call("BGSAVE")
    wait_until(lambda: persistence(server, "rdb_last_bgsave_status") == "err", "it fails", server)

    assert (disk / "dump.rdb").read_bytes() == good
    assert files_of(disk) == {"dump.rdb", "ballast"}
    assert "No space left on device" in server.log_text()
    with pytest.raises(redis.ResponseError, match=r"^MISCONF Redis is configured to save RDB"):
        server.call("SET", "k", "refused")
    with pytest.raises(redis.ResponseError):
        server.call("SAVE")
    assert (disk / "dump.rdb").read_bytes() == good
    assert files_of(disk) == {"dump.rdb", "ballast"}

    ballast.unlink()
    server.call("BGSAVE")
    wait_until(lambda: persistence(server, "rdb_last_bgsave_status") == "ok", "it heals", server)
    server.call("SET", "k", "accepted")
    assert (disk / "dump.rdb").stat().st_size > 100 * len(VALUE)


def test_aof_on_a_full_disk_refuses_writes_and_heals_without_loss(
    launch: Launcher, small_disk: MakeDisk, kind: Kind
) -> None:
    disk = small_disk()
    server = launch(kind, dir=str(disk), appendonly="yes", appendfsync="everysec")
    write(server, 10)
    ballast = fill_up(disk, leave_bytes=50_000)
    write(server, 20, start=10)  # what is accepted and does not fit is kept in memory

    wait_until(lambda: persistence(server, "aof_last_write_status") == "err", "it fails", server)
    with pytest.raises(redis.ResponseError, match=r"^MISCONF Errors writing to the AOF file: No s"):
        server.call("SET", "k", "refused")
    assert server.call("GET", "key:0")
    assert server.call("EXISTS", "k") == 0

    ballast.unlink()
    wait_until(lambda: persistence(server, "aof_last_write_status") == "ok", "it heals", server)
    assert "AOF write error looks solved, Redis can write again." in server.log_text()
    server.call("SET", "k", "accepted")
    digest = server.digest()
    assert server.terminate() == 0
    assert server.start().digest() == digest


def test_aof_always_on_a_full_disk_ends_before_it_answers(
    launch: Launcher, small_disk: MakeDisk, kind: Kind
) -> None:
    disk = small_disk()
    server = launch(kind, dir=str(disk), appendonly="yes", appendfsync="always")
    ballast = fill_up(disk, leave_bytes=200_000)
    client = server.client()
    answered = 0
    with pytest.raises(redis.ConnectionError):
        for number in range(1_000):
            client.set(f"key:{number}", VALUE)
            answered += 1

    assert server.wait_exit() == 1
    assert answered > 0
    assert "Can't recover from AOF write error when the AOF fsync policy is 'always'" in (
        server.log_text()
    )
    ballast.unlink()
    server.start()
    assert [n for n in range(answered) if server.call("GET", f"key:{n}") != VALUE] == []


def test_rewrite_on_a_full_disk_fails_and_the_log_stays_whole(
    launch: Launcher, small_disk: MakeDisk, kind: Kind
) -> None:
    disk = small_disk()
    server = launch(kind, dir=str(disk), appendonly="yes")
    write(server, 100)
    ballast = fill_up(disk, leave_bytes=300_000)

    server.call("BGREWRITEAOF")
    wait_until(
        lambda: persistence(server, "aof_last_bgrewrite_status") == "err", "it fails", server
    )

    assert not {name for name in files_of(disk) if name.startswith("temp")}
    server.call("SET", "k", "goes to the new increment")
    ballast.unlink()
    digest = server.digest()
    assert server.terminate() == 0
    assert server.start().digest() == digest


def test_shutdown_on_a_full_disk_does_not_happen(
    launch: Launcher, small_disk: MakeDisk, kind: Kind
) -> None:
    disk = small_disk()
    server = launch(kind, dir=str(disk), save=SAVE_RARELY)
    write(server, 100)
    ballast = fill_up(disk, leave_bytes=300_000)

    with pytest.raises(redis.ResponseError, match=r"^Errors trying to SHUTDOWN"):
        server.call("SHUTDOWN")

    assert server.call("EXISTS", "key:99") == 1
    ballast.unlink()
    assert server.terminate() == 0
    assert server.start().call("DBSIZE") == 100


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_full_sync_onto_a_full_disk_keeps_dataset_and_file_and_heals(
    launch: Launcher, small_disk: MakeDisk, diskless: str
) -> None:
    disk = small_disk()
    master = launch("kvrepl", repl_diskless_sync=diskless)
    write(master, 100)
    replica = launch("kvrepl", dir=str(disk))
    replica.call("SET", "old", "data")
    replica.call("SAVE")
    good = (disk / "dump.rdb").read_bytes()
    ballast = fill_up(disk, leave_bytes=300_000)

    began_s = time.monotonic()
    follow(replica, master.port, wait=False)
    replica.wait_log("Write error or short write writing to the DB dump file")
    wait_until(lambda: sync_counts(master)[0] >= 3, "it asks again", master, replica)
    # Once a second: each attempt costs the master a fork, and the disk will not be empty at once.
    assert time.monotonic() - began_s > 0.9

    assert replica.call("GET", "old") == b"data"
    assert (disk / "dump.rdb").read_bytes() == good
    ballast.unlink()
    wait_linked(replica)
    wait_same_data(master, replica)
    assert not {name for name in files_of(disk) if name.startswith("temp")}
    assert (disk / "dump.rdb").stat().st_size > 100 * len(VALUE)


def test_disk_full_on_the_master_drops_waiting_replicas_and_heals(
    launch: Launcher, small_disk: MakeDisk, kind: Kind
) -> None:
    disk = small_disk()
    master = launch(kind, dir=str(disk), repl_diskless_sync="no")
    write(master, 100)
    ballast = fill_up(disk, leave_bytes=300_000)
    replica = launch("redis")

    follow(replica, master.port, wait=False)
    master.wait_log("SYNC failed. BGSAVE child returned an error")

    ballast.unlink()
    wait_linked(replica)
    wait_same_data(master, replica)


@pytest.mark.parametrize("ignore", ["no", "yes"])
def test_replica_that_cannot_write_ends_unless_told_to_go_on(
    launch: Launcher, small_disk: MakeDisk, ignore: str
) -> None:
    disk = small_disk()
    master = launch("kvrepl")
    replica = launch("kvrepl", dir=str(disk), replica_ignore_disk_write_errors=ignore)
    follow(replica, master.port)
    replica.config_set(save=SAVE_RARELY)
    write(master, 100)
    wait_caught_up(master, replica)  # or what is saved may find room
    fill_up(disk, leave_bytes=300_000)
    replica.call("BGSAVE")
    wait_until(lambda: persistence(replica, "rdb_last_bgsave_status") == "err", "it fails", replica)

    if ignore == "no":
        replica.meant_to_run = False
    master.call("SET", "k", "v")

    if ignore == "no":
        assert replica.wait_exit() == 1
        assert "Replica was unable to write command to disk." in replica.log_text()
    else:
        wait_same_data(master, replica)
        assert "Replica is applying a command even though" in replica.log_text()
