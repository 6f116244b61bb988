"""Where the keys of a database lie: small dicts, chosen by hash, that split one at a time.

What one big dict cannot do: grow without a stall (250 ms at 5.6 million keys), give a random key
in O(1), and be scanned without state. So the keys lie in `real` segments of some SPLIT_LOAD keys
each, and the directory over them has a power of two of places, so that one mask finds a key:

    segments[hash(key) & mask]      {key: value}
    expires[hash(key) & mask]       {key: expires_at_ms}
    accessed[hash(key) & mask]      {key: word}, or no row at all; see kvrepl.keyspace.access

Linear hashing. With `half` of the places, place i >= real is another name of segment i - half:

    0 ........ half ........ real ........ mask        half < real <= mask + 1
    |  segments of their own  |  the same dicts as in i - half

Growing splits the segment with two names at `real - half` by the next bit of the hash, and gives
its upper half the place `real`; when every place has a segment of its own, the directory doubles
first. Shrinking puts the last segment back, and is done by the shell between commands, so that a
command that deletes never finds its segment gone. There are never fewer than `least` segments.

    due_ms[hash(key) & (least - 1)]     a lower bound of the expiry of the keys there
    loose[hash(key) & (least - 1)]      1 where a collection that is not packed may be there

SCAN's cursor counts residues of the hash with its bits reversed, as in Redis: before cursor c lie
exactly the hashes that read backwards come before c. Splitting and merging move no hash across it.

Source: the guarantee is that of dictScan in Redis 7.0's dict.c; the table is Litwin's (1980), as
in kvrepl.datatypes.segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from kvrepl.datatypes.segments import key_at

if TYPE_CHECKING:
    from random import Random

LEAST: Final = 1024
"""Segments of a database however few its keys are."""

SPLIT_LOAD: Final = 256
"""Mean keys a segment above which one is split: up to twice as many lie in one of them."""

MERGE_LOAD: Final = 64
"""Mean keys a segment below which one is merged away."""

TIDY_SHARE: Final = 64
"""One segment in so many is looked at in a tick of the cron: each in 6 s."""

TIDY_MAX: Final = 512
"""Segments looked at in a tick, at most."""

EXPECTED_MAX: Final = 1 << 24
"""Keys for which a load makes room because a file says that so many follow; it may be damaged."""

SPARSE_BYTES: Final = 256
"""A dict that takes more than this for each of its keys is mostly empty; growth leaves 104."""

FINEST_BITS: Final = 48
"""Bits of the hash that a cursor tells apart."""

PASSED_MAX: Final = 4 * LEAST
"""Places that one call of SCAN passes where it finds nothing; Redis passes ten for each key."""

NEVER_DUE: Final = 1 << 63

Segment = dict[bytes, Any]


def room_for(load: int) -> int:
    """Slots that a random pick supposes for a place, by the mean load of places.

    Five standard deviations above the mean; of a fuller one there is still picked.
    """
    return 8 + load + math.isqrt(25 * load)


class Segmented:
    """The keys of a database, by segment; what they mean is for Database.

    Args:
        least: segments to begin with, a power of two.

    Attributes:
        segments, expires, accessed, due_ms, loose: see the module.
        mask: places of the directory, less one; real: segments that there are.
        held: keys, and expiring: those with a time to live. Whoever changes a row counts.
        room: keys above which a segment is split.
        earliest_ms: a lower bound of all of due_ms.
    """

    __slots__ = (
        "accessed", "due_ms", "earliest_ms", "expires", "expiring", "held", "least", "loose",
        "mask", "real", "room", "segments",
    )  # fmt: skip

    def __init__(self, least: int) -> None:
        assert least & (least - 1) == 0, "the number of segments must be a power of two"
        self.least = least
        self.accessed: list[dict[bytes, int]] = []
        self._begin(tracked=False)

    def _begin(self, *, tracked: bool) -> None:
        """Be empty."""
        least = self.least
        self.mask = least - 1
        self.real = least
        self.segments: list[Segment] = self._row()
        self.expires: list[dict[bytes, int]] = self._row()
        self.accessed = self._row() if tracked else []
        self.due_ms: list[int] = [NEVER_DUE] * least
        self.earliest_ms = NEVER_DUE
        self.loose = bytearray(least)
        self.held = self.expiring = 0
        self.room = SPLIT_LOAD * least

    # ---------------------------------------------------------------- counting

    def __len__(self) -> int:
        """Keys held, expired ones included. O(1)."""
        return self.held

    def has_keys(self) -> bool:
        """Whether there is any, expired ones included. O(1)."""
        return self.held != 0

    def expires_count(self) -> int:
        """Keys with a time to live. O(1)."""
        return self.expiring

    def parts(self) -> Iterator[tuple[int, Segment, dict[bytes, int]]]:
        """Each segment: its place, its keys and their expiry. Nothing may change meanwhile."""
        return zip(range(self.real), self.segments, self.expires, strict=False)

    # ---------------------------------------------------------------- growing, shrinking

    def _row(self) -> list[Segment]:
        """A row of empty segments in the shape of the directory."""
        half = (self.mask + 1) >> 1
        row: list[Segment] = [{} for _ in range(self.real)]
        return row + row[self.real - half : half]

    def _rows(self) -> list[list[Segment]]:
        rows: list[list[Segment]] = [self.segments, self.expires]
        return [*rows, self.accessed] if self.accessed else rows

    def grow(self) -> None:
        """Split one segment. O(SPLIT_LOAD)."""
        rows = self._rows()
        if self.real > self.mask:
            for row in rows:
                row += row
            self.mask = 2 * self.mask + 1
        half = (self.mask + 1) >> 1
        for row in rows:
            row[self.real - half], row[self.real] = halves(row[self.real - half], half)
        self.real += 1
        self.room = SPLIT_LOAD * self.real

    def merge(self, most: int) -> None:
        """Put up to so many segments back, as far as there are too few keys. O(most)."""
        rows = self._rows()
        while most and self.real > self.least and self.held < MERGE_LOAD * self.real:
            half = (self.mask + 1) >> 1
            self.real -= 1
            for row in rows:
                row[self.real - half].update(row[self.real])
                row[self.real] = row[self.real - half]
                if self.real == half:
                    del row[half:]
            if self.real == half:
                self.mask >>= 1
            most -= 1
        self.room = SPLIT_LOAD * self.real

    def expect(self, keys: int) -> None:
        """Have as many segments as so many keys will need, if there are few so far.

        O(keys held + segments).
        """
        wanted = min(keys, EXPECTED_MAX) // SPLIT_LOAD
        if wanted <= self.real:
            return
        rows = self._rows()
        kept = [[item for keys in islice(row, self.real) for item in keys.items()] for row in rows]
        self.real = wanted
        self.mask = (1 << (wanted - 1).bit_length()) - 1
        self.room = SPLIT_LOAD * wanted
        for row, items in zip(rows, kept, strict=True):
            row[:] = self._row()
            for key, value in items:
                row[hash(key) & self.mask][key] = value

    def took(self, keys: int, expiring: int) -> None:
        """Count keys that were put into the rows, and split as many segments as they need."""
        self.held += keys
        self.expiring += expiring
        while self.held > self.room:
            self.grow()

    def shrink(self, i: int) -> None:
        """Give back the room that deleted keys left in a segment: a dict never shrinks by itself.

        O(1), and O(keys) where there is much.
        """
        for row in self._rows():
            keys = row[i]
            if getsizeof(keys) > SPARSE_BYTES * (len(keys) + 8):
                new = keys.copy() if keys else {}
                for place in (i, i ^ ((self.mask + 1) >> 1)):
                    if row[place] is keys:
                        row[place] = new

    def tidy(self, turn: int) -> None:
        """Give back some of the room that deleted keys left, a further share at each turn.

        O(1), and O(segments / TIDY_SHARE) where they are many.
        """
        if self.held or self.real > self.least:
            share = min(self.real // TIDY_SHARE, TIDY_MAX)
            for step in range(share):
                self.shrink((turn * share + step) % self.real)
            self.merge(share)

    def clear(self) -> list[Segment]:
        """Drop every key at once. O(segments).

        Returns:
            The old segments, for the caller to free at leisure.
        """
        old = [segment for segment in islice(self.segments, self.real) if segment]
        self._begin(tracked=bool(self.accessed))
        return old

    # ---------------------------------------------------------------- by chance, by cursor

    def pick(self, rng: Random) -> bytes:
        """A key, each as likely as any other; there must be one. O(1).

        Where there are few, they are walked through; otherwise a place and a slot of it are drawn,
        again where that is empty. A segment of two places has its slots dealt out to both.
        """
        if self.held < self.real or self.real == self.least:
            segment, at = self._place(int(rng.random() * self.held))
            return key_at(segment, at)
        random, segments, mask, real = rng.random, self.segments, self.mask, self.real
        size, half = mask + 1, (mask + 1) >> 1
        room = room_for(self.held // size)
        while True:
            drawn = int(random() * size * room)
            place, slot = drawn & mask, drawn // size
            keys = segments[place]
            names = 2 if place | half >= real else 1
            if len(keys) > names * room:
                slot = int(random() * len(keys))  # without rejection some could never be picked
            elif names == 2:
                slot = 2 * slot + (place >= half)
            if slot < len(keys):
                return key_at(keys, slot)

    def _place(self, number: int) -> tuple[Segment, int]:
        """The segment that holds the key of a number, and its number there. O(segments)."""
        for segment in islice(self.segments, self.real):
            if number < len(segment):
                return segment, number
            number -= len(segment)
        raise IndexError("no key of that number")

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step of SCAN: about `count` keys and the next cursor, 0 at the end.

        A key present from the first call to the last is returned exactly once, whatever is added
        or removed meanwhile, and no state is kept between the calls.

        A segment that holds more than is wanted is taken for several, by further bits of the hash,
        and so is one in the midst of which the cursor stands.

        Cost: O(count) and one segment; PASSED_MAX places are passed at most where it finds nothing.
        """
        mask, half = self.mask, (self.mask + 1) >> 1
        cursor &= (1 << FINEST_BITS) - 1
        found: list[bytes] = []
        done = False
        for _ in range(count + PASSED_MAX):
            place = cursor & mask
            keys = self.segments[place]
            # The keys have one bit of the hash less in common where the segment has two names.
            own_bits = mask.bit_length() - (place | half >= self.real)
            bits = max(own_bits, cursor.bit_length())
            if keys:
                load, wanted = len(keys) >> (bits - own_bits), max(count - len(found), 1)
                while 2 * load > 3 * wanted and bits < FINEST_BITS:
                    bits += 1
                    wanted *= 2
                if bits == own_bits:
                    found += keys
                else:
                    residues = (1 << bits) - 1
                    part = [key for key in keys if hash(key) & residues == cursor]
                    found += part
                    done = bool(part)
            # Plus one, carried from the highest bit down.
            bit = 1 << bits >> 1
            while cursor & bit:
                cursor ^= bit
                bit >>= 1
            cursor |= bit
            if done or not cursor or len(found) >= count:
                break
        return cursor, found


def halves(keys: Segment, bit: int) -> tuple[Segment, Segment]:
    """Part a segment by a bit of the hash: where it is 0, and where it is 1. O(keys)."""
    stay: Segment = {}
    move: Segment = {}
    for key, value in keys.items():
        if hash(key) & bit:
            move[key] = value
        else:
            stay[key] = value
    return stay, move
