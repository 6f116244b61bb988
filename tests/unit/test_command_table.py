"""Our command table against that of redis-server 7.0.15: every fact that COMMAND INFO tells.

`tests/data/commands-7.0.15.json` is the reply of redis-server 7.0.15 to COMMAND, with the sets
sorted. What we do not have yet is listed by name, so that the list can only shrink.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kvrepl.commands  # noqa: F401  registers every command
from kvrepl.engine import command_docs, introspection
from kvrepl.engine.spec import REGISTRY, Command
from kvrepl.resp.values import SetReply, Status

Facts = dict[str, Any]

DATA = Path(__file__).parents[1] / "data" / "commands-7.0.15.json"
REDIS: dict[str, Facts] = {entry["name"]: entry for entry in json.loads(DATA.read_text())}

ABSENT: dict[str, str] = {}
"""Commands that are not there yet, and the family that they will come with."""

ABSENT_SUBCOMMANDS: dict[str, str] = {}


def names_of(table: dict[str, str]) -> set[str]:
    return {name for names in table for name in names.split()}


def facts_of(command: Command) -> Facts:
    """COMMAND INFO's entry in the shape of the data file, subcommands left out."""
    name, arity, flags, first, last, step, acl, tips, specs, _ = introspection.info(command)
    return {
        "name": name.decode(),
        "arity": arity,
        "flags": sorted(plain(flags)),
        "first_key": first,
        "last_key": last,
        "key_step": step,
        "acl_categories": sorted(plain(acl)),
        "tips": plain(tips),
        "key_specs": plain(specs),
    }


def plain(value: Any) -> Any:
    """A reply as JSON would have it."""
    if isinstance(value, Status):
        return value.text.decode()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, SetReply)):
        return [plain(each) for each in value]
    return value


def expected(entry: Facts) -> Facts:
    return {key: value for key, value in entry.items() if key != "subcommands"}


def all_entries() -> dict[str, Facts]:
    return {
        entry["name"]: entry
        for parent in REDIS.values()
        for entry in [parent, *parent.get("subcommands", [])]
    }


def all_commands() -> dict[str, Command]:
    return {each.name: each for each in introspection.walk(list(REGISTRY.values()))}


@pytest.mark.parametrize("name", sorted(set(all_commands()) & set(all_entries())))
def test_command_table_each_command_tells_the_facts_of_redis(name: str) -> None:
    assert facts_of(all_commands()[name]) == expected(all_entries()[name])


def test_command_table_what_is_missing_is_what_is_listed() -> None:
    assert set(REDIS) - set(REGISTRY) == names_of(ABSENT)


def test_command_table_missing_subcommands_are_those_listed() -> None:
    of_present = {name for name in all_entries() if name.partition("|")[0] in REGISTRY}
    assert of_present - set(all_commands()) == names_of(ABSENT_SUBCOMMANDS)


def test_command_table_has_nothing_that_redis_lacks() -> None:
    assert set(all_commands()) - set(all_entries()) == set()


def test_command_table_every_command_says_what_it_is_for() -> None:
    silent = [name for name, each in all_commands().items() if not each.summary]
    assert silent == []


def test_command_table_docs_know_every_command_and_no_other() -> None:
    assert set(command_docs.facts()) == set(all_entries())
