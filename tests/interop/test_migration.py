"""MIGRATE: keys move between servers of either kind, whole, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.datasets import populate
from tests.interop.harness import Kind, Pair, Server, follow, free_port, wait_same_data


def migrate(source: Server, target_port: int, key: str, *options: str | bytes) -> Any:
    return source.call("MIGRATE", "127.0.0.1", target_port, key, 0, 5000, *options)


def refusal(source: Server, target_port: int, key: str, *options: str | bytes) -> str:
    with pytest.raises(redis.RedisError) as caught:
        migrate(source, target_port, key, *options)
    return str(caught.value)


def test_migrate_moves_keys_of_every_type_and_the_replicas_forget_them(
    launch: Launcher, pair: Pair
) -> None:
    source, target, replica = launch(pair.master), launch(pair.replica), launch("redis")
    populate(source, 300)
    source.client(db=9).flushdb()
    follow(replica, source.port)
    keys = source.client().keys("*")
    digest = source.digest()

    assert migrate(source, target.port, "", "KEYS", *keys) in (b"OK", "OK", True)

    assert target.digest() == digest
    assert source.call("DBSIZE") == 0
    wait_same_data(source, replica)


def test_migrate_keeps_the_time_to_live_and_copies_when_told(launch: Launcher, kind: Kind) -> None:
    source, target = launch(kind), launch("redis")
    source.call("SET", "k", "v", "PX", 500_000)

    migrate(source, target.port, "k", "COPY")

    assert 0 < target.call("PTTL", "k") <= 500_000
    assert source.call("GET", "k") == target.call("GET", "k") == b"v"
    assert refusal(source, target.port, "k") == (
        "Target instance replied with error: BUSYKEY Target key name already exists."
    )
    source.call("SET", "k", "newer")
    migrate(source, target.port, "k", "REPLACE")
    assert target.call("GET", "k") == b"newer"
    assert source.call("EXISTS", "k") == 0


def test_migrate_of_several_moves_those_that_the_target_takes(launch: Launcher, kind: Kind) -> None:
    source, target = launch(kind), launch("redis")
    source.call("MSET", "a", "1", "b", "2", "c", "3")
    target.call("SET", "b", "there already")

    text = refusal(source, target.port, "", "KEYS", "a", "none", "b", "c")

    assert "BUSYKEY" in text
    assert sorted(source.client().keys()) == [b"b"]
    assert target.call("MGET", "a", "b", "c") == [b"1", b"there already", b"3"]


def test_migrate_logs_in_and_says_what_was_refused(launch: Launcher, kind: Kind) -> None:
    source, target = launch(kind), launch("redis")
    source.call("SET", "k", "v")
    target.config_set(requirepass="secret")

    assert "NOAUTH" in refusal(source, target.port, "k")
    assert "WRONGPASS" in refusal(source, target.port, "k", "AUTH", "wrong")
    assert source.call("EXISTS", "k") == 1
    migrate(source, target.port, "k", "AUTH2", "default", "secret")
    assert source.call("EXISTS", "k") == 0
    source.call("SET", "k", "v")
    migrate(source, target.port, "k", "REPLACE", "AUTH", "secret")
    assert source.call("EXISTS", "k") == 0


def test_migrate_that_cannot_be_is_refused_in_redis_words(launch: Launcher, kind: Kind) -> None:
    source = launch(kind)
    source.call("SET", "k", "v")
    nobody = free_port()

    assert migrate(source, nobody, "none") in (b"NOKEY", "NOKEY")
    assert refusal(source, nobody, "k") == "IOERR error or timeout writing to target instance"
    assert "must be set to the empty string" in refusal(source, nobody, "k", "KEYS", "a")
    assert refusal(source, nobody, "k", "NONSENSE") == "syntax error"
    assert source.call("GET", "k") == b"v"
