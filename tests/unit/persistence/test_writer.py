"""The writer: what goes into the file and when, and what happens when the disk refuses."""

from __future__ import annotations

import errno

import pytest

from kvrepl.errors import StorageError
from kvrepl.persistence.aof import select
from kvrepl.persistence.disk import Halt, Log, StartFsync
from kvrepl.persistence.writer import NO_DB, AofWriter, FsyncPolicy, misconf
from tests.simulation.disk import ForgetfulDisk, keep_everything

PING = b"*1\r\n$4\r\nPING\r\n"
EIO = StorageError("fdatasync(2) of a", OSError(errno.EIO, "Input/output error"))


def opened(
    policy: FsyncPolicy, *, timestamps: bool = False, now_ms: int = 0
) -> tuple[AofWriter, ForgetfulDisk]:
    disk = ForgetfulDisk()
    writer = AofWriter(policy, timestamps=timestamps)
    writer.open(disk.create("a"), 0, now_ms)
    return writer, disk


def content(disk: ForgetfulDisk) -> bytes:
    return b"".join(disk.read("a"))


def texts(actions: object) -> list[str]:
    assert isinstance(actions, (list, tuple))
    return [action.text for action in actions if isinstance(action, (Log, Halt))]


def test_feed_writes_select_only_where_the_database_changes() -> None:
    writer, disk = opened(FsyncPolicy.NO)
    for db in (NO_DB, 0, 0, NO_DB, 0, 12, 0):
        writer.feed(db, PING)
    assert writer.flush(0) == []
    assert content(disk) == (PING + select(0) + PING * 4 + select(12) + PING + select(0) + PING)
    writer.forget_selected()
    writer.feed(0, PING)
    assert writer.buffer_bytes == len(select(0) + PING)


def test_feed_with_timestamps_marks_each_new_second_once() -> None:
    writer, disk = opened(FsyncPolicy.NO, timestamps=True)
    for now_s in (5, 5, 6, 4):
        writer.set_time(now_s)
        writer.feed(0, PING)
        writer.feed(0, PING)
    writer.flush(0)
    assert content(disk) == (b"#TS:5\r\n" + select(0) + PING * 4 + b"#TS:6\r\n" + PING * 4)


def test_open_with_timestamps_repeats_the_second_in_the_new_file() -> None:
    writer, disk = opened(FsyncPolicy.NO, timestamps=True)
    writer.set_time(5)
    writer.feed(0, PING)
    writer.flush(0)
    writer.open(disk.create("b"), 0, 0)
    writer.set_time(5)
    writer.feed(0, PING)
    writer.feed(0, PING)
    writer.flush(0)
    assert b"".join(disk.read("b")) == b"#TS:5\r\n" + select(0) + PING * 2


def test_flush_always_is_durable_when_it_returns() -> None:
    writer, disk = opened(FsyncPolicy.ALWAYS)
    disk.fsync_dir("")
    writer.feed(NO_DB, PING)
    assert writer.flush(0) == []
    disk.crash()
    assert content(disk) == PING


def test_flush_everysec_starts_one_fsync_a_second() -> None:
    writer, _ = opened(FsyncPolicy.EVERYSEC)
    writer.feed(NO_DB, PING)
    assert writer.flush(999) == []
    [fsync] = writer.flush(1000)  # nothing more to write, but not durable yet
    assert isinstance(fsync, StartFsync) and fsync.up_to_bytes == len(PING)
    assert writer.fsync_in_flight
    assert not writer.flush(5000)
    assert writer.fsync_done(fsync, None) == []
    assert not writer.flush(9000)
    assert writer.synced_bytes == len(PING)


def test_flush_everysec_behind_an_fsync_waits_two_seconds_and_counts() -> None:
    writer, disk = opened(FsyncPolicy.EVERYSEC)
    writer.feed(NO_DB, PING)
    [fsync] = writer.flush(1000)
    writer.feed(NO_DB, PING)
    assert writer.flush(1100) == [] and writer.flush(3099) == []
    assert content(disk) == PING
    assert "taking too long" in texts(writer.flush(3100))[0]
    assert writer.delayed_fsync == 1
    assert content(disk) == PING * 2
    writer.feed(NO_DB, PING)
    assert writer.flush(3200, force=True) == []
    assert content(disk) == PING * 3
    writer.fsync_done(fsync, None)  # type: ignore[arg-type]
    assert writer.synced_bytes == len(PING) < writer.file_bytes


def test_flush_beside_a_child_skips_fsync_if_told_so() -> None:
    for policy in (FsyncPolicy.ALWAYS, FsyncPolicy.EVERYSEC):
        writer, _ = opened(policy)
        writer.no_fsync_on_rewrite = True
        writer.feed(NO_DB, PING)
        assert writer.flush(2000, child_active=True) == []
        assert writer.synced_bytes == 0
        # What was skipped is made up for when the child has ended, even without new commands.
        writer.flush(3000)
        assert writer.synced_bytes == len(PING) or writer.fsync_in_flight


