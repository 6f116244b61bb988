"""The sockets we listen on: TCP on each `bind` address, and the unix socket.

`bind` names addresses; one with a leading dash may be missing, `*` stands for all of IPv4 and
`::*` for all of IPv6. At least one address must work, or the start fails.

Source: Redis 7.0 server.c (listenToPort), anet.c.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvrepl.server.log import Log

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT,
             errno.ESOCKTNOSUPPORT, errno.EPFNOSUPPORT, errno.ENOPROTOOPT)  # fmt: skip


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
        self._tcp: list[asyncio.Server] = []
        self._unix: asyncio.Server | None = None
        self._unix_path = ""
        self._sockets: list[socket.socket] = []

    def open_tcp(self, addresses: Sequence[str], port: int, backlog: int) -> list[socket.socket]:
        """Bind and listen; the sockets accept nothing until `serve`.

        Raises:
            ListenError: an address that must work does not, or none works.
        """
        sockets: list[socket.socket] = []
        for address in addresses:
            optional = address.startswith("-")
            name = address.removeprefix("-")
            try:
                sockets.append(_listen(name, port, backlog))
            except OSError as error:
                if optional or error.errno in _NOT_HERE:
                    level = self._log.notice if optional else self._log.warning
                    level(
                        f"Could not create server TCP listening socket {name}:{port}:"
                        f" {error.strerror}"
                    )
                    if optional:
                        continue
                else:
                    self._log.warning(
                        f"Could not create server TCP listening socket {name}:{port}: bind:"
                        f" {error.strerror}"
                    )
                for opened in sockets:
                    opened.close()
                raise ListenError(f"Failed listening on port {port} (TCP), aborting.") from error
        if addresses and not sockets:
            raise ListenError(f"Failed listening on port {port} (TCP), aborting.")
        return sockets

    async def serve_tcp(self, sockets: Sequence[socket.socket], backlog: int) -> None:
        """Accept connections on sockets that are listening; closes the ones served before."""
        old, self._tcp = self._tcp, []
        for server in old:
            server.close()
        self._sockets = list(sockets)
        for sock in sockets:
            self._tcp.append(
                await self._loop.create_server(
                    lambda: self._connected(False), sock=sock, backlog=backlog
                )
            )

    async def serve_unix(self, path: str, mode: int, backlog: int) -> None:
        """Listen on a unix socket.

        Raises:
            ListenError: the socket cannot be made.
        """
        try:
            try:
                os.unlink(path)  # left behind by a server that was killed
            except FileNotFoundError:
                pass
            self._unix = await self._loop.create_unix_server(
                lambda: self._connected(True), path=path, backlog=backlog
            )
            if mode:
                os.chmod(path, mode)
        except OSError as error:
            raise ListenError(f"Failed opening Unix socket: bind: {error.strerror}") from error
        self._unix_path = path

    def fds(self) -> list[int]:
        """Descriptors that a child must not hold."""
        found = [sock.fileno() for sock in self._sockets]
        if self._unix is not None:
            found.extend(sock.fileno() for sock in self._unix.sockets)
        return [fd for fd in found if fd >= 0]

    def close(self) -> None:
        """Stop listening; removes the unix socket."""
        for server in self._tcp:
            server.close()
        if self._unix is not None:
            self._unix.close()
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
