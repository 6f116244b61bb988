"""What commands ask of the server around the engine: kvrepl.engine.host.Host, for real."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvrepl.errors import CommandError, KvreplError, StorageError
from kvrepl.persistence.disk import write_durably
from kvrepl.resp.values import OK, Reply
from kvrepl.server import info
from kvrepl.server.children import RDB
from kvrepl.server.debug import run as debug
from kvrepl.server.memory import Figures, figures
from kvrepl.server.migration import send_to

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server


class ServerHost:
    """The server, as its commands see it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def info(self, sections: Sequence[bytes]) -> bytes:
        """The text of INFO."""
        return info.render(self._server, sections)

    def save(self) -> Reply:
        """SAVE."""
        return self._server.saver.save_command()

    def bgsave(self, *, schedule: bool) -> Reply:
        """BGSAVE [SCHEDULE]."""
        return self._server.saver.bgsave_command(schedule=schedule)

    def bgsave_cancel(self) -> Reply:
        """BGSAVE CANCEL."""
        return self._server.saver.cancel_command()

    def bgrewriteaof(self) -> Reply:
        """BGREWRITEAOF."""
        return self._server.aof.bgrewriteaof_command()

    def lastsave(self) -> int:
        """LASTSAVE."""
        return self._server.saver.last_save_s

    def shutdown(self, client: Client, *, save: bool | None, now: bool, force: bool) -> Reply:
        """SHUTDOWN."""
        return self._server.shutdown.command(client, save=save, now=now, force=force)

    def shutdown_abort(self) -> Reply:
        """SHUTDOWN ABORT."""
        return self._server.shutdown.abort()

    def replicaof(self, client: Client, host: bytes | None, port: int) -> Reply:
        """REPLICAOF."""
        return self._server.replication.replicaof(client, host, port)

    def failover(self, client: Client, argv: list[bytes]) -> Reply:
        """FAILOVER."""
        return self._server.replication.failover(argv)

    def psync(self, client: Client, argv: list[bytes]) -> Reply:
        """PSYNC and SYNC."""
        return self._server.replication.psync(client, argv)

    def replconf(self, client: Client, argv: list[bytes]) -> Reply:
        """REPLCONF."""
        return self._server.replication.replconf(client, argv)

    def wait(self, client: Client, replicas: int, timeout_ms: int) -> Reply:
        """WAIT."""
        return self._server.replication.wait(client, replicas, timeout_ms)

    def role(self) -> Reply:
        """ROLE."""
        return self._server.replication.role()

    def pause(self, *, all_commands: bool, until_ms: int) -> None:
        """CLIENT PAUSE."""
        self._server.pause("client", all_commands=all_commands, until_ms=until_ms)

    def unpause(self) -> None:
        """CLIENT UNPAUSE."""
        self._server.unpause("client")

    def config_rewrite(self, *, force_all: bool = False) -> Reply:
        """CONFIG REWRITE: a whole new file takes the place of the old one."""
        config = self._server.config
        path = config.config_file
        if not path:
            raise CommandError(b"ERR The server is running without a config file")
        temp = f"{path}-{os.getpid()}.tmp"
        try:
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    old = file.read()
            except FileNotFoundError:
                old = ""
            with open(temp, "w", encoding="utf-8", errors="surrogateescape") as file:
                users = self._server.engine.acl.lines()
                file.write(config.rewrite(old, user_lines=users, force_all=force_all))
                file.flush()
                os.fsync(file.fileno())
            os.rename(temp, path)
        except (OSError, KvreplError) as error:
            try:
                os.unlink(temp)
            except OSError:
                pass
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._server.log.warning(f"CONFIG REWRITE failed: {reason}")
            raise CommandError(b"ERR Rewriting config file: " + str(reason).encode()) from error
        self._server.log.warning("CONFIG REWRITE executed with success.")
        return OK

    def read_acl_file(self) -> bytes:
        """ACL LOAD."""
        server = self._server
        return b"".join(server.disk.read(server.config.aclfile))

    def write_acl_file(self, data: bytes) -> None:
        """ACL SAVE: a whole new file takes the place of the old one."""
        server = self._server
        path = server.config.aclfile
        temp = f"{path}.tmp-{os.getpid()}"
        try:
            write_durably(server.disk, temp, path, [data])
            server.disk.fsync_dir(os.path.dirname(path))
        except StorageError as error:
            server.log.warning(f"ACL SAVE failed: {error}")
            raise

    def random_bytes(self, count: int) -> bytes:
        """ACL GENPASS."""
        return os.urandom(count)

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT, beyond what the engine itself counts."""
        server = self._server
        server.children.fork_us = 0
        server.aof.log.writer.delayed_fsync = 0
        server.replication.machine.master.syncs.clear()
        server.meter.peak_bytes = server.meter.used_bytes()

    def flushed_all(self) -> None:
        """FLUSHALL: a save in the background is void, and a fresh one is due."""
        server = self._server
        active = server.children.active
        if active is not None and active.kind == RDB:
            server.children.kill(reap=not server.engine.depth)
        if server.config.save and server.saver.loading is None:
            try:
                # Nothing is left to be lost, and the file must not bring the old keys back.
                server.saver.save()
            except CommandError:
                pass  # said in the log; -MISCONF follows from the next BGSAVE

    def debug(self, client: Client, argv: list[bytes]) -> Reply | None:
        """DEBUG subcommands that touch files, time or the process."""
        return debug(self._server, client, argv)

    def migrate(
        self, address: tuple[bytes, bytes], timeout_ms: int, requests: Sequence[list[bytes]]
    ) -> tuple[list[Reply], CommandError | None]:
        """Send requests to another server, waiting for it."""
        return send_to(address, timeout_ms, requests)

    def kill_replica(self, client: Client) -> None:
        """CLIENT KILL of a replica's connection."""
        client.port.abort()

    def monitoring(self) -> object:
        """The slow log and the latency monitor (kvrepl.server.monitoring)."""
        return self._server.monitoring

    def memory(self) -> Figures:
        """Where memory goes."""
        return figures(self._server)

    def output_bytes(self, client: Client) -> int:
        """What a client has not taken yet: replies, and of a replica the stream."""
        connection = self._server.clients.connections.get(client)
        if connection is None:
            return 0
        behind = self._server.replication.feeds.lag_bytes(client) if client.is_replica else 0
        return connection.output_bytes() + behind

    def query_bytes(self, client: Client) -> int:
        """Bytes of a client's requests that were not run yet."""
        connection = self._server.clients.connections.get(client)
        return connection.query_bytes() if connection is not None else 0

    def fd(self, client: Client) -> int:
        """A client's descriptor, -1 where it has none."""
        if client.is_master:
            return next(iter(self._server.replication.link.fds()), -1)
        connection = self._server.clients.connections.get(client)
        if connection is None or connection.transport is None:
            return -1
        return int(connection.transport.get_extra_info("socket").fileno())
