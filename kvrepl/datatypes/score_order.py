"""Members in the order of their scores: the two structures under a sorted set.

Order is by score, then by the bytes of the member; scores are never NaN, and -0.0 equals 0.0.
A place in that order is a rank, counted from 0. Every range of a sorted set comes down to two
ranks and a walk between them, so both structures offer the same few operations:

    Run       two parallel arrays, members and scores (8 bytes each), searched by bisection;
              an insertion moves up to n pointers. The whole of a small sorted set.
    RunOrder  Runs of at most RUN members one after another, found by bisection over the last
              entry of each, and a Fenwick tree of their lengths that turns a place into a rank
              and back. The order of a large sorted set.

                    Run           RunOrder
    find            O(log n)      O(log n)
    insert, delete  O(n) moved    O(log n + RUN moved)
    rank, select    O(log n)      O(log n); O(n / RUN) once after a run was split or emptied

Scores lie unboxed in arrays, and no tuple is made for an entry: 16 bytes a member here, where a
sorted list of (score, member) tuples takes 72.

Invariants of RunOrder: no run is empty, `_lasts[i]` is the last entry of `_runs[i]`; `_tree`, if
it is there, counts exactly the lengths of the runs.

Source: the operations are those of the skip list in t_zset.c of Redis 7.0; the structure is
that of sortedcontainers, with arrays in place of tuples.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain
from operator import itemgetter
from typing import Final

RUN: Final = 512
"""Members a run at most; 4 KiB of pointers and as much of scores."""

Entry = tuple[float, bytes]
_score_of = itemgetter(0)


class Run:
    """Members and scores in order, in one piece.

    Args:
        members: in order; belongs to the run afterwards.
        scores: of the same length; belongs to the run afterwards.
    """

    __slots__ = ("members", "scores")

    def __init__(self, members: list[bytes], scores: array[float]) -> None:
        self.members = members
        self.scores = scores

    def __len__(self) -> int:
        return len(self.members)

    def runs(self) -> list[Run]:
        """Itself, as the only one. O(1)."""
        return [self]

    def items(self) -> Iterator[tuple[bytes, float]]:
        """Every member with its score, ascending. O(n)."""
        return zip(self.members, self.scores, strict=True)

    def rank(self, score: float, member: bytes) -> int:
        """How many entries come before this one, which need not be there. O(log n)."""
        scores = self.scores
        low = bisect_left(scores, score)
        if low == len(scores) or scores[low] != score:
            return low
        return bisect_left(self.members, member, low, bisect_right(scores, score, low))

    def score_rank(self, score: float, above: bool) -> int:
        """How many entries have a lower score, or with `above` a lower or equal one. O(log n)."""
        return bisect_right(self.scores, score) if above else bisect_left(self.scores, score)

    def member_rank(self, member: bytes, above: bool) -> int:
        """The same by member, for sets in which all scores are equal. O(log n)."""
        return bisect_right(self.members, member) if above else bisect_left(self.members, member)

    def insert(self, score: float, member: bytes) -> None:
        """Put an entry in that is not there yet. O(n) moved."""
        at = self.rank(score, member)
        self.members.insert(at, member)
        self.scores.insert(at, score)

    def delete(self, score: float, member: bytes) -> None:
        """Take an entry out that is there. O(n) moved."""
        at = bisect_left(self.scores, score)
        if self.members[at] != member:
            at = self.rank(score, member)
        del self.members[at], self.scores[at]

    def pop(self, index: int) -> tuple[bytes, float]:
        """Take the first (0) or the last (-1) entry out, and return it. O(n) moved."""
        return self.members.pop(index), self.scores.pop(index)

    def delete_range(self, start: int, stop: int) -> None:
        """Take the entries of the ranks start up to, not including, stop out. O(n)."""
        del self.members[start:stop], self.scores[start:stop]

    def select(self, rank: int) -> tuple[bytes, float]:
        """The member and score at a rank. O(1)."""
        return self.members[rank], self.scores[rank]

    def slice(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        """Members and scores from rank start up to, not including, stop. O(returned)."""
        return list(zip(self.members[start:stop], self.scores[start:stop], strict=True))


class RunOrder:
    """Members and scores in order, in many pieces.

    Args:
        run: what it holds at first.
    """

    __slots__ = ("_lasts", "_length", "_runs", "_tree")

    def __init__(self, run: Run) -> None:
        self._length = len(run)
        self._runs: list[Run] = []
        # A bulk load leaves every run room to grow before it must be split.
        for at in range(0, self._length, RUN * 3 // 4):
            end = at + RUN * 3 // 4
            self._runs.append(Run(run.members[at:end], run.scores[at:end]))
        self._lasts: list[Entry] = [(each.scores[-1], each.members[-1]) for each in self._runs]
        self._tree: list[int] | None = None

    def __len__(self) -> int:
        return self._length

    def runs(self) -> list[Run]:
        """Its runs in order, not to be changed. O(1)."""
        return self._runs

    def items(self) -> Iterator[tuple[bytes, float]]:
        """Every member with its score, ascending. O(n)."""
        return chain.from_iterable(map(Run.items, self._runs))

    def rank(self, score: float, member: bytes) -> int:
        """How many entries come before this one, which need not be there. O(log n)."""
        number = bisect_left(self._lasts, (score, member))
        if number == len(self._runs):
            return self._length
        return self._before(number) + self._runs[number].rank(score, member)

    def score_rank(self, score: float, above: bool) -> int:
        """How many entries have a lower score, or with `above` a lower or equal one. O(log n)."""
        find = bisect_right if above else bisect_left
        number = find(self._lasts, score, key=_score_of)
        if number == len(self._runs):
            return self._length
        return self._before(number) + self._runs[number].score_rank(score, above)

    def member_rank(self, member: bytes, above: bool) -> int:
        """The same by member, for sets in which all scores are equal. O(log n)."""
        find = bisect_right if above else bisect_left
        number = find(self._lasts, member, key=itemgetter(1))
        if number == len(self._runs):
            return self._length
        return self._before(number) + self._runs[number].member_rank(member, above)

    def insert(self, score: float, member: bytes) -> None:
        """Put an entry in that is not there yet. O(log n + RUN moved)."""
        self._length += 1
        runs, lasts = self._runs, self._lasts
        number = bisect_left(lasts, (score, member))
        if number == len(runs):
            if not runs:
                runs.append(Run([member], array("d", (score,))))
                lasts.append((score, member))
                self._tree = None
                return
            number -= 1
            lasts[number] = (score, member)
            run = runs[number]
            run.members.append(member)
            run.scores.append(score)
        else:
            run = runs[number]
            run.insert(score, member)
        if len(run.members) > RUN:
            self._split(number)
        elif self._tree is not None:
            self._count(number, 1)

    def delete(self, score: float, member: bytes) -> None:
        """Take an entry out that is there. O(log n + RUN moved)."""
        self._length -= 1
        runs, lasts = self._runs, self._lasts
        number = bisect_left(lasts, (score, member))
        run = runs[number]
        run.delete(score, member)
        if not run.members:
            del runs[number], lasts[number]
            self._tree = None
            return
        if lasts[number][1] == member:
            lasts[number] = (run.scores[-1], run.members[-1])
        if len(run.members) < RUN // 4 and self._merge(number):
            return
        if self._tree is not None:
            self._count(number, -1)

    def pop(self, index: int) -> tuple[bytes, float]:
        """Take the first (0) or the last (-1) entry out, and return it. O(log n + RUN moved)."""
        run = self._runs[index]
        entry = run.pop(index)
        self._length -= 1
        if not run.members:
            del self._runs[index], self._lasts[index]
            self._tree = None
            return entry
        if index:
            self._lasts[index] = (run.scores[-1], run.members[-1])
        if self._tree is not None:
            self._count(index % len(self._runs), -1)
        return entry

    def delete_range(self, start: int, stop: int) -> None:
        """Take the entries of the ranks start up to, not including, stop out.

        Cost: O(log n + n / RUN + RUN moved), and freeing what is removed.
        """
        if start >= stop:
            return
        first, low = self._select(start)
        last, high = self._select(stop - 1)
        runs, lasts = self._runs, self._lasts
        self._length -= stop - start
        run = runs[first]
        if first == last and stop - start < len(run.members):
            # One end popped, again and again, must not cost a new tree each time.
            run.delete_range(low, high + 1)
            lasts[first] = (run.scores[-1], run.members[-1])
            if self._tree is not None:
                self._count(first, start - stop)
            return
        if first == last:
            edge = []
        else:
            run.delete_range(low, len(run))
            runs[last].delete_range(0, high + 1)
            edge = [each for each in (run, runs[last]) if each.members]
        runs[first : last + 1] = edge
        lasts[first : last + 1] = [(each.scores[-1], each.members[-1]) for each in edge]
        self._tree = None

    def select(self, rank: int) -> tuple[bytes, float]:
        """The member and score at a rank. O(log n)."""
        number, at = self._select(rank)
        run = self._runs[number]
        return run.members[at], run.scores[at]

    def slice(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        """Members and scores from rank start up to, not including, stop. O(log n + returned)."""
        if start >= stop:
            return []
        number, at = self._select(start)
        left = stop - start
        found = self._runs[number].slice(at, at + left)
        while len(found) < left:
            number += 1
            found += self._runs[number].slice(0, left - len(found))
        return found

    def _split(self, number: int) -> None:
        run = self._runs[number]
        half = len(run) // 2
        upper = Run(run.members[half:], run.scores[half:])
        run.delete_range(half, len(run))
        self._runs.insert(number + 1, upper)
        self._lasts.insert(number, (run.scores[-1], run.members[-1]))
        self._tree = None

    def _merge(self, number: int) -> bool:
        """Join a short run with a neighbour if the two leave room to grow; else False.

        Looking one way only would leave a chain of short runs behind a removal that goes up.
        """
        runs = self._runs
        for left in (number, number - 1):
            if left < 0 or left + 1 == len(runs):
                continue
            run, after = runs[left], runs[left + 1]
            if len(run) + len(after) <= RUN * 3 // 4:
                run.members += after.members
                run.scores += after.scores
                del runs[left + 1], self._lasts[left]
                self._tree = None
                return True
        return False

    def _count(self, number: int, change: int) -> None:
        """Tell the tree that a run's length changed. O(log n)."""
        tree = self._tree
        assert tree is not None
        number += 1
        while number < len(tree):
            tree[number] += change
            number += number & -number

    def _built_tree(self) -> list[int]:
        """The Fenwick tree, made anew where a run came or went. O(1), O(n / RUN) then."""
        tree = self._tree
        if tree is None:
            tree = [0]
            tree += [len(run.members) for run in self._runs]
            size = len(tree)
            for number in range(1, size):
                above = number + (number & -number)
                if above < size:
                    tree[above] += tree[number]
            self._tree = tree
        return tree

    def _before(self, number: int) -> int:
        """How many entries the runs before this one hold. O(log n)."""
        tree = self._built_tree()
        total = 0
        while number:
            total += tree[number]
            number &= number - 1
        return total

    def _select(self, rank: int) -> tuple[int, int]:
        """The run of a rank, and the place in it. O(log n)."""
        if not 0 <= rank < self._length:
            raise IndexError("rank out of range")
        # The ends are what is asked for most, and need no tree.
        runs = self._runs
        if rank < len(runs[0].members):
            return 0, rank
        at = rank - self._length + len(runs[-1].members)
        if at >= 0:
            return len(runs) - 1, at
        tree = self._built_tree()
        number = 0
        step = 1 << (len(tree) - 1).bit_length() - 1
        while step:
            beyond = number + step
            if beyond < len(tree) and tree[beyond] <= rank:
                number = beyond
                rank -= tree[beyond]
            step >>= 1
        return number, rank
