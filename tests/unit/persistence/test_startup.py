"""What a start loads, in which order, and what it refuses."""

from __future__ import annotations

import pytest

from kvrepl.errors import AofError
from kvrepl.persistence.aof import AofEnd, EndKind
from kvrepl.persistence.manifest import AofFile, Manifest, ManifestError, persist
from kvrepl.persistence.startup import leftovers, plan_startup, settle, upgrade
from kvrepl.persistence.writer import FsyncPolicy
from tests.simulation.disk import ForgetfulDisk
from tests.simulation.disk_server import LAYOUT, LogServer, encode

PUSH = [encode(b"RPUSH", b"list", b"%d" % number) for number in range(6)]


def folder(**files: bytes) -> ForgetfulDisk:
    """A log of base, one, two, ... with the given content."""
    disk = ForgetfulDisk()
    disk.mkdir(LAYOUT.dirname)
    base = AofFile("base", 1, "b") if "base" in files else None
    incr = [AofFile(name, seq, "i") for seq, name in enumerate(files, 1) if name != "base"]
    persist(disk, LAYOUT, Manifest(base, (), tuple(incr)))
    for name, content in files.items():
        disk.create(LAYOUT.path(name)).write(content)
    return disk


def started(disk: ForgetfulDisk) -> LogServer:
    server = LogServer(disk, FsyncPolicy.ALWAYS)
    server.start()
    return server


def test_plan_reads_base_then_increments_and_leaves_out_empty_ones() -> None:
    disk = folder(base=PUSH[0], one=PUSH[1], two=b"", three=PUSH[2])
    plan = plan_startup(disk, LAYOUT)
    assert [(file.name, file.is_base, file.is_last) for file in plan.files] == [
        ("base", True, False),
        ("one", False, False),
        ("three", False, True),
    ]
    assert plan.total_bytes == sum(map(len, PUSH[:3]))
    assert started(disk).numbers == [0, 1, 2]


def test_start_with_nothing_founds_a_log() -> None:
    server = started(ForgetfulDisk())
    assert server.disk.listdir(LAYOUT.dirname) == [
        "appendonly.aof.1.base.aof",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    server.disk.crash()
    assert started(server.disk).disk.listdir(LAYOUT.dirname) == server.disk.listdir(LAYOUT.dirname)


def test_start_with_a_missing_file_is_refused() -> None:
    disk = folder(base=PUSH[0], one=PUSH[1])
    disk.unlink(LAYOUT.path("one"))
    with pytest.raises(AofError, match="Unable to obtain the AOF file one length"):
        plan_startup(disk, LAYOUT)


def test_start_with_a_bad_manifest_is_refused() -> None:
    disk = folder(base=PUSH[0])
    disk.create(LAYOUT.manifest)
    with pytest.raises(ManifestError, match="empty AOF manifest"):
        plan_startup(disk, LAYOUT)


def test_start_with_a_torn_last_file_cuts_it_and_goes_on() -> None:
    disk = folder(base=PUSH[0], one=PUSH[1] + PUSH[2][:-5])
    server = started(disk)
    assert server.numbers == [0, 1]
    assert disk.size(LAYOUT.path("one")) == len(PUSH[1])
    server.push()
    assert started(disk).numbers == [0, 1, 2]


def test_start_with_only_empty_files_after_a_torn_one_goes_on() -> None:
    assert started(folder(one=PUSH[0] + b"*1\r\n", two=b"")).numbers == [0]


def test_start_with_a_torn_file_before_another_is_refused_and_leaves_it_alone() -> None:
    torn = PUSH[0] + PUSH[1][:-5]
    disk = folder(base=torn, one=PUSH[1])
    with pytest.raises(AofError) as refused:
        started(disk)
    assert refused.value.message == "Fatal error: the truncated file is not the last file"
    assert disk.size(LAYOUT.path("base")) == len(torn)


def test_start_with_a_bad_byte_is_refused_even_in_the_last_file() -> None:
    with pytest.raises(AofError, match="Bad file format reading the append only file one"):
        started(folder(one=PUSH[0] + b"!" + PUSH[1]))


@pytest.mark.parametrize("kind", [EndKind.SHORT_READ, EndKind.OPEN_TRANSACTION])
def test_settle_without_load_truncated_refuses(kind: EndKind) -> None:
    disk = folder(one=PUSH[0])
    [file] = plan_startup(disk, LAYOUT).files
    with pytest.raises(AofError, match="Unexpected end of file"):
        settle(disk, file, AofEnd(kind, 0, 10, "x"), load_truncated=False)
    assert disk.size(file.path) == len(PUSH[0])
    lines = [log.text for log in settle(disk, file, AofEnd(kind, 0, 10), load_truncated=True)]
    assert lines[-3:] == [
        "!!! Warning: short read while loading the AOF file one!!!",
        "!!! Truncating the AOF one at offset 0 !!!",
        "AOF one loaded anyway because aof-load-truncated is enabled",
    ]
    assert ("Revert incomplete MULTI/EXEC transaction in AOF file one" in lines) == (
        kind is EndKind.OPEN_TRANSACTION
    )


def test_upgrade_takes_the_old_file_over_as_the_base() -> None:
    disk = ForgetfulDisk()
    disk.create(LAYOUT.legacy).write(PUSH[0] + PUSH[1])
    server = started(disk)
    assert server.numbers == [0, 1]
    assert server.log.manifest.base == AofFile("appendonly.aof", 1, "b")
    assert disk.listdir("") == []
    server.rewrite()
    server.end_rewrite()
    assert [file.name for file in server.log.manifest] == [
        "appendonly.aof.2.base.aof",
        "appendonly.aof.2.incr.aof",
    ]


def test_upgrade_is_durable_when_it_returns() -> None:
    disk = ForgetfulDisk()
    disk.create(LAYOUT.legacy).write(PUSH[0])
    disk.fsync_dir("")
    upgrade(disk, LAYOUT, plan_startup(disk, LAYOUT))
    disk.crash()
    assert disk.size(LAYOUT.legacy) is None
    assert disk.size(LAYOUT.path(LAYOUT.filename)) is not None


def test_upgrade_is_not_due_beside_a_log_of_its_own() -> None:
    disk = folder(base=PUSH[0])
    disk.create(LAYOUT.legacy).write(PUSH[1] * 2)
    assert started(disk).numbers == [0]
    assert disk.size(LAYOUT.legacy) is not None


def test_start_removes_history_and_what_a_killed_process_left() -> None:
    server = started(ForgetfulDisk())
    server.log.auto_gc = False
    server.push(2)
    server.rewrite()
    server.end_rewrite()
    for name in ("temp-9.rdb", "temp-rewriteaof-9.aof", "temp-rewriteaof-bg-10.aof"):
        server.disk.create(name)
    server.disk.create("temp-1700000000.11.rdb")
    server.disk.create("temp-of-mine.rdb")
    server.disk.create(LAYOUT.temp_incr)
    assert leftovers(server.disk, LAYOUT) == [
        ("temp-1700000000.11.rdb", 11),
        ("temp-9.rdb", 9),
        ("temp-rewriteaof-9.aof", 9),
        ("temp-rewriteaof-bg-10.aof", 10),
        (LAYOUT.temp_incr, None),
    ]
    again = started(server.disk)
    assert again.numbers == [0, 1]
    assert again.log.manifest.history == ()
    assert again.disk.listdir("") == ["temp-of-mine.rdb"]
    assert again.disk.listdir(LAYOUT.dirname) == [
        "appendonly.aof.2.base.aof",
        "appendonly.aof.2.incr.aof",
        "appendonly.aof.manifest",
    ]
