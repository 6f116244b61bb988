"""A whole server of either kind, watched from outside: replies, replication stream, dataset.

Watched   the server, with a raw replica of it and a connection of the test's own
Session   one client: it knows how many replies a request has, and what comes without being asked

A request has one reply, but for those that have none (CLIENT REPLY) or many (SUBSCRIBE); messages
and invalidations come in between. So a reply is a list of trees; that of a connection which the
server closed ends in CLOSED, and the next request goes over a new one.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tests.interop.differential.peers import LIMITS, Argv, Connection, Tree, encode, read_tree
from tests.interop.harness import Directive, Server

CLOSED: Final[Tree] = (b"!", b"closed")
MESSAGES: Final = (
    b"message", b"pmessage", b"smessage", b"invalidate", b"tracking-redir-broken",
    b"server-cpu-usage",
)  # fmt: skip
"""What may come before a reply; the last is of DEBUG PROTOCOL push."""
CONFIRMED: Final = re.compile(rb"([ps]?)(un)?subscribe", re.I)
SILENT: Final = {b"OFF": -1, b"SKIP": 1, b"ON": 0}
"""How many requests have no reply after CLIENT REPLY; -1 for all."""
DATABASES: Final = 4


class Dataset(NamedTuple):
    """What a server holds.

    Attributes:
        digest: DEBUG DIGEST.
        keys: (database, key, encoding, milliseconds to live) of every key, in order.
    """

    digest: bytes
    keys: list[tuple[int, bytes, bytes, int]]


def dataset(connection: Connection) -> Dataset:
    """What a server holds. Its expired keys are gone after this, if it is a master.

    SCAN removes them; KEYS only leaves them out, and the digest has them.
    """
    found = []
    for db in range(DATABASES):
        _, (_, ((_, cursor), _)), (_, names) = connection.ask_all(
            [b"SELECT", b"%d" % db], [b"SCAN", b"0", b"COUNT", b"1000000"], [b"KEYS", b"*"]
        )
        assert cursor == b"0", "more keys than one SCAN looks at"
        keys = sorted(text for _, text in names)
        told = connection.ask_all(
            *([b"OBJECT", b"ENCODING", key] for key in keys), *([b"PTTL", key] for key in keys)
        )
        encodings, lives = told[: len(keys)], told[len(keys) :]
        found += [
            (db, key, encoding, int(left_ms))
            for key, (_, encoding), (_, left_ms) in zip(keys, encodings, lives, strict=True)
        ]
    _, (_, digest) = connection.ask_all([b"SELECT", b"0"], [b"DEBUG", b"DIGEST"])
    return Dataset(digest, found)


class Session:
    """One client.

    Args:
        port: of the server.
        resp: the protocol it begins with.
    """

    def __init__(self, port: int, resp: int) -> None:
        self._port, self._resp = port, resp
        self._silent = 0
        self._subscribed: dict[bytes, set[bytes]] = {}
        self._connect()

    def _connect(self) -> None:
        self._connection = Connection(self._port, self._resp)
        self._silent = 0
        self._subscribed = {b"": set(), b"p": set(), b"s": set()}

    def run(self, requests: Sequence[Argv]) -> list[list[Tree]]:
        """Send requests in one go; give the trees that answer each, and what comes late."""
        return [*self._run(requests), *self._run([[b"PING"]]), *self._run([[b"PING"]])]

    def _run(self, requests: Sequence[Argv]) -> list[list[Tree]]:
        answers: list[list[Tree]] = []
        while len(answers) < len(requests):
            left = requests[len(answers) :]
            self._connection.send(left)
            for argv in left:
                answers.append(self._answer(argv))
                if answers[-1][-1:] == [CLOSED]:
                    self.close()
                    self._connect()
                    break
        return answers

    def _answer(self, argv: Argv) -> list[Tree]:
        name = argv[0].upper()
        if name == b"CLIENT" and len(argv) == 3 and argv[1].upper() == b"REPLY":
            silent = SILENT.get(argv[2].upper())
            if silent is not None:
                self._silent = silent
                return [] if silent else self._until_reply()
        if self._silent:
            self._silent -= self._silent > 0
            return []
        trees = self._until_reply()
        match = CONFIRMED.fullmatch(name)
        if match and trees[-1][0] in (b"*", b">"):
            left = self._confirmations(match, argv[1:]) - 1
            trees += [tree for _ in range(left) for tree in self._until_reply()]
        if name == b"RESET" and trees[-1] == (b"+", b"RESET"):
            self._subscribed = {b"": set(), b"p": set(), b"s": set()}
        return trees

    def _confirmations(self, match: re.Match[bytes], names: Sequence[bytes]) -> int:
        """How many replies a subscription has that was not refused."""
        ours = self._subscribed[match[1].lower()]
        if not match[2]:
            ours.update(names)
            return len(names)
        count = len(names) or max(1, len(ours))
        ours.difference_update(names or set(ours))
        return count

    def _until_reply(self) -> list[Tree]:
        trees: list[Tree] = []
        while True:
            try:
                trees.append(self._connection.read())
            except (EOFError, ConnectionError):
                return [*trees, CLOSED]
            kind, parts = trees[-1]
            if kind not in (b">", b"*") or not parts or parts[0][1] not in MESSAGES:
                return trees

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class _Replica:
    """A replica made of a socket: it takes the snapshot, and then the stream as it comes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._stream = self._socket.makefile("rb")
        for argv in ([b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"], [b"PSYNC", b"?", b"-1"]):
            self._socket.sendall(encode(argv))
            assert self._line().startswith(b"+")
        header = self._line()
        self._stream.read(int(header[1:]))

    def _line(self) -> bytes:
        while (line := self._stream.readline()) == b"\n":
            pass
        return line

    def until(self, last: list[bytes]) -> list[list[bytes]]:
        """Read the commands of the stream before this one.

        Without what is said to replicas themselves: pings, and REPLCONF GETACK, which a WAIT that
        has ended by the end of the turn no longer asks for.
        """
        found: list[list[bytes]] = []
        while True:
            argv = [text for _, text in read_tree(self._stream)[1]]
            if argv == last:
                return found
            if argv[0] not in (b"ping", b"REPLCONF"):
                found.append(argv)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


class Watched:
    """A server that is watched.

    Args:
        server: started with `directives()`.
        restored: what every run begins with, beyond an empty dataset.
    """

    def __init__(self, server: Server, restored: Iterable[Argv] = ()) -> None:
        self.server = server
        self._admin = Connection(server.port, 2)
        self._replica = _Replica(server.port)
        self._restored = list(restored)
        self._runs = 0

    @staticmethod
    def directives() -> Mapping[str, Directive]:
        """What the server must be started with."""
        return {name: str(value) for name, value in LIMITS.items()} | {
            "list_max_listpack_size": "4",
            "stream_node_max_entries": "4",
            "hll_sparse_max_bytes": "120",
            "databases": str(DATABASES),
            "slowlog_log_slower_than": "0",
            "repl_ping_replica_period": "3600",
            "repl_timeout": "36000",
            "repl_diskless_sync": "no",  # after a file the stream needs no ACK to begin
            "hz": "500",  # an idle server looks at blocked clients' timeouts once a cycle
        }

    def begin(self) -> None:
        """Empty the dataset, restore the settings, and forget what was sent."""
        self.ask([b"FLUSHALL"], *self._restored)
        self.sent()

    def ask(self, *requests: Argv) -> list[Tree]:
        """Send requests over the test's own connection, in database 0; give the replies."""
        return self._admin.ask_all(*requests)

    def sent(self) -> list[list[bytes]]:
        """What replicas were sent since the last time."""
        self._runs += 1
        mark = [b"PUBLISH", b"end of run", b"%d" % self._runs]
        self.ask(mark)
        return self._replica.until(mark)

    def dataset(self) -> Dataset:
        """What it holds."""
        return dataset(self._admin)

    def close(self) -> None:
        """Close the connections."""
        self._admin.close()
        self._replica.close()
