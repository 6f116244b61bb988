"""docs/PSYNC.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from kvrepl.replication.links import TRANSITIONS as REPLICA_TRANSITIONS
from kvrepl.replication.links import ReplicaState
from kvrepl.replication.page import TABLES, filled
from kvrepl.replication.states import State

PAGE = (Path(__file__).parents[3] / "docs" / "PSYNC.md").read_text()


def test_page_shows_every_table_as_the_code_has_it() -> None:
    for name in TABLES:
        assert f"<!-- table: {name} -->" in PAGE
    assert filled(PAGE) == PAGE, "write it anew, see kvrepl.replication.page"


def test_page_names_every_state_and_what_may_follow() -> None:
    assert all(f"| `{state.name}` |" in PAGE for state in (*State, *ReplicaState))
    row = next(line for line in PAGE.splitlines() if line.startswith("| `SEND_BULK`"))
    assert row.endswith("| send_bulk | NONE, RDB_TRANSMITTED, ONLINE |")


def test_replica_transitions_every_state_can_be_reached_and_left() -> None:
    reached = set().union(*REPLICA_TRANSITIONS.values())
    assert reached == set(ReplicaState) == set(REPLICA_TRANSITIONS)
    assert all(
        ReplicaState.NONE in after
        for state, after in REPLICA_TRANSITIONS.items()
        if state is not ReplicaState.NONE
    )
