"""The child process: forked for a snapshot or an AOF rewrite, watched, reaped, reported.

One child at a time, as in Redis. The fork happens on the loop's thread with no batch running, so
the child sees one consistent instant of the dataset. In the child

    the collector is off, the loop is never touched (its epoll instance is shared with us),
    sockets of clients are closed by plain descriptor, `work` runs, and os._exit ends it;

in the parent a pidfd tells of the exit of exactly that child, and a pipe brings its progress:

    record = kind (u8) + keys processed (u64) + copy-on-write bytes (u64), little-endian

Exit status 0 is success. SIGUSR1 is a deliberate kill, not an error. Anything else is a failure.

Source: Redis 7.0 server.c (redisFork, checkChildrenDone), childinfo.c, rdb.c.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvrepl.server.log import Log

RDB: Final = "rdb"
AOF: Final = "aof"

EXIT_KILLED: Final = 255
"""Exit status of a child that was told to stop (server.h, SERVER_CHILD_NOERROR_RETVAL)."""

PROGRESS: Final = 0
DONE: Final = 1

_RECORD: Final = struct.Struct("<BQQ")
_REPORT_EVERY_S: Final = 1.0


def private_dirty_bytes() -> int:
    """Memory of this process that is private and was written to: what copy-on-write cost it.

    Source: childinfo.c, zmalloc_get_private_dirty. 0 where the kernel does not tell.
    """
    try:
        with open("/proc/self/smaps_rollup", "rb") as f:
            for line in f:
                if line.startswith(b"Private_Dirty:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


@dataclass(slots=True)
class Child:
    """A running child.

    Attributes:
        pid: of the process.
        kind: RDB or AOF.
        started_ns: monotonic instant of the fork.
        keys: processed so far; keys_total: how many there are.
        cow_bytes, cow_peak_bytes: copied so far, and at most.
        cow_at_ns: when that was measured.
        killed: whether we told it to stop.
    """

    pid: int
    kind: str
    started_ns: int
    keys_total: int
    on_exit: Callable[[Child, bool, str], None]
    keys: int = 0
    cow_bytes: int = 0
    cow_peak_bytes: int = 0
    cow_at_ns: int = 0
    killed: bool = False
    _pidfd: int = -1
    _pipe: int = -1
    _rest: bytearray = field(default_factory=bytearray)


class Reporter:
    """The child's end of the progress pipe."""

    __slots__ = ("_fd", "_keys", "_next_s")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._keys = 0
        self._next_s = time.monotonic() + _REPORT_EVERY_S

    def progress(self, keys: int) -> None:
        """So many keys more are done; tells the parent once a second."""
        self._keys += keys
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _REPORT_EVERY_S
            self._send(PROGRESS)

    def done(self) -> int:
        """The work is finished: send the final figures; returns the copy-on-write bytes."""
        return self._send(DONE)

    def _send(self, kind: int) -> int:
        cow = private_dirty_bytes()
        try:
            os.write(self._fd, _RECORD.pack(kind, self._keys, cow))
        except OSError:
            pass  # the parent is gone, or slow: figures are not worth failing for
        return cow


