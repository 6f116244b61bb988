"""`rdb diff`: what two files mean, held against each other.

Keys stand in a file in no useful order, so neither file can be read beside the other. Instead:

    1  each file is read once, values undecoded, and leaves 32 bytes a key, a digest of its name
       and one of its type, expiry and encoded value, in one of 64 buckets on disk
    2  bucket by bucket the two sides are joined: what is equal byte for byte is done with
    3  the others are read again: those of A go, encoded, to a spool on disk; those of B are
       compared with them, decoded, as they come; what is left of A was removed

Memory: some 250 bytes a key of one bucket, a 64th of the file's keys; the digests of the keys
that differ in their bytes, some 200 bytes each; and the two values in hand. No value is ever
called the same for its digest alone unless its name has the same digest as well, both of 128
bits.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Final

import click

from rdb.cli import exits
from rdb.cli.delta import key_delta, whole_form
from rdb.cli.form import Json, bytes_form
from rdb.cli.lines import Lines
from rdb.cli.select import Account, Selection, decoded, selecting, selection_of
from rdb.cli.source import open_source, open_stored
from rdb.constants import TYPE_HASH, TYPE_STREAM_LISTPACKS_3
from rdb.dialect import REDIS
from rdb.errors import RdbError
from rdb.records import Function, Key
from rdb.templates import REFERENCES
from rdb.values import encode_value

_BUCKETS: Final = 64
_DIGEST_BYTES: Final = 16
_BUCKET_MEMORY_BYTES: Final = 1 << 16
_SPOOL_MEMORY_BYTES: Final = 1 << 20


class Operand:
    """One of the two files.

    Args:
        path: a file that can be read more than once.
        name: what to call it.
        selection: which of its keys count.

    Attributes:
        account: what became of its keys, after `fill`.
        functions: library name -> source text, after `fill`.
        dialect: that of the file, while and after it is read.
    """

    def __init__(self, path: str, name: str, selection: Selection) -> None:
        self.name = name
        self.account = Account()
        self.functions: dict[bytes, bytes] = {}
        self.dialect = REDIS
        self._path = path
        self._selection = selection

    def keys(self, account: Account) -> Iterator[tuple[bytes, Key]]:
        """Yield (digest of the name, the key with its encoded value).

        Raises:
            RdbError, OSError: see Source.records.
        """
        with open_source(self._path) as source:
            for record in source.records(raw_values=True):
                self.dialect = source.dialect
                if isinstance(record, Key):
                    if self._selection.admits(record, account):
                        name = b"%d %b" % (record.db, record.key)
                        yield _digest(name), record
                elif isinstance(record, Function):
                    self.functions[record.name] = record.code

    def fill(self, buckets: list[IO[bytes]], ttl: bool) -> None:
        """Write the digests of every key to its bucket."""
        for name, key in self.keys(self.account):
            at_ms = key.expires_at_ms if ttl else None
            dialect = self.dialect
            # From here on the same type code means another thing under the other magic, and the
            # same bytes in another file, where they refer to a template.
            is_valkeys = dialect.valkey and key.type_code > TYPE_STREAM_LISTPACKS_3
            if key.type_code in REFERENCES and not is_valkeys:
                flat = decoded(key, dialect).value
                key = key._replace(type_code=TYPE_HASH, value=encode_value(TYPE_HASH, flat))
            head = b"%d %d %r " % (is_valkeys, key.type_code, at_ms)
            buckets[name[0] % _BUCKETS].write(name + _digest(head + key.value))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _pairs(bucket: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    bucket.seek(0)
    while pair := bucket.read(2 * _DIGEST_BYTES):
        yield pair[:_DIGEST_BYTES], pair[_DIGEST_BYTES:]


def _unequal(before: Operand, after: Operand, ttl: bool) -> tuple[set[bytes], int]:
    """Find the names whose records are not byte for byte the same; count the others.

    Raises:
        RdbError, OSError: see Source.records.
    """
    unequal: set[bytes] = set()
    same = 0
    with ExitStack() as stack:
        sides: list[list[IO[bytes]]] = []
        for operand in (before, after):
            buckets: list[IO[bytes]] = [
                stack.enter_context(tempfile.SpooledTemporaryFile(_BUCKET_MEMORY_BYTES))
                for _ in range(_BUCKETS)
            ]
            with _blamed(operand):
                operand.fill(buckets, ttl)
            sides.append(buckets)
        for old_bucket, new_bucket in zip(*sides, strict=True):
            old = _loaded(old_bucket, before)
            new = _loaded(new_bucket, after)
            for name in old.keys() | new.keys():
                if old.get(name) == new.get(name):
                    same += 1
                else:
                    unequal.add(name)
    return unequal, same


def _loaded(bucket: IO[bytes], operand: Operand) -> dict[bytes, bytes]:
    digests: dict[bytes, bytes] = {}
    for name, value in _pairs(bucket):
        if digests.setdefault(name, value) is not value:
            raise click.exceptions.Exit(_damaged(operand, "a key stands twice (see rdb check)"))
    return digests


@contextmanager
def _blamed(operand: Operand) -> Iterator[None]:
    """Say which file an RdbError is about, and leave with the status of a damaged operand."""
    try:
        yield
    except RdbError as error:
        raise click.exceptions.Exit(_damaged(operand, str(error))) from None


def _damaged(operand: Operand, what: str) -> int:
    click.echo(f"{operand.name}: damaged: {what}", err=True)
    return exits.DAMAGED_OPERAND


class Differences:
    """Prints what differs, and counts it.

    Args:
        as_json: print JSON Lines, not text.
        quiet: only count.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.added = self.removed = self.changed = 0
        self._as_json = as_json
        self._quiet = quiet
        self._lines = Lines()

    def add(self, form: dict[str, Json]) -> None:
        """Print one difference: {change: added, removed or changed, ...}."""
        change = form["change"]
        setattr(self, change, getattr(self, change) + 1)
        if self._quiet:
            return
        if self._as_json:
            self._lines.add(form)
        else:
            self._lines.raw(text_of(form).encode())

    def flush(self) -> None:
        """Write what is waiting."""
        self._lines.flush()

    @property
    def total(self) -> int:
        """How many there are."""
        return self.added + self.removed + self.changed


