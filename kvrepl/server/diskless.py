"""The source of a diskless transfer: a child that writes the snapshot, and the ring it fills.

    child -> pipe -> ring (kvrepl.replication.ring) -> every replica with a Reader (server/feeds)

The pipe is read while the ring has room, a chunk a turn, as other clients come first. The mark that
ends a snapshot is sent when the child has exited with success, so that no replica takes a torn
snapshot for a whole one: `bgsave_done` completes the ring, and each replica is given the mark when
it has read the rest. What the child leaves in the pipe, at most PIPE_BYTES, is put into the ring at
its exit even beyond the limit, as the next child may be forked then.

Source: Redis 7.0 replication.c (rdbPipeReadHandler, checkChildrenDone), rdb.c
(rdbSaveToSlavesSockets, backgroundSaveDoneHandlerSocket).
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from kvrepl.persistence.snapshot import SnapshotInfo
from kvrepl.server import children

if TYPE_CHECKING:
    from kvrepl.replication.actions import StartBgsave
    from kvrepl.server.app import Server
    from kvrepl.server.children import Child, Ending, Reporter
    from kvrepl.server.replication import ReplicationShell

CHUNK_BYTES: Final = 256 * 1024
PIPE_BYTES: Final = 1 << 20


class Diskless:
    """The transfer that runs, or none.

    Attributes:
        mark: what ends the snapshot of the present transfer.
    """

    def __init__(self, server: Server, shell: ReplicationShell) -> None:
        self._server = server
        self._shell = shell
        self.mark = b""
        self._pipe = -1
        self._reading = False
        self._ending: Ending | None = None

    def start(self, info: SnapshotInfo, action: StartBgsave) -> bool:
        """Fork a child that writes the snapshot into a pipe; returns whether that worked."""
        server = self._server
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        try:
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # a smaller pipe only costs speed
        requirements = action.requirements

        def work(reporter: Reporter) -> None:
            os.close(read_fd)  # or we would never hear that the parent is gone
            for chunk in server.saver.chunks(
                info,
                reporter.progress,
                data=not requirements.exclude_data,
                functions=not requirements.exclude_functions,
            ):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(write_fd, view) :]
            reporter.done()

        server.saver.last_try_s = server.clock.now_ms() // 1000
        try:
            child = server.children.fork(
                children.RDB, work, self._exited, keys_total=len(server.engine.keyspace)
            )
        except OSError as error:
            os.close(read_fd)
            os.close(write_fd)
            server.log.warning(f"Can't save in background: fork: {error.strerror}")
            return False
        os.close(write_fd)
        os.set_blocking(read_fd, False)
        self._pipe = read_fd
        self._ending = None
        # Fresh randomness for each transfer: a mark that was used before may be in the dataset.
        self.mark = os.urandom(20).hex().encode()
        server.log.notice(f"Background RDB transfer started by pid {child.pid}")
        return True

    def read_more(self) -> None:
        """Read the pipe while the ring has room: to be called when somebody has read or left.

        With no replica left the pipe is not read either: the machine has the child killed.
        """
        if self._pipe < 0:
            return
        ring = self._shell.machine.master.ring
        if ring is None or not ring.readers or not ring.has_room():
            self._stop_reading()
        elif not self._reading:
            self._reading = True
            self._server.loop.add_reader(self._pipe, self._readable)

    def tick(self) -> None:
        """Drop those who hold the others up for too long; ten times a second."""
        master = self._shell.machine.master
        if master.ring is not None:
            actions = master.drop_holders(self._shell.now_ms())
            if actions:
                self._shell.carry_out(actions)
                self.read_more()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._server.loop.remove_reader(self._pipe)

    def _readable(self) -> None:
        if not self._take():
            self._pipe_ended()
            return
        self._shell.feeds.send_snapshots()
        self.read_more()

    def _take(self) -> bool:
        """Put what the child has written into the ring; returns False at the end of the pipe."""
        try:
            chunk = os.read(self._pipe, CHUNK_BYTES)
        except BlockingIOError:
            return True
        ring = self._shell.machine.master.ring
        if chunk and ring is not None:
            ring.put(chunk, self._shell.now_ms())
        return bool(chunk)

    def _pipe_ended(self) -> None:
        """The child has closed its end: with success, as its exit will tell, or without."""
        self._stop_reading()
        os.close(self._pipe)
        self._pipe = -1
        ring = self._shell.machine.master.ring
        self._server.log.warning(
            f"Diskless rdb transfer, done reading from pipe, {len(ring.readers) if ring else 0}"
            f" replicas still up."
        )
        self._finish()

    def _exited(self, child: Child, ending: Ending) -> None:
        """The child has ended; of one that failed nothing more is wanted."""
        server = self._server
        server.saver.last_duration_s = server.clock.now_ms() // 1000 - server.saver.last_try_s
        if ending.ok:
            server.log.notice("Background RDB transfer terminated with success")
        elif ending.signal:
            server.log.warning(f"Background transfer terminated by signal {ending.signal}")
        else:
            server.log.warning("Background transfer error")
        self._ending = ending
        if self._pipe >= 0:
            while ending.ok and self._take():
                pass  # the writer is gone, so the pipe ends
            self._pipe_ended()
        else:
            self._finish()

    def _finish(self) -> None:
        """Both the child and its pipe have ended: complete the snapshot, or give it up."""
        if self._ending is None:
            return
        ok, self._ending = self._ending.ok, None
        shell = self._shell
        shell.carry_out(shell.machine.master.bgsave_done(ok=ok, now_ms=shell.now_ms()))
        shell.feeds.send_snapshots()
