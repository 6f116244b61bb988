"""All client connections: who may come in, who is here, who has been silent for too long.

Source: Redis 7.0 networking.c (acceptCommonHandler, createClient, freeClient), timeout.c.
"""

from __future__ import annotations

import resource
import socket
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.engine.client import NoPort
from kvrepl.resp import Limits
from kvrepl.server.client_eviction import ClientEviction
from kvrepl.server.log import VERBOSE

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server
    from kvrepl.server.connection import Connection

RESERVED_FDS: Final = 32
"""Descriptors kept for files, pipes and children (server.h, CONFIG_MIN_RESERVED_FDS)."""

PROTECTED: Final = (
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no"
    b" password is set for the default user. In this mode connections are only accepted from the"
    b" loopback interface. If you want to connect from external computers to Redis you may adopt"
    b" one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG"
    b" SET protected-mode no' from the loopback interface by connecting to Redis from the same"
    b" host the server is running, however MAKE SURE Redis is not publicly accessible from"
    b" internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively"
    b" you can just disable the protected mode by editing the Redis configuration file, and"
    b" setting the protected mode option to 'no', and then restarting the server. 3) If you"
    b" started the server manually just for testing, restart it with the '--protected-mode no'"
    b" option. 4) Setup a an authentication password for the default user. NOTE: You only need to"
    b" do one of the above things in order for the server to start accepting connections from the"
    b" outside.\r\n"
)
TOO_MANY: Final = b"-ERR max number of clients reached\r\n"


class Clients:
    """The connections of a server.

    Attributes:
        connections: client -> its connection.
        full: connections whose socket takes no more bytes for now.
        eviction: keeps them within maxmemory-clients.
        request_limits: what a client may send; shared by all parsers.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.connections: dict[Client, Connection] = {}
        self.full: set[Connection] = set()
        self.eviction = ClientEviction(server)
        self.request_limits = Limits()
        self.apply_limits()

    def apply_limits(self) -> None:
        """Take the limits on requests from the configuration."""
        config = self._server.config
        self.request_limits.max_bulk_bytes = config.proto_max_bulk_len
        self.request_limits.max_query_buffer_bytes = config.client_query_buffer_limit

    def __len__(self) -> int:
        return len(self.connections)

    def refusal(self, connection: Connection) -> bytes | None:
        """Why a new connection is refused, as the bytes to send before closing it."""
        server = self._server
        stats = server.engine.stats
        stats.connections += 1
        if len(self.connections) >= server.config.maxclients:
            stats.rejected_connections += 1
            return TOO_MANY
        if (
            server.config.protected_mode
            and server.engine.acl.default.no_password
            and not connection.is_unix
            and not _is_loopback(connection.transport)
        ):
            stats.rejected_connections += 1
            return PROTECTED
        return None

    def has_room(self, handshakes: int) -> bool:
        """Whether a connection may come in beside so many that are not clients yet."""
        server = self._server
        if len(self.connections) + handshakes < server.config.maxclients:
            return True
        server.engine.stats.connections += 1
        server.engine.stats.rejected_connections += 1
        return False

    def add(self, connection: Connection) -> Client:
        """Give a new connection its client."""
        server = self._server
        server.refresh_time()
        client = server.engine.connect(connection)
        transport = connection.transport
        if connection.is_unix:
            client.addr = client.laddr = server.config.unixsocket.encode() + b":0"
            client.is_local = True
        else:
            client.addr = format_address(transport.get_extra_info("peername"))
            client.laddr = format_address(transport.get_extra_info("sockname"))
            client.is_local = _is_loopback(transport)
            _tune(transport.get_extra_info("socket"), server.config.tcp_keepalive)
        self.connections[client] = connection
        if server.log.level <= VERBOSE:
            server.log.verbose(f"Accepted {client.addr.decode()}")
        return client

    def remove(self, connection: Connection) -> None:
        """A connection is gone."""
        client = connection.client
        self.full.discard(connection)
        if self.connections.pop(client, None) is None:
            return
        self.eviction.forget(client)
        self._server.replication.forget_client(client)
        client.engine.disconnect(client)
        client.port = NoPort()  # no cycle is left for the collector to find

    def drained(self, connection: Connection) -> None:
        """A socket that was full takes bytes again."""
        if connection.client is not None and connection.client.is_replica:
            self._server.replication.feeds.drained(connection.client)

    def each_second(self) -> None:
        """Close clients that were silent for `timeout` seconds, and those over a soft limit.

        O(full sockets); O(clients) where `timeout` is set.
        """
        for connection in list(self.full):
            connection.check_limits()
        timeout_s = self._server.config.timeout
        if not timeout_s:
            return
        now_ms = self._server.engine.keyspace.now_ms
        for client, connection in list(self.connections.items()):
            if (
                not client.is_replica
                and client.wait is None
                and not client.subscriptions()
                and now_ms - client.last_interaction_ms > timeout_s * 1000
            ):
                self._server.log.verbose("Closing idle client")
                connection.abort()

    def fds(self) -> list[int]:
        """Descriptors of all connections, for a child to close."""
        found = []
        for connection in self.connections.values():
            if connection.transport is not None:
                found.append(connection.transport.get_extra_info("socket").fileno())
        return [fd for fd in found if fd >= 0]

    def close_all(self) -> None:
        """Close every connection; pending output is still written."""
        for client in list(self.connections):
            client.gates |= gates.CLOSING
            connection = self.connections[client]
            if connection.transport is not None:
                connection.transport.close()


class TooFewFiles(Exception):
    """The limit on open files leaves no room for a single client."""


def raise_open_files_limit(maxclients: int) -> tuple[int, str]:
    """Ask for enough descriptors for `maxclients`.

    Returns:
        How many clients the limit that was granted allows, and why not more ("" if all).

    Raises:
        TooFewFiles: not even one.

    Source: server.c (adjustOpenFilesLimit).
    """
    wanted = maxclients + RESERVED_FDS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return maxclients, ""
    refusal = ""
    top = wanted if hard == resource.RLIM_INFINITY else max(hard, wanted)
    for limit, ceiling in ((wanted, top), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, ceiling))
            break
        except (ValueError, OSError) as error:
            refusal = refusal or str(error)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft >= wanted:
        return maxclients, ""
    if soft <= RESERVED_FDS:
        raise TooFewFiles(
            f"Your current 'ulimit -n' of {soft} is not enough for the server to start. Please"
            f" increase your open file limit to at least {wanted}. Exiting."
        )
    return soft - RESERVED_FDS, refusal


def _is_loopback(transport: Any) -> bool:
    peer = transport.get_extra_info("peername")
    if not peer:
        return True
    host = peer[0].removeprefix("::ffff:") if isinstance(peer, tuple) else ""
    return host.startswith("127.") or host == "::1"


def format_address(address: Any) -> bytes:
    """A socket's address as CLIENT LIST shows it."""
    if not isinstance(address, tuple):
        return b"?:0"
    host, port = address[0], address[1]
    return f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode()


def _tune(sock: Any, keepalive_s: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive_s:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(keepalive_s // 3, 1))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
