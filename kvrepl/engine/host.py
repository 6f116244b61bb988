"""What command handlers ask of the server around them.

The engine is pure; forking, files, sockets of other servers and the process itself belong to
`kvrepl.server`. Handlers reach them through this one port, so that an engine can also run inside a
test or a simulation with a host of its own. Each method is named after the command behind it,
returns the reply, and raises CommandError with Redis's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from kvrepl.errors import CommandError

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.resp.values import Reply


class Host(Protocol):
    """The server around an engine."""

    def info(self, sections: Sequence[bytes]) -> bytes:
        """The text of INFO for the sections named; none means the default ones."""

    def save(self) -> Reply: ...
    def bgsave(self, *, schedule: bool) -> Reply: ...
    def bgsave_cancel(self) -> Reply: ...
    def bgrewriteaof(self) -> Reply: ...
    def lastsave(self) -> int: ...
    def shutdown(self, client: Client, *, save: bool | None, now: bool, force: bool) -> Reply: ...
    def shutdown_abort(self) -> Reply: ...
    def replicaof(self, client: Client, host: bytes | None, port: int) -> Reply:
        """Follow a master, or none (host None)."""

    def failover(self, client: Client, argv: list[bytes]) -> Reply: ...
    def psync(self, client: Client, argv: list[bytes]) -> Reply: ...
    def replconf(self, client: Client, argv: list[bytes]) -> Reply: ...
    def wait(self, client: Client, replicas: int, timeout_ms: int) -> Reply: ...
    def role(self) -> Reply: ...
    def config_rewrite(self) -> Reply: ...
    def flushed_all(self) -> None:
        """FLUSHALL ran: a save in the background is void, a fresh one may be due."""

    def read_acl_file(self) -> bytes:
        """The content of the ACL file; raises StorageError."""

    def write_acl_file(self, data: bytes) -> None:
        """Put a new ACL file in the place of the old one; raises StorageError."""

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can foretell, for passwords."""

    def debug(self, client: Client, argv: list[bytes]) -> Reply | None:
        """DEBUG subcommands that touch files, time or the process; None: not one of those."""

    def migrate(
        self, address: tuple[bytes, bytes], timeout_ms: int, requests: Sequence[list[bytes]]
    ) -> tuple[list[Reply], CommandError | None]:
        """Send requests to another server: the replies that came, and what went wrong, if so."""

    def kill_replica(self, client: Client) -> None:
        """CLIENT KILL of a replica's or our master's connection."""


class NoHost:
    """A host that offers nothing: every request is refused with one clear error.

    Only what it knows of clients can be told: they have no connection.
    """

    def fd(self, client: Client) -> int:
        """No descriptor."""
        return -1

    def query_bytes(self, client: Client) -> int:
        """Nothing came in that was not run."""
        return 0

    def output_bytes(self, client: Client) -> int:
        """Nothing waits to be sent."""
        return 0

    def __getattr__(self, name: str) -> object:
        def refuse(*args: object, **kwargs: object) -> object:
            raise CommandError(b"ERR no server around this engine to do " + name.encode())

        return refuse
