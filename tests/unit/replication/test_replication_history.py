"""Histories: which peers may go on from here."""

from __future__ import annotations

import itertools

import pytest

from kvrepl.replication.history import History
from kvrepl.replication.wire import NO_REPLID


@pytest.fixture
def history() -> History:
    numbers = itertools.count(1)
    return History(lambda: b"%040x" % next(numbers))


def replid(number: int) -> bytes:
    return b"%040x" % number


def test_history_fresh_continues_nobody_but_itself(history: History) -> None:
    assert history.replid == replid(1)
    assert history.replid2 == NO_REPLID
    assert history.second_repl_offset == -1
    assert history.continues(replid(1), 0)
    assert not history.continues(replid(2), 0)


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_history_without_second_id_refuses_the_id_of_zeros(history: History, offset: int) -> None:
    assert not history.continues(NO_REPLID, offset)


def test_history_shift_keeps_old_id_up_to_its_offset(history: History) -> None:
    history.offset = 100
    history.shift()
    assert (history.replid, history.replid2) == (replid(2), replid(1))
    assert history.second_repl_offset == 101
    assert history.continues(replid(1), 100)
    assert not history.continues(replid(1), 101)
    history.offset = 200
    assert history.continues(replid(2), 150)
    assert not history.continues(replid(1), 150)


def test_history_id_of_other_case_is_the_same(history: History) -> None:
    history.adopt(b"ab" * 20, 5)
    assert history.continues(b"AB" * 20, 5)


def test_history_change_forgets_the_old_id(history: History) -> None:
    history.offset = 100
    history.shift()
    history.change()
    assert history.replid == replid(3)
    assert not history.continues(replid(1), 50)
    assert history.offset == 100


def test_history_adopt_takes_id_and_offset_and_no_second(history: History) -> None:
    history.offset = 7
    history.shift()
    history.adopt(replid(99), 1000)
    assert (history.replid, history.offset) == (replid(99), 1000)
    assert history.replid2 == NO_REPLID
    assert history.second_repl_offset == -1


def test_history_rename_keeps_the_followed_id_as_second(history: History) -> None:
    history.adopt(replid(50), 10)
    history.rename(replid(51))
    assert (history.replid, history.replid2) == (replid(51), replid(50))
    assert history.second_repl_offset == 11


def test_history_restored_as_master_is_new_and_continues_the_file(history: History) -> None:
    history.restore_as_master(replid(77), 500)
    assert history.replid == replid(1)
    assert history.offset == 500
    assert history.continues(replid(77), 500)
    assert not history.continues(replid(77), 501)


def test_history_restored_as_replica_is_that_of_the_file(history: History) -> None:
    history.restore_as_replica(replid(77), 500)
    assert (history.replid, history.offset) == (replid(77), 500)
    assert history.second_repl_offset == -1
