"""COMMAND DOCS beside redis-server: the same tree for every command, down to the last token.

Three texts are ours, and only compared in their shape:

    summary, complexity    what the docstring of the handler says
    history                in which releases something changed; what, in words of our own
    replaced_by            the command to be used instead, by the name in backticks
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.interop.conftest import KINDS, Launcher
from tests.interop.differential.peers import Connection, Tree
from tests.interop.harness import Server

OURS = ("summary", "complexity")


def ask(server: Server, resp: int, *names: str) -> Tree:
    """Call COMMAND DOCS."""
    connection = Connection(server.port, resp)
    try:
        return connection.ask([b"COMMAND", b"DOCS", *(name.encode() for name in names)])
    finally:
        connection.stream.close()
        connection.socket.close()


def plain(tree: Tree) -> Any:
    """A tree as dicts of text; (kind, value) where the kind says more than its shape."""
    kind, value = tree
    if kind == b"%":
        pairs = zip(value[::2], value[1::2], strict=True)
        return {plain(name)[1]: plain(each) for name, each in pairs}
    if isinstance(value, list):
        return (kind.decode(), [plain(each) for each in value])
    return (kind.decode(), value.decode())


def comparable(told: dict[str, Any]) -> dict[str, Any]:
    """The entry of a command without the texts that are ours."""
    kept = {name: value for name, value in told.items() if name not in OURS}
    if "history" in kept:
        kind, changes = kept["history"]
        kept["history"] = (kind, [change[1][0] for change in changes])
    if "replaced_by" in kept:
        kept["replaced_by"] = re.findall("`([A-Z ]+)`", kept["replaced_by"][1])[0]
    if "subcommands" in kept:
        kept["subcommands"] = {name: comparable(each) for name, each in kept["subcommands"].items()}
    return kept


def test_docs_are_those_of_redis_for_every_command(launch: Launcher) -> None:
    trees = []
    for kind in KINDS:
        told = plain(ask(launch(kind), 3))
        assert len(told) == 240
        for entry in told.values():
            kinds, text = entry["summary"]
            assert kinds == "$"
            assert text
        trees.append({name: comparable(entry) for name, entry in told.items()})
    for name, entry in trees[0].items():
        assert trees[1][name] == entry, name
        # the order of the fields, too
        assert list(trees[1][name]) == list(entry), name


@pytest.mark.parametrize("names", [["zadd"], ["getset", "nosuch", "CONFIG"], ["config|get"], []])
def test_docs_in_resp2_are_flat_lists(launch: Launcher, names: list[str]) -> None:
    shapes = []
    for kind in KINDS:
        told = ask(launch(kind), 2, *names)
        assert told[0] == b"*"
        shapes.append({name[1]: [n[1] for n in e[1][::2]] for name, e in pairs(told)})
    ours = shapes[1]
    assert {name: [f for f in fields if f != b"complexity"] for name, fields in ours.items()} == {
        name: [f for f in fields if f != b"complexity"] for name, fields in shapes[0].items()
    }


def pairs(tree: Tree) -> list[tuple[Tree, Tree]]:
    return list(zip(tree[1][::2], tree[1][1::2], strict=True))


def test_redis_cli_shows_the_arguments_of_a_command(launch: Launcher) -> None:
    shown = [launch(kind).cli("HELP", "ZADD").decode() for kind in KINDS]
    assert "[GT|LT] [CH] [INCR] score member [score member ...]" in shown[0]
    assert "[GT|LT] [CH] [INCR] score member [score member ...]" in shown[1]
