"""An append-only log on the disk, for tools: which files it has, and what is in each.

    open_log(path)    a folder, its manifest, or a single file -> Log, its Parts in reading order
    scan(part)        one walk through a file -> Found: how much is whole, when it was written
    items(part, ...)  the same bytes again, one command or annotation after the other
    salvage(part, at) where, after damage, commands can be read again

`scan` walks with the readers that the server starts with (RdbReader, and AofReplay as AofCount), so
that what it calls whole is what a server loads. `items` is only used on bytes that `scan` found
whole.

Nothing here writes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from kvrepl.errors import AofError
from kvrepl.persistence.aof import RDB_MAGIC, AofCount, AofEnd, EndKind
from kvrepl.persistence.manifest import Layout, Manifest, parse_manifest
from rdb import RdbError
from rdb.reader import RdbReader
from rdb.records import Aux, Header, Key, Record

CHUNK_BYTES: Final = 256 * 1024
MANIFEST_SUFFIX: Final = ".manifest"
SALVAGE_ATTEMPTS: Final = 1_000
"""How many places after damage are tried; each is refused within a few bytes as a rule."""

SALVAGE_WINDOW_BYTES: Final = 1024 * 1024
"""A place is passed over where its first command is longer than this."""

_EMPTY: Final = AofEnd(EndKind.WHOLE, 0, 0)
_COMMAND: Final = re.compile(rb"\*[1-9]\d{0,6}\r\n\$\d")


class Part(NamedTuple):
    """One file of a log.

    Attributes:
        name: as the manifest has it.
        path: where it is.
        type: "b" base, "i" increment, "" a file that was named without its manifest.
        size_bytes: None where there is no such file.
    """

    name: str
    path: Path
    type: str
    size_bytes: int | None

    @property
    def role(self) -> str:
        """What it is called in messages."""
        return {"b": "base", "i": "increment"}.get(self.type, "file")


@dataclass(frozen=True, slots=True)
class Log:
    """A log as its manifest describes it, or a single file.

    Attributes:
        folder: where its files are.
        parts: base and increments, in the order in which they are read.
        manifest: None for a single file.
        layout: the names of its files, relative to the folder above `folder`.
    """

    folder: Path
    parts: tuple[Part, ...]
    manifest: Manifest | None = None
    layout: Layout = field(default_factory=Layout)

    def strangers(self) -> list[str]:
        """Files in the folder that the manifest does not name; a server leaves them alone."""
        if self.manifest is None:
            return []
        known = {file.name for file in (*self.manifest, *self.manifest.history)}
        known.add(self.layout.filename + MANIFEST_SUFFIX)
        return sorted(name for name in os.listdir(self.folder) if name not in known)


@dataclass(slots=True)
class Found:
    """What a walk through one file has found.

    Attributes:
        part: the file.
        rdb_version: of the RDB that the file is or begins with, None if there is none.
        rdb_bytes: where that ends, and commands begin.
        rdb_keys: the keys in it.
        rdb_error: why it cannot be read; nothing after it has been looked at then.
        written_s: Unix time at which it was begun (its field ctime), None where it does not say.
        commands: those outside of transactions, and those of transactions that have their EXEC.
        undated: how many of them stand before the first timestamp.
        first_s, last_s: the first and the last timestamp, Unix time; None where there is none.
        stopped: the walk met a timestamp above its limit and ended there.
        whole_up_to: the end of the last whole command or annotation, inside a transaction or not.
        end: how the commands end.
        names: how often each command occurs, in upper case.
    """

    part: Part
    rdb_version: int | None = None
    rdb_bytes: int = 0
    rdb_keys: int = 0
    rdb_error: RdbError | None = None
    written_s: int | None = None
    commands: int = 0
    undated: int = 0
    first_s: int | None = None
    last_s: int | None = None
    stopped: bool = False
    whole_up_to: int = 0
    end: AofEnd = _EMPTY
    names: Counter[bytes] = field(default_factory=Counter)

    @property
    def is_whole(self) -> bool:
        """Whether a server loads it as it is."""
        return self.rdb_error is None and self.end.kind is EndKind.WHOLE

    @property
    def is_torn(self) -> bool:
        """Whether it ends in the middle, as a crash leaves it."""
        return self.end.kind in (EndKind.SHORT_READ, EndKind.OPEN_TRANSACTION)


class Item(NamedTuple):
    """A command or an annotation as it stands in a file.

    Attributes:
        offset: of its first byte.
        end: of the byte after it.
        argv: the command, MULTI and EXEC included; empty for an annotation.
        annotation: the text after the "#", None for a command.
    """

    offset: int
    end: int
    argv: list[bytes]
    annotation: bytes | None = None


def open_log(path: str | os.PathLike[str]) -> Log:
    """Find the files of a log.

    Args:
        path: a folder with one manifest in it, a manifest, or a single file.

    Raises:
        AofError: there is no manifest in the folder, or several, or it is malformed.
        OSError: it cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        place = _manifest_in(place)
    elif not _is_manifest(place):
        return Log(place.parent, (Part(place.name, place, "", place.stat().st_size),))
    manifest = parse_manifest(place.read_bytes(), str(place))
    folder = place.parent
    parts = tuple(
        Part(file.name, folder / file.name, file.type, _size(folder / file.name))
        for file in manifest
    )
    filename = place.name.removesuffix(MANIFEST_SUFFIX)
    return Log(folder, parts, manifest, Layout(filename, folder.resolve().name))


