"""Transactions: MULTI queues, WATCH makes EXEC conditional, EXEC runs.

While the gate MULTI is raised, `kvrepl.engine.admission` queues what comes in; a request that it
refuses spoils the transaction. What EXEC propagates is wrapped by `kvrepl.engine.propagation`,
which sees one top-level command with many operations; EXEC itself is never sent.

A watched key spoils the transaction when it changes, and when it expires. A key that had expired
before it was watched counts as missing: that it is then removed is no change.

Source: Redis 7.0 multi.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import admission, gates
from kvrepl.engine.spec import command
from kvrepl.errors import CommandError
from kvrepl.resp import encode
from kvrepl.resp.values import NO_REPLY, NULL_ARRAY, OK, Encoded, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

NESTED: Final = CommandError(b"ERR MULTI calls can not be nested")
EXEC_WITHOUT: Final = CommandError(b"ERR EXEC without MULTI")
DISCARD_WITHOUT: Final = CommandError(b"ERR DISCARD without MULTI")
WATCH_INSIDE: Final = CommandError(b"ERR WATCH inside MULTI is not allowed")
ABORTED: Final = CommandError(b"EXECABORT Transaction discarded because of previous errors.")


@command("multi", 1, "noscript loading stale fast allow_busy", acl="transaction")
def multi(c: Client, argv: list[bytes]) -> Reply:
    """Mark the start of a transaction block. O(1)."""
    if c.queued is not None:
        raise NESTED
    c.queued = []
    c.raise_gate(gates.MULTI)
    return OK


@command("exec", 1, "noscript loading stale skip_slowlog", acl="transaction")
def exec_(c: Client, argv: list[bytes]) -> Reply:
    """Execute all commands queued since MULTI. O(commands) and what each of them costs.

    Propagates: what its commands propagate, between MULTI and EXEC where that is more than one.
    """
    queued, queued_bytes = c.queued, c.queued_bytes
    if queued is None:
        raise EXEC_WITHOUT
    engine = c.engine
    spoiled = c.dirty_exec
    changed = c.dirty_cas or _watched_expired(c)
    admission.discard(engine, c)
    if spoiled:
        raise ABORTED
    if changed:
        return NULL_ARRAY
    # Encoded one by one: a value may be changed in place, and the protocol be switched, by the
    # commands that follow. What a command writes by itself (SUBSCRIBE) stands where it ran.
    parts: list[Any] = [b"*%d\r\n" % len(queued)]
    out = c.out
    mark = len(out)
    engine.depth += 1
    engine.tracking.inside = c
    c.queued, c.queued_bytes = queued, queued_bytes  # CLIENT LIST and ACL LOG tell of them
    try:
        for each, arguments in queued:
            reply: Reply = None
            if c.gates & gates.ACL:
                reply = engine.acl.refusal_in_exec(c, each, arguments)
            if reply is None:
                reply = engine.call(c, each, arguments)
            else:
                engine.stats.error(reply)
            if len(out) > mark:
                parts += out[mark:]
                del out[mark:]
            if reply is not NO_REPLY:
                parts.append(reply if c.is_master else encode(reply, c.resp))
            if engine.gates & gates.MONITORED:
                admission.feed_monitors(engine, c, each, arguments)
        parts += out[mark:]
        del out[mark:]
    finally:
        c.queued, c.queued_bytes = None, 0
        engine.depth -= 1
        engine.tracking.inside = None
        engine.propagation.nothing()
    return parts[1:] if c.is_master else Encoded(b"".join(parts))


def _watched_expired(c: Client) -> bool:
    return any(not expired and db.is_overdue(key) for (db, key), expired in c.watching.items())


@command("discard", 1, "noscript loading stale fast allow_busy", acl="transaction")
def discard(c: Client, argv: list[bytes]) -> Reply:
    """Discard all commands queued since MULTI. O(commands)."""
    if c.queued is None:
        raise DISCARD_WITHOUT
    admission.discard(c.engine, c)
    return OK


@command(
    "watch", -2, "noscript loading stale fast allow_busy", keys=["RO @1..-1"], acl="transaction"
)
def watch(c: Client, argv: list[bytes]) -> Reply:
    """Watch the given keys to decide whether the next EXEC runs. O(keys)."""
    if c.queued is not None:
        raise WATCH_INSIDE
    if c.dirty_cas:
        return OK  # EXEC will not run, whatever else is watched
    db = c.db
    for key in argv[1:]:
        if (db, key) not in c.watching:
            c.watching[db, key] = db.is_overdue(key)
            db.watched.setdefault(key, set()).add(c)
    return OK


@command("unwatch", 1, "noscript loading stale fast allow_busy", acl="transaction")
def unwatch(c: Client, argv: list[bytes]) -> Reply:
    """Forget all watched keys. O(keys watched)."""
    c.engine.unwatch(c)
    return OK
