"""The title of the process by its template."""

from __future__ import annotations

import os

import pytest

from kvrepl.config import Config
from kvrepl.server.process import (
    SHORT_TURN_NS,
    take_short_turns,
    title_of,
    turn_ns,
    yield_turn,
)


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["--port", "7000"], "kvrepl-server *:7000"),
        (["--port", "7000", "--bind", "-::1 127.0.0.1"], "kvrepl-server ::1:7000"),
        (["--port", "0", "--unixsocket", "/run/x.sock"], "kvrepl-server /run/x.sock"),
        (["--proc-title-template", "{{a} {port}-{tls-port} {title}"], "{a} 6379-0 kvrepl-server"),
    ],
)
def test_title_of_template_is_filled_in(arguments: list[str], title: str) -> None:
    assert title_of(Config.from_args(arguments)) == title


@pytest.mark.skipif(turn_ns() == 0, reason="the kernel lets no thread choose (before Linux 6.12)")
def test_short_turns_are_taken_and_ended_and_nothing_else_changes() -> None:
    before, nice = turn_ns(), os.getpriority(os.PRIO_PROCESS, 0)

    take_short_turns(True)
    try:
        assert turn_ns() == SHORT_TURN_NS < before
        yield_turn()
        assert turn_ns(os.getpid()) == SHORT_TURN_NS
        assert os.getpriority(os.PRIO_PROCESS, 0) == nice
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
    finally:
        take_short_turns(False)

    assert turn_ns() == before


def test_turn_of_a_thread_that_is_not_there_is_unknown() -> None:
    assert turn_ns(1 << 30) == 0
