"""The child process: forked for a snapshot or an AOF rewrite, watched, reaped, reported.

One child at a time, as in Redis. The fork happens on the loop's thread, between two commands, so
the child sees one consistent instant of the dataset. In the child

    the collector is off; the processor is left to the parent where both want it;
    the loop is never touched (its epoll instance is shared with us);
    sockets are closed by plain descriptor; `work` runs; os._exit ends it

in the parent a pidfd tells of the exit of exactly that child, and a pipe brings its progress:

    record = kind (u8) + keys processed (u64) + copy-on-write bytes (u64), little-endian

What ends a child, and what is made of it:

    exit 0                       success
    exit 1                       failure; the reason is in the log
    SIGUSR1                      a deliberate kill, no failure. The child unwinds, so that its
                                 temporary file goes with it, and exits with EXIT_KILLED
    our own death                the kernel sends it SIGUSR1: nobody is left to use its work, and a
                                 file renamed later would replace that of a server started since
    any other signal             failure
    SIGTERM, SIGINT              ignored: they reach whole process groups; the parent decides

These signals are blocked across the fork: one that came before the child has its own handlers
would be taken by those of the parent, into whose loop they write.

Source: Redis 7.0 server.c (redisFork, checkChildrenDone, setupChildSignalHandlers), childinfo.c,
rdb.c; prctl(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from kvrepl.errors import StorageError

if TYPE_CHECKING:
    from kvrepl.server.log import Log

RDB: Final = "RDB"
AOF: Final = "AOF rewrite"
LOAD: Final = "load"
"""What a child is there for; the last is none of Children, but a helper (kvrepl.server.helper)."""
TITLES: Final = {RDB: "kvrepl-rdb-bgsave", AOF: "kvrepl-aof-rewrite", LOAD: "kvrepl-load"}
"""What `ps` shows of it."""

EXIT_FAILED: Final = 1
EXIT_KILLED: Final = 255
"""Exit status of a child that was told to stop (server.h, SERVER_CHILD_NOERROR_RETVAL)."""

DELIBERATE: Final = signal.SIGUSR1

NICE: Final = 5
"""How far a child stands back: it has time, while clients and replicas wait for its parent."""

_IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HELD: Final = frozenset((*_IGNORED, DELIBERATE))
_PR_SET_PDEATHSIG: Final = 1
# Looked up here: after a fork the loader's lock may be held by a thread that is not there.
_PRCTL: Final = getattr(ctypes.CDLL(None), "prctl", None)

_PROGRESS: Final = 0
_DONE: Final = 1
_RECORD: Final = struct.Struct("<BQQ")
_READ_BYTES: Final = 4096
_REPORT_EVERY_S: Final = 1.0
_COW_SHARE: Final = 100
"""Measuring the memory walks the page tables; it may take one part in so many of the time."""


class Ending(NamedTuple):
    """How a child ended.

    Attributes:
        exit_code: its status, where no signal ended it.
        signal: the signal that did, 0 for none; DELIBERATE where it was told to stop.
    """

    exit_code: int = 0
    signal: int = 0

    @classmethod
    def of_status(cls, status: int) -> Ending:
        """Read what waitpid(2) returned."""
        if os.WIFSIGNALED(status):
            return cls(0, os.WTERMSIG(status))
        code = os.WEXITSTATUS(status)
        return cls(0, DELIBERATE) if code == EXIT_KILLED else cls(code)

    @property
    def ok(self) -> bool:
        """Whether its work is complete."""
        return not self.exit_code and not self.signal

    @property
    def deliberate(self) -> bool:
        """Whether it was told to stop, which is no failure."""
        return self.signal == DELIBERATE


class Killed(BaseException):
    """Raised in a child that is told to stop, wherever it is."""


def private_dirty_bytes() -> int:
    """Memory of this process that is private and was written to: what copy-on-write cost it.

    0 where the kernel does not tell. O(pages of the process).

    Source: childinfo.c, zmalloc.c (zmalloc_get_private_dirty).
    """
    try:
        with open("/proc/self/smaps_rollup", "rb") as f:
            for line in f:
                if line.startswith(b"Private_Dirty:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


@dataclass(slots=True, eq=False)
class Child:
    """A running child.

    Attributes:
        pid: of the process.
        kind: RDB or AOF.
        keys_total: how many keys there are; keys: processed so far.
        on_exit: called when it has been reaped.
        cow_bytes, cow_peak_bytes: copied so far, and at most.
        cow_at_ns: when that was measured, 0 if it was not yet.
    """

    pid: int
    kind: str
    keys_total: int
    on_exit: Callable[[Child, Ending], None]
    keys: int = 0
    cow_bytes: int = 0
    cow_peak_bytes: int = 0
    cow_at_ns: int = 0
    _pidfd: int = -1
    _pipe: int = -1
    _rest: bytearray = field(default_factory=bytearray)


class Reporter:
    """The child's end of the progress pipe."""

    __slots__ = ("_cow_bytes", "_fd", "_keys", "_kind", "_log", "_next_s", "_peak_bytes")

    def __init__(self, fd: int, kind: str, log: Log) -> None:
        self._fd = fd
        self._kind = kind
        self._log = log
        self._keys = 0
        self._peak_bytes = 0
        self._cow_bytes: list[int] = []
        self._next_s = time.monotonic() + _REPORT_EVERY_S

    def progress(self, keys: int) -> None:
        """So many keys more are done; tells the parent once a second."""
        self._keys += keys
        before_s = time.monotonic()
        if before_s >= self._next_s:
            self._send(_PROGRESS)
            after_s = time.monotonic()
            self._next_s = after_s + max(_REPORT_EVERY_S, _COW_SHARE * (after_s - before_s))

    def done(self) -> None:
        """The work is finished: send the final figures, and log what copying cost."""
        self._send(_DONE)
        current, peak = self._cow_bytes[-1] >> 20, max(self._cow_bytes) >> 20
        average = sum(self._cow_bytes) // len(self._cow_bytes) >> 20
        self._log.notice(
            f"Fork CoW for {self._kind}: current {current} MB, peak {peak} MB, average {average} MB"
        )

    def _send(self, kind: int) -> None:
        cow_bytes = private_dirty_bytes()
        self._cow_bytes.append(cow_bytes)
        try:
            os.write(self._fd, _RECORD.pack(kind, self._keys, cow_bytes))
        except OSError:
            pass  # the parent is gone, or slow: figures are not worth failing for


