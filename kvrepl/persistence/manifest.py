"""The manifest: which files make up the append-only log, and in what order they are read.

Format, one line a file, in this order: the base (at most one), history, increments.

    manifest  = 1*line                        ; an empty file is refused
    line      = pair pair pair *pair LF       ; at most 1,024 bytes, LF included
              | "#" anything LF               ; a comment
    pair      = "file" name | "seq" number | "type" ("b" | "h" | "i") | unknown value
    name      = a file name without a folder, in quotes if it has blanks or odd bytes

    file appendonly.aof.2.base.rdb seq 2 type b
    file appendonly.aof.1.base.rdb seq 1 type h
    file appendonly.aof.1.incr.aof seq 1 type h
    file appendonly.aof.2.incr.aof seq 2 type i

A base (b) is a snapshot; an increment (i) holds the commands executed since; history (h) is what
a finished rewrite replaced and is only waiting to be removed.

Invariants: increments are numbered upwards and read in that order; a file is named here, durably,
before the first acknowledged command is in it, and removed only after the manifest without it
in its base or increments is durable. `Manifest` is a value: each change makes a new one, which
replaces the old one in memory only after `persist` has put it on the disk.

Source: Redis 7.0 aof.c (aofLoadManifestFromFile, getAofManifestAsString, writeAofManifestFile,
getNewBaseFileNameAndMarkPreAsHistory, getNewIncrAofName, markRewrittenIncrAofAsHistory).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from kvrepl.errors import AofError, StorageError
from kvrepl.persistence.disk import Disk, discard, write_all
from kvrepl.resp.inline import quote, split_inline

MAX_LINE_BYTES: Final = 1024
"""Longest line of a manifest, its newline included (MANIFEST_MAX_LINE)."""

EMPTY: Final = "Found an empty AOF manifest"
TOO_LONG: Final = "The AOF manifest file contains too long line"
INVALID: Final = "Invalid AOF manifest file format"
NOT_A_NAME: Final = "File can't be a path, just a filename"
DUPLICATE_BASE: Final = "Found duplicate base file information"
NOT_MONOTONIC: Final = "Found a non-monotonic sequence number"
UNKNOWN_TYPE: Final = "Unknown AOF file type"

FileType = Literal["b", "h", "i"]


class ManifestError(AofError):
    """A manifest that cannot be trusted; the server must not start on it.

    Args:
        message: what is wrong, in Redis's words.
        path: the manifest's name.
        offset: where the offending line starts.
        line_number: counted from 1; 0 for the file as a whole.
        line: the line without surrounding blanks, None where it could not be read as one.
    """

    def __init__(
        self, message: str, *, path: str, offset: int, line_number: int, line: bytes | None
    ) -> None:
        super().__init__(message, path=path, offset=offset)
        self.line_number = line_number
        self.line = line

    def log_lines(self) -> list[str]:
        """The report as operators and their scripts know it; the cause is the last line."""
        report = ["*** FATAL AOF MANIFEST FILE ERROR ***"]
        if self.line is not None:
            text = self.line.decode("utf-8", "backslashreplace")
            report.append(f"Reading the manifest file, at line {self.line_number}")
            report.append(f">>> '{text}'")
        report.append(self.message)
        return report


class UnsyncedManifest(StorageError):
    """The new manifest is in place, but the disk could not promise that it will stay there.

    Not a failure to be rolled back: the files it names are what a restart would read. The folder
    has to be synced again before anything is acknowledged on the strength of it.
    """


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of everything that belongs to one append-only log.

    Args:
        filename: `appendfilename`, the prefix of every name.
        dirname: `appenddirname`, the folder inside the working folder.
    """

    filename: str = "appendonly.aof"
    dirname: str = "appendonlydir"

    def path(self, name: str) -> str:
        """The path of a file of the log."""
        return f"{self.dirname}/{name}"

    @property
    def manifest(self) -> str:
        """Path of the manifest."""
        return self.path(f"{self.filename}.manifest")

    @property
    def temp_manifest(self) -> str:
        """Path of the manifest while it is being written."""
        return self.path(f"temp-{self.filename}.manifest")

    @property
    def temp_incr(self) -> str:
        """Path of the increment that is kept while the first base of all is being written."""
        return self.path(f"temp-{self.filename}.incr")

    @property
    def legacy(self) -> str:
        """Path of the single file that Redis kept before version 7."""
        return self.filename

    def base_name(self, seq: int, *, rdb: bool) -> str:
        """Name of a base file."""
        return f"{self.filename}.{seq}.base.{'rdb' if rdb else 'aof'}"

    def incr_name(self, seq: int) -> str:
        """Name of an increment."""
        return f"{self.filename}.{seq}.incr.aof"


