"""What a script may do: the rights of whoever calls it, command by command."""

from __future__ import annotations

from kvrepl.engine.client import Client
from kvrepl.resp.values import Encoded
from tests.unit.commands.session import Session
from tests.unit.commands.test_acl import run, user

CALL = "return redis.call(unpack(ARGV))"


def by_script(session: Session, client: Client, *arguments: object) -> object:
    """Run a command out of a script; its answer as it is encoded, an error as its text."""
    reply = run(session, client, "eval", CALL, "0", *arguments)
    return reply.wire if isinstance(reply, Encoded) else reply


def test_script_has_the_rights_of_its_caller(session: Session) -> None:
    client = user(session, "+@all", "~k*", "-del", "(+del ~d)")
    can_not = "ERR The user executing the script can't "
    assert by_script(session, client, "set", "k", "v") == b"+OK\r\n"
    for key in ("get x", "del k"):
        error = str(by_script(session, client, *key.split()))
        assert error.startswith(can_not + "access at least one of the keys")
    assert by_script(session, client, "del", "d") == 0
    error = str(by_script(session, client, "publish", "c", "m"))
    assert error.startswith(can_not + "publish to the channel mentioned")
    session.run("acl", "setuser", "u", "-get", "clearselectors")
    error = str(by_script(session, client, "get", "k"))
    assert error.startswith(can_not + "run this command or subcommand")
    entries = session.engine.acl.log.entries
    assert [entry.context for entry in entries] == ["lua"] * 4
    assert [entry.subject for entry in entries] == [b"get", b"c", b"k", b"x"]
    assert b"cmd=eval user=u" in entries[0].client


def test_script_asks_what_its_caller_may_do_and_nothing_is_logged(session: Session) -> None:
    client = user(session, "+@all", "~k*")
    check = "return redis.acl_check_cmd(unpack(ARGV))"
    assert run(session, client, "eval", check, "0", "get", "k") == 1
    assert run(session, client, "eval", check, "0", "get", "x") is None
    assert session.run("eval", check, "0", "get", "x") == 1
    assert not session.engine.acl.log.entries


def test_script_may_not_sort_by_keys_that_its_caller_may_not_read(session: Session) -> None:
    client = user(session, "+@all", "~k*")
    for option in ("by", "get"):
        error = f"ERR {option.upper()} option of SORT denied due to insufficient ACL permissions."
        assert str(by_script(session, client, "sort", "k", option, "w_*")).startswith(error)
    assert by_script(session, session.client, "sort", "k", "get", "w_*") == b"*0\r\n"


def test_script_of_our_own_is_not_judged(session: Session) -> None:
    session.run("acl", "setuser", "default", "reset", ">p")
    ours = session.engine.internal_client()
    assert by_script(session, ours, "set", "k", "v") == b"+OK\r\n"
