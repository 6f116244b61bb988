"""What of two servers' answers must be equal: all but what no specification fixes.

Taken away before two replies are compared is the order where there is none, what chance picks, and
the time that has passed; two instants are equal if they are near each other and near the present.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tests.interop.differential.peers import Argv, Tree, comparable
from tests.interop.differential.servers import Dataset

SLACK_MS: Final = 60_000
"""Two servers get the same command this long after another at most."""
HORIZON_MS: Final = 10**16
"""Beyond are numbers that stand for themselves."""

Rule = Callable[[Argv, Tree], Tree]


# ---- replies without what nothing fixes


def _sorted(argv: Argv, tree: Tree) -> Tree:
    kind, value = tree
    return (kind, sorted(value, key=repr)) if isinstance(value, list) else tree


def _pairs(argv: Argv, tree: Tree) -> Tree:
    kind, value = tree
    if not isinstance(value, list):
        return tree
    return kind, sorted((value[at : at + 2] for at in range(0, len(value), 2)), key=repr)


def _shape(argv: Argv, tree: Tree) -> Tree:
    """Types alone, and of texts and numbers whether they are there."""
    kind, value = tree
    if isinstance(value, list):
        return kind, [_shape(argv, each) for each in value]
    return kind, value if value is None or kind in (b"-", b"+") else b"?"


def _kind(argv: Argv, tree: Tree) -> Tree:
    """A serialized value by its type alone: elements without order have none there."""
    kind, value = tree
    return kind, value[:1] if kind == b"$" and value else value


def _first(argv: Argv, tree: Tree) -> Tree:
    """HELP by its heading: we say it in our own words."""
    kind, value = tree
    return kind, value[:1] if isinstance(value, list) else value


def _functions(argv: Argv, tree: Tree) -> Tree:
    """Libraries and their functions, each in an order of its own."""
    kind, libraries = tree
    told = [(each, [*facts[:5], _sorted(argv, facts[5]), *facts[6:]]) for each, facts in libraries]
    return kind, sorted(told, key=repr)


def _commands(argv: Argv, tree: Tree) -> Tree:
    """Subcommands have no order, nor has the whole table."""
    kind, commands = tree
    told = [
        (each, facts and [*facts[:9], _sorted(argv, facts[9])]) for each, facts in commands or ()
    ]
    return kind, told if len(argv) > 2 else sorted(told, key=repr)


def _scan(argv: Argv, tree: Tree) -> Tree:
    """Keys without order. Which stand behind a cursor that no call gave depends on the seed of the
    hash."""
    kind, (cursor, found) = tree
    if argv[1] not in (b"0", b""):
        return kind, [cursor]
    return kind, [cursor, _sorted(argv, found)]


def _words(argv: Argv, tree: Tree) -> Tree:
    """Users' rules: those of single commands have no order."""
    kind, value = tree
    if isinstance(value, list):
        return kind, [_words(argv, each) for each in value]
    return kind, b" ".join(sorted(value.split())) if value else value


def _entries(argv: Argv, tree: Tree) -> Tree:
    """The slow log: what ran and as whom, without number, instant, duration and address."""
    kind, entries = tree
    return kind, [(each, [facts[3], facts[5]]) for each, facts in entries]


def _shared(argv: Argv, tree: Tree) -> Tree:
    """Whether there is a value. Redis tells integers that it keeps once, and whether this key has
    that one or a copy of it (COPY, RESTORE) is a matter of history; we have no such objects."""
    kind, value = tree
    return kind, value and b"?"


def _denials(argv: Argv, tree: Tree) -> Tree:
    """ACL LOG: how often, why, where, what and who; not when, nor over which connection."""
    kind, value = tree
    return kind, [(each, facts[:10]) for each, facts in value] if kind == b"*" else value


def _length(argv: Argv, tree: Tree) -> Tree:
    kind, value = tree
    return kind, len(value) if kind == b"$" else value


QUEUED: Final[Tree] = (b"+", b"QUEUED")

RULES: Final[dict[bytes, Rule]] = {
    b"DUMP": _kind,
    b"SCAN": _scan,
    b"ACL LIST": _words,
    b"ACL LOG": _denials,
    b"ACL GETUSER": _words,
    b"PUBSUB CHANNELS": _sorted,
    b"PUBSUB SHARDCHANNELS": _sorted,
    b"CONFIG GET": _pairs,
    b"COMMAND ": _commands,
    b"COMMAND INFO": _commands,
    b"COMMAND LIST": _sorted,
    b"ACL CAT": _sorted,
    b"ACL GENPASS": _length,
    b"FUNCTION DUMP": _kind,
    b"FUNCTION LIST": _functions,
    b"CLIENT ID": _shape,
    b"TIME": _shape,
    b"LASTSAVE": _shape,
    b"RANDOMKEY": _shape,
    b"MEMORY USAGE": _shape,
    b"OBJECT IDLETIME": _shape,
    b"OBJECT REFCOUNT": _shared,
    b"SLOWLOG GET": _entries,
}


def settled(argv: Argv, tree: Tree) -> Tree:
    """A reply with what nothing fixes taken away; one that is no answer yet, or none, as it is.

    None is an error, or that the connection was closed (behind a QUIT).
    """
    if tree[0] in (b"-", b"!") or tree == QUEUED:
        return tree
    name = argv[0].upper()
    if [each.upper() for each in argv[1:]] == [b"HELP"]:
        return _first(argv, tree)
    rule = RULES.get(name + b" " + b"".join(argv[1:2]).upper()) or RULES.get(name)
    return rule(argv, tree) if rule else comparable(argv, tree)


