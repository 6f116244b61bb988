"""ACL: what can be said of the one user there is, `default`, who may do everything.

Source: Redis 7.0 acl.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvrepl.engine.introspection import ACL_CATEGORIES, help_lines, walk, wrong_subcommand
from kvrepl.engine.spec import command, container
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

container("acl", summary="A container for Access List Control commands")


@command("acl|whoami", 2, "noscript loading stale")
def acl_whoami(c: Client, argv: list[bytes]) -> Reply:
    """Get the name of the user of the current connection. O(1)."""
    return b"default" if c.user is None else c.user.name


@command("acl|users", 2, "admin noscript loading stale")
def acl_users(c: Client, argv: list[bytes]) -> Reply:
    """List the names of the users. O(users)."""
    return [b"default"]


@command("acl|cat", -2, "noscript loading stale")
def acl_cat(c: Client, argv: list[bytes]) -> Reply:
    """List the categories, or the commands of one. O(commands)."""
    if len(argv) == 2:
        return [name.encode() for name in ACL_CATEGORIES]
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    category = argv[2].decode("latin-1").lower()
    if category not in ACL_CATEGORIES:
        raise CommandError(b"ERR Unknown category '%b'" % argv[2])
    commands = walk(list(c.engine.commands.values()))
    return [each.name.encode() for each in commands if category in each.acl]


@command("acl|help", 2, "loading stale")
def acl_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "ACL",
        ("CAT [<category>]", "The categories of commands, or the commands of one."),
        ("USERS", "The names of the users."),
        ("WHOAMI", "The user of this connection."),
    )
