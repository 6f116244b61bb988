"""What a changed setting means for the running server: one subscription each.

`connect` is called once at start. CONFIG SET has already parsed and assigned the value; a function
here makes it true, or raises CommandError, whereupon the old value is put back.

Source: Redis 7.0 config.c (the apply functions).
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from kvrepl.engine import gates
from kvrepl.errors import CommandError
from kvrepl.server.clients import raise_open_files_limit
from kvrepl.server.listeners import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvrepl.config import Config
    from kvrepl.server.app import Server

LISTPACK_SETTINGS = (
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "list-max-listpack-size",
    "list-compress-depth",
    "set-max-intset-entries",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
)

REPLICATION_SETTINGS = (
    "repl-timeout", "repl-ping-replica-period", "repl-backlog-size", "repl-backlog-ttl",
    "repl-diskless-sync", "repl-diskless-sync-delay", "repl-diskless-sync-max-replicas",
    "repl-diskless-load", "min-replicas-to-write", "min-replicas-max-lag", "replica-announced",
    "replica-priority", "replica-read-only", "replica-announce-ip", "replica-announce-port",
    "masterauth", "masteruser", "replica-serve-stale-data", "save",
)  # fmt: skip

AOF_SETTINGS = (
    "appendfsync", "no-appendfsync-on-rewrite", "aof-timestamp-enabled", "aof-use-rdb-preamble",
    "aof-disable-auto-gc", "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size",
)  # fmt: skip


def connect(server: Server) -> None:
    """Subscribe the server to its settings, and apply those that are set already."""
    config = server.config

    def on(*names: str) -> Callable[[Callable[[Config], None]], Callable[[Config], None]]:
        def subscribe(apply: Callable[[Config], None]) -> Callable[[Config], None]:
            for name in names:
                config.subscribe(name, apply)
            return apply

        return subscribe

    @on(*LISTPACK_SETTINGS)
    def limits(config: Config) -> None:
        for name in LISTPACK_SETTINGS:
            attribute = name.replace("-", "_")
            setattr(server.engine.keyspace.limits, attribute, getattr(config, attribute))

    @on("notify-keyspace-events")
    def notifications(config: Config) -> None:
        server.engine.keyspace.notify_flags = config.notify_keyspace_events

    @on("loglevel")
    def loglevel(config: Config) -> None:
        server.log.set_level(config.loglevel)

    @on("logfile")
    def logfile(config: Config) -> None:
        try:
            server.log.open(config.logfile)
        except OSError as error:
            raise CommandError(b"ERR can't open the log file: " + str(error).encode()) from error

    @on("requirepass")
    def requirepass(config: Config) -> None:
        # Clients that are connected stay as they are: who was let in stays in (acl.c).
        if not config.requirepass:
            for client in server.engine.clients.values():
                client.lower_gate(gates.AUTH)

    @on("proto-max-bulk-len", "client-query-buffer-limit")
    def requests(config: Config) -> None:
        server.clients.apply_limits()

    @on("maxclients")
    def maxclients(config: Config) -> None:
        granted = raise_open_files_limit(config.maxclients)
        if granted < config.maxclients:
            raise CommandError(
                b"ERR The operating system is not able to handle the specified number of clients,"
                b" try with %d" % granted
            )

    @on("dir")
    def folder(config: Config) -> None:
        try:
            os.chdir(config.dir)
        except OSError as error:
            raise CommandError((error.strerror or str(error)).encode()) from error
        config.dir = os.getcwd()

    @on("bind", "port")
    def listen(config: Config) -> None:
        try:
            sockets: list[socket.socket] = []
            if config.port:
                sockets = server.listeners.open_tcp(config.bind, config.port, config.tcp_backlog)
        except ListenError as error:
            raise CommandError(
                b"ERR Unable to listen on this port. Check server logs. (%b)" % str(error).encode()
            ) from error
        task = asyncio.ensure_future(server.listeners.serve_tcp(sockets, config.tcp_backlog))
        server.keep(task)

    @on("slowlog-log-slower-than", "latency-monitor-threshold", "slowlog-max-len")
    def slow(config: Config) -> None:
        server.monitoring.apply_settings()

    @on("stop-writes-on-bgsave-error", "save")
    def disk_gate(config: Config) -> None:
        server.update_disk_gate()

    @on(*REPLICATION_SETTINGS)
    def replication(config: Config) -> None:
        server.replication.apply_settings()

    @on(*AOF_SETTINGS)
    def aof(config: Config) -> None:
        server.aof.apply_settings()

    @on("appendonly")
    def appendonly(config: Config) -> None:
        if config.appendonly and not server.aof.turn_on():
            raise CommandError(b"Unable to turn on AOF. Check server logs.")
        if not config.appendonly:
            server.aof.turn_off()

    @on("oom-score-adj", "oom-score-adj-values")
    def oom_score(config: Config) -> None:
        server.apply_oom_score()

    for apply in (limits, notifications, slow):
        apply(config)


def notify_supervisor(config: Config, state: str) -> None:
    """Tell systemd, where it supervises us (`supervised systemd` or auto), that we are ready."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or config.supervised not in ("systemd", "auto"):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            pass  # the supervisor is gone; serving goes on
