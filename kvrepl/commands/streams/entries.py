"""The entries themselves: adding, counting, reading ranges, deleting, trimming.

Source: Redis 7.0 t_stream.c (xaddCommand, streamParseAddOrTrimArgsOrReply, xtrimCommand and
their neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import INT64_MAX, integer, integer_in
from kvrepl.commands.streams.ids import (
    INVALID_ID,
    entry_replies,
    interval,
    parse_id,
    stream_id,
    text_of,
)
from kvrepl.config.notify import NOTIFY_STREAM
from kvrepl.datatypes.stream_nodes import (
    MAX_ID,
    MAX_NODE_BYTES,
    MIN_ID,
    UINT64_MAX,
    StreamId,
    next_id,
)
from kvrepl.datatypes.streams import StreamValue
from kvrepl.engine.spec import command
from kvrepl.errors import NO_SUCH_KEY, SYNTAX, CommandError
from kvrepl.resp.values import NULL_ARRAY, OK, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

LIMIT_NODES: Final = 100
"""Nodes that `~` removes at most where LIMIT does not say."""
LIMIT_WITHOUT_NODES: Final = 10_000
MAX_DEFAULT_LIMIT: Final = 1_000_000

TWO_STRATEGIES: Final = CommandError(
    b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
)
NO_STRATEGY: Final = CommandError(
    b"ERR syntax error, XTRIM must be called with a trimming strategy"
)
LIMIT_ALONE: Final = CommandError(
    b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
)
LIMIT_EXACT: Final = CommandError(
    b"ERR syntax error, LIMIT cannot be used without the special ~ option"
)
MAXLEN_NEGATIVE: Final = CommandError(b"ERR The MAXLEN argument must be >= 0.")
LIMIT_NEGATIVE: Final = CommandError(b"ERR The LIMIT argument must be >= 0.")
XADD_ARITY: Final = CommandError(b"ERR wrong number of arguments for 'xadd' command")
ID_ZERO: Final = CommandError(b"ERR The ID specified in XADD must be greater than 0-0")
ID_NOT_ABOVE: Final = CommandError(
    b"ERR The ID specified in XADD is equal or smaller than the target stream top item"
)
ID_EXHAUSTED: Final = CommandError(
    b"ERR The stream has exhausted the last possible ID, unable to add more items"
)
TOO_LARGE: Final = CommandError(b"ERR Elements are too large to be stored")
ADDED_NEGATIVE: Final = CommandError(b"ERR entries_added must be positive")
SETID_BELOW_GIVEN: Final = CommandError(
    b"ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
)
SETID_BELOW_TOP: Final = CommandError(
    b"ERR The ID specified in XSETID is smaller than the target stream top item"
)
ADDED_BELOW_LENGTH: Final = CommandError(
    b"ERR The entries_added specified in XSETID is smaller than the target stream length"
)


# ------------------------------------------------------------------- trimming


@dataclass(slots=True)
class Trim:
    """MAXLEN or MINID, as a command gives it.

    Attributes:
        max_length, min_id: what to trim to; min_id is None for MAXLEN.
        whole_nodes: `~`.
        limit: most entries to delete, 0 for no limit.
        at: the index of the length or id in argv, 0 where there is no strategy.
    """

    max_length: int = 0
    min_id: StreamId | None = None
    whole_nodes: bool = False
    limit: int = 0
    at: int = 0

    def apply(self, value: StreamValue) -> int:
        """Trim; returns how many entries went."""
        return value.trim(
            max_length=self.max_length,
            min_id=self.min_id,
            whole_nodes=self.whole_nodes,
            limit=self.limit,
        )

    def make_exact(self, argv: list[bytes], value: StreamValue) -> None:
        """Write into argv what was trimmed to, for those who apply it to nodes of their own."""
        argv[self.at - 1] = b"="
        if self.min_id is None:
            argv[self.at] = b"%d" % value.length
        else:
            argv[self.at] = text_of(value.oldest_place())


@dataclass(slots=True)
class Added:
    """The arguments of XADD before the fields.

    Attributes:
        trim: the trimming that follows.
        at: the index of the id in argv.
        id: as given, None for `*`.
        is_open: the id is of the form ms-*.
        no_stream: NOMKSTREAM.
    """

    trim: Trim
    at: int = 0
    id: StreamId | None = None
    is_open: bool = False
    no_stream: bool = False


def _parse(c: Client, argv: list[bytes], *, xadd: bool) -> Added:
    """Read the options of XADD up to the id, or all of XTRIM."""
    trim = Trim()
    added = Added(trim)
    limit: int | None = None
    i = 2
    while i < len(argv):
        more = len(argv) - 1 - i
        option = argv[i].upper()
        if xadd and option == b"*":
            break
        if option in (b"MAXLEN", b"MINID") and more:
            if trim.at:
                raise TWO_STRATEGIES
            trim.whole_nodes = argv[i + 1] == b"~" and more >= 2
            if more >= 2 and argv[i + 1] in (b"~", b"="):
                i += 1
            i += 1
            if option == b"MAXLEN":
                trim.max_length = integer(argv[i])
                if trim.max_length < 0:
                    raise MAXLEN_NEGATIVE
            else:
                trim.min_id = stream_id(argv[i])
            trim.at = i
        elif option == b"LIMIT" and more:
            i += 1
            limit = integer(argv[i])
            if limit < 0:
                raise LIMIT_NEGATIVE
        elif xadd and option == b"NOMKSTREAM":
            added.no_stream = True
        elif xadd:
            parsed = parse_id(argv[i])
            if parsed is None:
                raise INVALID_ID
            added.id, added.is_open = parsed
            break
        else:
            raise SYNTAX
        i += 1
    added.at = i
    if limit and not trim.at:
        raise LIMIT_ALONE
    if not xadd and not trim.at:
        raise NO_STRATEGY
    trim.limit = _limit(c, trim, limit)
    return added


def _limit(c: Client, trim: Trim, given: int | None) -> int:
    """How many entries may be trimmed, 0 for no limit."""
    if c.is_master:
        return 0  # the master trimmed within its limit, and sent how far it got
    if given is not None:
        if not trim.whole_nodes:
            raise LIMIT_EXACT
        return given
    if not trim.whole_nodes:
        return 0
    limit = LIMIT_NODES * c.engine.config.stream_node_max_entries
    return min(limit, MAX_DEFAULT_LIMIT) if 0 < limit <= INT64_MAX else LIMIT_WITHOUT_NODES


# --------------------------------------------------------------------- adding


@command(
    "xadd",
    -5,
    "write denyoom fast",
    keys=["RW update @1 ; UPDATE instead of INSERT because of the optional trimming feature"],
    acl="stream",
    tips=["nondeterministic_output"],
)
def xadd(c: Client, argv: list[bytes]) -> Reply:
    """Append an entry to a stream, and trim it. O(fields + nodes trimmed).

    Propagates: itself with the id that the entry got, and with MAXLEN = or MINID = and what was
    really trimmed to where `~` was given.
    """
    added = _parse(c, argv, xadd=True)
    fields = argv[added.at + 1 :]
    if not fields or len(fields) % 2:
        raise XADD_ARITY
    if added.id == MIN_ID and not added.is_open:
        raise ID_ZERO
    db, key = c.db, argv[1]
    value = db.edit(key, StreamValue)
    if value is None:
        if added.no_stream:
            return None
        value = StreamValue()
        # Redis makes the stream before it looks at the rest, and keeps it if that is refused.
        db.set(key, value)
    if value.last_id == MAX_ID:
        raise ID_EXHAUSTED
    entry_id = _new_id(value, added, c.engine.keyspace.now_ms)
    if sum(map(len, fields)) > MAX_NODE_BYTES:
        raise TOO_LARGE
    config = c.engine.config
    value.append(entry_id, fields, config.stream_node_max_bytes, config.stream_node_max_entries)
    db.changed(key, NOTIFY_STREAM, b"xadd")
    text = text_of(entry_id)
    trim = added.trim
    if added.id is None or added.is_open or trim.whole_nodes:
        argv = argv.copy()
        argv[added.at] = text if added.id is None or added.is_open else argv[added.at]
        c.engine.propagation.instead(argv)
    if trim.at:
        if trim.apply(value):
            db.keyspace.notify(NOTIFY_STREAM, b"xtrim", key, db)
        if trim.whole_nodes:
            trim.make_exact(argv, value)
    db.signal_ready(key)
    return text


def _new_id(value: StreamValue, added: Added, now_ms: int) -> StreamId:
    """The id of a new entry.

    Raises:
        CommandError: it would not be above all that were given out.
    """
    last = value.last_id
    if added.id is None:
        above = next_id(last)
        assert above is not None, "looked at before"
        return (now_ms, 0) if now_ms > last[0] else above
    entry_id = added.id
    if added.is_open and entry_id[0] == last[0]:
        if last[1] == UINT64_MAX:
            raise ID_NOT_ABOVE
        entry_id = last[0], last[1] + 1
    if entry_id <= last:
        raise ID_NOT_ABOVE
    return entry_id


# -------------------------------------------------------------------- reading


@command("xlen", 2, "readonly fast", keys=["RO @1"], acl="stream")
def xlen(c: Client, argv: list[bytes]) -> Reply:
    """Get the number of entries in a stream. O(1)."""
    value = c.db.read(argv[1], StreamValue)
    return 0 if value is None else value.length


@command("xrange", -4, "readonly", keys=["RO access @1"], acl="stream")
def xrange(c: Client, argv: list[bytes]) -> Reply:
    """Get the entries of a stream whose ids lie in a range. O(log n + entries)."""
    return _range(c, argv, argv[2], argv[3], reverse=False)


@command("xrevrange", -4, "readonly", keys=["RO access @1"], acl="stream")
def xrevrange(c: Client, argv: list[bytes]) -> Reply:
    """Get the entries of a stream whose ids lie in a range, last first. O(log n + entries)."""
    return _range(c, argv, argv[3], argv[2], reverse=True)


def _range(c: Client, argv: list[bytes], start: bytes, end: bytes, *, reverse: bool) -> Reply:
    low, high = interval(start, end)
    count: int | None = None
    for i in range(4, len(argv), 2):
        if argv[i].upper() != b"COUNT" or i + 1 == len(argv):
            raise SYNTAX
        count = max(integer(argv[i + 1]), 0)
    value = c.db.read(argv[1], StreamValue)
    if value is None:
        return []
    if count == 0:
        return NULL_ARRAY
    if reverse:
        return entry_replies(value.reverse_range(low, high, count or 0))
    return entry_replies(value.range(low, high, count or 0))


# ------------------------------------------------------------------- deleting


@command("xdel", -3, "write fast", keys=["RW delete @1"], acl="stream")
def xdel(c: Client, argv: list[bytes]) -> Reply:
    """Delete entries of a stream by their ids. O(ids * (log n + node))."""
    db, key = c.db, argv[1]
    value = db.edit(key, StreamValue)
    if value is None:
        return 0
    ids = [stream_id(argument) for argument in argv[2:]]
    deleted = sum(map(value.delete, ids))
    if deleted:
        db.changed(key, NOTIFY_STREAM, b"xdel", deleted)
    return deleted


@command(
    "xtrim",
    -4,
    "write",
    keys=["RW delete @1"],
    acl="stream",
    tips=["nondeterministic_output"],
)
def xtrim(c: Client, argv: list[bytes]) -> Reply:
    """Delete entries from the start of a stream. O(nodes + one node).

    Propagates: itself, with `=` and what was really trimmed to where `~` was given.
    """
    trim = _parse(c, argv, xadd=False).trim
    db, key = c.db, argv[1]
    value = db.edit(key, StreamValue)
    if value is None:
        return 0
    deleted = trim.apply(value)
    if deleted:
        if trim.whole_nodes:
            argv = argv.copy()
            trim.make_exact(argv, value)
            c.engine.propagation.instead(argv)
        db.changed(key, NOTIFY_STREAM, b"xtrim", deleted)
    return deleted


@command("xsetid", -3, "write denyoom fast", keys=["RW update @1"], acl="stream")
def xsetid(c: Client, argv: list[bytes]) -> Reply:
    """Set the last id of a stream, and its counters; for replication and the AOF. O(node)."""
    last_id = stream_id(argv[2])
    added: int | None = None
    deleted_id = MIN_ID
    for i in range(3, len(argv), 2):
        option = argv[i].upper()
        if i + 1 == len(argv):
            raise SYNTAX
        if option == b"ENTRIESADDED":
            integer(argv[i + 1])
            added = integer_in(argv[i + 1], 0, INT64_MAX, ADDED_NEGATIVE)
        elif option == b"MAXDELETEDID":
            deleted_id = stream_id(argv[i + 1])
            if last_id < deleted_id:
                raise SETID_BELOW_GIVEN
        else:
            raise SYNTAX
    value = c.db.edit(argv[1], StreamValue)
    if value is None:
        raise NO_SUCH_KEY
    if value.length:
        if last_id < value.top_id():
            raise SETID_BELOW_TOP
        if added is not None and added < value.length:
            raise ADDED_BELOW_LENGTH
    value.last_id = last_id
    if added is not None:
        value.entries_added = added
    if deleted_id != MIN_ID:
        value.max_deleted_id = deleted_id
    c.db.changed(argv[1], NOTIFY_STREAM, b"xsetid")
    return OK
