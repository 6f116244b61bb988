"""What each command does, one family a file.

Importing this package registers every command with `kvrepl.engine.spec`. Families never import
each other; what two of them need stands in `kvrepl.commands.arguments` or below.
"""

from kvrepl.commands import (
    acl,
    clients,
    cluster,
    connection,
    diagnostics,
    expiry,
    hashes,
    inspect,
    introspection,
    keys,
    lists,
    modules,
    pubsub,
    replication,
    scan,
    server,
    sets,
    sort,
    sortedsets,
    sortedsets_algebra,
    sortedsets_ranges,
    streams,
    strings,
    transactions,
)

__all__ = [
    "acl",
    "clients",
    "cluster",
    "connection",
    "diagnostics",
    "expiry",
    "hashes",
    "inspect",
    "introspection",
    "keys",
    "lists",
    "modules",
    "pubsub",
    "replication",
    "scan",
    "server",
    "sets",
    "sort",
    "sortedsets",
    "sortedsets_algebra",
    "sortedsets_ranges",
    "streams",
    "strings",
    "transactions",
]
