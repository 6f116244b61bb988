"""The command table, told to clients: COMMAND INFO, the keys of a request, HELP.

What COMMAND DOCS adds stands in kvrepl.engine.command_docs.

Everything here is rendered from `kvrepl.engine.spec`; nothing is written down twice.

Source: Redis 7.0 server.c (addReplyCommandInfo, commandGetKeys),
db.c (getKeysUsingKeySpecs), commands.c (populateCommandLegacyRangeSpec).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from kvrepl.engine.spec import FLAGS, Command, KeyAt, KeySpec
from kvrepl.errors import CommandError
from kvrepl.numbers import parse_int
from kvrepl.resp.values import Reply, SetReply, Status

ACL_CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
    "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous",
    "connection", "transaction", "scripting",
)  # fmt: skip
"""In the order in which Redis lists them."""

_NO_KEYS: Final = (0, 0, 0)


# ------------------------------------------------------------------- the keys


def legacy_range(command: Command) -> tuple[int, int, int]:
    """First key, last key and step, as far as these three can say where the keys are.

    A negative last key counts from the end of the request.
    """
    specs = command.keys
    if len(specs) == 1 and specs[0].begin == "index" and specs[0].find == "range":
        spec = specs[0]
        last = spec.last if spec.last < 0 else spec.last + spec.index
        return spec.index, last, spec.step
    first, last, joined = 0, 0, 0
    for spec in specs:
        if spec.begin != "index" or spec.find != "range":
            continue
        if spec.step != 1 or (joined and joined != spec.index - 1):
            break
        first = min(first or spec.index, spec.index)
        end = spec.last if spec.last < 0 else spec.last + spec.index
        last = end if end < 0 or (0 <= last < end) else last
        joined = last
    return (first, last, 1) if first else _NO_KEYS


def has_keys(command: Command) -> bool:
    """Whether a request of this command can name keys at all."""
    return command.get_keys is not None or any("not_key" not in s.flags for s in command.keys)


def find_keys(command: Command, argv: list[bytes]) -> Sequence[KeyAt] | None:
    """The keys that a request names, with what is done to them. O(keys); mostly O(1).

    Args:
        command: what argv calls.
        argv: the request; its number of arguments fits the command.

    Returns:
        The keys in order, or None where the request cannot be understood.
    """
    if command.fixed_keys is not None:
        if command.key_flags is None:
            return command.fixed_keys
        flags = command.key_flags(argv)
        return [KeyAt(position, flags) for position, _ in command.fixed_keys]
    found: list[KeyAt] = []
    for spec in command.keys:
        if "not_key" in spec.flags:
            continue
        some = None if "incomplete" in spec.flags else _find(spec, argv)
        if some is None:
            if command.get_keys is None:
                return None
            return [KeyAt(at, _flags_at(command, at)) for at in command.get_keys(argv)]
        found += [KeyAt(position, spec.flags) for position in some]
    return found


def _flags_at(command: Command, position: int) -> tuple[str, ...]:
    """The flags of a key that a function found: of the index it stands at, or of the last rule."""
    for spec in command.keys:
        if spec.begin == "index" and spec.index == position:
            return spec.flags
    return command.keys[-1].flags


def _find(spec: KeySpec, argv: list[bytes]) -> range | None:
    count = len(argv)
    first = spec.index
    if spec.begin == "keyword":
        places = (
            range(spec.index, count - 1) if spec.index > 0 else range(count + spec.index, 0, -1)
        )
        word = spec.keyword.encode()
        first = next((i + 1 for i in places if i < count and argv[i].upper() == word), 0)
    if spec.begin == "unknown" or not first:
        return None
    if spec.find == "keynum":
        keys = parse_int(argv[first]) if first < count else None
        if keys is None:
            return None
        first += 1
        last = first + keys - 1
    elif spec.last >= 0:
        last = first + spec.last
    elif not spec.limit:
        last = count + spec.last
    else:
        last = first + (count - first) // spec.limit + spec.last
    if not first <= last < count:
        return None
    return range(first, last + 1, spec.step)


# ------------------------------------------------------------------ rendering


def info(command: Command) -> list[Any]:
    """One entry of COMMAND INFO."""
    first, last, step = legacy_range(command)
    subcommands = [info(each) for each in command.subcommands.values()]
    return [
        command.name.encode(),
        command.arity,
        _statuses(flag for flag in FLAGS if flag in command.flags),
        first,
        last,
        step,
        _statuses(f"@{name}" for name in ACL_CATEGORIES if name in command.acl),
        SetReply(tip.encode() for tip in command.tips),
        SetReply(map(_key_spec, command.keys)),
        subcommands or SetReply(()),  # for Redis an array, if there are any
    ]


def _statuses(words: Iterator[str]) -> SetReply:
    return SetReply(Status(word.encode()) for word in words)


def key_flags(flags: Sequence[str]) -> SetReply:
    """The flags of a key, as COMMAND GETKEYSANDFLAGS has them."""
    return _statuses(iter(flags))


def _key_spec(spec: KeySpec) -> dict[bytes, Any]:
    begin: dict[bytes, Any] = {}
    if spec.begin == "index":
        begin = {b"index": spec.index}
    elif spec.begin == "keyword":
        begin = {b"keyword": spec.keyword.encode(), b"startfrom": spec.index}
    find: dict[bytes, Any] = {}
    if spec.find == "range":
        find = {b"lastkey": spec.last, b"keystep": spec.step, b"limit": spec.limit}
    elif spec.find == "keynum":
        find = {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}
    notes = {b"notes": spec.notes.encode()} if spec.notes else {}
    return notes | {
        b"flags": key_flags(spec.flags),
        b"begin_search": {b"type": spec.begin.encode(), b"spec": begin},
        b"find_keys": {b"type": spec.find.encode(), b"spec": find},
    }


def walk(commands: Sequence[Command]) -> Iterator[Command]:
    """Commands, each followed by its subcommands."""
    for command in commands:
        yield command
        yield from command.subcommands.values()


# ----------------------------------------------------------------------- HELP


def help_lines(name: str, *entries: tuple[str, str]) -> Reply:
    """The reply of a HELP subcommand.

    Args:
        name: the container, "CLIENT".
        entries: how a subcommand is called, and what it is for.
    """
    lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for usage, purpose in (*entries, ("HELP", "Prints this help.")):
        lines += (usage, f"    {purpose}")
    return [Status(line.encode()) for line in lines]


def wrong_subcommand(argv: Sequence[bytes]) -> CommandError:
    """The error for a subcommand whose arguments fit its arity but not its meaning."""
    return CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
        % (argv[1], argv[0].upper())
    )
