"""One database: keys, values, expiry times, and the rules for looking at them.

Layout. Keys live in a power-of-two number of small dicts, chosen by `hash(key) & mask`; the times
to live stand in a second row of dicts under the same index:

    segments[i]: {key: value}        expires[i]: {key: expires_at_ms}      due_ms[i]

`due_ms[i]` is a lower bound of the earliest expiry in segment i, and `earliest_ms` one of them all,
so that active expiry visits only segments that hold something due. A segment grows alone (a
bounded stall), and SCAN, FLUSHALL ASYNC and the snapshot go segment by segment. While the use of
keys is tracked (kvrepl.keyspace.access) there is a third row, `accessed[i]: {key: word}`, and none
otherwise.

Values. A string is `bytes` (its encoding follows from its content) or, once APPEND or SETRANGE
touched it, a `bytearray` (encoding raw, grows in place). Collections are the classes of
`kvrepl.datatypes`. A collection is never empty here: who takes the last element deletes the key.
What was loaded and not looked at yet may be packed (`kvrepl.datatypes.packed`); the methods below
unpack it in its place and never give it away, but for those that say so.

Expiry. What a logically expired key looks like depends on who asks (`Keyspace.expiry_mode`):

    DELETE   a master: the key is removed, and the sink hears of it (it propagates DEL)
    HIDE     a replica, or clients paused: reads see nothing, the key stays
    IGNORE   the master link and loading: the key is there

Every change ends in `changed()`: it counts dirty, wakes watchers, and notifies. A handler that
changes a value in place must call it.

Source: Redis 7.0 db.c (lookupKey, dbAdd, setKey, expireIfNeeded, signalModifiedKey).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kvrepl.config.notify import NOTIFY_EVICTED, NOTIFY_EXPIRED, NOTIFY_KEY_MISS, NOTIFY_NEW
from kvrepl.datatypes.packed import unpack
from kvrepl.errors import WRONGTYPE
from rdb.packed import Packed

if TYPE_CHECKING:
    from random import Random

    from kvrepl.keyspace.keyspace import Keyspace

SEGMENTS: Final = 1024
"""Segments a database: bounds the stall when one dict grows (250 ms at 5.6 M keys in one)."""

DELETE: Final = 0
HIDE: Final = 1
IGNORE: Final = 2

SPARSE_BYTES: Final = 256
"""A dict that takes more than this for each of its keys is mostly empty; growth leaves 104."""

SLICES: Final = 1 << 16
"""Slices of a segment, which SCAN goes through one after another."""

SCAN_SHARE: Final = 32
"""The keys that SCAN looks at, at most, for each one that it returns."""

TTL_SAMPLE: Final = 2
"""Keys of each segment whose time to live is looked at for their mean."""

NEVER_DUE: Final = 1 << 63

Value = Any
T = TypeVar("T")


class Database:
    """The keys of one database.

    Args:
        index: its number, as in SELECT.
        keyspace: the databases it stands among; holds the counters and modes they share.
        segments: how many dicts to spread the keys over, a power of two.
    """

    __slots__ = (
        "accessed",
        "blocked_keys",
        "due_ms",
        "earliest_ms",
        "expires",
        "index",
        "keyspace",
        "mask",
        "segments",
        "watched",
    )

    def __init__(self, index: int, keyspace: Keyspace, segments: int = SEGMENTS) -> None:
        assert segments & (segments - 1) == 0, "the number of segments must be a power of two"
        self.index = index
        self.keyspace = keyspace
        self.mask = segments - 1
        self.segments: list[dict[bytes, Value]] = [{} for _ in range(segments)]
        self.expires: list[dict[bytes, int]] = [{} for _ in range(segments)]
        self.accessed: list[dict[bytes, int]] = []
        self.due_ms: list[int] = [NEVER_DUE] * segments
        self.earliest_ms = NEVER_DUE
        # Key -> the clients that WATCH it, and key -> the clients that wait for it to be filled.
        # Both belong to the database, not to its contents: SWAPDB leaves them where they are.
        self.watched: dict[bytes, set[Any]] = {}
        self.blocked_keys: dict[bytes, Any] = {}

    # ---------------------------------------------------------------- reading

    def __len__(self) -> int:
        """Keys held, expired ones included. O(segments)."""
        return sum(map(len, self.segments))

    def has_keys(self) -> bool:
        """Whether there is any, expired ones included. O(segments)."""
        return any(self.segments)

    def expires_count(self) -> int:
        """Keys with a time to live. O(segments)."""
        return sum(map(len, self.expires))

    def mean_ttl_ms(self) -> int:
        """The mean time to live of the keys that have one, by a sample. O(segments)."""
        now_ms = self.keyspace.now_ms
        sample = [
            expires_at_ms - now_ms
            for expires in self.expires
            for expires_at_ms in islice(expires.values(), TTL_SAMPLE)
            if expires_at_ms > now_ms
        ]
        return sum(sample) // len(sample) if sample else 0

    def peek(self, key: bytes) -> Value | None:
        """The value as it stands, without regard to expiry, counters or access time. O(1).

        A packed value is given packed.
        """
        return self.segments[hash(key) & self.mask].get(key)

    def get(self, key: bytes) -> Value | None:
        """Look a key up for a read command: counts hit or miss. O(1)."""
        value = self.get_packed(key)
        return self._unpack(key, value) if isinstance(value, Packed) else value

    def get_packed(self, key: bytes) -> Value | None:
        """The same for a command that needs no elements: a packed value is given packed. O(1)."""
        i = hash(key) & self.mask
        value = self.segments[i].get(key)
        if value is not None:
            expires = self.expires[i]
            if not expires or key not in expires or not self._gone(key, expires[key]):
                keyspace = self.keyspace
                keyspace.hits += 1
                if keyspace.access is not None:
                    keyspace.access.touched(self.accessed[i], key)
                return value
        keyspace = self.keyspace
        keyspace.misses += 1
        if keyspace.notify_flags & NOTIFY_KEY_MISS:
            keyspace.notify(NOTIFY_KEY_MISS, b"keymiss", key, self)
        return None

    def inspect(self, key: bytes) -> Value | None:
        """The same without taking it for a use of the key (TYPE, TTL). O(1)."""
        keyspace = self.keyspace
        access, keyspace.access = keyspace.access, None
        try:
            return self.get_packed(key)
        finally:
            keyspace.access = access

    def get_for_write(self, key: bytes) -> Value | None:
        """Look a key up for a command that may change it; not counted as hit or miss. O(1)."""
        i = hash(key) & self.mask
        value = self.segments[i].get(key)
        if value is not None:
            expires = self.expires[i]
            if expires and key in expires and self._gone(key, expires[key], for_write=True):
                return None
            access = self.keyspace.access
            if access is not None:
                access.touched(self.accessed[i], key)
            if isinstance(value, Packed):
                return self._unpack(key, value)
        return value

    def exists_for_write(self, key: bytes) -> bool:
        """Whether `get_for_write` would find a key; unpacks nothing. O(1)."""
        i = hash(key) & self.mask
        if key not in self.segments[i]:
            return False
        expires = self.expires[i]
        return (
            not expires or key not in expires or not self._gone(key, expires[key], for_write=True)
        )

    def exists(self, key: bytes) -> bool:
        """Whether a key is visible now; counts nothing. O(1)."""
        i = hash(key) & self.mask
        if key not in self.segments[i]:
            return False
        expires = self.expires[i]
        return not expires or key not in expires or not self._gone(key, expires[key])

    def read(self, key: bytes, kind: type[T]) -> T | None:
        """The collection at `key` for a read command, or None where there is no key.

        Raises:
            CommandError: WRONGTYPE, when the value is of another type.
        """
        value = self.get(key)
        if value is None or type(value) is kind:
            return value
        raise WRONGTYPE

    def edit(self, key: bytes, kind: type[T]) -> T | None:
        """The collection at `key` for a write command, or None where there is no key.

        Raises:
            CommandError: WRONGTYPE, when the value is of another type.
        """
        value = self.get_for_write(key)
        if value is None or type(value) is kind:
            return value
        raise WRONGTYPE

    def read_string(self, key: bytes) -> bytes | bytearray | None:
        """The string at `key` for a read command, or None where there is no key.

        hot: benchmarks/commands, GET. It repeats `get` to save a call.

        Raises:
            CommandError: WRONGTYPE, when the value is of another type.
        """
        i = hash(key) & self.mask
        value = self.segments[i].get(key)
        expires = self.expires[i]
        if value is None or (expires and key in expires and self._gone(key, expires[key])):
            return self.get(key)  # counts the miss
        keyspace = self.keyspace
        keyspace.hits += 1
        if keyspace.access is not None:
            keyspace.access.touched(self.accessed[i], key)
        if type(value) is bytes or type(value) is bytearray:
            return value
        raise WRONGTYPE

    def edit_string(self, key: bytes) -> bytes | bytearray | None:
        """The string at `key` for a write command, or None where there is no key.

        Raises:
            CommandError: WRONGTYPE, when the value is of another type.
        """
        value = self.get_for_write(key)
        if value is None or type(value) is bytes or type(value) is bytearray:
            return value
        raise WRONGTYPE

    def _unpack(self, key: bytes, value: Packed) -> Value:
        """Put the collection that a packed value stands for in its place. O(size)."""
        unpacked = unpack(value, self.keyspace.limits)
        self.segments[hash(key) & self.mask][key] = unpacked
        return unpacked

    # ---------------------------------------------------------------- writing

    def set(self, key: bytes, value: Value, keep_ttl: bool = False) -> None:
        """Put `value` at `key`, in place of whatever was there; drops its time to live. O(1).

        With `keep_ttl` the value is a new form of the one that the caller looked up, which was the
        access; without it, this is one.

        A key whose time has come is removed first, as a key of its own (replicas get its DEL). The
        caller reports the change with `changed()`.
        """
        i = hash(key) & self.mask
        segment = self.segments[i]
        expires = self.expires[i]
        if expires and key in expires:
            self._gone(key, expires[key], for_write=True)
        if key in segment:
            if not keep_ttl:
                if expires:
                    expires.pop(key, None)
                access = self.keyspace.access
                if access is not None:
                    access.touched(self.accessed[i], key)
            segment[key] = value
        else:
            segment[key] = value
            keyspace = self.keyspace
            if keyspace.access is not None:
                keyspace.access.created(self.accessed[i], key)
            if keyspace.notify_flags & NOTIFY_NEW:
                keyspace.notify(NOTIFY_NEW, b"new", key, self)
        if self.blocked_keys:
            self.signal_ready(key)

    def delete(self, key: bytes) -> bool:
        """Remove a key and its time to live; False where there was none. O(1).

        The caller reports the change with `changed()`.
        """
        i = hash(key) & self.mask
        if self.segments[i].pop(key, None) is None:
            return False
        if self.expires[i]:
            self.expires[i].pop(key, None)
        if self.accessed:
            self.accessed[i].pop(key, None)
        if self.blocked_keys:
            self.signal_ready(key)  # who waits in a consumer group waits no longer
        return True

    def unlink(self, key: bytes) -> bool:
        """The same as `delete`, but a large value is freed later, in slices. O(1)."""
        value = self.peek(key)
        deleted = self.delete(key)
        if deleted:
            self.keyspace.garbage.throw(value)
        return deleted

    def changed(self, key: bytes, kind: int, event: bytes, count: int = 1) -> None:
        """Report a change that was made at `key`.

        Args:
            key: the key that changed.
            kind: the class of the notification, one of the NOTIFY_* of `kvrepl.config.notify`.
            event: its name, b"set".
            count: by how much the dataset is now dirtier (INFO rdb_changes_since_last_save).
        """
        keyspace = self.keyspace
        keyspace.dirty += count
        if self.watched and key in self.watched:
            keyspace.sink.touched(self, key)
        if keyspace.tracking:
            keyspace.sink.invalidated(self, key)
        if keyspace.notify_flags & kind:
            keyspace.notify(kind, event, key, self)

    def signal_ready(self, key: bytes) -> None:
        """A collection got elements, or another value or none is there: who waits may go on."""
        if self.blocked_keys and key in self.blocked_keys:
            self.keyspace.sink.ready(self, key)

    # ---------------------------------------------------------------- expiry

    def expires_at_ms(self, key: bytes) -> int | None:
        """The instant at which the key expires, None where it has none. O(1)."""
        return self.expires[hash(key) & self.mask].get(key)

    def is_overdue(self, key: bytes) -> bool:
        """Whether the key's time has come, whoever asks; deletes nothing. O(1).

        While loading nothing is considered expired (db.c, keyIsExpired).
        """
        expires_at_ms = self.expires[hash(key) & self.mask].get(key)
        if expires_at_ms is None:
            return False
        keyspace = self.keyspace
        return keyspace.now_ms > expires_at_ms and keyspace.expiry_mode != IGNORE

    def expire_at(self, key: bytes, expires_at_ms: int) -> None:
        """Let an existing key expire at an instant. O(1). The caller reports the change."""
        i = hash(key) & self.mask
        self.expires[i][key] = expires_at_ms
        keyspace = self.keyspace
        if keyspace.writable_replica and keyspace.expiry_mode == HIDE:
            keyspace.local_expiry.remember(self.index, key)
        if expires_at_ms < self.due_ms[i]:
            self.due_ms[i] = expires_at_ms
            if expires_at_ms < self.earliest_ms:
                self.earliest_ms = expires_at_ms

    def persist(self, key: bytes) -> bool:
        """Take a key's time to live away; False where it had none. O(1)."""
        return self.expires[hash(key) & self.mask].pop(key, None) is not None

    def _gone(self, key: bytes, expires_at_ms: int, for_write: bool = False) -> bool:
        """Whether a key with a time to live is gone for the one who asks; deletes it if so told."""
        keyspace = self.keyspace
        if keyspace.now_ms <= expires_at_ms:
            return False
        mode = keyspace.expiry_mode
        if mode == IGNORE:
            return False
        if mode == DELETE or (for_write and keyspace.writable_replica):
            self.expire(key)
        return True

    def expire(self, key: bytes) -> None:
        """Remove a key because its time has come; counts it, and the sink propagates it."""
        self.unlink(key)
        keyspace = self.keyspace
        keyspace.expired += 1
        keyspace.sink.expired(self, key)
        if self.watched and key in self.watched:
            keyspace.sink.touched(self, key)
        if keyspace.notify_flags & NOTIFY_EXPIRED:
            keyspace.notify(NOTIFY_EXPIRED, b"expired", key, self)

    def expire_due(self, segment: int, limit: int) -> int:
        """Remove up to `limit` keys of one segment whose time has come.

        Returns:
            How many were removed; `limit` means that there may be more.
        """
        now_ms = self.keyspace.now_ms
        if self.due_ms[segment] >= now_ms:
            return 0
        expires = self.expires[segment]
        due = list(islice((key for key, at in expires.items() if at < now_ms), limit))
        for key in due:
            self.expire(key)
        if len(due) < limit:
            self.due_ms[segment] = min(expires.values(), default=NEVER_DUE)
        return len(due)

    # ---------------------------------------------------------------- access

    def track_access(self) -> None:
        """Have a row for words of access exactly while they are kept; it begins empty."""
        tracked = self.keyspace.access is not None
        self.accessed = [{} for _ in range(self.mask + 1)] if tracked else []

    def touch(self, key: bytes) -> None:
        """Take something for a use of a key, where it is there. O(1)."""
        access = self.keyspace.access
        if access is not None:
            i = hash(key) & self.mask
            if key in self.segments[i]:
                access.touched(self.accessed[i], key)

    def access_figure(self, key: bytes) -> int | None:
        """Seconds idle or the counter of use of a key, as is kept; None where nothing is. O(1)."""
        access = self.keyspace.access
        return None if access is None else access.figure(self.accessed[hash(key) & self.mask], key)

    def put_access(self, key: bytes, *, idle_s: int | None = None, freq: int | None = None) -> None:
        """Set what is kept of the use of an existing key, where the figure is of that kind. O(1).

        Args:
            key: must be there.
            idle_s: seconds since its last access.
            freq: its counter, 0 to 255.
        """
        access = self.keyspace.access
        if access is not None:
            figure = freq if access.is_lfu else idle_s
            if figure is not None:
                access.put(self.accessed[hash(key) & self.mask], key, figure)

    def evict(self, key: bytes) -> None:
        """Remove a key to make room; who called propagates its deletion."""
        self.delete(key)
        self.shrink(hash(key) & self.mask)
        keyspace = self.keyspace
        if self.watched and key in self.watched:
            keyspace.sink.touched(self, key)
        if keyspace.tracking:
            keyspace.sink.invalidated(self, key)
        if keyspace.notify_flags & NOTIFY_EVICTED:
            keyspace.notify(NOTIFY_EVICTED, b"evicted", key, self)

    def shrink(self, i: int) -> None:
        """Give back the room that deleted keys left in segment i: a dict never shrinks by itself.

        O(1), and O(keys) where there is much.
        """
        for row in (self.segments, self.expires, self.accessed):
            if row and getsizeof(row[i]) > SPARSE_BYTES * (len(row[i]) + 8):
                row[i] = row[i].copy() if row[i] else {}

    # ---------------------------------------------------------------- the whole

    def keys(self) -> Iterator[bytes]:
        """Every key, hidden ones included, segment by segment; the database must not change."""
        for segment in self.segments:
            yield from segment

    def items(self) -> Iterator[tuple[bytes, Value, int | None]]:
        """Every key with its value and expiry instant, segment by segment.

        Packed values are unpacked for the caller alone, and stay packed here.
        """
        limits = self.keyspace.limits
        for segment, expires in zip(self.segments, self.expires, strict=True):
            for key, value in segment.items():
                if isinstance(value, Packed):
                    value = unpack(value, limits)
                yield key, value, expires.get(key) if expires else None

    def random_key(self, rng: Random) -> bytes | None:
        """A visible key drawn evenly, or None where there is none.

        O(segments + keys in a segment). Draws a hundred times at most where expired keys are
        hidden, as Redis does (db.c, dbRandomKey), and then settles for one of those.
        """
        key = None
        for _ in range(100):
            total = len(self)
            if not total:
                return None
            segment, place = self._place(rng.randrange(total))
            key = next(islice(segment, place, None))
            if self.exists(key):
                return key
        return key

    def _place(self, number: int) -> tuple[dict[bytes, Value], int]:
        """The segment that holds the key of a number, and its number there. O(segments)."""
        for segment in self.segments:
            if number < len(segment):
                return segment, number
            number -= len(segment)
        raise IndexError("no key of that number")

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """One step of SCAN: about `count` keys and the next cursor, 0 at the end.

        The cursor is (slice << segment bits) | segment, where a key's slice is 16 further bits of
        its hash. Both are fixed for as long as the key lives, and the cursor only moves up, so a
        key present from the first call to the last is returned exactly once, whatever is added
        or removed meanwhile, and no state is kept between the calls.

        A segment that holds more than is wanted is looked through for the slices that make about
        as many keys, at least a SCAN_SHARE of it: the keys looked at for each one returned are then
        a constant number, however large the database.

        Cost: O(keys returned + empty segments passed).
        """
        bits = self.mask.bit_length()
        segment, at = cursor & self.mask, cursor >> bits
        found: list[bytes] = []
        while segment <= self.mask:
            keys = self.segments[segment]
            room = count - len(found)
            if not at and len(keys) <= room:
                found.extend(keys)
                at = SLICES
            elif keys:
                end = at + max(room, len(keys) // SCAN_SHARE) * SLICES // len(keys) + 1
                found += self._sliced(keys, at, end)
                at = end
            else:
                at = SLICES
            if at >= SLICES:
                segment += 1
                at = 0
            if len(found) >= count or (at and found):
                break
        return (at << bits | segment if segment <= self.mask else 0), found

    def _sliced(self, keys: dict[bytes, Value], start: int, stop: int) -> list[bytes]:
        """The keys of a segment whose slice is one from start up to, not including, stop."""
        bits = self.mask.bit_length()
        return [key for key in keys if start <= hash(key) >> bits & SLICES - 1 < stop]

    def clear(self) -> list[dict[bytes, Value]]:
        """Drop every key at once. O(segments).

        Returns:
            The old segments, for the caller to free at leisure.
        """
        old = [segment for segment in self.segments if segment]
        n = self.mask + 1
        self.segments = [{} for _ in range(n)]
        self.expires = [{} for _ in range(n)]
        self.due_ms = [NEVER_DUE] * n
        self.earliest_ms = NEVER_DUE
        self.track_access()
        return old

    def swap(self, other: Database) -> None:
        """Exchange the contents, as SWAPDB does; watchers and waiters stay where they are. O(1)."""
        self.segments, other.segments = other.segments, self.segments
        self.expires, other.expires = other.expires, self.expires
        self.due_ms, other.due_ms = other.due_ms, self.due_ms
        self.earliest_ms, other.earliest_ms = other.earliest_ms, self.earliest_ms
        self.accessed, other.accessed = other.accessed, self.accessed
        for db in (self, other):
            if bool(db.accessed) != (db.keyspace.access is not None):
                db.track_access()  # the other one is of a keyspace that keeps none, or did
