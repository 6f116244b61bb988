"""Groups as such: XGROUP, XACK, XPENDING.

Source: Redis 7.0 t_stream.c (xgroupCommand, xackCommand, xpendingCommand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import integer
from kvrepl.commands.streams.ids import interval, stream_id, text_of
from kvrepl.commands.streams.shared import find_consumer, no_such_group, read_group, regrouped
from kvrepl.datatypes.stream_nodes import MIN_ID, StreamId
from kvrepl.datatypes.streams import UNKNOWN, Group, StreamValue
from kvrepl.engine.introspection import help_lines, wrong_subcommand
from kvrepl.engine.spec import command, container
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import NULL_ARRAY, OK, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

NO_KEY: Final = CommandError(
    b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to"
    b" use the MKSTREAM option to create an empty stream automatically."
)
BUSY_GROUP: Final = CommandError(b"BUSYGROUP Consumer Group name already exists")
READ_NEGATIVE: Final = CommandError(b"ERR value for ENTRIESREAD must be positive or -1")

# --------------------------------------------------------------------- XGROUP

container("xgroup", summary="A container for consumer groups commands")


@command("xgroup|create", -5, "write denyoom", keys=["RW insert @2"], acl="stream")
def xgroup_create(c: Client, argv: list[bytes]) -> Reply:
    """Make a group, and with MKSTREAM the stream. O(1)."""
    entries_read, make = _options(argv, may_make=True)
    db, key, name = c.db, argv[2], argv[3]
    value = db.edit(key, StreamValue)
    if value is None and not make:
        raise NO_KEY
    if len(argv) > 8:
        raise wrong_subcommand(argv)
    last_id = _last_id(argv[4], value, strict=True)
    if value is None:
        value = StreamValue()
        db.set(key, value)
        db.changed(key, 0, b"", 0)  # WATCH sees the new key; there is no event for it
    if name in value.groups:
        raise BUSY_GROUP
    value.groups[name] = Group(last_id, entries_read)
    regrouped(db, key, b"xgroup-create")
    return OK


@command("xgroup|setid", -5, "write", keys=["RW update @2"], acl="stream")
def xgroup_setid(c: Client, argv: list[bytes]) -> Reply:
    """Set the last id that was delivered to a group. O(1)."""
    entries_read, _ = _options(argv, may_make=False)
    value, group = _existing_group(c.db, argv)
    if len(argv) not in (5, 7):
        raise wrong_subcommand(argv)
    group.last_id = _last_id(argv[4], value, strict=False)
    group.entries_read = entries_read
    regrouped(c.db, argv[2], b"xgroup-setid")
    return OK


@command("xgroup|destroy", 4, "write", keys=["RW delete @2"], acl="stream")
def xgroup_destroy(c: Client, argv: list[bytes]) -> Reply:
    """Remove a group with all that is pending in it. O(1)."""
    db, key = c.db, argv[2]
    value = db.edit(key, StreamValue)
    if value is None:
        raise NO_KEY
    if value.groups.pop(argv[3], None) is None:
        return 0
    regrouped(db, key, b"xgroup-destroy")
    db.signal_ready(key)  # who waits on behalf of the group is told that it is gone
    return 1


@command("xgroup|createconsumer", 5, "write denyoom", keys=["RW insert @2"], acl="stream")
def xgroup_createconsumer(c: Client, argv: list[bytes]) -> Reply:
    """Make a consumer of a group. O(1)."""
    _, group = _existing_group(c.db, argv)
    if argv[4] in group.consumers:
        return 0
    find_consumer(c.db, argv[2], group, argv[4])
    return 1


@command("xgroup|delconsumer", 5, "write", keys=["RW delete @2"], acl="stream")
def xgroup_delconsumer(c: Client, argv: list[bytes]) -> Reply:
    """Remove a consumer with all that is pending for it. O(pending * log n)."""
    _, group = _existing_group(c.db, argv)
    consumer = group.consumers.get(argv[4])
    if consumer is None:
        return 0
    owed = group.remove_consumer(consumer)
    regrouped(c.db, argv[2], b"xgroup-delconsumer")
    return owed


@command("xgroup|help", 2, "loading stale", acl="stream")
def xgroup_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "XGROUP",
        (
            "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <n>]",
            "Make a group that begins behind an id; MKSTREAM makes the stream as well.",
        ),
        ("CREATECONSUMER <key> <groupname> <consumer>", "Make a consumer."),
        ("DELCONSUMER <key> <groupname> <consumer>", "Remove a consumer and what it owes."),
        ("DESTROY <key> <groupname>", "Remove a group."),
        ("SETID <key> <groupname> <id|$> [ENTRIESREAD <n>]", "Move a group to an id."),
    )


def _options(argv: list[bytes], *, may_make: bool) -> tuple[int, bool]:
    """ENTRIESREAD and MKSTREAM of XGROUP CREATE and SETID."""
    entries_read, make = UNKNOWN, False
    i = 5
    while i < len(argv):
        option = argv[i].upper()
        if option == b"MKSTREAM" and may_make:
            make = True
            i += 1
        elif option == b"ENTRIESREAD" and i + 1 < len(argv):
            entries_read = integer(argv[i + 1])
            if entries_read < 0 and entries_read != UNKNOWN:
                raise READ_NEGATIVE
            i += 2
        else:
            raise wrong_subcommand(argv)
    return entries_read, make


def _existing_group(db: Database, argv: list[bytes]) -> tuple[StreamValue, Group]:
    value = db.edit(argv[2], StreamValue)
    if value is None:
        raise NO_KEY
    group = value.groups.get(argv[3])
    if group is None:
        raise no_such_group(argv[2], argv[3])
    return value, group


def _last_id(argument: bytes, value: StreamValue | None, *, strict: bool) -> StreamId:
    if argument == b"$":
        return MIN_ID if value is None else value.last_id
    return stream_id(argument, strict=strict)


# ----------------------------------------------------------- acknowledgements


@command("xack", -4, "write fast", keys=["RW update @1"], acl="stream")
def xack(c: Client, argv: list[bytes]) -> Reply:
    """Acknowledge entries: they are no longer pending in the group. O(ids * log pending)."""
    db, key = c.db, argv[1]
    value = db.read(key, StreamValue)
    group = None if value is None else value.groups.get(argv[2])
    if group is None:
        return 0
    ids = [stream_id(argument) for argument in argv[3:]]
    settled = sum(map(group.settle, ids))
    regrouped(db, key, count=settled)
    return settled


@command(
    "xpending",
    -3,
    "readonly",
    keys=["RO access @1"],
    acl="stream",
    tips=["nondeterministic_output"],
)
def xpending(c: Client, argv: list[bytes]) -> Reply:
    """Show what is pending in a group, summed up or one by one. O(log n + entries seen)."""
    size = len(argv)
    if size == 3:
        _, group = read_group(c.db, argv[1], argv[2])
        return _summary(group)
    if not 6 <= size <= 9:
        raise SYNTAX
    at, min_idle_ms = 3, 0
    if argv[3].upper() == b"IDLE":
        min_idle_ms = integer(argv[4])
        if size < 8:
            raise SYNTAX
        at = 5
    count = max(integer(argv[at + 2]), 0)
    start, stop = interval(argv[at], argv[at + 1])
    _, group = read_group(c.db, argv[1], argv[2])
    ids = group.pending_ids(start, stop)
    if at + 3 < size:
        consumer = group.consumers.get(argv[at + 3])
        if consumer is None:
            return []
        ids = consumer.pending.irange(start, stop)
    now_ms = c.engine.keyspace.now_ms
    rows: list[list[Any]] = []
    for entry_id in ids if count else ():
        pending = group.pending[entry_id]
        idle_ms = now_ms - pending.delivered_at_ms
        if min_idle_ms and idle_ms < min_idle_ms:
            continue
        rows.append([text_of(entry_id), pending.owner, max(idle_ms, 0), pending.deliveries])
        if len(rows) == count:
            break
    return rows


def _summary(group: Group) -> Reply:
    total = len(group.pending)
    if not total:
        return [0, None, None, NULL_ARRAY]
    first, last = group.pending_bounds()
    owing = [
        [consumer.name, b"%d" % len(consumer.pending)]
        for consumer in group.sorted_consumers()
        if consumer.pending
    ]
    return [total, text_of(first), text_of(last), owing]
