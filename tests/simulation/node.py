"""A server in memory: the replication machines, a dict for a dataset, and a shell without I/O.

It does what the real shell does: carries out actions in order, forks (copies the dataset),
relays snapshots, pumps cursors, parses and applies the stream. Its dataset is a dict of
databases, its RDB files are real ones.

Some rules can only be checked where something happens, and are checked here: what PSYNC is
granted, what a promotion leaves behind, what goes to a replica before its stream.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvrepl.errors import CommandError
from kvrepl.replication import actions as do
from kvrepl.replication import wire
from kvrepl.replication.actions import Actions, SaveInfo, Target
from kvrepl.replication.apply import StreamApplyState
from kvrepl.replication.backlog import Cursor
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.master import Child
from kvrepl.replication.ring import Reader
from kvrepl.replication.roles import Replication
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.stream import ANY_DB
from kvrepl.resp.values import Status
from rdb.constants import TYPE_STRING
from rdb.reader import RdbReader
from rdb.records import Aux, Key
from rdb.writer import RdbWriter
from tests.simulation.network import Connection, End, Scheduler

Dataset = dict[int, dict[bytes, bytes]]
WINDOW_BYTES = 4000
"""What a socket takes before it must drain: makes slow readers of the backlog."""
CHUNK_BYTES = 1000
"""The most that a child writes into the ring at once."""
CHILD_PAUSE_MS = 200
"""The most that passes between two writes of a child, or looks at who holds the ring."""
LIMIT_BYTES = 12_000
"""Of a replica's output, near which writers wait where repl-backpressure is on."""
TAIL_BYTES = 1500


def serialize(dataset: Dataset, info: SaveInfo | None) -> bytes:
    """Return the RDB file of a dataset."""
    pieces: list[bytes] = []
    writer = RdbWriter(pieces.append, checksum=False)
    if info is not None:
        writer.aux(b"repl-stream-db", b"%d" % info.stream_db)
        writer.aux(b"repl-id", info.replid)
        writer.aux(b"repl-offset", b"%d" % info.offset)
    for db, keys in dataset.items():
        if keys:
            writer.select_db(db, len(keys))
        for key, value in keys.items():
            writer.key(key, TYPE_STRING, value, compress=False)
    writer.end()
    return b"".join(pieces)


def deserialize(data: bytes) -> tuple[Dataset, SaveInfo | None]:
    """Read an RDB file."""
    dataset: Dataset = {}
    aux: dict[bytes, bytes] = {}
    reader = RdbReader(verify_checksum=False)
    for record in reader.feed(data):
        if isinstance(record, Aux):
            aux[record.key] = record.value
        elif isinstance(record, Key):
            dataset.setdefault(record.db, {})[record.key] = record.value
    reader.close()
    if b"repl-id" not in aux:
        return dataset, None
    place = int(aux[b"repl-stream-db"]), aux[b"repl-id"], int(aux[b"repl-offset"])
    return dataset, SaveInfo(*place)


def parse(buffer: bytes) -> tuple[list[bytes], int] | None:
    """Read one command from a stream; None where it is not whole yet."""
    if buffer.startswith(b"\n"):
        return [], 1
    line, newline, _ = buffer.partition(b"\r\n")
    if not newline:
        return None
    if not line.startswith(b"*"):
        return [line], len(line) + 2
    at, words = len(line) + 2, []
    for _ in range(int(line[1:])):
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        assert buffer[at : at + 1] == b"$", buffer[at : at + 20]
        length = int(buffer[at + 1 : end])
        if len(buffer) < end + 2 + length + 2:
            return None
        words.append(buffer[end + 2 : end + 2 + length])
        at = end + 2 + length + 2
    return words, at


class RuleBroken(AssertionError):
    """A rule does not hold at the moment it is about."""


