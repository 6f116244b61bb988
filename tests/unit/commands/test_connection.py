"""The connection: AUTH, HELLO, RESET; CLIENT and MONITOR."""

from __future__ import annotations

from typing import Any

import pytest

from kvrepl.engine import gates
from kvrepl.engine.client import Client
from kvrepl.resp.values import BLOCKED, NO_REPLY, OK, PONG, Status
from tests.unit.commands.session import START_MS, Session


class HandHost:
    """A host for what CLIENT asks of it."""

    def __init__(self) -> None:
        self.paused: list[tuple[bool, int]] = []
        self.killed: list[Client] = []

    def fd(self, client: Client) -> int:
        """Every client has the same one."""
        return 7

    def query_bytes(self, client: Client) -> int:
        """Nothing is incomplete."""
        return 0

    def output_bytes(self, client: Client) -> int:
        """Nothing waits."""
        return 0

    def pause(self, *, all_commands: bool, until_ms: int) -> None:
        """Note the pause."""
        self.paused.append((all_commands, until_ms))

    def kill_replica(self, client: Client) -> None:
        """Note who is to be cut."""
        self.killed.append(client)


@pytest.fixture
def host(session: Session) -> HandHost:
    """Put a host under the session's engine."""
    host = HandHost()
    session.engine.host = host
    return host


def connect(session: Session, addr: bytes = b"") -> Client:
    """Another client of the same engine."""
    client = session.engine.connect()
    client.addr = addr
    return client


def locked(session: Session) -> None:
    """Ask for a password, and start over as somebody who has not given it."""
    session.run("acl", "setuser", "default", ">secret")
    session.run("reset")


# -------------------------------------------------------------------- AUTH, HELLO


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("wrong",), "WRONGPASS invalid username-password pair or user is disabled."),
        (("nobody", "secret"), "WRONGPASS invalid username-password pair or user is disabled."),
        (("a", "b", "c"), "ERR syntax error"),
    ],
)
def test_auth_with_the_wrong_words_lets_nobody_in(
    session: Session, arguments: tuple[str, ...], text: str
) -> None:
    locked(session)
    assert session.error("auth", *arguments) == text
    assert session.error("get", "k") == "NOAUTH Authentication required."


@pytest.mark.parametrize("arguments", [("secret",), ("default", "secret")])
def test_auth_with_the_password_lets_in(session: Session, arguments: tuple[str, ...]) -> None:
    locked(session)
    assert session.run("auth", *arguments) == OK
    assert session.run("get", "k") is None


def test_auth_without_any_password_configured_says_so(session: Session) -> None:
    assert session.error("auth", "x").startswith("ERR AUTH <password> called without any password")
    assert session.run("auth", "default", "x") == OK


def test_hello_tells_the_server_and_changes_the_protocol(session: Session) -> None:
    assert session.run("hello", 3, "setname", "me") == {
        b"server": b"redis",
        b"version": b"7.0.15",
        b"proto": 3,
        b"id": session.client.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }
    assert session.client.resp == 3
    assert session.run("client", "getname") == b"me"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((4,), "NOPROTO unsupported protocol version"),
        (("x",), "ERR Protocol version is not an integer or out of range"),
        ((3, "zz"), "ERR Syntax error in HELLO option 'zz'"),
        ((3, "auth", "default"), "ERR Syntax error in HELLO option 'auth'"),
        ((3, "setname", "a b"), "ERR Client names cannot contain spaces, newlines or special"),
    ],
)
def test_hello_with_wrong_arguments_changes_nothing(
    session: Session, arguments: tuple[object, ...], text: str
) -> None:
    assert session.error("hello", *arguments).startswith(text)
    assert session.client.resp == 2


def test_hello_before_auth_needs_the_password(session: Session) -> None:
    locked(session)
    assert session.error("hello", 3).startswith("NOAUTH HELLO must be called with the client")
    assert session.error("hello", 3, "auth", "default", "x").startswith("WRONGPASS")
    assert session.run("hello", 3, "auth", "default", "secret")[b"proto"] == 3


def test_password_is_shown_to_no_monitor(session: Session) -> None:
    watcher = connect(session)
    session.engine.apply(watcher, [b"monitor"])
    session.run("auth", "default", "opensesame")
    session.run("hello", 2, "auth", "default", "opensesame")
    seen = b"".join(watcher.out)
    assert seen.count(b'"(redacted)"') == 4
    assert b"opensesame" not in seen


# --------------------------------------------------------------------- small ones


def test_ping_and_echo_give_back_what_they_get(session: Session) -> None:
    assert session.run("ping") == PONG
    assert session.run("ping", "x") == b"x"
    assert session.run("echo", "x") == b"x"
    assert session.error("ping", "x", "y") == "ERR wrong number of arguments for 'ping' command"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (16, "ERR DB index is out of range"),
        (-1, "ERR DB index is out of range"),
        ("x", "ERR value is not an integer or out of range"),
        (2**31, "ERR value is out of range, value must between -2147483648 and 2147483647"),
    ],
)
def test_select_of_no_database_stays_where_it_is(
    session: Session, index: object, text: str
) -> None:
    session.run("select", 3)
    assert session.error("select", index) == text
    assert session.client.db.index == 3


