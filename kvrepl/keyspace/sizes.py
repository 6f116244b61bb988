"""What keys and values cost in this process, in bytes: MEMORY USAGE, and the estimate behind INFO.

    the key and the value as Python objects (sys.getsizeof), and SLOT_BYTES for their place in
    the segment; the same once more, without the value, for a time to live; of a collection the
    mean size of the elements sampled, times their number, and SLOT_BYTES for the place of each

It is no copy of what Redis would answer: it is what this server has to pay.

Source: Redis 7.0 object.c (objectComputeSize).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from kvrepl.datatypes import HashValue
from rdb import Stream

if TYPE_CHECKING:
    from kvrepl.keyspace.database import Database

SLOT_BYTES: Final = 48
"""A place in a dict: hash, key and value pointers, the index, and what growth leaves empty."""


def key_bytes(db: Database, key: bytes, samples: int) -> int:
    """What an existing key costs with all that belongs to it. O(samples).

    Args:
        db: where it is.
        key: its name.
        samples: elements of a collection that are looked at, 0 for all.
    """
    used_bytes = getsizeof(key) + SLOT_BYTES + value_bytes(db.peek(key), samples)
    expires_at_ms = db.expires_at_ms(key)
    if expires_at_ms is not None:
        used_bytes += SLOT_BYTES + getsizeof(expires_at_ms)
    return used_bytes


def value_bytes(value: Any, samples: int) -> int:
    """What a value costs; `samples` elements are looked at, 0 for all. O(samples)."""
    if isinstance(value, (bytes, bytearray)):  # strings, and packed collections
        return getsizeof(value)
    elements: Iterable[Any] = value
    if type(value) is HashValue:
        elements = value.items()
    elif type(value) is Stream:
        elements = value.entries
    seen = list(islice(elements, samples or None))
    if not seen:
        return getsizeof(value)
    count = value.length if type(value) is Stream else len(value)
    return getsizeof(value) + sum(map(_element_bytes, seen)) * count // len(seen)


def _element_bytes(element: Any) -> int:
    if type(element) is bytes:
        return getsizeof(element) + SLOT_BYTES
    return SLOT_BYTES + sum(
        sum(map(getsizeof, part)) if type(part) in (list, tuple) else getsizeof(part)
        for part in element
    )
