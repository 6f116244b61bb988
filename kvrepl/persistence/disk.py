"""The seam to the operating system: what persistence asks of a disk, and of the shell.

Nothing in this room opens a file. It is handed a `Disk`, whose real form lives in the server's
shell and whose test form forgets, at a chosen moment, everything that was not made durable.
What must not be done on the spot, because it can take long or needs a process, is returned as
an action; the shell carries actions out in the order given.

Paths are `str`, relative to the server's working folder, with "/" between folder and name.

What is durable, and when (the model that ForgetfulDisk enforces):

    operation                  survives a power cut after
    write, truncate            fsync or fdatasync of the same file
    create, rename, unlink     fsync_dir of the folder that holds the new (or removed) name
    mkdir                      fsync_dir of its parent

Every method raises StorageError, and nothing else, when the operating system refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from kvrepl.errors import StorageError

READ_CHUNK_BYTES: Final = 64 * 1024
"""How much is read at once when nothing else is said."""

AUTOSYNC_BYTES: Final = 4 * 1024 * 1024
"""A long write is made durable each time it grew by this much (REDIS_AUTOSYNC_BYTES), so that
the kernel never gathers a backlog of dirty pages that stalls the other writers of the disk."""


class File(Protocol):
    """A file open for writing at its end."""

    @property
    def path(self) -> str:
        """The path it was opened by (renames are not followed)."""

    def write(self, data: bytes) -> int:
        """Write until all is written or the disk refuses.

        Returns:
            Bytes written; less than len(data) if the disk refused after a part of them.

        Raises:
            StorageError: nothing at all was written.
        """

    def fsync(self) -> None:
        """Make data and metadata durable."""

    def fdatasync(self) -> None:
        """Make the data durable, and only the metadata that is needed to read it."""

    def truncate(self, size_bytes: int) -> None:
        """Cut the file; later writes go to the new end."""

    def close(self) -> None:
        """Close without making anything durable. Never raises; a second call does nothing."""


class Disk(Protocol):
    """The file operations of a server, all relative to one folder."""

    def create(self, path: str) -> File:
        """Open for writing, empty, whether or not it existed."""

    def append(self, path: str) -> File:
        """Open for writing at the end, creating it if missing."""

    def read(self, path: str, chunk_bytes: int = READ_CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the file in chunks of at most `chunk_bytes`, none of them empty.

        The file is opened by the call, not by the first step: a missing one raises at once.
        """

    def size(self, path: str) -> int | None:
        """Bytes in the file; None where there is no such file."""

    def truncate(self, path: str, size_bytes: int) -> None:
        """Cut a file that is not open, and make the cut durable."""

    def rename(self, source: str, target: str) -> None:
        """Move atomically, replacing the target."""

    def unlink(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""

    def mkdir(self, path: str) -> bool:
        """Create a folder if missing. Returns whether it was created."""

    def is_dir(self, path: str) -> bool:
        """Whether the path is a folder."""

    def listdir(self, path: str) -> list[str]:
        """The names in a folder, sorted."""

    def fsync_dir(self, path: str) -> None:
        """Make the names in a folder durable ("" is the working folder)."""


class Log(NamedTuple):
    """Write a line to the server's log. Level is "warning", "notice", "verbose" or "debug"."""

    level: str
    text: str


class StartFsync(NamedTuple):
    """Run `file.fdatasync()` on the background thread, then report to AofWriter.fsync_done.

    One thread carries these out, and CloseFile, in the order they were given.
    """

    file: File
    up_to_bytes: int


class CloseFile(NamedTuple):
    """Close a file on the background thread, which may block; with `sync`, fsync it first."""

    file: File
    sync: bool


class UnlinkFiles(NamedTuple):
    """Remove files in the background (freeing a large file's blocks can take long).

    With `report`, say so to AppendOnlyLog.history_unlinked when they are gone.
    """

    paths: tuple[str, ...]
    report: bool = False


class ForkRewrite(NamedTuple):
    """Fork a child that writes a base with `write_durably`, as an RDB or as commands.

    Must be carried out at once: no write command may run in between. Report to
    AppendOnlyLog.child_started or fork_failed, and in the end to child_exited.
    """

    rdb: bool


class KillRewrite(NamedTuple):
    """Kill the rewrite child with SIGUSR1, reap it, and remove its temp files."""


class Halt(NamedTuple):
    """Log the line as a warning and exit with status 1: going on would break a promise."""

    text: str


Action = Log | StartFsync | CloseFile | UnlinkFiles | ForkRewrite | KillRewrite | Halt
"""Whatever the shell may be asked to do."""


def write_durably(
    disk: Disk, temp_path: str, path: str, chunks: Iterable[bytes], *, autosync: bool = True
) -> int:
    """Write a whole file so that `path` is either absent, as it was, or complete.

    The name itself is durable only after an fsync_dir, which is left to the caller because a
    caller often has more names to make durable in the same folder.

    Args:
        disk: where to.
        temp_path: the name while it is being written, on the same file system.
        path: the final name.
        chunks: the content, in order.
        autosync: fsync each AUTOSYNC_BYTES on the way.

    Returns:
        The size in bytes.

    Raises:
        StorageError: the temp file has been removed again (as far as the disk allowed).

    Cost: O(bytes). Source: aof.c rewriteAppendOnlyFile, rio.c rioFileWrite.
    """
    total_bytes = 0
    unsynced_bytes = 0
    try:
        # In here: a child may be told to stop before it knows that the file is there.
        file = disk.create(temp_path)
        try:
            for chunk in chunks:
                write_all(file, chunk)
                total_bytes += len(chunk)
                unsynced_bytes += len(chunk)
                if autosync and unsynced_bytes >= AUTOSYNC_BYTES:
                    file.fdatasync()
                    unsynced_bytes = 0
            file.fsync()
        finally:
            file.close()
        disk.rename(temp_path, path)
    except BaseException:
        # Whatever stopped us, a temporary file must not be left behind.
        discard(disk, temp_path)
        raise
    return total_bytes


def write_all(file: File, data: bytes) -> None:
    """Write, and count a short write as the full disk that it is.

    Raises:
        StorageError: not all was written.
    """
    written = file.write(data)
    if written != len(data):
        # The retry meets the condition that cut the first write short, and so names it.
        rest = data[written:]
        if file.write(rest) != len(rest):
            raise StorageError(f"write(2) of {file.path}", OSError(None, "short write"))


def discard(disk: Disk, path: str) -> None:
    """Remove a leftover; a disk that refuses even that has already been reported."""
    try:
        disk.unlink(path)
    except StorageError:
        pass
