"""RDB files of a running server: SAVE, BGSAVE, save points, and loading one.

    save()      this process writes temp-<pid>.rdb, then renames it
    bgsave()    a forked child does the same; `done` takes its outcome
    load()      reads a file in pieces, in between clients are answered -LOADING

Nothing but a complete, fsynced file is ever given the name `dbfilename`; what fails leaves the last
good file alone and is said in the log, in INFO, and by -MISCONF.

Source: Redis 7.0 rdb.c (rdbSave, rdbSaveBackground, backgroundSaveDoneHandler), server.c; for
BGSAVE CANCEL, Valkey 8.1.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from kvrepl.engine import gates
from kvrepl.errors import CommandError, StorageError
from kvrepl.keyspace.database import IGNORE
from kvrepl.numbers import parse_int
from kvrepl.persistence import savepoints
from kvrepl.persistence.disk import discard, write_durably
from kvrepl.persistence.savepoints import SavePoint
from kvrepl.persistence.snapshot import Loaded, SnapshotInfo, SnapshotLoader, snapshot_chunks
from kvrepl.resp.values import OK, Reply, Status
from kvrepl.server import children, damage, process
from kvrepl.server.helper import partner
from rdb import RdbError

if TYPE_CHECKING:
    from kvrepl.config import Config
    from kvrepl.keyspace.keyspace import Keyspace
    from kvrepl.server.app import Server
    from kvrepl.server.children import Child, Ending, Reporter

MISCONF: Final = (
    b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to"
    b" disk. Commands that may modify the data set are disabled, because this instance is"
    b" configured to report errors during writes if RDB snapshotting fails"
    b" (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the"
    b" RDB error."
)
LOAD_CHUNK_BYTES: Final = 96 * 1024
"""From 128 KiB on the C library maps each anew, and each of their pages costs a fault."""
SLOW_CHUNK_BYTES: Final = 1024
"""What a load that is to be slow (key-load-delay) reads at a time."""
DELAY_SLICE_S: Final = 0.001
"""A snapshot that is to be slow (rdb-key-save-delay) rests for no less at a time."""


def temp_rdb(pid: int) -> str:
    """Name of the file while process `pid` writes it."""
    return f"temp-{pid}.rdb"


class LoadError(Exception):
    """The dataset cannot be loaded; the server must not start with less than it had."""


class Saver:
    """RDB files of one server.

    Attributes:
        last_save_s: Unix time of the last good save (LASTSAVE).
        last_try_s: Unix time at which the last BGSAVE was started.
        last_ok: how the last one ended (rdb_last_bgsave_status).
        last_duration_s: how long it took, -1 before the first.
        saves: saves to disk that were asked for, or due, and begun (INFO rdb_saves).
        scheduled: a BGSAVE is to start as soon as no child runs.
        file: the name that the last BGSAVE wrote to, or writes to (`dbfilename` at its start).
        loading: progress of a load, None when there is none.
        last_loaded: what the last load found.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.last_save_s = server.started_ms // 1000
        self.last_try_s = 0
        self.last_ok = True
        self.last_duration_s = -1
        self.saves = 0
        self.scheduled = False
        self.file = server.config.dbfilename
        self.loading: LoadProgress | None = None
        self.last_loaded = Loaded()
        self._dirty_before = 0

    # ---------------------------------------------------------------- writing

    def info(self, *, aof_base: bool = False) -> SnapshotInfo:
        """What a snapshot of this instant says of itself."""
        server = self._server
        now_s = server.clock.now_ms() // 1000
        saved = None if aof_base else server.replication.save_info()
        if saved is None:
            return SnapshotInfo(now_s, server.meter.used_bytes(), aof_base)
        return SnapshotInfo(
            now_s, server.meter.used_bytes(), aof_base, saved.stream_db, saved.replid, saved.offset
        )

    def save_command(self) -> Reply:
        """SAVE.

        Raises:
            CommandError: a child saves, or the file could not be written.
        """
        if self.is_saving:
            raise CommandError(b"ERR Background save already in progress")
        self.saves += 1
        return self.save()

    def save(self) -> Reply:
        """Write the file now, while everybody waits.

        Raises:
            CommandError: it could not be written; the reason is in the log.
        """
        try:
            self._write_file(self._server.config.dbfilename, self.info())
        except StorageError as error:
            self._server.log.warning(f"Write error saving DB on disk: {error}")
            raise CommandError(b"ERR") from error
        self._succeeded()
        return OK

    def _succeeded(self) -> None:
        self._server.engine.keyspace.dirty = 0
        self.last_save_s = self._server.clock.now_ms() // 1000
        self.last_ok = True
        self._server.update_disk_gate()

    def _write_file(
        self,
        name: str,
        info: SnapshotInfo,
        progress: Callable[[int], object] = lambda keys: None,
    ) -> None:
        """Write temp-<pid>.rdb, make it durable, and give it its name.

        Raises:
            StorageError: the file of that name is as it was, or complete but perhaps not durable.
        """
        server = self._server
        write_durably(
            server.disk,
            temp_rdb(os.getpid()),
            name,
            self.chunks(info, progress),
            autosync=server.config.rdb_save_incremental_fsync,
        )
        server.disk.fsync_dir("")
        server.log.notice("DB saved on disk")

    def chunks(
        self,
        info: SnapshotInfo,
        progress: Callable[[int], object] = lambda keys: None,
        *,
        data: bool = True,
        functions: bool = True,
    ) -> Iterator[bytes]:
        """The dataset as an RDB, by the settings of the server.

        Args:
            info: what it says of itself.
            progress: see kvrepl.persistence.snapshot.
            data, functions: whether keys and function libraries are in it.
        """
        config = self._server.config
        return snapshot_chunks(
            self._server.engine.keyspace,
            info,
            functions=self._server.function_libraries() if functions else (),
            compress=config.rdbcompression,
            checksum=config.rdbchecksum,
            data=data,
            progress=slowed(progress, config.rdb_key_save_delay),
        )

    @property
    def is_saving(self) -> bool:
        """Whether a child writes an RDB, to disk or to replicas."""
        return self._server.children.is_running(children.RDB)

    def bgsave_command(self, *, schedule: bool) -> Reply:
        """BGSAVE and BGSAVE SCHEDULE."""
        server = self._server
        if self.is_saving:
            raise CommandError(b"ERR Background save already in progress")
        if server.children.active is not None or server.engine.depth:
            if schedule or server.engine.depth:
                self.scheduled = True
                return Status(b"Background saving scheduled")
            raise CommandError(
                b"ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE"
                b" SCHEDULE in order to schedule a BGSAVE whenever possible."
            )
        if not self.bgsave():
            raise CommandError(b"ERR")
        return Status(b"Background saving started")

    def cancel_command(self) -> Reply:
        """BGSAVE CANCEL: no save runs or is scheduled any more, save points apart.

        Valkey also ends a snapshot that replicas wait for, and with it their full syncs. Here it
        goes on, and what is cancelled beside it is at most a scheduled save.

        Raises:
            CommandError: there is none, or replicas wait for it.
        """
        server = self._server
        is_saving = self.is_saving
        if is_saving and not server.replication.machine.master.awaits_child:
            self.scheduled = False
            server.log.notice("Background saving cancelled by BGSAVE CANCEL")
            server.children.kill(reap=not server.engine.depth)
            return Status(b"Background saving cancelled")
        if self.scheduled:
            self.scheduled = False
            return Status(b"Scheduled background saving cancelled")
        if is_saving:
            raise CommandError(
                b"ERR Background saving can't be cancelled: replicas wait for it to synchronize"
            )
        raise CommandError(b"ERR Background saving is currently not in progress or scheduled")

    def bgsave(self, info: SnapshotInfo | None = None, *, for_replicas: bool = False) -> bool:
        """Fork a child that saves to disk.

        Args:
            info: what the file says of itself; that of this instant where left out.
            for_replicas: replication asked for it, and knows of it already.

        Returns:
            Whether there is now a child.
        """
        server = self._server
        keyspace = server.engine.keyspace
        self.saves += 1
        self.last_try_s = server.clock.now_ms() // 1000
        chosen = info if info is not None else self.info()
        name = server.config.dbfilename

        def work(reporter: Reporter) -> None:
            self._write_file(name, chosen, reporter.progress)
            reporter.done()

        try:
            child = server.children.fork(children.RDB, work, self._exited, keys_total=len(keyspace))
        except OSError as error:
            self.last_ok = False
            server.log.warning(f"Can't save in background: fork: {error.strerror}")
            server.update_disk_gate()
            return False
        self.file = name
        self._dirty_before = keyspace.dirty
        self.scheduled = False
        if not for_replicas:
            server.replication.rdb_child_started()
        server.log.notice(f"Background saving started by pid {child.pid}")
        return True

    def _exited(self, child: Child, ending: Ending) -> None:
        server = self._server
        now_s = server.clock.now_ms() // 1000
        self.last_duration_s = now_s - self.last_try_s
        if ending.ok:
            server.log.notice("Background saving terminated with success")
            server.engine.keyspace.dirty -= self._dirty_before
            self.last_save_s = now_s
            self.last_ok = True
        else:
            discard(server.disk, temp_rdb(child.pid))  # it may have had no time to
            if ending.signal:
                server.log.warning(f"Background saving terminated by signal {ending.signal}")
            else:
                server.log.warning("Background saving error")
            if not ending.deliberate:
                self.last_ok = False
        server.update_disk_gate()
        server.replication.rdb_child_ended(ending.ok)

    # ------------------------------------------------------------------- cron

    def due(self, now_s: int) -> SavePoint | None:
        """The save point that is reached, None if none is."""
        return savepoints.due(
            [SavePoint(*point) for point in self._server.config.save],
            dirty=self._server.engine.keyspace.dirty,
            now_s=now_s,
            last_save_s=self.last_save_s,
            last_try_s=self.last_try_s,
            last_ok=self.last_ok,
        )

    def may_try(self, now_s: int) -> bool:
        """Whether a scheduled save may start now (not at once after a failed one)."""
        return savepoints.may_try(now_s, self.last_try_s, self.last_ok)

    # ---------------------------------------------------------------- loading

    async def load_at_start(self) -> None:
        """Load `dbfilename` if it is there.

        Raises:
            LoadError: it cannot be read; with offset and reason.
        """
        server = self._server
        name = server.config.dbfilename
        try:
            size = server.disk.size(name)
            if size is None:
                return
            is_replica = server.config.replicaof is not None
            before = time.monotonic()
            loaded = await self.load(
                name,
                size,
                server.engine.keyspace,
                drop_expired=not is_replica,
            )
        except (RdbError, StorageError) as error:
            if isinstance(error, RdbError) and (lines := damage.lines_about(error)):
                for line in (*lines, damage.TERMINATING):
                    server.log.warning(line)
            raise LoadError(
                f"Fatal error loading the DB, check server logs. {name}: {error}. Exiting."
            ) from error
        server.adopt_functions(loaded.functions)
        server.log.notice(f"DB loaded from disk: {time.monotonic() - before:.3f} seconds")
        server.replication.restored(loaded)

    async def load(
        self,
        name: str,
        size: int,
        keyspace: Keyspace,
        *,
        drop_expired: bool,
        for_sync: bool = False,
    ) -> Loaded:
        """Read an RDB file into a keyspace, answering clients now and then.

        Args:
            name, size: the file, and its bytes.
            keyspace: where to; empty.
            drop_expired: as a master does.
            for_sync: see LoadProgress.

        Raises:
            RdbError: the file is damaged; what was loaded before is still there.
            StorageError: it cannot be read.
        """
        server = self._server
        drop_before_ms = server.clock.now_ms() if drop_expired else None
        every = server.config.loading_process_events_interval_bytes or 2 << 20
        delay_s = key_load_delay_s(server.config)
        chunk_bytes = SLOW_CHUNK_BYTES if delay_s else min(LOAD_CHUNK_BYTES, every)
        since = keys = 0
        with (
            server.loading(size, for_sync=for_sync) as progress,
            partner(server, name, size, chunk_bytes, drop_before_ms) as runs,
        ):
            loader = SnapshotLoader(
                keyspace,
                drop_expired_at_ms=drop_before_ms,
                verify_checksum=server.config.rdbchecksum,
                runs=dict if for_sync else runs,
                log=server.log.notice,
            )
            progress.loaded = loader.loaded
            for chunk in server.disk.read(name, chunk_bytes):
                loader.feed(chunk)
                progress.loaded_bytes += len(chunk)
                progress.hand_on()
                since += len(chunk)
                if since >= every or delay_s:
                    since = 0
                    await asyncio.sleep((loader.loaded.keys - keys) * delay_s)
                    keys = loader.loaded.keys
                    if server.exit_status is not None:
                        break
            else:
                loader.close()
        self.last_loaded = loader.loaded
        return loader.loaded


