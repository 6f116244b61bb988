"""Lists: replies, errors, events and propagation of their commands, and waiting for elements."""

from __future__ import annotations

import pytest

from kvrepl.errors import CommandError
from kvrepl.resp import encode
from kvrepl.resp.values import NULL_ARRAY, OK
from tests.unit.commands.session import Session

ABCDE = ("RPUSH", "k", "a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("command", "reply", "left"),
    [
        (("LPUSH", "k", "x", "y"), 7, b"yxabcde"),
        (("RPUSH", "k", "x", "y"), 7, b"abcdexy"),
        (("LPUSHX", "k", "x"), 6, b"xabcde"),
        (("LINSERT", "k", "before", "c", "x"), 6, b"abxcde"),
        (("LINSERT", "k", "AFTER", "e", "x"), 6, b"abcdex"),
        (("LINSERT", "k", "AFTER", "z", "x"), -1, b"abcde"),
        (("LINDEX", "k", -5), b"a", b"abcde"),
        (("LINDEX", "k", 5), None, b"abcde"),
        (("LINDEX", "k", -6), None, b"abcde"),
        (("LSET", "k", -1, "x"), OK, b"abcdx"),
        (("LTRIM", "k", 1, -2), OK, b"bcd"),
        (("LTRIM", "k", 3, 1), OK, b""),
        (("LREM", "k", 0, "c"), 1, b"abde"),
        (("LPOP", "k"), b"a", b"bcde"),
        (("RPOP", "k"), b"e", b"abcd"),
        (("LPOP", "k", 2), [b"a", b"b"], b"cde"),
        (("RPOP", "k", 2), [b"e", b"d"], b"abc"),
        (("RPOP", "k", 9), [b"e", b"d", b"c", b"b", b"a"], b""),
        (("LPOP", "k", 0), [], b"abcde"),
        (("LMOVE", "k", "k", "LEFT", "RIGHT"), b"a", b"bcdea"),
        (("RPOPLPUSH", "k", "k"), b"e", b"eabcd"),
        (("LMPOP", 2, "none", "k", "right", "COUNT", 2), [b"k", [b"e", b"d"]], b"abc"),
    ],
)
def test_list_command_on_five_elements_replies_and_leaves(
    session: Session, command: tuple[object, ...], reply: object, left: bytes
) -> None:
    session.run(*ABCDE)

    assert session.run(*command) == reply
    assert b"".join(session.run("LRANGE", "k", 0, -1)) == left
    assert session.run("EXISTS", "k") == int(left != b"")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("LLEN", "k"), 0),
        (("LPUSHX", "k", "x"), 0),
        (("LPOP", "k"), None),
        (("LPOP", "k", 1), NULL_ARRAY),
        (("LINDEX", "k", 0), None),
        (("LRANGE", "k", 0, -1), []),
        (("LTRIM", "k", 0, 0), OK),
        (("LREM", "k", 0, "a"), 0),
        (("LINSERT", "k", "BEFORE", "a", "b"), 0),
        (("LPOS", "k", "a"), None),
        (("LPOS", "k", "a", "COUNT", 0), []),
        (("LMOVE", "k", "k2", "LEFT", "LEFT"), None),
        (("LMPOP", 1, "k", "LEFT"), NULL_ARRAY),
    ],
)
def test_list_command_on_no_key_replies_without_making_one(
    session: Session, command: tuple[object, ...], reply: object
) -> None:
    assert session.run(*command) == reply
    assert len(session.engine.keyspace) == 0
    assert session.take_propagated() == []


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ((), 0),
        (("RANK", 2), 2),
        (("RANK", -1), 5),
        (("RANK", -2, "COUNT", 0), [2, 0]),
        (("COUNT", 0), [0, 2, 5]),
        (("COUNT", 2), [0, 2]),
        (("COUNT", 0, "MAXLEN", 3), [0, 2]),
        (("COUNT", 0, "MAXLEN", 3, "RANK", -1), [5]),
        (("RANK", 9), None),
        (("RANK", -(1 << 63)), 5),
    ],
)
def test_lpos_of_options_gives_indexes(
    session: Session, options: tuple[object, ...], reply: object
) -> None:
    session.run("RPUSH", "k", "a", "b", "a", "c", "c", "a")

    assert session.run("LPOS", "k", "a", *options) == reply


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("LPOS", "k", "a", "RANK", 0), "ERR RANK can't be zero: use 1 to start"),
        (("LPOS", "k", "a", "COUNT", "x"), "ERR COUNT can't be negative"),
        (("LPOS", "k", "a", "MAXLEN", -1), "ERR MAXLEN can't be negative"),
        (("LPOP", "k", "x"), "ERR value is out of range, must be positive"),
        (("LPOP", "k", 1, 2), "ERR wrong number of arguments for 'lpop' command"),
        (("LSET", "k", 5, "x"), "ERR index out of range"),
        (("LSET", "none", 0, "x"), "ERR no such key"),
        (("LINSERT", "k", "NEAR", "a", "b"), "ERR syntax error"),
        (("LMPOP", 0, "k", "LEFT"), "ERR numkeys should be greater than 0"),
        (("LMPOP", 2, "k", "LEFT"), "ERR syntax error"),
        (("LMPOP", 1, "k", "LEFT", "COUNT", 0), "ERR count should be greater than 0"),
        (("LMPOP", 1, "k", "LEFT", "COUNT", 1, "COUNT", 1), "ERR syntax error"),
        (("BLPOP", "k", "x"), "ERR timeout is not a float or out of range"),
        (("BLPOP", "k", "-1"), "ERR timeout is negative"),
        (("BLPOP", "k", "inf"), "ERR timeout is negative"),
        (("LMOVE", "k", "text", "LEFT", "LEFT"), "WRONGTYPE Operation against a key"),
        (("RPUSH", "text", "x"), "WRONGTYPE Operation against a key"),
    ],
)
def test_list_command_of_bad_arguments_is_refused_and_changes_nothing(
    session: Session, command: tuple[object, ...], text: str
) -> None:
    session.run(*ABCDE)
    session.run("SET", "text", "x")

    assert session.dirt(*command) == 0
    assert session.error(*command).startswith(text)
    assert session.run("LLEN", "k") == 5


