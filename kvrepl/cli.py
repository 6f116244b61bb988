"""The commands `kvrepl-server` and `kvrepl`.

`kvrepl-server` takes its arguments exactly as redis-server does, which no library for command
lines can read ([FILE|-] [--directive value ...]); one option is not Redis's, --restore-at.
`kvrepl` is an ordinary command with subcommands.
"""

from __future__ import annotations

import asyncio
import glob
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from kvrepl import REDIS_VERSION, __version__
from kvrepl.config import Config, ConfigError
from kvrepl.errors import AofError, StorageError
from kvrepl.server.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FAILURE: Final = 1
RESTORE_AT: Final = "--restore-at"

USAGE: Final = f"""\
Usage: kvrepl-server [/path/to/redis.conf] [options] [-]
       kvrepl-server - (read config from stdin)
       kvrepl-server -v or --version
       kvrepl-server -h or --help

Every directive of a Redis {REDIS_VERSION} configuration file is an option:
       kvrepl-server (run the server with default conf)
       echo 'maxmemory 128mb' | kvrepl-server -
       kvrepl-server /etc/redis/6379.conf
       kvrepl-server --port 7777
       kvrepl-server --port 7777 --replicaof 127.0.0.1 8888
       kvrepl-server /etc/myredis.conf --loglevel verbose -
       kvrepl-server /etc/myredis.conf --loglevel verbose

To go back to a moment, with an AOF written under aof-timestamp-enabled yes:
       kvrepl-server /etc/myredis.conf {RESTORE_AT} 2026-11-20T09:00:00Z
restores the append-only folder as it was into a new one beside it, and serves that.

Exit status: 0 after a shutdown, 1 when the start or the shutdown failed.
"""


def server_main() -> NoReturn:
    """Entry point of `kvrepl-server`."""
    sys.exit(serve(sys.argv[1:]))


def serve(arguments: list[str]) -> int:
    """Run a server in this process until it is shut down.

    Args:
        arguments: those of redis-server, without the program's name.

    Returns:
        The exit status.
    """
    if len(arguments) == 1 and arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if len(arguments) == 1 and arguments[0] in ("-v", "--version"):
        print(
            f"kvrepl server v={__version__} (Redis {REDIS_VERSION} compatible)"
            f" python={sys.version.split()[0]} bits=64"
        )
        return 0
    try:
        arguments, restore_at_s = _take_moment(arguments)
        config = Config.from_args(
            arguments,
            _read_file,
            expand_pattern=lambda pattern: sorted(glob.glob(pattern)),
            read_stdin=sys.stdin.read,
            absolute=os.path.abspath,
        )
        start_dir = os.getcwd()
        _enter_dir(config)
        log = _open_log(config)
        if restore_at_s is not None and not _restore(config, restore_at_s, log):
            return EXIT_FAILURE
        from kvrepl.server.app import Server  # after the answers that need no server

        server = Server(config, log, start_dir)
        server.rename_commands()
        server.declare_users()
    except ConfigError as error:
        print(error.report(), end="", file=sys.stderr)
        return EXIT_FAILURE
    if config.daemonize and not server.supervisor.is_supervised:
        _daemonize()
    # Forking while the AOF's background thread exists is safe here: that thread holds no lock
    # that the child, which only writes a file and exits, would need.
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(server.run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed, unless KVREPL_LOOP=asyncio."""
    if os.environ.get("KVREPL_LOOP") == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _read_file(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _take_moment(arguments: list[str]) -> tuple[list[str], int | None]:
    """Take --restore-at TIME out of the arguments.

    Returns:
        The other arguments, and the moment in Unix seconds, None where none is given.

    Raises:
        ConfigError: it is not a moment.
    """
    if RESTORE_AT not in arguments:
        return arguments, None
    from kvrepl.toolbox.aof_cut import parse_moment  # most servers never need it

    at = arguments.index(RESTORE_AT)
    text = arguments[at + 1] if at + 1 < len(arguments) else ""
    try:
        return arguments[:at] + arguments[at + 2 :], parse_moment(text)
    except ValueError as error:
        raise ConfigError(
            f"{RESTORE_AT} needs a time like 2026-11-20T09:00:00Z or 1795165200: {error}"
        ) from error


def _restore(config: Config, at_s: int, log: Log) -> bool:
    """Restore the append-only folder to a moment, and have the server start on the result.

    Returns:
        Whether it could be done; the log says why not.
    """
    from kvrepl.toolbox.aof_cut import restore_beside, utc

    source = Path(config.dir) / config.appenddirname
    refused = f"Can't restore {source} as of {utc(at_s)}, so there is nothing to start on"
    if config.replicaof is not None:
        log.warning(f"{refused}: a replica takes the dataset of its master")
        return False
    try:
        restored, cut = restore_beside(source, config.appendfilename, at_s)
    except (AofError, StorageError) as error:
        log.warning(f"{refused}: {error} (`kvrepl aof restore` has more options)")
        return False
    except OSError as error:
        log.warning(f"{refused}: {error.filename or source}: {error.strerror}")
        return False
    config.appenddirname = restored.folder.name
    config.appendonly = True
    log.notice(
        f"Restored {source} as of {utc(at_s)} ({cut.why}) into {restored.folder}, which is served"
        f" now. The next start needs appenddirname {config.appenddirname} and appendonly yes in"
        f" place of {RESTORE_AT}; CONFIG REWRITE writes both"
    )
    return True


def _open_log(config: Config) -> Log:
    log = Log()
    log.set_level(config.loglevel)
    if config.syslog_enabled:
        log.use_syslog(config.syslog_ident, config.syslog_facility)
    try:
        log.open(config.logfile)
    except OSError as error:
        raise ConfigError(f"Can't open the log file: {error.strerror}") from error
    return log


def _enter_dir(config: Config) -> None:
    """Enter `dir`; everything is relative to it from now on."""
    try:
        if config.dir:
            os.chdir(config.dir)
        config.dir = os.getcwd()
    except OSError as error:
        raise ConfigError(f"Can't chdir to '{config.dir}': {error.strerror}") from error
    if not os.access(".", os.W_OK) and (config.save or config.appendonly):
        raise ConfigError(
            f"The folder '{config.dir}' is not writable: nothing could be saved there"
        )


def _daemonize() -> None:
    """Go on in the background, detached from the terminal."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


class _Tools(click.Group):
    """Imports `kvrepl aof` only where it is asked for: a server starts without it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "aof"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "aof":
            return super().get_command(ctx, cmd_name)
        from kvrepl.toolbox.aof import aof

        return aof


@click.group(cls=_Tools, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kvrepl")
def main() -> None:
    """Redis replication and persistence in Python: tools beside kvrepl-server."""


@main.command("server", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def server_command(arguments: tuple[str, ...]) -> None:
    """Run a server; the same as kvrepl-server ARGUMENTS."""
    sys.exit(serve(list(arguments)))


@main.command("demo")
def demo_command() -> None:
    """Show replication step by step with four servers of its own (a few seconds)."""
    from kvrepl.toolbox import demo

    demo.run()


if __name__ == "__main__":
    server_main()
