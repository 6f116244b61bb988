"""`kvrepl aof` on the command line: what it says, what it changes, how it exits."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvrepl.cli import main
from kvrepl.persistence.aof import AofReplay
from kvrepl.resp import encode_command
from rdb.cli import exits

DATA = Path(__file__).parents[2] / "data" / "aof"
SET = encode_command([b"SET", b"k", b"v"])
INCR = "appendonly.aof.1.incr.aof"
ROOT = Path(__file__).parents[3]


def run(*arguments: object, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["aof", *map(str, arguments)], input=answer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of redis-server: an empty RDB, then three seconds of commands."""
    return Path(shutil.copytree(DATA / "timestamps", tmp_path / "log"))


def append(folder: Path, data: bytes) -> int:
    """Append to the increment; returns its size before."""
    path = folder / INCR
    size_bytes = path.stat().st_size
    path.write_bytes(path.read_bytes() + data)
    return size_bytes


# --------------------------------------------------------------------- check


@pytest.mark.parametrize("seconds", [999_999_999_999, 999_999_999_999_999_999])
def test_timestamp_beyond_the_calendar_is_shown_as_a_number(folder: Path, seconds: int) -> None:
    append(folder, b"#TS:%d\r\n" % seconds + SET)
    result = run("check", folder)
    assert result.exit_code == exits.OK
    assert f"to second {seconds:,}" in result.output
    (folder / INCR).write_bytes(b"#TS:%d\r\n" % seconds + SET)
    result = run("truncate", "--at", "2026-01-01T00:00:00Z", folder / INCR)
    assert result.exit_code == exits.DAMAGED
    assert f"was written at second {seconds:,}, after 2026-01-01" in result.output


