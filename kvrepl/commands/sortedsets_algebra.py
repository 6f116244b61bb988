"""Sorted sets combined: union, intersection and difference, stored or returned.

The inputs may be plain sets as well, whose members have a score of 1. Scores of a member that is
in several inputs are weighted and aggregated in the order of the inputs' sizes, smallest first:
addition of doubles is not associative, so that order is part of the result.

Source: Redis 7.0 t_zset.c zunionInterDiffGenericCommand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import INT64_MAX, integer, integer_in, number
from kvrepl.commands.elements import pairs, store
from kvrepl.config.notify import NOTIFY_ZSET
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, WRONGTYPE, CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

WEIGHT_NOT_FLOAT: Final = CommandError(b"ERR weight value is not a float")
LIMIT_NEGATIVE: Final = CommandError(b"ERR LIMIT can't be negative")

Aggregate = Callable[[float, float], float]


def _sum(total: float, score: float) -> float:
    total += score
    return total if total == total else 0.0  # of opposite infinities: 0 by convention


def _min(least: float, score: float) -> float:
    return score if score < least else least


def _max(most: float, score: float) -> float:
    return score if score > most else most


_AGGREGATES: Final[dict[bytes, Aggregate]] = {b"SUM": _sum, b"MIN": _min, b"MAX": _max}


class _Input:
    """One of the collections combined; a key that is not there is an empty one."""

    __slots__ = ("value", "weight")

    def __init__(self, value: SortedSet | SetValue) -> None:
        self.value = value
        self.weight = 1.0

    def __len__(self) -> int:
        return len(self.value)

    def entries(self) -> Iterable[tuple[bytes, float]]:
        """Every member with its score. O(n)."""
        if isinstance(self.value, SortedSet):
            return self.value.items()
        return ((member, 1.0) for member in self.value)

    def score(self, member: bytes) -> float | None:
        """The score of a member, None where it is not in there. O(1)."""
        if isinstance(self.value, SortedSet):
            return self.value.score(member)
        return 1.0 if member in self.value else None


class _Request:
    """The arguments behind the destination: keys, and the options that the command takes.

    Args:
        c: the client.
        argv: the command.
        at: where the number of keys stands.
        weighted: takes WEIGHTS and AGGREGATE.
        scored: takes WITHSCORES.
        limited: takes LIMIT.
    """

    __slots__ = ("aggregate", "inputs", "limit", "with_scores")

    def __init__(
        self,
        c: Client,
        argv: list[bytes],
        at: int,
        *,
        weighted: bool = False,
        scored: bool = False,
        limited: bool = False,
    ) -> None:
        count = integer(argv[at])
        if count < 1:
            raise CommandError(
                b"ERR at least 1 input key is needed for '%b' command" % argv[0].lower()
            )
        i = at + 1 + count
        if i > len(argv):
            raise SYNTAX
        self.inputs = [_Input(_read(c, key)) for key in argv[at + 1 : i]]
        self.aggregate: Aggregate = _sum
        self.with_scores = False
        self.limit = 0
        while i < len(argv):
            option = argv[i].upper()
            left = len(argv) - i
            if option == b"WEIGHTS" and weighted and left >= count + 1:
                for each, weight in zip(self.inputs, argv[i + 1 :], strict=False):
                    each.weight = number(weight, WEIGHT_NOT_FLOAT)
                i += count + 1
            elif option == b"AGGREGATE" and weighted and left >= 2:
                name = argv[i + 1].upper()
                if name not in _AGGREGATES:
                    raise SYNTAX
                self.aggregate = _AGGREGATES[name]
                i += 2
            elif option == b"WITHSCORES" and scored:
                self.with_scores = True
                i += 1
            elif option == b"LIMIT" and limited and left >= 2:
                self.limit = integer_in(argv[i + 1], 0, INT64_MAX, LIMIT_NEGATIVE)
                i += 2
            else:
                raise SYNTAX


def _read(c: Client, key: bytes) -> SortedSet | SetValue:
    value = c.db.get(key)
    if value is None:
        return SetValue(c.db.keyspace.limits)
    if isinstance(value, (SortedSet, SetValue)):
        return value
    raise WRONGTYPE


# ------------------------------------------------------------------- computing


def _union(request: _Request) -> dict[bytes, float]:
    """Every member of any input. O(total)."""
    found: dict[bytes, float] = {}
    aggregate = request.aggregate
    for each in sorted(request.inputs, key=len):
        weight = each.weight
        for member, score in each.entries():
            score *= weight
            if score != score:
                score = 0.0  # 0 * inf
            found[member] = aggregate(found[member], score) if member in found else score
    return found


def _intersection(request: _Request) -> dict[bytes, float]:
    """The members of all inputs, as many as `limit` where there is one. O(smallest * inputs)."""
    found: dict[bytes, float] = {}
    aggregate = request.aggregate
    smallest, *others = sorted(request.inputs, key=len)
    for member, first in smallest.entries():
        total = first * smallest.weight
        if total != total:
            total = 0.0
        for each in others:
            score = each.score(member)
            if score is None:
                break
            total = aggregate(total, score * each.weight)
        else:
            found[member] = total
            if len(found) == request.limit:
                break
    return found


def _difference(request: _Request) -> dict[bytes, float]:
    """The members of the first input that are in no other one. O(first * inputs)."""
    first, *others = request.inputs
    return {
        member: score
        for member, score in first.entries()
        if all(each.score(member) is None for each in others)
    }


# ------------------------------------------------------------------- replying


def _reply(c: Client, request: _Request, found: dict[bytes, float]) -> Reply:
    entries = sorted(found.items(), key=_by_score)
    return pairs(c, entries) if request.with_scores else [member for member, _ in entries]


def _by_score(entry: tuple[bytes, float]) -> tuple[float, bytes]:
    return entry[1], entry[0]


def _store(c: Client, key: bytes, found: dict[bytes, float], event: bytes) -> Reply:
    limits = c.db.keyspace.limits
    count = len(found)
    packed = (
        count <= limits.zset_max_listpack_entries
        and max(map(len, found), default=0) <= limits.zset_max_listpack_value
    )
    store(c.db, key, SortedSet.of_scores(limits, found, packed), NOTIFY_ZSET, event)
    return count


@command("zunion", -3, "readonly movablekeys", keys=["RO access @1#"], acl="sortedset")
def zunion(c: Client, argv: list[bytes]) -> Reply:
    """Add multiple sorted sets. O(total + n log n)."""
    request = _Request(c, argv, 1, weighted=True, scored=True)
    return _reply(c, request, _union(request))


@command("zinter", -3, "readonly movablekeys", keys=["RO access @1#"], acl="sortedset")
def zinter(c: Client, argv: list[bytes]) -> Reply:
    """Intersect multiple sorted sets. O(smallest * sets + n log n)."""
    request = _Request(c, argv, 1, weighted=True, scored=True)
    return _reply(c, request, _intersection(request))


@command("zdiff", -3, "readonly movablekeys", keys=["RO access @1#"], acl="sortedset")
def zdiff(c: Client, argv: list[bytes]) -> Reply:
    """Subtract multiple sorted sets. O(first * sets + n log n)."""
    request = _Request(c, argv, 1, scored=True)
    return _reply(c, request, _difference(request))


@command("zintercard", -3, "readonly movablekeys", keys=["RO access @1#"], acl="sortedset")
def zintercard(c: Client, argv: list[bytes]) -> Reply:
    """Intersect multiple sorted sets and return the cardinality. O(smallest * sets)."""
    return len(_intersection(_Request(c, argv, 1, limited=True)))


@command(
    "zunionstore",
    -4,
    "write denyoom movablekeys",
    keys=["OW update @1", "RO access @2#"],
    acl="sortedset",
)
def zunionstore(c: Client, argv: list[bytes]) -> Reply:
    """Add multiple sorted sets and store the result in a key. O(total + n log n)."""
    found = _union(_Request(c, argv, 2, weighted=True))
    return _store(c, argv[1], found, b"zunionstore")


@command(
    "zinterstore",
    -4,
    "write denyoom movablekeys",
    keys=["OW update @1", "RO access @2#"],
    acl="sortedset",
)
def zinterstore(c: Client, argv: list[bytes]) -> Reply:
    """Intersect multiple sorted sets and store the result in a key. O(smallest*sets + n log n)."""
    found = _intersection(_Request(c, argv, 2, weighted=True))
    return _store(c, argv[1], found, b"zinterstore")


@command(
    "zdiffstore",
    -4,
    "write denyoom movablekeys",
    keys=["OW update @1", "RO access @2#"],
    acl="sortedset",
)
def zdiffstore(c: Client, argv: list[bytes]) -> Reply:
    """Subtract multiple sorted sets and store the result in a key. O(first * sets + n log n)."""
    found = _difference(_Request(c, argv, 2))
    return _store(c, argv[1], found, b"zdiffstore")
