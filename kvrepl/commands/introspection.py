"""COMMAND: the command table, told to clients.

Rendered by `kvrepl.engine.introspection` from the metadata that stands beside each handler.

Source: Redis 7.0 server.c (commandCommand and its subcommands).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvrepl import glob
from kvrepl.engine import introspection
from kvrepl.engine.command_docs import docs
from kvrepl.engine.spec import Command, KeyAt, command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

INVALID_COMMAND: Final = CommandError(b"ERR Invalid command specified")
INVALID_COUNT: Final = CommandError(b"ERR Invalid number of arguments specified for command")
INVALID_ARGUMENTS: Final = CommandError(b"ERR Invalid arguments specified for command")
NO_KEYS: Final = CommandError(b"ERR The command has no key arguments")

_UNORDERED: Final = ["nondeterministic_output_order"]


@command("command", -1, "loading stale", acl="connection", tips=_UNORDERED)
def command_(c: Client, argv: list[bytes]) -> Reply:
    """Get details about all commands. O(commands)."""
    return list(map(introspection.info, c.engine.commands.values()))


@command("command|count", 2, "loading stale", acl="connection")
def command_count(c: Client, argv: list[bytes]) -> Reply:
    """Count the commands, subcommands not included. O(1)."""
    return len(c.engine.commands)


@command("command|info", -2, "loading stale", acl="connection", tips=_UNORDERED)
def command_info(c: Client, argv: list[bytes]) -> Reply:
    """Get details about some commands, or all. O(commands)."""
    if len(argv) == 2:
        return list(map(introspection.info, c.engine.commands.values()))
    return [found and introspection.info(found) for found in _named(c, argv)]


@command("command|docs", -2, "loading stale", acl="connection", tips=_UNORDERED)
def command_docs(c: Client, argv: list[bytes]) -> Reply:
    """Get documentary information about some commands, or all. O(commands)."""
    some = _named(c, argv) if len(argv) > 2 else c.engine.commands.values()
    return {found.name.encode(): docs(found) for found in some if found}


def _named(c: Client, argv: list[bytes]) -> list[Command | None]:
    """The commands that arguments name as "get" or "config|get", None for one unknown."""
    found = []
    for name in argv[2:]:
        parent, bar, sub = name.partition(b"|")
        each = c.engine.find(parent)
        if bar and each is not None:
            each = each.subcommands.get(sub.lower())
        found.append(each)
    return found


@command("command|list", -2, "loading stale", acl="connection", tips=_UNORDERED)
def command_list(c: Client, argv: list[bytes]) -> Reply:
    """List the names of commands and subcommands, with FILTERBY those of a kind. O(commands)."""
    everything = introspection.walk(list(c.engine.commands.values()))
    if len(argv) == 2:
        return [each.name.encode() for each in everything]
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise SYNTAX
    value = argv[4]
    match argv[3].upper():
        case b"MODULE":
            return []
        case b"ACLCAT":
            category = value.decode("latin-1").lower()
            return [each.name.encode() for each in everything if category in each.acl]
        case b"PATTERN":
            matches = glob.compile(value, nocase=True)
            return [name for each in everything if matches(name := each.name.encode())]
    raise SYNTAX


@command("command|getkeys", -4, "loading stale", acl="connection")
def command_getkeys(c: Client, argv: list[bytes]) -> Reply:
    """Extract the keys from a command. O(arguments)."""
    return [argv[2 + key.position] for key in _keys_of(c, argv[2:])]


@command("command|getkeysandflags", -4, "loading stale", acl="connection")
def command_getkeysandflags(c: Client, argv: list[bytes]) -> Reply:
    """Extract the keys and what is done with them from a command. O(arguments)."""
    return [
        [argv[2 + key.position], introspection.key_flags(key.flags)]
        for key in _keys_of(c, argv[2:])
    ]


def _keys_of(c: Client, request: list[bytes]) -> Sequence[KeyAt]:
    called = c.engine.resolve(request)
    if called is None:
        raise INVALID_COMMAND
    if not introspection.has_keys(called):
        raise NO_KEYS
    if not called.least <= len(request) <= called.most:
        raise INVALID_COUNT
    keys = introspection.find_keys(called, request)
    if not keys:
        if "no_mandatory_keys" in called.flags:
            return []
        raise INVALID_ARGUMENTS
    return keys


@command("command|help", 2, "loading stale", acl="connection")
def command_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return introspection.help_lines(
        "COMMAND",
        ("(no subcommand)", "Details about all commands."),
        ("COUNT", "The number of commands."),
        ("LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <value>]", "The names of the commands."),
        ("INFO [<command-name> ...]", "Details about commands; all, where none is named."),
        ("DOCS [<command-name> ...]", "Documentation of commands; all, where none is named."),
        ("GETKEYS <full-command>", "The keys that a command names."),
        ("GETKEYSANDFLAGS <full-command>", "The same, with what is done with each."),
    )
