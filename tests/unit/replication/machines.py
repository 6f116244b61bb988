"""Servers without a shell: the machines with their actions kept, and a clock moved by hand."""

from __future__ import annotations

import itertools

from kvrepl.replication import actions as do
from kvrepl.replication.actions import Actions
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.replica import ReplicaSide
from kvrepl.replication.roles import Replication
from kvrepl.replication.settings import ReplicationSettings

ID = b"0747c1f0a0dc2e5b1e0d1c1b1a19181716151413"


def texts(actions: Actions) -> str:
    """Give the log lines among actions."""
    return "\n".join(action.text for action in actions if isinstance(action, do.Log))


class MasterShell:
    """A master with a clock that only moves when told."""

    def __init__(self, **settings: object) -> None:
        numbers = itertools.count(1)
        self.settings = ReplicationSettings(**settings)  # type: ignore[arg-type]
        self.now_ms = 0
        self.repl = Replication(
            self.settings, lambda: b"%040x" % next(numbers), lambda: True, self.now_ms
        )
        self.master = self.repl.master
        self.streams: dict[int, do.StartStream] = {}

    def keep(self, actions: Actions) -> Actions:
        for action in actions:
            if isinstance(action, do.StartStream):
                self.streams[action.link] = action
        return actions

    def replconf(self, link: int, *words: bytes) -> Actions:
        _, actions = self.repl.on_replconf(
            link, [b"REPLCONF", *words], self.now_ms, ip=b"10.0.0.%d" % link
        )
        return self.keep(actions)

    def psync(self, link: int, replid: bytes = b"?", number: int = -1) -> Actions:
        argv = [b"PSYNC", replid, b"%d" % number]
        return self.keep(self.repl.on_psync(link, argv, self.now_ms, ip=b"10.0.0.%d" % link))

    def modern(self, link: int) -> None:
        self.replconf(link, b"listening-port", b"%d" % (7000 + link))
        self.replconf(link, b"capa", b"eof", b"capa", b"psync2")

    def tick(self, seconds: int = 1) -> Actions:
        actions: Actions = []
        for _ in range(seconds):
            self.now_ms += 1000
            actions += self.keep(self.repl.tick(self.now_ms))
        return actions

    def started(self) -> Actions:
        return self.keep(self.master.bgsave_started(self.now_ms))

    def done(self, *, ok: bool = True) -> Actions:
        return self.keep(self.master.bgsave_done(ok=ok, now_ms=self.now_ms))

    def online(self, link: int) -> None:
        """A full sync of one replica, from disk, up to the stream."""
        self.replconf(link, b"capa", b"psync2")
        self.psync(link)
        self.started()
        self.done()
        self.keep(self.master.transfer_done(link, self.now_ms))

    def read(self, link: int) -> bytes:
        cursor = self.streams[link].cursor
        data = b"".join(map(bytes, cursor.peek(1 << 20)))
        cursor.advance(len(data))
        return data

    def state(self, link: int) -> ReplicaState:
        replica = self.master.find(link)
        return replica.state if replica else ReplicaState.NONE


class ReplicaShell:
    """A replica with its actions kept, and a clock that only moves when told."""

    def __init__(self, *, empty: bool = False, **settings: object) -> None:
        numbers = itertools.count(1)
        self.settings = ReplicationSettings(announced_port=6380, **settings)  # type: ignore[arg-type]
        self.now_ms = 0
        self.repl = Replication(
            self.settings, lambda: b"%040x" % next(numbers), lambda: empty, self.now_ms
        )
        self.replica: ReplicaSide = self.repl.replica
        self.done: Actions = []
        self.keep(self.repl.continue_as_replica("m", 6379, 0))

    def keep(self, actions: Actions) -> Actions:
        self.done += actions
        return actions

    def receive(self, data: bytes) -> Actions:
        return self.keep(self.replica.receive(data, self.now_ms))

    def tick(self, seconds: int = 1) -> Actions:
        self.now_ms += 1000 * seconds
        return self.keep(self.repl.tick(self.now_ms))

    def loaded(self, db: int = 0) -> Actions:
        return self.keep(self.replica.load_finished(ok=True, stream_db=db, now_ms=self.now_ms))

    def sent(self) -> bytes:
        """What has been sent to the master since the last call."""
        data = b"".join(action.data for action in self.done if isinstance(action, do.Send))
        self.done = [action for action in self.done if not isinstance(action, do.Send)]
        return data

    def connect(self) -> None:
        self.keep(self.replica.connected_to_master(self.now_ms))

    def to_psync(self) -> None:
        self.connect()
        self.receive(b"+PONG\r\n")
        self.receive(b"+OK\r\n+OK\r\n")

    def to_stream(self, offset: int = 42, db: int = 0) -> None:
        """A whole full sync from disk framing."""
        self.to_psync()
        self.receive(b"+FULLRESYNC %b %d\r\n$3\r\nRDB" % (ID, offset))
        self.loaded(db)
        self.sent()
        self.done.clear()