def test_time_tells_seconds_and_microseconds(session: Session) -> None:
    session.advance(250)
    assert session.run("time") == [b"%d" % (START_MS // 1000), b"250000"]


def test_quit_answers_and_closes(session: Session) -> None:
    assert session.run("quit") == OK
    assert session.client.asked_close
    assert session.run("ping") is NO_REPLY


@pytest.mark.parametrize("command", ["asking", "readonly", "readwrite", "cluster info"])
def test_cluster_command_says_that_there_is_no_cluster(session: Session, command: str) -> None:
    assert session.error(*command.split()) == "ERR This instance has cluster support disabled"


def test_reset_makes_the_connection_new(session: Session) -> None:
    for command in ("hello 3 setname me", "select 3", "watch k", "multi", "set k v"):
        session.run(*command.split())
    assert session.run("reset") == Status(b"RESET")
    client = session.client
    assert (client.resp, client.db.index, client.name, client.queued) == (2, 0, b"", None)
    assert not client.watching
    assert client.gates == 0


def test_reset_of_a_subscriber_and_monitor_ends_both(session: Session) -> None:
    session.run("monitor")
    session.run("subscribe", "c")
    session.run("reset")
    assert session.engine.monitors == {}
    assert session.run("publish", "c", "m") == 0
    assert session.run("get", "k") is None


def test_reset_asks_for_the_password_again(session: Session) -> None:
    locked(session)
    session.run("auth", "secret")
    session.run("reset")
    assert session.error("get", "k") == "NOAUTH Authentication required."


# ------------------------------------------------------------------------- CLIENT

FIELDS = (
    "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem"
    " rbs rbp obl oll omem tot-mem events cmd user redir resp"
)


def line_of(text: Any) -> dict[str, str]:
    """The fields of a line of CLIENT LIST, in their order."""
    return dict(part.split("=", 1) for part in text.text.decode().splitlines()[0].split(" "))


def test_client_info_has_the_fields_of_redis_in_their_order(
    session: Session, host: HandHost
) -> None:
    session.run("client", "setname", "me")
    session.advance(5_000)
    fields = line_of(session.run("client", "info"))
    assert " ".join(fields) == FIELDS
    assert fields["name"] == "me"
    assert (fields["age"], fields["cmd"], fields["user"]) == ("5", "client|info", "default")


@pytest.mark.parametrize(
    ("command", "letters"),
    [("ping", "N"), ("multi", "x"), ("subscribe c", "P"), ("monitor", "O"), ("blpop q 0", "b")],
)
def test_client_list_shows_the_state_as_letters(
    session: Session, host: HandHost, command: str, letters: str
) -> None:
    other = connect(session)
    session.engine.apply(other, [word.encode() for word in command.split()])
    assert line_of(session.run("client", "list", "id", other.id))["flags"] == letters


def test_client_list_by_type_and_id_selects(session: Session, host: HandHost) -> None:
    other = connect(session)
    session.engine.apply(other, [b"subscribe", b"c"])
    listed = session.run("client", "list", "type", "pubsub").text
    assert listed.count(b"\n") == 1
    assert listed.startswith(b"id=%d " % other.id)
    assert session.run("client", "list", "id", other.id, other.id, 99).text == listed * 2
    assert session.error("client", "list", "type", "zz") == "ERR Unknown client type 'zz'"
    assert session.error("client", "list", "id", "x") == "ERR Invalid client ID"


@pytest.mark.parametrize(
    ("filters", "killed"),
    [
        ("type normal", {b"1:1", b"2:2"}),
        ("type normal skipme no", {b"1:1", b"2:2", b"me"}),
        ("type pubsub", {b"3:3"}),
        ("addr 2:2", {b"2:2"}),
        ("addr 2:2 type pubsub", set()),
        ("user default skipme yes", {b"1:1", b"2:2", b"3:3"}),
    ],
)
def test_client_kill_by_filters_ends_those_that_pass_all(
    session: Session, host: HandHost, filters: str, killed: set[bytes]
) -> None:
    session.client.addr = b"me"
    others = [connect(session, addr) for addr in (b"1:1", b"2:2", b"3:3")]
    session.engine.apply(others[2], [b"subscribe", b"c"])
    assert session.run("client", "kill", *filters.split()) == len(killed)
    gone = {each.addr for each in others if each.id not in session.engine.clients}
    assert gone | ({b"me"} if session.client.asked_close else set()) == killed


def test_client_kill_reads_filters_in_their_order(session: Session) -> None:
    assert session.error("client", "kill", "user", "no", "id") == "ERR No such user 'no'"
    assert session.error("client", "kill", "id", 5, "user") == "ERR syntax error"


def test_client_kill_of_a_replica_is_left_to_the_host(session: Session, host: HandHost) -> None:
    replica = connect(session)
    replica.is_replica = True
    assert session.run("client", "kill", "type", "slave") == 1
    assert host.killed == [replica]


def test_client_kill_by_address_alone_may_end_the_caller(session: Session, host: HandHost) -> None:
    session.client.addr = b"127.0.0.1:5"
    assert session.error("client", "kill", "1:1") == "ERR No such client"
    assert session.run("client", "kill", "127.0.0.1:5") == OK
    assert session.client.asked_close


def test_client_kill_inside_a_transaction_spares_the_caller(
    session: Session, host: HandHost
) -> None:
    connect(session, b"1:1")
    for command in ("multi", "client kill type normal", "client kill type pubsub"):
        session.run(*command.split())
    assert session.run("exec").wire == b"*2\r\n:1\r\n:0\r\n"
    assert not session.client.asked_close


def test_client_pause_is_never_made_shorter_or_milder(session: Session, host: HandHost) -> None:
    session.run("client", "pause", 100)
    assert host.paused == [(True, START_MS + 100)]
    session.engine.pauses["client"] = (START_MS + 100, True)
    session.run("client", "pause", 50, "write")
    assert host.paused[-1] == (True, START_MS + 100)
    assert session.error("client", "pause", -1) == "ERR timeout is negative"
    assert session.error("client", "pause", 1, "zz") == (
        "ERR CLIENT PAUSE mode must be WRITE or ALL"
    )
    assert session.error("client", "pause", 1, "all", "zz") == (
        "ERR unknown subcommand or wrong number of arguments for 'pause'. Try CLIENT HELP."
    )


@pytest.mark.parametrize(
    ("argv", "held"),
    [
        ([b"set", b"k", b"v"], True),
        ([b"eval", b"return 1", b"0"], True),
        ([b"publish", b"channel", b"message"], True),
        ([b"pfcount", b"k"], True),
        ([b"get", b"k"], False),
    ],
)
def test_pause_of_writes_holds_back_what_replicas_may_be_sent(
    session: Session, argv: list[bytes], held: bool
) -> None:
    apply = session.engine.apply
    queued, queueing = connect(session), connect(session)
    apply(queued, [b"multi"])
    apply(queued, argv)
    apply(queueing, [b"multi"])

    session.engine.set_gate(gates.PAUSE_WRITES, True)

    assert (apply(connect(session), argv) is BLOCKED) == held
    assert (apply(queued, [b"exec"]) is BLOCKED) == held
    assert (apply(queueing, argv) is BLOCKED) == held


@pytest.mark.parametrize(
    ("reason", "reply"),
    [
        ((), b"*-1\r\n"),
        (("timeout",), b"*-1\r\n"),
        (("error",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ],
)
def test_client_unblock_answers_who_waits(
    session: Session, reason: tuple[str, ...], reply: bytes
) -> None:
    waiter = connect(session)
    assert session.engine.apply(waiter, [b"blpop", b"q", b"0"]) is BLOCKED
    assert session.run("client", "unblock", waiter.id, *reason) == 1
    assert b"".join(waiter.out) == reply
    assert session.run("client", "unblock", waiter.id) == 0


def answered(session: Session, *commands: str) -> list[bool]:
    """Which of the commands get an answer."""
    return [session.run(*command.split()) is not NO_REPLY for command in commands]


def test_client_reply_off_silences_until_it_is_on(session: Session) -> None:
    commands = ("client reply off", "ping", "client reply skip", "ping", "client reply on", "ping")
    assert answered(session, *commands) == [False, False, False, False, True, True]


def test_client_reply_skip_silences_itself_and_one_command(session: Session) -> None:
    assert answered(session, "client reply skip", "ping", "ping") == [False, False, True]
    assert answered(session, "client reply skip", "client reply skip", "ping", "ping") == [
        False, False, False, True,
    ]  # fmt: skip


# ------------------------------------------------------------------------ MONITOR


def test_monitor_shows_commands_after_they_ran_and_no_administration(session: Session) -> None:
    watcher = connect(session)
    session.engine.apply(watcher, [b"monitor"])
    session.client.addr = b"1:2"
    for command in ("multi", 'set k \x00"', "select 3", "exec", "client list"):
        session.run(*command.split(" "))
    shown = [line.partition(b" ")[2] for line in b"".join(watcher.out).splitlines()]
    assert shown == [
        b'[0 1:2] "multi"',
        b'[0 1:2] "set" "k" "\\x00\\""',
        b'[3 1:2] "select" "3"',
        b'[3 1:2] "exec"',
    ]


def test_monitor_may_not_use_the_keyspace(session: Session) -> None:
    session.run("monitor")
    assert session.error("get", "k") == "ERR Replica can't interact with the keyspace"


def test_monitor_inside_a_transaction_is_refused(session: Session) -> None:
    session.run("multi")
    session.run("monitor")
    assert session.run("exec").wire == (
        b"*1\r\n-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n"
    )
