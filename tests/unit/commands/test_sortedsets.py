"""Sorted sets: replies, errors, ranges, algebra, propagation of their commands, and waiting."""

from __future__ import annotations

import pytest

from kvrepl.resp import encode
from kvrepl.resp.values import NULL_ARRAY
from tests.unit.commands.session import Session

INF = float("inf")


@pytest.fixture
def five(session: Session) -> Session:
    """Give z = a 1, b 2, c 2, d 3.5, e inf; lex = a..e, all 0; a set s = a x; a string."""
    session.run("ZADD", "z", 1, "a", 2, "b", 2, "c", "3.5", "d", "inf", "e")
    session.run("ZADD", "lex", *(part for m in "abcde" for part in (0, m)))
    session.run("SADD", "s", "a", "x")
    session.run("SET", "text", "x")
    session.take_propagated()
    return session


@pytest.mark.parametrize(
    ("arguments", "reply", "score"),
    [
        ((9, "a", 1, "new"), 1, 9.0),
        (("CH", 9, "a", 1, "new"), 2, 9.0),
        (("CH", 1, "a"), 0, 1.0),
        (("NX", 9, "a"), 0, 1.0),
        (("XX", 9, "a", 1, "new"), 0, 9.0),
        (("GT", "CH", 0, "a"), 0, 1.0),
        (("GT", "CH", 9, "a"), 1, 9.0),
        (("lt", "ch", 0, "a"), 1, 0.0),
        (("GT", 0, "new"), 1, 1.0),
        (("INCR", 4, "a"), 5.0, 5.0),
        (("INCR", "NX", 4, "a"), None, 1.0),
        (("INCR", "XX", 4, "new"), None, 1.0),
        (("INCR", "GT", -4, "a"), None, 1.0),
        (("INCR", "LT", -4, "a"), -3.0, -3.0),
        (("INCR", 0, "a"), 1.0, 1.0),
        (("INCR", "GT", 0, "a"), None, 1.0),
    ],
)
def test_zadd_with_options_replies_and_leaves_a_score(
    five: Session, arguments: tuple[object, ...], reply: object, score: float
) -> None:
    assert five.run("ZADD", "z", *arguments) == reply
    assert five.run("ZSCORE", "z", "a") == score


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("ZADD", "none", "XX", 1, "a"), 0),
        (("ZADD", "none", "XX", "INCR", 1, "a"), None),
        (("ZINCRBY", "z", "0.5", "a"), 1.5),
        (("ZINCRBY", "z", "-inf", "new"), -INF),
        (("ZREM", "z", "a", "x", "a"), 1),
        (("ZCARD", "z"), 5),
        (("ZSCORE", "z", "x"), None),
        (("ZMSCORE", "z", "a", "x"), [1.0, None]),
        (("ZMSCORE", "none", "a", "x"), [None, None]),
        (("ZRANK", "z", "c"), 2),
        (("ZREVRANK", "z", "c"), 2),
        (("ZREVRANK", "z", "e"), 0),
        (("ZRANK", "z", "x"), None),
        (("ZCOUNT", "z", "(1", "3.5"), 3),
        (("ZCOUNT", "z", "-inf", "(inf"), 4),
        (("ZCOUNT", "z", "", "1e999"), 5),
        (("ZCOUNT", "z", 3, 1), 0),
        (("ZLEXCOUNT", "lex", "[b", "(d"), 2),
        (("ZLEXCOUNT", "lex", "+", "-"), 0),
        (("ZPOPMIN", "z"), [b"a", 1.0]),
        (("ZPOPMAX", "z", 2), [b"e", INF, b"d", 3.5]),
        (("ZPOPMIN", "z", 0), []),
        (("ZPOPMIN", "none"), []),
        (("ZMPOP", 2, "none", "z", "MIN", "COUNT", 2), [b"z", [(b"a", 1.0), (b"b", 2.0)]]),
        (("ZMPOP", 1, "none", "MAX"), NULL_ARRAY),
        (("ZREMRANGEBYRANK", "z", 1, -2), 3),
        (("ZREMRANGEBYSCORE", "z", "(1", "2"), 2),
        (("ZREMRANGEBYLEX", "lex", "-", "+"), 5),
        (("ZRANDMEMBER", "none"), None),
        (("ZRANDMEMBER", "none", 2), []),
        (("ZSCAN", "z", 0, "MATCH", "[ae]"), [b"0", [b"a", b"1", b"e", b"inf"]]),
    ],
)
def test_sorted_set_command_on_five_members_replies(
    five: Session, command: tuple[object, ...], reply: object
) -> None:
    assert five.run(*command) == reply


