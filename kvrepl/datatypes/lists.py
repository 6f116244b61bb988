"""The list value.

One encoding by name, quicklist, whatever the size. Two forms inside with one interface:

    list       up to SMALL elements: one Python list
    BlockList  more: blocks of at most BLOCK elements, in order

Both ends of a BlockList cost the same at any length: an element put in front moves at most one
block's pointers. The middle is found by walking over block lengths from the nearer end, which is
what a quicklist does over its nodes, with nodes of some 128 elements.

Invariants of BlockList: no block is empty, none is longer than BLOCK, `_length` is the sum of
the lengths; an empty list has no blocks.

Source: quicklist.c and t_list.c of Redis 7.0 (lposCommand, lremCommand).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from kvrepl.datatypes.collection import Collection
from kvrepl.datatypes.limits import Limits

BLOCK: Final = 512
"""Elements a block at most: 4 KiB of pointers, moved in some 100 ns."""
SMALL: Final = BLOCK
"""Elements up to which one Python list is as good."""


class BlockList:
    """A sequence with cheap ends, in blocks.

    Args:
        elements: what it holds at first.
    """

    __slots__ = ("_blocks", "_length")

    def __init__(self, elements: list[bytes]) -> None:
        self._blocks = _blocks_of(elements)
        self._length = len(elements)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._blocks)

    def __getitem__(self, index: int) -> bytes:
        number, at = self._find(index)
        return self._blocks[number][at]

    def __setitem__(self, index: int, value: bytes) -> None:
        number, at = self._find(index)
        self._blocks[number][at] = value

    def append(self, value: bytes) -> None:
        """Put an element at the end. O(1)."""
        blocks = self._blocks
        if blocks and len(last := blocks[-1]) < BLOCK:
            last.append(value)
        else:
            blocks.append([value])
        self._length += 1

    def prepend(self, value: bytes) -> None:
        """Put an element in front. O(1)."""
        blocks = self._blocks
        if blocks and len(first := blocks[0]) < BLOCK:
            first.insert(0, value)
        else:
            blocks.insert(0, [value])
        self._length += 1

    def insert(self, index: int, value: bytes) -> None:
        """Put an element before another. O(1) at the ends, O(length / BLOCK) elsewhere."""
        if index == 0:
            self.prepend(value)
        elif index == self._length:
            self.append(value)
        else:
            number, at = self._find(index)
            block = self._blocks[number]
            block.insert(at, value)
            if len(block) > BLOCK:
                half = len(block) // 2
                self._blocks[number : number + 1] = [block[:half], block[half:]]
            self._length += 1

    def pop(self, index: int = -1) -> bytes:
        """Take the first (0) or the last (-1) element off. O(1)."""
        blocks = self._blocks
        block = blocks[index]
        value = block.pop(index)
        if not block:
            del blocks[index]
        self._length -= 1
        return value

    def slice(self, start: int, stop: int) -> list[bytes]:
        """The elements from start up to, not including, stop. O(length / BLOCK + returned)."""
        if start >= stop:
            return []
        number, at = self._find(start)
        left = stop - start
        found = self._blocks[number][at : at + left]
        while len(found) < left:
            number += 1
            found += self._blocks[number][: left - len(found)]
        return found

    def keep(self, start: int, stop: int) -> None:
        """Drop everything outside start up to, not including, stop. O(length / BLOCK)."""
        if start >= stop:
            self._blocks = []
            self._length = 0
            return
        blocks = self._blocks
        first, at = self._find(start)
        last, end = self._find(stop - 1)
        del blocks[last + 1 :], blocks[last][end + 1 :]
        del blocks[first][:at], blocks[:first]
        self._length = stop - start

    def blocks(self) -> list[list[bytes]]:
        """The blocks in order, not to be changed in length."""
        return self._blocks

    def refill(self, removed: int) -> None:
        """Restore the invariants after `removed` elements were taken out of the blocks."""
        self._length -= removed
        self._blocks = [block for block in self._blocks if block]
        if len(self._blocks) > 2 + 4 * self._length // BLOCK:
            self._blocks = _blocks_of(list(self))

    def _find(self, index: int) -> tuple[int, int]:
        """The block of an index, and the place in it. O(length / BLOCK) from the nearer end."""
        blocks = self._blocks
        if index * 2 < self._length:
            for number, block in enumerate(blocks):
                if index < len(block):
                    return number, index
                index -= len(block)
        else:
            left = self._length - index
            number = len(blocks)
            while number:
                number -= 1
                held = len(blocks[number])
                if left <= held:
                    return number, held - left
                left -= held
        raise IndexError("list index out of range")


class ListValue(Collection):
    """A sequence of byte strings.

    Indexes and ranges are already normalised: 0 <= index < len.

    Args:
        limits: taken as by every other value; a list keeps nothing of it, for it has one
            encoding, and how it is cut into nodes is for the RDB writer to say.
        elements: what it holds at first, in order.
    """

    __slots__ = ("_items",)

    def __init__(self, limits: Limits, elements: Iterable[bytes] = ()) -> None:
        items = list(elements)
        self._items: list[bytes] | BlockList = items if len(items) <= SMALL else BlockList(items)

    @property
    def encoding(self) -> bytes:
        """The name that OBJECT ENCODING gives."""
        return b"quicklist"

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._items)

    def push_left(self, *elements: bytes) -> None:
        """Put elements in front, one after another: the last given becomes the first. O(1) each."""
        items = self._items
        if type(items) is list and len(items) + len(elements) > SMALL:
            self._items = items = BlockList(items)
        if isinstance(items, BlockList):
            for element in elements:
                items.prepend(element)
        else:
            for element in elements:
                items.insert(0, element)

    def push_right(self, *elements: bytes) -> None:
        """Put elements at the end, one after another. O(1) each."""
        items = self._items
        if type(items) is list and len(items) + len(elements) > SMALL:
            self._items = items = BlockList(items)
        for element in elements:
            items.append(element)

    def pop_left(self) -> bytes:
        """Take the first element off; the list must not be empty. O(1)."""
        return self._items.pop(0)

    def pop_right(self) -> bytes:
        """Take the last element off; the list must not be empty. O(1)."""
        return self._items.pop()

    def get(self, index: int) -> bytes:
        """The element at an index. O(1) at the ends, O(n / BLOCK) in the middle."""
        return self._items[index]

    def set(self, index: int, value: bytes) -> None:
        """Replace the element at an index. O(1) at the ends, O(n / BLOCK) in the middle."""
        self._items[index] = value

    def range(self, start: int, stop: int) -> list[bytes]:
        """The elements from start to stop, both included. O(n / BLOCK + returned)."""
        items = self._items
        if isinstance(items, list):
            return items[start : stop + 1]
        return items.slice(start, min(stop + 1, len(items)))

    def trim(self, start: int, stop: int) -> None:
        """Keep only the elements from start to stop, both included. O(n / BLOCK + removed)."""
        items = self._items
        if isinstance(items, list):
            self._items = items[start : stop + 1]
        else:
            items.keep(start, min(stop + 1, len(items)))

    def insert(self, pivot: bytes, value: bytes, after: bool) -> bool:
        """Put an element before or after the first one that equals the pivot.

        Args:
            pivot: the element to look for, from the left.
            value: the element to put in.
            after: behind the pivot instead of before it.

        Returns:
            False if there is no such pivot.

        Cost: O(n) to find it.
        """
        at = next(self.positions(pivot), None)
        if at is None:
            return False
        items = self._items
        items.insert(at + after, value)
        if type(items) is list and len(items) > SMALL:
            self._items = BlockList(items)
        return True

    def remove(self, count: int, value: bytes) -> int:
        """Remove elements that equal the value.

        Args:
            count: at most so many from the left if positive, from the right if negative, all
                if 0.
            value: the element to remove.

        Returns:
            How many were removed.

        Cost: O(n).
        """
        items = self._items
        blocks = [items] if isinstance(items, list) else items.blocks()
        left = abs(count) or len(items)
        wanted = left
        for block in blocks if count >= 0 else reversed(blocks):
            found = list(_places(block, value))
            if not found:
                continue
            taken = found[:left] if count >= 0 else found[-left:]
            if len(taken) == 1:
                del block[taken[0]]
            else:
                gone = set(taken)
                block[:] = [each for at, each in enumerate(block) if at not in gone]
            left -= len(taken)
            if not left:
                break
        removed = wanted - left
        if removed and isinstance(items, BlockList):
            items.refill(removed)
        return removed

    def positions(
        self, value: bytes, *, reverse: bool = False, max_compared: int = 0
    ) -> Iterator[int]:
        """The indexes of the elements that equal a value, nearest first.

        The list must not be changed in between. LPOS takes from this what RANK and COUNT ask.

        Args:
            value: the element to look for.
            reverse: begin at the right end.
            max_compared: give up after so many elements; 0 is no limit.

        Cost: O(n).
        """
        items = self._items
        blocks = [items] if isinstance(items, list) else items.blocks()
        left = max_compared or len(items)
        base = len(items) if reverse else 0
        for block in reversed(blocks) if reverse else blocks:
            held = len(block)
            if reverse:
                base -= held
                places = [at for at in _places(block, value) if at >= held - left]
                yield from (base + at for at in reversed(places))
            else:
                yield from (base + at for at in _places(block, value) if at < left)
                base += held
            left -= held
            if left <= 0:
                return

    def parts(self) -> list[list[bytes]]:
        """What it consists of, to be freed one by one; the list is used no more. O(1)."""
        items = self._items
        return [items] if isinstance(items, list) else items.blocks()

    def copy(self) -> ListValue:
        """An independent list of the same elements. O(n)."""
        made = ListValue.__new__(ListValue)
        items = list(self._items)
        made._items = items if len(items) <= SMALL else BlockList(items)
        return made


def _blocks_of(elements: list[bytes]) -> list[list[bytes]]:
    """Cut a list into full blocks. O(n)."""
    return [elements[at : at + BLOCK] for at in range(0, len(elements), BLOCK)]


def _places(block: list[bytes], value: bytes) -> Iterator[int]:
    """The indexes of a value in a block, ascending; list.index compares without the interpreter."""
    at = -1
    try:
        while True:
            at = block.index(value, at + 1)
            yield at
    except ValueError:
        return
