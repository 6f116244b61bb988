"""The real disk: kvrepl.persistence.disk.Disk over the operating system.

Paths are relative to `root`; with the default, to the working folder of the process, which the
server enters at start (`dir`) and changes with CONFIG SET dir. Every OSError becomes a
StorageError that names the call and the file.

Source: Redis 7.0 aof.c aofWrite; util.c fsyncFileDir, dirCreateIfMissing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from kvrepl.errors import StorageError
from kvrepl.persistence.disk import READ_CHUNK_BYTES, File

_FILE_MODE: Final = 0o644
_DIR_MODE: Final = 0o755
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC

_fdatasync = getattr(os, "fdatasync", os.fsync)
"""Where the platform has no fdatasync (macOS), fsync does what it does and more."""


class RealFile:
    """A file descriptor that appends. Implements kvrepl.persistence.disk.File."""

    __slots__ = ("_fd", "_path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    @property
    def path(self) -> str:
        """The path it was opened by."""
        return self._path

    def fileno(self) -> int:
        """The descriptor, -1 once closed; a forked child closes by it what it must not hold."""
        return self._fd

    def write(self, data: bytes) -> int:
        """See File.write. A short write(2) is tried again: the next one names the reason."""
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            raise StorageError(f"write(2) of {self._path}", error) from error
        if written == len(data):
            return written
        rest = memoryview(data)
        while written < len(data):
            try:
                written += os.write(self._fd, rest[written:])
            except OSError:
                break
        return written

    def fsync(self) -> None:
        """See File.fsync."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise StorageError(f"fsync(2) of {self._path}", error) from error

    def fdatasync(self) -> None:
        """See File.fdatasync."""
        try:
            _fdatasync(self._fd)
        except OSError as error:
            raise StorageError(f"fdatasync(2) of {self._path}", error) from error

    def truncate(self, size_bytes: int) -> None:
        """See File.truncate; the descriptor appends, so there is no position to move."""
        try:
            os.ftruncate(self._fd, size_bytes)
        except OSError as error:
            raise StorageError(f"ftruncate(2) of {self._path}", error) from error

    def close(self) -> None:
        """See File.close."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                # The descriptor is gone all the same (Linux), and what an error here could say
                # about the data has been said by the fsync that the caller made or chose to skip.
                pass


class RealDisk:
    """The file system under one folder. Implements kvrepl.persistence.disk.Disk.

    Args:
        root: the folder; "" is the working folder, wherever that is at each call.
    """

    __slots__ = ("_root",)

    def __init__(self, root: str = "") -> None:
        self._root = root

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path) if self._root else path or "."

    def create(self, path: str) -> File:
        """See Disk.create."""
        return self._open(path, _WRITE | os.O_APPEND | os.O_TRUNC)

    def append(self, path: str) -> File:
        """See Disk.append."""
        return self._open(path, _WRITE | os.O_APPEND)

    def _open(self, path: str, flags: int) -> File:
        try:
            return RealFile(os.open(self._at(path), flags, _FILE_MODE), path)
        except OSError as error:
            raise StorageError(f"open(2) of {path}", error) from error

    def read(self, path: str, chunk_bytes: int = READ_CHUNK_BYTES) -> Iterator[bytes]:
        """See Disk.read."""
        try:
            fd = os.open(self._at(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"open(2) of {path}", error) from error
        return _chunks(RealFile(fd, path), chunk_bytes)

    def size(self, path: str) -> int | None:
        """See Disk.size."""
        try:
            return os.stat(self._at(path)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"stat(2) of {path}", error) from error

    def truncate(self, path: str, size_bytes: int) -> None:
        """See Disk.truncate."""
        try:
            fd = os.open(self._at(path), os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"open(2) of {path}", error) from error
        file = RealFile(fd, path)
        try:
            file.truncate(size_bytes)
            file.fsync()
        finally:
            file.close()

    def rename(self, source: str, target: str) -> None:
        """See Disk.rename."""
        try:
            os.rename(self._at(source), self._at(target))
        except OSError as error:
            raise StorageError(f"rename(2) of {source} to {target}", error) from error

    def unlink(self, path: str) -> None:
        """See Disk.unlink."""
        try:
            os.unlink(self._at(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"unlink(2) of {path}", error) from error

    def mkdir(self, path: str) -> bool:
        """See Disk.mkdir."""
        try:
            os.mkdir(self._at(path), _DIR_MODE)
        except FileExistsError as error:
            if self.is_dir(path):
                return False
            raise StorageError(f"mkdir(2) of {path}", error) from error
        except OSError as error:
            raise StorageError(f"mkdir(2) of {path}", error) from error
        return True

    def is_dir(self, path: str) -> bool:
        """See Disk.is_dir."""
        return os.path.isdir(self._at(path))

    def listdir(self, path: str) -> list[str]:
        """See Disk.listdir."""
        try:
            return sorted(os.listdir(self._at(path)))
        except OSError as error:
            raise StorageError(f"readdir(3) of {path or '.'}", error) from error

    def fsync_dir(self, path: str) -> None:
        """See Disk.fsync_dir."""
        try:
            fd = os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"open(2) of {path or '.'}", error) from error
        file = RealFile(fd, path or ".")
        try:
            file.fsync()
        finally:
            file.close()


def _chunks(file: RealFile, chunk_bytes: int) -> Iterator[bytes]:
    """Yield what is left of a file, and close it however that ends."""
    try:
        while True:
            try:
                chunk = os.read(file.fileno(), chunk_bytes)
            except OSError as error:
                raise StorageError(f"read(2) of {file.path}", error) from error
            if not chunk:
                return
            yield chunk
    finally:
        file.close()
