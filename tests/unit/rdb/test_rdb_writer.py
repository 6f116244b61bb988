"""The writer: the very bytes that redis-server writes, and one dict encoded in two ways."""

from __future__ import annotations

import json
import os
import random
import types
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.accel import accel
from rdb.checksum import crcmod_crc64
from rdb.values import (
    encode_elements,
    encode_elements_reference,
    encode_quicklist,
    format_score,
)
from rdb.writer import Accesses, encode_strings_reference
from tests.unit.rdb.samples import DATA, GOLDENS

UNCOMPRESSED = [
    path
    for path in GOLDENS
    if json.loads(path.with_suffix(".json").read_text())["config"].get("rdbcompression") == "no"
]
# The nodes of a stream with deleted entries depend on its history, which nobody can know.
CANONICAL = [path for path in UNCOMPRESSED if path.stem not in ("stream-holes",)]


def encoding_options(path: Path) -> dict[str, Any]:
    config = json.loads(path.with_suffix(".json").read_text())["config"]
    options = {"compress": config.get("rdbcompression", "yes") == "yes"}
    if "list-max-listpack-size" in config:
        options["list_max_listpack_size"] = int(config["list-max-listpack-size"])
    for limit in ("stream-node-max-entries", "stream-node-max-bytes"):
        if limit in config:
            options[limit.replace("-", "_")] = int(config[limit])
    return options


def rewrite(path: Path, **options: Any) -> bytes:
    """Read a file and write it again, record by record."""
    out: list[bytes] = []
    header, *records = rdb.read(path)
    assert isinstance(header, rdb.Header)
    writer = rdb.RdbWriter(out.append, version=header.version)
    for record in records:
        match record:
            case rdb.Aux(key, value):
                writer.aux(key, value)
            case rdb.Function(code):
                writer.function(code, options["compress"])
            case rdb.SelectDb(db):
                writer.select_db(db)
            case rdb.ResizeDb(keys, expires):
                writer.raw(rdb.encode_resize_db(keys, expires))
            case rdb.Key(_, key, type_code, value, at_ms, idle_s, freq):
                writer.key(key, type_code, value, at_ms, idle_s=idle_s, freq=freq, **options)
            case rdb.End():
                writer.end()
    data = b"".join(out)
    assert writer.written == len(data)
    return data


@pytest.mark.parametrize("path", CANONICAL, ids=lambda path: path.stem)
def test_writer_of_what_was_read_gives_the_bytes_of_redis(path: Path) -> None:
    data = path.read_bytes()
    written = rewrite(path, **encoding_options(path))
    if path.stem == "no-checksum":
        assert data.endswith(bytes(8))
        data, written = data[:-8], written[:-8]
    assert written == data


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_writer_compressed_reads_back_to_the_same(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.rdb"
    copy.write_bytes(rewrite(path, compress=True))
    records = [r for r in rdb.read(path) if not isinstance(r, rdb.End)]
    assert [r for r in rdb.read(copy) if not isinstance(r, rdb.End)] == records


def test_writer_checksum_agrees_with_an_independent_one() -> None:
    out: list[bytes] = []
    writer = rdb.RdbWriter(out.append)
    writer.select_db(0, keys=3000)
    for i in range(3000):
        writer.key(b"key:%d" % i, 0, b"v" * i)
    writer.end()
    assert len(out) > 2
    data = b"".join(out)
    assert int.from_bytes(data[-8:], "little") == crcmod_crc64()(data[:-8], 0)


def test_writer_without_checksum_ends_in_zeros() -> None:
    out: list[bytes] = []
    rdb.RdbWriter(out.append, version=9, checksum=False).end()
    assert b"".join(out) == b"REDIS0009\xff" + bytes(8)


def test_encode_value_takes_packed_blobs_and_mappings() -> None:
    flat = [b"f", b"1", b"g", b"two"]
    blob = rdb.values.pack_hash(flat)
    assert rdb.encode_value(16, blob) == rdb.encode_value(16, flat)
    assert rdb.encode_value(16, {b"f": b"1", b"g": b"two"}) == rdb.encode_value(16, flat)
    assert rdb.encode_value(4, {b"f": b"1", b"g": b"two"}) == rdb.encode_value(4, flat)


def test_encode_value_of_a_type_that_is_not_written_raises() -> None:
    with pytest.raises(ValueError, match="type 10 cannot be written"):
        rdb.encode_value(10, [b"a"])


def test_encode_quicklist_puts_a_huge_element_in_a_plain_node() -> None:
    elements = [b"a", b"b" * 100, b"c"]
    encoded = encode_quicklist(elements, compress=False, plain_node_bytes=100)
    assert encoded[0] == 3
    assert b"\x01\x40\x64" + elements[1] in encoded
    assert rdb.decode_value(18, encoded, 0) == (elements, len(encoded))


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"0"),
        (3.0, b"3"),
        (0.1, b"0.10000000000000001"),
        (1e17, b"100000000000000000"),
        (2.0**62, b"4611686018427387904"),
        (2.0**63, b"9.2233720368547758e+18"),
        (-1e300, b"-1.0000000000000001e+300"),
        (float("inf"), b"inf"),
        (float("-inf"), b"-inf"),
    ],
)
def test_score_text_in_a_listpack_is_that_of_redis(score: float, text: bytes) -> None:
    assert format_score(score) == text


