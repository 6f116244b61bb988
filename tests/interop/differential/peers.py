"""The two sides of the differential tests, observed alike.

Real        redis-server over raw sockets; what it propagates is read from its AOF, which it
            writes before it replies, and its notifications from a subscriber
InProcess   our Engine with a clock of its own, observed from inside

Replies are compared as trees that keep the type byte of every node, so that two trees are equal
exactly where the bytes are. The parser of those trees is this room's own: a fault shared by our
encoder and our decoder must not hide.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import IO, Any, Final, NamedTuple

import kvrepl.commands  # noqa: F401  registers every command
from kvrepl.config import Config
from kvrepl.config.notify import parse_notify_flags
from kvrepl.engine.client import Client
from kvrepl.engine.dispatch import Engine
from kvrepl.keyspace.database import Database
from kvrepl.keyspace.digest import digest_dataset
from tests.interop.harness import Server, wait_until

Argv = Sequence[bytes]
Tree = tuple[bytes, Any]
"""(type byte, text) or (type byte, list of trees)."""

LIMITS: Final = {
    "hash_max_listpack_entries": 6,
    "hash_max_listpack_value": 12,
    "zset_max_listpack_entries": 6,
    "zset_max_listpack_value": 12,
    "set_max_intset_entries": 6,
}
"""Thresholds low enough that random sequences cross them."""

EVENTS: Final = "EA"
SOCKET_TIMEOUT_S: Final = 20.0


class Seen(NamedTuple):
    """What was observed of one side.

    Attributes:
        replies: one tree for every command.
        propagated: argv of everything that was sent to the AOF, SELECT left out.
        events: (event, key) of every notification.
        dirty: by how much the dataset got dirtier.
        encodings: (key, encoding) of every collection, ordered by key.
        digest: of the dataset, in hex.
    """

    replies: list[Tree]
    propagated: list[list[bytes]]
    events: list[tuple[bytes, bytes]]
    dirty: int
    encodings: list[tuple[bytes, bytes]]
    digest: bytes


def encode(argv: Argv) -> bytes:
    """A request."""
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv)


def read_tree(stream: IO[bytes]) -> Tree:
    """Read one reply of either protocol.

    Raises:
        EOFError: the stream ended.
    """
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError(line)
    kind, text = line[:1], line[1:-2]
    if kind in b"$=":
        return (kind, None) if text == b"-1" else (kind, stream.read(int(text) + 2)[:-2])
    if kind in b"*~>":
        return (kind, None) if text == b"-1" else (kind, _read_many(stream, int(text)))
    if kind == b"%":
        return kind, _read_many(stream, 2 * int(text))
    return kind, text


def _read_many(stream: IO[bytes], count: int) -> list[Tree]:
    return [read_tree(stream) for _ in range(count)]


def requests_of(data: bytes) -> list[list[bytes]]:
    """The commands in a piece of AOF, without SELECT."""
    stream, found = BytesIO(data), []
    while stream.tell() < len(data):
        argv = [text for _, text in read_tree(stream)[1]]
        if argv[0] != b"SELECT":
            found.append(argv)
    return found


class Connection:
    """One raw connection to redis-server."""

    def __init__(self, port: int, resp: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SOCKET_TIMEOUT_S)
        self.stream = self.socket.makefile("rb")
        if resp == 3:
            self.ask([b"HELLO", b"3"])

    def send(self, requests: Iterable[Argv]) -> None:
        """Send requests without waiting."""
        self.socket.sendall(b"".join(map(encode, requests)))

    def ask(self, argv: Argv) -> Tree:
        """Send one request and read its reply."""
        self.send([argv])
        return read_tree(self.stream)

    def ask_all(self, *requests: Argv) -> list[Tree]:
        """Send requests in one go and read their replies."""
        self.send(requests)
        return [self.read() for _ in requests]

    def read(self) -> Tree:
        """Read one reply."""
        return read_tree(self.stream)

    def read_waiting(self) -> list[Tree]:
        """Read the replies that have already come."""
        self.socket.setblocking(False)
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return []
        finally:
            self.socket.settimeout(SOCKET_TIMEOUT_S)
        stream, trees = BytesIO(data), []
        while stream.tell() < len(data):
            trees.append(read_tree(stream))
        return trees

    def close(self) -> None:
        """Close it."""
        self.stream.close()
        self.socket.close()


class Real:
    """A redis-server, watched through its AOF and a subscriber.

    Args:
        server: started with `directives()`.
    """

    def __init__(self, server: Server) -> None:
        self.port = server.port
        self.admin = Connection(server.port, 2)
        self.watcher = Connection(server.port, 2)
        self.watcher.ask([b"PSUBSCRIBE", b"__keyevent@*"])
        self._aof: Path = server.folder / "appendonlydir" / "appendonly.aof.1.incr.aof"
        self._offset = 0
        self._dirty = 0

    @staticmethod
    def directives() -> dict[str, str]:
        """What the server must be started with."""
        thresholds = {name: str(value) for name, value in LIMITS.items()}
        return thresholds | {
            "appendonly": "yes",
            "appendfsync": "no",
            "auto_aof_rewrite_percentage": "0",
            "notify_keyspace_events": EVENTS,
            "list_max_listpack_size": "4",
            "hz": "500",  # an idle server looks at blocked clients' timeouts once a cycle
        }

    def connect(self, resp: int) -> Connection:
        """A connection of this protocol."""
        return Connection(self.port, resp)

    def begin(self) -> None:
        """Empty the dataset, and forget what was observed."""
        self.admin.ask([b"FLUSHALL"])
        self._events()
        self._offset = self._aof.stat().st_size
        self._dirty = self._dirty_now()

    def run(self, connection: Connection, commands: Sequence[Argv]) -> list[Tree]:
        """Send commands in one go and read the replies."""
        connection.send(commands)
        return [connection.read() for _ in commands]

    def wait_for_blocked(self, count: int) -> None:
        """Wait until so many clients are blocked."""
        wanted = b"blocked_clients:%d\r\n" % count
        wait_until(lambda: wanted in self.admin.ask([b"INFO", b"clients"])[1], repr(wanted))

    def seen(self, replies: list[Tree]) -> Seen:
        """What there is to see since `begin`."""
        dirty = self._dirty_now() - self._dirty
        with self._aof.open("rb") as aof:
            aof.seek(self._offset)
            propagated = requests_of(aof.read())
        keys = sorted(text for _, text in self.admin.ask([b"KEYS", b"*"])[1])
        asked = [[b"TYPE", key] for key in keys] + [[b"OBJECT", b"ENCODING", key] for key in keys]
        told = [text for _, text in self.run(self.admin, [*asked, [b"DEBUG", b"DIGEST"]])]
        encodings = [
            (key, encoding)
            for key, kind, encoding in zip(keys, told, told[len(keys) : -1], strict=False)
            if kind != b"string"
        ]
        digest = told[-1]
        return Seen(replies, propagated, self._events(), dirty, encodings, digest)

    def _events(self) -> list[tuple[bytes, bytes]]:
        # The subscriber's own PING comes behind every message published before it was sent.
        self.watcher.send([[b"PING", b"end"]])
        events: list[tuple[bytes, bytes]] = []
        while True:
            parts = [text for _, text in self.watcher.read()[1]]
            if parts[0] == b"pong":
                return events
            events.append((parts[2].partition(b":")[2], parts[3]))

    def _dirty_now(self) -> int:
        info: bytes = self.admin.ask([b"INFO", b"persistence"])[1]
        return int(info.partition(b"rdb_changes_since_last_save:")[2].split()[0])

    def close(self) -> None:
        """Close the connections."""
        self.admin.close()
        self.watcher.close()


class HandClock:
    """A clock that moves only when told."""

    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        """The time it was put to."""
        return self.ms

    def monotonic_ns(self) -> int:
        """Never moves: no command is slow, no batch exceeds its budget."""
        return 0


class _WatchedEngine(Engine):
    """An engine that notes its notifications."""

    events: list[tuple[bytes, bytes]]

    def notify(self, kind: int, event: bytes, key: bytes, db: Database) -> None:
        self.events.append((event, key))


class _Recorder:
    """The AOF as a list of bytes."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def feed(self, db: int, encoded: bytes) -> None:
        self.chunks.append(encoded)


