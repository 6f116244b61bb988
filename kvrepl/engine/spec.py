"""What a command is: its metadata, written once beside its function.

    @command("set", -3, "write denyoom", keys=["RW access update @1"], acl="string")
    def set_(c: Client, argv: list[bytes]) -> Reply: ...

From this one decorator come arity checks, the gate mask, ACL categories, key extraction, and the
replies of COMMAND. A subcommand is named "config|get" and found through its container, which is
declared with `container()`. Families of commands register when they are imported
(`kvrepl.commands` imports them all).

Key specifications are written as one line each:

    FLAGS @I            one key at index I
    FLAGS @I..L         keys from index I to L; a negative L counts from the end (-1 is the last)
    FLAGS @I..L/S       every S-th argument of that range
    FLAGS @I..L/S%N     the same, but only the first 1/N of them (XREAD: keys, then ids)
    FLAGS @I#           the argument at I is the number of keys that follow it
    FLAGS WORD@F..L/S   as with @I, after the argument WORD, looked for from index F on
    FLAGS ?             somewhere in the arguments
    ... ; NOTE          a remark, as COMMAND INFO prints it

Where FLAGS has variable_flags, what is done with the key depends on the request (SET with GET
reads it), and `key_flags` says it.

Source: Redis 7.0 server.h (redisCommand, CMD_*), commands.c, server.c (populateCommandStructure).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from kvrepl.engine import gates, latency

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.resp.values import Reply

    Handler = Callable[[Client, list[bytes]], Reply]

KeyFlags = Callable[[list[bytes]], tuple[str, ...]]
"""Gives the flags of a request's key, in the order of KeySpec.flags."""

# Flags, in the order in which COMMAND INFO lists them.
FLAGS: Final = (
    "write", "readonly", "denyoom", "module", "admin", "pubsub", "noscript", "blocking",
    "loading", "stale", "skip_monitor", "skip_slowlog", "asking", "fast", "no_auth",
    "no_mandatory_keys", "no_async_loading", "no_multi", "movablekeys", "allow_busy",
)  # fmt: skip

UNTOLD_FLAGS: Final = ("may_replicate",)
"""It is no write, and yet something that replicas may be sent. COMMAND INFO does not tell."""

UNLIMITED: Final = 1 << 29

NOT_PLAIN: Final = frozenset(("admin", "blocking", "noscript", "pubsub"))
"""Flags of commands that touch more than keys; see Command.plain."""


@dataclass(frozen=True, slots=True)
class KeySpec:
    """Where a command's keys stand; see the notation above.

    Attributes:
        flags: RO, RW, OW or RM, then access, update, insert, delete, not_key, ...
        begin: "index", "keyword" or "unknown".
        index: the index, or for a keyword where to start looking.
        keyword: the word that the keys follow.
        find: "range", "keynum" or "unknown".
        last, step, limit: of a range.
        notes: a remark.
    """

    flags: tuple[str, ...]
    begin: str
    index: int = 0
    keyword: str = ""
    find: str = "range"
    last: int = 0
    step: int = 1
    limit: int = 0
    notes: str = ""


class KeyAt(NamedTuple):
    """A key of a request: its position in argv, and what the command does with it."""

    position: int
    flags: tuple[str, ...]


_SPEC = re.compile(
    r"^(?P<flags>[\w ]+?) (?:(?P<unknown>\?)|(?P<word>[A-Z]*)@(?P<at>-?\d+)"
    r"(?:(?P<keynum>#)|\.\.(?P<last>-?\d+)(?:/(?P<step>\d+))?(?:%(?P<limit>\d+))?)?)$"
)


def parse_key_spec(text: str) -> KeySpec:
    """One line of the notation above. Raises ValueError where it is not that."""
    text, _, notes = text.partition(" ; ")
    match = _SPEC.match(text)
    if match is None:
        raise ValueError(f"not a key specification: {text!r}")
    flags = tuple(match["flags"].split())
    if match["unknown"]:
        return KeySpec(flags, "unknown", find="unknown", notes=notes)
    return KeySpec(
        flags,
        "keyword" if match["word"] else "index",
        int(match["at"]),
        match["word"],
        "keynum" if match["keynum"] else "range",
        int(match["last"] or 0),
        int(match["step"] or 1),
        int(match["limit"] or 0),
        notes,
    )


