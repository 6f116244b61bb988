"""Requests in: bytes of a client, of a master or of an AOF -> commands (lists of bytes).

Two parsers share one decoder. RequestParser serves clients and has Redis's limits; StreamParser
serves a replication link or an AOF and says at which byte offset each command ended. Both take
their input in any pieces, and the pieces do not matter: any split gives the same commands, the same
offsets and the same error.

    request   = multibulk | inline
    multibulk = "*" count CR any  { "$" length CR any  <length bytes>  any any }
    inline    = line LF                     split at blanks, with quotes (kvrepl.resp.inline)

Redis does not look at the bytes shown as `any` (LF and CR LF in well-formed input), and neither
does this. A count <= 0 and an empty line are skipped. Lines end at a NUL as C strings do: a header
or inline line with a NUL before its end is never found complete.

States: at the boundary between requests (`_missing == 0`); inside a multibulk, at a length line
(`_missing > 0`, `_length < 0`); inside a bulk (`_length >= 0`, its bytes so far in `_bulk`).
Bytes of a line that is not complete wait in `_rest`, which is joined to the next piece and is
never longer than a line may be; a bulk grows in place; so a bulk of any size costs O(its bytes).

This file is the reference. `kvrepl._accel` holds the same classes with the loop compiled; what is
rare (inline requests, odd header lines, every refusal) it leaves to the functions at the end of
this file, and the tests hold the two equal.

Source: Redis 7.0 networking.c processInputBuffer, processMultibulkBuffer, processInlineBuffer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kvrepl.errors import ProtocolError
from kvrepl.numbers import INT64_MAX, parse_int
from kvrepl.resp.inline import split_inline

MAX_LINE_BYTES: Final = 64 * 1024
"""Longest inline request or header line (server.h PROTO_INLINE_MAX_SIZE)."""
MAX_ARGUMENTS: Final = (1 << 31) - 1
"""Largest multibulk count (INT_MAX since 7.0; 1,048,576 before)."""
UNAUTHENTICATED_ARGUMENTS: Final = 10
UNAUTHENTICATED_BULK_BYTES: Final = 16384
"""What a client may send before AUTH, so that strangers cannot fill the memory."""

_STAR: Final = 0x2A
_NO_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")
_COUNTS: Final = {b"*%d" % n: n for n in range(1, UNAUTHENTICATED_ARGUMENTS + 1)}
_LENGTHS: Final = {b"$%d" % n: n for n in range(1024)}
"""The usual header lines: one lookup instead of checks and a conversion. No limit refuses them."""


@dataclass(slots=True)
class Limits:
    """What a client may send; one object is shared by all connections of a server.

    Args:
        max_bulk_bytes: longest argument (proto-max-bulk-len, never below 1 MiB).
        max_query_buffer_bytes: most bytes that may wait for the rest of their argument
            (client-query-buffer-limit).
    """

    max_bulk_bytes: int = 512 * 1024 * 1024
    max_query_buffer_bytes: int = 1024 * 1024 * 1024


UNLIMITED: Final = Limits(INT64_MAX, INT64_MAX)
"""For a master's stream: what a master accepted, its replica must."""


class QueryBufferError(ProtocolError):
    """The client exceeded client-query-buffer-limit: it is closed without a reply."""


