"""What values a setting can have: one class for each kind, with all that is done to a value.

A kind turns words into a value (`parse`), a value into the text of CONFIG GET (`show`) and into
the lines of CONFIG REWRITE (`lines`), and says in words what it accepts (`describe`).

    kind            value in Python             words
    YesNo           bool                        yes | no
    Number          int                         plain, a size with units, a percentage, octal
    Choice          str                         one of some names
    Choices         frozenset[str]              several of some names
    Text, Secret    str, bytes                  anything
    Letters         int (bits)                  classes of keyspace events
    and those with a syntax of their own: SavePoints, OutputLimits, ThreeScores, Addresses,
    MasterAddress, Percentiles

Refusals are BadValue with Redis's wording; the same words fit a file and CONFIG SET.

Source: Redis config.c (boolConfigSet, numericParseString, numericBoundaryCheck, enumConfigSet,
setConfig*Option, rewriteConfig*Option).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from kvrepl.config.errors import BadValue
from kvrepl.config.notify import format_notify_flags, parse_notify_flags
from kvrepl.config.text import (
    UINT64_MASK,
    format_double,
    format_memory,
    parse_c_long,
    parse_c_octal,
    parse_memory,
    quote,
    to_bytes,
    to_text,
    wrap_int32,
)
from kvrepl.numbers import parse_float, parse_int

V = TypeVar("V")

INT_MAX: Final = 2**31 - 1
INT_MIN: Final = -(2**31)
UINT_MAX: Final = 2**32 - 1
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = UINT64_MASK
BIND_ADDRESSES_MAX: Final = 16
"""CONFIG_BINDADDR_MAX of server.h."""

WRONG_COUNT: Final = "wrong number of arguments"


class Line(NamedTuple):
    """One line that CONFIG REWRITE wants in the file.

    forced: append it even where the old file did not mention the setting.
    """

    text: str
    forced: bool


class Kind(ABC, Generic[V]):
    """Base of all kinds."""

    several_words: ClassVar[bool] = False
    """Takes any number of words; the others take exactly one."""
    appends: ClassVar[bool] = False
    """Each line of a file adds to the lines before; the first replaces the default."""

    @abstractmethod
    def parse(self, words: Sequence[bytes], current: V) -> V:
        """The value that the words stand for.

        Args:
            words: the words after the name; one word unless `several_words`.
            current: the value so far, for kinds that change only a part of it.

        Raises:
            BadValue: with Redis's wording.
        """

    @abstractmethod
    def show(self, value: V) -> str:
        """The value as CONFIG GET prints it; `parse` of its words gives the value back."""

    @abstractmethod
    def describe(self) -> str:
        """What is accepted, for the documentation."""

    def lines(self, name: str, value: V, default: V) -> list[Line]:
        """The lines for the file; none means that its old lines go."""
        return [Line(f"{name} {self.show(value)}", value != default)]


class YesNo(Kind[bool]):
    """yes or no, in any case."""

    def parse(self, words: Sequence[bytes], current: bool) -> bool:
        word = words[0].lower()
        if word not in (b"yes", b"no"):
            raise BadValue("argument must be 'yes' or 'no'")
        return word == b"yes"

    def show(self, value: bool) -> str:
        return "yes" if value else "no"

    def describe(self) -> str:
        return "yes or no"


class Number(Kind[int]):
    """An integer between two bounds, both included.

    Args:
        low: the least value.
        high: the greatest value.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def read(self, word: bytes) -> int:
        """The number behind the word, bounds not yet checked."""
        value = parse_int(word)
        if value is None:
            raise BadValue("argument couldn't be parsed into an integer")
        return value

    def shown_bound(self, bound: int) -> str:
        return str(bound)

    def parse(self, words: Sequence[bytes], current: int) -> int:
        value = self.read(words[0])
        if not self.low <= value <= self.high:
            low, high = self.shown_bound(self.low), self.shown_bound(self.high)
            raise BadValue(f"argument must be between {low} and {high} inclusive")
        return value

    def show(self, value: int) -> str:
        return str(value)

    def describe(self) -> str:
        names = {INT_MIN: "-2^31", INT_MAX: "2^31-1", UINT_MAX: "2^32-1"}
        names |= {INT64_MAX: "2^63-1", UINT64_MAX: "2^64-1"}
        low, high = (names.get(bound, str(bound)) for bound in (self.low, self.high))
        return f"{low} to {high}"


