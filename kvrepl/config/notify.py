"""The classes of keyspace events, as bits, and their letters.

A setting such as "Ex" is letters; the server tests bits. "A" is short for all classes but
key-miss (m) and new-key (n), which must be asked for by name.

Source: Redis server.h (NOTIFY_*), notify.c (keyspaceEventsStringToFlags and its inverse).
"""

from __future__ import annotations

from typing import Final

NOTIFY_KEYSPACE: Final = 1 << 0
NOTIFY_KEYEVENT: Final = 1 << 1
NOTIFY_GENERIC: Final = 1 << 2
NOTIFY_STRING: Final = 1 << 3
NOTIFY_LIST: Final = 1 << 4
NOTIFY_SET: Final = 1 << 5
NOTIFY_HASH: Final = 1 << 6
NOTIFY_ZSET: Final = 1 << 7
NOTIFY_EXPIRED: Final = 1 << 8
NOTIFY_EVICTED: Final = 1 << 9
NOTIFY_STREAM: Final = 1 << 10
NOTIFY_KEY_MISS: Final = 1 << 11
NOTIFY_MODULE: Final = 1 << 13
NOTIFY_NEW: Final = 1 << 14

_CLASSES: Final = {
    "g": NOTIFY_GENERIC,
    "$": NOTIFY_STRING,
    "l": NOTIFY_LIST,
    "s": NOTIFY_SET,
    "h": NOTIFY_HASH,
    "z": NOTIFY_ZSET,
    "x": NOTIFY_EXPIRED,
    "e": NOTIFY_EVICTED,
    "t": NOTIFY_STREAM,
    "d": NOTIFY_MODULE,
}
NOTIFY_ALL: Final = sum(_CLASSES.values())
"""What "A" stands for."""

_LETTERS: Final = _CLASSES | {
    "A": NOTIFY_ALL,
    "K": NOTIFY_KEYSPACE,
    "E": NOTIFY_KEYEVENT,
    "m": NOTIFY_KEY_MISS,
    "n": NOTIFY_NEW,
}


def parse_notify_flags(letters: str) -> int | None:
    """The bits of the letters, None where one of them is unknown."""
    flags = 0
    for letter in letters:
        bit = _LETTERS.get(letter)
        if bit is None:
            return None
        flags |= bit
    return flags


def format_notify_flags(flags: int) -> str:
    """The letters in Redis's order.

    With all classes set Redis prints "A" and leaves out "n" even where it is set; kept, for what
    CONFIG GET says must be what a client of Redis expects.
    """
    if flags & NOTIFY_ALL == NOTIFY_ALL:
        out = "A"
    else:
        out = "".join(letter for letter, bit in _CLASSES.items() if flags & bit)
        out += "n" if flags & NOTIFY_NEW else ""
    for letter in "KEm":
        if flags & _LETTERS[letter]:
            out += letter
    return out
