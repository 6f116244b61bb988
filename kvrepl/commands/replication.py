"""Replication, as commands: roles, the replica's side of the protocol, WAIT.

Each only reads its arguments; what happens is decided in kvrepl.replication, behind the host.

Source: Redis 7.0 replication.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import integer
from kvrepl.engine.spec import command
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

TIMEOUT: Final = CommandError(b"ERR timeout is not an integer or out of range")
TIMEOUT_NEGATIVE: Final = CommandError(b"ERR timeout is negative")
INVALID_PORT: Final = CommandError(b"ERR Invalid master port")


def _replicaof(c: Client, argv: list[bytes]) -> Reply:
    if argv[1].lower() == b"no" and argv[2].lower() == b"one":
        return c.engine.host.replicaof(c, None, 0)
    port = integer(argv[2], INVALID_PORT)
    if not 0 <= port <= 65535:
        raise INVALID_PORT
    with c.engine.blaming(argv):
        return c.engine.host.replicaof(c, argv[1], port)


@command("replicaof", 3, "admin noscript stale no_async_loading")
def replicaof(c: Client, argv: list[bytes]) -> Reply:
    """Make the server a replica of another instance, or promote it as master. O(1)."""
    return _replicaof(c, argv)


@command("slaveof", 3, "admin noscript stale no_async_loading")
def slaveof(c: Client, argv: list[bytes]) -> Reply:
    """Make the server a replica of another instance, or promote it as master. O(1)."""
    return _replicaof(c, argv)


@command("replconf", -1, "admin noscript loading stale allow_busy")
def replconf(c: Client, argv: list[bytes]) -> Reply:
    """Configure or acknowledge the replication stream; used between servers. O(1)."""
    return c.engine.host.replconf(c, argv)


@command("psync", -3, "admin noscript no_async_loading no_multi")
def psync(c: Client, argv: list[bytes]) -> Reply:
    """Start or resume replication; used between servers."""
    return c.engine.host.psync(c, argv)


@command("sync", 1, "admin noscript no_async_loading no_multi")
def sync(c: Client, argv: list[bytes]) -> Reply:
    """Start replication; used between servers."""
    return c.engine.host.psync(c, argv)


@command("role", 1, "noscript loading stale fast", acl="admin dangerous")
def role(c: Client, argv: list[bytes]) -> Reply:
    """Return the role of the instance in the context of replication. O(replicas)."""
    return c.engine.host.role()


@command(
    "wait",
    3,
    "noscript",
    acl="connection",
    tips=["request_policy:all_shards", "response_policy:agg_min"],
)
def wait(c: Client, argv: list[bytes]) -> Reply:
    """Wait for the synchronous replication of all the write commands sent so far. O(1)."""
    wanted = integer(argv[1])
    timeout_ms = integer(argv[2], TIMEOUT)
    if timeout_ms < 0:
        raise TIMEOUT_NEGATIVE
    return c.engine.host.wait(c, wanted, timeout_ms)


@command("failover", -1, "admin noscript stale")
def failover(c: Client, argv: list[bytes]) -> Reply:
    """Start a coordinated failover between this server and one of its replicas. O(1)."""
    return c.engine.host.failover(c, argv)
