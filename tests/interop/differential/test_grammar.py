"""The grammar against the command table: every command is drawn, or says why it is not."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import kvrepl.commands  # noqa: F401  registers every command
from kvrepl.engine import introspection
from kvrepl.engine.spec import REGISTRY
from tests.interop.differential import grammar
from tests.interop.differential.grammar.exempt import EXEMPT
from tests.interop.differential.grammar.parts import Argv

DRAWS = 25
"""Of each form: those with many spellings need some before each was met."""


def name_of(argv: Argv) -> str | None:
    """The command that a request is for, whose number of arguments it has; or None."""
    command = REGISTRY.get(argv[0].lower().decode("latin-1"))
    if command is not None and command.subcommands and len(argv) > 1:
        command = command.subcommands.get(argv[1].lower(), command)
    if command is None or not command.least <= len(argv) <= command.most:
        return None
    return command.name


def drawn() -> set[str]:
    """The commands that the families gave in DRAWS draws of each form."""
    found: set[str] = set()
    for family in grammar.FAMILIES.values():

        @settings(
            max_examples=DRAWS,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.tuples(*family))
        def draw(items: tuple[Any, ...]) -> None:
            for item in items:
                for argv in item if isinstance(item, list) else [item]:
                    found.add(name_of(argv) or "")

        draw()
    return found


def table() -> set[str]:
    """Every command and subcommand, but those of cluster and modules, which are off."""
    names = [each.name for each in introspection.walk(list(REGISTRY.values()))]
    return {name for name in names if name.partition("|")[0] not in ("cluster", "module")}


def test_grammar_draws_every_command_or_says_why_not() -> None:
    assert table() - drawn() == set(EXEMPT)
