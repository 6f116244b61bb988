"""What rdb writes, redis-server 7.0 loads; what it saves, rdb reads."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import redis

import rdb
from tests.interop.conftest import Launcher
from tests.interop.harness import Kind
from tests.unit.rdb.samples import GOLDENS, assert_same_key
from tests.unit.rdb.test_rdb_page import TEXT, VALUE


def rewrite(path: Path, target: Path, **options: Any) -> None:
    """Write a file again, through Python values."""
    with target.open("wb") as out:
        header, *records = rdb.read(path)
        assert isinstance(header, rdb.Header)
        writer = rdb.RdbWriter(out.write, version=header.version)
        for record in records:
            match record:
                case rdb.Aux(key, value):
                    writer.aux(key, value)
                case rdb.Function(code):
                    writer.function(code)
                case rdb.SelectDb(db):
                    writer.select_db(db)
                case rdb.ResizeDb(keys, expires):
                    writer.raw(rdb.encode_resize_db(keys, expires))
                case rdb.Key(_, key, type_code, value, at_ms, idle_s, freq):
                    frequency = {"idle_s": idle_s, "freq": freq}
                    writer.key(key, type_code, value, at_ms, **frequency, **options)
                case rdb.End():
                    writer.end()


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_rdb_rewritten_loads_in_redis_with_the_same_digest(launch: Launcher, path: Path) -> None:
    server = launch.prepare("redis", save="", sanitize_dump_payload="yes")
    rewrite(path, server.folder / "dump.rdb", list_max_listpack_size=3, stream_node_max_entries=7)
    server.start()
    expected = json.loads(path.with_suffix(".json").read_text())
    assert server.digest() == expected["digest"]


def test_rdb_of_every_written_type_loads_in_redis_and_comes_back(launch: Launcher) -> None:
    """The types that Redis 7.0 reads but does not write in this shape, compressed and not."""
    rng = random.Random(23)
    texts = [b"%d" % n for n in (0, -1, 4096, 2**40)] + [
        b"",
        b"text",
        b"ab" * 300,
        rng.randbytes(99),
    ]
    pairs = sorted(((t, float(i) - 2.5) for i, t in enumerate(texts)), key=lambda pair: pair[1])
    flat = [text for member in texts for text in (member, member[::-1])]
    values: list[tuple[int, Any]] = [(0, text) for text in texts]
    values += [(1, texts * 9), (18, texts * 50), (2, texts), (4, flat), (16, flat), (5, pairs)]
    values += [(17, pairs), (11, [b"-70000", b"3"])]
    entries = [((i // 3, i + 1), [b"f", b"v%d" % i] * (1 + i % 2)) for i in range(300)]
    stream = rdb.Stream(entries, (200, 1), entries[0][0], (0, 0), 300)
    stream.groups.append(rdb.Group(b"g", (1, 4), 4))
    stream.groups[0].consumers.append(rdb.Consumer(b"c", 1_700_000_000_000, 1_700_000_000_000))
    stream.groups[0].pending.append(rdb.Pending((1, 4), b"c", 1_700_000_000_001, 2))
    values += [(15, stream), (19, stream)]
    written: dict[bytes, rdb.Key] = {}
    server = launch.prepare("redis", save="", sanitize_dump_payload="yes")
    with (server.folder / "dump.rdb").open("wb") as out:
        writer = rdb.RdbWriter(out.write)
        writer.select_db(0, keys=2 * len(values), expires=len(values))
        for compress in (False, True):
            for at, (type_code, value) in enumerate(values):
                key = b"%d compressed %d" % (at, compress)
                expires_at_ms = 4_102_444_800_000 if compress else None
                writer.key(key, type_code, value, expires_at_ms, compress=compress)
                written[key] = rdb.Key(0, key, type_code, value, expires_at_ms)
        segment: dict[bytes, Any] = {b"string %d" % i: texts[i % 8] * i for i in range(200)}
        writer.raw(rdb.encode_strings(segment, {b"string 7": 4_102_444_800_000})[0])
        writer.end()
    server.start()
    server.call("SAVE")
    found = {r.key: r for r in rdb.read(server.folder / "dump.rdb") if isinstance(r, rdb.Key)}
    assert found.keys() == written.keys() | segment.keys()
    assert {key: found[key].value for key in segment} == segment
    assert found[b"string 7"].expires_at_ms == 4_102_444_800_000
    for name, sent in written.items():
        back = found[name]
        assert (back.kind, back.expires_at_ms) == (sent.kind, sent.expires_at_ms)
        if sent.kind in ("set", "hash"):
            assert sorted(back.value) == sorted(sent.value)
        else:
            # Type 15 leaves out counters; Redis and this library estimate the same ones.
            encoded = rdb.encode_value(sent.type_code, sent.value)
            assert back.value == rdb.decode_value(sent.type_code, encoded, 0)[0], name


@pytest.mark.parametrize("path", GOLDENS[:1] + GOLDENS[-1:], ids=lambda path: path.stem)
def test_rdb_golden_in_redis_still_says_what_is_kept_beside_it(
    launch: Launcher, path: Path
) -> None:
    """The oracle under test is the one that made the goldens."""
    server = launch.prepare("redis", save="")
    (server.folder / "dump.rdb").write_bytes(path.read_bytes())
    server.start()
    expected = json.loads(path.with_suffix(".json").read_text())
    assert server.digest() == expected["digest"]
    keys = {r.key: r for r in rdb.read(path) if isinstance(r, rdb.Key)}
    assert len(keys) == len(expected["keys"])
    for entry in expected["keys"]:
        if isinstance(entry["key"], str):
            assert_same_key(keys[entry["key"].encode()], entry)


def test_values_on_the_page_are_restored_by_redis(launch: Launcher) -> None:
    """Those of 7.0; a ziplist is only right if it can be read backwards as well."""
    server = launch.prepare("redis", sanitize_dump_payload="yes").start()
    told = set()
    for text, data, _ in VALUE.findall(TEXT):
        type_code, encoded = int(text), bytes.fromhex(data)
        if type_code > 19 or type_code == 7:
            continue
        value, _ = rdb.decode_value(type_code, encoded, 0)
        told.add(type_code)
        body = bytes((type_code,)) + encoded + (10).to_bytes(2, "little")
        server.call("FLUSHALL")
        server.call("RESTORE", "key", 0, body + rdb.crc64(body).to_bytes(8, "little"))
        server.call("SAVE")
        (key,) = (r for r in rdb.read(server.folder / "dump.rdb") if isinstance(r, rdb.Key))
        assert key.kind == rdb.Key(0, b"", type_code, value).kind
        if key.kind in ("set", "list"):
            assert sorted(key.value) == sorted(value)
        else:
            assert repr(key.value) == repr(value)
    assert told == {0, 1, 3, 4, 5, 9, 10, 11, 16, 17, 18, 19}


def on_the_page(wanted: int) -> bytes:
    """The last value of a type in docs/RDB.md."""
    return next(bytes.fromhex(data) for code, data, _ in VALUE.findall(TEXT) if int(code) == wanted)


@pytest.mark.parametrize(
    ("type_code", "whole", "damaged"),
    [
        (10, b"\x0d\0\0\0\x02\0", b"\x0c\0\0\0\x02\0"),  # where the last entry is
        (10, b"a\x03\xf6", b"a\x04\xf6"),  # the size of the entry before
        (19, b"\x0a\0\x01\x01\0\x01", b"\x0a\0\x02\x01\0\x01"),  # how many entries there are
        (19, b"\x0a\0\x01\x01\0\x01", b"\x0a\0\x01\x01\x01\x01"),  # ... were deleted
    ],
)
def test_restore_refuses_what_redis_sanitizes_away(
    launch: Launcher, kind: Kind, type_code: int, whole: bytes, damaged: bytes
) -> None:
    server = launch.prepare(kind, sanitize_dump_payload="yes").start()
    value = on_the_page(type_code)
    assert value.count(whole) == 1

    def restore(value: bytes) -> object:
        body = bytes((type_code,)) + value + (10).to_bytes(2, "little")
        return server.call("RESTORE", "key", 0, body + rdb.crc64(body).to_bytes(8, "little"))

    with pytest.raises(redis.ResponseError, match="Bad data format"):
        restore(value.replace(whole, damaged))
    assert server.call("EXISTS", "key") == 0
    assert restore(value) == b"OK"
