"""The history of a dataset: which stream this server is on, and how far.

Fields and what they mean

    replid          id of the history this server produces or follows
    offset          bytes of that history produced (master) or applied (replica)
    replid2         id of the history that this one continues; NO_REPLID where none
    replid2_offset  the last offset that replid2 shares with replid; -1 where none

A replica may go on from here when it names `replid`, or names `replid2` and is not past
`replid2_offset`: two servers that agree on an id and an offset hold the same data.

Transitions

    change          a new history begins here; nobody else's is continued
                    (backlog made for the first time, or freed by its ttl)
    shift           promotion: a new id, the old one kept as replid2 up to here
    detach          a snapshot without id or offset has been loaded (SYNC)
    adopt           a full sync has been *loaded*: id and offset of the master. Never sooner:
                    a link cut between +FULLRESYNC and the end of the load would otherwise
                    let the next PSYNC succeed over data that never arrived
    rename          +CONTINUE with another id: the master was itself promoted
    restore_*       the id and offset found in the RDB file at start-up

Invariants: ids are 40 bytes; offset >= 0; replid2_offset <= offset.

New ids come from an injected function, as this package makes no random numbers.

Source: Redis 7.0, replication.c (changeReplicationId, shiftReplicationId,
clearReplicationId2), server.c (loadDataFromDisk).
"""

from __future__ import annotations

from collections.abc import Callable

from kvrepl.replication.wire import NO_REPLID, REPLID_LENGTH, to_wire

NewReplid = Callable[[], bytes]
"""Gives a fresh id: 40 lower-case hex characters, never the same twice."""


class History:
    """The ids and the offset of one server.

    Args:
        new_replid: gives a fresh id each time it is called.
    """

    __slots__ = ("_new_replid", "offset", "replid", "replid2", "replid2_offset")

    def __init__(self, new_replid: NewReplid) -> None:
        self._new_replid = new_replid
        self.replid = self._fresh()
        self.offset = 0
        self.replid2 = NO_REPLID
        self.replid2_offset = -1

    def _fresh(self) -> bytes:
        replid = self._new_replid()
        assert len(replid) == REPLID_LENGTH, replid
        return replid

    @property
    def second_repl_offset(self) -> int:
        """`second_repl_offset` of INFO: the first byte that replid2 does not share; -1 if none."""
        return to_wire(self.replid2_offset) if self.replid2_offset >= 0 else -1

    def continues(self, replid: bytes, offset: int) -> bool:
        """Tell whether a peer at (`replid`, `offset`) holds a prefix of this history.

        Args:
            replid: the id the peer names; its case does not matter.
            offset: bytes that the peer has applied.

        Returns:
            True where the peer's data is what this server had at that offset. Whether the bytes
            from there on are still at hand is for the backlog to say. O(1).
        """
        name = replid.lower()
        if name == self.replid:
            return True
        return name == self.replid2 and 0 <= offset <= self.replid2_offset

    def change(self) -> None:
        """Begin a history of our own that continues nobody's."""
        self.replid = self._fresh()
        self.replid2 = NO_REPLID
        self.replid2_offset = -1

    def shift(self) -> None:
        """Promotion: go on under a new id; replicas of the old one may follow up to here."""
        self.replid2 = self.replid
        self.replid2_offset = self.offset
        self.replid = self._fresh()

    def adopt(self, replid: bytes, offset: int) -> None:
        """Take over the master's history after its snapshot has been loaded.

        Args:
            replid: the id announced with +FULLRESYNC.
            offset: the offset announced with it.
        """
        assert len(replid) == REPLID_LENGTH and offset >= 0, (replid, offset)
        self.replid = replid
        self.offset = offset
        self.replid2 = NO_REPLID
        self.replid2_offset = -1

    def detach(self) -> None:
        """A snapshot of no known history has been loaded (SYNC): begin one of our own."""
        self.change()
        self.offset = 0

    def rename(self, replid: bytes) -> None:
        """+CONTINUE named another id: the same stream goes on under it.

        Args:
            replid: the id the master has now; ours stays valid up to here.
        """
        assert len(replid) == REPLID_LENGTH, replid
        self.replid2 = self.replid
        self.replid2_offset = self.offset
        self.replid = replid

    def restore_as_replica(self, replid: bytes, offset: int) -> None:
        """Go on where the RDB file stood; the first PSYNC asks for what came after.

        Args:
            replid: `repl-id` of the file.
            offset: `repl-offset` of the file.
        """
        assert len(replid) == REPLID_LENGTH and offset >= 0, (replid, offset)
        self.replid = replid
        self.offset = offset

    def restore_as_master(self, replid: bytes, offset: int) -> None:
        """Begin a new history that continues the one of the RDB file.

        A restarted master keeps its fresh id: writes after the file was made may be lost, so
        replicas may follow only up to the offset of the file.

        Args:
            replid: `repl-id` of the file.
            offset: `repl-offset` of the file.
        """
        assert len(replid) == REPLID_LENGTH and offset >= 0, (replid, offset)
        self.replid2 = replid
        self.replid2_offset = offset
        self.offset += offset
