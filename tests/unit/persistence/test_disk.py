"""The seam to the disk: the real one and the forgetful one keep the same contract."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvrepl.errors import StorageError
from kvrepl.persistence.disk import AUTOSYNC_BYTES, Disk, File, write_all, write_durably
from kvrepl.server.disk import RealDisk, RealFile
from tests.simulation.disk import ForgetfulDisk


@pytest.fixture(params=["real", "forgetful"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(str(tmp_path)) if request.param == "real" else ForgetfulDisk()


def content(disk: Disk, path: str) -> bytes:
    return b"".join(disk.read(path, 3))


def test_file_appended_truncated_and_appended_again(disk: Disk) -> None:
    file = disk.create("a")
    assert file.path == "a"
    assert file.write(b"hello world") == 11
    file.truncate(5)
    file.write(b"!")
    file.fsync()
    file.fdatasync()
    file.close()
    file.close()
    assert (content(disk, "a"), disk.size("a")) == (b"hello!", 6)
    again = disk.append("a")
    again.write(b"?")
    assert content(disk, "a") == b"hello!?"
    disk.create("a")
    assert disk.size("a") == 0
    again.close()


def test_read_comes_in_chunks_none_of_them_empty(disk: Disk) -> None:
    disk.create("a").write(b"1234567")
    assert list(disk.read("a", 3)) == [b"123", b"456", b"7"]
    disk.truncate("a", 6)
    assert list(disk.read("a", 3)) == [b"123", b"456"]
    disk.truncate("a", 0)
    assert list(disk.read("a")) == []


def test_names_are_moved_and_removed(disk: Disk) -> None:
    assert disk.mkdir("d") and not disk.mkdir("d")
    assert disk.is_dir("d") and not disk.is_dir("e")
    disk.create("a").write(b"x")
    disk.create("d/b").write(b"y")
    disk.rename("a", "d/b")
    disk.fsync_dir("")
    disk.fsync_dir("d")
    assert (disk.listdir("d"), disk.size("a"), content(disk, "d/b")) == (["b"], None, b"x")
    disk.unlink("d/b")
    disk.unlink("d/b")
    assert disk.listdir("d") == []


def test_refusals_are_storage_errors_with_their_cause(disk: Disk) -> None:
    for refused in (
        lambda: disk.read("none"),
        lambda: disk.append("none/a"),
        lambda: disk.create("none/a"),
        lambda: disk.rename("none", "a"),
    ):
        with pytest.raises(StorageError) as error:
            refused()
        assert error.value.cause.errno == errno.ENOENT


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_real_file_on_a_full_device_raises() -> None:
    file = RealDisk("/dev").append("full")
    with pytest.raises(StorageError) as error:
        file.write(b"x")
    assert error.value.cause.errno == errno.ENOSPC
    with pytest.raises(StorageError, match=r"^write\(2\) of full: No space left on device$"):
        write_all(file, b"x")
    file.close()
    with pytest.raises(StorageError):
        file.write(b"x")


def test_real_file_on_a_disk_that_fills_up_says_how_much_was_written(tmp_path: Path) -> None:
    file = RealDisk(str(tmp_path)).create("a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        assert file.write(b"123456") == 6
        assert file.write(b"789012") == 4
        with pytest.raises(StorageError, match="File too large"):
            file.write(b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a").read_bytes() == b"1234567890"


def test_real_file_with_a_write_taken_in_part_says_how_much() -> None:
    reader, writer = os.pipe()
    data = bytes(range(256)) * 2048
    os.set_blocking(writer, False)
    file = RealFile(writer, "pipe")
    written = file.write(data)  # the pipe is full after a part, which is no error yet
    assert 0 < written < len(data)
    assert os.read(reader, written) == data[:written]
    os.close(reader)
    file.close()


def test_real_disk_refuses_a_folder_where_a_file_is(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    disk.create("f").close()
    for refused in (
        lambda: disk.mkdir("f"),
        lambda: disk.listdir("f"),
        lambda: disk.fsync_dir("f"),
        lambda: disk.truncate("none", 0),
        lambda: disk.size("f/x"),
        lambda: disk.unlink("f/x"),
    ):
        with pytest.raises(StorageError):
            refused()


def test_real_disk_without_root_follows_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    disk = RealDisk()
    disk.create("here").close()
    disk.fsync_dir("")
    assert disk.listdir("") == ["here"]


def test_write_durably_writes_all_or_leaves_nothing() -> None:
    disk = ForgetfulDisk()
    assert write_durably(disk, "t", "a", [b"one", b"", b"two"]) == 6
    disk.fsync_dir("")
    disk.crash()
    assert content(disk, "a") == b"onetwo"
    for operation in ("write", "fsync", "rename"):
        disk.fail(operation)
        with pytest.raises(StorageError):
            write_durably(disk, "t", "a", [b"new"])
        assert (disk.listdir(""), content(disk, "a")) == (["a"], b"onetwo")

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("the source failed")

    with pytest.raises(ValueError, match="source"):
        write_durably(disk, "t", "a", broken())
    assert disk.listdir("") == ["a"]


def test_write_durably_leaves_nothing_where_it_is_stopped_at_the_creation_of_the_file() -> None:
    class Stopped(BaseException):
        pass

    class StoppingDisk(ForgetfulDisk):
        def create(self, path: str) -> File:
            super().create(path)
            raise Stopped  # as a signal does that comes before the file is returned

    disk = StoppingDisk()
    with pytest.raises(Stopped):
        write_durably(disk, "t", "a", [b"x"])
    assert disk.listdir("") == []


def test_write_durably_syncs_on_the_way() -> None:
    disk = ForgetfulDisk()
    write_durably(disk, "t", "a", [b"x" * (AUTOSYNC_BYTES // 2)] * 5)
    assert disk.trace.count("fsync") == 3
    write_durably(disk, "t", "a", [b"x" * (AUTOSYNC_BYTES // 2)] * 5, autosync=False)
    assert disk.trace.count("fsync") == 4