class LoadProgress:
    """A load in progress, as INFO persistence shows it; raises the gate LOADING while it lasts.

    A load for a sync leaves the processors to others. While a server starts nobody is served who
    could wait for it; but a replica may run beside its master, or the master of others, whose
    clients would wait for a processor that the load keeps until its turn ends (a tick of the
    kernel's clock: 4 ms), and for the one on which huge pages are cleared ahead. So its turns are
    short, it hands the processor on after each piece, and one thread does all of it.

    Args:
        server: the server.
        total_bytes: see below.
        is_async: see below.
        for_sync: what is loaded is our master's snapshot.

    Attributes:
        started_ms: Unix time of its start.
        total_bytes: size of what is loaded; 0 where it is not known.
        loaded_bytes: how much of it is done.
        is_async: clients are served from the old data meanwhile.
        loaded: what an RDB file has given so far, None where none is read.
    """

    def __init__(
        self, server: Server, total_bytes: int, *, is_async: bool = False, for_sync: bool = False
    ) -> None:
        self._server = server
        self._for_sync = for_sync
        self.started_ms = server.clock.now_ms()
        self.total_bytes = total_bytes
        self.loaded_bytes = 0
        self.is_async = is_async
        self.loaded: Loaded | None = None

    def __enter__(self) -> LoadProgress:
        engine = self._server.engine
        self._server.saver.loading = self
        if self.is_async:
            engine.raise_gate(gates.ASYNC_LOADING)
        else:
            engine.raise_gate(gates.LOADING)
            engine.keyspace.expiry_mode = IGNORE
        if self._for_sync:
            self._leave_processors(True)
        return self

    def hand_on(self) -> None:
        """A piece is loaded: let a thread that waits for our processor go first. O(1)."""
        if self._for_sync:
            process.yield_turn()

    def _leave_processors(self, wanted: bool) -> None:
        process.take_short_turns(wanted)
        self._server.meter.rest(wanted)

    def rdb_used_bytes(self) -> int:
        """How much memory its writer had in use, by the file's own word; 0 if it says nothing."""
        aux = self.loaded.aux if self.loaded is not None else {}
        return parse_int(aux.get(b"used-mem", b"")) or 0

    def __exit__(self, *exc: object) -> None:
        engine = self._server.engine
        if self._for_sync:
            self._leave_processors(False)
        self._server.saver.loading = None
        engine.lower_gate(gates.ASYNC_LOADING | gates.LOADING)
        engine.keyspace.expiry_mode = engine.expiry_mode()


def slowed(progress: Callable[[int], object], delay_us: int) -> Callable[[int], object]:
    """Give a progress function that takes its time (rdb-key-save-delay, for tests).

    Args:
        progress: what is called, key by key.
        delay_us: the setting; 0 gives `progress` itself.
    """
    if not delay_us:
        return progress
    delay_s = _seconds_a_key(delay_us)
    owed_s = 0.0

    def slowly(keys: int) -> None:
        nonlocal owed_s
        for _ in range(keys):
            owed_s += delay_s
            if owed_s >= DELAY_SLICE_S:
                time.sleep(owed_s)
                owed_s = 0.0
            progress(1)

    return slowly


def key_load_delay_s(config: Config) -> float:
    """Seconds to rest for each key that is loaded (key-load-delay, for tests)."""
    return _seconds_a_key(config.key_load_delay) if config.key_load_delay else 0.0


def _seconds_a_key(delay_us: int) -> float:
    """Read a delay: microseconds a key, or -N: one microsecond for N keys."""
    return (delay_us if delay_us > 0 else -1 / delay_us) / 1e6
