"""Random sequences of commands: the same replies, propagation, events, dirt, encodings, digest."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.interop.differential import grammar
from tests.interop.differential.peers import Argv, InProcess, Real, Seen, comparable

ROOM = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
EVERYTHING = tuple(grammar.DATA)


def assert_alike(real: Real, ours: InProcess, resp: int, commands: Sequence[Argv]) -> None:
    """Run the commands on both sides and compare everything there is to see."""
    real.begin()
    connection = real.connect(resp)
    theirs = real.seen(real.run(connection, commands))
    connection.close()
    ours.begin()
    seen = ours.seen(ours.run(ours.connect(resp), commands))
    for argv, our_reply, their_reply in zip(commands, seen.replies, theirs.replies, strict=True):
        assert comparable(argv, our_reply) == comparable(argv, their_reply), argv
    for field in Seen._fields[1:]:
        assert getattr(seen, field) == getattr(theirs, field), field


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("family", grammar.DATA)
def test_commands_of_one_family_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, family: str, resp: int
) -> None:
    @ROOM
    @given(grammar.sequence(family))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()


@ROOM
@given(commands=grammar.sequence(*EVERYTHING, size=60), resp=st.sampled_from([2, 3]))
def test_commands_of_all_families_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, commands: list[Argv], resp: int
) -> None:
    assert_alike(real, ours, resp, commands)
