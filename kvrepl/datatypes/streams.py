"""Streams: entries in the order of their ids, and the groups of consumers that read them.

    StreamValue
      nodes      node, node, ... node, tail        see kvrepl.datatypes.stream_nodes
      groups     name -> Group
                   pending     id -> Pending, and the ids in order
                   consumers   name -> Consumer     each with the ids that it owes, in order

All nodes but the tail are packed. The tail is open, so that XADD appends and readers of news
decode nothing; besides it the node that was looked at last stays open, so that reading on in
small steps unpacks each node once. A node goes when its last entry is deleted.

Invariants:
- ids ascend from node to node; only the tail may never have held an entry.
- `length` is the sum of the nodes' `count`; `last_id` is never below an entry.
- Group.pending[i].consumer.pending holds i, and nobody else's does.

Source: Redis 7.0 t_stream.c, stream.h.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, Final

from sortedcontainers import SortedList

from kvrepl.datatypes.stream_nodes import (
    MAX_ID,
    MAX_NODE_BYTES,
    MIN_ID,
    NODE_BYTES,
    NODE_ENTRIES,
    Entry,
    Node,
    StreamId,
    next_id,
    radix_nodes,
)

UNKNOWN: Final = -1
"""A number of entries read that cannot be told (SCG_INVALID_ENTRIES_READ)."""

_first_id = attrgetter("first_id")


# ------------------------------------------------------------------------ groups


class Consumer:
    """One reader of a group.

    Attributes:
        name: as it calls itself.
        seen_ms: Unix time at which it last read or claimed, or tried to.
        pending: ids of the entries that it has not acknowledged, ascending.
    """

    __slots__ = ("name", "pending", "seen_ms")

    def __init__(self, name: bytes, seen_ms: int) -> None:
        self.name = name
        self.seen_ms = seen_ms
        self.pending: Any = SortedList()


class Pending:
    """An entry that was delivered and not acknowledged.

    Attributes:
        consumer: who owes the acknowledgement; None only in files of broken servers.
        delivered_at_ms: Unix time of the last delivery.
        deliveries: how often it was delivered.
    """

    __slots__ = ("consumer", "delivered_at_ms", "deliveries")

    def __init__(self, consumer: Consumer | None, delivered_at_ms: int, deliveries: int) -> None:
        self.consumer = consumer
        self.delivered_at_ms = delivered_at_ms
        self.deliveries = deliveries

    @property
    def owner(self) -> bytes:
        """The name of the consumer, empty where there is none."""
        return b"" if self.consumer is None else self.consumer.name


class Group:
    """Consumers that share the entries of a stream among them.

    Attributes:
        last_id: the last entry delivered to any of them.
        entries_read: how many entries there were up to that one, or UNKNOWN.
        consumers: by name.
        pending: id -> Pending; changed by the methods only.
    """

    __slots__ = ("_order", "consumers", "entries_read", "last_id", "pending")

    def __init__(self, last_id: StreamId, entries_read: int = UNKNOWN) -> None:
        self.last_id = last_id
        self.entries_read = entries_read
        self.consumers: dict[bytes, Consumer] = {}
        self.pending: dict[StreamId, Pending] = {}
        self._order: Any = SortedList()

    def deliver(self, entry_id: StreamId, pending: Pending) -> None:
        """Note an entry that was not pending. O(log pending)."""
        assert entry_id not in self.pending
        self.pending[entry_id] = pending
        self._order.add(entry_id)
        if pending.consumer is not None:
            pending.consumer.pending.add(entry_id)

    def hand_over(self, entry_id: StreamId, consumer: Consumer) -> None:
        """Let another consumer (or the same) own a pending entry. O(log pending)."""
        pending = self.pending[entry_id]
        if pending.consumer is not consumer:
            if pending.consumer is not None:
                pending.consumer.pending.remove(entry_id)
            pending.consumer = consumer
            consumer.pending.add(entry_id)

    def settle(self, entry_id: StreamId) -> bool:
        """Forget a pending entry; False where it is none. O(log pending)."""
        pending = self.pending.pop(entry_id, None)
        if pending is None:
            return False
        self._order.remove(entry_id)
        if pending.consumer is not None:
            pending.consumer.pending.remove(entry_id)
        return True

    def remove_consumer(self, consumer: Consumer) -> int:
        """Forget a consumer with all that it owes; returns how much. O(n log pending)."""
        owed = len(consumer.pending)
        for entry_id in list(consumer.pending):
            self.settle(entry_id)
        del self.consumers[consumer.name]
        return owed

    def pending_ids(self, start: StreamId = MIN_ID, stop: StreamId = MAX_ID) -> Iterator[StreamId]:
        """The ids that are pending, from start to stop inclusive, ascending; lazily.

        Nothing may be delivered or settled meanwhile.
        """
        ids: Iterator[StreamId] = self._order.irange(start, stop)
        return ids

    def pending_bounds(self) -> tuple[StreamId, StreamId]:
        """The lowest and the highest id that is pending; there must be one. O(1)."""
        return self._order[0], self._order[-1]

    def sorted_consumers(self) -> list[Consumer]:
        """The consumers by name, as Redis lists them. O(n log n)."""
        return [self.consumers[name] for name in sorted(self.consumers)]

    def parts(self) -> list[Any]:
        """What it consists of, to be freed one by one; the group is used no more. O(consumers).

        The table of pending entries is freed first, in slices: what it holds is the most.
        """
        return [self._order, *(each.pending for each in self.consumers.values()), self.pending]

    def copy(self) -> Group:
        """A group that can be changed apart from this one. O(pending + consumers)."""
        twin = Group(self.last_id, self.entries_read)
        for name, consumer in self.consumers.items():
            twin.consumers[name] = Consumer(name, consumer.seen_ms)
        for entry_id, pending in self.pending.items():
            owner = twin.consumers[pending.owner] if pending.consumer is not None else None
            twin.deliver(entry_id, Pending(owner, pending.delivered_at_ms, pending.deliveries))
        return twin


# ----------------------------------------------------------------------- streams


class StreamValue:
    """A stream, which may be empty and still be there.

    As a container it is the sequence of its nodes: `len()` counts them, the tail always among
    them, and iterating gives (first id, packed bytes) of each. `length` counts the entries.

    Attributes:
        length: entries.
        last_id: the highest id ever given out.
        first_id: of the first entry; what a file said where there is none.
        max_deleted_id: the highest id that was deleted on its own, not by trimming.
        entries_added: how many entries there ever were.
        groups: by name.
    """

    __slots__ = (
        "_nodes", "_opened", "_radix", "_tail", "entries_added", "first_id", "groups", "last_id",
        "length", "max_deleted_id",
    )  # fmt: skip

    encoding: Final = b"stream"

    def __init__(self) -> None:
        self.length = 0
        self.last_id = self.first_id = self.max_deleted_id = MIN_ID
        self.entries_added = 0
        self.groups: dict[bytes, Group] = {}
        self._nodes: list[Node] = []
        self._tail = Node()
        self._opened: Node | None = None  # one of _nodes that is not packed
        self._radix: int | None = None  # cached radix_nodes()

    def __len__(self) -> int:
        return len(self._nodes) + 1

    def __iter__(self) -> Iterator[tuple[StreamId, bytes]]:
        for node in (*self._nodes, self._tail):
            yield node.first_id, node.packed()

    def parts(self) -> list[Any]:
        """What it consists of, to be freed one by one; the stream is used no more. O(parts)."""
        parts: list[Any] = [*self._nodes, self._tail]
        for group in self.groups.values():
            parts += group.parts()
        return parts

    def copy(self) -> StreamValue:
        """A stream that can be changed apart from this one. O(nodes + pending)."""
        twin = StreamValue()
        for name in ("length", "last_id", "first_id", "max_deleted_id", "entries_added"):
            setattr(twin, name, getattr(self, name))
        self._close()
        twin._nodes = [node.copy() for node in self._nodes]
        twin._tail = self._tail.copy()
        twin.groups = {name: group.copy() for name, group in self.groups.items()}
        return twin

    # ------------------------------------------------------------------ adding

    def append(
        self,
        entry_id: StreamId,
        fields: list[bytes],
        node_bytes: int = NODE_BYTES,
        node_entries: int = NODE_ENTRIES,
    ) -> None:
        """Add an entry with an id above `last_id`. O(fields).

        Args:
            entry_id: its id.
            fields: field, value, field, value ...; the stream keeps the list.
            node_bytes: stream-node-max-bytes, 0 for the most there can be.
            node_entries: stream-node-max-entries, 0 for no limit.
        """
        assert entry_id > self.last_id, "ids ascend"
        self.last_id = entry_id
        self.entries_added += 1
        self.add(entry_id, fields, node_bytes, node_entries)
        if self.length == 1:
            self.first_id = entry_id

    def add(
        self,
        entry_id: StreamId,
        fields: list[bytes],
        node_bytes: int = NODE_BYTES,
        node_entries: int = NODE_ENTRIES,
    ) -> None:
        """As `append`, with no counter but the length touched: what a file holds is put back."""
        max_bytes = node_bytes if 0 < node_bytes < MAX_NODE_BYTES else MAX_NODE_BYTES
        tail = self._tail
        if not tail.takes(fields, max_bytes, node_entries):
            tail.pack()
            self._nodes.append(tail)
            self._tail = tail = Node()
        if not tail.count + tail.deleted:
            self._radix = None
        tail.append(entry_id, fields)
        self.length += 1

    # ----------------------------------------------------------------- reading

    def range(
        self, start: StreamId = MIN_ID, stop: StreamId = MAX_ID, count: int = 0
    ) -> list[Entry]:
        """Entries from start to stop inclusive, ascending. O(log n + node + entries).

        Args:
            start, stop: bounds.
            count: return no more than this, 0 for all.
        """
        found: list[Entry] = []
        for at in range(self._index_of(start), len(self._nodes) + 1):
            node = self._node(at)
            if node.first_id > stop:
                break
            if node.last_id < start:
                continue
            entries = self._open(node)
            low, high = _span(entries, start, stop)
            if count:
                high = min(high, low + count - len(found))
            found += entries[low:high]
            if count and len(found) >= count:
                break
        return found

    def reverse_range(
        self, start: StreamId = MIN_ID, stop: StreamId = MAX_ID, count: int = 0
    ) -> list[Entry]:
        """Entries from stop down to start, both inclusive. O(log n + node + entries)."""
        found: list[Entry] = []
        for at in range(self._index_of(stop), -1, -1):
            node = self._node(at)
            if node.last_id < start and node.count + node.deleted:
                break
            entries = self._open(node)
            low, high = _span(entries, start, stop)
            if count:
                low = max(low, high - count + len(found))
            found += reversed(entries[low:high])
            if count and len(found) >= count:
                break
        return found

    def get(self, entry_id: StreamId) -> list[bytes] | None:
        """The fields and values of an entry, None where there is none. O(log n + node)."""
        found = self._locate(entry_id)
        return None if found is None else found[0].entries()[found[1]][1]

    def entries(self) -> Iterator[Entry]:
        """Every entry, ascending; the stream must not change meanwhile."""
        for at in range(len(self._nodes) + 1):
            yield from self._open(self._node(at))

    def top_id(self) -> StreamId:
        """The id of the last entry, MIN_ID where there is none. O(node)."""
        found = self.reverse_range(count=1)
        return found[0][0] if found else MIN_ID

    def oldest_place(self) -> StreamId:
        """The first id that takes a place, its entry deleted or not; MAX_ID in an empty stream."""
        first = self._node(0)
        return first.first_id if first.count + first.deleted else MAX_ID

    # ---------------------------------------------------------------- deleting

    def delete(self, entry_id: StreamId) -> bool:
        """Delete an entry; False where there is none. O(log n + node).

        `first_id` is brought up to date; `max_deleted_id` is raised.
        """
        found = self._locate(entry_id)
        if found is None:
            return False
        node, at = found
        node.remove(at, at + 1)
        self.length -= 1
        if not node.count:
            self._remove(node)
        self.max_deleted_id = max(self.max_deleted_id, entry_id)
        if not self.length:
            self.first_id = MIN_ID
        elif entry_id == self.first_id:
            self._find_first()
        return True

    def trim(
        self,
        *,
        max_length: int = 0,
        min_id: StreamId | None = None,
        whole_nodes: bool = False,
        limit: int = 0,
    ) -> int:
        """Delete entries from the start.

        Args:
            max_length: delete until so many are left; only where min_id is None.
            min_id: delete what has a lower id.
            whole_nodes: stop at the first node that cannot go as a whole.
            limit: stop before a node with which more than this would be deleted; 0 for no limit.

        Returns:
            How many entries were deleted. Cost: O(nodes removed + one node).
        """
        deleted = 0
        gone = 0
        nodes = len(self._nodes)
        while min_id is not None or self.length > max_length:
            if gone > nodes:
                break
            node = self._node(gone)
            if not node.count + node.deleted or (limit and deleted + node.count > limit):
                break
            if min_id is None:
                removable = self.length - node.count >= max_length
            else:
                removable = node.last_id < min_id
            if removable:
                self.length -= node.count
                deleted += node.count
                gone += 1
                continue
            if not whole_nodes:
                entries = self._open(node)
                if min_id is None:
                    some = self.length - max_length
                else:
                    some = bisect_left(entries, (min_id,))
                if some:
                    node.remove(0, some)
                    self.length -= some
                    deleted += some
            break
        self._drop_first(gone)
        if not self.length:
            self.first_id = MIN_ID
        elif deleted:
            self._find_first()
        return deleted

    # ---------------------------------------------------------------- counting

    def has_deleted_from(self, start: StreamId) -> bool:
        """Whether an entry from `start` on may have been deleted on its own. O(1).

        Source: streamRangeHasTombstones.
        """
        deleted = self.max_deleted_id
        return self.length > 0 and deleted != MIN_ID and start <= deleted

    def entries_up_to(self, entry_id: StreamId) -> int:
        """How many entries there ever were up to an id, or UNKNOWN. O(1).

        Known at the edges only: in an empty stream, at the last id, and up to the first entry
        where nothing was deleted from it on.

        Source: streamEstimateDistanceFromFirstEverEntry.
        """
        added = self.entries_added
        if not added:
            return 0
        if entry_id == self.last_id or (not self.length and entry_id < self.last_id):
            return added
        if entry_id > self.last_id:
            return UNKNOWN
        if self.max_deleted_id == MIN_ID or self.max_deleted_id < self.first_id:
            if entry_id < self.first_id:
                return added - self.length
            if entry_id == self.first_id:
                return added - self.length + 1
        return UNKNOWN

    def lag(self, group: Group) -> int | None:
        """How many entries a group has yet to read, None where it cannot be told. O(1).

        Source: streamReplyWithCGLag.
        """
        if not self.entries_added:
            return 0
        read = group.entries_read
        if read == UNKNOWN or self.has_deleted_from(group.last_id):
            read = self.entries_up_to(group.last_id)
        return None if read == UNKNOWN else self.entries_added - read

    def count_nodes(self) -> int:
        """Nodes that take a place: keys of Redis's radix tree. O(1)."""
        tail = self._tail
        return len(self._nodes) + (1 if tail.count + tail.deleted else 0)

    def radix_nodes(self) -> int:
        """How many nodes Redis's radix tree of the nodes has. O(nodes) when some came or went."""
        if self._radix is None:
            keys = [self._node(at).first_id for at in range(self.count_nodes())]
            self._radix = radix_nodes([ms << 64 | seq for ms, seq in keys])
        return self._radix

    # ------------------------------------------------------------------- nodes

    def _node(self, at: int) -> Node:
        return self._nodes[at] if at < len(self._nodes) else self._tail

    def _index_of(self, entry_id: StreamId) -> int:
        """The index of the node in which an id would have its place. O(log nodes)."""
        if self._tail.count + self._tail.deleted and entry_id >= self._tail.first_id:
            return len(self._nodes)
        return max(bisect_right(self._nodes, entry_id, key=_first_id) - 1, 0)

    def _locate(self, entry_id: StreamId) -> tuple[Node, int] | None:
        node = self._node(self._index_of(entry_id))
        entries = self._open(node)
        at = bisect_left(entries, (entry_id,))
        return (node, at) if at < len(entries) and entries[at][0] == entry_id else None

    def _open(self, node: Node) -> list[Entry]:
        """The entries of a node, which stays open until another one is opened."""
        if node is not self._tail and node is not self._opened:
            self._close()
            self._opened = node
        return node.entries()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.pack()
            self._opened = None

    def _remove(self, node: Node) -> None:
        """Take out a node without entries; the tail is followed by the node before it."""
        self._radix = None
        if self._opened is node:
            self._opened = None
        if node is not self._tail:
            self._nodes.remove(node)
        elif not self._nodes:
            self._tail = Node()
        else:
            self._tail = self._nodes.pop()
            self._tail.entries()
            if self._opened is self._tail:
                self._opened = None

    def _drop_first(self, count: int) -> None:
        """Take out nodes from the start."""
        if not count:
            return
        self._radix = None
        if self._opened is not None and self._opened in self._nodes[:count]:
            self._opened = None
        if count > len(self._nodes):
            self._tail = Node()
        del self._nodes[:count]

    def _find_first(self) -> None:
        self.first_id = self.range(count=1)[0][0]


def _span(entries: list[Entry], start: StreamId, stop: StreamId) -> tuple[int, int]:
    """The positions of the entries from start to stop: the first, and the one behind the last."""
    if not entries:
        return 0, 0
    low = 0 if entries[0][0] >= start else bisect_left(entries, (start,))
    if entries[-1][0] <= stop:
        return low, len(entries)
    above = next_id(stop)
    assert above is not None, "an entry is above stop"
    return low, max(low, bisect_left(entries, (above,)))
