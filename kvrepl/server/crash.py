"""What a crash and a hang leave in the log.

    fatal signal   SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, however they came: a line "crashed by
                   signal", the stack of C, that of Python for every thread, and then the end that
                   the signal means (a core, where the system keeps them)
    hang           with watchdog-period, a line and the stack of Python whenever the loop has not
                   come round for that long

The handler of a fatal signal runs on a stack of its own, since the other may be what overflowed. It
is Python code at a moment when nothing can be relied on; so the signal itself is blocked while it
runs (a second fault ends the process), and an alarm ends it should it hang.

Source: Redis 7.0 debug.c (sigsegvHandler, bugReportStart, watchdogSignalHandler); sigaction(2).
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from kvrepl import REDIS_VERSION, __version__

if TYPE_CHECKING:
    from kvrepl.server.log import Log

FATAL: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)
STACK_BYTES: Final = 1 << 20
FRAMES: Final = 100
HANG_S: Final = 5
SA_ONSTACK: Final = 0x08000000


class _SigAction(ctypes.Structure):
    """struct sigaction of glibc and musl on Linux."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong))),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class _Stack(ctypes.Structure):
    """stack_t."""

    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


class CrashHandler:
    """Writes the report of a crash. There is one in a process, and it lives as long.

    Args:
        log: where to.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._memory = ctypes.create_string_buffer(STACK_BYTES)
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._crashed)
        self._frames = (ctypes.c_void_p * FRAMES)()
        if hasattr(self._libc, "backtrace"):
            self._libc.backtrace(self._frames, 1)  # loads what it needs now, not in a crash

    def install(self) -> None:
        """Take over the fatal signals (crash-log-enabled yes)."""
        stack = _Stack(ctypes.addressof(self._memory), 0, STACK_BYTES)
        self._libc.sigaltstack(ctypes.byref(stack), None)
        action = _SigAction()
        action.handler = ctypes.cast(self._handler, ctypes.c_void_p).value
        action.flags = SA_ONSTACK
        for number in FATAL:
            self._libc.sigaction(int(number), ctypes.byref(action), None)

    def remove(self) -> None:
        """Leave the fatal signals to the system (crash-log-enabled no)."""
        for number in FATAL:
            signal.signal(number, signal.SIG_DFL)

    def _crashed(self, number: int) -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(HANG_S)
            self._report(number)
        finally:
            # Blocked until we return; then it ends the process the way it would have.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _report(self, number: int) -> None:
        log = self._log
        log.warning("=== KVREPL BUG REPORT START: Cut & paste starting from here ===")
        log.warning(
            f"kvrepl {__version__} (Redis {REDIS_VERSION} compatible) crashed by signal: {number},"
            f" {signal.Signals(number).name}"
        )
        if hasattr(self._libc, "backtrace_symbols_fd"):
            log.raw("\n------ STACK TRACE ------\n")
            depth = self._libc.backtrace(self._frames, FRAMES)
            self._libc.backtrace_symbols_fd(self._frames, depth, log.fd)
        log.raw("\n------ PYTHON ------\n")
        faulthandler.dump_traceback(log.fd, all_threads=True)
        log.raw("\n=== KVREPL BUG REPORT END. ===\n")


class Watchdog:
    """Tells in the log where the loop hangs (watchdog-period).

    Args:
        log: where to.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._period_s = 0.0

    def set_period(self, period_ms: int) -> None:
        """Watch for delays of `period_ms`, or, with 0, no more."""
        self._period_s = period_ms / 1000
        if period_ms:
            signal.signal(signal.SIGALRM, self._expired)
            self.alive()
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def alive(self) -> None:
        """The loop has come round. O(1)."""
        if self._period_s:
            signal.setitimer(signal.ITIMER_REAL, self._period_s)

    def _expired(self, number: int, frame: FrameType | None) -> Any:
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        self._log.warning(f"--- WATCHDOG TIMER EXPIRED ---\n{stack}--------")