@pytest.mark.parametrize(
    ("command", "members"),
    [
        (("ZRANGE", "z", 0, -1), "abcde"),
        (("ZRANGE", "z", 1, 2), "bc"),
        (("ZRANGE", "z", 0, 1, "REV"), "ed"),
        # By rank LIMIT is let through where it takes all, and then skips none.
        (("ZRANGE", "z", 0, 1, "LIMIT", 5, -1), "ab"),
        (("ZRANGE", "z", 0, 1, "REV", "LIMIT", -3, -1), "ed"),
        (("ZREVRANGE", "z", -2, -1), "ba"),
        (("ZRANGE", "z", 3, 1), ""),
        (("ZRANGE", "z", 2, "inf", "BYSCORE", "LIMIT", 1, 2), "cd"),
        (("ZRANGE", "z", "(inf", 2, "BYSCORE", "REV"), "dcb"),
        (("ZRANGE", "z", "+inf", "-inf", "rev", "byscore", "limit", 1, 2), "dc"),
        (("ZRANGEBYSCORE", "z", 2, "+inf", "LIMIT", -1, 2), ""),
        (("ZREVRANGEBYSCORE", "z", 2, "-inf", "LIMIT", -1, 2), ""),
        (("ZRANGEBYSCORE", "z", "-inf", "+inf", "LIMIT", 0, 0), ""),
        (("ZRANGEBYSCORE", "z", "-inf", "+inf", "LIMIT", 3, -1), "de"),
        (("ZREVRANGEBYSCORE", "z", 2, 1), "cba"),
        (("ZREVRANGEBYSCORE", "z", 2, 1, "LIMIT", 9, 1), ""),
        (("ZRANGE", "lex", "[b", "[d", "BYLEX"), "bcd"),
        (("ZRANGE", "lex", "+", "(b", "BYLEX", "REV", "LIMIT", 1, 2), "dc"),
        (("ZRANGEBYLEX", "lex", "-", "(c"), "ab"),
        (("ZREVRANGEBYLEX", "lex", "+", "[d"), "ed"),
        (("ZRANGEBYLEX", "lex", "+", "-"), ""),
    ],
)
def test_range_command_gives_members_in_order(
    five: Session, command: tuple[object, ...], members: str
) -> None:
    assert b"".join(five.run(*command)).decode() == members


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("ZADD", "z", "NX", "XX", 1, "a"), "ERR XX and NX options at the same time"),
        (("ZADD", "z", "GT", "LT", 1, "a"), "ERR GT, LT, and/or NX options at the same time"),
        (("ZADD", "z", "NX", "GT", 1, "a"), "ERR GT, LT, and/or NX options at the same time"),
        (("ZADD", "z", "INCR", 1, "a", 2, "b"), "ERR INCR option supports a single"),
        (("ZADD", "z", 1, "a", 2), "ERR syntax error"),
        (("ZADD", "z", "NX", "XX"), "ERR syntax error"),
        (("ZADD", "z", 1, "new", "nan", "b"), "ERR value is not a valid float"),
        (("ZINCRBY", "z", "-inf", "e"), "ERR resulting score is not a number (NaN)"),
        (("ZINCRBY", "z", "NX", "e"), "ERR syntax error"),
        (("ZRANGE", "z", 0, 1, "LIMIT", 0, 1), "ERR syntax error, LIMIT is only supported"),
        (("ZRANGE", "lex", "-", "+", "BYLEX", "WITHSCORES"), "ERR syntax error, WITHSCORES not"),
        (("ZRANGE", "z", 0, 1, "REV", "REV"), "ERR syntax error"),
        (("ZRANGE", "z", 0, 1, "BYLEX", "BYSCORE"), "ERR syntax error"),
        (("ZRANGE", "z", "x", 1), "ERR value is not an integer or out of range"),
        (("ZRANGESTORE", "d", "z", 0, 1, "WITHSCORES"), "ERR syntax error"),
        (("ZREVRANGE", "z", 0, 1, "REV"), "ERR syntax error"),
        (("ZRANGEBYSCORE", "z", "nan", 1), "ERR min or max is not a float"),
        (("ZCOUNT", "z", "1x", 1), "ERR min or max is not a float"),
        (("ZRANGEBYLEX", "lex", "a", "+"), "ERR min or max not valid string range item"),
        (("ZLEXCOUNT", "lex", "-", "+a"), "ERR min or max not valid string range item"),
        (("ZPOPMIN", "z", "x"), "ERR value is out of range, must be positive"),
        (("ZPOPMIN", "z", 1, 1), "ERR syntax error"),
        (("ZMPOP", 1, "z", "LOW"), "ERR syntax error"),
        (("ZUNION", 0, "z"), "ERR at least 1 input key is needed for 'zunion' command"),
        (("ZUNIONSTORE", "d", 2, "z"), "ERR syntax error"),
        (("ZUNION", 1, "z", "WEIGHTS", "x"), "ERR weight value is not a float"),
        (("ZUNION", 1, "z", "AGGREGATE", "AVG"), "ERR syntax error"),
        (("ZUNIONSTORE", "d", 1, "z", "WITHSCORES"), "ERR syntax error"),
        (("ZDIFF", 1, "z", "WEIGHTS", 1), "ERR syntax error"),
        (("ZINTERCARD", 1, "z", "LIMIT", "x"), "ERR LIMIT can't be negative"),
        (("ZUNION", 2, "z", "text"), "WRONGTYPE Operation against a key"),
        (("ZADD", "text", 1, "a"), "WRONGTYPE Operation against a key"),
    ],
)
def test_sorted_set_command_of_bad_arguments_is_refused_and_changes_nothing(
    five: Session, command: tuple[object, ...], text: str
) -> None:
    assert five.dirt(*command) == 0
    assert five.error(*command).startswith(text)
    assert five.run("ZCARD", "z") == 5


