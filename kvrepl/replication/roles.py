"""Replication of one server: both sides, and the changes of role between them.

A server has one history, one backlog and one list of replicas, whether it is a master or a
replica itself; a change of role changes where the stream comes from and nothing else:

    replicaof host port      what we hold may be a prefix of the new master's history: a master
                             makes its own id and offset resumable. Our replicas stay.
    replicaof no one         our offset becomes the end of the old id; a new one begins. Our
                             replicas are disconnected and come back with PSYNC.
    PSYNC ... FAILOVER       the same, asked for by the master that wants to follow us
    FAILOVER                 see failover

The inputs come from the shell (see `actions` for the contract), which also calls
`tick` when `next_deadline_ms` has come.

Invariants: role is MASTER exactly while replica.state is NONE and the stream originates here;
a failover IN_PROGRESS means that we are a replica of its target.

Source: Redis 7.0, replication.c (replicaofCommand, replicationSetMaster, replicationUnsetMaster,
replicationCacheMasterUsingMyself, syncCommand, replicationCron), rdb.c (rdbPopulateSaveInfo),
server.c (loadDataFromDisk).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvrepl.errors import CommandError
from kvrepl.replication import wire
from kvrepl.replication.actions import (
    Actions,
    LinkId,
    PauseWrites,
    ResumeWrites,
    Role,
    RoleChanged,
    SaveInfo,
    SendToReplica,
    notice,
    warning,
)
from kvrepl.replication.backpressure import Backpressure
from kvrepl.replication.failover import Failover, FailoverState, parse_failover
from kvrepl.replication.history import History, NewReplid
from kvrepl.replication.master import MasterSide
from kvrepl.replication.replica import ReplicaSide
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.states import State
from kvrepl.replication.stream import Stream
from kvrepl.resp.values import OK, Reply, Status

TICK_MS: Final = 1000
FAILOVER_TICK_MS: Final = 100
MAX_PORT: Final = 65535
ALREADY_CONNECTED: Final = Status(b"OK Already connected to specified master")


class Replication:
    """Both sides of replication of one server.

    Every `now_ms` is milliseconds of a clock that never goes back.

    Args:
        settings: read at each use; the shell keeps it up to date.
        new_replid: gives a fresh id of 40 lower-case hex characters at each call.
        dataset_is_empty: asked when a snapshot arrives.
        now_ms: when the server started.

    Attributes:
        history: ids and offset.
        stream: what is handed down. `stream.feed(db, encoded)` is the way of every write.
        master: the replicas that follow us.
        replica: the link to our master.
        failover: the planned failover that runs, if any.
        backpressure: whether writers wait for a slow replica.
    """

    def __init__(
        self,
        settings: ReplicationSettings,
        new_replid: NewReplid,
        dataset_is_empty: Callable[[], bool],
        now_ms: int,
    ) -> None:
        self.settings = settings
        self.history = History(new_replid)
        self.stream = Stream(self.history, settings.repl_backlog_size)
        self.master = MasterSide(settings, self.stream, self.save_info, now_ms)
        self.replica = ReplicaSide(
            settings,
            self.stream,
            disconnect_sub_replicas=self.master.disconnect_all,
            dataset_is_empty=dataset_is_empty,
            on_psync_outcome=self._on_psync_outcome,
        )
        self.failover = Failover()
        self.backpressure = Backpressure(settings)
        self._ticks = 0
        self._next_tick_ms = now_ms + TICK_MS

    @property
    def is_master(self) -> bool:
        """Whether this server follows nobody."""
        return self.replica.state is State.NONE

    @property
    def role(self) -> Role:
        """What this server is."""
        return Role.MASTER if self.is_master else Role.REPLICA

    # --- start --------------------------------------------------------------------------------

    def save_info(self) -> SaveInfo | None:
        """Return what an RDB file made now has to say, None where it could not be gone on from."""
        history = self.history
        if not self.is_master:
            # Under a master from before PSYNC nothing can be resumed, but our own replicas,
            # who follow a history of ours, must know the database.
            replica = self.replica
            db = replica.stream_db if replica.connected else replica.resume_db
            return SaveInfo(db, history.replid, history.offset) if db is not None else None
        if self.stream.backlog is None:
            return None
        # No database yet: the first command of the stream brings its SELECT.
        return SaveInfo(max(0, self.stream.selected_db), history.replid, history.offset)

    def restore_as_master(self, saved: SaveInfo | None, now_ms: int) -> None:
        """Go on after a restart with an RDB file, before anything is fed.

        DELs of keys that had expired are fed after this call: they are part of the new history.

        Args:
            saved: what the file says; None where it is incomplete, and nothing can be resumed.
            now_ms: from here on the backlog's ttl runs.
        """
        if saved is None:
            return
        self.history.restore_as_master(saved.replid, saved.offset)
        self.stream.create_backlog()
        self.master.no_replicas_since_ms = now_ms

    def restore_as_replica(self, saved: SaveInfo) -> None:
        """Go on after a restart with an RDB file, before `replicaof`."""
        self.history.restore_as_replica(saved.replid, saved.offset)
        self.replica.resume_db = saved.stream_db

    # --- roles --------------------------------------------------------------------------------

    def replicaof(
        self, host: str, port: int, now_ms: int, *, by: str = "", from_replica: bool = False
    ) -> tuple[Reply, Actions]:
        """Follow a master.

        Args:
            host, port: its address.
            by: the client that asked, for the log.
            from_replica: whether that client is a replica of ours.

        Returns:
            The reply of REPLICAOF and actions.

        Raises:
            CommandError: it cannot be done now.
        """
        self._refuse_while_failing_over()
        if from_replica:
            raise CommandError(b"ERR Command is not valid when client is a replica.")
        if not 0 <= port <= MAX_PORT:
            raise CommandError(b"ERR Invalid master port")
        replica = self.replica
        same = replica.host.lower() == host.lower() and replica.port == port
        if same and replica.state not in (State.NONE, State.REFUSED):
            text = "REPLICAOF would result into synchronization with the master we are already "
            text += "connected with. No operation performed."
            return ALREADY_CONNECTED, [notice(text)]
        actions = self._follow(host, port, now_ms)
        return OK, [*actions, notice(f"REPLICAOF {host}:{port} enabled (user request from '{by}')")]

    def replicaof_no_one(self, now_ms: int, *, by: str = "") -> tuple[Reply, Actions]:
        """Become a master, if we are none.

        Raises:
            CommandError: a failover is running.
        """
        self._refuse_while_failing_over()
        if self.is_master:
            return OK, []
        actions = self._promote(now_ms)
        return OK, [*actions, notice(f"MASTER MODE enabled (user request from '{by}')")]

    def continue_as_replica(self, host: str, port: int, now_ms: int) -> Actions:
        """Follow the master that the configuration names, at start-up.

        What the RDB file held (restore_as_replica) is resumable, and nothing of our own is.
        """
        self.stream.set_originates(False)
        return [RoleChanged(Role.REPLICA), *self.replica.follow(host, port, now_ms)]

    def _follow(self, host: str, port: int, now_ms: int) -> Actions:
        was_master = self.is_master
        actions: Actions = []
        if was_master:
            # Our history may be a prefix of that of the new master: a promoted replica of ours
            # forces a SELECT on promotion, so which database we end on does not matter.
            self.replica.resume_db = 0
            self.stream.create_backlog()
            self.stream.set_originates(False)
            actions.append(RoleChanged(Role.REPLICA))
            held = f"{self.history.replid.decode()}:{wire.to_wire(self.history.offset)}"
            text = f"Before turning into a replica: the new master is asked to go on from {held}"
            actions.append(notice(text))
        return actions + self.replica.follow(host, port, now_ms)

    def _promote(self, now_ms: int) -> Actions:
        actions = self.replica.unfollow(now_ms)
        history = self.history
        history.shift()
        text = (
            f"Setting secondary replication ID to {history.replid2.decode()}, valid up to offset: "
            f"{history.second_repl_offset}. New replication ID is {history.replid.decode()}"
        )
        actions.append(warning(text))
        actions += self.master.disconnect_all(now_ms)
        self.stream.set_originates(True)
        # Those who come back know the database of the old stream; others might not.
        self.stream.force_select()
        self.master.no_replicas_since_ms = now_ms
        return [*actions, RoleChanged(Role.MASTER)]

    def _refuse_while_failing_over(self) -> None:
        if self.failover.running:
            raise CommandError(b"ERR REPLICAOF not allowed while failing over.")

    # --- replicas -----------------------------------------------------------------------------

    def on_replconf(
        self, link: LinkId, argv: list[bytes], now_ms: int, *, ip: bytes = b""
    ) -> tuple[Reply, Actions]:
        """Handle REPLCONF of any connection, our master's included.

        Returns:
            The reply, NO_REPLY for ACK and GETACK, and actions.

        Raises:
            CommandError: see MasterSide.on_replconf.
        """
        reply, actions = self.master.on_replconf(
            link, argv, now_ms, ip=ip, on_getack=self.replica.acknowledge
        )
        if self.failover.state is FailoverState.WAIT_FOR_SYNC:
            actions = actions + self._advance_failover(now_ms)
        return reply, actions

    def on_psync(
        self,
        link: LinkId,
        argv: list[bytes],
        now_ms: int,
        *,
        ip: bytes = b"",
        pending_output: bool = False,
    ) -> Actions:
        """Handle PSYNC and SYNC; what is to be answered is among the actions.

        Args:
            link: the connection.
            argv: the whole command.
            ip: the peer's address.
            pending_output: the connection has replies that are not written yet.

        Raises:
            CommandError: refused; its text is the reply.
        """
        known = self.master.find(link)
        if known is not None and known.is_replica:
            return []
        actions: Actions = []
        asks_failover = (
            len(argv) > 3 and argv[0].lower() == b"psync" and argv[3].lower() == b"failover"
        )
        if asks_failover and self.is_master:
            raise CommandError(b"ERR PSYNC FAILOVER can't be sent to a master.")
        if asks_failover:
            shown = argv[1].decode("ascii", "backslashreplace")
            actions = [warning(f"Failover request received for replid {shown}.")]
        try:
            if asks_failover:
                actions += self._on_failover_request(argv[1], now_ms)
            if self.failover.running:
                raise CommandError(b"NOMASTERLINK Can't SYNC while failing over")
            if not self.is_master and not self.replica.connected:
                raise CommandError(b"NOMASTERLINK Can't SYNC while not connected with my master")
            return actions + self.master.on_psync(
                link, argv, now_ms, ip=ip, pending_output=pending_output
            )
        except CommandError as error:
            if not actions:
                raise
            # We may have promoted ourselves, and the shell has to hear of it; and whoever reads
            # our log, of a failover that we refused.
            if not self.is_master:
                actions.append(notice(f"Refusing it: {error.text.decode()}"))
            return [*actions, SendToReplica(link, b"-%b\r\n" % error.text)]

    def _on_failover_request(self, replid: bytes, now_ms: int) -> Actions:
        """Our master wants to follow us: promote ourselves."""
        if replid.lower() != self.history.replid:
            raise CommandError(b"ERR PSYNC FAILOVER replid must match my replid.")
        enabled = notice("MASTER MODE enabled (failover request from the master)")
        return [*self._promote(now_ms), enabled]

    def press(self, limit_bytes: int, now_ms: int) -> Actions:
        """Hold writers back, or let them go on, by the lags of our replicas; once a turn.

        Args:
            limit_bytes: the lowest limit of a replica's output that is set, 0 for none.
        """
        replicas = self.master.replicas if self.is_master else ()
        return self.backpressure.update(replicas, limit_bytes, now_ms)

    # --- planned failover ---------------------------------------------------------------------

    def on_failover(self, argv: list[bytes], now_ms: int) -> tuple[Reply, Actions]:
        """Handle the FAILOVER command.

        Raises:
            CommandError: malformed, or not possible now.
        """
        request = parse_failover(argv)
        if request.abort:
            if not self.failover.running:
                raise CommandError(b"ERR No failover in progress.")
            return OK, self._abort_failover("Failover manually aborted", now_ms)
        self.failover.begin(request, self.master.replicas, now_ms, is_master=self.is_master)
        self._next_tick_ms = min(self._next_tick_ms, now_ms + FAILOVER_TICK_MS)
        text = f"FAILOVER requested to {self.failover.target}."
        return OK, [notice(text), PauseWrites()]

    def _advance_failover(self, now_ms: int) -> Actions:
        """Hand over where the target has everything, or its time is up."""
        failover = self.failover
        if failover.state is not FailoverState.WAIT_FOR_SYNC:
            return []
        if failover.expired(now_ms):
            if not failover.force:
                return self._abort_failover("Replica never caught up before timeout", now_ms)
            text = f"FAILOVER to {failover.target} time out exceeded, failing over."
        elif failover.synced_target(self.master.replicas, self.history.offset):
            text = f"Failover target {failover.target} is synced, failing over."
        else:
            return []
        failover.enter(FailoverState.IN_PROGRESS)
        self.replica.failing_over = True
        return [notice(text), *self._follow(failover.host, failover.port, now_ms)]

    def _on_psync_outcome(self, accepted: bool, now_ms: int) -> Actions:
        """The target of a failover has answered our PSYNC ... FAILOVER."""
        if self.failover.state is not FailoverState.IN_PROGRESS:
            return []
        if not accepted:
            return self._abort_failover("Failover target rejected psync request", now_ms)
        self.replica.failing_over = False
        self.failover.clear()
        return [ResumeWrites()]

    def _abort_failover(self, reason: str, now_ms: int) -> Actions:
        actions: Actions = [notice(f"FAILOVER to {self.failover.target} aborted: {reason}")]
        if self.failover.state is FailoverState.IN_PROGRESS:
            actions += self._promote(now_ms)
        self.replica.failing_over = False
        self.failover.clear()
        return [*actions, ResumeWrites()]

    # --- time ---------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int:
        """When tick has something to do."""
        return self._next_tick_ms

    def tick(self, now_ms: int) -> Actions:
        """Do what is due: once a second, ten times a second while a failover runs.

        May be called at any time; does nothing before next_deadline_ms. O(replicas).
        """
        if now_ms < self._next_tick_ms:
            return []
        actions = self._advance_failover(now_ms)
        self._next_tick_ms = now_ms + (FAILOVER_TICK_MS if self.failover.running else TICK_MS)
        actions += self.replica.tick(now_ms)
        ping_due = self._ticks % self.settings.repl_ping_replica_period == 0
        # A failover with a time limit needs the offset to stand still.
        if self.is_master and ping_due and self.failover.deadline_ms is None:
            self.master.ping()
        self._ticks += 1
        return actions + self.master.tick(now_ms)
