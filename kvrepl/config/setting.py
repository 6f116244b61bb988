"""One setting: its name, kind, default, flags and documentation, in one place.

The tables in `kvrepl.config.table` are lists of these; the file reader, CONFIG GET, SET and REWRITE
and docs/CONFIG.md all work from them. The functions below only make the tables short to read.

Source: Redis config.c (static_configs), server.h (*_CONFIG flags).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from kvrepl.config.errors import BadValue
from kvrepl.config.kinds import AnyKind, Choice, Memory, Number, Secret, Text, YesNo


class Flags(Flag):
    """What is special about a setting."""

    NONE = 0
    IMMUTABLE = auto()
    """Set when the server starts, and never again."""
    PROTECTED = auto()
    """CONFIG SET needs enable-protected-configs."""
    SENSITIVE = auto()
    """A secret: kept out of SLOWLOG, MONITOR and the log."""
    HIDDEN = auto()
    """CONFIG GET shows it by its full name only, not for a pattern."""
    DENY_LOADING = auto()
    """CONFIG SET is refused while the dataset loads."""
    NO_EFFECT = auto()
    """Accepted, shown and kept, but nothing here depends on it."""
    VOLATILE = auto()
    """It names a file whose content counts: CONFIG SET to the same value reads it again."""
    OWN = auto()
    """Not a setting of Redis: kvrepl's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A setting; compared by identity.

    name: as in redis.conf.
    kind: what values it has.
    default: the value before any file is read.
    doc: one line, for docs/CONFIG.md.
    aliases: older names; each works, and is shown, beside the name.
    flags: see Flags.
    check: called with a new value; returns why it is refused, or None.
    adjust: maps a new value to the one that is kept (hz is brought into its range).
    adjust_at_start: whether a file's value is adjusted too, or only that of CONFIG SET.
    """

    name: str
    kind: AnyKind
    default: Any
    doc: str
    aliases: tuple[str, ...] = ()
    flags: Flags = Flags.NONE
    check: Callable[[Any], str | None] | None = None
    adjust: Callable[[Any], Any] | None = None
    adjust_at_start: bool = True

    @property
    def attribute(self) -> str:
        """The name of the attribute of Config that holds the value."""
        return self.name.replace("-", "_")

    def has(self, flag: Flags) -> bool:
        """Whether the flag is set."""
        return bool(self.flags & flag)

    def parse(self, words: list[bytes], current: Any, *, at_start: bool) -> Any:
        """The value that the words stand for, checked and adjusted.

        Args:
            words: the words after the name.
            current: the value so far.
            at_start: a file or the command line is read; otherwise CONFIG SET.

        Raises:
            BadValue: with Redis's wording.
        """
        value = self.kind.parse(words, current)
        if self.check is not None:
            reason = self.check(value)
            if reason is not None:
                raise BadValue(reason)
        if self.adjust is not None and (self.adjust_at_start or not at_start):
            value = self.adjust(value)
        return value


def yes_no(name: str, default: bool, doc: str, *aliases: str, flags: Flags = Flags.NONE) -> Setting:
    """A setting that is yes or no."""
    return Setting(name, YesNo(), default, doc, aliases, flags)


def number(
    name: str,
    low: int,
    high: int,
    default: int,
    doc: str,
    *aliases: str,
    flags: Flags = Flags.NONE,
) -> Setting:
    """A setting that is a plain integer from `low` to `high`."""
    return Setting(name, Number(low, high), default, doc, aliases, flags)


def memory(
    name: str,
    low: int,
    high: int,
    default: int,
    doc: str,
    *aliases: str,
    flags: Flags = Flags.NONE,
    unsigned: bool = True,
) -> Setting:
    """A setting that is a number of bytes, with units, from `low` to `high`."""
    return Setting(name, Memory(low, high, unsigned=unsigned), default, doc, aliases, flags)


def choice(
    name: str, names: str, default: str, doc: str, flags: Flags = Flags.NONE, **same: str
) -> Setting:
    """A setting that is one of the names, which are separated by blanks in `names`."""
    return Setting(name, Choice(*names.split(), same=same), default, doc, (), flags)


def text(
    name: str,
    doc: str,
    *aliases: str,
    default: str | None = None,
    flags: Flags = Flags.NONE,
    check: Callable[[Any], str | None] | None = None,
) -> Setting:
    """A setting that is any text; without a default, "" means that it is not set."""
    kind = Text(absent_if_empty=default is None)
    return Setting(name, kind, default or "", doc, aliases, flags, check)


def secret(name: str, doc: str, flags: Flags = Flags.SENSITIVE) -> Setting:
    """A setting that is a secret; empty means that it is not set."""
    return Setting(name, Secret(), b"", doc, (), flags)
