"""The collections against a real server: encodings, contents and digests after every step.

One random sequence of writes goes to the server and to the value here; the thresholds are
changed on the way as CONFIG SET would. RESTORE and DUMP stand for loading and saving.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any

import pytest

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.datatypes.records import from_rdb, rdb_type_and_value
from kvrepl.keyspace.digest import digest_dataset, digest_value
from rdb import constants as c
from rdb.checksum import crc64
from rdb.values import decode_value, encode_value
from tests.interop.conftest import Launcher
from tests.interop.harness import Server

THRESHOLDS = (
    "hash_max_listpack_entries",
    "hash_max_listpack_value",
    "set_max_intset_entries",
    "zset_max_listpack_entries",
    "zset_max_listpack_value",
)
SCORES = (
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "1e300",
    "inf",
    "-inf",
    "3.0000000000000004",
    "4503599627370497",
)
INTEGERS = (b"0", b"-1", b"32767", b"32768", b"-2147483649", b"9223372036854775807")
NOT_INTEGERS = (b"", b"-0", b"01", b"+1", b" 1", b"9223372036854775808", b"1.0", b"a")


@pytest.fixture
def server(launch: Launcher) -> Server:
    return launch("redis")


def change_a_threshold(rng: Random, server: Server, limits: Limits) -> None:
    name = rng.choice(THRESHOLDS)
    value = rng.choice((0, 1, 3, 8, 20, 64))
    server.config_set(**{name: value})
    setattr(limits, name, value)


def assert_same(server: Server, key: bytes, value: Any, step: object) -> None:
    if not len(value):
        assert not server.call("EXISTS", key), step
        return
    assert server.call("OBJECT", "ENCODING", key) == value.encoding, step
    assert server.call("DEBUG", "DIGEST-VALUE", key)[0] == digest_value(value).hex().encode(), step


def member(rng: Random) -> bytes:
    kind = rng.random()
    if kind < 0.6:
        return b"%d" % rng.randrange(-20, 40)
    if kind < 0.9:
        return rng.choice(INTEGERS)
    if kind < 0.97:
        return rng.choice(NOT_INTEGERS)
    return b"m" * rng.choice((1, 3, 8, 9, 20, 21, 64, 65))


@pytest.mark.parametrize("seed", range(6))
def test_set_random_writes_agree_with_redis(server: Server, seed: int) -> None:
    rng, limits = Random(seed), Limits()
    value = SetValue(limits)
    for step in range(400):
        act = rng.random()
        name = member(rng)
        if act < 0.02:
            change_a_threshold(rng, server, limits)
        elif act < 0.03:
            server.call("DEL", "k")
            value = SetValue(limits)
        elif act < 0.7:
            assert server.call("SADD", "k", name) == value.add(name), (step, name)
        else:
            assert server.call("SREM", "k", name) == value.discard(name), (step, name)
            if not len(value):
                value = SetValue(limits)
        assert_same(server, b"k", value, step)
        if value.encoding == b"intset" and len(value):
            assert list(value) == sorted(server.client().smembers("k"), key=int)


@pytest.mark.parametrize("seed", range(6))
def test_hash_random_writes_agree_with_redis(server: Server, seed: int) -> None:
    rng, limits = Random(seed), Limits()
    value = HashValue(limits)
    for step in range(400):
        act = rng.random()
        field, text = member(rng), member(rng)
        if act < 0.03:
            change_a_threshold(rng, server, limits)
        elif act < 0.05:
            server.call("DEL", "k")
            value = HashValue(limits)
        elif act < 0.7:
            assert server.call("HSET", "k", field, text) == value.set(field, text), step
        else:
            assert server.call("HDEL", "k", field) == value.delete(field), step
            if not len(value):
                value = HashValue(limits)
        assert_same(server, b"k", value, step)
        if value.encoding == b"listpack":
            assert server.call("HKEYS", "k") == list(value)


@pytest.mark.parametrize("seed", range(6))
def test_sorted_set_random_writes_agree_with_redis(server: Server, seed: int) -> None:
    rng, limits = Random(seed), Limits()
    value = SortedSet(limits)
    for step in range(400):
        act = rng.random()
        name, score = member(rng), rng.choice(SCORES)
        if act < 0.03:
            change_a_threshold(rng, server, limits)
        elif act < 0.05:
            server.call("DEL", "k")
            value = SortedSet(limits)
        elif act < 0.7:
            assert server.call("ZADD", "k", score, name) == value.add(name, float(score)), step
        elif act < 0.9:
            assert server.call("ZREM", "k", name) == value.remove(name), step
        elif act < 0.95:
            low, high = sorted((float(score), float(rng.choice(SCORES))))
            start, stop = value.by_score(low, False, high, True)
            assert server.call("ZRANGEBYSCORE", "k", low, f"({high}") == [
                each for each, _ in value.range(start, stop)
            ], step
        else:
            assert server.call("ZRANK", "k", name) == value.rank(name), step
        if not len(value):
            value = SortedSet(limits)
        assert server.call("ZRANGE", "k", 0, -1) == [each for each, _ in value], step
        assert_same(server, b"k", value, step)


@pytest.mark.parametrize("seed", range(4))
def test_list_random_writes_agree_with_redis(server: Server, seed: int) -> None:
    rng, limits = Random(seed), Limits()
    value = ListValue(limits)
    for step in range(400):
        act, element, count = rng.random(), member(rng), rng.randrange(-3, 4)
        if act < 0.3:
            many = [member(rng) for _ in range(rng.choice((1, 2, 400)))]
            value.push_left(*many)
            assert server.call("LPUSH", "k", *many) == len(value), step
        elif act < 0.5:
            value.push_right(element)
            assert server.call("RPUSH", "k", element) == len(value), step
        elif act < 0.65:
            assert server.call("LREM", "k", count, element) == value.remove(count, element), step
        elif act < 0.8 and len(value):
            where = rng.choice(("BEFORE", "AFTER"))
            found = value.insert(element, b"new", where == "AFTER")
            assert server.call("LINSERT", "k", where, element, "new") == (
                len(value) if found else -1
            ), step
        elif act < 0.9:
            limit = rng.choice((0, 5, 1000))
            assert server.call("LPOS", "k", element, "RANK", -1, "COUNT", 0, "MAXLEN", limit) == (
                list(value.positions(element, reverse=True, max_compared=limit))
            ), step
        elif len(value):
            start, stop = sorted(rng.randrange(len(value)) for _ in range(2))
            assert server.call("LRANGE", "k", start, stop) == value.range(start, stop), step
            if rng.random() < 0.4:  # several nodes, and not so long that comparing takes all day
                server.call("LTRIM", "k", start, stop)
                value.trim(start, stop)
        if not len(value):
            value = ListValue(limits)
        assert_same(server, b"k", value, step)


def payload(type_code: int, plain: Any) -> bytes:
    """The argument of RESTORE: type, value, RDB version, CRC64."""
    body = bytes([type_code]) + encode_value(type_code, plain) + struct.pack("<H", 10)
    return body + struct.pack("<Q", crc64(body))


def flat_pairs(names: list[bytes]) -> list[bytes]:
    return [text for name in names for text in (name, name[::-1])]


@pytest.mark.parametrize("seed", range(4))
def test_from_rdb_random_records_agree_with_restore(server: Server, seed: int) -> None:
    rng, limits = Random(seed), Limits()
    for step in range(250):
        if rng.random() < 0.3:
            change_a_threshold(rng, server, limits)
        names = sorted({member(rng) for _ in range(rng.choice((1, 2, 4, 9, 30)))})
        integers = [b"%d" % number for number in range(-rng.randrange(30), 1)]
        scored = sorted((float(rng.choice(SCORES)), name) for name in names)
        pairs = [(name, score) for score, name in scored]
        plains: dict[int, Any] = {
            c.TYPE_STRING: rng.choice(names),
            c.TYPE_LIST: names,
            c.TYPE_LIST_QUICKLIST_2: names,
            c.TYPE_SET: rng.choice((names, integers)),
            c.TYPE_SET_INTSET: integers,
            c.TYPE_HASH: flat_pairs(names),
            c.TYPE_HASH_LISTPACK: flat_pairs(names),
            c.TYPE_ZSET_2: pairs,
            c.TYPE_ZSET_LISTPACK: [(name, score + 0.0) for name, score in pairs],
        }
        type_code = rng.choice(list(plains))
        given = payload(type_code, plains[type_code])
        server.call("RESTORE", "k", 0, given, "REPLACE")
        plain, _ = decode_value(type_code, given, 1)
        value = from_rdb(type_code, plain, limits)
        digest = server.call("DEBUG", "DIGEST-VALUE", "k")[0]
        assert digest == digest_value(value).hex().encode(), (step, type_code)
        if type_code != c.TYPE_STRING:
            encoding = server.call("OBJECT", "ENCODING", "k")
            assert encoding == value.encoding, (step, type_code)  # type: ignore[attr-defined]

        written_type, written = rdb_type_and_value(value, limits)
        dumped = server.call("DUMP", "k")
        assert dumped[0] == written_type, step
        server.call("RESTORE", "k", 0, payload(written_type, written), "REPLACE")
        assert server.call("DEBUG", "DIGEST-VALUE", "k")[0] == digest, (step, type_code)


def test_digest_dataset_random_keys_agree_with_debug_digest(server: Server) -> None:
    rng, limits = Random(1), Limits()
    expires_at_ms = 4_102_444_800_000
    databases: dict[int, list[tuple[bytes, object, int | None]]] = {0: [], 3: [], 15: []}
    for number, keys in databases.items():
        server.call("SELECT", number)
        for index in range(150):
            key = b"key:%d" % index
            members = [member(rng) for _ in range(rng.choice((1, 3, 200)))]
            value: object
            match rng.randrange(5):
                case 0:
                    value = rng.choice(members)
                    server.call("SET", key, value)
                case 1:
                    value = ListValue(limits, members)
                    server.call("RPUSH", key, *members)
                case 2:
                    value = SetValue(limits, members)
                    server.call("SADD", key, *members)
                case 3:
                    value = HashValue(limits, [(each, key) for each in members])
                    server.call("HSET", key, *[text for each in members for text in (each, key)])
                case _:
                    scored = [(each, float(rng.choice(SCORES))) for each in members]
                    value = SortedSet(limits, scored)
                    server.call("ZADD", key, *[x for name, s in scored for x in (s, name)])
            expires = rng.random() < 0.3
            if expires:
                server.call("PEXPIREAT", key, expires_at_ms)
            keys.append((key, value, expires_at_ms if expires else None))
    databases[7] = []
    assert digest_dataset(sorted(databases.items())).hex() == server.digest()


def test_digest_stream_restored_agrees_with_debug_digest(server: Server) -> None:
    for index in range(250):
        server.call("XADD", "k", f"{index // 3 + 1}-{index % 3}", "f", index, "g", "x" * index)
    server.call("XDEL", "k", "5-1", "7-0")
    dumped = server.call("DUMP", "k")
    value, _ = decode_value(dumped[0], dumped, 1)
    assert server.call("DEBUG", "DIGEST-VALUE", "k")[0] == digest_value(value).hex().encode()


@pytest.mark.parametrize("count", [100, 499, 500, 501, 599])
def test_set_pop_many_leaves_the_encoding_that_spop_leaves(server: Server, count: int) -> None:
    members = [b"%d" % number for number in range(600)]
    server.call("SADD", "k", *members)
    value = SetValue(Limits(), members)
    value.pop_many(count, Random(1))
    server.call("SPOP", "k", count)
    assert server.call("OBJECT", "ENCODING", "k") == value.encoding
