"""`rdb convert`: files into other files.

    inputs, in order -> choose keys -> move dbs -> twins out -> shift ttl, fit target -> outputs

Values that the target reads as they are go through byte for byte, never decoded. Memory is that
of the largest value; where keys can meet twice, with several inputs or moved databases, 16-byte
digests of all names are kept as well, some 100 bytes a key.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from rdb.cli import exits
from rdb.cli.form import bytes_form
from rdb.cli.output import Output, refuse_to_overwrite
from rdb.cli.select import Account, Selection, glob_of, selecting, selection_of
from rdb.cli.source import Source, open_source
from rdb.dialect import Dialect
from rdb.errors import RdbError
from rdb.records import Aux, Function, Key, KeyMetadata, ModuleAux
from rdb.targets import FIRST_AUX_VERSION, FIRST_FUNCTION_VERSION, TARGETS, Unfit, fit

_MAX_OUTPUTS: Final = 256
_NAMED_LOSSES: Final = 10
_LEFT_OUT_AUX: Final = frozenset((b"repl-stream-db", b"repl-id", b"repl-offset", b"aof-base"))
"""They tie a file to the history of a server, which the new file is no longer part of."""


class Parts:
    """The outputs: one, or with a split one for each database or pattern.

    Args:
        template: the path; with a split, "{}" in it stands for the name of the part.
        version: of the format.
        by_db: split by database, whose number is the part's name.
        patterns: split by the first of these that matches, numbered from 1; "rest" otherwise.
        inputs: what is read, and must not be written over.

    Raises:
        click.UsageError: the output is an input.
    """

    def __init__(
        self,
        template: str,
        version: int,
        by_db: bool,
        patterns: list[re.Pattern[bytes]],
        inputs: tuple[str, ...],
    ) -> None:
        self._template = template
        self._inputs = inputs
        self._version = version
        self._by_db = by_db
        self._patterns = patterns
        self._outputs: dict[str, Output] = {}
        # Aux fields and functions, which go to the head of every part.
        self._head: list[Aux | Function] = []
        if not by_db and not patterns:
            self._open("")

    def of(self, key: Key) -> Output:
        """The output that `key` belongs to, opened at its first key."""
        name = str(key.db) if self._by_db else ""
        if self._patterns:
            found = (n for n, p in enumerate(self._patterns, 1) if p.fullmatch(key.key))
            name = str(next(found, "rest"))
        output = self._outputs.get(name)
        return self._open(name) if output is None else output

    def head(self, record: Aux | Function) -> None:
        """Put `record` into every part, those still to be opened included."""
        self._head.append(record)
        for output in self._outputs.values():
            self._write_head(output, record)

    def commit(self) -> None:
        """Put every file in its place."""
        for output in self._outputs.values():
            output.commit()

    def discard(self) -> None:
        """Leave nothing behind that was not committed."""
        for output in self._outputs.values():
            output.discard()

    def _open(self, name: str) -> Output:
        if len(self._outputs) >= _MAX_OUTPUTS:
            raise click.UsageError(f"the split makes more than {_MAX_OUTPUTS} files")
        path = self._template.replace("{}", name) if name else self._template
        refuse_to_overwrite(self._inputs, path)
        output = Output(path, self._version)
        self._outputs[name] = output
        for record in self._head:
            self._write_head(output, record)
        return output

    @staticmethod
    def _write_head(output: Output, record: Aux | Function) -> None:
        if isinstance(record, Aux):
            output.writer.aux(record.key, record.value)
        else:
            output.writer.function(record.code)


class Losses:
    """What the target cannot hold, and which keys were dropped for it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.incomplete = False

    def key(self, key: Key, why: str) -> None:
        """A key was dropped; the first few are named."""
        self._counts[f"dropped: {why}"] += 1
        if self._counts.total() <= _NAMED_LOSSES:
            click.echo(f"dropped db {key.db} {key.kind} {bytes_form(key.key)!r}: {why}", err=True)

    def record(self, what: str, *, matters: bool) -> None:
        """Something that is no key was left out."""
        self._counts[f"left out: {what}"] += 1
        self.incomplete |= matters

    def report(self) -> None:
        """Say on standard error how often each happened."""
        for what, number in self._counts.items():
            click.echo(f"{number:,} times {what}", err=True)


