"""What each command does, one family a file.

Importing this package registers every command with `kvrepl.engine.spec`. Families never import
each other; what two of them need stands in `kvrepl.commands.arguments` or below.
"""

from kvrepl.commands import (
    clients,
    connection,
    expiry,
    hashes,
    introspection,
    keys,
    lists,
    pubsub,
    replication,
    scan,
    server,
    sets,
    sortedsets,
    sortedsets_algebra,
    sortedsets_ranges,
    strings,
    transactions,
)

__all__ = [
    "clients",
    "connection",
    "expiry",
    "hashes",
    "introspection",
    "keys",
    "lists",
    "pubsub",
    "replication",
    "scan",
    "server",
    "sets",
    "sortedsets",
    "sortedsets_algebra",
    "sortedsets_ranges",
    "strings",
    "transactions",
]
