"""Rewriting the log: the commands that rebuild a dataset, and when a rewrite is due.

A base in AOF form (`aof-use-rdb-preamble no`) is the shortest list of commands that makes the
dataset: for each key one SET, or RPUSH, SADD, ZADD or HMSET with up to 64 items at a time, or
what a stream needs, and a PEXPIREAT where it has an expiry. It is produced as chunks of bytes, of
which memory holds one.

`RewriteSchedule` decides when the log has grown enough, and holds back after failures.

Source: Redis 7.0 aof.c rewriteAppendOnlyFileRio and the rewrite*Object functions,
aofRewriteLimited; server.c serverCron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from kvrepl.datatypes.records import file_stream
from kvrepl.datatypes.streams import StreamValue
from kvrepl.persistence.aof import select, timestamp
from kvrepl.persistence.disk import Log
from rdb.streams import Group, Pending, Stream, StreamId

ITEMS_PER_COMMAND: Final = 64
"""Most items of a collection in one command (AOF_REWRITE_ITEMS_PER_CMD)."""

CHUNK_BYTES: Final = 64 * 1024
"""A chunk is handed on when it has grown to this."""

Entry = tuple[bytes, bytes, Any, int | None]
"""A key, its type as TYPE names it (b"string", ...), its value, and its expiry in Unix
milliseconds or None. A value is bytes or bytearray, or what iterates as the type does: list and
set over elements, hash by items() over pairs, zset over (member, score) in ascending order; a
stream is a StreamValue, or an rdb.streams.Stream as a file has it."""


def aof_base(
    databases: Iterable[tuple[int, Iterable[Entry]]],
    *,
    functions: Iterable[bytes] = (),
    now_s: int | None = None,
) -> Iterator[bytes]:
    """Yield the commands that rebuild a dataset.

    Args:
        databases: the number and the entries of each database; empty ones write nothing.
        functions: the source code of each function library.
        now_s: Unix time for the annotation at the head; None to write none.

    Yields:
        Chunks of about CHUNK_BYTES, larger where one item is.

    Raises:
        ValueError: a type that has no rewriter.

    Cost: O(bytes of the dataset).
    """
    parts: list[bytes] = []
    size_bytes = 0
    for part in chain.from_iterable(_commands(databases, functions, now_s)):
        parts.append(part)
        size_bytes += len(part)
        if size_bytes >= CHUNK_BYTES:
            yield b"".join(parts)
            parts = []
            size_bytes = 0
    if parts:
        yield b"".join(parts)


def _commands(
    databases: Iterable[tuple[int, Iterable[Entry]]],
    functions: Iterable[bytes],
    now_s: int | None,
) -> Iterator[Iterable[bytes]]:
    """The encoded commands of a base, in groups, one group a key."""
    if now_s is not None:
        yield (timestamp(now_s),)
    for code in functions:
        yield (_command(b"FUNCTION", b"LOAD", code),)
    for db, entries in databases:
        selected = False
        for key, kind, value, expires_at_ms in entries:
            if not selected:
                selected = True
                yield (select(db),)
            rewrite = REWRITERS.get(kind)
            if rewrite is None:
                raise ValueError(f"no rewriter for type {kind!r}")
            yield rewrite(key, value)
            if expires_at_ms is not None:
                yield (_command(b"PEXPIREAT", key, b"%d" % expires_at_ms),)


def rewrite_string(key: bytes, value: bytes | bytearray) -> Iterator[bytes]:
    """SET key value."""
    yield _command(b"SET", key, value)


def rewrite_list(key: bytes, value: Iterable[bytes]) -> Iterator[bytes]:
    """RPUSH key element..., from the head on."""
    return _batches(b"RPUSH", key, value, 1)


def rewrite_set(key: bytes, value: Iterable[bytes]) -> Iterator[bytes]:
    """SADD key member..."""
    return _batches(b"SADD", key, value, 1)


def rewrite_hash(key: bytes, value: Any) -> Iterator[bytes]:
    """HMSET key field value..."""
    return _batches(b"HMSET", key, chain.from_iterable(value.items()), 2)


def rewrite_zset(key: bytes, value: Iterable[tuple[bytes, float]]) -> Iterator[bytes]:
    """ZADD key score member..., each score with 17 digits, from which it is read back exactly."""
    flat = (text for member, score in value for text in (b"%.17g" % score, member))
    return _batches(b"ZADD", key, flat, 2)


def rewrite_stream(key: bytes, value: StreamValue | Stream) -> Iterator[bytes]:
    """XADD for each entry, XSETID, then each group with its consumers and what they owe.

    A stream without entries is made by an XADD that trims itself away. Source: aof.c
    rewriteStreamObject.
    """
    if isinstance(value, StreamValue):
        value = file_stream(value)
    for entry_id, fields in value.entries:
        yield _command(b"XADD", key, _stream_id(entry_id), *fields)
    if not value.entries:
        yield _command(b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y")
    yield _command(
        b"XSETID",
        key,
        _stream_id(value.last_id),
        b"ENTRIESADDED",
        b"%d" % value.entries_added,
        b"MAXDELETEDID",
        _stream_id(value.max_deleted_id),
    )
    for group in value.groups:
        yield from _rewrite_group(key, group)


def _rewrite_group(key: bytes, group: Group) -> Iterator[bytes]:
    """XGROUP CREATE, and for each consumer its XCLAIMs, or XGROUP CREATECONSUMER if it has none."""
    yield _command(
        b"XGROUP",
        b"CREATE",
        key,
        group.name,
        _stream_id(group.last_id),
        b"ENTRIESREAD",
        b"%d" % group.entries_read,
    )
    owed: dict[bytes, list[Pending]] = {consumer.name: [] for consumer in group.consumers}
    for pending in group.pending:
        if pending.consumer is not None:
            owed[pending.consumer].append(pending)
    for name, entries in owed.items():
        if not entries:
            yield _command(b"XGROUP", b"CREATECONSUMER", key, group.name, name)
        for pending in entries:
            yield _command(
                b"XCLAIM",
                key,
                group.name,
                name,
                b"0",
                _stream_id(pending.id),
                b"TIME",
                b"%d" % pending.delivered_at_ms,
                b"RETRYCOUNT",
                b"%d" % pending.deliveries,
                b"JUSTID",
                b"FORCE",
            )


REWRITERS: Final[dict[bytes, Callable[[bytes, Any], Iterator[bytes]]]] = {
    b"string": rewrite_string,
    b"list": rewrite_list,
    b"set": rewrite_set,
    b"hash": rewrite_hash,
    b"zset": rewrite_zset,
    b"stream": rewrite_stream,
}
"""How each type is rewritten."""


def _batches(verb: bytes, key: bytes, items: Iterable[bytes], width: int) -> Iterator[bytes]:
    """One command for each ITEMS_PER_COMMAND items of `width` arguments."""
    arguments = iter(items)
    while batch := list(islice(arguments, ITEMS_PER_COMMAND * width)):
        yield _command(verb, key, *batch)


def _command(*argv: bytes | bytearray) -> bytes:
    return b"*%d\r\n" % len(argv) + b"".join(
        [b"$%d\r\n%b\r\n" % (len(arg), bytes(arg)) for arg in argv]
    )


def _stream_id(stream_id: StreamId) -> bytes:
    return b"%d-%d" % stream_id


class RewriteSchedule:
    """Decides when the log rewrites itself.

    It has grown enough when it is larger than `min_size_bytes` and has grown by `percentage`
    since the last rewrite. After FAILURES_ALLOWED failures in a row it waits for 1, 2, 4, ... up
    to 60 minutes between attempts: each attempt leaves an increment behind, and a disk in trouble
    would otherwise be filled with small files. BGREWRITEAOF is not held back.

    Args:
        percentage: `auto-aof-rewrite-percentage`, 0 for never; may be changed at any time.
        min_size_bytes: `auto-aof-rewrite-min-size`; may be changed at any time.
    """

    FAILURES_ALLOWED: Final = 3
    MAX_DELAY_MINUTES: Final = 60

    __slots__ = ("_delay_minutes", "_not_before_s", "min_size_bytes", "percentage")

    def __init__(self, percentage: int = 100, min_size_bytes: int = 64 * 1024 * 1024) -> None:
        self.percentage = percentage
        self.min_size_bytes = min_size_bytes
        self._delay_minutes = 0
        self._not_before_s: int | None = None

    def growth_percent(self, size_bytes: int, base_bytes: int) -> int | None:
        """By how much the log has grown, if that is enough for a rewrite; None if it is not.

        Args:
            size_bytes: the log now.
            base_bytes: the log after the last rewrite.
        """
        if not self.percentage or size_bytes <= self.min_size_bytes:
            return None
        growth = size_bytes * 100 // (base_bytes or 1) - 100
        return growth if growth >= self.percentage else None

    def may_start(self, now_s: int, failures: int) -> tuple[bool, list[Log]]:
        """Whether an automatic or scheduled rewrite may start now.

        Asked only when one would otherwise start: the first refusal begins the wait.

        Args:
            now_s: the time, in seconds.
            failures: rewrites that failed in a row.

        Returns:
            The answer, and a line for the log when a wait begins.
        """
        if failures < self.FAILURES_ALLOWED:
            self._delay_minutes = 0
            self._not_before_s = None
            return True, []
        if self._not_before_s is not None:
            if now_s < self._not_before_s:
                return False, []
            self._not_before_s = None
            return True, []
        self._delay_minutes = min(self._delay_minutes * 2 or 1, self.MAX_DELAY_MINUTES)
        self._not_before_s = now_s + self._delay_minutes * 60
        text = (
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in"
            f" {self._delay_minutes} minutes"
        )
        return False, [Log("warning", text)]
