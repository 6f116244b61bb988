"""`kvrepl demo`: replication told step by step, with four servers of its own.

        first master ----> replica A ----> replica C
                    \\----> replica B

A write is read everywhere, a replica refuses one, a link is cut and resumes, and replica A is
promoted while the others follow it. Every step is a check as well: where the servers do not do
what is said, the demo ends with an error. Servers live on the loopback interface and in a
temporary folder; nothing is left behind.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from kvrepl.errors import CommandError
from kvrepl.toolbox.client import Connection

DEADLINE_S = 30.0
POLL_S = 0.02


class DemoError(click.ClickException):
    """A step did not come out as told."""


class DemoServer:
    """One server of the demo.

    Args:
        name: what the story calls it.
        folder: where it keeps its data and its log.
        master: whom it follows.
    """

    def __init__(self, name: str, folder: Path, master: DemoServer | None = None) -> None:
        self.name = name
        self.port = _free_port()
        home = folder / name.replace(" ", "-")
        home.mkdir()
        self.log = home / "log"
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(home)]
        arguments += ["--save", "", "--logfile", str(self.log)]
        arguments += ["--repl-diskless-sync-delay", "0"]
        if master is not None:
            arguments += ["--replicaof", "127.0.0.1", str(master.port)]
        self._process = subprocess.Popen([sys.executable, "-m", "kvrepl.cli", *arguments])
        self.connection: Connection = wait_for(f"{name} to listen", self._connect)

    def _connect(self) -> Connection | None:
        if self._process.poll() is not None:
            raise DemoError(f"{self.name} did not start; its log:\n{self.log.read_text()}")
        try:
            return Connection("127.0.0.1", self.port)
        except OSError:
            return None

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send a command to it."""
        return self.connection.call(*arguments)

    def replication(self) -> dict[str, str]:
        """INFO replication."""
        return self.connection.info("replication")

    @property
    def is_linked(self) -> bool:
        """Whether it is a replica in step with its master."""
        return self.replication().get("master_link_status") == "up"

    def syncs(self) -> tuple[int, int]:
        """Full and partial resynchronisations that it has served as a master."""
        stats = self.connection.info("stats")
        return int(stats["sync_full"]), int(stats["sync_partial_ok"])

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(DEADLINE_S)


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Poll until `condition` gives something true, and return that.

    Raises:
        DemoError: it did not within DEADLINE_S.
    """
    deadline = time.monotonic() + DEADLINE_S
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise DemoError(f"waited {DEADLINE_S:.0f} s for {what}, in vain")
        time.sleep(POLL_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tell(text: str) -> None:
    """Print one step."""
    click.echo(f"  {text}")


def expect(condition: bool, what: str) -> None:
    """End the demo with an error unless the condition holds."""
    if not condition:
        raise DemoError(f"that went wrong: {what}")


def run() -> None:
    """Tell the whole story."""
    servers: list[DemoServer] = []
    with tempfile.TemporaryDirectory(prefix="kvrepl-demo-") as folder:
        try:
            _story(Path(folder), servers)
        finally:
            for server in reversed(servers):
                server.stop()
    tell("All servers are stopped, and their folder is gone.")


def _story(folder: Path, servers: list[DemoServer]) -> None:
    def start(name: str, master: DemoServer | None = None) -> DemoServer:
        server = DemoServer(name, folder, master)
        servers.append(server)
        following = f", following {master.name}" if master is not None else ""
        tell(f"{name} listens on 127.0.0.1:{server.port}{following}")
        return server

    click.echo("1. A master, two replicas, and a third behind the first")
    master = start("the master")
    for number in range(1000):
        master.call("SET", f"before:{number}", number)
    a = start("replica A", master)
    b = start("replica B", master)
    wait_for("A and B to synchronise", lambda: a.is_linked and b.is_linked)
    c = start("replica C", a)
    wait_for("C to synchronise", lambda: c.is_linked)
    expect(c.call("DBSIZE") == 1000, "C has the keys that were there before it")
    tell("All are linked; 1,000 keys reached C through A")

    click.echo("2. A write is read everywhere")
    master.call("SET", "greeting", "hello")
    for replica in (a, b, c):
        wait_for(f"{replica.name} to have it", partial(replica.call, "GET", "greeting"))
    tell("SET greeting hello on the master; GET answers hello on A, B and C")
    expect(master.call("WAIT", 2, 5000) >= 2, "WAIT 2")
    tell("WAIT 2: both of its replicas have acknowledged it")

    click.echo("3. A replica refuses writes")
    try:
        b.call("SET", "greeting", "bye")
    except CommandError as error:
        tell(f"B: {error}")
    else:
        raise DemoError("B took a write")

    click.echo("4. A link is cut, and resumes where it was")
    full, resumed = master.syncs()
    master.call("CLIENT", "KILL", "TYPE", "replica")
    for number in range(100):
        master.call("SET", f"during:{number}", number)
    wait_for("A and B to come back", lambda: master.syncs()[1] >= resumed + 2)
    for replica in (a, b, c):
        wait_for(f"{replica.name} to catch up", partial(replica.call, "GET", "during:99"))
    expect(master.syncs()[0] == full, "no full sync was needed")
    tell("The master dropped both links; 100 writes later A and B asked for just the missing bytes")
    tell(f"Full syncs still {full}, partial ones {master.syncs()[1]}")

    click.echo("5. Replica A is promoted, the others follow it")
    old_id = a.replication()["master_replid"]
    a.call("REPLICAOF", "NO", "ONE")
    b.call("REPLICAOF", "127.0.0.1", a.port)
    master.call("REPLICAOF", "127.0.0.1", a.port)
    followers = (b, c, master)
    wait_for("everybody to follow A", lambda: all(server.is_linked for server in followers))
    expect(a.replication()["master_replid2"] == old_id, "A remembers the history it came from")
    expect(a.syncs()[0] <= 1, "nobody needed a full sync to follow A")
    a.call("SET", "greeting", "from A")
    a.call("SET", "since", "the promotion")
    for server in followers:
        wait_for(f"{server.name} to have it", partial(server.call, "EXISTS", "since"))
        expect(server.call("GET", "greeting") == b"from A", f"{server.name} reads it")
    expect(len({server.call("DBSIZE") for server in servers}) == 1, "all hold the same keys")
    tell("A kept the old history as its second, so B, C and the old master resumed by partial")
    tell("resyncs; SET greeting 'from A' is read on all of them")
