"""A child that prepares something for this process, and hands it over piece by piece.

    message = length (u32, little-endian) + so many bytes          through a pipe

It is no child of `Children`: it may run beside those, nothing of it is shown in INFO, and who
started it waits for its messages. It never outlives that: the kernel ends it with us, and it ends
itself where nobody reads. Whatever happens to it, `receive` says that there is no more.

    partner    has a helper read a file along with who loads it (kvrepl.persistence.partner)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from kvrepl.errors import StorageError
from kvrepl.persistence.partner import Found, is_for_partner, read_along, runs_of
from kvrepl.server import children
from rdb.accel import accel

if TYPE_CHECKING:
    from kvrepl.server.app import Server
    from kvrepl.server.log import Log

PIPE_BYTES: Final = 1 << 20
"""How far a helper may be ahead: what the kernel keeps for us, if it grants that much."""
PATIENCE_MS: Final = 2000
"""For how long nothing may come from a helper: one that somebody stopped must not stop us."""
MIN_LOAD_BYTES: Final = 4 << 20
"""A file that is smaller is loaded before a partner would have begun to be of use."""
_LENGTH: Final = struct.Struct("<I")


class Helper:
    """The parent's end. Made by `start`; `close` is due in any case.

    Attributes:
        pid: of the process, until it is closed.
    """

    __slots__ = ("_buffer", "_pipe", "_poll", "pid")

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe = pipe
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(pipe, select.POLLIN)

    def receive(self) -> memoryview | None:
        """Wait for the next message, which is there up to the next call; None for no more."""
        head = self._read(_LENGTH.size)
        return None if head is None else self._read(_LENGTH.unpack(head)[0])

    def _read(self, size: int) -> memoryview | None:
        if size > len(self._buffer):
            self._buffer = bytearray(2 * size)
        data = left = memoryview(self._buffer)[:size]
        while left:
            if self._pipe < 0 or not self._poll.poll(PATIENCE_MS):
                self.close()
                return None
            count = os.readv(self._pipe, [left])
            if not count:
                self.close()
                return None
            left = left[count:]
        return data

    def close(self) -> None:
        """End it, if it runs. Idempotent."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
            os.kill(self.pid, signal.SIGKILL)  # it has nothing to clean up
            os.waitpid(self.pid, 0)


def start(
    work: Callable[[], Iterable[bytes]], fds_to_close: Callable[[], Iterable[int]], log: Log
) -> Helper:
    """Fork a helper.

    Args:
        work: runs in it; yields the messages. An exception ends it like the end.
        fds_to_close: gives the descriptors that it must not hold.
        log: told of what it did not expect.

    Raises:
        OSError: there is no helper: fork(2) or pipe(2) failed.
    """
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    try:
        with children.signals_held() as mask:
            pid = os.fork()
            if pid == 0:
                # Held here as well, the pipe would have a reader when the parent is gone.
                _run(work, lambda: [read_fd, *fds_to_close()], log, write_fd, parent, mask)
    except OSError:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    return Helper(pid, read_fd)


def _run(
    work: Callable[[], Iterable[bytes]],
    fds_to_close: Callable[[], Iterable[int]],
    log: Log,
    pipe: int,
    parent: int,
    mask: Iterable[int],
) -> None:
    """The helper's whole life; does not return."""
    try:
        children.become_child(parent, mask, fds_to_close())
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except (AttributeError, OSError):
            pass  # it is then less ahead, and waits more often
        for message in work():
            left = memoryview(_LENGTH.pack(len(message)) + message)
            while left:
                left = left[os.write(pipe, left) :]
    except (children.Killed, StorageError, OSError):
        pass  # what it did not send the parent does itself, and meets what is to be said
    except BaseException:
        log.role = "C"
        log.warning(f"Internal error in a helper: {traceback.format_exc()}")
    finally:
        os._exit(0)


@contextlib.contextmanager
def partner(
    server: Server, path: str, size_bytes: int, chunk_bytes: int, drop_before_ms: int | None
) -> Iterator[Callable[[], dict[int, Found]]]:
    """Have a helper read along while the file at `path` is loaded.

    Only where it is of use: where keys are read in Python, and a second processor is there.

    Args:
        server: whose disk and thresholds these are.
        path: of the file; chunk_bytes: how it is read.
        size_bytes: how large it is.
        drop_before_ms: as for rdb.load_keys.

    Yields:
        The `runs` of a SnapshotLoader; to be called at each chunk, from the first on, which starts
        the helper.
    """
    helper: Helper | None = None
    number = -1

    def work() -> Iterator[bytes]:
        server.in_child(children.LOAD)
        limits = server.engine.keyspace.limits
        return read_along(server.disk.read(path, chunk_bytes), limits, drop_before_ms)

    def runs() -> dict[int, Found]:
        nonlocal helper, number
        number += 1
        if number == 0 and accel is None and size_bytes >= MIN_LOAD_BYTES and _processors() > 1:
            try:
                helper = start(work, server.fds_for_child_to_close, server.log)
            except OSError as error:
                server.log.notice(f"Loading {path} without a second process: {error}")
        if helper is None or not is_for_partner(number):
            return {}
        message = helper.receive()
        return {} if message is None else runs_of(message)

    try:
        yield runs
    finally:
        if helper is not None:
            helper.close()


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