def scan(
    part: Part,
    *,
    stop_after_s: int | None = None,
    strict: bool = False,
) -> Found:
    """Walk through a file.

    Args:
        part: the file.
        stop_after_s: end before the first command that was written later than this Unix second.
        strict: also decode every value of an RDB, and find BAD_FORMAT where an argument does not
            end in CR LF. Servers do not look at these two bytes; redis-check-aof does, because a
            command that is read past them is most likely not what was written.

    Raises:
        OSError: it cannot be read.

    Cost: O(bytes); memory is one chunk, the largest value and the longest transaction.
    """
    found = Found(part)
    reader: RdbReader | None = None
    count: AofCount | None = None
    with open(part.path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if reader is None and count is None:
                if chunk.startswith(RDB_MAGIC):
                    reader = RdbReader(raw_values=not strict)
                else:
                    count = AofCount(stop_after_s=stop_after_s, strict=strict)
            if count is None:
                assert reader is not None
                try:
                    _count_records(found, reader.feed(chunk))
                except RdbError as error:
                    found.rdb_error = error
                    return found
                if not reader.finished:
                    continue
                found.rdb_bytes = reader.offset
                count = AofCount(reader.offset, stop_after_s=stop_after_s, strict=strict)
                chunk = reader.unused
            count.feed(chunk)
            if count.stopped or count.finish().kind is EndKind.BAD_FORMAT:
                break
    if count is not None:
        _take_count(found, count)
    elif reader is not None:
        try:
            reader.close()
        except RdbError as error:
            found.rdb_error = error
    return found


def items(part: Part, start: int, end: int) -> Iterator[Item]:
    """Yield what stands between two offsets, which `scan` has found to be whole.

    Args:
        part: the file.
        start: the offset of a command or annotation.
        end: where to stop, an offset at which one ends.

    Cost: O(bytes); memory is one command.
    """
    with open(part.path, "rb") as file:
        file.seek(start)
        offset = start
        while offset < end:
            line = file.readline()
            position = offset + len(line)
            if line.startswith(b"#"):
                yield Item(offset, position, [], line[1:].rstrip(b"\r\n"))
            else:
                argv: list[bytes] = []
                for _ in range(int(line[1:])):
                    header = file.readline()
                    length = int(header[1:])
                    data = file.read(length + 2)
                    argv.append(data[:length])
                    position += len(header) + length + 2
                yield Item(offset, position, argv)
            offset = position


def scan_from(part: Part, offset: int) -> Found:
    """Walk from an offset to the end of the file, or to where it makes no sense any more.

    The walk is given up where there is no whole command in the first SALVAGE_WINDOW_BYTES.

    Raises:
        OSError: it cannot be read.
    """
    found = Found(part)
    count = AofCount(offset)
    read_bytes = 0
    with open(part.path, "rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK_BYTES):
            read_bytes += len(chunk)
            count.feed(chunk)
            hopeless = not count.commands and read_bytes >= SALVAGE_WINDOW_BYTES
            if hopeless or count.finish().kind is EndKind.BAD_FORMAT:
                break
    _take_count(found, count)
    return found


def salvage(part: Part, damage: int) -> tuple[int, Found] | None:
    """Find where commands can be read again after damage.

    What is read there need not have been written as a command (it may stand inside a value), and
    commands between are missing: it is for people to look at, never for a server to load.

    Args:
        part: the file.
        damage: the offset at which the command begins that cannot be read.

    Returns:
        The offset of the first place from which at least one whole command can be read, and what
        was found from there on; None if there is none among SALVAGE_ATTEMPTS.

    Cost: O(bytes) as a rule; SALVAGE_ATTEMPTS times SALVAGE_WINDOW_BYTES more at worst.
    """
    with open(part.path, "rb") as file:
        file.seek(damage + 1)
        attempts = 0
        base, window = damage + 1, b""
        while chunk := file.read(CHUNK_BYTES):
            window += chunk
            for match in _COMMAND.finditer(window):
                attempts += 1
                at = base + match.start()
                found = scan_from(part, at)
                if found.commands:
                    return at, found
                if attempts == SALVAGE_ATTEMPTS:
                    return None
            # A match may be cut by the end of the window; it is at most 12 bytes long.
            base, window = base + max(len(window) - 11, 0), window[-11:]
    return None


def excerpt(part: Part, offset: int, most_bytes: int = 60) -> str:
    """The bytes at an offset, as they can be shown. Raises OSError."""
    with open(part.path, "rb") as file:
        file.seek(offset)
        data = file.read(most_bytes + 1)
    text = data[:most_bytes].decode("latin-1").encode("unicode_escape").decode()
    return f"'{text}'" + ("..." if len(data) > most_bytes else "")


def _take_count(found: Found, count: AofCount) -> None:
    """Note what a walk through the commands has found."""
    found.commands, found.undated, found.names = count.commands, count.undated, count.names()
    found.first_s, found.last_s = count.first_s, count.timestamp_s
    found.stopped = count.stopped
    found.whole_up_to = count.offset
    found.end = count.finish()


def _count_records(found: Found, records: list[Record]) -> None:
    for record in records:
        if isinstance(record, Key):
            found.rdb_keys += 1
        elif isinstance(record, Header):
            found.rdb_version = record.version
        elif isinstance(record, Aux) and record.key == b"ctime" and record.value.isdigit():
            found.written_s = int(record.value)


def _manifest_in(folder: Path) -> Path:
    names = sorted(
        name
        for name in os.listdir(folder)
        if name.endswith(MANIFEST_SUFFIX) and not name.startswith("temp-")
    )
    if len(names) != 1:
        what = f"{len(names)} manifests ({', '.join(names)})" if names else "no manifest"
        raise AofError(f"{what} in this folder; name the file", path=str(folder))
    return folder / names[0]


def _is_manifest(path: Path) -> bool:
    if path.name.endswith(MANIFEST_SUFFIX):
        return True
    with open(path, "rb") as file:
        return file.read(5) == b"file "


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
