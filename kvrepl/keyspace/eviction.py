"""Which key goes when memory is short: the eight policies of maxmemory-policy.

    noeviction                        nothing goes
    allkeys-lru, volatile-lru         what was not used for longest
    allkeys-lfu, volatile-lfu         what is used least often
    allkeys-random, volatile-random   any key
    volatile-ttl                      what expires soonest

volatile-* look at keys with a time to live only. All but the random ones approximate: each time a
key is wanted, a few keys of each database are drawn (maxmemory-samples) and the best of them
enter a pool of POOL_SIZE candidates, from which the best goes. The pool lives on between two
evictions, so that it gets better than the samples alone. Its keys may be gone or have been used
since they entered; the former are passed over, and so, as in Redis, are not the latter.

A draw takes one segment of a database, or as many as it needs, in the order of their numbers from
a random one; a key's segment follows from its hash, so that a segment is itself a fair sample.

Source: Redis 7.0 evict.c (evictionPoolPopulate, performEvictions), Salvatore Sanfilippo,
"Random notes on improving the Redis LRU algorithm".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Final

from kvrepl.keyspace.database import Database

if TYPE_CHECKING:
    from kvrepl.keyspace.keyspace import Keyspace

POOL_SIZE: Final = 16
"""Candidates that are remembered (EVPOOL_SIZE)."""

LOOK_AROUND: Final = 64
"""Keys chosen between two looks at which databases hold any; it costs as much as some of them."""

NOEVICTION: Final = "noeviction"


class Evictor:
    """Chooses keys to evict from a keyspace.

    Args:
        keyspace: whose keys; for an LRU or LFU policy it must track access.
        rng: where the chance comes from.

    Attributes:
        policy: as maxmemory-policy.
        samples: keys drawn of each database, as maxmemory-samples.
    """

    __slots__ = (
        "_chosen", "_eligible", "_keyspace", "_next_db", "_pool", "_rng", "policy", "samples",
    )  # fmt: skip

    def __init__(self, keyspace: Keyspace, rng: Random) -> None:
        self._keyspace = keyspace
        self._rng = rng
        self._pool: list[tuple[int, int, bytes]] = []  # (badness, database, key), best last
        self._next_db = 0
        self._chosen = 0
        self._eligible: list[Database] = []  # those that hold what the policy chooses from
        self.policy = NOEVICTION
        self.samples = 5

    def forget(self) -> None:
        """Empty the pool: its badnesses are those of another policy."""
        self._pool.clear()
        self._eligible = []

    def choose(self) -> tuple[Database, bytes] | None:
        """The next key to go, None where the policy finds none.

        Cost: O(segments) for every database of which the policy finds little, else O(1).
        """
        if self.policy == NOEVICTION:
            return None
        if self._chosen % LOOK_AROUND == 0:
            self._look_around()
        self._chosen += 1
        choose = self._any if self.policy.endswith("random") else self._best
        found = choose()
        if found is None:
            self._look_around()
            found = choose()
        return found

    def _look_around(self) -> None:
        """See which databases hold anything to choose. O(databases)."""
        held = Database.__len__ if self._takes_all() else Database.expires_count
        self._eligible = [db for db in self._keyspace.databases if held(db)]

    def _best(self) -> tuple[Database, bytes] | None:
        """The best candidate that is still there."""
        databases = self._keyspace.databases
        while True:
            if not self._populate():
                return None
            while self._pool:
                _, index, key = self._pool.pop()
                if key in self._rows(databases[index])[hash(key) & databases[index].mask]:
                    return databases[index], key

    def _rows(self, db: Database) -> list[dict[bytes, int]]:
        """What the policy chooses from: all keys of a database, or those that expire."""
        return db.segments if self._takes_all() else db.expires

    def _takes_all(self) -> bool:
        return self.policy.startswith("allkeys")

    def _any(self) -> tuple[Database, bytes] | None:
        """Any key, of one database after the other."""
        for _ in self._eligible:
            db = self._eligible[self._next_db % len(self._eligible)]
            self._next_db += 1
            for key in self._draw(self._rows(db), 1):
                return db, key
        return None

    def _populate(self) -> bool:
        """Let the best of a few keys of each database enter the pool; False if there are none."""
        found = False
        for db in self._eligible:
            for key in self._draw(self._rows(db), self.samples):
                found = True
                self._enter(self._badness(db, key), db.index, key)
        return found

    def _badness(self, db: Database, key: bytes) -> int:
        i = hash(key) & db.mask
        if self.policy == "volatile-ttl":
            return -db.expires[i][key]
        access = self._keyspace.access
        assert access is not None, "the policy needs it"
        return access.badness(db.accessed[i], key)

    def _enter(self, badness: int, index: int, key: bytes) -> None:
        """Put a candidate into the pool, unless all in it are better. O(POOL_SIZE)."""
        pool = self._pool
        candidate = (badness, index, key)
        at = bisect_left(pool, candidate)
        if at < len(pool) and pool[at] == candidate:
            return
        if len(pool) < POOL_SIZE:
            pool.insert(at, candidate)
        elif at > 0:
            pool.insert(at, candidate)
            del pool[0]

    def _draw(self, rows: list[dict[bytes, int]], count: int) -> Iterator[bytes]:
        """Draw up to `count` different keys."""
        mask = len(rows) - 1
        start = int(self._rng.random() * len(rows))
        for step in range(len(rows)):
            segment = rows[(start + step) & mask]
            if segment:
                keys = _spread(segment, count, self._rng)
                yield from keys
                count -= len(keys)
                if count <= 0:
                    return


def _spread(segment: dict[bytes, int], count: int, rng: Random) -> list[bytes]:
    """Draw keys of one dict, each equally likely: all of them, or `count`. O(keys)."""
    return list(segment) if len(segment) <= count else rng.sample(list(segment), count)
