"""One database: keys, values, expiry times, and the rules for looking at them.

Layout. Keys, the times to live, and while it is tracked the use of keys stand in three rows of
small dicts (kvrepl.keyspace.segments). A dict is looked up anew after anything that may add a key.

Values. A string is `bytes` (its encoding follows from its content) or, once APPEND or SETRANGE
touched it, a `bytearray` (encoding raw, grows in place). Collections are the classes of
`kvrepl.datatypes`. A collection is never empty here: who takes the last element deletes the key.
What was loaded and not looked at yet, or not used for a while, may be packed
(`kvrepl.datatypes.packed`); the methods below unpack it in its place and never give it away, but
for those that say so.

Use. Who looks a collection up, to read or change it, is noted in the collection itself
(`Collection.touched`), so that what nobody uses can be found and packed again
(`kvrepl.persistence.packing`). `loose` says where there may be one that is not packed, so that only
such segments are searched for it.

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
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kvrepl.config.notify import NOTIFY_EVICTED, NOTIFY_EXPIRED, NOTIFY_KEY_MISS, NOTIFY_NEW
from kvrepl.datatypes.collection import Collection
from kvrepl.datatypes.packed import unpack
from kvrepl.errors import WRONGTYPE
from kvrepl.keyspace.segments import LEAST, NEVER_DUE, Segmented
from rdb.packed import Packed

if TYPE_CHECKING:
    from random import Random

    from kvrepl.keyspace.keyspace import Keyspace

DELETE: Final = 0
HIDE: Final = 1
IGNORE: Final = 2

TTL_SAMPLE: Final = 2
"""Keys of each segment whose time to live is looked at for their mean."""

Value = Any
T = TypeVar("T")


class Database(Segmented):
    """The keys of one database.

    Args:
        index: its number, as in SELECT.
        keyspace: the databases it stands among; holds the counters and modes they share.
        least: how many segments it has when it is small, a power of two.
    """

    __slots__ = ("blocked_keys", "index", "keyspace", "watched")

    def __init__(self, index: int, keyspace: Keyspace, least: int = LEAST) -> None:
        super().__init__(least)
        self.index = index
        self.keyspace = keyspace
        # Key -> the clients that WATCH it, and key -> the clients that wait for it to be filled.
        # Both belong to the database, not to its contents: SWAPDB leaves them where they are.
        self.watched: dict[bytes, set[Any]] = {}
        self.blocked_keys: dict[bytes, Any] = {}

    # ---------------------------------------------------------------- reading

    def mean_ttl_ms(self) -> int:
        """The mean time to live of the keys that have one, by a sample. O(1)."""
        now_ms = self.keyspace.now_ms
        sample = [
            expires_at_ms - now_ms
            for expires in islice(self.expires, self.least)
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
        if isinstance(value, Packed):
            return self._unpack(key, value)
        if isinstance(value, Collection):
            value.touched = True
        return value

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
            if isinstance(value, Collection):
                value.touched = True
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
        self.loosen(key, unpacked)
        return unpacked

    def loosen(self, key: bytes, value: Value) -> None:
        """Note that a value stands at a key now, which is a use, unless it is a string. O(1)."""
        if isinstance(value, Collection):
            value.touched = True
            self.loose[hash(key) & len(self.loose) - 1] = 1

    # ---------------------------------------------------------------- packing

    def find_idle(self, segment: dict[bytes, Value]) -> tuple[list[bytes], int]:
        """Look for collections that nobody has used since the last look, and begin anew to note it.

        Args:
            segment: one of this database.

        Returns:
            The keys of those, and how many other collections there are that are not packed.

        Cost: O(keys).
        """
        idle: list[bytes] = []
        others = 0
        for key, value in segment.items():
            if isinstance(value, Collection):
                if getattr(value, "touched", False):
                    value.touched = False
                    others += 1
                else:
                    idle.append(key)
        return idle, others

    def idle(self, key: bytes) -> Value | None:
        """The collection at `key`, if there is one that is not packed and was not used. O(1)."""
        value = self.peek(key)
        if isinstance(value, Collection) and not getattr(value, "touched", False):
            return value
        return None

    def pack(self, key: bytes, packed: Packed) -> None:
        """Put what a collection is packed as in its place: no change and no use. O(1)."""
        self.segments[hash(key) & self.mask][key] = packed

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
                if expires and expires.pop(key, None) is not None:
                    self.expiring -= 1
                access = self.keyspace.access
                if access is not None:
                    access.touched(self.accessed[i], key)
            segment[key] = value
        else:
            segment[key] = value
            self.held += 1
            keyspace = self.keyspace
            if keyspace.access is not None:
                keyspace.access.created(self.accessed[i], key)
            if keyspace.notify_flags & NOTIFY_NEW:
                keyspace.notify(NOTIFY_NEW, b"new", key, self)
        if type(value) is not bytes:
            self.loosen(key, value)
        if self.blocked_keys:
            self.signal_ready(key)
        if self.held > self.room:
            self.grow()

    def delete(self, key: bytes) -> bool:
        """Remove a key and its time to live; False where there was none. O(1).

        The caller reports the change with `changed()`.
        """
        i = hash(key) & self.mask
        if self.segments[i].pop(key, None) is None:
            return False
        self.held -= 1
        if self.expires[i] and self.expires[i].pop(key, None) is not None:
            self.expiring -= 1
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
        expires = self.expires[hash(key) & self.mask]
        if key not in expires:
            self.expiring += 1
        expires[key] = expires_at_ms
        i = hash(key) & (self.least - 1)
        keyspace = self.keyspace
        if keyspace.writable_replica and keyspace.expiry_mode == HIDE:
            keyspace.local_expiry.remember(self.index, key)
        if expires_at_ms < self.due_ms[i]:
            self.due_ms[i] = expires_at_ms
            if expires_at_ms < self.earliest_ms:
                self.earliest_ms = expires_at_ms

    def persist(self, key: bytes) -> bool:
        """Take a key's time to live away; False where it had none. O(1)."""
        if self.expires[hash(key) & self.mask].pop(key, None) is None:
            return False
        self.expiring -= 1
        return True

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

    def expire_due(self, i: int, limit: int) -> int:
        """Remove up to `limit` keys whose time has come, of those that due_ms[i] stands for.

        Returns:
            How many were removed; `limit` means that there may be more.
        """
        now_ms = self.keyspace.now_ms
        if self.due_ms[i] >= now_ms:
            return 0
        rows = self.expires[i : self.real : self.least]
        due = (key for expires in rows for key, at in expires.items() if at < now_ms)
        found = list(islice(due, limit))
        for key in found:
            self.expire(key)
        if len(found) < limit:
            earliest_ms = (min(expires.values()) for expires in rows if expires)
            self.due_ms[i] = min(earliest_ms, default=NEVER_DUE)
        return len(found)

    # ---------------------------------------------------------------- access

    def track_access(self) -> None:
        """Have a row for words of access exactly while they are kept; it begins empty."""
        tracked = self.keyspace.access is not None
        self.accessed = self._row() if tracked else []

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

    # ---------------------------------------------------------------- the whole

    def keys(self) -> Iterator[bytes]:
        """Every key, hidden ones included, segment by segment; the database must not change."""
        for _, segment, _ in self.parts():
            yield from segment

    def items(self) -> Iterator[tuple[bytes, Value, int | None]]:
        """Every key with its value and expiry instant, segment by segment.

        Packed values are unpacked for the caller alone, and stay packed here.
        """
        limits = self.keyspace.limits
        for _, segment, expires in self.parts():
            for key, value in segment.items():
                if isinstance(value, Packed):
                    value = unpack(value, limits)
                yield key, value, expires.get(key) if expires else None

    def random_key(self, rng: Random) -> bytes | None:
        """A visible key drawn evenly, or None where there is none.

        O(1). Draws a hundred times at most where expired keys are hidden, as Redis does (db.c,
        dbRandomKey), and then settles for one of those.
        """
        key = None
        for _ in range(100):
            if not self.held:
                return None
            key = self.pick(rng)
            if self.exists(key):
                return key
        return key

    def swap(self, other: Database) -> None:
        """Exchange the contents, as SWAPDB does; watchers and waiters stay where they are. O(1)."""
        for name in Segmented.__slots__:
            mine = getattr(self, name)
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)
        for db in (self, other):
            if bool(db.accessed) != (db.keyspace.access is not None):
                db.track_access()  # the other one is of a keyspace that keeps none, or did
