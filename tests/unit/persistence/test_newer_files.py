"""Files of servers newer than 7.0: what has an equivalent is loaded, the rest refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rdb
from kvrepl.persistence.snapshot import SnapshotInfo, SnapshotLoader, snapshot_chunks
from rdb.strings import encode_string
from rdb.targets import fit
from tests.unit.commands.session import Session

FILES = Path(__file__).parents[2] / "data/rdb/corpus/files"
PRODUCERS = FILES / "librdb__stream_v13_idmp.rdb"
WHOLE = [
    PRODUCERS,
    FILES / "syn__redis13-keymeta-stream4-synthetic.rdb",
    FILES / "syn__redis15-hash-template-synthetic.rdb",
]
WITH_ARRAYS = [
    FILES / "keshavjha2002__native-types.rdb",
    FILES / "syn__redis14-array-stream5-synthetic.rdb",
]


def raw_keys(path: Path) -> tuple[list[rdb.Key], rdb.Dialect]:
    """The keys of a file, still encoded, and what their encodings mean."""
    reader = rdb.RdbReader(raw_values=True)
    records = reader.feed(path.read_bytes())
    return [record for record in records if isinstance(record, rdb.Key)], reader.dialect


def file_of(version: int, keys: list[rdb.Key]) -> bytes:
    """A file of these encoded keys, without a checksum."""
    body = b"".join(bytes((key.type_code,)) + encode_string(key.key) + key.value for key in keys)
    return b"REDIS%04d\xfe\x00%b\xff%b" % (version, body, bytes(8))


def load(data: bytes, lines: list[str] | None = None) -> dict[str, Any]:
    """Load a file; give what commands say of the keys of database 0, and what is saved of them."""
    session = Session()
    told_lines: list[str] = [] if lines is None else lines
    loader = SnapshotLoader(session.engine.keyspace, log=told_lines.append)
    loader.feed(data)
    loader.close()
    told: dict[str, Any] = {}
    for key in sorted(session.run("KEYS", "*")):
        name = key.decode()
        kind = session.run("TYPE", name)
        told[name] = (kind, session.run("OBJECT", "ENCODING", name), session.run("DUMP", name))
    saved = b"".join(snapshot_chunks(session.engine.keyspace, SnapshotInfo(0, 0)))
    assert all(record.type_code < 20 for record in rdb_keys(saved))
    return told


def rdb_keys(data: bytes) -> list[rdb.Key]:
    return [record for record in rdb.RdbReader().feed(data) if isinstance(record, rdb.Key)]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_newer_file_is_loaded_as_its_conversion_for_7_0(path: Path) -> None:
    keys, dialect = raw_keys(path)
    newer = [key for key in keys if key.type_code > 21 and key.db == 0]
    assert newer
    converted = load(file_of(10, [fit(key, 10, dialect) for key in keys if key.db == 0]))

    loaded = load(path.read_bytes())

    assert loaded == converted
    assert len(loaded) == len([key for key in keys if key.db == 0])


@pytest.mark.parametrize("path", WITH_ARRAYS, ids=lambda path: path.stem)
def test_array_is_refused_by_name_and_the_streams_beside_it_are_loaded(path: Path) -> None:
    keys, dialect = raw_keys(path)
    array = next(key for key in keys if key.kind == "array")
    streams = [key for key in keys if key.kind == "stream"]
    assert {key.type_code for key in streams} == {27}

    with pytest.raises(
        rdb.RdbError, match=r"array cannot be loaded: Redis 7\.0 has none"
    ) as refusal:
        load(path.read_bytes())
    assert refusal.value.key == array.key

    loaded = load(file_of(14, streams))
    assert loaded == load(file_of(10, [fit(key, 10, dialect) for key in streams]))


def test_released_entries_go_to_the_first_consumer_of_their_group() -> None:
    keys, _ = raw_keys(WITH_ARRAYS[1])
    stream = next(key for key in keys if key.type_code == 27)
    value, _ = rdb.decode_value(27, stream.value, 0)
    (group,) = (group for group in value.groups if group.released)
    session = Session()
    loader = SnapshotLoader(session.engine.keyspace)
    loader.feed(file_of(14, [stream]))

    pending = session.run("XPENDING", stream.key.decode(), group.name.decode(), "-", "+", "99")

    assert len(pending) == len(group.pending)
    owners = {entry[0]: entry[1] for entry in pending}
    for entry_id in group.released:
        assert owners[b"%d-%d" % entry_id] == group.consumers[0].name


def test_forgotten_producers_are_told_to_the_operator() -> None:
    lines: list[str] = []
    load(PRODUCERS.read_bytes(), lines)
    assert "Streams of a newer server have lost their lists of producers: 1" in lines
