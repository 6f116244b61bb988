"""Cluster mode, which does not exist here: its commands are known, and say so.

Source: Redis 7.0 cluster.c; the metadata is what a server with cluster-enabled no has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.engine.spec import command, container
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

DISABLED: Final = CommandError(b"ERR This instance has cluster support disabled")

_CHANGES: Final = "admin stale no_async_loading"
_VARIES: Final = ("nondeterministic_output",)

SUBCOMMANDS: Final[tuple[tuple[str, int, str, tuple[str, ...]], ...]] = (
    ("addslots", -3, _CHANGES, ()),
    ("addslotsrange", -4, _CHANGES, ()),
    ("bumpepoch", 2, _CHANGES, _VARIES),
    ("count-failure-reports", 3, "admin stale", _VARIES),
    ("countkeysinslot", 3, "stale", ()),
    ("delslots", -3, _CHANGES, ()),
    ("delslotsrange", -4, _CHANGES, ()),
    ("failover", -2, _CHANGES, ()),
    ("flushslots", 2, _CHANGES, ()),
    ("forget", 3, _CHANGES, ()),
    ("getkeysinslot", 4, "stale", _VARIES),
    ("help", 2, "loading stale", ()),
    ("info", 2, "stale", _VARIES),
    ("keyslot", 3, "stale", ()),
    ("links", 2, "stale", _VARIES),
    ("meet", -4, _CHANGES, ()),
    ("myid", 2, "stale", ()),
    ("nodes", 2, "stale", _VARIES),
    ("replicas", 3, "admin stale", _VARIES),
    ("replicate", 3, _CHANGES, ()),
    ("reset", -2, "admin noscript stale", ()),
    ("saveconfig", 2, _CHANGES, ()),
    ("set-config-epoch", 3, _CHANGES, ()),
    ("setslot", -4, _CHANGES, ()),
    ("shards", 2, "stale", _VARIES),
    ("slaves", 3, "admin stale", _VARIES),
    ("slots", 2, "stale", _VARIES),
)
"""Name, arity, flags, tips."""


def _disabled(c: Client, argv: list[bytes]) -> Reply:
    """Refused: cluster mode does not exist here."""
    raise DISABLED


container("cluster", summary="A container for cluster commands")
for _name, _arity, _flags, _tips in SUBCOMMANDS:
    command(f"cluster|{_name}", _arity, _flags, tips=_tips)(_disabled)


@command("asking", 1, "fast", acl="connection")
def asking(c: Client, argv: list[bytes]) -> Reply:
    """Go on after an -ASK redirection; needs cluster mode. O(1)."""
    raise DISABLED


@command("readonly", 1, "loading stale fast", acl="connection")
def readonly(c: Client, argv: list[bytes]) -> Reply:
    """Enable reading from a replica of a cluster; needs cluster mode. O(1)."""
    raise DISABLED


@command("readwrite", 1, "loading stale fast", acl="connection")
def readwrite(c: Client, argv: list[bytes]) -> Reply:
    """Disable reading from a replica of a cluster; needs cluster mode. O(1)."""
    raise DISABLED
