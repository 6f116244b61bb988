"""FAILOVER: a master hands its role to a replica that has everything, and follows it.

    NONE  --FAILOVER-->  WAIT_FOR_SYNC  --a replica has our whole offset-->  IN_PROGRESS
      ^                     | writes are paused, so that the offset stands still    |
      |                     |                                                       |
      +---- time is up, ABORT --------------------------- the target answers PSYNC -+

IN_PROGRESS we are a replica already and send `PSYNC <id> <offset> FAILOVER`, at which the target
promotes itself. If it refuses, or on ABORT, we become a master again. With FORCE the time
running out leads to IN_PROGRESS as well, and what the target lacks is lost.

This class is the state and its rules; `Replication` changes the roles.

Source: Redis 7.0, replication.c (failoverCommand, updateFailoverStatus, abortFailover,
clearFailoverState).
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from kvrepl.errors import SYNTAX, CommandError
from kvrepl.numbers import parse_int
from kvrepl.replication.links import ReplicaLink, ReplicaState, integer


class FailoverState(Enum):
    """Where it is; the value is `master_failover_state` of INFO.

    Attributes:
        meaning: what happens there.
    """

    def __new__(cls, name: str, meaning: str) -> FailoverState:
        member = object.__new__(cls)
        member._value_ = name
        return member

    def __init__(self, name: str, meaning: str) -> None:
        self.meaning = meaning

    NONE = "no-failover", "nothing: no failover runs"
    WAIT_FOR_SYNC = "waiting-for-sync", "writes are paused until the target has everything"
    IN_PROGRESS = "failover-in-progress", "we follow the target and ask it to take over"


TRANSITIONS: Final[dict[FailoverState, set[FailoverState]]] = {
    FailoverState.NONE: {FailoverState.WAIT_FOR_SYNC},
    FailoverState.WAIT_FOR_SYNC: {FailoverState.IN_PROGRESS, FailoverState.NONE},
    FailoverState.IN_PROGRESS: {FailoverState.NONE},
}


class FailoverRequest(NamedTuple):
    """What a FAILOVER command asks for.

    Attributes:
        abort: end the one that runs; nothing else is set then.
        host, port: the replica to promote; host is "" for any.
        timeout_ms: how long to wait for it; 0 for ever.
        force: promote it even if it is behind when the time is up.
    """

    abort: bool = False
    host: str = ""
    port: int = 0
    timeout_ms: int = 0
    force: bool = False


def parse_failover(argv: list[bytes]) -> FailoverRequest:
    """Read a FAILOVER command.

    Args:
        argv: the whole command.

    Raises:
        CommandError: it is malformed.
    """
    words = [argument.lower() for argument in argv]
    if words[1:] == [b"abort"]:
        return FailoverRequest(abort=True)
    request = FailoverRequest()
    at = 1
    while at < len(words):
        left = len(words) - at - 1
        if words[at] == b"timeout" and left >= 1 and request.timeout_ms == 0:
            timeout_ms = integer(argv[at + 1])
            if timeout_ms <= 0:
                raise CommandError(b"ERR FAILOVER timeout must be greater than 0")
            request = request._replace(timeout_ms=timeout_ms)
            at += 2
        elif words[at] == b"to" and left >= 2 and not request.host:
            port = parse_int(argv[at + 2])
            if port is None:
                raise CommandError(b"ERR value is not an integer or out of range")
            host = argv[at + 1].decode("utf-8", "surrogateescape")
            request = request._replace(host=host, port=port)
            at += 3
        elif words[at] == b"force" and not request.force:
            request = request._replace(force=True)
            at += 1
        else:
            raise SYNTAX
    return request


class Failover:
    """The failover that runs, if any."""

    __slots__ = ("deadline_ms", "force", "host", "port", "state")

    def __init__(self) -> None:
        self.state = FailoverState.NONE
        self._forget()

    def clear(self) -> None:
        """The failover has succeeded or was given up."""
        self.enter(FailoverState.NONE)
        self._forget()

    def enter(self, state: FailoverState) -> None:
        """Change its state, as TRANSITIONS allows."""
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def _forget(self) -> None:
        self.host = ""
        self.port = 0
        self.deadline_ms: int | None = None
        self.force = False

    @property
    def running(self) -> bool:
        """Whether a failover is under way."""
        return self.state is not FailoverState.NONE

    @property
    def target(self) -> str:
        """The target as logs name it."""
        return f"{self.host}:{self.port}" if self.host else "any replica"

    def begin(
        self,
        request: FailoverRequest,
        replicas: list[ReplicaLink],
        now_ms: int,
        *,
        is_master: bool,
    ) -> None:
        """Begin to wait for a replica that has everything.

        Args:
            request: from parse_failover, not an abort.
            replicas: those of this master.
            now_ms: the present.
            is_master: whether this server is one.

        Raises:
            CommandError: it cannot be done; in the order Redis checks.
        """
        if self.running:
            raise CommandError(b"ERR FAILOVER already in progress.")
        if not is_master:
            raise CommandError(b"ERR FAILOVER is not valid when server is a replica.")
        if not replicas:
            raise CommandError(b"ERR FAILOVER requires connected replicas.")
        if request.force and not (request.timeout_ms and request.host):
            raise CommandError(
                b"ERR FAILOVER with force option requires both a timeout and target HOST and IP."
            )
        if request.host:
            target = find_replica(replicas, request.host, request.port)
            if target is None:
                raise CommandError(b"ERR FAILOVER target HOST and PORT is not a replica.")
            if target.state is not ReplicaState.ONLINE:
                raise CommandError(b"ERR FAILOVER target replica is not online.")
        self.enter(FailoverState.WAIT_FOR_SYNC)
        self.host, self.port = request.host, request.port
        self.deadline_ms = now_ms + request.timeout_ms if request.timeout_ms else None
        self.force = request.force

    def expired(self, now_ms: int) -> bool:
        """Whether the time to wait is over. O(1)."""
        return self.deadline_ms is not None and now_ms >= self.deadline_ms

    def synced_target(self, replicas: list[ReplicaLink], offset: int) -> bool:
        """Tell whether the target has acknowledged `offset`; any that has becomes the target.

        Cost: O(replicas).
        """
        if self.host:
            target = find_replica(replicas, self.host, self.port)
            return target is not None and target.ack_offset == offset
        for replica in replicas:
            if replica.state is ReplicaState.ONLINE and replica.ack_offset == offset:
                self.host, self.port = _host(replica), replica.port
                return True
        return False


def find_replica(replicas: list[ReplicaLink], host: str, port: int) -> ReplicaLink | None:
    """Return the replica that listens on an address, None where there is none. O(replicas)."""
    for replica in replicas:
        if _host(replica).lower() == host.lower() and replica.port == port:
            return replica
    return None


def _host(replica: ReplicaLink) -> str:
    return replica.ip.decode("utf-8", "surrogateescape")
