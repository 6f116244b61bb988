"""Which settings have an effect: those, and only those, that something outside of config/ reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvrepl.config.setting import Flags, Setting
from kvrepl.config.table import SETTINGS

SOURCE = Path(__file__).parents[3] / "kvrepl"


def names_read() -> frozenset[str]:
    """Every attribute that is read, and every text that may name one, outside of config/."""
    return frozenset(name for path in SOURCE.rglob("*.py") for name in _names_in(path))


def _names_in(path: Path) -> Iterator[str]:
    if path.is_relative_to(SOURCE / "config") and path.name != "config.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


READ = names_read()


TOLD_ONLY = {
    "cluster-enabled": "decides on the refusal of replicaof in the same file, as in Redis",
}
"""Settings without effect that are looked at all the same, and what for."""


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_setting_is_read_exactly_if_it_has_an_effect(setting: Setting) -> None:
    spellings = {setting.attribute, setting.name, *setting.aliases}
    has_effect = not setting.has(Flags.NO_EFFECT)
    if setting.name not in TOLD_ONLY:
        assert bool(spellings & READ) == has_effect, f"{setting.name}: {has_effect=}"
