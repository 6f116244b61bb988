"""Sorted sets by range: ZRANGE and the commands it replaced, counting, removing, ZRANGESTORE.

There are three kinds of ranges, each with bounds of its own:

    rank    two integers, both included, negative ones from the end
    score   two doubles, "(5" leaves the bound out
    lex     "[a" or "(a", "-" and "+"; for sets in which all scores are equal

Each becomes a half-open pair of ranks, start and stop, and so all that follows (reverse order,
LIMIT, counting, removing, storing) is done once, on ranks.

Source: Redis 7.0 t_zset.c (zrangeGenericCommand, zremrangeGenericCommand, zslParseRange,
zslParseLexRange).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import integer, slice_of
from kvrepl.commands.elements import drop, pairs, store
from kvrepl.config.notify import NOTIFY_ZSET
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.numbers import parse_float
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

Select = Callable[[SortedSet], tuple[int, int]]
"""Turns a range into ranks of a sorted set: start, and the stop that is not in it any more."""

BOUND_NOT_FLOAT: Final = CommandError(b"ERR min or max is not a float")
BOUND_NOT_LEX: Final = CommandError(b"ERR min or max not valid string range item")
LIMIT_BY_RANK: Final = CommandError(
    b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
)
SCORES_BY_LEX: Final = CommandError(
    b"ERR syntax error, WITHSCORES not supported in combination with BYLEX"
)

_DECIMAL: Final = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")

RANK: Final = b"RANK"
SCORE: Final = b"BYSCORE"
LEX: Final = b"BYLEX"
ANY: Final = b""


# ------------------------------------------------------------------- bounds


def by_rank(low: bytes, high: bytes) -> Select:
    """A range of ranks from the lowest score on, or seen from the other end if turned round."""
    first, last = integer(low), integer(high)

    def select(value: SortedSet) -> tuple[int, int]:
        start, stop = slice_of(first, last, len(value))
        return (start, stop + 1) if start <= stop else (0, 0)

    return select


def by_score(low: bytes, high: bytes) -> Select:
    """A range of scores."""
    (low_score, low_open), (high_score, high_open) = _score_bound(low), _score_bound(high)
    return lambda value: value.by_score(low_score, low_open, high_score, high_open)


def _score_bound(argument: bytes) -> tuple[float, bool]:
    """A score, and whether it is left out; read by strtod alone, which is lax.

    Leading blanks are skipped, no text at all is 0, and what overflows is infinite.
    """
    is_open = argument.startswith(b"(")
    text = argument[is_open:].partition(b"\0")[0]
    score = parse_float(text)
    if score is None:
        text = text.lstrip(b" \t\n\v\f\r") or text
        score = parse_float(text)
        if score is None and (not text or _DECIMAL.fullmatch(text)):
            score = float(text or b"0")
        if score is None:
            raise BOUND_NOT_FLOAT
    return score, is_open


def by_lex(low: bytes, high: bytes) -> Select:
    """A range of members in a set whose scores are all equal."""
    (low_member, low_open), (high_member, high_open) = _lex_bound(low), _lex_bound(high)
    if low == b"+" or high == b"-":
        return lambda value: (0, 0)
    return lambda value: value.by_lex(low_member, low_open, high_member, high_open)


def _lex_bound(argument: bytes) -> tuple[bytes | None, bool]:
    """A member, None for no bound, and whether it is left out."""
    if argument in (b"-", b"+"):
        return None, False
    if argument[:1] not in (b"[", b"("):
        raise BOUND_NOT_LEX
    return argument[1:], argument.startswith(b"(")


_SELECTS: Final = {RANK: by_rank, SCORE: by_score, LEX: by_lex}


# ------------------------------------------------------------------- returning


class _Range:
    """What ZRANGE and its kin ask for.

    Args:
        argv: the command.
        at: where the source key stands, followed by the two ends and the options.
        kind: RANK, SCORE or LEX; ANY where the options say.
        reverse: highest first; None where the options say.
        storing: ZRANGESTORE, which takes no WITHSCORES.

    Attributes:
        key: the source.
        with_scores: whether the scores are wanted as well.
    """

    __slots__ = ("_by_rank", "_limit", "_offset", "_reverse", "_select", "key", "with_scores")

    def __init__(
        self,
        argv: list[bytes],
        at: int = 1,
        kind: bytes = ANY,
        reverse: bool | None = None,
        storing: bool = False,
    ) -> None:
        self.key = argv[at]
        self.with_scores = False
        self._offset, self._limit = 0, -1
        i = at + 3
        while i < len(argv):
            option = argv[i].upper()
            if option == b"WITHSCORES" and not storing:
                self.with_scores = True
            elif option == b"LIMIT" and i + 2 < len(argv):
                self._offset, self._limit = integer(argv[i + 1]), integer(argv[i + 2])
                i += 2
            elif option == b"REV" and reverse is None:
                reverse = True
            elif option in (SCORE, LEX) and kind == ANY:
                kind = option
            else:
                raise SYNTAX
            i += 1
        kind = kind or RANK
        self._by_rank = kind == RANK
        self._reverse = bool(reverse)
        if self._by_rank:
            if self._limit != -1:
                raise LIMIT_BY_RANK
            self._offset = 0  # LIMIT with all of them is let through, and skips none
        if self.with_scores and kind == LEX:
            raise SCORES_BY_LEX
        low, high = argv[at + 1], argv[at + 2]
        if self._reverse and not self._by_rank:
            low, high = high, low
        self._select = _SELECTS[kind](low, high)

    def entries(self, value: SortedSet) -> list[tuple[bytes, float]]:
        """The members and scores asked for, in order. O(log n + returned)."""
        start, stop = self._select(value)
        if self._reverse and self._by_rank:
            start, stop = len(value) - stop, len(value) - start
        if self._offset < 0:
            return []
        if self._reverse:
            stop -= self._offset
            if self._limit >= 0:
                start = max(start, stop - self._limit)
        else:
            start += self._offset
            if self._limit >= 0:
                stop = min(stop, start + self._limit)
        if start >= stop:
            return []
        found = value.range(start, stop)
        if self._reverse:
            found.reverse()
        return found


def _range(c: Client, wanted: _Range) -> Reply:
    value = c.db.read(wanted.key, SortedSet)
    if value is None:
        return []
    found = wanted.entries(value)
    return pairs(c, found) if wanted.with_scores else [member for member, _ in found]


@command("zrange", -4, "readonly", keys=["RO access @1"], acl="sortedset")
def zrange(c: Client, argv: list[bytes]) -> Reply:
    """Return a range of members in a sorted set. O(log n + members returned)."""
    return _range(c, _Range(argv))


@command("zrevrange", -4, "readonly", keys=["RO access @1"], acl="sortedset")
def zrevrange(c: Client, argv: list[bytes]) -> Reply:
    """Return a range of members by index, highest score first. O(log n + members returned)."""
    return _range(c, _Range(argv, kind=RANK, reverse=True))


@command("zrangebyscore", -4, "readonly", keys=["RO access @1"], acl="sortedset")
def zrangebyscore(c: Client, argv: list[bytes]) -> Reply:
    """Return a range of members by score. O(log n + members returned)."""
    return _range(c, _Range(argv, kind=SCORE, reverse=False))


@command("zrevrangebyscore", -4, "readonly", keys=["RO access @1"], acl="sortedset")
def zrevrangebyscore(c: Client, argv: list[bytes]) -> Reply:
    """Return a range of members by score, highest first. O(log n + members returned)."""
    return _range(c, _Range(argv, kind=SCORE, reverse=True))


@command("zrangebylex", -4, "readonly", keys=["RO access @1"], acl="sortedset")
def zrangebylex(c: Client, argv: list[bytes]) -> Reply:
    """Return a range of members in lexicographical order. O(log n + members returned)."""
    return _range(c, _Range(argv, kind=LEX, reverse=False))


@command("zrevrangebylex", -4, "readonly", keys=["RO access @1"], acl="sortedset")
def zrevrangebylex(c: Client, argv: list[bytes]) -> Reply:
    """Return a range of members in reverse lexicographical order. O(log n + members returned)."""
    return _range(c, _Range(argv, kind=LEX, reverse=True))


@command(
    "zrangestore",
    -5,
    "write denyoom",
    keys=["OW update @1", "RO access @2"],
    acl="sortedset",
)
def zrangestore(c: Client, argv: list[bytes]) -> Reply:
    """Store a range of members of a sorted set in another key. O(log n + stored * log stored)."""
    wanted = _Range(argv, at=2, storing=True)
    value = c.db.read(wanted.key, SortedSet)
    found = [] if value is None else wanted.entries(value)
    stored = SortedSet(c.db.keyspace.limits, found)
    store(c.db, argv[1], stored, NOTIFY_ZSET, b"zrangestore")
    return len(stored)


# ------------------------------------------------------------------- counting


@command("zcount", 4, "readonly fast", keys=["RO access @1"], acl="sortedset")
def zcount(c: Client, argv: list[bytes]) -> Reply:
    """Count the members in a sorted set that have scores within a range. O(log n)."""
    return _count(c, argv[1], by_score(argv[2], argv[3]))


@command("zlexcount", 4, "readonly fast", keys=["RO access @1"], acl="sortedset")
def zlexcount(c: Client, argv: list[bytes]) -> Reply:
    """Count the members in a sorted set within a lexicographical range. O(log n)."""
    return _count(c, argv[1], by_lex(argv[2], argv[3]))


def _count(c: Client, key: bytes, select: Select) -> int:
    value = c.db.read(key, SortedSet)
    if value is None:
        return 0
    start, stop = select(value)
    return max(stop - start, 0)


# ------------------------------------------------------------------- removing


@command("zremrangebyrank", 4, "write", keys=["RW delete @1"], acl="sortedset")
def zremrangebyrank(c: Client, argv: list[bytes]) -> Reply:
    """Remove members in a sorted set within a range of indexes. O(log n + removed)."""
    return _remove(c, argv[1], by_rank(argv[2], argv[3]), b"zremrangebyrank")


@command("zremrangebyscore", 4, "write", keys=["RW delete @1"], acl="sortedset")
def zremrangebyscore(c: Client, argv: list[bytes]) -> Reply:
    """Remove members in a sorted set within a range of scores. O(log n + removed)."""
    return _remove(c, argv[1], by_score(argv[2], argv[3]), b"zremrangebyscore")


@command("zremrangebylex", 4, "write", keys=["RW delete @1"], acl="sortedset")
def zremrangebylex(c: Client, argv: list[bytes]) -> Reply:
    """Remove members in a sorted set within a lexicographical range. O(log n + removed)."""
    return _remove(c, argv[1], by_lex(argv[2], argv[3]), b"zremrangebylex")


def _remove(c: Client, key: bytes, select: Select, event: bytes) -> int:
    value = c.db.edit(key, SortedSet)
    if value is None:
        return 0
    removed = len(value.remove_range(*select(value)))
    if removed:
        c.db.changed(key, NOTIFY_ZSET, event, removed)
        if not len(value):
            drop(c.db, key)
    return removed
