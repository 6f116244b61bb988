"""Times to live: EXPIRE and its kin, TTL and its kin, PERSIST.

Every instant is kept and propagated in Unix milliseconds; a relative time would mean something
else on a replica, and later.

Source: Redis 7.0 expire.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import INT64_MAX, INT64_MIN, integer
from kvrepl.config.notify import NOTIFY_GENERIC
from kvrepl.engine.spec import command
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

NX_AND_OTHERS: Final = CommandError(
    b"ERR NX and XX, GT or LT options at the same time are not compatible"
)
GT_AND_LT: Final = CommandError(b"ERR GT and LT options at the same time are not compatible")

NO_KEY: Final = -2
NO_EXPIRY: Final = -1


@command("expire", -3, "write fast", keys=["RW update @1"], acl="keyspace")
def expire(c: Client, argv: list[bytes]) -> Reply:
    """Let a key expire in so many seconds. O(1).

    Propagates: PEXPIREAT key instant; DEL (UNLINK) key, where that is past.
    """
    return _expire(c, argv, c.engine.keyspace.now_ms, 1000)


@command("pexpire", -3, "write fast", keys=["RW update @1"], acl="keyspace")
def pexpire(c: Client, argv: list[bytes]) -> Reply:
    """Let a key expire in so many milliseconds. O(1).

    Propagates: PEXPIREAT key instant; DEL (UNLINK) key, where that is past.
    """
    return _expire(c, argv, c.engine.keyspace.now_ms, 1)


@command("expireat", -3, "write fast", keys=["RW update @1"], acl="keyspace")
def expireat(c: Client, argv: list[bytes]) -> Reply:
    """Let a key expire at an instant in Unix seconds. O(1).

    Propagates: PEXPIREAT key instant; DEL (UNLINK) key, where that is past.
    """
    return _expire(c, argv, 0, 1000)


@command("pexpireat", -3, "write fast", keys=["RW update @1"], acl="keyspace")
def pexpireat(c: Client, argv: list[bytes]) -> Reply:
    """Let a key expire at an instant in Unix milliseconds. O(1).

    Propagates: itself; DEL (UNLINK) key, where the instant is past.
    """
    return _expire(c, argv, 0, 1)


def _expire(c: Client, argv: list[bytes], base_ms: int, unit_ms: int) -> Reply:
    conditions = _conditions(argv)
    when = integer(argv[2])
    if not INT64_MIN <= when * unit_ms <= INT64_MAX - base_ms:
        raise CommandError(b"ERR invalid expire time in '%b' command" % argv[0].lower())
    when = when * unit_ms + base_ms
    db, key = c.db, argv[1]
    if not db.exists_for_write(key):
        return 0
    db.touch(key)
    if conditions and not _holds(conditions, db.expires_at_ms(key), when):
        return 0
    propagation = c.engine.propagation
    if c.engine.deletes_past(when):
        db.delete(key)
        db.changed(key, NOTIFY_GENERIC, b"del")
        verb = b"UNLINK" if c.engine.config.lazyfree_lazy_expire else b"DEL"
        propagation.instead([verb, key])
        return 1
    db.expire_at(key, when)
    db.changed(key, NOTIFY_GENERIC, b"expire")
    if base_ms or unit_ms != 1:
        propagation.instead([b"PEXPIREAT", key, b"%d" % when, *argv[3:]])
    return 1


def _conditions(argv: list[bytes]) -> frozenset[bytes]:
    if len(argv) == 3:
        return frozenset()
    conditions = set()
    for argument in argv[3:]:
        option = argument.upper()
        if option not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(b"ERR Unsupported option %b" % argument)
        conditions.add(option)
    if b"NX" in conditions and len(conditions) > 1:
        raise NX_AND_OTHERS
    if b"GT" in conditions and b"LT" in conditions:
        raise GT_AND_LT
    return frozenset(conditions)


def _holds(conditions: frozenset[bytes], old_ms: int | None, new_ms: int) -> bool:
    """Whether the conditions allow the change; a key that never expires lasts longest."""
    if old_ms is None:
        return not conditions & {b"XX", b"GT"}
    return not (
        b"NX" in conditions
        or (b"GT" in conditions and new_ms <= old_ms)
        or (b"LT" in conditions and new_ms >= old_ms)
    )


_TTL_TIPS: Final = ["nondeterministic_output"]


@command("ttl", 2, "readonly fast", keys=["RO access @1"], acl="keyspace", tips=_TTL_TIPS)
def ttl(c: Client, argv: list[bytes]) -> Reply:
    """Get the time to live of a key in seconds, rounded. O(1)."""
    return _expires_in(c, argv[1], c.engine.keyspace.now_ms, 1000)


@command("pttl", 2, "readonly fast", keys=["RO access @1"], acl="keyspace", tips=_TTL_TIPS)
def pttl(c: Client, argv: list[bytes]) -> Reply:
    """Get the time to live of a key in milliseconds. O(1)."""
    return _expires_in(c, argv[1], c.engine.keyspace.now_ms, 1)


@command("expiretime", 2, "readonly fast", keys=["RO access @1"], acl="keyspace")
def expiretime(c: Client, argv: list[bytes]) -> Reply:
    """Get the instant at which a key expires, in Unix seconds, rounded. O(1)."""
    return _expires_in(c, argv[1], 0, 1000)


@command("pexpiretime", 2, "readonly fast", keys=["RO access @1"], acl="keyspace")
def pexpiretime(c: Client, argv: list[bytes]) -> Reply:
    """Get the instant at which a key expires, in Unix milliseconds. O(1)."""
    return _expires_in(c, argv[1], 0, 1)


def _expires_in(c: Client, key: bytes, since_ms: int, unit_ms: int) -> int:
    if c.db.inspect(key) is None:
        return NO_KEY
    expires_at_ms = c.db.expires_at_ms(key)
    if expires_at_ms is None:
        return NO_EXPIRY
    span_ms = max(expires_at_ms - since_ms, 0)
    return span_ms if unit_ms == 1 else (span_ms + unit_ms // 2) // unit_ms


@command("persist", 2, "write fast", keys=["RW update @1"], acl="keyspace")
def persist(c: Client, argv: list[bytes]) -> Reply:
    """Take a key's time to live away. O(1)."""
    db, key = c.db, argv[1]
    if not db.exists_for_write(key):
        return 0
    db.touch(key)
    if not db.persist(key):
        return 0
    db.changed(key, NOTIFY_GENERIC, b"persist")
    return 1
