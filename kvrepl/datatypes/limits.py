"""The thresholds at which a collection changes its encoding.

One `Limits` object is shared by every collection of a server, so that CONFIG SET is one
assignment. A new threshold is looked at by the next write to a collection; nothing is converted
at the moment of the change, and no collection ever goes back to its small encoding.

Source: config.c of Redis 7.0 (standardConfig table, names and defaults).
"""

from __future__ import annotations

from typing import Final

MAX_INTSET_ENTRIES: Final = 1 << 30
"""Above this an intset is given up whatever the setting says (t_set.c, setTypeAdd)."""


class Limits:
    """The settings named `list-*`, `hash-*`, `set-*` and `zset-*`; each attribute is one setting.

    Attributes:
        list_max_listpack_size: nodes of a list in an RDB file; > 0 elements, -1..-5 is 4..64 KiB.
        hash_max_listpack_entries: fields a listpack hash may hold.
        hash_max_listpack_value: bytes of its longest field or value.
        zset_max_listpack_entries: members a listpack sorted set may hold.
        zset_max_listpack_value: bytes of its longest member.
        set_max_intset_entries: members an intset may hold.
    """

    __slots__ = (
        "hash_max_listpack_entries",
        "hash_max_listpack_value",
        "list_max_listpack_size",
        "set_max_intset_entries",
        "zset_max_listpack_entries",
        "zset_max_listpack_value",
    )

    def __init__(self) -> None:
        self.list_max_listpack_size = -2
        self.hash_max_listpack_entries = 512
        self.hash_max_listpack_value = 64
        self.zset_max_listpack_entries = 128
        self.zset_max_listpack_value = 64
        self.set_max_intset_entries = 512
