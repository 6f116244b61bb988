"""What passed on a replication link, as lines that a reader of docs/PSYNC.md can follow.

A Recorder stands between a replica and its master and keeps the bytes of every connection by
direction, in the order in which they passed. `transcript` turns them into lines:

    R>M  PSYNC ? -1                  a command of the replica
    M>R  +FULLRESYNC <id> 0          a line of the master
    M>R  <snapshot>                  the bytes between the framing and its end
    M>R  *  SET key value            a command of the stream
    ---  the link breaks             between two connections

What differs from run to run is replaced by a name (<id>, <mark>, <port>); keepalives are left out,
and so is an ACK that repeats the one before. The requests that a replica sends in one go are shown
before their replies, which may be under way already when the second half of them is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvrepl.resp import StreamParser
from tests.interop.proxy import Direction, Proxy, _Link

ID = re.compile(rb"\b[0-9a-f]{40}\b")


class Recorder(Proxy):
    """A proxy that keeps what passes: for each connection a list of (direction, bytes)."""

    def __init__(self, target_port: int) -> None:
        self.passed: dict[_Link, list[tuple[Direction, bytes]]] = {}
        super().__init__(target_port)

    def _take(self, link: _Link, data: bytes, direction: Direction) -> tuple[bytes, float, bool]:
        taken = super()._take(link, data, direction)
        self.passed.setdefault(link, []).append((direction, taken[0]))
        return taken


class _FromMaster:
    """Reads what a master sends: lines, one snapshot at most, then the stream."""

    def __init__(self) -> None:
        self._buffer = b""
        self._mark = b""
        self._snapshot_bytes: int | None = None
        self._stream: StreamParser | None = None

    def read(self, data: bytes) -> Iterator[str]:
        if self._stream is not None:
            for argv, _ in self._stream.feed(data):
                yield "*  " + _shown(argv)
            return
        self._buffer += data
        while self._buffer:
            if self._snapshot_bytes is not None:
                yield from self._end_snapshot(self._snapshot_bytes)
                return
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                return
            self._buffer = rest
            if not line.strip():
                continue  # a keepalive
            yield _named(line.strip())
            if line.startswith(b"$EOF:"):
                self._mark, self._snapshot_bytes = line[5:45], -1
            elif line.startswith(b"$"):
                self._snapshot_bytes = int(line[1:])
            elif line.startswith(b"+CONTINUE"):
                yield from self._begin_stream()

    def _end_snapshot(self, size_bytes: int) -> Iterator[str]:
        end = self._buffer.find(self._mark) if size_bytes < 0 else size_bytes
        if end < 0 or end > len(self._buffer):
            return
        assert self._buffer.startswith(b"REDIS0")
        yield "<snapshot>"
        if self._mark:
            yield "<mark>"
        self._buffer = self._buffer[end + len(self._mark) :]
        yield from self._begin_stream()

    def _begin_stream(self) -> Iterator[str]:
        rest, self._buffer = self._buffer, b""
        self._stream = StreamParser(0, strict=True)
        yield from self.read(rest)


def _shown(argv: list[bytes]) -> str:
    return _named(b" ".join(argv))


def _named(text: bytes) -> str:
    if text.startswith(b"$EOF:"):
        return "$EOF:<mark>"
    if text.startswith(b"$"):
        return "$<length>"
    text = re.sub(rb"listening-port \d+", b"listening-port <port>", text)
    return ID.sub(b"<id>", text).decode()


def transcript(recorder: Recorder) -> list[str]:
    """Give the lines of everything that has passed, see above."""
    lines: list[str] = []
    for passed in recorder.passed.values():
        if lines:
            lines.append("---  the link breaks")
        lines += _handshake_in_order(list(_lines(passed)))
    return lines


def _lines(passed: list[tuple[Direction, bytes]]) -> Iterator[str]:
    requests, master = StreamParser(0), _FromMaster()
    last_ack = ""
    for direction, data in passed:
        if direction is Direction.DOWN:
            yield from (f"M>R  {line}" for line in master.read(data))
            continue
        for argv, _ in requests.feed(data):
            line = _shown(argv)
            if line != last_ack:
                yield f"R>M  {line}"
            if line.startswith("REPLCONF ACK"):
                last_ack = line


def _handshake_in_order(lines: list[str]) -> list[str]:
    asked = next(at for at, line in enumerate(lines) if "PSYNC" in line)
    handshake = lines[2:asked]  # after PING and its reply
    requests = [line for line in handshake if line.startswith("R>M")]
    replies = [line for line in handshake if line.startswith("M>R")]
    return [*lines[:2], *requests, *replies, *lines[asked:]]