class Answers:
    """Replies in the order of requests, those of a transaction by what was queued."""

    def __init__(self) -> None:
        self._queued: list[Argv] = []

    def settle(self, argv: Argv, trees: Sequence[Tree]) -> list[Tree]:
        """The trees that answer a request, comparable with those of another server."""
        name = argv[0].upper()
        if list(trees) == [QUEUED]:
            self._queued.append(argv)
        elif name == b"EXEC":
            queued, self._queued = self._queued, []
            return [self._settle_exec(queued, tree) for tree in trees]
        elif name in (b"DISCARD", b"RESET"):
            self._queued = []
        settled_trees = [settled(argv, tree) for tree in trees if not _invalidates(tree)]
        if name in (b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE") and len(argv) == 1:
            # All at once and in no order; how many are left counts down.
            return sorted(((kind, parts[:2]) for kind, parts in settled_trees), key=repr)
        return settled_trees

    @staticmethod
    def _settle_exec(queued: list[Argv], tree: Tree) -> Tree:
        kind, value = tree
        if not isinstance(value, list) or kind == b">":
            return tree
        return kind, [settled(argv, each) for argv, each in zip(queued, value, strict=True)]


# ---- equal but for the time that has passed

NUMBER: Final = re.compile(rb"\d{1,19}")
SPANS: Final = frozenset((b"TTL", b"PTTL", b"XPENDING", b"XINFO", b"EXPIRETIME"))
"""Commands that tell of time passed or left, as numbers of any size."""


def near(ours: object, theirs: object, now_ms: int, *, spans: bool = False) -> bool:
    """Whether two values are equal, but for instants near the present.

    Args:
        ours: a tree, or lists of bytes and numbers.
        theirs: another.
        now_ms: the present.
        spans: whether any numbers may differ by what passes between two servers.
    """
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(
            near(a, b, now_ms, spans=spans) for a, b in zip(ours, theirs, strict=True)
        )
    if ours == theirs:
        return True
    if not isinstance(ours, (bytes, int)) or not isinstance(theirs, (bytes, int)):
        return False
    a, b = _number(ours), _number(theirs)
    if a is None or b is None or abs(a - b) > SLACK_MS:
        return False
    return spans or abs(a - now_ms) < HORIZON_MS


def _number(value: bytes | int) -> int | None:
    if isinstance(value, int):
        return value
    return int(value) if NUMBER.fullmatch(value) else None


def now_ms() -> int:
    """The present."""
    return int(time.time() * 1000)


def first_difference(
    commands: Sequence[Argv], ours: Sequence[Sequence[Tree]], theirs: Sequence[Sequence[Tree]]
) -> str | None:
    """Say where the replies of two servers part first."""
    mine, other, now = Answers(), Answers(), now_ms()
    if _invalidated(ours) != _invalidated(theirs):
        return f"invalidated: kvrepl {_invalidated(ours)} redis {_invalidated(theirs)}"
    for number, (argv, a, b) in enumerate(zip(commands, ours, theirs, strict=True)):
        left, right = mine.settle(argv, a), other.settle(argv, b)
        spans = argv[0].upper() in SPANS or argv[0].upper() == b"EXEC"
        if not near(left, right, now, spans=spans):
            return f"reply {number} to {list(argv)}:\nkvrepl {left}\nredis  {right}"
    return None


def _invalidates(tree: Tree) -> bool:
    kind, value = tree
    return kind == b">" and value[0][1] == b"invalidate"


def _invalidated(answers: Sequence[Sequence[Tree]]) -> list[bytes]:
    """The keys that a client was told of. When, and together with which, depends with BCAST on how
    its requests fell into turns of the loop."""
    parts = [tree[1][1][1] for trees in answers for tree in trees if _invalidates(tree)]
    return sorted({key for keys in parts for _, key in keys or [(b"_", b"everything")]})


def stream_difference(ours: Iterable[list[bytes]], theirs: Iterable[list[bytes]]) -> str | None:
    """Say where two replication streams part first."""
    mine, other, now = list(ours), list(theirs), now_ms()
    for number, (a, b) in enumerate(zip(mine, other, strict=False)):
        if not near(a, b, now):
            return f"stream at {number}:\nkvrepl {mine[number:][:4]}\nredis  {other[number:][:4]}"
    if len(mine) != len(other):
        at = min(len(mine), len(other))
        return f"stream ends:\nkvrepl {mine[at:][:4]}\nredis  {other[at:][:4]}"
    return None


def dataset_difference(commands: Sequence[Argv], ours: Dataset, theirs: Dataset) -> str | None:
    """Say how two datasets differ after the same commands.

    Of encodings two things differ. We call each text that is an integer so, but for Redis what
    INCRBYFLOAT gave is none. And it makes a skiplist, for good, of a sorted set that it sorts.
    """
    same = {b"int": b"embstr"}
    if any(argv[0].upper() in (b"SORT", b"SORT_RO") for argv in commands):
        same[b"skiplist"] = b"listpack"
    encoded = [
        [(db, key, same.get(encoding, encoding), left) for db, key, encoding, left in each.keys]
        for each in (ours, theirs)
    ]
    mine, other = set(ours.keys), set(theirs.keys)
    if not near(encoded[0], encoded[1], now_ms(), spans=True):
        return f"keys:\nkvrepl {sorted(mine - other)[:5]}\nredis  {sorted(other - mine)[:5]}"
    if ours.digest != theirs.digest:
        return f"digest: kvrepl {ours.digest!r} redis {theirs.digest!r}"
    return None


def together(*differences: str | None) -> list[Any]:
    """Those that there are."""
    return [each for each in differences if each]
