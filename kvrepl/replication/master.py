"""The master's side: who follows us, from where each may go on, and when a snapshot is made.

A link becomes a replica by PSYNC (or SYNC) and then takes one of two ways:

    resumable               -> +CONTINUE, ONLINE, stream from its offset
    anything else           -> WAIT_BGSAVE_START -> [fork] +FULLRESYNC, WAIT_BGSAVE_END
         disk                    -> child done: SEND_BULK -> file sent: ONLINE, stream
         sockets                 -> [ring] child done: SEND_BULK -> ring read: ONLINE
                                                                          -> first ACK: stream

Snapshots are shared (`sharing`), and a diskless one is read by each at its own pace (`ring`). Who
cannot share the one that is made waits for the next; at most one child runs. A ring may outlive its
child, for those who have not read it yet.

The offset of a snapshot is that of the instant of the fork: StartBgsave carries it, the shell
forks and reports at once, and `bgsave_started` asserts that it has not moved.

Invariants: a link in `replicas` is not in state NONE; a backlog exists while `replicas` is not
empty; every replica in WAIT_BGSAVE_END (rdb_only ones apart) holds a cursor no later than its
initial_offset, every ONLINE one a cursor; `ring` is set exactly while the child is SOCKETS; `sync`
is set from WAIT_BGSAVE_START to the end of the load, which the first ACK tells.

Source: Redis 7.0, replication.c (syncCommand, masterTryPartialResync, replconfCommand,
startBgsaveForReplication, updateSlavesWaitingBgsave, shouldStartChildReplication,
replicationCron).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from kvrepl.errors import CommandError
from kvrepl.replication import gate, quorum, sharing, silence, wire
from kvrepl.replication.actions import (
    Actions,
    CloseReplica,
    CompressLink,
    KillChild,
    LinkId,
    ReapChildren,
    Requirements,
    SaveInfo,
    SendSnapshot,
    SendToReplica,
    StartBgsave,
    StartStream,
    StartTransfer,
    Target,
    notice,
    warning,
)
from kvrepl.replication.backlog import Cursor
from kvrepl.replication.compression import LZ4, Traffic
from kvrepl.replication.fullsync import Phase
from kvrepl.replication.ledger import SyncLedger
from kvrepl.replication.links import WAITING, ReplicaLink, ReplicaState, integer, options
from kvrepl.replication.reasons import FullSyncReason
from kvrepl.replication.ring import Ring
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.stream import ANY_DB, Stream
from kvrepl.resp.values import NO_REPLY, OK, Reply


class Child(Enum):
    """The one child process that may run."""

    DISK = "an RDB file"
    SOCKETS = "an RDB sent to replicas"
    OTHER = "something else (AOF rewrite)"


class MasterSide:
    """All replicas of this server, whether it is a master or a replica itself.

    Every method takes `now_ms`, milliseconds of a clock that never goes back, and returns the
    actions for the shell.

    Args:
        settings: read at each use.
        stream: what is handed down; shared with the rest of this package.
        save_info: what a snapshot made now has to say of replication; None where it cannot.
        now_ms: when the server started.
    """

    def __init__(
        self,
        settings: ReplicationSettings,
        stream: Stream,
        save_info: Callable[[], SaveInfo | None],
        now_ms: int,
    ) -> None:
        self.replicas: list[ReplicaLink] = []
        self.syncs = SyncLedger()
        self.good_replicas = 0
        self.no_replicas_since_ms = now_ms
        self.child: Child | None = None
        self.ring: Ring | None = None
        self.wants_acks = False
        self._settings = settings
        self._stream = stream
        self._save_info = save_info
        self._links: dict[LinkId, ReplicaLink] = {}
        self._group: StartBgsave | None = None

    # --- what replicas say --------------------------------------------------------------------

    def find(self, link: LinkId) -> ReplicaLink | None:
        """Return what is known of a connection, None where it never spoke of replication."""
        return self._links.get(link)

    def on_replconf(
        self,
        link: LinkId,
        argv: list[bytes],
        now_ms: int,
        *,
        ip: bytes = b"",
        on_getack: Callable[[], Actions] = list,
    ) -> tuple[Reply, Actions]:
        """Handle REPLCONF.

        Args:
            link: the connection.
            argv: the whole command.
            ip: the peer's address, used the first time.
            on_getack: what to do for GETACK, which only our master sends.

        Returns:
            The reply (OK, or NO_REPLY after ACK and GETACK) and actions.

        Raises:
            CommandError: an option is unknown or its value cannot be taken; the options
                before it stay in effect, as in Redis.
        """
        pairs = options(argv)
        if pairs and pairs[0][0] == b"getack":
            return NO_REPLY, on_getack()
        known = self._open(link, ip, now_ms)
        known.last_io_ms = now_ms
        for option, value in pairs:
            if option == b"ack":
                return NO_REPLY, self._on_ack(known, value, now_ms)
            if option == b"getack":
                return NO_REPLY, on_getack()
            if not known.declare(option, value):
                raise CommandError(b"ERR Unrecognized REPLCONF option: " + option)
        return OK, []

    def on_psync(
        self,
        link: LinkId,
        argv: list[bytes],
        now_ms: int,
        *,
        ip: bytes = b"",
        pending_output: bool = False,
    ) -> Actions:
        """Handle PSYNC and SYNC of a connection that is no replica yet.

        Args:
            link: the connection.
            argv: the whole command.
            ip: the peer's address, used the first time.
            pending_output: replies are still queued on the connection, between which and the
                snapshot the peer could not tell.

        Raises:
            CommandError: refused; the connection stays a client.
        """
        replica = self._open(link, ip, now_ms)
        if replica.is_replica:
            return []
        if pending_output:
            raise CommandError(b"ERR SYNC and PSYNC are invalid with pending output")
        if replica.requirements != Requirements() and not replica.capa_eof:
            raise CommandError(b"ERR Filtered replica requires EOF capability")
        replica.last_io_ms = now_ms
        actions: Actions = [notice(f"Replica {replica.name} asks for synchronization")]
        if argv[0].lower() == b"psync":
            replid, offset = argv[1], wire.from_wire(integer(argv[2]))
            if self._stream.resumable(replid, offset):
                return actions + self._resume(replica, offset, now_ms)
            actions += self.syncs.refuse(replica, self._stream, replid, offset, now_ms)
        else:
            replica.pre_psync = True
            self.syncs.open(replica, FullSyncReason.SYNC_COMMAND, now_ms)
        return actions + self._enter_full_sync(replica, now_ms)

    def on_keepalive(self, link: LinkId, now_ms: int) -> None:
        """An empty line came from a replica: it is busy loading and means to stay."""
        replica = self._links.get(link)
        if replica is not None and replica.is_replica:
            replica.ack_at_ms = replica.last_io_ms = now_ms

    def on_stall(self, link: LinkId, *, stalled: bool, now_ms: int) -> None:
        """A replica's socket stopped, or went on, taking the bytes of a snapshot."""
        replica = self._links.get(link)
        if replica is not None:
            replica.stalled_since_ms = (replica.stalled_since_ms or now_ms) if stalled else None

    def on_progress(self, link: LinkId, now_ms: int) -> None:
        """A replica's socket that takes no more bytes of a snapshot passes on what it has."""
        replica = self._links.get(link)
        if replica is not None and replica.stalled_since_ms is not None:
            replica.stalled_since_ms = now_ms

    def on_closed(self, link: LinkId, now_ms: int) -> Actions:
        """A connection of which we may know was closed by its peer or by the shell."""
        known = self._links.pop(link, None)
        if known is None or not known.is_replica:
            return []
        text = f"Connection with replica {known.name} lost."
        return [warning(text), *self._forget(known, now_ms)]

    # --- children -----------------------------------------------------------------------------

    def child_started(self, child: Child) -> None:
        """A child was forked for another reason than StartBgsave (BGSAVE, AOF rewrite)."""
        assert self.child is None, self.child
        self.child = child

    def child_exited(self, now_ms: int) -> Actions:
        """A child that made no RDB has ended."""
        self.child = None
        return self._start_pending(now_ms)

    def bgsave_started(self, now_ms: int) -> Actions:
        """The child of StartBgsave has been forked, in the same turn."""
        group = self._group
        assert group is not None and group.offset == self._stream.history.offset
        self._group = None
        self.child = Child.DISK if group.target is Target.DISK else Child.SOCKETS
        if group.target is Target.SOCKETS:
            self.ring = Ring(self._settings.repl_diskless_sync_ring_size)
        actions: Actions = []
        for link in group.links:
            replica = self._links.get(link)
            if replica is not None and replica.state is ReplicaState.WAIT_BGSAVE_START:
                cursor = None if replica.rdb_only else self._backlog_cursor(group.offset)
                replica.cursor = cursor
                actions += self._begin_full_sync(replica, group.offset, now_ms)
        return actions

    def bgsave_not_started(self, now_ms: int) -> Actions:
        """The child of StartBgsave could not be forked: nobody that waits can be served."""
        self._group = None
        actions: Actions = [warning("BGSAVE for replication failed")]
        for replica in self._in_state(ReplicaState.WAIT_BGSAVE_START):
            error = b"-ERR BGSAVE failed, replication can't continue\r\n"
            actions.append(SendToReplica(replica.link, error))
            actions += self._disconnect(replica, now_ms, flush=True)
        return actions

    def bgsave_done(self, *, ok: bool, now_ms: int) -> Actions:
        """A child that made an RDB has ended, whoever had asked for it.

        Args:
            ok: the snapshot is whole; for sockets, every byte has been passed on as well.
        """
        ring, self.ring = self.ring, None
        self.child = None
        if ok and ring is not None:
            ring.end()
        actions: Actions = []
        for replica in self._in_state(ReplicaState.WAIT_BGSAVE_END):
            if not ok:
                actions.append(warning("SYNC failed. BGSAVE child returned an error"))
                actions += self._disconnect(replica, now_ms)
                continue
            replica.enter(ReplicaState.SEND_BULK)
            if ring is None:
                replica.enter_phase(Phase.TRANSFER, now_ms)
                actions.append(StartTransfer(replica.link))
        return actions + self._start_pending(now_ms)

    def transfer_done(self, link: LinkId, now_ms: int) -> Actions:
        """The whole snapshot of StartTransfer or SendSnapshot has been written to the replica."""
        replica = self._links.get(link)
        if replica is None or replica.state is not ReplicaState.SEND_BULK:
            return []
        diskless = replica.reader is not None
        replica.leave_ring(now_ms)
        if replica.rdb_only:
            actions = self._finish_rdb_only(replica, now_ms)
        elif diskless:
            actions = self._streamed(replica, now_ms)
        else:
            actions = self._put_online(replica, now_ms) + self._start_stream(replica)
        return actions + self._start_pending(now_ms)

    def snapshot_sent(self, link: LinkId, count: int, size_bytes: int = -1) -> None:
        """More of the snapshot has been written to a replica's socket; for progress alone.

        Args:
            link: the replica; ignored where it has gone.
            count: bytes of the snapshot, the framing apart.
            size_bytes: of the whole file, -1 for a diskless snapshot.
        """
        replica = self._links.get(link)
        if replica is not None and replica.sync is not None:
            replica.sync.moved_bytes += count
            replica.sync.size_bytes = size_bytes

    def drop_holders(self, now_ms: int) -> Actions:
        """Drop those for whom the others of a diskless transfer have waited too long.

        To be called some ten times a second. They come back, and wait for a later transfer.
        """
        ring, max_held_ms = self.ring, self._settings.repl_diskless_sync_max_stall
        if ring is None or not max_held_ms:
            return []
        actions: Actions = []
        overdue = ring.overdue(now_ms, max_held_ms)
        for replica in [r for r in self.replicas if r.reader in overdue]:
            ring.shut_out()
            self.syncs.dropped += 1
            text = silence.held_up(self._settings, replica, len(ring.readers) - 1)
            actions += [warning(text), *self._disconnect(replica, now_ms)]
        return actions

    # --- time ---------------------------------------------------------------------------------

    def ping(self) -> None:
        """Feed a ping, from which replicas know that an idle master lives."""
        if self.replicas:
            self._stream.feed(ANY_DB, wire.STREAM_PING)

    def request_acks(self) -> None:
        """Ask every replica for its offset with the next flush_requests (WAIT, shutdown)."""
        self.wants_acks = True

    def flush_requests(self) -> None:
        """Feed the GETACK that was asked for since the last call; once a loop turn, unpaused."""
        if self.wants_acks:
            self.wants_acks = False
            if self.replicas:
                self._stream.feed(ANY_DB, wire.GETACK)

    def tick(self, now_ms: int) -> Actions:
        """Do what is due once a second: keepalives, timeouts, the backlog's ttl, snapshots."""
        actions: Actions = []
        for replica in self.replicas:
            if silence.is_awaited(replica):
                actions.append(SendToReplica(replica.link, wire.KEEPALIVE))
        for replica in list(self.replicas):
            if late := silence.timed_out(self._settings, replica, now_ms):
                actions += [warning(late), *self._disconnect(replica, now_ms)]
        actions += self._check_backlog_ttl(now_ms)
        actions += self._start_pending(now_ms)
        actions += gate.tell_places(self._settings, self.replicas)
        self.count_good_replicas(now_ms)
        return actions

    def count_good_replicas(self, now_ms: int) -> None:
        """Recount the replicas that min-replicas-to-write may rely on. O(replicas)."""
        max_lag_s = self._settings.min_replicas_max_lag
        self.good_replicas = quorum.count_good(self.replicas, max_lag_s, now_ms)

    @property
    def too_few_replicas(self) -> bool:
        """Whether a master must refuse writes with -NOREPLICAS."""
        wanted = self._settings.min_replicas_to_write
        return (
            wanted > 0 and self._settings.min_replicas_max_lag > 0 and self.good_replicas < wanted
        )

    def disconnect_all(self, now_ms: int) -> Actions:
        """Disconnect every replica: what they follow is about to be another history."""
        actions: Actions = []
        for replica in list(self.replicas):
            actions.append(warning(f"Connection with replica {replica.name} lost."))
            actions += self._disconnect(replica, now_ms)
        return actions

    # --- within -------------------------------------------------------------------------------

    def _open(self, link: LinkId, ip: bytes, now_ms: int) -> ReplicaLink:
        known = self._links.get(link)
        if known is None:
            known = self._links[link] = ReplicaLink(link, ip, now_ms)
        return known

    @property
    def awaits_child(self) -> bool:
        """Whether the snapshot of the running child is for a replica. O(replicas)."""
        return bool(self._in_state(ReplicaState.WAIT_BGSAVE_END))

    @property
    def needs_file(self) -> bool:
        """Whether a replica waits for an RDB file, or is sent one. O(replicas)."""
        early = (*WAITING, ReplicaState.SEND_BULK)
        return any(replica.state in early for replica in self.replicas)

    def _in_state(self, state: ReplicaState) -> list[ReplicaLink]:
        return [replica for replica in self.replicas if replica.state is state]

    def _on_ack(self, replica: ReplicaLink, value: bytes, now_ms: int) -> Actions:
        if not replica.is_replica:
            return []
        try:
            offset = integer(value)
        except CommandError:
            return []
        replica.ack_offset = max(replica.ack_offset, offset)
        replica.ack_at_ms = now_ms
        actions: Actions = []
        # The replica has its whole snapshot, and we have not yet seen that the child is done.
        if self.child is not None and replica.state is ReplicaState.WAIT_BGSAVE_END:
            actions.append(ReapChildren())
        if replica.state is ReplicaState.ONLINE:
            if replica.stream_on_ack:
                actions += self._start_stream(replica)
            actions += self.syncs.close(replica, now_ms)
        return actions

    def _backlog_cursor(self, offset: int) -> Cursor:
        backlog = self._stream.backlog
        assert backlog is not None, "replicas attached and no backlog"
        return backlog.cursor(offset)

    def _resume(self, replica: ReplicaLink, offset: int, now_ms: int) -> Actions:
        """Go on from the backlog. No SELECT is forced: the replica knows its database."""
        self.syncs.partial_ok += 1
        replica.enter(ReplicaState.ONLINE)
        self.syncs.remember(replica)
        replica.ack_at_ms = now_ms
        replica.cursor = self._backlog_cursor(offset)
        self.replicas.append(replica)
        self.count_good_replicas(now_ms)
        lz4 = self._compresses(replica)
        reply = wire.partial_resync(
            self._stream.history.replid, names_id=replica.capa_psync2, lz4=lz4
        )
        return [
            *self._answer(replica, reply, now_ms, lz4=lz4),
            notice(
                f"Partial resynchronization request from {replica.name} accepted. Sending "
                f"{replica.lag_bytes} bytes of backlog starting from offset "
                f"{wire.to_wire(offset)}."
            ),
            StartStream(replica.link, replica.cursor),
        ]

    def _compresses(self, replica: ReplicaLink) -> bool:
        return replica.capa_lz4 and self._settings.repl_compression == LZ4

    def _answer(self, replica: ReplicaLink, reply: bytes, now_ms: int, *, lz4: bool) -> Actions:
        """Answer PSYNC with a line after which everything is compressed, or nothing is."""
        actions: Actions = [SendToReplica(replica.link, reply)]
        if lz4:
            replica.traffic = Traffic(now_ms)
            actions.append(CompressLink(replica.link, replica.traffic))
        return actions

    def _enter_full_sync(self, replica: ReplicaLink, now_ms: int) -> Actions:
        """Put a replica among those that need a snapshot, and see how it can get one."""
        replica.enter(ReplicaState.WAIT_BGSAVE_START)
        self.replicas.append(replica)
        actions: Actions = []
        if len(self.replicas) == 1 and self._stream.backlog is None:
            # Nothing was counted while no backlog was: our id names no known data before now.
            self._stream.history.change()
            self._stream.create_backlog()
            history = self._stream.history
            actions.append(
                notice(
                    "Replication backlog created, my new replication IDs are "
                    f"'{history.replid.decode()}' and '{history.replid2.decode()}'"
                )
            )
        if gate.places(self._settings, self.replicas) == 0:
            return actions + gate.tell_places(self._settings, self.replicas)
        if self.child is Child.DISK:
            return actions + self._join_running_bgsave(replica, now_ms)
        if self.ring is not None and self.ring.has_beginning:
            return actions + self._join_running_bgsave(replica, now_ms)
        if self.child is Child.SOCKETS:
            text = "Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC"
        elif sharing.is_delayed(self._settings, replica):
            text = "Delay next BGSAVE for diskless SYNC"
        elif self.child is None and self._group is None:
            return actions + self._start_bgsave(
                sharing.waiting_group(self._settings, self.replicas), now_ms
            )
        else:
            text = (
                "No BGSAVE in progress, but another BG operation is active. BGSAVE for "
                "replication delayed"
            )
        return [*actions, notice(text)]

    def _join_running_bgsave(self, replica: ReplicaLink, now_ms: int) -> Actions:
        """Let a replica share the snapshot in the making, where one waits since its start."""
        first = sharing.to_join(self.replicas, replica)
        if first is None:
            return [
                notice(
                    "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE "
                    "for SYNC"
                )
            ]
        if not replica.rdb_only:
            assert first.cursor is not None and first.cursor.offset == first.initial_offset
            replica.cursor = first.cursor.clone()
        actions = self._begin_full_sync(replica, first.initial_offset, now_ms)
        if self.ring is None:
            return [*actions, notice("Waiting for end of BGSAVE for SYNC")]
        self.syncs.joined += 1
        return [*actions, notice(f"Replica {replica.name} joins the diskless transfer that runs")]

    def _begin_full_sync(self, replica: ReplicaLink, offset: int, now_ms: int) -> Actions:
        """Announce the snapshot at `offset`; all that is written from there on gathers for it."""
        replica.initial_offset = offset
        replica.enter(ReplicaState.WAIT_BGSAVE_END)
        phase = Phase.TRANSFER if self.child is Child.SOCKETS else Phase.SAVE
        replica.enter_phase(phase, now_ms)
        self._stream.force_select()
        actions: Actions = []
        if not replica.pre_psync:
            lz4 = self._compresses(replica)
            reply = wire.full_resync(self._stream.history.replid, offset, lz4=lz4)
            actions += self._answer(replica, reply, now_ms, lz4=lz4)
        if self.ring is not None:
            replica.reader = self.ring.join()
            actions.append(SendSnapshot(replica.link, replica.reader))
        return actions

    def _start_pending(self, now_ms: int) -> Actions:
        """Start a snapshot for those that wait, where no child runs and none more is awaited."""
        if self.child is not None or self._group is not None:
            return []
        group = sharing.waiting_group(self._settings, self.replicas)
        if group and sharing.is_due(self._settings, group, now_ms):
            return self._start_bgsave(group, now_ms)
        return []

    def _start_bgsave(self, group: list[ReplicaLink], now_ms: int) -> Actions:
        requirements = group[0].requirements
        target = sharing.target(self._settings, group)
        actions: Actions = [notice(f"Starting BGSAVE for SYNC with target: {target.value}")]
        save_info = self._save_info()
        if save_info is None:
            actions.append(
                warning(
                    "BGSAVE for replication: replication information not available, can't "
                    "generate the RDB file right now. Try later."
                )
            )
            return actions + self.bgsave_not_started(now_ms)
        links = tuple(replica.link for replica in group)
        offset = self._stream.history.offset
        self._group = StartBgsave(target, links, offset, requirements, save_info)
        return [*actions, self._group]

    def _streamed(self, replica: ReplicaLink, now_ms: int) -> Actions:
        """A diskless transfer is complete; the stream waits until the replica has loaded."""
        replica.stream_on_ack = True
        return [
            *self._put_online(replica, now_ms),
            notice(
                f"Streamed RDB transfer with replica {replica.name} succeeded (socket). Waiting "
                "for REPLCONF ACK from replica to enable streaming"
            ),
        ]

    def _put_online(self, replica: ReplicaLink, now_ms: int) -> Actions:
        replica.enter(ReplicaState.ONLINE)
        replica.enter_phase(Phase.LOAD, now_ms)
        self.syncs.remember(replica)
        # Not its last sign of life: it could be loading, and is given the whole repl-timeout.
        replica.ack_at_ms = now_ms
        replica.stalled_since_ms = None
        self.count_good_replicas(now_ms)
        actions: Actions = [notice(f"Synchronization with replica {replica.name} succeeded")]
        # A peer that never acknowledges does not tell when it has loaded.
        return actions + self.syncs.close(replica, now_ms) if replica.pre_psync else actions

    def _start_stream(self, replica: ReplicaLink) -> Actions:
        replica.stream_on_ack = False
        assert replica.cursor is not None
        return [StartStream(replica.link, replica.cursor)]

    def _finish_rdb_only(self, replica: ReplicaLink, now_ms: int) -> Actions:
        replica.enter(ReplicaState.RDB_TRANSMITTED)
        text = (
            f"RDB transfer completed, rdb only replica ({replica.name}) should be disconnected asap"
        )
        actions = [notice(text), *self.syncs.close(replica, now_ms)]
        return actions + self._disconnect(replica, now_ms, flush=True)

    def _check_backlog_ttl(self, now_ms: int) -> Actions:
        """Free the backlog of a master that nobody has followed for long.

        The id changes with it: what is written from now on is counted nowhere, so a replica of
        the old id must not be taken for one that has it.
        """
        ttl_s = self._settings.repl_backlog_ttl
        if self.replicas or ttl_s == 0 or not self._stream.originates:
            return []
        if self._stream.backlog is None or now_ms - self.no_replicas_since_ms <= ttl_s * 1000:
            return []
        self.syncs.history_ended(self._stream.history, ttl_s)
        self._stream.history.change()
        self._stream.free_backlog()
        return [
            notice(f"Replication backlog freed after {ttl_s} seconds without connected replicas.")
        ]

    def _disconnect(self, replica: ReplicaLink, now_ms: int, *, flush: bool = False) -> Actions:
        self._links.pop(replica.link, None)
        return [CloseReplica(replica.link, flush), *self._forget(replica, now_ms)]

    def _forget(self, replica: ReplicaLink, now_ms: int) -> Actions:
        """Take a replica off the list; kill the child that only it waited for."""
        waited = replica.state is ReplicaState.WAIT_BGSAVE_END
        replica.leave(now_ms)
        self.replicas.remove(replica)
        if not self.replicas:
            self.no_replicas_since_ms = now_ms
        self.count_good_replicas(now_ms)
        if not waited or self._in_state(ReplicaState.WAIT_BGSAVE_END):
            return []
        if self.child is Child.SOCKETS:
            text = "Diskless rdb transfer, last replica dropped, killing fork child."
            return [warning(text), KillChild()]
        if self.child is Child.DISK and not self._settings.save_points:
            return [KillChild()]
        return []
