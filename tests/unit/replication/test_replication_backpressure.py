"""Backpressure: when writers wait for a slow replica, and when they do not any more."""

from __future__ import annotations

import pytest

from kvrepl.replication import actions as do
from kvrepl.replication.actions import Actions, Pause
from kvrepl.replication.report import info_fields
from tests.unit.replication.machines import MasterShell, texts

LIMIT_BYTES = 1000
PAUSE, RESUME = do.PauseWrites(Pause.BACKPRESSURE), do.ResumeWrites(Pause.BACKPRESSURE)


def pressed(**settings: object) -> MasterShell:
    """A master with backpressure on and one replica that has everything."""
    shell = MasterShell(repl_diskless_sync=False, **{"repl_backpressure": True, **settings})
    shell.modern(1)
    shell.online(1)
    shell.read(1)
    return shell


def lag(shell: MasterShell, lag_bytes: int, link: int = 1) -> Actions:
    """Bring a replica to a lag, and look."""
    cursor = shell.streams[link].cursor
    if lag_bytes > cursor.lag_bytes:
        shell.repl.stream.feed(-1, b"x" * (lag_bytes - cursor.lag_bytes))
    else:
        cursor.advance(cursor.lag_bytes - lag_bytes)
    return look(shell)


def look(shell: MasterShell, limit_bytes: int = LIMIT_BYTES) -> Actions:
    return shell.repl.press(limit_bytes, shell.now_ms)


def info(shell: MasterShell) -> object:
    return dict(info_fields(shell.repl, shell.now_ms)).get("kvrepl_backpressure")


def test_writers_wait_between_the_two_marks() -> None:
    shell = pressed()
    assert lag(shell, 749) == []

    actions = lag(shell, 750)
    assert actions[-1] == PAUSE
    assert "Writers wait for replica 10.0.0.1:7001, which lacks 750 bytes" in texts(actions)
    shell.now_ms += 300
    assert lag(shell, 626) == []
    assert lag(shell, 625) == [RESUME]
    assert lag(shell, 749) == [], "the upper mark counts again"
    assert info(shell) == "state=idle,lag_bytes=749,limit_bytes=1000,delays=1,delayed_ms=300"


def test_writers_go_on_when_the_slow_replica_goes() -> None:
    shell = pressed()
    lag(shell, 800)
    shell.keep(shell.master.on_closed(1, shell.now_ms))
    assert look(shell) == [RESUME]


def test_writers_wait_for_the_slowest_and_for_a_replica_in_its_full_sync() -> None:
    shell = pressed()
    shell.modern(2)
    shell.psync(2)
    shell.started()
    shell.repl.stream.feed(-1, b"x" * 900)
    shell.read(1)

    actions = look(shell)

    assert actions[-1] == PAUSE
    assert "10.0.0.2:7002" in texts(actions)


def test_writers_go_on_when_the_setting_is_turned_off() -> None:
    shell = pressed()
    lag(shell, 800)
    shell.settings.repl_backpressure = False
    assert shell.repl.backpressure.watches
    assert look(shell) == [RESUME]
    assert not shell.repl.backpressure.watches


def test_writers_go_on_when_the_limit_is_taken_away_or_raised() -> None:
    for limit_bytes in (0, 10_000):
        shell = pressed()
        lag(shell, 800)
        assert look(shell, limit_bytes) == [RESUME]


def test_delay_ends_at_its_bound_and_the_old_rule_holds_until_the_replica_caught_up() -> None:
    shell = pressed(repl_backpressure_max_delay=2000)
    lag(shell, 800)
    shell.now_ms += 2000
    assert look(shell) == []
    shell.now_ms += 1

    actions = look(shell)

    assert actions[-1] == RESUME
    assert "have waited for replica 10.0.0.1:7001 for more than 2000 ms" in texts(actions)
    assert lag(shell, 990) == []
    assert str(info(shell)).startswith("state=given_up,")
    assert lag(shell, 100) == []
    assert lag(shell, 990)[-1] == PAUSE
    assert str(info(shell)).endswith("delays=2,delayed_ms=2001")


def test_replica_holds_back_no_writer_for_those_who_follow_it() -> None:
    shell = pressed()
    lag(shell, 800)
    shell.keep(shell.repl.replicaof("m", 6379, shell.now_ms)[1])
    assert look(shell) == [RESUME]


def test_off_nobody_waits_and_info_says_nothing() -> None:
    shell = pressed(repl_backpressure=False)
    assert not shell.repl.backpressure.watches
    assert lag(shell, 999) == []
    assert info(shell) is None


def test_without_a_limit_nobody_waits() -> None:
    shell = pressed()
    shell.repl.stream.feed(-1, b"x" * 900)
    assert look(shell, 0) == []


@pytest.mark.parametrize(("after_ms", "level"), [(100, "verbose"), (60_000, "notice")])
def test_delays_that_follow_each_other_are_told_quietly(after_ms: int, level: str) -> None:
    shell = pressed()
    lag(shell, 800)
    lag(shell, 100)
    shell.now_ms += after_ms

    (line,) = [a for a in lag(shell, 800) if isinstance(a, do.Log)]

    assert line.level.value == level