def test_move_of_the_only_element_to_its_own_list_keeps_the_key(session: Session) -> None:
    session.run("RPUSH", "k", "a")

    assert session.events("RPOPLPUSH", "k", "k") == ["lpush k", "rpop k"]
    assert session.run("LRANGE", "k", 0, -1) == [b"a"]


def test_move_of_the_last_element_deletes_the_source_and_counts_one_change(
    session: Session,
) -> None:
    session.run("RPUSH", "k", "a")
    session.run("RPUSH", "k3", "a")

    assert session.events("LMOVE", "k", "k2", "LEFT", "RIGHT") == ["rpush k2", "lpop k", "del k"]
    assert session.dirt("LMOVE", "k3", "k2", "LEFT", "RIGHT") == 1
    assert session.run("LRANGE", "k2", 0, -1) == [b"a", b"a"]


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (("LMPOP", 2, "none", "k", "LEFT", "COUNT", 9), ["LPOP k 5"]),
        (("LMPOP", 1, "k", "right"), ["RPOP k 1"]),
        (("BLPOP", "none", "k", 0), ["LPOP k"]),
        (("BRPOP", "k", 0), ["RPOP k"]),
        (("BLMPOP", 0, 1, "k", "RIGHT", "COUNT", 2), ["RPOP k 2"]),
        (("BLMOVE", "k", "k2", "left", "RIGHT", 0), ["LMOVE k k2 left RIGHT"]),
        (("BRPOPLPUSH", "k", "k2", 0), ["RPOPLPUSH k k2"]),
        (("LTRIM", "k", 0, -1), []),
        (("lpop", "k"), ["lpop k"]),
    ],
)
def test_pop_from_five_elements_propagates_what_a_replica_can_repeat(
    session: Session, command: tuple[object, ...], sent: list[str]
) -> None:
    session.run(*ABCDE)

    assert session.propagated(*command) == sent