class Node:
    """One server of the cluster.

    Args:
        name: its host name.
        scheduler: time and chance.
        dial: finds the node that listens on a host name; None where nobody does.
        settings: of replication.
        saved: the RDB file found at start.
        master: the host that the configuration names, "" for none.
        log: where log lines go, shared by the cluster.
    """

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        dial: Callable[[str], Node | None],
        settings: ReplicationSettings,
        saved: bytes | None,
        master: str,
        log: list[str],
    ) -> None:
        self.name = name
        self.alive = True
        self.scheduler = scheduler
        self.rng = scheduler.rng
        self.settings = settings
        self.dial = dial
        self.dataset: Dataset = {}
        self.file = saved
        self.loading = False
        self.pauses: dict[do.Pause, int] = {}
        self.quiet = False
        self.stirred = True
        self.log = log
        self._upstream: End | None = None
        self._downstream: dict[int, End] = {}
        self._inputs: dict[int, bytes] = {}
        self._pumps: dict[int, Cursor] = {}
        self._snapshots: dict[int, tuple[Reader, bytes]] = {}
        self._mark = b""
        self._child_serial = 0
        self._followed: tuple[bytes, int] | None = None
        self._chunks: list[bytes] = []
        self._reset_stream(0)
        self.repl = Replication(
            settings,
            lambda: b"%040x" % self.rng.getrandbits(160),
            lambda: not any(self.dataset.values()),
            scheduler.now_ms,
        )
        self._start(saved, master)
        self._schedule_tick()

    @property
    def paused(self) -> bool:
        """Whether clients may not write."""
        return bool(self.pauses)

    # --- what the outside does to it ----------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Virtual time."""
        return self.scheduler.now_ms

    def _start(self, saved: bytes | None, master: str) -> None:
        info = None
        if saved is not None:
            self.dataset, info = deserialize(saved)
        if not master:
            self.repl.restore_as_master(info, self.now_ms)
            return
        if info is not None:
            self.repl.restore_as_replica(info)
        self.execute(self.repl.continue_as_replica(master, 1, self.now_ms))

    def streams_to(self, link: int) -> bool:
        """Whether it feeds a replica the stream."""
        return link in self._pumps

    def receivers(self) -> list[End]:
        """Its ends of the links to those who read a diskless transfer."""
        return [self._downstream[link] for link in self._snapshots if link in self._downstream]

    def ends(self) -> list[End]:
        """Its ends of all its connections."""
        upstream = [] if self._upstream is None else [self._upstream]
        return [*self._downstream.values(), *upstream]

    def crash(self) -> None:
        """Die; peers notice."""
        self.alive = False
        for end in self.ends():
            end.connection.cut()

    def write(self, commands: list[tuple[int, list[bytes]]]) -> bool:
        """A client writes, more than one command as a transaction; False where refused."""
        if not self.repl.is_master or self.loading or self.paused:
            return False
        for db, words in commands:
            self._run(db, words)
        feed = self.repl.stream.feed
        if len(commands) > 1:
            feed(commands[0][0], wire.command(b"MULTI"))
        for db, words in commands:
            feed(db, wire.command(*words))
        if len(commands) > 1:
            feed(commands[-1][0], wire.command(b"EXEC"))
        self.pump()
        return True

    def replicaof(self, host: str) -> None:
        """A client says REPLICAOF; a refusal is fine."""
        if self.loading:
            return
        try:
            if host:
                _, actions = self.repl.replicaof(host, 1, self.now_ms)
            else:
                _, actions = self.repl.replicaof_no_one(self.now_ms)
        except CommandError:
            return
        self.execute(actions)

    def failover(self) -> None:
        """A client says FAILOVER in one of its forms; a refusal is fine."""
        if self.loading:
            return
        others = [link for link in self.repl.master.replicas if link.ip]
        to = [b"TO", self.rng.choice(others).ip, b"1"] if others else []
        limit = [b"TIMEOUT", b"%d" % self.rng.choice([300, 3000])]
        forms = [limit, limit, [*to, *limit], [*to, *limit, b"FORCE"], [b"ABORT"]]
        try:
            argv = [b"FAILOVER", *self.rng.choice(forms)]
            self.execute(self.repl.on_failover(argv, self.now_ms)[1])
        except CommandError:
            pass

    def bgsave(self) -> None:
        """A client says BGSAVE, or another child is forked."""
        if self.repl.master.child is None and not self.loading:
            other = self.rng.random() < 0.3
            self.repl.master.child_started(Child.OTHER if other else Child.DISK)
            self._fork(None if other else serialize(self.dataset, self.repl.save_info()))

    def kill_child(self) -> None:
        """The child dies of itself."""
        child, self._child_serial = self.repl.master.child, self._child_serial + 1
        if child is Child.OTHER:
            self.execute(self.repl.master.child_exited(self.now_ms))
        elif child is not None:
            self.execute(self.repl.master.bgsave_done(ok=False, now_ms=self.now_ms))
            waiting = [
                link.name
                for link in self.repl.master.replicas
                if link.state is ReplicaState.WAIT_BGSAVE_END and link.sync is not None
            ]
            if waiting and self.repl.master.child is None:
                raise RuleBroken(f"{self.name}: {waiting} wait for a child that has died")

    # --- its links ----------------------------------------------------------------------------

    def accept(self, end: End) -> None:
        """A connection has come."""
        self._downstream[end.number] = end
        self._inputs[end.number] = b""

    def on_data(self, end: End, data: bytes) -> None:
        """Bytes have come on a link."""
        if end is self._upstream:
            self.execute(self.repl.replica.receive(data, self.now_ms))
            return
        buffer = self._inputs[end.number] + data
        while end.open and self.alive and (parsed := parse(buffer)) is not None:
            words, length = parsed
            buffer = buffer[length:]
            self._command(end, words)
        self._inputs[end.number] = buffer

    def on_lost(self, end: End) -> None:
        """A link has broken."""
        if end is self._upstream:
            self._upstream = None
            self.execute(self.repl.replica.link_lost("connection lost", self.now_ms))
        elif self._downstream.pop(end.number, None) is not None:
            self._pumps.pop(end.number, None)
            self.execute(self.repl.master.on_closed(end.number, self.now_ms))

    def _command(self, end: End, words: list[bytes]) -> None:
        if not words:
            self.repl.master.on_keepalive(end.number, self.now_ms)
            return
        verb = words[0].lower()
        try:
            if verb == b"ping":
                end.send(b"+PONG\r\n")
            elif verb == b"replconf":
                reply, actions = self.repl.on_replconf(
                    end.number, words, self.now_ms, ip=end.peer.owner.name.encode()
                )
                if isinstance(reply, Status):
                    end.send(reply.wire)
                self.execute(actions)
            elif self.loading:
                raise CommandError(b"LOADING Redis is loading the dataset in memory")
            else:
                actions = self.repl.on_psync(end.number, words, self.now_ms)
                self._check_granted(words, actions)
                self.execute(actions)
        except CommandError as error:
            end.send(b"-%b\r\n" % error.text)
        self.pump()

    def _check_granted(self, words: list[bytes], actions: Actions) -> None:
        """Check the answer to a PSYNC against the rule of Redis, written once more."""
        answers = [a.data for a in actions if isinstance(a, do.SendToReplica)]
        if len(words) < 3 or any(answer.startswith(b"-") for answer in answers):
            return
        history, backlog = self.repl.history, self.repl.stream.backlog
        assert backlog is not None  # now that there is a replica
        replid, number = words[1], int(words[2])
        known = replid == history.replid or (
            replid == history.replid2 and number <= history.second_repl_offset
        )
        first_byte = backlog.first_byte_offset
        grantable = known and first_byte <= number <= first_byte + backlog.histlen
        granted = any(answer.startswith(b"+CONTINUE") for answer in answers)
        if granted != grantable:
            raise RuleBroken(f"{self.name}: PSYNC granted {granted}, by the rule {grantable}")

    def pump(self) -> None:
        """Write what the cursors give, as far as the sockets take it; whatever happens ends so."""
        self.stirred = True
        for number, cursor in list(self._pumps.items()):
            end = self._downstream[number]
            room = WINDOW_BYTES - end.in_flight_bytes
            for piece in cursor.peek(room):
                end.send(piece)
                cursor.advance(len(piece))
        self._pump_snapshots()
        if self.repl.backpressure.watches:
            actions = self.repl.press(LIMIT_BYTES, self.now_ms)
            if actions:
                self.execute(actions)

    def _schedule_tick(self) -> None:
        def tick() -> None:
            if self.alive:
                if not self.quiet and self.rng.random() < 0.2:
                    self.repl.master.request_acks()
                self.repl.master.flush_requests()
                self.execute(self.repl.tick(self.now_ms))
                self._schedule_tick()

        self.scheduler.at(self.repl.next_deadline_ms(), tick)

    # --- actions ------------------------------------------------------------------------------

    def execute(self, actions: Actions) -> None:
        """Carry out actions in order; what reports return is carried out at once."""
        history = self.repl.history
        for action in actions:
            handler = getattr(self, "_do_" + type(action).__name__)
            handler(action)
        # Without a backlog a promotion continues nobody's history: nothing of it is kept.
        relays = not self.repl.is_master and self.repl.stream.backlog is not None
        self._followed = (history.replid, history.offset) if relays else None
        self.pump()

    def _do_Log(self, action: do.Log) -> None:
        self.log.append(f"{self.now_ms} {self.name} {action.text}")

    def _do_RoleChanged(self, action: do.RoleChanged) -> None:
        assert (action.role is do.Role.MASTER) == self.repl.is_master or not self.repl.is_master
        history, was = self.repl.history, self._followed
        if action.role is do.Role.MASTER and was is not None:
            if (history.replid2, history.second_repl_offset) != (was[0], was[1] + 1):
                raise RuleBroken(f"{self.name}: promoted, and not going on from {was}")
            if history.replid == was[0]:
                raise RuleBroken(f"{self.name}: promoted under the id of its old master")
            self._check_selects()

    def _check_selects(self) -> None:
        """The next command is for readers that may be on any database."""
        stream = self.repl.stream
        if stream.originates and stream.selected_db != ANY_DB:
            raise RuleBroken(f"{self.name}: no SELECT for those who come")

    def _do_Connect(self, action: do.Connect) -> None:
        self._do_Close(do.Close())
        self.scheduler.after(self.rng.randint(1, 40), partial(self._connected, action.host))

    def _connected(self, host: str) -> None:
        replica = self.repl.replica
        if not self.alive or self._upstream is not None or replica.host != host:
            return
        peer = self.dial(host)
        if peer is None or not peer.alive:
            self.execute(replica.connect_failed("Connection refused", self.now_ms))
        elif replica.state.name == "CONNECTING":
            connection = Connection(self.scheduler, self, peer)
            self._upstream = connection.client
            peer.accept(connection.server)
            self.execute(replica.connected_to_master(self.now_ms))

    def _do_Send(self, action: do.Send) -> None:
        if self._upstream is not None:
            self._upstream.send(action.data)

    def _do_Close(self, action: do.Close) -> None:
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    def _do_BeginTransfer(self, action: do.BeginTransfer) -> None:
        self._chunks = []
        if action.load is do.Load.IN_PLACE:
            self.dataset = {}

    def _do_Chunk(self, action: do.Chunk) -> None:
        self._chunks.append(action.data)

    def _do_AbortTransfer(self, action: do.AbortTransfer) -> None:
        self._chunks = []

    def _do_LoadSnapshot(self, action: do.LoadSnapshot) -> None:
        self.loading = True
        data = b"".join(self._chunks)
        protected = self.settings.replica_refuse_empty_master and any(self.dataset.values())
        if protected and not deserialize(data)[0]:
            raise RuleBroken(f"{self.name}: gives its data up for an empty snapshot")
        if action.load is not do.Load.SWAP:
            self.dataset = {}
        self.scheduler.after(self.rng.randint(0, 1500), partial(self._loaded, action.load, data))

    def _loaded(self, load: do.Load, data: bytes) -> None:
        if not self.alive:
            return
        self.loading = False
        ok = self.rng.random() > 0.05
        db = 0
        if ok:
            self.dataset, info = deserialize(data)
            db = info.stream_db if info else 0
            if load is do.Load.FROM_FILE:
                self.file = data
        self.execute(self.repl.replica.load_finished(ok=ok, stream_db=db, now_ms=self.now_ms))

    def _reset_stream(self, db: int) -> None:
        self._applying = StreamApplyState()
        self._buffer = b""
        self._db = db
        self._queue: list[tuple[int, list[bytes]]] | None = None

    def _do_LinkUp(self, action: do.LinkUp) -> None:
        self._reset_stream(action.db)

    def _do_LinkDown(self, action: do.LinkDown) -> None:
        self._reset_stream(0)

    def _do_ApplyStream(self, action: do.ApplyStream) -> None:
        self._buffer += action.data
        while (parsed := parse(self._buffer)) is not None:
            words, length = parsed
            self._buffer = self._buffer[length:]
            self._apply(words)
            counted = self._applying.ran(length, in_multi=self._queue is not None)
            if counted:
                self.repl.replica.applied(counted, self._db)

    def _apply(self, words: list[bytes]) -> None:
        verb = words[0].lower() if words else b""
        if verb == b"multi":
            self._queue = []
        elif verb == b"exec":
            assert self._queue is not None
            queue, self._queue = self._queue, None
            for db, queued in queue:
                self._run(db, queued)
        elif verb == b"select":
            self._db = int(words[1])
        elif verb == b"replconf":
            self.execute(self.repl.on_replconf(0, words, self.now_ms)[1])
        elif verb in (b"ping", b""):
            pass
        elif self._queue is not None:
            self._queue.append((self._db, words))
        else:
            self._run(self._db, words)

    def _run(self, db: int, words: list[bytes]) -> None:
        keys = self.dataset.setdefault(db, {})
        if words[0] == b"SET":
            keys[words[1]] = words[2]
        elif words[0] == b"APPEND":
            keys[words[1]] = (keys.get(words[1], b"") + words[2])[-TAIL_BYTES:]
        else:
            assert words[0] == b"DEL", words
            keys.pop(words[1], None)

    # --- its replicas -------------------------------------------------------------------------

    def _do_SendToReplica(self, action: do.SendToReplica) -> None:
        replica = self.repl.master.find(action.link)
        if action.data == wire.KEEPALIVE and replica and replica.state is ReplicaState.ONLINE:
            raise RuleBroken(f"{self.name}: a newline to {replica.name}, which would count it")
        if action.data.startswith(b"+FULLRESYNC"):
            self._check_selects()
        if action.link in self._downstream:
            self._downstream[action.link].send(action.data)

    def _do_CompressLink(self, action: do.CompressLink) -> None:
        if action.link in self._downstream:
            self._downstream[action.link].compressed = True

    def _do_CloseReplica(self, action: do.CloseReplica) -> None:
        self._pumps.pop(action.link, None)
        end = self._downstream.pop(action.link, None)
        if end is not None:
            end.close()

    def _do_StartStream(self, action: do.StartStream) -> None:
        if action.link in self._downstream:
            self._pumps[action.link] = action.cursor

    def _do_StartTransfer(self, action: do.StartTransfer) -> None:
        assert self.file is not None
        data = b"$%d\r\n%b" % (len(self.file), self.file)
        self._send_slowly(action.link, data, self._transferred)

    def _send_slowly(self, link: int, data: bytes, then: Callable[[int], None]) -> None:
        """Send a part now and the rest later, so that whatever else happens comes between."""
        end = self._downstream.get(link)
        if end is None or not self.alive:
            return
        part = self.rng.randint(1, max(1, len(data)))
        end.send(data[:part])
        if part < len(data):
            again = partial(self._send_slowly, link, data[part:], then)
            self.scheduler.after(self.rng.randint(1, 400), again)
        else:
            then(link)

    def _transferred(self, link: int) -> None:
        self.execute(self.repl.master.transfer_done(link, self.now_ms))

    def _do_StartBgsave(self, action: do.StartBgsave) -> None:
        master = self.repl.master
        if self.rng.random() < 0.05:
            self.execute(master.bgsave_not_started(self.now_ms))
            return
        data = serialize(self.dataset, action.save_info)
        self._mark = b"%040x" % self.rng.getrandbits(160)
        self.execute(master.bgsave_started(self.now_ms))
        if action.target is Target.DISK:
            self._fork(data)
        else:
            self._stream_snapshot(data)

    def _fork(self, data: bytes | None) -> None:
        self._child_serial += 1
        serial = self._child_serial
        done = partial(self._child_done, serial, data)
        self.scheduler.after(self.rng.randint(1, 2500), done)

    def _child_done(self, serial: int, data: bytes | None) -> None:
        if serial != self._child_serial or not self.alive:
            return
        if data is None:
            self.execute(self.repl.master.child_exited(self.now_ms))
            return
        self.file = data
        self.execute(self.repl.master.bgsave_done(ok=True, now_ms=self.now_ms))

    def _stream_snapshot(self, data: bytes) -> None:
        """A child begins to write into the ring of the transfer that has just begun."""
        self._child_serial += 1
        self._child_writes(self._child_serial, data)

    def _child_writes(self, serial: int, data: bytes) -> None:
        if serial != self._child_serial or not self.alive:
            return
        self.execute(self.repl.master.drop_holders(self.now_ms))
        ring = self.repl.master.ring
        if ring is None:
            return  # there was nobody left, and the child is being killed
        if not data:
            self.execute(self.repl.master.bgsave_done(ok=True, now_ms=self.now_ms))
            return
        if ring.has_room():
            part = self.rng.randint(1, min(len(data), CHUNK_BYTES))
            ring.put(data[:part], self.now_ms)
            data = data[part:]
            self.pump()
        self.scheduler.after(
            self.rng.randint(1, CHILD_PAUSE_MS), partial(self._child_writes, serial, data)
        )

    def _do_SendSnapshot(self, action: do.SendSnapshot) -> None:
        self._do_SendToReplica(do.SendToReplica(action.link, b"$EOF:%b\r\n" % self._mark))
        self._snapshots[action.link] = (action.reader, self._mark)

    def _pump_snapshots(self) -> None:
        """Write what the readers give, as far as the sockets take it."""
        for link, (reader, mark) in list(self._snapshots.items()):
            end = self._downstream.get(link)
            if end is None:
                self._snapshots.pop(link, None)
                continue
            on_stall = self.repl.master.on_stall
            while end.in_flight_bytes < CHUNK_BYTES and (chunk := reader.take(self.now_ms)):
                end.send(chunk)
                on_stall(link, stalled=False, now_ms=self.now_ms)
            if end.in_flight_bytes >= CHUNK_BYTES:
                on_stall(link, stalled=True, now_ms=self.now_ms)
            if reader.done and self._snapshots.pop(link, None) is not None:
                end.send(mark)
                self._transferred(link)

    def _do_KillChild(self, action: do.KillChild) -> None:
        serial = self._child_serial
        self.scheduler.after(5, lambda: self.kill_child() if serial == self._child_serial else None)

    def _do_ReapChildren(self, action: do.ReapChildren) -> None:
        pass

    def _do_PauseWrites(self, action: do.PauseWrites) -> None:
        self.pauses[action.reason] = self.now_ms

    def _do_ResumeWrites(self, action: do.ResumeWrites) -> None:
        self.pauses.pop(action.reason, None)
