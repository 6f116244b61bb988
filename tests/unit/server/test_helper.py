"""Helpers: real forks of this process; whatever becomes of one, its parent goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from kvrepl.server import children, helper
from kvrepl.server.helper import Helper
from kvrepl.server.log import Log

Start = Callable[[Callable[[], Iterable[bytes]]], Helper]


class Started:
    """Starts helpers and keeps what they said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Log()
        self.log.fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        self.fds: list[int] = []
        self.helpers: list[Helper] = []

    def __call__(self, work: Callable[[], Iterable[bytes]]) -> Helper:
        self.helpers.append(helper.start(work, lambda: self.fds, self.log))
        return self.helpers[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path / "log")
    yield started
    for each in started.helpers:
        each.close()
        assert not Path(f"/proc/{each.pid}").exists(), "it was not reaped"
    os.close(started.log.fd)


def received(made: Helper) -> list[bytes]:
    messages = []
    while (message := made.receive()) is not None:
        messages.append(bytes(message))
    return messages


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 1_000


def test_messages_come_whole_and_in_order_whatever_their_size(start: Started) -> None:
    sizes = [0, 1, 3 << 20, 5, 100_000, 0, 200_000]
    made = start(lambda: (bytes((size % 251,)) * size for size in sizes))
    assert received(made) == [bytes((size % 251,)) * size for size in sizes]
    assert made.receive() is None and made.receive() is None


def test_helper_that_fails_says_so_and_gives_what_it_had(start: Started) -> None:
    def work() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("in a helper")

    assert received(start(work)) == [b"one"]
    assert "Internal error in a helper" in start.path.read_text()
    assert "in a helper" in start.path.read_text()


def test_helper_whose_disk_refuses_says_nothing(start: Started) -> None:
    def work() -> Iterator[bytes]:
        yield b"one"
        raise OSError("no such file")

    assert received(start(work)) == [b"one"]
    assert start.path.read_text() == ""


def test_helper_that_is_killed_gives_no_half_message(start: Started) -> None:
    def work() -> Iterator[bytes]:
        yield b"one"
        yield b"x" * (64 << 20)  # more than any pipe holds

    made = start(work)
    assert bytes(made.receive() or b"") == b"one"
    os.kill(made.pid, signal.SIGKILL)
    assert made.receive() is None


def test_helper_that_is_stopped_is_given_up(
    start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper, "PATIENCE_MS", 50)

    def work() -> Iterator[bytes]:
        os.kill(os.getpid(), signal.SIGSTOP)
        yield b"late"

    assert received(start(work)) == []


def test_helper_ends_when_it_is_closed_in_mid_work(start: Started) -> None:
    made = start(endless)
    assert bytes(made.receive() or b"") == b"x" * 1_000
    made.close()
    assert made.receive() is None
    assert not Path(f"/proc/{made.pid}").exists()


def test_helper_holds_none_of_the_descriptors_that_it_is_told_to_close(start: Started) -> None:
    held, kept = os.pipe()
    start.fds.append(held)
    made = start(lambda: [b"%d" % Path(f"/proc/self/fd/{fd}").exists() for fd in (held, kept)])
    assert received(made) == [b"0", b"1"]
    os.close(held)
    os.close(kept)


def test_signal_to_the_whole_group_is_left_to_the_parent(start: Started) -> None:
    def work() -> Iterator[bytes]:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        yield b"alive"

    assert received(start(work)) == [b"alive"]


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_helper_ends_with_its_parent(
    start: Started, monkeypatch: pytest.MonkeyPatch, kernel_tells: bool
) -> None:
    if not kernel_tells:  # it then meets a pipe that nobody reads
        monkeypatch.setattr(children, "_PRCTL", None)
    read_fd, write_fd = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(read_fd)
        made = start(endless)
        os.write(write_fd, b"%d" % made.pid)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write_fd)
    os.waitpid(parent, 0)
    pid = int(os.read(read_fd, 20))
    os.close(read_fd)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            pytest.fail("it outlived its parent")
        time.sleep(0.01)
