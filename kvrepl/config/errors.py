"""The errors of the configuration, and how each reaches the person who wrote it.

ConfigError       a line of a file or of the command line is wrong; `report()` is what the server
                  prints on stderr before it exits with status 1. Raised by a subscriber, its
                  reason becomes the reply of CONFIG SET.
UnreadableConfig  a file that was named could not be opened; it has no line to point at.
BadValue          inside this package: a value was refused, place not yet known.

Source: Redis config.c, loadServerConfigFromString (the layout of the report).
"""

from __future__ import annotations

from kvrepl import REDIS_VERSION
from kvrepl.errors import KvreplError


class BadValue(Exception):
    """A value was refused; `reason` is Redis's wording of why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConfigError(KvreplError):
    """The configuration cannot be used.

    Args:
        reason: what is wrong, in Redis's words where it has words for it.
        file: the file's name, "" for standard input and the command line.
        line_number: from 1; 0 where the fault is not in one line.
        line: the line, without the white space around it.
    """

    def __init__(
        self, reason: str, *, file: str = "", line_number: int = 0, line: str = ""
    ) -> None:
        where = f"{file or 'options'}:{line_number}: " if line_number else ""
        super().__init__(where + reason)
        self.reason = reason
        self.file = file
        self.line_number = line_number
        self.line = line

    def report(self) -> str:
        """The text for stderr: a heading, the line (if one is to blame) and the reason."""
        place = ""
        if self.line_number:
            place = f"Reading the configuration file, at line {self.line_number}\n"
            place += f">>> '{self.line}'\n"
        return f"\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n{place}{self.reason}\n"


class UnreadableConfig(ConfigError):
    """A configuration file could not be read.

    Args:
        file: the name as it was given.
        cause: the OSError behind it.
    """

    def __init__(self, file: str, cause: OSError) -> None:
        reason = f"Fatal error, can't open config file '{file}': {cause.strerror or cause}"
        super().__init__(reason, file=file)
        self.cause = cause

    def report(self) -> str:
        """One line: there is no line of a file to show."""
        return self.reason + "\n"
