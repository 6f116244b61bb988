"""The commands as rules name them: a bit for each, and masks for the categories.

A set of commands is an int. Bit 0, FUTURE, belongs to no command: `+@all` sets it and only `-@all`
takes it away, which tells a user who may do everything but some from one who may do only some.
Every command and subcommand has a bit of its own, given when it is declared (`Command.acl_bit`).

Rules know commands by the names they were declared with, whatever rename-command made of them.

Source: Redis 7.0 acl.c (ACLGetCommandID, ACLSetSelectorCommandBitsForCategory, ACLLookupCommand).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kvrepl.engine.introspection import ACL_CATEGORIES, walk
from kvrepl.engine.spec import Command

FUTURE: Final = 1


class Catalog:
    """The commands of one engine.

    Args:
        commands: the command table, by name.

    Attributes:
        commands: the commands, containers before their subcommands follow inside them.
        everything: all bits, FUTURE among them.
        members: category -> the commands and subcommands that are in it.
        reach: category -> the same, and all subcommands of the containers that are in it: what
            `+@category` changes.
    """

    __slots__ = ("_by_name", "commands", "everything", "members", "reach")

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._by_name = commands
        self.commands = list(commands.values())
        self.everything = FUTURE
        self.members = dict.fromkeys(ACL_CATEGORIES, 0)
        self.reach = dict.fromkeys(ACL_CATEGORIES, 0)
        for command in walk(self.commands):
            whole = whole_of(command)
            self.everything |= command.acl_bit
            for category in command.acl:
                self.members[category] |= command.acl_bit
                self.reach[category] |= whole

    def find(self, name: bytes) -> Command | None:
        """The command that a rule names, as `get` or `config|get`, in any case. O(1)."""
        parent, bar, sub = name.lower().partition(b"|")
        command = self._by_name.get(parent.decode("latin-1"))
        return command.subcommands.get(sub) if bar and command is not None else command


def whole_of(command: Command) -> int:
    """The bits of a command and of all its subcommands."""
    bits = command.acl_bit
    for sub in command.subcommands.values():
        bits |= sub.acl_bit
    return bits
