"""ACL in an engine: logins, gates, the log, and the ends of clients and transactions."""

from __future__ import annotations

from typing import Any

import pytest

from kvrepl.engine import gates
from kvrepl.engine.client import Client
from kvrepl.errors import CommandError
from kvrepl.resp.values import OK, Encoded
from tests.unit.commands.session import Session, argv_of


def user(session: Session, *rules: str, name: str = "u") -> Client:
    """Make a user by rules, and log a client in as him."""
    assert session.run("acl", "setuser", name, "on", ">p", *rules) is OK
    client = session.engine.connect()
    assert run(session, client, "auth", name, "p") is OK
    return client


def run(session: Session, client: Client, *arguments: object) -> Any:
    """Run a request of that client; an error is given as its text."""
    reply = session.engine.apply(client, argv_of(arguments))
    return str(reply) if isinstance(reply, CommandError) else reply


def restricted(client: Client) -> bool:
    return bool(client.gates & gates.ACL)


# -------------------------------------------------------------------------- gates


def test_gate_is_up_only_for_a_client_whose_user_is_restricted(session: Session) -> None:
    free, bound = user(session, "+@all", "~*", "&*", name="free"), user(session, "+@all")
    assert not restricted(session.client)
    assert not restricted(free)
    assert restricted(bound)
    session.run("acl", "setuser", "u", "~*", "&*")
    assert not restricted(bound)
    session.run("acl", "setuser", "free", "-get")
    assert restricted(free)
    session.run("acl", "setuser", "free", "(+@all ~* &*)")
    assert not restricted(free)
    session.run("acl", "setuser", "default", "-get")
    assert restricted(session.client)
    assert restricted(session.engine.connect())


def test_commands_of_our_own_are_not_judged(session: Session) -> None:
    session.run("acl", "setuser", "default", "reset", ">p")
    ours = session.engine.internal_client()
    assert run(session, ours, "set", "k", "v") is OK
    assert run(session, ours, "acl", "whoami") is None
    assert run(session, session.engine.connect(), "get", "k") == "NOAUTH Authentication required."


def test_who_came_without_password_stays_in_and_who_did_not_is_asked(session: Session) -> None:
    session.run("acl", "setuser", "default", ">p")
    late = session.engine.connect()
    assert session.run("get", "k") is None
    assert run(session, late, "get", "k").startswith("NOAUTH")
    session.run("acl", "setuser", "default", "nopass")
    assert run(session, late, "get", "k") is None
    session.run("acl", "setuser", "default", "off")
    assert run(session, late, "get", "k").startswith("NOAUTH")


def test_requirepass_is_the_password_of_default(session: Session) -> None:
    session.run("config", "set", "requirepass", "first")
    session.run("config", "set", "requirepass", "second")
    late = session.engine.connect()
    assert run(session, late, "auth", "first").startswith("WRONGPASS")
    assert run(session, late, "auth", "second") is OK
    session.run("config", "set", "requirepass", "")
    assert session.engine.acl.default.no_password


# --------------------------------------------------------------------- judgements


def test_refusal_in_multi_spoils_the_transaction(session: Session) -> None:
    client = user(session, "+@all", "~k*", "-del")
    run(session, client, "multi")
    assert run(session, client, "del", "k").startswith("NOPERM")
    assert run(session, client, "exec").startswith("EXECABORT Transaction discarded because of pre")


def test_exec_judges_once_more(session: Session) -> None:
    client = user(session, "+@all", "~*")
    run(session, client, "multi")
    run(session, client, "set", "k", "v")
    run(session, client, "get", "k")
    session.run("acl", "setuser", "u", "-get")
    reply = run(session, client, "exec")
    assert isinstance(reply, Encoded)
    assert b"+OK\r\n-NOPERM ACLs rules changed between" in reply.wire
    assert session.engine.acl.log.entries[0].context == "multi"


def test_sort_by_other_keys_needs_every_key(session: Session) -> None:
    client = user(session, "+@all", "~k*")
    for option in ("BY", "GET"):
        error = f"ERR {option} option of SORT denied due to insufficient ACL permissions."
        assert run(session, client, "sort", "k", option, "w_*") == error
        run(session, client, "multi")
        run(session, client, "sort", "k", option, "w_*")
        assert error.encode() in run(session, client, "exec").wire
    assert run(session, client, "sort", "k", "by", "nosort") == []
    session.run("acl", "setuser", "u", "%R~*")
    assert run(session, client, "sort", "k", "get", "w_*", "get", "#") == []


