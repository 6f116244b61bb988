"""The `rdb` command: what it prints, where it reads from, and its exit status."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

import rdb
from kvrepl import glob
from rdb.cli import exits, run
from rdb.cli.glob import compile_glob
from tests.unit.rdb.samples import A_THIRD, DATA, GOLDENS

KEYS = DATA / "goldens" / "keys.rdb"
DAMAGED = DATA / "corpus" / "files" / "syn__neg-badcrc-base.rdb"
CUT = DATA / "corpus" / "files" / "syn__neg-trunc0-base.rdb"
COMMAND = [sys.executable, "-c", "from rdb.cli import main; main()"]
ROOT = Path(__file__).parents[3]


def piped(arguments: list[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *arguments], input=stdin, capture_output=True, cwd=ROOT, check=False
    )


def dumped(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> list[dict[str, Any]]:
    assert run(["dump", *arguments]) == exits.OK
    return [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]


def as_bytes(form: Any) -> bytes:
    return form.encode() if isinstance(form, str) else base64.b64decode(form["b64"])


def as_id(form: str) -> tuple[int, int]:
    ms, seq = form.split("-")
    return int(ms), int(seq)


def as_value(form: dict[str, Any]) -> Any:
    """The inverse of rdb.cli.form.value_form, written without looking at it."""
    kind, value = form["type"], form["value"]
    if kind == "string":
        return as_bytes(value)
    if kind in ("list", "set"):
        return [as_bytes(element) for element in value]
    if kind == "zset":
        return [(as_bytes(member), float(score)) for member, score in value]
    if kind == "hash":
        flat = [as_bytes(text) for pair in value for text in pair[:2]]
        if form["type_code"] not in range(22, 26):
            return flat
        return rdb.ExpiringHash(flat, {as_bytes(f): at for f, _, at in value if at is not None})
    if kind == "module":
        return rdb.ModuleValue(0, as_bytes(value["payload"]))
    if kind == "array":
        elements = [(int(index), as_bytes(text)) for index, text in value["elements"]]
        return rdb.Array(elements, int(value["cursor"]) if "cursor" in value else None)
    entries = value["entries"]
    stream = rdb.Stream(
        [(as_id(i), [as_bytes(text) for pair in pairs for text in pair]) for i, pairs in entries],
        as_id(value["last_id"]),
        as_id(value["first_id"]),
        as_id(value["max_deleted_id"]),
        value["entries_added"],
    )
    for group in value["groups"]:
        made = rdb.Group(as_bytes(group["name"]), as_id(group["last_id"]), group["entries_read"])
        for i, owner, ms, count in group["pending"]:
            consumer = None if owner is None else as_bytes(owner)
            made.pending.append(rdb.Pending(as_id(i), consumer, ms, count))
        for consumer in group["consumers"]:
            times = consumer["seen_ms"], consumer["active_ms"]
            made.consumers.append(rdb.Consumer(as_bytes(consumer["name"]), *times))
        made.released = [as_id(entry_id) for entry_id in group.get("released", ())]
        stream.groups.append(made)
    if "producers" in value:
        form = value["producers"]
        numbers = [form[name] for name in ("remembered", "refused")]
        stream.producers = rdb.Producers(form["window_s"], form["window_messages"], [], *numbers)
        for producer in form["producers"]:
            messages = [(as_bytes(name), as_id(entry)) for name, entry in producer["messages"]]
            stream.producers.producers.append(rdb.Producer(as_bytes(producer["name"]), messages))
    return stream


@pytest.mark.parametrize("path", GOLDENS + A_THIRD, ids=lambda path: path.stem)
def test_dump_of_every_key_can_be_turned_back(
    path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    forms = dumped(capfdbinary, str(path))
    records = list(rdb.read(path))
    assert len(forms) == len(records)
    for form, record in zip(forms, records, strict=True):
        if not isinstance(record, rdb.Key):
            assert form["record"] != "key"
            continue
        value = as_value(form)
        expected = record.value
        if record.kind == "module":
            expected = rdb.ModuleValue(0, expected.payload)
            assert (form["value"]["module"], form["value"]["version"]) == (
                record.value.name,
                record.value.version,
            )
        assert repr(value) == repr(expected)
        assert (form["db"], as_bytes(form["key"])) == (record.db, record.key)
        optional = tuple(map(form.get, ("expires_at_ms", "idle_s", "freq")))
        assert optional == (record.expires_at_ms, record.idle_s, record.freq)


def test_dump_names_header_aux_and_end(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    forms = dumped(capfdbinary, str(DATA / "goldens" / "functions.rdb"))
    assert forms[0] == {"record": "header", "magic": "REDIS", "version": 10}
    assert {"record": "aux", "key": "redis-bits", "value": "64"} in forms
    assert any(form["record"] == "function" and "mylib" in form["code"] for form in forms)
    assert forms[-1] == {"record": "end", "checksum": "ok"}


def test_dump_filters_by_database_and_pattern(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def names(*arguments: str) -> list[str]:
        return sorted(form["key"] for form in dumped(capfdbinary, *arguments, str(KEYS)))

    assert names("--db", "3") == ["in three"]
    assert names("--db", "3", "--db", "15") == ["in fifteen", "in three"]
    assert names("--match", "*pires") == ["expires", "list expires"]
    assert names("--match", "in*", "--db", "15") == ["in fifteen"]
    assert names("--match", "in") == []


def test_dump_keys_only_gives_sizes(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    forms = dumped(capfdbinary, "--keys-only", str(KEYS))
    assert all("value" not in form for form in forms)
    assert {form["key"]: form["bytes"] for form in forms}["plain"] == len(b"\x01v")


def test_dump_of_damaged_file_prints_up_to_the_damage(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert run(["dump", str(CUT)]) == exits.DAMAGED
    captured = capfdbinary.readouterr()
    keys = [json.loads(line) for line in captured.out.splitlines()]
    assert sum(form["record"] == "key" for form in keys) == 5
    assert b"damaged: the RDB ends early, key b'large', at offset 995" in captured.err


def test_check_of_whole_files_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(KEYS), str(GOLDENS[0])]) == exits.OK
    out = capsys.readouterr().out
    assert f"{KEYS}: whole, REDIS version 10, checksum ok" in out
    assert "5 keys in 3 databases, 2 with an expiry" in out
    assert "string 3, list 1, set 1" in out


def test_check_tells_what_redis_check_rdb_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.rdb"
    with path.open("wb") as file:
        writer = rdb.RdbWriter(file.write)
        writer.aux(b"valkey-ver", b"9.0.1\xff")
        writer.aux(b"ctime", b"1795165200")
        writer.function(b"#!lua name=one\n")
        for at_ms in (1, 2, 1 << 62):
            writer.key(b"until %d" % at_ms, 0, b"v", at_ms)
        writer.end()
    assert run(["check", str(path), str(KEYS)]) == exits.OK
    out = capsys.readouterr().out
    assert "written by Valkey 9.0.1\\xff, 2026-11-20T09:00:00Z" in out
    assert "3 with an expiry, which is past for 2 of them" in out
    assert "1 function library\n" in out
    assert "written by Redis 7.0.15, 2026-" in out


def test_check_quiet_says_nothing_of_whole_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "-q", str(KEYS)]) == exits.OK
    assert capsys.readouterr() == ("", "")


def test_check_of_damaged_file_tells_offset_key_and_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["check", str(CUT), str(KEYS)]) == exits.DAMAGED
    out, err = capsys.readouterr()
    assert "damaged at offset 995: the RDB ends early" in err
    assert "in the record of key b'large'" in err
    assert "5 keys before that can be read, the last b'zset' in database 0" in err
    assert "rdb repair keeps these, and looks for more behind the damage" in err
    assert "whole" in out


def test_check_without_checksum_accepts_a_wrong_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(DAMAGED)]) == exits.DAMAGED
    assert "wrong checksum" in capsys.readouterr().err
    assert run(["check", "--no-checksum", str(DAMAGED)]) == exits.OK
    assert "checksum unverified" in capsys.readouterr().out


def test_check_duplicates_finds_a_key_that_stands_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = tmp_path / "once.rdb", tmp_path / "twice.rdb"
    for path in (once, twice):
        with path.open("wb") as out:
            writer = rdb.RdbWriter(out.write)
            for db in (0, 1):
                writer.select_db(db)
                writer.key(b"k", 0, b"v")
            if path is twice:
                writer.key(b"k", 1, [b"v"])
            writer.end()
    assert run(["check", "--duplicates", str(once)]) == exits.OK
    assert run(["check", str(twice)]) == exits.OK
    assert run(["check", "--duplicates", str(twice)]) == exits.DAMAGED
    err = capsys.readouterr().err
    assert "a second key of that name in database 1" in err and "b'k'" in err


def test_check_tells_what_follows_the_end_and_what_redis_skips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "base.rdb"
    path.write_bytes((DATA / "corpus/files/redis__corrupt_empty_keys.rdb").read_bytes() + b"*0\r\n")
    assert run(["check", str(path)]) == exits.OK
    out = capsys.readouterr().out
    assert "4 bytes after the end" in out
    assert "9 collections without elements" in out


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lz4.frame.compress])
def test_check_reads_compressed_files_and_pipes(compress: Any, tmp_path: Path) -> None:
    packed = compress(KEYS.read_bytes())
    path = tmp_path / "packed"
    path.write_bytes(packed)
    assert run(["check", "-q", str(path)]) == exits.OK
    assert piped(["check", "-q", "-"], packed).returncode == exits.OK
    path.write_bytes(packed[: len(packed) // 2])
    assert run(["check", "-q", str(path)]) == exits.DAMAGED


@pytest.mark.parametrize("compress", [gzip.compress, lz4.frame.compress])
@pytest.mark.parametrize("at", [2, 100, 150])
def test_check_of_damaged_compression_is_damage(compress: Any, at: int, tmp_path: Path) -> None:
    packed = bytearray(compress(KEYS.read_bytes(), 9))
    packed[at : at + 4] = b"\xff\x00\xff\x00"
    path = tmp_path / "packed"
    path.write_bytes(packed)
    assert run(["check", "-q", str(path)]) == exits.DAMAGED


def test_unreadable_input_has_its_own_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", str(tmp_path / "none.rdb")]) == exits.UNREADABLE
    assert "none.rdb: No such file or directory" in capsys.readouterr().err
    assert run(["dump", str(tmp_path)]) == exits.UNREADABLE


def test_wrong_usage_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check"]) == exits.USAGE
    assert run(["dump", "--db", "-1", str(KEYS)]) == exits.USAGE
    assert run(["nonsense"]) == exits.USAGE
    assert run(["--help"]) == exits.OK
    assert "Exit status" in capsys.readouterr().out


def test_dump_into_a_closed_pipe_ends_quietly() -> None:
    receiving, sending = os.pipe()
    os.close(receiving)
    path = str(DATA / "goldens" / "strings.rdb")
    done = subprocess.run(
        [*COMMAND, "dump", path], stdout=sending, stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
    os.close(sending)
    assert (done.returncode, done.stderr) == (exits.BROKEN_PIPE, b"")


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (b"*", [b"", b"a\nb"], []),
        (b"a**?", [b"ab", b"abc"], [b"a", b"b"]),
        (b"h[ae]llo", [b"hello", b"hallo"], [b"hillo"]),
        (b"h[^e]llo", [b"hallo", b"h\xffllo"], [b"hello", b"hllo"]),
        (b"[c-a]", [b"a", b"b", b"c"], [b"d", b"-"]),
        (b"[\\]x]", [b"]", b"x"], [b"\\"]),
        (b"[ab", [b"a", b"b"], [b"["]),
        (b"\\*\\", [b"*\\"], [b"a"]),
        (b"a.c+", [b"a.c+"], [b"abc+", b"a.cc"]),
        (b"[]", [], [b"", b"[]", b"a"]),
        (b"[^]", [b"a", b"\n"], [b""]),
        (b"[\xf0-a]", [b"\xff", b"\0", b"a"], [b"\x80", b"b"]),
        (b"*a*b*", [b"ab", b"xaxbx", b"aab"], [b"ba", b"a", b""]),
        (b"a*ab", [b"aab", b"aaab"], [b"ab", b"aabb"]),
    ],
)
def test_glob_matches_as_redis_does(
    pattern: bytes, matching: list[bytes], others: list[bytes]
) -> None:
    expression = compile_glob(pattern)
    assert all(expression.fullmatch(text) for text in matching)
    assert not any(expression.fullmatch(text) for text in others)


def test_glob_of_many_stars_takes_no_longer_than_one() -> None:
    """A power of the length would be hours here."""
    assert not compile_glob(b"*a" * 30 + b"*b").fullmatch(b"a" * 1000)


def test_glob_is_that_of_the_server() -> None:
    rng = random.Random(3)
    for _ in range(20_000):
        pattern = bytes(rng.choices(b"*?[]^-\\ab\x80\xff", k=rng.randrange(1, 9)))
        text = bytes(rng.choices(b"ab-]\x80\xff\n", k=rng.randrange(1, 6)))
        assert bool(compile_glob(pattern).fullmatch(text)) == glob.match(pattern, text), pattern


@pytest.mark.parametrize("compress", [gzip.compress, lz4.frame.compress])
def test_dump_of_compressed_file_that_is_cut_gives_every_key_before(
    compress: Callable[[bytes], bytes], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    writer = rdb.RdbWriter((whole := bytearray()).extend)
    for number in range(2000):
        writer.key(b"key:%d" % number, 0, os.urandom(100))
    writer.end()
    path = tmp_path / "cut"
    stored = compress(bytes(whole))
    path.write_bytes(stored[: len(stored) * 3 // 4])
    assert run(["dump", "--keys-only", str(path)]) == exits.DAMAGED
    out, err = capfdbinary.readouterr()
    assert 1000 < out.count(b"\n") < 2000
    assert b"the compression is damaged" in err


def test_check_of_compressed_file_that_was_altered_does_not_say_that_it_was_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "altered.gz"
    stored = gzip.compress(KEYS.read_bytes())
    path.write_bytes(stored[:-8] + bytes([stored[-8] ^ 1]) + stored[-7:])
    assert run(["check", str(path)]) == exits.DAMAGED
    assert "the compression is damaged: CRC check failed" in capsys.readouterr().err
    # Damage to the RDB inside stands in front of that, and is told with its own offset.
    inside = bytearray(KEYS.read_bytes())
    inside[-1] ^= 1
    stored = gzip.compress(bytes(inside))
    path.write_bytes(stored[:-8] + bytes([stored[-8] ^ 1]) + stored[-7:])
    assert run(["check", str(path)]) == exits.DAMAGED
    assert f"at offset {len(inside) - 8}: wrong checksum" in capsys.readouterr().err


def test_check_of_file_whose_first_key_is_damaged_speaks_of_no_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.rdb"
    path.write_bytes(b"REDIS0010\x00\x03k")
    assert run(["check", str(path)]) == exits.DAMAGED
    assert "  rdb repair looks for keys behind the damage\n" in capsys.readouterr().err


def test_second_signal_does_not_interrupt_what_the_first_has_begun() -> None:
    cleaned = False
    with pytest.raises(SystemExit) as left, exits.leaving_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned = True
    assert cleaned and left.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("arguments", "descriptor", "name"),
    [
        (["check", "-"], 0, b"standard input"),
        (["diff", str(KEYS), "-"], 0, b"standard input"),
        (["dump", str(KEYS)], 1, b"standard output"),
        (["convert", str(KEYS), "-o", "-"], 1, b"standard output"),
    ],
)
def test_closed_standard_stream_is_an_input_or_output_that_failed(
    arguments: list[str], descriptor: int, name: bytes
) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, cwd=ROOT, check=False,
        preexec_fn=functools.partial(os.close, descriptor),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        exits.UNREADABLE,
        b"rdb: " + name + b": Bad file descriptor\n",
    )


def test_check_without_standard_output_has_the_status() -> None:
    done = subprocess.run(
        [*COMMAND, "check", str(KEYS)], stderr=subprocess.PIPE, cwd=ROOT, check=False,
        preexec_fn=functools.partial(os.close, 1),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (exits.OK, b"")


def test_check_goes_on_after_a_file_that_cannot_be_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["check", str(tmp_path / "missing"), str(tmp_path), str(KEYS)]) == exits.UNREADABLE
    out, err = capsys.readouterr()
    assert "keys.rdb: whole" in out
    assert "missing: No such file" in err and "Is a directory" in err