def test_moment_before_the_calendar_is_one_like_any_other(folder: Path) -> None:
    result = run("truncate", "--at", "0001-01-01T00:00:00+14:00", folder)
    assert result.exit_code == exits.DAMAGED
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(("name", "descriptor"), [("check", 1), ("fix", 0)])
def test_closed_standard_stream_is_no_failure(folder: Path, name: str, descriptor: int) -> None:
    append(folder, SET[:-3])
    command = [sys.executable, "-c", "from kvrepl.cli import main; main()"]
    done = subprocess.run(
        [*command, "aof", name, str(folder)], cwd=ROOT, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL if descriptor == 0 else None,
        check=False, preexec_fn=functools.partial(os.close, descriptor),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (exits.DAMAGED, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dump_that_is_told_to_end_says_so_in_its_status(
    number: signal.Signals, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "log")
    command = [sys.executable, "-c", "from kvrepl.cli import main; main()"]
    process = subprocess.Popen([*command, "aof", "dump", str(tmp_path / "log")], cwd=ROOT)
    # It opens the pipe for reading, which is what lets this go on.
    with open(tmp_path / "log", "wb"):
        process.send_signal(number)
        assert process.wait() == 128 + number


def test_check_of_whole_log_says_what_is_in_it(folder: Path) -> None:
    result = run("check", folder)

    assert result.exit_code == exits.OK
    assert result.stdout.splitlines() == [
        "appendonly.aof: 2 files",
        "appendonly.aof.1.base.rdb: whole, base, 89 bytes",
        "  RDB version 10 with 0 keys, written 2026-11-20T10:53:21Z",
        "appendonly.aof.1.incr.aof: whole, increment, 219 bytes",
        "  6 commands, 2026-11-20T10:53:21Z to 2026-11-20T10:53:23Z",
    ]


def test_check_of_torn_tail_says_where_and_what_a_server_does(folder: Path) -> None:
    size = append(folder, SET[:-3])

    result = run("check", folder)

    assert result.exit_code == exits.DAMAGED
    assert f"short read at offset {size + len(SET) - 3}" in result.stdout
    assert f"begins at offset {size}: '*3\\r\\n$3\\r\\nSET" in result.stdout
    assert "aof-load-truncated yes" in result.stdout


def test_check_of_damage_in_the_middle_says_what_can_be_read_after_it(folder: Path) -> None:
    size = append(folder, SET[:-3] + SET)

    result = run("check", folder)

    assert result.exit_code == exits.DAMAGED
    assert f"bad format at offset {size + len(SET) - 2}: expected CR LF" in result.stdout
    again = size + len(SET) - 3
    assert f"from offset {again} on 1 command can be read again" in result.stdout
    dumped = run("dump", "--from", again, folder / INCR)
    assert json.loads(dumped.stdout)["argv"] == ["SET", "k", "v"]


def test_check_of_open_transaction_says_where_it_begins(folder: Path) -> None:
    size = append(folder, encode_command([b"MULTI"]) + SET)

    result = run("check", folder)

    assert result.exit_code == exits.DAMAGED
    assert f"the transaction that has no EXEC begins at offset {size}" in result.stdout


def test_check_names_missing_files_strangers_and_unknown_commands(folder: Path) -> None:
    append(folder, encode_command([b"json.set", b"k", b"$", b"1"]))
    (folder / "notes.txt").write_text("x")
    (folder / "appendonly.aof.1.base.rdb").unlink()

    result = run("check", folder)

    assert result.exit_code == exits.DAMAGED
    assert "appendonly.aof.1.base.rdb: missing" in result.stdout
    assert "will not load: JSON.SET (1)" in result.stdout
    assert "notes.txt: not in the manifest" in result.stdout


def test_check_of_damaged_rdb_says_where(folder: Path) -> None:
    base = folder / "appendonly.aof.1.base.rdb"
    data = bytearray(base.read_bytes())
    data[20] ^= 1
    base.write_bytes(data)

    result = run("check", folder)

    assert result.exit_code == exits.DAMAGED
    assert "the RDB is damaged at offset" in result.stdout


def test_check_of_nothing_exits_unreadable(tmp_path: Path) -> None:
    result = run("check", tmp_path / "nothing")

    assert result.exit_code == exits.UNREADABLE
    assert "No such file or directory" in result.stderr


# ---------------------------------------------------------------------- dump


def test_dump_gives_offsets_times_and_databases(folder: Path) -> None:
    lines = [json.loads(line) for line in run("dump", folder).stdout.splitlines()]

    data = (folder / INCR).read_bytes()
    for line in lines:
        argv = [arg.encode() for arg in line["argv"]]
        assert data[line["offset"] : line["end"]] == encode_command(argv)
    assert [(line["time"] - 1795172001, line["db"], line["argv"][0].upper()) for line in lines] == [
        (0, 0, "SELECT"),
        (0, 0, "SET"),
        (1, 0, "MULTI"),
        (1, 0, "INCR"),
        (1, 0, "INCR"),
        (1, 0, "EXEC"),
        (2, 1, "SELECT"),
        (2, 1, "SET"),
    ]


def test_dump_gives_bytes_that_are_no_text_as_base64(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encode_command([b"SET", b"\xff", "é".encode()]))

    [line] = run("dump", tmp_path / "a").stdout.splitlines()

    assert json.loads(line)["argv"] == ["SET", {"b64": "/w=="}, "é"]


def test_dump_as_resp_of_damaged_log_gives_what_is_whole_and_exits_1(folder: Path) -> None:
    append(folder, SET + encode_command([b"MULTI"]) + SET)

    result = run("dump", "--resp", folder)

    assert result.exit_code == exits.DAMAGED
    assert "open transaction" in result.stderr
    commands = AofReplay().feed(result.stdout_bytes)
    assert [argv for argv, _ in commands][-2:] == [[b"set", b"b", b"2"], [b"SET", b"k", b"v"]]


# ------------------------------------------------------------ fix, truncate


@pytest.mark.parametrize("answer", ["n\n", "", "\n"])
def test_fix_without_a_yes_shows_and_leaves_everything(folder: Path, answer: str) -> None:
    size = append(folder, SET[:-3])
    before = (folder / INCR).read_bytes()

    result = run("fix", folder, answer=answer)

    assert result.exit_code == exits.DAMAGED
    assert f"of {len(before)} would be cut off, from offset {size} on" in result.stdout
    assert (folder / INCR).read_bytes() == before


@pytest.mark.parametrize(("arguments", "answer"), [(["--yes"], ""), ([], "y\n")])
def test_fix_with_a_yes_cuts_and_keeps_what_it_cut(
    folder: Path, arguments: list[str], answer: str
) -> None:
    size = append(folder, SET[:-3])

    assert run("fix", folder, *arguments, answer=answer).exit_code == exits.OK

    assert (folder / INCR).stat().st_size == size
    assert (folder / f"{INCR}.cut-{size}").read_bytes() == SET[:-3]
    assert run("check", folder).exit_code == exits.OK
    assert run("fix", folder).stdout == "Nothing to fix: it is whole.\n"


def test_fix_of_an_earlier_file_needs_to_be_told(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "rewritten-once", tmp_path / "log"))
    base = folder / "appendonly.aof.2.base.aof"
    base.write_bytes(base.read_bytes()[:-1])

    refused = run("fix", "--yes", folder)

    assert refused.exit_code == exits.DAMAGED
    assert "--drop-later-files" in refused.stderr
    assert base.stat().st_size == 372
    assert run("fix", "--yes", "--drop-later-files", folder).exit_code == exits.OK
    assert run("check", folder).exit_code == exits.OK
    assert (folder / "appendonly.aof.2.incr.aof.dropped").stat().st_size == 230


def test_truncate_cuts_what_is_later_and_only_that(folder: Path) -> None:
    assert run("truncate", "--at", "2026-11-20T10:53:22Z", "--yes", folder).exit_code == exits.OK

    times = [json.loads(line)["time"] for line in run("dump", folder).stdout.splitlines()]
    assert sorted(set(times)) == [1795172001, 1795172002]
    again = run("truncate", "--at", "2026-11-20T10:53:22Z", "--yes", folder)
    assert again.exit_code == exits.OK and "Nothing to cut" in again.stdout


def test_truncate_in_an_earlier_file_points_to_restore(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "timestamps", tmp_path / "log"))
    with open(folder / "appendonly.aof.manifest", "a") as manifest:
        manifest.write("file appendonly.aof.2.incr.aof seq 2 type i\n")
    (folder / "appendonly.aof.2.incr.aof").write_bytes(SET)

    result = run("truncate", "--at", 1795172002, "--yes", folder)

    assert result.exit_code == exits.DAMAGED
    assert "kvrepl aof restore" in result.stderr


