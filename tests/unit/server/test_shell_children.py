"""Children: real forks of this process, watched by a real loop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from kvrepl.persistence.snapshot import Loaded
from kvrepl.server import children
from kvrepl.server.children import Child, Children, Ending, Reporter
from kvrepl.server.log import Log
from kvrepl.server.saver import slowed

Work = Callable[[Reporter], None]


def run(work: Work, then: Callable[[Children], None] = lambda c: None) -> tuple[Child, Ending, str]:
    """Fork a child for `work`, do `then` in the parent; give the child, its end and the log."""
    read_fd, write_fd = os.pipe()

    async def scenario() -> tuple[Child, Ending]:
        loop = asyncio.get_running_loop()
        log = Log()
        log.fd = write_fd
        ended: asyncio.Future[Ending] = loop.create_future()
        made = Children(loop, log)
        child = made.fork(
            children.RDB, work, lambda child, ending: ended.set_result(ending), keys_total=1
        )
        then(made)
        ending = await asyncio.wait_for(ended, 20)
        assert made.active is None
        assert ending.ok == (made.last_cow_bytes[children.RDB] > 0)
        return child, ending

    try:
        child, ending = asyncio.run(scenario())
    finally:
        os.close(write_fd)
        with os.fdopen(read_fd) as log:
            said = log.read()
    assert not Path(f"/proc/{child.pid}").exists(), "it was not reaped"
    return child, ending, said


def sleep_long(reporter: Reporter) -> None:
    """Stand for work that takes longer than any test."""
    time.sleep(60)


def test_work_that_returns_is_a_success_with_its_figures() -> None:
    def work(reporter: Reporter) -> None:
        reporter.progress(1)
        reporter.done()

    child, ending, said = run(work)

    assert ending == Ending(0, 0)
    assert ending.ok
    assert child.keys == 1
    assert child.cow_bytes > 0
    assert "Fork CoW for RDB: current" in said


def test_work_that_raises_is_a_failure_that_the_log_explains() -> None:
    def work(reporter: Reporter) -> None:
        raise OSError(28, "No space left on device")

    _, ending, said = run(work)

    assert ending == Ending(1, 0)
    assert "No space left on device" in said


def test_kill_unwinds_the_child_and_is_no_failure(tmp_path: Path) -> None:
    started, unwound = tmp_path / "started", tmp_path / "unwound"

    def work(reporter: Reporter) -> None:
        try:
            started.touch()
            time.sleep(60)
        finally:
            unwound.touch()

    def then(made: Children) -> None:
        while not started.exists():
            os.sched_yield()
        made.kill()
        assert made.active is None, "kill waits"

    _, ending, _ = run(work, then)

    assert ending.deliberate
    assert not ending.ok
    assert unwound.exists()


def test_kill_without_reaping_ends_the_child_and_leaves_the_telling_to_the_loop() -> None:
    def then(made: Children) -> None:
        killed = made.active
        assert killed is not None
        made.kill(reap=False)
        assert made.active is killed, "not reaped yet"
        assert psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE

    assert run(sleep_long, then)[1].deliberate


def test_kill_of_a_stopped_child_does_not_hang() -> None:
    def then(made: Children) -> None:
        assert made.active is not None
        os.kill(made.active.pid, signal.SIGSTOP)
        made.kill()

    assert run(sleep_long, then)[1].deliberate


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU])
def test_child_ended_by_another_signal_is_a_failure(number: signal.Signals) -> None:
    def then(made: Children) -> None:
        assert made.active is not None
        os.kill(made.active.pid, number)

    _, ending, _ = run(sleep_long, then)

    assert ending == Ending(0, number)
    assert not ending.ok
    assert not ending.deliberate


def test_signals_of_the_parent_are_as_before_after_a_fork() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    run(lambda reporter: reporter.done())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize(("delay_us", "least_s"), [(2_000, 0.02), (-1, 0), (0, 0)])
def test_slowed_progress_is_told_key_by_key(delay_us: int, least_s: float) -> None:
    told: list[int] = []
    before_s = time.monotonic()
    slowed(told.append, delay_us)(10)
    assert sum(told) == 10
    assert time.monotonic() - before_s >= least_s
    assert len(told) == (10 if delay_us else 1)


@pytest.mark.parametrize(("text", "db"), [(b"3", 3), (b"-1", None), (b"x", None), (b"", None)])
def test_stream_db_of_a_snapshot_is_a_number_or_not_told(text: bytes, db: int | None) -> None:
    assert Loaded(aux={b"repl-stream-db": text}).stream_db == db
