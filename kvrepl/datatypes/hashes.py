"""The hash value.

Two encodings, and one way from the first to the second:

    listpack   up to hash-max-listpack-entries fields, each field and value of at most
               hash-max-listpack-value bytes; iterated in order of insertion
    hashtable  anything else; iterated in an order of no meaning

Both are a dict here, a SegmentedDict once a hashtable is large; a flag tells the encodings apart.

Source: t_hash.c of Redis 7.0 (hashTypeSet, hashTypeTryConversion; the latter looks at the
arguments before any is written, which ends the same, for they all are). Not followed: a listpack of
more than 1 GiB is given up there (lpSafeToAdd), which takes thresholds in the millions to reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kvrepl.datatypes.collection import Collection
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.segments import (
    SEGMENT_FROM,
    SegmentedDict,
    Table,
    parts_of,
    random_key,
    sample,
    scan,
    table_of,
)

if TYPE_CHECKING:
    from random import Random


class HashValue(Collection):
    """A map from field to value, both bytes.

    Args:
        limits: the server's thresholds, shared.
        entries: what it holds at first, set one after another.
    """

    __slots__ = ("_items", "_limits", "_packed")

    def __init__(self, limits: Limits, entries: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._limits = limits
        self._items: Table[bytes] = {}
        self._packed = True
        for field, value in entries:
            self.set(field, value)

    @classmethod
    def of_entries(cls, limits: Limits, entries: dict[bytes, bytes], packed: bool) -> HashValue:
        """Take over a dict as a hash of a known encoding, as it is loaded.

        Args:
            limits: the server's thresholds.
            entries: fields and values; belongs to the hash afterwards.
            packed: True for a listpack.

        Cost: O(1), O(n) for a large hashtable.
        """
        made = cls(limits)
        made._packed = packed
        made._items = entries if packed else table_of(entries)
        return made

    @property
    def encoding(self) -> bytes:
        """The name that OBJECT ENCODING gives."""
        return b"listpack" if self._packed else b"hashtable"

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, field: bytes) -> bool:
        return field in self._items

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items)

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Every field with its value. O(n)."""
        return self._items.items()

    def values(self) -> Iterable[bytes]:
        """Every value, in the order of the fields. O(n)."""
        return self._items.values()

    def get(self, field: bytes) -> bytes | None:
        """The value of a field, None if there is none. O(1)."""
        return self._items.get(field)

    def set(self, field: bytes, value: bytes) -> bool:
        """Set a field; True if it is new. O(1).

        The conversion is as in Redis: a long field or value gives the listpack up beforehand,
        too many fields afterwards, so that a threshold of n allows n fields.
        """
        items = self._items
        if isinstance(items, SegmentedDict):
            return items.put(field, value)
        before = len(items)
        items[field] = value
        if self._packed:
            limits = self._limits
            longest = limits.hash_max_listpack_value
            if (
                len(field) > longest
                or len(value) > longest
                or len(items) > limits.hash_max_listpack_entries
            ):
                self._packed = False
                self._items = table_of(items)
        elif len(items) > SEGMENT_FROM:
            self._items = SegmentedDict(items)
        return len(items) != before

    def delete(self, field: bytes) -> bool:
        """Remove a field; False if it was not there. O(1)."""
        return self._items.pop(field, None) is not None

    def random(self, rng: Random) -> tuple[bytes, bytes]:
        """One field with its value, each as likely as any other; not of an empty hash. O(1)."""
        field = random_key(self._items, rng)
        return field, self._items[field]

    def random_many(self, count: int, rng: Random) -> list[tuple[bytes, bytes]]:
        """Several different fields with their values: `count` of them, or all there are.

        Args:
            count: not negative.
            rng: where the chance comes from.

        Cost: O(count); O(n) where that is a large share.
        """
        items = self._items
        if count >= len(items):
            return list(items.items())
        return [(field, items[field]) for field in sample(items, count, rng)]

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Some fields with their values, and the cursor to go on from.

        Fields present from the call with cursor 0 until it comes back as 0 are returned at least
        once. A listpack, and a hashtable of up to SEGMENT_FROM fields, is returned whole.

        Args:
            cursor: 0 to begin, then what the call before returned.
            count: the fields wished for.
        """
        return scan(self._items, cursor, count)

    def parts(self) -> list[dict[bytes, bytes]]:
        """What it consists of, to be freed one by one; the hash is used no more. O(1)."""
        return parts_of(self._items)

    def copy(self) -> HashValue:
        """An independent hash of the same entries and encoding. O(n)."""
        return HashValue.of_entries(self._limits, dict(self._items.items()), self._packed)