class Octal(Number):
    """An integer written in base 8 (file permissions)."""

    def read(self, word: bytes) -> int:
        value = parse_c_octal(word)
        if value is None:
            raise BadValue("argument couldn't be parsed as an octal number")
        return value

    def shown_bound(self, bound: int) -> str:
        return f"{bound:o}"

    def show(self, value: int) -> str:
        return f"{value:o}"

    def describe(self) -> str:
        return f"{self.low:o} to {self.high:o}, octal"


class Memory(Number):
    """A number of bytes; 1k is 1000 and 1kb is 1024, and so on for m and g.

    Args:
        low, high: bounds in bytes.
        unsigned: kept in an unsigned C type; otherwise sizes from 2**63 up are negative.
        percent: "n%" is accepted too and stored as -n; `low` is then minus the greatest n.
    """

    def __init__(
        self, low: int, high: int, *, unsigned: bool = True, percent: bool = False
    ) -> None:
        super().__init__(low, high)
        self.unsigned = unsigned
        self.percent = percent

    def read(self, word: bytes) -> int:
        size = parse_memory(word)
        if size is not None:
            return size if size <= INT64_MAX or self.unsigned else size - 2**64
        if self.percent and word.endswith(b"%"):
            share = parse_int(word[:-1])
            if share is not None and share >= 0:
                return -share
        accepted = "memory or percent" if self.percent else "memory"
        raise BadValue(f"argument must be a {accepted} value")

    def parse(self, words: Sequence[bytes], current: int) -> int:
        if self.percent and self.read(words[0]) < self.low:
            raise BadValue(f"percentage argument must be less or equal to {-self.low}")
        return super().parse(words, current)

    def show(self, value: int) -> str:
        return f"{-value}%" if self.percent and value < 0 else str(value)

    def lines(self, name: str, value: int, default: int) -> list[Line]:
        share = self.percent and value < 0
        text = self.show(value) if share else format_memory(value)
        return [Line(f"{name} {text}", value != default)]

    def describe(self) -> str:
        if self.percent:
            return f"bytes, or a percentage up to {-self.low}%"
        return f"bytes, {super().describe()}"


class Choice(Kind[str]):
    """One name of a fixed list, in any case.

    Args:
        names: the names, in the order in which a refusal lists them.
        same: names that mean another one, and are shown as it.
    """

    def __init__(self, *names: str, same: Mapping[str, str] | None = None) -> None:
        self.names = names
        self.same = dict(same or {})

    def one(self, word: bytes) -> str:
        name = to_text(word).lower()
        if name not in self.names:
            listed = ", ".join(self.names)
            raise BadValue(f"argument(s) must be one of the following: {listed}")
        return self.same.get(name, name)

    def parse(self, words: Sequence[bytes], current: str) -> str:
        return self.one(words[0])

    def show(self, value: str) -> str:
        return value

    def describe(self) -> str:
        return ", ".join(self.names)


class ShutdownFlags(Kind[frozenset[str]]):
    """How SHUTDOWN behaves on a signal: none of the flags is "default".

    Source: config.c, shutdown_on_sig_enum and isValidShutdownOnSigFlags.
    """

    several_words = True
    _names: ClassVar = Choice("default", "save", "nosave", "now", "force")

    def parse(self, words: Sequence[bytes], current: frozenset[str]) -> frozenset[str]:
        if not words:
            self._names.one(b"")
        flags = frozenset(self._names.one(word) for word in words) - {"default"}
        if {"save", "nosave"} <= flags:
            raise BadValue("shutdown options SAVE and NOSAVE can't be used simultaneously")
        return flags

    def show(self, value: frozenset[str]) -> str:
        return " ".join(name for name in self._names.names if name in value) or "default"

    def describe(self) -> str:
        return "default, or some of save, nosave, now, force"


class Text(Kind[str]):
    """Any text.

    Args:
        absent_if_empty: "" means that nothing is set, and has no line in the file.
    """

    def __init__(self, *, absent_if_empty: bool = False) -> None:
        self.absent_if_empty = absent_if_empty

    def parse(self, words: Sequence[bytes], current: str) -> str:
        return to_text(words[0])

    def show(self, value: str) -> str:
        return value

    def lines(self, name: str, value: str, default: str) -> list[Line]:
        if self.absent_if_empty and not value:
            return []
        return [Line(f"{name} {to_text(quote(to_bytes(value)))}", value != default)]

    def describe(self) -> str:
        return "text"


