"""A dict for very many entries: small dicts, chosen by hash, that split one at a time.

What one big dict cannot do, and sets, hashes and sorted sets need:

* grow without a stall. A dict of millions of entries moves them all when it grows (a quarter of
  a second at five million); here one segment of some 64 entries is split at a time.
* a random entry in O(1): a random residue, then a random slot of it, rejected where empty.
* SCAN without state. A cursor names the hash residues that were returned, so entries that are
  present throughout are returned however the table grows and shrinks in between.

Linear hashing. With n segments and 2**L <= n < 2**(L+1), an entry of hash h lives in segment
`h & (2**(L+1) - 1)` where there is one, else in segment `h & (2**L - 1)`. Growing splits segment
n - 2**L into itself and segment n; shrinking puts the last segment back into that one.

    low  = 2**L - 1         high = 2**(L+1) - 1         low < n <= high

The segments are dicts and not sets, for a small dict takes less memory than a small set (37
against 60 bytes an entry on average) and keeps the order of insertion.

The cursor counts with its bits reversed, as in Redis: after it, the residues modulo any later
power of two that were visited are exactly the ones that count below it. See `scan`.

Source: the guarantee is that of dictScan in Redis 7.0's dict.c; the table is Litwin's (1980).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

if TYPE_CHECKING:
    from random import Random

V = TypeVar("V")
T = TypeVar("T")

SEGMENT_FROM: Final = 512
"""Collections up to this many entries are better as one plain dict."""
SPLIT_LOAD: Final = 64
"""Mean entries a segment above which one segment is split."""
MERGE_LOAD: Final = 16
"""Mean entries a segment below which one segment is merged away."""
ROOMS: Final = [8 + load + math.isqrt(25 * load) for load in range(2 * SPLIT_LOAD + 1)]
"""Slots that a random pick supposes for a residue, by their mean load: more than chance puts there.

A residue modulo 2**L is a segment, with the one split from it if there is one. These are five
standard deviations above the mean, and a fuller one is still picked from (`random_key`)."""


class SegmentedDict(Generic[V]):
    """A mapping from bytes with the part of dict's interface that the collections use.

    Entries must not be added or removed while an iterator is in use.

    Args:
        entries: what it holds at first.

    Cost: O(1) a lookup, an insertion, a removal and a random pick; O(n) to build and to iterate.
    """

    __slots__ = ("_count", "_high", "_low", "_segments")

    def __init__(self, entries: Mapping[bytes, V]) -> None:
        wanted = max(1, len(entries) // SPLIT_LOAD)
        # The power of two above, so that one mask places every entry of a bulk load.
        size = 1 << (wanted - 1).bit_length()
        self._low = size - 1
        self._high = 2 * size - 1
        self._segments: list[dict[bytes, V]] = [{} for _ in range(size)]
        self._count = len(entries)
        segments, mask = self._segments, self._low
        for key, value in entries.items():
            segments[hash(key) & mask][key] = value

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        index = hash(key) & self._high
        if index >= len(self._segments):
            index &= self._low
        return key in self._segments[index]

    @overload
    def get(self, key: bytes) -> V | None: ...
    @overload
    def get(self, key: bytes, default: T) -> V | T: ...
    def get(self, key: bytes, default: Any = None) -> Any:
        """The value of a key, or `default`. O(1)."""
        index = hash(key) & self._high
        if index >= len(self._segments):
            index &= self._low
        return self._segments[index].get(key, default)

    def __getitem__(self, key: bytes) -> V:
        index = hash(key) & self._high
        if index >= len(self._segments):
            index &= self._low
        return self._segments[index][key]

    def __setitem__(self, key: bytes, value: V) -> None:
        self.put(key, value)

    def put(self, key: bytes, value: V) -> bool:
        """Set the value of a key; whether the key is new. O(1)."""
        segments = self._segments
        index = hash(key) & self._high
        if index >= len(segments):
            index &= self._low
        segment = segments[index]
        before = len(segment)
        segment[key] = value
        if len(segment) == before:
            return False
        self._count += 1
        if self._count > SPLIT_LOAD * len(segments):
            self._split()
        return True

    def add(self, key: bytes, value: V) -> bool:
        """Add an entry; False, and nothing is changed, if the key is there already. O(1)."""
        segments = self._segments
        index = hash(key) & self._high
        if index >= len(segments):
            index &= self._low
        segment = segments[index]
        if key in segment:
            return False
        segment[key] = value
        self._count += 1
        if self._count > SPLIT_LOAD * len(segments):
            self._split()
        return True

    def pop(self, key: bytes, default: T) -> V | T:
        """Remove an entry and return its value, or `default` if there is none. O(1)."""
        segments = self._segments
        index = hash(key) & self._high
        if index >= len(segments):
            index &= self._low
        segment = segments[index]
        before = len(segment)
        value = segment.pop(key, default)
        if len(segment) != before:
            self._count -= 1
            if self._count < MERGE_LOAD * len(segments):
                self._merge()
        return value

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._segments)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Every entry, segment by segment. O(n)."""
        return chain.from_iterable(map(dict.items, self._segments))

    def values(self) -> Iterator[V]:
        """Every value, in the order of `items`. O(n)."""
        return chain.from_iterable(map(dict.values, self._segments))

    def segments(self) -> list[dict[bytes, V]]:
        """The dicts that it consists of, not to be changed while it is in use. O(1)."""
        return self._segments

    def random_key(self, rng: Random) -> bytes:
        """One key, each as likely as any other. O(1).

        Args:
            rng: where the chance comes from.

        Raises:
            IndexError: the table is empty.
        """
        return self._pick(rng)[1]

    def pop_random(self, rng: Random) -> bytes:
        """Remove and return one key, picked like that. O(1)."""
        segment, key = self._pick(rng)
        del segment[key]
        self._count -= 1
        if self._count < MERGE_LOAD * len(self._segments):
            self._merge()
        return key

    def _pick(self, rng: Random) -> tuple[dict[bytes, V], bytes]:
        """A segment and one of its keys; see random_key."""
        if not self._count:
            raise IndexError("random pick from an empty table")
        segments, random, low = self._segments, rng.random, self._low
        size = len(segments)
        room = ROOMS[min(self._count // (low + 1), len(ROOMS) - 1)]
        places = (low + 1) * room
        while True:
            place = int(random() * places)
            number = place & low
            slot = place // (low + 1)
            segment = segments[number]
            held = len(segment)
            twin = number + low + 1
            more = len(segments[twin]) if twin < size else 0
            if held + more > room:
                # It is picked from without rejection, or some entries could never be picked.
                slot = int(random() * (held + more))
            if slot < held:
                return segment, key_at(segment, slot)
            if slot < held + more:
                return segments[twin], key_at(segments[twin], slot - held)

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, V]]]:
        """Some entries, and the cursor to go on from.

        Whatever is in the table from the call with cursor 0 until the cursor comes back as 0 is
        returned at least once. A table that shrinks meanwhile may return entries twice.

        Let the table have 2**L residues. Cursor c stands for "every hash whose low L bits, read
        backwards, come before those of c, was visited". The next residue in that order is c
        plus one, counted from the highest of the L bits down. When L grows to M, the residues
        of those hashes modulo 2**M still come before c read backwards in M bits, which only
        appends zeros; when it shrinks, c loses its last bits, and so goes back a little.

        Args:
            cursor: 0 to begin, then what the call before returned; any integer is taken.
            count: the entries wished for; whole segments are returned.

        Returns:
            The next cursor, 0 at the end, and the entries.

        Cost: O(count), and O(count + segments) at worst where the segments are empty.
        """
        segments, low = self._segments, self._low
        found: list[tuple[bytes, V]] = []
        cursor &= low
        while True:
            found += segments[cursor].items()
            twin = cursor + low + 1
            if twin < len(segments):
                found += segments[twin].items()
            bit = (low + 1) >> 1
            while cursor & bit:
                cursor ^= bit
                bit >>= 1
            cursor |= bit
            if not cursor or len(found) >= count:
                return cursor, found

    def _split(self) -> None:
        """Add a segment and move its entries there from the one that held them. O(1)."""
        segments, bit = self._segments, self._low + 1
        stay: dict[bytes, V] = {}
        move: dict[bytes, V] = {}
        victim = len(segments) - bit
        for key, value in segments[victim].items():
            if hash(key) & bit:
                move[key] = value
            else:
                stay[key] = value
        segments[victim] = stay
        segments.append(move)
        if len(segments) > self._high:
            self._low = self._high
            self._high = 2 * self._high + 1

    def _merge(self) -> None:
        """Put the last segment back into the one that it was split from. O(1)."""
        segments = self._segments
        if len(segments) == 1:
            return
        if len(segments) == self._low + 1:
            self._high = self._low
            self._low >>= 1
        last = segments.pop()
        segments[len(segments) & self._low].update(last)


