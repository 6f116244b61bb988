"""Hashes: replies, errors, encodings, propagation and random fields of their commands."""

from __future__ import annotations

import pytest

from kvrepl.resp import encode
from kvrepl.resp.values import OK
from tests.unit.commands.session import Session

THREE = ("HSET", "h", "a", "1", "b", "2.5", "c", "x")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("HSET", "h", "a", 2, "d", 4, "d", 5), 1),
        (("HMSET", "h", "a", 2), OK),
        (("HSETNX", "h", "a", 2), 0),
        (("HSETNX", "h", "d", 2), 1),
        (("HGET", "h", "a"), b"1"),
        (("HGET", "h", "z"), None),
        (("HMGET", "h", "a", "z"), [b"1", None]),
        (("HGETALL", "h"), {b"a": b"1", b"b": b"2.5", b"c": b"x"}),
        (("HKEYS", "h"), [b"a", b"b", b"c"]),
        (("HVALS", "h"), [b"1", b"2.5", b"x"]),
        (("HLEN", "h"), 3),
        (("HEXISTS", "h", "a"), 1),
        (("HSTRLEN", "h", "b"), 3),
        (("HSTRLEN", "h", "z"), 0),
        (("HDEL", "h", "a", "z", "a"), 1),
        (("HINCRBY", "h", "a", -5), -4),
        (("HINCRBY", "h", "new", 5), 5),
        (("HINCRBYFLOAT", "h", "b", "0.1"), b"2.6"),
        (("HINCRBYFLOAT", "h", "new", "5.0e3"), b"5000"),
        (("HSCAN", "h", 0, "MATCH", "[ab]"), [b"0", [b"a", b"1", b"b", b"2.5"]]),
    ],
)
def test_hash_command_on_three_fields_replies(
    session: Session, command: tuple[object, ...], reply: object
) -> None:
    session.run(*THREE)

    assert session.run(*command) == reply


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("HGETALL", "h"), {}),
        (("HKEYS", "h"), []),
        (("HMGET", "h", "a", "b"), [None, None]),
        (("HDEL", "h", "a"), 0),
        (("HRANDFIELD", "h"), None),
        (("HRANDFIELD", "h", 3), []),
        (("HSCAN", "h", 0, "NONSENSE"), [b"0", []]),
    ],
)
def test_hash_command_on_no_key_replies_without_making_one(
    session: Session, command: tuple[object, ...], reply: object
) -> None:
    assert session.run(*command) == reply
    assert len(session.engine.keyspace) == 0


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("HSET", "h", "a", 1, "b"), "ERR wrong number of arguments for 'hset' command"),
        (("HMSET", "h", "a", 1, "b"), "ERR wrong number of arguments for 'hmset' command"),
        (("HINCRBY", "h", "a", "x"), "ERR value is not an integer or out of range"),
        (("HINCRBY", "h", "c", 1), "ERR hash value is not an integer"),
        (("HINCRBY", "h", "max", 1), "ERR increment or decrement would overflow"),
        (("HINCRBYFLOAT", "h", "c", 1), "ERR hash value is not a float"),
        (("HINCRBYFLOAT", "h", "a", "x"), "ERR value is not a valid float"),
        (("HINCRBYFLOAT", "h", "a", "inf"), "ERR value is NaN or Infinity"),
        (("HINCRBYFLOAT", "h", "inf", 1), "ERR increment would produce NaN or Infinity"),
        (("HRANDFIELD", "h", 1 << 62, "WITHVALUES"), "ERR value is out of range"),
        (("HRANDFIELD", "h", -(1 << 63)), "ERR value is out of range, value must between"),
        (("HRANDFIELD", "h", 1, "WITHSCORES"), "ERR syntax error"),
        (("HSCAN", "h", "x"), "ERR invalid cursor"),
        (("HSCAN", "h", 1 << 64), "ERR invalid cursor"),
        (("HSCAN", "h", 0, "COUNT", 0), "ERR syntax error"),
        (("HGET", "text", "a"), "WRONGTYPE Operation against a key"),
        (("HSET", "text", "a", 1), "WRONGTYPE Operation against a key"),
    ],
)
def test_hash_command_of_bad_arguments_is_refused_and_changes_nothing(
    session: Session, command: tuple[object, ...], text: str
) -> None:
    session.run(*THREE, "max", (1 << 63) - 1, "inf", "inf")
    session.run("SET", "text", "x")

    assert session.dirt(*command) == 0
    assert session.error(*command).startswith(text)


