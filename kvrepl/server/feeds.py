"""Links to our replicas: snapshots from disk, the ends of diskless ones, and the stream.

Each replica reads the stream from the shared backlog with a cursor of its own; a socket is given
no more than WRITE_AHEAD_BYTES at a time, so what a slow replica has not taken stays in the shared
blocks, and memory does not grow with the number of replicas. The stream is handed out at the end
of a turn only (`pump`), when the AOF has it: no replica is ahead of what we have made durable.

    disk       `$<size>` + the file, in chunks as the socket takes them, then the stream
    diskless   `$EOF:<mark>` + the chunks of the ring + the mark, as the socket takes them
               (`server/diskless` fills the ring). The stream waits for the ACK

Source: Redis 7.0 replication.c (sendBulkToSlave), networking.c (checkClientOutputBufferLimits).
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.engine.description import told
from kvrepl.errors import StorageError
from kvrepl.persistence.disk import discard
from kvrepl.replication.compression import compress

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.replication.backlog import Cursor
    from kvrepl.replication.compression import Traffic
    from kvrepl.replication.ring import Reader
    from kvrepl.server.app import Server
    from kvrepl.server.replication import ReplicationShell

WRITE_AHEAD_BYTES: Final = 256 * 1024
"""Bytes given to a socket that has not taken the ones before."""
CHUNK_BYTES: Final = 256 * 1024


class Feed:
    """What is on its way to one replica.

    Attributes:
        cursor: its place in the stream, once that flows.
        file: chunks of the snapshot that remain to be sent from disk.
        file_bytes: how long the whole file is.
        reader: its place in the ring of a diskless transfer, until the mark has been sent.
        mark: what ends that snapshot.
        traffic: counts what is compressed for it; None where nothing is.
        soft_since_ms: since when it is beyond the soft limit of its output buffer.
        unacked_bytes: what its host had not acknowledged of the snapshot when we looked last.
    """

    __slots__ = (
        "client",
        "cursor",
        "file",
        "file_bytes",
        "mark",
        "reader",
        "soft_since_ms",
        "traffic",
        "unacked_bytes",
    )

    def __init__(self, client: Client) -> None:
        self.client = client
        self.cursor: Cursor | None = None
        self.file: Iterator[bytes] | None = None
        self.file_bytes = 0
        self.reader: Reader | None = None
        self.mark = b""
        self.traffic: Traffic | None = None
        self.soft_since_ms = 0
        self.unacked_bytes = 0

    def end(self) -> None:
        """Let go of what was kept for the replica."""
        if self.cursor is not None:
            self.cursor.close()
        self.reader = None
        self.file = None


class Feeds:
    """All links to replicas.

    Attributes:
        file_to_remove: an RDB file that was made for replicas alone, "" for none; removed after
            use where rdb-del-sync-files says so and nothing else keeps data on disk.
    """

    def __init__(self, server: Server, shell: ReplicationShell) -> None:
        self._server = server
        self._shell = shell
        self._feeds: dict[int, Feed] = {}
        self.file_to_remove = ""
        self._last_raw: bytes | memoryview = b""
        self._last_frames = b""

    def add(self, client: Client) -> None:
        """A client has become a replica."""
        self._feeds[client.id] = Feed(client)

    def remove(self, client: Client) -> None:
        """A replica's connection is gone."""
        feed = self._feeds.pop(client.id, None)
        if feed is not None:
            feed.end()

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

    def compress(self, link: int, traffic: Traffic) -> None:
        """Compress all that is written to a replica from now on."""
        feed = self._feeds.get(link)
        if feed is not None:
            feed.traffic = traffic

    def _write(self, feed: Feed, data: bytes | memoryview) -> None:
        transport = _transport(feed.client)
        if transport is not None:
            if feed.traffic is not None:
                raw_bytes, data = len(data), self._compressed(data)
                feed.traffic.add(raw_bytes, len(data))
            stats = self._server.engine.stats
            stats.repl_out_bytes += len(data)
            stats.writes += 1
            transport.write(data)

    def _compressed(self, data: bytes | memoryview) -> bytes:
        """Compress, once for all replicas to which the same object goes one after another."""
        if data is not self._last_raw:
            self._last_raw, self._last_frames = data, compress(data)
        return self._last_frames

    def close(self, link: int, *, flush: bool) -> None:
        """Disconnect a replica.

        Args:
            link: the replica; ignored where it has gone.
            flush: when it has taken what was written to it, for which it has repl-timeout.
        """
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
            # Who hangs would never go: nothing looks after it any more.
            server = self._server
            server.loop.call_later(server.config.repl_timeout, transport.abort)
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
        if feed.file is not None or feed.reader is not None:
            self._shell.machine.master.on_stall(
                client.id, stalled=False, now_ms=self._shell.now_ms()
            )
        if feed.file is not None:
            self._send_file(feed)
        elif feed.reader is not None:
            self._send_snapshot(feed)
            self._shell.diskless.read_more()
        elif feed.cursor is not None:
            self._server.turn.wake()

    def limit_bytes(self) -> int:
        """The lowest limit of a replica's output that is set, 0 for none. O(1)."""
        hard, soft, _ = self._limits()
        return min(hard or soft, soft or hard)

    def _limits(self) -> tuple[int, int, int]:
        """The hard limit, the soft one, and the seconds that one may be beyond that."""
        config = self._server.config
        hard, soft, soft_s = config.client_output_buffer_limit["replica"]
        if hard:
            # A limit below the backlog would drop replicas that could still resume from it.
            hard = max(hard, config.repl_backlog_size)
        return hard, soft, soft_s

    def lag_bytes(self, client: Client) -> int:
        """Bytes of the stream kept for a replica and not given to its socket yet. O(1)."""
        feed = self._feeds.get(client.id)
        return self._behind(feed) if feed is not None else 0

    def _behind(self, feed: Feed) -> int:
        cursor = feed.cursor
        if cursor is None:  # the stream gathers while its snapshot is under way
            replica = self._shell.machine.master.find(feed.client.id)
            cursor = replica.cursor if replica is not None else None
        return cursor.lag_bytes if cursor is not None else 0

    def check_limits(self) -> None:
        """Drop replicas that are too far behind (client-output-buffer-limit replica)."""
        server = self._server
        hard, soft, soft_s = self._limits()
        now_ms = server.engine.keyspace.now_ms
        for feed in list(self._feeds.values()):
            behind = self._behind(feed)
            if soft and behind > soft:
                feed.soft_since_ms = feed.soft_since_ms or now_ms
            else:
                feed.soft_since_ms = 0
            if (hard and behind > hard) or (
                feed.soft_since_ms and now_ms - feed.soft_since_ms > soft_s * 1000
            ):
                server.log.warning(
                    f"Client {told(feed.client)} scheduled to be closed ASAP for"
                    f" overcoming of output buffer limits."
                )
                self.close(feed.client.id, flush=False)

    def notice_progress(self) -> None:
        """See to which of those who are sent a snapshot bytes go all the same.

        The kernel asks for more when a third of what it has itself is gone, megabytes perhaps: on
        a slow link that takes longer than a repl-timeout of seconds. O(replicas).
        """
        shell = self._shell
        for feed in self._feeds.values():
            if feed.file is not None or feed.reader is not None:
                unacked_bytes = _unacknowledged(feed.client)
                if unacked_bytes < feed.unacked_bytes:
                    shell.machine.master.on_progress(feed.client.id, shell.now_ms())
                feed.unacked_bytes = unacked_bytes

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
        if transport is None:
            return
        shell, link = self._shell, feed.client.id
        while transport.get_write_buffer_size() < WRITE_AHEAD_BYTES:
            try:
                chunk = next(feed.file, None)
            except StorageError as error:
                self._server.log.warning(f"Read error sending DB to replica: {error}")
                self.close(link, flush=False)
                return
            if chunk is None:
                feed.file = None
                shell.carry_out(shell.machine.master.transfer_done(link, shell.now_ms()))
                return
            self._write(feed, chunk)
            shell.machine.master.snapshot_sent(link, len(chunk), feed.file_bytes)
        shell.machine.master.on_stall(link, stalled=True, now_ms=shell.now_ms())

    def remove_file(self) -> None:
        """Remove the file that replicas were sent, when none needs it any more. O(replicas).

        Source: replication.c (removeRDBUsedToSyncReplicas).
        """
        server, name = self._server, self.file_to_remove
        config = server.config
        if not name or not config.rdb_del_sync_files:
            self.file_to_remove = ""
            return
        if config.save or config.appendonly or self._shell.machine.master.needs_file:
            return
        self.file_to_remove = ""
        server.log.notice(
            f"Removing {name}, which was made for replicas (rdb-del-sync-files, no persistence)"
        )
        discard(server.disk, name)

    # -------------------------------------------------------- diskless snapshot

    def send_snapshot(self, link: int, reader: Reader, mark: bytes) -> None:
        """Begin to send a replica what its reader gives."""
        feed = self._feeds.get(link)
        if feed is None:
            return
        feed.reader, feed.mark = reader, mark
        self._write(feed, b"$EOF:%b\r\n" % mark)
        self._send_snapshot(feed)

    def send_snapshots(self) -> None:
        """The rings have more: pass it on to every replica whose socket takes bytes."""
        for feed in list(self._feeds.values()):
            if feed.reader is not None:
                self._send_snapshot(feed)

    def _send_snapshot(self, feed: Feed) -> None:
        reader, transport = feed.reader, _transport(feed.client)
        assert reader is not None
        if transport is None:
            return
        shell, link = self._shell, feed.client.id
        master, now_ms = shell.machine.master, shell.now_ms()
        while transport.get_write_buffer_size() <= WRITE_AHEAD_BYTES:
            chunk = reader.take(now_ms)
            if chunk is None:
                break
            self._write(feed, chunk)
            master.snapshot_sent(link, len(chunk))
        else:
            master.on_stall(link, stalled=True, now_ms=now_ms)
        if reader.done:
            feed.reader = None
            self._write(feed, feed.mark)
            shell.carry_out(master.transfer_done(link, now_ms))


def _transport(client: Client) -> Any:
    """The transport of a replica that can still be written to, None where there is none."""
    transport = client.port.transport  # type: ignore[attr-defined]
    return None if transport is None or transport.is_closing() else transport


def _unacknowledged(client: Client) -> int:
    """Bytes that the kernel has for a replica and the other host has not acknowledged."""
    transport = _transport(client)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0  # no such socket, or none that can tell
