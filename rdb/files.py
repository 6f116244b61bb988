"""Reading an RDB file by name. The only module of the library that opens anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from rdb.reader import RdbReader
from rdb.records import Record

CHUNK_BYTES = 1 << 20


def read(
    path: str | os.PathLike[str],
    *,
    verify_checksum: bool = True,
    raw_values: bool = False,
    part_bytes: int = 0,
) -> Iterator[Record]:
    """Yield the records of the RDB file at `path`, the End record last.

    Args:
        path: the file.
        verify_checksum: whether to compute and compare the checksum at the end.
        raw_values: give values as their encoded bytes.
        part_bytes: give values that take more than this in parts; 0 gives all whole.

    Raises:
        RdbError: the file is malformed, after the records before the damage.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as stream:
        yield from read_stream(
            stream,
            verify_checksum=verify_checksum,
            raw_values=raw_values,
            part_bytes=part_bytes,
        )


def read_stream(
    stream: BinaryIO,
    *,
    verify_checksum: bool = True,
    raw_values: bool = False,
    part_bytes: int = 0,
) -> Iterator[Record]:
    """Yield the records of the RDB that `stream` holds; see `read`.

    The stream is read in pieces of 1 MiB, so bytes after the end may have been taken from it.
    """
    reader = RdbReader(
        verify_checksum=verify_checksum, raw_values=raw_values, part_bytes=part_bytes
    )
    while not reader.finished:
        data = stream.read(CHUNK_BYTES)
        if not data:
            reader.close()
        yield from reader.feed(data)