@dataclass(slots=True, eq=False)
class Command:
    """A command, or a subcommand, of one engine: its specification and its counters.

    Attributes:
        name: in lower case; a subcommand's is "container|sub".
        arity: exact number of arguments with the name, or minus the least number.
        least, most: the same as bounds.
        flags: names out of FLAGS.
        keys: where the keys stand.
        acl: categories, without the at sign.
        acl_bit: its own bit in sets of commands (kvrepl.engine.acl.catalog).
        tips: hints for clients, as COMMAND INFO gives them.
        handler: the function; None for a container, which only has subcommands.
        get_keys: positions of the keys where the specifications cannot tell.
        key_flags: the flags of a key where the specifications cannot tell.
        fixed_keys: the keys, where these are the same arguments of every request; else None.
            Their flags may still depend on it, see key_flags.
        mask: the gates that can refuse it (kvrepl.engine.gates).
        is_write: whether it may change the dataset.
        plain: whether it looks at keys and does nothing else: it cannot tell whether what was
            propagated and answered before it has been handed on yet (kvrepl.engine.batch).
        calls, nanoseconds, rejected, failed: of INFO commandstats.
        spans: calls by duration (kvrepl.engine.latency); empty before the first one.
    """

    name: str
    arity: int
    flags: frozenset[str]
    keys: tuple[KeySpec, ...]
    acl: frozenset[str]
    tips: tuple[str, ...]
    handler: Any
    get_keys: Callable[[list[bytes]], list[int]] | None
    summary: str
    key_flags: KeyFlags | None = None
    acl_bit: int = 0
    fixed_keys: tuple[KeyAt, ...] | None = None
    least: int = 0
    most: int = 0
    mask: int = 0
    is_write: bool = False
    plain: bool = False
    subcommands: dict[bytes, Command] = field(default_factory=dict)
    container: Command | None = None
    calls: int = 0
    nanoseconds: int = 0
    spans: list[int] = field(default_factory=list)
    rejected: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self.least = abs(self.arity)
        self.most = self.arity if self.arity > 0 else UNLIMITED
        self.mask = gates.mask_of(self.name, self.flags)
        self.is_write = "write" in self.flags
        self.fixed_keys = _fixed_keys(self)
        self.plain = (
            (self.is_write or "readonly" in self.flags)
            and not self.flags & NOT_PLAIN
            and "dangerous" not in self.acl
        )

    def count(self, spent_ns: int) -> None:
        """A call has ended after that many nanoseconds. O(1)."""
        self.calls += 1
        self.nanoseconds += spent_ns
        self.note_span(spent_ns)

    def note_span(self, spent_ns: int) -> None:
        """Add to the histogram of latencies. O(1)."""
        spans = self.spans
        if not spans:
            spans.extend(latency.EMPTY)
        spans[latency.bucket_of(spent_ns)] += 1

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT."""
        self.calls = self.nanoseconds = self.rejected = self.failed = 0
        self.spans.clear()

    def copy(self) -> Command:
        """A fresh one for another engine: the same specification, counters at zero."""
        twin = Command(
            self.name, self.arity, self.flags, self.keys, self.acl, self.tips, self.handler,
            self.get_keys, self.summary, self.key_flags, self.acl_bit,
        )  # fmt: skip
        for name, sub in self.subcommands.items():
            twin.subcommands[name] = sub = sub.copy()
            sub.container = twin
        return twin


def _fixed_keys(command: Command) -> tuple[KeyAt, ...] | None:
    """The keys of a command, if every request has them at the same places."""
    keys = [spec for spec in command.keys if "not_key" not in spec.flags]
    for spec in keys:
        if spec.begin != "index" or spec.find != "range" or spec.last or "incomplete" in spec.flags:
            return None
        if spec.index >= command.least:
            return None
    return tuple(KeyAt(spec.index, spec.flags) for spec in keys)


REGISTRY: Final[dict[str, Command]] = {}
"""Every command declared so far, by name, containers with their subcommands inside."""

_acl_bits: Final = (1 << position for position in count(1))
"""Bit 0 stands for commands that there are not yet (kvrepl.engine.acl.catalog)."""

F = TypeVar("F", bound=Callable[..., Any])


def command(
    name: str,
    arity: int,
    flags: str = "",
    *,
    keys: Sequence[str] = (),
    acl: str = "",
    tips: Sequence[str] = (),
    get_keys: Callable[[list[bytes]], list[int]] | None = None,
    key_flags: KeyFlags | None = None,
) -> Callable[[F], F]:
    """Declare the decorated function to be the handler of a command.

    Args:
        name: "get", or "config|get" for a subcommand of a container declared before.
        arity: as COMMAND gives it: exact if positive, minus the least number if negative.
        flags: names out of FLAGS, separated by blanks.
        keys: key specifications, one line each (see the module).
        acl: categories beyond those that follow from the flags.
        tips: hints for clients.
        get_keys: positions of the keys in argv, where `keys` cannot say.
        key_flags: what argv does with the key, where `keys` has variable_flags.
    """

    def declare(function: F) -> F:
        summary = (function.__doc__ or "").strip().partition("\n")[0]
        new = _make(name, arity, flags, keys, acl, tips, function, get_keys, key_flags, summary)
        _add(new)
        return function

    return declare


def container(name: str, arity: int = -2, *, acl: str = "", summary: str = "") -> None:
    """Declare a command that has nothing but subcommands (CONFIG, CLIENT, ...)."""
    _add(_make(name, arity, "", (), acl, (), None, None, None, summary))


def _make(
    name: str,
    arity: int,
    flags: str,
    keys: Sequence[str],
    acl: str,
    tips: Sequence[str],
    handler: Any,
    get_keys: Callable[[list[bytes]], list[int]] | None,
    key_flags: KeyFlags | None,
    summary: str,
) -> Command:
    names = frozenset(flags.split())
    unknown = names.difference(FLAGS, UNTOLD_FLAGS)
    if unknown:
        raise ValueError(f"{name}: unknown flags {sorted(unknown)}")
    categories = set(acl.split())
    # server.c, setImplicitACLCategories
    if "write" in names:
        categories.add("write")
    if "readonly" in names and "scripting" not in categories:
        categories.add("read")
    if "admin" in names:
        categories.update(("admin", "dangerous"))
    if "pubsub" in names:
        categories.add("pubsub")
    if "blocking" in names:
        categories.add("blocking")
    categories.add("fast" if "fast" in names else "slow")
    return Command(
        name, arity, names, tuple(map(parse_key_spec, keys)), frozenset(categories),
        tuple(tips), handler, get_keys, summary, key_flags,
    )  # fmt: skip


def _add(new: Command) -> None:
    parent, _, sub = new.name.partition("|")
    new.acl_bit = next(_acl_bits)
    if sub:
        siblings = REGISTRY[parent].subcommands
        assert sub.encode() not in siblings, f"{new.name} is declared twice"
        siblings[sub.encode()] = new
        new.container = REGISTRY[parent]
    else:
        assert parent not in REGISTRY, f"{new.name} is declared twice"
        REGISTRY[parent] = new
