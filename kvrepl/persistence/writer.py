"""Writing the append-only file: what is buffered, when it is written, when it is durable.

`feed` is called once for each propagated command and only appends to a list. `flush` is called
at the end of each turn of the loop, before replies go out, and once a second from the cron; it
writes the list with one write and decides about durability:

    policy      after the write                      when the disk refuses
    always      fdatasync on the spot                Halt: replies that promise durability are
                                                     already composed and cannot be taken back
    everysec    at most once a second StartFsync,    gate and retry
                carried out on a background thread
    no          nothing; the kernel decides          gate and retry

With `everysec` a write would block behind an fsync in flight (the kernel serialises them), so it
is postponed for up to two seconds; then it is made all the same, and counted in delayed_fsync.

After a failed write nothing is lost: what did not reach the file stays in the buffer, a part that
did is cut off again or, if even that fails, taken out of the buffer. `error` is then set: while
it is, write commands are refused (MISCONF), and flush tries again once a second.

A failed fsync is different. Linux reports it once and may mark the pages clean, so that a later
fsync that succeeds says nothing about them. `error` is set until an fsync succeeds; `doubtful`
stays set, for the log to schedule a rewrite, whose base does not depend on those pages.

With a replication stream each write ends in an annotation that says where that stood
(persistence/aof.py), so that a restart can go on from it. It is asked for at the moment of the
write, since what is in the buffer then is what it speaks of; and it is reason enough to write, as
the stream also moves where nothing is logged (pings).

Invariants: synced_bytes <= file_bytes, the size of the file; the buffer holds exactly what comes
after it. Times are milliseconds of a clock that never goes back.

Source: Redis 7.0 aof.c flushAppendOnlyFile, feedAppendOnlyFile, aofWrite; bio.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from kvrepl.errors import CommandError, StorageError
from kvrepl.persistence.aof import position_line, select, timestamp
from kvrepl.persistence.disk import Action, File, Halt, Log, StartFsync
from kvrepl.replication.actions import SaveInfo

FSYNC_PERIOD_MS: Final = 1_000
"""Shortest time between two background fsyncs."""

POSTPONE_MS: Final = 2_000
"""Longest time a write waits for a background fsync."""

RETRY_MS: Final = 1_000
"""Time between attempts while the disk refuses writes."""

LOG_PERIOD_MS: Final = 30_000
"""Time between two log lines about the same failure (AOF_WRITE_LOG_ERROR_RATE)."""

NO_DB: Final = -1
"""The "database" of MULTI and EXEC: they need no SELECT in front."""

_STALE: Final = -2
"""Stands for `selected` where the next command has something to write in front of it."""

_NOTHING: Final[Sequence[Action]] = ()


class FsyncPolicy(Enum):
    """The setting `appendfsync`."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NO = "no"


