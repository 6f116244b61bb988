"""What is packed between any two commands: nothing that a client or a replica sees is different."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvrepl.persistence.packing import Packing
from tests.interop.differential import grammar
from tests.interop.differential.peers import Argv, InProcess, Seen, comparable

FAMILIES = (
    *("lists", "hashes", "sets", "sorted_sets", "sorted_set_algebra", "lexical"),
    *("geo", "keys", "sorting"),
)


@pytest.fixture(scope="module")
def packing() -> InProcess:
    """Give an engine in which everything is packed after each command that a test says."""
    return InProcess()


@pytest.fixture(scope="module")
def plain() -> InProcess:
    """Give the one that it is compared with."""
    return InProcess()


def assert_alike(
    packing: InProcess, plain: InProcess, commands: list[Argv], packed: list[bool]
) -> int:
    """Run the commands on both; returns how many values were packed."""
    for engine in (packing, plain):
        engine.begin()
        engine.clock.ms = 1_700_000_000_000
    packer = Packing(packing.engine.keyspace)
    client = packing.connect(2)
    replies = []
    for at, argv in enumerate(commands):
        replies += packing.run(client, [argv])
        if packed[at % len(packed)]:
            packer.pack_all()
    seen = packing.seen(replies)
    expected = plain.seen(plain.run(plain.connect(2), commands))
    for argv, one, other in zip(commands, seen.replies, expected.replies, strict=True):
        assert comparable(argv, one) == comparable(argv, other), argv
    for field in Seen._fields[1:]:
        assert getattr(seen, field) == getattr(expected, field), field
    return packer.packed


@pytest.mark.parametrize("family", FAMILIES)
def test_packing_between_the_commands_of_a_family_changes_nothing(
    packing: InProcess, plain: InProcess, family: str
) -> None:
    packed_in_all = 0

    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(grammar.sequence(family), st.lists(st.booleans(), min_size=1, max_size=8))
    def agree(commands: list[Argv], packed: list[bool]) -> None:
        nonlocal packed_in_all
        packed_in_all += assert_alike(packing, plain, commands, packed)

    agree()
    assert packed_in_all > 0


@given(
    grammar.sequence(*FAMILIES, size=60),
    st.lists(st.booleans(), min_size=1, max_size=8),
)
def test_packing_between_the_commands_of_all_families_changes_nothing(
    packing: InProcess, plain: InProcess, commands: list[Argv], packed: list[bool]
) -> None:
    assert_alike(packing, plain, commands, packed)
