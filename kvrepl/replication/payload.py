"""The snapshot on the wire: the line before it, its bytes, its end.

    disk         $<length>CRLF  <length bytes>
    diskless     $EOF:<40-byte mark>CRLF  <bytes>  <the mark again>

Before either come any number of empty lines, which only say that the master lives. Nothing
follows a diskless snapshot until the replica has acknowledged it.

The mark is searched wherever it may stand, across any cut: the last 39 bytes are held
until more have come, so that the same bytes give the same snapshot however they are cut.
(Redis compares the last 40 bytes of each read instead, and so depends on the cut.)

Source: Redis 7.0, replication.c (readSyncBulkPayload), rdb.c (rdbSaveRioWithEOFMark).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvrepl.errors import ProtocolError
from kvrepl.numbers import parse_int
from kvrepl.replication.actions import Load
from kvrepl.replication.handshake import shown
from kvrepl.replication.wire import EOF_MARK_LENGTH

_LOADS: Final = {"swapdb": Load.SWAP, "on-empty-db": Load.IN_PLACE}


def choose_load(setting: str, dataset_is_empty: Callable[[], bool]) -> Load:
    """Decide how a snapshot is taken in.

    Args:
        setting: repl-diskless-load.
        dataset_is_empty: asked where that matters.
    """
    load = _LOADS.get(setting, Load.FROM_FILE)
    if load is Load.IN_PLACE and not dataset_is_empty():
        return Load.FROM_FILE
    return load


class FramingError(ProtocolError):
    """The line before the snapshot announces none."""


class Payload:
    """One snapshot that arrives.

    Args:
        size_bytes: its length, -1 where a mark ends it.
        mark: the mark; empty where the length is known.

    Attributes:
        read_bytes: how much of it has come.
        done: whether it is whole.
    """

    __slots__ = ("_tail", "done", "mark", "read_bytes", "size_bytes")

    def __init__(self, size_bytes: int, mark: bytes) -> None:
        self.size_bytes = size_bytes
        self.mark = mark
        self.read_bytes = 0
        self.done = size_bytes == 0
        self._tail = b""

    @classmethod
    def announced_by(cls, line: bytes) -> Payload:
        """Read the line before a snapshot.

        Args:
            line: not empty, without its line end.

        Raises:
            FramingError: it announces no snapshot; the text is for the log.
        """
        if line.startswith(b"-"):
            raise FramingError(f"MASTER aborted replication with an error: {shown(line[1:])}")
        if not line.startswith(b"$"):
            raise FramingError(
                "Bad protocol from MASTER, the first byte is not '$' (we received "
                f"'{shown(line)}'), are you sure the host and port are right?"
            )
        if line.startswith(b"$EOF:") and len(line) >= len(b"$EOF:") + EOF_MARK_LENGTH:
            return cls(-1, line[5 : 5 + EOF_MARK_LENGTH])
        size_bytes = parse_int(line[1:])
        if size_bytes is None or size_bytes < 0:
            raise FramingError(f"Bad length of the snapshot from MASTER: '{shown(line)}'")
        return cls(size_bytes, b"")

    def told(self, load: Load) -> str:
        """Return what the log says of a snapshot that begins to arrive. O(1)."""
        what = "streamed RDB from master with EOF" if self.mark else ""
        what = what or f"{self.size_bytes} bytes from master"
        where = "to disk" if load is Load.FROM_FILE else "to parser"
        return f"MASTER <-> REPLICA sync: receiving {what} {where}"

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Take the next bytes.

        Args:
            data: as they came.

        Returns:
            (bytes of the snapshot, bytes after its end). The first may be empty; the second is
            not while `done` is unset. O(len(data)).
        """
        if self.mark:
            return self._take_marked(data)
        left = self.size_bytes - self.read_bytes
        self.done = len(data) >= left
        self.read_bytes += min(len(data), left)
        if len(data) <= left:
            return data, b""
        return data[:left], data[left:]

    def _take_marked(self, data: bytes) -> tuple[bytes, bytes]:
        data = self._tail + data
        end = data.find(self.mark)
        if end >= 0:
            self.done = True
            self._tail = b""
            self.read_bytes += end
            return data[:end], data[end + EOF_MARK_LENGTH :]
        sure = max(0, len(data) - (EOF_MARK_LENGTH - 1))
        self._tail = data[sure:]
        self.read_bytes += sure
        return data[:sure], b""