class Conversion:
    """One run of `rdb convert`.

    Args:
        parts: where it goes.
        selection: which keys.
        version: of the target.
        moves: database -> the database its keys go to.
        shift_ttl_ms: how much later keys are to expire.
        twins: whether keys can meet twice.
    """

    def __init__(
        self,
        parts: Parts,
        selection: Selection,
        version: int,
        moves: dict[int, int],
        shift_ttl_ms: int,
        twins: bool,
    ) -> None:
        self.losses = Losses()
        self._parts = parts
        self._selection = selection
        self._version = version
        self._moves = moves
        self._shift_ttl_ms = shift_ttl_ms
        self._seen: set[bytes] | None = set() if twins else None
        self._functions: set[bytes] = set()
        self._inputs = 0

    def take(self, source: Source, account: Account) -> None:
        """Read one input to its end.

        Raises:
            RdbError, OSError: see Source.records; nothing is in place then.
        """
        self._inputs += 1
        has_metadata = False
        for record in source.records(raw_values=True):
            if isinstance(record, Key):
                if self._selection.admits(record, account):
                    if not self._key(record, source.dialect):
                        account.kept -= 1
                        account.dropped += 1
                    elif has_metadata:
                        self.losses.record("data of modules on a key", matters=True)
                has_metadata = False
            elif isinstance(record, KeyMetadata):
                has_metadata = True
            else:
                self._other(record)

    def _key(self, key: Key, dialect: Dialect) -> bool:
        """Write `key`; False where it was dropped."""
        key = key._replace(db=self._moves.get(key.db, key.db))
        if self._seen is not None:
            name = hashlib.blake2b(b"%d %b" % (key.db, key.key), digest_size=16).digest()
            if name in self._seen:
                self.losses.key(key, "a key of that name was there before")
                return False
            self._seen.add(name)
        try:
            fitted = fit(key, self._version, dialect, shift_ttl_ms=self._shift_ttl_ms)
        except Unfit as unfit:
            self.losses.key(key, str(unfit))
            self.losses.incomplete = True
            return False
        except RdbError as error:
            raise RdbError(error.message, key=key.key) from None
        if (key.idle_s, key.freq) != (fitted.idle_s, fitted.freq):
            self.losses.record("access time or frequency of a key", matters=False)
        if key.kind == "stream" and fitted.type_code < key.type_code:
            what = "counters, consumer times, releases or producers of a stream"
            self.losses.record(what, matters=False)
        self._parts.of(fitted).key(fitted)
        return True

    def _other(self, record: object) -> None:
        if isinstance(record, Aux):
            if self._inputs == 1 and record.key not in _LEFT_OUT_AUX:
                if self._version >= FIRST_AUX_VERSION:
                    self._parts.head(record)
                else:
                    self.losses.record("auxiliary field", matters=False)
        elif isinstance(record, Function):
            if self._version < FIRST_FUNCTION_VERSION:
                self.losses.record("function library, which needs version 10", matters=True)
            elif record.name not in self._functions:
                self._functions.add(record.name)
                self._parts.head(record)
            else:
                self.losses.record("function library whose name was there before", matters=False)
        elif isinstance(record, ModuleAux):
            self.losses.record(f"data of module {record.module} outside keys", matters=True)


def _moves(
    context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> dict[int, int]:
    moves = {}
    for text in texts:
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
        if not found:
            raise click.BadParameter(f"{text!r} is not FROM:TO", context, option)
        moves[int(found[1])] = int(found[2])
    return moves


def _sources(files: tuple[str, ...]) -> Iterator[Source]:
    for file in files:
        with open_source(file) as source:
            yield source


@click.command(
    epilog="Exit status: 0 all well, 1 an input is damaged (nothing is written; see rdb repair), "
    "2 wrong usage, 3 an input or the output failed, 5 written, but without what the target "
    "cannot hold."
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "--output", required=True, metavar="PATH", help="Where to write, - for stdout.")
@click.option(
    "--target",
    type=click.Choice([str(version) for version in TARGETS]),
    default="10",
    show_default=True,
    help="RDB version: 6 for Redis 2.6 and later, 9 for 5.0, 10 for 7.0, 11 for 7.2, 12 for 7.4.",
)
@click.option(
    "--move-db",
    "moves",
    multiple=True,
    metavar="FROM:TO",
    callback=_moves,
    help="Put the keys of a database into another.",
)
@click.option(
    "--shift-ttl",
    "shift_ttl_ms",
    type=click.IntRange(-(1 << 53), 1 << 53),
    default=0,
    metavar="MS",
    help="Let keys and fields expire so much later, or earlier.",
)
@click.option(
    "--split-db", is_flag=True, help="A file for each database, its number for {} in PATH."
)
@click.option(
    "--split-match",
    multiple=True,
    metavar="GLOB",
    help="A file for the keys that match, its number (1, 2, ...) in place of {} in PATH; the "
    "other keys go to rest.",
)
@selecting
def convert(
    files: tuple[str, ...],
    output: str,
    target: str,
    moves: dict[int, int],
    shift_ttl_ms: int,
    split_db: bool,
    split_match: tuple[str, ...],
    **options: Any,
) -> int:
    """Merge FILEs into one, or split them, for a server of another version.

    Where a key stands in several FILEs, the first wins. What the target cannot hold is listed:
    keys of such a value are dropped. Replication ids are left out, for the new file is no point
    of a server's history. A file appears when it is whole, and not before. FILE may be - for
    standard input, and may be gzip or lz4.
    """
    if split_db and split_match:
        raise click.UsageError("--split-db and --split-match exclude each other")
    if (split_db or bool(split_match)) is not ("{}" in output):
        raise click.UsageError("a split needs {} in the output path, and only a split takes it")
    if files.count("-") > 1:
        raise click.UsageError("standard input can be read once")
    version = int(target)
    patterns = [pattern for text in split_match if (pattern := glob_of(text)) is not None]
    parts = Parts(output, version, split_db, patterns, files)
    twins = len(files) > 1 or bool(moves)
    conversion = Conversion(parts, selection_of(**options), version, moves, shift_ttl_ms, twins)
    accounts: list[tuple[str, Account]] = []
    try:
        for source in _sources(files):
            account = Account()
            accounts.append((source.name, account))
            try:
                conversion.take(source, account)
            except RdbError as error:
                outcome = "the output is cut short" if output == "-" else "nothing is written"
                click.echo(f"{source.name}: damaged: {error}; {outcome}", err=True)
                return exits.DAMAGED
        parts.commit()
    finally:
        parts.discard()
    conversion.losses.report()
    for name, account in accounts:
        account.report(name)
    return exits.INCOMPLETE if conversion.losses.incomplete else exits.OK