@pytest.mark.parametrize(
    ("command", "entries"),
    [
        (("ZUNION", 2, "z", "s"), [b"x", 1.0, b"a", 2.0, b"b", 2.0, b"c", 2.0]),
        (("ZINTER", 2, "z", "s"), [b"a", 2.0]),
        (("ZINTER", 2, "z", "s", "WEIGHTS", 3, "0.5"), [b"a", 3.5]),
        (("ZINTER", 2, "z", "s", "WEIGHTS", 3, 2, "AGGREGATE", "MIN"), [b"a", 2.0]),
        (("ZINTER", 2, "z", "s", "AGGREGATE", "max", "WEIGHTS", 3, 2), [b"a", 3.0]),
        (("ZINTER", 2, "z", "none"), []),
        (("ZDIFF", 2, "z", "s"), [b"b", 2.0, b"c", 2.0, b"d", 3.5, b"e", INF]),
        (("ZDIFF", 2, "z", "z"), []),
        (("ZDIFF", 2, "none", "z"), []),
    ],
)
def test_algebra_of_sorted_sets_gives_scores(
    five: Session, command: tuple[object, ...], entries: list[object]
) -> None:
    assert five.run(*command, "WITHSCORES")[:10][: len(entries)] == entries
    assert five.run(*command)[: len(entries) // 2] == entries[::2]


def test_sum_of_opposite_infinities_is_zero_and_so_is_infinity_times_nothing(
    session: Session,
) -> None:
    session.run("ZADD", "p", "inf", "a")
    session.run("ZADD", "n", "-inf", "a")

    assert session.run("ZUNION", 2, "p", "n", "WITHSCORES") == [b"a", 0.0]
    assert session.run("ZINTER", 2, "p", "n", "WITHSCORES") == [b"a", 0.0]
    assert session.run("ZUNION", 1, "p", "WEIGHTS", 0, "WITHSCORES") == [b"a", 0.0]


def test_sum_of_scores_is_taken_from_the_smallest_set_on(session: Session) -> None:
    # (1 - 1e17) + 1e17 is 0, (1e17 - 1e17) + 1 would be 1.
    session.run("ZADD", "large", "1e17", "a", 0, "b", 0, "c")
    session.run("ZADD", "middle", "-1e17", "a", 0, "b")
    session.run("ZADD", "small", 1, "a")

    reply = session.run("ZINTER", 3, "large", "middle", "small", "WITHSCORES")
    assert reply == [b"a", (1 - 1e17) + 1e17]
    assert (1 - 1e17) + 1e17 != (1e17 - 1e17) + 1


@pytest.mark.parametrize(
    ("command", "reply", "stored"),
    [
        (("ZRANGESTORE", "d", "z", 1, 2), 2, "bc"),
        (("ZRANGESTORE", "d", "z", "inf", 3, "BYSCORE", "REV"), 2, "de"),
        (("ZRANGESTORE", "d", "none", 0, -1), 0, ""),
        (("ZUNIONSTORE", "d", 2, "z", "s"), 6, "xabcde"),
        (("ZINTERSTORE", "z", 2, "z", "s"), 1, "a"),
        (("ZDIFFSTORE", "text", 2, "z", "s"), 4, "bcde"),
        (("ZDIFFSTORE", "text", 1, "none"), 0, ""),
    ],
)
def test_store_command_replaces_or_deletes_the_destination(
    five: Session, command: tuple[object, ...], reply: int, stored: str
) -> None:
    assert five.run(*command) == reply
    assert b"".join(five.run("ZRANGE", command[1], 0, -1)).decode() == stored
    assert five.run("EXISTS", command[1]) == int(stored != "")


@pytest.mark.parametrize(("members", "encoding"), [(128, "listpack"), (129, "skiplist")])
def test_stored_union_has_the_encoding_of_its_size(
    session: Session, members: int, encoding: str
) -> None:
    session.run("SADD", "s", *range(members))

    session.run("ZUNIONSTORE", "d", 1, "s")
    assert session.encoding("d") == encoding
    session.run("ZRANGESTORE", "e", "d", 0, -1)
    assert session.encoding("e") == encoding


def test_zscan_prints_integral_scores_as_the_encoding_keeps_them(session: Session) -> None:
    session.run("ZADD", "z", "1e17", "a", 1 << 62, "b", "5e18", "c")
    reply = [b"a", b"100000000000000000", b"b", b"4611686018427387904", b"c", b"5e+18"]

    assert session.run("ZSCAN", "z", 0) == [b"0", reply]
    session.run("ZADD", "z", "inf", "x" * 65)
    assert session.run("ZSCAN", "z", 0, "MATCH", "a") == [b"0", [b"a", b"1e+17"]]


def test_last_member_taken_deletes_the_key(session: Session) -> None:
    for command, event in (
        (("ZREM", "z", "a"), "zrem"),
        (("ZPOPMAX", "z"), "zpopmax"),
        (("ZREMRANGEBYRANK", "z", 0, -1), "zremrangebyrank"),
        (("ZMPOP", 1, "z", "MIN"), "zpopmin"),
    ):
        session.run("ZADD", "z", 1, "a")
        assert session.events(*command) == [f"{event} z", "del z"]
        assert session.run("EXISTS", "z") == 0


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (("ZMPOP", 2, "none", "z", "min", "COUNT", 99), ["ZPOPMIN z 5"]),
        (("BZMPOP", 0, 1, "z", "MAX"), ["ZPOPMAX z 1"]),
        (("BZPOPMIN", "none", "z", 0), ["ZPOPMIN z"]),
        (("BZPOPMAX", "z", 0), ["ZPOPMAX z"]),
        (("zincrby", "z", "1", "a"), ["zincrby z 1 a"]),
        (("ZADD", "z", "GT", "CH", 0, "a"), []),
        (("ZADD", "z", 1, "a"), []),
        (("ZADD", "z", 1, "a", 7, "b"), ["ZADD z 1 a 7 b"]),
    ],
)
def test_sorted_set_command_propagates_what_a_replica_can_repeat(
    five: Session, command: tuple[object, ...], sent: list[str]
) -> None:
    assert five.propagated(*command) == sent


