"""maxmemory-clients: when all clients together take too much memory, the largest are cut.

    bytes came, replies went     the client is stirred, and so weighed at the end of the turn
    above the limit then         in the next turn of the loop, once sockets have taken what they
                                 take, whoever had output left is weighed again
    still above it               the largest go, one by one, until it is met

Only clients of the kinds normal and pubsub count: a replica's buffers are bounded by its own limit,
and our master is not a client of ours. CLIENT NO-EVICT counts and stays.

While the setting is 0 nothing is weighed. While it is not, the gate WEIGHED of each client has its
bytes take the way that also sees incomplete requests; a batch that takes memory runs to its end.

Source: Redis 7.0 networking.c (evictClients, clientEvictionAllowed), server.c
(updateClientMemUsageAndBucket).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvrepl.engine import gates
from kvrepl.engine.client_pools import ClientPools, eviction_limit_bytes
from kvrepl.engine.description import describe

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server


class ClientEviction:
    """Keeps the clients of a server within maxmemory-clients.

    Args:
        server: whose clients.

    Attributes:
        pools: what each client takes; None while the setting is 0.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._unsent: set[Client] = set()
        self._is_due = False
        self._nobody_left = False
        self.pools: ClientPools | None = None

    def apply_settings(self) -> None:
        """Begin or cease to weigh. O(clients)."""
        server = self._server
        wanted = server.config.maxmemory_clients != 0
        if wanted and self.pools is None:
            self.pools = ClientPools()
            server.turn.on_flushed = self.weigh
            for client in server.clients.connections:
                self.welcome(client)
        elif not wanted and self.pools is not None:
            self.pools = server.turn.on_flushed = None
            self._unsent.clear()
            for client in server.clients.connections:
                client.lower_gate(gates.WEIGHED)
        self._look()

    def welcome(self, client: Client) -> None:
        """A client connected, or is there already. O(1)."""
        if self.pools is not None:
            client.raise_gate(gates.WEIGHED)
            self.weigh((client,))

    def forget(self, client: Client) -> None:
        """A client is gone. O(1)."""
        if self.pools is not None:
            self.pools.forget(client)
            self._unsent.discard(client)

    def weigh(self, clients: Iterable[Client]) -> None:
        """Take the sizes of clients that did something, and look at the limit. O(1) each."""
        for client in clients:
            self._weigh(client)
        self._look()

    def _weigh(self, client: Client) -> None:
        connection = self._server.clients.connections.get(client)
        if connection is None or client.is_replica:
            self.forget(client)
            return
        assert self.pools is not None
        self.pools.note(client, connection.memory_bytes(), may_go=not client.no_evict)
        if connection.output_bytes():
            self._unsent.add(client)
        else:
            self._unsent.discard(client)

    def _excess(self) -> bool:
        config = self._server.config
        limit_bytes = eviction_limit_bytes(config.maxmemory_clients, config.maxmemory)
        return self.pools is not None and limit_bytes > 0 and self.pools.total_bytes >= limit_bytes

    def _look(self) -> None:
        if not self._excess():
            self._nobody_left = False
        elif not self._is_due:
            self._is_due = True
            # Not at once: the loop has taken the output of this turn, and not yet sent it.
            self._server.loop.call_soon(self._evict)

    def _evict(self) -> None:
        """Cut the largest clients. O(clients with unsent output + clients cut)."""
        self._is_due = False
        server = self._server
        for client in list(self._unsent):
            self._weigh(client)
        while self._excess():
            assert self.pools is not None
            doomed = self.pools.largest()
            if doomed is None:
                if not self._nobody_left:
                    server.log.warning("Over client maxmemory after evicting all evictable clients")
                self._nobody_left = True
                break
            line = describe(doomed).decode(errors="backslashreplace")
            server.log.notice(f"Evicting client: {line}")
            connection = server.clients.connections[doomed]
            connection.abort()
            server.clients.remove(connection)
            server.engine.stats.evicted_clients += 1
