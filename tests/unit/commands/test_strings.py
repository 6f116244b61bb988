"""Strings: replies, encodings, what is propagated, and what expires with them."""

from __future__ import annotations

import pytest

from kvrepl.keyspace.encoding import encoding
from kvrepl.resp.values import OK
from tests.unit.commands.session import START_MS, Session

AT_10_S = START_MS + 10_000


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        ("SET k v", "SET k v"),
        ("set k v KEEPTTL", "set k v KEEPTTL"),
        ("SET k v EX 10", f"SET k v PXAT {AT_10_S}"),
        ("SET k v NX PX 10000", f"SET k v PXAT {AT_10_S}"),
        ("SET k v GET", "SET k v"),
        ("SET k v get XX KEEPTTL", "SET k v XX KEEPTTL"),
        ("SETEX k 10 v", f"SET k v PXAT {AT_10_S}"),
        ("PSETEX k 10000 v", f"SET k v PXAT {AT_10_S}"),
        ("GETSET k v", "SET k v"),
        ("GETDEL k", "DEL k"),
        ("GETEX k EX 10", f"PEXPIREAT k {AT_10_S}"),
        ("INCRBYFLOAT n 0.5", "SET n 1.5 KEEPTTL"),
        ("INCR n", "INCR n"),
        ("APPEND k x", "APPEND k x"),
        ("SETRANGE k 1 x", "SETRANGE k 1 x"),
        ("MSET a 1 b 2", "MSET a 1 b 2"),
    ],
)
def test_string_command_is_propagated_so_that_it_means_the_same_later(
    session: Session, command: str, sent: str
) -> None:
    if " NX" not in command:
        session.run("SET", "k", "old")
    session.run("SET", "n", 1)
    assert session.propagated(*command.split()) == [sent]


@pytest.mark.parametrize(
    "command",
    ["GET k", "SETNX k v", "SET k v NX", "SET none v XX", "GETEX k", "GETEX k PERSIST",
     "GETDEL none", "MSETNX k 1 z 2", "SETRANGE k 9 ", "STRLEN k", "GETRANGE k 0 -1"],
)  # fmt: skip
def test_string_command_that_changes_nothing_propagates_nothing(
    session: Session, command: str
) -> None:
    session.run("SET", "k", "old")
    assert session.propagated(*command.split(" ")) == []
    assert session.dirt(*command.split(" ")) == 0


def test_set_over_an_expired_key_propagates_its_deletion_first(session: Session) -> None:
    session.run("SET", "k", "old", "PX", 10)
    session.advance(11)

    assert session.propagated("SET", "k", "new") == ["MULTI", "DEL k", "SET k new", "EXEC"]
    assert session.run("GET", "k") == b"new"
    assert session.run("PTTL", "k") == -1
    assert session.engine.keyspace.expired == 1


def test_set_keepttl_over_an_expired_key_starts_without_a_time_to_live(session: Session) -> None:
    session.run("SET", "k", "old", "PX", 10)
    session.advance(11)
    session.run("SET", "k", "new", "KEEPTTL")
    assert session.run("PTTL", "k") == -1


