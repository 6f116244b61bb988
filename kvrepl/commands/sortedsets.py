"""Sorted sets: members and scores, ranks, pops, random members, ZSCAN, and waiting for members.

Ranges stand in sortedsets_ranges, union and its kin in sortedsets_algebra. As with lists, a client
is never blocked on a key that holds a sorted set, so only one put at a new key wakes anybody.

Source: Redis 7.0 t_zset.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import number, pair_count, positive, scan_cursor, timeout_ms
from kvrepl.commands.elements import (
    drop,
    numbered_keys,
    pairs,
    pop_count,
    pop_first,
    pop_or_block,
    scan_options,
)
from kvrepl.config.notify import NOTIFY_ZSET
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.numbers import format_double
from kvrepl.resp.values import NULL_ARRAY, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

NX_AND_XX: Final = CommandError(b"ERR XX and NX options at the same time are not compatible")
GT_LT_NX: Final = CommandError(b"ERR GT, LT, and/or NX options at the same time are not compatible")
INCR_ONE_PAIR: Final = CommandError(b"ERR INCR option supports a single increment-element pair")
SCORE_NAN: Final = CommandError(b"ERR resulting score is not a number (NaN)")

LISTPACK_INTEGER: Final = float(1 << 62)
"""Integral scores up to here are integers in a listpack (util.c, double2ll)."""

_ADD_OPTIONS: Final = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))
_NONE: Final[frozenset[bytes]] = frozenset()


# ------------------------------------------------------------------- adding


@command("zadd", -4, "write denyoom fast", keys=["RW update @1"], acl="sortedset")
def zadd(c: Client, argv: list[bytes]) -> Reply:
    """Add members to a sorted set, or update their scores. O(members * log n)."""
    if len(argv) == 4 and argv[2][:1].isdigit():  # hot: benchmarks/requests, ZADD
        return _add_one(c.db, argv[1], argv[3], number(argv[2]))
    options = _NONE
    at = 2
    while at < len(argv) and (option := argv[at].upper()) in _ADD_OPTIONS:
        options |= {option}
        at += 1
    return _add(c, argv, at, options)


@command("zincrby", 4, "write denyoom fast", keys=["RW access update @1"], acl="sortedset")
def zincrby(c: Client, argv: list[bytes]) -> Reply:
    """Increment the score of a member in a sorted set. O(log n)."""
    if argv[2].upper() in _ADD_OPTIONS:
        raise SYNTAX  # Redis looks for ZADD's options here, too, and then misses the score
    by = number(argv[2])
    db, key = c.db, argv[1]
    value = db.edit(key, SortedSet)
    if value is None:
        value = SortedSet(db.keyspace.limits)
        db.set(key, value)
    return _increment(db, key, value, argv[3], by, _NONE)


def _add(c: Client, argv: list[bytes], at: int, options: frozenset[bytes]) -> Reply:
    """Add the pairs of score and member from argv[at] on.

    Source: t_zset.c zaddGenericCommand, zsetAdd.
    """
    if at == len(argv) or (len(argv) - at) % 2:
        raise SYNTAX
    if options:
        _check_options(options, (len(argv) - at) // 2)
    scores = [number(argv[i]) for i in range(at, len(argv), 2)]
    db, key = c.db, argv[1]
    value = db.edit(key, SortedSet)
    if value is None:
        if b"XX" in options:
            return None if b"INCR" in options else 0
        value = SortedSet(db.keyspace.limits)
        db.set(key, value)
    if b"INCR" in options:
        return _increment(db, key, value, argv[at + 1], scores[0], options)
    added = updated = 0
    for score, member in zip(scores, argv[at + 1 :: 2], strict=True):
        if options and not _admits(options, value.score(member), score):
            continue
        old = value.put(member, score)
        if old is None:
            added += 1
        elif old != score:
            updated += 1
    if added or updated:
        db.changed(key, NOTIFY_ZSET, b"zadd", added + updated)
    return added + updated if b"CH" in options else added


def _add_one(db: Database, key: bytes, member: bytes, score: float) -> int:
    """The same for one pair and no option."""
    value = db.edit(key, SortedSet)
    if value is None:
        value = SortedSet(db.keyspace.limits)
        db.set(key, value)
    old = value.put(member, score)
    if old != score:
        db.changed(key, NOTIFY_ZSET, b"zadd")
    return int(old is None)


def _check_options(options: frozenset[bytes], members: int) -> None:
    if options >= {b"NX", b"XX"}:
        raise NX_AND_XX
    if len(options & {b"GT", b"LT", b"NX"}) > 1:
        raise GT_LT_NX
    if b"INCR" in options and members > 1:
        raise INCR_ONE_PAIR


def _admits(options: frozenset[bytes], old: float | None, new: float) -> bool:
    """Whether the options let a member of this score, None for none, get the new score."""
    if old is None:
        return b"XX" not in options
    if b"GT" in options:
        return new > old
    if b"LT" in options:
        return new < old
    return b"NX" not in options


def _increment(
    db: Database, key: bytes, value: SortedSet, member: bytes, by: float, options: frozenset[bytes]
) -> Reply:
    """Add to the score of a member; None where the options forbid it."""
    old = value.score(member)
    new = by if old is None else old + by
    if old is not None and b"NX" not in options and new != new:
        raise SCORE_NAN
    if not _admits(options, old, new):
        return None
    if new != old:
        value.add(member, new)
        db.changed(key, NOTIFY_ZSET, b"zincr")
    return new


# ------------------------------------------------------------------- removing


@command("zrem", -3, "write fast", keys=["RW delete @1"], acl="sortedset")
def zrem(c: Client, argv: list[bytes]) -> Reply:
    """Remove one or more members from a sorted set. O(members * log n)."""
    db, key = c.db, argv[1]
    value = db.edit(key, SortedSet)
    if value is None:
        return 0
    removed = 0
    for member in argv[2:]:
        removed += value.remove(member)
    if removed:
        db.changed(key, NOTIFY_ZSET, b"zrem", removed)
        if not len(value):
            drop(db, key)
    return removed


@command("zpopmin", -2, "write fast", keys=["RW access delete @1"], acl="sortedset")
def zpopmin(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return the members with the lowest scores. O(log n + members)."""
    return _pop(c, argv, lowest=True)


