"""The `kvrepl aof` commands: look into an append-only log, mend it, take it back to a moment.

    check      is it whole, what is in it, and if not: where, which command, what can be saved
    dump       its commands as JSON Lines or RESP
    fix        cut off a torn or damaged tail
    truncate   cut off what was written after a moment
    restore    the log as it was at a moment, in a new folder

PATH is a folder with a manifest in it, a manifest, or a single file. Only `fix` and `truncate`
change the log, and only the end of its last file unless told otherwise; both ask first, and keep
what they cut off in a file beside it.

Exit status: 0 all well, or done; 1 the log is damaged, does not hold what was asked for, or was
left as it is; 2 wrong usage; 3 a file cannot be read or written.

Source: what redis-check-aof.c checks, and what its --fix and --truncate-to-timestamp do.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import click

from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.records import from_rdb
from kvrepl.errors import AofError, StorageError
from kvrepl.keyspace.encoding import type_name
from kvrepl.numbers import parse_int
from kvrepl.persistence.aof import AofReplay, EndKind, select
from kvrepl.persistence.rewrite import REWRITERS
from kvrepl.resp import encode_command
from kvrepl.toolbox.aof_cut import (
    Cut,
    Undated,
    apply_cut,
    parse_moment,
    plan_cut,
    plan_repair,
    restore,
    utc,
)
from kvrepl.toolbox.aof_scan import (
    CHUNK_BYTES,
    Found,
    Log,
    Part,
    excerpt,
    items,
    open_log,
    salvage,
    scan,
    scan_from,
)
from rdb import RdbError
from rdb.cli import exits
from rdb.cli.form import Json, bytes_form
from rdb.cli.lines import Lines
from rdb.reader import RdbReader
from rdb.records import Function, Key

P = ParamSpec("P")
R = TypeVar("R")


def _moment(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read a moment on the command line."""
    try:
        return parse_moment(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{error}. Examples: 2026-11-20T09:00:00Z, 1795165200", ctx, param
        ) from error