class InProcess:
    """Our engine, one for many runs: a fresh one each time would leave the collector behind."""

    def __init__(self) -> None:
        self.clock = HandClock(1_700_000_000_000)
        config = Config()
        config.databases = 1
        self.engine = _WatchedEngine(config, self.clock, Random(0))
        keyspace = self.engine.keyspace
        keyspace.notify_flags = parse_notify_flags(EVENTS) or 0
        for name, value in LIMITS.items():
            setattr(keyspace.limits, name, value)
        self.recorder = _Recorder()
        self.engine.propagation.connect(aof=self.recorder, replicas=None)

    def begin(self) -> None:
        """Empty the dataset, and forget what was observed."""
        for client in list(self.engine.clients.values()):
            self.engine.disconnect(client)
        self.engine.writers.clear()
        self.engine.keyspace.clear()
        self.engine.keyspace.dirty = 0
        self.engine.rng.seed(0)
        self.engine.events = []
        self.recorder.chunks.clear()

    def connect(self, resp: int) -> Client:
        """A client of this protocol."""
        client = self.engine.connect()
        client.resp = resp
        return client

    def run(self, client: Client, commands: Sequence[Argv]) -> list[Tree]:
        """Run commands in one go; whoever has to wait waits until its timeout."""
        requests = [list(argv) for argv in commands]
        done = 0
        while done < len(requests):
            done = self.engine.run(client, requests, done)
            if client.wait is not None:
                deadline_ms = self.engine.blocking.next_deadline_ms()
                assert deadline_ms is not None, f"{requests[done - 1]} waits for ever"
                self.clock.ms = deadline_ms
                self.engine.tick()
                self.engine.blocking.expire()
        return self.read(client)

    def read(self, client: Client) -> list[Tree]:
        """Take the replies that a client got."""
        data = b"".join(client.out)
        client.out.clear()
        stream, trees = BytesIO(data), []
        while stream.tell() < len(data):
            trees.append(read_tree(stream))
        return trees

    def seen(self, replies: list[Tree]) -> Seen:
        """What there is to see."""
        db = self.engine.keyspace.databases[0]
        items = [(0, list(db.items()))] if len(db) else []
        encodings = [
            (key, value.encoding)
            for key, value, _ in sorted(db.items(), key=itemgetter(0))
            if not isinstance(value, (bytes, bytearray))
        ]
        return Seen(
            replies,
            requests_of(b"".join(self.recorder.chunks)),
            self.engine.events,
            self.engine.keyspace.dirty,
            encodings,
            digest_dataset(items).hex().encode(),
        )


