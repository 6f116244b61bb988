"""A client in words: its class, and its line of CLIENT LIST, which ACL LOG shows too.

Source: Redis 7.0 networking.c (catClientInfoString, getClientType).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.engine import gates
from kvrepl.engine.tracking import redirected_to

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

NORMAL: Final = b"normal"
REPLICA: Final = b"replica"
PUBSUB: Final = b"pubsub"
MASTER: Final = b"master"
CLASSES: Final = (NORMAL, REPLICA, PUBSUB, MASTER)

CLIENT_BYTES: Final = 2048
"""What a connection costs here besides its buffers: the Client, its Connection, the transport."""
NAME_BYTES: Final = 128
"""What a subscription, a watched key or a tracked prefix costs: its places in dicts."""


def memory_bytes(client: Client, query_bytes: int, output_bytes: int) -> int:
    """What a client costs: itself, its names, its requests, its output. O(1).

    Args:
        client: who.
        query_bytes: of requests that were not run yet.
        output_bytes: of replies that it has not taken yet.

    Source: networking.c (getClientMemoryUsage).
    """
    names = client.subscriptions() + len(client.shard_channels) + len(client.watching)
    if client.tracking is not None:
        names += len(client.tracking.prefixes)
    return CLIENT_BYTES + names * NAME_BYTES + query_bytes + client.queued_bytes + output_bytes


def class_of(client: Client) -> bytes:
    """The class of a client, as CLIENT LIST TYPE and CLIENT KILL TYPE select it."""
    if client.is_master:
        return MASTER
    if client.is_replica:
        return REPLICA
    return PUBSUB if client.gates & gates.PUBSUB else NORMAL


def user_of(client: Client) -> bytes:
    """The name of a client's user."""
    return b"(superuser)" if client.user is None else client.user.name


def _flags_of(client: Client) -> bytes:
    """The letters of a client's state, in Redis's order; N for none."""
    tracking = client.tracking
    letters = (
        (client.is_monitor, b"O"),
        (client.is_replica, b"S"),
        (client.is_master, b"M"),
        (client.gates & gates.PUBSUB, b"P"),
        (client.queued is not None, b"x"),
        (client.wait is not None, b"b"),
        (tracking is not None, b"t"),
        (tracking is not None and tracking.broken, b"R"),
        (tracking is not None and tracking.bcast, b"B"),
        (client.dirty_cas, b"d"),
        (client.asked_close, b"c"),
        (client.laddr.endswith(b":0"), b"U"),
        (client.no_evict, b"e"),
    )
    return b"".join(letter for holds, letter in letters if holds) or b"N"


def told(client: Client) -> str:
    """A client as the log tells of it: its line of CLIENT LIST, printable."""
    return describe(client).decode(errors="backslashreplace")


def describe(client: Client) -> bytes:
    """A line of CLIENT LIST. The sizes are what they are here; the fields are Redis's."""
    engine = client.engine
    host = engine.host
    now_ms = engine.keyspace.now_ms
    query, output = host.query_bytes(client), host.output_bytes(client)
    queued = client.queued
    last = client.last_command
    return (
        b"id=%d addr=%b laddr=%b fd=%d name=%b age=%d idle=%d flags=%b db=%d sub=%d psub=%d"
        b" ssub=%d multi=%d qbuf=%d qbuf-free=0 argv-mem=0 multi-mem=%d rbs=0 rbp=0 obl=0"
        b" oll=%d omem=%d tot-mem=%d events=%b cmd=%b user=%b redir=%d resp=%d"
    ) % (
        client.id,
        client.addr,
        client.laddr,
        host.fd(client),
        client.name,
        max(now_ms - client.created_ms, 0) // 1000,
        max(now_ms - client.last_interaction_ms, 0) // 1000,
        _flags_of(client),
        client.db.index,
        len(client.channels),
        len(client.patterns),
        len(client.shard_channels),
        -1 if queued is None else len(queued),
        query,
        client.queued_bytes,
        1 if output else 0,
        output,
        memory_bytes(client, query, output),
        b"rw" if output else b"r",
        b"NULL" if last is None else last.name.encode(),
        user_of(client),
        redirected_to(client),
        client.resp,
    )
