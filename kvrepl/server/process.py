"""The process as the system sees it: its title, its huge pages, its turns, its supervisor.

    title        what `ps` and `top` show: "kvrepl-server *:6379" instead of the interpreter with
                 its arguments. Written over the arguments in the process's own memory, and cut to
                 their length: behind them lies the environment, which getenv(3) still reads.
    huge pages   off (disable-thp) but where we ask for them ourselves (arena-huge-pages): for small
                 blocks, on kernels that split a shared huge page when it is written to. Older
                 ones copy 2 MiB for each byte that is written after a fork
    turns        how long a thread keeps a processor that others wait for: short ones where
                 latency is for others (EEVDF, Linux 6.12 and newer)
    supervisor   systemd hears READY=1 and STOPPING=1, upstart sees SIGSTOP

None of this is worth failing for: what the system refuses is logged, or left.

Source: Redis 7.0 setproctitle.c, syscheck.c, server.c (redisSetProcTitle, redisSupervisedSystemd,
redisSupervisedUpstart); proc(5), prctl(2), sched_setattr(2), sd_notify(3).
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvrepl.config import Config
    from kvrepl.server.log import Log

PR_SET_NAME: Final = 15
PR_SET_THP_DISABLE: Final = 41
PR_THP_DISABLE_EXCEPT_ADVISED: Final = 1 << 1
SPLITTING_KERNEL: Final = (5, 8)
"""The first Linux that copies 4 KiB, not 2 MiB, on a write to a huge page shared by fork(2)."""
SHORT_TURN_NS: Final = 200_000
_SCHED_NUMBERS: Final = {"x86_64": (314, 315), "aarch64": (274, 275), "riscv64": (274, 275)}
"""sched_setattr(2) and sched_getattr(2), which few C libraries know, by machine (64 bits)."""
NAME: Final = "kvrepl-server"
_ARG_START: Final = 48 - 3  # proc(5) counts from 1; two fields stand before those we split
_ARG_END: Final = 49 - 3


class Title:
    """The title of this process; the one object that writes over its arguments."""

    def __init__(self) -> None:
        self._start, self._size = _argument_area()

    def show(self, text: str) -> None:
        """Show a title in `ps`, and its first word as the process's name. O(1)."""
        data = text.encode("utf-8", "surrogateescape").replace(b"\0", b"?")
        _prctl(PR_SET_NAME, ctypes.c_char_p(data.split(b" ")[0][:15]))
        if self._size > 1:
            # The last byte stays NUL: otherwise the kernel shows the environment as well.
            ctypes.memmove(self._start, data[: self._size - 1].ljust(self._size, b"\0"), self._size)

    def show_server(self, config: Config) -> None:
        """Show what set-proc-title and proc-title-template ask for."""
        if config.set_proc_title:
            self.show(title_of(config))


def title_of(config: Config) -> str:
    """The title by proc-title-template."""
    address = config.bind[0].removeprefix("-") if config.bind else "*"
    port = config.port or config.tls_port
    fields = {
        "title": NAME,
        "listen-addr": f"{address}:{port}" if port else config.unixsocket,
        "server-mode": "",
        "port": str(config.port),
        "tls-port": str(config.tls_port),
        "unixsocket": config.unixsocket,
        "config-file": config.config_file,
    }
    rest, out = config.proc_title_template, ""
    while rest:
        text, brace, rest = rest.partition("{")
        out += text
        if not brace:
            break
        if rest.startswith("{"):
            out, rest = out + "{", rest[1:]
            continue
        field, _, rest = rest.partition("}")
        out += fields[field]
    return out.strip()


def _argument_area() -> tuple[int, int]:
    """Where this process's arguments stand in its memory: (address, bytes); (0, 0) if unknown."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    except (OSError, ValueError, IndexError):
        return 0, 0
    return (start, end - start) if 0 < start < end else (0, 0)


def _prctl(option: int, argument: object, flags: int = 0) -> int:
    try:
        return int(ctypes.CDLL(None).prctl(option, argument, ctypes.c_ulong(flags), 0, 0))
    except (AttributeError, OSError):
        return -1


def wants_huge_pages(config: Config) -> bool:
    """Whether arenas are to ask for huge pages: where that makes a fork shorter, and no more."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (
        config.arena_huge_pages
        and sys.platform == "linux"
        and found is not None
        and (int(found[1]), int(found[2])) >= SPLITTING_KERNEL
    )


