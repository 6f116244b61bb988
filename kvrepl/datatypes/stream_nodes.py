"""The nodes of a stream: runs of entries, packed as in an RDB file, or open.

What Redis keeps under one key of its radix tree is one node here, and where one ends and the next
begins follows Redis's rule, for trimming with `~` goes by whole nodes. Packed, a node is one
listpack (its form is described in rdb.streams), an eighth of what the objects in it would take.

Deleting an entry takes it out of its node, but the node goes on to count it (`deleted`), to reach
as far as it did (`last_id`) and to be as large (`size_bytes`): all three decide where nodes end
and which of them a trim removes.

Invariants: ids ascend; first_id <= every entry <= last_id; count is the number of entries; a
packed form that is there says what the entries say.

Source: Redis 7.0 t_stream.c (streamAppendItem), stream.h; rax.c for `radix_nodes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rdb.blobs import listpack

StreamId = tuple[int, int]
"""(milliseconds, sequence number), each an unsigned 64-bit integer."""
Entry = tuple[StreamId, list[bytes]]
"""An id, and field, value, field, value ... Not to be changed."""

UINT64_MAX: Final = (1 << 64) - 1
MIN_ID: Final[StreamId] = (0, 0)
MAX_ID: Final[StreamId] = (UINT64_MAX, UINT64_MAX)

MAX_NODE_BYTES: Final = 1 << 30
"""No node, and no entry, is larger (STREAM_LISTPACK_MAX_SIZE)."""
NODE_BYTES: Final = 4096
NODE_ENTRIES: Final = 100

_ID_BYTES: Final = 16
_SAME_FIELDS: Final = b"2"


def next_id(of: StreamId) -> StreamId | None:
    """The id right above, None above the highest. O(1)."""
    ms, seq = of
    if seq < UINT64_MAX:
        return ms, seq + 1
    return (ms + 1, 0) if ms < UINT64_MAX else None


def previous_id(of: StreamId) -> StreamId | None:
    """The id right below, None below the lowest. O(1)."""
    ms, seq = of
    if seq:
        return ms, seq - 1
    return (ms - 1, UINT64_MAX) if ms else None


class Node:
    """Some entries that follow each other.

    Attributes:
        first_id: of the entry it began with; the others are stored relative to it.
        last_id: the highest id it ever held, deleted or not.
        count, deleted: entries that are there, and that were.
        fields: the names of the entry it began with; entries with the same need not repeat them.
        body_bytes: of its listpack, without what the two counters take.
    """

    __slots__ = (
        "_entries", "_packed", "body_bytes", "count", "deleted", "fields", "first_id", "last_id",
    )  # fmt: skip

    def __init__(self) -> None:
        self.first_id = self.last_id = MIN_ID
        self.count = self.deleted = 0
        self.fields: Sequence[bytes] = ()
        self.body_bytes = 0
        # At least one of the two is there. A packed form is dropped when the entries change.
        self._entries: list[Entry] | None = []
        self._packed: bytes | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def size_bytes(self) -> int:
        """What Redis's listpack of it takes, deleted entries included. O(1)."""
        return self.body_bytes + _integer_bytes(self.count) + _integer_bytes(self.deleted)

    def takes(self, fields: list[bytes], max_bytes: int, max_entries: int) -> bool:
        """Whether it is still to be appended to; one that never held anything is. O(fields)."""
        total = self.count + self.deleted
        if not total:
            return True
        if self.size_bytes + sum(map(len, fields)) >= max_bytes:
            return False
        return not max_entries or total < max_entries

    def append(self, entry_id: StreamId, fields: list[bytes]) -> None:
        """Add an entry behind all others. O(fields)."""
        entries = self.entries()
        names = fields[::2]
        if not self.count + self.deleted:
            self.first_id = entry_id
            self.fields = names
            self.body_bytes = listpack.HEADER_BYTES + 1 + 2 + _integer_bytes(len(names))
            self.body_bytes += _text_bytes(names)
        entries.append((entry_id, fields))
        self._packed = None
        self.last_id = entry_id
        self.count += 1
        ms, seq = self.first_id
        pairs = len(names)
        size = 2 + _integer_bytes(entry_id[0] - ms) + _integer_bytes(entry_id[1] - seq)
        if names == self.fields:
            size += _text_bytes(fields[1::2]) + _integer_bytes(pairs + 3)
        else:
            size += _integer_bytes(pairs) + _text_bytes(fields) + _integer_bytes(2 * pairs + 4)
        self.body_bytes += size

    def entries(self) -> list[Entry]:
        """Its entries, unpacked until `pack()`. O(1), O(entries) for one that is packed."""
        if self._entries is None:
            assert self._packed is not None
            self._entries = _unpack(self.first_id, self._packed)
        return self._entries

    def remove(self, start: int, stop: int) -> None:
        """Delete entries by position. O(entries)."""
        del self.entries()[start:stop]
        self._packed = None
        self.count -= stop - start
        self.deleted += stop - start

    def packed(self) -> bytes:
        """The packed form. O(1), O(bytes) where the node changed since it was asked for last."""
        if self._packed is None:
            self._packed = _pack(self)
        return self._packed

    def pack(self) -> None:
        """Keep only the packed form."""
        self.packed()
        self._entries = None

    def copy(self) -> Node:
        """A node that can be changed apart from this one. O(entries)."""
        twin = Node()
        for name in ("body_bytes", "count", "deleted", "fields", "first_id", "last_id", "_packed"):
            setattr(twin, name, getattr(self, name))
        twin._entries = None if self._entries is None else self._entries.copy()
        return twin


