"""The append-only log over its life: off, waiting for its first base, on; and its rewrites.

    OFF --turn_on--> WAIT_REWRITE --child ok--> ON --turn_off--> OFF
                      ^    |                     ^
                      +----+ child failed        +-- start-up (startup.open_log)

In WAIT_REWRITE commands are collected only while a rewrite child runs, in a temporary increment
that no manifest names: without the base that the child is writing they would mean nothing.

A rewrite, in the order that lets the log be read after a crash at any point:

    begin    write and sync what waits; create the next increment; persist the manifest that names
             it; fork. From here on commands go to the new increment, and the old files stand still.
    ok       move the child's file to the next base; persist the manifest that has it, with the
             older files as history; only then remove those.
    failed   nothing to undo: the log is its old base with one increment more.

    crash before the first persist   -> the old manifest; the new increment is an unknown file
    ... between the two              -> old base, older increments, new increment
    ... after the second             -> new base, new increment; history waits for removal

Where Redis differs: it syncs the old increment in the background while the new one is already
written to, so a power cut can leave a torn file that is not the last one, at which it refuses to
start. Here it is synced before, with `always` and `everysec` (the fork that follows is the longer
pause). And a rewrite does not begin while something in the buffer cannot be written: it would be
both in the new base and, later, in the new increment.

Source: Redis 7.0 aof.c rewriteAppendOnlyFileBackground, openNewIncrAofForAppend,
backgroundRewriteDoneHandler, startAppendOnly, stopAppendOnly; server.c serverCron.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from kvrepl.errors import StorageError
from kvrepl.persistence.disk import (
    Action,
    CloseFile,
    Disk,
    File,
    ForkRewrite,
    Halt,
    KillRewrite,
    Log,
    StartFsync,
    UnlinkFiles,
    discard,
)
from kvrepl.persistence.manifest import Layout, Manifest, UnsyncedManifest, persist
from kvrepl.persistence.rewrite import RewriteSchedule
from kvrepl.persistence.writer import RETRY_MS, AofWriter, FsyncPolicy

DELIBERATE_KILL: Final = 10
"""SIGUSR1 on Linux: the signal with which a child is ended on purpose, which is no failure."""


def child_temp(pid: int) -> str:
    """Path of the base while the rewrite child `pid` writes it."""
    return f"temp-rewriteaof-{pid}.aof"


def child_result(pid: int) -> str:
    """Path to which the rewrite child `pid` moves the finished base."""
    return f"temp-rewriteaof-bg-{pid}.aof"


class AofState(Enum):
    """Whether commands are logged."""

    OFF = "off"
    WAIT_REWRITE = "waiting for the first rewrite"
    ON = "on"


class AppendOnlyLog:
    """The log of one server: its files, its writer, its rewrites.

    Args:
        disk: where the files are.
        layout: their names.
        writer: what writes the current increment.
        schedule: when the log rewrites itself.
        manifest: the files as found at start.

    Attributes:
        state: whether commands are logged; `feeding` says whether to call writer.feed.
        rdb_base: `aof-use-rdb-preamble`; may be changed at any time.
        auto_gc: not `aof-disable-auto-gc`; may be changed at any time.
        rewriting: a rewrite child runs.
        rewrite_scheduled: one is to be started as soon as no child runs.
        rewrites: how many were begun (INFO aof_rewrites).
        failures: how many failed in a row (INFO aof_rewrites_consecutive_failures).
        last_rewrite_ok: how the last one ended (INFO aof_last_bgrewrite_status).
        rewrite_started_ms: when the running one began, None if none runs.
        last_rewrite_ms: how long the last one took, None before the first.
        base_bytes: the size of the log after the last rewrite (INFO aof_base_size).
    """

    def __init__(
        self,
        disk: Disk,
        layout: Layout,
        writer: AofWriter,
        schedule: RewriteSchedule,
        manifest: Manifest | None = None,
    ) -> None:
        self.disk = disk
        self.layout = layout
        self.writer = writer
        self.schedule = schedule
        self.manifest = manifest or Manifest()
        self.rdb_base = True
        self.auto_gc = True
        self.state = AofState.OFF
        self.rewriting = False
        self.rewrite_scheduled = False
        self.rewrites = 0
        self.failures = 0
        self.last_rewrite_ok = True
        self.rewrite_started_ms: int | None = None
        self.last_rewrite_ms: int | None = None
        self.base_bytes = 0
        self._earlier_bytes = 0  # the files before the current increment
        self._result_is_rdb = True  # what the running child writes
        self._dir_error = ""  # the folder must be synced again before anything is promised
        self._dir_retry_at_ms = 0

    # ------------------------------------------------------------------ what it is like

    @property
    def feeding(self) -> bool:
        """Whether commands are to be fed to the writer."""
        return self.state is AofState.ON or (self.state is AofState.WAIT_REWRITE and self.rewriting)

    @property
    def error(self) -> str:
        """Why write commands must be refused; "" if they need not be."""
        if self.state is AofState.OFF:
            return ""
        return self.writer.error or self._dir_error

    @property
    def size_bytes(self) -> int:
        """All files of the log but history (INFO aof_current_size)."""
        return self._earlier_bytes + self.writer.file_bytes

    # ------------------------------------------------------------------ on and off

    def opened(
        self, manifest: Manifest, file: File, file_bytes: int, total_bytes: int, now_ms: int
    ) -> None:
        """Go on with the log that start-up has loaded (startup.open_log).

        Args:
            manifest: as it is on the disk now.
            file: the last increment, open for appending.
            file_bytes: its size.
            total_bytes: the size of base and increments together.
            now_ms: the time.
        """
        assert self.state is AofState.OFF and self.writer.file is None
        self.manifest = manifest
        self._earlier_bytes = total_bytes - file_bytes
        base = manifest.base
        self.base_bytes = (self.disk.size(self.layout.path(base.name)) or 0) if base else 0
        # What an earlier process wrote need not have reached the disk.
        self.writer.open(file, file_bytes, now_ms, durable=False)
        self.state = AofState.ON

    def turn_on(self, now_ms: int, *, other_child: bool, in_exec: bool) -> list[Action]:
        """Begin to log at run time; it is ON when the rewrite that this starts has succeeded.

        Args:
            now_ms: the time.
            other_child: whether a child that is no rewrite runs.
            in_exec: whether a transaction is being executed, during which nothing may fork.

        Returns:
            What to do. If the state is still OFF afterwards, the disk refused.
        """
        assert self.state is AofState.OFF
        self.state = AofState.WAIT_REWRITE
        actions = self.writer.clear_errors()
        self._dir_error = ""
        if other_child or in_exec:
            self.rewrite_scheduled = True
            during = (
                "there is already another background operation" if other_child else "a transaction"
            )
            joint = "but" if other_child else "during"
            actions.append(
                Log(
                    "warning",
                    f"AOF was enabled {joint} {during}. An AOF background was scheduled to start"
                    " when possible.",
                )
            )
            return actions
        if self.rewriting:
            # Begun while the log was off, so nothing was collected that happened since.
            text = (
                "AOF was enabled but there is already an AOF rewriting in background. Stopping"
                " background AOF and starting a rewrite now."
            )
            actions += [Log("warning", text), KillRewrite()]
            self._child_gone(now_ms)
        actions += self.begin_rewrite(now_ms)
        if not isinstance(actions[-1], ForkRewrite):
            self.state = AofState.OFF
            text = (
                "Redis needs to enable the AOF but can't trigger a background AOF rewrite"
                " operation. Check the above logs for more info about the error."
            )
            actions.append(Log("warning", text))
        return actions

    def turn_off(self, now_ms: int) -> list[Action]:
        """Stop logging; what was logged stays on the disk, durable. Source: stopAppendOnly."""
        assert self.state is not AofState.OFF
        actions = list(self.writer.flush(now_ms, force=True))
        try:
            self.writer.sync_now(now_ms)
        except StorageError as error:
            actions.append(Log("warning", f"Fail to fsync the AOF file: {error.cause.strerror}"))
        if self.state is AofState.WAIT_REWRITE:
            actions += self._drop_temp_incr()
        elif (file := self.writer.close()) is not None:
            actions.append(CloseFile(file, sync=False))
        self.state = AofState.OFF
        self.rewrite_scheduled = False
        self._dir_error = ""
        if self.rewriting:
            actions.append(KillRewrite())
            self._child_gone(now_ms)
        return actions

    # ------------------------------------------------------------------ each turn, each cron

    def flush(
        self, now_ms: int, *, force: bool = False, child_active: bool = False
    ) -> Sequence[Action]:
        """Write what waits and see to its durability; see AofWriter.flush."""
        if self._dir_error:
            return self._flush_after_dir_error(now_ms, force, child_active)
        return self.writer.flush(now_ms, force=force, child_active=child_active)

    def fsync_done(self, fsync: StartFsync, error: StorageError | None) -> list[Action]:
        """Take the report of a StartFsync; see AofWriter.fsync_done."""
        actions = self.writer.fsync_done(fsync, error)
        if self.writer.doubtful and self.state is AofState.ON:
            self.rewrite_scheduled = True
        return actions

    def cron(self, now_ms: int, *, child_active: bool) -> list[Action]:
        """Begin a rewrite if one is scheduled or the log has grown enough.

        Args:
            now_ms: the time.
            child_active: whether any child runs.
        """
        if child_active:
            return []
        start: list[Action] = []
        if not self.rewrite_scheduled:
            if self.state is not AofState.ON:
                return []
            growth = self.schedule.growth_percent(self.size_bytes, self.base_bytes)
            if growth is None:
                return []
            start.append(Log("notice", f"Starting automatic rewriting of AOF on {growth}% growth"))
        may_start, why_not = self.schedule.may_start(now_ms // 1000, self.failures)
        if not may_start:
            return list(why_not)
        return start + self.begin_rewrite(now_ms)

    # ------------------------------------------------------------------ rewriting

    def schedule_rewrite(self) -> None:
        """BGREWRITEAOF while another child runs: as soon as it has ended, back-off or not."""
        self.rewrite_scheduled = True
        self.failures = 0

    def begin_rewrite(self, now_ms: int) -> list[Action]:
        """Prepare a rewrite.

        Args:
            now_ms: the time.

        Returns:
            Actions, the last of which is ForkRewrite if the rewrite may go ahead; otherwise the
            reason is in the log and the rewrite has failed.
        """
        assert not self.rewriting
        actions: list[Action] = []
        try:
            if self.state is not AofState.ON:
                self.disk.mkdir(self.layout.dirname)
                self.disk.fsync_dir("")
            ready = self.state is AofState.OFF or self._next_incr(now_ms, actions)
        except StorageError as error:
            actions.append(Log("warning", f"Can't begin the AOF rewrite: {error}"))
            ready = False
        if not ready:
            self._rewrite_failed()
            return actions
        self.rewrites += 1
        self._result_is_rdb = self.rdb_base
        actions.append(ForkRewrite(self.rdb_base))
        return actions

    def child_started(self, pid: int, now_ms: int) -> list[Action]:
        """The child of a ForkRewrite runs."""
        self.rewriting = True
        self.rewrite_scheduled = False
        self.rewrite_started_ms = now_ms
        # Its base holds everything up to here, whatever became of earlier pages.
        self.writer.doubtful = False
        text = f"Background append only file rewriting started by pid {pid}"
        return [Log("notice", text)]

    def fork_failed(self, reason: str) -> list[Action]:
        """The fork of a ForkRewrite failed; the log goes on with one increment more."""
        text = f"Can't rewrite append only file in background: fork: {reason}"
        self._rewrite_failed()
        return [Log("warning", text), *self._wait_again()]

    def child_exited(self, pid: int, exit_code: int, signal: int, now_ms: int) -> list[Action]:
        """The rewrite child has ended.

        Args:
            pid: the child.
            exit_code: its status, if no signal ended it.
            signal: the signal that did, 0 for none.
            now_ms: the time.
        """
        actions: list[Action] = []
        if signal:
            actions.append(Log("warning", f"Background AOF rewrite terminated by signal {signal}"))
            if signal != DELIBERATE_KILL:
                self._rewrite_failed()
        elif exit_code:
            actions.append(Log("warning", "Background AOF rewrite terminated with error"))
            self._rewrite_failed()
        else:
            actions.append(Log("notice", "Background AOF rewrite terminated with success"))
            try:
                self._adopt(child_result(pid), now_ms, actions)
            except StorageError as error:
                actions.append(Log("warning", f"Can't adopt the rewritten AOF: {error}"))
                self._rewrite_failed()
        self._child_gone(now_ms)
        actions.append(UnlinkFiles((child_result(pid), child_temp(pid))))
        actions += self._wait_again()
        return actions

    def history_unlinked(self, unlinked: UnlinkFiles) -> list[Action]:
        """The history files are gone; take them out of the manifest.

        If that fails they are named there for longer, which does no harm.
        """
        gone = {path.rpartition("/")[2] for path in unlinked.paths}
        manifest = self.manifest.without_history(gone)
        if manifest == self.manifest:
            return []
        try:
            persist(self.disk, self.layout, manifest)
        except UnsyncedManifest:
            pass
        except StorageError as error:
            return [Log("warning", f"Can't update the AOF manifest: {error}")]
        self.manifest = manifest
        return []

    # ------------------------------------------------------------------ steps

    def _next_incr(self, now_ms: int, actions: list[Action]) -> bool:
        """Open the increment for what comes after the fork; returns whether it could be done.

        Raises:
            StorageError: it could not, and everything is as it was.
        """
        writer = self.writer
        if self.state is AofState.WAIT_REWRITE:
            assert writer.file is None
            writer.open(self.disk.create(self.layout.temp_incr), 0, now_ms)
            self._log_new_incr(self.layout.temp_incr, actions)
            return True
        actions += writer.flush(now_ms, force=True)
        if self.error:
            text = f"Can't begin the AOF rewrite while the AOF has an error: {self.error}"
            actions.append(Log("warning", text))
        if self.error or any(isinstance(action, Halt) for action in actions):
            return False
        if writer.policy is not FsyncPolicy.NO:
            writer.sync_now(now_ms)
        manifest, incr = self.manifest.next_incr(self.layout)
        path = self.layout.path(incr.name)
        file = self.disk.create(path)
        try:
            self._persist(manifest, now_ms, actions)
        except StorageError:
            file.close()
            discard(self.disk, path)
            raise
        self.manifest = manifest
        self._earlier_bytes += writer.file_bytes
        if writer.file is not None:
            actions.append(CloseFile(writer.file, sync=writer.policy is FsyncPolicy.NO))
        writer.open(file, 0, now_ms)
        self._log_new_incr(path, actions)
        return True

    def _adopt(self, result_path: str, now_ms: int, actions: list[Action]) -> None:
        """Make a child's file the base, and what it covers history.

        Raises:
            StorageError: it could not be done, and everything is as it was.
        """
        layout = self.layout
        waiting = self.state is AofState.WAIT_REWRITE
        manifest, base = self.manifest.rewrite_done(
            layout, rdb=self._result_is_rdb, keep_last_incr=self.state is AofState.ON
        )
        moves = [(result_path, layout.path(base.name), "base")]
        if waiting:
            manifest, incr = manifest.next_incr(layout)
            moves.append((layout.temp_incr, layout.path(incr.name), "incr"))
        moved: list[str] = []
        try:
            for source, target, kind in moves:
                self.disk.rename(source, target)
                moved.append(target)
                text = (
                    f"Successfully renamed the temporary AOF {kind} file"
                    f" {_name(source)} into {_name(target)}"
                )
                actions.append(Log("notice", text))
            self._persist(manifest, now_ms, actions)
        except StorageError:
            for path in moved:
                discard(self.disk, path)
            raise
        self.manifest = manifest
        self.writer.forget_selected()
        self._earlier_bytes = self.disk.size(layout.path(base.name)) or 0
        self.base_bytes = self.size_bytes
        self.last_rewrite_ok = True
        self.failures = 0
        if waiting:
            self.state = AofState.ON
        actions += self.remove_history()
        actions.append(Log("notice", "Background AOF rewrite finished successfully"))

    def remove_history(self) -> list[Action]:
        """Have the history files removed, unless that is switched off.

        Not before the manifest that calls them history is durable: after a power cut the one
        before might be back, and need them.
        """
        if not self.auto_gc or not self.manifest.history or self._dir_error:
            return []
        names = [file.name for file in self.manifest.history]
        lines = [
            Log("notice", f"Removing the history file {name} in the background") for name in names
        ]
        paths = tuple(self.layout.path(name) for name in names)
        return [*lines, UnlinkFiles(paths, report=True)]

    def _persist(self, manifest: Manifest, now_ms: int, actions: list[Action]) -> None:
        """Persist; a manifest that is in place but not durable closes the gate until it is."""
        try:
            persist(self.disk, self.layout, manifest)
        except UnsyncedManifest as error:
            reason = error.cause.strerror or str(error.cause)
            actions.append(Log("warning", f"Fail to fsync AOF directory: {reason}"))
            self._dir_error = reason
            self._dir_retry_at_ms = now_ms + RETRY_MS

    def _flush_after_dir_error(
        self, now_ms: int, force: bool, child_active: bool
    ) -> Sequence[Action]:
        """Sync the folder first: until its names are durable, nothing written in it is."""
        always = self.writer.policy is FsyncPolicy.ALWAYS
        if now_ms < self._dir_retry_at_ms and not force and not always:
            return ()
        try:
            self.disk.fsync_dir(self.layout.dirname)
        except StorageError as error:
            self._dir_retry_at_ms = now_ms + RETRY_MS
            if always:
                return (Halt(f"Fail to fsync AOF directory: {error.cause.strerror}. Exiting..."),)
            return ()
        self._dir_error = ""
        line = Log("warning", "AOF directory fsync error looks solved, Redis can write again.")
        flushed = self.writer.flush(now_ms, force=force, child_active=child_active)
        return (line, *self.remove_history(), *flushed)

    def _rewrite_failed(self) -> None:
        self.last_rewrite_ok = False
        self.failures += 1

    def _child_gone(self, now_ms: int) -> None:
        self.rewriting = False
        if self.rewrite_started_ms is not None:
            self.last_rewrite_ms = now_ms - self.rewrite_started_ms
        self.rewrite_started_ms = None

    def _wait_again(self) -> list[Action]:
        """After a rewrite that did not bring the log up: drop what was collected, and try again."""
        if self.state is not AofState.WAIT_REWRITE:
            return []
        self.rewrite_scheduled = True
        return self._drop_temp_incr()

    def _drop_temp_incr(self) -> list[Action]:
        file = self.writer.close()
        if file is None:
            return []
        # The name goes at once, as the next attempt uses it again; the blocks are freed when the
        # file is closed.
        discard(self.disk, self.layout.temp_incr)
        name = _name(self.layout.temp_incr)
        text = f"Removing the temp incr aof file {name} in the background"
        return [Log("notice", text), CloseFile(file, sync=False)]

    def _log_new_incr(self, path: str, actions: list[Action]) -> None:
        text = f"Creating AOF incr file {_name(path)} on background rewrite"
        actions.append(Log("notice", text))


def _name(path: str) -> str:
    return path.rpartition("/")[2]
