"""What each command does, one family a file.

Importing this package registers every command with `kvrepl.engine.spec`. Families never import
each other; what two of them need stands in `kvrepl.commands.arguments` or below.
"""

from kvrepl.commands import replication, server, strings

__all__ = ["replication", "server", "strings"]
