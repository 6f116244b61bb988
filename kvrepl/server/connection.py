"""One client connection: bytes in, requests to the engine, replies out.

    data_received -> Engine.serve -> Client.out -> (end of turn) -> flush

Requests that cannot run yet wait in `_held`: the client is blocked, or its batch used up its share
of time. While they wait reading is paused, so that one client's deep pipeline costs bounded memory
and others are served meanwhile; that of a blocked client only once enough has piled up, since it is
by reading that we hear of its end.

The output of a client is bounded by client-output-buffer-limit: beyond the hard limit, or beyond
the soft one for too long, the connection is cut. A batch ends after its share of time, and is
handed to the socket before the next one, so the limit is overrun by one batch at most.

How a connection ends:

    the peer closes its side    what it sent before is still run and answered, then we close;
                                one that is blocked is closed at once
    QUIT, a protocol error      the reply is written, then we close (`close_soon`)
    CLIENT KILL, a limit        at once, pending output is thrown away (`abort`)
    a mistake of ours           logged with its traceback, then as `abort`; the server lives on

Source: Redis 7.0 networking.c (readQueryFromClient, processInputBuffer, writeToClient,
checkClientOutputBufferLimits).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.engine.batch import serve
from kvrepl.engine.description import memory_bytes, told
from kvrepl.resp import QueryBufferError, RequestParser, encode_protocol_error

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server

HELD_LIMIT_BYTES: Final = 1 << 20
"""Reading is paused while a client that is blocked has sent more than this."""

BIG_OUTPUT_BYTES: Final = 1 << 16
"""Output is handed to the socket in the middle of a batch once it is as large as this."""

OUT_OF_LINE: Final = gates.CLOSING | gates.REPLICA | gates.WEIGHED
"""Clients with these gates are not simply served."""


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        server: the server it belongs to.
        is_unix: whether it came in through the unix socket.
    """

    __slots__ = (
        "_eof", "_held", "_held_bytes", "_history", "_paused", "_server", "_soft_since_ms", "_turn",
        "_writable", "client", "is_unix", "parser", "transport",
    )  # fmt: skip

    def __init__(self, server: Server, is_unix: bool = False) -> None:
        self._server = server
        self._history = server.replication.machine.history
        self._turn = server.turn
        self.is_unix = is_unix
        self.transport: Any = None
        self.client: Client = None  # type: ignore[assignment]  # set when connected
        self.parser: Any = None
        self._held: list[list[bytes]] = []
        self._held_bytes = 0
        self._paused = False
        self._eof = False
        self._soft_since_ms = 0
        self._writable = True

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
        self._server.clients.eviction.welcome(self.client)

    def data_received(self, data: bytes) -> None:
        """Bytes came: run the requests that are complete."""
        client = self.client
        if client is None or client.gates & OUT_OF_LINE or self._held or client.wait is not None:
            self._received_out_of_line(data)
            return
        history = self._history
        client.batch_offset = history.offset
        try:  # hot: benchmarks/requests
            left = serve(client.engine, client, self.parser, data)
        except Exception as error:
            self._failed(error)
            return
        client.done_offset = history.offset
        turn = self._turn
        if not turn.scheduled:
            turn.wake()
        if left is not None:
            self._look_after(left)

    def _received_out_of_line(self, data: bytes) -> None:
        """The same for one that is held back, weighed, a replica, or about to be closed."""
        client = self.client
        if client is None or client.gates & gates.CLOSING:
            return
        engine = client.engine
        if client.gates & gates.WEIGHED:  # also where no request is complete yet
            client.stir()
            self._turn.wake()
        engine.stats.net_in_bytes += len(data)
        engine.stats.reads += 1
        client.last_interaction_ms = engine.keyspace.now_ms
        requests = self.parser.feed(data)
        if client.is_replica and self.parser.empty_lines:
            self.parser.empty_lines = 0
            self._server.replication.keepalive(client)
        if self._held or client.wait is not None:
            self._hold(requests, len(data))
            return
        if requests:
            self._run(requests)
        if self.parser.error is not None:
            self._broken()

    def eof_received(self) -> bool:
        """The peer sends no more; it may still read.

        Returns:
            Whether the connection stays open for now.
        """
        client = self.client
        if client is None or client.is_replica:
            return False
        if client.wait is not None:
            self._leave()
            return False
        self._eof = True
        if not self._held:
            self.close_soon()
        if self.transport.get_extra_info("ssl_object") is None:
            return True
        # TLS ends for both directions at once: run and answer now what came before.
        while self._held and client.wait is None and not client.gates & gates.CLOSING:
            self._go_on()
        self._turn.now()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, for whatever reason."""
        self.transport = None
        if self.client is not None:
            self._held.clear()
            self._server.clients.remove(self)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._writable = False
        self._server.clients.full.add(self)

    def resume_writing(self) -> None:
        """The socket has drained."""
        self._writable = True
        self._soft_since_ms = 0
        self._server.clients.full.discard(self)
        self._server.clients.drained(self)

    # ----------------------------------------------------------------- input

    def _run(self, requests: list[list[bytes]]) -> None:
        client = self.client
        history = self._history
        client.batch_offset = history.offset
        try:
            done = client.engine.run(client, requests)
        except Exception as error:
            self._failed(error)
            return
        client.done_offset = history.offset
        self._turn.wake()
        self._ran(requests[done:])

    def _look_after(self, left: list[list[bytes]]) -> None:
        """Bytes were served, and something is left to be done: see kvrepl.engine.batch.serve."""
        self._ran(left)
        if self.parser.error is not None:
            self._broken()

    def _ran(self, left: list[list[bytes]]) -> None:
        """A batch is over: keep the requests that it left, and see whether AUTH let more in."""
        client = self.client
        if left:
            if client.gates & gates.CLOSING:
                return
            self._hold(left, 0)
            if client.wait is None:
                self._pause()
                self._turn.later(self._go_on)
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

    def _failed(self, error: Exception) -> None:
        """A mistake of ours outside of any handler: this client pays for it, nobody else."""
        self._server.faults.report(f"serving {self.client.addr.decode()}", error)
        self.client.engine.settle()
        self.abort()

    def _hold(self, requests: list[list[bytes]], size: int) -> None:
        self._held.extend(requests)
        self._held_bytes += size
        if self._held_bytes > HELD_LIMIT_BYTES:
            self._pause()

    def _pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    @property
    def is_reading(self) -> bool:
        """Whether more of what the client sends is wanted now."""
        return self.transport is not None and not self._paused

    def resume(self) -> None:
        """The client is no longer blocked: in the next turn, go on with what was held back.

        Not at once: the command that unblocked it is still running, and the requests held here
        may unblock others in their turn, and so on to any depth.
        """
        self._turn.later(self._go_on)

    def _go_on(self) -> None:
        """Run the requests that were held back."""
        client = self.client
        if self.transport is None or client.gates & gates.CLOSING or client.wait is not None:
            return
        held, self._held, self._held_bytes = self._held, [], 0
        if held:
            self._run(held)
        if client.gates & gates.CLOSING:
            return
        if client.wait is not None:
            if self._eof:
                self.abort()
            else:
                self._read_on()  # or its end would not be heard of while it is blocked
        elif not self._held:
            self._read_on()
            if self.parser.error is not None:
                self._broken()
            elif self._eof:
                self.close_soon()

    def _broken(self) -> None:
        """The peer does not speak RESP: say so and close."""
        client = self.client
        if client.gates & gates.CLOSING or self._held or client.wait is not None:
            return  # the requests before the error come first
        error = self.parser.error
        self._server.log.verbose(
            f"Protocol error ({error.text}) from client: {client.addr.decode()}"
        )
        if not isinstance(error, QueryBufferError):
            client.out.append(encode_protocol_error(error))
        client.close_soon()
        self._turn.wake()

    # ---------------------------------------------------------------- output

    def flush(self) -> None:
        """Write the client's output; cut the connection where it has grown too large."""
        client = self.client
        transport = self.transport
        out = client.out
        if transport is None:
            out.clear()
            return
        try:  # hot: benchmarks/requests
            if out:
                data = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
                if client.is_replica:
                    self._reply_to_replica(data)
                    return
                stats = client.engine.stats
                stats.net_out_bytes += len(data)
                stats.writes += 1
                transport.write(data)
                if not self._writable or len(data) > BIG_OUTPUT_BYTES:
                    self.check_limits()
            if client.asked_close:
                transport.close()
        except Exception as error:
            self._failed(error)

    def _reply_to_replica(self, data: bytes) -> None:
        """A replica must never be answered: it would take the answer for the stream."""
        client, log = self.client, self._server.log
        command = client.last_command.name if client.last_command is not None else "<unknown>"
        log.warning(
            f"Replica generated a reply to command '{command}', disconnecting it: {told(client)}"
        )
        if data.startswith(b"-"):
            error = (
                data.partition(b"\r\n")[0].removeprefix(b"-ERR ").decode(errors="backslashreplace")
            )
            log.warning(
                f"== CRITICAL == This master is sending an error to its replica: '{error}' after"
                f" processing the command '{command}'"
            )
        self.abort()

    def check_limits(self) -> None:
        """Cut the connection if its output is beyond the limit for clients of its kind. O(1).

        Called when output is written to a socket that is full, and once a second for the soft
        limit of clients that get nothing new.
        """
        client = self.client
        transport = self.transport
        if transport is None or client.is_replica:
            return
        size = transport.get_write_buffer_size()
        kind = "pubsub" if client.subscriptions() or client.shard_channels else "normal"
        hard, soft, soft_s = client.engine.config.client_output_buffer_limit[kind]
        now_ms = client.engine.keyspace.now_ms
        if soft and size >= soft:
            self._soft_since_ms = self._soft_since_ms or now_ms
        else:
            self._soft_since_ms = 0
        if (hard and size >= hard) or (
            self._soft_since_ms and now_ms - self._soft_since_ms > soft_s * 1000
        ):
            self._server.log.warning(
                f"Client {told(client)} scheduled to be closed ASAP for overcoming of"
                f" output buffer limits."
            )
            self.abort()

    def output_bytes(self) -> int:
        """Bytes of replies that the client has not taken yet."""
        pending = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return pending + sum(map(len, self.client.out))

    def query_bytes(self) -> int:
        """Bytes of requests that are incomplete, or held back."""
        pending_bytes: int = self.parser.pending_bytes
        return pending_bytes + self._held_bytes

    def memory_bytes(self) -> int:
        """What the client costs, its buffers included."""
        return memory_bytes(self.client, self.query_bytes(), self.output_bytes())

    # --------------------------------------------------------- engine's port

    def close_soon(self) -> None:
        """Write what is pending, then close."""
        self.client.close_soon()
        self._turn.wake()

    def abort(self) -> None:
        """Close at once, throwing pending output away."""
        self._leave()
        if self.transport is not None:
            self.transport.abort()

    def _leave(self) -> None:
        """Run nothing more for this client, and let it take no element that others wait for."""
        self.client.gates |= gates.CLOSING
        self.client.engine.blocking.forget(self.client)