# ------------------------------------------------------------------- restore


def test_restore_writes_a_log_that_checks_and_says_how_to_start(
    folder: Path, tmp_path: Path
) -> None:
    result = run("restore", "--at", "2026-11-20T11:53:22+01:00", folder, tmp_path / "new")

    assert result.exit_code == exits.OK
    assert f"--dir {tmp_path} --appenddirname new --appendfilename appendonly.aof" in result.stdout
    assert run("check", tmp_path / "new").exit_code == exits.OK


def test_restore_into_the_log_itself_is_refused(folder: Path) -> None:
    names = sorted(os.listdir(folder))
    result = run("restore", "--at", "1795172002", folder, folder / "inner")
    assert result.exit_code == exits.UNREADABLE
    assert "inner: inside the log, which is only read" in result.output
    assert sorted(os.listdir(folder)) == names


def test_restore_to_before_the_base_says_why_not(folder: Path, tmp_path: Path) -> None:
    result = run("restore", "--at", "2026-11-20T10:53:20Z", folder, tmp_path / "new")

    assert result.exit_code == exits.DAMAGED
    assert "the base was written at 2026-11-20T10:53:21Z" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "--at", "2026-11-20T10:53:20", "x", "y"],
        ["restore", "--at", "1795172001", str(DATA / "legacy-3.2.13.aof"), "y"],
        ["dump", "--from", "3", str(DATA / "timestamps")],
        ["truncate", "x"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == exits.USAGE
