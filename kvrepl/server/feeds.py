"""Links to our replicas: snapshots from disk, snapshots from a child's pipe, and the stream.

Each replica reads the stream from the shared backlog with a cursor of its own; a socket is given
no more than WRITE_AHEAD_BYTES at a time, so what a slow replica has not taken stays in the shared
blocks, and memory does not grow with the number of replicas.

    disk       `$<size>` + the file, in chunks as the socket takes them, then the stream
    diskless   child -> pipe -> this process -> `$EOF:<mark>` + chunk to every socket + mark;
               the pipe is read only while every socket takes bytes; the stream waits for the ACK

Source: Redis 7.0 replication.c (sendBulkToSlave, rdbPipeReadHandler), networking.c
(checkClientOutputBufferLimits).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.errors import StorageError
from kvrepl.persistence.snapshot import SnapshotInfo
from kvrepl.server import children

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.replication.actions import StartBgsave
    from kvrepl.replication.backlog import Cursor
    from kvrepl.server.app import Server
    from kvrepl.server.children import Child, Reporter
    from kvrepl.server.replication import ReplicationShell

WRITE_AHEAD_BYTES: Final = 256 * 1024
"""Bytes given to a socket that has not taken the ones before."""
CHUNK_BYTES: Final = 256 * 1024
PIPE_BYTES: Final = 1 << 20


class Feed:
    """What is on its way to one replica.

    Attributes:
        cursor: its place in the stream, once that flows.
        file: chunks of the snapshot that remain to be sent from disk.
        diskless: whether it takes part in the running diskless transfer.
        soft_since_ms: since when it is beyond the soft limit of its output buffer.
    """

    __slots__ = ("client", "cursor", "diskless", "file", "soft_since_ms")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.cursor: Cursor | None = None
        self.file: Iterator[bytes] | None = None
        self.diskless = False
        self.soft_since_ms = 0


class Feeds:
    """All links to replicas."""

    def __init__(self, server: Server, shell: ReplicationShell) -> None:
        self._server = server
        self._shell = shell
        self._feeds: dict[int, Feed] = {}
        self._pipe = -1
        self._mark = b""
        self._reading = False
        self._child_ok: bool | None = None

    def add(self, client: Client) -> None:
        """A client has become a replica."""
        self._feeds[client.id] = Feed(client)

    def remove(self, client: Client) -> None:
        """A replica's connection is gone."""
        feed = self._feeds.pop(client.id, None)
        if feed is not None:
            if feed.cursor is not None:
                feed.cursor.close()
            if feed.diskless:
                self._read_more()

    # ------------------------------------------------------------------ writing

    def send(self, link: int, data: bytes) -> None:
        """Write to a replica outside of the stream; ignored if it is gone."""
        feed = self._feeds.get(link)
        if feed is None:
            return
        transport = _transport(feed.client)
        if transport is not None:
            self._server.engine.stats.repl_out_bytes += len(data)
            transport.write(data)

    def close(self, link: int, *, flush: bool) -> None:
        """Disconnect a replica."""
        feed = self._feeds.get(link)
        client = feed.client if feed is not None else self._server.engine.clients.get(link)
        if client is None:
            return
        client.raise_gate(gates.CLOSING)
        transport = _transport(client)
        if transport is not None:
            if flush:
                transport.close()
            else:
                transport.abort()

    def stream(self, link: int, cursor: Cursor) -> None:
        """From now on keep writing to the replica what the cursor gives."""
        feed = self._feeds.get(link)
        if feed is None:
            cursor.close()
            return
        feed.cursor = cursor
        self._pump(feed)

    def pump(self) -> None:
        """Hand new bytes of the stream to the replicas."""
        for feed in self._feeds.values():
            if feed.cursor is not None and feed.cursor.lag_bytes:
                self._pump(feed)

    def _pump(self, feed: Feed) -> None:
        cursor = feed.cursor
        assert cursor is not None
        transport = _transport(feed.client)
        if transport is None:
            return
        room = WRITE_AHEAD_BYTES - transport.get_write_buffer_size()
        while room > 0:
            pieces = cursor.peek(room)
            if not pieces:
                return
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            transport.write(data)
            cursor.advance(len(data))
            self._server.engine.stats.repl_out_bytes += len(data)
            room = WRITE_AHEAD_BYTES - transport.get_write_buffer_size()

    def drained(self, client: Client) -> None:
        """A replica's socket takes bytes again."""
        feed = self._feeds.get(client.id)
        if feed is None:
            return
        if feed.file is not None:
            self._send_file(feed)
        elif feed.diskless:
            self._shell.machine.master.on_stall(
                client.id, stalled=False, now_ms=self._server.clock.monotonic_ns() // 1_000_000
            )
            self._read_more()
        elif feed.cursor is not None:
            self._pump(feed)

    def check_limits(self) -> None:
        """Drop replicas that are too far behind (client-output-buffer-limit replica)."""
        server = self._server
        config = server.config
        hard, soft, soft_s = config.client_output_buffer_limit["replica"]
        if hard:
            # A limit below the backlog would drop replicas that could still resume from it.
            hard = max(hard, config.repl_backlog_size)
        now_ms = server.engine.keyspace.now_ms
        for feed in list(self._feeds.values()):
            replica = self._shell.machine.master.find(feed.client.id)
            cursor = feed.cursor
            if cursor is None:
                cursor = replica.cursor if replica is not None else None
            behind = cursor.lag_bytes if cursor is not None else 0
            if soft and behind > soft:
                feed.soft_since_ms = feed.soft_since_ms or now_ms
            else:
                feed.soft_since_ms = 0
            if (hard and behind > hard) or (
                feed.soft_since_ms and now_ms - feed.soft_since_ms > soft_s * 1000
            ):
                server.log.warning(
                    f"Client {feed.client.addr.decode()} scheduled to be closed ASAP for"
                    f" overcoming of output buffer limits."
                )
                self.close(feed.client.id, flush=False)

    # ------------------------------------------------------- snapshot from disk

    def transfer(self, link: int) -> None:
        """Send the finished RDB file to a replica."""
        feed = self._feeds.get(link)
        if feed is None:
            return
        server = self._server
        name = server.config.dbfilename
        try:
            size = server.disk.size(name)
            feed.file = server.disk.read(name, CHUNK_BYTES)
        except StorageError as error:
            server.log.warning(f"SYNC failed. Can't open/stat DB after BGSAVE: {error}")
            self.close(link, flush=False)
            return
        self.send(link, b"$%d\r\n" % (size or 0))
        self._send_file(feed)

    def _send_file(self, feed: Feed) -> None:
        transport = _transport(feed.client)
        while transport is not None and transport.get_write_buffer_size() < WRITE_AHEAD_BYTES:
            assert feed.file is not None
            chunk = next(feed.file, None)
            if chunk is None:
                feed.file = None
                shell = self._shell
                shell.carry_out(
                    shell.machine.master.transfer_done(
                        feed.client.id, self._server.clock.monotonic_ns() // 1_000_000
                    )
                )
                return
            self._server.engine.stats.repl_out_bytes += len(chunk)
            transport.write(chunk)

    # ------------------------------------------------------ snapshot from a pipe

    def start_diskless(self, info: SnapshotInfo, action: StartBgsave) -> bool:
        """Fork a child that writes the snapshot into a pipe; returns whether that worked."""
        server = self._server
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # a smaller pipe only costs speed
        requirements = action.requirements

        def work(reporter: Reporter) -> None:
            for chunk in server.saver.chunks(
                info,
                reporter.progress,
                data=not requirements.exclude_data,
                functions=not requirements.exclude_functions,
            ):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(write_fd, view) :]
            reporter.done()

        server.saver.last_try_s = server.clock.now_ms() // 1000
        try:
            child = server.children.fork(
                children.RDB, work, self._exited, keys_total=len(server.engine.keyspace)
            )
        except OSError as error:
            os.close(read_fd)
            os.close(write_fd)
            server.log.warning(f"Can't save in background: fork: {error.strerror}")
            return False
        os.close(write_fd)
        os.set_blocking(read_fd, False)
        self._pipe = read_fd
        self._child_ok = None
        # Fresh randomness for each transfer: a mark that was used before may be in the dataset.
        self._mark = os.urandom(20).hex().encode()
        for link in action.links:
            if link in self._feeds:
                self._feeds[link].diskless = True
        server.log.notice(f"Background RDB transfer started by pid {child.pid}")
        return True

    def diskless_started(self) -> None:
        """The replicas have been told that the snapshot begins: begin it."""
        for feed in self._feeds.values():
            if feed.diskless:
                self.send(feed.client.id, b"$EOF:%b\r\n" % self._mark)
        self._read_more()

    def _receivers(self) -> list[Feed]:
        return [feed for feed in self._feeds.values() if feed.diskless]

    def _read_more(self) -> None:
        """Read the pipe while every replica takes bytes."""
        if self._pipe < 0:
            return
        receivers = self._receivers()
        if not receivers:
            self._stop_reading()
            self._server.log.notice(
                "Diskless rdb transfer, last replica dropped, killing fork child."
            )
            os.close(self._pipe)
            self._pipe = -1
            self._server.children.kill()
            return
        if any(_is_full(feed.client) for feed in receivers):
            self._stop_reading()
        elif not self._reading:
            self._reading = True
            self._server.loop.add_reader(self._pipe, self._readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._server.loop.remove_reader(self._pipe)

    def _readable(self, drain: bool = False) -> None:
        """Pass on what the child has written; `drain` takes all of it whatever the sockets say."""
        while self._pipe >= 0:
            try:
                chunk = os.read(self._pipe, CHUNK_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self._pipe_ended()
                return
            now_ms = self._server.clock.monotonic_ns() // 1_000_000
            full = False
            for feed in self._receivers():
                self.send(feed.client.id, chunk)
                if _is_full(feed.client):
                    full = True
                    self._shell.machine.master.on_stall(feed.client.id, stalled=True, now_ms=now_ms)
            if full and not drain:
                self._stop_reading()
                return
            if not drain:
                return  # other clients first; the loop calls again at once

    def _pipe_ended(self) -> None:
        self._stop_reading()
        os.close(self._pipe)
        self._pipe = -1
        self._server.log.notice(
            f"Diskless rdb transfer, done reading from pipe, {len(self._receivers())} replicas"
            f" still up."
        )
        self._finish()

    def _exited(self, child: Child, ok: bool, reason: str) -> None:
        """The child has ended; what it left in the pipe is at most PIPE_BYTES."""
        server = self._server
        server.saver.last_duration_s = server.clock.now_ms() // 1000 - server.saver.last_try_s
        if ok:
            server.log.notice("Background RDB transfer terminated with success")
        elif reason and reason != "error":
            server.log.warning(f"Background transfer {reason}")
        else:
            server.log.warning("Background transfer error")
        self._child_ok = ok
        if self._pipe >= 0:
            self._readable(drain=True)
        else:
            self._finish()

    def _finish(self) -> None:
        """Both the child and its pipe have ended: complete the snapshot, or give it up."""
        if self._child_ok is None or self._pipe >= 0:
            return
        ok, self._child_ok = self._child_ok, None
        for feed in self._receivers():
            feed.diskless = False
            if ok:
                self.send(feed.client.id, self._mark)
        shell = self._shell
        shell.carry_out(
            shell.machine.master.bgsave_done(
                ok=ok, now_ms=self._server.clock.monotonic_ns() // 1_000_000
            )
        )


def _transport(client: Client) -> Any:
    return client.port.transport  # type: ignore[attr-defined]


def _is_full(client: Client) -> bool:
    transport = _transport(client)
    return transport is not None and transport.get_write_buffer_size() > WRITE_AHEAD_BYTES