@pytest.mark.parametrize(
    ("waiting", "resp", "answer", "sent"),
    [
        (("BZPOPMIN", "k", 0), 2, b"*3\r\n$1\r\nk\r\n$1\r\na\r\n$1\r\n1\r\n", "ZPOPMIN k"),
        (("BZPOPMAX", "x", "k", 0), 3, b"*3\r\n$1\r\nk\r\n$1\r\nb\r\n,2.5\r\n", "ZPOPMAX k"),
        (
            ("BZMPOP", 0, 1, "k", "MIN", "COUNT", 9),
            2,
            b"*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$1\r\nb\r\n$3\r\n2.5\r\n",
            "ZPOPMIN k 2",
        ),
    ],
)
def test_waiting_client_is_served_by_zadd_and_propagates_after_it(
    session: Session, waiting: tuple[object, ...], resp: int, answer: bytes, sent: str
) -> None:
    client = session.wait(*waiting, resp=resp)

    assert session.propagated("ZADD", "k", 1, "a", "2.5", "b") == ["ZADD k 1 a 2.5 b", sent]
    assert client.out == [answer]


def test_waiting_client_is_served_by_a_stored_union(session: Session) -> None:
    session.run("SADD", "s", "a")
    client = session.wait("BZPOPMIN", "k", 0)

    session.run("ZUNIONSTORE", "k", 1, "s")

    assert client.out == [b"*3\r\n$1\r\nk\r\n$1\r\na\r\n$1\r\n1\r\n"]
    assert session.run("EXISTS", "k") == 0


