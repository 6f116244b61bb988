"""What the four collection families have in common: how elements are taken, stored and scanned.

A collection is never empty in the keyspace, so whoever takes the last element also deletes the
key (`drop`), and whoever stores a result stores it or, where it is empty, deletes the destination
(`store`).

Commands that pop from the first of several keys come in two forms, one that may wait:

    pop_first      the first key that holds something, else None
    pop_or_block   the same, or the client waits and is served from the key that is filled first

Both are given `take`, which pops from one key and says how that is to be propagated: a blocking
command must never reach a replica, which could not wait.

Source: Redis 7.0 t_list.c, t_zset.c (the mpop and blocking pop commands), blocked.c
(handleClientsBlockedOnKeys), db.c (scanGenericCommand).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kvrepl import glob
from kvrepl.commands.arguments import INT64_MAX, integer, integer_in
from kvrepl.config.notify import NOTIFY_GENERIC
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import BLOCKED, NULL_ARRAY, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

T = TypeVar("T")

Take = Callable[["Database", bytes, T], tuple[Reply, Sequence[bytes]]]
"""Pops from the collection at a key: returns the reply, and the command to propagate."""

NUMKEYS_TOO_SMALL: Final = CommandError(b"ERR numkeys should be greater than 0")
COUNT_TOO_SMALL: Final = CommandError(b"ERR count should be greater than 0")

SCAN_COUNT: Final = 10
"""Elements a SCAN step returns where COUNT does not say (db.c, scanGenericCommand)."""


def drop(db: Database, key: bytes) -> None:
    """Delete a key whose collection has become empty; the change itself is already reported."""
    db.delete(key)
    db.keyspace.notify(NOTIFY_GENERIC, b"del", key, db)


def store(db: Database, key: bytes, value: Any, kind: int, event: bytes) -> None:
    """Put the result of a STORE command at its destination; an empty one deletes it.

    Args:
        db: where.
        key: the destination, whatever it holds.
        value: a collection; belongs to the keyspace afterwards.
        kind: the class of the notification.
        event: its name.
    """
    if len(value):
        db.exists_for_write(key)  # what is expired there is first deleted for that reason
        db.set(key, value)
        db.changed(key, kind, event)
    elif db.delete(key):
        db.changed(key, NOTIFY_GENERIC, b"del")


def pop_first(c: Client, keys: Sequence[bytes], kind: type[T], take: Take[T]) -> Reply | None:
    """Pop from the first of the keys that exists.

    Args:
        c: the client.
        keys: where to look, in order.
        kind: the type of the collection.
        take: pops.

    Returns:
        The reply, None where there is none of the keys.

    Raises:
        CommandError: a key before that one is of another type.

    Propagates: what `take` says.
    """
    db = c.db
    for key in keys:
        value = db.edit(key, kind)
        if value is not None:
            reply, operation = take(db, key, value)
            c.engine.propagation.instead(operation)
            return reply
    return None


def pop_or_block(
    c: Client, keys: Sequence[bytes], kind: type[T], take: Take[T], timeout_ms: int
) -> Reply:
    """Pop from the first of the keys that exists, or wait for one to be filled.

    Where a command may not wait (EXEC, a script) it replies as it does at the timeout.

    Args:
        c: the client.
        keys: where to look, in order.
        kind: the type of the collection; keys that get filled with another type are ignored.
        take: pops, now or later.
        timeout_ms: how long to wait, 0 for ever.
    """
    reply = pop_first(c, keys, kind, take)
    if reply is not None:
        return reply
    if not c.engine.may_block(c):
        return NULL_ARRAY

    def serve(db: Database, key: bytes) -> Reply | None:
        value = db.get_for_write(key)
        if type(value) is not kind:
            return None
        reply, operation = take(db, key, value)
        c.engine.propagation.also(db.index, operation)
        return reply

    c.engine.blocking.block(c, keys, timeout_ms=timeout_ms, serve=serve)
    return BLOCKED


def numbered_keys(argv: list[bytes], at: int) -> tuple[list[bytes], int]:
    """The keys of a command that counts them, as the MPOP commands do.

    Args:
        argv: the command.
        at: where the number of keys stands.

    Returns:
        The keys, and the index behind them, where an argument is sure to stand.
    """
    behind = at + 1 + integer_in(argv[at], 1, INT64_MAX, NUMKEYS_TOO_SMALL)
    if behind >= len(argv):
        raise SYNTAX
    return argv[at + 1 : behind], behind


def pop_count(argv: list[bytes], at: int) -> int:
    """The option COUNT of the MPOP commands, the only one there is; 1 where it is left out."""
    if at == len(argv):
        return 1
    if at + 2 > len(argv) or argv[at].upper() != b"COUNT":
        raise SYNTAX
    count = integer_in(argv[at + 1], 1, INT64_MAX, COUNT_TOO_SMALL)
    if at + 2 != len(argv):
        raise SYNTAX
    return count


def pairs(c: Client, entries: Sequence[tuple[bytes, Any]]) -> list[Any]:
    """Entries of two parts as a reply: an array of arrays in RESP3, a flat array in RESP2."""
    if c.resp > 2:
        return list(entries)
    return [part for entry in entries for part in entry]


def scan_options(argv: list[bytes]) -> tuple[int, glob.Matcher | None]:
    """COUNT and MATCH of HSCAN, SSCAN and ZSCAN.

    Returns:
        The number of elements asked for, and what they must match, None for no condition.
    """
    count, matches = SCAN_COUNT, None
    i = 3
    while i < len(argv):
        option = argv[i].upper()
        if option == b"COUNT" and i + 1 < len(argv):
            count = integer(argv[i + 1])
            if count < 1:
                raise SYNTAX
        elif option == b"MATCH" and i + 1 < len(argv):
            matches = None if argv[i + 1] == b"*" else glob.compile(argv[i + 1])
        else:
            raise SYNTAX
        i += 2
    return count, matches
