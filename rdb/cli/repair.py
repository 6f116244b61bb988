"""`rdb repair`: a new file with every key of a damaged one that can be read."""

from __future__ import annotations

import hashlib
import os
import tempfile

import click

from rdb.checksum import crc64
from rdb.cli import exits
from rdb.cli.output import Output, refuse_to_overwrite
from rdb.cli.select import Account
from rdb.cli.source import CHUNK_BYTES, Source, open_source
from rdb.constants import CHECKSUM_BYTES, FIRST_CHECKSUM_VERSION
from rdb.errors import RdbError
from rdb.records import End, Header, Key
from rdb.salvage import Lost, Salvage, Saved


class Repair:
    """One run over the decompressed bytes behind a descriptor.

    Args:
        descriptor: of a file, which is only read.
        path: where the readable records go.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self.account = Account()
        self.damaged = False
        self.lost_bytes = 0
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._path = path
        self._names: set[bytes] = set()

    def run(self) -> None:
        """Write what can be read; say what cannot."""
        salvage = Salvage(self._read_at, self._size)
        walk = salvage.walk()
        first = next(walk)
        output = Output(self._path, salvage.header.version, salvage.header.magic)
        try:
            if isinstance(first, Lost):
                self._lose(first)
            for found in walk:
                if isinstance(found, Lost):
                    self._lose(found)
                elif self._is_kept(found):
                    output.writer.raw(found.data)
                if isinstance(found, Saved) and isinstance(found.record, End):
                    self._judge(found, salvage.header)
            output.commit()
        finally:
            output.discard()

    def _read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def _lose(self, lost: Lost) -> None:
        self.damaged = True
        size = lost.end - lost.start
        self.lost_bytes += size
        key = "" if lost.key is None else f", in the record of key {lost.key!r}"
        where = f"bytes {lost.start:,} to {lost.end:,} lost ({size:,})" if size else "nothing lost"
        click.echo(f"  {where}: {lost.reason}{key}", err=True)

    def _is_kept(self, found: Saved) -> bool:
        """Whether a record goes into the new file; Redis would not load one with twins."""
        record = found.record
        if not isinstance(record, Key):
            return not isinstance(record, End)
        self.account.keys += 1
        name = hashlib.blake2b(b"%d %b" % (record.db, record.key), digest_size=16).digest()
        if name in self._names:
            self.account.dropped += 1
            click.echo(f"  dropped at {found.start:,}: {record.key!r} was there before", err=True)
            return False
        self._names.add(name)
        self.account.kept += 1
        return True

    def _judge(self, end: Saved, header: Header) -> None:
        """Hold the checksum against the whole file, if nothing else is wrong with it."""
        if self.damaged or header.version < FIRST_CHECKSUM_VERSION:
            return
        stored = int.from_bytes(end.data[-CHECKSUM_BYTES:], "little")
        crc = 0
        stop = end.end - CHECKSUM_BYTES
        for offset in range(0, stop, CHUNK_BYTES):
            crc = crc64(self._read_at(offset, min(CHUNK_BYTES, stop - offset)), crc)
        if stored and crc != stored:
            self.damaged = True
            click.echo("  wrong checksum: all is readable, but some of it was altered", err=True)


def _spool(source: Source, descriptor: int) -> str:
    """Copy the decompressed input; return what stopped it early, "" for nothing."""
    with os.fdopen(descriptor, "wb", closefd=False) as copy:
        try:
            for piece in source.pieces():
                copy.write(piece)
        except RdbError as error:
            return error.message
    return ""


@click.command(
    epilog="Exit status: 0 nothing was damaged, 1 the input is damaged and what could be read is "
    "written, 2 wrong usage, 3 the input or output failed."
)
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", required=True, metavar="PATH", help="Where to write, - for stdout.")
def repair(file: str, output: str) -> int:
    """Write a new file with every key of a damaged FILE that can be read.

    Each lost range of bytes is reported. FILE itself is never written to. Where a whole stretch
    is lost, reading goes on where at least three keys in a row can be read, or records up to
    the end. Keys behind a lost change of database are taken to be in the database before. FILE
    may be - for standard input, and may be gzip or lz4. A copy of the plain bytes is kept in the
    temporary folder while this runs. Memory: the largest record, and some 100 bytes a key.
    """
    refuse_to_overwrite((file,), output)
    with open_source(file) as source, tempfile.TemporaryFile() as copy:
        stopped = _spool(source, copy.fileno())
        name = source.name
        run = Repair(copy.fileno(), output)
        if stopped:
            run.damaged = True
            click.echo(f"  {stopped}", err=True)
        run.run()
    if run.damaged:
        click.echo(f"{name}: damaged, {run.lost_bytes:,} bytes lost", err=True)
    else:
        click.echo(f"{name}: not damaged", err=True)
    run.account.report(name)
    return exits.DAMAGED if run.damaged else exits.OK
