"""Sets: replies, errors, encodings, propagation, algebra and random members of their commands."""

from __future__ import annotations

import pytest

from kvrepl.resp import encode
from tests.unit.commands.session import Session


def members(session: Session, key: str) -> set[bytes]:
    """Give the members of a set."""
    return set(session.run("SMEMBERS", key))


@pytest.fixture
def four(session: Session) -> Session:
    """Give sets s = 1 2 3, t = 2 3 4, u = a, and a string."""
    session.run("SADD", "s", 1, 2, 3)
    session.run("SADD", "t", 2, 3, 4)
    session.run("SADD", "u", "a")
    session.run("SET", "text", "x")
    session.take_propagated()
    return session


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("SADD", "s", 3, 4, 4), 1),
        (("SREM", "s", 3, 4, 3), 1),
        (("SREM", "none", 3), 0),
        (("SISMEMBER", "s", "3"), 1),
        (("SISMEMBER", "s", "03"), 0),
        (("SMISMEMBER", "s", 3, 9), [1, 0]),
        (("SMISMEMBER", "none", 3, 9), [0, 0]),
        (("SCARD", "s"), 3),
        (("SMEMBERS", "none"), []),
        (("SMOVE", "s", "t", 1), 1),
        (("SMOVE", "s", "t", 9), 0),
        (("SMOVE", "s", "s", 1), 1),
        (("SMOVE", "none", "text", 1), 0),
        (("SINTERCARD", 2, "s", "t"), 2),
        (("SINTERCARD", 2, "s", "t", "LIMIT", 1), 1),
        (("SINTERCARD", 2, "s", "none"), 0),
        (("SINTERSTORE", "d", "s", "t"), 2),
        (("SUNIONSTORE", "d", "s", "t", "u"), 5),
        (("SDIFFSTORE", "d", "s", "t"), 1),
        (("SPOP", "none"), None),
        (("SPOP", "none", 3), []),
        (("SRANDMEMBER", "none"), None),
        (("SRANDMEMBER", "s", 0), []),
        (("SSCAN", "s", 0, "MATCH", "[12]"), [b"0", [b"1", b"2"]]),
    ],
)
def test_set_command_on_small_sets_replies(
    four: Session, command: tuple[object, ...], reply: object
) -> None:
    assert four.run(*command) == reply


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("SINTERCARD", 0, "s"), "ERR numkeys should be greater than 0"),
        (("SINTERCARD", 3, "s", "t"), "ERR Number of keys can't be greater than number of args"),
        (("SINTERCARD", 1, "s", "LIMIT", -1), "ERR LIMIT can't be negative"),
        (("SINTERCARD", 1, "s", "LIMIT"), "ERR syntax error"),
        (("SPOP", "s", -1), "ERR value is out of range, must be positive"),
        (("SPOP", "s", 1, 2), "ERR syntax error"),
        (("SRANDMEMBER", "s", -(1 << 63)), "ERR value is out of range, value must between"),
        (("SRANDMEMBER", "s", "x"), "ERR value is not an integer or out of range"),
        (("SUNION", "none", "s", "text"), "WRONGTYPE Operation against a key"),
        (("SINTER", "none", "text"), "WRONGTYPE Operation against a key"),
        (("SMOVE", "s", "text", 9), "WRONGTYPE Operation against a key"),
    ],
)
def test_set_command_of_bad_arguments_is_refused(
    four: Session, command: tuple[object, ...], text: str
) -> None:
    assert four.error(*command).startswith(text)
    assert four.take_propagated() == []


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (("SINTER", "s", "t"), {b"2", b"3"}),
        (("SINTER", "s", "none"), set()),
        (("SUNION", "s", "t", "none"), {b"1", b"2", b"3", b"4"}),
        (("SDIFF", "s", "t"), {b"1"}),
        (("SDIFF", "s", "s"), set()),
        (("SDIFF", "none", "s"), set()),
    ],
)
def test_set_algebra_on_small_sets_gives_members(
    four: Session, command: tuple[object, ...], result: set[bytes]
) -> None:
    assert set(four.run(*command)) == result


def test_store_of_an_empty_result_deletes_the_destination_of_any_type(four: Session) -> None:
    assert four.events("SINTERSTORE", "text", "s", "u") == ["del text"]
    assert four.run("EXISTS", "text") == 0
    assert four.propagated("SINTERSTORE", "text", "s", "u") == []


def test_store_over_an_expired_key_propagates_its_deletion_first(four: Session) -> None:
    four.run("PEXPIRE", "text", 10)
    four.take_propagated()
    four.advance(11)

    assert four.propagated("SUNIONSTORE", "text", "s") == [
        "MULTI",
        "DEL text",
        "SUNIONSTORE text s",
        "EXEC",
    ]
    assert four.run("PTTL", "text") == -1


