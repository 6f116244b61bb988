"""`rdb export`: keys as a Parquet file, through pyarrow where that is installed.

    --rows elements (a row for each element)      --rows keys (a row for each key)

    db           int32                            db            int32
    key          binary                           key           binary
    type         string (dictionary)              type          string (dictionary)
    expires_at   timestamp[ms, UTC], nullable     expires_at    timestamp[ms, UTC], nullable
    element      binary                           elements      int64
    value        binary, nullable                 file_bytes    int64   encoded in the file
    score        double, nullable                 memory_bytes  int64   see `rdb memory`
    element_expires_at  timestamp[ms, UTC], nullable

`element` is what it is in CSV (rdb.cli.render): the index of a list or array, a member, a field,
the id of a stream's entry, nothing for a string. `value` is the text of an element, a field's value
or the fields of an entry as JSON; `score` takes its place in a sorted set. An expiry that no
timestamp can hold is null.

Rows are written in groups of ROWS_A_GROUP, or fewer where their texts take GROUP_BYTES; that, and
the largest value, is the memory of this tool.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from rdb.cli import exits
from rdb.cli.memory import elements_of
from rdb.cli.output import PendingFile, refuse_to_overwrite
from rdb.cli.render import elements
from rdb.cli.select import Account, Selection, decoded, selecting, selection_of
from rdb.cli.source import Source, open_source
from rdb.errors import RdbError
from rdb.records import Key
from rdb.sizes import memory_usage
from rdb.values import ExpiringHash

ROWS_A_GROUP: Final = 1 << 16
GROUP_BYTES: Final = 16 << 20
_ELEMENT_COLUMNS: Final = (
    "db", "key", "type", "expires_at", "element", "value", "score", "element_expires_at",
)  # fmt: skip
_KEY_COLUMNS: Final = (
    "db", "key", "type", "expires_at", "elements", "file_bytes", "memory_bytes",
)  # fmt: skip
_TIMESTAMPS_MS: Final = range(-(1 << 63) // 1000, (1 << 63) // 1000)
"""What readers that count microseconds can show."""


def load_pyarrow() -> Any:
    """Import pyarrow with its Parquet part.

    Raises:
        click.UsageError: it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise click.UsageError(
            f"export needs pyarrow ({error}); install it with: pip install 'kvrepl[export]'"
        ) from None
    return importlib.import_module("pyarrow")


class Table:
    """Rows on their way into a Parquet file.

    Args:
        pyarrow: the module.
        stream: where the file is written, open for binary writing.
        of_keys: whether a row is a key; an element otherwise.
    """

    def __init__(self, pyarrow: Any, stream: Any, of_keys: bool) -> None:
        self._pyarrow = pyarrow
        self._of_keys = of_keys
        names = _KEY_COLUMNS if of_keys else _ELEMENT_COLUMNS
        self._columns: list[list[Any]] = [[] for _ in names]
        self._bytes = 0
        instant = pyarrow.timestamp("ms", tz="UTC")
        types = {
            "db": pyarrow.int32(),
            "type": pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
            "expires_at": instant,
            "element_expires_at": instant,
            "score": pyarrow.float64(),
        }
        default = pyarrow.int64() if of_keys else pyarrow.binary()
        types["key"] = pyarrow.binary()
        self._schema = pyarrow.schema([(name, types.get(name, default)) for name in names])
        self._writer = pyarrow.parquet.ParquetWriter(stream, self._schema, compression="zstd")

    def add(self, key: Key, file_bytes: int) -> None:
        """Append the rows of a key with a decoded value."""
        head = (key.db, key.key, key.kind, _instant(key.expires_at_ms))
        if self._of_keys:
            self._row(*head, elements_of(key), file_bytes, memory_usage(key))
            return
        expires = key.value.expires_at_ms if isinstance(key.value, ExpiringHash) else {}
        if key.kind == "zset":
            for member, score in key.value:
                self._row(*head, member, None, score, None)
            return
        for element, value in elements(key):
            self._row(*head, element, value, None, _instant(expires.get(element)))

    def close(self) -> None:
        """Write the end of the file, whole or not; `flush` comes before it."""
        self._writer.close()

    def _row(self, *cells: Any) -> None:
        for column, cell in zip(self._columns, cells, strict=True):
            column.append(cell)
            if type(cell) is bytes:
                self._bytes += len(cell)
        if len(self._columns[0]) >= ROWS_A_GROUP or self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting, as a row group."""
        if self._columns[0]:
            table = self._pyarrow.Table.from_arrays(
                [
                    self._pyarrow.array(column, type=field.type)
                    for column, field in zip(self._columns, self._schema, strict=True)
                ],
                schema=self._schema,
            )
            self._writer.write_table(table)
        self._bytes = 0
        for column in self._columns:
            column.clear()


def _instant(at_ms: int | None) -> int | None:
    return None if at_ms is None or at_ms not in _TIMESTAMPS_MS else at_ms


def _fill(table: Table, source: Source, selection: Selection, account: Account) -> None:
    for record in source.records(raw_values=True):
        if isinstance(record, Key) and selection.admits(record, account):
            table.add(decoded(record, source.dialect), len(record.value))


@click.command(
    epilog="Exit status: 0 all well, 1 the input is damaged (nothing is written), 2 wrong usage, "
    "or pyarrow is missing, 3 the input or output failed."
)
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", required=True, metavar="PATH", help="Where to write.")
@click.option(
    "--rows",
    type=click.Choice(["elements", "keys"]),
    default="elements",
    show_default=True,
    help="What a row is: an element with its key, or a key with its sizes.",
)
@selecting
def export(file: str, output: str, rows: str, **options: Any) -> int:
    """Write the keys of FILE as Parquet, for pandas, DuckDB, Spark and their like.

    Needs pyarrow (pip install 'kvrepl[export]'). Names and values are binary columns, as they may
    be any bytes. The file appears when it is whole, and not before. FILE may be - for standard
    input, and may be gzip or lz4.
    """
    pyarrow = load_pyarrow()
    refuse_to_overwrite((file,), output)
    selection = selection_of(**options)
    account = Account()
    with open_source(file) as source:
        pending = PendingFile(output)
        try:
            table = Table(pyarrow, pending.stream, rows == "keys")
            try:
                _fill(table, source, selection, account)
                table.flush()
            except RdbError as error:
                click.echo(f"{source.name}: damaged: {error}; nothing is written", err=True)
                return exits.DAMAGED
            finally:
                table.close()
            pending.commit()
        finally:
            pending.discard()
    account.report(source.name)
    return exits.OK
