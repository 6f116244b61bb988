"""The log over its life: what is asked of the shell, what INFO says, what is left on the disk."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pytest

from kvrepl.errors import StorageError
from kvrepl.persistence.disk import ForkRewrite, KillRewrite, Log, StartFsync, UnlinkFiles
from kvrepl.persistence.lifecycle import DELIBERATE_KILL, AofState, AppendOnlyLog
from kvrepl.persistence.manifest import load_manifest
from kvrepl.persistence.rewrite import RewriteSchedule
from kvrepl.persistence.writer import AofWriter, FsyncPolicy
from tests.simulation.disk import ForgetfulDisk
from tests.simulation.disk_server import LAYOUT, LogServer


@pytest.fixture
def server() -> LogServer:
    """A server that is up and has one command in its log."""
    server = LogServer(ForgetfulDisk(), FsyncPolicy.EVERYSEC)
    server.start()
    server.push()
    return server


def texts(actions: Iterable[object]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Log)]


def off() -> AppendOnlyLog:
    disk = ForgetfulDisk()
    return AppendOnlyLog(disk, LAYOUT, AofWriter(FsyncPolicy.NO), RewriteSchedule())


def test_rewrite_counts_sizes_and_times_as_info_reports_them(server: LogServer) -> None:
    log = server.log
    before_bytes = log.size_bytes
    assert log.base_bytes < before_bytes
    server.rewrite()
    assert (log.rewriting, log.rewrites, log.rewrite_started_ms) == (True, 1, server.now_ms)
    assert log.size_bytes == before_bytes
    server.now_ms += 1500
    server.push()
    server.end_rewrite()
    assert (log.rewriting, log.last_rewrite_ok, log.last_rewrite_ms) == (False, True, 1500)
    files = [log.disk.size(LAYOUT.path(file.name)) for file in log.manifest]
    assert log.size_bytes == log.base_bytes == sum(size or 0 for size in files)
    assert log.manifest.history == ()
    assert load_manifest(log.disk, LAYOUT) == log.manifest


def test_rewrite_first_command_after_it_selects_its_database(server: LogServer) -> None:
    server.rewrite()
    server.push()
    server.end_rewrite()
    server.push()
    incr = b"".join(server.disk.read(LAYOUT.path(server.log.manifest.incr[-1].name)))
    assert incr.count(b"SELECT") == 2  # once in the new file, once after the new base


def test_rewrite_failed_leaves_one_increment_more_and_no_temp_files(server: LogServer) -> None:
    server.rewrite()
    server.end_rewrite(exit_code=1)
    log = server.log
    assert (log.last_rewrite_ok, log.failures) == (False, 1)
    assert [file.seq for file in log.manifest.incr] == [1, 2]
    server.rewrite()
    server.end_rewrite(signal=DELIBERATE_KILL)
    assert log.failures == 1
    server.rewrite()
    server.end_rewrite(signal=9)
    assert log.failures == 2
    log.schedule_rewrite()
    assert (log.failures, log.rewrite_scheduled) == (0, True)
    assert server.disk.listdir("") == []


def test_rewrite_whose_manifest_cannot_be_written_takes_its_base_back(server: LogServer) -> None:
    server.rewrite()
    files = server.disk.listdir(LAYOUT.dirname)
    server.disk.fail("fsync_dir")
    server.end_rewrite()
    assert not server.log.last_rewrite_ok
    assert server.disk.listdir(LAYOUT.dirname) == files
    assert load_manifest(server.disk, LAYOUT) == server.log.manifest


def test_rewrite_that_cannot_begin_leaves_nothing_behind(server: LogServer) -> None:
    files = server.disk.listdir(LAYOUT.dirname)
    for operation in ("open", "fsync_dir", "rename"):
        server.disk.fail(operation)
        server.rewrite()
        assert server.disk.listdir(LAYOUT.dirname) == files
        assert load_manifest(server.disk, LAYOUT) == server.log.manifest
    assert (server.log.failures, server.log.rewriting) == (3, False)


def test_rewrite_does_not_begin_while_something_cannot_be_written(server: LogServer) -> None:
    server.disk.limit_bytes = 0
    server.push()
    [*_, line] = server.log.begin_rewrite(server.now_ms)
    assert isinstance(line, Log) and "No space left on device" in line.text
    assert (server.log.failures, server.log.rewrites) == (1, 0)


def test_rewrite_format_is_the_one_at_the_fork(server: LogServer) -> None:
    assert server.log.begin_rewrite(server.now_ms)[-1] == ForkRewrite(rdb=False)
    server.child = list(server.numbers)
    server.log.child_started(server.pid, server.now_ms)
    server.log.rdb_base = True
    server.end_rewrite()
    base = server.log.manifest.base
    assert base is not None and base.name == "appendonly.aof.2.base.aof"


def test_rewrite_with_auto_gc_off_keeps_history(server: LogServer) -> None:
    server.log.auto_gc = False
    server.rewrite()
    server.end_rewrite()
    names = [file.name for file in server.log.manifest.history]
    assert names == ["appendonly.aof.1.incr.aof", "appendonly.aof.1.base.aof"]
    assert set(names) <= set(server.disk.listdir(LAYOUT.dirname))
    server.log.auto_gc = True
    assert server.log.remove_history()[-1] == UnlinkFiles(
        tuple(map(LAYOUT.path, names)), report=True
    )


def test_rewrite_while_off_makes_a_base_and_nothing_else() -> None:
    log = off()
    assert log.begin_rewrite(0) == [ForkRewrite(rdb=True)]
    log.child_started(7, 0)
    assert not log.feeding
    log.disk.create("temp-rewriteaof-bg-7.aof")
    log.child_exited(7, 0, 0, 10)
    assert log.disk.listdir(LAYOUT.dirname) == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.manifest",
    ]
    assert (log.state, log.manifest.incr) == (AofState.OFF, ())


def test_cron_rewrites_on_growth_but_not_beside_a_child(server: LogServer) -> None:
    log = server.log
    log.schedule.min_size_bytes = 10
    log.base_bytes = 20
    assert log.cron(server.now_ms, child_active=True) == []
    growth = log.size_bytes * 100 // 20 - 100
    actions = log.cron(server.now_ms, child_active=False)
    assert actions[0] == Log("notice", f"Starting automatic rewriting of AOF on {growth}% growth")
    assert actions[-1] == ForkRewrite(rdb=False)


def test_cron_after_three_failures_holds_back_scheduled_ones_too(server: LogServer) -> None:
    for _ in range(3):
        server.rewrite()
        server.end_rewrite(exit_code=1)
    server.log.rewrite_scheduled = True
    [line] = server.log.cron(server.now_ms, child_active=False)
    assert isinstance(line, Log) and "triggered the limit" in line.text
    assert server.log.cron(server.now_ms, child_active=False) == []
    server.log.schedule_rewrite()
    assert server.log.cron(server.now_ms, child_active=False)[-1] == ForkRewrite(rdb=False)


def test_turn_on_collects_only_while_the_child_runs() -> None:
    server = LogServer(ForgetfulDisk(), FsyncPolicy.EVERYSEC)
    server.push(2)
    server.turn_on()
    log = server.log
    assert (log.state, log.feeding) == (AofState.WAIT_REWRITE, True)
    assert load_manifest(log.disk, LAYOUT).is_empty
    server.push()
    server.end_rewrite(exit_code=1)
    assert (log.state, log.feeding, log.rewrite_scheduled) == (AofState.WAIT_REWRITE, False, True)
    assert log.disk.listdir(LAYOUT.dirname) == []
    server.push()
    server.tick()
    assert log.feeding
    server.push()
    server.end_rewrite()
    assert log.state is AofState.ON
    assert [file.name for file in log.manifest] == [
        "appendonly.aof.1.base.aof",
        "appendonly.aof.1.incr.aof",
    ]
    assert log.base_bytes == log.size_bytes


def test_turn_on_beside_a_child_or_in_a_transaction_is_scheduled() -> None:
    for other_child, text in (
        (True, "AOF was enabled but there is already another background operation. An AOF"),
        (False, "AOF was enabled during a transaction. An AOF background was scheduled"),
    ):
        log = off()
        actions = log.turn_on(0, other_child=other_child, in_exec=not other_child)
        assert texts(actions)[0].startswith(text)
        assert (log.state, log.rewrite_scheduled) == (AofState.WAIT_REWRITE, True)
        assert log.cron(0, child_active=False)[-1] == ForkRewrite(rdb=True)


def test_turn_on_beside_a_rewrite_begun_while_off_starts_a_new_one() -> None:
    log = off()
    log.begin_rewrite(0)
    log.child_started(7, 0)
    actions = log.turn_on(5, other_child=False, in_exec=False)
    kinds = [type(action) for action in actions if not isinstance(action, Log)]
    assert kinds == [KillRewrite, ForkRewrite]


def test_turn_on_refused_by_the_disk_stays_off() -> None:
    log = off()
    log.disk.fail("mkdir", errno.EACCES)  # type: ignore[attr-defined]
    actions = log.turn_on(0, other_child=False, in_exec=False)
    assert log.state is AofState.OFF
    assert texts(actions)[-1].startswith("Redis needs to enable the AOF but can't trigger")


def test_turn_off_kills_the_child_and_leaves_no_temp_increment(server: LogServer) -> None:
    server.rewrite()
    actions = server.log.turn_off(server.now_ms)
    assert isinstance(actions[-1], KillRewrite)
    assert (server.log.state, server.log.rewriting) == (AofState.OFF, False)
    server.child = None
    server.turn_on()
    assert server.disk.size(LAYOUT.temp_incr) is not None
    server.turn_off()
    assert server.disk.size(LAYOUT.temp_incr) is None


def test_fork_failed_while_waiting_drops_what_was_collected_and_tries_again() -> None:
    log = off()
    log.turn_on(0, other_child=False, in_exec=False)
    log.fork_failed("Cannot allocate memory")
    assert (log.state, log.rewrite_scheduled, log.last_rewrite_ok) == (
        AofState.WAIT_REWRITE,
        True,
        False,
    )
    assert log.disk.listdir(LAYOUT.dirname) == []
    assert log.cron(0, child_active=False)[-1] == ForkRewrite(rdb=True)


def test_fsync_error_schedules_a_rewrite_whose_base_is_not_in_doubt(server: LogServer) -> None:
    server.now_ms += 2000
    [fsync] = server.log.flush(server.now_ms)
    assert isinstance(fsync, StartFsync)
    error = StorageError("fdatasync(2)", OSError(errno.EIO, "Input/output error"))
    server.log.fsync_done(fsync, error)
    assert server.log.error == "Input/output error"
    server.tick()  # the next fsync works, and the rewrite begins
    assert server.log.error == ""
    assert server.log.rewriting and not server.log.writer.doubtful


def test_folder_that_cannot_be_synced_closes_the_gate_until_it_can(server: LogServer) -> None:
    disk = server.disk
    rehearsal = disk.calls
    server.rewrite()
    server.end_rewrite()
    per_rewrite = disk.trace[rehearsal:].count("fsync_dir")
    assert per_rewrite == 6  # next increment, new base, history: before and after each rename
    server.rewrite()
    disk.fail_at = disk.calls + disk_calls_to_last_sync_of_adoption()
    server.end_rewrite()
    assert server.log.error == "Input/output error"
    assert server.log.manifest.history, "needed if the power cut brings the old manifest back"
    refused = server.refused
    server.push()
    assert server.refused == refused + 1
    server.tick()
    assert server.log.error == ""
    assert server.log.manifest.history == ()


def disk_calls_to_last_sync_of_adoption() -> int:
    """Calls from the end of a child up to the fsync_dir after the rename of the manifest."""
    of_child = ["open", "write", "fsync", "rename"]
    of_parent = ["rename", "open", "write", "fsync", "fsync_dir", "rename", "fsync_dir"]
    return len(of_child + of_parent)
