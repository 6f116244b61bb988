"""The append-only file as a sequence of commands: what is whole, and where it stops being so.

Format, in the words of its grammar:

    aof        = [rdb] *(command | annotation)
    command    = "*" count CRLF 1*("$" length CRLF bytes CRLF)
    annotation = "#" text CRLF                 ; "#TS:1700000000": written in that second or later
                                               ; "#KVREPL:...": see below

An RDB at the beginning (the first five bytes are "REDIS") is the caller's to read: it hands
what follows, and the offset at which that starts, to `AofReplay`.

`AofReplay` is a push decoder. It gives back commands in the order of the log, and a transaction
only when its EXEC is there: MULTI, EXEC and DISCARD are consumed here, and the commands between
come out together, so that nobody downstream can ever apply half of one.

How a file ends (`AofEnd.kind`):

    WHOLE             after a command, or an annotation
    SHORT_READ        inside a command: the process or the machine died while writing it
    OPEN_TRANSACTION  after a command, but a MULTI has no EXEC
    BAD_FORMAT        something that a cut alone cannot explain

`valid_up_to_bytes` is the end of the last whole command outside a transaction: what the file is
cut to when a short tail is forgiven. BAD_FORMAT is never forgiven.

A position, `#KVREPL:replid:db:offset` or, where the first two are those of the position before it
in the file, `#KVREPL:offset`, says where the replication stream stood when the dataset was what the
log up to here makes of it. It counts as the very last item of a log only: whatever stands after it
was written by a server that had no stream, or by Redis, which skips it and writes none.

Runs of whole commands are decoded by the codec of the replication links (kvrepl.resp), which may
be compiled; what it does not know (annotations) or would wait for (the end of the file) is decoded
here, one item at a time. As in Redis the bytes after an argument are not looked at. Unlike in
Redis, a length such as `$3x` is not read as 3, an empty command (`*0`) is skipped, and an
annotation without its end is a SHORT_READ and cut off: Redis accepts it and then glues the next
command to it. `AofCount`, for tools, walks in the same way and only counts.

Source: aof.c loadSingleAppendOnlyFile, genAofTimestampAnnotationIfNeeded.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum
from typing import Final, NamedTuple

from kvrepl.errors import AofError
from kvrepl.replication.actions import SaveInfo
from kvrepl.resp import StreamParser, skim_commands

RDB_MAGIC: Final = b"REDIS"
"""What a file begins with whose first part is an RDB."""

MAX_ANNOTATION_BYTES: Final = 1023
"""Longest annotation, its end included (AOF_ANNOTATION_LINE_MAX_LEN, a byte of which is a NUL)."""

MAX_NUMBER_BYTES: Final = 19
"""Longest count or length: a 64-bit number's digits."""

Command = tuple[list[bytes], int]
"""A command and the offset of the first byte after it."""

_TRANSACTION_WORDS: Final = (b"MULTI", b"EXEC", b"DISCARD")
_TRANSACTION_NAMES: Final = frozenset(_TRANSACTION_WORDS)
_TRANSACTION_LENGTHS: Final = frozenset(map(len, _TRANSACTION_WORDS))
"""No other name of another length needs a second look."""

_STAR, _DOLLAR, _HASH, _LF = b"*$#\n"
_NUMBER: Final = re.compile(rb"-?\d{0,19}")
_TIMESTAMP: Final = re.compile(rb"#TS:(\d{1,18})\r?\Z")
_POSITION_MARK: Final = b"#KVREPL:"
_POSITION: Final = re.compile(rb"#KVREPL:(?:([0-9a-f]{40}):(\d{1,9}):)?(\d{1,18})\r?\Z")

_NO_COMMANDS: Final = (b"*0", b"*-")
_RUN_ENDS: Final = (b"\n#", *(b"\n" + mark for mark in _NO_COMMANDS))
"""Annotations, and arrays of no arguments, which are skipped on a link and refused in a log."""

_RUN_BYTES: Final = 64 * 1024
"""How much is decoded in one run, so that a file with many annotations is not copied for each."""


class EndKind(Enum):
    """How a file ended."""

    WHOLE = "whole"
    SHORT_READ = "short read"
    OPEN_TRANSACTION = "open transaction"
    BAD_FORMAT = "bad format"


