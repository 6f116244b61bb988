"""Claims: XCLAIM and XAUTOCLAIM give pending entries to another consumer.

An entry that is pending and no longer in the stream is dropped from the group on the way.

Source: Redis 7.0 t_stream.c (xclaimCommand, xautoclaimCommand).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import INT64_MAX, integer, integer_in
from kvrepl.commands.streams.ids import interval_start, parse_id, stream_id, text_of
from kvrepl.commands.streams.shared import Told, find_consumer, read_group, regrouped
from kvrepl.datatypes.stream_nodes import MIN_ID, StreamId
from kvrepl.datatypes.streams import Consumer, Pending
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

ATTEMPTS_FACTOR: Final = 10
"""Pending entries that XAUTOCLAIM looks at for each that it may return."""
DEFAULT_COUNT: Final = 100
MAX_COUNT: Final = INT64_MAX // 16

COUNT_TOO_SMALL: Final = CommandError(b"ERR COUNT must be > 0")


def _invalid(what: bytes, name: bytes) -> CommandError:
    return CommandError(b"ERR Invalid %b argument for %b" % (what, name))


XCLAIM_MIN_IDLE: Final = _invalid(b"min-idle-time", b"XCLAIM")
XAUTOCLAIM_MIN_IDLE: Final = _invalid(b"min-idle-time", b"XAUTOCLAIM")


@dataclass(slots=True)
class Options:
    """The options of XCLAIM.

    Attributes:
        delivered_at_ms: what TIME or IDLE say, None where neither is given.
        deliveries: RETRYCOUNT, negative where it is not given.
        force: make pending what is not.
        just_id: reply with ids, and do not count a delivery.
        last_id: LASTID, up to which the group is moved on.
    """

    delivered_at_ms: int | None = None
    deliveries: int = -1
    force: bool = False
    just_id: bool = False
    last_id: StreamId = MIN_ID


@command(
    "xclaim",
    -6,
    "write fast",
    keys=["RW update @1"],
    acl="stream",
    tips=["nondeterministic_output"],
)
def xclaim(c: Client, argv: list[bytes]) -> Reply:
    """Let a consumer own pending entries, named by their ids. O(ids * log n).

    Propagates: an XCLAIM for each entry claimed or dropped; XGROUP SETID where only LASTID did
    something.
    """
    propagation = c.engine.propagation
    propagation.nothing()
    db, key = c.db, argv[1]
    value, group = read_group(db, key, argv[2])
    min_idle_ms = max(integer(argv[4], XCLAIM_MIN_IDLE), 0)
    ids: list[StreamId] = []
    for argument in argv[5:]:
        parsed = parse_id(argument)
        if parsed is None or parsed[1]:
            break
        ids.append(parsed[0])
    now_ms = c.engine.keyspace.now_ms
    options = _options(argv, 5 + len(ids), now_ms)
    told = Told(propagation, db, key, group, argv[2])
    must_tell_last = options.last_id > group.last_id
    if must_tell_last:
        group.last_id = options.last_id
    delivered_at_ms = options.delivered_at_ms
    # Clients reckon this from clocks of their own, so that nonsense is no error.
    if delivered_at_ms is None or not 0 <= delivered_at_ms <= now_ms:
        delivered_at_ms = now_ms
    consumer: Consumer | None = None
    replies: list[Any] = []
    for entry_id, id_text in zip(ids, argv[5:], strict=False):
        pending = group.pending.get(entry_id)
        fields = value.get(entry_id)
        if fields is None:
            if pending is not None:
                told.claimed(id_text, pending)
                must_tell_last = False
                regrouped(db, key)
                group.settle(entry_id)
            continue
        if pending is None:
            if not options.force:
                continue
            pending = Pending(None, now_ms, 1)
            group.deliver(entry_id, pending)
        elif min_idle_ms and now_ms - pending.delivered_at_ms < min_idle_ms:
            continue
        if consumer is None:  # who claims nothing is not made, nor seen
            consumer, _ = find_consumer(db, key, group, argv[3])
        group.hand_over(entry_id, consumer)
        pending.delivered_at_ms = delivered_at_ms
        if options.deliveries >= 0:
            pending.deliveries = options.deliveries
        elif not options.just_id:
            pending.deliveries += 1
        id_reply = text_of(entry_id)
        replies.append(id_reply if options.just_id else [id_reply, fields])
        told.claimed(id_text, pending)
        must_tell_last = False
        regrouped(db, key)
    if must_tell_last:
        told.moved()
        regrouped(db, key)
    return replies


def _options(argv: list[bytes], at: int, now_ms: int) -> Options:
    options = Options()
    i = at
    while i < len(argv):
        option = argv[i].upper()
        more = i + 1 < len(argv)
        if option == b"FORCE":
            options.force = True
        elif option == b"JUSTID":
            options.just_id = True
        elif option in (b"IDLE", b"TIME", b"RETRYCOUNT") and more:
            i += 1
            number = integer(argv[i], _invalid(option + b" option", b"XCLAIM"))
            if option == b"RETRYCOUNT":
                options.deliveries = number
            elif option == b"TIME":
                options.delivered_at_ms = number
            else:
                options.delivered_at_ms = now_ms - number
        elif option == b"LASTID" and more:
            i += 1
            options.last_id = stream_id(argv[i])
        else:
            raise CommandError(b"ERR Unrecognized XCLAIM option '%b'" % argv[i].partition(b"\0")[0])
        i += 1
    return options


@command(
    "xautoclaim",
    -6,
    "write fast",
    keys=["RW delete @1"],
    acl="stream",
    tips=["nondeterministic_output"],
)
def xautoclaim(c: Client, argv: list[bytes]) -> Reply:
    """Let a consumer own the pending entries from an id on that are idle. O(count * log n).

    Propagates: an XCLAIM for each entry claimed or dropped.
    """
    propagation = c.engine.propagation
    propagation.nothing()
    min_idle_ms = max(integer(argv[4], XAUTOCLAIM_MIN_IDLE), 0)
    start = interval_start(argv[5])
    count, just_id = _autoclaim_options(argv)
    db, key = c.db, argv[1]
    value, group = read_group(db, key, argv[2])
    told = Told(propagation, db, key, group, argv[2])
    consumer: Consumer | None = None
    now_ms = c.engine.keyspace.now_ms
    replies: list[Any] = []
    dropped: list[StreamId] = []
    cursor = MIN_ID
    attempts = count * ATTEMPTS_FACTOR
    # Entries are dropped on the way: the ids are taken first, with the one that may be left over.
    for entry_id in list(islice(group.pending_ids(start), attempts + 1)):
        if not attempts or len(replies) + len(dropped) == count:
            cursor = entry_id
            break
        attempts -= 1
        pending = group.pending[entry_id]
        fields = value.get(entry_id)
        if fields is None:
            told.claimed(text_of(entry_id), pending)
            group.settle(entry_id)
            dropped.append(entry_id)
            regrouped(db, key)
            continue
        if min_idle_ms and now_ms - pending.delivered_at_ms < min_idle_ms:
            continue
        if consumer is None:
            consumer, _ = find_consumer(db, key, group, argv[3])
        group.hand_over(entry_id, consumer)
        pending.delivered_at_ms = now_ms
        if not just_id:
            pending.deliveries += 1
        id_text = text_of(entry_id)
        replies.append(id_text if just_id else [id_text, fields])
        told.claimed(id_text, pending)
        regrouped(db, key)
    return [text_of(cursor), replies, [text_of(entry_id) for entry_id in dropped]]


def _autoclaim_options(argv: list[bytes]) -> tuple[int, bool]:
    count, just_id = DEFAULT_COUNT, False
    i = 6
    while i < len(argv):
        option = argv[i].upper()
        if option == b"COUNT" and i + 1 < len(argv):
            i += 1
            count = integer_in(argv[i], 1, MAX_COUNT, COUNT_TOO_SMALL)
        elif option == b"JUSTID":
            just_id = True
        else:
            raise SYNTAX
        i += 1
    return count, just_id
