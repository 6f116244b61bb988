"""From the command line and the files to settings, line by line, as Redis reads them.

The command line is first turned into lines of a configuration, which are read after the file (and
after standard input), so that a later option wins and a wrong one is reported with its line:

    FILE --port 7000 --save 60 1 "--maxmemory 1mb"
        ->  FILE's text, an empty line, `port "7000"`, `save "60" "1"`, `maxmemory 1mb`

    lines: name words...          a setting, all of it checked at once
           include PATH           another file, or all that match a pattern
           rename-command A B     kept as declarations for whoever knows commands,
           user NAME rules...     and users
           # ...                  a comment

Everything the outside has to do is a function that is passed in; nothing here opens a file.

Source: Redis server.c (main, the loop over argv), config.c (loadServerConfig,
loadServerConfigFromString); probed against redis-server 7.0.15.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kvrepl.config.errors import BadValue, ConfigError, UnreadableConfig
from kvrepl.config.kinds import WRONG_COUNT
from kvrepl.config.setting import Setting
from kvrepl.config.table import BY_NAME
from kvrepl.config.text import BLANKS, quote, split_words, to_bytes, to_text

INCLUDE_DEPTH_MAX: Final = 16
"""Files that include each other end here; Redis follows them until its stack is full."""

BAD_DIRECTIVE: Final = "Bad directive or wrong number of arguments"
UNBALANCED: Final = "Unbalanced quotes in configuration line"
RETIRED: Final = frozenset(
    (b"list-max-ziplist-entries", b"list-max-ziplist-value", b"lua-replicate-commands")
)
"""Settings of older releases that are read over, with one word after them."""

_PATTERN_CHARACTERS: Final = frozenset("*?[")

ReadFile = Callable[[str], str]
"""Path to the file's text, decoded as UTF-8 with surrogateescape; raises OSError."""
ExpandPattern = Callable[[str], Sequence[str]]
"""The paths that match a shell pattern, sorted; none where nothing matches."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A line that is not a setting: `words` of a `rename-command` or a `user`, and its place."""

    words: tuple[bytes, ...]
    file: str
    line_number: int
    line: str

    def error(self, reason: str) -> ConfigError:
        """The error to raise when the declaration turns out to be wrong."""
        return ConfigError(reason, file=self.file, line_number=self.line_number, line=self.line)


class Target(Protocol):
    """What a loader fills: the part of Config that it needs."""

    renames: list[Declaration]
    users: list[Declaration]

    def value_of(self, setting: Setting) -> Any: ...

    def put(self, setting: Setting, value: Any) -> None: ...


def options_text(arguments: Sequence[str]) -> str:
    """The lines that options of the command line stand for.

    The word after an option with no value in the same word is its value, whatever it looks like
    ("--requirepass --x"); only `--save` may go without one, which is `save ""`. Words before any
    option form a line of their own ("port 7000").

    Args:
        arguments: what follows the program's name and the file.
    """
    lines: list[str] = [""]
    after_value = True
    for at, argument in enumerate(arguments):
        if not (after_value and argument.startswith("--")):
            lines[-1] += to_text(quote(to_bytes(argument))) + " "
            after_value = True
            continue
        lines.append(argument[2:] + " ")
        words = split_words(to_bytes(argument))
        after_value = words is None or len(words) != 1
        following = arguments[at + 1] if at + 1 < len(arguments) else "--"
        if not after_value and following.startswith("--") and argument.lower() == "--save":
            lines[-1] += '""'
            after_value = True
    return "\n".join(lines if lines[0] else lines[1:])


class Loader:
    """Reads texts into a target; one loader for one start of the server.

    Args:
        target: what is filled.
        read_file: see ReadFile.
        expand_pattern: see ExpandPattern.
    """

    def __init__(self, target: Target, read_file: ReadFile, expand_pattern: ExpandPattern) -> None:
        self._target = target
        self._read_file = read_file
        self._expand_pattern = expand_pattern
        self._appended: set[Setting] = set()
        self._depth = 0

    def load_file(self, path: str, more: str = "") -> None:
        """Read a file, or all that match a pattern; `more` is text that counts as its end.

        Raises:
            ConfigError: a line is wrong, or the file cannot be read.
        """
        if _PATTERN_CHARACTERS.isdisjoint(path):
            paths: Sequence[str] = (path,)
        else:
            paths = self._expand_pattern(path)
        for name in paths[:-1]:
            self.load_text(self._read(name), name)
        last = paths[-1] if paths else ""
        self.load_text((self._read(last) if last else "") + more, last)

    def _read(self, path: str) -> str:
        try:
            return self._read_file(path)
        except OSError as cause:
            raise UnreadableConfig(path, cause) from cause

    def load_text(self, text: str, file: str = "") -> None:
        """Read lines; O(length). `file` names their origin in errors.

        Raises:
            ConfigError: at the first line that is wrong.
        """
        for index, raw in enumerate(to_bytes(text).split(b"\n")):
            line = raw.strip(BLANKS)
            if not line or line.startswith(b"#"):
                continue
            try:
                self._load_line(line, file, index + 1)
            except BadValue as refusal:
                raise ConfigError(
                    refusal.reason, file=file, line_number=index + 1, line=to_text(line)
                ) from None

    def _load_line(self, line: bytes, file: str, line_number: int) -> None:
        words = split_words(line)
        if words is None:
            raise BadValue(UNBALANCED)
        if not words:
            return
        name = words[0].lower()
        setting = BY_NAME.get(name)
        if setting is not None:
            self._load_setting(setting, words[1:])
        elif name in RETIRED and len(words) == 2:
            pass
        elif name == b"include" and len(words) == 2:
            self._include(to_text(words[1]))
        elif (name == b"rename-command" and len(words) == 3) or (
            name == b"user" and len(words) >= 2
        ):
            kept = self._target.users if name == b"user" else self._target.renames
            kept.append(Declaration(tuple(words), file, line_number, to_text(line)))
        else:
            raise BadValue(self._refusal(name, len(words)))

    @staticmethod
    def _refusal(name: bytes, count: int) -> str:
        """Why a line that is nothing we know is refused."""
        if name == b"loadmodule" and count >= 2:
            return "loadmodule is refused: kvrepl-server has no module API"
        if b"." in name:
            return "Module settings are refused: kvrepl-server has no module API"
        if name == b"sentinel":
            return "sentinel directive while not in sentinel mode"
        return BAD_DIRECTIVE

    def _load_setting(self, setting: Setting, words: list[bytes]) -> None:
        if len(words) != 1 and not setting.kind.several_words:
            raise BadValue(WRONG_COUNT)
        if len(words) == 1 and words[0] and setting.kind.several_words:
            words = split_words(words[0]) or []  # save "60 1", as charts and shells write it
        current = self._target.value_of(setting)
        if setting.kind.appends and setting not in self._appended:
            self._appended.add(setting)
            current = type(current)()
        self._target.put(setting, setting.parse(words, current, at_start=True))

    def _include(self, path: str) -> None:
        if self._depth == INCLUDE_DEPTH_MAX:
            raise BadValue(f"include is nested more than {INCLUDE_DEPTH_MAX} files deep")
        self._depth += 1
        self.load_file(path)
        self._depth -= 1
