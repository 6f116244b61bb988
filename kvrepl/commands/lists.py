"""Lists: pushes and pops at both ends, the elements between, moves, and waiting for elements.

A client is never blocked on a key that holds a list, for then it would have been served; so only
a list put at a new key can make anybody ready, and `Database.set` sees to that.

Source: Redis 7.0 t_list.c; blocked.c (serveClientBlockedOnList).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import (
    INT64_MAX,
    INT64_MIN,
    integer,
    integer_in,
    positive,
    slice_of,
    timeout_ms,
)
from kvrepl.commands.elements import drop, numbered_keys, pop_count, pop_first, pop_or_block
from kvrepl.config.notify import NOTIFY_LIST
from kvrepl.datatypes.lists import ListValue
from kvrepl.engine.spec import command
from kvrepl.errors import NO_SUCH_KEY, OUT_OF_RANGE, SYNTAX, WRONGTYPE, CommandError
from kvrepl.resp.values import BLOCKED, NULL_ARRAY, OK, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

RANK_ZERO: Final = CommandError(
    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use"
    b" negative to start from the end of the list"
)
COUNT_NEGATIVE: Final = CommandError(b"ERR COUNT can't be negative")
MAXLEN_NEGATIVE: Final = CommandError(b"ERR MAXLEN can't be negative")


# ------------------------------------------------------------------- pushing


@command("lpush", -3, "write denyoom fast", keys=["RW insert @1"], acl="list")
def lpush(c: Client, argv: list[bytes]) -> Reply:
    """Prepend one or multiple elements to a list. O(elements)."""
    return _push(c, argv, left=True)


@command("rpush", -3, "write denyoom fast", keys=["RW insert @1"], acl="list")
def rpush(c: Client, argv: list[bytes]) -> Reply:
    """Append one or multiple elements to a list. O(elements)."""
    return _push(c, argv, left=False)


@command("lpushx", -3, "write denyoom fast", keys=["RW insert @1"], acl="list")
def lpushx(c: Client, argv: list[bytes]) -> Reply:
    """Prepend an element to a list, only if the list exists. O(elements)."""
    return _push(c, argv, left=True, must_exist=True)


@command("rpushx", -3, "write denyoom fast", keys=["RW insert @1"], acl="list")
def rpushx(c: Client, argv: list[bytes]) -> Reply:
    """Append an element to a list, only if the list exists. O(elements)."""
    return _push(c, argv, left=False, must_exist=True)


def _push(c: Client, argv: list[bytes], *, left: bool, must_exist: bool = False) -> Reply:
    db, key = c.db, argv[1]
    value = db.edit(key, ListValue)
    if value is None:
        if must_exist:
            return 0
        value = ListValue(db.keyspace.limits)
        db.set(key, value)
    if left:
        value.push_left(*argv[2:])
        db.changed(key, NOTIFY_LIST, b"lpush", len(argv) - 2)
    else:
        value.push_right(*argv[2:])
        db.changed(key, NOTIFY_LIST, b"rpush", len(argv) - 2)
    return len(value)


@command("linsert", 5, "write denyoom", keys=["RW insert @1"], acl="list")
def linsert(c: Client, argv: list[bytes]) -> Reply:
    """Insert an element before or after another element in a list. O(elements seen)."""
    where = argv[2].upper()
    if where not in (b"BEFORE", b"AFTER"):
        raise SYNTAX
    value = c.db.edit(argv[1], ListValue)
    if value is None:
        return 0
    if not value.insert(argv[3], argv[4], after=where == b"AFTER"):
        return -1
    c.db.changed(argv[1], NOTIFY_LIST, b"linsert")
    return len(value)


# ------------------------------------------------------------------- reading


@command("llen", 2, "readonly fast", keys=["RO @1"], acl="list")
def llen(c: Client, argv: list[bytes]) -> Reply:
    """Get the length of a list. O(1)."""
    value = c.db.read(argv[1], ListValue)
    return 0 if value is None else len(value)


@command("lindex", 3, "readonly", keys=["RO access @1"], acl="list")
def lindex(c: Client, argv: list[bytes]) -> Reply:
    """Get an element from a list by its index. O(1) at the ends."""
    value = c.db.read(argv[1], ListValue)
    if value is None:
        return None
    at = _index(value, argv[2])
    return None if at is None else value.get(at)


@command("lrange", 4, "readonly", keys=["RO access @1"], acl="list")
def lrange(c: Client, argv: list[bytes]) -> Reply:
    """Get a range of elements from a list. O(distance to the nearer end + elements returned)."""
    start, stop = integer(argv[2]), integer(argv[3])
    value = c.db.read(argv[1], ListValue)
    if value is None:
        return []
    start, stop = slice_of(start, stop, len(value))
    return value.range(start, stop) if start <= stop else []


@command("lpos", -3, "readonly", keys=["RO access @1"], acl="list")
def lpos(c: Client, argv: list[bytes]) -> Reply:
    """Get the index of matching elements in a list. O(elements compared)."""
    rank, count, max_compared = 1, None, 0
    for i in range(3, len(argv), 2):
        option = argv[i].upper()
        if i + 1 == len(argv):
            raise SYNTAX
        if option == b"RANK":
            rank = integer(argv[i + 1])
            if rank == 0:
                raise RANK_ZERO
        elif option == b"COUNT":
            count = integer_in(argv[i + 1], 0, INT64_MAX, COUNT_NEGATIVE)
        elif option == b"MAXLEN":
            max_compared = integer_in(argv[i + 1], 0, INT64_MAX, MAXLEN_NEGATIVE)
        else:
            raise SYNTAX
    value = c.db.read(argv[1], ListValue)
    if value is None:
        return None if count is None else []
    found = value.positions(argv[2], reverse=rank < 0, max_compared=max_compared)
    # The one rank whose opposite is no 64-bit integer skips nothing in Redis.
    skipped = 0 if rank == INT64_MIN else min(abs(rank) - 1, len(value))
    if count is None:
        return next(islice(found, skipped, None), None)
    return list(islice(found, skipped, skipped + min(count or len(value), len(value))))


def _index(value: ListValue, argument: bytes) -> int | None:
    """An index from the left for one that may count from the right; None outside the list."""
    at = integer(argument)
    if at < 0:
        at += len(value)
    return at if 0 <= at < len(value) else None


# ------------------------------------------------------------------- changing


@command("lset", 4, "write denyoom", keys=["RW update @1"], acl="list")
def lset(c: Client, argv: list[bytes]) -> Reply:
    """Set the value of an element in a list by its index. O(1) at the ends."""
    value = c.db.edit(argv[1], ListValue)
    if value is None:
        raise NO_SUCH_KEY
    at = _index(value, argv[2])
    if at is None:
        raise OUT_OF_RANGE
    value.set(at, argv[3])
    c.db.changed(argv[1], NOTIFY_LIST, b"lset")
    return OK


@command("lrem", 4, "write", keys=["RW delete @1"], acl="list")
def lrem(c: Client, argv: list[bytes]) -> Reply:
    """Remove elements from a list. O(length)."""
    count = integer(argv[2])
    db, key = c.db, argv[1]
    value = db.edit(key, ListValue)
    if value is None:
        return 0
    removed = value.remove(count, argv[3])
    if removed:
        db.changed(key, NOTIFY_LIST, b"lrem", removed)
        if not len(value):
            drop(db, key)
    return removed


@command("ltrim", 4, "write", keys=["RW delete @1"], acl="list")
def ltrim(c: Client, argv: list[bytes]) -> Reply:
    """Remove elements from both ends of a list, all but a range. O(elements removed).

    Propagates: itself, only if something was removed.
    """
    start, stop = integer(argv[2]), integer(argv[3])
    db, key = c.db, argv[1]
    value = db.edit(key, ListValue)
    if value is None:
        return OK
    before = len(value)
    start, stop = slice_of(start, stop, before)
    if start > stop:
        db.changed(key, NOTIFY_LIST, b"ltrim", before)
        drop(db, key)
    else:
        value.trim(start, stop)
        db.changed(key, NOTIFY_LIST, b"ltrim", before - len(value))
    return OK


# ------------------------------------------------------------------- popping


@command("lpop", -2, "write fast", keys=["RW access delete @1"], acl="list")
def lpop(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return the first elements in a list. O(elements)."""
    return _pop(c, argv, left=True)


