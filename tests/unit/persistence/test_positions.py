"""Positions: the log says where the replication stream stood when its dataset was that of the log.

The rule that all of this serves: whoever loads a log and finds a position at its end holds exactly
what the stream had made up to that offset, never more and never less.
"""

from __future__ import annotations

import random

import pytest

from kvrepl.errors import StorageError
from kvrepl.persistence.aof import AofReplay, position_line
from kvrepl.persistence.disk import StartFsync
from kvrepl.persistence.writer import AofWriter, FsyncPolicy
from kvrepl.replication.actions import SaveInfo
from kvrepl.resp import encode_command
from tests.simulation.disk import ForgetfulDisk, PowerCut

ID = b"a" * 40
OTHER = b"b" * 40
SET = encode_command([b"SET", b"k", b"v"])
HERE = SaveInfo(0, ID, 100)
FULL = b"#KVREPL:" + ID + b":0:100\r\n"
SHORT = b"#KVREPL:200\r\n"


class Stream:
    """A stream that feeds the log and counts, as the server's does."""

    def __init__(self, writer: AofWriter) -> None:
        self.writer = writer
        self.at = SaveInfo(0, ID, 0)
        self.commands: dict[tuple[bytes, int], int] = {(ID, 0): 0}
        self.fed = 0
        writer.position = lambda: self.at

    def set(self) -> None:
        """A write command."""
        command = encode_command([b"SET", b"k", b"%d" % self.fed])
        self.writer.feed(0, command)
        self.fed += 1
        self.move(len(command))

    def move(self, count: int) -> None:
        """Bytes of the stream that change nothing (PING), or come with a command."""
        self.at = self.at._replace(offset=self.at.offset + count)
        self.commands[self.at.replid, self.at.offset] = self.fed


def opened(policy: FsyncPolicy = FsyncPolicy.NO) -> tuple[Stream, ForgetfulDisk]:
    disk = ForgetfulDisk()
    writer = AofWriter(policy)
    writer.open(disk.create("a"), 0, 0)
    disk.fsync_dir("")
    return Stream(writer), disk


def content(disk: ForgetfulDisk) -> bytes:
    return b"".join(disk.read("a"))


def test_position_is_written_short_only_behind_one_of_the_same_id_and_database() -> None:
    later = HERE._replace(offset=200)
    assert position_line(HERE, None) == FULL
    assert position_line(later, HERE) == SHORT
    assert position_line(later, HERE._replace(replid=OTHER)) != SHORT
    assert position_line(later, HERE._replace(stream_db=1)) != SHORT


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (SET + FULL, HERE),
        (SET + FULL + SET + SHORT, HERE._replace(offset=200)),
        (FULL, HERE),
        (FULL + SET, None),
        (FULL + SET[:-4], HERE),  # the rest of a command is cut off, and was never applied
        (FULL + b"#TS:1700000000\r\n", None),
        (FULL + b"*1\r\n$5\r\nMULTI\r\n", None),
        (SET + SHORT, None),
        (FULL + SET + FULL[:-5], None),
        (SET + FULL[:-2] + b"x\r\n", None),
        (SET, None),
        (b"", None),
    ],
)
def test_position_counts_only_at_the_very_end(data: bytes, position: SaveInfo | None) -> None:
    for size in (1, 7, len(data) or 1):
        replay = AofReplay()
        for start in range(0, len(data), size):
            replay.feed(data[start : start + size])
        assert replay.position == position, size


def test_annotation_mark_inside_a_value_is_part_of_the_value() -> None:
    value = b"\n#KVREPL:5\r\n\n#" * 3
    data = encode_command([b"SET", b"k", value]) * 3 + FULL
    replay = AofReplay()
    assert [argv for argv, _ in replay.feed(data)] == [[b"SET", b"k", value]] * 3
    assert replay.position == HERE


def test_each_write_ends_in_the_position_of_its_moment() -> None:
    stream, disk = opened()
    stream.set()
    stream.set()
    stream.writer.flush(0)
    assert content(disk).endswith(b"\n" + position_line(stream.at, None))
    before = stream.at
    stream.set()
    stream.writer.flush(0)
    assert content(disk).endswith(b"\n" + position_line(stream.at, before))
    assert content(disk).count(b"#") == 2


def test_stream_that_moves_without_a_command_is_recorded_once() -> None:
    stream, disk = opened()
    stream.move(14)
    stream.writer.flush(0)
    stream.writer.flush(0)
    assert content(disk) == position_line(stream.at, None)


def test_new_file_begins_with_a_whole_position() -> None:
    stream, disk = opened()
    stream.set()
    stream.writer.flush(0)
    stream.writer.open(disk.create("b"), 0, 0)
    stream.writer.flush(0)
    assert b"".join(disk.read("b")) == position_line(stream.at, None)


def test_write_that_was_postponed_has_one_position_and_the_last() -> None:
    stream, disk = opened(FsyncPolicy.EVERYSEC)
    stream.set()
    (fsync,) = stream.writer.flush(1000)
    assert isinstance(fsync, StartFsync)
    for now_ms in range(2000, 2010):
        stream.set()
        stream.writer.flush(now_ms)
    stream.writer.fsync_done(fsync, None)
    stream.writer.flush(2020)
    assert content(disk).count(b"#") == 2
    assert content(disk).endswith(b"#KVREPL:%d\r\n" % stream.at.offset)


def test_log_without_a_stream_has_no_positions() -> None:
    stream, disk = opened()
    stream.writer.position = lambda: None
    stream.set()
    stream.writer.flush(0)
    assert b"#" not in content(disk)


@pytest.mark.parametrize("policy", list(FsyncPolicy))
@pytest.mark.parametrize("seed", range(40))
def test_position_found_after_a_crash_is_that_of_what_is_loaded(
    policy: FsyncPolicy, seed: int
) -> None:
    rng = random.Random(seed)
    stream, disk = opened(policy)
    pending: list[StartFsync] = []
    disk.crash_at = rng.randrange(1, 40) + disk.calls
    if rng.random() < 0.3:
        disk.limit_bytes = rng.randrange(50, 2000)
    try:
        for now_ms in range(0, 20_000, 300):
            for _ in range(rng.randrange(4)):
                rng.choice((stream.set, stream.set, lambda: stream.move(14)))()
            if rng.random() < 0.1:
                stream.at = stream.at._replace(replid=rng.choice((ID, OTHER)))
                stream.move(1)
            pending += [a for a in stream.writer.flush(now_ms) if isinstance(a, StartFsync)]
            if pending and rng.random() < 0.5:
                fsync = pending.pop()
                fsync.file.fdatasync()
                stream.writer.fsync_done(fsync, None)
            if rng.random() < 0.1:
                disk.limit_bytes = None
    except PowerCut:
        pass
    disk.crash(lambda most: rng.randint(0, most))
    try:
        data = content(disk)
    except StorageError:
        return  # not even the name survived
    replay = AofReplay()
    commands = [argv for argv, _ in replay.feed(data) if argv[0] == b"SET"]
    if replay.position is not None:
        at = (replay.position.replid, replay.position.offset)
        assert len(commands) == stream.commands[at]
