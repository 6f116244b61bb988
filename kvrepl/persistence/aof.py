"""The append-only file as a sequence of commands: what is whole, and where it stops being so.

Format, in the words of its grammar:

    aof        = [rdb] *(command | annotation)
    command    = "*" count CRLF 1*("$" length CRLF bytes CRLF)
    annotation = "#" text CRLF                 ; "#TS:1700000000": written in that second or later

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

Two leniencies are Redis's: the two bytes after an argument are not looked at, and LF may stand
for CRLF. Two are not kept, because they turn damage into data: a length such as `$3x` (read as
3) and an annotation without its end, which Redis accepts and then glues the next command to; here
that is a SHORT_READ and cut off.

Source: aof.c loadSingleAppendOnlyFile, genAofTimestampAnnotationIfNeeded.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from kvrepl.errors import AofError

RDB_MAGIC: Final = b"REDIS"
"""What a file begins with whose first part is an RDB."""

MAX_HEADER_BYTES: Final = 1024
"""Longest `*`, `$` or `#` line (AOF_ANNOTATION_LINE_MAX_LEN)."""

Command = tuple[list[bytes], int]
"""A command and the offset of the first byte after it."""

_LENGTHS: Final = {b"%d\r" % n: n for n in range(1024)}
"""The common counts and lengths as they stand in a file, so that most need no parsing."""

_STAR, _DOLLAR, _HASH = b"*$#"
_TIMESTAMP: Final = b"#TS:"


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
        "_missing",
        "_need_bytes",
        "_pieces",
        "_pieces_bytes",
        "_pieces_offset",
        "_queue",
        "_stop_after_s",
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
        # The unfinished command: its arguments so far, and how many are to come.
        self._argv: list[bytes] = []
        self._missing = 0
        # Bytes not consumed yet, the offset of the first, and how many are needed to go on: a
        # value of 500 MB fed in small pieces is joined once, not once a piece.
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._pieces_offset = offset
        self._need_bytes = 0

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
        consumed = self._decode(data, out)
        rest = data[consumed:]
        self._pieces = [rest] if rest else []
        self._pieces_bytes = len(rest)
        self._pieces_offset += consumed
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

    def _decode(self, data: bytes, out: list[Command]) -> int:
        """Decode what is whole in `data`; returns how many bytes were consumed.

        hot: the load of a log goes through here, once a command.
        """
        find = data.find
        lengths = _LENGTHS
        start = self._pieces_offset
        size = len(data)
        argv = self._argv
        missing = self._missing
        position = 0
        self._need_bytes = 0
        while position < size:
            mark = data[position]
            if missing:
                if mark != _DOLLAR:
                    self._fail(start + position, "'$' before an argument")
                    break
                eol = find(b"\n", position)
                if eol < 0:
                    if size - position >= MAX_HEADER_BYTES:
                        self._fail(start + position, "an argument's length")
                    break
                digits = data[position + 1 : eol]
                length = lengths.get(digits)
                if length is None:
                    length = _number(digits)
                if length < 0:
                    self._fail(start + position, "an argument's length")
                    break
                begin = eol + 1
                end = begin + length
                if end + 2 > size:
                    self._need_bytes = end + 2 - position
                    break
                argv.append(data[begin:end])
                position = end + 2
                missing -= 1
                if not missing:
                    self._complete(argv, start + position, out)
                    argv = []
                continue
            if mark != _STAR and mark != _HASH:
                self._fail(start + position, "'*' before a command")
                break
            eol = find(b"\n", position)
            if eol < 0:
                if size - position >= MAX_HEADER_BYTES:
                    self._fail(start + position, "the end of the line")
                break
            if mark == _STAR:
                digits = data[position + 1 : eol]
                missing = lengths.get(digits) or _number(digits)
                if missing < 1:
                    missing = 0
                    self._fail(start + position, "the number of arguments")
                    break
                position = eol + 1
            else:
                if self._annotation(data[position:eol]):
                    break
                position = eol + 1
                self.offset = start + position
        self._argv = argv
        self._missing = missing
        return position

    def _complete(self, argv: list[bytes], end: int, out: list[Command]) -> None:
        """A command is whole: hand it out, or keep it until its transaction is."""
        self.offset = end
        name = argv[0]
        queue = self._queue
        # No other name of these lengths matters here, so most commands skip the comparison.
        if len(name) in (4, 5, 7):
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

    def _annotation(self, line: bytes) -> bool:
        """Take an annotation; returns whether it ends the part that was asked for."""
        if line.startswith(_TIMESTAMP):
            seconds = _number(line[len(_TIMESTAMP) :])
            if seconds >= 0:  # another text after "#TS:" is a comment like any other
                if self._stop_after_s is not None and seconds > self._stop_after_s:
                    self.stopped = True
                    return True
                self.timestamp_s = seconds
        return False

    def _fail(self, offset: int, expected: str) -> None:
        self._bad = AofEnd(EndKind.BAD_FORMAT, self.valid_up_to_bytes, offset, expected)


def _number(digits: bytes) -> int:
    """A count or length, without sign; -1 if it is none."""
    digits = digits.rstrip(b"\r")
    return int(digits) if digits.isdigit() and len(digits) < 19 else -1


def timestamp(now_s: int) -> bytes:
    """The annotation for a Unix second. Source: genAofTimestampAnnotationIfNeeded."""
    return b"#TS:%d\r\n" % now_s


def select(db: int) -> bytes:
    """The SELECT that tells the loader which database the next commands are for."""
    digits = b"%d" % db
    return b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%b\r\n" % (len(digits), digits)
