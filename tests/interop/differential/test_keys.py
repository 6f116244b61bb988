"""Random sequences of commands on keys, with transactions: everything observable as with Redis.

Times to live are given as instants, long past or far ahead, for the two sides have not the same
clock. What Redis's sort leaves to chance is not asked for: the order of elements that compare
equal by other keys' texts, and that of a set left unsorted.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.interop.differential.grammar.keys import fillers, on_keys, sorting, transactions
from tests.interop.differential.grammar.parts import Argv
from tests.interop.differential.peers import InProcess, Real
from tests.interop.differential.test_sequences import ROOM, assert_alike

pytestmark = pytest.mark.interop


def sequence(*groups: list[st.SearchStrategy[Argv]]) -> st.SearchStrategy[list[Argv]]:
    """Commands of these groups, as many of each."""
    return st.lists(st.one_of([st.one_of(group) for group in groups]), max_size=40)


@pytest.mark.parametrize("resp", [2, 3])
def test_commands_on_keys_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    @ROOM
    @given(sequence(fillers(), on_keys()))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()


def test_sort_in_random_order_is_answered_as_by_redis(real: Real, ours: InProcess) -> None:
    @ROOM
    @given(sequence(fillers(), sorting()))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, 2, commands)

    agree()


@pytest.mark.parametrize("resp", [2, 3])
def test_transactions_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    # KEYS inside EXEC would be an array in another order; what is asked there has one answer.
    quiet = fillers() + on_keys()[:7]

    @ROOM
    @given(sequence(quiet, transactions()))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()
