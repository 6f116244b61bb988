"""One client connection: bytes in, requests to the engine, replies out.

    data_received -> RequestParser.feed -> Engine.run -> Client.out -> (end of turn) -> flush

Requests that cannot run yet wait in `_held`: the client is blocked, or its batch used up its share
of time. While they wait reading is paused once enough has piled up, so that one client's deep
pipeline costs bounded memory.

The output of a client is bounded by client-output-buffer-limit: beyond the hard limit, or beyond
the soft one for too long, the connection is cut.

Source: Redis 7.0 networking.c (readQueryFromClient, processInputBuffer, writeToClient,
checkClientOutputBufferLimits).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.resp import QueryBufferError, RequestParser, encode_protocol_error

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server

HELD_LIMIT_BYTES: Final = 1 << 20
"""Reading is paused while a client that cannot run has sent more than this."""

BIG_OUTPUT_BYTES: Final = 1 << 16
"""Output is handed to the socket in the middle of a batch once it is as large as this."""


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        server: the server it belongs to.
        is_unix: whether it came in through the unix socket.
    """

    __slots__ = (
        "_held", "_held_bytes", "_paused", "_server", "_soft_since_ms", "_writable", "client",
        "is_unix", "parser", "taken", "transport",
    )  # fmt: skip

    def __init__(self, server: Server, is_unix: bool = False) -> None:
        self._server = server
        self.is_unix = is_unix
        self.transport: Any = None
        self.client: Client = None  # type: ignore[assignment]  # set when connected
        self.parser: Any = None
        self._held: list[list[bytes]] = []
        self._held_bytes = 0
        self._paused = False
        self._soft_since_ms = 0
        self._writable = True
        # Set to a callable once the bytes of this connection belong to somebody else.
        self.taken: Any = None

    # ----------------------------------------------------------- asyncio side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: refuse it, or give it a place."""
        self.transport = transport
        refusal = self._server.clients.refusal(self)
        if refusal is not None:
            self.transport.write(refusal)
            self.transport.close()
            return
        self.client = self._server.clients.add(self)
        self.parser = RequestParser(self._server.clients.request_limits)
        self.parser.authenticated = not self.client.gates & gates.AUTH

    def data_received(self, data: bytes) -> None:
        """Bytes came: run the requests that are complete."""
        client = self.client
        if client is None or client.gates & gates.CLOSING:
            return
        engine = client.engine
        engine.stats.net_in_bytes += len(data)
        requests = self.parser.feed(data)
        if client.is_replica and self.parser.empty_lines:
            self.parser.empty_lines = 0
            self._server.replication.keepalive(client)
        client.last_interaction_ms = engine.keyspace.now_ms
        if self._held or client.wait is not None:
            self._hold(requests, len(data))
            return
        if requests:
            self._run(requests)
        if self.parser.error is not None:
            self._broken()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, for whatever reason."""
        self.transport = None
        if self.client is not None:
            self._server.clients.remove(self)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._writable = False

    def resume_writing(self) -> None:
        """The socket has drained."""
        self._writable = True
        self._server.clients.drained(self)

    # ----------------------------------------------------------------- input

    def _run(self, requests: list[list[bytes]]) -> None:
        client = self.client
        engine = client.engine
        self._server.refresh_time()
        done = engine.run(client, requests)
        self._server.turn.wake()
        if done < len(requests):
            if client.gates & gates.CLOSING:
                return
            del requests[:done]
            self._hold(requests, 0)
            if client.wait is None:
                self._server.turn.later(self.resume)
        parser = self.parser
        if not parser.authenticated:
            parser.authenticated = not client.gates & gates.AUTH
            if parser.deferred:
                # The limits before AUTH held back what the commands just run may have allowed.
                more = parser.feed(b"")
                if self._held or client.wait is not None:
                    self._hold(more, 0)
                elif more:
                    self._run(more)

    def _hold(self, requests: list[list[bytes]], size: int) -> None:
        self._held.extend(requests)
        self._held_bytes += size
        if self._held_bytes > HELD_LIMIT_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Go on with the requests that were held back."""
        if self.transport is None or self.client.gates & gates.CLOSING:
            return
        if self.client.wait is not None:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._run(held)
        if not self._held:
            if self._paused and self.transport is not None:
                self._paused = False
                self.transport.resume_reading()
            if self.parser.error is not None:
                self._broken()

    def _broken(self) -> None:
        """The peer does not speak RESP: say so and close."""
        client = self.client
        if client.gates & gates.CLOSING:
            return
        error = self.parser.error
        self._server.log.verbose(
            f"Protocol error ({error.text}) from client: {client.addr.decode()}"
        )
        if not isinstance(error, QueryBufferError):
            client.out.append(encode_protocol_error(error))
        client.close_soon()
        self._server.turn.wake()

    # ---------------------------------------------------------------- output

    def flush(self) -> None:
        """Write the client's output; cut the connection where it has grown too large."""
        client = self.client
        transport = self.transport
        out = client.out
        if transport is None:
            out.clear()
            return
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            if client.is_replica:
                self._reply_to_replica(data)
                return
            client.engine.stats.net_out_bytes += len(data)
            transport.write(data)
            if not self._writable or len(data) > BIG_OUTPUT_BYTES:
                self._check_limits()
        if client.asked_close:
            transport.close()

    def _reply_to_replica(self, data: bytes) -> None:
        """A replica must never be answered: it would take the answer for the stream."""
        client = self.client
        command = client.last_command.name if client.last_command is not None else "?"
        self._server.log.warning(
            f"Replica generated a reply to command '{command}', disconnecting it: {data[:128]!r}"
        )
        self.abort()

    def _check_limits(self) -> None:
        client = self.client
        kind = "pubsub" if client.subscriptions() or client.shard_channels else "normal"
        hard, soft, soft_s = client.engine.config.client_output_buffer_limit[kind]
        size = self.transport.get_write_buffer_size()
        now_ms = client.engine.keyspace.now_ms
        if soft and size > soft:
            self._soft_since_ms = self._soft_since_ms or now_ms
        else:
            self._soft_since_ms = 0
        if (hard and size > hard) or (
            self._soft_since_ms and now_ms - self._soft_since_ms > soft_s * 1000
        ):
            self._server.log.warning(
                f"Client {client.addr.decode()} scheduled to be closed ASAP for overcoming of"
                f" output buffer limits."
            )
            self.abort()

    def output_bytes(self) -> int:
        """Bytes of replies that the client has not taken yet."""
        pending = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return pending + sum(map(len, self.client.out))

    # --------------------------------------------------------- engine's port

    def close_soon(self) -> None:
        """Write what is pending, then close."""
        self.client.close_soon()
        self._server.turn.wake()

    def abort(self) -> None:
        """Close at once, throwing pending output away."""
        self.client.gates |= gates.CLOSING
        if self.transport is not None:
            self.transport.abort()
