"""What a seed stands for: the servers of a round, and what happens to them when.

A schedule is data: the same seed and length give the same one, and printing it tells the whole
round before it runs. Whom a step strikes is a number, and who that is is decided when the step
runs: the roles at that moment depend on the servers, not on the seed.

    links       cut, reset, cut_after, stall, trickle       of one server's proxy
    processes   hang, kill, kill_master
    roles       takeover, depose, failover, reshape
    children    save, rewrite                               forks beside everything else
"""

from __future__ import annotations

import enum
import random
from typing import Final, NamedTuple

from tests.interop.harness import Directive, Kind

SERVERS: Final = 4
CALM_MS: Final = 2_000
"""Nothing happens in the first two seconds: the replicas attach."""
GAP_MS: Final = (200, 1_500)
"""Least and greatest time between two steps."""
RDB_ONLY: Final[dict[str, Directive]] = {"appendonly": "no"}
AOF_ALWAYS: Final[dict[str, Directive]] = {
    "appendonly": "yes",
    "appendfsync": "always",
    "auto-aof-rewrite-percentage": 50,
    "auto-aof-rewrite-min-size": "1mb",
}


class Act(enum.Enum):
    """What a step does; `span_ms` is how long, `amount` how much."""

    CUT = "every link into a server is closed"
    RESET = "every link into a server is reset"
    CUT_AFTER = "the links into a server are closed after so many more bytes"
    STALL = "the links into a server carry nothing for a while"
    TRICKLE = "the links into a server carry a byte at a time for a while"
    HANG = "a server is stopped (SIGSTOP), and goes on after a while"
    KILL = "a replica is killed (SIGKILL), and starts again after a while"
    KILL_MASTER = "the master is killed, and goes on from its append-only file"
    TAKEOVER = "the master is killed, a replica promoted; the old one comes back as a replica"
    DEPOSE = "the master is isolated, a replica promoted; the old one follows it after a while"
    FAILOVER = "the master hands over to a replica (FAILOVER)"
    RESHAPE = "the replicas are told to follow each other in another tree"
    SAVE = "a server saves in the background"
    REWRITE = "a server rewrites its append-only file"


WEIGHTS: Final = {
    Act.CUT: 4,
    Act.RESET: 2,
    Act.CUT_AFTER: 4,
    Act.STALL: 4,
    Act.TRICKLE: 4,
    Act.HANG: 3,
    Act.KILL: 4,
    Act.KILL_MASTER: 2,
    Act.TAKEOVER: 3,
    Act.DEPOSE: 3,
    Act.FAILOVER: 4,
    Act.RESHAPE: 3,
    Act.SAVE: 2,
    Act.REWRITE: 1,
}


class Step(NamedTuple):
    """One thing that happens.

    Attributes:
        at_ms: when, from the start of the round; what takes long puts off all that follows.
        act: what.
        whom: picks the server among those it can strike.
        span_ms: how long it lasts.
        amount: how much: bytes until a cut, or 0 and 1 for the two ways of a step.
    """

    at_ms: int
    act: Act
    whom: int
    span_ms: int
    amount: int

    def __str__(self) -> str:
        return (
            f"{self.at_ms / 1000:7.2f} s  {self.act.name.lower():<11} whom={self.whom}"
            f" span={self.span_ms} ms amount={self.amount}"
        )


class ServerPlan(NamedTuple):
    """One server: its kind and its directives."""

    kind: Kind
    directives: dict[str, Directive]

    @property
    def durable(self) -> bool:
        """Whether a kill loses nothing that it has answered."""
        return self.directives["appendonly"] == "yes"


class Schedule(NamedTuple):
    """A round."""

    seed: int
    servers: list[ServerPlan]
    steps: list[Step]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}"]
        for number, plan in enumerate(self.servers):
            words = " ".join(f"{name} {value}" for name, value in plan.directives.items())
            lines.append(f"server {number}: {plan.kind}; {words}")
        return "\n".join([*lines, *map(str, self.steps)])


def make_schedule(seed: int, faults_ms: int) -> Schedule:
    """Give the round of a seed.

    Args:
        seed: decides everything.
        faults_ms: how long things happen. A longer schedule begins as the shorter one does.
    """
    rng = random.Random(seed)
    kinds: list[Kind] = ["kvrepl", "kvrepl", "redis", rng.choice(("kvrepl", "redis"))]
    rng.shuffle(kinds)
    # The first begins as master. One server keeps no log: after a kill it goes on from whatever
    # RDB file it has, which names an older place in the history.
    rdb_only = rng.randrange(1, SERVERS)
    servers = [_server(rng, kind, number == rdb_only) for number, kind in enumerate(kinds)]
    steps: list[Step] = []
    at_ms = CALM_MS
    while at_ms < faults_ms:
        steps.append(_step(rng, at_ms))
        at_ms += rng.randint(*GAP_MS)
    return Schedule(seed, servers, steps)


def _server(rng: random.Random, kind: Kind, rdb_only: bool) -> ServerPlan:
    directives: dict[str, Directive] = {
        **(RDB_ONLY if rdb_only else AOF_ALWAYS),
        "repl-timeout": rng.choice((3, 6)),
        "repl-ping-replica-period": 1,
        "repl-backlog-size": rng.choice(("32kb", "4mb", "64mb")),
        "repl-diskless-sync": rng.choice(("yes", "no")),
        "repl-diskless-load": rng.choice(("disabled", "swapdb", "on-empty-db")),
        "repl-disable-tcp-nodelay": rng.choice(("yes", "no")),
        "rdbcompression": rng.choice(("yes", "no")),
        "client-output-buffer-limit": rng.choice(("replica 256mb 64mb 60", "replica 1mb 0 0")),
    }
    if kind == "kvrepl":
        directives |= {
            "repl-backpressure": rng.choice(("yes", "no")),
            "repl-max-concurrent-full-syncs": rng.choice((0, 1)),
        }
    return ServerPlan(kind, directives)


def _step(rng: random.Random, at_ms: int) -> Step:
    act = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    whom = rng.randrange(1 << 16)
    # Mostly short; now and then longer than any repl-timeout.
    span_ms = rng.randint(5_000, 8_000) if rng.random() < 0.15 else rng.randint(100, 3_000)
    amount = rng.randrange(2)
    if act is Act.CUT_AFTER:
        amount = int(10 ** rng.uniform(0, 6))  # mid-line, mid-command, mid-snapshot
    return Step(at_ms, act, whom, span_ms, amount)
