"""Packed values: collections as the bytes that they have in an RDB file, until they are touched.

A small collection costs several times as many bytes as Python objects than as the packed form of
Redis, and most of a dataset is cold. So what is loaded is kept as it stands in the file
(rdb.Packed, which is checked as it is read) and unpacked by the accessors of
`kvrepl.keyspace.database` when a command first asks for it.

The class of a packed value tells its type and its encoding, and unpacking keeps both: a threshold
that was changed meanwhile is looked at by the next write, as it is for every collection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvrepl.datatypes.hashes import HashValue
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.lists import ListValue
from kvrepl.datatypes.records import load_stream
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet
from rdb import constants as c
from rdb.packed import Packed
from rdb.values import decode_packed

ENCODINGS: Final[dict[int, bytes]] = {
    c.TYPE_LIST_QUICKLIST_2: b"quicklist",
    c.TYPE_SET: b"hashtable",
    c.TYPE_SET_INTSET: b"intset",
    c.TYPE_HASH: b"hashtable",
    c.TYPE_HASH_LISTPACK: b"listpack",
    c.TYPE_ZSET_2: b"skiplist",
    c.TYPE_ZSET_LISTPACK: b"listpack",
    c.TYPE_STREAM_LISTPACKS_2: b"stream",
}
"""What OBJECT ENCODING answers, by type code."""


def unpack(value: Packed, limits: Limits) -> Any:
    """Make the collection that a packed value stands for.

    Args:
        value: what was loaded.
        limits: the server's thresholds, which the collection will look at.

    Cost: O(size).
    """
    return _UNPACK[value.type_code](limits, decode_packed(value))


def _hash(limits: Limits, flat: list[bytes], packed: bool) -> HashValue:
    pairs = iter(flat)
    return HashValue.of_entries(limits, dict(zip(pairs, pairs, strict=True)), packed)


_UNPACK: Final[dict[int, Callable[[Limits, Any], Any]]] = {
    c.TYPE_LIST_QUICKLIST_2: ListValue,
    c.TYPE_SET: lambda limits, plain: SetValue.of_table(limits, dict.fromkeys(plain)),
    c.TYPE_SET_INTSET: lambda limits, plain: SetValue.of_integers(limits, list(map(int, plain))),
    c.TYPE_HASH: lambda limits, plain: _hash(limits, plain, False),
    c.TYPE_HASH_LISTPACK: lambda limits, plain: _hash(limits, plain, True),
    c.TYPE_ZSET_2: lambda limits, plain: SortedSet.of_scores(limits, dict(plain), False),
    c.TYPE_ZSET_LISTPACK: lambda limits, plain: SortedSet.of_scores(limits, dict(plain), True),
    c.TYPE_STREAM_LISTPACKS_2: lambda limits, plain: load_stream(plain),
}
