"""When keys were last used, or how often: what eviction and OBJECT IDLETIME or FREQ go by.

Kept only while `maxmemory-policy` is one of *-lru or *-lfu, whatever maxmemory is, for a word a key
costs memory and each look-up a store. Each database then has a third row of dicts beside those of
its values and expiries (kvrepl.keyspace.database):

    accessed[i]: {key: word}

    Lru   word = Unix seconds of the last access; every key of one second shares one int object
    Lfu   word = minutes of the last access << 8 | counter

A key without a word was not used since the policy was chosen, or the dataset loaded: it counts
as used at that moment, with a counter of LFU_INIT. A word lives no longer than its key. Changing
between LRU and LFU begins afresh.

The counter of LFU is logarithmic (Morris): from c it grows with probability
1 / ((c - LFU_INIT) * lfu-log-factor + 1), up to 255, and falls by one for every lfu-decay-time
minutes without an access.

Words are not packed into Redis's 24 bits, so the clocks do not wrap around here.

Source: Redis 7.0 evict.c (LFULogIncr, LFUDecrAndReturn, estimateObjectIdleTime), db.c (updateLFU,
lookupKey), object.c (objectSetLRUOrLFU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LFU_INIT: Final = 5
"""The counter of a new key, so that it is not evicted before it could be used."""
LFU_MAX: Final = 255

Words = dict[bytes, int]


class Lru:
    """Times of the last access.

    Args:
        now_ms: when tracking begins, Unix time.

    Attributes:
        clock: the word of an access now.
        since: the word that stands for those that there are not.
    """

    __slots__ = ("clock", "since")

    is_lfu = False

    def __init__(self, now_ms: int) -> None:
        self.clock = self.since = now_ms // 1000

    def restart(self) -> None:
        """A dataset is loaded: what has no word is used now. O(1)."""
        self.since = self.clock

    def tick(self, now_ms: int) -> None:
        """Take the time. The int stays the same object while its value does. O(1)."""
        seconds = now_ms // 1000
        if seconds != self.clock:
            self.clock = seconds

    def created(self, words: Words, key: bytes) -> None:
        """A key came into being. O(1)."""
        words[key] = self.clock

    def touched(self, words: Words, key: bytes) -> None:
        """A key was used. O(1)."""
        words[key] = self.clock

    def figure(self, words: Words, key: bytes) -> int:
        """Seconds since the last access, as OBJECT IDLETIME gives it. O(1)."""
        return max(self.clock - words.get(key, self.since), 0)

    def badness(self, words: Words, key: bytes) -> int:
        """How good a candidate for eviction the key is. O(1)."""
        return self.figure(words, key)

    def put(self, words: Words, key: bytes, figure: int) -> None:
        """Let a key have been idle for so many seconds (RESTORE, an RDB). O(1)."""
        words[key] = self.clock - figure


class Lfu:
    """How often keys are used.

    Args:
        now_ms: when tracking begins, Unix time.
        random: a float in [0, 1) at each call.
        log_factor: how slowly the counter grows (lfu-log-factor).
        decay_min: minutes after which it falls by one, 0 for never (lfu-decay-time).

    Attributes:
        clock: minutes now; since: the word that stands for those that there are not.
    """

    __slots__ = ("_random", "clock", "decay_min", "log_factor", "since")

    is_lfu = True

    def __init__(
        self, now_ms: int, random: Callable[[], float], log_factor: int = 10, decay_min: int = 1
    ) -> None:
        self._random = random
        self.log_factor = log_factor
        self.decay_min = decay_min
        self.clock = now_ms // 60_000
        self.since = self.clock << 8 | LFU_INIT

    def restart(self) -> None:
        """A dataset is loaded: what has no word is used now. O(1)."""
        self.since = self.clock << 8 | LFU_INIT

    def tick(self, now_ms: int) -> None:
        """Take the time. O(1)."""
        self.clock = now_ms // 60_000

    def created(self, words: Words, key: bytes) -> None:
        """A key came into being. O(1)."""
        words[key] = self.clock << 8 | LFU_INIT

    def touched(self, words: Words, key: bytes) -> None:
        """A key was used: its counter decays by the time that passed, then may grow. O(1)."""
        counter = self.figure(words, key)
        if counter < LFU_MAX:
            base = max(counter - LFU_INIT, 0)
            if self._random() * (base * self.log_factor + 1) < 1:
                counter += 1
        words[key] = self.clock << 8 | counter

    def figure(self, words: Words, key: bytes) -> int:
        """The counter, decayed by now, as OBJECT FREQ gives it. O(1)."""
        word = words.get(key, self.since)
        counter = word & 255
        if not self.decay_min:
            return counter
        return max(counter - max(self.clock - (word >> 8), 0) // self.decay_min, 0)

    def badness(self, words: Words, key: bytes) -> int:
        """How good a candidate for eviction the key is. O(1)."""
        return LFU_MAX - self.figure(words, key)

    def put(self, words: Words, key: bytes, figure: int) -> None:
        """Let a key's counter be this (RESTORE, an RDB). O(1)."""
        words[key] = self.clock << 8 | figure


Access = Lru | Lfu
