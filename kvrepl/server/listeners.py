"""The sockets we listen on: TCP on each `bind` address, for TLS as well, and the unix socket.

`bind` names addresses; one with a leading dash may be missing, `*` stands for all of IPv4 and
`::*` for all of IPv6. Every other address must work, or the start (or CONFIG SET) fails.

Sockets listen from `open` on, so that a port that is taken is found before anything is loaded;
connections are accepted from `serve` on. A change of addresses first closes the old sockets, since
the new ones may overlap with them (`127.0.0.1` and `*`); where a new one fails, CONFIG SET opens
the old ones again.

Behind the TLS port a connection becomes a client once its handshake is done. Until then it is only
a task here, so that one that fails can be told to the log, and each takes the context of its
moment. It counts against maxclients meanwhile.

Source: Redis 7.0 server.c (listenToPort, closeListeningSockets), anet.c, config.c (applyBind),
networking.c (acceptTLSHandler, acceptCommonHandler).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kvrepl.server.tls import reason_of

if TYPE_CHECKING:
    import ssl

    from kvrepl.server.log import Log

_NO_SUCH_FAMILY: Final = frozenset(
    (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPFNOSUPPORT,
     errno.EAFNOSUPPORT)
)  # fmt: skip
"""This host has no IPv6 (or no IPv4): an address of that family is passed over."""

ACCEPTS_PER_TURN: Final = 1000
ACCEPT_RETRY_S: Final = 1.0
HANDSHAKE_TIMEOUT_S: Final = 60.0
SHUTDOWN_TIMEOUT_S: Final = 1.0
"""How long the farewell of a peer is waited for (Redis does not wait)."""
WRITE_BUFFER_BYTES: Final = 64 * 1024


class ListenError(Exception):
    """An address cannot be listened on."""


class Port:
    """One TCP port, on each address of `bind`.

    Args:
        loop: the event loop.
        log: where failures are reported.
        connected: makes the protocol of a new connection.
    """

    kind = "TCP"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        connected: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._log = log
        self._connected = connected
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    def open(self, addresses: Sequence[str], port: int, backlog: int) -> int:
        """Listen on these addresses and no others; nothing is accepted until `serve`.

        Args:
            addresses: as in `bind`.
            port: 0 to listen on none of them.
            backlog: connections that may wait to be accepted.

        Returns:
            On how many addresses we listen now.

        Raises:
            ListenError: an address that must work does not; we listen on none.
        """
        self.stop()
        for address in addresses if port else ():
            name = address.removeprefix("-")
            try:
                self._sockets.append(_listen(name, port, backlog))
            except OSError as error:
                bound = "" if isinstance(error, socket.gaierror) else "bind: "
                self._log.warning(
                    f"Warning: Could not create server TCP listening socket {name}:{port}:"
                    f" {bound}{error.strerror}"
                )
                if bound and error.errno in _NO_SUCH_FAMILY:
                    continue
                if error.errno == errno.EADDRNOTAVAIL and address.startswith("-"):
                    continue
                self.stop()
                raise ListenError(
                    f"Failed listening on port {port} ({self.kind}), aborting."
                ) from error
        return len(self._sockets)

    async def serve(self, backlog: int) -> None:
        """Accept connections on the sockets that `open` has opened."""
        sockets = self._sockets
        for sock in sockets:
            if sockets is not self._sockets:
                return  # meanwhile the addresses were changed again
            server = await self._loop.create_server(self._connected, sock=sock, backlog=backlog)
            self._servers.append(server)

    def fds(self) -> list[int]:
        """Descriptors that a child must not hold."""
        return [fd for sock in self._sockets if (fd := sock.fileno()) >= 0]

    def stop(self) -> None:
        """Stop listening. May be called again."""
        # A server closes the socket it was given; one that was never served is ours to close.
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        self._servers, self._sockets = [], []

    def close(self) -> None:
        """Stop listening, and leave nothing behind."""
        self.stop()


class TlsPort(Port):
    """The TCP port for TLS.

    Args:
        loop, log, connected: as in Port.
        context: gives the context for a connection that comes in now.
        has_room: whether a connection may come in beside so many handshakes; counts refusals.
    """

    kind = "TLS"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        connected: Callable[[], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        has_room: Callable[[int], bool],
    ) -> None:
        super().__init__(loop, log, connected)
        self._context = context
        self._has_room = has_room
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}

    async def serve(self, backlog: int) -> None:
        """Accept connections on the sockets that `open` has opened."""
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def fds(self) -> list[int]:
        """Descriptors that a child must not hold."""
        fds = [sock.fileno() for sock in self._handshakes.values()]
        return super().fds() + [fd for fd in fds if fd >= 0]

    def stop(self) -> None:
        """Stop listening; handshakes go on. May be called again."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        super().stop()

    def close(self) -> None:
        """Stop listening, and give handshakes up."""
        self.stop()
        for task in list(self._handshakes):
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        """Let in who waits; as many as Redis does at once (MAX_ACCEPTS_PER_CALL)."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors, as a rule: to be told so again at once would stop all else.
                self._log.warning(f"Accepting client connection: {error.strerror}")
                self._loop.remove_reader(listening)
                self._loop.call_later(ACCEPT_RETRY_S, self._accept_again, listening)
                return
            if not self._has_room(len(self._handshakes)):
                sock.close()  # before the handshake no reason can be given
                continue
            sock.setblocking(False)
            task = self._loop.create_task(self._shake_hands(sock, address))
            self._handshakes[task] = sock
            task.add_done_callback(self._handshakes.pop)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    async def _shake_hands(self, sock: socket.socket, address: Sequence[object]) -> None:
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                self._connected,
                sock,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except OSError as error:
            self._log.warning(
                f"Error accepting a client connection: {reason_of(error)}"
                f" (addr={address[0]}:{address[1]})"
            )
            return
        # By default eight times those of plain transports, above what feeds wait to fall.
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)


class Listeners:
    """What the server listens on.

    Args:
        loop: the event loop.
        log: where failures are reported.
        connected: makes the protocol of a new connection; its argument says whether it came in
            through the unix socket.
        context: gives the TLS context for a connection that comes in now.
        has_room: as in TlsPort.

    Attributes:
        tcp, tls: the two ports.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        connected: Callable[[bool], asyncio.Protocol],
        context: Callable[[], ssl.SSLContext],
        has_room: Callable[[int], bool],
    ) -> None:
        self._loop = loop
        self._log = log
        self._connected = connected
        self._unix: asyncio.Server | None = None
        self._unix_path = ""
        self.tcp = Port(loop, log, lambda: connected(False))
        self.tls = TlsPort(loop, log, lambda: connected(False), context, has_room)

    async def serve_unix(self, path: str, mode: int, backlog: int) -> None:
        """Listen on a unix socket.

        Args:
            path: of the socket; one left behind by a server that was killed is replaced.
            mode: its permissions, 0 for those that the umask leaves.
            backlog: as in `Port.open`.

        Raises:
            ListenError: the socket cannot be made.
        """
        try:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            self._unix = await self._loop.create_unix_server(
                lambda: self._connected(True), path=path, backlog=backlog
            )
            self._unix_path = path
            if mode:
                os.chmod(path, mode)
        except OSError as error:
            raise ListenError(
                f"Failed opening Unix socket: bind: {error.strerror or error}"
            ) from error

    def fds(self) -> list[int]:
        """Descriptors that a child must not hold."""
        unix = [sock.fileno() for sock in self._unix.sockets] if self._unix is not None else []
        return self.tcp.fds() + self.tls.fds() + [fd for fd in unix if fd >= 0]

    def plain(self) -> list[tuple[int, bool]]:
        """Descriptors on which clients without TLS come in, and whether it is the unix socket."""
        unix = self._unix.sockets if self._unix is not None else ()
        return [(fd, False) for fd in self.tcp.fds()] + [(sock.fileno(), True) for sock in unix]

    def close(self) -> None:
        """Stop listening; removes the unix socket. May be called again."""
        self.tcp.close()
        self.tls.close()
        if self._unix is not None:
            self._log.notice("Removing the unix socket file.")
            self._unix.close()
            self._unix = None
            try:
                os.unlink(self._unix_path)
            except OSError:
                pass


def _listen(name: str, port: int, backlog: int) -> socket.socket:
    """A listening socket on one address."""
    if name in ("*", ""):
        name = "0.0.0.0"
    elif name == "::*":
        name = "::"
    family, kind, proto, _, address = socket.getaddrinfo(
        name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock
