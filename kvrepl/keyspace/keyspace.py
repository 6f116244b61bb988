"""All databases, and what they share: counters, expiry mode, the frozen clock, the sink.

The keyspace changes nothing but itself. What others must hear of (a key expired, a watched key
touched, a key that blocked clients wait for, a notification) goes to the `sink`, which the engine
puts in.

The hot methods of Database are the compiled ones of `_lookup.pyx` where that was built (and
KVREPL_PURE is not 1): they are put into the class at the end of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kvrepl.datatypes.limits import Limits
from kvrepl.keyspace import database
from kvrepl.keyspace.access import Access
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.garbage import Garbage
from kvrepl.keyspace.local_expiry import LocalExpiry
from kvrepl.resp import ACCELERATED


class Sink(Protocol):
    """Who hears of what happens to keys."""

    def expired(self, db: Database, key: bytes) -> None:
        """A key was removed because its time came: propagate its deletion."""

    def touched(self, db: Database, key: bytes) -> None:
        """A watched key changed."""

    def invalidated(self, db: Database, key: bytes) -> None:
        """A key changed while clients track keys."""

    def ready(self, db: Database, key: bytes) -> None:
        """A key that clients are blocked on has elements."""

    def notify(self, kind: int, event: bytes, key: bytes, db: Database) -> None:
        """A keyspace notification whose class is switched on."""


class _Deaf:
    def expired(self, db: Database, key: bytes) -> None: ...
    def touched(self, db: Database, key: bytes) -> None: ...
    def invalidated(self, db: Database, key: bytes) -> None: ...
    def ready(self, db: Database, key: bytes) -> None: ...
    def notify(self, kind: int, event: bytes, key: bytes, db: Database) -> None: ...


class Keyspace:
    """The databases of one server.

    Attributes:
        dirty: changes since the last save that succeeded; handlers only ever raise it.
        now_ms: the Unix time that commands see, frozen while one runs.
        expiry_mode: database.DELETE, HIDE or IGNORE; see kvrepl.keyspace.database.
        writable_replica: in HIDE mode, local writes may remove expired keys.
        notify_flags: the classes of notifications switched on.
        tracking: whether any client tracks keys.
        access: keeps when or how often keys are used; None while nothing needs it.
        local_expiry: keys with a time to live that were written on this replica itself.
        garbage: what was dropped and is freed in slices by the shell.
    """

    __slots__ = (
        "access",
        "databases",
        "dirty",
        "expired",
        "expiry_mode",
        "garbage",
        "hits",
        "limits",
        "local_expiry",
        "misses",
        "notify_flags",
        "now_ms",
        "sink",
        "tracking",
        "writable_replica",
    )

    def __init__(self, databases: int = 16, limits: Limits | None = None) -> None:
        self.limits = limits if limits is not None else Limits()
        self.access: Access | None = None
        self.databases = [Database(i, self) for i in range(databases)]
        self.dirty = 0
        self.now_ms = 0
        self.expiry_mode = database.DELETE
        self.writable_replica = False
        self.notify_flags = 0
        self.tracking = False
        self.hits = self.misses = self.expired = 0
        self.local_expiry = LocalExpiry()
        self.garbage = Garbage()
        self.sink: Sink = _Deaf()

    def __len__(self) -> int:
        return sum(map(len, self.databases))

    def notify(self, kind: int, event: bytes, key: bytes, db: Database) -> None:
        """Report an event whose class is switched on; callers test the flag first where hot."""
        if self.notify_flags & kind:
            self.sink.notify(kind, event, key, db)

    def track_access(self, access: Access | None) -> None:
        """Keep from now on how keys are used, forgetting what was kept; None to stop.

        O(databases * segments).
        """
        self.access = access
        for db in self.databases:
            db.track_access()

    def clear(self, *, lazily: bool = False) -> int:
        """Drop every key of every database.

        Args:
            lazily: leave freeing the values to the owner of `garbage`.

        Returns:
            How many keys there were.
        """
        removed = 0
        self.local_expiry.clear()
        for db in self.databases:
            removed += len(db)
            old = db.clear()
            if lazily:
                self.garbage.throw_segments(old)
        return removed

    def nonempty(self) -> Iterator[Database]:
        """The databases that hold keys, in order of number."""
        return (db for db in self.databases if db.has_keys())


def _accelerate() -> None:
    """Take the compiled methods of Database, where they were built and are wanted."""
    if not ACCELERATED:
        return
    try:
        from kvrepl.keyspace._lookup import bind
    except ModuleNotFoundError:
        return
    bind(Database, Keyspace)


_accelerate()