class Children:
    """Forks, watches and reaps.

    Args:
        loop: the event loop.
        log: where the outcome is reported.
        fds_to_close: gives the descriptors that a child must not hold.

    Attributes:
        active: the running child, None when there is none.
        forks: how many there were; fork_us: how long the last fork(2) took.
        last_cow_bytes: by kind, of the last child that finished.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log: Log, fds_to_close: Callable[[], list[int]]
    ) -> None:
        self._loop = loop
        self._log = log
        self._fds_to_close = fds_to_close
        self.active: Child | None = None
        self.forks = 0
        self.fork_us = 0
        self.last_cow_bytes = {RDB: 0, AOF: 0}

    def fork(
        self,
        kind: str,
        work: Callable[[Reporter], None],
        on_exit: Callable[[Child, bool, str], None],
        *,
        keys_total: int,
        keep_fds: frozenset[int] = frozenset(),
    ) -> Child:
        """Fork a child that does `work`.

        Args:
            kind: RDB or AOF.
            work: runs in the child; an exception it raises is logged and makes it fail.
            on_exit: called in the parent with the child, whether it succeeded, and the reason
                where it did not ("" for a deliberate kill).
            keys_total: how many keys it will process, for INFO.
            keep_fds: descriptors that it needs although they are on the list to close.

        Raises:
            OSError: fork(2) or pipe(2) failed.
        """
        assert self.active is None, "one child at a time"
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before_ns = time.monotonic_ns()
        try:
            pid = os.fork()
        except OSError:
            os.close(read_fd)
            os.close(write_fd)
            raise
        if pid == 0:
            self._run(work, write_fd, [fd for fd in self._fds_to_close() if fd not in keep_fds])
        now_ns = time.monotonic_ns()
        os.close(write_fd)
        self.forks += 1
        self.fork_us = (now_ns - before_ns) // 1000
        child = Child(pid, kind, now_ns, keys_total, on_exit)
        child._pipe = read_fd
        child._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(read_fd, self._readable, child)
        self._loop.add_reader(child._pidfd, self._exited, child)
        self.active = child
        return child

    def kill(self) -> None:
        """Tell the running child to stop, and wait until it has. Its `on_exit` is called."""
        child = self.active
        if child is None:
            return
        child.killed = True
        try:
            os.kill(child.pid, signal.SIGUSR1)
        except ProcessLookupError:
            pass
        self._exited(child, wait=True)

    def poll(self) -> None:
        """Reap the child now if it has ended (the loop would notice a little later)."""
        if self.active is not None:
            self._exited(self.active)

    # ------------------------------------------------------------- the parent

    def _readable(self, child: Child) -> None:
        try:
            data = os.read(child._pipe, 4096)
        except (BlockingIOError, OSError):
            return
        if not data:
            self._loop.remove_reader(child._pipe)
            return
        child._rest += data
        while len(child._rest) >= _RECORD.size:
            kind, keys, cow = _RECORD.unpack_from(child._rest)
            del child._rest[: _RECORD.size]
            child.keys = keys
            child.cow_bytes = cow
            child.cow_peak_bytes = max(child.cow_peak_bytes, cow)
            child.cow_at_ns = time.monotonic_ns()
            if kind == DONE:
                self.last_cow_bytes[child.kind] = cow

    def _exited(self, child: Child, wait: bool = False) -> None:
        pid, status = os.waitpid(child.pid, 0 if wait else os.WNOHANG)
        if pid == 0:
            return
        self._readable(child)
        for fd in (child._pipe, child._pidfd):
            self._loop.remove_reader(fd)
            os.close(fd)
        self.active = None
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            deliberate = number == signal.SIGUSR1
            reason = "" if deliberate else f"terminated by signal {number}"
            child.killed = child.killed or deliberate
            child.on_exit(child, False, reason)
        else:
            code = os.WEXITSTATUS(status)
            child.killed = child.killed or code == EXIT_KILLED
            if code == EXIT_KILLED:
                child.on_exit(child, False, "")
            else:
                child.on_exit(child, code == 0, "" if code == 0 else "error")

    # -------------------------------------------------------------- the child

    def _run(self, work: Callable[[Reporter], None], pipe: int, close: list[int]) -> None:
        """The child's whole life; it never returns."""
        code = 1
        try:
            gc.disable()
            self._log.role = "C"
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            # Ctrl-C reaches the whole foreground group; the parent decides what becomes of us.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            for fd in close:
                try:
                    os.close(fd)
                except OSError:
                    pass
            work(Reporter(pipe))
            code = 0
        except OSError as error:
            self._log.warning(f"Write error saving in the background: {error}")
        except BaseException:
            self._log.warning(
                "The saving child failed: " + traceback.format_exc().strip().replace("\n", " | ")
            )
        finally:
            sys.stderr.flush()
            os._exit(code)
