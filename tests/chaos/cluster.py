"""Servers of both kinds under faults: who follows whom, who may be promoted, what must survive.

Before every server stands a proxy, its front, and every replication link goes through the front of
its master: servers announce the port of their front, so that FAILOVER finds it too. Clients go to
the servers themselves.

    client --> server <-- front <-- replica

What must survive. A write counts as acknowledged when WAIT said that ACKS replicas have it. That
is a promise only as long as the next master is one that has it, and as WAIT does not say which
replicas they were, this is a matter of counting:

- Before a replica is promoted the old master is isolated: its front closes every link. Nothing is
  acknowledged from then on that is not acknowledged by then.
- A replica is a holder where it is in the master's history, linked or able to resume, and no
  further back than its `mark`: where the master was when that replica was last killed, or when
  this master was promoted. From there on it has whatever it acknowledged, as only a kill makes a
  replica forget.
- As soon as the holders and ACKS together are more than all replicas, one of the holders has
  acknowledged each such write, and the most advanced holder has them all. That one is promoted,
  as Sentinel would. With fewer holders nobody is.
- FAILOVER without FORCE hands over once the target has all that was answered.
- A master that is killed and goes on from its log (appendfsync always) has all that it answered,
  acknowledged by replicas or not; unless that log is of a dataset before its last full sync, as
  long as the rewrite that follows one has not ended.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import redis

from tests.chaos.load import Witness, numbers_on
from tests.chaos.schedule import Act, Schedule, ServerPlan, Step
from tests.interop.harness import Directive, Server, free_port, wait_until
from tests.interop.proxy import Direction, Proxy

ACKS: Final = 2
"""Of three replicas: with the master a majority."""
ANSWER_S: Final = 2.0
TRICKLE_PAUSE_S: Final = 0.0005
FAILOVER_MS: Final = 3_000
READY_S: Final = 60.0

Tell = Callable[[str], None]


class Node:
    """A server, its front, and where it belongs.

    Attributes:
        parent: whom it is to follow; None for the master.
        mark: the offset from which on it counts as a holder.
        hung: whether it is stopped.
        exiled: whether it was deposed and has not been told yet.
    """

    def __init__(self, number: int, plan: ServerPlan, server: Server, front: Proxy) -> None:
        self.number = number
        self.plan = plan
        self.server = server
        self.front = front
        self.parent: Node | None = None
        self.mark = 0
        self.hung = False
        self.exiled = False
        self._client: redis.Redis | None = None

    def __str__(self) -> str:
        return f"{self.server.kind}#{self.number}"

    @property
    def alive(self) -> bool:
        """Whether it runs and answers."""
        return self.server.running and not self.hung

    def ask(self, *args: str | int) -> Any:
        """Run a command.

        Raises:
            redis.RedisError: it did not answer, or answered an error.
        """
        if self._client is None:
            self._client = self.server.client(socket_timeout=ANSWER_S)
        try:
            return self._client.execute_command(*args)  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError):
            self.hang_up()
            raise

    def hang_up(self) -> None:
        """Begin the next command on a connection of its own: this one is of a killed server."""
        if self._client is not None:
            self._client.connection_pool.disconnect()

    def info(self, section: str) -> dict[str, Any]:
        """Give a section of INFO; empty where it does not answer."""
        try:
            answer: dict[str, Any] = self.ask("INFO", section)
        except redis.RedisError:
            return {}
        return answer


class Cluster:
    """The servers of a round, and everything that is done to them.

    Args:
        schedule: which servers.
        folder: where each has a folder of its own.
        tell: writes a line of the journal.
        make_front: puts a proxy before a port.
    """

    def __init__(
        self,
        schedule: Schedule,
        folder: Path,
        tell: Tell,
        make_front: Callable[[int], Proxy] = Proxy,
    ) -> None:
        self._tell = tell
        self._rng = random.Random(schedule.seed)
        self.witness = Witness(ACKS)
        self.nodes: list[Node] = []
        self._failing_over: Node | None = None
        for number, plan in enumerate(schedule.servers):
            port = free_port()
            front = make_front(port)
            directives: dict[str, Directive] = {
                **plan.directives,
                "replica-announce-ip": "127.0.0.1",
                "replica-announce-port": front.port,
            }
            server = Server(plan.kind, folder / f"{number}-{plan.kind}", directives, port=port)
            self.nodes.append(Node(number, plan, server, front))
        self.master = self.nodes[0]
        self.reigns = 1
        self._acts: dict[Act, Callable[[Step], Callable[[], None] | None]] = {
            Act.CUT: self._cut,
            Act.RESET: self._cut,
            Act.CUT_AFTER: self._cut_after,
            Act.STALL: self._slow,
            Act.TRICKLE: self._slow,
            Act.HANG: self._hang,
            Act.KILL: self._kill,
            Act.KILL_MASTER: self._kill_master,
            Act.TAKEOVER: self._replace_master,
            Act.DEPOSE: self._replace_master,
            Act.FAILOVER: self._failover,
            Act.RESHAPE: self._reshape,
            Act.SAVE: self._fork,
            Act.REWRITE: self._fork,
        }

    # ---- life

    def start(self) -> None:
        """Start every server, and have them follow the first."""
        for node in self.nodes:
            node.server.start()
        self._plant(self.master)
        self.tend()

    def close(self) -> None:
        """End everything."""
        for node in self.nodes:
            if node.hung:
                node.server.signal(signal.SIGCONT)
            node.server.close()
            node.front.close()

    @property
    def replicas(self) -> list[Node]:
        """Give all but the master."""
        return [node for node in self.nodes if node is not self.master]

    def do(self, step: Step) -> Callable[[], None] | None:
        """Carry out a step; give what ends it, to be called after step.span_ms."""
        return self._acts[step.act](step)

    def tend(self) -> None:
        """See to it that everyone follows whom it should: after a start, a hang, a failover."""
        if self._failing_over is not None and not self._failover_ended(self._failing_over):
            return
        for node in self.nodes:
            if node.alive and not node.exiled:
                self._lead(node)

    def heal(self) -> None:
        """End every fault: everyone runs, and every link carries."""
        for node in self.nodes:
            node.front.resume()
            self._pardon(node)
            self._wake(node)
        wait_until(
            lambda: self._failing_over is None or self._failover_ended(self._failing_over),
            "the failover has ended",
            *(node.server for node in self.nodes),
        )

    def wait_followed(self) -> None:
        """Wait until everyone follows whom it should; the links may still be on their way up."""

        def followed() -> bool:
            self.tend()
            return all(self._follows(node) for node in self.nodes)

        wait_until(followed, "all follow", *(node.server for node in self.nodes), poll_s=0.2)

    def servers(self) -> list[Server]:
        """Give the servers, the master first."""
        return [node.server for node in (self.master, *self.replicas)]

    # ---- who follows whom

    def _plant(self, master: Node) -> None:
        """Choose a tree under a master, in which ACKS replicas at least are its own."""
        master.parent = None
        placed: list[Node] = []
        for node in self._rng.sample(self.replicas, len(self.replicas)):
            direct = len(placed) < ACKS
            node.parent = master if direct else self._rng.choice([master, *placed])
            placed.append(node)
        tree = ", ".join(f"{node} of {node.parent}" for node in placed)
        self._tell(f"tree: {master} is master; {tree}")

    def _lead(self, node: Node) -> None:
        if not self._follows(node):
            parent = node.parent
            if parent is None:
                self._order(node, "NO", "ONE")
            else:
                self._order(node, "127.0.0.1", parent.front.port)

    def _follows(self, node: Node) -> bool:
        """Tell whether a server follows whom it should, or none where it is to be master."""
        info = node.info("replication")
        if not info:
            return False
        if node.parent is None:
            return bool(info["role"] == "master")
        wanted = ("127.0.0.1", node.parent.front.port)
        return (info.get("master_host"), info.get("master_port")) == wanted

    def _order(self, node: Node, host: str, port: str | int) -> None:
        try:
            node.ask("REPLICAOF", host, port)
        except redis.RedisError as error:
            self._tell(f"REPLICAOF {host} {port} on {node}: {error}")  # tend() tries again

    def _holders(self) -> list[Node]:
        """Give the replicas that have all that they ever acknowledged, most advanced first."""
        replid = self.master.info("replication").get("master_replid")
        found = []
        for node in self.replicas:
            if not node.alive:
                continue
            info = node.info("replication")
            # As Sentinel does: this offset is 1 where a replica has nothing to resume from.
            offset = info.get("slave_repl_offset", 0)
            if info.get("master_replid") == replid and 1 < offset >= node.mark:
                found.append((offset, node))
        return [node for _, node in sorted(found, key=lambda each: each[0], reverse=True)]

    # ---- links

    def _pick(self, nodes: list[Node], step: Step) -> Node | None:
        """Choose whom a step strikes; None where there is nobody."""
        node = nodes[step.whom % len(nodes)] if nodes else None
        self._tell(f"{step} -> {node or 'nobody'}")
        return node

    def _skip(self, why: str) -> None:
        self._tell(f"          not done: {why}")

    def _parents(self) -> list[Node]:
        """Give those that are followed: faults of other fronts would strike nothing."""
        return [node for node in self.nodes if any(n.parent is node for n in self.nodes)]

    def _cut(self, step: Step) -> None:
        node = self._pick(self._parents(), step)
        if node is not None:
            node.front.cut(reset=step.act is Act.RESET)

    def _cut_after(self, step: Step) -> None:
        node = self._pick(self._parents(), step)
        if node is not None:
            node.front.cut_after(
                step.amount, Direction.UP if step.whom % 8 == 0 else Direction.DOWN
            )

    def _slow(self, step: Step) -> Callable[[], None] | None:
        node = self._pick(self._parents(), step)
        if node is None:
            return None
        if step.act is Act.TRICKLE:
            node.front.trickle(1, TRICKLE_PAUSE_S)
        elif step.amount:
            node.front.stall()
        else:
            node.front.stall(Direction.DOWN)
        return node.front.resume

    # ---- processes

    def _hang(self, step: Step) -> Callable[[], None] | None:
        node = self._pick([node for node in self.nodes if node.alive], step)
        if node is None:
            return None
        node.hung = True
        node.server.signal(signal.SIGSTOP)
        return lambda: self._wake(node)

    def _wake(self, node: Node) -> None:
        if node.hung:
            node.hung = False
            node.server.signal(signal.SIGCONT)

    def _kill(self, step: Step) -> Callable[[], None] | None:
        node = self._pick([node for node in self.replicas if node.alive], step)
        if node is None:
            return None
        if self._failing_over is not None or not self.master.alive:
            self._skip("a failover runs, or the master does not answer")
            return None
        node.server.kill()
        # Asked after the kill: nothing beyond can have been acknowledged by it.
        node.mark = max(node.mark, self._offset_of(self.master))
        return lambda: self._start_again(node)

    def _start_again(self, node: Node) -> None:
        if node.server.running:
            return
        directives = node.server.directives
        directives.pop("replicaof", None)
        if node.parent is not None:
            directives["replicaof"] = f"127.0.0.1 {node.parent.front.port}"
        node.server.restart(port=node.server.port)
        node.hang_up()
        self._tell(f"          {node} is up again")

    def _kill_master(self, step: Step) -> Callable[[], None] | None:
        master = self.master
        self._tell(f"{step} -> {master}")
        persistence = master.info("persistence") if master.alive else {}
        if not persistence or self._failing_over is not None:
            self._skip("it does not answer, or a failover runs")
            return None
        if not master.plan.durable:
            self._skip("it keeps no log")
            return None
        if persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]:
            self._skip("its log may be of a dataset before its last full sync")
            return None
        master.server.kill()
        return lambda: self._go_on(master)

    def _go_on(self, master: Node) -> None:
        """A killed master starts on its log, under a new id: old offsets mean nothing any more."""
        if master.server.running:
            return
        expected = self.witness.answered_in_reign() | self.witness.acknowledged
        self._start_again(master)
        for node in self.replicas:
            node.mark = self._offset_of(master)
        lost = expected - numbers_on(master.server)
        assert not lost, f"{master} lost {len(lost)} answered writes by a kill: {sorted(lost)[:10]}"

    def _fork(self, step: Step) -> None:
        node = self._pick([node for node in self.nodes if node.alive], step)
        if node is None:
            return
        try:
            node.ask("BGSAVE" if step.act is Act.SAVE else "BGREWRITEAOF")
        except redis.RedisError as error:
            self._skip(str(error))  # another child runs

    # ---- roles

    def _replace_master(self, step: Step) -> Callable[[], None] | None:
        old = self.master
        self._tell(f"{step} -> {old}")
        if not old.alive or self._failing_over is not None:
            self._skip("it does not answer, or a failover runs")
            return None
        old.front.refuse()
        old.front.cut()
        holders = self._holders()
        if len(holders) + ACKS <= len(self.replicas):
            old.front.accept()
            self._skip(f"the only holders are {list(map(str, holders))}")
            return None
        if step.act is Act.TAKEOVER:
            old.server.kill()
        else:
            # Nobody else will ever have this: it must be gone once the old master follows.
            old.ask("RPUSH", "stray", step.at_ms)
        old.exiled = True
        chosen = holders[0]
        self._order(chosen, "NO", "ONE")
        self._reign(chosen, answered_survives=False)
        self._plant(chosen)
        self.tend()
        return lambda: self._pardon(old)

    def _pardon(self, old: Node) -> None:
        """Let a deposed master come back, as a replica."""
        old.exiled = False
        old.front.accept()
        if not old.server.running:
            self._start_again(old)

    def _failover(self, step: Step) -> None:
        master = self.master
        self._tell(f"{step} -> {master}")
        if not master.alive or self._failing_over is not None:
            self._skip("it does not answer, or a failover runs")
            return
        command: list[str | int] = ["FAILOVER"]
        direct = [node for node in self.replicas if node.parent is master]
        if step.amount:
            target = direct[step.whom % len(direct)]
            command += ["TO", "127.0.0.1", target.front.port]
        try:
            master.ask(*command, "TIMEOUT", FAILOVER_MS)
        except redis.ResponseError as error:
            self._skip(str(error))
            return
        except redis.RedisError:
            pass  # it may have heard
        self._failing_over = master
        return

    def _failover_ended(self, old: Node) -> bool:
        """Look whether the failover has ended, and who is master then.

        Where the target has promoted itself and its answer was lost, both are masters for a
        moment, as with Redis. Nobody wrote to the target before the old master followed it.
        """
        info = old.info("replication")
        if info.get("master_failover_state") != "no-failover":
            return False
        self._failing_over = None
        if info["role"] == "master":
            self._tell(f"the failover of {old} was given up")
            return True
        port = info["master_port"]
        target = next(node for node in self.nodes if node.front.port == port)
        old.parent, target.parent = target, None
        self._reign(target, answered_survives=True)
        self._tell(f"the failover of {old} made {target} master")
        return True

    def _reign(self, master: Node, *, answered_survives: bool) -> None:
        """A replica has been promoted: who is behind it may lack what it has."""
        self.master = master
        self.reigns += 1
        self.witness.new_reign(answered_survives=answered_survives)
        offset = self._offset_of(master)
        for node in self.replicas:
            node.mark = max(node.mark, offset)

    def _offset_of(self, node: Node) -> int:
        offset: int = wait_until(
            lambda: node.info("replication").get("master_repl_offset", -1) + 1,
            f"{node} says where it is",
            node.server,
        )
        return offset - 1

    def _reshape(self, step: Step) -> None:
        self._tell(f"{step} -> everyone")
        if self._failing_over is not None:
            self._skip("a failover runs")
            return
        self._plant(self.master)
        self.tend()
        return
