"""A disk that forgets: it has a page cache, and a power switch.

Two views are kept of every file and of every folder: what a process sees, and what would be read
after the power went. `crash` makes the second the first. What lies between them survives by the
choice of the caller's `keep`:

    data     what was written since the file's last fsync: a prefix of it survives (a torn write)
    names    creates, renames and unlinks since the last fsync_dir of their folder: any of them may
             survive or not, each as a whole (file systems journal a rename atomically)
    folders  a folder not synced into its parent: lost with all that is in it

Faults: `fail(operation, errno_code)` makes the next call of that name fail; `limit_bytes` makes the
disk full, so that writes come out short. `calls` counts every call that can fail or that matters to
durability; `fail_at` makes one of them fail, and `crash_at` raises PowerCut at one of them:
stepping them from 1 upwards visits every failure and every crash point.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kvrepl.errors import StorageError
from kvrepl.persistence.disk import READ_CHUNK_BYTES, File

Keep = Callable[[int], int]
"""Given how much could survive (bytes, or 1 for a name), how much does: 0 to that many."""


def keep_nothing(_most: int) -> int:
    """The harshest power cut: only what was synced survives."""
    return 0


def keep_everything(most: int) -> int:
    """The luckiest power cut: all of it had just been written back."""
    return most


class PowerCut(BaseException):
    """The machine stops here: no later call has an effect either, until `crash`."""


@dataclass
class Inode:
    """The content of one file, as seen and as durable."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


@dataclass
class NameChange:
    """Names that were set or removed together, not yet durable in the folders concerned."""

    folders: frozenset[str]
    changes: dict[str, Inode | None]