def test_hincrby_that_fails_on_no_key_leaves_no_empty_hash(session: Session) -> None:
    session.run("HINCRBYFLOAT", "h", "a", "nan")

    assert session.run("EXISTS", "h") == 0


def test_hash_whose_last_field_is_deleted_goes_with_its_key(session: Session) -> None:
    session.run("HSET", "h", "a", 1, "b", 2)

    assert session.events("HDEL", "h", "a", "b", "a") == ["hdel h", "del h"]
    assert session.run("EXISTS", "h") == 0


def test_hincrbyfloat_propagates_the_result_as_hset(session: Session) -> None:
    session.run("HSET", "h", "a", "10.50")

    assert session.propagated("HINCRBYFLOAT", "h", "a", "0.1") == ["HSET h a 10.6"]
    assert session.events("HINCRBYFLOAT", "h", "a", "0.1") == ["hincrbyfloat h"]


def test_hset_counts_every_pair_as_a_change_though_nothing_differs(session: Session) -> None:
    session.run(*THREE)

    assert session.dirt(*THREE) == 3
    assert session.propagated(*THREE) == ["HSET h a 1 b 2.5 c x"]


@pytest.mark.parametrize(("value", "encoding"), [("x" * 64, "listpack"), ("x" * 65, "hashtable")])
def test_hash_of_a_long_value_is_a_hashtable(session: Session, value: str, encoding: str) -> None:
    session.run("HSET", "h", "a", value)

    assert session.encoding("h") == encoding


@pytest.mark.parametrize(
    ("resp", "plain", "nested"),
    [
        (2, b"*2\r\n$1\r\na\r\n$1\r\n1\r\n", b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"),
        (3, b"%1\r\n$1\r\na\r\n$1\r\n1\r\n", b"*1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n"),
    ],
)
def test_hash_of_one_field_is_a_map_or_pairs_only_in_resp3(
    resp: int, plain: bytes, nested: bytes
) -> None:
    session = Session(resp)
    session.run("HSET", "h", "a", 1)

    assert encode(session.run("HGETALL", "h"), resp) == plain
    assert encode(session.run("HRANDFIELD", "h", 1, "withvalues"), resp) == nested


@pytest.mark.parametrize("fields", [3, 2000])
def test_hrandfield_picks_fields_that_are_there(session: Session, fields: int) -> None:
    held = {b"f%d" % i: b"v%d" % i for i in range(fields)}
    session.run("HSET", "h", *(part for entry in held.items() for part in entry))

    assert session.run("HRANDFIELD", "h") in held
    some = session.run("HRANDFIELD", "h", 2)
    assert len(set(some)) == 2
    assert set(some) <= held.keys()
    assert set(session.run("HRANDFIELD", "h", fields + 1)) == held.keys()
    again = session.run("HRANDFIELD", "h", -3 * fields, "WITHVALUES")
    assert len(again) == 6 * fields
    assert all(held[f] == v for f, v in zip(again[::2], again[1::2], strict=True))


def test_hscan_of_a_large_hash_returns_every_field_over_its_steps(session: Session) -> None:
    session.run("HSET", "h", *(part for i in range(3000) for part in (f"f{i}", i)))
    cursor, found, steps = b"0", set(), 0
    while steps == 0 or cursor != b"0":
        cursor, flat = session.run("HSCAN", "h", cursor, "COUNT", 100)
        found.update(flat[::2])
        steps += 1

    assert len(found) == 3000
    assert steps > 5
