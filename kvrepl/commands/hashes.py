"""Hashes: fields and their values, counters among them, random fields, HSCAN.

Source: Redis 7.0 t_hash.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import (
    INT64_MAX,
    INT64_MIN,
    integer,
    pair_count,
    scan_cursor,
)
from kvrepl.commands.elements import drop, pairs, scan_options
from kvrepl.config.notify import NOTIFY_HASH
from kvrepl.datatypes.hashes import HashValue
from kvrepl.engine.spec import command
from kvrepl.errors import NOT_FLOAT, CommandError
from kvrepl.numbers import add_long_doubles, format_long_double, parse_int, parse_long_double
from kvrepl.resp.values import OK, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

FIELD_NOT_INTEGER: Final = CommandError(b"ERR hash value is not an integer")
FIELD_NOT_FLOAT: Final = CommandError(b"ERR hash value is not a float")
OVERFLOW: Final = CommandError(b"ERR increment or decrement would overflow")
INCREMENT_INFINITE: Final = CommandError(b"ERR value is NaN or Infinity")
RESULT_INFINITE: Final = CommandError(b"ERR increment would produce NaN or Infinity")


def _edit_or_create(db: Database, key: bytes) -> HashValue:
    """The hash at a key, made where there is none: the caller must put something into it."""
    value = db.edit(key, HashValue)
    if value is None:
        value = HashValue(db.keyspace.limits)
        db.set(key, value)
    return value


# ------------------------------------------------------------------- writing


@command("hset", -4, "write denyoom fast", keys=["RW update @1"], acl="hash")
def hset(c: Client, argv: list[bytes]) -> Reply:
    """Set the string value of one or more hash fields. O(fields)."""
    return _set_fields(c, argv, b"hset")


@command("hmset", -4, "write denyoom fast", keys=["RW update @1"], acl="hash")
def hmset(c: Client, argv: list[bytes]) -> Reply:
    """Set multiple hash fields to multiple values. O(fields)."""
    _set_fields(c, argv, b"hmset")
    return OK


def _set_fields(c: Client, argv: list[bytes], name: bytes) -> int:
    """Set fields; returns how many of them are new."""
    count = len(argv)
    if count % 2:
        raise CommandError(b"ERR wrong number of arguments for '%b' command" % name)
    db, key = c.db, argv[1]
    value = _edit_or_create(db, key)
    created = 0
    for i in range(2, count, 2):
        created += value.set(argv[i], argv[i + 1])
    db.changed(key, NOTIFY_HASH, b"hset", count // 2 - 1)
    return created


@command("hsetnx", 4, "write denyoom fast", keys=["RW insert @1"], acl="hash")
def hsetnx(c: Client, argv: list[bytes]) -> Reply:
    """Set the value of a hash field, only if the field does not exist. O(1)."""
    db, key = c.db, argv[1]
    value = _edit_or_create(db, key)
    if argv[2] in value:
        return 0
    value.set(argv[2], argv[3])
    db.changed(key, NOTIFY_HASH, b"hset")
    return 1


@command("hdel", -3, "write fast", keys=["RW delete @1"], acl="hash")
def hdel(c: Client, argv: list[bytes]) -> Reply:
    """Delete one or more hash fields. O(fields)."""
    db, key = c.db, argv[1]
    value = db.edit(key, HashValue)
    if value is None:
        return 0
    deleted = 0
    for field in argv[2:]:
        deleted += value.delete(field)
    if deleted:
        db.changed(key, NOTIFY_HASH, b"hdel", deleted)
        if not len(value):
            drop(db, key)
    return deleted


@command("hincrby", 4, "write denyoom fast", keys=["RW access update @1"], acl="hash")
def hincrby(c: Client, argv: list[bytes]) -> Reply:
    """Increment the integer value of a hash field by the given number. O(1)."""
    db, key, field = c.db, argv[1], argv[2]
    by = integer(argv[3])
    value = db.edit(key, HashValue)
    text = None if value is None else value.get(field)
    old = 0 if text is None else parse_int(text)
    if old is None:
        raise FIELD_NOT_INTEGER
    new = old + by
    if not INT64_MIN <= new <= INT64_MAX:
        raise OVERFLOW
    _edit_or_create(db, key).set(field, b"%d" % new)
    db.changed(key, NOTIFY_HASH, b"hincrby")
    return new


@command("hincrbyfloat", 4, "write denyoom fast", keys=["RW access update @1"], acl="hash")
def hincrbyfloat(c: Client, argv: list[bytes]) -> Reply:
    """Increment the float value of a hash field by the given amount. O(1).

    Propagates: HSET key field result, because two machines may add floats differently.
    """
    db, key, field = c.db, argv[1], argv[2]
    by = parse_long_double(argv[3])
    if by is None:
        raise NOT_FLOAT
    if add_long_doubles(by, (0, 0)) is None:
        raise INCREMENT_INFINITE
    value = db.edit(key, HashValue)
    text = None if value is None else value.get(field)
    old = (0, 0) if text is None else parse_long_double(text)
    if old is None:
        raise FIELD_NOT_FLOAT
    new = add_long_doubles(old, by)
    if new is None:
        raise RESULT_INFINITE
    result = format_long_double(new)
    _edit_or_create(db, key).set(field, result)
    db.changed(key, NOTIFY_HASH, b"hincrbyfloat")
    c.engine.propagation.instead((b"HSET", key, field, result))
    return result


# ------------------------------------------------------------------- reading


@command("hget", 3, "readonly fast", keys=["RO access @1"], acl="hash")
def hget(c: Client, argv: list[bytes]) -> Reply:
    """Get the value of a hash field. O(1)."""
    value = c.db.read(argv[1], HashValue)
    return None if value is None else value.get(argv[2])


@command("hmget", -3, "readonly fast", keys=["RO access @1"], acl="hash")
def hmget(c: Client, argv: list[bytes]) -> Reply:
    """Get the values of all the given hash fields. O(fields)."""
    value = c.db.read(argv[1], HashValue)
    if value is None:
        return [None] * (len(argv) - 2)
    return [value.get(field) for field in argv[2:]]


@command(
    "hgetall",
    2,
    "readonly",
    keys=["RO access @1"],
    acl="hash",
    tips=["nondeterministic_output_order"],
)
def hgetall(c: Client, argv: list[bytes]) -> Reply:
    """Get all the fields and values in a hash. O(n)."""
    value = c.db.read(argv[1], HashValue)
    return {} if value is None else dict(value.items())


@command(
    "hkeys",
    2,
    "readonly",
    keys=["RO access @1"],
    acl="hash",
    tips=["nondeterministic_output_order"],
)
def hkeys(c: Client, argv: list[bytes]) -> Reply:
    """Get all the fields in a hash. O(n)."""
    value = c.db.read(argv[1], HashValue)
    return [] if value is None else list(value)


@command(
    "hvals",
    2,
    "readonly",
    keys=["RO access @1"],
    acl="hash",
    tips=["nondeterministic_output_order"],
)
def hvals(c: Client, argv: list[bytes]) -> Reply:
    """Get all the values in a hash. O(n)."""
    value = c.db.read(argv[1], HashValue)
    return [] if value is None else list(value.values())


@command("hlen", 2, "readonly fast", keys=["RO @1"], acl="hash")
def hlen(c: Client, argv: list[bytes]) -> Reply:
    """Get the number of fields in a hash. O(1)."""
    value = c.db.read(argv[1], HashValue)
    return 0 if value is None else len(value)


@command("hexists", 3, "readonly fast", keys=["RO @1"], acl="hash")
def hexists(c: Client, argv: list[bytes]) -> Reply:
    """Determine if a hash field exists. O(1)."""
    value = c.db.read(argv[1], HashValue)
    return 0 if value is None else int(argv[2] in value)


@command("hstrlen", 3, "readonly fast", keys=["RO @1"], acl="hash")
def hstrlen(c: Client, argv: list[bytes]) -> Reply:
    """Get the length of the value of a hash field. O(1)."""
    value = c.db.read(argv[1], HashValue)
    return 0 if value is None else len(value.get(argv[2]) or b"")


@command(
    "hrandfield",
    -2,
    "readonly",
    keys=["RO access @1"],
    acl="hash",
    tips=["nondeterministic_output"],
)
def hrandfield(c: Client, argv: list[bytes]) -> Reply:
    """Get one or multiple random fields from a hash. O(fields returned).

    A negative count may return a field several times.
    """
    rng = c.engine.rng
    if len(argv) == 2:
        value = c.db.read(argv[1], HashValue)
        return None if value is None else value.random(rng)[0]
    count, with_values = pair_count(argv, b"WITHVALUES")
    value = c.db.read(argv[1], HashValue)
    if value is None:
        return []
    if count < 0:
        picked = [value.random(rng) for _ in range(-count)]
    else:
        picked = value.random_many(count, rng)
    if not with_values:
        return [field for field, _ in picked]
    return pairs(c, picked)


@command(
    "hscan",
    -3,
    "readonly",
    keys=["RO access @1"],
    acl="hash",
    tips=["nondeterministic_output"],
)
def hscan(c: Client, argv: list[bytes]) -> Reply:
    """Incrementally iterate hash fields and associated values. O(fields returned)."""
    cursor = scan_cursor(argv[2])
    value = c.db.read(argv[1], HashValue)
    if value is None:
        return [b"0", []]
    count, matches = scan_options(argv)
    cursor, found = value.scan(cursor, count)
    return [
        b"%d" % cursor,
        [part for entry in found if matches is None or matches(entry[0]) for part in entry],
    ]
