"""A server reduced to its log: one list, to which numbers are pushed in order.

Its dataset is 0, 1, 2, ... in one key. A command applied twice, left out, or taken from the wrong
side of a rewrite therefore shows in what is loaded, which must always be 0..n-1 for some n, with n
no smaller than what was promised to the client.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvrepl.errors import StorageError
from kvrepl.persistence.aof import AofReplay
from kvrepl.persistence.disk import (
    CloseFile,
    ForkRewrite,
    Halt,
    KillRewrite,
    StartFsync,
    UnlinkFiles,
    write_durably,
)
from kvrepl.persistence.lifecycle import AofState, AppendOnlyLog, child_result, child_temp
from kvrepl.persistence.manifest import Layout
from kvrepl.persistence.rewrite import RewriteSchedule, aof_base
from kvrepl.persistence.startup import (
    delete_history,
    leftovers,
    open_log,
    plan_startup,
    settle,
    upgrade,
)
from kvrepl.persistence.writer import AofWriter, FsyncPolicy
from tests.simulation.disk import ForgetfulDisk

KEY = b"list"
LAYOUT = Layout()


class Exited(Exception):
    """The server ended itself, as `always` demands when the disk fails."""


def encode(*argv: bytes) -> bytes:
    """A command in RESP."""
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv)


class LogServer:
    """Carries out the actions of an AppendOnlyLog on the spot, as the shell does in time."""

    def __init__(self, disk: ForgetfulDisk, policy: FsyncPolicy) -> None:
        self.disk = disk
        self.now_ms = 1_000_000
        self.log = AppendOnlyLog(disk, LAYOUT, AofWriter(policy), RewriteSchedule())
        self.log.rdb_base = False
        self.numbers: list[int] = []
        self.promised = 0
        self.boundaries = {0}  # lengths that the list had between commands
        self.refused = 0
        self.pid = 100
        self.child: list[int] | None = None

    # ------------------------------------------------------------------ start

    def start(self) -> None:
        """Load what is there, and go on logging."""
        disk = self.disk
        for path, _ in leftovers(disk, LAYOUT):
            disk.unlink(path)
        plan = plan_startup(disk, LAYOUT)
        if plan.upgrade:
            upgrade(disk, LAYOUT, plan)
        for file in plan.files:
            replay = AofReplay()
            for chunk in disk.read(file.path, 50):
                for argv, _ in replay.feed(chunk):
                    self._apply(argv)
            settle(disk, file, replay.finish(), load_truncated=True)
        opened = open_log(disk, LAYOUT, plan.manifest, empty_base=self._base(()), rdb=False, pid=1)
        manifest, _ = delete_history(disk, LAYOUT, opened.manifest)
        self.log.opened(manifest, opened.file, opened.file_bytes, opened.total_bytes, self.now_ms)
        self._act(self.log.flush(self.now_ms))
        if self.log.writer.policy is FsyncPolicy.ALWAYS:
            self.promised = len(self.numbers)  # clients can read it, so it has to stay

    def _apply(self, argv: list[bytes]) -> None:
        if argv[0] == b"RPUSH":
            self.numbers += map(int, argv[2:])
        else:
            assert argv[0] == b"SELECT", argv

    # ------------------------------------------------------------------ commands

    def push(self, count: int = 1) -> None:
        """One write command, or a transaction of several; promised once its reply may go out."""
        if self.log.error:
            self.refused += 1
            self._act(self.log.flush(self.now_ms))
            return
        first = len(self.numbers)
        self.boundaries.add(first + count)
        for number in range(first, first + count):
            self.numbers.append(number)
        if self.log.feeding:
            if count > 1:
                self.log.writer.feed(-1, encode(b"MULTI"))
            for number in range(first, first + count):
                self.log.writer.feed(0, encode(b"RPUSH", KEY, b"%d" % number))
            if count > 1:
                self.log.writer.feed(-1, encode(b"EXEC"))
        self._act(self.log.flush(self.now_ms))
        durable = self.log.writer.policy is FsyncPolicy.ALWAYS
        if self.log.state is AofState.ON and durable and not self.log.error:
            self.promised = len(self.numbers)

    def tick(self, passed_ms: int = 1100) -> None:
        """Let time pass, and run the cron."""
        self.now_ms += passed_ms
        self._act(self.log.flush(self.now_ms))
        self._act(self.log.cron(self.now_ms, child_active=self.child is not None))

    def rewrite(self) -> None:
        """BGREWRITEAOF."""
        self._act(self.log.begin_rewrite(self.now_ms))

    def end_rewrite(self, exit_code: int = 0, signal: int = 0) -> None:
        """Let the child do its work, and end."""
        if self.child is None:
            return
        numbers, self.child = self.child, None
        if not exit_code and not signal:
            try:
                write_durably(
                    self.disk, child_temp(self.pid), child_result(self.pid), self._base(numbers)
                )
            except StorageError:
                exit_code = 1
        self._act(self.log.child_exited(self.pid, exit_code, signal, self.now_ms))

    def turn_off(self) -> None:
        """CONFIG SET appendonly no."""
        self._act(self.log.turn_off(self.now_ms))

    def turn_on(self) -> None:
        """CONFIG SET appendonly yes."""
        self._act(self.log.turn_on(self.now_ms, other_child=False, in_exec=False))

    @staticmethod
    def _base(numbers: Iterable[int]) -> Iterable[bytes]:
        elements = [b"%d" % number for number in numbers]
        return aof_base([(0, [(KEY, b"list", elements, None)] if elements else [])], now_s=1)

    def _act(self, actions: Iterable[object]) -> None:
        for action in actions:
            match action:
                case Halt(text):
                    raise Exited(text)
                case StartFsync(file, _):
                    error = None
                    try:
                        file.fdatasync()
                    except StorageError as failed:
                        error = failed
                    self._act(self.log.fsync_done(action, error))
                case CloseFile(file, sync):
                    if sync:
                        file.fsync()
                    file.close()
                case UnlinkFiles(paths, report):
                    try:
                        for path in paths:
                            self.disk.unlink(path)
                    except StorageError:
                        continue
                    if report:
                        self._act(self.log.history_unlinked(action))
                case ForkRewrite():
                    self.pid += 1
                    self.child = list(self.numbers)
                    self._act(self.log.child_started(self.pid, self.now_ms))
                case KillRewrite():
                    self.child = None
                case _:
                    pass
