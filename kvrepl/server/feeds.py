"""Links to our replicas: snapshots from disk, snapshots from a child's pipe, and the stream.

Each replica reads the stream from the shared backlog with a cursor of its own; a socket is given
no more than WRITE_AHEAD_BYTES at a time, so what a slow replica has not taken stays in the shared
blocks, and memory does not grow with the number of replicas. The stream is handed out at the end
of a turn only (`pump`), when the AOF has it: no replica is ahead of what we have made durable.

    disk       `$<size>` + the file, in chunks as the socket takes them, then the stream
    diskless   child -> pipe -> this process -> `$EOF:<mark>` + chunk to every socket + mark;
               the pipe is read only while every socket takes bytes. The mark is sent when the
               child has exited with success, so that no replica takes a torn snapshot for a
               whole one. The stream waits for the ACK

Source: Redis 7.0 replication.c (sendBulkToSlave, rdbPipeReadHandler), networking.c
(checkClientOutputBufferLimits).
"""

from __future__ import annotations

import fcntl
import os
import socket
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
    from kvrepl.server.children import Child, Ending, Reporter
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
        file_bytes: how long the whole file is.
        diskless: whether it takes part in the running diskless transfer.
        soft_since_ms: since when it is beyond the soft limit of its output buffer.
    """

    __slots__ = ("client", "cursor", "diskless", "file", "file_bytes", "soft_since_ms")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.cursor: Cursor | None = None
        self.file: Iterator[bytes] | None = None
        self.file_bytes = 0
        self.diskless = False
        self.soft_since_ms = 0

    def end(self) -> None:
        """Let go of what was kept for the replica."""
        if self.cursor is not None:
            self.cursor.close()
        self.file = None


class Feeds:
    """All links to replicas."""

    def __init__(self, server: Server, shell: ReplicationShell) -> None:
        self._server = server
        self._shell = shell
        self._feeds: dict[int, Feed] = {}
        self._pipe = -1
        self._mark = b""
        self._reading = False
        self._ending: Ending | None = None

    def add(self, client: Client) -> None:
        """A client has become a replica."""
        self._feeds[client.id] = Feed(client)

    def remove(self, client: Client) -> None:
        """A replica's connection is gone."""
        feed = self._feeds.pop(client.id, None)
        if feed is not None:
            feed.end()
            if feed.diskless:
                self._read_more()  # it may have been the one that the others waited for

    def set_no_delay(self, client: Client, no_delay: bool) -> None:
        """Send small pieces at once, or gather them into fewer packets."""
        transport = _transport(client)
        sock = transport.get_extra_info("socket") if transport is not None else None
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)

    # ------------------------------------------------------------------ writing

    def send(self, link: int, data: bytes) -> None:
        """Write to a replica outside of the stream; ignored if it is gone."""
        feed = self._feeds.get(link)
        if feed is not None:
            self._write(feed, data)

    def _write(self, feed: Feed, data: bytes | memoryview) -> None:
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
        if transport is None:
            return
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
        self._server.turn.wake()

    def pump(self) -> None:
        """Hand new bytes of the stream to the replicas; a step of the end of the turn."""
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
            self._write(feed, data)
            cursor.advance(len(data))
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
                client.id, stalled=False, now_ms=self._shell.now_ms()
            )
            self._read_more()
        elif feed.cursor is not None:
            self._server.turn.wake()

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
        name = server.saver.file
        try:
            feed.file_bytes = server.disk.size(name) or 0
            feed.file = server.disk.read(name, CHUNK_BYTES)
        except StorageError as error:
            server.log.warning(f"SYNC failed. Can't open/stat DB after BGSAVE: {error}")
            self.close(link, flush=False)
            return
        self._write(feed, b"$%d\r\n" % feed.file_bytes)
        self._send_file(feed)

    def _send_file(self, feed: Feed) -> None:
        assert feed.file is not None
        transport = _transport(feed.client)
        while transport is not None and transport.get_write_buffer_size() < WRITE_AHEAD_BYTES:
            try:
                chunk = next(feed.file, None)
            except StorageError as error:
                self._server.log.warning(f"Read error sending DB to replica: {error}")
                self.close(feed.client.id, flush=False)
                return
            if chunk is None:
                feed.file = None
                shell = self._shell
                shell.carry_out(shell.machine.master.transfer_done(feed.client.id, shell.now_ms()))
                return
            self._write(feed, chunk)
            self._shell.machine.master.snapshot_sent(feed.client.id, len(chunk), feed.file_bytes)

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
            os.close(read_fd)  # or we would never hear that the parent is gone
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
        self._ending = None
        # Fresh randomness for each transfer: a mark that was used before may be in the dataset.
        self._mark = os.urandom(20).hex().encode()
        for link in action.links:
            if link in self._feeds:
                self._feeds[link].diskless = True
        server.log.notice(f"Background RDB transfer started by pid {child.pid}")
        return True

    def diskless_started(self) -> None:
        """The replicas have been told that the snapshot begins: begin it."""
        for feed in self._receivers():
            self._write(feed, b"$EOF:%b\r\n" % self._mark)
        self._read_more()

    def _receivers(self) -> list[Feed]:
        return [feed for feed in self._feeds.values() if feed.diskless]

    def _read_more(self) -> None:
        """Read the pipe while every replica takes bytes.

        With no replica left the pipe is not read either: the machine has the child killed.
        """
        if self._pipe < 0:
            return
        receivers = self._receivers()
        if not receivers or any(_is_full(feed.client) for feed in receivers):
            self._stop_reading()
        elif not self._reading:
            self._reading = True
            self._server.loop.add_reader(self._pipe, self._readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._server.loop.remove_reader(self._pipe)

    def _readable(self) -> None:
        """Pass on what the child has written; other clients come first, so a chunk a turn."""
        receivers = self._receivers()
        if not self._pass_on(receivers):
            self._pipe_ended()
            return
        now_ms = self._shell.now_ms()
        for feed in receivers:
            if _is_full(feed.client):
                self._stop_reading()
                self._shell.machine.master.on_stall(feed.client.id, stalled=True, now_ms=now_ms)

    def _pass_on(self, receivers: list[Feed]) -> bool:
        """Read a chunk and write it to every replica; returns False at the end of the pipe."""
        try:
            chunk = os.read(self._pipe, CHUNK_BYTES)
        except BlockingIOError:
            return True
        for feed in receivers:
            self._write(feed, chunk)
            self._shell.machine.master.snapshot_sent(feed.client.id, len(chunk))
        return bool(chunk)

    def _pipe_ended(self) -> None:
        """The child has closed its end: with success, as its exit will tell, or without."""
        self._stop_reading()
        os.close(self._pipe)
        self._pipe = -1
        self._server.log.notice(
            f"Diskless rdb transfer, done reading from pipe, {len(self._receivers())} replicas"
            f" still up."
        )
        self._finish()

    def _exited(self, child: Child, ending: Ending) -> None:
        """The child has ended; what it left in the pipe is at most PIPE_BYTES."""
        server = self._server
        server.saver.last_duration_s = server.clock.now_ms() // 1000 - server.saver.last_try_s
        if ending.ok:
            server.log.notice("Background RDB transfer terminated with success")
        elif ending.signal:
            server.log.warning(f"Background transfer terminated by signal {ending.signal}")
        else:
            server.log.warning("Background transfer error")
        self._ending = ending
        if self._pipe >= 0:
            receivers = self._receivers() if ending.ok else []
            while self._pass_on(receivers):
                pass  # the writer is gone, so the pipe ends
            self._pipe_ended()
        else:
            self._finish()

    def _finish(self) -> None:
        """Both the child and its pipe have ended: complete the snapshot, or give it up."""
        if self._ending is None:
            return
        ok, self._ending = self._ending.ok, None
        for feed in self._receivers():
            feed.diskless = False
            if ok:
                self._write(feed, self._mark)
        shell = self._shell
        shell.carry_out(shell.machine.master.bgsave_done(ok=ok, now_ms=shell.now_ms()))


def _transport(client: Client) -> Any:
    """The transport of a replica that can still be written to, None where there is none."""
    transport = client.port.transport  # type: ignore[attr-defined]
    return None if transport is None or transport.is_closing() else transport


def _is_full(client: Client) -> bool:
    transport = _transport(client)
    return transport is not None and transport.get_write_buffer_size() > WRITE_AHEAD_BYTES
