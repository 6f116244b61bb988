"""Replication of a running server: feeds the machines, carries out their actions.

    clients  --REPLCONF, PSYNC-->  Replication  --actions-->  Feeds        links to our replicas
    propagation  --feed------->    (pure room)  --actions-->  MasterLink   link to our master
    children, clock ---------->

All decisions are made in `kvrepl.replication`; this is the shell that opens connections, forks,
moves bytes, and raises the gates that follow from the state. The contract of the actions stands in
`kvrepl.replication.actions`.

Source: Redis 7.0 replication.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.engine.blocking import REPLICAS
from kvrepl.engine.description import told
from kvrepl.errors import CommandError
from kvrepl.numbers import parse_int
from kvrepl.persistence.snapshot import Loaded, SnapshotInfo
from kvrepl.replication import actions as do
from kvrepl.replication.actions import Action, Role, SaveInfo, Target
from kvrepl.replication.master import Child
from kvrepl.replication.quorum import (
    WAIT_ON_REPLICA,
    Waiter,
    WaitQueue,
    count_acknowledged,
    lagging,
)
from kvrepl.replication.report import info_fields, role_reply
from kvrepl.replication.roles import Replication
from kvrepl.replication.settings import ReplicationSettings
from kvrepl.replication.wire import is_replid
from kvrepl.resp.values import BLOCKED, NO_REPLY, OK, Reply
from kvrepl.server.diskless import Diskless
from kvrepl.server.feeds import Feeds
from kvrepl.server.master_link import MasterLink

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server

STALL_MS: Final = 3_000
"""Longer than from one tick to the next, of which there is one a second at least."""
_COPIED: Final = (
    "repl_timeout", "repl_ping_replica_period", "repl_backlog_size", "repl_backlog_ttl",
    "repl_diskless_sync", "repl_diskless_sync_delay", "repl_diskless_sync_max_replicas",
    "repl_diskless_sync_ring_size", "repl_diskless_sync_max_stall", "repl_diskless_load",
    "repl_max_concurrent_full_syncs", "repl_backpressure", "repl_backpressure_max_delay",
    "repl_compression", "replica_refuse_empty_master",
    "min_replicas_to_write", "min_replicas_max_lag",
    "replica_announced", "replica_priority", "replica_read_only", "masterauth",
)  # fmt: skip
"""What the machines read under the names and in the form of the configuration."""
_ADAPTED: Final = (
    "masteruser", "replica_announce_ip", "replica_announce_port", "port", "tls_port",
    "tls_replication", "save", "replica_serve_stale_data",
)  # fmt: skip
"""What they get in another form, and what only moves the gates."""
SETTINGS: Final = tuple(name.replace("_", "-") for name in (*_COPIED, *_ADAPTED))
"""The directives after a change of which `apply_settings` is due."""

OUR_MASTER: Final = -1
"""The link id under which our master's own REPLCONF (GETACK) is reported."""

UNIX_HOST: Final = b"/unixsocket"
"""What stands for the address of a replica that came through the unix socket (anetFdToString)."""

UNBLOCKED: Final = CommandError(
    b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)


def new_replid() -> bytes:
    """A fresh replication id: 40 lower-case hex characters."""
    return os.urandom(20).hex().encode()


