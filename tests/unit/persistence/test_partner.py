"""The partner: what it finds is what the loader would have, and nothing depends on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rdb
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.persistence.partner import Found, is_for_partner, read_along, runs_of
from kvrepl.persistence.snapshot import SnapshotInfo, SnapshotLoader, snapshot_chunks
from rdb.constants import TYPE_STRING
from rdb.keys import parse_keys, skip_keys
from tests.unit.rdb.samples import READABLE
from tests.unit.rdb.test_rdb_packed import FILES, VALUES

CHUNK_BYTES = 4_000
NOW_MS = 1_000_000
SMALL = [
    (type_code, value)
    for type_code, value, _ in VALUES
    if len(rdb.encode_value(type_code, value)) < 1_000
]
TEXT = b"x" * 70
Runs = Callable[[], dict[int, Found]]


def dump(seed: int, keys: int = 600) -> bytes:
    """Make an RDB of every type that is kept packed and some that are not, in three databases."""
    rng = random.Random(seed)
    pieces: list[bytes] = []
    writer = rdb.RdbWriter(pieces.append)
    for number in range(3):
        writer.select_db(number, keys // 3, 0)
        for key in range(keys // 3):
            type_code, value = rng.choice([*SMALL, (TYPE_STRING, TEXT)])
            expires_at_ms = rng.choice((None, None, NOW_MS + key, NOW_MS - 1))
            name = b"key:%d:%d" % (number, key)
            writer.key(name, type_code, value, expires_at_ms=expires_at_ms, compress=bool(key % 2))
    writer.end()
    return b"".join(pieces)


def chunks_of(data: bytes, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def load(data: bytes, runs: Runs = dict, size: int = CHUNK_BYTES) -> tuple[Any, ...]:
    """Load; give all that can be told of the outcome."""
    keyspace = Keyspace(4)
    loader = SnapshotLoader(keyspace, drop_expired_at_ms=NOW_MS, runs=runs)
    error = ""
    try:
        for chunk in chunks_of(data, size):
            loader.feed(chunk)
        loader.close()
    except rdb.RdbError as refused:
        error = str(refused)
    kinds = [{key: type(value) for key, value, _ in db.items()} for db in keyspace.databases]
    content = b"".join(snapshot_chunks(keyspace, SnapshotInfo(0, 0)))
    held = [(db.held, db.expiring, db.earliest_ms) for db in keyspace.databases]
    return content, kinds, held, loader.loaded, error


class Partner:
    """A partner in this process, and how much of what it found was asked for."""

    def __init__(self, data: bytes, size: int = CHUNK_BYTES) -> None:
        self._messages = read_along(chunks_of(data, size), Keyspace(1).limits, NOW_MS)
        self._number = -1
        self.keys = 0

    def __call__(self) -> dict[int, Found]:
        self._number += 1
        if not is_for_partner(self._number):
            return {}
        message = next(self._messages, None)
        runs = {} if message is None else runs_of(message)
        self.keys += sum(len(found.run.keys) for found in runs.values())
        return runs


@pytest.mark.parametrize("size", [700, CHUNK_BYTES, 1 << 30])
def test_load_with_a_partner_is_the_load_without(size: int) -> None:
    data = dump(7)
    partner = Partner(data, size)
    assert load(data, partner, size) == load(data, size=size)
    assert partner.keys > (100 if size < len(data) else -1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_load_of_any_file_with_a_partner_is_the_load_without(path: Any) -> None:
    data = path.read_bytes()
    assert load(data, Partner(data, 200), 200) == load(data, size=200)


def test_run_is_taken_and_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump(8)
    expected = load(data)
    messages = [*read_along(chunks_of(data), Keyspace(1).limits, NOW_MS)]
    parsed: list[int] = []

    def counted(data: bytes, pos: int, *rest: Any) -> Any:
        before = rdb.load_keys(data, pos, *rest)
        parsed.append(before[1])
        return before

    monkeypatch.setattr("kvrepl.persistence.snapshot.load_keys", counted)
    number = -1

    def runs() -> dict[int, Found]:
        nonlocal number
        number += 1
        return runs_of(messages.pop(0)) if is_for_partner(number) else {}

    assert load(data, runs) == expected
    assert sum(parsed) < expected[3].keys / 2


def test_runs_of_other_bytes_are_not_taken() -> None:
    data, other = dump(9), dump(10)
    assert len(data) != len(other)
    assert load(data, Partner(other)) == load(data)
    # Of the same layout: only the bytes of one value differ.
    changed = data.replace(TEXT, TEXT.upper())
    assert changed != data
    assert load(data, Partner(changed)) == load(data)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_load_goes_on_alone_where_the_partner_has_ended(after: int) -> None:
    data = dump(11)
    partner = Partner(data)
    asked = 0

    def runs() -> dict[int, Found]:
        nonlocal asked
        asked += 1
        return partner() if asked <= after else {}

    assert load(data, runs) == load(data)


def test_damage_is_told_by_the_loader_as_without_a_partner() -> None:
    data = dump(12)
    rng = random.Random(3)
    refused = 0
    for _ in range(60):
        at = rng.randrange(len(data))
        damaged = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
        damaged = rng.choice((damaged, damaged[:at]))
        outcome = load(damaged, Partner(damaged))
        assert outcome == load(damaged)
        refused += bool(outcome[4])
    assert refused > 50


def test_key_that_is_there_twice_is_refused_by_name() -> None:
    pieces: list[bytes] = []
    writer = rdb.RdbWriter(pieces.append)
    writer.select_db(0, 300, 0)
    for number in range(300):
        key = b"twin" if number in (100, 200) else b"key:%d" % number
        writer.key(key, TYPE_STRING, b"value of seventy bytes" * 3)
    writer.end()
    data = b"".join(pieces)
    outcome = load(data, Partner(data))
    assert outcome == load(data)
    assert "twice" in outcome[4] and "twin" in outcome[4]


@pytest.mark.parametrize("path", READABLE, ids=lambda path: path.stem)
def test_skip_keys_ends_where_parse_keys_does(path: Any) -> None:
    data = path.read_bytes()
    limits = Keyspace(1).limits
    skipped = 0

    def take(data: bytes, pos: int, db: int) -> int:
        nonlocal skipped
        run = parse_keys(data, pos, limits, None)
        for count in {1, len(run.keys) // 2, len(run.keys)} - {0}:
            if count <= len(run.keys):
                end = skip_keys(data[: run.end], pos, count)
                assert (end == run.end) == (count == len(run.keys))
                assert parse_keys(data[:end], pos, limits, None).keys == run.keys[:count]
                skipped += 1
        return run.end

    rdb.RdbReader(take=take).feed(data)