def test_stored_difference_keeps_the_hashtable_that_subtracting_took(session: Session) -> None:
    session.run("SADD", "s", 1, 2, 3, 4, 5, 6, 7, 8, 9, "a")
    for name in "xyz":
        session.run("SADD", name, "a")

    assert session.run("SDIFFSTORE", "d", "s", "x", "y", "z") == 9
    assert session.encoding("d") == "hashtable"
    assert session.run("SDIFFSTORE", "d", "s", "x") == 9
    assert session.encoding("d") == "intset"


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        (range(512), "intset"),
        (range(513), "hashtable"),
        ([1, "01"], "hashtable"),
        ([1 << 63], "hashtable"),
        ([-(1 << 63)], "intset"),
    ],
)
def test_set_of_members_has_the_encoding_of_redis(
    session: Session, values: list[object], encoding: str
) -> None:
    session.run("SADD", "s", *values)

    assert session.encoding("s") == encoding


def test_smove_of_the_last_member_moves_the_key(four: Session) -> None:
    assert four.events("SMOVE", "u", "v", "a") == ["srem u", "del u", "sadd v"]
    assert four.run("EXISTS", "u", "v") == 1


def test_smove_to_its_own_set_changes_nothing(four: Session) -> None:
    assert four.dirt("SMOVE", "s", "s", 1) == 0
    assert four.events("SMOVE", "s", "s", 1) == []


def test_spop_of_one_member_propagates_srem(four: Session) -> None:
    (sent,) = four.propagated("SPOP", "s")
    (gone,) = {b"1", b"2", b"3"} - members(four, "s")

    assert sent == f"SREM s {gone.decode()}"


def test_spop_of_some_members_propagates_one_srem_each_in_a_transaction(four: Session) -> None:
    sent = four.propagated("SPOP", "s", 2)
    left = members(four, "s")

    assert (sent[0], sent[-1], len(left)) == ("MULTI", "EXEC", 1)
    assert {line.split()[2].encode() for line in sent[1:-1]} == {b"1", b"2", b"3"} - left
    assert all(line.startswith("SREM s ") for line in sent[1:-1])


@pytest.mark.parametrize(("command", "dirt"), [(("SPOP", "s", 3), 3), (("SPOP", "s", 9), 3)])
def test_spop_of_all_members_propagates_del(
    four: Session, command: tuple[object, ...], dirt: int
) -> None:
    before = four.engine.keyspace.dirty

    assert four.propagated(*command) == ["DEL s"]
    assert four.engine.keyspace.dirty - before == dirt
    assert four.run("EXISTS", "s") == 0


def test_spop_of_the_only_member_propagates_srem_and_deletes_the_key(four: Session) -> None:
    assert four.events("SPOP", "u") == ["spop u", "del u"]
    assert four.take_propagated() == ["SREM u a"]


@pytest.mark.parametrize("size", [3, 100, 2000])
def test_srandmember_picks_members_that_are_there(session: Session, size: int) -> None:
    session.run("SADD", "s", *(f"m{i}" for i in range(size)))
    held = members(session, "s")

    assert session.run("SRANDMEMBER", "s") in held
    for count in (1, size // 2, size - 1):
        some = session.run("SRANDMEMBER", "s", count)
        assert len(set(some)) == len(some) == count
        assert set(some) <= held
    assert set(session.run("SRANDMEMBER", "s", size)) == held
    repeated = session.run("SRANDMEMBER", "s", -4 * size)
    assert len(repeated) == 4 * size
    assert set(repeated) <= held


@pytest.mark.parametrize("taken", [1, 40, 99])
def test_spop_with_count_removes_exactly_what_it_returns(session: Session, taken: int) -> None:
    session.run("SADD", "s", *range(99), "x")
    held = members(session, "s")
    popped = session.run("SPOP", "s", taken)

    assert len(popped) == taken
    assert members(session, "s") == held - set(popped)


@pytest.mark.parametrize(("resp", "wire"), [(2, b"*1\r\n$1\r\n7\r\n"), (3, b"~1\r\n$1\r\n7\r\n")])
@pytest.mark.parametrize(
    "command", [("SMEMBERS", "s"), ("SINTER", "s"), ("SUNION", "s"), ("SPOP", "s", 1)]
)
def test_members_are_a_set_only_in_resp3(
    command: tuple[object, ...], resp: int, wire: bytes
) -> None:
    session = Session(resp)
    session.run("SADD", "s", 7)

    assert encode(session.run(*command), resp) == wire
