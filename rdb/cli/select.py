"""Which keys a tool works on, and the account it gives of the others.

Every key of the input ends in exactly one column of the account:

    kept       went through
    expired    its time had passed (with --drop-expired)
    filtered   an option left it out
    dropped    it could not go on: a twin, or more than the target can hold

Invariant: keys in the file = kept + expired + filtered + dropped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from rdb.cli.glob import compile_glob
from rdb.dialect import Dialect
from rdb.errors import Incomplete, RdbError
from rdb.records import Key
from rdb.values import decode_value

Command = TypeVar("Command", bound=Callable[..., Any])
KIND_NAMES = ("string", "list", "set", "zset", "hash", "stream", "array", "module")


@dataclass(slots=True)
class Account:
    """What became of the keys of one input; see above."""

    keys: int = 0
    kept: int = 0
    expired: int = 0
    filtered: int = 0
    dropped: int = 0

    def report(self, name: str) -> None:
        """Say it on standard error."""
        columns = (self.kept, self.expired, self.filtered, self.dropped)
        assert self.keys == sum(columns), "a key was counted twice or not at all"
        kept, expired, filtered, dropped = (f"{number:,}" for number in columns)
        click.echo(
            f"{name}: {self.keys:,} keys in the file = {kept} kept + {expired} expired + "
            f"{filtered} filtered + {dropped} dropped",
            err=True,
        )


@dataclass(slots=True)
class Selection:
    """The keys that the options of `selecting` name.

    Attributes:
        dbs: only these databases; empty for all.
        pattern, exclude: compiled globs.
        kinds: only these types, as TYPE names them; empty for all.
        min_size_bytes: only values that take at least so much in the file.
        expiring: only keys with an expiry (True) or without one (False).
        now_ms: keys that expired before this instant are left out; None keeps them.
    """

    dbs: frozenset[int] = frozenset()
    pattern: re.Pattern[bytes] | None = None
    exclude: re.Pattern[bytes] | None = None
    kinds: frozenset[str] = frozenset()
    min_size_bytes: int = 0
    expiring: bool | None = None
    now_ms: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()

    def admits(self, key: Key, account: Account) -> bool:
        """Whether `key`, whose value is still encoded, is wanted; count it in any case.

        A key that is admitted counts as kept; a caller that cannot go on with it moves it to
        `dropped`. Cost: O(length of the key).
        """
        account.keys += 1
        at_ms = key.expires_at_ms
        if (
            (self.dbs and key.db not in self.dbs)
            or (self.kinds and key.kind not in self.kinds)
            or (self.expiring is not None and self.expiring is (at_ms is None))
            or (self.min_size_bytes and len(key.value) < self.min_size_bytes)
            or (self.pattern is not None and not self.pattern.fullmatch(key.key))
            or (self.exclude is not None and self.exclude.fullmatch(key.key))
        ):
            account.filtered += 1
            return False
        if self.now_ms is not None and at_ms is not None and at_ms < self.now_ms:
            account.expired += 1
            return False
        account.kept += 1
        return True


def glob_of(text: str | None) -> re.Pattern[bytes] | None:
    """Compile the argument of --match."""
    return None if text is None else compile_glob(text.encode("utf-8", "surrogateescape"))


def decoded(key: Key, dialect: Dialect) -> Key:
    """`key` with its value decoded, from a reader with raw_values.

    Args:
        dialect: that of its file.

    Raises:
        RdbError: the value is damaged.
    """
    try:
        value, end = decode_value(key.type_code, key.value, 0, dialect)
    except RdbError as error:
        raise RdbError(error.message, key=key.key) from None
    except Incomplete:
        raise RdbError("the value ends early", key=key.key) from None
    if end != len(key.value):
        raise RdbError("the value ends before its frame", key=key.key)
    # hot: benchmarks/rdb. Key._replace takes three times as long.
    return Key(key.db, key.key, key.type_code, value, key.expires_at_ms, key.idle_s, key.freq)


_OPTIONS = (
    click.option(
        "--db", "dbs", type=click.IntRange(min=0), multiple=True, help="Only this database."
    ),
    click.option("--match", "pattern", metavar="GLOB", help="Only keys that match, as in KEYS."),
    click.option("--exclude", metavar="GLOB", help="Leave out keys that match."),
    click.option(
        "--type", "kinds", type=click.Choice(KIND_NAMES), multiple=True, help="Only this type."
    ),
    click.option(
        "--min-size",
        "min_size_bytes",
        type=click.IntRange(min=0),
        default=0,
        metavar="BYTES",
        help="Only values that take at least so much in the file.",
    ),
    click.option(
        "--expiring/--no-expiring",
        default=None,
        help="Only keys with an expiry, or only those without.",
    ),
    click.option(
        "--drop-expired", is_flag=True, help="Leave out keys whose expiry is past by this clock."
    ),
)


def selecting(command: Command) -> Command:
    """Give a command the options that choose keys; `selection_of` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def selection_of(
    *,
    dbs: tuple[int, ...],
    pattern: str | None,
    exclude: str | None,
    kinds: tuple[str, ...],
    min_size_bytes: int,
    expiring: bool | None,
    drop_expired: bool,
) -> Selection:
    """The selection that the options say."""
    return Selection(
        frozenset(dbs),
        glob_of(pattern),
        glob_of(exclude),
        frozenset(kinds),
        min_size_bytes,
        expiring,
        time.time_ns() // 1_000_000 if drop_expired else None,
    )
