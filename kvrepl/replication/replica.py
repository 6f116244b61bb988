"""The replica's side: from a connection to a master to a stream that is applied.

The states and what may follow what are in `states`; every change is checked against that table.

What may be resumed. While `resume_db` is not None, the dataset is exactly `history.offset` bytes
of `history.replid`, and the stream there is on that database: PSYNC asks to go on from it. It
survives a lost link and a snapshot that never arrived whole, and it is dropped at the moment the
dataset is given up for a snapshot (see `_give_up_dataset`), not before: the history is
adopted when the snapshot has been loaded, not when it is announced.

What is applied. Bytes go to the shell as they come (ApplyStream); the offset moves, and the bytes
go to our own backlog, only when the shell reports them applied, which inside a MULTI is at EXEC.
What is not applied when the link breaks is forgotten and asked for again.

What is refused. With replica-refuse-empty-master, a snapshot without a key is not taken in exchange
for a dataset with some: the link goes to REFUSED, nothing of ours changes, and nobody is asked
again until an operator decides (REPLICAOF asks anew, the setting turned off accepts). Otherwise a
master that lost its files would, by restarting, empty every copy.

Retries. A refused handshake waits for the next second, and so does an error in place of a
snapshot, or one that cannot be taken in (a full disk, a format we do not know: what is wrong here
will not be right at once, and each attempt costs the master a fork; Redis asks again at once, and
fills both logs); a lost link, an aborted transfer and a timeout reconnect at once, before the
master's backlog moves on.

Source: Redis 7.0, replication.c (syncWithMaster, slaveTryPartialResynchronization,
readSyncBulkPayload, replicationCron, replicationCacheMaster, cancelReplicationHandshake).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kvrepl.errors import CommandError, ProtocolError
from kvrepl.replication import handshake, reasons, wire
from kvrepl.replication.actions import (
    AbortTransfer,
    Actions,
    ApplyStream,
    Chunk,
    Close,
    Connect,
    LinkDown,
    LinkUp,
    Load,
    LoadSnapshot,
    Log,
    Send,
    notice,
    warning,
)
from kvrepl.replication.apply import Unapplied
from kvrepl.replication.compression import CorruptFrame, Decompressor
from kvrepl.replication.fullsync import FullSync
from kvrepl.replication.handshake import LineReader, PsyncOutcome, PsyncReply
from kvrepl.replication.intake import Intake
from kvrepl.replication.payload import FramingError, Payload, choose_load
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.states import TRANSITIONS, State
from kvrepl.replication.stream import Stream


class ReplicaSide:
    """The link to our master, or the absence of one.

    Every method that takes `now_ms` means milliseconds of a clock that never goes back.

    Args:
        settings: read at each use.
        stream: our history and backlog; shared with the rest of this package.
        disconnect_sub_replicas: called where those who follow us cannot go on.
        dataset_is_empty: asked when a snapshot begins (repl-diskless-load on-empty-db).
        on_psync_outcome: told whether the master accepted our PSYNC, for a planned failover.

    Attributes:
        pending: stream bytes that the shell has and has not reported as applied.
        decompressor: what comes is compressed; None where it is not.
        intake: the snapshot that arrives or is loaded; None in other states.
        last_sync: the last full sync that succeeded, None where there was none.
    """

    def __init__(
        self,
        settings: ReplicationSettings,
        stream: Stream,
        *,
        disconnect_sub_replicas: Callable[[int], Actions],
        dataset_is_empty: Callable[[], bool],
        on_psync_outcome: Callable[[bool, int], Actions],
    ) -> None:
        self.state = State.NONE
        self.host = ""
        self.port = 0
        self.resume_db: int | None = None
        self.stream_db = 0
        self.failing_over = False
        self.down_since_ms: int | None = None
        self.last_io_ms = 0
        self.pre_psync = False
        self._settings = settings
        self._stream = stream
        self._disconnect_sub_replicas = disconnect_sub_replicas
        self._dataset_is_empty = dataset_is_empty
        self._on_psync_outcome = on_psync_outcome
        self._line = LineReader()
        self._held = b""
        self._awaited: deque[handshake.Request] = deque()
        self._holds_nothing = "it has never been synchronized"
        self.intake: Intake | None = None
        self.last_sync: FullSync | None = None
        self.pending = Unapplied()
        self.decompressor: Decompressor | None = None

    @property
    def address(self) -> str:
        """The master as logs name it."""
        return f"{self.host}:{self.port}"

    @property
    def connected(self) -> bool:
        """Whether the stream flows (`master_link_status:up`)."""
        return self.state is State.CONNECTED

    @property
    def syncing(self) -> bool:
        """Whether a snapshot is arriving or being loaded (`master_sync_in_progress`)."""
        return self.state in (State.RECEIVE_FRAMING, State.TRANSFER, State.LOADING)

    # --- role ---------------------------------------------------------------------------------

    def follow(self, host: str, port: int, now_ms: int) -> Actions:
        """Turn to a master, leaving the present one if any.

        What we hold stays resumable. A server that was a master sets `resume_db` before, as
        its own history may well be a prefix of that of the new master.
        """
        actions = self._leave_link(now_ms)
        self.host, self.port = host, port
        self._enter(State.CONNECT)
        return [*actions, notice(f"Connecting to MASTER {self.address}"), *self._connect(now_ms)]

    def unfollow(self, now_ms: int) -> Actions:
        """Leave the master for good: there is nothing to be resumed any more."""
        actions = self._leave_link(now_ms)
        self._enter(State.NONE)
        actions += self._discard_cached_master()
        self._holds_nothing = "it was a master"
        self.down_since_ms = None
        return actions

    # --- the connection -----------------------------------------------------------------------

    def connected_to_master(self, now_ms: int) -> Actions:
        """Connect has succeeded."""
        if self.state is not State.CONNECTING:
            return []
        self.last_io_ms = now_ms
        self._enter(State.RECEIVE_PING_REPLY)
        text = "Non blocking connect for SYNC fired the event."
        return [notice(text), Send(wire.HANDSHAKE_PING)]

    def connect_failed(self, error: str, now_ms: int) -> Actions:
        """Connect has failed; the next tick tries again."""
        if self.state is not State.CONNECTING:
            return []
        self._enter(State.CONNECT)
        return [warning(f"Error condition on socket for SYNC: {error}")]

    def receive(self, data: bytes, now_ms: int) -> Actions:
        """Bytes have come from the master.

        Between LoadSnapshot and load_finished the shell should not read; what it had read
        before is held here.

        Args:
            data: not empty, in any cut.

        Cost: O(len(data)).
        """
        self.last_io_ms = now_ms
        actions: Actions = []
        try:
            if self.decompressor is not None:
                data = self.decompressor.feed(data, now_ms)
            if self.state is State.CONNECTED:  # hot: nearly every read ends here
                return self._take_stream(data) if data else []
            while data:
                plain = self.decompressor is None
                data = self._take(data, now_ms, actions)
                if plain and self.decompressor is not None:
                    data = self.decompressor.feed(data, now_ms)
            return actions
        except CorruptFrame as error:
            return [*actions, *self._cut_corrupt_link(error.text, now_ms)]

    def _cut_corrupt_link(self, text: str, now_ms: int) -> Actions:
        """Bytes of a compressed link are not what was sent: begin anew where we stand."""
        told = f"Corrupt data from MASTER {self.address}, cutting the link to resume it: {text}"
        return [warning(told), Close(), *self.link_lost("corrupt data", now_ms)]

    def link_lost(self, reason: str, now_ms: int) -> Actions:
        """The connection has ended, by its peer or by an error; not by our own Close."""
        if self.state is State.CONNECTED:
            return self._disconnected(now_ms)
        if self.state is State.LOADING:
            # Every byte of the snapshot is here; the load is worth finishing.
            assert self.intake is not None
            self.intake.link_lost = True
            return []
        if self.syncing:
            text = f"I/O error trying to sync with MASTER: {reason}"
            return self._abort_and_reconnect(warning(text), now_ms, close=False)
        if self.state in (State.NONE, State.CONNECT, State.REFUSED):
            return []
        if self.state is State.RECEIVE_PSYNC_REPLY:
            text = "Master did not reply to PSYNC, will try later"
            self._enter(State.CONNECT)
            return [warning(text), *self._on_psync_outcome(False, now_ms)]
        self._enter(State.CONNECT)
        return [warning(f"Failed to read response from the server: {reason}")]

    def transfer_failed(self, reason: str, now_ms: int) -> Actions:
        """The shell cannot take the snapshot in, has said why and closed the connection."""
        if self.state is not State.TRANSFER:
            return self.link_lost(reason, now_ms)
        assert self.intake is not None
        self._enter(State.CONNECT)
        text = "MASTER <-> REPLICA sync failed on this side, the MASTER is asked again in a second"
        return [notice(text), AbortTransfer(self.intake.load)]

    def protocol_error(self, text: str, now_ms: int) -> Actions:
        """The stream is no RESP: where it can be resumed cannot be known any more."""
        if self.state is not State.CONNECTED:
            return []
        self.resume_db = None
        self._holds_nothing = "the stream broke the protocol, so that its place in it is unknown"
        actions: Actions = [warning(f"Protocol error from master: {text}"), Close()]
        return actions + self._disconnected(now_ms)

    # --- the stream ---------------------------------------------------------------------------

    def applied(self, count: int, db: int) -> None:
        """The next `count` bytes of ApplyStream have been applied.

        Args:
            count: whole commands; inside a MULTI nothing until its EXEC.
            db: the database the stream is on after them.

        Cost: O(1) where count covers what came in one read.
        """
        if self.state is not State.CONNECTED:
            return
        self.stream_db = db
        if self.resume_db is not None:
            self.resume_db = db
        for data in self.pending.take(count):
            self._stream.relay(data)

    def acknowledge(self) -> Actions:
        """Tell the master our offset: each second, after a diskless load, and on GETACK.

        A master that named no offset (SYNC) is told none, but hears of us after a diskless load,
        which it takes for done then: a stream that waits for that would never begin.
        """
        if self.state is not State.CONNECTED:
            return []
        if not self.pre_psync:
            return [Send(wire.acknowledge(self._stream.history.offset))]
        diskless = self.last_sync is not None and self.last_sync.diskless
        return [Send(wire.acknowledge(wire.NO_OFFSET))] if diskless else []

    # --- the snapshot -------------------------------------------------------------------------

    def load_finished(self, *, ok: bool, stream_db: int, now_ms: int) -> Actions:
        """The shell has loaded the snapshot, or could not.

        Args:
            ok: the dataset is that of the snapshot.
            stream_db: `repl-stream-db` of the snapshot; 0 where it has none.
        """
        if self.state is not State.LOADING:
            return []
        intake, self.intake = self.intake, None
        assert intake is not None
        if not ok:
            self._enter(State.CONNECT)
            reason = warning("Failed trying to load the MASTER synchronization DB")
            return [reason] if intake.link_lost else [reason, Close()]
        actions = self._give_up_dataset(now_ms) if intake.load is Load.SWAP else []
        history = self._stream.history
        self.pre_psync = intake.announced is None
        if intake.announced is not None:
            history.adopt(*intake.announced)
            self.resume_db = stream_db
        else:
            history.detach()
            self._holds_nothing = "its master named no place in its history"
        self._stream.create_backlog()
        actions.append(notice("MASTER <-> REPLICA sync: Finished with success"))
        sync = self.last_sync = intake.sync
        sync.end(now_ms)
        actions.append(notice(f"Full sync, {sync.reason}: {sync.told()}"))
        if intake.link_lost:
            self._enter(State.CONNECTED)
            return actions + self._disconnected(now_ms)
        return actions + self._begin_stream(stream_db, now_ms, acknowledge=sync.diskless)

    # --- time ---------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> Actions:
        """Do what is due once a second: timeouts, the next attempt, ACK, keepalive."""
        state = self.state
        if state is State.NONE:
            return []
        if state is State.LOADING:
            return [] if self.intake is None or self.intake.link_lost else [Send(wire.KEEPALIVE)]
        if state is State.REFUSED:
            return self._reconsider(now_ms)
        if state is State.CONNECT:
            text = f"Connecting to MASTER {self.address}"
            return [notice(text), *self._connect(now_ms)]
        silent_ms = now_ms - self.last_io_ms
        if self.decompressor is not None:
            silent_ms = max(silent_ms, self.decompressor.waiting_ms(now_ms))
        if silent_ms > self._settings.repl_timeout * 1000:
            return self._time_out(now_ms)
        if self._line.overdue(now_ms):
            return self._refuse(warning("Timeout reading a reply line from the MASTER"))
        return self.acknowledge()

    def _time_out(self, now_ms: int) -> Actions:
        if self.state is State.CONNECTED:
            text = "MASTER timeout: no data nor PING received..."
            return [warning(text), Close(), *self._disconnected(now_ms)]
        text = handshake.TRANSFER_TIMEOUT if self.syncing else handshake.CONNECT_TIMEOUT
        return self._abort_and_reconnect(warning(text), now_ms)

    # --- leaving and retrying -----------------------------------------------------------------

    def _enter(self, state: State) -> None:
        assert state in TRANSITIONS[self.state] or state is self.state, (self.state, state)
        self.state = state

    def _connect(self, now_ms: int) -> Actions:
        self._enter(State.CONNECTING)
        self.intake = None
        self.last_io_ms = now_ms
        self._line.clear()
        self._held = b""
        self.decompressor = None
        return [notice("MASTER <-> REPLICA sync started"), Connect(self.host, self.port)]

    def _refuse(self, reason: Log) -> Actions:
        """End a handshake that cannot succeed now; the next tick tries again."""
        self._enter(State.CONNECT)
        return [reason, Close()]

    def _abort_and_reconnect(self, reason: Log, now_ms: int, *, close: bool = True) -> Actions:
        """End a handshake or a transfer and begin anew at once.

        Args:
            close: the connection is still there.
        """
        actions: Actions = [reason]
        if self.state is State.TRANSFER and self.intake is not None:
            actions.append(AbortTransfer(self.intake.load))
        if close:
            actions.append(Close())
        self._enter(State.CONNECT)
        actions.append(notice(f"Reconnecting to MASTER {self.address} after failure"))
        return actions + self._connect(now_ms)

    def _disconnected(self, now_ms: int) -> Actions:
        """The established link has ended: forget what is not applied and reconnect at once."""
        actions: Actions = [warning("Connection with master lost."), LinkDown()]
        if self.resume_db is not None:
            actions.append(notice("Caching the disconnected master state."))
        self.pending.clear()
        self.down_since_ms = now_ms
        self._enter(State.CONNECT)
        actions.append(notice(f"Reconnecting to MASTER {self.address}"))
        return actions + self._connect(now_ms)

    def _leave_link(self, now_ms: int) -> Actions:
        """Drop whatever stands between us and the present master, for another role or host."""
        if self.state is State.LOADING:
            raise CommandError(b"LOADING Redis is loading the dataset in memory")
        actions: Actions = []
        if self.state is State.TRANSFER and self.intake is not None:
            actions.append(AbortTransfer(self.intake.load, unwanted=True))
        if self.state is State.CONNECTED:
            actions += [warning("Connection with master lost."), LinkDown()]
            self.down_since_ms = now_ms
            if self.resume_db is not None:
                actions.append(notice("Caching the disconnected master state."))
        if self.state not in (State.NONE, State.CONNECT, State.REFUSED):
            actions.append(Close())
        self.intake = None
        self.pending.clear()
        return actions

    def _discard_cached_master(self) -> Actions:
        """There is nothing any more from where PSYNC could go on."""
        held, self.resume_db = self.resume_db, None
        return [] if held is None else [notice("Discarding previously cached master state.")]

    def _give_up_dataset(self, now_ms: int) -> Actions:
        """The dataset is about to be replaced: neither we nor those who follow us can go on."""
        actions = self._discard_cached_master()
        self._holds_nothing = "the load of a snapshot did not end, for which the data was given up"
        actions += self._disconnect_sub_replicas(now_ms)
        self._stream.free_backlog()
        return actions

    @property
    def _protects_dataset(self) -> bool:
        """Whether our dataset is not to be given up for one without a key."""
        return self._settings.replica_refuse_empty_master and not self._dataset_is_empty()

    def _refuse_empty_master(self, load: Load) -> Actions:
        self._enter(State.REFUSED)
        self.intake = None
        text = reasons.refused_empty_master(self.address)
        return [warning(text), AbortTransfer(load, unwanted=True), Close()]

    def _reconsider(self, now_ms: int) -> Actions:
        """Ask the refused master again as soon as its answer would be taken."""
        if self._protects_dataset:
            return []
        text = f"The empty dataset of MASTER {self.address} would be accepted now"
        return [notice(text), *self._connect(now_ms)]

    def _begin_stream(self, db: int, now_ms: int, *, acknowledge: bool = False) -> Actions:
        """The dataset stands at our offset: from here on the link carries the stream.

        Args:
            db: the database the stream is on.
            now_ms: the present.
            acknowledge: tell the master at once: it waits for that.
        """
        self._enter(State.CONNECTED)
        self.last_io_ms = now_ms
        self.down_since_ms = None
        self.stream_db = db
        actions: Actions = [LinkUp(db)]
        if acknowledge:
            actions += self.acknowledge()
        held, self._held = self._held, b""
        if held:
            actions += self._take_stream(held)
        return actions

    # --- bytes in each state ------------------------------------------------------------------

    def _take(self, data: bytes, now_ms: int, actions: Actions) -> bytes:
        """Take what the present state wants of `data`.

        Returns:
            What is left for the state that follows.
        """
        state = self.state
        if state is State.CONNECTED:
            actions += self._take_stream(data)
            return b""
        if state is State.TRANSFER:
            return self._take_payload(data, now_ms, actions)
        if state is State.LOADING:
            self._held += data
            return b""
        if state in (State.NONE, State.CONNECT, State.CONNECTING, State.REFUSED):
            return b""  # closed meanwhile: the rest of a read belongs to nobody
        try:
            line, rest = self._line.take(data, now_ms)
        except ProtocolError as error:
            actions += self._refuse(warning(error.text))
            return b""
        if line is not None:
            actions += self._take_line(line, now_ms)
        return rest

    def _take_stream(self, data: bytes) -> Actions:
        self.pending.add(data)
        return [ApplyStream(data)]

    def _take_line(self, line: bytes, now_ms: int) -> Actions:
        """Judge one reply of the handshake, in the order the requests were sent."""
        state = self.state
        if state is State.RECEIVE_PSYNC_REPLY:
            return self._take_psync_reply(handshake.parse_psync_reply(line), now_ms)
        if state is State.RECEIVE_FRAMING:
            return self._take_framing(line, now_ms)
        shown = handshake.shown(line)
        if state is State.RECEIVE_PING_REPLY:
            if not handshake.ping_accepted(line):
                return self._refuse(warning(f"Error reply to PING from master: '{shown}'"))
            self._awaited = deque(handshake.requests(self._settings))
            text = "Master replied to PING, replication can continue..."
            data = b"".join(request.data for request in self._awaited)
            self._enter(self._awaited[0].state)
            return [notice(text), Send(data)]
        actions: Actions = []
        if line.startswith(b"-"):
            if state is State.RECEIVE_AUTH_REPLY:
                return self._refuse(warning(f"Unable to AUTH to MASTER: {shown}"))
            option = handshake.OPTION_OF_REPLY[state]
            text = f"(Non critical) Master does not understand REPLCONF {option}: {shown}"
            actions.append(notice(text))
        self._awaited.popleft()
        if self._awaited:
            self._enter(self._awaited[0].state)
            return actions
        return actions + self._ask()

    def _ask(self) -> Actions:
        """Send PSYNC: for what follows our offset where that can be resumed, else for all."""
        self._enter(State.RECEIVE_PSYNC_REPLY)
        if self.resume_db is None:
            text = "Partial resynchronization not possible (no cached master)"
            return [notice(text), Send(wire.PSYNC_ANYTHING)]
        history = self._stream.history
        request = wire.psync(history.replid, history.offset, failover=self.failing_over)
        asked = f"{history.replid.decode()}:{wire.to_wire(history.offset)}"
        text = f"Trying a partial resynchronization (request {asked})."
        return [notice(text), Send(request)]

    def _take_psync_reply(self, reply: PsyncReply, now_ms: int) -> Actions:
        outcome = reply.outcome
        if outcome is PsyncOutcome.KEEPALIVE:
            return []
        if reply.lz4:
            self.decompressor = Decompressor(now_ms)
        if outcome is PsyncOutcome.CONTINUE and self.resume_db is not None:
            return self._on_psync_outcome(True, now_ms) + self._resume(reply.replid, now_ms)
        if outcome is PsyncOutcome.FULL:
            return self._on_psync_outcome(True, now_ms) + self._expect_snapshot(reply, now_ms)
        refusal = handshake.refusal(reply)
        # Where a failover was refused, the outcome makes us a master again and all is over.
        over = self._on_psync_outcome(False, now_ms)
        if self.state is not State.RECEIVE_PSYNC_REPLY:
            return [refusal, *over]
        if outcome is PsyncOutcome.UNSUPPORTED:
            return [refusal, *over, *self._fall_back_to_sync(now_ms)]
        return self._refuse(refusal)

    def _resume(self, replid: bytes | None, now_ms: int) -> Actions:
        """+CONTINUE: go on where we stand, perhaps under another id."""
        actions: Actions = [notice("Successful partial resynchronization with master.")]
        history = self._stream.history
        if replid is not None and replid != history.replid:
            history.rename(replid)
            actions.append(warning(f"Master replication ID changed to {replid.decode()}"))
            # Those who follow us come back and learn the id from their own PSYNC.
            actions += self._disconnect_sub_replicas(now_ms)
        self._stream.create_backlog()
        self.pre_psync = False
        text = "MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization."
        assert self.resume_db is not None
        return [*actions, notice(text), *self._begin_stream(self.resume_db, now_ms)]

    def _expect_snapshot(self, reply: PsyncReply, now_ms: int) -> Actions:
        """+FULLRESYNC: remember what was announced; nothing of ours changes before the load."""
        self._enter(State.RECEIVE_FRAMING)
        if reply.replid is None:
            self.intake = Intake(None, FullSync("malformed_reply", now_ms, self.address))
            return [warning("Master replied with wrong +FULLRESYNC syntax.")]
        announced = reply.replid, reply.offset
        held = self._holds_nothing if self.resume_db is None else ""
        reason, told = reasons.seen_from_replica(self._stream.history, *announced, held)
        self.intake = Intake(announced, FullSync(reason, now_ms, self.address))
        return [
            notice(f"Full resync from master: {reply.replid.decode()}:{reply.offset}"),
            notice(f"Full sync, {reason}: {told}"),
        ]

    def _fall_back_to_sync(self, now_ms: int) -> Actions:
        """A master from before PSYNC: it sends a snapshot for SYNC and knows no offsets."""
        self.intake = Intake(None, FullSync("sync_command", now_ms, self.address))
        self._enter(State.RECEIVE_FRAMING)
        return [notice("Retrying with SYNC..."), Send(wire.SYNC)]

    def _take_framing(self, line: bytes, now_ms: int) -> Actions:
        """The line before the snapshot: how it ends, and how we take it in."""
        if not line:
            return []
        try:
            payload = Payload.announced_by(line)
        except FramingError as error:
            if not line.startswith(b"-"):
                return self._abort_and_reconnect(warning(error.text), now_ms)
            # It says why, and would say so again: asked at once, thousands of times a second.
            self.intake = None
            return self._refuse(warning(error.text + handshake.advice(line)))
        intake = self.intake
        assert intake is not None
        load = choose_load(self._settings.repl_diskless_load, self._dataset_is_empty)
        intake.begin(payload, load, self.last_sync, now_ms)
        self._enter(State.TRANSFER)
        actions: Actions = [notice(payload.told(load))]
        if load is Load.IN_PLACE:
            actions += self._give_up_dataset(now_ms)
        actions.append(intake.transfer(self._stream.history.replid))
        if intake.is_whole:
            actions += self._finish_transfer(intake, now_ms)
        return actions

    def _take_payload(self, data: bytes, now_ms: int, actions: Actions) -> bytes:
        intake = self.intake
        assert intake is not None
        chunk, rest = intake.take(data)
        if chunk:
            actions.append(Chunk(chunk))
        if intake.is_whole:
            actions += self._finish_transfer(intake, now_ms)
        return rest

    def _finish_transfer(self, intake: Intake, now_ms: int) -> Actions:
        """The snapshot is here whole: hand it to the shell, after those who cannot go on left."""
        if intake.has_no_keys and self._protects_dataset:
            return self._refuse_empty_master(intake.load)
        self._enter(State.LOADING)
        intake.begin_load(now_ms)
        actions: Actions = []
        if intake.load is Load.FROM_FILE:
            actions += self._give_up_dataset(now_ms)
        if intake.load is not Load.SWAP:
            actions.append(notice("MASTER <-> REPLICA sync: Flushing old data"))
        actions.append(notice("MASTER <-> REPLICA sync: Loading DB in memory"))
        return [*actions, LoadSnapshot(intake.load)]
