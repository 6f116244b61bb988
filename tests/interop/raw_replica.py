"""Replicas made of a socket: they ask for a full synchronization, and do as they are told."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from tests.interop.harness import Server, wait_until

VALUE_BYTES: Final = 10_000
STREAM_BYTES: Final = 3_200 * VALUE_BYTES


class RawReplica:
    """A replica made of a socket: it asks for a full synchronization and does nothing more."""

    def __init__(self, master: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", master.port), timeout=30)
        self._reader = self.socket.makefile("rb")
        for command in (b"REPLCONF capa eof capa psync2", b"REPLCONF listening-port 1"):
            self.socket.sendall(command + b"\r\n")
            assert self._reader.readline() == b"+OK\r\n"
        self.socket.sendall(b"PSYNC ? -1\r\n")

    def line(self) -> bytes:
        """Read the next line that is not a keepalive."""
        while (line := self._reader.readline()) == b"\n":
            pass
        return line

    def read_to_end(self) -> None:
        """Read until the master closes the connection, in whichever way."""
        with contextlib.suppress(ConnectionError):
            self._reader.read()

    def ended(self) -> bool:
        """Read to the end: whether the master has closed the connection."""
        return not self._reader.read()

    def close(self) -> None:
        """Vanish."""
        self._reader.close()
        self.socket.close()


def states(master: Server) -> list[str]:
    """Give the states of a master's replicas."""
    info = master.info("replication")
    return [info[f"slave{n}"]["state"] for n in range(int(info["connected_slaves"]))]


def attach(master: Server, count: int) -> list[RawReplica]:
    """Attach replicas that get their snapshot and then read nothing."""
    replicas = [RawReplica(master) for _ in range(count)]
    for replica in replicas:
        assert replica.line().startswith(b"+FULLRESYNC ")
    wait_until(lambda: states(master) == ["online"] * count, "they are online", master)
    return replicas


def write_stream(master: Server) -> None:
    """Write STREAM_BYTES over one key, so that the stream grows and the dataset does not."""
    command = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%b\r\n"
    command %= VALUE_BYTES, b"x" * VALUE_BYTES
    master.cli("--pipe", stdin=command * (STREAM_BYTES // VALUE_BYTES))
