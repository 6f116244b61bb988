"""Keys that were given a time to live on a writable replica: it removes them by itself."""

from __future__ import annotations

from kvrepl.keyspace import database
from kvrepl.keyspace.keyspace import Keyspace


def writable_replica() -> Keyspace:
    keyspace = Keyspace(2)
    keyspace.expiry_mode = database.HIDE
    keyspace.writable_replica = True
    return keyspace


def write(keyspace: Keyspace, db: int, key: bytes, expires_at_ms: int) -> None:
    keyspace.databases[db].set(key, b"x")
    keyspace.databases[db].expire_at(key, expires_at_ms)


def names(keyspace: Keyspace) -> list[bytes]:
    return sorted(key for db in keyspace.databases for part in db.segments for key in part)


def test_key_with_a_time_to_live_is_removed_when_that_is_over_and_not_before() -> None:
    keyspace = writable_replica()
    write(keyspace, 0, b"soon", 10)
    write(keyspace, 1, b"late", 99)
    for now_ms, left in ((10, [b"late", b"soon"]), (11, [b"late"]), (100, [])):
        keyspace.now_ms = now_ms
        keyspace.local_expiry.expire(keyspace, 100)
        assert names(keyspace) == left
        assert len(keyspace.local_expiry) == len(left)


def test_key_of_the_master_is_not_touched() -> None:
    keyspace = writable_replica()
    keyspace.expiry_mode = database.IGNORE  # as for the master's commands, and while loading
    write(keyspace, 0, b"his", 10)
    keyspace.expiry_mode = database.HIDE
    keyspace.now_ms = 1_000
    keyspace.local_expiry.expire(keyspace, 100)
    assert names(keyspace) == [b"his"]


def test_key_that_lost_its_time_or_is_gone_is_forgotten() -> None:
    keyspace = writable_replica()
    for key in (b"kept", b"gone"):
        write(keyspace, 0, key, 10)
    keyspace.databases[0].persist(b"kept")
    keyspace.databases[0].unlink(b"gone")
    keyspace.now_ms = 1_000
    keyspace.local_expiry.expire(keyspace, 100)
    assert names(keyspace) == [b"kept"]
    assert len(keyspace.local_expiry) == 0


def test_every_key_is_visited_though_only_some_at_a_time() -> None:
    keyspace = writable_replica()
    for number in range(100):
        write(keyspace, 0, b"%d" % number, 10 if number >= 50 else 10_000)
    keyspace.now_ms = 1_000
    for _ in range(10):
        keyspace.local_expiry.expire(keyspace, 10)
    assert len(names(keyspace)) == len(keyspace.local_expiry) == 50


def test_another_dataset_knows_nothing_of_them() -> None:
    keyspace = writable_replica()
    write(keyspace, 0, b"key", 10)
    keyspace.clear()
    assert len(keyspace.local_expiry) == 0
