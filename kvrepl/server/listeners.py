"""The sockets we listen on: TCP on each `bind` address, and the unix socket.

`bind` names addresses; one with a leading dash may be missing, `*` stands for all of IPv4 and
`::*` for all of IPv6. Every other address must work, or the start (or CONFIG SET) fails.

Sockets listen from `open_tcp` on, so that a port that is taken is found before anything is loaded;
connections are accepted from `serve_tcp` on. A change of addresses first closes the old sockets,
since the new ones may overlap with them (`127.0.0.1` and `*`); where a new one fails, CONFIG SET
opens the old ones again.

Source: Redis 7.0 server.c (listenToPort, closeListeningSockets), anet.c, config.c (applyBind).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvrepl.server.log import Log

_NO_SUCH_FAMILY: Final = frozenset(
    (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPFNOSUPPORT,
     errno.EAFNOSUPPORT)
)  # fmt: skip
"""This host has no IPv6 (or no IPv4): an address of that family is passed over."""


class ListenError(Exception):
    """An address cannot be listened on."""


class Listeners:
    """What the server listens on.

    Args:
        loop: the event loop.
        log: where failures are reported.
        connected: makes the protocol of a new connection; its argument says whether it came in
            through the unix socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        connected: Callable[[bool], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._log = log
        self._connected = connected
        self._servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._unix: asyncio.Server | None = None
        self._unix_path = ""

    def open_tcp(self, addresses: Sequence[str], port: int, backlog: int) -> int:
        """Listen on these addresses and no others; nothing is accepted until `serve_tcp`.

        Args:
            addresses: as in `bind`.
            port: 0 to listen on none of them.
            backlog: connections that may wait to be accepted.

        Returns:
            On how many addresses we listen now.

        Raises:
            ListenError: an address that must work does not; we listen on none.
        """
        self._close_tcp()
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
                self._close_tcp()
                raise ListenError(f"Failed listening on port {port} (TCP), aborting.") from error
        return len(self._sockets)

    async def serve_tcp(self, backlog: int) -> None:
        """Accept connections on the sockets that `open_tcp` has opened."""
        sockets = self._sockets
        for sock in sockets:
            if sockets is not self._sockets:
                return  # meanwhile the addresses were changed again
            server = await self._loop.create_server(
                lambda: self._connected(False), sock=sock, backlog=backlog
            )
            self._servers.append(server)

    async def serve_unix(self, path: str, mode: int, backlog: int) -> None:
        """Listen on a unix socket.

        Args:
            path: of the socket; one left behind by a server that was killed is replaced.
            mode: its permissions, 0 for those that the umask leaves.
            backlog: as in `open_tcp`.

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
        listening = [*self._sockets, *(self._unix.sockets if self._unix is not None else ())]
        return [fd for sock in listening if (fd := sock.fileno()) >= 0]

    def plain(self) -> list[tuple[int, bool]]:
        """Descriptors on which clients without TLS come in, and whether it is the unix socket."""
        unix = self._unix.sockets if self._unix is not None else ()
        return [(sock.fileno(), False) for sock in self._sockets] + [
            (sock.fileno(), True) for sock in unix
        ]

    def close(self) -> None:
        """Stop listening; removes the unix socket. May be called again."""
        self._close_tcp()
        if self._unix is not None:
            self._log.notice("Removing the unix socket file.")
            self._unix.close()
            self._unix = None
            try:
                os.unlink(self._unix_path)
            except OSError:
                pass

    def _close_tcp(self) -> None:
        # A server closes the socket it was given; one that was never served is ours to close.
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        self._servers, self._sockets = [], []


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
