"""The set value.

Two encodings, and one way from the first to the second:

    intset     sorted array of integers, 2, 4 or 8 bytes each; while every member is a canonical
               64-bit integer and there are at most set-max-intset-entries of them
    hashtable  the members as the keys of a dict, or of a SegmentedDict when there are many

The encoding is the type of `_items`, so that an instance is two pointers. Members go in and come
out as bytes; an intset is iterated in ascending order, a hashtable in an order of no meaning.

Source: t_set.c of Redis 7.0 (setTypeCreate, setTypeAdd, spopWithCountCommand), intset.c.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from kvrepl.datatypes.collection import Collection
from kvrepl.datatypes.limits import MAX_INTSET_ENTRIES, Limits
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
from kvrepl.numbers import parse_int

if TYPE_CHECKING:
    from random import Random

POP_REBUILD_SHARE: Final = 5
"""SPOP with a count rebuilds the set where it leaves less than a fifth of what it takes
(SPOP_MOVE_STRATEGY_MUL in t_set.c), and so may end as an intset."""


class SetValue(Collection):
    """Different byte strings, without order.

    Args:
        limits: the server's thresholds, shared.
        members: what it holds at first, added one after another.
    """

    __slots__ = ("_items", "_limits")

    def __init__(self, limits: Limits, members: Iterable[bytes] = ()) -> None:
        self._limits = limits
        self._items: array[int] | Table[None] = array("h")
        for member in members:
            self.add(member)

    @classmethod
    def of_members(cls, limits: Limits, members: Iterable[bytes]) -> SetValue:
        """Take the members of a set that is loaded: at once a hashtable if they are too many.

        Args:
            limits: the server's thresholds.
            members: different byte strings.

        Cost: O(n), several times faster than adding large sets member by member.
        Source: rdbLoadObject in rdb.c (RDB_TYPE_SET, RDB_TYPE_SET_INTSET).
        """
        table: dict[bytes, None] = dict.fromkeys(members)
        if len(table) <= min(limits.set_max_intset_entries, MAX_INTSET_ENTRIES):
            numbers = []
            for member in table:
                number = parse_int(member)
                if number is None:
                    break
                numbers.append(number)
            else:
                numbers.sort()
                return cls.of_integers(limits, numbers)
        return cls.of_table(limits, table)

    @classmethod
    def of_integers(cls, limits: Limits, ordered: list[int]) -> SetValue:
        """Make an intset of ascending integers of 64 bits. O(n)."""
        made = cls(limits)
        made._items = _array_for(ordered)
        return made

    @classmethod
    def of_table(cls, limits: Limits, table: dict[bytes, None]) -> SetValue:
        """Take over a dict as a hashtable. O(1), O(n) for a large one."""
        made = cls(limits)
        made._items = table_of(table)
        return made

    @property
    def encoding(self) -> bytes:
        """The name that OBJECT ENCODING gives."""
        return b"intset" if isinstance(self._items, array) else b"hashtable"

    def integers(self) -> array[int] | None:
        """The members of an intset, ascending, not to be changed; None if it is a hashtable."""
        items = self._items
        return items if isinstance(items, array) else None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[bytes]:
        items = self._items
        if isinstance(items, array):
            return map(b"%d".__mod__, items)
        return iter(items)

    def __contains__(self, member: bytes) -> bool:
        items = self._items
        if not isinstance(items, array):
            return member in items
        number = parse_int(member)
        if number is None:
            return False
        at = bisect_left(items, number)
        return at < len(items) and items[at] == number

    def add(self, member: bytes) -> bool:
        """Add a member; False if it was there. O(1), O(n) memory moves in an intset."""
        items = self._items
        if type(items) is dict:
            if member in items:
                return False
            items[member] = None
            if len(items) > SEGMENT_FROM:
                self._items = SegmentedDict(items)
            return True
        if isinstance(items, SegmentedDict):
            return items.add(member, None)
        assert isinstance(items, array)
        return self._add_to_intset(items, member)

    def discard(self, member: bytes) -> bool:
        """Remove a member; False if it was not there. O(1), O(n) memory moves in an intset."""
        items = self._items
        if isinstance(items, array):
            number = parse_int(member)
            if number is None:
                return False
            at = bisect_left(items, number)
            if at == len(items) or items[at] != number:
                return False
            del items[at]
            return True
        # The values are all None, so any other default tells that the member was not there.
        return items.pop(member, 0) is None

    def random(self, rng: Random) -> bytes:
        """One member, each as likely as any other; the set must not be empty. O(1)."""
        items = self._items
        if isinstance(items, array):
            return b"%d" % items[int(rng.random() * len(items))]
        return random_key(items, rng)

    def random_many(self, count: int, rng: Random) -> list[bytes]:
        """Several different members: `count` of them, or all there are.

        Args:
            count: not negative.
            rng: where the chance comes from.

        Cost: O(count); O(n) where that is a large share.
        """
        items = self._items
        if isinstance(items, array):
            if count >= len(items):
                return list(self)
            return [b"%d" % number for number in rng.sample(items, count)]
        return sample(items, count, rng)

    def pop(self, rng: Random) -> bytes:
        """Remove and return one member; the set must not be empty. O(1)."""
        items = self._items
        if isinstance(items, SegmentedDict):
            return items.pop_random(rng)
        member = self.random(rng)
        self.discard(member)
        return member

    def pop_many(self, count: int, rng: Random) -> list[bytes]:
        """Remove and return several members, fewer than the set holds.

        Where most are taken the rest becomes a new set, and integers that were kept in a
        hashtable only for what is gone now are an intset again, as in Redis.

        Args:
            count: less than the number of members.
            rng: where the chance comes from.

        Cost: O(count), O(n) where that is most of the set.
        """
        left = len(self) - count
        if left * POP_REBUILD_SHARE > count:
            return [self.pop(rng) for _ in range(count)]
        kept = self.random_many(left, rng)
        keep = set(kept)
        taken = [member for member in self if member not in keep]
        self._items = SetValue(self._limits, kept)._items
        return taken

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Some members, and the cursor to go on from.

        Members present from the call with cursor 0 until it comes back as 0 are returned at
        least once. An intset, and a hashtable of up to SEGMENT_FROM members, is returned whole.

        Args:
            cursor: 0 to begin, then what the call before returned.
            count: the members wished for.
        """
        items = self._items
        if isinstance(items, array):
            return 0, list(self)
        if type(items) is dict:
            return 0, list(items)
        cursor, found = scan(items, cursor, count)
        return cursor, [member for member, _ in found]

    def parts(self) -> list[Any]:
        """What it consists of, to be freed one by one; the set is used no more. O(1)."""
        items = self._items
        return [items] if isinstance(items, array) else list(parts_of(items))

    def copy(self) -> SetValue:
        """An independent set of the same members and encoding. O(n)."""
        made = SetValue(self._limits)
        items = self._items
        if isinstance(items, array):
            made._items = items[:]
        else:
            made._items = table_of(dict.fromkeys(items))
        return made

    def _add_to_intset(self, items: array[int], member: bytes) -> bool:
        number = parse_int(member)
        if number is None:
            table: dict[bytes, None] = dict.fromkeys(self)
            table[member] = None
            self._items = table_of(table)
            return True
        at = bisect_left(items, number)
        if at < len(items) and items[at] == number:
            return False
        try:
            items.insert(at, number)
        except OverflowError:
            items = array("i" if -(1 << 31) <= number < 1 << 31 else "q", items)
            items.insert(at, number)
            self._items = items
        # Redis compares after the insertion, so that a threshold of n allows n members.
        if len(items) > min(self._limits.set_max_intset_entries, MAX_INTSET_ENTRIES):
            self._items = table_of(dict.fromkeys(self))
        return True


