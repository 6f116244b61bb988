"""Where a tool writes: a file that appears whole or not at all, or standard output."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

import click

from rdb.constants import REDIS_MAGIC, WRITE_VERSION
from rdb.records import Key
from rdb.strings import encode_string
from rdb.writer import RdbWriter, encode_key_prefix


def standard_output() -> IO[bytes]:
    """Standard output, for bytes.

    Raises:
        OSError: the caller was started without one.
    """
    stream = sys.stdout
    if stream is None:  # descriptor 1 was closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")
    return stream.buffer


def refuse_to_overwrite(files: Iterable[str], output: str) -> None:
    """Raise UsageError where the output is one of the inputs.

    Args:
        files: the inputs, "-" for standard input.
        output: the path that is to be written.
    """
    status = _status_of(output)
    if output == "-" or status is None or not stat.S_ISREG(status.st_mode):
        return
    for file in files:
        if file == "-":
            if sys.stdin is not None and os.path.samestat(os.fstat(0), status):
                raise click.UsageError(f"{output} is standard input as well")
        elif os.path.samestat(os.stat(file), status):
            raise click.UsageError(f"{output} is an input as well")


def _status_of(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


class PendingFile:
    """A file that is being written.

    The bytes go to a temporary file beside the target, which `commit` syncs and renames over
    it; `discard` removes it. Where the target is a link it is the file behind it that is replaced.
    Standard output ("-"), a pipe and a device get the bytes as they come: renaming over
    /dev/null would take it away from everybody.

    Args:
        path: the target, "-" for standard output.

    Attributes:
        stream: takes the bytes.

    Raises:
        OSError: the file cannot be made.
    """

    stream: IO[bytes]

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._temporary = ""
        self._owned = path != "-"
        status = _status_of(path) if self._owned else None
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not self._owned:
            self.stream = standard_output()
        elif status is not None and not stat.S_ISREG(status.st_mode):
            self.stream = open(path, "wb")  # noqa: SIM115  (commit and discard close it)
        else:
            folder = os.path.dirname(self._path)
            descriptor, self._temporary = tempfile.mkstemp(prefix=".rdb-", dir=folder)
            self.stream = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        """Put the file in its place."""
        self.stream.flush()
        if self._temporary:
            os.fsync(self.stream.fileno())
            self.stream.close()
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(self._temporary, 0o666 & ~mask)
            os.replace(self._temporary, self._path)
            self._temporary = ""
        elif self._owned:
            self.stream.close()

    def discard(self) -> None:
        """Leave no file behind, unless `commit` was called."""
        if self._owned:
            # What is still in the buffer meets the full disk once more.
            with suppress(OSError):
                self.stream.close()
        if self._temporary:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = ""


class Output:
    """An RDB that is being written, to a PendingFile.

    Args:
        path: the target, "-" for standard output.
        version, magic: of the format.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: str, version: int = WRITE_VERSION, magic: bytes = REDIS_MAGIC) -> None:
        self._db: int | None = None
        self._file = PendingFile(path)
        self.writer = RdbWriter(self._file.stream.write, version=version, magic=magic)

    def select(self, db: int) -> None:
        """Make `db` the database of the keys that follow."""
        if db != self._db:
            self._db = db
            self.writer.select_db(db)

    def key(self, key: Key) -> None:
        """Append a key with its encoded value."""
        self.select(key.db)
        head = encode_key_prefix(key.expires_at_ms, key.idle_s, key.freq)
        name = encode_string(key.key)
        self.writer.raw(b"%b%c%b%b" % (head, key.type_code, name, key.value))

    def commit(self) -> None:
        """Write the end, and put the file in its place."""
        self.writer.end()
        self._file.commit()

    def discard(self) -> None:
        """Leave no file behind, unless `commit` was called."""
        self._file.discard()