def statuses(command: Callable[P, int]) -> Callable[P, None]:
    """Make of a command's result, and of what it raises, the exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with exits.leaving_on_signals():
                status = command(*args, **kwargs)
            if sys.stdout is not None:  # it is where descriptor 1 was closed
                sys.stdout.flush()
        except (AofError, RdbError) as error:
            click.echo(f"kvrepl aof: {error}", err=True)
            status = exits.DAMAGED
        except KeyboardInterrupt:
            status = exits.INTERRUPTED
        except BrokenPipeError:
            # What the interpreter still holds for stdout must not fail again when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = exits.BROKEN_PIPE
        except StorageError as error:
            click.echo(f"kvrepl aof: {error}", err=True)
            status = exits.UNREADABLE
        except OSError as error:
            click.echo(f"kvrepl aof: {error.filename or 'output'}: {error.strerror}", err=True)
            status = exits.UNREADABLE
        sys.exit(status)

    return run


@click.group(
    "aof",
    epilog="Exit status: 0 all well, or done; 1 the log is damaged, does not hold what was asked "
    "for, or was left as it is; 2 wrong usage; 3 a file cannot be read or written.",
)
def aof() -> None:
    """Look into append-only logs, mend them, take them back to a moment.

    PATH is an append-only folder (appendonlydir), its manifest, or a single file.
    """


# ---------------------------------------------------------------------------------- check


@aof.command("check")
@click.argument("path")
@statuses
def check_command(path: str) -> int:
    """Read PATH to the end, as a server does when it starts, and say what is in it.

    Where it is damaged: the file, the offset, the command, and what can be saved.
    """
    log = open_log(path)
    if log.manifest is not None:
        history = len(log.manifest.history)
        click.echo(
            f"{log.layout.filename}: {_counted(len(log.parts), 'file')}"
            + (f", and {history} of an earlier base waiting to be removed" if history else "")
        )
    whole = True
    for index, part in enumerate(log.parts):
        if part.size_bytes is None:
            click.echo(f"{part.name}: missing; the manifest names it")
            whole = False
            continue
        found = scan(part, strict=True)
        whole = whole and found.is_whole
        _report(found, is_last=not any(p.size_bytes for p in log.parts[index + 1 :]))
    for name in log.strangers():
        click.echo(f"{name}: not in the manifest, so no server reads it")
    return exits.OK if whole else exits.DAMAGED


def _report(found: Found, *, is_last: bool) -> None:
    """Say what a file holds, and what is wrong with it."""
    part = found.part
    size = _counted(part.size_bytes or 0, "byte")
    click.echo(f"{part.name}: {'whole' if found.is_whole else 'DAMAGED'}, {part.role}, {size}")
    if found.rdb_version is not None:
        when = "" if found.written_s is None else f", written {utc(found.written_s)}"
        keys = _counted(found.rdb_keys, "key")
        click.echo(f"  RDB version {found.rdb_version} with {keys}{when}")
    if found.commands or found.rdb_version is None:
        when = ", no timestamps"
        if found.first_s is not None and found.last_s is not None:
            when = f", {utc(found.first_s)} to {utc(found.last_s)}"
            if found.undated:
                when += f", the first {found.undated:,} without a timestamp"
        click.echo(f"  {_counted(found.commands, 'command')}{when}")
    unknown = _unknown(found.names)
    if unknown:
        click.echo(f"  commands that Redis 7.0 does not have, so it will not load: {unknown}")
    if found.rdb_error is not None:
        error = found.rdb_error
        where = f" at offset {error.offset:,}" if error.offset >= 0 else ""
        click.echo(f"  the RDB is damaged{where}: {error.message}")
        click.echo(f"  {_counted(found.rdb_keys, 'key')} before that can be read")
    elif not found.is_whole:
        _report_end(found, is_last)


def _report_end(found: Found, is_last: bool) -> None:
    """Say where and why the commands of a file end too early, and what is to be done."""
    part, end = found.part, found.end
    valid, lost = end.valid_up_to_bytes, (part.size_bytes or 0) - end.valid_up_to_bytes
    expected = f": expected {end.reason}" if end.reason else ""
    click.echo(f"  {end.kind.value} at offset {end.offset:,}{expected}")
    if end.kind is EndKind.BAD_FORMAT:
        click.echo(f"  what stands there: {excerpt(part, end.offset)}")
    if end.kind is EndKind.OPEN_TRANSACTION or found.whole_up_to > valid:
        click.echo(f"  the transaction that has no EXEC begins at offset {valid:,}")
    if end.kind is not EndKind.OPEN_TRANSACTION:
        at = found.whole_up_to
        click.echo(f"  the command that is not whole begins at offset {at:,}: {excerpt(part, at)}")
    click.echo(f"  whole up to offset {valid:,}; {_counted(lost, 'byte')} after that are lost")
    if end.kind is EndKind.BAD_FORMAT:
        again = salvage(part, found.whole_up_to)
        if again is not None:
            at, rest = again
            click.echo(
                f"  from offset {at:,} on {_counted(rest.commands, 'command')} can be read again:"
                f" kvrepl aof dump --from {at} {part.path}"
            )
        if end.reason.startswith("CR LF"):
            click.echo("  servers do not look at these bytes, and may load what was never written")
        else:
            click.echo("  no server loads this")
    elif is_last:
        click.echo("  a server with aof-load-truncated yes, the default, cuts it off and starts")
    else:
        click.echo("  it is not the last file, so no server loads this")


def _unknown(names: Counter[bytes]) -> str:
    """The commands that no server of this version has, with how often they occur."""
    import kvrepl.commands  # noqa: F401  (registers them; not needed by the other subcommands)
    from kvrepl.engine.spec import REGISTRY

    strange = [name for name in sorted(names) if name.decode("latin-1").lower() not in REGISTRY]
    return ", ".join(f"{name.decode('latin-1')} ({names[name]:,})" for name in strange)


# ----------------------------------------------------------------------------------- dump


class Line(NamedTuple):
    """A command to be printed; the offsets are None for one made from an RDB."""

    part: Part
    argv: list[bytes]
    offset: int | None = None
    end: int | None = None
    time_s: int | None = None


@aof.command("dump")
@click.argument("path")
@click.option("--resp", is_flag=True, help="As RESP, for redis-cli --pipe; without annotations.")
@click.option(
    "--from",
    "from_offset",
    type=click.IntRange(min=0),
    metavar="OFFSET",
    help="Begin at this offset, at which a command begins; PATH must be a single file then.",
)
@click.option("--skip-rdb", is_flag=True, help="Leave out what stands in an RDB.")
@statuses
def dump_command(path: str, resp: bool, from_offset: int | None, skip_rdb: bool) -> int:
    """Print the commands of PATH as JSON Lines.

    One object a command: file, offset, end (the byte after it), time (Unix seconds, of the
    timestamp before it), db, argv. Arguments are a JSON string where they are UTF-8, else
    {"b64": "..."}. MULTI and EXEC are commands like any other. An RDB is printed as the commands
    that rebuild it, without offsets. A damaged log is printed up to the damage, a transaction
    without EXEC is not, and the exit status is then 1.
    """
    log = open_log(path)
    if from_offset is not None and log.manifest is not None:
        raise click.UsageError("--from needs a single file")
    output = Lines()
    status = exits.OK
    for part in log.parts:
        if part.size_bytes is None:
            raise AofError("the manifest names it, and it is not there", path=part.name)
        found = scan(part) if from_offset is None else scan_from(part, from_offset)
        _print(output, _lines(found, from_offset, skip_rdb), resp)
        output.flush()
        if not found.is_whole:
            where = found.rdb_error or f"{found.end.kind.value} at offset {found.end.offset:,}"
            click.echo(f"{part.name}: {where}", err=True)
            status = exits.DAMAGED
            break
    return status


def _lines(found: Found, from_offset: int | None, skip_rdb: bool) -> Iterator[Line]:
    """Yield the commands of a file."""
    part = found.part
    if found.rdb_version is not None and not skip_rdb:
        for chunk in _rdb_as_commands(part):
            for argv, _ in AofReplay().feed(chunk):
                yield Line(part, argv)
    time_s: int | None = None
    start = found.rdb_bytes if from_offset is None else from_offset
    for item in items(part, start, found.end.valid_up_to_bytes):
        if item.annotation is None:
            if item.argv:
                yield Line(part, item.argv, item.offset, item.end, time_s)
        elif item.annotation.startswith(b"TS:"):
            time_s = parse_int(item.annotation[3:])


def _rdb_as_commands(part: Part) -> Iterator[bytes]:
    """Yield the commands that rebuild an RDB, each chunk whole commands.

    Raises:
        RdbError: it is damaged, or holds what Redis 7.0 has no command for.
    """
    reader = RdbReader()
    limits = Limits()
    db: int | None = None
    with open(part.path, "rb") as file:
        while not reader.finished and (chunk := file.read(CHUNK_BYTES)):
            for record in reader.feed(chunk):
                if isinstance(record, Function):
                    yield encode_command([b"FUNCTION", b"LOAD", record.code])
                if not isinstance(record, Key) or record.is_empty:
                    continue
                if record.db != db:
                    db = record.db
                    yield select(db)
                value = from_rdb(record.type_code, record.value, limits)
                yield from REWRITERS[type_name(value)](record.key, value)
                if record.expires_at_ms is not None:
                    at = b"%d" % record.expires_at_ms
                    yield encode_command([b"PEXPIREAT", record.key, at])
    reader.close()


def _print(output: Lines, lines: Iterator[Line], resp: bool) -> None:
    db = 0
    for line in lines:
        if resp:
            output.raw(encode_command(line.argv))
            continue
        if len(line.argv) == 2 and line.argv[0].upper() == b"SELECT":
            db = parse_int(line.argv[1]) or 0
        form: dict[str, Json] = {"file": line.part.name}
        if line.offset is not None:
            form |= {"offset": line.offset, "end": line.end}
        if line.time_s is not None:
            form["time"] = line.time_s
        form |= {"db": db, "argv": [bytes_form(arg) for arg in line.argv]}
        output.add(form)


# ------------------------------------------------------------------- fix, truncate, restore

_yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
_at = click.option(
    "--at",
    "at_s",
    metavar="TIME",
    callback=_moment,
    required=True,
    help="ISO 8601 with a time zone (2026-11-20T09:00:00Z) or Unix seconds; what was written in "
    "that second counts.",
)
_undated = click.option(
    "--undated",
    type=click.Choice(["refuse", "keep", "drop"]),
    default="refuse",
    show_default=True,
    help="What to do where no timestamp says whether commands are from before the moment.",
)


@aof.command("fix")
@click.argument("path")
@_yes
@click.option(
    "--drop-later-files",
    is_flag=True,
    help="Where the damage is not in the last file: cut it there, and take the files after it out "
    "of the log.",
)
@statuses
def fix_command(path: str, yes: bool, drop_later_files: bool) -> int:
    """Cut off a torn or damaged tail, so that a server loads PATH again. Stop the server first.

    Shows what would be cut, and asks. What is cut off is kept in FILE.cut-OFFSET beside it.
    """
    log = open_log(path)
    cut = plan_repair(log)
    if cut is None:
        click.echo("Nothing to fix: it is whole.")
        return exits.OK
    if cut.found.end.kind is EndKind.BAD_FORMAT:
        again = salvage(cut.part, cut.found.whole_up_to)
        if again is not None:
            commands = _counted(again[1].commands, "command")
            click.echo(f"Among what would be cut off {commands} can be read, from {again[0]:,} on.")
    later = any(part.size_bytes for part in cut.dropped)
    if later and not drop_later_files:
        _show(cut)
        raise AofError(
            "the files after it hold commands, which are worth nothing without those that are lost;"
            " --drop-later-files cuts here and takes them out of the log",
            path=cut.part.name,
        )
    return _cut_in_place(log, cut, yes)


@aof.command("truncate")
@click.argument("path")
@_at
@_undated
@_yes
@statuses
def truncate_command(path: str, at_s: int, undated: Undated, yes: bool) -> int:
    """Cut off what was written after a moment. Stop the server first.

    Only the last file is cut; where the moment is in an earlier one, use `restore`. What is cut
    off is kept in FILE.cut-OFFSET beside it.
    """
    log = open_log(path)
    cut = plan_cut(log, at_s, undated=undated)
    if any(part.size_bytes for part in cut.dropped):
        raise AofError(
            f"{utc(at_s)} is in this file, which is not the last; `kvrepl aof restore` writes the"
            " log up to it into a new folder",
            path=cut.part.name,
        )
    if not cut.cut_bytes:
        click.echo(f"Nothing to cut: nothing is later than {utc(at_s)} ({cut.why}).")
        return exits.OK
    return _cut_in_place(log, cut, yes)


@aof.command("restore")
@click.argument("folder", metavar="DIR")
@click.argument("target", metavar="NEWDIR", type=click.Path(path_type=Path))
@_at
@_undated
@statuses
def restore_command(folder: str, target: Path, at_s: int, undated: Undated) -> int:
    """Write the log DIR as it was at a moment into the folder NEWDIR. DIR is only read.

    DIR may be in use by a server. Needs timestamps in the log (aof-timestamp-enabled yes); goes
    back as far as the base of the log, that is to its last rewrite.
    """
    log = open_log(folder)
    if log.manifest is None:
        raise click.UsageError("restore needs a folder with a manifest")
    cut = plan_cut(log, at_s, undated=undated)
    written = restore(log, cut, target)
    size_bytes = sum(part.size_bytes or 0 for part in written.parts)
    click.echo(f"{target}: the log up to {utc(at_s)}; {cut.why}")
    click.echo(f"  {_counted(len(written.parts), 'file')}, {_counted(size_bytes, 'byte')}")
    place = written.folder.resolve()
    click.echo(
        f"To start on it: kvrepl-server --dir {place.parent} --appenddirname {place.name}"
        f" --appendfilename {written.layout.filename} --appendonly yes"
    )
    return exits.OK


def _show(cut: Cut) -> None:
    """Say what a cut would do."""
    part = cut.part
    if cut.cut_bytes:
        click.echo(
            f"{part.name}: {_counted(cut.cut_bytes, 'byte')} of {part.size_bytes:,} would be cut"
            f" off, from offset {cut.size_bytes:,} on: {excerpt(part, cut.size_bytes)}"
        )
        click.echo(f"  because: {cut.why}")
    for dropped in cut.dropped:
        click.echo(f"{dropped.name}: would be taken out of the log")


def _cut_in_place(log: Log, cut: Cut, yes: bool) -> int:
    """Show a cut, ask, and make it."""
    _show(cut)
    if not yes and not _agreed():
        click.echo("Left as it is.")
        return exits.DAMAGED
    for path in apply_cut(log, cut):
        click.echo(f"Kept what was cut off: {path}")
    return exits.OK


def _agreed() -> bool:
    """Ask; no answer is a no."""
    try:
        return sys.stdin is not None and click.confirm("Go ahead?")
    except click.Abort:
        click.echo()
        return False


def _counted(number: int, noun: str) -> str:
    """ "1 key", "1,200 keys"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
