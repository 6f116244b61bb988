"""May this client run this command now? The reasons against it, in Redis's order.

Dispatch comes here only when something is unusual: the command is unknown or has the wrong number
of arguments, it has subcommands, or one of its gates is raised. The order of the checks decides
which error a client sees and is that of Redis 7.0 server.c, processCommand.

While a client is inside MULTI any refusal also spoils its transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from kvrepl.engine import gates
from kvrepl.engine.blocking import POSTPONED
from kvrepl.engine.memory import FULL
from kvrepl.errors import CommandError
from kvrepl.resp.values import BLOCKED, NO_REPLY, QUEUED, Reply, Status

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine
    from kvrepl.engine.spec import Command

NOAUTH: Final = CommandError(b"NOAUTH Authentication required.")
NO_MULTI: Final = CommandError(b"ERR Command not allowed inside a transaction")
OOM: Final = CommandError(b"OOM command not allowed when used memory > 'maxmemory'.")
NOREPLICAS: Final = CommandError(b"NOREPLICAS Not enough good replicas to write.")
READONLY: Final = CommandError(b"READONLY You can't write against a read only replica.")
MASTERDOWN: Final = CommandError(
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
)
LOADING: Final = CommandError(b"LOADING Redis is loading the dataset in memory")
REPLICA: Final = CommandError(b"ERR Replica can't interact with the keyspace")

PROTECTED: Final = {
    "debug": "enable_debug_command",
    "module|load": "enable_module_command",
    "module|loadex": "enable_module_command",
    "module|unload": "enable_module_command",
}
"""Command -> the setting that allows it, to local connections or to all."""

SET_BY_SCRIPT: Final = frozenset(("write", "may_replicate", "denyoom", "stale"))
"""Flags that a script which declares its own has by that alone."""

ENDS_MULTI: Final = frozenset(("exec", "discard", "quit", "reset"))

ARGUMENTS_SHOWN_BYTES: Final = 128
"""How much of an unknown command and of its arguments the error repeats (server.c)."""

QUEUED_BYTES: Final = 120
ARGUMENT_BYTES: Final = 41
"""What a command in MULTI, and each of its arguments, costs besides the bytes in it."""


def look_up(engine: Engine, client: Client, argv: Sequence[bytes]) -> Command:
    """The command that argv calls, its number of arguments checked.

    Raises:
        CommandError: no such command or subcommand, or the wrong number of arguments.
    """
    command = engine.find(argv[0])
    if command is None:
        raise _spoil(client, _unknown(argv))
    if command.subcommands and len(argv) > 1:
        sub = command.subcommands.get(argv[1].lower())
        if sub is None:
            raise _spoil(
                client,
                CommandError(
                    b"ERR unknown subcommand '%b'. Try %b HELP."
                    % (_shown(argv[1]), command.name.upper().encode())
                ),
            )
        command = sub
    if not command.least <= len(argv) <= command.most or command.handler is None:
        error = CommandError(
            b"ERR wrong number of arguments for '%b' command" % command.name.encode()
        )
        command.rejected += 1
        if command.name == "exec":
            raise _abort_exec(engine, client, error)
        raise _spoil(client, error)
    try:
        check_protected(client, command)
    except CommandError as error:
        command.rejected += 1
        raise _spoil(client, error) from None
    return command


def check_protected(client: Client, command: Command) -> None:
    """Refuse a command that the configuration does not allow this client. O(1).

    Redis asks before it asks for a password. DEBUG asks again when it is called, as where no gate
    is raised nobody has done so before.

    Raises:
        CommandError: it is refused.
    """
    setting = PROTECTED.get(command.name)
    if setting is None or client.is_master:
        return
    allowed = getattr(client.engine.config, setting)
    if allowed != "yes" and not (allowed == "local" and client.is_local):
        name = command.name.partition("|")[0].upper()
        raise CommandError(
            b"ERR %b command not allowed. If the %b option is set to"
            b' "local", you can run it from a local connection, otherwise you need to set this'
            b" option in the configuration file, and then restart the server."
            % (name.encode(), setting.replace("_", "-").encode())
        )


def admit(engine: Engine, client: Client, command: Command, argv: list[bytes]) -> Reply | None:
    """Decide on a command whose number of arguments is right.

    Returns:
        None to run it now; otherwise the answer instead (QUEUED, BLOCKED, NO_REPLY).

    Raises:
        CommandError: it is refused.
    """
    raised = (engine.gates | client.gates) & ~client.exempt & command.mask
    flags = command.flags
    if raised and command.name in gates.CALLS_SCRIPT:
        flags = flags_of(engine, command, argv)
        mask = gates.mask_of(command.name, flags)
        raised = (engine.gates | client.gates) & ~client.exempt & mask
    if not raised:
        return None
    if raised & gates.CLOSING:
        return NO_REPLY
    refusal = (
        engine.acl.refusal(client, command, argv)
        if raised == gates.ACL  # the only gate up: all other reasons need not be gone through
        else _refusal(engine, client, command, argv, raised, flags)
    )
    if refusal is not None:
        command.rejected += 1
        if command.name == "exec":
            raise _abort_exec(engine, client, refusal)
        raise _spoil(client, refusal)
    if raised & (gates.PAUSE_ALL | gates.PAUSE_WRITES) and _is_paused(
        engine, client, command, raised
    ):
        engine.blocking.block(client, kind=POSTPONED)
        return BLOCKED
    if raised & gates.MULTI:
        if client.queued is None:
            client.queued = []
        if not client.dirty_exec and not client.dirty_cas:  # EXEC will run nothing
            client.queued.append((command, argv))
            client.queued_bytes += QUEUED_BYTES + ARGUMENT_BYTES * len(argv) + sum(map(len, argv))
        return QUEUED
    return None


def flags_of(engine: Engine, command: Command, argv: list[bytes]) -> frozenset[str]:
    """The flags of a request: its command's, but for those that a script declares. O(1).

    Source: server.c (getCommandFlags), script.c (scriptFlagsToCmdFlags).
    """
    if command.name not in gates.CALLS_SCRIPT or engine.scripts is None:
        return command.flags
    declared = engine.scripts.declared(command.name, argv)
    return command.flags if declared is None else command.flags - SET_BY_SCRIPT | declared


def _refusal(
    engine: Engine,
    client: Client,
    command: Command,
    argv: list[bytes],
    raised: int,
    flags: frozenset[str],
) -> CommandError | None:
    writes, uses_memory, stale_ok, loading_ok = (
        "write" in flags, "denyoom" in flags, "stale" in flags, "loading" in flags
    )  # fmt: skip
    if command.name == "exec":
        for queued in _flags_queued(engine, client):
            writes = writes or "write" in queued
            uses_memory = uses_memory or "denyoom" in queued
            stale_ok = stale_ok and "stale" in queued
            loading_ok = loading_ok and "loading" in queued
    if raised & gates.AUTH:
        return NOAUTH
    if raised & gates.MULTI and "no_multi" in flags:
        return NO_MULTI
    if raised & gates.ACL and (denied := engine.acl.refusal(client, command, argv)) is not None:
        return denied
    if engine.gates & ~client.exempt & gates.OOM:
        # Queuing takes memory as well, whatever is queued.
        grows = uses_memory or (raised & gates.MULTI and command.name not in ENDS_MULTI)
        if engine.memory.make_room() == FULL and grows:
            return OOM
    if raised & gates.DISK and (writes or command.name == "ping") and not client.is_master:
        return engine.disk_error()
    if raised & gates.FEW_REPLICAS and writes:
        return NOREPLICAS
    if raised & gates.READONLY and writes:
        return READONLY
    if raised & gates.PUBSUB and client.resp == 2:
        return CommandError(
            b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
            b"RESET are allowed in this context" % command.name.encode()
        )
    if raised & gates.STALE and not stale_ok:
        return MASTERDOWN
    if raised & gates.LOADING and not loading_ok:
        return LOADING
    if raised & gates.ASYNC_LOADING and "no_async_loading" in flags:
        return LOADING
    if raised & gates.BUSY:
        refusal: CommandError = engine.scripts.busy()
        return refusal
    if raised & gates.REPLICA:
        return REPLICA
    return None


def _flags_queued(engine: Engine, client: Client) -> Iterator[frozenset[str]]:
    """The flags of each request that waits for EXEC."""
    for command, argv in client.queued or ():
        yield flags_of(engine, command, argv)


def _is_paused(engine: Engine, client: Client, command: Command, raised: int) -> bool:
    """Whether a pause holds this command back (all of them, or those that may write)."""
    if client.is_replica or client.is_master:
        return False
    if command.name == "exec" and not raised & gates.PAUSE_ALL:
        return any(
            "write" in flags or "may_replicate" in flags for flags in _flags_queued(engine, client)
        )
    return True


def _unknown(argv: Sequence[bytes]) -> CommandError:
    shown = b""
    for argument in argv[1:]:
        if len(shown) >= ARGUMENTS_SHOWN_BYTES:
            break
        shown += b"'%b' " % _shown(argument, ARGUMENTS_SHOWN_BYTES - len(shown))
    return CommandError(
        b"ERR unknown command '%b', with args beginning with: %b" % (_shown(argv[0]), shown)
    )


def _shown(argument: bytes, most_bytes: int = ARGUMENTS_SHOWN_BYTES) -> bytes:
    """What an error repeats of an argument; Redis formats it as a C string, which a NUL ends."""
    return argument[:most_bytes].partition(b"\x00")[0]


def _spoil(client: Client, error: CommandError) -> CommandError:
    if client.gates & gates.MULTI:
        client.dirty_exec = True
    return error


def _abort_exec(engine: Engine, client: Client, refusal: CommandError) -> CommandError:
    discard(engine, client)
    why = refusal.text.removeprefix(b"ERR ")
    return CommandError(b"EXECABORT Transaction discarded because of: " + why)


def discard(engine: Engine, client: Client) -> None:
    """Leave MULTI: forget what was queued and what was watched."""
    client.queued = None
    client.queued_bytes = 0
    client.dirty_exec = False
    client.lower_gate(gates.MULTI)
    engine.unwatch(client)


def feed_monitors(
    engine: Engine, client: Client, command: Command, argv: Sequence[bytes], who: bytes = b""
) -> None:
    """Show a command to those who called MONITOR, unless its kind is not shown; as `show`.

    It came from the client's address where `who` is empty.
    """
    if "admin" not in command.flags and "skip_monitor" not in command.flags:
        show(engine, client, who or client.addr, argv)


def show(engine: Engine, client: Client, who: bytes, argv: Sequence[bytes]) -> None:
    """Show a request to those who called MONITOR.

    Args:
        engine: whose monitors.
        client: in whose database it runs.
        who: from where it came: an address, or `lua`.
        argv: the request.
    """
    now_ms = engine.keyspace.now_ms
    line = b"%d.%06d [%d %b] %b" % (
        now_ms // 1000,
        now_ms % 1000 * 1000,
        client.db.index,
        who,
        b" ".join(map(quote, argv)),
    )
    for monitor in engine.monitors:
        monitor.send(Status(line))


_ESCAPES: Final = {
    ord("\\"): b"\\\\", ord('"'): b'\\"', ord("\n"): b"\\n", ord("\r"): b"\\r",
    ord("\t"): b"\\t", ord("\a"): b"\\a", ord("\b"): b"\\b",
}  # fmt: skip


def quote(data: bytes) -> bytes:
    """Bytes as a quoted, printable string (sdscatrepr)."""
    return b'"%b"' % b"".join(
        _ESCAPES.get(c) or (b"%c" % c if 32 <= c < 127 else b"\\x%02x" % c) for c in data
    )
