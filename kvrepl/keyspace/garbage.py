"""Values that nobody can reach any more, freed in slices: UNLINK, FLUSHALL ASYNC.

To free a large collection at once would hold up everybody, 100 ms for a million members. What is
thrown here is taken apart, and the parts are let go of a few at a time by the shell:

    segments    of databases that were emptied    key -> value
    values      collections                       each is a few parts, by its method `parts`
    parts       of collections                    at most some hundred elements each, or a dict

Sizes are counted in elements. A string is freed at once: its memory is one piece.

Source: Redis 7.0 lazyfree.c (freeObjAsync, emptyDbAsync), where a thread of its own does this.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from kvrepl.datatypes import HashValue, ListValue, SetValue, SortedSet
from kvrepl.datatypes.streams import StreamValue

COLLECTIONS: Final = frozenset((HashValue, ListValue, SetValue, SortedSet, StreamValue))
AT_ONCE: Final = 64
"""A collection of no more elements is freed at once (LAZYFREE_THRESHOLD)."""


class Garbage:
    """What is still to be freed.

    Attributes:
        freed: values freed so far (INFO lazyfreed_objects).
    """

    __slots__ = ("_parts", "_segments", "_values", "freed")

    def __init__(self) -> None:
        self._segments: list[dict[bytes, Any]] = []
        self._values: list[Any] = []
        self._parts: list[Any] = []
        self.freed = 0

    @property
    def pending(self) -> int:
        """Values that wait (INFO lazyfree_pending_objects). O(segments)."""
        return sum(map(len, self._segments)) + len(self._values)

    def __bool__(self) -> bool:
        return bool(self._parts or self._values or self._segments)

    def throw(self, value: Any) -> None:
        """Take a value, of which the caller keeps no reference, if it is large. O(1)."""
        if _is_large(value):
            self._values.append(value)

    def throw_segments(self, segments: Iterable[dict[bytes, Any]]) -> None:
        """Take the segments of a database. O(segments)."""
        self._segments.extend(segments)

    def free(self, elements: int) -> None:
        """Free about so many elements, or all there are. O(elements)."""
        left = elements
        while left > 0:
            if self._parts:
                left -= 1 + self._free_part(left)
            elif self._values:
                self._parts += self._values.pop().parts()
                self.freed += 1
            elif self._segments:
                left -= 1 + self._free_keys(left)
            else:
                return

    def _free_part(self, limit: int) -> int:
        """Free a part of a collection, or some of it where it is a dict of more. O(limit)."""
        part = self._parts[-1]
        if type(part) is dict and len(part) > limit:
            for _ in range(limit):
                part.popitem()
            return limit
        return len(self._parts.pop())

    def _free_keys(self, limit: int) -> int:
        """Free keys of a segment; large values among them become garbage of their own. O(limit)."""
        segment = self._segments[-1]
        if len(segment) <= limit:
            values = list(self._segments.pop().values())
        else:
            values = [segment.pop(key) for key in list(islice(segment, limit))]
        large = [value for value in values if _is_large(value)]
        self._values += large
        self.freed += len(values) - len(large)
        return len(values)


def _is_large(value: Any) -> bool:
    if type(value) is StreamValue:
        return value.length > AT_ONCE or bool(value.groups)
    return type(value) in COLLECTIONS and len(value) > AT_ONCE
