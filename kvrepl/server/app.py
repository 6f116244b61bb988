"""The server: wires every part together, starts it, and ends it.

    Server
      config, log, clock
      engine        commands and keyspace                 kvrepl.engine
      turn          the end of each turn                  server/turn
      listeners, clients, tls                             server/listeners, clients, connection, tls
      children      fork, watch, reap                     server/children
      saver         SAVE, BGSAVE, loading an RDB          server/saver
      aof           the append-only file                  server/aof
      replication   both ends of the link                 server/replication
      cron          what happens by the clock             server/cron
      host          what commands ask of all these        server/host

Start: configuration, log, sockets, load (RDB or AOF, clients get -LOADING meanwhile), replication,
"Ready to accept connections". End: `shutdown` decides, `run` returns the exit status.

Source: Redis 7.0 server.c (main, initServer, prepareForShutdown, finishShutdown).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

import kvrepl.commands  # noqa: F401  (registers every command)
from kvrepl import REDIS_VERSION, __version__
from kvrepl.engine import gates
from kvrepl.engine.acl.userfile import UserFileError
from kvrepl.engine.dispatch import Engine
from kvrepl.errors import StorageError
from kvrepl.persistence.packing import Packing
from kvrepl.scripting import runtime as scripting
from kvrepl.server import settings
from kvrepl.server.aof import Aof
from kvrepl.server.busy import Busy
from kvrepl.server.children import TITLES, Children
from kvrepl.server.clients import RESERVED_FDS, Clients, TooFewFiles, raise_open_files_limit
from kvrepl.server.clock import RealClock
from kvrepl.server.connection import Connection
from kvrepl.server.crash import CrashHandler, Watchdog
from kvrepl.server.cron import Cron
from kvrepl.server.disk import RealDisk
from kvrepl.server.faults import Faults
from kvrepl.server.host import ServerHost
from kvrepl.server.listeners import ListenError, Listeners
from kvrepl.server.log import Log
from kvrepl.server.memory import ProcessMeter
from kvrepl.server.monitoring import Monitoring
from kvrepl.server.process import Supervisor, Title, disable_huge_pages, wants_huge_pages
from kvrepl.server.replication import ReplicationShell
from kvrepl.server.saver import MISCONF, LoadError, LoadProgress, Saver
from kvrepl.server.shutdown import Shutdown
from kvrepl.server.signals import Signals
from kvrepl.server.tls import Tls, TlsError
from kvrepl.server.turn import Turn

if TYPE_CHECKING:
    from kvrepl.config import Config

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1

COMPILED: Final = (
    "kvrepl._accel",
    "kvrepl.datatypes._elements",
    "kvrepl.datatypes._geo",
    "kvrepl.engine._batch",
    "kvrepl.keyspace._lookup",
    "kvrepl.persistence._walker",
    "kvrepl.server._allocator",
    "rdb._keys",
    "rdb._listpack",
    "rdb._packed",
    "rdb._strings",
    "rdb._text",
)
"""The accelerators; each has a reference in Python, which stands in for it where it is missing."""

BOTH_USERS: Final = (
    "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is"
    " invalid. This setup is very likely to lead to configuration errors and security holes, please"
    " define either an ACL file or declare users directly in your redis.conf, but not both."
)


class StartError(Exception):
    """The server cannot start; its text is for the log."""


class Server:
    """One kvrepl server.

    Args:
        config: its settings, already read.
        log: where it writes.
        start_dir: the working folder before `dir` was entered.
    """

    def __init__(self, config: Config, log: Log, start_dir: str = ".") -> None:
        self.config = config
        self.log = log
        self.start_dir = start_dir
        self.clock = RealClock()
        self.rng = random.Random()
        self.run_id = os.urandom(20).hex()
        self.started_ms = self.clock.now_ms()
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # set by run
        self.meter = ProcessMeter(self)
        self.engine = Engine(config, self.clock, self.rng, meter=self.meter)
        scripting.connect(self.engine).log = self._log_script
        self.disk = RealDisk()
        self.tls = Tls()
        self.monitoring = Monitoring(self)
        self.supervisor = Supervisor(config.supervised, log)
        self.title = Title()
        self.crash_handler = CrashHandler(log)
        self.watchdog = Watchdog(log)
        self.exit_status: int | None = None
        self._ended: asyncio.Event
        self._pidfile = ""
        self._oom_base = _read_oom_score()
        self._tasks: set[asyncio.Future[Any]] = set()

    def rename_commands(self) -> None:
        """Do what the rename-command lines of the configuration ask for.

        Raises:
            ConfigError: there is no such command, or the new name is taken.
        """
        for declaration in self.config.renames:
            _, name, new_name = declaration.words
            try:
                self.engine.rename(name, new_name)
            except ValueError as error:
                raise declaration.error(str(error)) from error

    def declare_users(self) -> None:
        """Make the users of the configuration.

        Raises:
            ConfigError: a `user` line is wrong.
        """
        acl = self.engine.acl
        acl.declare(self.config.users)
        for declaration in self.config.users:
            name = declaration.words[1]
            if not acl.users[name].enabled:
                self.log.notice(
                    f"The user '{name.decode('utf-8', 'backslashreplace')}' is disabled (there is"
                    " no 'on' modifier in the user description). Make sure this is not a"
                    " configuration error."
                )

    def _load_users(self) -> None:
        """Take the users of the ACL file, where there is one.

        Raises:
            StartError: it cannot be read, is wrong, or the configuration has users too.
        """
        name = self.config.aclfile
        if not name:
            return
        if self.config.users:
            raise StartError(BOTH_USERS)
        try:
            self.engine.acl.replace(name, self.host.read_acl_file())
        except StorageError as error:
            reason = f"Error loading ACLs, opening file '{name}': {error.cause.strerror}"
            raise StartError(f"Aborting Redis startup because of ACL errors: {reason}") from error
        except UserFileError as error:
            raise StartError(f"Aborting Redis startup because of ACL errors: {error}") from error

    async def run(self) -> int:
        """Serve until shutdown.

        Returns:
            The exit status of the process.
        """
        self.loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        config, log = self.config, self.log
        log.warning("oO0OoO0OoO0Oo kvrepl is starting oO0OoO0OoO0Oo")
        log.warning(
            f"kvrepl version={__version__}, compatible with Redis {REDIS_VERSION}, bits=64,"
            f" pid={os.getpid()}, just started"
        )
        if absent := [name for name in COMPILED if name not in sys.modules]:
            log.warning(
                f"WARNING: The compiled parts are not in use ({', '.join(absent)}), so everything"
                f" is several times slower. A C compiler at installation brings them;"
                f" KVREPL_PURE=1 and RDB_PURE=1 leave them out."
            )
        if config.config_file or config.explicit:
            log.warning("Configuration loaded")
        else:
            log.warning(
                "Warning: no config file specified, using the default config. In order to"
                " specify a config file use kvrepl-server /path/to/redis.conf"
            )
        idle = config.without_effect()
        if idle:
            log.warning(f"Settings that are accepted and have no effect here: {', '.join(idle)}")
        log.role = "M"
        try:
            self._assemble()
            self._load_users()
            self._banner()
            self.tls.configure(config)
            await self._listen()
        except TlsError as error:
            log.warning(str(error))
            log.warning("Failed to configure TLS. Check logs for more info.")
            return EXIT_FAILURE
        except (ListenError, StartError, TooFewFiles) as error:
            log.warning(str(error))
            return EXIT_FAILURE
        settings.connect(self)
        self.write_pidfile()
        self.apply_oom_score()
        self.signals.install()
        self.title.show_server(config)
        if config.disable_thp:
            disable_huge_pages(log, but_asked_for=wants_huge_pages(config))
        self.meter.start()
        log.warning("Server initialized")
        self.supervisor.starting()
        self.cron.start()
        try:
            await self._load()
        except LoadError as error:
            log.warning(str(error))
            self.listeners.close()
            return EXIT_FAILURE
        if self.exit_status is None:
            self.replication.start()
            self._say_ready()
            await self._ended.wait()
        self.cron.stop()
        self.clients.close_all()
        self.listeners.close()
        await asyncio.sleep(0)
        return self.exit_status or EXIT_OK

    async def _listen(self) -> None:
        config, listeners = self.config, self.listeners
        try:
            backlog = config.tcp_backlog
            found = listeners.tcp.open(config.bind, config.port, backlog)
            found += listeners.tls.open(config.bind, config.tls_port, backlog)
            await listeners.tcp.serve(backlog)
            await listeners.tls.serve(backlog)
            if config.unixsocket:
                await listeners.serve_unix(config.unixsocket, config.unixsocketperm, backlog)
            elif not found:
                raise ListenError("Configured to not listen anywhere, exiting.")
        except ListenError:
            listeners.close()
            raise

    def _assemble(self) -> None:
        loop, log, engine = self.loop, self.log, self.engine
        self.turn = Turn(loop, engine)
        self.faults = Faults(self)
        self.clients = Clients(self)
        self.listeners = Listeners(
            loop,
            log,
            lambda is_unix: Connection(self, is_unix),
            lambda: self.tls.server,
            self.clients.has_room,
        )
        self.children = Children(loop, log, self.fds_for_child_to_close, self.in_child)
        self.saver = Saver(self)
        self.aof = Aof(self)
        self.replication = ReplicationShell(self)
        self.packing = Packing(engine.keyspace)
        self.shutdown = Shutdown(self)
        self.cron = Cron(self)
        self.signals = Signals(self)
        self.host = ServerHost(self)
        engine.host = self.host
        engine.scripts.on_busy = Busy(self).serve
        engine.memory.on_running = self.cron.evict_soon
        engine.take_time = self.refresh_time
        self.turn.steps = [
            self.engine.tracking.broadcast,
            self.aof.before_replies,
            self.replication.before_replies,
        ]
        self._limit_clients()

    def _limit_clients(self) -> None:
        config, log = self.config, self.log
        wanted = config.maxclients
        config.maxclients, refusal = raise_open_files_limit(wanted)
        if refusal:
            log.warning(
                f"You requested maxclients of {wanted} requiring at least"
                f" {wanted + RESERVED_FDS} max file descriptors."
            )
            log.warning(
                f"Server can't set maximum open files to {wanted + RESERVED_FDS} because of OS"
                f" error: {refusal}."
            )
            log.warning(
                f"Current maximum open files is {config.maxclients + RESERVED_FDS}. maxclients has"
                f" been reduced to {config.maxclients} to compensate for low ulimit. If you need"
                f" higher maxclients increase 'ulimit -n'."
            )

    async def _load(self) -> None:
        self.aof.remove_leftovers()
        if self.config.appendonly:
            await self.aof.load_at_start()
        else:
            await self.saver.load_at_start()

    def _say_ready(self) -> None:
        log, config = self.log, self.config
        if config.port or config.tls_port:
            log.notice("Ready to accept connections")
        if config.unixsocket:
            log.notice(f"The server is now ready to accept connections at {config.unixsocket}")
        if config.replicaof is None:
            self.supervisor.tell("STATUS=Ready to accept connections\nREADY=1\n")
        else:
            # Redis waits for the first sync; a supervisor that does would kill a replica whose
            # master is down.
            self.supervisor.tell("STATUS=Ready to accept connections in read-only mode\nREADY=1\n")

    def _banner(self) -> None:
        config = self.config
        port = config.port or config.tls_port
        on_terminal = not config.logfile and not config.syslog_enabled and sys.stdout.isatty()
        if config.always_show_logo or on_terminal:
            self.log.raw(
                f"\n  kvrepl {__version__} (Redis {REDIS_VERSION} compatible)\n"
                f"  Running in standalone mode\n  Port: {port}\n  PID: {os.getpid()}\n\n"
            )
        else:
            self.log.notice(f"Running mode=standalone, port={port}.")

    def refresh_time(self) -> None:
        """Take the time for the commands that are about to run."""
        self.engine.tick()
        self.aof.set_time(self.engine.keyspace.now_ms)

    def end(self, exit_status: int) -> None:
        """Leave `run`, with this exit status."""
        self.exit_status = exit_status
        self._ended.set()

    def keep(self, task: asyncio.Future[Any]) -> None:
        """Hold on to a task until it is done; the loop alone would let it be collected."""
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A mistake of ours in the middle of a load or a change of sockets: what the state
            # is now nobody can say. The files are whole; a restart begins from them.
            lines = "".join(traceback.format_exception(error)).strip()
            self.log.warning(f"Internal error, exiting: {lines}")
            self.end(EXIT_FAILURE)

    # ------------------------------------------------------------------ gates

    def loading(
        self, total_bytes: int, *, is_async: bool = False, for_sync: bool = False
    ) -> LoadProgress:
        """A context in which a dataset is loaded: clients are answered -LOADING."""
        return LoadProgress(self, total_bytes, is_async=is_async, for_sync=for_sync)

    def update_disk_gate(self) -> None:
        """Refuse writes (-MISCONF) exactly while the disk fails us and the settings say so."""
        config, engine = self.config, self.engine
        text = self.aof.error_reply()
        if config.stop_writes_on_bgsave_error and config.save and not self.saver.last_ok:
            text = MISCONF
        engine.disk_error_text = text or b""
        engine.set_gate(gates.DISK, text is not None)

    def pause(self, name: str, *, all_commands: bool, until_ms: int) -> None:
        """Hold clients back (CLIENT PAUSE, a failover, a shutdown) until an instant."""
        self.engine.pauses[name] = (until_ms, all_commands)
        self._update_pause()

    def unpause(self, name: str) -> None:
        """End one reason for the pause; clients go on when none is left."""
        if self.engine.pauses.pop(name, None) is not None:
            self._update_pause()

    def unpause_due(self, now_ms: int) -> None:
        """End the pauses whose time is over."""
        due = [name for name, (until_ms, _) in self.engine.pauses.items() if until_ms <= now_ms]
        for name in due:
            self.unpause(name)

    def is_paused_beside(self, name: str) -> bool:
        """Whether anything but this one reason holds clients back."""
        return any(reason != name for reason in self.engine.pauses)

    def _update_pause(self) -> None:
        engine = self.engine
        every = any(all_commands for _, all_commands in engine.pauses.values())
        was = engine.gates & (gates.PAUSE_ALL | gates.PAUSE_WRITES)
        engine.set_gate(gates.PAUSE_ALL, every)
        engine.set_gate(gates.PAUSE_WRITES, bool(engine.pauses))
        now = engine.gates & (gates.PAUSE_ALL | gates.PAUSE_WRITES)
        engine.keyspace.expiry_mode = engine.expiry_mode()
        if was & ~now:
            engine.blocking.resume_postponed()
            self.replication.link.go_on()
            self.turn.wake()

    # ------------------------------------------------------------------ parts

    def connect_streams(self) -> None:
        """Tell the propagation who listens now."""
        self.engine.propagation.connect(aof=self.aof.stream(), replicas=self.replication.stream())

    def commands_processed(self) -> int:
        """Commands run since the start or CONFIG RESETSTAT."""
        return sum(command.calls for command in self.engine.all_commands())

    def _log_script(self, level: int, text: bytes) -> None:
        self.log.write(level, text.decode("utf-8", "backslashreplace"))

    def function_libraries(self) -> list[bytes]:
        """The code of each function library, for snapshots and rewrites."""
        return list(self.engine.function_libraries)

    def adopt_functions(self, libraries: list[bytes]) -> None:
        """Take over the function libraries that a snapshot holds."""
        self.engine.function_libraries = list(libraries)

    # ---------------------------------------------------------------- process

    def write_pidfile(self) -> None:
        """Write the pid file, where one is asked for."""
        path = self.config.pidfile
        if not path and self.config.daemonize:
            path = "/var/run/redis.pid"
        if not path:
            return
        try:
            with open(path, "w") as file:
                file.write(f"{os.getpid()}\n")
            self._pidfile = path
        except OSError as error:
            self.log.warning(f"Failed to write PID file {path}: {error.strerror}")

    def remove_pidfile(self) -> None:
        """Remove the pid file that we wrote."""
        if self._pidfile:
            self.log.notice("Removing the pid file.")
            try:
                os.unlink(self._pidfile)
            except OSError:
                pass
            self._pidfile = ""

    def apply_oom_score(self, child: bool = False) -> None:
        """Tell the kernel how gladly to kill this process (oom-score-adj)."""
        config = self.config
        if config.oom_score_adj == "no":
            return
        master, replica, background = config.oom_score_adj_values
        value = background if child else replica if self.engine.is_replica else master
        if config.oom_score_adj in ("relative", "yes"):
            value += self._oom_base
        value = max(-1000, min(1000, value))
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(value))
        except OSError as error:
            self.log.warning(f"Unable to write oom_score_adj: {error.strerror}")

    def in_child(self, kind: str) -> None:
        """Be known to the system as a child of that kind."""
        self.apply_oom_score(child=True)
        if self.config.set_proc_title:
            self.title.show(TITLES[kind])

    def fds_for_child_to_close(self) -> list[int]:
        """Give the sockets, which are to close when this process closes them."""
        return self.listeners.fds() + self.clients.fds() + self.replication.link.fds()


def _read_oom_score() -> int:
    try:
        with open("/proc/self/oom_score_adj") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