def test_flush_on_a_full_disk_cuts_the_torn_command_and_heals() -> None:
    writer, disk = opened(FsyncPolicy.EVERYSEC)
    writer.feed(NO_DB, PING)
    writer.flush(0)
    disk.limit_bytes = len(PING) + 5
    writer.feed(NO_DB, PING)
    assert texts(writer.flush(1)) == [
        f"Short write while writing to the AOF file: (nwritten=5, expected={len(PING)})"
    ]
    assert content(disk) == PING
    assert writer.error == "No space left on device"
    assert misconf(writer.error).text == (
        b"MISCONF Errors writing to the AOF file: No space left on device"
    )
    writer.feed(NO_DB, PING)
    calls = disk.calls
    assert writer.flush(500) == [] and disk.calls == calls  # once a second is enough
    assert texts(writer.flush(1001)) == []  # tried, and not logged again
    assert disk.calls > calls
    disk.limit_bytes = None
    assert texts(writer.flush(2001))[0] == "AOF write error looks solved, Redis can write again."
    assert writer.error == ""
    assert content(disk) == PING * 3


def test_flush_short_and_not_to_be_cut_keeps_exactly_the_rest() -> None:
    writer, disk = opened(FsyncPolicy.EVERYSEC)
    disk.limit_bytes = 5
    disk.fail("truncate")
    writer.feed(NO_DB, PING)
    assert "Could not remove short write" in texts(writer.flush(0))[1]
    assert (content(disk), writer.file_bytes) == (PING[:5], 5)
    disk.limit_bytes = None
    writer.flush(1000)
    assert content(disk) == PING


def test_flush_always_halts_on_write_and_on_fsync_errors() -> None:
    writer, disk = opened(FsyncPolicy.ALWAYS)
    disk.fail("write", errno.ENOSPC)
    writer.feed(NO_DB, PING)
    assert texts(writer.flush(0)) == [
        "Error writing to the AOF file: No space left on device",
        "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...",
    ]
    writer, disk = opened(FsyncPolicy.ALWAYS)
    disk.fail("fsync")
    writer.feed(NO_DB, PING)
    assert writer.flush(0) == [
        Halt(
            "Can't persist AOF for fsync error when the AOF fsync policy is 'always':"
            " Input/output error. Exiting..."
        )
    ]


def test_fsync_failed_closes_the_gate_until_one_succeeds_and_stays_doubtful() -> None:
    writer, _ = opened(FsyncPolicy.EVERYSEC)
    writer.feed(NO_DB, PING)
    [first] = writer.flush(1000)
    assert isinstance(first, StartFsync)
    assert texts(writer.fsync_done(first, EIO)) == [
        "Fail to fsync the AOF file: Input/output error"
    ]
    assert writer.error == "Input/output error"
    [second] = writer.flush(2000)
    assert isinstance(second, StartFsync)
    assert writer.fsync_done(second, EIO) == []  # logged once
    [third] = writer.flush(3000)
    assert isinstance(third, StartFsync)
    assert "looks solved" in texts(writer.fsync_done(third, None))[0]
    assert writer.error == ""
    assert writer.doubtful


def test_fsync_of_a_file_left_behind_does_not_count_for_the_next() -> None:
    writer, disk = opened(FsyncPolicy.EVERYSEC)
    writer.feed(NO_DB, PING)
    [fsync] = writer.flush(1000)
    assert isinstance(fsync, StartFsync)
    writer.open(disk.create("b"), 0, 1000)
    writer.feed(NO_DB, PING * 3)
    writer.flush(1001)
    assert writer.fsync_done(fsync, None) == []
    assert writer.synced_bytes == 0
    assert texts(writer.fsync_done(fsync, EIO)) and writer.doubtful and not writer.error


def test_open_of_bytes_that_may_not_be_durable_syncs_them_first_of_all() -> None:
    disk = ForgetfulDisk()
    file = disk.create("a")
    disk.fsync_dir("")
    file.write(PING)
    writer = AofWriter(FsyncPolicy.ALWAYS)
    writer.open(disk.append("a"), len(PING), 0, durable=False)
    assert writer.flush(0) == []
    disk.crash()
    assert content(disk) == PING


def test_close_forgets_buffer_and_errors() -> None:
    writer, disk = opened(FsyncPolicy.EVERYSEC)
    disk.fail("write")
    writer.feed(0, PING)
    writer.flush(0)
    assert writer.close() is not None
    assert (writer.error, writer.buffer_bytes, writer.file_bytes) == ("", 0, 0)
    assert writer.flush(1) == () and writer.close() is None


@pytest.mark.parametrize("policy", list(FsyncPolicy))
def test_flush_of_nothing_touches_nothing(policy: FsyncPolicy) -> None:
    writer, disk = opened(policy)
    calls = disk.calls
    assert writer.flush(10_000) == ()
    assert disk.calls == calls
    disk.crash(keep_everything)
