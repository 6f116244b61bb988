"""`rdb dump`: the records of a file as JSON Lines."""

from __future__ import annotations

import json
import sys

import click

from rdb.cli import exits
from rdb.cli.form import Json, key_form, record_form
from rdb.cli.glob import compile_glob
from rdb.cli.source import open_source
from rdb.errors import RdbError
from rdb.records import Key

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_BATCH_BYTES = 1 << 16


class Lines:
    """Writes JSON Lines to standard output in batches."""

    def __init__(self) -> None:
        self._stream = sys.stdout.buffer
        self._batch: list[bytes] = []
        self._batch_bytes = 0

    def add(self, form: dict[str, Json]) -> None:
        """Append one object."""
        line = _ENCODER.encode(form).encode() + b"\n"
        self._batch.append(line)
        self._batch_bytes += len(line)
        if self._batch_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        self._stream.write(b"".join(self._batch))
        self._stream.flush()
        self._batch.clear()
        self._batch_bytes = 0


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--keys-only", is_flag=True, help="Leave out values; give their encoded size instead."
)
@click.option("--db", "dbs", type=click.IntRange(min=0), multiple=True, help="Only this database.")
@click.option("--match", "pattern", metavar="GLOB", help="Only keys that match, as in KEYS.")
@click.option("--no-checksum", is_flag=True, help="Do not hold the checksum at the end against it.")
def dump(
    file: str, keys_only: bool, dbs: tuple[int, ...], pattern: str | None, no_checksum: bool
) -> int:
    """Print FILE as JSON Lines, one record a line, nothing lost.

    Bytes are a JSON string where they are UTF-8, else {"b64": "..."}. With --keys-only, --db or
    --match only keys are printed, otherwise every record of the file. A damaged file is printed
    up to the damage, and the exit status is then 1. FILE may be - for standard input, and may be
    gzip or lz4.
    """
    expression = (
        None if pattern is None else compile_glob(pattern.encode("utf-8", "surrogateescape"))
    )
    only_keys = keys_only or bool(dbs) or expression is not None
    lines = Lines()
    with open_source(file) as source:
        try:
            for record in source.records(verify_checksum=not no_checksum, raw_values=keys_only):
                if not isinstance(record, Key):
                    if not only_keys:
                        lines.add(record_form(record))
                    continue
                if dbs and record.db not in dbs:
                    continue
                if expression is not None and not expression.fullmatch(record.key):
                    continue
                if keys_only:
                    lines.add(key_form(record) | {"bytes": len(record.value)})
                else:
                    lines.add(record_form(record))
        except RdbError as error:
            lines.flush()
            click.echo(f"{source.name}: damaged: {error}", err=True)
            return exits.DAMAGED
    lines.flush()
    return exits.OK
