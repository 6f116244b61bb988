"""The snapshot that is on its way to us, from the reply that announces it to its load.

    announced   +FULLRESYNC, or SYNC was sent       which history the dataset will stand in
    begin       its first line has come             how it ends, how we take it in
    take        bytes come                          what belongs to it; its head is looked at
    begin_load  it is whole                         the figures change to the phase of the load

A link has one from the states RECEIVE_FRAMING to LOADING and none in others. It decides nothing:
what follows from it is for `ReplicaSide`.

Source: Redis 7.0, replication.c (readSyncBulkPayload).
"""

from __future__ import annotations

from kvrepl.replication.actions import BeginTransfer, Load
from kvrepl.replication.fullsync import FullSync, Phase
from kvrepl.replication.payload import Payload
from kvrepl.replication.preview import Preview


class Intake:
    """One snapshot that arrives.

    Args:
        announced: the id and offset that the dataset will have; None where the master named none,
            so that nothing can be resumed after it.
        sync: its figures.

    Attributes:
        payload: its bytes and their end; None before their first line.
        load: how it is taken in, once that is decided.
        link_lost: the link broke when every byte was here; the load is worth finishing.
    """

    __slots__ = ("_preview", "announced", "link_lost", "load", "payload", "sync")

    def __init__(self, announced: tuple[bytes, int] | None, sync: FullSync) -> None:
        self.announced = announced
        self.sync = sync
        self.payload: Payload | None = None
        self.load = Load.FROM_FILE
        self.link_lost = False
        self._preview = Preview()

    def begin(self, payload: Payload, load: Load, last: FullSync | None, now_ms: int) -> None:
        """Its first line has come.

        Args:
            payload: what that line says.
            load: how it is to be taken in.
            last: the sync before, by which the size of one that names none is guessed.
            now_ms: the present.
        """
        self.payload, self.load = payload, load
        self.sync.enter(Phase.TRANSFER, now_ms)
        self.sync.size_bytes = payload.size_bytes
        if payload.mark and last is not None:
            self.sync.expected_bytes = last.moved_bytes

    def transfer(self, replid: bytes) -> BeginTransfer:
        """Return what the shell is asked to get ready for.

        Args:
            replid: of our own history. Clients go on reading the old dataset beside one that
                continues it, and are answered -LOADING beside a stranger.
        """
        assert self.payload is not None
        continues = self.announced is not None and self.announced[0] == replid
        is_async = self.load is Load.SWAP and continues
        return BeginTransfer(self.payload.size_bytes, self.load, is_async)

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Take the next bytes; returns (bytes of the snapshot, bytes after it). O(len(data))."""
        assert self.payload is not None
        chunk, rest = self.payload.take(data)
        if chunk:
            self._preview.feed(chunk)
        self.sync.moved_bytes = self.payload.read_bytes
        self.sync.expected_bytes = self.sync.expected_bytes or self._preview.used_bytes
        return chunk, rest

    def begin_load(self, now_ms: int) -> None:
        """It is here whole, and wanted."""
        self.sync.enter(Phase.LOAD, now_ms)

    @property
    def is_whole(self) -> bool:
        """Whether every byte has come."""
        return self.payload is not None and self.payload.done

    @property
    def has_no_keys(self) -> bool:
        """Whether its head says that there is no key in it; to be asked when it is whole."""
        return self._preview.has_keys is False
