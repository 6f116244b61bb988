"""The manifest: its text, its refusals, and the order in which it reaches the disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kvrepl.errors import StorageError
from kvrepl.persistence.manifest import (
    AofFile,
    Layout,
    Manifest,
    ManifestError,
    UnsyncedManifest,
    load_manifest,
    parse_manifest,
    persist,
)
from tests.simulation.disk import ForgetfulDisk, keep_everything

DATA = Path(__file__).parents[2] / "data" / "aof"
LAYOUT = Layout()
BASE = AofFile("appendonly.aof.1.base.rdb", 1, "b")
INCR = AofFile("appendonly.aof.1.incr.aof", 1, "i")


@pytest.mark.parametrize("folder", ["rewritten-once", "timestamps"])
def test_manifest_by_redis_is_read_and_written_alike(folder: str) -> None:
    text = (DATA / folder / "appendonly.aof.manifest").read_bytes()
    assert parse_manifest(text).format() == text


def test_manifest_after_a_rewrite_is_the_one_redis_writes() -> None:
    manifest = Manifest(AofFile("appendonly.aof.1.base.aof", 1, "b"), (), (INCR,))
    manifest, _ = manifest.next_incr(LAYOUT)
    manifest, base = manifest.rewrite_done(LAYOUT, rdb=False, keep_last_incr=True)
    assert base.name == "appendonly.aof.2.base.aof"
    golden = DATA / "rewritten-once" / "appendonly.aof.manifest"
    assert manifest.format() == golden.read_bytes()


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        (b"", "Found an empty AOF manifest", None),
        (b"\n", "Invalid AOF manifest file format", 1),
        (b"# c\nfile a seq 1 type b", "The AOF manifest file contains too long line", None),
        (b"file " + b"a" * 1100 + b"\n", "The AOF manifest file contains too long line", None),
        (b"file a seq 1\n", "Invalid AOF manifest file format", 1),
        (b"file a seq 1 type b odd\n", "Invalid AOF manifest file format", 1),
        (b'file "a seq 1 type b\n', "Invalid AOF manifest file format", 1),
        (b"file a seq x type b\n", "Invalid AOF manifest file format", 1),
        (b"file a seq 0 type b\n", "Invalid AOF manifest file format", 1),
        (b"name a seq 1 type b\n", "Invalid AOF manifest file format", 1),
        (b'file a seq 1 type ""\n', "Invalid AOF manifest file format", 1),
        (b"file d/a seq 1 type b\n", "File can't be a path, just a filename", 1),
        (b"file a seq 1 type x\n", "Unknown AOF file type", 1),
        (b"file a seq 1 type b\nfile c seq 2 type b\n", "Found duplicate base file information", 2),
        (b"file a seq 2 type i\nfile c seq 2 type i\n", "Found a non-monotonic sequence number", 2),
        (b"file a seq -1 type i\n", "Found a non-monotonic sequence number", 1),
    ],
)
def test_manifest_malformed_is_refused_with_the_words_of_redis(
    text: bytes, message: str, line: int | None
) -> None:
    with pytest.raises(ManifestError) as refused:
        parse_manifest(text, "m")
    assert refused.value.message == message
    lines = refused.value.log_lines()
    assert lines[0] == "*** FATAL AOF MANIFEST FILE ERROR ***"
    assert lines[-1] == message
    if line is None:
        assert len(lines) == 2
    else:
        assert lines[1] == f"Reading the manifest file, at line {line}"


def test_manifest_with_comments_unknown_pairs_and_any_case_is_read() -> None:
    text = b"# made by hand\n\tSEQ 7 File a.aof Type base later x \r\n"
    assert parse_manifest(text) == Manifest(base=AofFile("a.aof", 7, "b"))
    assert parse_manifest(b"#" + b"\n") == Manifest()


@pytest.mark.parametrize("name", ["plain", "with blank", 'quote"', "tick'", "\udcff\n", "é"])
def test_manifest_with_odd_names_reads_back(name: str) -> None:
    manifest = Manifest(incr=(AofFile(name, 3, "i"),))
    assert parse_manifest(manifest.format()) == manifest


def test_next_incr_avoids_the_names_in_history() -> None:
    manifest = Manifest(BASE, (), (INCR,))
    manifest, _ = manifest.rewrite_done(LAYOUT, rdb=True, keep_last_incr=False)
    assert manifest.incr == ()
    _, incr = manifest.next_incr(LAYOUT)
    assert incr.name == "appendonly.aof.2.incr.aof"


def test_persist_cut_anywhere_leaves_the_old_or_the_new() -> None:
    old, new = Manifest(BASE), Manifest(BASE, (), (INCR,))
    step = 0
    while True:
        step += 1
        disk = ForgetfulDisk()
        disk.mkdir(LAYOUT.dirname)
        disk.fsync_dir("")
        persist(disk, LAYOUT, old)
        disk.fail_at = disk.calls + step
        try:
            persist(disk, LAYOUT, new)
        except UnsyncedManifest:
            assert load_manifest(disk, LAYOUT) == new
        except StorageError:
            assert load_manifest(disk, LAYOUT) == old
            assert disk.listdir(LAYOUT.dirname) == ["appendonly.aof.manifest"]
        else:
            break
        disk.crash()
        assert load_manifest(disk, LAYOUT) == old
    assert step == 7
    disk.crash()
    assert load_manifest(disk, LAYOUT) == new


def test_persist_on_a_full_disk_keeps_the_old() -> None:
    disk = ForgetfulDisk()
    disk.mkdir(LAYOUT.dirname)
    persist(disk, LAYOUT, Manifest(BASE))
    disk.limit_bytes = len(Manifest(BASE).format()) + 10
    with pytest.raises(StorageError) as refused:
        persist(disk, LAYOUT, Manifest(BASE, (), (INCR,)))
    assert refused.value.cause.errno == errno.ENOSPC
    disk.crash(keep_everything)
    assert load_manifest(disk, LAYOUT) == Manifest(BASE)


def test_load_manifest_where_there_is_none_is_empty() -> None:
    disk = ForgetfulDisk()
    assert load_manifest(disk, LAYOUT).is_empty
    disk.mkdir(LAYOUT.dirname)
    assert load_manifest(disk, LAYOUT).is_empty
