"""The tables of docs/PSYNC.md, made from the code, so that they cannot say anything else.

The page is prose with places for tables, each between two marks:

    <!-- table: NAME -->
    ...
    <!-- end -->

`filled` puts the present tables in. To write the page anew:

    python -c "import pathlib; from kvrepl.replication.page import filled; \\
        page = pathlib.Path('docs/PSYNC.md'); page.write_text(filled(page.read_text()))"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final, TypeVar

from kvrepl.replication import failover, links, states
from kvrepl.replication.reasons import FullSyncReason

_PLACE: Final = re.compile(r"(<!-- table: ([a-z-]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)

AnyState = TypeVar("AnyState", bound=Enum)


def filled(page: str) -> str:
    """Return the page with every table made anew.

    Raises:
        KeyError: it has a place for a table that there is not.
    """
    return _PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[4]}", page)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [list(row) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _after(transitions: Mapping[AnyState, set[AnyState]], state: AnyState) -> str:
    """The states that may follow, in the order in which they are defined."""
    return ", ".join(other.name for other in type(state) if other in transitions[state])


def link_states() -> str:
    """The states of a link to a master."""
    rows = (
        (f"`{state.name}`", state.awaits, state.role, _after(states.TRANSITIONS, state))
        for state in states.State
    )
    return _table(("state", "waits for", "ROLE says", "may be followed by"), rows)


def replica_states() -> str:
    """The states of a replica as its master sees it."""
    rows = (
        (f"`{state.name}`", state.meaning, state.shown, _after(links.TRANSITIONS, state))
        for state in links.ReplicaState
    )
    return _table(("state", "the replica", "INFO says", "may be followed by"), rows)


def failover_states() -> str:
    """The states of a planned failover."""
    rows = (
        (f"`{state.name}`", state.meaning, state.value, _after(failover.TRANSITIONS, state))
        for state in failover.FailoverState
    )
    return _table(("state", "what happens", "INFO says", "may be followed by"), rows)


def full_sync_reasons() -> str:
    """Why full syncs are needed."""
    rows = ((f"`{reason.value}`", reason.meaning) for reason in FullSyncReason)
    return _table(("reason", "what was the matter"), rows)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "link-states": link_states,
    "replica-states": replica_states,
    "failover-states": failover_states,
    "full-sync-reasons": full_sync_reasons,
}
