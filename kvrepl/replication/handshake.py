"""What a replica asks of its master before the stream, and how it reads the answers.

The requests between PING and PSYNC are sent in one go, and their replies come in that order.
A refused AUTH ends the attempt; a refused REPLCONF does not, as an old master knows none.

Source: Redis 7.0, replication.c (syncWithMaster, slaveTryPartialResynchronization).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from kvrepl.replication import wire
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.states import State

OPTION_OF_REPLY: Final = {
    State.RECEIVE_PORT_REPLY: "listening-port",
    State.RECEIVE_IP_REPLY: "ip-address",
    State.RECEIVE_CAPA_REPLY: "capa",
}
"""Which REPLCONF option a state awaits the reply to."""

_PING_REFUSED_FOR_AUTH: Final = (b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")
"""Refusals of PING that tell that a master is there and wants AUTH first."""
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
    sent.append(Request(State.RECEIVE_CAPA_REPLY, wire.CAPABILITIES))
    return sent


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
    """

    outcome: PsyncOutcome
    replid: bytes | None
    offset: int
    line: bytes


def parse_psync_reply(line: bytes) -> PsyncReply:
    """Read the reply to PSYNC.

    Args:
        line: one reply line without its line end.
    """
    if not line:
        return PsyncReply(PsyncOutcome.KEEPALIVE, None, 0, line)
    if line.startswith(b"+FULLRESYNC"):
        replid, offset = wire.parse_full_resync(line)
        return PsyncReply(PsyncOutcome.FULL, replid, offset, line)
    if line.startswith(b"+CONTINUE"):
        name = line[len(b"+CONTINUE ") :]
        named = name if wire.is_replid(name) else None
        return PsyncReply(PsyncOutcome.CONTINUE, named, 0, line)
    later = line.startswith(_TRY_LATER)
    return PsyncReply(PsyncOutcome.LATER if later else PsyncOutcome.UNSUPPORTED, None, 0, line)


def shown(line: bytes) -> str:
    """Return a peer's line as the log shows it: printable, whatever bytes it held."""
    return line.decode("ascii", "backslashreplace")
