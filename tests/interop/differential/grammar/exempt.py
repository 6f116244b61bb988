"""The commands that random sequences leave out, and what shows them instead."""

from __future__ import annotations

from typing import Final

EXEMPT: Final[dict[str, str]] = {
    "bgrewriteaof": "the answer to a second one is a matter of time: test_aof_folders.py",
    "client|info": "tells of the connection itself",
    "info": "tells of the process",
    "memory|doctor": "tells of the process",
    "memory|malloc-stats": "tells of the allocator",
    "memory|stats": "tells of the process",
    "latency|doctor": "tells of the process",
    "role": "tells of replicas and their ports: test_topologies.py",
    "psync": "turns the client into a replica: test_full_sync.py and all of replication",
    "sync": "turns the client into a replica: test_full_sync.py",
    "monitor": "turns the client into a listener: tests/unit/commands/test_connection.py",
    "pfselftest": "a long test of Redis's own code",
    "script|debug": "begins a debugger that takes over the connection",
}
