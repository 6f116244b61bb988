"""A small blocking client, for tools that talk to a server in plain steps.

Not a client library: no pool, no retries, no pipelining. It speaks RESP2 and gives what the server
said as Python values; an error reply is raised.
"""

from __future__ import annotations

import socket
from typing import Any

from kvrepl.errors import CommandError, ProtocolError
from kvrepl.resp import ReplyParser, encode_command


class Connection:
    """A connection to a server.

    Args:
        host, port: where it listens.
        timeout_s: how long a reply may take.

    Raises:
        OSError: nobody listens there.
    """

    def __init__(self, host: str, port: int, timeout_s: float = 10.0) -> None:
        self._socket = socket.create_connection((host, port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = ReplyParser()

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send a command and wait for its reply.

        Raises:
            CommandError: the server answered with an error.
            ProtocolError: it does not speak RESP, or closed the connection.
            OSError: the connection broke, or the reply took too long.
        """
        argv = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
        self._socket.sendall(encode_command(argv))
        while True:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ProtocolError("the server closed the connection")
            replies = self._parser.feed(data)
            if self._parser.error is not None:
                raise self._parser.error
            if replies:
                if isinstance(replies[0], CommandError):
                    raise replies[0]
                return replies[0]

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO as a dict."""
        text = self.call("INFO", section).decode()
        return dict(
            line.split(":", 1) for line in text.split("\r\n") if ":" in line and line[0] != "#"
        )

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
