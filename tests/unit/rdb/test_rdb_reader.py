"""The push parser: any split, any cut, what follows the end, and how errors come out."""

from __future__ import annotations

import itertools
import json
import random
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import rdb
from rdb.errors import Incomplete
from rdb.measure import end_of_value, measure_value
from tests.unit.rdb.samples import DATA, GOLDENS, READABLE

SMALL = [path for path in GOLDENS if path.stat().st_size < 12_000]
TYPICAL = [path for path in READABLE if path.stat().st_size < 1_500]


def read_in_pieces(pieces: Iterable[bytes], **options: Any) -> list[rdb.Record]:
    reader = rdb.RdbReader(**options)
    records: list[rdb.Record] = []
    for piece in pieces:
        records += reader.feed(piece)
    reader.close()
    return records


def cut_at_random(data: bytes, rng: random.Random, pieces: int) -> list[bytes]:
    cuts = [0, *sorted(rng.randrange(len(data) + 1) for _ in range(pieces)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


@pytest.mark.parametrize("path", SMALL + TYPICAL, ids=lambda path: path.stem)
def test_reader_fed_byte_by_byte_gives_the_same_records(path: Path) -> None:
    data = path.read_bytes()
    whole = read_in_pieces([data])
    assert read_in_pieces(data[i : i + 1] for i in range(len(data))) == whole
    assert read_in_pieces([data], accelerate=False) == whole


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_reader_fed_random_pieces_gives_the_same_records(path: Path) -> None:
    data = path.read_bytes()
    whole = read_in_pieces([data])
    rng = random.Random(path.stem)
    for pieces in (1, 2, 10, 100):
        assert read_in_pieces(cut_at_random(data, rng, pieces)) == whole
    for buffer in (bytearray(data), memoryview(data)):
        assert read_in_pieces([buffer]) == whole  # type: ignore[list-item]


@pytest.mark.parametrize("path", SMALL + TYPICAL, ids=lambda path: path.stem)
def test_reader_cut_anywhere_keeps_the_records_before_and_refuses_to_close(path: Path) -> None:
    data = path.read_bytes()
    reader = rdb.RdbReader()
    whole = reader.feed(data)
    length = reader.offset  # Some files of old releases go on after the end.
    for cut in range(0, length, max(1, length // 400)):
        reader = rdb.RdbReader()
        records = reader.feed(data[:cut])
        assert records == whole[: len(records)]
        assert len(records) < len(whole)
        assert not reader.finished
        assert reader.offset <= cut
        with pytest.raises(rdb.RdbError, match="ends early"):
            reader.close()


@pytest.mark.parametrize("path", GOLDENS + READABLE, ids=lambda path: path.stem)
def test_measure_agrees_with_decode_on_every_value(path: Path) -> None:
    """The walk that finds the end and the decoder that makes the value are two descriptions."""
    data = path.read_bytes()
    decoded = [r for r in read_in_pieces([data]) if isinstance(r, rdb.Key)]
    raw = [r for r in read_in_pieces([data], raw_values=True) if isinstance(r, rdb.Key)]
    reader = rdb.RdbReader()
    reader.feed(data)
    dialect = reader.dialect
    assert [key.key for key in raw] == [key.key for key in decoded]
    for whole, packed in zip(decoded, raw, strict=True):
        value, end = rdb.decode_value(whole.type_code, packed.value, 0, dialect)
        assert (value, end) == (whole.value, len(packed.value))
        assert end_of_value(whole.type_code, packed.value + b"?", 0, dialect) == end
        for cut in {0, end // 3, end // 2, end - 1}:
            with pytest.raises(Incomplete) as caught:
                end_of_value(whole.type_code, packed.value[:cut], 0, dialect)
            assert cut < caught.value.needed


def test_measure_resumed_takes_each_element_once() -> None:
    elements = [b"element %d" % i for i in range(20_000)]
    data = rdb.encode_value(1, elements)
    buffer = bytearray()
    walk = measure_value(1, buffer, 0)
    steps = 0
    end = -1
    fed = 0
    while end < 0:
        try:
            needed = next(walk)
        except StopIteration as stop:
            end = stop.value
        else:
            steps += 1
            assert len(buffer) < needed <= len(data)
            fed = max(needed, fed + 100)
            buffer += data[len(buffer) : fed]
    assert end == len(data)
    assert steps <= len(data) // 100 + 2


def test_reader_fed_a_huge_list_in_small_pieces_decodes_it_once() -> None:
    elements = [b"element %d" % i for i in range(20_000)]
    data = rdb.encode_header() + rdb.encode_key(b"l", 1, elements) + b"\xff" + bytes(8)
    attempts = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal attempts
        attempts += event == "call" and frame.f_code is rdb.decode_value.__code__

    sys.setprofile(count)
    try:
        records = read_in_pieces(data[i : i + 50] for i in range(0, len(data), 50))
    finally:
        sys.setprofile(None)
    assert isinstance(records[1], rdb.Key) and records[1].value == elements
    # Once when it began, once when all of it was there.
    assert attempts == 2


def test_reader_keeps_what_follows_the_end() -> None:
    data = (DATA / "goldens" / "keys.rdb").read_bytes()
    reader = rdb.RdbReader()
    records = reader.feed(data + b"*1\r\n")
    assert reader.finished and isinstance(records[-1], rdb.End)
    assert reader.unused == b"*1\r\n"
    assert reader.feed(b"$4\r\nPING") == []
    assert reader.unused == b"*1\r\n$4\r\nPING"
    assert reader.offset == len(data)
    reader.close()


def test_reader_offset_counts_whole_records() -> None:
    head = rdb.encode_header() + rdb.encode_select_db(0)
    key = rdb.encode_key(b"key", 0, b"value")
    reader = rdb.RdbReader()
    assert reader.feed(head + key[:-1]) == [rdb.Header(10), rdb.SelectDb(0)]
    assert reader.offset == len(head)
    assert reader.feed(key[-1:]) == [rdb.Key(0, b"key", 0, b"value")]
    assert reader.offset == len(head + key)


def test_reader_gives_records_before_the_damage_and_then_the_error() -> None:
    head = rdb.encode_header() + rdb.encode_key(b"good", 0, b"value")
    bad = rdb.encode_key(b"bad", 11, b"\x03\x00\x00\x00\x00\x00\x00\x00")
    reader = rdb.RdbReader()
    assert len(reader.feed(head + bad)) == 2
    for _ in range(2):
        with pytest.raises(rdb.RdbError, match="intset of width 3") as caught:
            reader.feed(b"more")
        assert caught.value.key == b"bad"
        assert caught.value.offset == len(head) + len(b"\x0b\x03bad")
    with pytest.raises(rdb.RdbError, match="intset"):
        reader.close()


def test_reader_damage_inside_a_measured_value_names_key_and_offset() -> None:
    head = rdb.encode_header()
    reader = rdb.RdbReader()
    reader.feed(head + b"\x01\x01k\x03\x01a")
    with pytest.raises(rdb.RdbError, match="unknown string encoding 63") as caught:
        reader.feed(b"\x01b\xff")
    assert (caught.value.key, caught.value.offset) == (b"k", len(head) + 8)


@pytest.mark.parametrize("data", [b"R", b"REDIS00", b"VALK"])
def test_reader_with_half_a_header_waits(data: bytes) -> None:
    assert rdb.RdbReader().feed(data) == []


@pytest.mark.parametrize(
    "data", [b"X", b"VALXEY", b"REDIZ", b"-ERR no such thing", b"REDIS0000", b"REDIS00x1"]
)
def test_reader_of_something_else_refuses_at_once(data: bytes) -> None:
    with pytest.raises(rdb.RdbError):
        rdb.RdbReader().feed(data)


@pytest.mark.parametrize("version", [16, 99, 9999])
def test_reader_of_a_newer_version_names_it(version: int) -> None:
    with pytest.raises(rdb.RdbError, match=f"REDIS{version:04d} cannot be read"):
        rdb.RdbReader().feed(rdb.encode_header(version))


@pytest.mark.parametrize(
    ("type_code", "value", "reason"),
    [
        (2, b"\x02\x01a\x01a", "duplicate set member"),
        (4, b"\x02\x01a\x01b\x01a\x01c", "duplicate hash field"),
        (5, b"\x02\x01a" + bytes(8) + b"\x01a" + bytes(8), "duplicate sorted set member"),
        (5, b"\x01\x01a\x00\x00\x00\x00\x00\x00\xf8\x7f", "not a number"),
        (3, b"\x01\x01a\xfd", "not a number"),
        (3, b"\x01\x01a\x03abc", "is not a score"),
        (16, b"\x09\x09\x00\x00\x00\x01\x00\x05\x01\xff", "without a value"),
        (17, b"\x09\x09\x00\x00\x00\x01\x00\x05\x01\xff", "without a score"),
        (18, b"\x01\x03\x01a", "container 3"),
        (19, b"\x01\x01a\x01b", "not an id"),
        (7, b"\x81abcdefgh\x06", "module item 6"),
        (6, b"\x00", "value type 6"),
    ],
)
def test_reader_refuses_a_value_that_cannot_be(type_code: int, value: bytes, reason: str) -> None:
    data = rdb.encode_header() + bytes((type_code,)) + b"\x01k" + value + bytes(40)
    with pytest.raises(rdb.RdbError, match=reason):
        read_in_pieces([data])
    with pytest.raises(rdb.RdbError, match=reason):
        read_in_pieces(data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize("opcode", [8, 33, 100, 200, 241])
def test_reader_refuses_an_unknown_opcode(opcode: int) -> None:
    with pytest.raises(rdb.RdbError, match=f"unknown opcode or value type {opcode}"):
        read_in_pieces([rdb.encode_header() + bytes((opcode,)) + bytes(20)])


def test_reader_slot_opcodes_of_valkey_are_records() -> None:
    path = DATA / "corpus" / "files" / "syn__valkey080-slot-opcodes-synthetic.rdb"
    records = list(rdb.read(path))
    (job,) = [r for r in records if isinstance(r, rdb.SlotImport)]
    assert len(job.job) == 40 and len(job.ranges) == 2
    (info,) = [r for r in records if isinstance(r, rdb.SlotInfo)]
    assert (info.keys, info.expires) == (1, 0)


@pytest.mark.parametrize("number", [23, 24, 26, 28, 29, 32, 242])
def test_reader_numbers_of_redis_under_valkey_magic_are_refused(number: int) -> None:
    head = rdb.encode_header(80, b"VALKEY")
    with pytest.raises(rdb.RdbError, match=f"opcode or value type {number}"):
        read_in_pieces([head + bytes((number,)) + bytes(20)])
    with pytest.raises(rdb.RdbError, match="slot migration inside"):
        read_in_pieces([head + b"\xfc" + bytes(8) + b"\xf3" + bytes(20)])


def test_reader_metadata_of_a_key_is_a_record_before_it() -> None:
    path = DATA / "corpus" / "files" / "syn__redis13-keymeta-stream4-synthetic.rdb"
    records = list(rdb.read(path))
    found = [n for n, record in enumerate(records) if isinstance(record, rdb.KeyMetadata)]
    assert len(found) == 2
    for n in found:
        metadata, key = records[n : n + 2]
        assert isinstance(metadata, rdb.KeyMetadata) and isinstance(key, rdb.Key)
        assert metadata.key == key.key
        ((name, version, items),) = metadata.classes
        assert len(name) == 4 and 0 <= version < 32 and items.endswith(b"\x00")


def test_reader_metadata_class_is_decoded_as_redis_encodes_it() -> None:
    # keyMetaClassEncode("KMT1", metaver=3, flags=1): four times six bits, five bits, three bits.
    spec = (((10 << 18 | 12 << 12 | 19 << 6 | 53) << 5 | 3) << 3 | 1).to_bytes(4, "little")
    data = rdb.encode_header(13) + b"\xf3\x01" + spec + b"\x02\x07\x00" + b"\x00\x01k\x01v"
    assert read_in_pieces([data + b"\xff" + bytes(8)])[1:3] == [
        rdb.KeyMetadata(b"k", (("KMT1", 3, b"\x02\x07\x00"),)),
        rdb.Key(0, b"k", 0, b"v"),
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xf2\x01\x01\x01a\xf2\x01\x01\x01b", "template 1 stands twice"),
        (b"\xf2\x01\x02\x01a\x01a", "duplicate hash field"),
        (b"\x20\x01k\x05\x01v", "no hash template 5"),
        (b"\x1e\x01k\x09\x09\x00\x00\x00\x01\x00\x05\x01\xff", "no hash template 5"),
        (b"\x1e\x01k\x07" + b"\x07\x00\x00\x00\x00\x00\xff", "without the id"),
        (
            b"\xf2\x05\x01\x01a\x1e\x01k\x09\x09\x00\x00\x00\x01\x00\x05\x01\xff",
            "0 values for 1 fields",
        ),
        (b"\x1c\x01k\x01\x02", "cursor flag 2"),
        (b"\x1c\x01k\x02\x00\x03\x03\x01a\x03\x03\x01a", "do not ascend"),
        (b"\x1c\x01k\x01\x00\x03\x04\x01a", "unknown array element 4"),
        (b"\x1c\x01k\x01\x00\x03\x02" + b"\xff" * 8, "not a number"),
    ],
)
def test_reader_refuses_templates_and_arrays_that_cannot_be(body: bytes, reason: str) -> None:
    data = rdb.encode_header(15) + body + bytes(9)
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(rdb.RdbError, match=reason):
            read_in_pieces(pieces)


def test_reader_hashes_of_one_template_share_its_fields() -> None:
    path = DATA / "corpus" / "files" / "syn__redis15-hash-template-synthetic.rdb"
    (template,) = [
        record
        for record in rdb.read(path)
        if isinstance(record, rdb.HashTemplate) and record.template_id == 9
    ]
    assert template.fields == (b"a", b"bb")
    hashes = {key.key: key.value for key in rdb.read(path) if isinstance(key, rdb.Key)}
    assert hashes[b"ht:arrref"][::2] == list(template.fields)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, b"1.0"), (-0.0, b"-0.0"), (1e22, b"10000000000000000000000.0"), (1e-7, b"0.0000001"),
     (0.1, b"0.1"), (-2.5, b"-2.5")],
)  # fmt: skip
def test_reader_array_doubles_are_the_texts_they_were(number: float, text: bytes) -> None:
    value = b"\x01\x00\x07\x02" + struct.pack("<d", number)
    assert rdb.decode_value(28, value, 0)[0] == rdb.Array([(7, text)])


def test_reader_module_data_outside_keys_is_a_record() -> None:
    path = DATA / "corpus" / "files" / "librdb__module_aux_v12.rdb"
    found = [r for r in rdb.read(path) if isinstance(r, rdb.ModuleAux)]
    assert found and all(len(record.module) == 9 for record in found)


def test_reader_wrong_checksum_names_both() -> None:
    data = bytearray((DATA / "goldens" / "keys.rdb").read_bytes())
    data[-1] ^= 1
    reader = rdb.RdbReader()
    records = reader.feed(bytes(data))
    assert not any(isinstance(record, rdb.End) for record in records)
    with pytest.raises(rdb.RdbError, match=r"wrong checksum: [0-9a-f]{16} is stored"):
        reader.close()


def test_reader_expiry_in_seconds_becomes_milliseconds() -> None:
    data = rdb.encode_header(3) + b"\xfd\x10\x27\x00\x00\x00\x01k\x01v\xff"
    key = read_in_pieces([data])[1]
    assert isinstance(key, rdb.Key) and key.expires_at_ms == 10_000_000


def test_goldens_were_made_by_the_oracle() -> None:
    for path in GOLDENS:
        aux = {r.key: r.value for r in rdb.read(path) if isinstance(r, rdb.Aux)}
        assert aux[b"redis-ver"].startswith(b"7.0.")
        assert json.loads(path.with_suffix(".json").read_text())["digest"]