class AofEnd(NamedTuple):
    """What was found at the end of a file, or at the byte where reading had to stop.

    Attributes:
        kind: how it ended.
        valid_up_to_bytes: the end of the last command that counts.
        offset: where the problem is, or the size of the file if there is none.
        reason: what was expected there, "" if nothing is wrong.
    """

    kind: EndKind
    valid_up_to_bytes: int
    offset: int
    reason: str = ""

    def error(self, name: str) -> AofError:
        """The problem as Redis words it in its log, before it exits.

        Args:
            name: the file's name without its folder.
        """
        if self.kind is EndKind.BAD_FORMAT:
            text = (
                f"Bad file format reading the append only file {name}: make a backup of your AOF"
                " file, then use ./redis-check-aof --fix <filename.manifest>"
            )
        else:
            text = (
                f"Unexpected end of file reading the append only file {name}. You can: 1) Make a"
                " backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>."
                " 2) Alternatively you can set the 'aof-load-truncated' configuration option to"
                " yes and restart the server."
            )
        return AofError(text, path=name, offset=self.offset)


def unknown_command(command: bytes, name: str, offset: int) -> AofError:
    """The error for a command that this server does not have; always fatal.

    Args:
        command: its name as it stands in the file.
        name: the file's name without its folder.
        offset: the end of the command.
    """
    text = command.decode("utf-8", "backslashreplace")
    return AofError(
        f"Unknown command '{text}' reading the append only file {name}", path=name, offset=offset
    )


