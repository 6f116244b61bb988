"""What a replica asks of its master before the stream, and how it reads the answers.

The requests between PING and PSYNC are sent in one go, and their replies come in that order.
A refused AUTH ends the attempt; a refused REPLCONF does not, as an old master knows none.

Source: Redis 7.0, replication.c (syncWithMaster, slaveTryPartialResynchronization).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from kvrepl.errors import ProtocolError
from kvrepl.replication import wire
from kvrepl.replication.actions import Log, notice, warning
from kvrepl.replication.compression import LZ4
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.states import State

LINE_TIMEOUT_MS: Final = 5000
"""How long a reply line may stay incomplete (Redis: repl_syncio_timeout)."""

CONNECT_TIMEOUT: Final = "Timeout connecting to the MASTER..."
TRANSFER_TIMEOUT: Final = (
    "Timeout receiving bulk data from MASTER... If the problem persists try to set the "
    "'repl-timeout' parameter in redis.conf to a larger value."
)

OPTION_OF_REPLY: Final = {
    State.RECEIVE_PORT_REPLY: "listening-port",
    State.RECEIVE_IP_REPLY: "ip-address",
    State.RECEIVE_CAPA_REPLY: "capa",
}
"""Which REPLCONF option a state awaits the reply to."""

_PING_REFUSED_FOR_AUTH: Final = (b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")
"""Refusals of PING that tell that a master is there and wants AUTH first."""
_GRANTS: Final = (b"+FULLRESYNC ", b"+CONTINUE")
_TRY_LATER: Final = (b"-NOMASTERLINK", b"-LOADING")


class Request(NamedTuple):
    """One request of the handshake and the state in which its reply is awaited."""

    state: State
    data: bytes


def requests(settings: ReplicationSettings) -> list[Request]:
    """Return what is sent once PING has been answered, in order. O(1)."""
    sent = []
    if settings.masterauth:
        user = [settings.masteruser] if settings.masteruser else []
        auth = wire.command(b"AUTH", *user, settings.masterauth)
        sent.append(Request(State.RECEIVE_AUTH_REPLY, auth))
    port = b"%d" % settings.announced_port
    tell_port = wire.command(b"REPLCONF", b"listening-port", port)
    sent.append(Request(State.RECEIVE_PORT_REPLY, tell_port))
    if settings.replica_announce_ip:
        tell_ip = wire.command(b"REPLCONF", b"ip-address", settings.replica_announce_ip)
        sent.append(Request(State.RECEIVE_IP_REPLY, tell_ip))
    capabilities = wire.capabilities(lz4=settings.repl_compression == LZ4)
    sent.append(Request(State.RECEIVE_CAPA_REPLY, capabilities))
    return sent


class LineReader:
    """The reply line that is coming, in any cut.

    Attributes:
        since_ms: when its first byte came.
    """

    __slots__ = ("_line", "since_ms")

    def __init__(self) -> None:
        self._line = b""
        self.since_ms = 0

    def clear(self) -> None:
        """Forget what has come: the connection is another."""
        self._line = b""

    def take(self, data: bytes, now_ms: int) -> tuple[bytes | None, bytes]:
        """Take the next bytes.

        Returns:
            (the line without its end, None where it is not whole; the bytes after it).

        Raises:
            ProtocolError: the line has no end.
        """
        part, newline, rest = data.partition(b"\n")
        if not self._line:
            self.since_ms = now_ms
        self._line += part
        if len(self._line) > wire.MAX_LINE_BYTES:
            raise ProtocolError("The MASTER sent an endless reply line")
        if not newline:
            return None, b""
        line, self._line = self._line.removesuffix(b"\r"), b""
        return line, rest

    def overdue(self, now_ms: int) -> bool:
        """Tell whether a line has been incomplete for too long. O(1)."""
        return bool(self._line) and now_ms - self.since_ms > LINE_TIMEOUT_MS


def ping_accepted(line: bytes) -> bool:
    """Tell whether a reply to PING comes from a master that can be asked further. O(1)."""
    return line.startswith((b"+", *_PING_REFUSED_FOR_AUTH))


class PsyncOutcome(Enum):
    """What a master answered to PSYNC."""

    KEEPALIVE = "an empty line: it is still there, the answer will come"
    FULL = "a snapshot follows"
    CONTINUE = "the stream follows"
    LATER = "not now"
    UNSUPPORTED = "it does not know PSYNC, or is in an error state"


class PsyncReply(NamedTuple):
    """A master's answer to PSYNC.

    Attributes:
        outcome: which of them.
        replid: FULL: the id of the snapshot, None where malformed. CONTINUE: the master's id,
            None where it named none.
        offset: FULL: the offset of the snapshot.
        line: the answer itself.
        lz4: what follows is compressed.
    """

    outcome: PsyncOutcome
    replid: bytes | None
    offset: int
    line: bytes
    lz4: bool = False


def parse_psync_reply(line: bytes) -> PsyncReply:
    """Read the reply to PSYNC.

    Args:
        line: one reply line without its line end.
    """
    if not line:
        return PsyncReply(PsyncOutcome.KEEPALIVE, None, 0, line)
    if line.startswith(_GRANTS) and line.endswith(wire.LZ4_FOLLOWS):
        reply = parse_psync_reply(line.removesuffix(wire.LZ4_FOLLOWS))
        return reply._replace(line=line, lz4=True)
    if line.startswith(b"+FULLRESYNC"):
        replid, offset = wire.parse_full_resync(line)
        return PsyncReply(PsyncOutcome.FULL, replid, offset, line)
    if line.startswith(b"+CONTINUE"):
        name = line[len(b"+CONTINUE ") :]
        named = name if wire.is_replid(name) else None
        return PsyncReply(PsyncOutcome.CONTINUE, named, 0, line)
    later = line.startswith(_TRY_LATER)
    return PsyncReply(PsyncOutcome.LATER if later else PsyncOutcome.UNSUPPORTED, None, 0, line)


def refusal(reply: PsyncReply) -> Log:
    """Return what to log of a reply to PSYNC that leads to no link."""
    line = shown(reply.line)
    if reply.outcome is PsyncOutcome.LATER:
        return notice(f"Master is currently unable to PSYNC but should be in the future: {line}")
    if reply.line.startswith(b"-ERR"):
        return notice(f"Master does not support PSYNC or is in error state (reply: {line})")
    return warning(f"Unexpected reply to PSYNC from master: {line}{advice(reply.line)}")


def advice(line: bytes) -> str:
    """Return what an operator can do about a master's error line, empty where unknown. O(1)."""
    if line.startswith(b"-NOAUTH"):
        return " (set masterauth, and masteruser where the master has ACL users)"
    if line.startswith(b"-NOPERM"):
        return " (a user that replicates needs +psync +replconf +ping on the master)"
    return ""


def shown(line: bytes) -> str:
    """Return a peer's line as the log shows it: printable, whatever bytes it held."""
    return line.decode("ascii", "backslashreplace")
