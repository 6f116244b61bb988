"""The log, line by line as Redis writes it.

    12345:M 20 Nov 2026 09:15:02.123 * Ready to accept connections
    pid  role                        level (. debug, - verbose, * notice, # warning)

Roles: M a master, S a replica, C a child saving, or the server before its start. A line is one
write(2) to a descriptor opened for appending, so that `tail -f` and other writers see whole lines
in order. A file that was moved away (logrotate) is made anew. `logfile ""` is stdout.

Source: Redis 7.0 server.c (serverLogRaw).
"""

from __future__ import annotations

import os
import syslog
import time
from typing import Final

DEBUG: Final = 0
VERBOSE: Final = 1
NOTICE: Final = 2
WARNING: Final = 3

_MARKS: Final = ".-*#"
_PRIORITIES: Final = (syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_NOTICE, syslog.LOG_WARNING)
_LEVELS: Final = {"debug": DEBUG, "verbose": VERBOSE, "notice": NOTICE, "warning": WARNING}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
                  "Dec")  # fmt: skip


class Log:
    """Where log lines go.

    Attributes:
        role: the letter after the pid.
        level: lines below it are left out.
        fd: the descriptor it writes to.
    """

    def __init__(self) -> None:
        self.role = "C"
        self.level = NOTICE
        self.fd = 1
        self._path = ""
        self._inode = 0
        self._syslog = False

    def open(self, path: str) -> None:
        """Append to a file from now on; the empty path is stdout.

        Raises:
            OSError: the file cannot be opened; the log stays where it was.
        """
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if path else 1
        if self.fd != 1:
            os.close(self.fd)
        self._path, self.fd = path, fd
        self._inode = os.fstat(fd).st_ino

    def set_level(self, name: str) -> None:
        """Set the level by its name in redis.conf."""
        self.level = _LEVELS.get(name, NOTICE)

    def use_syslog(self, ident: str, facility: str) -> None:
        """Send every line to syslog as well."""
        code = getattr(syslog, f"LOG_{facility.upper()}", syslog.LOG_LOCAL0)
        syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY | syslog.LOG_NOWAIT, code)
        self._syslog = True

    def write(self, level: int, text: str) -> None:
        """Write one line, if its level is not below the one set."""
        if level < self.level:
            return
        now = time.time()
        t = time.localtime(now)
        line = (
            f"{os.getpid()}:{self.role} {t.tm_mday:02d} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
            f" {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}.{int(now * 1000) % 1000:03d}"
            f" {_MARKS[level]} {text}\n"
        )
        try:
            if self._path and not self._is_in_place():
                self.open(self._path)
            os.write(self.fd, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk or a closed pipe must not end the server
        if self._syslog:
            syslog.syslog(_PRIORITIES[level], text)

    def _is_in_place(self) -> bool:
        """Whether the file we write to is still the one of that name."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def raw(self, text: str) -> None:
        """Write text without the prefix (the banner, a crash)."""
        try:
            os.write(self.fd, text.encode())
        except OSError:
            pass

    def debug(self, text: str) -> None:
        """A line for developers."""
        self.write(DEBUG, text)

    def verbose(self, text: str) -> None:
        """A line that is rarely useful, but not a mess."""
        self.write(VERBOSE, text)

    def notice(self, text: str) -> None:
        """A line that is wanted in production."""
        self.write(NOTICE, text)

    def warning(self, text: str) -> None:
        """A line that is important or critical."""
        self.write(WARNING, text)