class Children:
    """Forks, watches and reaps.

    Args:
        loop: the event loop.
        log: where the outcome is reported.
        fds_to_close: gives the descriptors that a child must not hold.
        in_child: called first in a child, with its kind (title, oom_score_adj).

    Attributes:
        active: the running child, None when there is none.
        forks: how many there were; fork_us: how long the last fork(2) took.
        last_cow_bytes: by kind, of the last child that finished its work.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        fds_to_close: Callable[[], Iterable[int]] = tuple,
        in_child: Callable[[str], object] = lambda kind: None,
    ) -> None:
        self._loop = loop
        self._log = log
        self._fds_to_close = fds_to_close
        self._in_child = in_child
        self.active: Child | None = None
        self.forks = 0
        self.fork_us = 0
        self.last_cow_bytes = {RDB: 0, AOF: 0}

    def is_running(self, kind: str) -> bool:
        """Whether a child of that kind runs."""
        return self.active is not None and self.active.kind == kind

    def fork(
        self,
        kind: str,
        work: Callable[[Reporter], None],
        on_exit: Callable[[Child, Ending], None],
        *,
        keys_total: int,
    ) -> Child:
        """Fork a child that does `work`.

        Args:
            kind: RDB or AOF.
            work: runs in the child; an exception it raises is logged and makes it fail.
            on_exit: called in the parent with the child and how it ended.
            keys_total: how many keys it will process, for INFO.

        Raises:
            OSError: there is no child: fork(2), pipe(2) or pidfd_open(2) failed.
        """
        assert self.active is None, "one child at a time"
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        parent = os.getpid()
        try:
            with signals_held() as mask:
                before_ns = time.monotonic_ns()
                pid = os.fork()
                if pid == 0:
                    self._run(kind, work, write_fd, parent, mask)
                self.fork_us = (time.monotonic_ns() - before_ns) // 1000
                pidfd = _open_pidfd(pid)
        except OSError:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self.forks += 1
        child = Child(pid, kind, keys_total, on_exit, _pidfd=pidfd, _pipe=read_fd)
        self._loop.add_reader(read_fd, self._readable, child)
        self._loop.add_reader(pidfd, self._reap, child)
        self.active = child
        return child

    def kill(self, *, reap: bool = True) -> None:
        """Tell the running child to stop, and wait until it has. Its `on_exit` is called.

        Nothing where there is none. It unwinds within the encoding of one segment.

        Args:
            reap: False leaves that call to the loop, in a turn of its own. In the middle of a
                transaction it must: a full sync that waits for the child's end forks at once, and
                would take half a transaction for the dataset.
        """
        child = self.active
        if child is not None:
            os.kill(child.pid, DELIBERATE)  # it cannot be another's: we have not reaped it yet
            os.kill(child.pid, signal.SIGCONT)
            if reap:
                self._reap(child, wait=True)
            else:
                os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def poll(self) -> None:
        """Reap the child now if it has ended (the loop would notice a little later)."""
        if self.active is not None:
            self._reap(self.active)

    # ------------------------------------------------------------- the parent

    def _readable(self, child: Child) -> None:
        """Take the figures that have come. What is in the pipe is bounded: 64 KiB."""
        while True:
            try:
                data = os.read(child._pipe, _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self._loop.remove_reader(child._pipe)
                break
            child._rest += data
        while len(child._rest) >= _RECORD.size:
            kind, child.keys, child.cow_bytes = _RECORD.unpack_from(child._rest)
            del child._rest[: _RECORD.size]
            child.cow_peak_bytes = max(child.cow_peak_bytes, child.cow_bytes)
            child.cow_at_ns = time.monotonic_ns()
            if kind == _DONE:
                self.last_cow_bytes[child.kind] = child.cow_bytes

    def _reap(self, child: Child, wait: bool = False) -> None:
        pid, status = os.waitpid(child.pid, 0 if wait else os.WNOHANG)
        if pid == 0:
            return
        self._readable(child)
        for fd in (child._pipe, child._pidfd):
            self._loop.remove_reader(fd)
            os.close(fd)
        self.active = None
        child.on_exit(child, Ending.of_status(status))

    # -------------------------------------------------------------- the child

    def _run(
        self,
        kind: str,
        work: Callable[[Reporter], None],
        pipe: int,
        parent: int,
        mask: Iterable[int],
    ) -> NoReturn:
        """The child's whole life."""
        code = EXIT_FAILED
        try:
            become_child(parent, mask, self._fds_to_close())
            os.nice(NICE)
            self._log.role = "C"
            self._in_child(kind)
            work(Reporter(pipe, kind, self._log))
            code = 0
        except Killed:
            code = EXIT_KILLED
        except (OSError, StorageError) as error:
            self._log.warning(f"Write error in the background ({kind}): {error}")
        except BaseException:
            self._log.warning(f"Internal error in the child ({kind}): {traceback.format_exc()}")
        finally:
            os._exit(code)


@contextlib.contextmanager
def signals_held() -> Iterator[set[int]]:
    """Keep signals that a child treats in its own way from coming between fork(2) and that.

    Yields:
        The mask before, for `become_child`.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def become_child(parent: int, mask: Iterable[int], fds_to_close: Iterable[int]) -> None:
    """Leave behind what is the parent's: its collector, signals, descriptors.

    Args:
        parent: its process id.
        mask: the signals that it blocked before `signals_held`.
        fds_to_close: what must not be held here.

    Raises:
        Killed: the parent is gone already; and at any later moment, by DELIBERATE.
    """
    gc.disable()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(DELIBERATE, _stop)
    signal.set_wakeup_fd(-1)
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, int(DELIBERATE), 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if os.getppid() != parent:
        raise Killed
    for fd in fds_to_close:
        try:
            os.close(fd)
        except OSError:
            pass


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """The signal handler of a child: unwind, once."""
    signal.signal(number, signal.SIG_IGN)
    raise Killed


def _open_pidfd(pid: int) -> int:
    """A descriptor for a child just forked; without one it could not be watched, so it goes.

    Raises:
        OSError: there are no descriptors left; the child is gone as well.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
