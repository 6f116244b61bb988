"""What the commands on groups share: looking groups and consumers up, and propagation.

Propagated forms, as Redis sends them:

    XCLAIM key group consumer 0 id TIME ms RETRYCOUNT n FORCE JUSTID LASTID id
    XGROUP SETID key group id ENTRIESREAD n
    XGROUP CREATECONSUMER key group consumer

Source: Redis 7.0 t_stream.c (streamPropagateXCLAIM, streamPropagateGroupID,
streamPropagateConsumerCreation, streamCreateConsumer, streamLookupConsumer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvrepl.commands.streams.ids import text_of
from kvrepl.config.notify import NOTIFY_STREAM
from kvrepl.datatypes.streams import Consumer, Group, Pending, StreamValue
from kvrepl.errors import CommandError

if TYPE_CHECKING:
    from kvrepl.engine.propagation import Propagation
    from kvrepl.keyspace.database import Database


def no_group(key: bytes, group: bytes, tail: bytes = b"") -> CommandError:
    """The error for a key or group that is not there, as most commands word it."""
    return CommandError(
        b"NOGROUP No such key '%b' or consumer group '%b'%b" % (_c(key), _c(group), tail)
    )


def no_such_group(key: bytes, group: bytes) -> CommandError:
    """The error for a group that is not there, as XGROUP and XINFO word it."""
    return CommandError(
        b"NOGROUP No such consumer group '%b' for key name '%b'" % (_c(group), _c(key))
    )


def read_group(db: Database, key: bytes, name: bytes) -> tuple[StreamValue, Group]:
    """The stream and the group, looked up as a read.

    Raises:
        CommandError: one is not there, or the key holds something else.
    """
    value = db.read(key, StreamValue)
    group = None if value is None else value.groups.get(name)
    if value is None or group is None:
        raise no_group(key, name)
    return value, group


def regrouped(db: Database, key: bytes, event: bytes = b"", count: int = 1) -> None:
    """Report a change of groups: it makes the dataset dirtier, and WATCH does not see it."""
    keyspace = db.keyspace
    keyspace.dirty += count
    if event:
        keyspace.notify(NOTIFY_STREAM, event, key, db)


def find_consumer(db: Database, key: bytes, group: Group, name: bytes) -> tuple[Consumer, bool]:
    """The consumer of that name, made where it is not there, and seen now.

    Returns:
        The consumer, and whether it was made.
    """
    now_ms = db.keyspace.now_ms
    consumer = group.consumers.get(name)
    if consumer is not None:
        consumer.seen_ms = now_ms
        return consumer, False
    consumer = group.consumers[name] = Consumer(name, now_ms)
    regrouped(db, key, b"xgroup-createconsumer")
    return consumer, True


class Told:
    """Says to replicas and AOF what is done to one group.

    Args:
        propagation: where to.
        db: the database.
        key: of the stream.
        group: the group; name: its name.
    """

    __slots__ = ("_db", "_group", "_key", "_name", "_propagation")

    def __init__(
        self, propagation: Propagation, db: Database, key: bytes, group: Group, name: bytes
    ) -> None:
        self._propagation = propagation
        self._db = db.index
        self._key = key
        self._group = group
        self._name = name

    def claimed(self, id_text: bytes, pending: Pending) -> None:
        """An entry is pending like this now, or no more, if the stream does not have it."""
        self._propagation.also(
            self._db,
            (
                b"XCLAIM",
                self._key,
                self._name,
                pending.owner,
                b"0",
                id_text,
                b"TIME",
                b"%d" % pending.delivered_at_ms,
                b"RETRYCOUNT",
                b"%d" % pending.deliveries,
                b"FORCE",
                b"JUSTID",
                b"LASTID",
                text_of(self._group.last_id),
            ),
        )

    def moved(self) -> None:
        """The group's last id moved."""
        group = self._group
        self._propagation.also(
            self._db,
            (
                b"XGROUP",
                b"SETID",
                self._key,
                self._name,
                text_of(group.last_id),
                b"ENTRIESREAD",
                b"%d" % group.entries_read,
            ),
        )

    def made(self, consumer: Consumer) -> None:
        """A consumer was made."""
        self._propagation.also(
            self._db, (b"XGROUP", b"CREATECONSUMER", self._key, self._name, consumer.name)
        )


def _c(text: bytes) -> bytes:
    """A name as C prints it: it ends at the first NUL."""
    return text.partition(b"\0")[0]
