"""The append-only file of a running server: carries out what kvrepl.persistence decides.

    propagation -> AofWriter.feed -> (end of turn) flush -> file -> fsync by policy
    load_at_start      plan, upgrade, load each file, open the last increment
    rewrite            fork a child that writes a new base

The decisions (when to write, when to fsync, what a failure means, how files replace each other)
are all in `kvrepl.persistence`; here are the file descriptors, the one background thread for
fsync, close and unlink, and the child.

Source: Redis 7.0 aof.c, bio.c.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import psutil

from kvrepl.errors import AofError, CommandError, StorageError
from kvrepl.keyspace.encoding import type_name
from kvrepl.persistence import startup
from kvrepl.persistence.aof import AofReplay, unknown_command
from kvrepl.persistence.disk import (
    Action,
    CloseFile,
    ForkRewrite,
    Halt,
    KillRewrite,
    Log,
    StartFsync,
    UnlinkFiles,
    discard,
    write_durably,
)
from kvrepl.persistence.lifecycle import AofState, AppendOnlyLog, child_result, child_temp
from kvrepl.persistence.manifest import Layout, ManifestError
from kvrepl.persistence.rewrite import Entry, RewriteSchedule, aof_base
from kvrepl.persistence.snapshot import SnapshotLoader
from kvrepl.persistence.writer import AofWriter, FsyncPolicy, misconf
from kvrepl.replication.actions import SaveInfo
from kvrepl.resp.values import Reply, Status
from kvrepl.server import children, damage
from kvrepl.server.helper import partner
from kvrepl.server.saver import (
    LOAD_CHUNK_BYTES,
    SLOW_CHUNK_BYTES,
    LoadError,
    LoadProgress,
    key_load_delay_s,
    slowed,
)
from rdb import RdbError

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database
    from kvrepl.server.app import Server
    from kvrepl.server.children import Child, Ending, Reporter

EXIT_FAILURE: Final = 1
RDB_MAGIC: Final = b"REDIS"
A = TypeVar("A")


class Aof:
    """The append-only file of one server.

    Attributes:
        log: the life of its files (kvrepl.persistence.lifecycle).
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        config = server.config
        self.log = AppendOnlyLog(
            server.disk,
            Layout(config.appendfilename, config.appenddirname),
            AofWriter(),
            RewriteSchedule(),
        )
        self._thread: ThreadPoolExecutor | None = None
        self._loaded_position: SaveInfo | None = None
        self._error_shown = ""
        self.log.writer.position = lambda: server.replication.position()
        self.apply_settings()

    def apply_settings(self) -> None:
        """Take the settings that may change at run time."""
        config, log = self._server.config, self.log
        log.writer.policy = FsyncPolicy(config.appendfsync)
        log.writer.no_fsync_on_rewrite = config.no_appendfsync_on_rewrite
        log.writer.timestamps = config.aof_timestamp_enabled
        log.rdb_base = config.aof_use_rdb_preamble
        log.auto_gc = not config.aof_disable_auto_gc
        log.schedule.percentage = config.auto_aof_rewrite_percentage
        log.schedule.min_size_bytes = config.auto_aof_rewrite_min_size

    @property
    def is_on(self) -> bool:
        """Whether the log is on, or waits for its first base."""
        return self.log.state is not AofState.OFF

    def stream(self) -> AofWriter | None:
        """Where propagated commands go now, None for nowhere."""
        return self.log.writer if self.log.feeding else None

    # -------------------------------------------------------------- each turn

    def before_replies(self) -> None:
        """Write what gathered; the step of the turn before anything is answered."""
        log = self.log
        if log.state is AofState.OFF:
            return
        server = self._server
        actions = log.flush(self._now_ms(), child_active=server.children.active is not None)
        if actions:
            self.carry_out(actions)
        else:
            self._show_error()  # a failure that was logged a short while ago is not logged again

    def _show_error(self) -> None:
        """Refuse writes from the moment a failure is known until it is overcome."""
        if self.log.error != self._error_shown:
            self._error_shown = self.log.error
            self._server.update_disk_gate()

    def error_reply(self) -> bytes | None:
        """What write commands are told while the log cannot be written, None while it can."""
        error = self.log.error
        return misconf(error).text if error else None

    def set_time(self, now_ms: int) -> None:
        """Commands are about to run: with aof-timestamp-enabled the log says in which second."""
        if self.log.writer.timestamps:
            self.log.writer.set_time(now_ms // 1000)

    def cron(self) -> None:
        """Once in a while: start a rewrite that is due."""
        active = self._server.children.active is not None
        actions = self.log.cron(self._now_ms(), child_active=active)
        if actions:
            self.carry_out(actions)

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Do what the persistence room asks for, in order.

        A mistake of ours in between ends the server: the log would not be what its state says.
        """
        try:
            for action in actions:
                self._do(action)
        except Exception as error:
            self._server.faults.panic(error)
        self._show_error()
        self._server.connect_streams()

    def _do(self, action: Action) -> None:
        server = self._server
        match action:
            case Log(level, text):
                getattr(server.log, level)(text)
            case StartFsync():
                self._in_background(self._fsync, action)
            case CloseFile():
                self._in_background(_close, action)
            case UnlinkFiles():
                self._in_background(self._unlink, action)
            case ForkRewrite(as_rdb):
                self._fork(as_rdb)
            case KillRewrite():
                active = server.children.active
                if active is not None and active.kind == children.AOF:
                    server.log.notice(f"Killing running AOF rewrite child: {active.pid}")
                    active.on_exit = self._dropped
                    server.children.kill(reap=not server.engine.depth)
            case Halt(text):
                server.log.warning(text)
                os._exit(EXIT_FAILURE)

    # ------------------------------------------------------------- background

    def _in_background(self, work: Callable[[A], None], action: A) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="aof")
        self._thread.submit(work, action)

    def _fsync(self, action: StartFsync) -> None:
        error = None
        try:
            action.file.fdatasync()
        except StorageError as failure:
            error = failure
        self._on_loop(lambda: self._fsync_done(action, error))

    def _fsync_done(self, action: StartFsync, error: StorageError | None) -> None:
        self.carry_out(self.log.fsync_done(action, error))

    def _unlink(self, action: UnlinkFiles) -> None:
        gone = True
        for path in action.paths:
            try:
                self._server.disk.unlink(path)
            except StorageError as error:
                gone = False
                self._server.log.warning(f"Can't remove {path}: {error}")
        if action.report and gone:
            self._on_loop(lambda: self.carry_out(self.log.history_unlinked(action)))

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._server.loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    def stop_background(self) -> None:
        """Wait until the background thread has done what it was given."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def fsync_for_exit(self) -> None:
        """Write and fsync everything (shutdown).

        Raises:
            StorageError: it could not be made durable.
        """
        if self.log.state is AofState.OFF:
            return
        self.carry_out(self.log.flush(self._now_ms(), force=True))
        if self.log.error:
            raise StorageError("write(2) of the AOF", OSError(None, self.log.error))
        self.log.writer.sync_now(self._now_ms())

    # ---------------------------------------------------------------- rewrite

    def bgrewriteaof_command(self) -> Reply:
        """BGREWRITEAOF."""
        server = self._server
        active = server.children.active
        if active is not None and active.kind == children.AOF:
            raise CommandError(b"ERR Background append only file rewriting already in progress")
        if active is not None or server.engine.depth:
            self.log.schedule_rewrite()
            return Status(b"Background append only file rewriting scheduled")
        actions = self.log.begin_rewrite(self._now_ms())
        self.carry_out(actions)
        if server.children.active is None:
            raise CommandError(
                b"ERR Can't execute an AOF background rewriting. Please check the server logs for"
                b" more information."
            )
        return Status(b"Background append only file rewriting started")

    def _fork(self, as_rdb: bool) -> None:
        server = self._server

        def work(reporter: Reporter) -> None:
            pid = os.getpid()
            write_durably(
                server.disk,
                child_temp(pid),
                child_result(pid),
                self._base(as_rdb, reporter.progress),
                autosync=server.config.aof_rewrite_incremental_fsync,
            )
            server.log.notice(
                f"Successfully created the temporary AOF base file {child_result(pid)}"
            )
            reporter.done()

        try:
            child = server.children.fork(
                children.AOF, work, self._exited, keys_total=len(server.engine.keyspace)
            )
        except OSError as error:
            self.carry_out(self.log.fork_failed(error.strerror or str(error)))
            return
        server.replication.other_child_started()
        self.carry_out(self.log.child_started(child.pid, self._now_ms()))

    def _base(
        self, as_rdb: bool, progress: Callable[[int], object] = lambda keys: None
    ) -> Iterator[bytes]:
        """The dataset as a base: an RDB, or commands."""
        server = self._server
        if as_rdb:
            return server.saver.chunks(server.saver.info(aof_base=True), progress)
        progress = slowed(progress, server.config.rdb_key_save_delay)
        timestamps = server.config.aof_timestamp_enabled
        return aof_base(
            ((db.index, _entries(db, progress)) for db in server.engine.keyspace.nonempty()),
            functions=server.function_libraries(),
            now_s=server.clock.now_ms() // 1000 if timestamps else None,
        )

    def _exited(self, child: Child, ending: Ending) -> None:
        self.carry_out(
            self.log.child_exited(child.pid, ending.exit_code, ending.signal, self._now_ms())
        )
        self._server.replication.other_child_ended()

    def _dropped(self, child: Child, ending: Ending) -> None:
        """A rewrite that was killed on purpose: only its files are left to be removed."""
        for path in (child_temp(child.pid), child_result(child.pid)):
            discard(self._server.disk, path)
        self._server.replication.other_child_ended()

    # ----------------------------------------------------------- on and off

    def turn_on(self) -> bool:
        """CONFIG SET appendonly yes, or a role change; returns whether it is being turned on."""
        if self.is_on:
            return True
        server = self._server
        active = server.children.active
        self.carry_out(
            self.log.turn_on(
                self._now_ms(),
                other_child=active is not None and active.kind != children.AOF,
                in_exec=bool(server.engine.depth),
            )
        )
        return self.is_on

    def turn_off(self) -> None:
        """CONFIG SET appendonly no, or before a full sync replaces the dataset."""
        if self.is_on:
            self.carry_out(self.log.turn_off(self._now_ms()))

    # ------------------------------------------------------------------ start

    def remove_leftovers(self) -> None:
        """Remove temporary files of processes that were killed; a living one keeps its own."""
        server = self._server
        try:
            for path, pid in startup.leftovers(server.disk, self.log.layout):
                if pid is None or pid == os.getpid() or not _is_alive(pid):
                    server.log.notice(f"Removing the temporary file {path} of a killed process")
                    server.disk.unlink(path)
        except StorageError as error:
            server.log.warning(f"Can't remove temporary files: {error}")

    async def load_at_start(self) -> None:
        """Load the log, and open it for appending.

        Raises:
            LoadError: the server must not start; says which file, where and why.
        """
        server = self._server
        disk, layout = server.disk, self.log.layout
        try:
            plan = startup.plan_startup(disk, layout)
            if plan.upgrade:
                self.carry_out(startup.upgrade(disk, layout, plan))
            before = time.monotonic()
            with server.loading(plan.total_bytes) as progress:
                for file in plan.files:
                    for rest_s in self._load_file(file, progress):
                        await asyncio.sleep(rest_s)  # clients are answered -LOADING meanwhile
                        if server.exit_status is not None:
                            return
            if plan.files:
                server.log.notice(
                    f"DB loaded from append only file: {time.monotonic() - before:.3f} seconds"
                )
            as_rdb = server.config.aof_use_rdb_preamble
            opened = startup.open_log(
                disk,
                layout,
                plan.manifest,
                empty_base=self._base(as_rdb),
                rdb=as_rdb,
                pid=os.getpid(),
            )
            self.carry_out(opened.logs)
            manifest, logs = startup.delete_history(disk, layout, opened.manifest)
            self.carry_out(logs)
        except ManifestError as error:
            *report, reason = error.log_lines()
            for line in report:
                server.log.warning(line)
            raise LoadError(reason) from error
        except (AofError, StorageError) as error:
            raise LoadError(str(error)) from error
        server.replication.restore(self._loaded_position)
        self.log.opened(
            manifest, opened.file, opened.file_bytes, opened.total_bytes, self._now_ms()
        )
        self._server.connect_streams()

    def _load_file(self, file: startup.LoadFile, progress: LoadProgress) -> Iterator[float]:
        """Load one file; yields after each piece, so that others may run in between.

        Yields:
            How many seconds to rest, which is nothing but what key-load-delay asks for.
        """
        server = self._server
        engine = server.engine
        client = engine.internal_client()
        loader: SnapshotLoader | None = None
        replay: AofReplay | None = None
        delay_s = key_load_delay_s(server.config)
        before = 0
        chunk_bytes = SLOW_CHUNK_BYTES if delay_s else LOAD_CHUNK_BYTES
        with partner(server, file.path, file.size_bytes, chunk_bytes, None) as runs:
            for chunk in server.disk.read(file.path, chunk_bytes):
                progress.loaded_bytes += len(chunk)
                if loader is None and replay is None:
                    if chunk.startswith(RDB_MAGIC):
                        server.log.notice("Reading RDB base file on AOF loading...")
                        loader = SnapshotLoader(
                            engine.keyspace,
                            verify_checksum=server.config.rdbchecksum,
                            runs=runs,
                            log=server.log.notice,
                        )
                        progress.loaded = loader.loaded
                    else:
                        replay = AofReplay()
                data = chunk
                if loader is not None and replay is None:
                    with self._reading_base(file.name):
                        loader.feed(chunk)
                    if not loader.finished:
                        yield (loader.loaded.keys - before) * delay_s
                        before = loader.loaded.keys
                        continue
                    # Before version 7 commands could follow an RDB in the same file.
                    data = loader.unused
                    replay = AofReplay(loader.offset)
                assert replay is not None
                commands = replay.feed(data)
                self._replay(client, commands, file.name)
                yield len(commands) * delay_s
        if loader is not None:
            with self._reading_base(file.name):
                loaded = loader.close()
            server.saver.last_loaded = loaded
            server.adopt_functions(loaded.functions)
        self._loaded_position = replay.position if replay is not None else None
        if replay is not None:
            self.carry_out(
                startup.settle(
                    server.disk,
                    file,
                    replay.finish(),
                    load_truncated=server.config.aof_load_truncated,
                )
            )

    @contextmanager
    def _reading_base(self, name: str) -> Iterator[None]:
        """Make of a damaged RDB an AofError that names its file."""
        try:
            yield
        except RdbError as error:
            for line in damage.lines_about(error):
                self._server.log.warning(line)
            raise AofError(
                f"Error reading the RDB base file {name}, AOF loading aborted: {error}", path=name
            ) from error

    def reload(self) -> None:
        """DEBUG LOADAOF: write everything out, then replace the dataset by what the files say.

        Raises:
            CommandError: the files cannot be loaded; the dataset is what could be read.
        """
        server = self._server
        self.carry_out(self.log.flush(self._now_ms(), force=True))
        server.engine.flush_for_load(lazily=False)
        try:
            plan = startup.plan_startup(server.disk, self.log.layout)
            with server.loading(plan.total_bytes) as progress:
                for file in plan.files:
                    for _ in self._load_file(file, progress):
                        pass
        except (AofError, StorageError) as error:
            server.log.warning(str(error))
            raise CommandError(b"ERR Error trying to load the AOF files, check server logs.") from (
                error
            )
        finally:
            # What was replayed is no change, or DEBUG LOADAOF itself would be logged and sent.
            server.engine.keyspace.dirty = 0

    def _replay(self, client: Client, commands: list[tuple[list[bytes], int]], name: str) -> None:
        """Run commands of the log; what they answer is of no interest."""
        engine = self._server.engine
        done = 0
        while done < len(commands):
            first = done
            done, _ = engine.apply_plain(client, commands, first)
            if done == first:
                argv, end = commands[done]
                if engine.resolve(argv) is None:
                    raise unknown_command(argv[0], name, end)
                engine.apply(client, argv)
                done += 1

    def _now_ms(self) -> int:
        return self._server.clock.monotonic_ns() // 1_000_000


def _entries(db: Database, progress: Callable[[int], object]) -> Iterator[Entry]:
    for key, value, at_ms in db.items():
        yield key, type_name(value), value, at_ms
        progress(1)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is still to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _close(action: CloseFile) -> None:
    if action.sync:
        try:
            action.file.fsync()
        except StorageError:
            pass  # what it lacks after a power cut is no more than everysec allows
    action.file.close()
