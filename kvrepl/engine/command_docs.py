"""COMMAND DOCS: what a client is told of each command, down to its arguments.

    summary, complexity        the first line of the handler's docstring
    all the rest               command_docs.json, one command a line, read when first asked for

The file holds facts only, by the names that Redis has for them: since when, in which group, what
replaces it, what changed in which release, and the tree of arguments with their types, tokens
and flags.

Source: the replies of redis-server 7.0.15 to COMMAND DOCS; Redis 7.0 server.c (addReplyCommandDocs,
addReplyCommandArgList).
"""

from __future__ import annotations

import json
import re
from functools import cache
from pkgutil import get_data
from typing import Any, Final

from kvrepl.engine.spec import Command
from kvrepl.resp.values import SetReply, Status

FILE: Final = "command_docs.json"

_COMPLEXITY: Final = re.compile(r"O\(")


@cache
def facts() -> dict[str, dict[str, Any]]:
    """The facts of each command and subcommand ("config|get"), by its name."""
    data = get_data("kvrepl.engine", FILE)
    assert data is not None, "the package has no data"
    found: dict[str, dict[str, Any]] = json.loads(data)
    return found


def docs(command: Command) -> dict[bytes, Any]:
    """The entry of a command in COMMAND DOCS. O(arguments + subcommands)."""
    summary, cost = _split_cost(command.summary)
    known = facts()[command.name]
    told: dict[bytes, Any] = {
        b"summary": summary.encode(),
        b"since": known["since"].encode(),
        b"group": known["group"].encode(),
    }
    if cost:
        told[b"complexity"] = cost.encode()
    if "doc_flags" in known:
        told[b"doc_flags"] = _flags(known["doc_flags"])
    for name in ("deprecated_since", "replaced_by"):
        if name in known:
            told[name.encode()] = known[name].encode()
    if "history" in known:
        told[b"history"] = SetReply(
            [since.encode(), what.encode()] for since, what in known["history"]
        )
    if "arguments" in known:
        told[b"arguments"] = [_argument(each) for each in known["arguments"]]
    if command.subcommands:
        told[b"subcommands"] = {
            sub.name.encode(): docs(sub) for sub in command.subcommands.values()
        }
    return told


def _argument(argument: dict[str, Any]) -> dict[bytes, Any]:
    told: dict[bytes, Any] = {}
    for name, value in argument.items():
        if name == "arguments":
            told[b"arguments"] = [_argument(each) for each in value]
        elif name == "flags":
            told[b"flags"] = _flags(value)
        else:
            told[name.encode()] = value.encode() if isinstance(value, str) else value
    return told


def _flags(words: list[str]) -> SetReply:
    return SetReply(Status(word.encode()) for word in words)


def _split_cost(summary: str) -> tuple[str, str]:
    """A docstring's first line without the cost at its end, and the cost."""
    match = _COMPLEXITY.search(summary)
    if match is None:
        return summary.rstrip("."), ""
    cost = summary[match.start() :].partition(". ")[0]
    return summary[: match.start()].rstrip(". "), cost.rstrip(".")