class AofReplay:
    """Decodes one file, fed in pieces of any size.

    Args:
        offset: where in the file the first fed byte stands (after an RDB preamble).
        stop_after_s: give back nothing that was written later than this Unix second; needs a
            file with timestamps. For restoring to a moment.

    Attributes:
        offset: the end of the last whole command or annotation, inside a transaction or not.
        valid_up_to_bytes: the same, but never inside a transaction.
        timestamp_s: the last timestamp annotation, None before the first.
        stopped: a timestamp above stop_after_s was met; everything after it is ignored.

    Cost: O(bytes), whatever the pieces; memory is the unfinished command and the open
    transaction.
    """

    __slots__ = (
        "_argv",
        "_bad",
        "_careful",
        "_missing",
        "_need_bytes",
        "_pieces",
        "_pieces_bytes",
        "_pieces_offset",
        "_position_end",
        "_position_line",
        "_position_named",
        "_queue",
        "_stop_after_s",
        "_strict",
        "offset",
        "stopped",
        "timestamp_s",
        "valid_up_to_bytes",
    )

    def __init__(self, offset: int = 0, *, stop_after_s: int | None = None) -> None:
        self.offset = offset
        self.valid_up_to_bytes = offset
        self.timestamp_s: int | None = None
        self.stopped = False
        self._stop_after_s = stop_after_s
        self._queue: list[Command] | None = None  # the open transaction
        self._bad: AofEnd | None = None
        self._careful = False  # no more runs
        self._strict = False  # whether every CR LF is looked at; see AofCount
        # The unfinished command: its arguments so far, and how many are to come.
        self._argv: list[bytes] = []
        self._missing = 0
        # Bytes not consumed yet, the offset of the first, and how many are needed to go on: a
        # value of 500 MB fed in small pieces is joined once, not once a piece.
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._pieces_offset = offset
        self._need_bytes = 0
        self._position_named = b""  # the last one that names an id and a database
        self._position_line = b""  # the last one
        self._position_end = -1

    @property
    def position(self) -> SaveInfo | None:
        """Where the stream stood at the end of what was fed, None if that is not known. O(1)."""
        if self._position_end != self.offset:
            return None
        last = _POSITION.match(self._position_line)
        named = _POSITION.match(self._position_named)
        if last is None or named is None or named[1] is None:
            return None
        return SaveInfo(int(named[2]), named[1], int(last[3]))

    def feed(self, data: bytes) -> list[Command]:
        """Take the next piece of the file.

        Returns:
            The commands that it completed. After a byte that is no AOF: nothing any more;
            `finish` says why.
        """
        if self._bad is not None or self.stopped or not data:
            return []
        self._pieces.append(data)
        self._pieces_bytes += len(data)
        if self._pieces_bytes < self._need_bytes:
            return []
        if len(self._pieces) > 1:
            data = b"".join(self._pieces)
        out: list[Command] = []
        position = 0
        while self._bad is None and not self.stopped and position < len(data):
            before = position
            if not self._missing and not self._careful and data[position] == _STAR:
                position = self._decode_many(data, position, out)
            if position < len(data):
                position = self._decode_one(data, position, out)
            if position == before:
                break
        rest = data[position:]
        self._pieces = [rest] if rest else []
        self._pieces_bytes = len(rest)
        self._pieces_offset += position
        return out

    def finish(self) -> AofEnd:
        """Say how the file ended. More may be fed afterwards (a file that is being followed)."""
        if self._bad is not None:
            return self._bad
        valid = self.valid_up_to_bytes
        end = self._pieces_offset + self._pieces_bytes
        if self.stopped:
            return AofEnd(EndKind.WHOLE, valid, valid)
        if self._pieces_bytes or self._missing:
            return AofEnd(EndKind.SHORT_READ, valid, end, "the rest of a command")
        if self._queue is not None:
            return AofEnd(EndKind.OPEN_TRANSACTION, valid, end, "EXEC")
        return AofEnd(EndKind.WHOLE, valid, end)

    def _decode_many(self, data: bytes, position: int, out: list[Command]) -> int:
        """Decode the run of whole commands at `position`; returns where it ends.

        The run ends at an annotation, at a command that is not whole, and at anything that the
        codec of the links would see differently from a log: all that is left to _decode_one.

        hot: the load of a log goes through here, once a command.
        """
        start = self._pieces_offset
        limit = position + _RUN_BYTES
        if data.startswith(_NO_COMMANDS, position):
            return position
        for mark in _RUN_ENDS:  # inside a value they make a shorter run
            at = data.find(mark, position, limit)
            if at >= 0:
                limit = at + 1
        parser = StreamParser(start + position)
        run = parser.feed(data[position:limit])
        if parser.empty_lines:
            # Skipped on a link, bad format in a log: it will be met, and refused, one by one.
            self._careful = True
            return position
        return self._take(run, parser.offset - start, out)

    def _take(self, run: list[Command], position: int, out: list[Command]) -> int:
        """Hand out a run of commands that ends at `position`, which is returned."""
        if self._queue is None:
            number = len(run)
            for index, command in enumerate(run):
                name = command[0][0]
                if len(name) in _TRANSACTION_LENGTHS and name.upper() in _TRANSACTION_WORDS:
                    number = index
                    break
                out.append(command)
            if number:
                self.offset = self.valid_up_to_bytes = run[number - 1][1]
                run = run[number:]
        for argv, end in run:
            self._complete(argv, end, out)
        return position

    def _decode_one(self, data: bytes, position: int, out: list[Command]) -> int:
        """Decode up to the end of one command or annotation; returns how far that went."""
        start = self._pieces_offset
        self._need_bytes = 0
        if not self._missing:
            if data[position] == _HASH:
                return self._annotation(data, position)
            header = self._header(data, position, _STAR, "a command")
            if header is None:
                return position
            count, begin = header
            if count < 1:
                self._fail(start + position, "a command")
                return position
            position = begin
            self._argv = []
            self._missing = count
        while self._missing:
            header = self._header(data, position, _DOLLAR, "an argument")
            if header is None:
                break
            length, begin = header
            if length < 0:
                self._fail(start + position, "a length")
                break
            end = begin + length
            if end + 2 > len(data):
                self._need_bytes = end + 2 - position
                break
            if self._strict and data[end : end + 2] != b"\r\n":
                self._fail(start + end, "CR LF after an argument")
                break
            self._argv.append(data[begin:end])
            self._missing -= 1
            position = end + 2
            if not self._missing:
                self._complete(self._argv, start + position, out)
        return position

    def _header(
        self, data: bytes, position: int, mark: int, expected: str
    ) -> tuple[int, int] | None:
        """Read the number after a mark, and say where what follows it begins.

        None if it is not whole, or not a header: a wrong byte is refused as soon as it is seen,
        so that it can never be taken for the short end of a file.
        """
        if position == len(data):
            return None
        limit = position + MAX_NUMBER_BYTES + 3  # the mark, a sign, and one byte too many
        cr = data.find(b"\r", position, limit)
        digits = data[position + 1 : cr if cr >= 0 else limit]
        if data[position] != mark or not _NUMBER.fullmatch(digits):
            self._fail(self._pieces_offset + position, expected)
            return None
        if cr < 0 or cr + 2 > len(data):
            return None
        if not digits or digits == b"-":
            self._fail(self._pieces_offset + position, expected)
            return None
        if self._strict and data[cr + 1] != _LF:
            self._fail(self._pieces_offset + cr, "CR LF after a number")
            return None
        return int(digits), cr + 2

    def _annotation(self, data: bytes, position: int) -> int:
        """Take an annotation; returns where it ends, or `position` if reading ends with it."""
        lf = data.find(b"\n", position, position + MAX_ANNOTATION_BYTES)
        if lf < 0:
            if len(data) - position >= MAX_ANNOTATION_BYTES:
                self._fail(self._pieces_offset + position, "the end of an annotation")
            return position
        if data.startswith(_POSITION_MARK, position):
            # hot: a log may have one behind each command; only the last is ever read.
            self._position_line = data[position:lf]
            if self._position_line.count(b":") > 1:
                self._position_named = self._position_line
            self._position_end = self.offset = self._pieces_offset + lf + 1
            return lf + 1
        match = _TIMESTAMP.match(data, position, lf)
        if match:  # any other text is a comment like any other
            seconds = int(match[1])
            if self._stop_after_s is not None and seconds > self._stop_after_s:
                self.stopped = True
                return position
            self.timestamp_s = seconds
        self.offset = self._pieces_offset + lf + 1
        return lf + 1

    def _complete(self, argv: list[bytes], end: int, out: list[Command]) -> None:
        """A command is whole: hand it out, or keep it until its transaction is."""
        self.offset = end
        name = argv[0]
        queue = self._queue
        if len(name) in _TRANSACTION_LENGTHS:
            match name.upper():
                case b"MULTI":
                    # One inside another is an error without effect, as is a stray EXEC below.
                    if queue is None:
                        self._queue = []
                    return
                case b"EXEC" | b"DISCARD" as verb:
                    if queue is not None and verb == b"EXEC":
                        out.extend(queue)
                    self._queue = None
                    self.valid_up_to_bytes = end
                    return
        if queue is not None:
            queue.append((argv, end))
            return
        out.append((argv, end))
        self.valid_up_to_bytes = end

    def _fail(self, offset: int, expected: str) -> None:
        self._bad = AofEnd(EndKind.BAD_FORMAT, self.valid_up_to_bytes, offset, expected)


