"""MULTI, EXEC, DISCARD, WATCH: what is queued, what spoils it, what it propagates."""

from __future__ import annotations

import pytest

from kvrepl.engine import gates
from kvrepl.errors import CommandError
from kvrepl.keyspace.database import HIDE
from kvrepl.resp.values import NULL_ARRAY, OK, QUEUED, Encoded, Reply
from tests.unit.commands.session import Session


def wire(reply: Reply) -> bytes:
    """The bytes of an EXEC that ran."""
    assert isinstance(reply, Encoded)
    return reply.wire


def transact(session: Session, *commands: tuple[object, ...]) -> Reply:
    """Run commands between MULTI and EXEC."""
    assert session.run("multi") == OK
    for command in commands:
        assert session.run(*command) is QUEUED
    return session.run("exec")


def test_exec_runs_what_was_queued_in_order(session: Session) -> None:
    reply = transact(session, ("set", "a", "1"), ("incr", "a"), ("get", "a"))
    assert wire(reply) == b"*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n"


def test_exec_of_nothing_is_an_empty_array(session: Session) -> None:
    assert wire(transact(session)) == b"*0\r\n"


def test_exec_with_a_failing_command_runs_the_others(session: Session) -> None:
    reply = transact(session, ("set", "a", "x"), ("incr", "a"), ("append", "a", "y"))
    assert wire(reply) == (b"*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n:2\r\n")


def test_exec_keeps_each_reply_as_it_was_when_its_command_ran(session: Session) -> None:
    session.run("append", "a", "x")
    session.run("append", "a", "y")
    reply = transact(session, ("get", "a"), ("append", "a", "z"), ("get", "a"))
    assert wire(reply) == b"*3\r\n$2\r\nxy\r\n:3\r\n$3\r\nxyz\r\n"


def test_exec_answers_in_the_protocol_that_holds_at_each_command(session: Session) -> None:
    reply = wire(transact(session, ("get", "none"), ("hello", 3), ("get", "none")))
    assert reply.startswith(b"*3\r\n$-1\r\n%7\r\n")
    assert reply.endswith(b"\r\n_\r\n")


def test_exec_with_several_writes_propagates_one_transaction(session: Session) -> None:
    session.run("multi")
    for command in (("select", 2), ("set", "a", 1), ("get", "a"), ("expire", "a", 0)):
        session.run(*command)
    assert session.propagated("exec") == ["MULTI", "set a 1", "DEL a", "EXEC"]


@pytest.mark.parametrize(("commands", "sent"), [([("set", "a", 1)], ["set a 1"]), ([], [])])
def test_exec_with_less_than_two_writes_propagates_them_bare(
    session: Session, commands: list[tuple[object, ...]], sent: list[str]
) -> None:
    session.run("multi")
    for command in commands:
        session.run(*command)
    assert session.propagated("exec") == sent


def test_exec_never_blocks(session: Session) -> None:
    assert wire(transact(session, ("blpop", "q", 0))) == b"*1\r\n*-1\r\n"


def test_exec_after_a_refused_command_runs_nothing(session: Session) -> None:
    session.run("multi")
    assert session.run("set", "a", 1) is QUEUED
    assert session.error("nosuch") != ""
    assert session.error("exec").startswith("EXECABORT Transaction discarded because of previous")
    assert session.run("exists", "a") == 0


def test_exec_refused_at_its_time_says_why(session: Session) -> None:
    session.run("multi")
    session.run("set", "a", 1)
    session.engine.raise_gate(gates.FEW_REPLICAS)
    assert session.error("exec") == (
        "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write."
    )
    assert session.run("get", "a") is None


@pytest.mark.parametrize(
    ("inside", "argv", "text"),
    [
        (False, ("exec",), "ERR EXEC without MULTI"),
        (False, ("discard",), "ERR DISCARD without MULTI"),
        (True, ("multi",), "ERR MULTI calls can not be nested"),
        (True, ("watch", "a"), "ERR WATCH inside MULTI is not allowed"),
    ],
)
def test_transaction_command_out_of_place_is_refused_and_spoils_nothing(
    session: Session, inside: bool, argv: tuple[object, ...], text: str
) -> None:
    if inside:
        session.run("multi")
    assert session.error(*argv) == text
    if inside:
        assert wire(session.run("exec")) == b"*0\r\n"


def test_discard_forgets_what_was_queued_and_watched(session: Session) -> None:
    session.run("watch", "a")
    session.run("multi")
    session.run("set", "a", 1)
    assert session.run("discard") == OK
    session.run("set", "a", 2)
    assert wire(transact(session, ("get", "a"))) == b"*1\r\n$1\r\n2\r\n"
    assert session.client.db.watched == {}


def test_transaction_of_the_master_gives_its_replies_as_values(session: Session) -> None:
    master = session.engine.internal_client()
    for command in (b"multi", b"incr k", b"lpush k x"):
        session.engine.apply(master, command.split())
    first, second = session.engine.apply(master, [b"exec"])
    assert first == 1
    assert isinstance(second, CommandError)


# ------------------------------------------------------------------------ WATCH


def test_watched_key_that_changes_makes_exec_answer_null(session: Session) -> None:
    session.run("watch", "a", "b")
    session.run("set", "b", 1)
    assert transact(session, ("get", "b")) is NULL_ARRAY
    assert wire(transact(session, ("get", "b"))) == b"*1\r\n$1\r\n1\r\n"


def test_watched_key_of_another_database_does_not_matter(session: Session) -> None:
    session.run("watch", "a")
    session.run("select", 1)
    session.run("set", "a", 1)
    assert wire(transact(session, ("ping",))) == b"*1\r\n+PONG\r\n"


def test_unwatch_forgets_the_change(session: Session) -> None:
    session.run("watch", "a")
    session.run("set", "a", 1)
    session.run("unwatch")
    assert wire(transact(session, ("ping",))) == b"*1\r\n+PONG\r\n"


def test_watched_key_that_expires_makes_exec_answer_null(session: Session) -> None:
    session.run("set", "a", 1, "px", 10)
    session.run("watch", "a")
    session.advance(11)
    assert transact(session, ("ping",)) is NULL_ARRAY


def test_watched_key_that_expires_on_a_replica_makes_exec_answer_null(session: Session) -> None:
    session.run("set", "a", 1, "px", 10)
    session.engine.keyspace.expiry_mode = HIDE
    session.run("watch", "a")
    session.advance(11)
    assert transact(session, ("ping",)) is NULL_ARRAY


def test_key_that_had_expired_when_it_was_watched_may_be_removed(session: Session) -> None:
    session.run("set", "a", 1, "px", 10)
    session.advance(11)
    session.run("watch", "a")
    assert session.run("get", "a") is None  # removes it
    assert wire(transact(session, ("ping",))) == b"*1\r\n+PONG\r\n"


def test_key_that_had_expired_when_it_was_watched_may_not_come_back(session: Session) -> None:
    session.run("set", "a", 1, "px", 10)
    session.advance(11)
    session.run("watch", "a")
    session.run("get", "a")
    session.run("set", "a", 2)
    assert transact(session, ("ping",)) is NULL_ARRAY


def test_watching_client_that_leaves_is_forgotten(session: Session) -> None:
    session.run("watch", "a")
    session.engine.disconnect(session.client)
    assert session.engine.keyspace.databases[0].watched == {}