def _integer_bytes(number: int) -> int:
    """The size of a listpack entry that holds an integer; differences of ids wrap at 64 bits."""
    if 0 <= number <= 127:
        return 2
    if not -(1 << 63) <= number < 1 << 63:
        number = (number + (1 << 63) & UINT64_MAX) - (1 << 63)
    return len(listpack.encode_int_entry(number))


def _text_bytes(texts: Sequence[bytes]) -> int:
    return sum([len(listpack.encode_entry(text)) for text in texts])


def _difference(left: int, right: int) -> bytes:
    """A difference of unsigned 64-bit numbers as the signed one that Redis stores."""
    return b"%d" % ((left - right + (1 << 63) & UINT64_MAX) - (1 << 63))


def _pack(node: Node) -> bytes:
    """A node as the listpack described in rdb.streams; what was deleted is not in it."""
    ms, seq = node.first_id
    names = node.fields
    elements = [b"%d" % node.count, b"0", b"%d" % len(names), *names, b"0"]
    for entry_id, fields in node.entries():
        deltas = _difference(entry_id[0], ms), _difference(entry_id[1], seq)
        pairs = len(fields) // 2
        if fields[::2] == names:
            elements += (_SAME_FIELDS, *deltas, *fields[1::2], b"%d" % (pairs + 3))
        else:
            elements += (b"0", *deltas, b"%d" % pairs, *fields, b"%d" % (2 * pairs + 4))
    return listpack.encode(elements)


def _unpack(first_id: StreamId, packed: bytes) -> list[Entry]:
    elements = listpack.decode(packed)
    ms, seq = first_id
    width = int(elements[2])
    names = elements[3 : 3 + width]
    at = 4 + width
    size = len(elements)
    entries = []
    while at < size:
        entry_id = (ms + int(elements[at + 1]) & UINT64_MAX, seq + int(elements[at + 2]))
        if not 0 <= entry_id[1] <= UINT64_MAX:
            entry_id = (entry_id[0], entry_id[1] & UINT64_MAX)
        if elements[at] == _SAME_FIELDS:
            fields = names * 2  # of the right size; every place is written
            fields[::2] = names
            fields[1::2] = elements[at + 3 : at + 3 + width]
            at += width + 4
        else:
            end = at + 4 + 2 * int(elements[at + 3])
            fields = elements[at + 4 : end]
            at = end + 1
        entries.append((entry_id, fields))
    return entries


def radix_nodes(keys: list[int]) -> int:
    """How many nodes a compressed radix tree over ascending 128-bit keys has, as Redis makes it.

    n keys make n leaves; one node for each prefix at which keys part; and one for each run of
    bytes between two of those, and above the first. O(keys).
    """
    if not keys:
        return 1  # the root
    # Walk from key to key; `open_at` holds the depths at which the path to the last key parts.
    open_at: list[int] = []
    branches = runs = 0
    previous = keys[0]
    above = -1
    for key in keys[1:]:
        depth = _ID_BYTES - ((key ^ previous).bit_length() + 7) // 8
        previous = key
        below = _ID_BYTES
        while open_at and open_at[-1] >= depth:
            above = open_at.pop()
            runs += below > above + 1
            below = above
        if below != depth:
            # A new parting; the path that it cuts has its lower part counted here.
            runs += below > depth + 1
            branches += 1
        open_at.append(depth)
    below = _ID_BYTES
    while open_at:
        above = open_at.pop()
        runs += below > above + 1
        below = above
    return len(keys) + branches + runs + (below > 0)
