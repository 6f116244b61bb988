"""ACL LOG: what was denied lately, the newest first.

What repeats within a minute is one entry that counts; only the newest entries are searched for it.

Source: Redis 7.0 acl.c (addACLLogEntry, ACLLogMatchEntry).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

GROUPED_MS: Final = 60_000
SEARCHED: Final = 10


@dataclass(slots=True)
class Entry:
    """Something that was denied.

    Attributes:
        reason: "command", "key", "channel" or "auth".
        context: "toplevel", "multi" or "lua".
        subject: the command, key or channel; of a login the command that was used.
        username: who was denied, or who somebody wanted to be.
        at_ms: when, the last time.
        client: its line of CLIENT LIST, the last time.
        count: how often.
    """

    reason: str
    context: str
    subject: bytes
    username: bytes
    at_ms: int
    client: bytes
    count: int = 1

    def repeats(self, other: Entry) -> bool:
        """Whether this is the same as another one, not long after."""
        return (
            self.reason == other.reason
            and self.context == other.context
            and self.subject == other.subject
            and self.username == other.username
            and abs(self.at_ms - other.at_ms) <= GROUPED_MS
        )


class AclLog:
    """The entries of one server, the newest first."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()

    def add(self, entry: Entry, limit: int) -> None:
        """Note something that was denied, and keep `limit` entries. O(1)."""
        for known in islice(self.entries, SEARCHED):
            if entry.repeats(known):
                self.entries.remove(known)
                entry.count += known.count
                break
        self.entries.appendleft(entry)
        while len(self.entries) > limit:
            self.entries.pop()
