"""lz4 on the link between two kvrepl servers (repl-compression lz4).

A replica that wants it says so (`REPLCONF capa lz4`, which every other master ignores), and a
master that wants it too says `lz4` at the end of its answer to PSYNC. What the master sends after
that line is LZ4 frames (lz4_Frame_format.md 1.6), one after another: snapshot, keepalives and
stream alike. What the replica sends stays as it is. Offsets count what is inside the frames, so
that backlog, PSYNC and chains know nothing of them.

    frame    04 22 4D 18   magic
             64            version 1, independent blocks, checksum of the content
             BD HC         the largest block (64 or 256 KiB), and a checksum of these two
             u32           size of the one block; its high bit says that it is stored, not packed
             ...           the block
             00 00 00 00   no further block
             u32           xxHash-32 of the content

Each write to a socket becomes a frame of its own, or several of at most 256 KiB: nothing waits for
more to come, no state passes from frame to frame, and the same bytes for several replicas are
compressed once. A frame costs 19 bytes and 5 us; the stream of a busy turn shrinks to a third.

A frame that is not of this form, or fails its checksum, ends the link, which is then resumed like
any other: nothing of the read in which it came is used.

Source: ours.
"""

from __future__ import annotations

from typing import Final

import lz4.frame

from kvrepl.errors import ProtocolError

LZ4: Final = "lz4"
"""The value of repl-compression, and the word of the protocol."""

MAX_CONTENT_BYTES: Final = 256 * 1024
"""What one frame holds at most; a larger block is refused."""

_MAGIC: Final = b"\x04\x22\x4d\x18\x64"
_HEADER_BYTES: Final = 7
_SIZE_BYTES: Final = 4
_TRAILER_BYTES: Final = 8
_STORED: Final = 1 << 31


class CorruptFrame(ProtocolError):
    """What came is no frame of ours, or was changed on its way; the text is for the log."""


def compress(data: bytes | memoryview) -> bytes:
    """Return frames with `data`, not empty, as their content. O(len(data))."""
    if len(data) <= MAX_CONTENT_BYTES:
        return _frame(data)
    view = memoryview(data)
    cuts = range(0, len(view), MAX_CONTENT_BYTES)
    return b"".join(_frame(view[at : at + MAX_CONTENT_BYTES]) for at in cuts)


def _frame(data: bytes | memoryview) -> bytes:
    frame: bytes = lz4.frame.compress(
        data,
        block_size=lz4.frame.BLOCKSIZE_MAX256KB,
        block_linked=False,
        content_checksum=True,
        store_size=False,
    )
    return frame


class Traffic:
    """What has passed over a compressed link.

    Attributes:
        raw_bytes: without compression, which is what offsets and snapshots count.
        wire_bytes: as it was sent.
        began_ms: since when.
    """

    __slots__ = ("began_ms", "raw_bytes", "wire_bytes")

    def __init__(self, now_ms: int) -> None:
        self.raw_bytes = 0
        self.wire_bytes = 0
        self.began_ms = now_ms

    def add(self, raw_bytes: int, wire_bytes: int) -> None:
        """So much more has passed. O(1)."""
        self.raw_bytes += raw_bytes
        self.wire_bytes += wire_bytes


class Decompressor:
    """The frames of one link, fed in any cut.

    Args:
        now_ms: when the link began to be compressed.

    Attributes:
        traffic: what has come, whole frames alone.
    """

    __slots__ = ("_rest", "_since_ms", "traffic")

    def __init__(self, now_ms: int) -> None:
        self.traffic = Traffic(now_ms)
        self._rest = b""
        self._since_ms = now_ms

    def waiting_ms(self, now_ms: int) -> int:
        """How long a frame has been incomplete; 0 where none is. O(1).

        A size that was changed on its way looks like a frame of which the rest is to come.
        """
        return now_ms - self._since_ms if self._rest else 0

    def feed(self, data: bytes, now_ms: int) -> bytes:
        """Take the next bytes; return the content of the frames that they complete.

        Raises:
            CorruptFrame: see there. Nothing more is to be fed then.

        Cost: O(len(data) + what is returned), which is at most 255 times as much.
        """
        data = self._rest + data
        at, contents = 0, []
        while (end := _end_of_frame(data, at)) is not None:
            try:
                content: bytes = lz4.frame.decompress(data[at:end])
            except RuntimeError as error:
                raise CorruptFrame(f"lz4 frame does not decompress: {error}") from error
            self.traffic.add(len(content), end - at)
            contents.append(content)
            at = end
        if at or not self._rest:
            self._since_ms = now_ms
        self._rest = data[at:]
        return contents[0] if len(contents) == 1 else b"".join(contents)


def _end_of_frame(data: bytes, at: int) -> int | None:
    """Find where the frame at `at` ends; None where it is not whole yet. O(1).

    Raises:
        CorruptFrame: there is none.
    """
    head = data[at : at + len(_MAGIC)]
    if not _MAGIC.startswith(head):
        raise CorruptFrame(f"lz4 frame expected, and {head.hex(' ')} came")
    block = at + _HEADER_BYTES
    if len(data) < block + _SIZE_BYTES:
        return None
    size = int.from_bytes(data[block : block + _SIZE_BYTES], "little") & ~_STORED
    if not 0 < size <= MAX_CONTENT_BYTES:
        raise CorruptFrame(f"lz4 frame with a block of {size} bytes")
    end = block + _SIZE_BYTES + size + _TRAILER_BYTES
    return end if end <= len(data) else None