def test_set_get_returns_what_was_there_whether_or_not_it_was_replaced(session: Session) -> None:
    assert session.run("SET", "k", "1", "GET") is None
    assert session.run("SET", "k", "2", "GET") == b"1"
    assert session.run("SET", "k", "3", "NX", "GET") == b"2"
    assert session.run("GET", "k") == b"2"
    session.run("RPUSH", "l", "x")
    assert session.error("SET", "l", "v", "GET").startswith("WRONGTYPE")
    assert session.run("SET", "l", "v") == OK


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SET k v EX 0", "ERR invalid expire time in 'set' command"),
        ("SET k v EX x", "ERR value is not an integer or out of range"),
        ("SET k v EX 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("SET k v NX XX", "ERR syntax error"),
        ("SET k v EX 1 PX 1", "ERR syntax error"),
        ("SET k v EX 1 KEEPTTL", "ERR syntax error"),
        ("SETEX k -1 v", "ERR invalid expire time in 'setex' command"),
        ("GETEX k PXAT 0", "ERR invalid expire time in 'getex' command"),
        ("MSET a", "ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("MSETNX a 1 b", "ERR wrong number of arguments for 'msetnx' command"),
        ("INCR text", "ERR value is not an integer or out of range"),
        ("INCR big", "ERR increment or decrement would overflow"),
        ("DECRBY k -9223372036854775808", "ERR decrement would overflow"),
        ("INCRBYFLOAT text 1", "ERR value is not a valid float"),
        ("INCRBYFLOAT n inf", "ERR increment would produce NaN or Infinity"),
        ("SETRANGE k -1 x", "ERR offset is out of range"),
        ("SETRANGE k 536870912 x",
         "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("GET l", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("APPEND l x", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ],
)  # fmt: skip
def test_string_command_that_cannot_be_done_says_so_and_changes_nothing(
    session: Session, command: str, error: str
) -> None:
    session.run("MSET", "k", 1, "text", "abc", "big", (1 << 63) - 1, "n", 1)
    session.run("RPUSH", "l", "x")
    assert session.error(*command.split()) == error
    assert session.dirt(*command.split()) == 0


@pytest.mark.parametrize(
    ("start", "stop", "part"),
    [(0, -1, b"abcdef"), (1, 2, b"bc"), (-3, -2, b"de"), (4, 99, b"ef"), (9, 10, b""), (3, 1, b""),
     (-1, -3, b""), (-99, 1, b"ab")],
)  # fmt: skip
def test_getrange_takes_both_ends_and_counts_from_the_end(
    session: Session, start: int, stop: int, part: bytes
) -> None:
    session.run("SET", "k", "abcdef")
    assert session.run("GETRANGE", "k", start, stop) == part
    assert session.run("SUBSTR", "k", start, stop) == part


def test_append_keeps_the_string_raw_until_it_is_set_anew(session: Session) -> None:
    def kind() -> bytes:
        return encoding(session.client.db.peek(b"k"))

    session.run("SET", "k", "12")
    assert kind() == b"int"
    assert session.run("APPEND", "k", "3") == 3
    assert kind() == b"raw"
    assert session.run("INCR", "k") == 124
    assert kind() == b"int"
    session.run("SET", "k", "x" * 44)
    assert kind() == b"embstr"
    session.run("SET", "k", "x" * 45)
    assert kind() == b"raw"


def test_reply_of_a_string_edited_later_keeps_what_it_was(session: Session) -> None:
    session.run("APPEND", "k", "a")
    session.run("APPEND", "k", "b")
    replies = [session.run("GETSET", "k", "c"), *session.run("MGET", "k", "none")]
    session.run("APPEND", "k", "d")
    assert replies == [b"ab", b"c", None]


def test_setrange_past_the_end_fills_with_zero_bytes(session: Session) -> None:
    assert session.run("SETRANGE", "k", 3, "x") == 4
    assert session.run("GET", "k") == b"\0\0\0x"


def test_msetnx_sets_all_or_none(session: Session) -> None:
    assert session.run("MSETNX", "a", 1, "b", 2) == 1
    assert session.run("MSETNX", "b", 3, "c", 4) == 0
    assert session.run("MGET", "a", "b", "c") == [b"1", b"2", None]


@pytest.mark.parametrize(
    ("command", "events"),
    [
        ("SET k v EX 10", ["set k", "expire k"]),
        ("GETDEL n", ["del n"]),
        ("APPEND n 1", ["append n"]),
        ("SETRANGE n 0 1", ["setrange n"]),
        ("INCR n", ["incrby n"]),
        ("INCRBYFLOAT n 1", ["incrbyfloat n"]),
        ("GETEX n EX 10", ["expire n"]),
    ],
)
def test_string_command_notifies_by_the_names_of_redis(
    session: Session, command: str, events: list[str]
) -> None:
    session.run("SET", "n", 1)
    assert session.events(*command.split()) == events