class Decoder:
    """The state machine behind both parsers; they document the attributes."""

    __slots__ = (
        "_argv",
        "_bulk",
        "_length",
        "_missing",
        "_position",
        "_rest",
        "authenticated",
        "deferred",
        "empty_lines",
        "error",
        "limits",
        "offset",
        "strict",
    )

    def __init__(self, limits: Limits, offset: int, strict: bool) -> None:
        self.limits = limits
        self.strict = strict
        self.authenticated = True
        self.deferred = False
        self.error: ProtocolError | None = None
        self.empty_lines = 0
        self.offset = offset
        self._position = offset  # of the first byte not yet decoded
        self._rest = b""
        self._argv: list[bytes] = []
        self._missing = 0
        self._length = -1
        self._bulk = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for the rest of their line or argument (`qbuf` of CLIENT LIST)."""
        return len(self._rest) + len(self._bulk)

    def _decode(self, data: bytes, requests: list[list[bytes]], ends: list[int] | None) -> None:
        """Append every request that data completes to requests, and its end offset to ends."""
        if self.error is not None:
            return
        self.deferred = False
        pos = 0
        if self._length >= 0:
            pos = self._continue_bulk(data, requests, ends)
            if pos < 0:
                return
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        end = len(data)
        base = self._position
        argv, missing = self._argv, self._missing
        while pos < end:
            if not missing:
                if data[pos] != _STAR:
                    after = take_line(self, data, pos, base, requests, ends)
                    if after < 0:
                        break
                    pos = after
                    continue
                line_end = data.find(b"\r", pos, pos + MAX_LINE_BYTES + 1)
                if line_end < 0 or line_end + 2 > end:
                    check_line(self, line_end, end - pos, "mbulk")
                    break
                missing = _COUNTS.get(data[pos:line_end], 0)
                if not missing:
                    count = read_count(self, data[pos:line_end], end - pos, bool(requests))
                    if count is None:
                        break
                    missing = max(count, 0)
                pos = line_end + 2
                argv = []
                if not missing:
                    self.offset = base + pos
                continue
            line_end = data.find(b"\r", pos, pos + MAX_LINE_BYTES + 1)
            if line_end < 0 or line_end + 2 > end:
                check_line(self, line_end, end - pos, "bulk")
                break
            length = _LENGTHS.get(data[pos:line_end])
            if length is None:
                length = read_length(self, data[pos:line_end], end - pos, bool(requests))
                if length is None:
                    break
            pos = line_end + 2
            if end - pos < length + 2:
                self._length = length
                self._bulk += data[pos:]
                self._position = base + pos
                self._argv, self._missing = argv, missing
                return
            argv.append(data[pos : pos + length])
            pos += length + 2
            missing -= 1
            if not missing:
                requests.append(argv)
                self.offset = base + pos
                if ends is not None:
                    ends.append(base + pos)
        self._argv, self._missing = argv if missing else [], missing
        self._position = base + pos
        if self.error is None:
            self._rest = data[pos:]

    def _continue_bulk(
        self, data: bytes, requests: list[list[bytes]], ends: list[int] | None
    ) -> int:
        """Complete the argument that an earlier piece began.

        Returns:
            The position in data after it, with `_position` set to the offset of data[0]; -1
            where data does not reach its end.
        """
        length, bulk = self._length, self._bulk
        have = len(bulk)
        if have + len(data) < length + 2:
            bulk += data
            return -1
        bulk += data[: max(length - have, 0)]
        with memoryview(bulk) as view:
            self._argv.append(bytes(view[:length]))
        pos = length + 2 - have
        self._bulk = bytearray()
        self._length = -1
        self._position += have
        self._missing -= 1
        if not self._missing:
            requests.append(self._argv)
            self.offset = self._position + pos
            if ends is not None:
                ends.append(self.offset)
        return pos


class RequestParser(Decoder):
    """Decodes what a client sends.

    Attributes:
        authenticated: False while the client must still AUTH; the connection sets it.
        deferred: the last feed stopped before a request that only an authenticated client may
            send. Run the requests it returned (one may be AUTH), then feed(b"").
        error: what was wrong, once the bytes are not the protocol. Nothing is decoded after it.
            Run the requests already returned, send the error (a QueryBufferError: nothing),
            close.
        limits: the shared Limits.
        offset: bytes of all complete requests so far.
        empty_lines: empty inline lines seen; a replica sends them to show that it lives.
        pending_bytes: bytes received that wait for the rest of their line or argument.

    Args:
        limits: the shared Limits; Redis's defaults if None.
    """

    __slots__ = ()

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits if limits is not None else Limits(), 0, False)

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take bytes; return the requests that they complete.

        Args:
            data: bytes as they came, in any pieces; kept by nobody after the call.

        Returns:
            The requests, each with one argument at least (an argument may be empty). O(len(data)).
        """
        requests: list[list[bytes]] = []
        self._decode(data, requests, None)
        if (self._rest or self._bulk) and check_query_buffer(self):
            self._rest, self._bulk = b"", bytearray()
        return requests


class StreamParser(Decoder):
    """Decodes a command stream (a replication link, an AOF) and keeps its byte offsets.

    There is no limit on an argument (UNLIMITED).

    Attributes:
        error: as in RequestParser; a master's link is closed and not resumed after it.
        offset: the stream offset after the last byte that is part of a complete command or is
            skipped (an empty line, a `*0`): where a replica stands once it applied everything.
        empty_lines, pending_bytes: as in RequestParser.

    Args:
        offset: the stream offset of the first byte that will be fed.
        strict: inline commands, which a master never sends, are an error; an empty line is not.
    """

    __slots__ = ()

    def __init__(self, offset: int = 0, strict: bool = True) -> None:
        super().__init__(UNLIMITED, offset, strict)

    def feed(self, data: bytes) -> list[tuple[list[bytes], int]]:
        """Take bytes; return each command that they complete with the offset where it ends.

        Args:
            data: bytes as they came, in any pieces.

        Returns:
            (argv, end offset) pairs in order. O(len(data)).
        """
        requests: list[list[bytes]] = []
        ends: list[int] = []
        self._decode(data, requests, ends)
        return list(zip(requests, ends, strict=True))


_COUNT: Final = re.compile(rb"\*([1-9]\d{0,9})\r\n")
_LENGTH: Final = re.compile(rb"\$(0|[1-9]\d{0,9})\r\n")


