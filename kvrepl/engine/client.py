"""A client as the engine sees it: who it is, what it is in the middle of, and its output.

The engine appends encoded replies to `out`; the shell writes them to the socket at the end of the
turn (`kvrepl.server.turn`) and thereby keeps the rule that nothing is answered before it is as
durable as the configuration asks. A Client is also the context that a handler gets: `c.db` is its
database, `c.engine` everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from kvrepl.engine import gates
from kvrepl.errors import CommandError
from kvrepl.resp import encode
from kvrepl.resp.values import BLOCKED, NO_REPLY

if TYPE_CHECKING:
    from kvrepl.engine.acl.user import User
    from kvrepl.engine.blocking import Wait
    from kvrepl.engine.dispatch import Engine
    from kvrepl.engine.spec import Command
    from kvrepl.keyspace.database import Database


class Port(Protocol):
    """What the engine asks of whoever carries the client's bytes."""

    def close_soon(self) -> None:
        """Write what is pending, then close."""

    def abort(self) -> None:
        """Close at once, throwing pending output away."""

    def flush(self) -> None:
        """Write the client's output; called at the end of a turn."""

    def resume(self) -> None:
        """The client is no longer blocked: go on with the requests that were held back."""


class NoPort:
    """The port of a client that has no connection: the master's stream, the AOF, a test."""

    def close_soon(self) -> None: ...
    def abort(self) -> None: ...
    def flush(self) -> None: ...
    def resume(self) -> None: ...


class Client:
    """One client; also the context of every handler.

    Args:
        engine: the engine that serves it.
        client_id: unique and rising, as CLIENT ID gives it.
        port: where its bytes go.

    Attributes:
        out: encoded replies that wait for the end of the turn.
        resp: protocol of the replies, 2 or 3.
        user: who it is logged in as; None for a client of our own, which may do everything.
        authenticated: it has logged in, or came while nobody had to.
        gates: its own raised bits; exempt: bits it passes unseen.
        is_master: the stream of our master, or the AOF being loaded; nothing is answered.
        is_replica: a replica that follows us; is_monitor: it called MONITOR.
        queued: commands queued since MULTI, None outside of it; queued_bytes: their arguments.
        dirty_exec: a command was refused while queueing; dirty_cas: a watched key changed.
        watching: (db, key) -> whether the key had expired already when it was watched.
        channels, patterns, shard_channels: subscriptions.
        wait: what it is blocked on, None when it is not.
        batch_offset: of the replication stream when its present batch began.
        done_offset: of the same when its last batch was over, behind all that it wrote and saw;
            PRESENT where it was served in the turn of another client.
    """

    __slots__ = (
        "addr",
        "asked_close",
        "authenticated",
        "batch_offset",
        "channels",
        "created_ms",
        "db",
        "dirty_cas",
        "dirty_exec",
        "done_offset",
        "engine",
        "exempt",
        "gates",
        "id",
        "is_local",
        "is_master",
        "is_monitor",
        "is_replica",
        "laddr",
        "last_command",
        "last_interaction_ms",
        "name",
        "no_evict",
        "out",
        "patterns",
        "pending",
        "port",
        "queued",
        "queued_bytes",
        "reply_mode",
        "resp",
        "shard_channels",
        "tracking",
        "user",
        "wait",
        "watching",
    )  # fmt: skip

    def __init__(self, engine: Engine, client_id: int, port: Port | None = None) -> None:
        self.engine = engine
        self.id = client_id
        self.port: Port = port if port is not None else NoPort()
        self.db: Database = engine.keyspace.databases[0]
        self.out: list[bytes] = []
        self.pending = False
        self.batch_offset = self.done_offset = 0
        self.resp = 2
        self.gates = 0
        self.exempt = 0
        self.name = b""
        self.addr = self.laddr = b""
        self.is_local = False
        self.user: User | None = None
        self.authenticated = False
        self.created_ms = self.last_interaction_ms = engine.keyspace.now_ms
        self.last_command: Command | None = None
        self.is_master = self.is_replica = self.is_monitor = False
        self.no_evict = False
        self.asked_close = False
        self.reply_mode = b"on"
        self.queued: list[tuple[Command, list[bytes]]] | None = None
        self.queued_bytes = 0
        self.dirty_exec = self.dirty_cas = False
        self.watching: dict[tuple[Database, bytes], bool] = {}
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.tracking: Any = None
        self.wait: Wait | None = None

    def send(self, value: Any) -> None:
        """Give the client a reply outside of the command that it called (push, late answer)."""
        if self.is_master or self.gates & gates.CLOSING:
            return
        self.out.append(encode(value, self.resp))
        self.stir()

    def quieten(self, reply: Any) -> Any:
        """Withhold a reply after CLIENT REPLY OFF or SKIP, unless that very command turned it on.

        A command that waits is answered, and so withheld, when its wait is over.
        """
        if self.reply_mode == b"on" or reply is BLOCKED:
            return reply
        if self.reply_mode == b"skip":
            self.reply_mode = b"on"
            self.lower_gate(gates.QUIET)
        elif self.reply_mode == b"skip again":
            self.reply_mode = b"skip"
        return NO_REPLY

    def stir(self) -> None:
        """Have the shell look at `out` at the end of the turn."""
        if not self.pending:
            self.pending = True
            self.engine.writers.append(self)

    def close_soon(self) -> None:
        """Run no further command, write what is pending, then close."""
        self.gates |= gates.CLOSING
        self.asked_close = True
        self.stir()

    def raise_gate(self, bit: int) -> None:
        """Raise one of this client's own gates."""
        self.gates |= bit

    def lower_gate(self, bit: int) -> None:
        """Lower one of this client's own gates."""
        self.gates &= ~bit

    def subscriptions(self) -> int:
        """Channels and patterns together, as (UN)SUBSCRIBE counts them."""
        return len(self.channels) + len(self.patterns)


BAD_NAME: Final = CommandError(
    b"ERR Client names cannot contain spaces, newlines or special characters."
)


def checked_name(name: bytes) -> bytes:
    """A name for a client, as CLIENT SETNAME and HELLO take it: no blank, nothing unprintable.

    Raises:
        CommandError: it has a character that would break the lines of CLIENT LIST.
    """
    if any(not 0x21 <= byte <= 0x7E for byte in name):
        raise BAD_NAME
    return name
