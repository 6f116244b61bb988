"""The master's view of one replica: what it declared, how far it is, in which state.

The states are those of ReplicaState, what may follow what stands in TRANSITIONS, and docs/PSYNC.md
shows both as a page. After a diskless sync an ONLINE replica is fed only from its first ACK on
(`stream_on_ack`): nothing else tells the end of a load.

Source: Redis 7.0, replication.c (replconfCommand), server.h (SLAVE_STATE_*).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from kvrepl.errors import NOT_INTEGER, SYNTAX, CommandError
from kvrepl.numbers import parse_int
from kvrepl.replication.actions import LinkId, Requirements
from kvrepl.replication.backlog import Cursor
from kvrepl.replication.compression import Traffic
from kvrepl.replication.fullsync import FullSync, Phase
from kvrepl.replication.ring import Reader
from kvrepl.resp.inline import split_inline

MAX_ADDRESS_BYTES: Final = 255
"""The longest `REPLCONF ip-address` (Redis: NET_HOST_STR_LEN with its final zero)."""


class ReplicaState(Enum):
    """Where a replica is.

    Attributes:
        meaning: what that is.
    """

    def __new__(cls, name: str, meaning: str) -> ReplicaState:
        member = object.__new__(cls)
        member._value_ = name
        return member

    def __init__(self, name: str, meaning: str) -> None:
        self.meaning = meaning

    NONE = "none", "a connection that may have sent REPLCONF, but is no replica (any more)"
    WAIT_BGSAVE_START = "wait_bgsave_start", "needs a snapshot that has not begun"
    WAIT_BGSAVE_END = "wait_bgsave_end", "its snapshot is being made, or sent by the child"
    SEND_BULK = "send_bulk", "its snapshot is made, and (the rest of it) on its way"
    RDB_TRANSMITTED = "rdb_transmitted", "wanted the snapshot alone, has it, and is to leave"
    ONLINE = "online", "is fed the stream"

    @property
    def shown(self) -> str:
        """`slaveN:state=` of INFO, which does not tell the two waits apart."""
        return "wait_bgsave" if self in WAITING else self.value


WAITING: Final = (ReplicaState.WAIT_BGSAVE_START, ReplicaState.WAIT_BGSAVE_END)

TRANSITIONS: Final[dict[ReplicaState, set[ReplicaState]]] = {
    ReplicaState.NONE: {ReplicaState.WAIT_BGSAVE_START, ReplicaState.ONLINE},
    ReplicaState.WAIT_BGSAVE_START: {ReplicaState.WAIT_BGSAVE_END, ReplicaState.NONE},
    ReplicaState.WAIT_BGSAVE_END: {
        ReplicaState.SEND_BULK,
        ReplicaState.NONE,
    },
    ReplicaState.SEND_BULK: {
        ReplicaState.ONLINE,
        ReplicaState.RDB_TRANSMITTED,
        ReplicaState.NONE,
    },
    ReplicaState.RDB_TRANSMITTED: {ReplicaState.NONE},
    ReplicaState.ONLINE: {ReplicaState.NONE},
}


class ReplicaLink:
    """One connection that is, or is about to be, a replica of ours.

    Attributes:
        link: the shell's name for the connection.
        peer_ip: its address; `announced_ip` takes its place where the replica gave one.
        port: what it listens on, 0 where it did not tell.
        initial_offset: the offset of its snapshot, from WAIT_BGSAVE_END on.
        cursor: its place in the backlog; None until it has one, and for rdb_only.
        reader: its place in the ring of a diskless transfer, until it has read it.
        ack_offset: the greatest offset it has acknowledged.
        ack_at_ms: when it last gave a sign that it lives.
        last_io_ms: when it last sent anything.
        stalled_since_ms: since when its socket takes nothing of a snapshot; None where it does.
        sync: the full sync it goes through; None where none, or when that is over.
        traffic: what goes to it compressed; None where nothing does.
        place: its place among those who wait at the storm gate, from 1; 0 where it does not.
    """

    __slots__ = (
        "ack_at_ms",
        "ack_offset",
        "announced_ip",
        "capa_eof",
        "capa_lz4",
        "capa_psync2",
        "cursor",
        "initial_offset",
        "last_io_ms",
        "link",
        "peer_ip",
        "place",
        "port",
        "pre_psync",
        "rdb_only",
        "reader",
        "requirements",
        "stalled_since_ms",
        "state",
        "stream_on_ack",
        "sync",
        "traffic",
    )

    def __init__(self, link: LinkId, peer_ip: bytes, now_ms: int) -> None:
        self.link = link
        self.peer_ip = peer_ip
        self.announced_ip = b""
        self.port = 0
        self.state = ReplicaState.NONE
        self.capa_eof = False
        self.capa_lz4 = False
        self.capa_psync2 = False
        self.rdb_only = False
        self.pre_psync = False
        self.requirements = Requirements()
        self.initial_offset = 0
        self.cursor: Cursor | None = None
        self.reader: Reader | None = None
        self.ack_offset = 0
        self.ack_at_ms = now_ms
        self.last_io_ms = now_ms
        self.stalled_since_ms: int | None = None
        self.stream_on_ack = False
        self.sync: FullSync | None = None
        self.place = 0
        self.traffic: Traffic | None = None

    def leave_ring(self, now_ms: int) -> None:
        """Let go of the diskless transfer it takes part in, if any. O(readers)."""
        if self.reader is not None:
            self.reader.leave(now_ms)
            self.reader = None

    def leave(self, now_ms: int) -> None:
        """It is no replica any more: let go of all that was kept for it. O(readers)."""
        self.enter(ReplicaState.NONE)
        self.sync = None
        self.leave_ring(now_ms)
        if self.cursor is not None:
            self.cursor.close()
            self.cursor = None

    def enter_phase(self, phase: Phase, now_ms: int) -> None:
        """The full sync it goes through, if any, has come to its next phase."""
        if self.sync is not None:
            self.sync.enter(phase, now_ms)

    def enter(self, state: ReplicaState) -> None:
        """Change its state, as TRANSITIONS allows."""
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    @property
    def is_replica(self) -> bool:
        """Whether it has asked for synchronization."""
        return self.state is not ReplicaState.NONE

    @property
    def ip(self) -> bytes:
        """The address by which others are told of it."""
        return self.announced_ip or self.peer_ip

    @property
    def name(self) -> str:
        """How the log names it."""
        port = str(self.port) if self.port else "<unknown-replica-port>"
        return f"{self.ip.decode('utf-8', 'backslashreplace')}:{port}"

    @property
    def lag_bytes(self) -> int:
        """Stream bytes kept for it and not written: its output buffer. O(1)."""
        return self.cursor.lag_bytes if self.cursor is not None else 0

    def lag_seconds(self, now_ms: int) -> int:
        """Seconds since it last acknowledged; 0 where it is not online. O(1)."""
        if self.state is not ReplicaState.ONLINE:
            return 0
        return max(0, now_ms - self.ack_at_ms) // 1000

    def declare(self, option: bytes, value: bytes) -> bool:
        """Take in one option of REPLCONF by which a replica describes itself.

        Args:
            option: the option's name in lower case.
            value: its argument.

        Returns:
            False where it is no such option.

        Raises:
            CommandError: the value cannot be taken.
        """
        if option == b"listening-port":
            self.port = integer(value)
        elif option == b"ip-address":
            if len(value) > MAX_ADDRESS_BYTES:
                raise CommandError(
                    b"ERR REPLCONF ip-address provided by replica instance is too long: %d bytes"
                    % len(value)
                )
            self.announced_ip = value
        elif option == b"capa":
            capability = value.lower()
            self.capa_eof |= capability == b"eof"
            self.capa_lz4 |= capability == b"lz4"
            self.capa_psync2 |= capability == b"psync2"
        elif option == b"rdb-only":
            flag = integer(value)
            if flag not in (0, 1):
                raise CommandError(b"ERR value is out of range, value must between 0 and 1")
            self.rdb_only = flag == 1
        elif option == b"rdb-filter-only":
            self.requirements = _filter(value)
        else:
            return False
        return True


def _filter(value: bytes) -> Requirements:
    """Parse the list of `rdb-filter-only`: what is not named is left out of the snapshot."""
    exclude_functions = True
    words = split_inline(value)
    if words is None:
        raise CommandError(b"ERR Missing rdb-filter-only values")
    for word in words:
        if word.lower() != b"functions":
            raise CommandError(b"ERR Unsupported rdb-filter-only option: " + word)
        exclude_functions = False
    return Requirements(exclude_data=True, exclude_functions=exclude_functions)


def integer(text: bytes) -> int:
    """Parse a decimal 64-bit integer of a command's arguments.

    Raises:
        CommandError: it is none.
    """
    number = parse_int(text)
    if number is None:
        raise NOT_INTEGER
    return number


def options(argv: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Split REPLCONF's arguments into pairs, names in lower case.

    Raises:
        CommandError: an option has no value.
    """
    if len(argv) % 2 == 0:
        raise SYNTAX
    return [(argv[i].lower(), argv[i + 1]) for i in range(1, len(argv), 2)]
