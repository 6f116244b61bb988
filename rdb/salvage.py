"""What can be read of a damaged RDB, and which bytes are lost.

The format has no marks to find a record by. Records are walked one by one; where one cannot be
read, the next is looked for:

    1  where the record's own frame ends: a damaged value costs its key alone (a record that is
       well there is enough to go on)
    2  inside the record before: a damaged length makes a value swallow the records after it
    3  byte by byte from there on

A place is believed to be the start of a record if what follows reads as NEEDED_KEYS keys of
different names, or as records up to the end record where the file ends. The rest of a damaged
record may read as a key by chance, and end where the next one starts; it is not believed if its
type is younger than the file, or its name is no text and those after it are. A hole of zeros
would read as keys without name and value, so the same name twice in a row is damage as well.

Lost with the bytes is what they said of the records after them: keys behind a lost change of
database are taken to be in the one before. A change within a value that leaves it well-formed
cannot be seen but by the checksum, which says that there is one, not where.

Invariant: what is yielded covers the file from the first byte to the end of its last record, in
order and without overlap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rdb import constants as c
from rdb.dialect import Dialect
from rdb.errors import RdbError
from rdb.lengths import encode_length
from rdb.measure import measure_record
from rdb.reader import RdbReader
from rdb.records import End, HashTemplate, Header, Key, KeyMetadata, Record, SelectDb
from rdb.targets import FIRST_VERSIONS

ReadAt = Callable[[int, int], bytes]
"""(offset, size) -> the bytes there, fewer at the end of the file."""

NEEDED_KEYS: Final = 3
_MAX_OTHERS: Final = 64
"""Records other than keys, and keys of the same name, in the attempt to believe a place."""
_PIECE_BYTES: Final = 4096
_SCAN_BYTES: Final = 1 << 16
_MAX_SWALLOWED_BYTES: Final = 1 << 20
"""How far into a record others are looked for that it may have swallowed."""
# Opcodes and types, but not the start of a string record without name and value.
_CANDIDATE: Final = re.compile(rb"(?!\x00\x00\x00)[\x00-\x20\xf2-\xff]")


@dataclass(frozen=True, slots=True)
class Saved:
    """A record that can be read, `data` being its bytes [start, end)."""

    start: int
    end: int
    record: Record
    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes [start, end) that cannot be read, and the key they were of, where that is known."""

    start: int
    end: int
    reason: str
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Bad:
    """A record that cannot be read; `end` is where its frame ends, -1 where it has none."""

    reason: str
    end: int = -1
    key: bytes | None = None


