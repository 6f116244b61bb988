"""Saving by a child: how it ends, what it holds, what is left behind, what the server says.

Source of the behaviour: rdb.c, server.c (checkChildrenDone), db.c (flushallCommand) of Redis 7.0.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.harness import (
    Kind,
    Server,
    follow,
    wait_linked,
    wait_same_data,
    wait_until,
)

SAVE_RARELY = "100000 1"
"""A save point that is never reached: with one, a failed save closes the server for writes."""
SLOW_US = 10_000
KEYS = 1_000


def fill(server: Server, keys: int = KEYS) -> None:
    """Write some keys of several types."""
    pipe = server.client().pipeline(transaction=False)
    for number in range(keys):
        pipe.set(f"string:{number}", "v" * (number % 100))
    pipe.rpush("list", *range(500))
    pipe.hset("hash", mapping={f"field{n}": n for n in range(500)})
    pipe.zadd("zset", {f"member{n}": n for n in range(500)})
    pipe.sadd("set", *range(500))
    pipe.execute()


def children_of(pid: int) -> list[int]:
    """Give the pids of a process's children, zombies included."""
    return [
        int(pid)
        for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if Path(f"/proc/{pid}").exists()
    ]


def child_of(server: Server) -> int:
    """Wait for the saving child; give its pid."""
    return wait_until(lambda: children_of(server.pid), "a child runs", server)[0]


def temporary_files(server: Server) -> list[str]:
    """Give the names of what a writer has not finished."""
    return sorted(path.name for path in server.folder.rglob("temp-*"))


def begin_slow_save(server: Server) -> int:
    """Start a BGSAVE that takes seconds; give the child's pid when its file exists."""
    server.config_set(rdb_key_save_delay=SLOW_US)
    server.call("BGSAVE")
    pid = child_of(server)
    wait_until(lambda: temporary_files(server), "the child writes", server)
    server.config_set(rdb_key_save_delay=0)
    return pid


def wait_no_child(server: Server) -> None:
    """Wait until the child has been reaped."""
    wait_until(lambda: not server.info("persistence")["rdb_bgsave_in_progress"], "no child", server)


def wait_saved(server: Server) -> None:
    """Wait until a save has been begun by somebody, and has ended well."""
    wait_until(lambda: server.info("persistence")["rdb_saves"], "a save begins", server)
    wait_no_child(server)
    assert server.info("persistence")["rdb_last_bgsave_status"] == "ok"


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGKILL, "err"), (signal.SIGXCPU, "err"), (signal.SIGUSR1, "ok")],
    ids=["SIGKILL", "SIGXCPU", "SIGUSR1"],
)
def test_bgsave_child_killed_leaves_the_last_file_and_nothing_else(
    launch: Launcher, kind: Kind, number: signal.Signals, status: str
) -> None:
    server = launch(kind, save=SAVE_RARELY)
    server.call("SET", "k", "saved")
    server.call("SAVE")
    saved = (server.folder / "dump.rdb").read_bytes()
    fill(server)
    pid = begin_slow_save(server)

    os.kill(pid, number)
    wait_no_child(server)

    assert server.info("persistence")["rdb_last_bgsave_status"] == status
    assert (server.folder / "dump.rdb").read_bytes() == saved
    assert not temporary_files(server)
    assert not children_of(server.pid)
    if status == "ok":
        server.call("SET", "k", "accepted")
    else:
        with pytest.raises(redis.ResponseError, match=r"^MISCONF Redis is configured to save RDB"):
            server.call("SET", "k", "refused")
        with pytest.raises(redis.ResponseError, match=r"^MISCONF"):
            server.call("PING")
        server.call("BGSAVE")
        wait_no_child(server)
        server.call("SET", "k", "accepted")


def test_bgsave_child_ignores_sigterm_meant_for_the_group(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    fill(server, 100)
    pid = begin_slow_save(server)

    os.kill(pid, signal.SIGTERM)
    wait_no_child(server)

    assert server.info("persistence")["rdb_saves"] == 1
    assert server.call("PING")


def test_bgsave_child_of_a_killed_server_ends_with_it(launch: Launcher) -> None:
    server = launch("kvrepl")
    fill(server)
    pid = begin_slow_save(server)

    server.kill()

    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the child is gone")
    assert not temporary_files(server)
    assert not (server.folder / "dump.rdb").exists()


def test_temporary_files_of_the_dead_are_removed_at_the_start(launch: Launcher) -> None:
    server = launch.prepare("kvrepl")
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "60"]) as running:
        # A child that outlived its server is only reaped when init gets round to it.
        zombie = psutil.Process(ended.pid)
        wait_until(lambda: zombie.status() == psutil.STATUS_ZOMBIE, "an end nobody waited for")
        kept = f"temp-{running.pid}.rdb"
        for name in (f"temp-rewriteaof-bg-{ended.pid}.aof", kept):
            (server.folder / name).touch()

        try:
            server.start()
            assert temporary_files(server) == [kept]
        finally:
            running.kill()


