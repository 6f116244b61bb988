"""`rdb check`: is this file whole, and what is in it?"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

import click

from rdb.cli import exits
from rdb.cli.source import Source, open_source
from rdb.errors import RdbError
from rdb.records import Aux, End, Function, Header, Key, ModuleAux


class Census:
    """What a walk through one file has seen."""

    def __init__(self, duplicates: bool) -> None:
        self.header: Header | None = None
        self.checksum = ""
        self.kinds: Counter[str] = Counter()
        self.dbs: set[int] = set()
        self.expires = 0
        self.expired = 0
        self.empty = 0
        self.aux: dict[bytes, bytes] = {}
        self.functions = 0
        self.modules: set[str] = set()
        self.last_key: Key | None = None
        # Hashes of 64 bits instead of keys: a twin is missed never, and invented not in practice.
        self.seen: set[int] | None = set() if duplicates else None
        self._now_ms = time.time_ns() // 1_000_000

    def walk(self, source: Source, verify_checksum: bool) -> None:
        """Read everything.

        Raises:
            RdbError, OSError: see Source.records.
        """
        for record in source.records(verify_checksum=verify_checksum):
            if isinstance(record, Key):
                self._count(record)
            elif isinstance(record, Header):
                self.header = record
            elif isinstance(record, Aux):
                self.aux[record.key] = record.value
            elif isinstance(record, Function):
                self.functions += 1
            elif isinstance(record, ModuleAux):
                self.modules.add(record.module)
            elif isinstance(record, End):
                self.checksum = record.checksum

    def _count(self, key: Key) -> None:
        if self.seen is not None:
            mark = hash((key.db, key.key))
            if mark in self.seen:
                raise RdbError(f"a second key of that name in database {key.db}", key=key.key)
            self.seen.add(mark)
        self.last_key = key
        kind = key.kind
        self.kinds[kind] += 1
        self.dbs.add(key.db)
        if key.expires_at_ms is not None:
            self.expires += 1
            self.expired += key.expires_at_ms < self._now_ms
        self.empty += key.is_empty
        if kind == "module":
            self.modules.add(key.value.name)


def counted(number: int, noun: str) -> str:
    """ "1 key", "1,200 keys"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def report_damage(source: Source, census: Census, error: RdbError) -> None:
    """Say on standard error what is wrong, where, and what was the last good key."""
    where = f" at offset {error.offset:,}" if error.offset >= 0 else ""
    click.echo(f"{source.name}: damaged{where}: {error.message}", err=True)
    if error.key is not None:
        click.echo(f"  in the record of key {error.key!r}", err=True)
    last = census.last_key
    if last is not None:
        good = f"{counted(census.kinds.total(), 'key')} before that can be read"
        click.echo(f"  {good}, the last {last.key!r} in database {last.db}", err=True)
    if census.header is not None:
        keeps = "keeps these, and looks for more" if last is not None else "looks for keys"
        click.echo(f"  rdb repair {keeps} behind the damage", err=True)


def writer(aux: dict[bytes, bytes]) -> str:
    """Who wrote a file, and when, by its own word; "" where it says nothing."""
    words = [
        f"{product} {aux[name].decode(errors='backslashreplace')}"
        for name, product in ((b"redis-ver", "Redis"), (b"valkey-ver", "Valkey"))
        if name in aux
    ]
    try:
        began = datetime.fromtimestamp(int(aux[b"ctime"]), UTC)
        words.append(began.strftime("%Y-%m-%dT%H:%M:%SZ"))
    except (KeyError, ValueError, OverflowError, OSError):
        pass  # it says nothing, or no time
    return ", ".join(words)


def report(source: Source, census: Census) -> None:
    """Say what the file holds."""
    assert census.header is not None
    title = f"{census.header.magic.decode()} version {census.header.version}"
    click.echo(f"{source.name}: whole, {title}, checksum {census.checksum}")
    keys = counted(census.kinds.total(), "key")
    dbs = counted(len(census.dbs), "database")
    expires = f"{census.expires:,} with an expiry"
    if census.expired:
        expires += f", which is past for {census.expired:,} of them"
    if who := writer(census.aux):
        click.echo(f"  written by {who}")
    click.echo(f"  {keys} in {dbs}, {expires}")
    if census.kinds:
        kinds = sorted(census.kinds.items(), key=lambda item: (-item[1], item[0]))
        click.echo("  " + ", ".join(f"{kind} {number:,}" for kind, number in kinds))
    if census.functions:
        libraries = "library" if census.functions == 1 else "libraries"
        click.echo(f"  {census.functions:,} function {libraries}")
    if census.empty:
        click.echo(f"  {counted(census.empty, 'collection')} without elements: Redis skips these")
    if census.modules:
        names = ", ".join(sorted(census.modules))
        click.echo(f"  needs modules with these data types: {names}")
    if source.trailing_bytes:
        click.echo(f"  {counted(source.trailing_bytes, 'byte')} after the end (an AOF tail?)")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--no-checksum", is_flag=True, help="Do not hold the checksum at the end against it.")
@click.option(
    "--duplicates",
    is_flag=True,
    help="Also look for keys that stand twice, which Redis refuses to load (some 80 bytes of "
    "memory a key).",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of files that are whole.")
def check(files: tuple[str, ...], no_checksum: bool, duplicates: bool, quiet: bool) -> int:
    """Read FILEs to the end and verify their structure and checksum.

    For a damaged file it prints the offset, the key and the reason, and the exit status is 1.
    FILE may be - for standard input, and may be gzip or lz4.
    """
    statuses = [exits.OK]
    for name in files:
        census = Census(duplicates)
        try:
            with open_source(name) as source:
                census.walk(source, not no_checksum)
        except RdbError as error:
            report_damage(source, census, error)
            statuses.append(exits.DAMAGED)
        except OSError as error:
            # The files after it are looked at all the same.
            click.echo(f"rdb: {error.filename or name}: {error.strerror}", err=True)
            statuses.append(exits.UNREADABLE)
        else:
            if not quiet:
                report(source, census)
    return max(statuses)