@command("zpopmax", -2, "write fast", keys=["RW access delete @1"], acl="sortedset")
def zpopmax(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return the members with the highest scores. O(log n + members)."""
    return _pop(c, argv, lowest=False)


def _pop(c: Client, argv: list[bytes], *, lowest: bool) -> Reply:
    db, key = c.db, argv[1]
    if len(argv) == 2:
        value = db.edit(key, SortedSet)
        if value is None:
            return []
        entry = value.pop(0 if lowest else -1)
        db.changed(key, NOTIFY_ZSET, b"zpopmin" if lowest else b"zpopmax")
        if not len(value):
            drop(db, key)
        return list(entry)
    if len(argv) > 3:
        raise SYNTAX
    count = positive(argv[2])
    value = db.edit(key, SortedSet)
    return pairs(c, _take(db, key, value, lowest, count)) if value is not None and count else []


def _take(
    db: Database, key: bytes, value: SortedSet, lowest: bool, count: int
) -> list[tuple[bytes, float]]:
    """Pop up to `count` members, in the order of popping, and report it. O(log n + members)."""
    entries = value.pop_min(count) if lowest else value.pop_max(count)
    db.changed(key, NOTIFY_ZSET, b"zpopmin" if lowest else b"zpopmax", len(entries))
    if not len(value):
        drop(db, key)
    return entries


@command("zmpop", -4, "write movablekeys", keys=["RW access delete @1#"], acl="sortedset")
def zmpop(c: Client, argv: list[bytes]) -> Reply:
    """Pop members from the first sorted set that is not empty, of several. O(keys + members).

    Propagates: ZPOPMIN (ZPOPMAX) key number of members popped.
    """
    keys, behind = numbered_keys(argv, 1)
    lowest = _is_lowest(argv[behind])
    count = pop_count(argv, behind + 1)
    reply = pop_first(c, keys, SortedSet, _Mpop(lowest, count))
    return NULL_ARRAY if reply is None else reply


@command("bzmpop", -5, "write blocking movablekeys", keys=["RW access delete @2#"], acl="sortedset")
def bzmpop(c: Client, argv: list[bytes]) -> Reply:
    """Pop members from the first sorted set that is not empty, or wait for one. O(keys + members).

    Propagates: ZPOPMIN (ZPOPMAX) key number of members popped, when they are popped.
    """
    keys, behind = numbered_keys(argv, 2)
    lowest = _is_lowest(argv[behind])
    count = pop_count(argv, behind + 1)
    return pop_or_block(c, keys, SortedSet, _Mpop(lowest, count), timeout_ms(argv[1]))


@command(
    "bzpopmin",
    -3,
    "write noscript blocking fast",
    keys=["RW access delete @1..-2"],
    acl="sortedset",
)
def bzpopmin(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return the member with the lowest score, or wait for one. O(keys + log n).

    Propagates: ZPOPMIN key, when it is popped.
    """
    return pop_or_block(c, argv[1:-1], SortedSet, _take_lowest, timeout_ms(argv[-1]))


@command(
    "bzpopmax",
    -3,
    "write noscript blocking fast",
    keys=["RW access delete @1..-2"],
    acl="sortedset",
)
def bzpopmax(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return the member with the highest score, or wait for one. O(keys + log n).

    Propagates: ZPOPMAX key, when it is popped.
    """
    return pop_or_block(c, argv[1:-1], SortedSet, _take_highest, timeout_ms(argv[-1]))


def _take_lowest(db: Database, key: bytes, value: SortedSet) -> tuple[Reply, Sequence[bytes]]:
    return [key, *_take(db, key, value, True, 1)[0]], (b"ZPOPMIN", key)


def _take_highest(db: Database, key: bytes, value: SortedSet) -> tuple[Reply, Sequence[bytes]]:
    return [key, *_take(db, key, value, False, 1)[0]], (b"ZPOPMAX", key)


class _Mpop:
    """How ZMPOP takes members: several at once, from one end."""

    __slots__ = ("count", "lowest")

    def __init__(self, lowest: bool, count: int) -> None:
        self.lowest = lowest
        self.count = count

    def __call__(self, db: Database, key: bytes, value: SortedSet) -> tuple[Reply, Sequence[bytes]]:
        entries = _take(db, key, value, self.lowest, self.count)
        verb = b"ZPOPMIN" if self.lowest else b"ZPOPMAX"
        return [key, entries], (verb, key, b"%d" % len(entries))


def _is_lowest(argument: bytes) -> bool:
    end = argument.upper()
    if end not in (b"MIN", b"MAX"):
        raise SYNTAX
    return end == b"MIN"


# ------------------------------------------------------------------- reading


@command("zcard", 2, "readonly fast", keys=["RO @1"], acl="sortedset")
def zcard(c: Client, argv: list[bytes]) -> Reply:
    """Get the number of members in a sorted set. O(1)."""
    value = c.db.read(argv[1], SortedSet)
    return 0 if value is None else len(value)


@command("zscore", 3, "readonly fast", keys=["RO access @1"], acl="sortedset")
def zscore(c: Client, argv: list[bytes]) -> Reply:
    """Get the score associated with the given member in a sorted set. O(1)."""
    value = c.db.read(argv[1], SortedSet)
    return None if value is None else value.score(argv[2])


@command("zmscore", -3, "readonly fast", keys=["RO access @1"], acl="sortedset")
def zmscore(c: Client, argv: list[bytes]) -> Reply:
    """Get the scores associated with the given members in a sorted set. O(members)."""
    value = c.db.read(argv[1], SortedSet)
    if value is None:
        return [None] * (len(argv) - 2)
    return [value.score(member) for member in argv[2:]]


@command("zrank", 3, "readonly fast", keys=["RO access @1"], acl="sortedset")
def zrank(c: Client, argv: list[bytes]) -> Reply:
    """Determine the index of a member in a sorted set. O(log n)."""
    value = c.db.read(argv[1], SortedSet)
    return None if value is None else value.rank(argv[2])


@command("zrevrank", 3, "readonly fast", keys=["RO access @1"], acl="sortedset")
def zrevrank(c: Client, argv: list[bytes]) -> Reply:
    """Determine the index of a member in a sorted set, highest score first. O(log n)."""
    value = c.db.read(argv[1], SortedSet)
    return None if value is None else value.rank(argv[2], reverse=True)


@command(
    "zrandmember",
    -2,
    "readonly",
    keys=["RO access @1"],
    acl="sortedset",
    tips=["nondeterministic_output"],
)
def zrandmember(c: Client, argv: list[bytes]) -> Reply:
    """Get one or multiple random members from a sorted set. O(members returned * log n).

    A negative count may return a member several times.
    """
    rng = c.engine.rng
    if len(argv) == 2:
        value = c.db.read(argv[1], SortedSet)
        return None if value is None else value.random(rng)[0]
    count, with_scores = pair_count(argv, b"WITHSCORES")
    value = c.db.read(argv[1], SortedSet)
    if value is None:
        return []
    if count < 0:
        picked = [value.random(rng) for _ in range(-count)]
    else:
        picked = value.random_many(count, rng)
    return pairs(c, picked) if with_scores else [member for member, _ in picked]


@command(
    "zscan",
    -3,
    "readonly",
    keys=["RO access @1"],
    acl="sortedset",
    tips=["nondeterministic_output"],
)
def zscan(c: Client, argv: list[bytes]) -> Reply:
    """Incrementally iterate sorted set members and their scores. O(members returned).

    Scores are bulk strings here, in RESP3 as well; those of a listpack are printed as they are
    kept there, integers without an exponent.
    """
    cursor = scan_cursor(argv[2])
    value = c.db.read(argv[1], SortedSet)
    if value is None:
        return [b"0", []]
    count, matches = scan_options(argv)
    cursor, found = value.scan(cursor, count)
    packed = value.encoding == b"listpack"
    flat: list[bytes] = []
    for member, score in found:
        if matches is None or matches(member):
            whole = packed and abs(score) <= LISTPACK_INTEGER and score.is_integer()
            flat += (member, b"%d" % int(score) if whole else format_double(score))
    return [b"%d" % cursor, flat]
