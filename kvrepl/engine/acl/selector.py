"""A selector: one set of permissions, made by rules and told in rules.

    commands    +NAME -NAME +NAME|SUB -NAME|SUB +@CATEGORY -@CATEGORY
                +@all allcommands -@all nocommands     +NAME|FIRST-ARGUMENT
    keys        ~GLOB  %R~GLOB  %W~GLOB  %RW~GLOB  allkeys (~*)  resetkeys
    channels    &GLOB  allchannels (&*)  resetchannels

`describe` gives the rules that make the same selector again. Those of commands are found anew from
the bits: `+@all` or `-@all`, then as many categories as come close, then single commands; Redis
goes about it in the same way, but has the single commands in the order of a randomly seeded hash
table, where here it is that of the command table.

Source: Redis 7.0 acl.c (ACLSetSelector, ACLDescribeSelector, ACLDescribeSelectorCommandRules).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from kvrepl import glob
from kvrepl.engine.acl.catalog import FUTURE, Catalog, whole_of
from kvrepl.engine.introspection import ACL_CATEGORIES
from kvrepl.engine.spec import Command
from kvrepl.errors import KvreplError

READ: Final = 1
WRITE: Final = 2

_PREFIXES: Final = {READ | WRITE: b"~", READ: b"%R~", WRITE: b"%W~"}
_ACCESS: Final = {ord("R"): READ, ord("W"): WRITE}
_FORBIDDEN: Final = frozenset(b" \t\n\v\f\r\0")


class RuleError(KvreplError):
    """A rule is refused.

    Args:
        reason: why, in Redis's words.
    """

    def __init__(self, reason: bytes) -> None:
        super().__init__(reason.decode("utf-8", "backslashreplace"))
        self.reason = reason


class UnknownCommand(RuleError):
    """A rule names a command or a category that there is not."""

    def __init__(self) -> None:
        super().__init__(b"Unknown command or category name in ACL")


class BadRule(RuleError):
    """A rule cannot be read."""

    def __init__(self) -> None:
        super().__init__(b"Syntax error")


AFTER_ALL_KEYS: Final = (
    b"Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have"
    b" any effect. Try 'resetkeys' to start with an empty list of patterns"
)
AFTER_ALL_CHANNELS: Final = (
    b"Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not"
    b" have any effect. Try 'resetchannels' to start with an empty list of channels"
)
FIRST_ARGUMENT_OF_SUB: Final = b"Allowing first-arg of a subcommand is not supported"


class KeyPattern(NamedTuple):
    """What may be done with the keys that match: READ, WRITE or both; neither is no pattern."""

    access: int
    matches: glob.Matcher


def has_spaces(text: bytes) -> bool:
    """Whether a name or a pattern has a byte that rules and files could not be split at."""
    return not _FORBIDDEN.isdisjoint(text)


class Selector:
    """One set of permissions.

    Args:
        catalog: the commands that there are.
        all_channels: whether a fresh one may use every channel (acl-pubsub-default).

    Attributes:
        allowed: bits of the commands that may be run.
        first_args: bit of a command that is not allowed -> first arguments with which it is.
        all_keys, keys: every key, or those that match a glob, by glob.
        all_channels, channels: the same of channels.
    """

    __slots__ = (
        "all_channels", "all_keys", "allowed", "catalog", "channels", "first_args", "keys",
    )  # fmt: skip

    def __init__(self, catalog: Catalog, *, all_channels: bool) -> None:
        self.catalog = catalog
        self.allowed = 0
        self.first_args: dict[int, tuple[bytes, ...]] = {}
        self.all_keys = False
        self.keys: dict[bytes, KeyPattern] = {}
        self.all_channels = all_channels
        self.channels: dict[bytes, glob.Matcher] = {}

    def copy(self) -> Self:
        """Another one with the same permissions."""
        twin = type(self)(self.catalog, all_channels=self.all_channels)
        twin.allowed = self.allowed
        twin.first_args = dict(self.first_args)
        twin.all_keys = self.all_keys
        twin.keys = dict(self.keys)
        twin.channels = dict(self.channels)
        return twin

    @property
    def unrestricted(self) -> bool:
        """Whether nothing at all is denied."""
        return self.all_keys and self.all_channels and self.allowed == self.catalog.everything

    # ----------------------------------------------------------------- asking

    def allows(self, command: Command, argv: Sequence[bytes]) -> bool:
        """Whether the command may be run, whatever its keys. O(first arguments)."""
        if self.allowed & command.acl_bit or "no_auth" in command.flags:
            return True
        first = self.first_args.get(command.acl_bit)
        if first is None or len(argv) < 2:
            return False
        given = argv[1].lower()
        return any(given == each.lower() for each in first)

    def allows_key(self, key: bytes, access: int) -> bool:
        """Whether a key may be used. O(patterns).

        Args:
            key: its name.
            access: READ, WRITE, both, or 0 for what looks at no content (EXISTS).
        """
        if self.all_keys:
            return True
        for granted, matches in self.keys.values():
            if granted & access == access and matches(key):
                return True
        return False

    def allows_every_key(self, access: int) -> bool:
        """Whether every key there can be may be used."""
        star = self.keys.get(b"*")
        return self.all_keys or (star is not None and star.access & access == access)

    def allows_channel(self, channel: bytes, *, literally: bool) -> bool:
        """Whether a channel may be used. O(patterns).

        Args:
            channel: its name.
            literally: it is itself a pattern, and must be one of these word for word.
        """
        if self.all_channels:
            return True
        if literally:
            return channel in self.channels
        return any(matches(channel) for matches in self.channels.values())

    # --------------------------------------------------------------- changing

    def apply(self, rule: bytes) -> None:
        """Follow a rule.

        Raises:
            RuleError: it is wrong; nothing has changed.
        """
        match rule.lower():
            case b"allkeys" | b"~*":
                self.all_keys = True
                self.keys.clear()
            case b"resetkeys":
                self.all_keys = False
                self.keys.clear()
            case b"allchannels" | b"&*":
                self.all_channels = True
                self.channels.clear()
            case b"resetchannels":
                self.all_channels = False
                self.channels.clear()
            case b"allcommands" | b"+@all":
                self.allowed = self.catalog.everything
                self.first_args.clear()
            case b"nocommands" | b"-@all":
                self.allowed = 0
                self.first_args.clear()
            case _:
                self._apply_named(rule)

    def _apply_named(self, rule: bytes) -> None:
        """Follow a rule that names something."""
        sign, name = rule[:1], rule[1:]
        if sign in (b"~", b"%"):
            self._add_keys(rule)
        elif sign == b"&":
            self._add_channels(name)
        elif sign in (b"+", b"-") and name.startswith(b"@"):
            self._set_category(name[1:], sign == b"+")
        elif sign == b"+" and b"|" in name:
            self._allow_part(name)
        elif sign in (b"+", b"-"):
            command = self.catalog.find(name)
            if command is None:
                raise UnknownCommand
            self._set_command(command, sign == b"+")
        else:
            raise BadRule

    def _add_keys(self, rule: bytes) -> None:
        if self.all_keys:
            raise RuleError(AFTER_ALL_KEYS)
        access, name = READ | WRITE, rule[1:]
        if rule.startswith(b"%"):
            letters, _, name = name.partition(b"~")
            access = 0
            for letter in letters.upper():
                bit = _ACCESS.get(letter, 0)
                if not bit or access & bit:
                    raise BadRule
                access |= bit
        if not access or has_spaces(name):
            raise BadRule
        known = self.keys.get(name)
        if known is not None:
            access |= known.access
        self.keys[name] = KeyPattern(access, glob.compile(name))

    def _add_channels(self, name: bytes) -> None:
        if self.all_channels:
            raise RuleError(AFTER_ALL_CHANNELS)
        if has_spaces(name):
            raise BadRule
        self.channels[name] = glob.compile(name)

    def _set_category(self, name: bytes, allow: bool) -> None:
        category = name.decode("latin-1").lower()
        reach = self.catalog.reach.get(category)
        if reach is None:
            raise UnknownCommand
        self._set(reach, allow)
        members = self.catalog.members[category]
        for bit in [bit for bit in self.first_args if bit & members]:
            del self.first_args[bit]

    def _set_command(self, command: Command, allow: bool) -> None:
        self._set(whole_of(command), allow)
        self.first_args.pop(command.acl_bit, None)

    def _set(self, bits: int, allow: bool) -> None:
        self.allowed = self.allowed | bits if allow else self.allowed & ~bits

    def _allow_part(self, name: bytes) -> None:
        """Allow a subcommand, or a command with a certain first argument."""
        parent, _, part = name.rpartition(b"|")
        command = self.catalog.find(parent)
        if command is None:
            raise UnknownCommand
        if command.container is not None:
            raise RuleError(FIRST_ARGUMENT_OF_SUB)
        if not part or has_spaces(part):  # Redis takes the latter, and saves what it cannot load
            raise BadRule
        if command.subcommands:
            sub = self.catalog.find(name)
            if sub is None:
                raise UnknownCommand
            self._set_command(sub, True)
            return
        known = self.first_args.get(command.acl_bit, ())
        if part.lower() not in [each.lower() for each in known]:
            self.first_args[command.acl_bit] = (*known, part)

    # ---------------------------------------------------------------- telling

    def describe(self) -> bytes:
        """The rules that make this selector out of a fresh one. O(categories^2 + commands)."""
        words = [self.describe_keys()] if self.all_keys or self.keys else []
        if not self.all_channels:
            words.append(b"resetchannels")
        if self.all_channels or self.channels:
            words.append(self.describe_channels())
        words.append(self.describe_commands())
        return b" ".join(words)

    def describe_keys(self) -> bytes:
        """The rules of its keys."""
        if self.all_keys:
            return b"~*"
        return b" ".join(_PREFIXES[pattern.access] + name for name, pattern in self.keys.items())

    def describe_channels(self) -> bytes:
        """The rules of its channels."""
        if self.all_channels:
            return b"&*"
        return b" ".join(b"&" + name for name in self.channels)

    def describe_commands(self) -> bytes:
        """The rules of its commands; `told` is what those found so far allow."""
        allowed, catalog = self.allowed, self.catalog
        adds = not allowed & FUTURE
        sign = b"+" if adds else b"-"
        words = [b"-@all" if adds else b"+@all"]
        told = 0 if adds else catalog.everything
        for category in self._categories(adds):
            reach = catalog.reach[category]
            told = told | reach if adds else told & ~reach
            words.append(sign + b"@" + category.encode())
        for command in catalog.commands:
            for each in (command, *command.subcommands.values()):
                if (allowed ^ told) & each.acl_bit:
                    allow = bool(allowed & each.acl_bit)
                    bits = whole_of(each)
                    told = told | bits if allow else told & ~bits
                    words.append((b"+" if allow else b"-") + each.name.encode())
            if not allowed & command.acl_bit:
                for part in self.first_args.get(command.acl_bit, ()):
                    words.append(b"+%b|%b" % (command.name.encode(), part))
        assert told == allowed
        return b" ".join(words)

    def _categories(self, adds: bool) -> list[str]:
        """The categories that come close to what is allowed (or denied), the best fit first.

        A category is worth naming where more of its commands are rightly named with it than
        wrongly; what an earlier one covers does not count for the later ones.
        """
        catalog = self.catalog
        left = self.allowed if adds else catalog.everything & ~self.allowed
        found: list[str] = []
        while True:
            best, fewest_wrong, most_right = "", 0, 0
            for category in ACL_CATEGORIES:
                if category in found:
                    continue
                members = catalog.members[category]
                right = (left & members).bit_count()
                wrong = members.bit_count() - right
                if right > wrong and (
                    not best
                    or wrong < fewest_wrong
                    or (wrong == fewest_wrong and right > most_right)
                ):
                    best, fewest_wrong, most_right = category, wrong, right
            if not best:
                return found
            found.append(best)
            left &= ~catalog.reach[best]
