"""Sets: members, random ones, union, intersection and difference, SSCAN.

Source: Redis 7.0 t_set.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import INT64_MAX, integer_in, positive, scan_cursor, signed_count
from kvrepl.commands.elements import NUMKEYS_TOO_SMALL, drop, scan_options, store
from kvrepl.config.notify import NOTIFY_SET
from kvrepl.datatypes.sets import SetValue, difference, intersection, subtract, union
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import Reply, SetReply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

TOO_MANY_KEYS: Final = CommandError(b"ERR Number of keys can't be greater than number of args")
LIMIT_NEGATIVE: Final = CommandError(b"ERR LIMIT can't be negative")


# ------------------------------------------------------------------- members


@command("sadd", -3, "write denyoom fast", keys=["RW insert @1"], acl="set")
def sadd(c: Client, argv: list[bytes]) -> Reply:
    """Add one or more members to a set. O(members)."""
    db, key = c.db, argv[1]
    value = db.edit(key, SetValue)
    if value is None:
        value = SetValue(db.keyspace.limits)
        db.set(key, value)
    if len(argv) == 3:  # hot: benchmarks/requests, SADD
        added = int(value.add(argv[2]))
    else:
        added = sum(map(value.add, argv[2:]))
    if added:
        db.changed(key, NOTIFY_SET, b"sadd", added)
    return added


@command("srem", -3, "write fast", keys=["RW delete @1"], acl="set")
def srem(c: Client, argv: list[bytes]) -> Reply:
    """Remove one or more members from a set. O(members)."""
    db, key = c.db, argv[1]
    value = db.edit(key, SetValue)
    if value is None:
        return 0
    removed = 0
    for member in argv[2:]:
        removed += value.discard(member)
    if removed:
        db.changed(key, NOTIFY_SET, b"srem", removed)
        if not len(value):
            drop(db, key)
    return removed


@command(
    "smove",
    4,
    "write fast",
    keys=["RW access delete @1", "RW insert @2"],
    acl="set",
)
def smove(c: Client, argv: list[bytes]) -> Reply:
    """Move a member from one set to another. O(1)."""
    db, from_key, to_key, member = c.db, argv[1], argv[2], argv[3]
    source = db.edit(from_key, SetValue) if db.exists_for_write(from_key) else None
    if source is None:
        return 0
    target = db.edit(to_key, SetValue)
    if source is target:
        return int(member in source)
    if not source.discard(member):
        return 0
    db.changed(from_key, NOTIFY_SET, b"srem")
    if not len(source):
        drop(db, from_key)
    if target is None:
        target = SetValue(db.keyspace.limits)
        db.set(to_key, target)
    if target.add(member):
        db.changed(to_key, NOTIFY_SET, b"sadd")
    return 1


@command("sismember", 3, "readonly fast", keys=["RO @1"], acl="set")
def sismember(c: Client, argv: list[bytes]) -> Reply:
    """Determine if a given value is a member of a set. O(1)."""
    value = c.db.read(argv[1], SetValue)
    return 0 if value is None else int(argv[2] in value)


@command("smismember", -3, "readonly fast", keys=["RO access @1"], acl="set")
def smismember(c: Client, argv: list[bytes]) -> Reply:
    """Return the membership associated with the given elements for a set. O(members)."""
    value = c.db.read(argv[1], SetValue)
    if value is None:
        return [0] * (len(argv) - 2)
    return [int(member in value) for member in argv[2:]]


@command("scard", 2, "readonly fast", keys=["RO @1"], acl="set")
def scard(c: Client, argv: list[bytes]) -> Reply:
    """Get the number of members in a set. O(1)."""
    value = c.db.read(argv[1], SetValue)
    return 0 if value is None else len(value)


@command(
    "smembers",
    2,
    "readonly",
    keys=["RO access @1"],
    acl="set",
    tips=["nondeterministic_output_order"],
)
def smembers(c: Client, argv: list[bytes]) -> Reply:
    """Get all the members in a set. O(n)."""
    value = c.db.read(argv[1], SetValue)
    return SetReply() if value is None else SetReply(value)


@command(
    "sscan",
    -3,
    "readonly",
    keys=["RO access @1"],
    acl="set",
    tips=["nondeterministic_output"],
)
def sscan(c: Client, argv: list[bytes]) -> Reply:
    """Incrementally iterate set elements. O(members returned)."""
    cursor = scan_cursor(argv[2])
    value = c.db.read(argv[1], SetValue)
    if value is None:
        return [b"0", []]
    count, matches = scan_options(argv)
    cursor, found = value.scan(cursor, count)
    if matches is not None:
        found = [member for member in found if matches(member)]
    return [b"%d" % cursor, found]


# ------------------------------------------------------------------- random members


@command(
    "spop",
    -2,
    "write fast",
    keys=["RW access delete @1"],
    acl="set",
    tips=["nondeterministic_output"],
)
def spop(c: Client, argv: list[bytes]) -> Reply:
    """Remove and return one or multiple random members from a set. O(members).

    Propagates: SREM key member for each, or DEL key where a count took them all, for a replica
    would pick others.
    """
    if len(argv) == 3:
        return _spop_many(c, argv[1], positive(argv[2]))
    if len(argv) > 3:
        raise SYNTAX
    db, key = c.db, argv[1]
    value = db.edit(key, SetValue)
    if value is None:
        return None
    member = value.pop(c.engine.rng)
    db.changed(key, NOTIFY_SET, b"spop")
    if not len(value):
        drop(db, key)
    propagation = c.engine.propagation
    if propagation.targets:
        propagation.instead((b"SREM", key, member))
    return member


def _spop_many(c: Client, key: bytes, count: int) -> Reply:
    db = c.db
    value = db.edit(key, SetValue)
    if value is None or not count:
        return SetReply()
    propagation = c.engine.propagation
    if count >= len(value):
        taken = list(value)
        db.changed(key, NOTIFY_SET, b"spop", len(taken))
        drop(db, key)
        propagation.instead((b"DEL", key))
    else:
        taken = value.pop_many(count, c.engine.rng)
        db.changed(key, NOTIFY_SET, b"spop", count)
        if propagation.targets:
            propagation.instead(*((b"SREM", key, member) for member in taken))
    return SetReply(taken)


@command(
    "srandmember",
    -2,
    "readonly",
    keys=["RO access @1"],
    acl="set",
    tips=["nondeterministic_output"],
)
def srandmember(c: Client, argv: list[bytes]) -> Reply:
    """Get one or multiple random members from a set. O(members returned).

    A negative count may return a member several times.
    """
    if len(argv) > 3:
        raise SYNTAX
    rng = c.engine.rng
    if len(argv) == 2:
        value = c.db.read(argv[1], SetValue)
        return None if value is None else value.random(rng)
    count = signed_count(argv[2])
    value = c.db.read(argv[1], SetValue)
    if value is None:
        return []
    if count < 0:
        return [value.random(rng) for _ in range(-count)]
    return value.random_many(count, rng)


# ------------------------------------------------------------------- algebra


def _read_all(c: Client, keys: list[bytes]) -> list[SetValue]:
    """The sets at the keys, an empty one for a key that is not there."""
    read = c.db.read
    found = [read(key, SetValue) for key in keys]
    empty = SetValue(c.db.keyspace.limits)
    return [empty if value is None else value for value in found]


def _store(c: Client, key: bytes, stored: SetValue, event: bytes) -> int:
    """Put a set at a destination; returns how many members it has."""
    store(c.db, key, stored, NOTIFY_SET, event)
    return len(stored)


@command(
    "sinter",
    -2,
    "readonly",
    keys=["RO access @1..-1"],
    acl="set",
    tips=["nondeterministic_output_order"],
)
def sinter(c: Client, argv: list[bytes]) -> Reply:
    """Intersect multiple sets. O(smallest * sets)."""
    return SetReply(intersection(_read_all(c, argv[1:])))


@command(
    "sinterstore",
    -3,
    "write denyoom",
    keys=["RW update @1", "RO access @2..-1"],
    acl="set",
)
def sinterstore(c: Client, argv: list[bytes]) -> Reply:
    """Intersect multiple sets and store the resulting set in a key. O(smallest * sets)."""
    found = intersection(_read_all(c, argv[2:]))
    stored = SetValue.of_members(c.db.keyspace.limits, found)
    return _store(c, argv[1], stored, b"sinterstore")


@command("sintercard", -3, "readonly movablekeys", keys=["RO access @1#"], acl="set")
def sintercard(c: Client, argv: list[bytes]) -> Reply:
    """Intersect multiple sets and return the cardinality of the result. O(smallest * sets)."""
    behind = 2 + integer_in(argv[1], 1, INT64_MAX, NUMKEYS_TOO_SMALL)
    if behind > len(argv):
        raise TOO_MANY_KEYS
    limit = 0
    for i in range(behind, len(argv), 2):
        if argv[i].upper() != b"LIMIT" or i + 1 == len(argv):
            raise SYNTAX
        limit = integer_in(argv[i + 1], 0, INT64_MAX, LIMIT_NEGATIVE)
    return len(intersection(_read_all(c, argv[2:behind]), limit))


@command(
    "sunion",
    -2,
    "readonly",
    keys=["RO access @1..-1"],
    acl="set",
    tips=["nondeterministic_output_order"],
)
def sunion(c: Client, argv: list[bytes]) -> Reply:
    """Add multiple sets. O(total)."""
    return SetReply(union(_read_all(c, argv[1:])))


@command(
    "sunionstore",
    -3,
    "write denyoom",
    keys=["OW update @1", "RO access @2..-1"],
    acl="set",
)
def sunionstore(c: Client, argv: list[bytes]) -> Reply:
    """Add multiple sets and store the resulting set in a key. O(total)."""
    found = union(_read_all(c, argv[2:]))
    stored = SetValue.of_members(c.db.keyspace.limits, found)
    return _store(c, argv[1], stored, b"sunionstore")


@command(
    "sdiff",
    -2,
    "readonly",
    keys=["RO access @1..-1"],
    acl="set",
    tips=["nondeterministic_output_order"],
)
def sdiff(c: Client, argv: list[bytes]) -> Reply:
    """Subtract multiple sets. O(min(first * others, total))."""
    first, *others = _read_all(c, argv[1:])
    return SetReply(difference(first, others))


@command(
    "sdiffstore",
    -3,
    "write denyoom",
    keys=["OW update @1", "RO access @2..-1"],
    acl="set",
)
def sdiffstore(c: Client, argv: list[bytes]) -> Reply:
    """Subtract multiple sets and store the resulting set in a key. O(min(first*others, total))."""
    first, *others = _read_all(c, argv[2:])
    stored = subtract(c.db.keyspace.limits, first, others)
    return _store(c, argv[1], stored, b"sdiffstore")
