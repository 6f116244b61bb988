"""Where an RDB comes from: a file, standard input, either of them gzip or lz4.

Compression is told by the first bytes, not by the name, so that it works in a pipe too.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import lz4.frame

from rdb.dialect import REDIS
from rdb.errors import RdbError
from rdb.reader import RdbReader
from rdb.records import Key, Record

CHUNK_BYTES: Final = 1 << 20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_PROGRESS_BYTES: Final = 64 << 20
"""Shorter files are done before a progress line would be read."""
_PROGRESS_INTERVAL_S: Final = 0.2


class Source:
    """An open input.

    Args:
        name: as the user gave it; "-" is standard input.
        raw: the bytes as they are stored.

    Attributes:
        trailing_bytes: how many bytes followed the end of the RDB, once it was read.
        dialect: that of the RDB, once reading has begun.
    """

    def __init__(self, name: str, raw: io.FileIO) -> None:
        self.name = "standard input" if name == "-" else name
        self.trailing_bytes = 0
        self.dialect = REDIS
        self._raw = raw
        self._stored = io.BufferedReader(raw)
        self._damage = ""  # of the compression, once it was met
        head = self._stored.peek(4)[:4]
        self._data: io.BufferedIOBase = self._stored
        if head.startswith(_GZIP_MAGIC):
            self._data = gzip.GzipFile(fileobj=self._stored)
        elif head == _LZ4_MAGIC:
            self._data = lz4.frame.open(self._stored)

    def records(
        self, *, verify_checksum: bool = True, raw_values: bool = False
    ) -> Iterator[Record]:
        """Yield the records, then look how much follows the end.

        Raises:
            RdbError: the RDB, or the compression around it, is damaged.
            OSError: the input cannot be read.
        """
        reader = RdbReader(verify_checksum=verify_checksum, raw_values=raw_values)
        self.dialect = reader.dialect
        progress = Progress(self._raw)
        keys = 0
        try:
            while not reader.finished:
                try:
                    data = self._read(reader.offset)
                except RdbError:
                    reader.feed(b"")  # raises what it has met in front of that
                    raise
                if not data:
                    reader.close()
                records = reader.feed(data)
                if progress.wanted:
                    keys += sum(type(record) is Key for record in records)
                    progress.show(self._raw.tell(), keys)
                yield from records
        finally:
            progress.clear()
        self.trailing_bytes = len(reader.unused)
        while data := self._read(reader.offset):
            self.trailing_bytes += len(data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the RDB and of what follows it, decompressed.

        Raises:
            RdbError: the compression around it is damaged.
            OSError: the input cannot be read.
        """
        offset = 0
        while data := self._read(offset):
            offset += len(data)
            yield data

    def _read(self, offset: int) -> bytes:
        """Read some CHUNK_BYTES, less at the end or in front of damage, which the next call meets.

        `read` would do for plain bytes; of compressed ones it gives nothing of the piece that the
        damage is in, and an operator wants every key before it.
        """
        pieces: list[bytes] = []
        gathered = 0
        while gathered < CHUNK_BYTES and not self._damage:
            try:
                piece = self._data.read1(CHUNK_BYTES - gathered)
            except (EOFError, gzip.BadGzipFile, zlib.error, RuntimeError) as error:
                # RuntimeError is what lz4.frame raises at a damaged frame. Asked once more,
                # a decompressor has forgotten what was wrong, and says that the file was cut.
                self._damage = f"the compression is damaged: {error}"
                break
            if not piece:
                break
            pieces.append(piece)
            gathered += len(piece)
            if self._data is self._stored:
                break  # one system call gave what a pipe had, or all of it
        if self._damage and not pieces:
            raise RdbError(self._damage, offset=offset)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Progress:
    """A line on standard error while a large file is read at a terminal."""

    def __init__(self, raw: io.FileIO) -> None:
        self.wanted = False
        self._size = 0
        self._next_s = 0.0
        if sys.stderr.isatty():
            status = os.fstat(raw.fileno())
            self._size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            self.wanted = self._size >= _PROGRESS_BYTES

    def show(self, offset: int, keys: int) -> None:
        """Say how far we are, a few times a second."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _PROGRESS_INTERVAL_S
            sys.stderr.write(f"\r{100 * offset // self._size:3d}%  {keys:,} keys\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.wanted:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def open_stored(name: str) -> Iterator[io.FileIO]:
    """Open the file `name`, or standard input for "-", for its bytes as they are stored.

    Raises:
        OSError: it cannot be opened.
    """
    if name != "-":
        with open(name, "rb", buffering=0) as raw:
            yield raw
        return
    if sys.stdin is None:  # descriptor 0 was closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
    with open(0, "rb", buffering=0, closefd=False) as raw:
        yield raw


@contextmanager
def open_source(name: str) -> Iterator[Source]:
    """Open the file `name`, or standard input for "-".

    Raises:
        OSError: it cannot be opened.
    """
    with open_stored(name) as raw:
        yield Source(name, raw)