@pytest.mark.parametrize(
    ("waiting", "answer", "sent"),
    [
        (("BLPOP", "x", "k", 0), b"*2\r\n$1\r\nk\r\n$1\r\na\r\n", "LPOP k"),
        (("BRPOP", "k", 0), b"*2\r\n$1\r\nk\r\n$1\r\nc\r\n", "RPOP k"),
        (
            ("BLMPOP", 0, 1, "k", "LEFT", "COUNT", 2),
            b"*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            "LPOP k 2",
        ),
        (("BLMOVE", "k", "d", "RIGHT", "LEFT", 0), b"$1\r\nc\r\n", "LMOVE k d right left"),
        (("BRPOPLPUSH", "k", "d", 0), b"$1\r\nc\r\n", "RPOPLPUSH k d"),
    ],
)
def test_waiting_client_is_served_by_a_push_and_propagates_after_it(
    session: Session, waiting: tuple[object, ...], answer: bytes, sent: str
) -> None:
    client = session.wait(*waiting)

    assert session.propagated("RPUSH", "k", "a", "b", "c") == ["RPUSH k a b c", sent]
    assert client.out == [answer]
    assert client.wait is None


def test_waiting_clients_are_served_in_order_of_arrival(session: Session) -> None:
    first, second, third = (session.wait("BLPOP", "k", 0) for _ in range(3))

    session.run("RPUSH", "k", "a", "b")

    assert first.out == [b"*2\r\n$1\r\nk\r\n$1\r\na\r\n"]
    assert second.out == [b"*2\r\n$1\r\nk\r\n$1\r\nb\r\n"]
    assert third.out == []
    assert session.run("EXISTS", "k") == 0


def test_waiting_client_ignores_a_key_of_another_type(session: Session) -> None:
    client = session.wait("BLPOP", "k", 0)

    session.run("SADD", "k", "a")

    assert client.out == []
    session.run("DEL", "k")
    session.run("RPUSH", "k", "b")
    assert client.out == [b"*2\r\n$1\r\nk\r\n$1\r\nb\r\n"]


def test_waiting_move_to_a_key_of_another_type_fails_and_pops_nothing(session: Session) -> None:
    session.run("SET", "text", "x")
    client = session.wait("BLMOVE", "k", "text", "LEFT", "LEFT", 0)

    assert session.propagated("RPUSH", "k", "a") == ["RPUSH k a"]
    assert client.out[0].startswith(b"-WRONGTYPE")
    assert session.run("LRANGE", "k", 0, -1) == [b"a"]


def test_chain_of_waiting_moves_hands_one_element_through(session: Session) -> None:
    session.wait("BLMOVE", "a", "b", "LEFT", "LEFT", 0)
    session.wait("BLMOVE", "b", "c", "LEFT", "LEFT", 0)

    session.run("RPUSH", "a", "x")

    assert session.run("LRANGE", "c", 0, -1) == [b"x"]
    assert session.run("EXISTS", "a", "b") == 0


@pytest.mark.parametrize(("resp", "answer"), [(2, b"*-1\r\n"), (3, b"_\r\n")])
def test_wait_for_a_list_past_its_timeout_answers_null(
    session: Session, resp: int, answer: bytes
) -> None:
    client = session.wait("BLPOP", "k", "0.0015", resp=resp)

    session.advance(1)
    assert client.out == []
    session.advance(1)  # rounded up: 1.5 ms are 2
    assert client.out == [answer]


@pytest.mark.parametrize(
    ("command", "wire"),
    [
        (("BLPOP", "k", 0), b"*1\r\n*-1\r\n"),
        (("BLMPOP", 0, 1, "k", "LEFT"), b"*1\r\n*-1\r\n"),
        (("BLMOVE", "k", "d", "LEFT", "LEFT", 0), b"*1\r\n$-1\r\n"),
    ],
)
def test_blocking_command_inside_exec_replies_null_at_once(
    session: Session, command: tuple[object, ...], wire: bytes
) -> None:
    session.run("MULTI")
    session.run(*command)

    assert encode(session.run("EXEC"), 2) == wire


def test_list_of_thousands_pops_and_trims_at_both_ends(session: Session) -> None:
    value = [b"%d" % i for i in range(3000)]
    session.run("RPUSH", "k", *value)

    assert session.run("LINDEX", "k", 1500) == b"1500"
    assert session.run("LRANGE", "k", 1000, 1002) == [b"1000", b"1001", b"1002"]
    assert session.run("LPOP", "k", 1000) == value[:1000]
    assert session.run("RPOP", "k", 1000) == value[:1999:-1]
    assert not isinstance(session.run("LTRIM", "k", 1, -2), CommandError)
    assert session.run("LRANGE", "k", 0, -1) == value[1001:1999]