def _array_for(ordered: list[int]) -> array[int]:
    """The narrowest array that holds these ascending integers. O(n)."""
    low, high = (ordered[0], ordered[-1]) if ordered else (0, 0)
    for code, bits in (("h", 15), ("i", 31)):
        if -(1 << bits) <= low and high < 1 << bits:
            return array(code, ordered)
    return array("q", ordered)


def union(sets: Iterable[SetValue]) -> set[bytes]:
    """The members of any of the sets. O(total)."""
    found: set[bytes] = set()
    for each in sets:
        found.update(each)
    return found


def intersection(sets: Iterable[SetValue], limit: int = 0) -> list[bytes]:
    """The members of all of the sets.

    Args:
        sets: at least one; an absent key is an empty set.
        limit: stop at so many (SINTERCARD); 0 is no limit.

    Cost: O(smallest * sets).
    """
    smallest, *others = sorted(sets, key=len)
    found: list[bytes] = []
    for member in smallest:
        for other in others:
            if member not in other:
                break
        else:
            found.append(member)
            if len(found) == limit:
                break
    return found


def difference(first: SetValue, others: Iterable[SetValue]) -> list[bytes]:
    """The members of the first set that none of the others has.

    Takes the cheaper of two ways: to ask every other set for each member of the first, or to
    take the members of every other set out of a copy.

    Cost: O(min(first * others, total)).
    Source: sunionDiffGenericCommand in t_set.c, which weighs the two alike.
    """
    rest = list(others)
    if _asks_for_each(first, rest):
        rest.sort(key=len, reverse=True)
        return [member for member in first if not any(member in other for other in rest)]
    found: dict[bytes, Any] = dict.fromkeys(first)
    for other in rest:
        for member in other:
            found.pop(member, None)
        if not found:
            break
    return list(found)


def subtract(limits: Limits, first: SetValue, others: Iterable[SetValue]) -> SetValue:
    """The difference as a set of its own, encoded as the way of computing leaves it.

    The way with a copy makes the copy first, and what had to be a hashtable then stays one
    however little is left of it (SDIFFSTORE).

    Args:
        limits: the server's thresholds.
        first: what is subtracted from.
        others: what is subtracted; empty sets count for nothing.

    Cost: O(min(first * others, total)).
    """
    rest = [each for each in others if len(each)]
    if _asks_for_each(first, rest):
        return SetValue.of_members(limits, difference(first, rest))
    made = SetValue.of_members(limits, first)
    for other in rest:
        for member in other:
            made.discard(member)
    return made


def _asks_for_each(first: SetValue, rest: list[SetValue]) -> bool:
    """Whether to ask the other sets for each member, rather than to subtract from a copy."""
    return len(first) * (len(rest) + 1) // 2 <= len(first) + sum(map(len, rest))