class AofFile(NamedTuple):
    """One line of the manifest."""

    name: str
    seq: int
    type: FileType

    def format(self) -> bytes:
        """The line, with its newline."""
        return b"file %b seq %d type %b\n" % (_quote(self.name), self.seq, self.type.encode())


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a log. Empty for a server that has never had one."""

    base: AofFile | None = None
    history: tuple[AofFile, ...] = ()
    incr: tuple[AofFile, ...] = ()

    def __iter__(self) -> Iterator[AofFile]:
        """The files that hold the data, in the order in which they are to be read."""
        if self.base is not None:
            yield self.base
        yield from self.incr

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return self.base is None and not self.incr

    def format(self) -> bytes:
        """The text of the manifest file. Source: aof.c getAofManifestAsString."""
        first = (self.base,) if self.base is not None else ()
        return b"".join(file.format() for file in (*first, *self.history, *self.incr))

    def next_incr(self, layout: Layout) -> tuple[Manifest, AofFile]:
        """Open a further increment.

        Its number is above every increment's, those in history included: with automatic removal
        off, a file of that name would otherwise still be there (a case Redis leaves open).
        """
        taken = [file.seq for file in self.incr]
        taken += [file.seq for file in self.history if file.name == layout.incr_name(file.seq)]
        seq = max(taken, default=0) + 1
        file = AofFile(layout.incr_name(seq), seq, "i")
        return replace(self, incr=(*self.incr, file)), file

    def next_base(self, layout: Layout, *, rdb: bool) -> tuple[Manifest, AofFile]:
        """Put a new base in the place of the old one, which becomes history."""
        seq = (self.base.seq if self.base is not None else 0) + 1
        file = AofFile(layout.base_name(seq, rdb=rdb), seq, "b")
        history = self.history
        if self.base is not None:
            history = (self.base._replace(type="h"), *history)
        return replace(self, base=file, history=history), file

    def rewrite_done(
        self, layout: Layout, *, rdb: bool, keep_last_incr: bool
    ) -> tuple[Manifest, AofFile]:
        """The manifest after a rewrite: a new base, and all that it covers become history.

        Args:
            layout: the names.
            rdb: whether the new base is an RDB file.
            keep_last_incr: whether the last increment is being written (the log is on) and so
                holds what the new base does not cover.

        Returns:
            The new manifest and its base, under whose name the child's file is to be moved.
        """
        manifest, base = self.next_base(layout, rdb=rdb)
        cut = len(self.incr) - 1 if keep_last_incr else len(self.incr)
        covered = tuple(file._replace(type="h") for file in self.incr[:cut])
        history = (*covered, *manifest.history)
        return replace(manifest, history=history, incr=self.incr[cut:]), base

    def without_history(self, names: Collection[str]) -> Manifest:
        """The manifest after history files have been removed."""
        return replace(self, history=tuple(f for f in self.history if f.name not in names))

    @classmethod
    def of_legacy(cls, layout: Layout) -> Manifest:
        """The manifest of a single file from before version 7, taken over as the base."""
        return cls(base=AofFile(layout.filename, 1, "b"))


def parse_manifest(data: bytes, path: str = "") -> Manifest:
    """Read a manifest.

    Args:
        data: the whole file.
        path: its name, for the error.

    Raises:
        ManifestError: with Redis's text and the line.

    Cost: O(len(data)). Source: aof.c aofLoadManifestFromFile.
    """
    if not data:
        raise ManifestError(EMPTY, path=path, offset=0, line_number=0, line=None)
    base: AofFile | None = None
    history: list[AofFile] = []
    incr: list[AofFile] = []
    offset = 0
    for number, raw in enumerate(_lines(data), 1):
        start, offset = offset, offset + len(raw)
        if raw.startswith(b"#"):
            continue
        line: bytes | None = None
        try:
            if not raw.endswith(b"\n"):
                raise ValueError(TOO_LONG)
            line = raw.strip(b" \t\r\n")
            file = _parse_line(line)
            if file.type == "b":
                if base is not None:
                    raise ValueError(DUPLICATE_BASE)
                base = file
            elif file.type == "h":
                history.append(file)
            else:
                if file.seq <= (incr[-1].seq if incr else 0):
                    raise ValueError(NOT_MONOTONIC)
                incr.append(file)
        except ValueError as error:
            raise ManifestError(
                str(error), path=path, offset=start, line_number=number, line=line
            ) from None
    return Manifest(base, tuple(history), tuple(incr))


def load_manifest(disk: Disk, layout: Layout) -> Manifest:
    """Read the manifest of a log; a log that does not exist yet has an empty one.

    Raises:
        ManifestError: it is malformed.
        StorageError: it could not be read.
    """
    if not disk.is_dir(layout.dirname) or disk.size(layout.manifest) is None:
        return Manifest()
    return parse_manifest(b"".join(disk.read(layout.manifest)), layout.manifest)


def persist(disk: Disk, layout: Layout, manifest: Manifest) -> None:
    """Put the manifest on the disk: all of it or, after any crash, all of the one before.

    The folder is synced twice. Redis does so once, after the rename; the sync before it makes
    sure that no file system can keep the manifest and lose the names of the files in it.

    Raises:
        UnsyncedManifest: it is in place, but its name is not durable yet.
        StorageError: it is not in place; the old one is.

    Source: aof.c writeAofManifestFile.
    """
    try:
        file = disk.create(layout.temp_manifest)
        try:
            write_all(file, manifest.format())
            file.fsync()
        finally:
            file.close()
        disk.fsync_dir(layout.dirname)
        disk.rename(layout.temp_manifest, layout.manifest)
    except StorageError:
        discard(disk, layout.temp_manifest)
        raise
    try:
        disk.fsync_dir(layout.dirname)
    except StorageError as error:
        raise UnsyncedManifest(error.what, error.cause) from error


def _lines(data: bytes) -> Iterator[bytes]:
    """Split after each newline and, as fgets does, after MAX_LINE_BYTES without one."""
    start = 0
    while start < len(data):
        newline = data.find(b"\n", start, start + MAX_LINE_BYTES)
        end = newline + 1 if newline >= 0 else start + MAX_LINE_BYTES
        yield data[start:end]
        start = end


def _parse_line(line: bytes) -> AofFile:
    """Read one line. Raises ValueError with the text of the report."""
    words = split_inline(line)
    if words is None or len(words) < 6 or len(words) % 2:
        raise ValueError(INVALID)
    name, seq, kind = b"", 0, b""
    for key, value in zip(words[::2], words[1::2], strict=True):
        match key.lower():
            case b"file":
                name = value
                if b"/" in name or b"\\" in name:
                    raise ValueError(NOT_A_NAME)
            case b"seq":
                seq = _leading_int(value)
            case b"type":
                kind = value[:1]
            case _:
                pass  # a pair that a later version added
    if not name or not seq or not kind:
        raise ValueError(INVALID)
    text = name.decode("utf-8", "surrogateescape")
    match kind:
        case b"b":
            return AofFile(text, seq, "b")
        case b"h":
            return AofFile(text, seq, "h")
        case b"i":
            return AofFile(text, seq, "i")
        case _:
            raise ValueError(UNKNOWN_TYPE)


_LEADING_INT = re.compile(rb"\s*([+-]?\d{1,18})")


def _leading_int(text: bytes) -> int:
    """The number that a text begins with, 0 for none, as C's atoll reads it."""
    match = _LEADING_INT.match(text)
    return int(match[1]) if match else 0


_PLAIN_NAME = re.compile(rb"[\x21-\x7e]+")


def _quote(name: str) -> bytes:
    """A name as it stands in the file: in quotes if it must. Source: sds.c sdsneedsrepr."""
    raw = name.encode("utf-8", "surrogateescape")
    if _PLAIN_NAME.fullmatch(raw) and not any(mark in raw for mark in (b'"', b"'", b"\\")):
        return raw
    return quote(raw)
