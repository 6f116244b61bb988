"""Where the link of a replica to its master can be, and what may follow what.

States, what each one waits for, and what ROLE calls it (Redis's names without REPL_STATE_)

    NONE                 nothing: this server is a master            none
    CONNECT              the next second, to try again               connect
    CONNECTING           the connection                              connecting
    RECEIVE_PING_REPLY   the reply to PING                           handshake
    RECEIVE_AUTH_REPLY   the reply to AUTH                           handshake
    RECEIVE_PORT_REPLY   the reply to REPLCONF listening-port        handshake
    RECEIVE_IP_REPLY     the reply to REPLCONF ip-address            handshake
    RECEIVE_CAPA_REPLY   the reply to REPLCONF capa                  handshake
    RECEIVE_PSYNC_REPLY  the reply to PSYNC                          handshake
    RECEIVE_FRAMING      the line before the snapshot                sync
    TRANSFER             the snapshot                                sync
    LOADING              the shell, which loads it                   sync
    CONNECTED            stream bytes                                connected

Redis writes its requests in two states of their own (SEND_HANDSHAKE, SEND_PSYNC) because a write
may block there; here a request is an action and takes no time. Its one TRANSFER is three
states here, as they wait for different things.

Source: Redis 7.0, server.h (REPL_STATE_*), replication.c (roleCommand).
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where the link to the master is; the value is what ROLE says."""

    def __new__(cls, order: int, role: str) -> State:
        member = object.__new__(cls)
        member._value_ = order
        return member

    def __init__(self, order: int, role: str) -> None:
        self.role = role

    NONE = 0, "none"
    CONNECT = 1, "connect"
    CONNECTING = 2, "connecting"
    RECEIVE_PING_REPLY = 3, "handshake"
    RECEIVE_AUTH_REPLY = 4, "handshake"
    RECEIVE_PORT_REPLY = 5, "handshake"
    RECEIVE_IP_REPLY = 6, "handshake"
    RECEIVE_CAPA_REPLY = 7, "handshake"
    RECEIVE_PSYNC_REPLY = 8, "handshake"
    RECEIVE_FRAMING = 9, "sync"
    TRANSFER = 10, "sync"
    LOADING = 11, "sync"
    CONNECTED = 12, "connected"


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
    State.TRANSFER: {State.LOADING} | _AWAY,
    State.LOADING: {State.CONNECTED} | _AWAY,
    State.CONNECTED: _AWAY,
}