def test_rewrite_child_of_a_killed_server_ends_with_it(launch: Launcher) -> None:
    server = launch("kvrepl", appendonly="yes")
    fill(server)
    server.config_set(rdb_key_save_delay=SLOW_US)
    server.call("BGREWRITEAOF")
    pid = child_of(server)

    server.kill()

    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the child is gone")
    assert not temporary_files(server)
    before = KEYS + 4
    assert server.start().call("DBSIZE") == before


def test_bgsave_child_holds_no_socket_of_the_server(launch: Launcher) -> None:
    server = launch("kvrepl")
    fill(server)
    pid = begin_slow_save(server)

    port = f":{server.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{words[9]}]" for words in lines if words[1].endswith(port)}
    held = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}

    assert len(ours) >= 2, "a listening socket and a client"
    assert not ours & held


def test_shutdown_while_a_child_saves_ends_both(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    fill(server)
    pid = begin_slow_save(server)

    assert server.terminate() == 0

    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the child is gone")
    assert not temporary_files(server)


def test_save_and_bgsave_while_a_child_saves_are_refused(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    fill(server)
    pid = begin_slow_save(server)

    for command in ("SAVE", "BGSAVE"):
        with pytest.raises(redis.ResponseError, match=r"^Background save already in progress"):
            server.call(command)
    os.kill(pid, signal.SIGUSR1)


def test_bgsave_during_a_rewrite_waits_if_scheduled(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, appendonly="yes", rdb_key_save_delay=2_000)
    fill(server, 200)
    server.call("BGREWRITEAOF")

    with pytest.raises(redis.ResponseError, match=r"^Another child process is active \(AOF\?\)"):
        server.call("BGSAVE")
    assert server.call("BGSAVE", "SCHEDULE")

    wait_saved(server)
    assert server.info("persistence")["aof_last_bgrewrite_status"] == "ok"


def test_bgsave_inside_multi_starts_after_it(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    pipe = server.client().pipeline()
    pipe.set("k", "v")
    pipe.execute_command("BGSAVE")  # type: ignore[no-untyped-call]
    pipe.set("after", "v")
    pipe.execute()

    wait_saved(server)
    assert server.info("persistence")["rdb_changes_since_last_save"] == 0


def test_flushall_kills_the_child_and_saves_the_empty_dataset(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, save=SAVE_RARELY)
    fill(server)
    server.call("SAVE")
    full = (server.folder / "dump.rdb").stat().st_size
    pid = begin_slow_save(server)
    before = server.info("persistence")

    server.call("FLUSHALL")

    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the child is gone", server)
    assert (server.folder / "dump.rdb").stat().st_size < full
    after = server.info("persistence")
    assert after["rdb_last_bgsave_status"] == "ok"
    assert after["rdb_changes_since_last_save"] == 0
    assert after["rdb_saves"] == before["rdb_saves"]
    wait_until(lambda: not temporary_files(server), "no temporary file is left", server)


NOTHING_TO_CANCEL = r"^Background saving is currently not in progress or scheduled$"


def test_bgsave_cancel_ends_the_child_and_is_no_failure(launch: Launcher) -> None:
    server = launch("kvrepl", save=SAVE_RARELY)
    server.call("SAVE")
    saved = (server.folder / "dump.rdb").read_bytes()
    fill(server)
    pid = begin_slow_save(server)

    assert server.cli("BGSAVE", "CANCEL") == b"Background saving cancelled\n"

    assert not Path(f"/proc/{pid}").exists()
    assert not temporary_files(server)
    assert (server.folder / "dump.rdb").read_bytes() == saved
    assert server.info("persistence")["rdb_last_bgsave_status"] == "ok"
    with pytest.raises(redis.ResponseError, match=NOTHING_TO_CANCEL):
        server.call("BGSAVE", "cancel")
    assert server.call("BGSAVE")


def test_bgsave_cancel_takes_back_a_scheduled_save_and_leaves_the_rewrite(
    launch: Launcher,
) -> None:
    server = launch("kvrepl", appendonly="yes")
    fill(server)
    server.config_set(rdb_key_save_delay=SLOW_US)
    server.call("BGREWRITEAOF")
    pid = child_of(server)
    server.call("BGSAVE", "SCHEDULE")

    assert server.cli("BGSAVE", "CANCEL") == b"Scheduled background saving cancelled\n"
    with pytest.raises(redis.ResponseError, match=NOTHING_TO_CANCEL):
        server.call("BGSAVE", "CANCEL")

    assert children_of(server.pid) == [pid]
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: not server.info("persistence")["aof_rewrite_in_progress"], "done", server)
    assert server.info("persistence")["rdb_saves"] == 0


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_bgsave_cancel_of_a_save_that_a_replica_awaits_is_refused(
    launch: Launcher, diskless: str
) -> None:
    master, replica = launch("kvrepl", repl_diskless_sync=diskless), launch("redis")
    fill(master, 100)
    master.config_set(rdb_key_save_delay=SLOW_US)
    follow(replica, master.port, wait=False)
    child_of(master)

    with pytest.raises(redis.ResponseError, match=r"can't be cancelled: replicas wait for it"):
        master.call("BGSAVE", "CANCEL")

    wait_linked(replica)
    assert master.info("stats")["sync_full"] == 1


def test_bgsave_cancel_inside_multi_forks_no_full_sync_in_the_middle(launch: Launcher) -> None:
    master = launch("kvrepl", repl_diskless_sync="no")
    replica = launch("kvrepl")
    fill(master)
    begin_slow_save(master)
    follow(replica, master.port, wait=False)
    wait_until(lambda: "state=wait_bgsave" in master.cli("INFO", "replication").decode(), "waits")

    pipe = master.client().pipeline()
    pipe.incr("counter")
    pipe.execute_command("BGSAVE", "CANCEL")  # type: ignore[no-untyped-call]
    pipe.incr("counter")
    assert pipe.execute() == [1, True, 2]

    wait_linked(replica)
    wait_same_data(master, replica)


def test_child_in_progress_is_told_by_info(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    fill(server)
    pid = begin_slow_save(server)

    def seen() -> bool:
        info = server.info("persistence")
        return bool(info["current_save_keys_processed"] and info["current_cow_size"])

    wait_until(seen, "progress and copied memory are told", server)
    info = server.info("persistence")
    assert info["current_save_keys_total"] == KEYS + 4
    assert 0 < info["current_fork_perc"] < 100
    assert info["current_cow_peak"] >= info["current_cow_size"]
    os.kill(pid, signal.SIGUSR1)
    wait_no_child(server)
    info = server.info("persistence")
    assert info["current_save_keys_processed"] == info["current_cow_size"] == 0


def test_finished_child_leaves_its_figures(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, appendonly="yes")
    fill(server, 100)
    server.call("BGSAVE")
    wait_no_child(server)
    server.call("BGREWRITEAOF")
    wait_until(lambda: server.info("persistence")["aof_rewrites"] == 1, "rewritten", server)
    wait_until(lambda: not server.info("persistence")["aof_rewrite_in_progress"], "done", server)

    info = server.info("persistence")
    assert info["rdb_last_cow_size"] > 0
    assert info["aof_last_cow_size"] > 0
    stats = server.info("stats")
    assert stats["total_forks"] == 2
    assert stats["latest_fork_usec"] > 0


def test_save_point_saves_by_itself_and_counts_from_there(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, save="1 3")
    server.call("SET", "k", "v")
    server.call("SET", "k", "v")
    assert server.info("persistence")["rdb_changes_since_last_save"] == 2
    server.call("SET", "k", "v")

    wait_saved(server)
    assert server.info("persistence")["rdb_changes_since_last_save"] == 0
    assert "3 changes in 1 seconds. Saving..." in server.log_text()


def test_fork_without_descriptors_fails_and_heals(launch: Launcher) -> None:
    server = launch("kvrepl", save=SAVE_RARELY)
    server.call("SET", "k", "v")
    used = len(os.listdir(f"/proc/{server.pid}/fd"))
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)

    # One more at a time: at first none, then the progress pipe, then the descriptor by which the
    # child is watched. How many it takes depends on the gaps among those in use.
    refused = 0
    for room in range(used):
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + room, limits[1]))
        try:
            server.call("BGSAVE")
        except redis.ResponseError:
            assert server.info("persistence")["rdb_last_bgsave_status"] == "err"
            assert not server.info("persistence")["rdb_bgsave_in_progress"]
            assert not children_of(server.pid)
            refused += 1
        else:
            break
    assert refused >= 2
    assert refused < used, "never enough descriptors"

    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    wait_no_child(server)
    server.call("BGSAVE")
    wait_no_child(server)
    assert server.info("persistence")["rdb_last_bgsave_status"] == "ok"
    server.call("SET", "k", "accepted again")


def test_debug_reload_of_a_master_drops_what_had_expired(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    server.call("SET", "over", "v", "EXAT", "1")
    server.call("SET", "stays", "v")
    assert server.call("DBSIZE") == 2

    server.call("DEBUG", "RELOAD")

    assert server.call("DBSIZE") == 1
