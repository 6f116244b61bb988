"""Collections that nobody uses, packed: kept again as the bytes that they have in an RDB file.

A small collection costs several times as many bytes as Python objects than it does packed
(kvrepl.datatypes.packed). What was loaded is packed until it is used; here what was written or
used becomes so when nobody has used it for a while. In passes over the keyspace:

    loose         where a collection may be that is not packed (Database.loose); other segments
                  are not looked at, so that a dataset without such collections pays nothing
    touched       used since the last pass: left for the next one, which is its second chance
    not touched   packed, if it is small

With a pass every n seconds, what is packed was not used for n to 2n seconds. Nothing is kept for
each key, nor for plain strings. What a pass has in hand between two steps is a list of the keys of
one segment; each is looked up again when its turn comes.

Packing is no change of a value. It counts as no use, wakes and tells nobody, is not propagated; the
order of the elements, the encoding and the time to live stay, and so does where SCAN and HSCAN are:
tables that are cut into segments, of which a cursor names one, are not packed. The bytes are
those that a snapshot would write, by the snapshot's own encoder (kvrepl.persistence.walk), which
are what it copies afterwards.

The shell says when: in short slices, and never while a child runs, for which every page that is
written is one to be copied.

Streams are not packed: all but the last node of each is packed in any case.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator
from sys import getsizeof
from typing import Any, Final

from kvrepl.datatypes import HashValue, SortedSet
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.score_order import Run
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.persistence.walk import COMPILED, encode_segment
from rdb.packed import MAX_BYTES, PACKED, Packed

MAX_ELEMENTS: Final = 512 if COMPILED else 64
MAX_TEXT_BYTES: Final = MAX_BYTES if COMPILED else 2048
"""Elements (fields, members), and bytes in them, up to which a collection is packed. It is done in
one go, by which a slice may overrun: in 0.4 ms at most where that is compiled, 0.5 ms in Python."""
STEP_ELEMENTS: Final = 64 if COMPILED else 8
"""About so many elements are packed in a step."""
KEYS_AN_ELEMENT: Final = 10
"""So many keys are looked at in the time that one element takes."""
_BYTES_OVERHEAD: Final = getsizeof(b"")
"""What a bytes object takes beside its bytes."""
_NO_EXPIRES: Final[dict[bytes, int]] = {}


class Packing:
    """Packs what is idle, pass by pass.

    Args:
        keyspace: whose databases.

    Attributes:
        compress: LZF for strings, as `rdbcompression`: the bytes are to be what is saved.
        packed: values packed so far; saved_bytes: what they took more before, by the sizes of
            their objects.
        running: whether a pass has begun and not ended.
    """

    __slots__ = ("_keyspace", "_pass", "compress", "packed", "saved_bytes")

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._pass: Iterator[None] | None = None
        self.compress = True
        self.packed = self.saved_bytes = 0

    @property
    def running(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._pass is not None

    def begin(self) -> bool:
        """Begin a pass, unless there is nothing to look at; whether one runs. O(databases)."""
        if self._pass is None and any(1 in db.loose for db in self._keyspace.databases):
            self._pass = self._steps()
        return self._pass is not None

    def stop(self) -> None:
        """Leave the pass where it is."""
        self._pass = None

    def step(self) -> bool:
        """Go on with the pass; whether there is more of it. O(STEP_ELEMENTS), or one segment."""
        if self._pass is not None and next(self._pass, self) is self:
            self._pass = None
        return self._pass is not None

    def pack_all(self) -> int:
        """Pack everything that is small, used or not, at once; returns how much. O(keys)."""
        before = self.packed
        for _ in range(2):  # the first one only clears what is noted
            self._pass = None
            for _ in self._steps():
                pass
        return self.packed - before

    def _steps(self) -> Iterator[None]:
        """Go through what may be loose in all databases; yields after each step's work."""
        work = 0
        for db in self._keyspace.databases:
            place = db.loose.find(1)
            while place >= 0:
                work = yield from self._look_into(db, place, work)
                place = db.loose.find(1, place + 1)

    def _look_into(self, db: Database, place: int, work: int) -> Generator[None, None, int]:
        """Pack what is idle in the segments that one place of `loose` stands for.

        At each yield anything may happen to the database. A segment that splits meanwhile gives
        its upper half a place that is still to come.

        Args:
            db: whose; place: in its `loose`.
            work: elements packed since the last yield, here given and returned.
        """
        # SWAPDB takes it along, as it does the collections that are left, and FLUSHALL drops it.
        loose = db.loose
        loose[place] = 0
        left, seen = 0, False
        try:
            i = place
            while i < db.real and db.loose is loose:
                segment = db.segments[i]
                idle, others = db.find_idle(segment)
                left += others + len(idle)
                work += 1 + len(segment) // KEYS_AN_ELEMENT
                for key in idle:
                    if work >= STEP_ELEMENTS:
                        yield
                        work = 0
                    value = db.idle(key)
                    if value is None:
                        continue  # gone, or used meanwhile
                    packed, object_bytes = pack(value, db.keyspace.limits, self.compress)
                    work += 1 + len(value)
                    if packed is not None:
                        db.pack(key, packed)
                        left -= 1
                        self.packed += 1
                        self.saved_bytes += object_bytes - getsizeof(packed)
                if work >= STEP_ELEMENTS:
                    yield
                    work = 0
                i += len(loose)
            seen = db.loose is loose
        finally:
            if left or not seen:
                loose[place] = 1
        return work


def pack(value: Any, limits: Limits, compress: bool) -> tuple[Packed | None, int]:
    """Say what a collection is kept as while nobody uses it.

    Args:
        value: a collection.
        limits: the server's thresholds.
        compress: LZF for strings.

    Returns:
        The packed value, None where it is to stay as it is; and the bytes of its objects.

    Cost: O(size), at most MAX_ELEMENTS and MAX_TEXT_BYTES.
    """
    if not 0 < len(value) <= MAX_ELEMENTS:
        return None, 0
    parts = value.parts()
    if sum(type(part) is dict for part in parts) > 1:
        return None, 0  # a SegmentedDict, and a cursor may stand in it
    texts = _texts(value, parts)
    text_bytes = sum(map(len, texts))
    if text_bytes > MAX_TEXT_BYTES:
        return None, 0
    # A record without expiry, of a key without length: type code, length of the key, value.
    record = encode_segment({b"": value}, _NO_EXPIRES, limits, compress)
    object_bytes = getsizeof(value) + sum(map(getsizeof, parts)) + text_bytes
    return PACKED[record[0]](record[2:]), object_bytes + _BYTES_OVERHEAD * len(texts)


def _texts(value: Any, parts: list[Any]) -> list[bytes]:
    """What bytes objects a collection holds, each once."""
    if type(value) is HashValue:
        return [*parts[0], *parts[0].values()]
    texts: list[bytes] = []
    for part in parts:
        if type(part) is Run:
            texts += part.members
        elif type(part) is not array and type(value) is not SortedSet:
            texts += part
    return texts
