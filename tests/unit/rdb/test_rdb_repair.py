"""`rdb repair`: what is kept of a damaged file, and what is said of the rest."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from rdb.salvage import Lost, Salvage
from tests.unit.rdb.samples import DATA, GOLDENS, READABLE

NEGATIVE = sorted((DATA / "corpus/files").glob("syn__neg-*.rdb"))


def make(count: int = 40) -> tuple[bytes, list[int]]:
    """A file of `count` keys of all sizes, and where each of its key records starts."""
    rng = random.Random(7)
    pieces: list[bytes] = []
    writer = rdb.RdbWriter(pieces.append)
    writer.select_db(0)
    starts = []
    for n in range(count):
        starts.append(writer.written)
        if n % 3:
            writer.key(b"key %d" % n, 0, rng.randbytes(rng.randrange(60)), n or None)
        else:
            writer.key(b"key %d" % n, 17, [(b"m%d" % m, m / 8) for m in range(n + 1)])
    starts.append(writer.written)
    writer.end()
    return b"".join(pieces), starts


def repaired(data: bytes, tmp_path: Path) -> tuple[int, dict[bytes, Any]]:
    damaged, out = tmp_path / "damaged", tmp_path / "out.rdb"
    damaged.write_bytes(data)
    status = run(["repair", str(damaged), "-o", str(out)])
    assert damaged.read_bytes() == data
    # Reading verifies the structure, every value, and the new checksum.
    return status, {r.key: r.value for r in rdb.read(out) if isinstance(r, rdb.Key)}


WHOLE, STARTS = make()


def expected(*lost: int) -> dict[bytes, Any]:
    path_free = rdb.RdbReader()
    keys = [r for r in path_free.feed(WHOLE) if isinstance(r, rdb.Key)]
    return {key.key: key.value for n, key in enumerate(keys) if n not in lost}


@pytest.mark.parametrize("path", GOLDENS + READABLE, ids=lambda path: path.stem)
def test_repair_of_whole_file_changes_nothing(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.rdb"
    assert run(["repair", str(path), "-o", str(out)]) == exits.OK
    assert "not damaged" in capsys.readouterr().err
    records = [list(rdb.read(p, raw_values=True))[:-1] for p in (path, out)]
    assert records[0] == records[1]


def test_repair_of_damaged_value_costs_its_key_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(WHOLE)
    at = WHOLE.index(b"m5", STARTS[30])  # In the listpack, whose frame stays as it is.
    data[at - 1] ^= 0x7F
    assert repaired(bytes(data), tmp_path) == (exits.DAMAGED, expected(30))
    err = capsys.readouterr().err
    assert f"bytes {STARTS[30]:,} to {STARTS[31]:,} lost" in err and "of key b'key 30'" in err
    assert "39 keys in the file = 39 kept + 0 expired + 0 filtered + 0 dropped" in err


@pytest.mark.parametrize("n", [5, 18, 36, 39])
def test_repair_behind_overwritten_bytes_goes_on_at_the_next_key(n: int, tmp_path: Path) -> None:
    for noise in (b"\x00" * 12, b"\xff" * 12, b"text in here"):
        data = bytearray(WHOLE)
        data[STARTS[n] : STARTS[n] + len(noise)] = noise
        status, kept = repaired(bytes(data), tmp_path)
        lost = [m for m in range(n, 40) if STARTS[m] < STARTS[n] + len(noise)]
        assert status == exits.DAMAGED
        assert kept == expected(*lost)


def test_repair_finds_keys_that_a_damaged_length_swallowed(tmp_path: Path) -> None:
    data = bytearray(WHOLE)
    at = WHOLE.index(b"key 20", STARTS[20]) + len(b"key 20")
    assert data[at] < 0x40
    data[at : at + 1] = b"\x3f"  # 63 bytes of value: into the keys behind it.
    status, kept = repaired(bytes(data), tmp_path)
    assert (status, kept) == (exits.DAMAGED, expected(20))


def test_repair_prefers_the_key_inside_what_reads_as_a_key_by_chance(tmp_path: Path) -> None:
    """The rest of the damaged record starts like a string that ends where key 13 does."""
    junk = b"\xf3" * 8 + b"\x00\x01j"
    swallowed = WHOLE[STARTS[13] : STARTS[14]]
    data = WHOLE[: STARTS[13]] + junk + bytes((len(swallowed),)) + WHOLE[STARTS[13] :]
    status, kept = repaired(data, tmp_path)
    assert (status, kept) == (exits.DAMAGED, expected())


@pytest.mark.parametrize("hole_bytes", [100, 600, 200_000])
def test_repair_takes_a_hole_of_zeros_for_a_hole(hole_bytes: int, tmp_path: Path) -> None:
    data = WHOLE[: STARTS[10]] + b"\0" * hole_bytes + WHOLE[STARTS[12] :]
    status, kept = repaired(data, tmp_path)
    assert status == exits.DAMAGED
    assert kept == expected(10, 11)


def test_repair_of_every_truncation_keeps_every_whole_key(tmp_path: Path) -> None:
    for size in range(0, len(WHOLE), 97):
        status, kept = repaired(WHOLE[:size], tmp_path)
        assert status == exits.DAMAGED
        whole = [n for n in range(40) if STARTS[n + 1] <= size]
        assert list(kept) == [b"key %d" % n for n in whole]


def test_repair_with_lost_header_reads_on(tmp_path: Path) -> None:
    assert repaired(b"GARBAGE!!" + WHOLE[9:], tmp_path) == (exits.DAMAGED, expected())
    assert repaired(WHOLE[15:], tmp_path)[0] == exits.DAMAGED


def test_repair_of_altered_text_tells_the_wrong_checksum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = WHOLE.replace(b"key 20", b"kez 20")
    status, kept = repaired(data, tmp_path)
    assert status == exits.DAMAGED and b"kez 20" in kept
    assert "wrong checksum: all is readable" in capsys.readouterr().err


def test_repair_of_cut_compression_keeps_what_came_out(tmp_path: Path) -> None:
    packed = gzip.compress(WHOLE)
    status, kept = repaired(packed[: len(packed) // 2], tmp_path)
    assert status == exits.DAMAGED and len(kept) > 5
    assert all(expected()[key] == value for key, value in kept.items())


@pytest.mark.parametrize("path", NEGATIVE, ids=lambda path: path.stem)
def test_repair_of_every_damaged_file_makes_a_whole_one(path: Path, tmp_path: Path) -> None:
    repaired(path.read_bytes(), tmp_path)
    assert run(["check", "--duplicates", str(tmp_path / "out.rdb")]) == exits.OK


@pytest.mark.parametrize("seed", range(60))
def test_salvage_covers_the_file_whatever_is_flipped(seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(WHOLE)
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    at = 0
    keys = 0
    for found in Salvage(lambda o, n: bytes(data[o : o + n]), len(data)).walk():
        assert found.start == at, "ranges neither overlap nor leave a gap"
        at = found.end
        keys += not isinstance(found, Lost) and isinstance(found.record, rdb.Key)
    assert at == len(data)
    assert keys >= 40 - 5 * 4


def test_repair_never_writes_over_its_input(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.rdb"
    damaged.write_bytes(WHOLE[:500])
    assert run(["repair", str(damaged), "-o", str(damaged)]) == exits.USAGE
    assert damaged.read_bytes() == WHOLE[:500]
