"""Keys as such: deletion, expiry, renaming, copying, SCAN, DUMP and RESTORE, SORT."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.engine import gates
from kvrepl.keyspace.database import HIDE
from kvrepl.resp.values import OK, Status
from tests.unit.commands.session import START_MS, Session


def fill(session: Session) -> None:
    """One key of each type, named by it."""
    session.run("set", "string", "text")
    session.run("rpush", "list", "3", "1", "2")
    session.run("sadd", "set", "a", "b")
    session.run("hset", "hash", "f", "v")
    session.run("zadd", "zset", "1", "m", "2", "n")


TYPES = ("string", "list", "set", "hash", "zset")


def test_del_of_some_keys_counts_those_and_propagates_itself(session: Session) -> None:
    fill(session)
    assert session.propagated("del", "string", "none", "list", "list") == [
        "del string none list list"
    ]
    assert session.run("exists", "string", "list", "set", "set") == 2


def test_del_of_nothing_propagates_nothing(session: Session) -> None:
    assert session.propagated("unlink", "none") == []


def test_del_of_an_expired_key_counts_nothing_and_propagates_the_expiry(session: Session) -> None:
    session.run("set", "k", "v", "px", 10)
    session.take_propagated()
    session.advance(11)
    assert session.propagated("del", "k") == ["DEL k"]


@pytest.mark.parametrize("kind", TYPES)
def test_type_names_what_a_key_holds(session: Session, kind: str) -> None:
    fill(session)
    assert session.run("type", kind) == Status(kind.encode())


def test_type_of_a_missing_key_is_none(session: Session) -> None:
    assert session.run("type", "none") == Status(b"none")


# ------------------------------------------------------------------------ expiry


@pytest.mark.parametrize(
    ("argv", "sent"),
    [
        (("expire", "k", 10), f"PEXPIREAT k {START_MS + 10_000}"),
        (("pexpire", "k", 10), f"PEXPIREAT k {START_MS + 10}"),
        (("expireat", "k", START_MS // 1000 + 1), f"PEXPIREAT k {START_MS + 1000}"),
        (("PExpireAt", "k", START_MS + 1, "nx"), f"PExpireAt k {START_MS + 1} nx"),
        (("expire", "k", 10, "NX"), f"PEXPIREAT k {START_MS + 10_000} NX"),
        (("expire", "k", 0), "DEL k"),
        (("expire", "k", -1), "DEL k"),
        (("pexpireat", "k", START_MS), "DEL k"),
    ],
)
def test_expire_is_propagated_as_an_instant_or_a_deletion(
    session: Session, argv: tuple[object, ...], sent: str
) -> None:
    session.run("set", "k", "v")
    session.take_propagated()
    assert session.propagated(*argv) == [sent]


def test_expire_into_the_past_on_a_replica_keeps_the_key(session: Session) -> None:
    session.run("set", "k", "v")
    session.engine.is_replica = True
    session.run("pexpireat", "k", 1)
    assert session.client.db.expires_at_ms(b"k") == 1


@pytest.mark.parametrize(
    ("have_ms", "condition", "new_ms", "done"),
    [
        (None, "nx", 50, True),
        (100, "nx", 50, False),
        (None, "xx", 50, False),
        (100, "xx", 50, True),
        (100, "gt", 100, False),
        (100, "gt", 101, True),
        (None, "gt", 101, False),
        (100, "lt", 100, False),
        (100, "lt", 99, True),
        (None, "lt", 99, True),
    ],
)
def test_expire_condition_compares_with_the_old_time(
    session: Session, have_ms: int | None, condition: str, new_ms: int, done: bool
) -> None:
    session.run("set", "k", "v")
    if have_ms is not None:
        session.run("pexpire", "k", have_ms)
    assert session.run("pexpire", "k", new_ms, condition) == int(done)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("expire", "k", "x"), "ERR value is not an integer or out of range"),
        (("expire", "k", "1", "zz"), "ERR Unsupported option zz"),
        (("expire", "k", "x", "zz"), "ERR Unsupported option zz"),
        (
            ("expire", "k", 1, "nx", "gt"),
            "ERR NX and XX, GT or LT options at the same time are not",
        ),
        (
            ("expire", "k", 1, "gt", "lt"),
            "ERR GT and LT options at the same time are not compatible",
        ),
        (("expire", "k", 9223372036854775), "ERR invalid expire time in 'expire' command"),
        (("pexpire", "k", 2**63 - 1), "ERR invalid expire time in 'pexpire' command"),
    ],
)
def test_expire_with_wrong_arguments_is_refused(
    session: Session, argv: tuple[object, ...], text: str
) -> None:
    assert session.error(*argv).startswith(text)


def test_ttl_tells_seconds_rounded_and_milliseconds(session: Session) -> None:
    session.run("set", "k", "v", "px", 1500)
    session.run("set", "forever", "v")
    assert [session.run(name, "k") for name in ("ttl", "pttl")] == [2, 1500]
    assert session.run("pexpiretime", "k") == START_MS + 1500
    assert session.run("expiretime", "k") == (START_MS + 1500 + 500) // 1000
    assert [session.run("ttl", key) for key in ("forever", "none")] == [-1, -2]


def test_persist_takes_the_time_away_once(session: Session) -> None:
    session.run("set", "k", "v", "px", 1500)
    assert [session.run("persist", "k"), session.run("persist", "k")] == [1, 0]


# ----------------------------------------------------------- rename, move, copy


def test_rename_takes_value_and_time_along_and_replaces(session: Session) -> None:
    session.run("set", "old", "v", "px", 1500)
    session.run("set", "new", "w")
    assert session.events("rename", "old", "new") == ["rename_from old", "rename_to new"]
    assert session.run("get", "new") == b"v"
    assert session.run("pttl", "new") == 1500
    assert session.run("exists", "old") == 0


def test_rename_of_a_missing_key_is_an_error_and_to_itself_is_nothing(session: Session) -> None:
    assert session.error("rename", "a", "a") == "ERR no such key"
    session.run("set", "a", "v")
    assert session.run("rename", "a", "a") == OK
    assert session.run("renamenx", "a", "a") == 0
    assert session.dirt("rename", "a", "a") == 0


def test_move_to_a_database_that_has_the_key_moves_nothing(session: Session) -> None:
    session.run("set", "k", "v", "px", 1500)
    assert session.run("move", "k", 3) == 1
    session.run("set", "k", "w")
    assert session.run("move", "k", 3) == 0
    session.run("select", 3)
    assert session.run("pttl", "k") == 1500
    assert session.error("move", "k", 3) == "ERR source and destination objects are the same"
    assert session.error("move", "k", 16) == "ERR DB index is out of range"


@pytest.mark.parametrize("kind", TYPES)
def test_copy_is_a_value_of_its_own(session: Session, kind: str) -> None:
    change = {
        "string": ("append", "copy", "x"),
        "list": ("rpush", "copy", "x"),
        "set": ("sadd", "copy", "x"),
        "hash": ("hset", "copy", "x", "y"),
        "zset": ("zadd", "copy", "9", "x"),
    }
    fill(session)
    before = session.run("dump", kind)
    assert session.run("copy", kind, "copy") == 1
    assert session.run("dump", "copy") == before
    session.run(*change[kind])
    assert session.run("dump", kind) == before


def test_copy_over_a_key_needs_replace(session: Session) -> None:
    session.run("mset", "a", "1", "b", "2")
    assert session.run("copy", "a", "b") == 0
    assert session.run("copy", "a", "b", "replace") == 1
    assert session.run("get", "b") == b"1"
    assert session.run("copy", "a", "a", "db", 2) == 1
    assert session.error("copy", "a", "a").startswith("ERR source and destination")


# ------------------------------------------------------------------------- SCAN


def scan_all(session: Session, *options: object) -> list[bytes]:
    found: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, keys = session.run("scan", cursor, *options)
        found += keys
        if cursor == b"0":
            return found


def test_scan_gives_every_key_once(session: Session) -> None:
    names = {b"key:%d" % i for i in range(500)}
    for name in names:
        session.run("set", name, "v")
    found = scan_all(session, "count", 7)
    assert len(found) == 500
    assert set(found) == names


def test_scan_filters_by_pattern_and_type(session: Session) -> None:
    fill(session)
    session.run("set", "second", "v")
    assert scan_all(session, "match", "s*", "type", "STRING") != []
    assert set(scan_all(session, "match", "s*", "type", "STRING")) == {b"string", b"second"}
    assert scan_all(session, "type", "nosuch") == []


def test_scan_of_expired_keys_propagates_each_without_a_transaction(session: Session) -> None:
    session.run("set", "a", "v", "px", 10)
    session.run("set", "b", "v", "px", 10)
    session.advance(11)
    session.take_propagated()
    assert sorted(session.propagated("scan", 0, "count", 10_000)) == ["DEL a", "DEL b"]


def test_scan_without_expired_keys_leaves_the_next_transaction_wrapped(session: Session) -> None:
    session.run("scan", 0)
    for argv in (("multi",), ("set", "a", "1"), ("set", "b", "2")):
        session.run(*argv)
    assert session.propagated("exec") == ["MULTI", "set a 1", "set b 2", "EXEC"]


def test_keys_on_a_replica_leaves_out_what_has_expired_and_dbsize_counts_it(
    session: Session,
) -> None:
    session.run("set", "gone", "v", "px", 10)
    session.run("set", "here", "v")
    session.engine.keyspace.expiry_mode = HIDE
    session.advance(11)
    assert session.run("keys", "*") == [b"here"]
    assert scan_all(session) == [b"here"]
    assert session.run("dbsize") == 2


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("scan", "x"), "ERR invalid cursor"),
        (("scan", 0, "count", 0), "ERR syntax error"),
        (("scan", 0, "count", "x"), "ERR value is not an integer or out of range"),
        (("scan", 0, "match"), "ERR syntax error"),
        (("scan", 0, "zz", 1), "ERR syntax error"),
    ],
)
def test_scan_with_wrong_arguments_is_refused(
    session: Session, argv: tuple[object, ...], text: str
) -> None:
    assert session.error(*argv) == text


def test_randomkey_draws_from_what_is_there(session: Session) -> None:
    assert session.run("randomkey") is None
    session.run("mset", "a", "1", "b", "2")
    assert {session.run("randomkey") for _ in range(64)} == {b"a", b"b"}


# -------------------------------------------------------------- DUMP and RESTORE


@pytest.mark.parametrize("kind", TYPES)
def test_restore_of_a_dump_is_the_same_value(session: Session, kind: str) -> None:
    fill(session)
    payload = session.run("dump", kind)
    assert session.run("restore", "copy", 0, payload) == OK
    assert session.run("dump", "copy") == payload
    assert session.run("object", "encoding", "copy") == session.run("object", "encoding", kind)


def test_restore_over_a_key_needs_replace(session: Session) -> None:
    fill(session)
    payload = session.run("dump", "hash")
    assert session.error("restore", "list", 0, payload).startswith("BUSYKEY")
    assert session.run("restore", "list", 0, payload, "replace") == OK
    assert session.run("hget", "list", "f") == b"v"


def test_restore_with_a_relative_time_propagates_an_instant(session: Session) -> None:
    session.run("set", "k", "v")
    payload = session.run("dump", "k")
    with_instant = [b"restore", b"new", b"%d" % (START_MS + 500), payload, b"replace", b"ABSTTL"]
    session.take_propagated()
    session.run("restore", "new", 500, payload, "replace")
    assert session._recorder.commands == [with_instant]
    assert session.run("pexpiretime", "new") == START_MS + 500


def test_restore_into_the_past_deletes_what_it_would_replace(session: Session) -> None:
    session.run("set", "k", "v")
    payload = session.run("dump", "k")
    assert session.propagated("restore", "k", 1, payload, "absttl", "replace") == ["DEL k"]
    assert session.propagated("restore", "k", 1, payload, "absttl") == []
    assert session.run("exists", "k") == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((-1, "x"), "ERR Invalid TTL value, must be >= 0"),
        ((0, "x"), "ERR DUMP payload version or checksum are wrong"),
        ((0, "x", "idletime", -1), "ERR Invalid IDLETIME value, must be >= 0"),
        ((0, "x", "freq", 256), "ERR Invalid FREQ value, must be >= 0 and <= 255"),
        ((0, "x", "idletime", 1, "freq", 1), "ERR syntax error"),
    ],
)
def test_restore_with_wrong_arguments_is_refused(
    session: Session, options: tuple[object, ...], text: str
) -> None:
    assert session.error("restore", "k", *options) == text


@given(st.data())
def test_restore_of_a_damaged_dump_never_makes_a_key(data: st.DataObject) -> None:
    session = Session()
    fill(session)
    payload = bytearray(session.run("dump", data.draw(st.sampled_from(TYPES))))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    assert session.error("restore", "copy", 0, bytes(payload)).startswith("ERR ")
    assert session.run("exists", "copy") == 0


# ------------------------------------------------------------------------- SORT


def test_sort_by_numbers_breaks_ties_by_bytes(session: Session) -> None:
    session.run("rpush", "l", "1", "1.0", "01", "-2", "3e2", "inf")
    assert session.run("sort", "l") == [b"-2", b"01", b"1", b"1.0", b"3e2", b"inf"]
    assert session.run("sort", "l", "desc", "limit", 0, 2) == [b"inf", b"3e2"]


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("5e-324", False),  # rounded, and less than the smallest normal number
        ("1e-310", False),
        ("-1e-310", False),
        ("2.2250738585072011e-308", False),
        ("2.225073858507201e-308", False),
        ("0x1.8p-1074", False),
        ("0." + "0" * 320 + "1", False),
        ("0." + "0" * 400 + "1", False),
        ("1e-400", False),
        ("0x1p-1074", True),  # what it is
        ("0x1p-1023", True),
        ("2.2250738585072014e-308", True),  # the smallest normal number
        ("1e-307", True),
        ("0e-400", True),
        ("0." + "0" * 200 + "1", True),
    ],
)
def test_sort_refuses_numbers_that_strtod_calls_out_of_range(
    session: Session, text: str, taken: bool
) -> None:
    """As a redis-server does that was just started: errno outlives a command in it."""
    session.run("rpush", "l", text)
    if taken:
        assert session.run("sort", "l") == [text.encode()]
    else:
        error = session.run("sort", "l")
        assert str(error) == "ERR One or more scores can't be converted into double"
    session.run("zadd", "z", "5e-324", "m")
    assert session.run("zscore", "z", "m") == 5e-324


def test_sort_by_other_keys_and_fields_gets_what_they_hold(session: Session) -> None:
    session.run("rpush", "l", "3", "1", "2")
    session.run("mset", "w_1", "3", "w_2", "2", "w_3", "1")
    session.run("hset", "h_2", "f", "two")
    assert session.run("sort", "l", "by", "w_*", "get", "#", "get", "h_*->f") == [
        b"3", None, b"2", b"two", b"1", None,
    ]  # fmt: skip
    assert session.run("sort", "l", "by", "h_*->f", "alpha") == [b"3", b"1", b"2"]


def test_sort_by_a_constant_leaves_the_order(session: Session) -> None:
    fill(session)
    assert session.run("sort", "list", "by", "nosort") == [b"3", b"1", b"2"]
    assert session.run("sort", "list", "by", "nosort", "desc", "limit", 1, 9) == [b"1", b"3"]
    assert session.run("sort", "zset", "by", "nosort", "desc") == [b"n", b"m"]


def test_sort_store_of_an_unordered_set_orders_it(session: Session) -> None:
    session.run("sadd", "s", *"qwertyuiop")
    assert session.events("sort", "s", "by", "nosort", "store", "d") == ["sortstore d"]
    assert session.run("lrange", "d", 0, -1) == [c.encode() for c in sorted("qwertyuiop")]


def test_sort_store_of_nothing_deletes_the_destination(session: Session) -> None:
    session.run("set", "d", "v")
    assert session.propagated("sort", "none", "store", "d") == ["sort none store d"]
    assert session.run("exists", "d") == 0
    assert session.propagated("sort", "none", "store", "d") == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("sort", "text"), "ERR One or more scores can't be converted into double"),
        (("sort", "string"), "WRONGTYPE Operation against a key holding the wrong kind of value"),
        (("sort_ro", "list", "store", "d"), "ERR syntax error"),
        (("sort", "list", "limit", 1), "ERR syntax error"),
        (("sort", "list", "limit", "a", "b"), "ERR value is not an integer or out of range"),
    ],
)
def test_sort_of_what_cannot_be_sorted_is_refused(
    session: Session, argv: tuple[object, ...], text: str
) -> None:
    fill(session)
    session.run("rpush", "text", "a", "b")
    assert session.error(*argv) == text


# ------------------------------------------------------------ OBJECT and MEMORY


def test_object_refcount_tells_small_integers_as_shared(session: Session) -> None:
    session.run("mset", "a", "9999", "b", "10000", "c", "text")
    counts = [session.run("object", "refcount", key) for key in ("a", "b", "c", "none")]
    assert counts == [2**31 - 1, 1, 1, None]


def test_object_freq_and_idletime_depend_on_the_policy(session: Session) -> None:
    session.run("set", "k", "v")
    assert session.run("object", "idletime", "k") == 0
    assert session.error("object", "freq", "k").startswith("ERR An LFU maxmemory policy is not")


def test_object_counts_neither_hit_nor_miss(session: Session) -> None:
    session.run("set", "k", "v")
    session.run("object", "encoding", "k")
    session.run("object", "encoding", "none")
    keyspace: Any = session.engine.keyspace
    assert (keyspace.hits, keyspace.misses) == (0, 0)


@pytest.mark.parametrize("kind", TYPES)
def test_memory_usage_grows_with_what_is_put_in(session: Session, kind: str) -> None:
    fill(session)
    grow: dict[str, list[object]] = {
        "string": ["append", "string", "x" * 1000],
        "list": ["rpush", "list", *(f"{i:0100}" for i in range(50))],
        "set": ["sadd", "set", *(f"{i:0100}" for i in range(50))],
        "hash": ["hset", "hash", *(f"{i:0100}" for i in range(50))],
        "zset": ["zadd", "zset", *(w for i in range(50) for w in (i, f"{i:0100}"))],
    }
    before = session.run("memory", "usage", kind)
    session.run(*grow[kind])
    added = session.run("memory", "usage", kind, "samples", 0) - before
    assert 900 < added < 20_000


def test_memory_usage_by_samples_of_equal_elements_is_that_of_all(session: Session) -> None:
    session.run("rpush", "l", *(f"{i:020}" for i in range(100)))
    usage = [session.run("memory", "usage", "l", "samples", n) for n in (1, 5, 0)]
    assert usage[0] == usage[1] == usage[2] > 100 * 20


def test_memory_usage_of_a_missing_key_is_null(session: Session) -> None:
    assert session.run("memory", "usage", "none") is None
    assert session.error("memory", "usage", "none", "samples", -1) == "ERR syntax error"


def test_write_on_a_readonly_replica_is_refused(session: Session) -> None:
    session.engine.raise_gate(gates.READONLY)
    assert session.error("del", "k").startswith("READONLY")
    assert session.run("exists", "k") == 0


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (1 << 31, 0, "ERR invalid first DB index"),
        (99, 1 << 31, "ERR invalid second DB index"),
        (99, 0, "ERR DB index is out of range"),
    ],
)
def test_swapdb_of_numbers_that_are_no_database_says_which(
    session: Session, first: int, second: int, error: str
) -> None:
    assert session.error("swapdb", first, second) == error


def test_restore_with_a_time_to_live_that_overflows_leaves_nothing(session: Session) -> None:
    session.run("set", "from", "12")
    payload = session.run("dump", "from")
    assert session.propagated("restore", "to", (1 << 63) - 1, payload) == []
    assert session.run("exists", "to") == 0
