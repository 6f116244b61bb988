"""`rdb dump`: the records of a file as JSON Lines, CSV, or commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from rdb.cli import exits
from rdb.cli.form import SPELLINGS, bytes_form, key_form, record_form, spelled
from rdb.cli.lines import Lines
from rdb.cli.render import CSV_HEADER, commands, csv_rows, request, restore
from rdb.cli.select import Account, Selection, decoded, selecting, selection_of
from rdb.cli.source import Source, open_source
from rdb.cli.text import key_line
from rdb.dialect import REDIS
from rdb.errors import RdbError
from rdb.records import Function, Key, Record
from rdb.targets import Unfit


class Dump:
    """One run of `rdb dump`.

    Args:
        form: json, csv, commands or restore.
        selection: which keys.
        keys_only: in JSON, sizes instead of values.
        replace: have commands replace keys that are there.
        spelling: of bytes in JSON, see rdb.cli.form.
    """

    def __init__(
        self, form: str, selection: Selection, keys_only: bool, replace: bool, spelling: str
    ) -> None:
        self.account = Account()
        self._spelling = spelling
        self._form = form
        self._selection = selection
        self._keys_only = keys_only
        self._replace = replace
        self._only_keys = keys_only or not selection.is_everything
        # Values are left encoded where some may never be looked at.
        self._raw = self._only_keys or form in ("commands", "restore")
        self._lines = Lines()
        self._dialect = REDIS
        self._db = 0

    def run(self, source: Source, verify_checksum: bool) -> None:
        """Print everything.

        Raises:
            RdbError, OSError: see Source.records; what comes before the damage is printed.
        """
        if self._form == "csv":
            self._lines.raw(CSV_HEADER)
        records = source.records(verify_checksum=verify_checksum, raw_values=self._raw)
        try:
            self._print_all(records, source)
        finally:
            self._lines.flush()

    def _print_all(self, records: Iterator[Record], source: Source) -> None:
        with spelled(self._spelling):
            for record in records:
                self._dialect = source.dialect
                if isinstance(record, Key):
                    if self._selection.admits(record, self.account):
                        self._key(record)
                else:
                    self._other(record)

    def _key(self, key: Key) -> None:
        try:
            whole = key
            if self._raw and not self._keys_only and self._form != "restore":
                whole = decoded(key, self._dialect)
            self._print(key, whole)
        except Unfit as unfit:
            self._drop()
            click.echo(f"dropped db {key.db} {bytes_form(key.key)!r}: {unfit}", err=True)
        except RdbError as error:
            self._drop()
            raise RdbError(error.message, key=key.key) from None

    def _drop(self) -> None:
        self.account.kept -= 1
        self.account.dropped += 1

    def _print(self, key: Key, whole: Key) -> None:
        """Print `key`, which is `whole` with its value decoded."""
        if self._form == "csv":
            self._lines.raw(csv_rows(whole))
        elif self._form == "json":
            if self._spelling != "text":
                short = key_form(key) | {"bytes": len(key.value)} if self._keys_only else None
                self._lines.add(short or record_form(whole))
            elif self._keys_only:
                self._lines.raw(key_line(key, more=b',"bytes":%d' % len(key.value)))
            else:
                self._lines.raw(key_line(whole, with_value=True))
        else:
            if self._form == "restore":
                made = restore(key, self._dialect, replace=self._replace)
            else:
                made = commands(whole, key, self._dialect, replace=self._replace)
            if key.db != self._db:
                self._db = key.db
                self._lines.raw(request(b"SELECT", b"%d" % key.db))
            self._lines.raw(made)

    def _other(self, record: Record) -> None:
        if self._only_keys:
            return
        if self._form == "json":
            self._lines.add(record_form(record))
        elif isinstance(record, Function) and self._form != "csv":
            replace = (b"REPLACE",) if self._replace else ()
            self._lines.raw(request(b"FUNCTION", b"LOAD", *replace, record.code))


@click.command(
    epilog="Exit status: 0 all well, 1 the input is damaged (it is printed up to the damage), 2 "
    "wrong usage, 3 the input or output failed, 5 keys were dropped that Redis 7.0 cannot hold "
    "(commands and restore)."
)
@click.argument("file", metavar="FILE")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "csv", "commands", "restore"]),
    default="json",
    show_default=True,
    help="JSON Lines; CSV, one row an element; or, for redis-cli --pipe, plain commands or "
    "RESTORE of every key.",
)
@click.option(
    "--bytes",
    "spelling",
    type=click.Choice(SPELLINGS),
    default="text",
    show_default=True,
    help="How JSON spells keys and values: as text where they are UTF-8, else as base64; always "
    "escaped (printable ASCII, \\\\ and \\xHH); always as base64.",
)
@click.option("--keys-only", is_flag=True, help="JSON without values; their encoded size instead.")
@click.option("--replace", is_flag=True, help="Commands replace keys that are there already.")
@click.option("--no-checksum", is_flag=True, help="Do not hold the checksum at the end against it.")
@selecting
def dump(
    file: str,
    form: str,
    spelling: str,
    keys_only: bool,
    replace: bool,
    no_checksum: bool,
    **options: Any,
) -> int:
    """Print FILE as JSON Lines, one record a line, nothing lost; or as CSV or commands.

    In JSON, bytes are a string where they are UTF-8, else {"b64": "..."}, unless --bytes says
    otherwise. With --keys-only or where keys are chosen only keys are printed, otherwise every
    record of the file. CSV holds the bytes as they are. A damaged file is printed up to the
    damage, and the exit status is then 1. FILE may be - for standard input, and may be gzip or
    lz4.
    """
    if keys_only and form != "json":
        raise click.UsageError("--keys-only goes with --format json")
    if spelling != "text" and form != "json":
        raise click.UsageError("--bytes goes with --format json")
    if replace and form not in ("commands", "restore"):
        raise click.UsageError("--replace goes with --format commands or restore")
    run = Dump(form, selection_of(**options), keys_only, replace, spelling)
    status = exits.OK
    with open_source(file) as source:
        try:
            run.run(source, not no_checksum)
        except RdbError as error:
            click.echo(f"{source.name}: damaged: {error}", err=True)
            status = exits.DAMAGED
    run.account.report(source.name)
    if status == exits.OK and run.account.dropped:
        return exits.INCOMPLETE
    return status
