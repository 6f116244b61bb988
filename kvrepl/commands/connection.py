"""The connection itself: who speaks (AUTH, HELLO), which database, is anybody there.

Who may come in, and as whom, is decided in `kvrepl.engine.acl.access`.

Source: Redis 7.0 networking.c (helloCommand, resetCommand), acl.c (authCommand), db.c, server.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl import REDIS_VERSION
from kvrepl.commands.arguments import REDACTED, database, integer
from kvrepl.engine import admission, gates
from kvrepl.engine.acl.access import DEFAULT
from kvrepl.engine.client import checked_name
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import OK, PONG, Reply, Status

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

NO_PASSWORD: Final = CommandError(
    b"ERR AUTH <password> called without any password configured for the default user."
    b" Are you sure your configuration is correct?"
)
NOPROTO: Final = CommandError(b"NOPROTO unsupported protocol version")
PROTOCOL_NUMBER: Final = CommandError(b"ERR Protocol version is not an integer or out of range")
HELLO_NOAUTH: Final = CommandError(
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH"
    b" <user> <pass> option can be used to authenticate the client and select the RESP protocol"
    b" version at the same time"
)
ONLY_NORMAL: Final = CommandError(b"ERR can only reset normal client connections")


@command(
    "ping",
    -1,
    "fast",
    acl="connection",
    tips=["request_policy:all_shards", "response_policy:all_succeeded"],
)
def ping(c: Client, argv: list[bytes]) -> Reply:
    """Ping the server. O(1)."""
    if len(argv) > 2:
        raise CommandError(b"ERR wrong number of arguments for 'ping' command")
    if c.gates & gates.PUBSUB and c.resp == 2:
        # A subscriber of RESP2 must be able to tell it from a message.
        return [b"pong", argv[1] if len(argv) == 2 else b""]
    return argv[1] if len(argv) == 2 else PONG


@command("echo", 2, "loading stale fast", acl="connection")
def echo(c: Client, argv: list[bytes]) -> Reply:
    """Echo the given string. O(1)."""
    return argv[1]


@command("select", 2, "loading stale fast", acl="connection")
def select(c: Client, argv: list[bytes]) -> Reply:
    """Change the selected database of the current connection. O(1)."""
    c.db = database(c, argv[1])
    return OK


@command("auth", -2, "noscript loading stale fast no_auth allow_busy", acl="connection")
def auth(c: Client, argv: list[bytes]) -> Reply:
    """Authenticate to the server. O(password)."""
    if len(argv) > 3:
        raise SYNTAX
    acl = c.engine.acl
    name, password = (argv[1], argv[2]) if len(argv) == 3 else (DEFAULT, argv[1])
    argv[1:] = [REDACTED] * (len(argv) - 1)
    if len(argv) == 2 and acl.default.no_password:
        raise NO_PASSWORD
    acl.login(c, name, password, argv[0])
    return OK


@command("hello", -1, "noscript loading stale fast no_auth allow_busy", acl="connection")
def hello(c: Client, argv: list[bytes]) -> Reply:
    """Handshake: choose the protocol, authenticate, and name the connection. O(1)."""
    protocol = c.resp
    if len(argv) > 1:
        protocol = integer(argv[1], PROTOCOL_NUMBER)
        if protocol not in (2, 3):
            raise NOPROTO
    i = 2
    while i < len(argv):
        option = argv[i].upper()
        if option == b"AUTH" and i + 2 < len(argv):
            name, password = argv[i + 1 : i + 3]
            argv[i + 1 : i + 3] = [REDACTED, REDACTED]
            c.engine.acl.login(c, name, password, argv[0])
            i += 3
        elif option == b"SETNAME" and i + 1 < len(argv):
            c.name = checked_name(argv[i + 1])
            i += 2
        else:
            raise CommandError(b"ERR Syntax error in HELLO option '%b'" % argv[i])
    if c.gates & gates.AUTH:
        raise HELLO_NOAUTH
    c.resp = protocol
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": protocol,
        b"id": c.id,
        b"mode": b"standalone",
        b"role": b"replica" if c.engine.is_replica else b"master",
        b"modules": [],
    }


@command("quit", -1, "noscript loading stale fast no_auth allow_busy", acl="connection")
def quit_(c: Client, argv: list[bytes]) -> Reply:
    """Close the connection. O(1)."""
    c.close_soon()
    return OK


@command("reset", 1, "noscript loading stale fast no_auth allow_busy", acl="connection")
def reset(c: Client, argv: list[bytes]) -> Reply:
    """Make the connection as it was when it came in. O(subscriptions and watched keys)."""
    if c.is_replica or c.is_master:
        raise ONLY_NORMAL
    engine = c.engine
    if c.is_monitor:
        c.is_monitor = False
        engine.monitors.pop(c, None)
        engine.update_monitored()
    c.db = engine.keyspace.databases[0]
    c.resp = 2
    c.name = b""
    if c.reply_mode == b"off":  # CLIENT REPLY SKIP holds for this reply as well, as in Redis
        c.reply_mode = b"on"
        c.lower_gate(gates.QUIET)
    admission.discard(engine, c)
    engine.pubsub.drop(c)
    engine.tracking.disable(c)
    c.lower_gate(gates.PUBSUB | gates.REPLICA)
    engine.acl.welcome(c)
    return Status(b"RESET")


@command("time", 1, "loading stale fast", tips=["nondeterministic_output"])
def time(c: Client, argv: list[bytes]) -> Reply:
    """Get the server's time: seconds, and microseconds of that second. O(1)."""
    seconds, ms = divmod(c.engine.clock.now_ms(), 1000)
    return [b"%d" % seconds, b"%d" % (ms * 1000)]