class AofWriter:
    """The open increment of the log, and the commands that are not in it yet.

    Args:
        policy: `appendfsync`; may be changed at any time.
        no_fsync_on_rewrite: `no-appendfsync-on-rewrite`; may be changed at any time.
        timestamps: `aof-timestamp-enabled`; may be changed at any time.

    Attributes:
        position: gives the place in the replication stream that everything fed so far leads to;
            None where there is none, or it has not changed its meaning since the last time.
        file: the open file; None while the log is off.
        file_bytes: its size up to the last byte written in full.
        synced_bytes: how much of that is known to be durable.
        delayed_fsync: writes made in spite of an fsync in flight (INFO aof_delayed_fsync).
        doubtful: an fsync failed, so the file may have a hole on the disk.
        write_error: why the last write failed, "" if it did not.
        fsync_error: why the last fsync failed, "" if it did not.
    """

    __slots__ = (
        "_expected_db",
        "_fsync",
        "_fsync_at_ms",
        "_logged_at_ms",
        "_pieces",
        "_postponed_at_ms",
        "_recorded",
        "_retry_at_ms",
        "_selected_db",
        "_stamp_due",
        "_stamped_s",
        "delayed_fsync",
        "doubtful",
        "file",
        "file_bytes",
        "fsync_error",
        "no_fsync_on_rewrite",
        "policy",
        "position",
        "synced_bytes",
        "timestamps",
        "write_error",
    )

    def __init__(
        self,
        policy: FsyncPolicy = FsyncPolicy.EVERYSEC,
        *,
        no_fsync_on_rewrite: bool = False,
        timestamps: bool = False,
    ) -> None:
        self.policy = policy
        self.no_fsync_on_rewrite = no_fsync_on_rewrite
        self.timestamps = timestamps
        self.position: Callable[[], SaveInfo | None] = _nowhere
        self.file: File | None = None
        self.file_bytes = 0
        self.synced_bytes = 0
        self.delayed_fsync = 0
        self.doubtful = False
        self.write_error = ""
        self.fsync_error = ""
        self._pieces: list[bytes] = []
        self._recorded: SaveInfo | None = None  # the position that stands last in the file
        self._selected_db = NO_DB
        # What `db` must be for feed to have nothing to do but append; one comparison covers
        # both reasons for more (another database, a new second).
        self._expected_db = _STALE
        self._stamp_due = False
        self._stamped_s = 0
        self._fsync: StartFsync | None = None  # in flight
        self._fsync_at_ms = 0
        self._postponed_at_ms: int | None = None
        self._retry_at_ms = 0
        self._logged_at_ms = -LOG_PERIOD_MS

    # ------------------------------------------------------------------ commands

    def feed(self, db: int, encoded: bytes) -> None:
        """Append a command.

        Args:
            db: the database it is for; NO_DB if it is for none.
            encoded: the command in RESP.

        hot: once a write command; 0.1 us where the database stays the same.
        Source: aof.c feedAppendOnlyFile.
        """
        if db != self._expected_db:
            self._prefix(db)
        self._pieces.append(encoded)

    def set_time(self, now_s: int) -> None:
        """Say which second it is; the first command of each new one is preceded by it.

        Called once a turn, and only needed while `timestamps` is on.
        """
        if self.timestamps and now_s > self._stamped_s:
            self._stamped_s = now_s
            self._stamp_due = True
            self._expected_db = _STALE

    def forget_selected(self) -> None:
        """Have the next command preceded by a SELECT, whatever its database."""
        self._selected_db = NO_DB
        self._expected_db = _STALE

    def _prefix(self, db: int) -> None:
        """Write what has to stand before a command for `db`."""
        if self._stamp_due:
            self._stamp_due = False
            self._pieces.append(timestamp(self._stamped_s))
        if db not in (NO_DB, self._selected_db):
            self._pieces.append(select(db))
            self._selected_db = db
        self._expected_db = self._selected_db if self._selected_db != NO_DB else _STALE

    @property
    def buffer_bytes(self) -> int:
        """Bytes waiting to be written. Cost: O(commands waiting)."""
        return sum(map(len, self._pieces))

    @property
    def fsync_in_flight(self) -> bool:
        """Whether a StartFsync has not been reported yet (INFO aof_pending_bio_fsync)."""
        return self._fsync is not None

    @property
    def error(self) -> str:
        """Why write commands must be refused; "" if they need not be."""
        return self.write_error or self.fsync_error

    # ------------------------------------------------------------------ the file

    def open(self, file: File, size_bytes: int, now_ms: int, *, durable: bool = True) -> None:
        """Go on in a file; whatever came before is somebody else's to sync and close.

        Args:
            file: open for appending.
            size_bytes: its size.
            now_ms: the time; the first background fsync is due a period later.
            durable: whether what is in it already is on the disk for certain.
        """
        self.file = file
        self.file_bytes = size_bytes
        self.synced_bytes = size_bytes if durable else 0
        self._fsync = None
        self._fsync_at_ms = now_ms
        self._postponed_at_ms = None
        # So that each file can be dated by itself: Redis leaves the commands that a rewrite's new
        # increment gets in the same second without a timestamp in that file.
        self._stamp_due = self.timestamps and self._stamped_s > 0
        self._recorded = None
        self.forget_selected()

    def close(self) -> File | None:
        """Let go of the file and of everything in the buffer; returns the file, still open."""
        file, self.file = self.file, None
        self.file_bytes = self.synced_bytes = 0
        self._fsync = None
        self._postponed_at_ms = None
        self.drop_buffer()
        self.clear_errors()
        return file

    def drop_buffer(self) -> None:
        """Forget the commands that wait (their effect is in a snapshot, or no longer wanted)."""
        self._pieces = []
        self._recorded = None
        self.forget_selected()

    def clear_errors(self) -> list[Action]:
        """Forget earlier failures, when the log starts anew. Source: aof.c startAppendOnly."""
        actions: list[Action] = []
        if self.fsync_error:
            actions.append(Log("warning", "AOF reopen, just ignore the AOF fsync error in bio job"))
        if self.write_error:
            actions.append(Log("warning", "AOF reopen, just ignore the last error."))
        self.write_error = self.fsync_error = ""
        return actions

    # ------------------------------------------------------------------ flushing

    def flush(
        self, now_ms: int, *, force: bool = False, child_active: bool = False
    ) -> Sequence[Action]:
        """Write what waits, and see to its durability.

        Args:
            now_ms: the time.
            force: write even while an fsync is in flight, and even within a second of a failure
                (before a rewrite, at shutdown).
            child_active: whether a child is saving or rewriting.

        Returns:
            What the shell has to do; a Halt is the last.

        Cost: O(bytes waiting); O(1) and nothing written if nothing waits.
        """
        file = self.file
        if file is None:
            return _NOTHING
        if not self._pieces and not self._has_moved():
            if self.synced_bytes == self.file_bytes or self.policy is FsyncPolicy.NO:
                return _NOTHING
            # Writes ceased before the last fsync was due: it still is.
            return self._sync(file, now_ms, child_active, [])
        actions: list[Action] = []
        if not force and self._must_wait(now_ms, actions):
            return actions
        self._postponed_at_ms = None
        if not self._write(file, now_ms, actions):
            return actions
        if self.policy is FsyncPolicy.NO:
            return actions
        return self._sync(file, now_ms, child_active, actions)

    def sync_now(self, now_ms: int) -> None:
        """Make everything written durable on the spot, whatever the policy.

        Raises:
            StorageError: it is not.
        """
        if self.file is not None and self.synced_bytes < self.file_bytes:
            self.file.fdatasync()
            self.synced_bytes = self.file_bytes
            self._fsync_at_ms = now_ms

    def fsync_done(self, fsync: StartFsync, error: StorageError | None) -> list[Action]:
        """Take the report of a StartFsync.

        Args:
            fsync: the action that was carried out.
            error: why it failed, None if it did not.
        """
        current = fsync is self._fsync
        if current:
            self._fsync = None
        if error is not None:
            # Doubtful even if the file has been left behind: it is still part of the log.
            self.doubtful = True
            reason = error.cause.strerror or str(error.cause)
            first = not self.fsync_error
            if current:
                self.fsync_error = reason
            return [Log("warning", f"Fail to fsync the AOF file: {reason}")] if first else []
        if not current:
            return []
        self.synced_bytes = max(self.synced_bytes, fsync.up_to_bytes)
        if not self.fsync_error:
            return []
        self.fsync_error = ""
        return [Log("warning", "AOF fsync error looks solved, Redis can write again.")]

    def _has_moved(self) -> bool:
        """Whether the stream is elsewhere than the file says."""
        position = self.position()
        return position is not None and position != self._recorded

    def _must_wait(self, now_ms: int, actions: list[Action]) -> bool:
        """Whether to leave the buffer for a later flush."""
        if self.write_error and now_ms < self._retry_at_ms:
            return True
        if self.policy is not FsyncPolicy.EVERYSEC or self._fsync is None:
            return False
        if self._postponed_at_ms is None:
            self._postponed_at_ms = now_ms
        if now_ms - self._postponed_at_ms < POSTPONE_MS:
            return True
        self.delayed_fsync += 1
        actions.append(
            Log(
                "notice",
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer"
                " without waiting for fsync to complete, this may slow down Redis.",
            )
        )
        return False

    def _write(self, file: File, now_ms: int, actions: list[Action]) -> bool:
        """Write the buffer; returns whether all of it is in the file."""
        pieces = self._pieces
        position = self.position()
        if position is not None:
            pieces.append(position_line(position, self._recorded))
            self._recorded = position
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            written = file.write(data)
        except StorageError as error:
            reason = error.cause.strerror or str(error.cause)
            self._log_failure(now_ms, actions, f"Error writing to the AOF file: {reason}")
            self._pieces = [data]
        else:
            if written == len(data):
                self.file_bytes += written
                self._pieces = []
                if self.write_error:
                    self.write_error = ""
                    text = "AOF write error looks solved, Redis can write again."
                    actions.append(Log("warning", text))
                return True
            reason = "No space left on device"
            self._repair(file, data, written, now_ms, actions)
        if self.policy is FsyncPolicy.ALWAYS:
            actions.append(
                Halt(
                    "Can't recover from AOF write error when the AOF fsync policy is 'always'."
                    " Exiting..."
                )
            )
        self.write_error = reason
        self._retry_at_ms = now_ms + RETRY_MS
        return False

    def _repair(
        self, file: File, data: bytes, written: int, now_ms: int, actions: list[Action]
    ) -> None:
        """Cut off the part of the buffer that reached the file, or keep exactly that part."""
        log = self._log_failure(
            now_ms,
            actions,
            f"Short write while writing to the AOF file: (nwritten={written},"
            f" expected={len(data)})",
        )
        try:
            file.truncate(self.file_bytes)
        except StorageError as error:
            if log:
                actions.append(
                    Log(
                        "warning",
                        "Could not remove short write from the append-only file.  Redis may refuse"
                        " to load the AOF the next time it starts.  ftruncate:"
                        f" {error.cause.strerror}",
                    )
                )
            self.file_bytes += written
            data = data[written:]
        self._pieces = [data]

    def _sync(
        self, file: File, now_ms: int, child_active: bool, actions: list[Action]
    ) -> Sequence[Action]:
        """Make the file durable, now or in the background, if it is time to."""
        if self.no_fsync_on_rewrite and child_active:
            return actions
        if self.policy is FsyncPolicy.ALWAYS:
            try:
                self.sync_now(now_ms)
            except StorageError as error:
                actions.append(
                    Halt(
                        "Can't persist AOF for fsync error when the AOF fsync policy is 'always':"
                        f" {error.cause.strerror}. Exiting..."
                    )
                )
        elif self._fsync is None and now_ms - self._fsync_at_ms >= FSYNC_PERIOD_MS:
            self._fsync = StartFsync(file, self.file_bytes)
            self._fsync_at_ms = now_ms
            actions.append(self._fsync)
        return actions

    def _log_failure(self, now_ms: int, actions: list[Action], text: str) -> bool:
        """Log a failure unless one was logged a short while ago; returns whether it did."""
        if now_ms - self._logged_at_ms < LOG_PERIOD_MS:
            return False
        self._logged_at_ms = now_ms
        actions.append(Log("warning", text))
        return True


def _nowhere() -> None:
    """There is no stream."""


def misconf(error: str) -> CommandError:
    """The refusal of a write command while the log cannot be written.

    Args:
        error: AofWriter.error.
    """
    return CommandError(b"MISCONF Errors writing to the AOF file: " + error.encode())