class Secret(Kind[bytes]):
    """Bytes that are compared with what clients send; empty means that nothing is set."""

    def parse(self, words: Sequence[bytes], current: bytes) -> bytes:
        return words[0]

    def show(self, value: bytes) -> str:
        return to_text(value)

    def lines(self, name: str, value: bytes, default: bytes) -> list[Line]:
        return [Line(f"{name} {to_text(quote(value))}", True)] if value else []

    def describe(self) -> str:
        return "text"


class Directory(Kind[str]):
    """The working folder; always written, quoted, for it is where the server stands."""

    def parse(self, words: Sequence[bytes], current: str) -> str:
        return to_text(words[0])

    def show(self, value: str) -> str:
        return value

    def lines(self, name: str, value: str, default: str) -> list[Line]:
        return [Line(f"{name} {to_text(quote(to_bytes(value)))}", True)]

    def describe(self) -> str:
        return "folder"


class Letters(Kind[int]):
    """Classes of keyspace events, as the bits of `kvrepl.config.notify`."""

    def parse(self, words: Sequence[bytes], current: int) -> int:
        flags = parse_notify_flags(to_text(words[0]))
        if flags is None:
            raise BadValue("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        return flags

    def show(self, value: int) -> str:
        return format_notify_flags(value)

    def lines(self, name: str, value: int, default: int) -> list[Line]:
        return [Line(f'{name} "{self.show(value)}"', value != default)]

    def describe(self) -> str:
        return "letters of Ag$lshzxeKEtmdn"


SavePointsValue = tuple[tuple[int, int], ...]


class SavePoints(Kind[SavePointsValue]):
    """Pairs of (seconds, changes) after which a snapshot is due."""

    several_words = True
    appends = True

    def parse(self, words: Sequence[bytes], current: SavePointsValue) -> SavePointsValue:
        if list(words) == [b""]:
            return ()
        numbers = [parse_c_long(word) for word in words]
        points = list(zip(numbers[::2], numbers[1::2], strict=False))
        if len(words) % 2:
            raise BadValue("Invalid save parameters")
        out = []
        for seconds, changes in points:
            if seconds is None or seconds < 1 or changes is None or changes < 0:
                raise BadValue("Invalid save parameters")
            out.append((seconds, wrap_int32(changes)))
        return current + tuple(out)

    def show(self, value: SavePointsValue) -> str:
        return " ".join(f"{seconds} {changes}" for seconds, changes in value)

    def lines(self, name: str, value: SavePointsValue, default: SavePointsValue) -> list[Line]:
        if not value:
            return [Line(f'{name} ""', True)]
        return [Line(f"{name} {seconds} {changes}", True) for seconds, changes in value]

    def describe(self) -> str:
        return "seconds changes ..."


class OutputLimit(NamedTuple):
    """When a client of a class is cut off: over `hard_bytes` at once, over `soft_bytes` for
    longer than `soft_seconds`; 0 is no limit."""

    hard_bytes: int
    soft_bytes: int
    soft_seconds: int


CLIENT_CLASSES: Final = ("normal", "replica", "pubsub")
OutputLimitsValue = Mapping[str, OutputLimit]


class OutputLimits(Kind[OutputLimitsValue]):
    """A limit for each class of clients; classes that are not named keep theirs."""

    several_words = True
    _classes: ClassVar = {
        b"normal": "normal",
        b"slave": "replica",
        b"replica": "replica",
        b"pubsub": "pubsub",
    }

    def parse(self, words: Sequence[bytes], current: OutputLimitsValue) -> OutputLimitsValue:
        if len(words) % 4:
            raise BadValue("Wrong number of arguments in buffer limit configuration.")
        limits = dict(current)
        for at in range(0, len(words), 4):
            client_class = self._classes.get(words[at].lower())
            if client_class is None:
                raise BadValue("Invalid client class specified in buffer limit configuration.")
            hard, soft = parse_memory(words[at + 1]), parse_memory(words[at + 2])
            seconds = parse_c_long(words[at + 3])
            seconds = None if seconds is None else wrap_int32(seconds)
            if hard is None or soft is None or seconds is None or seconds < 0:
                raise BadValue(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                )
            limits[client_class] = OutputLimit(hard, soft, seconds)
        return limits

    def show(self, value: OutputLimitsValue) -> str:
        parts = []
        for client_class in CLIENT_CLASSES:
            name = "slave" if client_class == "replica" else client_class
            parts.append(" ".join([name, *map(str, value[client_class])]))
        return " ".join(parts)

    def lines(self, name: str, value: OutputLimitsValue, default: OutputLimitsValue) -> list[Line]:
        out = []
        for client_class in CLIENT_CLASSES:
            limit = value[client_class]
            hard, soft = format_memory(limit.hard_bytes), format_memory(limit.soft_bytes)
            text = f"{name} {client_class} {hard} {soft} {limit.soft_seconds}"
            out.append(Line(text, limit != default[client_class]))
        return out

    def describe(self) -> str:
        return "class hard soft seconds ..."


ThreeScoresValue = tuple[int, int, int]


class ThreeScores(Kind[ThreeScoresValue]):
    """The oom_score_adj of a master, a replica and a child process."""

    several_words = True

    def parse(self, words: Sequence[bytes], current: ThreeScoresValue) -> ThreeScoresValue:
        if len(words) != 3:
            raise BadValue(WRONG_COUNT)
        scores = [parse_c_long(word) for word in words]
        master, replica, child = scores
        if master is None or replica is None or child is None or not self._fit(scores):
            raise BadValue("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
        return master, replica, child

    @staticmethod
    def _fit(scores: Sequence[int | None]) -> bool:
        return all(score is not None and -2000 <= score <= 2000 for score in scores)

    def show(self, value: ThreeScoresValue) -> str:
        return " ".join(map(str, value))

    def describe(self) -> str:
        return "master replica child, each -2000 to 2000"


class Addresses(Kind[tuple[str, ...]]):
    """Addresses to listen on; a leading "-" makes one optional, "*" is all of them."""

    several_words = True

    def parse(self, words: Sequence[bytes], current: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) > BIND_ADDRESSES_MAX:
            raise BadValue("Too many bind addresses specified.")
        if list(words) == [b""]:
            return ()
        return tuple(map(to_text, words))

    def show(self, value: tuple[str, ...]) -> str:
        return " ".join(value)

    def lines(self, name: str, value: tuple[str, ...], default: tuple[str, ...]) -> list[Line]:
        if value == default:
            return []
        return [Line(f"{name} {self.show(value)}" if value else f'{name} ""', True)]

    def describe(self) -> str:
        return f"up to {BIND_ADDRESSES_MAX} addresses"


MasterAddressValue = tuple[str, int] | None


class MasterAddress(Kind[MasterAddressValue]):
    """Host and port of the master, None on a master."""

    several_words = True

    def parse(self, words: Sequence[bytes], current: MasterAddressValue) -> MasterAddressValue:
        if len(words) != 2:
            raise BadValue(WRONG_COUNT)
        if [word.lower() for word in words] == [b"no", b"one"]:
            return None
        port = parse_c_long(words[1])
        if port is None or not 0 <= wrap_int32(port) <= 65535:
            raise BadValue("Invalid master port")
        return to_text(words[0]), wrap_int32(port)

    def show(self, value: MasterAddressValue) -> str:
        return f"{value[0]} {value[1]}" if value else ""

    def lines(
        self, name: str, value: MasterAddressValue, default: MasterAddressValue
    ) -> list[Line]:
        return [Line(f"{name} {self.show(value)}", True)] if value else []

    def describe(self) -> str:
        return "host port, or no one"


class Percentiles(Kind[tuple[float, ...]]):
    """The percentiles that INFO latencystats prints."""

    several_words = True

    def parse(self, words: Sequence[bytes], current: tuple[float, ...]) -> tuple[float, ...]:
        if list(words) == [b""]:
            return ()
        out = []
        for word in words:
            value = parse_float(word)
            if value is None:
                raise BadValue("Invalid latency-tracking-info-percentiles parameters")
            if not 0.0 <= value <= 100.0:
                raise BadValue(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                )
            out.append(value)
        return tuple(out)

    def show(self, value: tuple[float, ...]) -> str:
        return " ".join(map(format_double, value))

    def lines(self, name: str, value: tuple[float, ...], default: tuple[float, ...]) -> list[Line]:
        return [Line(f"{name} {self.show(value)}" if value else f'{name} ""', True)]

    def describe(self) -> str:
        return "numbers from 0 to 100"


AnyKind = Kind[Any]
