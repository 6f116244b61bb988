"""What a changed setting means for the running server: one subscription each.

`connect` is called once at start. CONFIG SET has already parsed and assigned the value; a function
here makes it true, or raises CommandError, whereupon the old value is put back.

Source: Redis 7.0 config.c (the apply functions).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from kvrepl.config import ConfigError
from kvrepl.errors import CommandError
from kvrepl.server.clients import raise_open_files_limit
from kvrepl.server.listeners import ListenError
from kvrepl.server.replication import SETTINGS as REPLICATION_SETTINGS
from kvrepl.server.tls import TlsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvrepl.config import Config
    from kvrepl.server.app import Server
    from kvrepl.server.listeners import Port

LISTPACK_SETTINGS = (
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "list-max-listpack-size",
    "set-max-intset-entries",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
)

AOF_SETTINGS = (
    "appendfsync", "no-appendfsync-on-rewrite", "aof-timestamp-enabled", "aof-use-rdb-preamble",
    "aof-disable-auto-gc", "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size",
)  # fmt: skip

MEMORY_SETTINGS = (
    "maxmemory", "maxmemory-policy", "maxmemory-samples", "lfu-log-factor", "lfu-decay-time",
)  # fmt: skip

TLS_SETTINGS = (
    "tls-replication", "tls-auth-clients", "tls-prefer-server-ciphers", "tls-protocols",
    "tls-ciphers", "tls-cert-file", "tls-key-file", "tls-key-file-pass", "tls-client-cert-file",
    "tls-client-key-file", "tls-client-key-file-pass", "tls-ca-cert-file", "tls-ca-cert-dir",
    "tls-dh-params-file",
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

    @on("proto-max-bulk-len", "client-query-buffer-limit")
    def requests(config: Config) -> None:
        server.clients.apply_limits()

    @on("maxclients")
    def maxclients(config: Config) -> None:
        granted, _ = raise_open_files_limit(config.maxclients)
        if granted < config.maxclients:
            raise ConfigError(
                "The operating system is not able to handle the specified number of clients,"
                f" try with {granted}"
            )

    @on("dir")
    def folder(config: Config) -> None:
        try:
            os.chdir(config.dir)
        except OSError as error:
            raise ConfigError(error.strerror or str(error)) from error
        config.dir = os.getcwd()

    def configure_tls(config: Config) -> None:
        try:
            server.tls.configure(config)
        except TlsError as error:
            server.log.warning(str(error))
            raise ConfigError("Unable to update TLS configuration. Check server logs.") from error

    def listen(at: Port, number: int, config: Config, refusal: str) -> None:
        try:
            at.open(config.bind, number, config.tcp_backlog)
        except ListenError as error:
            raise ConfigError(refusal) from error
        server.keep(asyncio.ensure_future(at.serve(config.tcp_backlog)))
        server.title.show_server(config)

    @on("bind")
    def addresses(config: Config) -> None:
        refusal = "Failed to bind to specified addresses."
        listen(server.listeners.tcp, config.port, config, refusal)
        listen(server.listeners.tls, config.tls_port, config, refusal)

    @on("port")
    def port(config: Config) -> None:
        refusal = "Unable to listen on this port. Check server logs."
        listen(server.listeners.tcp, config.port, config, refusal)

    @on(*TLS_SETTINGS)
    def tls(config: Config) -> None:
        configure_tls(config)

    @on("tls-port")
    def tls_port(config: Config) -> None:
        configure_tls(config)
        refusal = "Unable to listen on this port. Check server logs."
        listen(server.listeners.tls, config.tls_port, config, refusal)

    @on("proc-title-template")
    def title(config: Config) -> None:
        server.title.show_server(config)

    @on("crash-log-enabled")
    def crash_log(config: Config) -> None:
        if config.crash_log_enabled:
            server.crash_handler.install()
        else:
            server.crash_handler.remove()

    @on("watchdog-period")
    def watchdog(config: Config) -> None:
        shortest_ms = 2 * 1000 // config.hz  # or the rounds of cron themselves would be too slow
        if 0 < config.watchdog_period < shortest_ms:
            config.watchdog_period = shortest_ms
        server.watchdog.set_period(config.watchdog_period)

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

    @on("maxmemory-clients", "maxmemory")
    def client_memory(config: Config) -> None:
        server.clients.eviction.apply_settings()

    @on(*MEMORY_SETTINGS)
    def memory(config: Config) -> None:
        server.engine.memory.apply_settings()
        used_bytes = server.meter.used_bytes()
        if config.maxmemory and used_bytes > config.maxmemory:
            server.log.warning(
                f"WARNING: the new maxmemory value set via CONFIG SET ({config.maxmemory}) is"
                f" smaller than the current memory usage ({used_bytes}). This will result in key"
                f" eviction and/or the inability to accept new write commands depending on the"
                f" maxmemory-policy."
            )

    @on("oom-score-adj", "oom-score-adj-values")
    def oom_score(config: Config) -> None:
        server.apply_oom_score()

    for apply in (limits, notifications, client_memory, slow, watchdog):
        apply(config)
