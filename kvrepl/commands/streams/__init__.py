"""Streams: a log of entries, and groups of consumers that share the reading of it.

    ids      how ids stand in requests and replies
    entries  XADD, XLEN, XRANGE, XREVRANGE, XDEL, XTRIM, XSETID
    reading  XREAD, XREADGROUP, and waiting for entries
    groups   XGROUP, XACK, XPENDING
    claims   XCLAIM, XAUTOCLAIM
    report   XINFO
    shared   what a group's commands have in common: looking it up, and how it is propagated

Commands that change groups are never sent on as they came: which entries a consumer gets depends
on the time and on who else reads. What they did to each entry is sent as one XCLAIM that says so.

WATCH does not see changes of groups, in Redis and here; `shared.regrouped` reports them.

Source: Redis 7.0 t_stream.c; blocked.c (serveClientsBlockedOnStreamKey).
"""

from kvrepl.commands.streams import claims, entries, groups, reading, report

__all__ = ["claims", "entries", "groups", "reading", "report"]