@pytest.mark.parametrize(
    ("command", "resp2", "resp3"),
    [
        (("ZSCORE", "z", "a"), b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (("ZINCRBY", "z", "inf", "a"), b"$3\r\ninf\r\n", b",inf\r\n"),
        (
            ("ZRANGE", "z", 0, 0, "WITHSCORES"),
            b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n",
            b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n",
        ),
        (
            ("ZUNION", 1, "z", "WITHSCORES"),
            b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n",
            b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n",
        ),
        (("ZPOPMIN", "z"), b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n", b"*2\r\n$1\r\na\r\n,1.5\r\n"),
        (
            ("ZPOPMIN", "z", 1),
            b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n",
            b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n",
        ),
        (
            ("ZRANDMEMBER", "z", 1, "WITHSCORES"),
            b"*2\r\n$1\r\na\r\n$3\r\n1.5\r\n",
            b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n",
        ),
        (
            ("ZSCAN", "z", 0),
            b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$3\r\n1.5\r\n",
            b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$3\r\n1.5\r\n",
        ),
    ],
)
def test_scores_are_doubles_and_entries_pairs_only_in_resp3(
    command: tuple[object, ...], resp2: bytes, resp3: bytes
) -> None:
    for resp, wire in ((2, resp2), (3, resp3)):
        session = Session(resp)
        session.run("ZADD", "z", "1.5", "a")

        assert encode(session.run(*command), resp) == wire


@pytest.mark.parametrize("size", [3, 2000])
def test_zrandmember_picks_members_that_are_there(session: Session, size: int) -> None:
    held = {b"m%d" % i: float(i % 7) for i in range(size)}
    session.run("ZADD", "z", *(part for m, s in held.items() for part in (s, m)))

    assert session.run("ZRANDMEMBER", "z") in held
    some = session.run("ZRANDMEMBER", "z", size - 1)
    assert len(set(some)) == size - 1
    assert set(some) <= held.keys()
    again = session.run("ZRANDMEMBER", "z", -3 * size, "WITHSCORES")
    assert len(again) == 6 * size
    assert all(held[m] == s for m, s in zip(again[::2], again[1::2], strict=True))


def test_ranges_of_a_large_sorted_set_agree_with_a_sorted_list(session: Session) -> None:
    model = sorted((float(i * 7919 % 1000), b"m%d" % i) for i in range(3000))
    session.run("ZADD", "z", *(part for entry in model for part in entry))

    assert session.run("ZRANGE", "z", 1000, 1002) == [m for _, m in model[1000:1003]]
    assert session.run("ZREVRANGE", "z", 0, 2) == [m for _, m in model[:-4:-1]]
    inside = [m for s, m in model if 100 < s <= 200]
    assert session.run("ZRANGEBYSCORE", "z", "(100", 200) == inside
    assert session.run("ZCOUNT", "z", "(100", 200) == len(inside)
    assert session.run("ZRANK", "z", model[1234][1]) == 1234
    assert session.run("ZREMRANGEBYSCORE", "z", "(100", 200) == len(inside)
    assert session.run("ZCARD", "z") == 3000 - len(inside)
