"""Server processes under test: redis-server and kvrepl-server driven by the same code.

A Server owns a folder, a port and at most one process. The folder holds everything needed to
repeat a failure by hand:

    server.conf   the directives; `redis-server <folder>/server.conf` starts it again
    server.log    everything it printed, over all of its starts
    data files    dump.rdb, appendonlydir/

Invariants:
- A pid is signalled only while its Popen is ours and not yet reaped, so never a stranger's.
- Nothing sleeps for luck: every wait polls a condition, has a deadline, and fails with what was
  waited for, the last thing seen, and the tails of the logs.
- A server that dies, or logs a crash, without being told to fails the test that launched it
  (conftest.py), whatever the test itself asserts.

Ports come from below the range the kernel gives to outgoing connections: a port from bind(0) can
be taken by any client between a kill and the restart on the same port.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Kind = Literal["redis", "kvrepl"]
Directive = str | int | list[str]
Tell = Callable[[str], None]
"""Prints a line of figures at once; the fixture `tell` gives one."""
T = TypeVar("T")

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
WAIT_TIMEOUT_S = 30.0
POLL_S = 0.01

CRASH_WORDS = (
    "Traceback (most recent call last)",
    "crashed by signal",
    "=== REDIS BUG REPORT START",
    "== CRITICAL ==",
    "ASSERTION FAILED",
)

TEST_DEFAULTS: dict[str, Directive] = {
    "bind": "127.0.0.1",
    "protected-mode": "no",
    "save": "",
    "enable-debug-command": "yes",
    # Redis waits 5 s for more replicas before a diskless sync; a test that needs it says so.
    "repl-diskless-sync-delay": 0,
}


class ServerExited(Exception):
    """The server ended instead of becoming ready.

    Args:
        server: whose log is quoted.
        status: its exit status, negative for a signal.
    """

    def __init__(self, server: Server, status: int) -> None:
        super().__init__(f"{server} exited with status {status}\n{server.log_tail()}")
        self.status = status
        self.log = server.log_text()


def kvrepl_command() -> list[str]:
    """Give the command that starts kvrepl-server: the installed entry, else the module."""
    override = os.environ.get("KVREPL_SERVER")
    if override:
        return override.split()
    entry = Path(sys.executable).parent / "kvrepl-server"
    return [str(entry)] if entry.exists() else [sys.executable, "-m", "kvrepl.cli"]


def command_of(kind: Kind) -> list[str]:
    """Give the argv prefix of a server kind; REDIS_SERVER and KVREPL_SERVER override it."""
    if kind == "kvrepl":
        return kvrepl_command()
    return (
        os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or "redis-server"
    ).split()


def _port_candidates() -> Iterator[int]:
    first, last = map(int, os.environ.get("KVREPL_TEST_PORTS", "24000-31999").split("-"))
    span = last - first + 1
    # Runs beside each other start at different places; the probe settles what is left.
    return (first + step % span for step in itertools.count(os.getpid() * 41))


_ports = _port_candidates()


def free_port() -> int:
    """Find a TCP port that nothing on 127.0.0.1 uses, from KVREPL_TEST_PORTS ("first-last").

    Raises:
        OSError: a thousand ports in a row were taken.
    """
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port on 127.0.0.1")


def wait_until(
    predicate: Callable[[], T],
    what: str,
    *servers: Server,
    timeout_s: float = WAIT_TIMEOUT_S,
    poll_s: float = POLL_S,
) -> T:
    """Poll until the predicate gives something true; give that back.

    A Redis error (refused, -LOADING) counts as "not yet": servers under test restart and load.

    Args:
        predicate: called every poll_s.
        what: the condition in words, for the failure.
        servers: their log tails go into the failure.
        timeout_s: seconds after which the wait fails.
        poll_s: seconds between two looks.

    Raises:
        AssertionError: the deadline passed; says what was seen last.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            value = predicate()
            if value:
                return value
            seen = value
        except redis.RedisError as error:
            seen = error
        if time.monotonic() > deadline:
            tails = "\n".join(server.log_tail() for server in servers)
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last: {seen!r}\n{tails}")
        time.sleep(poll_s)


