"""`rdb convert`: what goes through, to where, and what a target cannot hold."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from rdb.targets import TARGETS
from tests.interop.harness import wait_until
from tests.unit.rdb.samples import A_THIRD, DATA, GOLDENS, NEWEST

KEYS = DATA / "goldens" / "keys.rdb"
FIELDS_WITH_TTL = DATA / "corpus/files/hdt3213__hash_with_hfe.rdb"


def keys_of(path: Path) -> dict[tuple[int, bytes], rdb.Key]:
    return {(r.db, r.key): r for r in rdb.read(path) if isinstance(r, rdb.Key)}


def names_of(path: Path) -> list[tuple[int, str]]:
    return sorted((db, key.decode()) for db, key in keys_of(path))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.rdb"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", GOLDENS + A_THIRD, ids=lambda path: path.stem)
def test_convert_keeps_the_meaning_of_what_the_target_holds(
    path: Path, target: int, out: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    status = run(["convert", str(path), "-o", str(out), "--target", str(target)])
    err = capfdbinary.readouterr().err.decode()
    header, *records = rdb.read(out)
    assert header == rdb.Header(target)
    before, after = keys_of(path), keys_of(out)
    lost = before.keys() - after.keys()
    assert f"{len(before):,} keys in the file = {len(after):,} kept" in err
    if status == exits.OK:
        assert not lost
    for name in lost:
        assert before[name].kind in ("stream", "module", "hash", "array")
    assert run(["diff", "--json", "-q", str(path), str(out)]) in (exits.OK, exits.DIFFERENT)
    assert run(["diff", "--json", str(path), str(out)]) in (exits.OK, exits.DIFFERENT)
    for line in capfdbinary.readouterr().out.splitlines():
        form = json.loads(line)
        if "function" in form:
            assert target < 10
        elif form["change"] == "changed":
            # Type 15 has no counters: readers estimate them. Those before 27 release no entries.
            assert form["type"] == "stream" and (target == 9 or path in NEWEST)
            estimated = {"max_deleted_id", "entries_added"} if target == 9 else set()
            assert form["delta"].keys() <= estimated | {"groups"}
        else:
            assert form["change"] == "removed" and (form["db"], form["key"].encode()) in lost
    known = {6: 13, 9: 15, 10: 19, 11: 21, 12: 25}[target]
    assert max((key.type_code for key in after.values()), default=0) <= known
    if target < 9:
        assert not any(isinstance(record, rdb.Aux) for record in records)
        assert not any(key.type_code in (5, 7) or key.freq or key.idle_s for key in after.values())


def test_convert_of_what_the_target_holds_copies_the_bytes(out: Path) -> None:
    for path in GOLDENS:
        assert run(["convert", str(path), "-o", str(out)]) == exits.OK
        raw = [r for r in rdb.read(path, raw_values=True) if isinstance(r, rdb.Key)]
        assert [r for r in rdb.read(out, raw_values=True) if isinstance(r, rdb.Key)] == raw


def test_convert_drops_field_ttls_only_with_their_keys(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(FIELDS_WITH_TTL), "-o", str(out), "--target"]
    assert run([*arguments, "11"]) == exits.INCOMPLETE
    err = capsys.readouterr().err
    before = keys_of(FIELDS_WITH_TTL)
    expiring = {
        name for name, key in before.items()
        if isinstance(key.value, rdb.ExpiringHash) and key.value.expires_at_ms
    }  # fmt: skip
    assert expiring and keys_of(out).keys() == before.keys() - expiring
    assert f"{len(expiring)} times dropped: hash fields with an expiry need version 12" in err
    assert f"{len(expiring)} dropped" in err


def test_convert_gives_released_entries_to_a_consumer(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = DATA / "corpus/files/syn__redis14-array-stream5-synthetic.rdb"
    assert run(["convert", str(path), "-o", str(out), "--target", "12"]) == exits.INCOMPLETE
    err = capsys.readouterr().err
    assert "2 times dropped: arrays need version 14" in err
    assert "1 times left out: counters, consumer times, releases or producers" in err
    (group,) = keys_of(out)[0, b"st5"].value.groups
    assert keys_of(path)[0, b"st5"].value.groups[0].released == [(1700000000005, 0)]
    assert {pending.consumer for pending in group.pending} == {b"alice"}
    assert group.consumers[0].active_ms == 1700000001500


def test_convert_says_that_metadata_of_keys_is_left_out(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(DATA / "corpus/files/syn__redis13-keymeta-stream4-synthetic.rdb")
    assert run(["convert", path, "-o", str(out)]) == exits.INCOMPLETE
    assert "2 times left out: data of modules on a key" in capsys.readouterr().err
    assert run(["convert", path, "-o", str(out), "--match", "st4"]) == exits.OK
    assert "on a key" not in capsys.readouterr().err


def test_convert_shifts_the_expiry_of_keys_and_fields(out: Path) -> None:
    assert run(["convert", str(KEYS), "-o", str(out), "--shift-ttl", "-1500"]) == exits.OK
    for name, key in keys_of(KEYS).items():
        shifted = keys_of(out)[name].expires_at_ms
        assert shifted == (None if key.expires_at_ms is None else key.expires_at_ms - 1500)
    arguments = ["-o", str(out), "--target", "12", "--shift-ttl", "60000"]
    assert run(["convert", str(FIELDS_WITH_TTL), *arguments]) == exits.OK
    after = keys_of(out)
    for name, key in keys_of(FIELDS_WITH_TTL).items():
        if isinstance(key.value, rdb.ExpiringHash):
            later = {field: at_ms + 60000 for field, at_ms in key.value.expires_at_ms.items()}
            assert after[name].value.expires_at_ms == later
            assert after[name].value.fields == key.value.fields


def test_convert_chooses_moves_and_splits(tmp_path: Path, out: Path) -> None:
    assert names_of(KEYS) == [
        (0, "expires"), (0, "list expires"), (0, "plain"), (3, "in three"), (15, "in fifteen")
    ]  # fmt: skip
    keys = str(KEYS)
    moved = ["--move-db", "3:0", "--move-db", "15:3"]
    assert run(["convert", keys, "-o", str(out), "--exclude", "*pires", *moved]) == exits.OK
    assert names_of(out) == [(0, "in three"), (0, "plain"), (3, "in fifteen")]
    assert run(["convert", keys, "-o", str(out), "--no-expiring", "--type", "set"]) == exits.OK
    assert all(key.kind == "set" for key in keys_of(out).values())
    template = str(tmp_path / "db-{}.rdb")
    assert run(["convert", keys, "-o", template, "--split-db"]) == exits.OK
    assert names_of(tmp_path / "db-15.rdb") == [(15, "in fifteen")]
    assert len(names_of(tmp_path / "db-0.rdb")) == 3
    template = str(tmp_path / "part-{}.rdb")
    globs = ["--split-match", "in*", "--split-match", "*pires"]
    assert run(["convert", keys, "-o", template, *globs]) == exits.OK
    parts = [names_of(tmp_path / f"part-{name}.rdb") for name in ("1", "2", "rest")]
    assert parts == [
        [(3, "in three"), (15, "in fifteen")], [(0, "expires"), (0, "list expires")], [(0, "plain")]
    ]  # fmt: skip


def test_convert_drops_expired_keys_when_told(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.rdb"
    now_ms = time.time_ns() // 1_000_000
    with path.open("wb") as stream:
        writer = rdb.RdbWriter(stream.write)
        writer.select_db(0)
        writer.key(b"old", 0, b"1", now_ms - 1000)
        writer.key(b"new", 0, b"1", now_ms + 10**7)
        writer.end()
    assert run(["convert", str(path), "-o", str(out)]) == exits.OK
    assert len(keys_of(out)) == 2
    capsys.readouterr()
    assert run(["convert", str(path), "-o", str(out), "--drop-expired"]) == exits.OK
    assert names_of(out) == [(0, "new")]
    assert "2 keys in the file = 1 kept + 1 expired + 0 filtered + 0" in capsys.readouterr().err


def test_convert_merges_and_the_first_wins(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("a", b"1"), ("b", b"2")):
        with (tmp_path / name).open("wb") as stream:
            writer = rdb.RdbWriter(stream.write)
            writer.aux(b"redis-ver", value)
            writer.aux(b"repl-id", b"x" * 40)
            writer.function(b"#!lua name=lib\n" + value)
            writer.select_db(1)
            writer.key(b"both", 0, value)
            writer.key(b"only " + value, 0, value)
            writer.end()
    files = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert run(["convert", *files, "-o", str(out)]) == exits.OK
    assert {key: record.value for (_, key), record in keys_of(out).items()} == {
        b"both": b"1", b"only 1": b"1", b"only 2": b"2"
    }  # fmt: skip
    records = list(rdb.read(out))
    assert [r for r in records if isinstance(r, rdb.Aux)] == [rdb.Aux(b"redis-ver", b"1")]
    assert [r.code[-1:] for r in records if isinstance(r, rdb.Function)] == [b"1"]
    err = capsys.readouterr().err
    assert "'both': a key of that name was there before" in err
    assert "2 keys in the file = 1 kept + 0 expired + 0 filtered + 1 dropped" in err


def test_convert_of_damage_leaves_no_file(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = str(DATA / "corpus/files/syn__neg-trunc0-base.rdb")
    out.write_bytes(b"old")
    assert run(["convert", str(KEYS), cut, "-o", str(out)]) == exits.DAMAGED
    assert "nothing is written" in capsys.readouterr().err
    assert os.listdir(out.parent) == ["out.rdb"] and out.read_bytes() == b"old"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--split-db"],
        ["--move-db", "1"],
        ["--split-db", "--split-match", "*"],
        ["--target", "8"],
        ["-", "-"],
    ],
)
def test_convert_with_wrong_usage_says_so(arguments: list[str], out: Path) -> None:
    assert run(["convert", str(KEYS), "-o", str(out), *arguments]) == exits.USAGE
    assert not out.exists()


def test_convert_never_writes_over_an_input(tmp_path: Path) -> None:
    copy = tmp_path / "copy.rdb"
    copy.write_bytes(KEYS.read_bytes())
    assert run(["convert", str(copy), "-o", str(copy)]) == exits.USAGE
    assert copy.read_bytes() == KEYS.read_bytes()


def test_convert_never_writes_over_what_it_reads_from_standard_input(tmp_path: Path) -> None:
    copy = tmp_path / "copy.rdb"
    copy.write_bytes(KEYS.read_bytes()[:-20])
    for tool in ("convert", "repair"):
        with copy.open("rb") as stdin:
            done = started([tool, "-", "-o", str(copy)], stdin=stdin)
            assert done.communicate()[1].endswith(b"copy.rdb is standard input as well\n")
            assert done.returncode == exits.USAGE
    assert copy.read_bytes() == KEYS.read_bytes()[:-20]


def test_convert_never_splits_over_an_input(tmp_path: Path) -> None:
    copy = tmp_path / "part-3.rdb"
    copy.write_bytes(KEYS.read_bytes())
    assert run(["convert", str(copy), "-o", str(tmp_path / "part-{}.rdb"), "--split-db"]) == (
        exits.USAGE
    )
    assert os.listdir(tmp_path) == ["part-3.rdb"] and copy.read_bytes() == KEYS.read_bytes()


def test_convert_writes_into_a_pipe_and_leaves_it_there(tmp_path: Path, out: Path) -> None:
    """What replaces a file would take /dev/null away from everybody."""
    assert run(["convert", str(KEYS), "-o", str(out)]) == exits.OK
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run(["convert", str(KEYS), "-o", str(pipe)]) == exits.OK
        assert os.read(descriptor, 1 << 16) == out.read_bytes()
    finally:
        os.close(descriptor)
    assert pipe.is_fifo()


def test_convert_to_a_link_replaces_the_file_behind_it(tmp_path: Path, out: Path) -> None:
    (tmp_path / "disk").mkdir()
    out.symlink_to(tmp_path / "disk" / "real.rdb")
    assert run(["convert", str(KEYS), "-o", str(out)]) == exits.OK
    assert out.is_symlink()
    assert keys_of(tmp_path / "disk" / "real.rdb") == keys_of(KEYS)


def test_convert_to_a_folder_says_so_before_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(KEYS), "-o", str(tmp_path)]) == exits.UNREADABLE
    assert capsys.readouterr().err == f"rdb: {tmp_path}: Is a directory\n"


def test_convert_on_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100, 100))
    done = started(["convert", str(KEYS), "-o", str(tmp_path / "out.rdb")], preexec_fn=limit)
    assert done.communicate()[1].endswith(b": File too large\n")
    assert done.returncode == exits.UNREADABLE
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_convert_that_is_told_to_end_leaves_no_file(number: signal.Signals, tmp_path: Path) -> None:
    done = started(["convert", "-", "-o", str(tmp_path / "out.rdb")], stdin=subprocess.PIPE)
    wait_until(lambda: os.listdir(tmp_path), "the temporary file is there")
    done.send_signal(number)
    assert done.wait() == 128 + number
    done.communicate()
    assert os.listdir(tmp_path) == []


def started(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-c", "from rdb.cli import main; main()", *arguments]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, stderr=subprocess.PIPE, cwd=root, **options)
