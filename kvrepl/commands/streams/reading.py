"""XREAD and XREADGROUP, and the clients that wait for entries.

A client waits for ids above the one it gave (XREAD), or above the last one that its group was
given (XREADGROUP with `>`). It is served when an entry is added to one of its streams, with what
that stream has for it and nothing of the others.

Reading on behalf of a group makes entries pending and moves the group on; each is propagated as
what it did (kvrepl.commands.streams.shared), while XREADGROUP itself never is.

Source: Redis 7.0 t_stream.c (xreadCommand, streamReplyWithRange,
streamReplyWithRangeFromConsumerPEL), blocked.c (serveClientsBlockedOnStreamKey).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import TIMEOUT_NEGATIVE, integer
from kvrepl.commands.streams.ids import entry_replies, stream_id, text_of
from kvrepl.commands.streams.shared import Told, find_consumer, no_group, regrouped
from kvrepl.datatypes.stream_nodes import MAX_ID, MIN_ID, StreamId, next_id
from kvrepl.datatypes.streams import UNKNOWN, Consumer, Group, Pending, StreamValue
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp import encode
from kvrepl.resp.values import BLOCKED, NULL_ARRAY, Encoded, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

BLOCKED_COUNT: Final = 1000
"""Entries that a client who waited gets at most where COUNT does not say."""

TIMEOUT_NOT_INTEGER: Final = CommandError(b"ERR timeout is not an integer or out of range")
GROUP_IN_XREAD: Final = CommandError(
    b"ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead."
)
NOACK_IN_XREAD: Final = CommandError(
    b"ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead."
)
UNBALANCED: Final = CommandError(  # XREADGROUP says the same
    b"ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
)
GROUP_MISSING: Final = CommandError(b"ERR Missing GROUP option for XREADGROUP")
DOLLAR_IN_GROUP: Final = CommandError(
    b"ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of"
    b" this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID"
    b" would just return an empty result set."
)
NEWS_IN_XREAD: Final = CommandError(
    b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group>"
    b" <consumer> option."
)
GROUP_GONE: Final = CommandError(
    b"NOGROUP the consumer group this client was blocked on no longer exists"
)
STREAM_GONE: Final = CommandError(b"UNBLOCKED the stream key no longer exists")

_STREAMS: Final = ["RO access STREAMS@1..-1%2"]
_GROUP_STREAMS: Final = ["RO access STREAMS@4..-1%2"]


@dataclass(slots=True)
class Request:
    """What a command asks for.

    Attributes:
        keys: of the streams.
        ids: as given, one a key.
        count: most entries a stream, 0 for all.
        block_ms: how long to wait, 0 for ever, None not at all.
        group, consumer: names, None for XREAD.
        no_ack: entries are delivered without becoming pending.
    """

    keys: list[bytes]
    ids: list[bytes]
    count: int = 0
    block_ms: int | None = None
    group: bytes | None = None
    consumer: bytes = b""
    no_ack: bool = False


@command("xread", -4, "readonly blocking movablekeys", keys=_STREAMS, acl="stream")
def xread(c: Client, argv: list[bytes]) -> Reply:
    """Get the entries above given ids of several streams, or wait for some. O(entries)."""
    request = _parse(c, argv, for_group=False)
    db = c.db
    after: list[StreamId] = []
    for key, id_text in zip(request.keys, request.ids, strict=True):
        value = db.read(key, StreamValue)
        if id_text == b"$":
            after.append(MIN_ID if value is None else value.last_id)
        elif id_text == b">":
            raise NEWS_IN_XREAD
        else:
            after.append(stream_id(id_text))
    found = []
    for key, last_seen in zip(request.keys, after, strict=True):
        value = db.read(key, StreamValue)
        if value is not None and value.length and value.top_id() > last_seen:
            found.append((key, _above(value, last_seen, request.count)))
    if found:
        return _by_stream(c, found)
    if request.block_ms is None or not c.engine.may_block(c):
        return NULL_ARRAY
    count = request.count or BLOCKED_COUNT
    waits_after = _first_of_each(request.keys, after)

    def serve(db: Database, key: bytes) -> Reply | None:
        value = db.get(key)
        if type(value) is not StreamValue or value.last_id <= waits_after[key]:
            return None
        return _by_stream(c, [(key, _above(value, waits_after[key], count))])

    c.engine.blocking.block(c, request.keys, timeout_ms=request.block_ms, serve=serve)
    return BLOCKED


@command("xreadgroup", -7, "write blocking movablekeys", keys=_GROUP_STREAMS, acl="stream")
def xreadgroup(c: Client, argv: list[bytes]) -> Reply:
    """Get entries for a consumer of a group: new ones, or its pending ones. O(entries * log n).

    Propagates: an XCLAIM for each entry delivered; with NOACK an XGROUP SETID where the group
    moved on, and an XGROUP CREATECONSUMER for a new consumer.
    """
    c.engine.propagation.nothing()
    request = _parse(c, argv, for_group=True)
    assert request.group is not None
    db = c.db
    groups: list[Group] = []
    after: list[StreamId] = []
    for key, id_text in zip(request.keys, request.ids, strict=True):
        value = db.read(key, StreamValue)
        group = None if value is None else value.groups.get(request.group)
        if group is None:
            raise no_group(key, request.group, b" in XREADGROUP with GROUP option")
        groups.append(group)
        if id_text == b"$":
            raise DOLLAR_IN_GROUP
        after.append(MAX_ID if id_text == b">" else stream_id(id_text))
    found: list[tuple[bytes, Any]] = []
    for key, group, last_seen in zip(request.keys, groups, after, strict=True):
        value = db.read(key, StreamValue)
        if value is None:
            continue
        wants_news = last_seen == MAX_ID
        if wants_news and not (value.length and value.top_id() > group.last_id):
            continue
        delivery = _Delivery(c, db, key, value, group, request)
        consumer = delivery.consumer()
        if wants_news:
            found.append((key, delivery.news(consumer, request.count)))
        else:
            found.append((key, delivery.history(consumer, last_seen, request.count)))
        regrouped(db, key)
    if found:
        return _by_stream(c, found)
    if request.block_ms is None or not c.engine.may_block(c):
        return NULL_ARRAY
    count = request.count or BLOCKED_COUNT
    name = request.group

    def serve(db: Database, key: bytes) -> Reply | None:
        value = db.get_for_write(key)
        if type(value) is not StreamValue:
            raise STREAM_GONE
        group = value.groups.get(name)
        if group is None:
            raise GROUP_GONE
        if value.last_id <= group.last_id:
            return None
        delivery = _Delivery(c, db, key, value, group, request)
        return _by_stream(c, [(key, delivery.news(delivery.consumer(), count))])

    c.engine.blocking.block(
        c, request.keys, timeout_ms=request.block_ms, serve=serve, needs_key=True
    )
    return BLOCKED


class _Delivery:
    """Delivers entries of one stream to a consumer of one of its groups."""

    __slots__ = ("_db", "_group", "_key", "_request", "_told", "_value")

    def __init__(
        self,
        c: Client,
        db: Database,
        key: bytes,
        value: StreamValue,
        group: Group,
        request: Request,
    ) -> None:
        assert request.group is not None
        self._db = db
        self._key = key
        self._value = value
        self._group = group
        self._request = request
        self._told = Told(c.engine.propagation, db, key, group, request.group)

    def consumer(self) -> Consumer:
        """The consumer who reads. One who acknowledges nothing is told of when it is made, for
        no XCLAIM will make it."""
        consumer, made = find_consumer(self._db, self._key, self._group, self._request.consumer)
        if made and self._request.no_ack:
            self._told.made(consumer)
        return consumer

    def news(self, consumer: Consumer, count: int) -> list[Any]:
        """Deliver what the group has not seen, up to `count` entries, 0 for all."""
        group, value = self._group, self._value
        start = next_id(group.last_id)
        entries = [] if start is None else value.range(start, count=count)
        now_ms = self._db.keyspace.now_ms
        for entry_id, _ in entries:
            if group.entries_read != UNKNOWN and not value.has_deleted_from(entry_id):
                group.entries_read += 1
            elif value.entries_added:
                group.entries_read = value.entries_up_to(entry_id)
            group.last_id = entry_id
            if self._request.no_ack:
                continue
            pending = group.pending.get(entry_id)
            if pending is None:
                pending = Pending(consumer, now_ms, 1)
                group.deliver(entry_id, pending)
            else:
                # XGROUP SETID took the group back: the entry was delivered before.
                group.hand_over(entry_id, consumer)
                pending.delivered_at_ms = now_ms
                pending.deliveries = 1
            self._told.claimed(text_of(entry_id), pending)
        if entries and self._request.no_ack:
            self._told.moved()  # an XCLAIM says so as well
        return entry_replies(entries)

    def history(self, consumer: Consumer, after: StreamId, count: int) -> list[Any]:
        """What is pending for the consumer above an id; None for the fields of deleted entries."""
        now_ms = self._db.keyspace.now_ms
        start = next_id(after)
        replies: list[Any] = []
        for entry_id in consumer.pending.irange(start) if start is not None else ():
            fields = self._value.get(entry_id)
            if fields is None:
                replies.append([text_of(entry_id), NULL_ARRAY])
            else:
                pending = self._group.pending[entry_id]
                pending.delivered_at_ms = now_ms
                pending.deliveries += 1
                replies.append([text_of(entry_id), fields])
            if len(replies) == count:
                break
        return replies


def _above(value: StreamValue, last_seen: StreamId, count: int) -> list[Any]:
    """The entries above an id, as a reply."""
    start = next_id(last_seen)
    return [] if start is None else entry_replies(value.range(start, count=count))


def _by_stream(c: Client, found: list[tuple[bytes, Any]]) -> Reply:
    """Streams and their entries: pairs in RESP2, a map in RESP3, where a key may come twice."""
    if c.resp == 2:
        return found
    by_key = dict(found)
    if len(by_key) == len(found):
        return by_key
    parts = [encode(part, c.resp) for pair in found for part in pair]
    return Encoded(b"%%%d\r\n" % len(found) + b"".join(parts))


def _first_of_each(keys: list[bytes], ids: list[StreamId]) -> dict[bytes, StreamId]:
    """The id of each key; the first counts where a key is given twice."""
    return dict(zip(reversed(keys), reversed(ids), strict=True))


# ------------------------------------------------------------------ arguments


def _parse(c: Client, argv: list[bytes], *, for_group: bool) -> Request:
    request = Request([], [])
    streams_at = 0
    i = 1
    while i < len(argv):
        more = len(argv) - i - 1
        option = argv[i].upper()
        if option == b"BLOCK" and more:
            if c.engine.script_runs:
                raise CommandError(
                    b"ERR %b command is not allowed with BLOCK option from scripts" % argv[0]
                )
            i += 1
            request.block_ms = _block_ms(argv[i])
        elif option == b"COUNT" and more:
            i += 1
            request.count = max(integer(argv[i]), 0)
        elif option == b"STREAMS" and more:
            streams_at = i + 1
            break
        elif option == b"GROUP" and more >= 2:
            if not for_group:
                raise GROUP_IN_XREAD
            request.group, request.consumer = argv[i + 1 : i + 3]
            i += 2
        elif option == b"NOACK":
            if not for_group:
                raise NOACK_IN_XREAD
            request.no_ack = True
        else:
            raise SYNTAX
        i += 1
    given = len(argv) - streams_at
    if streams_at and given % 2:
        raise UNBALANCED
    if not streams_at:
        raise SYNTAX
    if for_group and request.group is None:
        raise GROUP_MISSING
    request.keys = argv[streams_at : streams_at + given // 2]
    request.ids = argv[streams_at + given // 2 :]
    return request


def _block_ms(argument: bytes) -> int:
    """The timeout in whole milliseconds, however many (timeout.c, getTimeoutFromObjectOrReply)."""
    timeout_ms = integer(argument, TIMEOUT_NOT_INTEGER)
    if timeout_ms < 0:
        raise TIMEOUT_NEGATIVE
    return timeout_ms
