"""Keys that clients of a writable replica gave a time to live, which no master will ever delete.

A replica deletes nothing by its clock: the master's DEL comes. Of what was written on the replica
itself the master knows nothing, so that it would stay in memory for ever, hidden. Such keys are
remembered by name, and removed when their time has come, a slice of them at a time:

    remember   a client set a time to live, on a replica that takes writes
    expire     visited in turn: removed if due, kept if not, forgotten if it has no time any more

A name is all that is kept, as in Redis: a key of that name which the master writes later with a
time to live is taken for a local one. Who writes on a replica should use names of his own.

Source: Redis 7.0 expire.c (rememberSlaveKeyWithExpire, expireSlaveKeys).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvrepl.keyspace.keyspace import Keyspace


class LocalExpiry:
    """The names, each with the number of its database."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[tuple[int, bytes], None] = {}  # in the order in which they are visited

    def __len__(self) -> int:
        return len(self._keys)

    def remember(self, db: int, key: bytes) -> None:
        """A client of this replica gave a key a time to live. O(1)."""
        self._keys[db, key] = None

    def clear(self) -> None:
        """Forget all: the dataset is another, or this server is a master now."""
        self._keys.clear()

    def expire(self, keyspace: Keyspace, limit: int) -> None:
        """Visit those that have waited longest, and remove what is due. O(limit)."""
        for place in list(islice(self._keys, limit)):
            del self._keys[place]
            number, key = place
            db = keyspace.databases[number]
            expires_at_ms = db.expires_at_ms(key)
            if expires_at_ms is None:
                continue
            if keyspace.now_ms > expires_at_ms:
                db.expire(key)
            else:
                self._keys[place] = None
