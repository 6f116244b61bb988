"""What the tools see in the files of a log: parts, whole commands, dates, and life after damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.errors import AofError
from kvrepl.persistence.aof import AofReplay, EndKind, select, timestamp
from kvrepl.resp import encode_command
from kvrepl.toolbox import aof_scan
from kvrepl.toolbox.aof_scan import Part, items, open_log, salvage, scan

DATA = Path(__file__).parents[2] / "data" / "aof"
SET = encode_command([b"SET", b"k", b"v"])
MULTI, EXEC = encode_command([b"MULTI"]), encode_command([b"EXEC"])

ARGUMENTS = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"\n#TS:5\r\n", b"#", b"*1\r\n$4\r\nPING\r\n", b""])
)
PIECES = st.one_of(
    st.lists(ARGUMENTS, min_size=1, max_size=4).map(encode_command),
    st.integers(0, 2**40).map(timestamp),
    st.sampled_from([MULTI, EXEC, b"#a comment\n"]),
)


def part_of(folder: Path, data: bytes, name: str = "a.aof") -> Part:
    path = folder / name
    path.write_bytes(data)
    return open_log(path).parts[0]


# ------------------------------------------------------------------ open_log


@pytest.mark.parametrize("name", ["rewritten-once", "rewritten-once/appendonly.aof.manifest"])
def test_open_log_of_folder_or_manifest_finds_files_in_reading_order(name: str) -> None:
    log = open_log(DATA / name)

    assert [(p.name, p.type, p.size_bytes) for p in log.parts] == [
        ("appendonly.aof.2.base.aof", "b", 373),
        ("appendonly.aof.2.incr.aof", "i", 230),
    ]
    assert (log.layout.filename, log.layout.dirname) == ("appendonly.aof", "rewritten-once")
    assert log.strangers() == []


def test_open_log_of_single_file_has_no_manifest() -> None:
    log = open_log(DATA / "legacy-3.2.13.aof")

    assert log.manifest is None and log.strangers() == []
    assert [(p.name, p.type) for p in log.parts] == [("legacy-3.2.13.aof", "")]


def test_open_log_with_missing_file_and_stranger_names_both(tmp_path: Path) -> None:
    (tmp_path / "x.manifest").write_bytes(b"file x.1.incr.aof seq 1 type i\n")
    (tmp_path / "x.2.incr.aof").write_bytes(b"")

    log = open_log(tmp_path)

    assert log.parts[0].size_bytes is None
    assert log.strangers() == ["x.2.incr.aof"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no manifest"),
        (["temp-a.manifest"], "no manifest"),
        (["a.manifest", "b.manifest"], "2 manifests"),
    ],
)
def test_open_log_without_one_manifest_refuses(
    tmp_path: Path, names: list[str], message: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"file x seq 1 type b\n")

    with pytest.raises(AofError, match=message):
        open_log(tmp_path)


# ---------------------------------------------------------------------- scan


def test_scan_of_rdb_base_says_version_keys_and_date() -> None:
    base, incr = map(scan, open_log(DATA / "timestamps").parts)

    assert base.is_whole and incr.is_whole
    assert (base.rdb_version, base.rdb_keys, base.rdb_bytes) == (10, 0, 89)
    assert base.written_s == 1795172001
    assert (incr.first_s, incr.last_s, incr.commands) == (1795172001, 1795172003, 6)


def test_scan_of_commands_after_rdb_reads_both(tmp_path: Path) -> None:
    rdb = (DATA / "timestamps/appendonly.aof.1.base.rdb").read_bytes()

    found = scan(part_of(tmp_path, rdb + SET + SET[:-3]))

    assert (found.rdb_bytes, found.commands, found.end.kind) == (89, 1, EndKind.SHORT_READ)
    assert found.end.valid_up_to_bytes == 89 + len(SET)


def test_scan_of_rdb_cut_anywhere_finds_an_error_and_no_commands(tmp_path: Path) -> None:
    rdb = (DATA / "timestamps/appendonly.aof.1.base.rdb").read_bytes()
    for size in range(5, len(rdb)):
        found = scan(part_of(tmp_path, rdb[:size]))
        assert found.rdb_error is not None and not found.is_whole


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 18])
def test_scan_counts_commands_before_the_first_timestamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(aof_scan, "CHUNK_BYTES", chunk_bytes)
    inside = encode_command([b"SET", b"k", b"\n#TS:1\r\n"])

    found = scan(part_of(tmp_path, inside + SET + timestamp(5) + SET + timestamp(7) + SET))

    assert (found.undated, found.commands) == (2, 4)
    assert (found.first_s, found.last_s) == (5, 7)


def test_scan_strictly_refuses_an_argument_that_runs_into_the_next(tmp_path: Path) -> None:
    part = part_of(tmp_path, SET + MULTI + SET + SET[:-3] + SET)  # the last value lost its end

    loaded, checked = scan(part), scan(part, strict=True)

    assert loaded.whole_up_to > checked.whole_up_to == len(SET + MULTI + SET)
    assert checked.end.kind is EndKind.BAD_FORMAT
    assert checked.end.valid_up_to_bytes == len(SET)
    assert checked.end.offset == len(SET + MULTI + SET + SET) - 2


@pytest.mark.parametrize("chunk_bytes", [7, 64, 4096])
def test_scan_strictly_sees_every_wrong_terminator(
    chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aof_scan, "CHUNK_BYTES", chunk_bytes)
    # The third is no form that a server writes, and none that it refuses.
    data = SET + timestamp(5) + b"*01\r\n$004\r\nPING\r\n" + MULTI + SET + EXEC
    assert scan(part_of(tmp_path, data), strict=True).is_whole
    for command in (SET, MULTI, EXEC):
        at = data.rindex(command) + len(command) - 2
        for wrong in (b"\n\r", b"\r\r", b"xy"):
            damaged = data[:at] + wrong + data[at + 2 :]
            checked = scan(part_of(tmp_path, damaged), strict=True)
            assert checked.end.kind is EndKind.BAD_FORMAT
            assert (checked.end.offset, checked.whole_up_to) == (at, data.rindex(command))


def test_scan_with_limit_stops_before_a_transaction_that_goes_beyond_it(tmp_path: Path) -> None:
    part = part_of(tmp_path, timestamp(5) + SET + MULTI + SET + timestamp(6) + SET + EXEC)

    found = scan(part, stop_after_s=5)

    assert found.stopped and found.commands == 1
    assert found.end.valid_up_to_bytes == len(timestamp(5) + SET)


# --------------------------------------------------------------------- items


@given(st.lists(PIECES, max_size=8))
def test_items_are_what_the_loader_reads(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    data = b"".join(pieces)
    part = part_of(tmp_path_factory.getbasetemp(), data, "items.aof")
    replay = AofReplay()
    expected = replay.feed(data)

    found = list(items(part, 0, replay.offset))

    assert [data[i.offset : i.end] for i in found] == pieces
    outside: list[tuple[list[bytes], int]] = []
    queue: list[tuple[list[bytes], int]] | None = None
    for item in found:
        name = item.argv[0].upper() if item.argv else b""
        if name == b"MULTI":
            queue = [] if queue is None else queue
        elif name == b"EXEC":
            outside += queue or []
            queue = None
        elif item.annotation is None:
            (outside if queue is None else queue).append((item.argv, item.end))
    assert outside == expected


# ------------------------------------------------------------------- salvage


def test_salvage_after_damage_finds_the_next_commands(tmp_path: Path) -> None:
    torn = b"*3\r\n$3\r\nSET\r\n$1\r\nq\r\nxx\r\n"
    part = part_of(tmp_path, SET + torn + select(1) + SET + SET)
    found = scan(part)
    assert found.end.kind is EndKind.BAD_FORMAT

    again = salvage(part, found.whole_up_to)

    assert again is not None
    assert again[0] == len(SET + torn)
    assert again[1].commands == 3 and again[1].is_whole


@pytest.mark.parametrize("chunk_bytes", range(1, 16))
def test_salvage_finds_a_command_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(aof_scan, "CHUNK_BYTES", chunk_bytes)
    part = part_of(tmp_path, b"?" * 20 + SET)

    again = salvage(part, 0)

    assert again is not None and again[0] == 20


def test_salvage_where_nothing_follows_finds_none(tmp_path: Path) -> None:
    part = part_of(tmp_path, SET + b"?" * 100 + SET[:-1])

    assert salvage(part, len(SET)) is None
