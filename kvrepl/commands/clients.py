"""CLIENT: the connections, seen, named, held back and ended; MONITOR.

Client-side caching (CLIENT TRACKING) stands in kvrepl.commands.tracking.

Source: Redis 7.0 networking.c (clientCommand, catClientInfoString), replication.c (monitorCommand).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import INT64_MAX, integer, integer_in
from kvrepl.engine import gates
from kvrepl.engine.blocking import POSTPONED
from kvrepl.engine.client import checked_name
from kvrepl.engine.description import CLASSES, class_of, describe, user_of
from kvrepl.engine.introspection import help_lines, wrong_subcommand
from kvrepl.engine.spec import command, container
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import NO_REPLY, OK, Reply, Verbatim

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine

NO_SUCH_CLIENT: Final = CommandError(b"ERR No such client")
INVALID_ID: Final = CommandError(b"ERR Invalid client ID")
ID_NOT_POSITIVE: Final = CommandError(b"ERR client-id should be greater than 0")
TIMEOUT: Final = CommandError(b"ERR timeout is not an integer or out of range")
TIMEOUT_NEGATIVE: Final = CommandError(b"ERR timeout is negative")
TIMEOUT_RANGE: Final = CommandError(b"ERR timeout is out of range")
PAUSE_MODE: Final = CommandError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
UNBLOCK_REASON: Final = CommandError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
UNBLOCKED: Final = CommandError(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")
NO_MONITOR: Final = CommandError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")

container("client", summary="A container for client connection commands")


# ------------------------------------------------------------------- describing


def _type_named(name: bytes) -> bytes:
    kind = name.lower()
    if kind == b"slave":
        kind = b"replica"
    if kind not in CLASSES:
        raise CommandError(b"ERR Unknown client type '%b'" % name)
    return kind


@command("client|id", 2, "noscript loading stale", acl="connection")
def client_id(c: Client, argv: list[bytes]) -> Reply:
    """Get the ID of the current connection. O(1)."""
    return c.id


@command(
    "client|info",
    2,
    "noscript loading stale",
    acl="connection",
    tips=["nondeterministic_output"],
)
def client_info(c: Client, argv: list[bytes]) -> Reply:
    """Get information about the current connection. O(1)."""
    return Verbatim(describe(c) + b"\n")


@command(
    "client|list",
    -2,
    "admin noscript loading stale",
    acl="connection",
    tips=["nondeterministic_output"],
)
def client_list(c: Client, argv: list[bytes]) -> Reply:
    """List the connections, all, those of a type, or those of some IDs. O(connections)."""
    clients = list(c.engine.clients.values())
    if len(argv) > 2:
        option = argv[2].upper()
        if option == b"TYPE" and len(argv) == 4:
            kind = _type_named(argv[3])
            clients = [client for client in clients if class_of(client) == kind]
        elif option == b"ID" and len(argv) > 3:
            ids = [integer(argument, INVALID_ID) for argument in argv[3:]]
            clients = [found for i in ids if (found := c.engine.clients.get(i)) is not None]
        else:
            raise SYNTAX
    return Verbatim(b"".join(describe(client) + b"\n" for client in clients))


@command("client|getname", 2, "noscript loading stale", acl="connection")
def client_getname(c: Client, argv: list[bytes]) -> Reply:
    """Get the name of the current connection. O(1)."""
    return c.name or None


@command("client|setname", 3, "noscript loading stale", acl="connection")
def client_setname(c: Client, argv: list[bytes]) -> Reply:
    """Name the current connection; an empty name takes it away. O(name)."""
    c.name = checked_name(argv[2])
    return OK


# ----------------------------------------------------------------------- ending


@command("client|kill", -3, "admin noscript loading stale", acl="connection")
def client_kill(c: Client, argv: list[bytes]) -> Reply:
    """Close connections: the one of an address, or all that pass the filters. O(connections)."""
    if len(argv) == 3:
        addressed = [each for each in c.engine.clients.values() if each.addr == argv[2]]
        if not addressed:
            raise NO_SUCH_CLIENT
        c.engine.kill(addressed[0], c)
        return OK
    wanted, skip_me = _kill_filters(c, argv)
    doomed = [
        each
        for each in list(c.engine.clients.values())
        if not (skip_me and each is c)
        and all(_FILTERS[option](each) == value for option, value in wanted.items())
    ]
    for each in doomed:
        c.engine.kill(each, c)
    return len(doomed)


_FILTERS: Final[dict[bytes, Callable[[Client], bytes | int]]] = {
    b"ID": lambda client: client.id,
    b"TYPE": class_of,
    b"ADDR": lambda client: client.addr,
    b"LADDR": lambda client: client.laddr,
    b"USER": user_of,
}


def _kill_filters(c: Client, argv: list[bytes]) -> tuple[dict[bytes, bytes | int], bool]:
    """Read the filters: what a connection must have, and whether the caller is left out."""
    wanted: dict[bytes, bytes | int] = {}
    skip_me = True
    for i in range(2, len(argv), 2):
        if i + 1 == len(argv):
            raise SYNTAX
        option, value = argv[i].upper(), argv[i + 1]
        if option == b"ID":
            wanted[option] = integer_in(value, 1, INT64_MAX, ID_NOT_POSITIVE)
        elif option == b"TYPE":
            wanted[option] = _type_named(value)
        elif option == b"USER" and value not in c.engine.acl.users:
            raise CommandError(b"ERR No such user '%b'" % value)
        elif option in _FILTERS:
            wanted[option] = value
        elif option == b"SKIPME" and value.lower() in (b"yes", b"no"):
            skip_me = value.lower() == b"yes"
        else:
            raise SYNTAX
    return wanted, skip_me


# ----------------------------------------------------------------- holding back


@command("client|pause", -3, "admin noscript loading stale", acl="connection")
def client_pause(c: Client, argv: list[bytes]) -> Reply:
    """Hold back all clients, or those that write, for some milliseconds. O(1).

    A pause that is running is never made shorter or milder by another.
    """
    all_commands = True
    if len(argv) == 4:
        mode = argv[3].upper()
        if mode not in (b"WRITE", b"ALL"):
            raise PAUSE_MODE
        all_commands = mode == b"ALL"
    elif len(argv) > 4:
        raise wrong_subcommand(argv)
    now_ms = c.engine.keyspace.now_ms
    timeout_ms = integer(argv[2], TIMEOUT)
    if timeout_ms < 0:
        raise TIMEOUT_NEGATIVE
    if timeout_ms > INT64_MAX - now_ms:
        raise TIMEOUT_RANGE
    until_ms = now_ms + timeout_ms
    running = c.engine.pauses.get("client")
    if running is not None:
        until_ms, all_commands = max(until_ms, running[0]), all_commands or running[1]
    c.engine.host.pause(all_commands=all_commands, until_ms=until_ms)
    return OK


@command("client|unpause", 2, "admin noscript loading stale", acl="connection")
def client_unpause(c: Client, argv: list[bytes]) -> Reply:
    """End CLIENT PAUSE. O(clients held back)."""
    c.engine.host.unpause()
    return OK


@command("client|unblock", -3, "admin noscript loading stale", acl="connection")
def client_unblock(c: Client, argv: list[bytes]) -> Reply:
    """Let a blocked client go on, as if its timeout had come or with an error. O(1)."""
    with_error = False
    if len(argv) == 4:
        reason = argv[3].upper()
        if reason not in (b"TIMEOUT", b"ERROR"):
            raise UNBLOCK_REASON
        with_error = reason == b"ERROR"
    elif len(argv) > 4:
        raise wrong_subcommand(argv)
    target = c.engine.clients.get(integer(argv[2]))
    if target is None or target.wait is None or target.wait.kind == POSTPONED:
        return 0
    with c.engine.blaming(argv):
        c.engine.blocking.unblock(target, UNBLOCKED if with_error else None)
    return 1


@command("client|no-evict", 3, "admin noscript loading stale", acl="connection")
def client_no_evict(c: Client, argv: list[bytes]) -> Reply:
    """Exempt the current connection from eviction, or no longer. O(1)."""
    c.no_evict = _on_off(argv[2])
    return OK


def _on_off(argument: bytes) -> bool:
    word = argument.lower()
    if word not in (b"on", b"off"):
        raise SYNTAX
    return word == b"on"


@command("client|reply", 3, "noscript loading stale", acl="connection")
def client_reply(c: Client, argv: list[bytes]) -> Reply:
    """Answer the current connection always, never, or not the next time. O(1)."""
    mode = argv[2].lower()
    if mode == b"on":
        c.reply_mode = mode
        c.lower_gate(gates.QUIET)
        return OK
    if mode == b"off" or (mode == b"skip" and c.reply_mode == b"on"):
        c.reply_mode = mode
        c.raise_gate(gates.QUIET)
    elif mode == b"skip":
        if c.reply_mode == b"skip":
            c.reply_mode = b"skip again"
    else:
        raise SYNTAX
    return NO_REPLY


# --------------------------------------------------------------------- help


@command("client|help", 2, "loading stale", acl="connection")
def client_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "CLIENT",
        ("CACHING (YES|NO)", "Track the keys of the next command, or do not."),
        ("GETNAME", "The name of this connection."),
        ("GETREDIR", "Where invalidations are redirected to."),
        ("ID", "The ID of this connection."),
        ("INFO", "This connection's line of LIST."),
        ("KILL <ip:port>", "Close the connection from there."),
        (
            "KILL <option> <value> [<option> <value> [...]]",
            "Close all connections that pass: ID, TYPE, USER, ADDR, LADDR; SKIPME (YES|NO).",
        ),
        ("LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> ...]", "The connections."),
        ("NO-EVICT (ON|OFF)", "Exempt this connection from eviction."),
        ("PAUSE <timeout> [WRITE|ALL]", "Hold clients back for <timeout> milliseconds."),
        ("REPLY (ON|OFF|SKIP)", "Whether this connection is answered."),
        ("SETNAME <name>", "Name this connection."),
        (
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT]"
            " [NOLOOP]",
            "Be told when keys change that this connection may hold.",
        ),
        ("TRACKINGINFO", "How this connection is told of changes."),
        ("UNBLOCK <clientid> [TIMEOUT|ERROR]", "Let a blocked client go on."),
        ("UNPAUSE", "End PAUSE."),
    )


# --------------------------------------------------------------------- MONITOR


@command("monitor", 1, "admin noscript loading stale")
def monitor(c: Client, argv: list[bytes]) -> Reply:
    """See every command that the server runs, from now on. O(1)."""
    engine: Engine = c.engine
    if engine.depth:
        raise NO_MONITOR
    if c.is_replica or c.is_monitor:
        return NO_REPLY
    c.is_monitor = True
    c.raise_gate(gates.REPLICA)  # it may not use the keyspace, as a replica may not
    engine.monitors[c] = None
    engine.update_monitored()
    return OK