UNORDERED: Final = frozenset(
    (b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"SPOP", b"HKEYS", b"HVALS", b"KEYS")
)
UNORDERED_PAIRS: Final = frozenset((b"HGETALL",))
SCANS: Final = {b"SSCAN": 1, b"HSCAN": 2, b"ZSCAN": 2}
RANDOM: Final = frozenset((b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER"))


def comparable(argv: Argv, tree: Tree) -> Tree:
    """A reply with what no specification fixes taken away: order, and chance.

    Of a random pick its shape is left; what it picks is tested elsewhere.
    """
    kind, value = tree
    if not isinstance(value, list):
        return (
            (kind, b"?")
            if argv[0].upper() in RANDOM and kind == b"$" and value is not None
            else tree
        )
    name = argv[0].upper()
    if name in UNORDERED:
        return kind, sorted(value)
    if name in UNORDERED_PAIRS:
        return kind, _sorted_groups(value, 2)
    if name in SCANS:
        cursor, (inner, found) = value
        return kind, [cursor, (inner, _sorted_groups(found, SCANS[name]))]
    if name in RANDOM:
        return kind, [_shape(each) for each in value]
    return tree


def _sorted_groups(trees: list[Tree], size: int) -> list[Any]:
    return sorted(trees[at : at + size] for at in range(0, len(trees), size))


def _shape(tree: Tree) -> Tree:
    kind, value = tree
    return kind, [_shape(each) for each in value] if isinstance(value, list) else b"?"
