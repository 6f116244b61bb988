"""Where a tool writes: a file that appears whole or not at all, or standard output."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from typing import IO

from rdb.constants import REDIS_MAGIC, WRITE_VERSION
from rdb.records import Key
from rdb.strings import encode_string
from rdb.writer import RdbWriter, encode_key_prefix


class PendingFile:
    """A file that is being written.

    The bytes go to a temporary file beside the target, which `commit` syncs and renames over
    it; `discard` removes it. Standard output ("-") gets the bytes as they come.

    Args:
        path: the target, "-" for standard output.

    Attributes:
        stream: takes the bytes.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = ""
        if path == "-":
            self.stream: IO[bytes] = sys.stdout.buffer
        else:
            folder = os.path.dirname(path) or "."
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

    def discard(self) -> None:
        """Leave no file behind, unless `commit` was called."""
        if self._temporary:
            self.stream.close()
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
