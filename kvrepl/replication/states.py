"""Where the link of a replica to its master can be, and what may follow what.

The names are Redis's without REPL_STATE_. docs/PSYNC.md shows this table as a page.

Redis writes its requests in two states of their own (SEND_HANDSHAKE, SEND_PSYNC) because a write
may block there; here a request is an action and takes no time. Its one TRANSFER is three
states here, as they wait for different things. REFUSED is ours (replica-refuse-empty-master).

Source: Redis 7.0, server.h (REPL_STATE_*), replication.c (roleCommand).
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where the link to the master is.

    Attributes:
        role: what ROLE calls it.
        awaits: what it waits for.
    """

    def __new__(cls, order: int, role: str, awaits: str) -> State:
        member = object.__new__(cls)
        member._value_ = order
        return member

    def __init__(self, order: int, role: str, awaits: str) -> None:
        self.role = role
        self.awaits = awaits

    NONE = 0, "none", "nothing: this server is a master"
    CONNECT = 1, "connect", "the next second, to try again"
    CONNECTING = 2, "connecting", "the connection"
    RECEIVE_PING_REPLY = 3, "handshake", "the reply to PING"
    RECEIVE_AUTH_REPLY = 4, "handshake", "the reply to AUTH"
    RECEIVE_PORT_REPLY = 5, "handshake", "the reply to REPLCONF listening-port"
    RECEIVE_IP_REPLY = 6, "handshake", "the reply to REPLCONF ip-address"
    RECEIVE_CAPA_REPLY = 7, "handshake", "the reply to REPLCONF capa"
    RECEIVE_PSYNC_REPLY = 8, "handshake", "the reply to PSYNC"
    RECEIVE_FRAMING = 9, "sync", "the line before the snapshot"
    TRANSFER = 10, "sync", "the snapshot"
    LOADING = 11, "sync", "the shell, which loads it"
    CONNECTED = 12, "connected", "stream bytes"
    REFUSED = 13, "refused", "an operator: the master is empty and we are not"


_AWAY: Final = {State.CONNECT, State.CONNECTING, State.NONE}
"""Where every state can end: retry, retry at once, or promotion."""

TRANSITIONS: Final[dict[State, set[State]]] = {
    State.NONE: {State.CONNECT},
    State.CONNECT: {State.CONNECTING, State.NONE, State.CONNECT},
    State.CONNECTING: {State.RECEIVE_PING_REPLY} | _AWAY,
    State.RECEIVE_PING_REPLY: {State.RECEIVE_AUTH_REPLY, State.RECEIVE_PORT_REPLY} | _AWAY,
    State.RECEIVE_AUTH_REPLY: {State.RECEIVE_PORT_REPLY} | _AWAY,
    State.RECEIVE_PORT_REPLY: {State.RECEIVE_IP_REPLY, State.RECEIVE_CAPA_REPLY} | _AWAY,
    State.RECEIVE_IP_REPLY: {State.RECEIVE_CAPA_REPLY} | _AWAY,
    State.RECEIVE_CAPA_REPLY: {State.RECEIVE_PSYNC_REPLY} | _AWAY,
    State.RECEIVE_PSYNC_REPLY: {State.RECEIVE_FRAMING, State.CONNECTED} | _AWAY,
    State.RECEIVE_FRAMING: {State.TRANSFER} | _AWAY,
    State.TRANSFER: {State.LOADING, State.REFUSED} | _AWAY,
    State.LOADING: {State.CONNECTED} | _AWAY,
    State.CONNECTED: _AWAY,
    State.REFUSED: _AWAY,
}
