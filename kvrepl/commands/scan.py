"""The keys of a database, as a whole: KEYS, SCAN, RANDOMKEY, DBSIZE.

SCAN's cursor is the database's own (kvrepl.keyspace.database, `scan`): no state is kept between
calls. Keys that turn out to have expired are removed, and each removal is propagated by itself:
a transaction around them would mean nothing.

Source: Redis 7.0 db.c (scanGenericCommand, keysCommand, randomkeyCommand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl import glob
from kvrepl.commands.arguments import integer, scan_cursor
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX
from kvrepl.keyspace.encoding import type_name
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

DEFAULT_COUNT: Final = 10


@command(
    "keys",
    2,
    "readonly",
    acl="keyspace dangerous",
    tips=["request_policy:all_shards", "nondeterministic_output_order"],
)
def keys(c: Client, argv: list[bytes]) -> Reply:
    """Find all keys that match a pattern. O(keys of the database)."""
    db = c.db
    matches = None if argv[1] == b"*" else glob.compile(argv[1])
    overdue = db.is_overdue
    found: list[bytes] = []
    for _, segment, expires in db.parts():
        some = segment if matches is None else filter(matches, segment)
        found += [key for key in some if not overdue(key)] if expires else some
    return found


@command(
    "scan",
    -2,
    "readonly",
    acl="keyspace",
    tips=["nondeterministic_output", "request_policy:special"],
)
def scan(c: Client, argv: list[bytes]) -> Reply:
    """Iterate over the keys of the database, some at a time. O(count) a call.

    Propagates: the deletion of the expired keys that it came across, each by itself.
    """
    cursor = scan_cursor(argv[1])
    count, matches, kind = _options(argv)
    db = c.db
    cursor, found = db.scan(cursor, count)
    if matches is not None:
        found = list(filter(matches, found))
    if kind is not None:
        # As in Redis, the type is asked of the key whatever its age, and counts as a look-up.
        found = [
            key for key in found if (v := db.inspect(key)) is not None and type_name(v) == kind
        ]
    else:
        found = list(filter(db.exists, found))
    _unwrap(c)
    return [b"%d" % cursor, found]


def _options(argv: list[bytes]) -> tuple[int, glob.Matcher | None, bytes | None]:
    """Read COUNT, MATCH and TYPE."""
    count, matches, kind = DEFAULT_COUNT, None, None
    i = 2
    while i < len(argv):
        option = argv[i].upper()
        if i + 1 == len(argv):
            raise SYNTAX
        if option == b"COUNT":
            count = integer(argv[i + 1])
            if count < 1:
                raise SYNTAX
        elif option == b"MATCH":
            matches = None if argv[i + 1] == b"*" else glob.compile(argv[i + 1])
        elif option == b"TYPE":
            kind = argv[i + 1].lower()
        else:
            raise SYNTAX
        i += 2
    return count, matches, kind


@command(
    "randomkey",
    1,
    "readonly",
    acl="keyspace",
    tips=["request_policy:all_shards", "nondeterministic_output"],
)
def randomkey(c: Client, argv: list[bytes]) -> Reply:
    """Get a random key. O(1).

    Propagates: the deletion of the expired keys that it came across, each by itself.
    """
    key = c.db.random_key(c.engine.rng)
    _unwrap(c)
    return key


@command(
    "dbsize",
    1,
    "readonly fast",
    acl="keyspace",
    tips=["request_policy:all_shards", "response_policy:agg_sum"],
)
def dbsize(c: Client, argv: list[bytes]) -> Reply:
    """Get the number of keys in the database. O(1)."""
    return len(c.db)


def _unwrap(c: Client) -> None:
    """Send the expirations without MULTI, unless they are part of a transaction anyway."""
    propagation = c.engine.propagation
    if propagation.ops and not c.engine.depth:
        propagation.unwrapped()
