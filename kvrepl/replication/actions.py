"""What the replication machines ask of the shell.

Every input (bytes came, a child ended, a second went by) returns a list of these. The contract:

1.  The shell carries out a list in order, on the event loop, with nothing in between.
2.  Some actions are answered by a report, at once or later (the table below). What the report
    returns is carried out when the report is made, before the rest of an earlier list.
3.  An action for a link that has gone meanwhile is done by ignoring it.
4.  Writes of one link keep their order: SendToReplica, then the file of StartTransfer or the
    ring of SendSnapshot, then the stream of StartStream.
5.  A machine has changed its own state when it returns; it never waits to learn whether an
    action was carried out. What fails is reported as an event (link lost, load failed).

    action          reported by
    Connect         connected | connect_failed
    Send            nothing (a broken link is reported by link_lost)
    LoadSnapshot    load_finished
    ApplyStream     applied, once or in parts, or protocol_error
    StartBgsave     bgsave_started | bgsave_not_started at once, bgsave_done later
    StartTransfer   transfer_done | on_closed
    SendSnapshot    the same
    CloseReplica    nothing: the machine has forgotten the link already
    KillChild       bgsave_done(ok=False), when the child has been reaped

Links to replicas are named by the integers the shell gave them. The link to the master needs no
name, as there is at most one: Connect opens it and Close ends it, and bytes or errors of an
older one must not be reported any more.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

from kvrepl.replication.backlog import Cursor
from kvrepl.replication.compression import Traffic
from kvrepl.replication.ring import Reader

LinkId: TypeAlias = int


class Level(Enum):
    """How loud a log line is, as `loglevel` names it."""

    DEBUG = "debug"
    VERBOSE = "verbose"
    NOTICE = "notice"
    WARNING = "warning"


class Target(Enum):
    """Where the child of a BGSAVE writes."""

    DISK = "disk"
    SOCKETS = "replicas sockets"


class Load(Enum):
    """How a replica takes in a snapshot (repl-diskless-load, decided when it begins)."""

    FROM_FILE = "disk"
    IN_PLACE = "on-empty-db"
    SWAP = "swapdb"


class Pause(Enum):
    """Why writers are held back."""

    FAILOVER = "failover"
    BACKPRESSURE = "backpressure"


class Role(Enum):
    """What this server is."""

    MASTER = "master"
    REPLICA = "slave"


class SaveInfo(NamedTuple):
    """What an RDB file says of replication, so that a restarted server can go on.

    Attributes:
        stream_db: the database the stream is on (`repl-stream-db`).
        replid: `repl-id`.
        offset: `repl-offset`.
    """

    stream_db: int
    replid: bytes
    offset: int


class Requirements(NamedTuple):
    """What a replica wants of a snapshot; replicas share one only where these are equal.

    Attributes:
        exclude_data: leave the keys out (`rdb-filter-only` without data).
        exclude_functions: leave the functions out.
    """

    exclude_data: bool = False
    exclude_functions: bool = False


class Log(NamedTuple):
    """Write a line to the log."""

    level: Level
    text: str


class RoleChanged(NamedTuple):
    """The server is now a master or a replica: blocked clients, gates, AOF, expiry follow it."""

    role: Role


# --- the link to our master -------------------------------------------------------------------


class Connect(NamedTuple):
    """Open a connection to the master, not waiting for it."""

    host: str
    port: int


class Send(NamedTuple):
    """Write to the master."""

    data: bytes


class Close(NamedTuple):
    """Close the connection to the master, or give up making it."""


class BeginTransfer(NamedTuple):
    """A snapshot begins to arrive.

    Attributes:
        size_bytes: its length, or -1 where a mark will end it.
        load: how to take it in. FROM_FILE: gather it in a temporary file. IN_PLACE: empty the
            dataset now and load from the chunks. SWAP: load the chunks beside the dataset.
        async_loading: SWAP only: it is the history we are on, so clients may go on reading.
    """

    size_bytes: int
    load: Load
    async_loading: bool


class Chunk(NamedTuple):
    """The next bytes of the snapshot; never any of the framing around it."""

    data: bytes


class LoadSnapshot(NamedTuple):
    """The snapshot has arrived whole: load it and report load_finished.

    FROM_FILE: stop the AOF and a running RDB child, empty the dataset, rename the file into
    place and load it. IN_PLACE and SWAP: finish the load that the chunks have fed.
    """

    load: Load


class AbortTransfer(NamedTuple):
    """Drop the snapshot: the file, or what was loaded of it.

    Attributes:
        load: how it was taken in.
        unwanted: it is refused, or the operator has turned to another role or master; otherwise
            it will not be completed, which is told as an error.
    """

    load: Load
    unwanted: bool = False


class LinkUp(NamedTuple):
    """The stream begins: apply what ApplyStream brings, starting in database `db`."""

    db: int


class ApplyStream(NamedTuple):
    """Bytes of the master's stream, to be parsed, applied and reported by applied().

    What has run must be reported before anything else is told to the machine: a link lost in
    between would have it asked for again, and run twice.
    """

    data: bytes


class LinkDown(NamedTuple):
    """No more stream: forget bytes not parsed yet and a MULTI without its EXEC."""


# --- the links of our replicas ----------------------------------------------------------------


class SendToReplica(NamedTuple):
    """Write to a replica, outside of the stream."""

    link: LinkId
    data: bytes


class CompressLink(NamedTuple):
    """From now on compress whatever is written to a replica, and count it."""

    link: LinkId
    traffic: Traffic


class CloseReplica(NamedTuple):
    """Disconnect a replica, after what was sent to it has gone out if `flush`."""

    link: LinkId
    flush: bool = False


class StartBgsave(NamedTuple):
    """Fork a child that writes the snapshot of this very instant.

    Attributes:
        target: DISK writes `dbfilename`; SOCKETS fills the ring that bgsave_started makes.
        links: the replicas that wait for it.
        offset: the offset of the stream now, which the snapshot stands for.
        requirements: what to leave out.
        save_info: what the file is to say of replication.
    """

    target: Target
    links: tuple[LinkId, ...]
    offset: int
    requirements: Requirements
    save_info: SaveInfo


class StartTransfer(NamedTuple):
    """Send `$<size>` and the finished RDB file to a replica, then report transfer_done."""

    link: LinkId


class SendSnapshot(NamedTuple):
    """Send a replica the line of a diskless snapshot, what the reader gives, and the mark.

    The mark once the reader is done; then report transfer_done.
    """

    link: LinkId
    reader: Reader


class StartStream(NamedTuple):
    """From now on keep writing to the replica what the cursor gives."""

    link: LinkId
    cursor: Cursor


class KillChild(NamedTuple):
    """Kill the RDB child: nobody waits for its snapshot."""


class ReapChildren(NamedTuple):
    """Look at once whether a child has ended, as a replica seems to be ahead of us."""


# --- writers ----------------------------------------------------------------------------------


class PauseWrites(NamedTuple):
    """Let no client write until ResumeWrites for the same reason."""

    reason: Pause = Pause.FAILOVER


class ResumeWrites(NamedTuple):
    """This reason to pause has ended; others may last."""

    reason: Pause = Pause.FAILOVER


Action: TypeAlias = (
    Log
    | RoleChanged
    | Connect
    | Send
    | Close
    | BeginTransfer
    | Chunk
    | LoadSnapshot
    | AbortTransfer
    | LinkUp
    | ApplyStream
    | LinkDown
    | SendToReplica
    | CompressLink
    | CloseReplica
    | StartBgsave
    | StartTransfer
    | SendSnapshot
    | StartStream
    | KillChild
    | ReapChildren
    | PauseWrites
    | ResumeWrites
)
Actions: TypeAlias = list[Action]


def notice(text: str) -> Log:
    """Return a log line of level notice."""
    return Log(Level.NOTICE, text)


def warning(text: str) -> Log:
    """Return a log line of level warning."""
    return Log(Level.WARNING, text)