class AofCount(AofReplay):
    """Walks through a file as AofReplay does, and counts its commands instead of making them.

    `feed` gives nothing back. Only what is not written as servers write it is decoded.

    Args:
        offset, stop_after_s: see AofReplay.
        strict: find BAD_FORMAT where a number or an argument does not end in CR LF.

    Attributes:
        first_s: the first timestamp annotation, None before it.
        undated: how many commands stand before it.

    Commands in a transaction count when its EXEC is there, MULTI and EXEC do not.
    """

    __slots__ = ("_inside", "_names", "_undated", "first_s")

    def __init__(
        self, offset: int = 0, *, stop_after_s: int | None = None, strict: bool = False
    ) -> None:
        super().__init__(offset, stop_after_s=stop_after_s)
        self.first_s: int | None = None
        self._strict = strict
        self._names: Counter[bytes] = Counter()
        self._inside: Counter[bytes] = Counter()  # of the open transaction
        self._undated = 0

    @property
    def commands(self) -> int:
        """How many there are so far."""
        return self._names.total()

    @property
    def undated(self) -> int:
        """How many stand before the first timestamp."""
        return self.commands if self.first_s is None else self._undated

    def names(self) -> Counter[bytes]:
        """How often each command occurs, by its name in upper case."""
        names: Counter[bytes] = Counter()
        for name, count in self._names.items():
            names[name.upper()] += count
        return names

    def _decode_many(self, data: bytes, position: int, out: list[Command]) -> int:
        is_open = self._queue is not None
        names = self._inside if is_open else self._names
        after = skim_commands(data, position, _TRANSACTION_NAMES, names)
        if after > position:
            self.offset = self._pieces_offset + after
            if not is_open:
                self.valid_up_to_bytes = self.offset
        return after

    def _annotation(self, data: bytes, position: int) -> int:
        after = super()._annotation(data, position)
        if self.first_s is None and self.timestamp_s is not None:
            self.first_s, self._undated = self.timestamp_s, self.commands
        return after

    def _complete(self, argv: list[bytes], end: int, out: list[Command]) -> None:
        was_open = self._queue is not None
        complete: list[Command] = []
        super()._complete(argv, end, complete)
        self._names.update(command[0] for command, _ in complete)
        if was_open and self._queue is None:
            if argv[0].upper() == b"EXEC":
                self._names.update(self._inside)
            self._inside.clear()


def timestamp(now_s: int) -> bytes:
    """The annotation for a Unix second. Source: genAofTimestampAnnotationIfNeeded."""
    return b"#TS:%d\r\n" % now_s


def position_line(position: SaveInfo, before: SaveInfo | None) -> bytes:
    """The annotation for a position.

    Args:
        position: where the stream is.
        before: the position that stands last in the same file, None where there is none.
    """
    db, replid, offset = position
    if before is not None and before.replid == replid and before.stream_db == db:
        return b"#KVREPL:%d\r\n" % offset
    return b"#KVREPL:%b:%d:%d\r\n" % (replid, db, offset)


def select(db: int) -> bytes:
    """The SELECT that tells the loader which database the next commands are for."""
    digits = b"%d" % db
    return b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%b\r\n" % (len(digits), digits)
