"""Damaged RDBs: a value or RdbError, never another exception, a hang or runaway memory.

`FUZZ_SEED=n` moves the seeds; a case's seed is in its id. The damage is done to whole files, and,
since a checksum and a header stop most of it early, to single values and packed blobs as well.
"""

from __future__ import annotations

import itertools
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb import lzf
from rdb.blobs import intset, listpack, ziplist, zipmap
from rdb.errors import Incomplete
from tests.unit.rdb.samples import CORPUS, DATA, corpus_path, is_readable

FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
FILES = [corpus_path(entry) for entry in CORPUS if is_readable(entry)]
FILES += [DATA / "goldens" / f"{name}.rdb" for name in ("stream-groups", "keys-lfu", "sets")]
CHECKED = [corpus_path(entry) for entry in CORPUS if entry["checksum"] == "ok"]
FILES = [path for path in FILES if path.stat().st_size < 4_000]


def values_of(path: Path) -> list[tuple[int, bytes, rdb.Dialect]]:
    """(type code, encoded value, dialect of the file) of every key in a file."""
    data = path.read_bytes()
    reader = rdb.RdbReader(raw_values=True, verify_checksum=False)
    records = reader.feed(data)
    return [(r.type_code, r.value, reader.dialect) for r in records if isinstance(r, rdb.Key)]


def damage(data: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut out or repeat a few bytes."""
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if not damaged:
            break
        at = rng.randrange(len(damaged))
        match rng.randrange(6):
            case 0:
                damaged[at] ^= 1 << rng.randrange(8)
            case 1:
                damaged[at] = rng.randrange(256)
            case 2:
                damaged[at] = rng.choice((0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC3, 0xFE, 0xFF))
            case 3:
                del damaged[at : at + rng.randrange(1, 9)]
            case 4:
                damaged[at:at] = damaged[at : at + rng.randrange(1, 9)]
            case _:
                damaged[at : at + 9] = b"\x81" + rng.choice((bytes(7) + b"\xff", b"\xff" * 8))
    return bytes(damaged)


def read_all(data: bytes, pieces: list[int], **options: Any) -> tuple[list[rdb.Record], str]:
    """Records and the error, "" for none."""
    reader = rdb.RdbReader(verify_checksum=False, **options)
    records: list[rdb.Record] = []
    try:
        for begin, end in itertools.pairwise(pieces):
            records += reader.feed(data[begin:end])
        reader.close()
    except rdb.RdbError as error:
        assert 0 <= error.offset <= len(data)
        return records, str(error)
    return records, ""


def check_file(data: bytes, rng: random.Random) -> bool:
    """Read a damaged file whole and in pieces; tell whether it was refused."""
    whole, refused = read_all(data, [0, len(data)])
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 12)))
    in_pieces, refused_again = read_all(data, [0, *cuts, len(data)], accelerate=False)
    assert repr(in_pieces) == repr(whole)
    assert bool(refused) == bool(refused_again)
    pieces = [0, *cuts, len(data)]
    _, refused_in_parts = read_all(data, pieces, part_bytes=rng.choice((1, 30)))
    # The other way round, elements that stand twice in different parts are not seen.
    assert refused or not refused_in_parts
    return bool(refused)


def check_value(type_code: int, data: bytes, dialect: rdb.Dialect) -> bool:
    """Decode a damaged value; tell whether it was refused."""
    try:
        _, end = rdb.decode_value(type_code, data, 0, dialect)
    except (rdb.RdbError, Incomplete):
        return True
    assert 0 < end <= len(data)
    return False


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 10))
def test_damaged_file_gives_records_or_rdb_error(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = {check_file(damage(rng.choice(FILES).read_bytes(), rng), rng) for _ in range(150)}
    assert outcomes == {True, False}


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 10))
def test_damaged_value_gives_a_value_or_rdb_error(seed: int) -> None:
    rng = random.Random(seed)
    outcomes = set()
    for path in rng.sample(FILES, 40):
        for type_code, encoded, dialect in values_of(path)[:8]:
            for _ in range(3):
                outcomes.add(check_value(type_code, damage(encoded, rng), dialect))
    assert outcomes == {True, False}


BLOBS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "listpack": (listpack.decode, listpack.encode([b"a", b"-300", b"x" * 70, b"5000000000"])),
    "listpack-reference": (listpack.decode_reference, listpack.encode([b"ab", b"70000", b""])),
    "ziplist": (
        ziplist.decode,
        b"\x15\x00\x00\x00\x10\x00\x00\x00\x03\x00\x00\x02ab\x04\xf5\x02\x40\x01x\xff",
    ),
    "intset": (intset.decode, intset.encode([1, 70000, -5])),
    "zipmap": (zipmap.decode, b"\x02\x01a\x02\x03bc???\x02kk\x00\x00\xff"),
    "lzf": (lambda blob: lzf.decompress(blob, 300), lzf.compress(b"abcab" * 60) or b""),
    "lzf-reference": (
        lambda blob: lzf.decompress_reference(blob, 300),
        lzf.compress(b"abcab" * 60) or b"",
    ),
}


@pytest.mark.parametrize("name", BLOBS)
def test_damaged_blob_gives_content_or_rdb_error(name: str) -> None:
    decode, blob = BLOBS[name]
    decode(blob)
    rng = random.Random(FIRST_SEED)
    refused = 0
    for _ in range(1500):
        try:
            decode(damage(blob, rng))
        except rdb.RdbError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    "path", [path for path in FILES[::5] if path in CHECKED], ids=lambda path: path.stem
)
def test_file_with_one_byte_flipped_is_refused_by_its_checksum(path: Path) -> None:
    """From version 5 on: whatever the flip turns the content into, the checksum stops it."""
    data = path.read_bytes()
    reader = rdb.RdbReader()
    records = reader.feed(data)
    assert records[-1] == rdb.End("ok")
    rng = random.Random(path.stem)
    for _ in range(60):
        damaged = bytearray(data[: reader.offset])
        at = rng.randrange(9, len(damaged) - 8)
        damaged[at] ^= rng.randrange(1, 256)
        again = rdb.RdbReader()
        with pytest.raises(rdb.RdbError):
            again.feed(bytes(damaged))
            again.close()


def test_damaged_lengths_take_no_memory_beyond_the_input() -> None:
    """Counts and lengths of 2**31 and 2**62 in every type, in a megabyte at most."""
    head = rdb.encode_header()
    claims = (b"\x80\x7f\xff\xff\xff", b"\x81\x3f" + b"\xff" * 7)
    for type_code in range(33):
        for claim in claims:
            for body in (claim, b"\x01" + claim, b"\x01\x01a" + claim, b"\xc3\x05" + claim):
                data = head + bytes((type_code,)) + b"\x01k" + body + bytes(64)
                tracemalloc.start()
                try:
                    read_all(data, [0, len(data)])
                    read_all(data, [0, len(data) // 2, len(data)])
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
                assert peak < 1 << 20, (type_code, body)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 20))
def test_damaged_file_many_times_gives_records_or_rdb_error(seed: int) -> None:
    """A million cases over the seeds."""
    rng = random.Random(f"deep {seed}")
    contents = [path.read_bytes() for path in FILES]
    for _ in range(25_000):
        check_file(damage(rng.choice(contents), rng), rng)
    values = [value for path in FILES for value in values_of(path)]
    for _ in range(25_000):
        type_code, encoded, dialect = rng.choice(values)
        check_value(type_code, damage(encoded, rng), dialect)
