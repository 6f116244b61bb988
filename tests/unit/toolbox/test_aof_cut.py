"""Where a log is cut: at damage, at a moment, and what becomes of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvrepl.errors import AofError
from kvrepl.persistence.aof import timestamp
from kvrepl.resp import encode_command
from kvrepl.toolbox.aof_cut import (
    apply_cut,
    parse_moment,
    plan_cut,
    plan_repair,
    restore,
    restore_beside,
    utc,
)
from kvrepl.toolbox.aof_scan import Log, items, open_log
from rdb import RdbWriter

MULTI, EXEC = encode_command([b"MULTI"]), encode_command([b"EXEC"])


def command(name: bytes) -> bytes:
    return encode_command([b"SET", name, b"1"])


def rdb_at(time_s: int | None) -> bytes:
    pieces: list[bytes] = []
    writer = RdbWriter(pieces.append)
    if time_s is not None:
        writer.aux(b"ctime", b"%d" % time_s)
    writer.end()
    return b"".join(pieces)


def log_of(folder: Path, base: bytes, *increments: bytes) -> Log:
    folder.mkdir(exist_ok=True)
    kind = "rdb" if base.startswith(b"REDIS") else "aof"
    lines = [f"file a.1.base.{kind} seq 1 type b"]
    (folder / f"a.1.base.{kind}").write_bytes(base)
    for number, data in enumerate(increments, 1):
        lines.append(f"file a.{number}.incr.aof seq {number} type i")
        (folder / f"a.{number}.incr.aof").write_bytes(data)
    (folder / "a.manifest").write_text("\n".join(lines) + "\n")
    return open_log(folder)


def keys_of(log: Log) -> str:
    """The keys that the commands of a log set, one letter each."""
    return "".join(
        item.argv[1].decode()
        for part in log.parts
        if not part.name.endswith("rdb")
        for item in items(part, 0, part.size_bytes or 0)
        if len(item.argv) == 3
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------- moments


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("2026-11-20T09:00:00Z", 1795165200),
        ("2026-11-20T10:00:00+01:00", 1795165200),
        ("2026-11-20T09:00:00.999Z", 1795165200),
        ("1795165200", 1795165200),
    ],
)
def test_moment_with_a_zone_is_read(text: str, time_s: int) -> None:
    assert parse_moment(text) == time_s
    assert parse_moment(utc(time_s)) == time_s


@pytest.mark.parametrize("text", ["2026-11-20T09:00:00", "2026-11-20", "yesterday", "", "-5"])
def test_moment_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_moment(text)


# ----------------------------------------------------------------- plan_cut

TWO = (
    timestamp(11) + command(b"a") + timestamp(12) + command(b"b") + command(b"c"),
    command(b"d") + timestamp(15) + MULTI + command(b"e") + command(b"f") + EXEC,
)
"""Two increments; the second begins within the last second of the first, as Redis writes it."""


@pytest.mark.parametrize(
    ("at_s", "keys", "files"),
    [(11, "a", 2), (12, "abcd", 3), (14, "abcd", 3), (15, "abcdef", 3), (99, "abcdef", 3)],
)
def test_restore_keeps_what_was_written_up_to_the_moment(
    tmp_path: Path, at_s: int, keys: str, files: int
) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), *TWO)
    before = contents(tmp_path / "log")

    written = restore(log, plan_cut(log, at_s), tmp_path / "new")

    assert keys_of(written) == keys
    assert len(written.parts) == files
    assert contents(tmp_path / "log") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "new"]


def test_restore_of_a_moment_before_every_command_is_the_base(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), *TWO)

    assert keys_of(restore(log, plan_cut(log, 10), tmp_path / "new")) == ""


@pytest.mark.parametrize("base", [rdb_at(10), timestamp(10) + command(b"x")])
def test_plan_cut_before_the_base_refuses_and_says_its_date(tmp_path: Path, base: bytes) -> None:
    log = log_of(tmp_path, base, *TWO)

    with pytest.raises(AofError, match=r"the base was written at 1970-01-01T00:00:10Z"):
        plan_cut(log, 9)


@pytest.mark.parametrize(
    ("increment", "count"),
    [(command(b"a") * 3, 3), (command(b"a") + timestamp(20) + command(b"b"), 1)],
)
def test_plan_cut_of_commands_without_a_date_refuses_unless_told(
    tmp_path: Path, increment: bytes, count: int
) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), increment)

    with pytest.raises(AofError, match=f"{count} commands from offset 0 on have no timestamp"):
        plan_cut(log, 15)
    kept = plan_cut(log, 15, undated="keep")
    assert keys_of(restore(log, kept, tmp_path / "kept")) == "a" * count
    dropped = plan_cut(log, 15, undated="drop")
    assert keys_of(restore(log, dropped, tmp_path / "dropped")) == ""


def test_plan_cut_of_commands_before_a_timestamp_up_to_the_moment_counts_them(
    tmp_path: Path,
) -> None:
    log = log_of(tmp_path / "log", rdb_at(None), command(b"a") + timestamp(12) + command(b"b"))

    assert keys_of(restore(log, plan_cut(log, 12), tmp_path / "new")) == "ab"


def test_plan_cut_of_base_without_a_date_needs_keep(tmp_path: Path) -> None:
    log = log_of(tmp_path, command(b"a"), b"")

    for undated in ("refuse", "drop"):
        with pytest.raises(AofError, match="no timestamp"):
            plan_cut(log, 12, undated=undated)
    assert not plan_cut(log, 12, undated="keep").changes_anything


def test_plan_cut_with_torn_last_file_takes_what_is_whole(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), TWO[0] + command(b"z")[:-4])

    assert keys_of(restore(log, plan_cut(log, 99), tmp_path / "new")) == "abc"


def test_plan_cut_with_damage_refuses_only_a_moment_after_it(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), TWO[0][:-4], TWO[1])

    with pytest.raises(AofError, match="short read before"):
        plan_cut(log, 99)
    assert keys_of(restore(log, plan_cut(log, 11), tmp_path / "new")) == "a"


def test_restore_onto_something_refuses_and_leaves_it(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), *TWO)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").write_bytes(b"1")

    with pytest.raises(FileExistsError):
        restore(log, plan_cut(log, 99), tmp_path / "new")

    assert contents(tmp_path / "new") == {"precious": b"1"}


def test_restore_that_fails_leaves_nothing(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", rdb_at(10), *TWO)
    cut = plan_cut(log, 99)
    (tmp_path / "log" / "a.2.incr.aof").unlink()  # a rewrite of the running server finished

    with pytest.raises(FileNotFoundError):
        restore(log, cut, tmp_path / "new")

    assert [p.name for p in tmp_path.iterdir()] == ["log"]


# --------------------------------------------------------- repair, in place


def test_repair_of_a_log_cut_at_every_byte_keeps_whole_transactions(tmp_path: Path) -> None:
    whole = command(b"a") + MULTI + command(b"b") + command(b"c") + EXEC
    ends = (0, len(command(b"a")), len(whole))
    for size in range(len(whole)):
        folder = tmp_path / str(size)
        log = log_of(folder, rdb_at(10), whole[:size])
        cut = plan_repair(log)
        if size in ends:
            assert cut is None
            continue
        assert cut is not None
        [saved] = apply_cut(log, cut)
        kept = (folder / "a.1.incr.aof").read_bytes()
        assert len(kept) == max(end for end in ends if end < size)
        assert kept + saved.read_bytes() == whole[:size]
        assert plan_repair(open_log(folder)) is None


def test_apply_cut_in_an_earlier_file_takes_later_ones_out_and_keeps_them(tmp_path: Path) -> None:
    log = log_of(tmp_path, rdb_at(10), TWO[0][:-4], TWO[1])
    cut = plan_repair(log)
    assert cut is not None and [p.name for p in cut.dropped] == ["a.2.incr.aof"]

    saved = apply_cut(log, cut)

    after = open_log(tmp_path)
    assert [p.name for p in after.parts] == ["a.1.base.rdb", "a.1.incr.aof"]
    assert keys_of(after) == "ab"
    assert saved[1].name == "a.2.incr.aof.dropped" and saved[1].read_bytes() == TWO[1]


def test_apply_cut_never_overwrites_what_an_earlier_one_kept(tmp_path: Path) -> None:
    log = log_of(tmp_path, rdb_at(10), command(b"a")[:-1])
    (tmp_path / "a.1.incr.aof.cut-0").write_bytes(b"earlier")
    cut = plan_repair(log)
    assert cut is not None

    with pytest.raises(FileExistsError):
        apply_cut(log, cut)

    assert (tmp_path / "a.1.incr.aof").read_bytes() == command(b"a")[:-1]


@pytest.mark.parametrize("damage", ["missing", "rdb"])
def test_plan_repair_where_no_cut_helps_refuses(tmp_path: Path, damage: str) -> None:
    log_of(tmp_path, rdb_at(10), TWO[0])
    if damage == "missing":
        (tmp_path / "a.1.incr.aof").unlink()
    else:
        (tmp_path / "a.1.base.rdb").write_bytes(rdb_at(10)[:-5])

    with pytest.raises(AofError, match="not there" if damage == "missing" else "RDB is damaged"):
        plan_repair(open_log(tmp_path))


def test_restore_beside_names_the_folder_after_its_moment(tmp_path: Path) -> None:
    data = timestamp(10) + command(b"a") + timestamp(12) + command(b"b")
    log = log_of(tmp_path / "log", rdb_at(9), data)

    written, cut = restore_beside(log.folder, "a", 11)

    assert written.folder == tmp_path / "log-19700101T000011Z"
    assert keys_of(written) == "a"
    assert cut.cut_bytes == len(timestamp(12) + command(b"b"))
    assert keys_of(open_log(log.folder)) == "ab"
    with pytest.raises(FileExistsError, match="there is something already"):
        restore_beside(log.folder, "a", 11)
    with pytest.raises(FileExistsError, match="restored to that moment already"):
        restore_beside(written.folder, "a", 11)
