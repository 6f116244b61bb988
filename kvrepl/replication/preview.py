"""What the first bytes of a snapshot tell before any of it replaces a dataset.

    has_keys       whether it holds a key at all
    used_bytes     the memory of the master when it was made (`used-mem`), 0 where it says none

Reading stops as soon as both are known, which is with the first database: the size of the snapshot
does not matter. Functions may come before and are skipped. A snapshot that cannot be read so far
says nothing, and its load will fail in its own words.

Source: Redis 7.0, rdb.c (rdbSaveRio): aux fields, functions, then per database SELECTDB and
RESIZEDB, which every version since RDB 7 writes.
"""

from __future__ import annotations

from typing import Final

from rdb import RdbError
from rdb.reader import RdbReader
from rdb.records import Aux, End, Key, Record, ResizeDb

_SLICE_BYTES: Final = 4096
"""Parsed at a time, so that little is decoded beyond the first key."""


class Preview:
    """A snapshot's head, fed in any cut.

    Attributes:
        has_keys: None while that is not known.
        used_bytes: of the master.
    """

    __slots__ = ("_reader", "has_keys", "used_bytes")

    def __init__(self) -> None:
        self.has_keys: bool | None = None
        self.used_bytes = 0
        self._reader: RdbReader | None = RdbReader(verify_checksum=False)

    def feed(self, data: bytes) -> None:
        """Take the next bytes; nothing once all is known. O(bytes before the first key)."""
        at = 0
        while self._reader is not None and at < len(data):
            try:
                records = self._reader.feed(data[at : at + _SLICE_BYTES])
            except RdbError:
                self._reader = None
                return
            at += _SLICE_BYTES
            for record in records:
                self._take(record)
            if self.has_keys is not None:
                self._reader = None

    def _take(self, record: Record) -> None:
        if isinstance(record, Aux):
            if record.key == b"used-mem" and record.value.isdigit():
                self.used_bytes = int(record.value)
        elif isinstance(record, Key) or (isinstance(record, ResizeDb) and record.keys):
            self.has_keys = True
        elif isinstance(record, End) and self.has_keys is None:
            self.has_keys = False