def dataset(rng: random.Random, size: int) -> tuple[dict[bytes, Any], dict[bytes, int]]:
    texts = [
        b"",
        b"0",
        b"-1",
        b"-",
        b"-0",
        b"127",
        b"-129",
        b"32768",
        b"-2147483648",
        b"2147483648",
    ]
    texts += [
        b"12345678901",
        b"-12345678901",
        b"01",
        b"a" * 20,
        b"a" * 21,
        b"ab" * 40,
        b"x" * 70000,
    ]
    segment: dict[bytes, Any] = {}
    for i in range(size):
        value = rng.choice(texts) if rng.random() < 0.5 else rng.randbytes(rng.randrange(100))
        segment[b"key:%d" % i if i % 3 else rng.choice(texts) + b"%d" % i] = value
    for i in range(0, size, 7):
        segment[b"other:%d" % i] = rng.choice(([b"a"], bytearray(b"x"), {b"f": b"v"}, 5))
    expires = {k: rng.randrange(-(2**63), 2**63) for k in segment if rng.random() < 0.3}
    return segment, expires


@pytest.mark.skipif(accel is None, reason="rdb._accel was not built")
@pytest.mark.parametrize("compress", [False, True])
def test_encode_strings_compiled_gives_the_bytes_of_the_reference(compress: bool) -> None:
    rng = random.Random(17)
    for size in (0, 1, 10, 300, 2_000):
        segment, expires = dataset(rng, size)
        compiled = accel.encode_strings(segment, expires, compress)
        assert compiled == encode_strings_reference(segment, expires, compress)
        for is_lfu, clock, decay_min in ((False, 5_000, 0), (True, 90, 1), (True, 90, 0)):
            highest = 100 << 8 | 255 if is_lfu else 6_000
            words = {k: rng.randrange(highest) for k in segment if rng.random() < 0.8}
            accesses = Accesses(words, highest // 2, clock, is_lfu, decay_min)
            compiled = accel.encode_strings(segment, expires, compress, accesses)
            assert compiled == encode_strings_reference(segment, expires, compress, accesses)
    with pytest.raises(TypeError):
        accel.encode_strings({"text": b"v"}, {}, compress)


def test_encode_strings_stores_idle_time_or_frequency_before_the_type() -> None:
    segment = {b"a": b"1", b"b": b"2", b"c": b"3"}
    idle = Accesses({b"a": 700, b"b": 40_000}, 900, 1_000)
    often = Accesses({b"a": 10 << 8 | 200, b"b": 0 << 8 | 3}, 9 << 8 | 5, 10, True, 2)

    def figures(accesses: Accesses) -> list[tuple[Any, Any]]:
        reader = rdb.RdbReader()
        reader.feed(rdb.encode_header())
        body = rdb.encode_strings(segment, {b"a": 5}, True, accesses)[0]
        return [(key.idle_s, key.freq) for key in reader.feed(body) if isinstance(key, rdb.Key)]

    assert figures(idle) == [(300, None), (0, None), (100, None)]
    assert figures(often) == [(None, 200), (None, 0), (None, 5)]


@pytest.mark.parametrize("compress", [False, True])
def test_encode_elements_gives_the_bytes_of_the_reference_for_any_container(
    compress: bool,
) -> None:
    segment = {k: v for k, v in dataset(random.Random(19), 200)[0].items() if type(v) is bytes}
    texts = list(segment.values())
    mapping = types.MappingProxyType(segment)
    for container in (segment, mapping, texts, tuple(texts), set(texts), segment.keys()):
        expected = encode_elements_reference(container, compress)
        assert encode_elements(container, compress) == expected


def test_encode_strings_gives_records_and_leftovers() -> None:
    segment: dict[bytes, Any] = {b"a": b"1", b"l": [b"x"], b"b": b"text"}
    body, count, leftovers = rdb.encode_strings(segment, {b"b": 5})
    assert (count, leftovers) == (2, [b"l"])
    reader = rdb.RdbReader()
    reader.feed(rdb.encode_header())
    assert reader.feed(body) == [rdb.Key(0, b"a", 0, b"1"), rdb.Key(0, b"b", 0, b"text", 5)]


def private_dirty_kb() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty in smaps_rollup")


@pytest.mark.skipif(accel is None, reason="rdb._accel was not built")
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs smaps_rollup")
def test_encode_strings_compiled_in_a_child_copies_no_pages_of_the_dataset() -> None:
    segments = [
        {b"segment %d key %d" % (s, i): b"value %d %d" % (i, s) for i in range(1000)}
        for s in range(200)
    ]
    expires = {key: 1 for segment in segments[::4] for key in segment}
    grown_kb = []
    for encode in (accel.encode_strings, encode_strings_reference):
        receiving, sending = os.pipe()
        pid = os.fork()
        if pid == 0:
            before = private_dirty_kb()
            for segment in segments:
                encode(segment, expires, True)
            os.write(sending, b"%d" % (private_dirty_kb() - before))
            os._exit(0)
        os.waitpid(pid, 0)
        grown_kb.append(int(os.read(receiving, 20)))
        os.close(receiving)
        os.close(sending)
    compiled_kb, reference_kb = grown_kb
    # 200,000 pairs of objects are some 25 MB; the reference shows that the measurement works.
    assert reference_kb > 10_000
    assert compiled_kb < 2_000


def test_writer_data_directory_has_every_golden() -> None:
    names = {path.stem for path in (DATA / "goldens").glob("*.json")}
    assert names == {path.stem for path in GOLDENS}
    assert len(CANONICAL) > 10
