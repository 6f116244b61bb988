"""SORT and SORT_RO: the elements of a list, set or sorted set, ordered by themselves or by others.

A pattern names a value for each element: its first `*` stands for the element, and what follows
`->` is a field of the hash there; `#` is the element itself. A BY pattern without a `*` means:
leave the order alone.

Texts are compared byte by byte, whatever the locale.

Source: Redis 7.0 sort.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import integer
from kvrepl.config.notify import NOTIFY_GENERIC, NOTIFY_LIST
from kvrepl.datatypes import HashValue, ListValue, SetValue, SortedSet
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, WRONGTYPE, CommandError
from kvrepl.numbers import is_exact, parse_float
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

DENIED: Final = b"ERR %b option of SORT denied due to insufficient ACL permissions."
NOT_DOUBLES: Final = CommandError(b"ERR One or more scores can't be converted into double")

_BY_GET: Final = (
    "RO access ? ; For the optional BY/GET keyword. It is marked 'unknown' because the key names"
    " derive from the content of the key we sort"
)
_STORE: Final = (
    "OW update ? ; For the optional STORE keyword. It is marked 'unknown' because the keyword can"
    " appear anywhere in the argument array"
)
_BLANKS: Final = b" \t\n\v\f\r"
_SMALLEST_NORMAL: Final = float.fromhex("0x1p-1022")
_PLAIN: Final = b"0123456789-."
"""Of what is made of these, Python and strtod read the same number, or none."""
_PLAIN_BYTES: Final = 300
"""And none so long is less than the smallest normal number."""


@dataclass(slots=True)
class _Options:
    descending: bool = False
    alpha: bool = False
    start: int = 0
    count: int = -1
    by: bytes | None = None
    ordered: bool = True
    gets: list[bytes] = field(default_factory=list)
    store: bytes | None = None


def _sort_keys(argv: list[bytes]) -> list[int]:
    """The key itself, and the last STORE key; words that take arguments are stepped over."""
    store = 0
    skips = {b"LIMIT": 2, b"GET": 1, b"BY": 1}
    i = 2
    while i < len(argv):
        word = argv[i].upper()
        if word == b"STORE" and i + 1 < len(argv):
            store = i + 1
            i += 1
        i += 1 + skips.get(word, 0)
    return [1, store] if store else [1]


@command(
    "sort",
    -2,
    "write denyoom movablekeys",
    keys=["RO access @1", _BY_GET, _STORE],
    acl="set sortedset list dangerous",
    get_keys=_sort_keys,
)
def sort(c: Client, argv: list[bytes]) -> Reply:
    """Sort a list, set or sorted set; return or store it. O(n log n + elements returned)."""
    options = _parse(c, argv, may_store=True)
    elements = _sorted(c, argv[1], options)
    if options.store is None:
        return _output(c.db, elements, options.gets)
    return _store(c, options.store, _output(c.db, elements, options.gets))


@command(
    "sort_ro",
    -2,
    "readonly movablekeys",
    keys=["RO access @1", _BY_GET],
    acl="set sortedset list dangerous",
    get_keys=lambda argv: [1],
)
def sort_ro(c: Client, argv: list[bytes]) -> Reply:
    """Sort a list, set or sorted set; never stores it. O(n log n + elements returned)."""
    options = _parse(c, argv, may_store=False)
    return _output(c.db, _sorted(c, argv[1], options), options.gets)


def _parse(c: Client, argv: list[bytes], *, may_store: bool) -> _Options:
    options = _Options()
    verb = c.engine.commands["sort" if may_store else "sort_ro"]
    reads_all = c.engine.acl.reads_every_key(c, verb, argv)
    i = 2
    while i < len(argv):
        word = argv[i].upper()
        left = len(argv) - i - 1
        if word in (b"ASC", b"DESC"):
            options.descending = word == b"DESC"
        elif word == b"ALPHA":
            options.alpha = True
        elif word == b"LIMIT" and left >= 2:
            options.start, options.count = integer(argv[i + 1]), integer(argv[i + 2])
            i += 2
        elif word == b"STORE" and may_store and left:
            i += 1
            options.store = argv[i]
        elif word == b"BY" and left:
            i += 1
            options.by = argv[i]
            if b"*" not in argv[i]:
                options.ordered = False
            elif not reads_all:
                raise CommandError(DENIED % b"BY")
        elif word == b"GET" and left:
            if not reads_all:
                raise CommandError(DENIED % b"GET")
            i += 1
            options.gets.append(argv[i])
        else:
            raise SYNTAX
        i += 1
    return options


def _sorted(c: Client, key: bytes, options: _Options) -> list[bytes]:
    """The elements that are wanted, in the order that is wanted.

    O(n log n); without an order of its own a list or sorted set costs O(log n + elements returned).
    """
    value = c.db.get(key)
    if value is None:
        return []
    if not isinstance(value, (ListValue, SetValue, SortedSet)):
        raise WRONGTYPE
    start = min(max(options.start, 0), len(value))
    stop = len(value) if options.count < 0 else min(start + options.count, len(value))
    by, alpha, ordered = options.by, options.alpha, options.ordered
    if not ordered and type(value) is SetValue and (options.store is not None or c.engine.depth):
        # A set has no order of its own; what is stored must be the same on every replica.
        by, alpha, ordered = None, True, True
    if not ordered and not isinstance(value, SetValue):
        return _as_they_stand(value, start, stop, options.descending)
    elements = _elements(value)
    if ordered and by is None and not alpha:
        elements = _by_number(elements, options.descending)
    elif ordered:
        elements.sort(key=_order(c.db, by, alpha), reverse=options.descending)
    return elements[start:stop]


def _elements(value: ListValue | SetValue | SortedSet) -> list[bytes]:
    if isinstance(value, SortedSet):
        return [member for member, _ in value]
    return list(value)


def _as_they_stand(
    value: ListValue | SortedSet, start: int, stop: int, descending: bool
) -> list[bytes]:
    """Elements of a list or sorted set in its order, by their numbers. O(log n + returned)."""
    if start >= stop:
        return []
    if descending:
        start, stop = len(value) - stop, len(value) - start
    if isinstance(value, SortedSet):
        elements = [member for member, _ in value.range(start, stop)]
    else:
        elements = value.range(start, stop - 1)
    return elements[::-1] if descending else elements


def _by_number(elements: list[bytes], descending: bool) -> list[bytes]:
    """Elements in the order of the numbers that they are, equal ones as texts. O(n log n)."""
    scores: Iterable[float]
    longest = max(map(len, elements), default=0)
    if longest > _PLAIN_BYTES or b"" in elements or b"".join(elements).translate(None, _PLAIN):
        scores = map(_score, elements)
    else:
        try:
            scores = list(map(float, elements))
        except ValueError:
            scores = map(_score, elements)
    return [
        element for _, element in sorted(zip(scores, elements, strict=True), reverse=descending)
    ]


def _order(db: Database, by: bytes | None, alpha: bool) -> Callable[[bytes], Any] | None:
    """What elements are compared by, if not by their own numbers; None for themselves."""
    if by is None:
        return None
    look_up = _pattern(db, by)
    if alpha:
        # An element without a value comes first; among those the order stays.
        return lambda element: (b"",) if (v := look_up(element)) is None else (b"", v)

    def score(element: bytes) -> tuple[float, bytes]:
        value = look_up(element)
        return (0.0 if value is None else _score(value)), element

    return score


def _score(text: bytes) -> float:
    """A number as strtod reads it, which ends at a NUL and skips blanks in front.

    SORT alone refuses whatever strtod calls out of range, and so what is less than the smallest
    normal number and had to be rounded. (In Redis that is errno, which an earlier command may have
    left behind: after `ZADD z 5e-324 m` the next SORT can refuse anything.)
    """
    text = text.partition(b"\0")[0]
    if not text:
        return 0.0
    text = text.lstrip(_BLANKS)
    value = parse_float(text)
    if value is None or (0.0 < abs(value) < _SMALLEST_NORMAL and not is_exact(text, value)):
        raise NOT_DOUBLES
    return value


def _pattern(db: Database, pattern: bytes) -> Callable[[bytes], bytes | None]:
    """A function that gives the value which a pattern names for an element, None for none."""
    if pattern == b"#":
        return lambda element: element
    before, star, after = pattern.partition(b"*")
    if not star:
        return lambda element: None
    name, arrow, wanted = after.partition(b"->")
    if arrow and wanted:

        def field_of(element: bytes) -> bytes | None:
            value = db.get(before + element + name)
            return value.get(wanted) if type(value) is HashValue else None

        return field_of

    def string_of(element: bytes) -> bytes | None:
        value = db.get(before + element + after)
        return bytes(value) if isinstance(value, (bytes, bytearray)) else None

    return string_of


def _output(db: Database, elements: list[bytes], gets: Iterable[bytes]) -> list[bytes | None]:
    look_ups = [_pattern(db, pattern) for pattern in gets]
    if not look_ups:
        return list(elements)
    return [look_up(element) for element in elements for look_up in look_ups]


def _store(c: Client, key: bytes, output: list[bytes | None]) -> int:
    db = c.db
    if output:
        db.set(key, ListValue(c.engine.keyspace.limits, [each or b"" for each in output]))
        db.changed(key, NOTIFY_LIST, b"sortstore", len(output))
    elif db.exists_for_write(key):
        db.delete(key)
        db.changed(key, NOTIFY_GENERIC, b"del")
    return len(output)