class Server:
    """One server, its folder and its clients; also a context manager that starts and closes.

    Args:
        kind: "redis" or "kvrepl".
        folder: its own directory, made where missing.
        directives: redis.conf directives, "_" for "-"; a list gives one line an element.
        port: a fixed port; by default a free one, chosen again if somebody takes it first.
        arguments: command-line arguments after the name of the configuration file.
    """

    def __init__(
        self,
        kind: Kind,
        folder: Path,
        directives: Mapping[str, Directive] | None = None,
        *,
        port: int | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.kind: Kind = kind
        self.folder = folder
        self.port = port or free_port()
        self.directives = {**TEST_DEFAULTS, **_dashed(directives or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.arguments = tuple(arguments)
        self.meant_to_run = False
        self.expected_words: tuple[str, ...] = ()
        self._port_is_fixed = port is not None
        self._clients: list[redis.Redis] = []
        self._main: redis.Redis | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._write_config()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "down"
        return f"<{self.kind} 127.0.0.1:{self.port} {state} in {self.folder}>"

    # ---- life

    @property
    def running(self) -> bool:
        """Tell whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Give the pid of the process that was started last."""
        assert self.process is not None, f"{self.kind} was never started"
        return self.process.pid

    def start(self, *, ready: bool = True, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start the process; by default wait until it answers PING with PONG.

        Raises:
            ServerExited: it ended first.
            AssertionError: it was not ready in time.
        """
        for attempts_left in reversed(range(5)):
            self._spawn()
            if not ready:
                return self
            try:
                wait_until(self._answers, f"{self} is ready", self, timeout_s=timeout_s)
                return self
            except ServerExited as error:
                self.meant_to_run = False
                taken = "Address already in use" in error.log or "Failed listening" in error.log
                if not taken or self._port_is_fixed or not attempts_left:
                    raise
                self.port = free_port()
                self._write_config()
        raise AssertionError("unreachable")

    def restart(self, **changes: Directive) -> Self:
        """Start again on the same folder and port, after a SIGTERM if still running.

        Without changes server.conf is left alone, as CONFIG REWRITE may have written it.
        """
        if self.running:
            self.terminate()
        if changes:
            self.directives.update(_dashed(changes))
            self._write_config()
        self._port_is_fixed = True
        return self.start()

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Send SIGTERM and wait for the end.

        Returns:
            the exit status.

        Raises:
            AssertionError: it still ran after timeout_s; it is killed.
        """
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def kill(self) -> None:
        """End the process as a power cut would: SIGKILL, nothing flushed."""
        self.signal(signal.SIGKILL)
        self.wait_exit()

    def wait_exit(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for an end that the test has asked for; give the exit status."""
        assert self.process is not None
        self.meant_to_run = False
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self} did not end within {timeout_s:g} s\n{tail}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running process; STOP and CONT make it hang and go on."""
        assert self.process is not None and self.process.poll() is None, f"{self} is down"
        self.process.send_signal(number)

    def close(self) -> None:
        """Kill what still runs and close every client. Never raises for a dead server."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
        self.meant_to_run = False
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._main = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spawn(self) -> None:
        assert not self.running, f"{self} is already running"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command_of(self.kind), str(self.folder / "server.conf"), *self.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.meant_to_run = True

    def _answers(self) -> bool:
        assert self.process is not None
        status = self.process.poll()
        if status is not None:
            raise ServerExited(self, status)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                if not probe.recv(64).startswith(b"+PONG"):
                    return False  # still loading
        except OSError:
            return False
        # A stranger on our port would answer as well; only ours knows our pid.
        return bool(self.info("server")["process_id"] == self.process.pid)

    def _write_config(self) -> None:
        lines = [f"port {self.port}", f"dir {self.folder}"]
        for name, value in self.directives.items():
            for one in value if isinstance(value, list) else [value]:
                lines.append(f"{name} {one}" if one != "" else f'{name} ""')
        (self.folder / "server.conf").write_text("\n".join(lines) + "\n")

    # ---- talking to it

    def client(self, db: int = 0, **options: Any) -> redis.Redis:
        """Open a new redis-py client that answers bytes; closed with the server.

        It never retries: a retried write would hide a lost one.
        """
        options = {"protocol": 2, "socket_timeout": 60, **options}
        retry = Retry(NoBackoff(), 0)
        client = redis.Redis(host="127.0.0.1", port=self.port, db=db, retry=retry, **options)
        self._clients.append(client)
        return client

    def call(self, *args: bytes | str | float) -> Any:
        """Run one command on a connection kept for this purpose."""
        if self._main is None:
            self._main = self.client()
        return self._main.execute_command(*args)  # type: ignore[no-untyped-call]

    def cli(self, *args: str, stdin: bytes | None = None, timeout_s: float = 60) -> bytes:
        """Run redis-cli against it; give its standard output.

        Raises:
            subprocess.CalledProcessError: redis-cli failed.
        """
        return subprocess.run(
            ["redis-cli", "-p", str(self.port), *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=True,
            timeout=timeout_s,
        ).stdout

    def info(self, section: str = "default") -> dict[str, Any]:
        """Give a section of INFO; numbers as int or float."""
        answer: dict[str, Any] = self.call("INFO", section)
        return answer

    def config_set(self, **directives: str | int) -> None:
        """CONFIG SET, "_" for "-" in the names."""
        for name, value in directives.items():
            self.call("CONFIG", "SET", name.replace("_", "-"), value)

    def digest(self) -> str:
        """Give DEBUG DIGEST: equal datasets, equal digests, on either kind of server."""
        answer = self.call("DEBUG", "DIGEST")
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    # ---- what it left behind

    def log_text(self) -> str:
        """Give everything it printed since the folder was made."""
        return (self.folder / "server.log").read_text(errors="replace")

    def log_tail(self, lines: int = 25) -> str:
        """Give the last lines of the log under a heading, for a failure message."""
        tail = self.log_text().splitlines()[-lines:] if self.process else ["(never started)"]
        return "\n".join([f"--- {self}", *tail])

    def wait_log(self, text: str, *, since: int = 0, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Wait for a text in the log, looking from character offset `since` on."""
        wait_until(
            lambda: text in self.log_text()[since:],
            f"{text!r} in the log",
            self,
            timeout_s=timeout_s,
        )

    def crash_line(self) -> str | None:
        """Give the first log line that tells of a crash, None where all is well.

        A test that provokes one of the words says so in `expected_words`.
        """
        lines = self.log_text().splitlines() if self.process else []
        words = [word for word in CRASH_WORDS if word not in self.expected_words]
        return next((line for line in lines if any(w in line for w in words)), None)


def _dashed(directives: Mapping[str, Directive]) -> dict[str, Directive]:
    return {name.replace("_", "-"): value for name, value in directives.items()}


# ---- replication, seen from outside


class Pair(NamedTuple):
    """The kinds at the two ends of a link."""

    master: Kind
    replica: Kind


def follow(replica: Server, master_port: int, *, wait: bool = True) -> None:
    """REPLICAOF to a port on this machine (a server's or a proxy's); wait for the link."""
    replica.call("REPLICAOF", "127.0.0.1", master_port)
    if wait:
        wait_linked(replica)


def wait_linked(replica: Server, timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Wait until the replica says that its master link is up."""
    wait_until(
        lambda: replica.info("replication").get("master_link_status") == "up",
        f"{replica} has its master link up",
        replica,
        timeout_s=timeout_s,
    )


def position(server: Server) -> tuple[str, int]:
    """Give (replication id, offset) as INFO shows them."""
    info = server.info("replication")
    return str(info["master_replid"]), int(info["master_repl_offset"])


def wait_caught_up(master: Server, *replicas: Server, timeout_s: float = WAIT_TIMEOUT_S) -> None:
    """Wait until every replica is linked, in the master's history and at its offset."""
    for replica in replicas:
        wait_linked(replica, timeout_s)
    wait_until(
        lambda: {position(server) for server in replicas} <= {position(master)},
        f"{', '.join(map(repr, replicas))} at the position of {master}",
        master,
        *replicas,
        timeout_s=timeout_s,
    )


def wait_same_data(master: Server, *replicas: Server, timeout_s: float = WAIT_TIMEOUT_S) -> str:
    """Wait until every replica holds the master's dataset; give the digest.

    A digest of a million keys takes seconds, and a master goes on expiring meanwhile: a few keys
    that are past their time, among many with a far one, linger for minutes. So its background
    expiry rests here, and each look first makes it drop what has expired.
    """

    def same() -> str:
        drop_expired(master)
        wait_caught_up(master, *replicas, timeout_s=timeout_s)
        digests = {server.digest() for server in (master, *replicas)}
        return digests.pop() if len(digests) == 1 else ""

    master.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    try:
        what = f"{', '.join(map(repr, replicas))} have the dataset of {master}"
        return wait_until(same, what, master, *replicas, timeout_s=timeout_s, poll_s=0.05)
    finally:
        master.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def drop_expired(master: Server) -> None:
    """Make a master delete every key that is past its time: SCAN does so to what it meets."""
    for name in master.info("keyspace"):
        client = master.client(db=int(name.removeprefix("db")))
        for _ in client.scan_iter(count=10_000):
            pass
        client.close()


def sync_counts(master: Server) -> tuple[int, int]:
    """Give (sync_full, sync_partial_ok) of INFO stats.

    sync_partial_err is no use here: a server told to replicate first offers its own history as
    a master, so every first attachment counts there.
    """
    stats = master.info("stats")
    return stats["sync_full"], stats["sync_partial_ok"]