def _quoted(form: Json) -> str:
    return json.dumps(form, ensure_ascii=False)


def text_of(form: dict[str, Json]) -> str:
    """A difference for people: a line for the key, one below it for each part that differs."""
    sign = {"added": "+", "removed": "-", "changed": "~"}[form["change"]]
    if "function" in form:
        return f"{sign} function library {_quoted(form['function'])}\n"
    lines = [f"{sign} db {form['db']} {form['type']} {_quoted(form['key'])}"]
    if "delta" in form:
        lines += _delta_lines(form["delta"], "    ")
    return "\n".join(lines) + "\n"


def _delta_lines(delta: dict[str, Json], indent: str) -> Iterator[str]:
    if "before" in delta:
        yield f"{indent}{_quoted(delta['before'])} -> {_quoted(delta['after'])}"
    for name, part in delta.items():
        if name == "removed" or name == "added":
            sign = "-" if name == "removed" else "+"
            for item in part:
                yield f"{indent}{sign} {_quoted(item)}"
        elif name == "changed":
            for what, before, after in part:
                yield f"{indent}~ {_quoted(what)}: {_quoted(before)} -> {_quoted(after)}"
        elif name == "groups":
            yield f"{indent}groups:"
            yield from _delta_lines(part, indent + "    ")
        elif name == "at":
            yield f"{indent}from index {part}:"
        elif name not in ("before", "after"):
            if part and isinstance(part[0], list):
                for what, before, after in part:
                    yield f"{indent}{name} of {_quoted(what)}: {before} -> {after}"
            else:
                yield f"{indent}{name}: {part[0]} -> {part[1]}"


