"""Huge values in parts: the same elements as in one, for any split, in bounded memory."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rdb
from tests.unit.rdb.samples import GOLDENS, READABLE

SMALL = [path for path in GOLDENS + READABLE if path.stat().st_size < 12_000]


def read(pieces: Iterable[bytes], part_bytes: int) -> list[rdb.Record]:
    reader = rdb.RdbReader(part_bytes=part_bytes)
    records: list[rdb.Record] = []
    for piece in pieces:
        records += reader.feed(piece)
    reader.close()
    return records


def joined(parts: list[rdb.Part]) -> Any:
    """The value that parts are of, as a reader gives it whole."""
    values = [part.value for part in parts]
    if isinstance(values[0], rdb.ExpiringHash):
        expires = {field: at for value in values for field, at in value.expires_at_ms.items()}
        return rdb.ExpiringHash([text for value in values for text in value.fields], expires)
    if isinstance(values[0], rdb.Array):
        return rdb.Array([item for value in values for item in value.elements], values[0].cursor)
    elements = [element for value in values for element in value]
    return elements[::-1] if parts[0].type_code == 5 else elements


def whole_again(records: list[rdb.Record]) -> Iterator[rdb.Record]:
    parts: list[rdb.Part] = []
    for record in records:
        if not isinstance(record, rdb.Part):
            assert not parts
            yield record
            continue
        assert record.number == len(parts)
        parts.append(record)
        if record.is_last:
            assert len(parts) > 1 or record.number == 0
            db, key, type_code, _, *prefix = record[:7]
            yield rdb.Key(db, key, type_code, joined(parts), *prefix)
            parts = []
    assert not parts


@pytest.mark.parametrize("path", GOLDENS + READABLE, ids=lambda path: path.stem)
@pytest.mark.parametrize("part_bytes", [10, 300])
def test_parts_of_every_value_make_the_value(path: Path, part_bytes: int) -> None:
    data = path.read_bytes()
    reader = rdb.RdbReader()
    whole = reader.feed(data)
    records = read([data], part_bytes)
    assert repr(list(whole_again(records))) == repr(whole)


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_parts_are_the_same_for_any_split(path: Path) -> None:
    data = path.read_bytes()
    expected = repr(read([data], 25))
    assert repr(read((data[at : at + 1] for at in range(len(data))), 25)) == expected
    rng = random.Random(path.stem)
    for _ in range(3):
        cuts = [0, *sorted(rng.randrange(len(data) + 1) for _ in range(9)), len(data)]
        assert repr(read((data[a:b] for a, b in itertools.pairwise(cuts)), 25)) == expected


@pytest.mark.parametrize("type_code", [1, 2, 3, 4, 5, 18])
def test_huge_value_in_parts_takes_little_memory(type_code: int) -> None:
    elements = [b"element %d" % n for n in range(200_000)]
    value: Any = elements
    if type_code in (3, 5):
        value = [(element, float(n)) for n, element in enumerate(elements)]
    data = (
        rdb.encode_header()
        + rdb.encode_key(b"k", type_code, value, 7, compress=False)
        + b"\xff"
        + bytes(8)
    )
    assert len(data) > 1_500_000
    del elements, value
    reader = rdb.RdbReader(part_bytes=16_384)
    parts = 0
    tracemalloc.start()
    try:
        for at in range(0, len(data), 4096):
            for record in reader.feed(data[at : at + 4096]):
                parts += isinstance(record, rdb.Part)
                assert not isinstance(record, rdb.Key)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.finished and parts > 50
    assert peak < 32 * 16_384


def test_parts_of_damaged_value_come_before_the_error() -> None:
    head = rdb.encode_header()
    data = head + b"\x01\x01k\x06\x01a\x01b\x01c\x01d\xff"
    reader = rdb.RdbReader(part_bytes=4)
    assert [record.value for record in reader.feed(data[:-1])[1:]] == [[b"a", b"b"], [b"c", b"d"]]  # type: ignore[union-attr]
    with pytest.raises(rdb.RdbError, match="unknown string encoding 63") as caught:
        reader.feed(data[-1:])
    assert (caught.value.key, caught.value.offset) == (b"k", len(data) - 1)
    reader = rdb.RdbReader(part_bytes=4)
    reader.feed(data[:-2])
    with pytest.raises(rdb.RdbError, match="ends early") as caught:
        reader.close()
    assert caught.value.key == b"k"


def test_parts_and_raw_values_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="cannot come in parts"):
        rdb.RdbReader(raw_values=True, part_bytes=1)


def test_file_read_in_parts_gives_them(tmp_path: Path) -> None:
    path = tmp_path / "a.rdb"
    with path.open("wb") as out:
        writer = rdb.RdbWriter(out.write)
        writer.key(b"l", 1, [b"x" * 10] * 10)
        writer.end()
    parts = [r for r in rdb.read(path, part_bytes=50) if isinstance(r, rdb.Part)]
    assert [(len(p.value), p.kind, p.is_last) for p in parts] == [
        (5, "list", False),
        (5, "list", True),
    ]
