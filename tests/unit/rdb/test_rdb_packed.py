"""Values kept packed: what is, what is not, and that compiled and Python judge alike."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rdb
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.packed import unpack
from rdb import constants as c
from rdb.accel import accel
from rdb.blobs import listpack
from rdb.keys import load_keys_reference
from rdb.packed import MAX_BYTES, MAX_ELEMENTS, PACKED, Packed, packed_end
from rdb.strings import encode_string
from rdb.writer import encode_strings_reference

DATA = Path(__file__).parents[2] / "data" / "rdb"
FILES = sorted(DATA.glob("**/*.rdb"))
needs_accel = pytest.mark.skipif(accel is None, reason="the accelerator was not built")

WORDS = [b"a", b"bc", b"12", b"-7", b"0", b"x" * 70, b"ab" * 60, b"%d" % (1 << 40), b""]


def hash_of(count: int, text: bytes = b"v") -> list[bytes]:
    return [part for n in range(count) for part in (b"f%d" % n, text)]


def zset_of(count: int, member: bytes = b"m") -> list[tuple[bytes, float]]:
    return [(b"%b%d" % (member, n), n / 4) for n in range(count)]


def stream_of(entries: int, groups: int = 0, pending: int = 0) -> rdb.Stream:
    ids = [(1_000 + n // 3, n % 3) for n in range(entries)]
    pairs = [(each, [b"field", b"%d" % each[0], b"f%d" % (each[1] % 2), b"v"]) for each in ids]
    stream = rdb.Stream(pairs, (2_000, 1), (1_000, 0), (0, 7), entries + 2)
    for number in range(groups):
        group = rdb.Group(b"group %d" % number, ids[0] if ids else (0, 0), -1)
        group.consumers = [rdb.Consumer(b"%d" % n, 1_700, 1_700) for n in (1, 2)]
        group.pending = [
            rdb.Pending(each, b"%d" % (1 + each[1] % 2), 1_600, 3) for each in ids[:pending]
        ]
        stream.groups.append(group)
    return stream


VALUES: list[tuple[int, Any, bool]] = [
    # type code, value, whether it stays packed
    (c.TYPE_SET, [b"a", b"b"], True),
    (c.TYPE_SET, [b"1", b"2"], False),  # becomes an intset
    (c.TYPE_SET, [b"%d" % n for n in range(600)], True),
    (c.TYPE_SET, [], False),
    (c.TYPE_SET, [b"%d" % n for n in range(MAX_ELEMENTS + 1)], False),
    (c.TYPE_SET, [b"ab" * 100, b"ba" * 100], True),  # compressed
    (c.TYPE_SET_INTSET, [b"1", b"70000", b"%d" % (1 << 40)], True),
    (c.TYPE_SET_INTSET, [b"%d" % n for n in range(513)], False),
    (c.TYPE_SET_INTSET, [], False),
    (c.TYPE_HASH, hash_of(2), False),  # becomes a listpack
    (c.TYPE_HASH, hash_of(2, b"v" * 65), True),
    (c.TYPE_HASH, hash_of(513), True),
    (c.TYPE_HASH_LISTPACK, hash_of(512), True),
    (c.TYPE_HASH_LISTPACK, hash_of(1, b"v" * 1000), True),
    (c.TYPE_HASH_LISTPACK, hash_of(513), False),
    (c.TYPE_HASH_LISTPACK, [], False),
    (c.TYPE_ZSET_2, zset_of(2), False),
    (c.TYPE_ZSET_2, zset_of(129), True),
    (c.TYPE_ZSET_2, zset_of(2, b"m" * 65), True),
    (c.TYPE_ZSET_LISTPACK, zset_of(128), True),
    (c.TYPE_ZSET_LISTPACK, zset_of(129), False),
    (c.TYPE_ZSET_LISTPACK, [(b"a", -1e300), (b"b", float("inf"))], True),
    (c.TYPE_LIST_QUICKLIST_2, [b"x", b"12"] * 3000, True),
    (c.TYPE_LIST_QUICKLIST_2, [], False),
    (c.TYPE_LIST_QUICKLIST_2, [b"%d" % n for n in range(MAX_ELEMENTS + 1)], False),
    (c.TYPE_STREAM_LISTPACKS_2, stream_of(0), True),
    (c.TYPE_STREAM_LISTPACKS_2, stream_of(0, 1), True),
    (c.TYPE_STREAM_LISTPACKS_2, stream_of(250, 3, 9), True),
    (c.TYPE_STREAM_LISTPACKS_2, stream_of(9, 65), False),
    (c.TYPE_STREAM_LISTPACKS_2, stream_of(1200), False),
    (c.TYPE_LIST_QUICKLIST_2, [b"ab" * (1 << 17), b"c"], False),  # small only while compressed
]


def judges() -> Iterator[Any]:
    yield packed_end
    if accel is not None:
        yield accel.packed_end


@pytest.mark.parametrize(("type_code", "value", "stays"), VALUES)
def test_packed_end_value_of_a_server_stays_packed_where_it_is_small(
    type_code: int, value: Any, stays: bool
) -> None:
    encoded = rdb.encode_value(type_code, value)
    for judge in judges():
        for data in (encoded, encoded + b"more"):
            assert judge(type_code, data, 0, Limits()) == (len(encoded) if stays else None)
        assert judge(type_code, encoded[:-1], 0, Limits()) is None


def blob(elements: list[bytes]) -> bytes:
    return encode_string(listpack.encode(elements))


@pytest.mark.parametrize(
    ("type_code", "encoded"),
    [
        (c.TYPE_HASH_LISTPACK, blob([b"f", b"1", b"f", b"2"])),
        (c.TYPE_HASH_LISTPACK, blob([b"f", b"1", b"g"])),
        (c.TYPE_HASH_LISTPACK, blob([b"%d" % (n % 99) for n in range(200)])),
        (c.TYPE_ZSET_LISTPACK, blob([b"m", b"nan"])),
        (c.TYPE_ZSET_LISTPACK, blob([b"m", b"1_0"])),
        (c.TYPE_ZSET_LISTPACK, blob([b"m", b"1."])),
        (c.TYPE_ZSET_LISTPACK, blob([b"m", b"-"])),
        (c.TYPE_ZSET_LISTPACK, blob([b"m", b"1", b"m", b"2"])),
        (c.TYPE_SET, b"\x02\x01a\x01a"),
        (c.TYPE_SET, b"\x02\xc0\x05\x015"),  # one member in two forms
        (c.TYPE_ZSET_2, b"\x01" + encode_string(b"m" * 65) + struct.pack("<d", float("nan"))),
        (c.TYPE_SET_INTSET, encode_string(struct.pack("<IIhh", 2, 2, 5, 5))),
        (c.TYPE_SET_INTSET, encode_string(struct.pack("<IIh", 2, 2, 5))),
        (c.TYPE_SET_INTSET, encode_string(struct.pack("<IIh", 3, 1, 5))),
        (c.TYPE_LIST_QUICKLIST_2, b"\x01\x02" + blob([])),
        (c.TYPE_LIST_QUICKLIST_2, b"\x01\x03" + blob([b"a"])),
        (c.TYPE_LIST_QUICKLIST_2, b"\x01\x02" + encode_string(b"no listpack")),
    ],
)
def test_packed_end_value_with_a_flaw_is_left_to_the_decoder(
    type_code: int, encoded: bytes
) -> None:
    for judge in judges():
        assert judge(type_code, encoded, 0, Limits()) is None


def test_packed_end_scores_as_redis_writes_them_stay_packed() -> None:
    for score in (b"3.25", b"-1.5e-07", b"2.5e+300", b"inf", b"-inf", b"17"):
        encoded = blob([b"m", score])
        for judge in judges():
            assert judge(c.TYPE_ZSET_LISTPACK, encoded, 0, Limits()) == len(encoded)


def test_packed_end_larger_than_the_limit_is_left_to_the_decoder() -> None:
    rng = random.Random(3)
    for size, stays in ((MAX_BYTES - 100, True), (MAX_BYTES, False)):
        encoded = rdb.encode_value(c.TYPE_LIST_QUICKLIST_2, [rng.randbytes(size)])
        for judge in judges():
            assert (judge(c.TYPE_LIST_QUICKLIST_2, encoded, 0, Limits()) is not None) == stays


@needs_accel
def test_packed_end_compiled_judges_damaged_values_like_the_reference() -> None:
    rng = random.Random(5)
    kept = 0
    for type_code, value, _ in VALUES:
        encoded = rdb.encode_value(type_code, value, compress=rng.random() < 0.5)
        if len(encoded) > 4000:
            continue
        for _ in range(300):
            damaged = bytearray(encoded)
            for _ in range(rng.randrange(1, 3)):
                damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), 0, 0xFF))
            data = bytes(damaged)
            judged = accel.packed_end(type_code, data, 0, Limits())
            assert judged == packed_end(type_code, data, 0, Limits()), data
            if judged is not None:
                kept += 1
                unpack(PACKED[type_code](data[:judged]), Limits())  # never raises
    assert kept > 100, "the damage was never harmless"


def loaded(load: Any, data: bytes) -> tuple[Any, ...]:
    segments: list[dict[bytes, Any]] = [{} for _ in range(8)]
    expires: list[dict[bytes, int]] = [{} for _ in range(8)]
    due_ms = [1 << 63] * 4
    records: list[rdb.Record] = []
    taken = []

    def take(data: bytes, pos: int, db: int) -> int:
        if db:
            return pos
        pos, *told = load(data, pos, segments, expires, due_ms, Limits(), 1_000)
        taken.append((pos, *told))
        return int(pos)

    reader = rdb.RdbReader(take=take, verify_checksum=False)
    try:
        records += reader.feed(data)
        reader.close()
    except rdb.RdbError as error:
        records.append(error.message)  # type: ignore[arg-type]
    forms = [{k: (type(v), v) for k, v in segment.items()} for segment in segments]
    return forms, expires, due_ms, taken, repr(records)


@needs_accel
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_load_keys_compiled_takes_what_the_reference_takes(path: Path) -> None:
    data = path.read_bytes()
    assert loaded(accel.load_keys, data) == loaded(load_keys_reference, data)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_load_keys_values_decode_to_those_of_the_records(path: Path) -> None:
    data = path.read_bytes()
    try:
        records = rdb.RdbReader().feed(data)
        expected = {r.key: r for r in records if isinstance(r, rdb.Key) and not r.db}
    except rdb.RdbError:
        expected = {}
    for segment in loaded(rdb.load_keys, data)[0]:
        for key, (kind, value) in segment.items():
            plain = rdb.decode_packed(value) if issubclass(kind, Packed) else value
            assert repr(plain) == repr(expected[key].value)


def key_record(key: bytes, type_code: int, value: Any, expires_at_ms: int | None = None) -> bytes:
    return rdb.encode_key(key, type_code, value, expires_at_ms)


@pytest.mark.parametrize("load", [load_keys_reference, rdb.load_keys])
def test_load_keys_stops_before_what_it_leaves_to_others(load: Any) -> None:
    first = key_record(b"a", 0, b"1") + key_record(b"l", 18, [b"x"], 5_000)
    for rest in (
        key_record(b"a", 0, b"2"),  # there already
        key_record(b"a", 0, b"2", 4_000),
        key_record(b"over", 0, b"1", 999),
        key_record(b"b", 0, b"1")[:-1],
        key_record(b"h", 4, [b"f", b"v"]),
        b"\xfe\x01",
    ):
        segments: list[dict[bytes, Any]] = [{}]
        expires: list[dict[bytes, int]] = [{}]
        due_ms = [9_000]
        taken = load(first + rest, 0, segments, expires, due_ms, Limits(), 1_000)
        assert taken == (len(first), 2, 1, 5_000)
        assert list(segments[0]) == [b"a", b"l"] and expires == [{b"l": 5_000}]
        assert due_ms == [5_000]


@pytest.mark.parametrize("compress", [False, True])
def test_encode_strings_copies_packed_values_but_for_unwanted_lzf(compress: bool) -> None:
    segment: dict[bytes, Any] = {b"s": b"text" * 9}
    expires = {}
    for type_code, value, stays in VALUES:
        if stays:
            key = b"key of %d, %d" % (type_code, len(segment))
            segment[key] = PACKED[type_code](rdb.encode_value(type_code, value))
            if len(segment) % 2:
                expires[key] = len(segment)
    segment[b"left"] = [b"over"]
    packed = list(segment)[1:-1]
    unwanted = [key for key in packed if not compress and segment[key].may_hold_lzf()]
    assert compress or 0 < len(unwanted) < len(packed)
    expected = encode_strings_reference(segment, expires, compress)
    assert expected[1:] == (len(segment) - len(unwanted) - 1, [*unwanted, b"left"])
    for key in packed:
        if key in unwanted:
            continue
        record = rdb.encode_key(
            key, segment[key].type_code, segment[key], expires.get(key), compress=compress
        )
        assert record in expected[0] and segment[key] in record
    if accel is not None:
        assert accel.encode_strings(segment, expires, compress) == expected