class ReplicationShell:
    """Both ends of replication of one server.

    Attributes:
        machine: the decisions (kvrepl.replication.roles).
        feeds: links to our replicas; link: the link to our master.
        diskless: what fills the ring of a diskless transfer.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._settings = ReplicationSettings()
        keyspace = server.engine.keyspace
        self._copy_settings()
        self.machine = Replication(
            self._settings, new_replid, lambda: not len(keyspace), self.now_ms()
        )
        self.feeds = Feeds(server, self)
        self.diskless = Diskless(server, self)
        self.link = MasterLink(server, self)
        self._waiting = WaitQueue()
        self._streaming_to: object = None
        self._ticked_ms = self.now_ms()

    # ---------------------------------------------------------------- settings

    def apply_settings(self) -> None:
        """Take the settings from the configuration."""
        self._copy_settings()
        self.machine.stream.resize_backlog(self._settings.repl_backlog_size)
        self.machine.master.count_good_replicas(self.now_ms())
        self.update_gates()

    def _copy_settings(self) -> None:
        config, settings = self._server.config, self._settings
        for name in _COPIED:
            setattr(settings, name, getattr(config, name))
        settings.masteruser = config.masteruser.encode()
        settings.replica_announce_ip = config.replica_announce_ip.encode()
        port = config.tls_port if config.tls_replication and config.tls_port else config.port
        settings.announced_port = config.replica_announce_port or port
        settings.save_points = bool(config.save)

    # -------------------------------------------------------- start and restart

    def restored(self, loaded: Loaded) -> None:
        """An RDB file was loaded at start: go on with the history that it names."""
        self.restore(_saved_info(loaded))
        engine = self._server.engine
        for db, key in loaded.expired_keys:
            engine.propagation.also(db, [b"DEL", key])
            engine.propagation.flush()

    def restore(self, saved: SaveInfo | None) -> None:
        """A dataset was loaded at start, which is what a history makes of it up to an offset.

        Args:
            saved: which history, None where that is not known.
        """
        if self._server.config.replicaof is None:
            self.machine.restore_as_master(saved, self.now_ms())
            self.update_gates()
        elif saved is not None:
            self.machine.restore_as_replica(saved)

    def start(self) -> None:
        """Begin to follow the master that the configuration names, if any."""
        master = self._server.config.replicaof
        if master is not None:
            host, port = master
            self.carry_out(self.machine.continue_as_replica(host, port, self.now_ms()))
        self.update_gates()

    def save_info(self) -> SaveInfo | None:
        """What an RDB file made now has to say of replication."""
        return self.machine.save_info()

    def position(self) -> SaveInfo | None:
        """Where the stream stands, for the AOF; None where its last word on that still holds."""
        machine = self.machine
        history = machine.history
        if history.offset == history.replid2_offset and not machine.master.replicas:
            # A new id that nobody has heard of: those who come back after one more restart still
            # ask for the old one.
            return None
        return machine.save_info()

    # ---------------------------------------------------------------- each turn

    def before_replies(self) -> None:
        """The step of the turn that hands the stream to the replicas."""
        machine = self.machine
        master = machine.master
        # Where a pause is to keep the offset still; backpressure only bounds what clients add.
        if master.wants_acks and not self._server.is_paused_beside(do.Pause.BACKPRESSURE.value):
            master.flush_requests()
        if len(self._waiting):
            self._answer_waiting()
        self.feeds.pump()
        if machine.backpressure.watches:
            actions = machine.press(self.feeds.limit_bytes(), self.now_ms())
            if actions:
                self.carry_out(actions)

    def tick(self) -> None:
        """Do what is due by the clock.

        A call that comes late by seconds does nothing: a long command has held us up, and what our
        master and our replicas sent meanwhile is to be read before they are called silent.
        """
        now_ms = self.now_ms()
        stalled_ms, self._ticked_ms = now_ms - self._ticked_ms, now_ms
        if stalled_ms > STALL_MS:
            return
        if now_ms >= self.machine.next_deadline_ms():
            self.feeds.notice_progress()
            self.carry_out(self.machine.tick(now_ms))
        self.diskless.tick()
        self.feeds.check_limits()
        self.feeds.remove_file()

    # ------------------------------------------------------------------ commands

    def replconf(self, client: Client, argv: list[bytes]) -> Reply:
        """REPLCONF of a replica, or GETACK of our master."""
        link = OUR_MASTER if client.is_master else client.id
        reply, actions = self.machine.on_replconf(link, argv, self.now_ms(), ip=_host_of(client))
        self.carry_out(actions)
        if len(self._waiting) or self._server.shutdown.deadline_ms is not None:
            self._server.turn.wake()
        return reply

    def psync(self, client: Client, argv: list[bytes]) -> Reply:
        """PSYNC or SYNC: from now on the connection is a replica's.

        Not one that monitors: between what it is shown the snapshot could not be told.
        """
        if client.is_replica or client.is_monitor:
            return NO_REPLY
        machine = self.machine
        actions = machine.on_psync(
            client.id, argv, self.now_ms(), ip=_host_of(client), pending_output=bool(client.out)
        )
        self.feeds.add(client)
        known = machine.master.find(client.id)
        if known is not None and known.is_replica:
            client.is_replica = True
            client.raise_gate(gates.REPLICA)
            self.feeds.set_no_delay(client, not self._server.config.repl_disable_tcp_nodelay)
        self.carry_out(actions)
        return NO_REPLY

    def replicaof(self, client: Client, host: bytes | None, port: int) -> Reply:
        """REPLICAOF host port, REPLICAOF NO ONE."""
        by = told(client)
        if host is None:
            reply, actions = self.machine.replicaof_no_one(self.now_ms(), by=by)
        else:
            reply, actions = self.machine.replicaof(
                host.decode("utf-8", "surrogateescape"),
                port,
                self.now_ms(),
                by=by,
                from_replica=client.is_replica,
            )
        self.carry_out(actions)
        if host is not None and reply is OK:
            # Who waits for a key would wait for another master's, or on a replica for nothing.
            self._server.engine.blocking.fail_all(UNBLOCKED)
        return reply

    def failover(self, argv: list[bytes]) -> Reply:
        """FAILOVER."""
        reply, actions = self.machine.on_failover(argv, self.now_ms())
        self.carry_out(actions)
        return reply

    def wait(self, client: Client, wanted: int, timeout_ms: int) -> Reply:
        """WAIT: answered when enough replicas have what this client has written and seen."""
        machine = self.machine
        if not machine.is_master:
            raise WAIT_ON_REPLICA
        offset = machine.history.offset
        if offset == client.batch_offset:  # nothing was written since its batch began
            offset = min(offset, client.done_offset)
        count = count_acknowledged(machine.master.replicas, offset)
        engine = self._server.engine
        if count >= wanted or not engine.may_block(client):
            return count
        self._waiting.add(Waiter(client.id, offset, wanted, None))
        engine.blocking.block(
            client,
            timeout_ms=timeout_ms,
            kind=REPLICAS,
            on_timeout=lambda: count_acknowledged(machine.master.replicas, offset),
            on_end=lambda: self._waiting.remove(client.id),
        )
        machine.master.request_acks()
        return BLOCKED

    def _answer_waiting(self) -> None:
        engine = self._server.engine
        for answer in self._waiting.answers(self.machine.master.replicas, self.now_ms()):
            client = engine.clients.get(answer.client)
            if client is not None and client.wait is not None:
                engine.blocking.release(client, answer.acknowledged)

    def forget_client(self, client: Client) -> None:
        """A connection is gone: whatever it was to us."""
        self.feeds.remove(client)
        if self._server.exit_status is not None:
            return  # the log has said its last word
        self.carry_out(self.machine.master.on_closed(client.id, self.now_ms()))
        self.diskless.read_more()  # it may have been the one that the others waited for

    def keepalive(self, client: Client) -> None:
        """A replica sent an empty line: it is loading, and lives."""
        self.machine.master.on_keepalive(client.id, self.now_ms())

    def backlog_bytes(self) -> int:
        """Bytes of the stream kept for replicas, one shared copy."""
        backlog = self.machine.stream.backlog
        return backlog.histlen if backlog is not None else 0

    def excess_bytes(self) -> int:
        """Those of them beyond repl-backlog-size, which only replicas that lag have kept."""
        return max(self.backlog_bytes() - self._server.config.repl_backlog_size, 0)

    def role(self) -> Reply:
        """ROLE."""
        return role_reply(self.machine)

    def info(self) -> list[tuple[str, str | int]]:
        """The fields of INFO replication."""
        child = self._server.children.active
        fraction = child.keys / child.keys_total if child and child.keys_total else 0.0
        return info_fields(self.machine, self.now_ms(), fraction)

    # ------------------------------------------------------------------ shutdown

    def replicas_in_step(self) -> bool:
        """Whether every replica, ours or those of a chain below us, has acknowledged the stream."""
        machine = self.machine
        return all(
            replica.ack_offset == machine.history.offset
            for replica in machine.master.replicas
            if not replica.rdb_only
        )

    def request_acks(self) -> None:
        """Ask the replicas for their offsets now, even though writes are paused.

        A replica writes nothing into the stream; those below it tell each second.
        """
        self.machine.master.request_acks()
        self.machine.master.flush_requests()
        self._server.turn.wake()

    def report_lag(self) -> None:
        """Tell the log which replicas lack something as we leave."""
        machine = self.machine
        replicas = machine.master.replicas
        if not replicas:
            return
        log = self._server.log
        offset = machine.history.offset
        behind = lagging(replicas, offset)
        for replica in behind:
            log.warning(
                f"Lagging replica {replica.name} reported offset {offset - replica.ack_offset}"
                f" behind master, lag={replica.lag_seconds(self.now_ms())},"
                f" state={replica.state.shown}."
            )
        in_step = len(replicas) - len(behind)
        log.notice(f"{in_step} of {len(replicas)} replicas are in sync when shutting down.")

    # ------------------------------------------------------------------ children

    def rdb_child_started(self) -> None:
        """A BGSAVE was started by somebody else."""
        self.machine.master.child_started(Child.DISK)

    def rdb_child_ended(self, ok: bool) -> None:
        """A child that wrote an RDB file has ended."""
        self.carry_out(self.machine.master.bgsave_done(ok=ok, now_ms=self.now_ms()))

    def other_child_started(self) -> None:
        """An AOF rewrite was started."""
        self.machine.master.child_started(Child.OTHER)

    def other_child_ended(self) -> None:
        """An AOF rewrite has ended."""
        self.carry_out(self.machine.master.child_exited(self.now_ms()))

    def _start_bgsave(self, action: do.StartBgsave) -> None:
        server = self._server
        saved = action.save_info
        info = SnapshotInfo(
            server.clock.now_ms() // 1000,
            server.meter.used_bytes(),
            False,
            saved.stream_db,
            saved.replid,
            saved.offset,
        )
        master = self.machine.master
        if action.target is Target.DISK:
            started = server.saver.bgsave(info, for_replicas=True)
            if started:
                self.feeds.file_to_remove = server.saver.file
        else:
            started = self.diskless.start(info, action)
        if started:
            self.carry_out(master.bgsave_started(self.now_ms()))
            self.diskless.read_more()
        else:
            self.carry_out(master.bgsave_not_started(self.now_ms()))

    # ------------------------------------------------------------------ actions

    def carry_out(self, actions: Iterable[Action]) -> None:
        """Do what the machines ask for, in order.

        A mistake of ours in between ends the server: the machines have gone on to a state that
        the rest of it would not be in, and what is written then to files and replicas is wrong.
        """
        try:
            for action in actions:
                self._do(action)
        except Exception as error:
            self._server.faults.panic(error)
        self.update_gates()
        self._server.turn.wake()

    def _do(self, action: Action) -> None:
        server, feeds, link = self._server, self.feeds, self.link
        match action:
            case do.Log(level, text):
                getattr(server.log, level.value)(text)
            case do.SendToReplica(to, data):
                feeds.send(to, data)
            case do.CompressLink(to, traffic):
                feeds.compress(to, traffic)
            case do.StartStream(to, cursor):
                feeds.stream(to, cursor)
            case do.SendSnapshot(to, reader):
                feeds.send_snapshot(to, reader, self.diskless.mark)
            case do.StartTransfer(to):
                feeds.transfer(to)
            case do.CloseReplica(to, flush):
                feeds.close(to, flush=flush)
            case do.StartBgsave():
                self._start_bgsave(action)
            case do.KillChild():
                server.children.kill()
            case do.ReapChildren():
                server.children.poll()
            case do.Connect(host, port):
                link.connect(host, port)
            case do.Send(data):
                link.send(data)
            case do.Close():
                link.close()
            case do.BeginTransfer(size, load, is_async):
                link.begin_transfer(size, load, is_async)
            case do.Chunk(data):
                link.chunk(data)
            case do.LoadSnapshot():
                link.load_snapshot()
            case do.AbortTransfer(_, unwanted):
                link.abort_transfer(unwanted=unwanted)
            case do.LinkUp(db):
                link.up(db)
            case do.ApplyStream(data):
                link.apply(data)
            case do.LinkDown():
                link.down()
            case do.RoleChanged(role):
                self._role_changed(role)
            case do.PauseWrites(reason):
                server.pause(reason.value, all_commands=False, until_ms=1 << 62)
            case do.ResumeWrites(reason):
                server.unpause(reason.value)
            case _:
                raise AssertionError(f"unknown action {action!r}")

    def _role_changed(self, role: Role) -> None:
        server = self._server
        engine = server.engine
        engine.is_replica = role is Role.REPLICA
        server.log.role = "S" if engine.is_replica else "M"
        if engine.is_replica:
            engine.blocking.fail_all(UNBLOCKED)  # also where no command asked: FAILOVER
            server.config.replicaof = (self.machine.replica.host, self.machine.replica.port)
        else:
            server.config.replicaof = None
            engine.keyspace.local_expiry.clear()  # from now on every key is ours
            if server.config.appendonly and not server.aof.is_on:
                server.aof.turn_on()
        server.apply_oom_score()

    def update_gates(self) -> None:
        """Raise and lower the gates that follow from the state of replication."""
        server, machine = self._server, self.machine
        engine, config = server.engine, server.config
        replica = machine.replica
        engine.is_replica = not machine.is_master
        if engine.is_replica and (replica.host, replica.port) != config.replicaof:
            config.replicaof = (replica.host, replica.port)
        engine.set_gate(gates.READONLY, engine.is_replica and config.replica_read_only)
        engine.set_gate(
            gates.STALE,
            engine.is_replica and not replica.connected and not config.replica_serve_stale_data,
        )
        engine.set_gate(gates.FEW_REPLICAS, machine.is_master and machine.master.too_few_replicas)
        keyspace = engine.keyspace
        keyspace.writable_replica = engine.is_replica and not config.replica_read_only
        if server.saver.loading is None or server.saver.loading.is_async:
            keyspace.expiry_mode = engine.expiry_mode()
        stream = machine.stream
        streaming = stream if machine.is_master and stream.backlog is not None else None
        if streaming is not self._streaming_to:
            self._streaming_to = streaming
            server.connect_streams()

    def stream(self) -> Any:
        """Where propagated commands go for our replicas, None for nowhere."""
        return self._streaming_to

    def now_ms(self) -> int:
        """The clock of the machines: milliseconds that never go back."""
        return self._server.clock.monotonic_ns() // 1_000_000


def _saved_info(loaded: Loaded) -> SaveInfo | None:
    db = loaded.stream_db
    replid = loaded.aux.get(b"repl-id", b"")
    offset = parse_int(loaded.aux.get(b"repl-offset", b""))
    if db is None or offset is None or offset < 0 or not is_replid(replid):
        return None
    return SaveInfo(db, replid, offset)


def _host_of(client: Client) -> bytes:
    if client.laddr.endswith(b":0"):
        return UNIX_HOST
    return client.addr.rpartition(b":")[0].strip(b"[]")