class ForgetfulDisk:
    """A kvrepl.persistence.disk.Disk in memory."""

    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.folders: set[str] = {""}
        self.durable_folders: set[str] = {""}
        self.pending: list[NameChange] = []
        self.calls = 0
        self.trace: list[str] = []  # the operation of each call
        self.crash_at: int | None = None
        self.fail_at: int | None = None
        self.limit_bytes: int | None = None
        self.faults: list[tuple[str, int]] = []
        self.powered = True

    # ------------------------------------------------------------------ faults

    def fail(self, operation: str, code: int = errno.EIO) -> None:
        """Make the next call of `operation` fail, once; may be queued several times."""
        self.faults.append((operation, code))

    def _step(self, operation: str, path: str) -> None:
        if not self.powered:  # a handler that cleans up is cut short like everything else
            raise PowerCut(f"{operation} of {path}")
        self.calls += 1
        self.trace.append(operation)
        if self.calls == self.crash_at:
            self.powered = False
            raise PowerCut(f"{operation} of {path}")
        if self.calls == self.fail_at:
            cause = OSError(errno.EIO, os.strerror(errno.EIO))
            raise StorageError(f"{operation} of {path}", cause)
        for number, (wanted, code) in enumerate(self.faults):
            if wanted == operation:
                del self.faults[number]
                raise StorageError(f"{operation} of {path}", OSError(code, os.strerror(code)))

    def kill(self) -> None:
        """Kill the process: the next one sees all that it did, no more durable than it was."""
        self.crash_at = self.fail_at = self.limit_bytes = None
        self.faults = []
        self.powered = True

    def crash(self, keep: Keep = keep_nothing) -> None:
        """Cut the power and come up again. Open files are gone; faults and limits are lifted."""
        for change in self.pending:
            if keep(1):
                self._apply(self.durable_names, change.changes)
        folders = set(self.durable_folders)
        folders |= {f for f in sorted(self.folders - folders) if keep(1)}
        inodes: dict[int, Inode] = {}
        names: dict[str, Inode] = {}
        for path, inode in self.durable_names.items():
            if _folder(path) in folders:
                if id(inode) not in inodes:
                    content = bytearray(_survivor(inode, keep))
                    inodes[id(inode)] = Inode(content, bytes(content))
                names[path] = inodes[id(inode)]
        self.names, self.durable_names = names, dict(names)
        self.folders, self.durable_folders = folders, set(folders)
        self.pending = []
        self.kill()

    @staticmethod
    def _apply(names: dict[str, Inode], changes: dict[str, Inode | None]) -> None:
        for path, inode in changes.items():
            if inode is None:
                names.pop(path, None)
            else:
                names[path] = inode

    def _change(self, changes: dict[str, Inode | None]) -> None:
        self._apply(self.names, changes)
        self.pending.append(NameChange(frozenset(map(_folder, changes)), changes))

    def _room_bytes(self, wanted: int) -> int:
        if self.limit_bytes is None:
            return wanted
        used = sum(len(inode.data) for inode in {id(i): i for i in self.names.values()}.values())
        return max(0, min(wanted, self.limit_bytes - used))

    # ------------------------------------------------------------------ Disk

    def create(self, path: str) -> File:
        """See Disk.create."""
        self._step("open", path)
        self._need_folder(path)
        inode = self.names.get(path)
        if inode is None:
            inode = Inode()
            self._change({path: inode})
        del inode.data[:]
        return ForgetfulFile(self, inode, path)

    def append(self, path: str) -> File:
        """See Disk.append."""
        self._step("open", path)
        self._need_folder(path)
        if path not in self.names:
            self._change({path: Inode()})
        return ForgetfulFile(self, self.names[path], path)

    def _need_folder(self, path: str) -> None:
        if _folder(path) not in self.folders:
            raise StorageError(f"open of {path}", OSError(errno.ENOENT, "No such file or folder"))

    def read(self, path: str, chunk_bytes: int = READ_CHUNK_BYTES) -> Iterator[bytes]:
        """See Disk.read."""
        self._step("read", path)
        if path not in self.names:
            raise StorageError(f"open of {path}", OSError(errno.ENOENT, "No such file or folder"))
        data = bytes(self.names[path].data)
        return (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))

    def size(self, path: str) -> int | None:
        """See Disk.size."""
        inode = self.names.get(path)
        return None if inode is None else len(inode.data)

    def truncate(self, path: str, size_bytes: int) -> None:
        """See Disk.truncate."""
        file = ForgetfulFile(self, self.names[path], path)
        file.truncate(size_bytes)
        file.fsync()

    def rename(self, source: str, target: str) -> None:
        """See Disk.rename."""
        self._step("rename", source)
        if source not in self.names:
            raise StorageError(f"rename of {source}", OSError(errno.ENOENT, "No such file"))
        self._change({target: self.names[source], source: None})

    def unlink(self, path: str) -> None:
        """See Disk.unlink."""
        self._step("unlink", path)
        if path in self.names:
            self._change({path: None})

    def mkdir(self, path: str) -> bool:
        """See Disk.mkdir."""
        self._step("mkdir", path)
        if path in self.folders:
            return False
        self.folders.add(path)
        return True

    def is_dir(self, path: str) -> bool:
        """See Disk.is_dir."""
        return path in self.folders

    def listdir(self, path: str) -> list[str]:
        """See Disk.listdir."""
        return sorted(name.rpartition("/")[2] for name in self.names if _folder(name) == path)

    def fsync_dir(self, path: str) -> None:
        """See Disk.fsync_dir. A change that concerns two folders is durable with either."""
        self._step("fsync_dir", path)
        for change in [c for c in self.pending if path in c.folders]:
            self._apply(self.durable_names, change.changes)
            self.pending.remove(change)
        if path == "":
            self.durable_folders |= self.folders


class ForgetfulFile:
    """A kvrepl.persistence.disk.File in memory."""

    def __init__(self, disk: ForgetfulDisk, inode: Inode, path: str) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path
        self.closed = False

    @property
    def path(self) -> str:
        """The path it was opened by."""
        return self._path

    def write(self, data: bytes) -> int:
        """See File.write. The power can also go in the middle of it."""
        assert not self.closed
        disk = self._disk
        if disk.crash_at == disk.calls + 1:
            self._inode.data += data
        disk._step("write", self._path)
        written = disk._room_bytes(len(data))
        if data and not written:
            cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise StorageError(f"write of {self._path}", cause)
        self._inode.data += data[:written]
        return written

    def fsync(self) -> None:
        """See File.fsync."""
        assert not self.closed
        self._disk._step("fsync", self._path)
        self._inode.durable = bytes(self._inode.data)

    def fdatasync(self) -> None:
        """See File.fdatasync."""
        self.fsync()

    def truncate(self, size_bytes: int) -> None:
        """See File.truncate."""
        assert not self.closed
        self._disk._step("truncate", self._path)
        del self._inode.data[size_bytes:]

    def close(self) -> None:
        """See File.close."""
        self.closed = True


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _survivor(inode: Inode, keep: Keep) -> bytes:
    """What of a file is there after a power cut."""
    seen = bytes(inode.data)
    if seen.startswith(inode.durable):
        tail = len(seen) - len(inode.durable)
        return seen[: len(inode.durable) + keep(tail)] if tail else seen
    return seen if keep(1) else inode.durable