def disable_huge_pages(log: Log, *, but_asked_for: bool) -> None:
    """Turn transparent huge pages off for this process, where the system has them on.

    Args:
        log: told where that is refused.
        but_asked_for: leave those for which we ask. Linux knows that since 6.18; before, all go.
    """
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            if "[always]" not in file.read():
                return
    except OSError:
        return
    on = ctypes.c_ulong(1)
    if but_asked_for and _prctl(PR_SET_THP_DISABLE, on, PR_THP_DISABLE_EXCEPT_ADVISED) == 0:
        return
    if _prctl(PR_SET_THP_DISABLE, on) != 0:
        log.warning(
            "WARNING you have Transparent Huge Pages (THP) support enabled in your kernel, and"
            " this process could not opt out of it. This will create latency and memory usage"
            " issues. To fix this run the command 'echo madvise >"
            " /sys/kernel/mm/transparent_hugepage/enabled' as root."
        )


class _SchedAttributes(ctypes.Structure):
    """struct sched_attr, as of its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def turn_ns(thread: int = 0) -> int:
    """How long the turns of a thread, by default this one, are; 0 where the system is silent."""
    attributes = _sched_attributes(thread)
    return attributes.runtime_ns if attributes is not None else 0


def take_short_turns(wanted: bool) -> None:
    """Have this thread hand the processor on after SHORT_TURN_NS, or after the usual time again.

    Only between threads that share their time: the policy of a server that was started with
    another, in real time or for idle hours, is its operator's. What is refused is done without.
    """
    attributes = _sched_attributes()
    if attributes is None or attributes.policy not in (os.SCHED_OTHER, os.SCHED_BATCH):
        return
    attributes.runtime_ns = SHORT_TURN_NS if wanted else 0
    _sched_call(0, 0, ctypes.byref(attributes), 0)


def _sched_attributes(thread: int = 0) -> _SchedAttributes | None:
    attributes = _SchedAttributes()
    size = ctypes.sizeof(attributes)
    return attributes if _sched_call(1, thread, ctypes.byref(attributes), size, 0) else None


def _sched_call(which: int, thread: int, attributes: object, *more: int) -> bool:
    """Make one of the calls of _SCHED_NUMBERS; returns whether it was made, and succeeded."""
    numbers = _SCHED_NUMBERS.get(platform.machine())
    if sys.platform != "linux" or sys.maxsize < 1 << 32 or numbers is None:
        return False
    number, thread_id, *rest = map(ctypes.c_long, (numbers[which], thread, *more))
    try:
        return bool(ctypes.CDLL(None).syscall(number, thread_id, attributes, *rest) == 0)
    except (AttributeError, OSError):
        return False


def yield_turn() -> None:
    """Let a thread that waits for this processor go first. O(1), less than a microsecond."""
    if sys.platform == "linux":
        os.sched_yield()


class Supervisor:
    """Whoever started us and waits to hear how we do.

    Attributes:
        is_supervised: whether there is one; such a server does not daemonize.
    """

    def __init__(self, mode: str, log: Log) -> None:
        self._log = log
        self._address = ""
        environment = os.environ
        self._upstart = mode in ("upstart", "auto") and "UPSTART_JOB" in environment
        if mode == "systemd" or (mode == "auto" and not self._upstart):
            self._address = environment.get("NOTIFY_SOCKET", "")
            if mode == "systemd" and not self._address:
                log.warning(
                    "systemd supervision requested or auto-detected, but NOTIFY_SOCKET not found!"
                )
        elif mode == "upstart" and not self._upstart:
            log.warning("upstart supervision requested, but UPSTART_JOB not found!")
        self.is_supervised = self._upstart or bool(self._address)

    def starting(self) -> None:
        """Called once, before anything is loaded; upstart continues us when it has seen us."""
        if self._upstart:
            self._log.notice("supervised by upstart, will stop to signal readiness")
            os.environ.pop("UPSTART_JOB", None)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self._address:
            self._log.notice(
                "supervised by systemd. Please make sure you set appropriate values for"
                " TimeoutStartSec and TimeoutStopSec in your service unit."
            )
            self.tell("STATUS=kvrepl is loading...\n")

    def tell(self, state: str) -> None:
        """Tell systemd, in the lines of sd_notify(3); nothing where it does not supervise us."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(state.encode(), address)
            except OSError as error:
                self._log.warning(f"Can't send to the systemd socket: {error.strerror}")
