"""The sorted set value.

Two encodings, and one way from the first to the second:

    listpack  up to zset-max-listpack-entries members, each of at most zset-max-listpack-value
              bytes: a Run alone, searched member by member
    skiplist  anything else: a RunOrder, and a table from member to score

The encoding is whether there is a table (`_scores`). Order is by score, then by the bytes of
the member. Ranges are half-open pairs of ranks, `start` up to, not including, `stop`; a command
turns what it is asked for into ranks first (`by_score`, `by_lex`), and then counts, returns or
removes what is between them. Rank 0 is the lowest score; reverse ranges are for the caller to
turn round.

Scores are doubles other than NaN. Reading and printing them is not done here. A listpack has no
-0.0: Redis stores whole scores as integers there, so what goes in as -0.0 comes out as 0.0
(`score + 0.0`); a skiplist keeps the sign.

Source: t_zset.c of Redis 7.0 (zsetAdd, zsetConvert, zsetConvertToListpackIfNeeded, zslParseRange,
zslParseLexRange). Not followed: the listpack limit of 1 GiB (lpSafeToAdd).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kvrepl.datatypes.collection import Collection
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.score_order import Run, RunOrder
from kvrepl.datatypes.segments import (
    SEGMENT_FROM,
    SegmentedDict,
    Table,
    parts_of,
    scan,
    table_of,
)

if TYPE_CHECKING:
    from random import Random


class SortedSet(Collection):
    """Different byte strings, each with a score, in the order of the scores.

    Args:
        limits: the server's thresholds, shared.
        entries: members and scores at first, added one after another.
    """

    __slots__ = ("_limits", "_order", "_scores")

    def __init__(self, limits: Limits, entries: Iterable[tuple[bytes, float]] = ()) -> None:
        self._limits = limits
        self._order: Run | RunOrder = Run([], array("d"))
        self._scores: Table[float] | None = None
        for member, score in entries:
            self.add(member, score)

    @classmethod
    def of_scores(cls, limits: Limits, scores: dict[bytes, float], packed: bool) -> SortedSet:
        """Take over a dict as a sorted set of a known encoding, as it is loaded.

        Args:
            limits: the server's thresholds.
            scores: members and scores in any order; belongs to the set afterwards.
            packed: True for a listpack.

        Cost: O(n log n), O(n) where they come in order.
        """
        made = cls(limits)
        ordered = sorted(zip(scores.values(), scores, strict=True))
        run = Run([member for _, member in ordered], array("d", [score for score, _ in ordered]))
        if packed:
            run.scores = array("d", [score + 0.0 for score in run.scores])
            made._order = run
        else:
            made._order = RunOrder(run)
            made._scores = table_of(scores)
        return made

    @property
    def encoding(self) -> bytes:
        """The name that OBJECT ENCODING gives."""
        return b"listpack" if self._scores is None else b"skiplist"

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, member: bytes) -> bool:
        if self._scores is not None:
            return member in self._scores
        order = self._order
        assert isinstance(order, Run)
        return member in order.members

    def __iter__(self) -> Iterator[tuple[bytes, float]]:
        """Every member with its score, ascending. O(n)."""
        return self._order.items()

    items = __iter__

    def score(self, member: bytes) -> float | None:
        """The score of a member, None if it is not there. O(1), O(n) in a listpack."""
        if self._scores is not None:
            return self._scores.get(member)
        order = self._order
        assert isinstance(order, Run)
        members = order.members
        return order.scores[members.index(member)] if member in members else None

    def add(self, member: bytes, score: float) -> bool:
        """Add a member, or change its score; True if it is new. O(log n)."""
        return self.put(member, score) is None

    def put(self, member: bytes, score: float) -> float | None:
        """Add a member, or change its score; the score it had, None if it is new. O(log n)."""
        scores = self._scores
        if scores is None:
            return self._put_packed(member, score)
        old = scores.get(member)
        if old == score:
            return old  # everything stays: 0.0 does not replace -0.0 in Redis either
        order = self._order
        if old is not None:
            order.delete(old, member)
        order.insert(score, member)
        if isinstance(scores, SegmentedDict):
            scores.put(member, score)
        else:
            scores[member] = score
            if len(scores) > SEGMENT_FROM:
                self._scores = SegmentedDict(scores)
        return old

    def remove(self, member: bytes) -> bool:
        """Remove a member; False if it was not there. O(log n), O(n) in a listpack."""
        scores = self._scores
        old = self.score(member) if scores is None else scores.pop(member, None)
        if old is None:
            return False
        self._order.delete(old, member)
        return True

    def rank(self, member: bytes, reverse: bool = False) -> int | None:
        """How many members come before this one, None if it is not there.

        Args:
            member: whose rank.
            reverse: count from the highest score.

        Cost: O(log n), O(n) in a listpack.
        """
        score = self.score(member)
        if score is None:
            return None
        rank = self._order.rank(score, member)
        return len(self._order) - 1 - rank if reverse else rank

    def range(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        """Members and scores from rank start up to, not including, stop. O(log n + returned)."""
        return self._order.slice(start, min(stop, len(self._order)))

    def by_score(self, low: float, low_open: bool, high: float, high_open: bool) -> tuple[int, int]:
        """The ranks of a range of scores.

        Args:
            low: the lowest score.
            low_open: leave that score itself out.
            high: the highest score.
            high_open: leave that score itself out.

        Returns:
            start and stop; start == stop for an empty range, which is also what ends in the
            wrong order give.

        Cost: O(log n).
        """
        start = self._order.score_rank(low, low_open)
        stop = self._order.score_rank(high, not high_open)
        return start, max(start, stop)

    def by_lex(
        self, low: bytes | None, low_open: bool, high: bytes | None, high_open: bool
    ) -> tuple[int, int]:
        """The ranks of a range of members, in a set in which all scores are equal.

        Args:
            low: the lowest member, None for no bound ("-").
            low_open: leave that member itself out.
            high: the highest member, None for no bound ("+").
            high_open: leave that member itself out.

        Returns:
            start and stop, start == stop for an empty range. Where scores differ, any range.

        Cost: O(log n).
        """
        start = 0 if low is None else self._order.member_rank(low, low_open)
        if high is None:
            return start, len(self._order)
        return start, max(start, self._order.member_rank(high, not high_open))

    def remove_range(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        """Remove and return the members of the ranks start up to, not including, stop.

        Cost: O(log n + removed), O(n) in a listpack.
        """
        removed = self.range(start, stop)
        self._order.delete_range(start, start + len(removed))
        if self._scores is not None:
            for member, _ in removed:
                self._scores.pop(member, None)
        return removed

    def pop(self, index: int) -> tuple[bytes, float]:
        """Remove and return the first (0) or the last (-1); the set must not be empty."""
        entry = self._order.pop(index)
        if self._scores is not None:
            self._scores.pop(entry[0], None)
        return entry

    def pop_min(self, count: int = 1) -> list[tuple[bytes, float]]:
        """Remove and return up to `count` members of the lowest scores, lowest first."""
        return self.remove_range(0, count)

    def pop_max(self, count: int = 1) -> list[tuple[bytes, float]]:
        """Remove and return up to `count` members of the highest scores, highest first."""
        held = len(self._order)
        removed = self.remove_range(max(0, held - count), held)
        removed.reverse()
        return removed

    def random(self, rng: Random) -> tuple[bytes, float]:
        """One member with its score, each as likely as any other; not of an empty set. O(log n)."""
        order = self._order
        return order.select(int(rng.random() * len(order)))

    def random_many(self, count: int, rng: Random) -> list[tuple[bytes, float]]:
        """Several different members with their scores: `count` of them, or all there are.

        Args:
            count: not negative.
            rng: where the chance comes from.

        Cost: O(count log n).
        """
        order = self._order
        if count >= len(order):
            return list(order.items())
        return [order.select(rank) for rank in rng.sample(range(len(order)), count)]

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, float]]]:
        """Some members with their scores, and the cursor to go on from.

        Members present from the call with cursor 0 until it comes back as 0 are returned at
        least once. A listpack, and a skiplist of up to SEGMENT_FROM members, is returned whole.

        Args:
            cursor: 0 to begin, then what the call before returned.
            count: the members wished for.
        """
        if self._scores is None:
            return 0, list(self._order.items())
        return scan(self._scores, cursor, count)

    def parts(self) -> list[Any]:
        """What it consists of, to be freed one by one; the set is used no more. O(n / RUN)."""
        scores = self._scores
        return [*self._order.runs(), *(() if scores is None else parts_of(scores))]

    def copy(self) -> SortedSet:
        """An independent set of the same entries and encoding. O(n)."""
        return SortedSet.of_scores(self._limits, dict(self._order.items()), self._scores is None)

    def _put_packed(self, member: bytes, score: float) -> float | None:
        order = self._order
        assert isinstance(order, Run)
        members = order.members
        if member in members:
            at = members.index(member)
            old = order.scores[at]
            if old != score:
                del members[at], order.scores[at]
                order.insert(score + 0.0, member)
            return old
        limits = self._limits
        # Redis looks before the insertion, so that a threshold of n allows n members.
        if (
            len(members) >= limits.zset_max_listpack_entries
            or len(member) > limits.zset_max_listpack_value
        ):
            self._scores = table_of(dict(order.items()))
            self._order = RunOrder(order)
            return self.put(member, score)
        order.insert(score + 0.0, member)
        return None
