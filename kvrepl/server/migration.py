"""The wire of MIGRATE: requests to another server over a connection of their own, and its replies.

It blocks the loop, as MIGRATE blocks Redis, but for no longer than its timeout allows for any one
step: connecting, sending a piece, waiting for a piece of the answer.

Source: Redis 7.0 cluster.c (migrateGetSocket, migrateCommand).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from kvrepl.errors import CommandError
from kvrepl.numbers import parse_int
from kvrepl.resp import ReplyParser, encode_command
from kvrepl.resp.values import Reply

NOT_CONNECTED: Final = CommandError(b"IOERR error or timeout connecting to the client")
NOT_SENT: Final = CommandError(b"IOERR error or timeout writing to target instance")
NOT_ANSWERED: Final = CommandError(b"IOERR error or timeout reading from target instance")

_PIECE_BYTES: Final = 64 << 10


def send_to(
    address: tuple[bytes, bytes], timeout_ms: int, requests: Sequence[list[bytes]]
) -> tuple[list[Reply], CommandError | None]:
    """Send requests and collect their replies.

    Args:
        address: host and port, as they were given.
        timeout_ms: how long any one step may take.

    Returns:
        (the replies that came, what went wrong, if anything did).
    """
    port = parse_int(address[1])
    if port is None or not 0 < port < 65536:
        return [], NOT_CONNECTED
    try:
        connection = socket.create_connection(
            (address[0].decode(errors="surrogateescape"), port), timeout_ms / 1000
        )
    except ConnectionRefusedError:
        return [], NOT_SENT  # Redis connects without blocking, and learns of it when it writes
    except (OSError, UnicodeError):
        return [], NOT_CONNECTED
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = memoryview(b"".join(map(encode_command, requests)))
        try:
            while data:
                data = data[connection.send(data[:_PIECE_BYTES]) :]
        except OSError:
            return [], NOT_SENT
        return _answers(connection, len(requests))


def _answers(connection: socket.socket, wanted: int) -> tuple[list[Reply], CommandError | None]:
    parser = ReplyParser()
    replies: list[Reply] = []
    while len(replies) < wanted:
        try:
            data = connection.recv(_PIECE_BYTES)
        except OSError:
            return replies, NOT_ANSWERED
        replies += parser.feed(data)
        if not data or parser.error is not None:
            return replies, NOT_ANSWERED
    return replies, None
