"""The link to our master: the connection, the snapshot it sends, and the stream it sends then.

    connect -> (handshake by the machine) -> begin_transfer, chunk..., load_snapshot -> up, apply...

A snapshot is taken in one of three ways (repl-diskless-load):

    FROM_FILE   into temp-<time>.<pid>.rdb; loaded when it is whole, then renamed to dbfilename
    IN_PLACE    straight into the keyspace, which was empty
    SWAP        into a keyspace beside the old one, which serves until the new one is whole

What cannot be written or read ends the transfer at once: the connection is cut and the machine
told, so that it begins anew a second later. Until the load begins the dataset stays as it is, and
the last good RDB file until the load has succeeded.

Where Redis differs: it renames the file before it loads it, so that a snapshot that turns out to
be damaged has replaced the file of the last good one.

Source: Redis 7.0 replication.c (connectWithMaster, readSyncBulkPayload).
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.errors import CommandError, ProtocolError, StorageError
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.persistence.disk import File, discard, write_all
from kvrepl.persistence.snapshot import Loaded, SnapshotLoader
from kvrepl.replication.actions import Load
from kvrepl.replication.apply import StreamApplyState
from kvrepl.resp import StreamParser
from kvrepl.server import children
from kvrepl.server.clients import format_address
from kvrepl.server.saver import LoadProgress, key_load_delay_s
from kvrepl.server.tls import reason_of
from rdb import RdbError

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server
    from kvrepl.server.replication import ReplicationShell

DISK_LOG_PERIOD_MS: Final = 10_000
EXIT_FAILURE: Final = 1
SYNC_EVERY_BYTES: Final = 8 << 20
"""A snapshot on its way to disk is made durable piece by piece (REPL_MAX_WRITTEN_BEFORE_FSYNC)."""


class MasterProtocol(asyncio.Protocol):
    """The connection; bytes of one that was closed are not reported any more."""

    def __init__(self, link: MasterLink) -> None:
        self._link: MasterLink | None = link
        self.transport: Any = None
        self.lost_reason: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._link is not None:
            self._link.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.lost_reason = str(exc) if exc else "Connection closed by the master"
        if self._link is not None:
            self._link.lost(self, self.lost_reason)

    @property
    def addresses(self) -> tuple[bytes, bytes]:
        """Where the master is, and where we are, as CLIENT LIST shows it."""
        info = self.transport.get_extra_info
        return format_address(info("peername")), format_address(info("sockname"))

    def abort(self) -> None:
        """Cut the connection (CLIENT KILL); it is reported as lost."""
        if self.transport is not None:
            self.transport.abort()

    close_soon = abort

    def flush(self) -> None:
        """A master is never answered."""

    def resume(self) -> None:
        """A master never waits."""

    def detach(self) -> None:
        """Report nothing any more, and close."""
        self._link = None
        if self.transport is not None:
            self.transport.abort()


class MasterLink:
    """The link to our master, or the absence of one."""

    def __init__(self, server: Server, shell: ReplicationShell) -> None:
        self._server = server
        self._shell = shell
        self._connecting: asyncio.Task[None] | None = None
        self._protocol: MasterProtocol | None = None
        self._load = Load.FROM_FILE
        self._file: File | None = None
        self._temp = ""
        self._received = 0
        self._unsynced = 0
        self._loader: SnapshotLoader | None = None
        self._beside: Keyspace | None = None
        self._progress: LoadProgress | None = None
        self._failure = ""
        self.client: Client | None = None
        self._parser: StreamParser | None = None
        self._applied = StreamApplyState()
        self._offset = 0
        self._held: list[bytes] = []
        self._disk_logged_ms = -DISK_LOG_PERIOD_MS

    def fds(self) -> list[int]:
        """Descriptors that a child must not hold."""
        if self._protocol is None or self._protocol.transport is None:
            return []
        return [self._protocol.transport.get_extra_info("socket").fileno()]

    # --------------------------------------------------------------- connection

    def connect(self, host: str, port: int) -> None:
        """Open a connection to the master; its outcome is reported to the machine."""
        self._connecting = asyncio.ensure_future(self._connect(host, port))
        self._server.keep(self._connecting)

    async def _connect(self, host: str, port: int) -> None:
        protocol = MasterProtocol(self)
        source = self._server.config.bind_source_addr
        replica = self._shell.machine.replica
        try:
            secure: dict[str, Any] = {}
            if self._server.config.tls_replication:
                # No host is named in the handshake, and none looked for in the certificate.
                secure = {"ssl": self._server.tls.client, "server_hostname": ""}
            await self._server.loop.create_connection(
                lambda: protocol, host, port, local_addr=(source, 0) if source else None, **secure
            )
            if protocol.lost_reason is not None:
                raise ConnectionError(protocol.lost_reason)
        except (OSError, UnicodeError) as error:  # a host name may be any bytes
            self._connecting = None
            text = reason_of(error) if isinstance(error, OSError) else str(error)
            self._shell.carry_out(replica.connect_failed(text, self._shell.now_ms()))
            return
        except BaseException:
            protocol.detach()  # close() has cancelled us
            raise
        self._connecting = None
        self._protocol = protocol
        self._shell.carry_out(replica.connected_to_master(self._shell.now_ms()))

    def send(self, data: bytes) -> None:
        """Write to the master; nothing if the connection is gone."""
        transport = self._transport
        if transport is not None:
            stats = self._server.engine.stats
            stats.net_out_bytes += len(data)  # only what replicas get counts as replication
            stats.writes += 1
            transport.write(data)

    @property
    def _transport(self) -> Any:
        """The transport of a connection that stands, None where there is none."""
        transport = self._protocol.transport if self._protocol is not None else None
        return None if transport is None or transport.is_closing() else transport

    def close(self) -> None:
        """Close the connection, or stop opening one."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.detach()

    def received(self, protocol: MasterProtocol, data: bytes) -> None:
        """Bytes came from the master."""
        if protocol is not self._protocol:
            return
        stats = self._server.engine.stats
        stats.repl_in_bytes += len(data)
        stats.reads += 1
        self._server.refresh_time()
        self._shell.carry_out(self._shell.machine.replica.receive(data, self._shell.now_ms()))

    def lost(self, protocol: MasterProtocol, reason: str) -> None:
        """The connection ended, not by us."""
        if protocol is not self._protocol:
            return
        self._protocol = None
        self._shell.carry_out(self._shell.machine.replica.link_lost(reason, self._shell.now_ms()))

    # ----------------------------------------------------------------- snapshot

    def begin_transfer(self, size: int, load: Load, is_async: bool) -> None:
        """A snapshot begins to arrive."""
        server = self._server
        self._load = load
        self._failure = ""
        self._received = self._unsynced = 0
        if load is Load.FROM_FILE:
            self._temp = f"temp-{int(time.time())}.{os.getpid()}.rdb"
            try:
                self._file = server.disk.create(self._temp)
            except StorageError as error:
                self._fail(
                    f"Opening the temp file needed for MASTER <-> REPLICA synchronization: {error}"
                )
            return
        if load is Load.SWAP:
            # The old dataset stays until the new one is whole, and so does what persists it.
            self._beside = Keyspace(server.config.databases, server.engine.keyspace.limits)
            self._beside.track_access(server.engine.keyspace.access)
        else:
            self._stop_persistence()
            self._flush()
        self._loader = SnapshotLoader(
            self._beside if self._beside is not None else server.engine.keyspace,
            verify_checksum=server.config.rdbchecksum,
            log=server.log.notice,
        )
        self._progress = server.loading(max(size, 0), is_async=is_async, for_sync=True)
        self._progress.__enter__()

    def chunk(self, data: bytes) -> None:
        """The next bytes of the snapshot."""
        if self._failure:
            return
        try:
            if self._loader is not None:
                self._feed(self._loader, data)
            elif self._file is not None:
                self._store(self._file, data)
        except RdbError as error:
            self._fail(f"Internal error in RDB reading offset {self._received}: {error}")
        except StorageError as error:
            self._fail(
                f"Write error or short write writing to the DB dump file needed for MASTER <->"
                f" REPLICA synchronization: {error}"
            )

    def _feed(self, loader: SnapshotLoader, data: bytes) -> None:
        before = loader.loaded.keys
        loader.feed(data)
        self._received += len(data)
        assert self._progress is not None
        self._progress.loaded_bytes = self._received
        self._progress.loaded = loader.loaded
        self._progress.hand_on()
        delay_s = key_load_delay_s(self._server.config)
        if delay_s and (transport := self._transport) is not None:
            transport.pause_reading()
            self._server.loop.call_later(
                (loader.loaded.keys - before) * delay_s, _resume_reading, transport
            )

    def _store(self, file: File, data: bytes) -> None:
        write_all(file, data)
        self._received += len(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY_BYTES:
            file.fdatasync()
            self._unsynced = 0

    def _fail(self, text: str) -> None:
        """The snapshot cannot be taken in: cut the link; the machine aborts and begins anew.

        Where every byte has come already the machine is told by load_finished instead.
        """
        self._failure = text
        self._server.log.warning(text)
        self.close()
        replica = self._shell.machine.replica
        self._shell.carry_out(replica.transfer_failed(text, self._shell.now_ms()))

    def load_snapshot(self) -> None:
        """The snapshot has arrived whole: load it."""
        if self._transport is not None:
            self._transport.pause_reading()
        if self._load is Load.FROM_FILE:
            self._server.keep(asyncio.ensure_future(self._load_file()))
        else:
            self._finish_in_memory()

    async def _load_file(self) -> None:
        server = self._server
        loaded: Loaded | None = None
        file, self._file = self._file, None
        if file is not None and not self._failure:
            try:
                file.fsync()
                self._stop_persistence()
                self._flush()
                loaded = await self._load_temp()
            except (StorageError, RdbError) as error:
                server.log.warning(f"Failed to load the snapshot of the MASTER: {error}")
                self._flush()
            finally:
                file.close()
        self.drop_file()
        if server.exit_status is None:
            self._loaded(loaded)

    async def _load_temp(self) -> Loaded:
        """Load the temporary file, and let it be our RDB file from now on.

        Raises:
            RdbError: it is damaged.
            StorageError: the disk refuses.
        """
        server, config = self._server, self._server.config
        loaded = await server.saver.load(
            self._temp,
            self._received,
            server.engine.keyspace,
            drop_expired=False,
            for_sync=True,
        )
        kept = config.save or config.appendonly or not config.rdb_del_sync_files
        if kept and server.exit_status is None:
            server.disk.rename(self._temp, config.dbfilename)
            server.disk.fsync_dir("")
        return loaded

    def _finish_in_memory(self) -> None:
        loaded: Loaded | None = None
        if not self._failure:
            assert self._loader is not None
            try:
                loaded = self._loader.close()
            except RdbError as error:
                self._server.log.warning(f"Failed to load the snapshot of the MASTER: {error}")
        beside = self._beside
        self._end_loading(keep=loaded is not None)
        if loaded is not None and beside is not None:
            self._swap_in(beside)
        self._loaded(loaded)

    def _loaded(self, loaded: Loaded | None) -> None:
        """Report to the machine, and go on reading."""
        server = self._server
        if loaded is not None:
            server.saver.last_loaded = loaded
            server.adopt_functions(loaded.functions)
        stream_db = loaded.stream_db if loaded is not None else None
        self._shell.carry_out(
            self._shell.machine.replica.load_finished(
                ok=loaded is not None, stream_db=stream_db or 0, now_ms=self._shell.now_ms()
            )
        )
        if self._transport is not None:
            self._transport.resume_reading()
        if loaded is not None and server.config.appendonly:
            server.aof.turn_on()

    def _swap_in(self, beside: Keyspace) -> None:
        self._stop_persistence()
        keyspace = self._server.engine.keyspace
        for db, fresh in zip(keyspace.databases, beside.databases, strict=True):
            for key in db.watched:
                keyspace.sink.touched(db, key)
            db.swap(fresh)
            keyspace.garbage.throw_segments(fresh.clear())
            for key in db.blocked_keys:
                if db.peek(key) is not None:
                    keyspace.sink.ready(db, key)
        keyspace.local_expiry.clear()
        self._server.engine.tracking.flushed()
        self._server.engine.settle()

    def abort_transfer(self, *, unwanted: bool) -> None:
        """The snapshot will not be completed, or is not wanted."""
        if not self._failure and not unwanted:
            self._server.log.warning(
                f"Internal error in RDB reading offset {self._received}, the transfer was cut short"
            )
        if self._file is not None:
            self._file.close()
            self._file = None
        self.drop_file()
        if self._loader is not None:
            self._end_loading(keep=False)

    def _end_loading(self, *, keep: bool) -> None:
        """A load into memory has ended; what it put into the dataset itself is kept or not."""
        in_place = self._beside is None
        self._loader = None
        self._beside = None
        if self._progress is not None:
            self._progress.__exit__()
            self._progress = None
        if in_place and not keep:
            self._flush()

    def drop_file(self) -> None:
        """Remove the temporary file, unless it has been given its final name."""
        if self._temp:
            discard(self._server.disk, self._temp)
            self._temp = ""

    def _stop_persistence(self) -> None:
        """Before the dataset is replaced: what the AOF and a child write would mix two of them."""
        server = self._server
        server.aof.turn_off()
        active = server.children.active
        if active is not None and active.kind == children.RDB:
            server.log.notice(
                f"Replica is about to load the RDB file received from the master, but there is a"
                f" pending RDB child running. Killing process {active.pid} and removing its temp"
                f" file to avoid any race"
            )
            server.children.kill()

    def _flush(self) -> None:
        server = self._server
        server.engine.flush_for_load(lazily=server.config.replica_lazy_flush)

    # ------------------------------------------------------------------- stream

    def up(self, db: int) -> None:
        """The stream begins, in database `db`."""
        engine = self._server.engine
        self.client = engine.internal_client()
        databases = engine.keyspace.databases
        # A master may have more databases than we; it selects one before its next command.
        self.client.db = databases[db if db < len(databases) else 0]
        if self._protocol is not None:
            self.client.addr, self.client.laddr = self._protocol.addresses
            self.client.port = self._protocol
        # CLIENT LIST shows our master, and CLIENT KILL TYPE master cuts the link.
        engine.clients[self.client.id] = self.client
        self._parser = StreamParser(0, strict=True)
        self._applied = StreamApplyState()
        self._offset = 0

    def go_on(self) -> None:
        """Clients are not paused any more: apply what came meanwhile."""
        held, self._held = self._held, []
        if held:
            self.apply(b"".join(held))

    def apply(self, data: bytes) -> None:
        """Run the commands that these bytes complete, and report what was applied.

        While clients are paused (CLIENT PAUSE, a shutdown that waits for those who follow us) the
        stream waits as well, so that our offset stands still; the link is kept alive.
        """
        parser, client = self._parser, self.client
        if parser is None or client is None:
            return
        engine = self._server.engine
        if engine.gates & (gates.PAUSE_ALL | gates.PAUSE_WRITES):
            self._held.append(data)
            return
        replica = self._shell.machine.replica
        commands = parser.feed(data)
        if engine.gates & gates.DISK:
            self._disk_refuses(commands)
        total = len(commands)
        done = 0
        while done < total:
            # hot: plain commands neither end the link nor ask for the offset, nor stand inside
            # MULTI: as many as follow each other are told at once.
            first = done
            done, refusal = engine.apply_plain(client, commands, first)
            if done > first:
                argv, end = commands[done - 1]
                size, self._offset = end - self._offset, end
                replica.applied(self._applied.ran(size, in_multi=False), client.db.index)
                if refusal is not None:
                    self._failed(argv, refusal)
                if self._parser is not parser:
                    return  # a client that was served ended the link
                continue
            argv, end = commands[done]
            done += 1
            size, self._offset = end - self._offset, end
            reply = engine.apply(client, argv)
            if type(reply) is CommandError:
                self._failed(argv, reply)
            count = self._applied.ran(size, in_multi=client.queued is not None)
            if count:
                # Told command by command: REPLCONF GETACK answers with what came before it.
                replica.applied(count, client.db.index)
            if self._parser is not parser:
                return  # the command ended the link (a role change)
        if parser.offset > self._offset and not self._applied.uncounted and client.queued is None:
            # Empty lines count as well, though they are no command.
            replica.applied(parser.offset - self._offset, client.db.index)
            self._offset = parser.offset
        if parser.error is not None:
            error: ProtocolError = parser.error
            self._shell.carry_out(replica.protocol_error(error.text, self._shell.now_ms()))

    def _disk_refuses(self, commands: list[tuple[list[bytes], int]]) -> None:
        """Writes are to be applied that our disk does not take: end, unless told to go on.

        Source: server.c (processCommand, replica-ignore-disk-write-errors).
        """
        server = self._server
        found = (server.engine.resolve(argv) for argv, _ in commands)
        if not any(command is not None and command.is_write for command in found):
            return
        if not server.config.replica_ignore_disk_write_errors:
            server.log.warning("Replica was unable to write command to disk. Exiting...")
            os._exit(EXIT_FAILURE)
        now_ms = self._shell.now_ms()
        if now_ms >= self._disk_logged_ms + DISK_LOG_PERIOD_MS:
            self._disk_logged_ms = now_ms
            server.log.warning(
                "Replica is applying a command even though it is unable to write to disk."
            )

    def _failed(self, argv: list[bytes], error: CommandError) -> None:
        server = self._server
        server.engine.stats.unexpected_error_replies += 1
        text = error.text.removeprefix(b"ERR ").decode(errors="backslashreplace")
        server.log.warning(
            f"== CRITICAL == This replica is sending an error to its master: '{text}' after"
            f" processing the command '{argv[0].decode(errors='backslashreplace').lower()}'"
        )

    def down(self) -> None:
        """No more stream: forget what was not applied."""
        if self.client is not None:
            self._server.engine.disconnect(self.client)
        self.client = None
        self._parser = None
        self._held = []


def _resume_reading(transport: Any) -> None:
    if not transport.is_closing():
        transport.resume_reading()