def skim_commands(
    data: bytes, position: int, stops: frozenset[bytes], names: dict[bytes, int]
) -> int:
    """Step over commands exactly as encode_command writes them, and count their names.

    Args:
        data: the bytes at hand.
        position: where a command begins in them.
        stops: names in upper case.
        names: how often each name was met, by its spelling; counted on.

    Returns:
        The position of the first command that is not whole, is written in any other way, or bears
        one of the names in `stops`. O(len(data)), without making the arguments.
    """
    while count := _COUNT.match(data, position):
        name: bytes | None = None
        pos = count.end()
        for _ in range(int(count[1])):
            length = _LENGTH.match(data, pos)
            if length is None:
                return position
            pos = length.end() + int(length[1]) + 2
            if data[pos - 2 : pos] != b"\r\n":
                return position
            if name is None:
                name = data[length.end() : pos - 2]
        assert name is not None
        if name not in names and name.upper() in stops:
            return position
        names[name] = names.get(name, 0) + 1
        position = pos
    return position


def take_line(
    parser: Decoder,
    data: bytes,
    pos: int,
    base: int,
    requests: list[list[bytes]],
    ends: list[int] | None,
) -> int:
    """Decode the inline request at pos.

    Args:
        parser: whose state it is.
        data: the bytes at hand; data[0] is at stream offset base.
        pos: where the line begins.
        base: see data.
        requests: gets the request, if there is one.
        ends: gets its end offset, if not None.

    Returns:
        The position after the line; -1 to stop there, incomplete or refused.
    """
    line_end = data.find(b"\n", pos, pos + MAX_LINE_BYTES + 1)
    if line_end < 0 or data.find(b"\0", pos, line_end) >= 0:
        if len(data) - pos > MAX_LINE_BYTES:
            _fail(parser, "too big inline request")
        return -1
    line = data[pos:line_end]
    if line.endswith(b"\r"):
        line = line[:-1]
    argv = split_inline(line)
    if argv is None:
        _fail(parser, "unbalanced quotes in request")
        return -1
    if line and parser.strict:
        parser.error = ProtocolError("Master using the inline protocol. Desync?")
        return -1
    parser.offset = base + line_end + 1
    if not line:
        parser.empty_lines += 1
    if argv:
        requests.append(argv)
        if ends is not None:
            ends.append(parser.offset)
    return line_end + 1


def check_line(parser: Decoder, line_end: int, available_bytes: int, kind: str) -> None:
    """Refuse a header line that has no end within the limit; else more bytes may bring it.

    Args:
        parser: whose state it is.
        line_end: where its CR was found, -1 where nowhere.
        available_bytes: from the line's first byte to the last one received.
        kind: "mbulk" or "bulk".
    """
    if line_end < 0 and available_bytes > MAX_LINE_BYTES:
        _fail(parser, f"too big {kind} count string")


def read_count(
    parser: Decoder, header: bytes, available_bytes: int, any_before: bool
) -> int | None:
    """Judge a `*` line that is not of the plainest kind.

    Args:
        parser: whose state it is.
        header: the line without its end.
        available_bytes: from the line's first byte to the last one received.
        any_before: requests were decoded before it in this feed.

    Returns:
        The count, or None to stop at the line (refused, deferred or never complete).
    """
    count = parse_int(header[1:])
    if count is None or count > MAX_ARGUMENTS:
        _refuse_header(parser, header, available_bytes, "mbulk", "invalid multibulk length")
        return None
    if count > UNAUTHENTICATED_ARGUMENTS and not parser.authenticated:
        _refuse_stranger(parser, any_before, "unauthenticated multibulk length")
        return None
    return count


def read_length(
    parser: Decoder, header: bytes, available_bytes: int, any_before: bool
) -> int | None:
    """Judge a `$` line that is not of the plainest kind; as read_count."""
    if header[:1] != b"$":
        got = (header[:1] or b"\r").translate(_NO_LINE_ENDS).decode("latin-1")
        _refuse_header(parser, header, available_bytes, "bulk", f"expected '$', got '{got}'")
        return None
    length = parse_int(header[1:])
    if length is None or not 0 <= length <= parser.limits.max_bulk_bytes:
        _refuse_header(parser, header, available_bytes, "bulk", "invalid bulk length")
        return None
    if length > UNAUTHENTICATED_BULK_BYTES and not parser.authenticated:
        _refuse_stranger(parser, any_before, "unauthenticated bulk length")
        return None
    return length


def check_query_buffer(parser: Decoder) -> bool:
    """Refuse what waits for its rest beyond the limit; return whether it was refused."""
    if parser.pending_bytes <= parser.limits.max_query_buffer_bytes:
        return False
    parser.error = QueryBufferError("client-query-buffer-limit exceeded")
    return True


def _refuse_header(
    parser: Decoder, header: bytes, available_bytes: int, kind: str, what: str
) -> None:
    """Fail for a malformed header line, unless a NUL hides its end: then it can only be long."""
    if b"\0" in header:
        check_line(parser, -1, available_bytes, kind)
    else:
        _fail(parser, what)


def _refuse_stranger(parser: Decoder, any_before: bool, what: str) -> None:
    """Fail, but only once the requests before, of which one may be an AUTH, have run."""
    if any_before:
        parser.deferred = True
    else:
        _fail(parser, what)


def _fail(parser: Decoder, what: str) -> None:
    parser.error = ProtocolError(f"Protocol error: {what}")
