"""While a script runs for too long: the other clients are heard, and told -BUSY.

A script holds the loop's thread, so nothing of the loop can run until it ends. Lua's own hook comes
by every so often and calls `Busy.serve`, which does by hand, on the descriptors, what the loop
would do:

    readable connection   read, hand the bytes to its Connection, write what it answers
    listening socket      accept; the newcomer gets a BareTransport, until the loop can take over
    everything else       waits: replicas, our master, TLS, clients that are blocked or held back

The gate BUSY refuses all but the commands that are allowed then: SCRIPT KILL, FUNCTION KILL,
SHUTDOWN NOSAVE and some that do no harm. The client whose script it is is not read.

Source: Redis 7.0 script.c (scriptInterrupt), networking.c (processEventsWhileBlocked).
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from kvrepl.server.connection import Connection

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server

INTERVAL_NS: Final = 10_000_000
"""Between two looks at the sockets: an answer takes so long at most, and looking costs little."""

_READ_BYTES: Final = 1 << 16


class Busy:
    """Serves the clients of a server whose loop is held up by a script.

    Args:
        server: whose clients.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._next_ns = 0
        self._run: object = None
        self._ended: set[Connection] = set()
        self._newcomers: list[BareTransport] = []

    def serve(self) -> None:
        """Look at the sockets, if it is time to. O(connections)."""
        if time.monotonic_ns() < self._next_ns:
            return
        run = self._server.engine.scripts.running
        if run is not self._run:
            self._run = run
            self._ended.clear()
        listening = dict(self._server.listeners.plain())
        reading = {_fd(connection): connection for connection in self._readable(run.caller)}
        poll = select.poll()
        for fd in (*listening, *reading):
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(0):
            if fd in listening:
                self._accept(fd, listening[fd])
            else:
                self._read(fd, reading[fd])
        self._write()
        self._next_ns = time.monotonic_ns() + INTERVAL_NS

    def _readable(self, caller: Client) -> list[Connection]:
        """The connections that may be read by hand, now."""
        return [
            connection
            for client, connection in self._server.clients.connections.items()
            if client is not caller
            and not client.is_replica
            and connection.is_reading
            and _is_plain(connection)
            and connection not in self._ended
        ]

    def _accept(self, fd: int, is_unix: bool) -> None:
        # A descriptor of our own for the call: the one of the loop stays as it is.
        with socket.socket(fileno=os.dup(fd)) as listening:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
        accepted.setblocking(False)
        connection = Connection(self._server, is_unix)
        transport = BareTransport(accepted, connection, self._server.loop)
        if not self._newcomers:
            self._server.turn.later(self._hand_over)
        self._newcomers.append(transport)
        connection.connection_made(transport)

    def _read(self, fd: int, connection: Connection) -> None:
        try:
            data = os.read(fd, _READ_BYTES)
        except OSError:
            data = b""
        if data:
            connection.data_received(data)
        else:
            self._ended.add(connection)  # its end is for the loop to hear of

    def _write(self) -> None:
        """Write the answers past the loop; what is left of them is for the end of the turn."""
        for client in self._server.engine.writers:
            if client.out:
                self._write_to(client)

    def _write_to(self, client: Client) -> None:
        connection = self._server.clients.connections.get(client)
        if connection is None or connection.transport is None or client.is_replica:
            return
        if not _is_plain(connection) or connection.transport.get_write_buffer_size():
            return
        data = b"".join(client.out)
        try:
            sent = os.write(_fd(connection), data)
        except OSError:
            return
        client.engine.stats.net_out_bytes += sent
        client.engine.stats.writes += 1
        client.out[:] = [data[sent:]] if sent < len(data) else []

    # ---------------------------------------------------------------- afterwards

    def _hand_over(self) -> None:
        """The loop runs again: it takes over the connections that were accepted meanwhile."""
        newcomers, self._newcomers = self._newcomers, []
        for transport in newcomers:
            self._server.keep(self._server.loop.create_task(transport.hand_over()))


def _is_plain(connection: Connection) -> bool:
    """Whether what is on its wire is what it says: no TLS in between."""
    return connection.transport.get_extra_info("ssl_object") is None


def _fd(connection: Connection) -> int:
    fd: int = connection.transport.get_extra_info("socket").fileno()
    return fd


class BareTransport(asyncio.Transport):
    """A transport without a loop: writes at once what the socket takes, keeps the rest.

    Args:
        sock: not blocking.
        connection: its protocol.
        loop: that takes the socket over in the end.
    """

    def __init__(
        self, sock: socket.socket, connection: Connection, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            {
                "socket": sock,
                "sockname": sock.getsockname(),
                "peername": sock.getpeername(),
            }
        )
        self._sock = sock
        self._connection = connection
        self._loop = loop
        self._unsent = bytearray()
        self._is_reading = True
        self._is_closing = False

    def write(self, data: Any) -> None:
        """Send what goes out now."""
        self._unsent += data
        try:
            sent = self._sock.send(self._unsent)
        except OSError:
            return  # the loop tries again, and hears of the end
        del self._unsent[:sent]

    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not taken yet."""
        return len(self._unsent)

    def pause_reading(self) -> None:
        """Note that the loop is not to read yet."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """Note that the loop is to read."""
        self._is_reading = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._is_closing

    def close(self) -> None:
        """Close; what the socket has not taken by now is lost."""
        if not self._is_closing:
            self._is_closing = True
            self._sock.close()
            self._loop.call_soon(self._connection.connection_lost, None)

    def abort(self) -> None:
        """The same."""
        self.close()

    async def hand_over(self) -> None:
        """Let the loop carry the connection from here on."""
        if self._is_closing:
            return
        try:
            await self._loop.connect_accepted_socket(lambda: _Arrival(self), self._sock)
        except OSError:
            self.close()

    def carried_by(self, transport: Any) -> None:
        """The loop has taken the socket over, and has read nothing yet."""
        if self._is_closing or self._connection.transport is not self:
            transport.abort()
            return
        transport.set_protocol(self._connection)
        self._connection.transport = transport
        if self._unsent:
            transport.write(bytes(self._unsent))
        if not self._is_reading:
            transport.pause_reading()


class _Arrival(asyncio.Protocol):
    """The protocol of a socket that the loop takes over, until the first byte can come."""

    def __init__(self, bare: BareTransport) -> None:
        self._bare = bare

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._bare.carried_by(transport)
