"""Packed values: every command sees what it would see of the same value unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kvrepl.keyspace.digest import digest_dataset
from kvrepl.persistence.snapshot import SnapshotInfo, SnapshotLoader, snapshot_chunks
from rdb import Packed
from tests.unit.commands.session import Session

FILL = [
    ("RPUSH", "list", *range(20), "x" * 100),
    ("SADD", "set", "a", "b", "c"),
    ("SADD", "intset", 1, 2, 70000),
    ("HSET", "hash", "f", "v", "g", 12),
    ("HSET", "long", "f", "v" * 65),
    ("ZADD", "zset", 1, "a", 2.5, "b", "inf", "c"),
    ("ZADD", "skiplist", 1, "a" * 65, 2, "b"),
]
KEYS = ("list", "set", "intset", "hash", "long", "zset", "skiplist")


def held(session: Session, key: str) -> Any:
    return session.client.db.peek(key.encode())


def snapshot(session: Session) -> list[bytes]:
    return list(snapshot_chunks(session.engine.keyspace, SnapshotInfo(0, 0)))


def digest(session: Session) -> bytes:
    return digest_dataset([(0, list(session.client.db.items()))])


def reload(session: Session) -> None:
    chunks = snapshot(session)
    session.run("FLUSHALL")
    loader = SnapshotLoader(session.engine.keyspace)
    for chunk in chunks:
        loader.feed(chunk)
    assert loader.close().keys == len(KEYS)


@pytest.fixture
def packed(session: Session) -> Iterator[Session]:
    """A session that has just loaded FILL."""
    for command in FILL:
        session.run(*command)
    session.run("PEXPIREAT", "hash", 1 << 44)
    reload(session)
    for key in KEYS:
        assert isinstance(held(session, key), Packed)
    yield session


@pytest.mark.parametrize("key", KEYS)
def test_looking_at_a_key_from_outside_leaves_it_packed(packed: Session, key: str) -> None:
    unpacked = Session()
    for command in FILL:
        unpacked.run(*command)
    for command in (("TYPE", key), ("OBJECT", "ENCODING", key), ("EXISTS", key), ("DUMP", key)):
        assert packed.run(*command) == unpacked.run(*command)
    assert packed.run("MEMORY", "USAGE", key) < unpacked.run("MEMORY", "USAGE", key)
    kind = packed.run("TYPE", key).text
    assert key.encode() in packed.run("SCAN", 0, "TYPE", kind, "COUNT", 100)[1]
    assert packed.run("TTL", key) >= -1 and packed.run("TOUCH", key) == 1
    packed.run("EXPIRE", key, 100)
    packed.run("SET", key, "x", "NX")
    packed.run("PERSIST", key)
    assert isinstance(held(packed, key), Packed)


def test_digest_is_the_same_and_leaves_everything_packed(packed: Session) -> None:
    unpacked = Session()
    for command in FILL:
        unpacked.run(*command)
    unpacked.run("PEXPIREAT", "hash", 1 << 44)
    assert digest(packed) == digest(unpacked)
    assert all(isinstance(held(packed, key), Packed) for key in KEYS)


@pytest.mark.parametrize(
    ("key", "command", "reply"),
    [
        ("list", ("LRANGE", "list", 0, 1), [b"0", b"1"]),
        ("list", ("RPOP", "list"), b"x" * 100),
        ("set", ("SISMEMBER", "set", "b"), 1),
        ("set", ("SREM", "set", "b"), 1),
        ("intset", ("SISMEMBER", "intset", 70000), 1),
        ("intset", ("SADD", "intset", 1 << 40), 1),
        ("hash", ("HGET", "hash", "g"), b"12"),
        ("hash", ("HDEL", "hash", "g"), 1),
        ("long", ("HLEN", "long"), 1),
        ("zset", ("ZSCORE", "zset", "b"), 2.5),
        ("zset", ("ZADD", "zset", 7, "d"), 1),
        ("skiplist", ("ZRANGE", "skiplist", 1, 1), [b"b"]),
        ("set", ("SORT", "set", "ALPHA", "LIMIT", 0, 1), [b"a"]),
        ("zset", ("COPY", "zset", "twin"), 1),
        ("intset", ("SINTERCARD", 1, "intset"), 3),
        ("hash", ("RENAME", "hash", "hash"), "OK"),
    ],
)
def test_first_touch_unpacks_a_value_into_its_own_encoding(
    packed: Session, key: str, command: tuple[Any, ...], reply: Any
) -> None:
    encoding = packed.run("OBJECT", "ENCODING", key)
    ttl = packed.run("PEXPIRETIME", key)
    answered = packed.run(*command)
    assert getattr(answered, "text", answered) == (reply.encode() if reply == "OK" else reply)
    assert not isinstance(held(packed, key), Packed)
    assert packed.run("OBJECT", "ENCODING", key) == encoding
    assert packed.run("PEXPIRETIME", key) == ttl


@pytest.mark.parametrize("key", KEYS)
def test_command_of_another_type_is_refused_on_a_packed_value(packed: Session, key: str) -> None:
    assert packed.error("GET", key).startswith("WRONGTYPE")
    assert packed.error("APPEND", key, "x").startswith("WRONGTYPE")
    assert packed.error("PFADD", key, "x").startswith("WRONGTYPE")
    assert packed.error("XLEN", key).startswith("WRONGTYPE")
    wrong = "HLEN" if key not in ("hash", "long") else "LLEN"
    assert packed.error(wrong, key).startswith("WRONGTYPE")
    assert packed.run("MGET", key) == [None]


def test_encoding_of_a_packed_value_outlives_a_change_of_the_thresholds(packed: Session) -> None:
    limits = packed.engine.keyspace.limits
    limits.hash_max_listpack_entries = limits.set_max_intset_entries = 1
    limits.zset_max_listpack_entries = 1
    for key, command in (("hash", "HLEN"), ("intset", "SCARD"), ("zset", "ZCARD")):
        before = packed.run("OBJECT", "ENCODING", key)
        packed.run(command, key)
        assert packed.run("OBJECT", "ENCODING", key) == before in (b"listpack", b"intset")
    packed.run("HSET", "hash", "f", "w")
    assert packed.run("OBJECT", "ENCODING", "hash") == b"hashtable"


def test_snapshot_of_untouched_and_of_touched_values_holds_the_same(packed: Session) -> None:
    before = digest(packed)
    untouched = snapshot(packed)
    for key, command in zip(
        KEYS, ("LLEN", "SCARD", "SCARD", "HLEN", "HLEN", "ZCARD", "ZCARD"), strict=True
    ):
        packed.run(command, key)
    touched = snapshot(packed)
    assert sum(map(len, touched)) == sum(map(len, untouched))
    reload(packed)
    assert digest(packed) == before


def test_move_and_swapdb_carry_packed_values(packed: Session) -> None:
    assert packed.run("MOVE", "hash", 1) == 1
    packed.run("SWAPDB", 0, 1)
    assert packed.run("HGETALL", "hash") == {b"f": b"v", b"g": b"12"}
