"""A cluster under a seed: it is written to, broken in every way, healed, and must converge.

The rule that is checked after every event, over all nodes and all time, is the one that PSYNC
stands on:

    whoever can be resumed from, or asks to be resumed at, (replid, offset)
    holds the same dataset as everyone who ever could at that (replid, offset)

and with it the invariants of the machines themselves (`check`). Once the faults stop, all nodes
follow one master, in a random tree, and must end with its dataset, offset and id.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from kvrepl.replication.actions import Pause
from kvrepl.replication.backlog import BLOCK_BYTES
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.roles import TICK_MS
from kvrepl.replication.settings import ReplicationSettings
from tests.simulation.network import Connection, Scheduler
from tests.simulation.node import CHILD_PAUSE_MS, CHUNK_BYTES, Node, serialize

FAULTS_MS = 30_000
HEAL_MS = 60_000
QUIET_MS = 15_000
KEYS = [b"k%d" % n for n in range(5)]


class Diverged(AssertionError):
    """Two holders of one (replid, offset) differ, or the cluster does not come to rest."""


def fingerprint(node: Node) -> int:
    """Return a number equal for equal datasets within a run."""
    filled = [(db, frozenset(keys.items())) for db, keys in node.dataset.items() if keys]
    return hash(frozenset(filled))


class Cluster:
    """One run.

    Args:
        seed: decides everything.
        size: how many nodes.
    """

    def __init__(self, seed: int, size: int = 4) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.scheduler = Scheduler(self.rng)
        self.nodes: dict[str, Node] = {}
        self.masters: dict[str, str] = {}
        self.settings: dict[str, ReplicationSettings] = {}
        self._truth: dict[tuple[bytes, int], tuple[int, str]] = {}
        self._seen: dict[str, tuple[object, ...]] = {}
        self._idle_until_ms: dict[str, int] = {}
        self._faulty = True
        self.top = ""
        self.log: list[str] = []
        for number in range(size):
            name = f"n{number}"
            self._idle_until_ms[name] = 0
            self.settings[name] = self._choose_settings(number)
            self.masters[name] = "" if number == 0 else f"n{self.rng.randrange(number)}"
        for name in self.masters:
            self._boot(name, None)

    def _choose_settings(self, number: int) -> ReplicationSettings:
        rng = self.rng
        return ReplicationSettings(
            repl_timeout=8,
            repl_ping_replica_period=rng.choice([1, 3]),
            repl_backlog_size=16 * 1024,
            repl_backlog_ttl=rng.choice([0, 4, 3600]),
            repl_diskless_sync=rng.random() < 0.5,
            repl_diskless_sync_delay=rng.choice([0, 1, 2]),
            repl_diskless_sync_ring_size=rng.choice([500, 500, 3000, 1 << 20]),
            repl_diskless_sync_max_stall=rng.choice([0, 100, 100, 600]),
            repl_diskless_load=rng.choice(["disabled", "on-empty-db", "swapdb"]),
            repl_max_concurrent_full_syncs=rng.choice([0, 0, 1, 2]),
            repl_compression=rng.choice(["no", "lz4", "lz4"]),
            repl_backpressure=rng.random() < 0.5,
            repl_backpressure_max_delay=rng.choice([500, 4000]),
            replica_refuse_empty_master=rng.random() < 0.3,
            announced_port=1,
            replica_announce_ip=b"n%d" % number,
            save_points=rng.random() < 0.5,
        )

    def _boot(self, name: str, saved: bytes | None) -> None:
        settings = self.settings[name]
        master = self.masters[name]
        self.nodes[name] = Node(
            name, self.scheduler, self.nodes.get, settings, saved, master, self.log
        )

    def last_words(self) -> str:
        """The end of everybody's log, for a failure's message."""
        return "\n".join(self.log[-60:])

    # --- the run ------------------------------------------------------------------------------

    def run(self) -> None:
        """Write and break for a while, heal, and demand convergence.

        Raises:
            AssertionError: a rule was broken.
        """
        start_ms = self.scheduler.now_ms
        self.scheduler.after(1, self._write_now_and_then)
        self.scheduler.after(2000, self._break_now_and_then)
        self.scheduler.run_until(start_ms + FAULTS_MS, self.check)
        self._faulty = False
        self._heal()
        self.scheduler.run_until(self.scheduler.now_ms + HEAL_MS, self.check)
        for node in self.nodes.values():
            node.quiet = True
            node.settings.repl_ping_replica_period = 1_000_000
            node.settings.repl_timeout = 1_000_000  # as nothing is said any more
        self.scheduler.run_until(self.scheduler.now_ms + QUIET_MS, self.check)
        self._demand_convergence()

    def _write_now_and_then(self) -> None:
        if not self._faulty:
            return
        rng, now_ms = self.rng, self.scheduler.now_ms
        for node in self.nodes.values():
            # Also a master that nobody should follow any more: its writes are lost, not mixed.
            if node.alive and rng.random() < 0.7 and self._idle_until_ms[node.name] <= now_ms:
                for _ in range(rng.choice([1] * 40 + [30])):
                    node.write([self._command() for _ in range(rng.choice([1, 1, 1, 2, 3]))])
        self.scheduler.after(rng.randint(20, 300), self._write_now_and_then)

    def _command(self) -> tuple[int, list[bytes]]:
        rng = self.rng
        db, key = rng.choice([0, 0, 0, 1, 3]), rng.choice(KEYS)
        value = b"%d" % rng.getrandbits(32)
        kind = rng.random()
        if kind < 0.5:
            return db, [b"APPEND", key, value]
        if kind < 0.9:
            return db, [b"SET", key, value * rng.choice([1, 1, 20, 120])]
        return db, [b"DEL", key]

    def _break_now_and_then(self) -> None:
        if not self._faulty:
            return
        rng = self.rng
        node = self.nodes[rng.choice(list(self.nodes))]
        faults: list[Callable[[Node], None]] = [
            self._cut_link,
            self._cut_link,
            self._cut_link,
            self._stall_link,
            self._stall_transfer,
            self._corrupt_links,
            self._promote,
            self._retarget,
            self._restart,
        ]
        if node.alive:
            rng.choice([*faults, *self._mild_faults()])(node)
        self.scheduler.after(rng.randint(50, 2500), self._break_now_and_then)

    def _mild_faults(self) -> list[Callable[[Node], None]]:
        return [Node.bgsave, Node.kill_child, Node.failover, self._resize]

    def _links(self, node: Node) -> list[Connection]:
        return [end.connection for end in node.ends()]

    def _cut_link(self, node: Node) -> None:
        links = self._links(node)
        if links:
            self.rng.choice(links).cut()

    def _corrupt_links(self, node: Node) -> None:
        for link in self._links(node):
            link.corrupt()

    def _stall_link(self, node: Node) -> None:
        links = self._links(node)
        if links:
            self._stall(self.rng.choice(links))

    def _stall_transfer(self, node: Node) -> None:
        """Stall one of those who share a diskless transfer, as soon as there is one."""
        for sender in self.nodes.values():
            receivers = sender.receivers()
            if len(receivers) > 1:
                self._stall(self.rng.choice(receivers).connection)
                return
        if self._faulty:
            self.scheduler.after(100, lambda: self._stall_transfer(node))

    def _stall(self, link: Connection) -> None:
        link.stalled = True
        self.scheduler.after(self.rng.randint(500, 20_000), lambda: self._unstall(link))

    def _unstall(self, link: Connection) -> None:
        link.stalled = False

    def _promote(self, node: Node) -> None:
        node.replicaof("")

    def _retarget(self, node: Node) -> None:
        others = [name for name in self.nodes if name != node.name]
        node.replicaof(self.rng.choice(others))

    def _resize(self, node: Node) -> None:
        node.repl.stream.resize_backlog(self.rng.choice([16, 24, 40]) * 1024)
        node.stirred = True

    def _restart(self, node: Node) -> None:
        node.crash()
        saved = node.file if self.rng.random() < 0.7 else None
        if self.rng.random() < 0.5 and not node.loading and saved is not None:
            saved = self._clean_save(node)
        replica = node.repl.replica
        self.masters[node.name] = "" if node.repl.is_master else replica.host
        back_ms = self.rng.randint(10, 3000)
        if saved is None and self.rng.random() < 0.5:
            # It lost everything, and stays as it is for long enough that others come to it.
            self._idle_until_ms[node.name] = self.scheduler.now_ms + back_ms + 5000
        self.scheduler.after(back_ms, lambda: self._boot(node.name, saved))

    def _clean_save(self, node: Node) -> bytes:
        """What SHUTDOWN SAVE would have left."""
        return serialize(node.dataset, node.repl.save_info())

    def _heal(self) -> None:
        """Stop all faults and let everyone follow one master, in a random tree.

        It may be an empty one, which is here what the operator wants.
        """
        for settings in self.settings.values():
            settings.replica_refuse_empty_master = False
        names = list(self.nodes)
        self.rng.shuffle(names)
        self.scheduler.after(4000, lambda: self._rearrange(names))

    def _rearrange(self, names: list[str]) -> None:
        waiting = False
        for at, name in enumerate(names):
            node = self.nodes[name]
            if node.loading or node.repl.failover.running:
                waiting = True
                continue
            wanted = "" if at == 0 else names[at // 2]
            if wanted == name:
                wanted = names[0]
            node.replicaof(wanted)
        if waiting:
            self.scheduler.after(1000, lambda: self._rearrange(names))
        self.top = names[0]

    # --- the rules ----------------------------------------------------------------------------

    def check(self) -> None:
        """Check every rule that holds at all times, on the nodes to which something happened."""
        for node in self.nodes.values():
            if node.alive and node.stirred:
                node.stirred = False
                self._check_node(node)

    def _check_node(self, node: Node) -> None:
        repl = node.repl
        history, stream, replica = repl.history, repl.stream, repl.replica
        waiting_ms = node.now_ms - node.pauses.get(Pause.BACKPRESSURE, node.now_ms)
        if waiting_ms > node.settings.repl_backpressure_max_delay + TICK_MS:
            raise Diverged(f"{node.name}: writers have waited for {waiting_ms} ms")
        known = (id(node), history.replid, history.offset, history.replid2, replica.state)
        state = (*known, stream.backlog is None, replica.resume_db, node.loading)
        backlog = stream.backlog
        if backlog is not None and backlog.end != history.offset:
            raise Diverged(f"{node.name}: backlog ends at {backlog.end}, not {history.offset}")
        if backlog is not None:
            unread = 0
            for link in repl.master.replicas:
                unread = max(unread, link.lag_bytes)
            if backlog.histlen > max(backlog.limit_bytes, unread) + 2 * BLOCK_BYTES:
                raise Diverged(f"{node.name}: backlog holds {backlog.histlen} bytes")
        if repl.master.replicas and backlog is None:
            raise Diverged(f"{node.name}: replicas attached and no backlog")
        if repl.master.replicas:
            self._check_replicas(node)
        if self._seen.get(node.name) == state:
            return
        self._seen[node.name] = state
        for replid, offset in self._claims(node):
            self._check_claim(node, replid, offset)

    def _check_replicas(self, node: Node) -> None:
        master, history, backlog = node.repl.master, node.repl.history, node.repl.stream.backlog
        assert backlog is not None
        inside = 0
        offsets = set()
        for link in master.replicas:
            waits = link.state is ReplicaState.WAIT_BGSAVE_END
            inside += waits or link.state is ReplicaState.SEND_BULK
            if link.state is ReplicaState.ONLINE and link.ack_offset > history.offset:
                raise Diverged(f"{node.name}: {link.name} acknowledged more than there is")
            if link.cursor is not None and link.cursor.offset < backlog.start:
                raise Diverged(f"{node.name}: bytes trimmed that {link.name} has not read")
            if link.stream_on_ack and node.streams_to(link.link):
                raise Diverged(f"{node.name}: a stream to {link.name} before it has loaded")
            if waits:
                offsets.add(link.initial_offset)
                if link.cursor is None or link.cursor.offset != link.initial_offset:
                    raise Diverged(f"{node.name}: {link.name} lacks bytes since its snapshot")
        if len(offsets) > 1:
            raise Diverged(f"{node.name}: one child, and snapshots at {sorted(offsets)}")
        self._check_ring(node)
        limit = node.settings.repl_max_concurrent_full_syncs
        if 0 < limit < inside:
            raise Diverged(f"{node.name}: {inside} full syncs run, {limit} may")

    def _check_ring(self, node: Node) -> None:
        """The ring is bounded, and nobody holds the others up for much longer than is allowed."""
        ring = node.repl.master.ring
        if ring is None:
            return
        if ring.used_bytes >= ring.limit_bytes + CHUNK_BYTES:
            raise Diverged(f"{node.name}: the ring holds {ring.used_bytes} bytes")
        max_held_ms = node.settings.repl_diskless_sync_max_stall
        if max_held_ms and ring.overdue(node.now_ms, max_held_ms + CHILD_PAUSE_MS):
            raise Diverged(f"{node.name}: a diskless transfer waits for one replica")

    def _claims(self, node: Node) -> list[tuple[bytes, int]]:
        """Where this node can be resumed from or asks to be resumed at, right now."""
        history, replica = node.repl.history, node.repl.replica
        serves = node.repl.is_master or replica.connected
        asks = replica.resume_db is not None and not node.repl.is_master
        claims = [(history.replid, history.offset)] if asks else []
        if serves:
            for replid in (history.replid, history.replid2):
                if node.repl.stream.resumable(replid, history.offset):
                    claims.append((replid, history.offset))
        return claims

    def _check_claim(self, node: Node, replid: bytes, offset: int) -> None:
        found = fingerprint(node)
        first, who = self._truth.setdefault((replid, offset), (found, node.name))
        if first != found:
            raise Diverged(
                f"seed {self.seed}: {node.name} and {who} differ at {replid[:6]!r}:{offset}"
            )

    def _demand_convergence(self) -> None:
        top = self.nodes[self.top]
        for node in self.nodes.values():
            history = node.repl.history
            same = (
                fingerprint(node) == fingerprint(top)
                and history.offset == top.repl.history.offset
                and history.replid == top.repl.history.replid
            )
            if node.paused:
                raise Diverged(f"seed {self.seed}: {node.name} lets nobody write")
            if not same:
                raise Diverged(
                    f"seed {self.seed}: {node.name} ({node.repl.replica.state.name} "
                    f"{history.replid[:6]!r}:{history.offset}) did not reach {self.top} "
                    f"({top.repl.history.replid[:6]!r}:{top.repl.history.offset})"
                )