# ---------------------------------------------------------------------------- log


def told(session: Session, *arguments: object) -> list[tuple[Any, ...]]:
    """The entries of ACL LOG: count, reason, context, object, user."""
    entries = session.run("acl", "log", *arguments)
    return [tuple(entry.values())[:5] for entry in entries]


def test_log_groups_what_repeats_within_a_minute(session: Session) -> None:
    client = user(session, "+@all", "~k*", "-del")
    for _ in range(2):
        run(session, client, "get", "x")
        run(session, client, "del", "k")
        session.advance(30_000)
    run(session, client, "auth", "nobody", "x")
    assert told(session) == [
        (1, b"auth", b"toplevel", b"auth", b"nobody"),
        (2, b"command", b"toplevel", b"del", b"u"),
        (2, b"key", b"toplevel", b"x", b"u"),
    ]
    session.advance(60_001)
    run(session, client, "get", "x")
    assert told(session, "1") == [(1, b"key", b"toplevel", b"x", b"u")]
    entry = session.run("acl", "log", "1")[0]
    assert entry[b"age-seconds"] == 0
    assert b"cmd=get user=u" in entry[b"client-info"]
    assert session.run("acl", "log", "reset") is OK
    assert told(session) == []


def test_log_searches_only_its_newest_entries(session: Session) -> None:
    client = user(session, "+@all", "~k*")
    for name in ["x", *range(10), "x"]:
        run(session, client, "get", name)
    assert [count for count, *_ in told(session, "100")] == [1] * 12


def test_log_keeps_no_more_than_it_may(session: Session) -> None:
    client = user(session, "+@all", "~k*")
    for limit in (3, 1, 0):
        session.run("config", "set", "acllog-max-len", limit)
        for name in range(5):
            run(session, client, "get", name)
        assert len(told(session, "100")) == limit


# ----------------------------------------------------------------------- changing


def test_setuser_with_one_wrong_rule_changes_nothing(session: Session) -> None:
    user(session, "~k*", "+get")
    before = session.run("acl", "list")
    error = "ERR Error in ACL SETUSER modifier 'bogus': Syntax error"
    assert session.error("acl", "setuser", "u", "+set", "~x", "bogus") == error
    assert session.error("acl", "setuser", "new", "bogus") == error
    assert session.run("acl", "list") == before


def test_request_that_holds_secrets_is_redacted(session: Session) -> None:
    for request, shown in (
        (["acl", "setuser", "u", ">p"], ["acl", "setuser", "(redacted)", "(redacted)"]),
        (["acl", "setuser", "u", "(+get"], ["acl", "setuser", "(redacted)", "(redacted)"]),
        (["config", "set", "masterauth", "p", "hz", "9"],
         ["config", "set", "masterauth", "(redacted)", "hz", "9"]),
        (["hello", "2", "auth", "u", "p"], ["hello", "2", "auth", "(redacted)", "(redacted)"]),
        (["migrate", "h", "1", "k", "0", "9", "auth2", "u", "p"],
         ["migrate", "h", "1", "k", "0", "9", "auth2", "(redacted)", "(redacted)"]),
    ):  # fmt: skip
        argv = argv_of(tuple(request))
        session.engine.apply(session.client, argv)
        assert argv == argv_of(tuple(shown))


@pytest.mark.parametrize("by_himself", [True, False])
def test_clients_of_a_deleted_user_are_nobody_at_once(session: Session, by_himself: bool) -> None:
    client = user(session, "+@all", "~*")
    caller = client if by_himself else session.client
    assert run(session, caller, "acl", "deluser", "u") == 1
    assert client.user is session.engine.acl.default
    assert not client.authenticated
    assert client.gates & gates.CLOSING
    assert not session.client.gates & gates.CLOSING


def test_genpass_gives_as_many_bits_as_asked(session: Session) -> None:
    class Dice:
        def random_bytes(self, count: int) -> bytes:
            return bytes(range(0xF0, 0xF0 + count))

    session.engine.host = Dice()
    assert session.run("acl", "genpass", "1") == b"f"
    assert session.run("acl", "genpass", "8") == b"f0"
    assert session.run("acl", "genpass", "9") == b"f0f"
    session.engine.host = type("Zeros", (), {"random_bytes": lambda self, count: bytes(count)})()
    assert session.run("acl", "genpass") == b"0" * 64
    assert session.run("acl", "genpass", "4096") == b"0" * 1024