class Salvage:
    """A walk through one damaged file.

    Args:
        read_at: gives the bytes of the file.
        size: of the file, in bytes.

    Attributes:
        header: that of the file, or of version 10 where it cannot be read.
    """

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self.header = Header(c.WRITE_VERSION)
        self._read_at = read_at
        self._size = size
        self._head = b"REDIS%04d" % c.MAX_REDIS_VERSION
        # The templates of hashes in it are those of the records that were saved.
        self._dialect = Dialect()
        self._db = 0
        self._start_of_file: Saved | Lost | None = None

    def walk(self) -> Iterator[Saved | Lost]:
        """Yield what is saved and what is lost, in the order of the file, header first.

        Cost: O(size), and an attempt to read for every byte that is lost.
        """
        first = self._start_of_file = self._first()
        yield first
        pos = first.end
        held: Saved | None = None
        reader = self._reader(self._db)
        while pos < self._size:
            found = self._record_at(pos, reader)
            if isinstance(found, Saved) and not _is_twin(held, found):
                if held is not None:
                    yield held
                if isinstance(found.record, End):
                    held = None
                    resume = self._beyond(found)
                    if resume == self._size:
                        yield found
                        return
                    yield Lost(pos, resume, "an end record, and keys behind it")
                    pos = resume
                    reader = self._reader(self._db)
                    continue
                held, pos = found, found.end
                if isinstance(found.record, SelectDb):
                    self._db = found.record.db
                elif isinstance(found.record, HashTemplate):
                    self._dialect.templates[found.record.template_id] = found.record.fields
                continue
            start = pos
            if isinstance(found, Saved):
                assert held is not None
                start, held = held.start, None
                found = _Bad("the same key twice in a row")
                resume = self._scan(start + 1, self._size)
            else:
                resume = self._after(pos, found, held)
                if held is not None and resume < pos:
                    start, held = held.start, None
                    found = _Bad("a value runs over the records behind it", key=found.key)
            if held is not None:
                yield held
                held = None
            yield Lost(start, resume, found.reason, found.key)
            pos = resume
            reader = self._reader(self._db)
        if held is not None:
            yield held
        yield Lost(self._size, self._size, "the end record is missing")

    def _first(self) -> Saved | Lost:
        head = self._read_at(0, c.HEADER_BYTES)
        try:
            records = RdbReader().feed(head)
        except RdbError as error:
            reason = error.message
        else:
            if records:
                assert isinstance(records[0], Header)
                self.header, self._head = records[0], head
                self._dialect.valkey = self.header.magic == c.VALKEY_MAGIC
                return Saved(0, c.HEADER_BYTES, self.header, head)
            reason = "the header is cut off"
        after = min(c.HEADER_BYTES, self._size)
        if not self._is_plausible(after):
            after = self._scan(0, self._size)
        return Lost(0, after, reason)

    def _reader(self, db: int) -> RdbReader:
        reader = RdbReader(verify_checksum=False)
        reader.feed(self._head + bytes((c.OP_SELECT_DB,)) + encode_length(db))
        reader.dialect.templates.update(self._dialect.templates)
        return reader

    def _record_at(self, pos: int, reader: RdbReader) -> Saved | _Bad:
        """Read one record; a reader that met a bad one cannot be used again."""
        buffer = bytearray(self._read_at(pos, _PIECE_BYTES))
        walk = measure_record(buffer, 0, reader.dialect)
        try:
            while True:
                needed = next(walk)
                if pos + needed > self._size:
                    return _Bad("it runs past the end of the file", key=self._key_in(buffer))
                more = max(needed - len(buffer), min(len(buffer), _SCAN_BYTES))
                buffer += self._read_at(pos + len(buffer), more)
        except StopIteration as stop:
            size: int = stop.value
        except RdbError as error:
            return _Bad(error.message, key=self._key_in(buffer))
        if buffer[0] == c.OP_EOF and self.header.version >= c.FIRST_CHECKSUM_VERSION:
            size += c.CHECKSUM_BYTES
        data = bytes(buffer[:size])
        try:
            records = reader.feed(data)
        except RdbError as error:
            return _Bad(error.message, pos + size, error.key)
        if records and isinstance(records[0], KeyMetadata):
            del records[0]  # It is part of the record of its key.
        if len(records) != 1:
            return _Bad("it does not end where its frame does", pos + size)
        return Saved(pos, pos + size, records[0], data)

    def _key_in(self, buffer: bytearray) -> bytes | None:
        """The key of the record that starts `buffer`, if that much can be read."""
        reader = self._reader(self._db)
        try:
            reader.feed(buffer)
            reader.close()
        except RdbError as error:
            return error.key
        return None

    def _after(self, pos: int, bad: _Bad, held: Saved | None) -> int:
        """Where to go on behind a bad record; before `pos` if `held` was not what it seemed."""
        if bad.end >= 0 and self._is_plausible(bad.end, needed=1):
            return bad.end  # The frame says the same as what follows it: one key is enough.
        if held is not None and isinstance(held.record, Key):
            stop = min(pos, held.start + _MAX_SWALLOWED_BYTES)
            inside = self._scan(held.start + 1, stop, until=pos)
            if inside < stop:
                return inside
        return self._scan(pos + 1, self._size)

    def _beyond(self, end: Saved) -> int:
        """Where records go on behind what looks like the end, or the size of the file."""
        if end.end == self._size:
            return self._size
        return self._scan(end.start + 1, self._size)

    def _scan(self, start: int, stop: int, until: int = -1) -> int:
        """The first place from `start` on where a record seems to start, or `stop`."""
        while start < stop:
            # Two bytes more, for the pattern to look ahead.
            block = self._read_at(start, min(_SCAN_BYTES, stop - start) + 2)
            for match in _CANDIDATE.finditer(block):
                at = start + match.start()
                if match.start() >= _SCAN_BYTES or at >= stop:
                    break
                if self._is_plausible(at, until):
                    return self._innermost(at)
            start += _SCAN_BYTES
        return stop

    def _first_version(self, key: Key) -> int:
        is_known = isinstance(self._start_of_file, Saved) and not self._dialect.valkey
        return FIRST_VERSIONS.get(key.type_code, 0) if is_known else 0

    def _innermost(self, at: int) -> int:
        """`at`, unless the record there swallows others that go on behind it."""
        first = self._record_at(at, self._reader(0))
        assert isinstance(first, Saved)
        stop = min(first.end, at + _MAX_SWALLOWED_BYTES)
        inside = self._scan(at + 1, stop, until=first.end)
        return inside if inside < stop else at

    def _is_plausible(self, pos: int, until: int = -1, needed: int = NEEDED_KEYS) -> bool:
        """Whether records follow from `pos` on, and go on beyond `until`.

        Records up to the end record, at the end of the file, are always enough.
        """
        reader = self._reader(0)
        names: dict[tuple[int, bytes], bool] = {}  # The value: whether the name is text.
        seen = 0
        while pos < self._size:
            found = self._record_at(pos, reader)
            if isinstance(found, _Bad):
                return False
            record = found.record
            if isinstance(record, End):
                return found.end == self._size and _are_alike(names)
            if isinstance(record, Key):
                if self._first_version(record) > self.header.version:
                    return False
                names[record.db, record.key] = _is_text(record.key)
            seen += 1
            if seen > len(names) + _MAX_OTHERS:
                return False
            pos = found.end
            if pos > until and len(names) >= needed:
                return _are_alike(names)
        return False


def _is_twin(held: Saved | None, found: Saved) -> bool:
    if held is None or not (isinstance(held.record, Key) and isinstance(found.record, Key)):
        return False
    return (held.record.db, held.record.key) == (found.record.db, found.record.key)


def _is_text(name: bytes) -> bool:
    try:
        return name.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _are_alike(names: dict[tuple[int, bytes], bool]) -> bool:
    """Whether the first name is text, or others are not either."""
    kinds = list(names.values())
    return all(kinds[:1]) or len(kinds) == 1 or not all(kinds[1:])