@command("rpop", -2, "write fast", keys=["RW access delete @1"], acl="list")
def rpop(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return the last elements in a list. O(elements)."""
    return _pop(c, argv, left=False)


def _pop(c: Client, argv: list[bytes], *, left: bool) -> Reply:
    db, key = c.db, argv[1]
    if len(argv) == 2:
        value = db.edit(key, ListValue)
        return None if value is None else _take_one(db, key, value, left)
    if len(argv) > 3:
        raise CommandError(
            b"ERR wrong number of arguments for '%b' command" % (b"lpop" if left else b"rpop")
        )
    count = positive(argv[2])
    value = db.edit(key, ListValue)
    if value is None:
        return NULL_ARRAY
    return _take_many(db, key, value, left, count) if count else []


def _take_one(db: Database, key: bytes, value: ListValue, left: bool) -> bytes:
    """Pop one element and report it. O(1)."""
    element = value.pop_left() if left else value.pop_right()
    db.changed(key, NOTIFY_LIST, b"lpop" if left else b"rpop")
    if not len(value):
        drop(db, key)
    return element


def _take_many(db: Database, key: bytes, value: ListValue, left: bool, count: int) -> list[bytes]:
    """Pop up to `count` elements, in the order of popping, and report it. O(elements)."""
    length = len(value)
    count = min(count, length)
    if left:
        elements = value.range(0, count - 1)
        if count < length:
            value.trim(count, length - 1)
    else:
        elements = value.range(length - count, length - 1)
        elements.reverse()
        if count < length:
            value.trim(0, length - count - 1)
    db.changed(key, NOTIFY_LIST, b"lpop" if left else b"rpop", count)
    if count == length:
        drop(db, key)
    return elements


@command("lmpop", -4, "write movablekeys", keys=["RW access delete @1#"], acl="list")
def lmpop(c: Client, argv: list[bytes]) -> Reply:
    """Pop elements from the first list that is not empty, of several. O(keys + elements).

    Propagates: LPOP (RPOP) key number of elements popped.
    """
    keys, behind = numbered_keys(argv, 1)
    left = _is_left(argv[behind])
    count = pop_count(argv, behind + 1)
    reply = pop_first(c, keys, ListValue, _Mpop(left, count))
    return NULL_ARRAY if reply is None else reply


@command("blmpop", -5, "write blocking movablekeys", keys=["RW access delete @2#"], acl="list")
def blmpop(c: Client, argv: list[bytes]) -> Reply:
    """Pop elements from the first list that is not empty, or wait for one. O(keys + elements).

    Propagates: LPOP (RPOP) key number of elements popped, when they are popped.
    """
    keys, behind = numbered_keys(argv, 2)
    left = _is_left(argv[behind])
    count = pop_count(argv, behind + 1)
    return pop_or_block(c, keys, ListValue, _Mpop(left, count), timeout_ms(argv[1]))


@command("blpop", -3, "write noscript blocking", keys=["RW access delete @1..-2"], acl="list")
def blpop(c: Client, argv: list[bytes]) -> Reply:
    """Remove and get the first element in a list, or block until one is available. O(keys).

    Propagates: LPOP key, when it is popped.
    """
    return pop_or_block(c, argv[1:-1], ListValue, _take_left, timeout_ms(argv[-1]))


@command("brpop", -3, "write noscript blocking", keys=["RW access delete @1..-2"], acl="list")
def brpop(c: Client, argv: list[bytes]) -> Reply:
    """Remove and get the last element in a list, or block until one is available. O(keys).

    Propagates: RPOP key, when it is popped.
    """
    return pop_or_block(c, argv[1:-1], ListValue, _take_right, timeout_ms(argv[-1]))


def _take_left(db: Database, key: bytes, value: ListValue) -> tuple[Reply, Sequence[bytes]]:
    return [key, _take_one(db, key, value, left=True)], (b"LPOP", key)


def _take_right(db: Database, key: bytes, value: ListValue) -> tuple[Reply, Sequence[bytes]]:
    return [key, _take_one(db, key, value, left=False)], (b"RPOP", key)


class _Mpop:
    """How LMPOP takes elements: several at once, from one end."""

    __slots__ = ("count", "left")

    def __init__(self, left: bool, count: int) -> None:
        self.left = left
        self.count = count

    def __call__(self, db: Database, key: bytes, value: ListValue) -> tuple[Reply, Sequence[bytes]]:
        elements = _take_many(db, key, value, self.left, self.count)
        verb = b"LPOP" if self.left else b"RPOP"
        return [key, elements], (verb, key, b"%d" % len(elements))


# ------------------------------------------------------------------- moving


@command(
    "lmove",
    5,
    "write denyoom",
    keys=["RW access delete @1", "RW insert @2"],
    acl="list",
)
def lmove(c: Client, argv: list[bytes]) -> Reply:
    """Pop an element from one list and push it to another or the same one. O(1)."""
    from_left, to_left = _is_left(argv[3]), _is_left(argv[4])
    value = c.db.edit(argv[1], ListValue)
    return None if value is None else _move(c.db, argv, value, from_left, to_left)


@command(
    "rpoplpush",
    3,
    "write denyoom",
    keys=["RW access delete @1", "RW insert @2"],
    acl="list",
)
def rpoplpush(c: Client, argv: list[bytes]) -> Reply:
    """Pop the last element of one list and push it to the front of another. O(1)."""
    value = c.db.edit(argv[1], ListValue)
    return None if value is None else _move(c.db, argv, value, from_left=False, to_left=True)


@command(
    "blmove",
    6,
    "write denyoom noscript blocking",
    keys=["RW access delete @1", "RW insert @2"],
    acl="list",
)
def blmove(c: Client, argv: list[bytes]) -> Reply:
    """Pop an element from one list and push it to another, or block until there is one. O(1).

    Propagates: LMOVE source destination side side, when it is moved.
    """
    sides = _is_left(argv[3]), _is_left(argv[4])
    now: list[bytes] = [b"LMOVE", *argv[1:5]]
    later = [*now[:3], *(b"left" if side else b"right" for side in sides)]
    return _move_or_block(c, now, later, *sides, timeout_ms(argv[5]))


@command(
    "brpoplpush",
    4,
    "write denyoom noscript blocking",
    keys=["RW access delete @1", "RW insert @2"],
    acl="list",
)
def brpoplpush(c: Client, argv: list[bytes]) -> Reply:
    """Pop the last element of one list and push it to another, or block until there is one. O(1).

    Propagates: RPOPLPUSH source destination, when it is moved.
    """
    operation = [b"RPOPLPUSH", argv[1], argv[2]]
    return _move_or_block(c, operation, operation, False, True, timeout_ms(argv[3]))


def _move_or_block(
    c: Client, now: list[bytes], later: list[bytes], from_left: bool, to_left: bool, span_ms: int
) -> Reply:
    """Move an element, or wait for one.

    Args:
        c: the client.
        now: what is propagated when there is an element at once.
        later: what is propagated when there was none.
        from_left, to_left: the ends.
        span_ms: how long to wait, 0 for ever.
    """
    value = c.db.edit(now[1], ListValue)
    if value is not None:
        c.engine.propagation.instead(now)
        return _move(c.db, now, value, from_left, to_left)
    if not c.engine.may_block(c):
        return None

    def serve(db: Database, key: bytes) -> Reply | None:
        value = db.get_for_write(key)
        if type(value) is not ListValue:
            return None
        element = _move(db, later, value, from_left, to_left)
        c.engine.propagation.also(db.index, later)
        return element

    c.engine.blocking.block(c, (now[1],), timeout_ms=span_ms, serve=serve)
    return BLOCKED


def _move(
    db: Database, argv: list[bytes], source: ListValue, from_left: bool, to_left: bool
) -> bytes:
    """Move one element from the list at argv[1] to the one at argv[2]. O(1)."""
    to_key = argv[2]
    target = db.get_for_write(to_key)
    if target is None:
        target = ListValue(db.keyspace.limits)
        db.set(to_key, target)
    elif type(target) is not ListValue:
        raise WRONGTYPE
    element = source.pop_left() if from_left else source.pop_right()
    if to_left:
        target.push_left(element)
    else:
        target.push_right(element)
    # One operation: it counts as one change though it touches two keys.
    db.changed(to_key, NOTIFY_LIST, b"lpush" if to_left else b"rpush", 0)
    db.changed(argv[1], NOTIFY_LIST, b"lpop" if from_left else b"rpop")
    if not len(source):
        drop(db, argv[1])
    return element


def _is_left(argument: bytes) -> bool:
    side = argument.upper()
    if side not in (b"LEFT", b"RIGHT"):
        raise SYNTAX
    return side == b"LEFT"