Table = dict[bytes, V] | SegmentedDict[V]
"""What sets, hashes and sorted sets keep their entries in."""


def parts_of(table: Table[V]) -> list[dict[bytes, V]]:
    """The dicts of a table that is used no more, each of at most some hundred entries. O(1)."""
    return [table] if isinstance(table, dict) else table.segments()


def table_of(entries: dict[bytes, V]) -> Table[V]:
    """The form that so many entries should have; takes over the dict. O(1), O(n) when large."""
    return SegmentedDict(entries) if len(entries) > SEGMENT_FROM else entries


def key_at(entries: dict[bytes, Any], place: int) -> bytes:
    """The key at a place in the order of insertion. O(distance to the nearer end)."""
    behind = len(entries) - 1 - place
    if place <= behind:
        return next(islice(entries, place, None))
    return next(islice(reversed(entries), behind, None))


def random_key(table: Table[Any], rng: Random) -> bytes:
    """One key of the table, each as likely as any other. O(1), at most SEGMENT_FROM steps.

    Args:
        table: must not be empty.
        rng: where the chance comes from.
    """
    if type(table) is dict:
        return key_at(table, int(rng.random() * len(table)))
    assert isinstance(table, SegmentedDict)
    return table.random_key(rng)


def scan(table: Table[V], cursor: int, count: int) -> tuple[int, list[tuple[bytes, V]]]:
    """Some entries, and the cursor to go on from; a plain dict is returned whole.

    Args:
        table: what to scan.
        cursor: 0 to begin, then what the call before returned.
        count: the entries wished for.
    """
    if isinstance(table, SegmentedDict):
        return table.scan(cursor, count)
    return 0, list(table.items())


def sample(table: Table[Any], count: int, rng: Random) -> list[bytes]:
    """Several different keys: `count` of them, or all. O(count), or O(n) for a large share.

    Args:
        table: what to pick from.
        count: how many, not negative.
        rng: where the chance comes from.
    """
    size = len(table)
    if count >= size:
        return list(table)
    # Redis changes its way at a third as well (SRANDMEMBER_SUB_STRATEGY_MUL): up to there
    # picking again what was picked already is rare enough.
    if type(table) is dict or count * 3 > size:
        return rng.sample(list(table), count)
    picked: dict[bytes, None] = {}
    while len(picked) < count:
        picked[random_key(table, rng)] = None
    return list(picked)
