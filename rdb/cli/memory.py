"""`rdb memory`: which keys, types and prefixes take a server's memory.

Memory of this tool is fixed: the largest keys are kept in a heap, prefixes in a table of at
most MAX_PREFIXES rows. When the table is full, its lighter half goes into one row, "others";
what a prefix had there is then missing from its own row, at most what "others" says.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import click

from rdb.cli import exits
from rdb.cli.form import Json, bytes_form
from rdb.cli.lines import Lines
from rdb.cli.select import Account, Selection, decoded, selecting, selection_of
from rdb.cli.source import Source, open_source
from rdb.cli.text import key_line
from rdb.errors import RdbError
from rdb.records import Key
from rdb.sizes import memory_usage

T = TypeVar("T")
MAX_PREFIXES: Final = 1 << 16


class Large(NamedTuple):
    """One of the largest keys; compares by its size."""

    used_bytes: int
    db: int
    key: bytes
    kind: str
    elements: int


class Tally:
    """Keys, estimated bytes, and bytes in the file, of one group of keys."""

    __slots__ = ("file_bytes", "keys", "used_bytes")

    def __init__(self) -> None:
        self.keys = self.used_bytes = self.file_bytes = 0

    def add(self, used_bytes: int, file_bytes: int, keys: int = 1) -> None:
        """Count a key, or another tally."""
        self.keys += keys
        self.used_bytes += used_bytes
        self.file_bytes += file_bytes


class Survey:
    """What a walk through one file found.

    Args:
        top: how many of the largest keys to keep.
        separator, depth: a prefix is the first `depth` parts of a key, ending in `separator`;
            a key with fewer parts has none.
        max_prefixes: rows of the table of prefixes.
    """

    def __init__(
        self, top: int, separator: bytes, depth: int, max_prefixes: int = MAX_PREFIXES
    ) -> None:
        self.total = Tally()
        self.kinds: defaultdict[str, Tally] = defaultdict(Tally)
        self.prefixes: dict[bytes, Tally] = {}
        self.others = Tally()
        self._largest: list[Large] = []
        self._top = top
        self._separator = separator
        self._depth = depth
        self._max_prefixes = max_prefixes

    @property
    def largest(self) -> list[Large]:
        """The largest keys, largest first."""
        return sorted(self._largest, reverse=True)

    def add(self, key: Key, file_bytes: int) -> None:
        """Count a key with a decoded value. Cost: O(its size)."""
        used_bytes = memory_usage(key)
        kind = key.kind
        self.total.add(used_bytes, file_bytes)
        self.kinds[kind].add(used_bytes, file_bytes)
        self._prefix_tally(key.key).add(used_bytes, file_bytes)
        # hot: benchmarks/rdb. Few keys are among the largest.
        if self._top and (
            len(self._largest) < self._top or used_bytes >= self._largest[0].used_bytes
        ):
            large = Large(used_bytes, key.db, key.key, kind, elements_of(key))
            if len(self._largest) < self._top:
                heapq.heappush(self._largest, large)
            elif large > self._largest[0]:
                heapq.heapreplace(self._largest, large)

    def _prefix_tally(self, key: bytes) -> Tally:
        parts = key.split(self._separator, self._depth)
        prefix = b"" if len(parts) <= self._depth else key[: len(key) - len(parts[-1])]
        tally = self.prefixes.get(prefix)
        if tally is None:
            if len(self.prefixes) >= self._max_prefixes:
                self._make_room()
            tally = self.prefixes[prefix] = Tally()
        return tally

    def _make_room(self) -> None:
        by_weight = sorted(self.prefixes.items(), key=lambda item: item[1].used_bytes)
        for prefix, tally in by_weight[: (len(by_weight) + 1) // 2]:
            self.others.add(tally.used_bytes, tally.file_bytes, tally.keys)
            del self.prefixes[prefix]


def elements_of(key: Key) -> int:
    """How many elements, fields or entries a value has; bytes, for a string or module."""
    value, kind = key.value, key.kind
    if kind == "hash":
        return len(value) // 2
    if kind == "stream":
        return len(value.entries)
    return len(value.payload if kind == "module" else value)


class Listing:
    """Prints every key with its sizes, as JSON Lines."""

    def __init__(self) -> None:
        self.lines = Lines()

    def add(self, key: Key, file_bytes: int) -> None:
        """Print a key with a decoded value. Cost: O(its size)."""
        sizes = (file_bytes, memory_usage(key), elements_of(key))
        more = b',"file_bytes":%d,"used_bytes":%d,"elements":%d' % sizes
        self.lines.raw(key_line(key, more=more))


def each_key(
    source: Source, add: Callable[[Key, int], None], selection: Selection, account: Account
) -> None:
    """Give each selected key, its value decoded, and the bytes of that in the file to `add`.

    Raises:
        RdbError, OSError: see Source.records. A key whose value is damaged counts as dropped.
    """
    for record in source.records(raw_values=True):
        if isinstance(record, Key) and selection.admits(record, account):
            try:
                key = decoded(record, source.dialect)
            except RdbError:
                account.kept -= 1
                account.dropped += 1
                raise
            add(key, len(record.value))


def _tally_form(tally: Tally) -> dict[str, Json]:
    return {
        "keys": tally.keys,
        "used_bytes": tally.used_bytes,
        "file_bytes": tally.file_bytes,
    }


def survey_form(found: Survey, top: int) -> dict[str, Json]:
    """Everything as one JSON object, heaviest first."""
    return {
        "total": _tally_form(found.total),
        "types": [{"type": kind} | _tally_form(tally) for kind, tally in _heaviest(found.kinds)],
        "prefixes": [
            {"prefix": bytes_form(prefix)} | _tally_form(tally)
            for prefix, tally in _heaviest(found.prefixes)[:top]
        ],
        "others": _tally_form(found.others),
        "largest": [
            {
                "db": large.db,
                "key": bytes_form(large.key),
                "type": large.kind,
                "elements": large.elements,
                "used_bytes": large.used_bytes,
            }
            for large in found.largest
        ],
    }


def _heaviest(tallies: dict[T, Tally]) -> list[tuple[T, Tally]]:
    return sorted(tallies.items(), key=lambda item: -item[1].used_bytes)


def _print_rows(title: str, rows: list[tuple[str, Tally]]) -> None:
    click.echo(f"\n{'used bytes':>16} {'in file':>16} {'keys':>13}  {title}")
    for name, tally in rows:
        click.echo(f"{tally.used_bytes:16,} {tally.file_bytes:16,} {tally.keys:13,}  {name}")


def _shown(data: bytes) -> str:
    return json.dumps(data.decode("utf-8", "backslashreplace"), ensure_ascii=False)


def _print(found: Survey, top: int) -> None:
    total = found.total
    click.echo(f"{total.keys:,} keys, some {total.used_bytes:,} bytes in a server")
    _print_rows("type", _heaviest(found.kinds))
    rows = [(_shown(p) if p else "(none)", t) for p, t in _heaviest(found.prefixes)[:top]]
    if found.others.keys:
        rows.append(("(others: too many to keep apart)", found.others))
    _print_rows("prefix", rows)
    click.echo(f"\n{'used bytes':>16} {'elements':>13}  largest keys")
    for large in found.largest:
        name = f"db {large.db} {large.kind} {_shown(large.key)}"
        click.echo(f"{large.used_bytes:16,} {large.elements:13,}  {name}")


@click.command(
    epilog="Exit status: 0 all well, 1 the input is damaged (what was read before is shown), 2 "
    "wrong usage, 3 the input cannot be read."
)
@click.argument("file", metavar="FILE")
@click.option(
    "--top", type=click.IntRange(min=0), default=20, help="How many keys and prefixes to show."
)
@click.option("--separator", default=":", metavar="TEXT", help="What ends a part of a key.")
@click.option(
    "--depth", type=click.IntRange(min=1), default=1, help="How many parts make a prefix."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--list", "as_list", is_flag=True, help="Print every key, as JSON Lines, instead.")
@selecting
def memory(
    file: str,
    top: int,
    separator: str,
    depth: int,
    as_json: bool,
    as_list: bool,
    **options: object,
) -> int:
    """Show which keys, types and prefixes of FILE take a server's memory.

    The figures estimate MEMORY USAGE with SAMPLES 0 on a Redis 7.0 that has just loaded the
    file, at default limits of small encodings: exact for strings, lists, sets, streams and
    small hashes and sorted sets, within 4% for the others, whose tables and skiplists are
    partly left to chance. Module values are a guess. Memory is fixed, some 30 MB beside the
    largest value. FILE may be - for standard input, and may be gzip or lz4.
    """
    if not separator:
        raise click.UsageError("--separator cannot be empty")
    if as_list and as_json:
        raise click.UsageError("--list and --json exclude each other")
    selection = selection_of(**options)  # type: ignore[arg-type]
    found = Survey(top, separator.encode("utf-8", "surrogateescape"), depth)
    listing = Listing() if as_list else None
    account = Account()
    status = exits.OK
    with open_source(file) as source:
        try:
            each_key(source, found.add if listing is None else listing.add, selection, account)
        except RdbError as error:
            click.echo(f"{source.name}: damaged: {error}", err=True)
            status = exits.DAMAGED
        if listing is not None:
            listing.lines.flush()
        elif as_json:
            click.echo(json.dumps(survey_form(found, top), ensure_ascii=False))
        else:
            _print(found, top)
        account.report(source.name)
    return status
