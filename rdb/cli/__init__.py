"""The `rdb` command.

    check    verify files, say what is in them
    convert  filter, merge and split files, for servers of any version
    diff     compare what two files mean
    dump     print a file as JSON Lines, CSV or commands
    export   write a file as Parquet
    memory   show which keys take a server's memory
    repair   keep what can be read of a damaged file

Exit status: see rdb.cli.exits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from rdb.cli import exits
from rdb.cli.check import check
from rdb.cli.convert import convert
from rdb.cli.diff import diff
from rdb.cli.dump import dump
from rdb.cli.export import export
from rdb.cli.memory import memory
from rdb.cli.repair import repair


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 all well, 1 the input is damaged, 2 wrong usage, 3 the input or output "
    "cannot be read or written.",
)
def cli() -> None:
    """Look into RDB files, as Redis 2 to 8.10 and Valkey write them."""


cli.add_command(check)
cli.add_command(convert)
cli.add_command(diff)
cli.add_command(dump)
cli.add_command(export)
cli.add_command(memory)
cli.add_command(repair)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit status."""
    try:
        # Not cli.main(): it takes a broken pipe for status 1, which means damage here.
        with cli.make_context("rdb", list(arguments)) as context:
            status = cli.invoke(context)
        if sys.stdout is not None:  # it is where descriptor 1 was closed
            sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return exits.USAGE
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except BrokenPipeError:
        # What the interpreter still holds for stdout must not fail again when it exits.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    except OSError as error:
        click.echo(f"rdb: {error.filename or 'input or output'}: {error.strerror}", err=True)
        return exits.UNREADABLE
    return int(status or exits.OK)


def main() -> None:
    """Entry point of `rdb`."""
    with exits.leaving_on_signals():
        sys.exit(run(sys.argv[1:]))