def _compare(
    before: Operand, after: Operand, unequal: set[bytes], ttl: bool, out: Differences
) -> int:
    """Print the differences among the keys in `unequal`; return how many mean the same."""
    same = 0
    spooled: dict[bytes, int] = {}
    with tempfile.SpooledTemporaryFile(_SPOOL_MEMORY_BYTES) as spool:

        def old_key(offset: int) -> Key:
            spool.seek(offset)
            with _blamed(before):
                return decoded(Key(*pickle.load(spool)), before.dialect)

        with _blamed(before):
            for name, key in before.keys(Account()):
                if name in unequal:
                    spooled[name] = spool.tell()
                    pickle.dump(tuple(key), spool, pickle.HIGHEST_PROTOCOL)
        with _blamed(after):
            for name, key in after.keys(Account()):
                if name not in unequal:
                    continue
                new = decoded(key, after.dialect)
                if name not in spooled:
                    out.add(whole_form("added", new))
                    continue
                delta = key_delta(old_key(spooled.pop(name)), new, ttl=ttl)
                if delta:
                    form = {"db": new.db, "key": bytes_form(new.key), "type": new.kind}
                    out.add({"change": "changed"} | form | {"delta": delta})
                else:
                    same += 1
        for offset in spooled.values():
            out.add(whole_form("removed", old_key(offset)))
    return same


def _compare_functions(before: Operand, after: Operand, out: Differences) -> None:
    old, new = before.functions, after.functions
    for name in old.keys() | new.keys():
        code = {side: bytes_form(part[name]) for side, part in _sides(old, new) if name in part}
        if old.get(name) != new.get(name):
            change = "changed" if len(code) == 2 else "removed" if name in old else "added"
            out.add({"change": change, "function": bytes_form(name)} | code)


def _sides(
    old: dict[bytes, bytes], new: dict[bytes, bytes]
) -> tuple[tuple[str, dict[bytes, bytes]], ...]:
    return (("before", old), ("after", new))


@contextmanager
def _rereadable(file: str) -> Iterator[str]:
    """Give a path that can be read twice: standard input is copied to a file."""
    if file != "-":
        yield file
        return
    with open_stored(file) as raw, tempfile.NamedTemporaryFile(prefix="rdb-diff-") as copy:
        shutil.copyfileobj(raw, copy)
        copy.flush()
        yield copy.name


@click.command(
    epilog="Exit status: 0 the files mean the same, 1 they differ, 2 wrong usage, 3 an input "
    "cannot be read, 4 an input is damaged."
)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines, values included.")
@click.option("--ignore-ttl", is_flag=True, help="The expiry of keys and fields does not count.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the differences, only count them.")
@selecting
def diff(
    before: str, after: str, as_json: bool, ignore_ttl: bool, quiet: bool, **options: object
) -> int:
    """Compare what the files A and B mean, whatever their versions, encodings and order.

    Keys that only B has are added (+), those that only A has removed (-), the others compared
    by type, expiry and value down to the field, member or element (~). Function libraries are
    compared too, unless keys are chosen. Access times and frequencies are not, nor when a
    consumer was last seen.
    Memory does not grow with the files but by some 200 bytes for each key that differs. A or B
    may be - for standard input, and may be gzip or lz4.
    """
    if before == after == "-":
        raise click.UsageError("only one of A and B can be standard input")
    selection = selection_of(**options)  # type: ignore[arg-type]
    with _rereadable(before) as before_path, _rereadable(after) as after_path:
        old = Operand(before_path, _named(before), selection)
        new = Operand(after_path, _named(after), selection)
        unequal, same = _unequal(old, new, not ignore_ttl)
        out = Differences(as_json, quiet)
        if selection.is_everything:
            _compare_functions(old, new, out)
        same += _compare(old, new, unequal, not ignore_ttl, out)
    out.flush()
    old.account.report(old.name)
    new.account.report(new.name)
    click.echo(
        f"{out.added:,} added, {out.removed:,} removed, {out.changed:,} changed, {same:,} the same",
        err=True,
    )
    return exits.DIFFERENT if out.total else exits.OK


def _named(file: str) -> str:
    return "standard input" if file == "-" else file
