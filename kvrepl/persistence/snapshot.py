"""A snapshot: the whole keyspace as the bytes of one RDB, and back.

    snapshot_chunks  keyspace -> chunks of bytes     in the forked child, in SAVE, for an AOF base
    SnapshotLoader   chunks of bytes -> keyspace     at start, for a full sync, for DEBUG RELOAD

Writing goes segment by segment through one seam, `encode_segment` (walk.py), which, compiled,
writes to no reference count, so that a child does not copy the memory that it shares with its
parent.

Loading is push-driven: `feed` takes whatever bytes came and puts whole records into place, most of
them through a second seam, `rdb.load_keys`, which keeps small collections packed; nothing counts as
expired while loading, except that a master drops what expired while it was down.

Source: Redis 7.0 rdb.c (rdbSaveRio, rdbLoadRioWithLoadingCtx).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import rdb
from kvrepl import REDIS_VERSION
from kvrepl.datatypes.records import from_rdb
from kvrepl.keyspace.access import Lfu
from kvrepl.numbers import parse_int
from kvrepl.persistence.partner import Found
from kvrepl.persistence.walk import encode_segment
from rdb import Aux, End, Function, Key, RdbError, RdbReader, ResizeDb, SelectDb, Stream
from rdb.constants import TYPE_STRING
from rdb.keys import load_keys, load_run
from rdb.writer import Accesses

if TYPE_CHECKING:
    from kvrepl.keyspace.database import Database
    from kvrepl.keyspace.keyspace import Keyspace

LIMIT_LOGGED_EMPTY_KEYS: Final = 10
"""Empty keys that are named in the log; the rest are only counted (rdb.c)."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot says of itself besides the keys.

    Attributes:
        ctime_s: Unix time of its making.
        used_bytes: memory in use.
        aof_base: whether it is the base of an append-only file.
        stream_db, replid, offset: where it stands in the replication history; replid None where
            there is none to record.
    """

    ctime_s: int
    used_bytes: int
    aof_base: bool = False
    stream_db: int = 0
    replid: bytes | None = None
    offset: int = 0


def snapshot_chunks(
    keyspace: Keyspace,
    info: SnapshotInfo,
    *,
    functions: Sequence[bytes] = (),
    compress: bool = True,
    checksum: bool = True,
    data: bool = True,
    progress: Callable[[int], object] = lambda keys: None,
) -> Iterator[bytes]:
    """Yield the keyspace as an RDB, piece by piece.

    Args:
        keyspace: what to write; it must not change meanwhile (a child's copy never does).
        info: what goes into the auxiliary fields.
        functions: the code of each function library.
        compress: LZF for strings, as `rdbcompression`.
        checksum: a CRC64 at the end, as `rdbchecksum`.
        data: whether the keys are written at all (rdb-filter-only functions leaves them out).
        progress: called with the number of keys done since the last call, once a segment.

    Yields:
        Chunks of some 64 KiB, larger where one value is. O(bytes of the dataset) in all.
    """
    ready: deque[bytes] = deque()
    writer = rdb.RdbWriter(ready.append, checksum=checksum)
    writer.aux(b"redis-ver", REDIS_VERSION.encode())
    writer.aux(b"redis-bits", b"64")
    writer.aux(b"ctime", b"%d" % info.ctime_s)
    writer.aux(b"used-mem", b"%d" % info.used_bytes)
    if info.replid is not None:
        writer.aux(b"repl-stream-db", b"%d" % info.stream_db)
        writer.aux(b"repl-id", info.replid)
        writer.aux(b"repl-offset", b"%d" % info.offset)
    writer.aux(b"aof-base", b"1" if info.aof_base else b"0")
    for code in functions:
        writer.function(code, compress)
    for db in keyspace.databases if data else ():
        keys = len(db)
        if keys:
            writer.select_db(db.index, keys, db.expires_count())
            for done in _write_database(db, writer, compress):
                progress(done)
                while ready:
                    yield ready.popleft()
    writer.end()
    yield from ready


def _write_database(db: Database, writer: rdb.RdbWriter, compress: bool) -> Iterator[int]:
    """Write a database; yields how many keys it wrote, segment by segment."""
    limits = db.keyspace.limits
    for i, segment, expires in db.parts():
        if not segment:
            continue
        writer.raw(encode_segment(segment, expires, limits, compress, _accesses(db, i)))
        yield len(segment)


def _accesses(db: Database, segment: int) -> Accesses | None:
    """What is known of the use of the keys of a segment, as the policy has it stored."""
    access = db.keyspace.access
    if access is None:
        return None
    words = db.accessed[segment]
    if isinstance(access, Lfu):
        return Accesses(words, access.since, access.clock, True, access.decay_min)
    return Accesses(words, access.since, access.clock)


@dataclass(slots=True)
class Loaded:
    """What a load has found so far.

    Attributes:
        keys: put into place; expired: dropped, because their time was over.
        empty: collections without elements, which are skipped.
        producers: streams whose producers are forgotten, as Redis 7.0 knows none.
        aux: the auxiliary fields.
        functions: code of the function libraries.
        expired_keys: (db, key) of the expired ones, when they are to be replicated as DEL.
    """

    keys: int = 0
    expired: int = 0
    empty: int = 0
    producers: int = 0
    aux: dict[bytes, bytes] = field(default_factory=dict)
    functions: list[bytes] = field(default_factory=list)
    expired_keys: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def stream_db(self) -> int | None:
        """The database that the stream is on after it (`repl-stream-db`); None if not told."""
        db = parse_int(self.aux.get(b"repl-stream-db", b""))
        return db if db is not None and db >= 0 else None


class SnapshotLoader:
    """Puts the records of an RDB into a keyspace.

    Args:
        keyspace: where to; keys that it holds already make the load fail unless `replace`.
        drop_expired_at_ms: drop keys whose time was over at that instant (a master); None keeps
            all (a replica, or the base of an AOF).
        verify_checksum: as `rdbchecksum`.
        replace: a key that exists is overwritten instead of being an error.
        runs: called at each `feed`; gives the keys that a partner found in these bytes.
        log: takes lines for the operator.

    Attributes:
        loaded: what was found so far.
    """

    __slots__ = (
        "_databases",
        "_db",
        "_drop_expired_at_ms",
        "_found",
        "_keyspace",
        "_log",
        "_reader",
        "_replace",
        "_runs",
        "loaded",
    )

    def __init__(
        self,
        keyspace: Keyspace,
        *,
        drop_expired_at_ms: int | None = None,
        verify_checksum: bool = True,
        replace: bool = False,
        runs: Callable[[], dict[int, Found]] = dict,
        log: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._keyspace = keyspace
        self._databases = keyspace.databases
        self._db = 0
        self._drop_expired_at_ms = drop_expired_at_ms
        self._replace = replace
        self._runs = runs
        self._found: dict[int, Found] = {}
        self._log = log
        # To stop at every key that is there already would have the rest parsed as often.
        take = None if replace else self._take
        self._reader = RdbReader(verify_checksum=verify_checksum, take=take)
        self.loaded = Loaded()

    @property
    def finished(self) -> bool:
        """Whether the end of the RDB was reached."""
        return self._reader.finished

    @property
    def offset(self) -> int:
        """Bytes of the RDB consumed."""
        return self._reader.offset

    @property
    def unused(self) -> bytes:
        """Bytes that came after the end of the RDB."""
        return self._reader.unused

    def feed(self, data: bytes) -> None:
        """Take the next bytes. O(their keys).

        Raises:
            RdbError: they are malformed, name a database that there is not, hold a type that
                cannot be loaded, or a key for the second time.
        """
        self._found = self._runs()
        for record in self._reader.feed(data):
            if type(record) is Key:
                self._put(record)
            elif isinstance(record, ResizeDb):
                self._databases[self._db].expect(record.keys)
            elif isinstance(record, SelectDb):
                if record.db >= len(self._databases):
                    raise RdbError(
                        f"FATAL: Data file was created with a Redis server configured to handle"
                        f" more than {len(self._databases)} databases"
                    )
                self._db = record.db
            elif isinstance(record, Aux):
                self.loaded.aux[record.key] = record.value
                self._tell(record.key, record.value)
            elif isinstance(record, Function):
                self.loaded.functions.append(record.code)
            elif isinstance(record, End) and record.checksum == "disabled":
                self._log("RDB file was saved with checksum disabled: no check performed.")

    def _tell(self, key: bytes, value: bytes) -> None:
        """Log what the file says of itself: who made it, when, of how much."""
        text, number = value.decode(errors="backslashreplace"), parse_int(value)
        if key == b"redis-ver":
            self._log(f"Loading RDB produced by version {text}")
        elif key == b"ctime" and number is not None:
            age_s = self._keyspace.now_ms // 1000 - number
            self._log(f"RDB age {max(age_s, 0)} seconds")
        elif key == b"used-mem" and number is not None:
            self._log(f"RDB memory usage when created {number / (1 << 20):.2f} Mb")
        elif key.startswith(b"%"):
            self._log(f"RDB '{key.decode(errors='backslashreplace')}': {text}")

    def close(self) -> Loaded:
        """Say that there is no more; returns what was found.

        Raises:
            RdbError: the RDB did not end.
        """
        self._reader.close()
        loaded = self.loaded
        skipped = f", empty keys skipped: {loaded.empty}" if loaded.empty else ""
        self._log(
            f"Done loading RDB, keys loaded: {loaded.keys}, keys expired:"
            f" {loaded.expired}{skipped}."
        )
        if loaded.producers:
            self._log(
                f"Streams of a newer server have lost their lists of producers: {loaded.producers}"
            )
        return loaded

    def _take(self, data: bytes, pos: int, number: int) -> int:
        """Put the strings and the small collections that follow each other into place."""
        if number >= len(self._databases):
            return pos  # the record of the database is refused
        db = self._databases[number]
        rows = db.segments, db.expires, db.due_ms
        offset = self._reader.offset
        found = self._found.get(offset + pos) if self._found else None
        if found is not None and (run := found.of(data, pos, offset)) is not None:
            taken = load_run(run, data, pos, *rows)
        else:
            limits = self._keyspace.limits
            taken = load_keys(data, pos, *rows, limits, self._drop_expired_at_ms)
        pos, keys, expiring, earliest_ms = taken
        self.loaded.keys += keys
        db.took(keys, expiring)
        if earliest_ms is not None:
            db.earliest_ms = min(db.earliest_ms, earliest_ms)
        return pos

    def _put(self, record: Key) -> None:
        number, key, type_code, plain, expires_at_ms, idle_s, freq = record
        value: Any = plain
        db = self._databases[number]
        loaded = self.loaded
        if type_code != TYPE_STRING:
            try:
                value = from_rdb(type_code, plain, self._keyspace.limits)
            except RdbError as error:
                raise RdbError(error.message, key=key) from None
            if type(plain) is Stream and plain.producers is not None:
                loaded.producers += 1
            if type(value) is not Stream and not len(value):
                loaded.empty += 1
                if loaded.empty <= LIMIT_LOGGED_EMPTY_KEYS:
                    self._log(f"skipping empty key: {key.decode(errors='backslashreplace')}")
                return
        if (
            expires_at_ms is not None
            and self._drop_expired_at_ms is not None
            and expires_at_ms < self._drop_expired_at_ms
        ):
            loaded.expired += 1
            loaded.expired_keys.append((number, key))
            return
        segment = db.segments[hash(key) & db.mask]
        if key in segment and not self._replace:
            raise RdbError("the key is in the file twice, or was there before", key=key)
        db.took(key not in segment, 0)
        db.segments[hash(key) & db.mask][key] = value
        db.loosen(key, value)
        if expires_at_ms is not None:
            db.expire_at(key, expires_at_ms)
        elif self._replace:
            db.persist(key)
        if db.accessed:
            db.put_access(key, idle_s=idle_s, freq=freq)
        loaded.keys += 1
