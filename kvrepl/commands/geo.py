"""Places in sorted sets: GEOADD, positions and distances, and the search for what is near.

The six search commands are one, with differences that stand in `_Variant`: where their arguments
begin, and what may be stored.

Members at the same distance come in the order in which they were found.

Source: Redis 7.0 geo.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from kvrepl.commands.arguments import INT64_MIN, integer, number
from kvrepl.config.notify import NOTIFY_GENERIC, NOTIFY_ZSET
from kvrepl.datatypes import geo
from kvrepl.datatypes.geo import Point, Shape
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.numbers import format_long_double, long_double
from kvrepl.resp.values import NULL_ARRAY, Double, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvrepl.engine.client import Client

UNIT: Final = CommandError(b"ERR unsupported unit provided. please use M, KM, FT, MI")
NUMERIC_RADIUS: Final = CommandError(b"ERR need numeric radius")
NUMERIC_WIDTH: Final = CommandError(b"ERR need numeric width")
NUMERIC_HEIGHT: Final = CommandError(b"ERR need numeric height")
NEGATIVE_RADIUS: Final = CommandError(b"ERR radius cannot be negative")
NEGATIVE_BOX: Final = CommandError(b"ERR height or width cannot be negative")
NO_MEMBER: Final = CommandError(b"ERR could not decode requested zset member")
COUNT_TOO_SMALL: Final = CommandError(b"ERR COUNT must be > 0")
ANY_NEEDS_COUNT: Final = CommandError(b"ERR the ANY argument requires COUNT argument")

UNITS_M: Final = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}

_STEP: Final = 512
"""Members read from the sorted set at a time."""


@command("geoadd", -5, "write denyoom", keys=["RW update @1"], acl="geo")
def geoadd(c: Client, argv: list[bytes]) -> Reply:
    """Add members with longitude and latitude to a sorted set. O(members * log n).

    Propagates: zadd (in lower case, as Redis does) with the scores.
    """
    at = 2
    options = set()
    while at < len(argv) and (option := argv[at].upper()) in (b"NX", b"XX", b"CH"):
        options.add(option)
        at += 1
    if (len(argv) - at) % 3 or options >= {b"NX", b"XX"} or at == len(argv):
        raise SYNTAX
    entries = []
    rewritten = [b"zadd", *argv[1:at]]
    for i in range(at, len(argv), 3):
        geohash = geo.encode(*_point(argv[i], argv[i + 1]))
        entries.append((argv[i + 2], float(geohash)))
        rewritten += (b"%d" % geohash, argv[i + 2])
    db, key = c.db, argv[1]
    value = db.edit(key, SortedSet)
    if value is None:
        if b"XX" in options:
            return 0
        value = SortedSet(db.keyspace.limits)
        db.set(key, value)
    added = updated = 0
    for member, score in entries:
        old = value.score(member)
        if old == score or (b"XX" if old is None else b"NX") in options:
            continue
        if value.add(member, score):
            added += 1
        else:
            updated += 1
    if added or updated:
        db.changed(key, NOTIFY_ZSET, b"zadd", added + updated)
        c.engine.propagation.instead(rewritten)
    return added + updated if b"CH" in options else added


@command("geopos", -2, "readonly", keys=["RO access @1"], acl="geo")
def geopos(c: Client, argv: list[bytes]) -> Reply:
    """Get longitude and latitude of members. O(members)."""
    scores = _scores(c, argv)
    return [NULL_ARRAY if s is None else _coordinates(geo.place_of(s)) for s in scores]


@command("geohash", -2, "readonly", keys=["RO access @1"], acl="geo")
def geohash(c: Client, argv: list[bytes]) -> Reply:
    """Get members as standard geohash strings. O(members)."""
    return [None if s is None else geo.geohash_text(s) for s in _scores(c, argv)]


@command("geodist", -4, "readonly", keys=["RO access @1"], acl="geo")
def geodist(c: Client, argv: list[bytes]) -> Reply:
    """Get the distance between two members. O(1)."""
    unit_m = _unit_m(argv[4]) if len(argv) == 5 else 1.0
    if len(argv) > 5:
        raise SYNTAX
    value = c.db.read(argv[1], SortedSet)
    if value is None:
        return None
    first, second = value.score(argv[2]), value.score(argv[3])
    if first is None or second is None:
        return None
    return _decimals(geo.distance_m(*geo.place_of(first), *geo.place_of(second)) / unit_m)


def _scores(c: Client, argv: list[bytes]) -> list[float | None]:
    value = c.db.read(argv[1], SortedSet)
    return [None if value is None else value.score(member) for member in argv[2:]]


# ------------------------------------------------------------------- the search


class _Variant(NamedTuple):
    """What distinguishes the search commands.

    Attributes:
        source: where the key stands.
        options: where the options begin.
        center: b"POINT" or b"MEMBER" as the third argument, b"" where options give it.
        may_store: whether STORE and STOREDIST name a destination.
    """

    source: int
    options: int
    center: bytes = b""
    may_store: bool = False


_GEORADIUS: Final = _Variant(1, 6, b"POINT", may_store=True)
_GEORADIUS_RO: Final = _Variant(1, 6, b"POINT")
_BY_MEMBER: Final = _Variant(1, 5, b"MEMBER", may_store=True)
_BY_MEMBER_RO: Final = _Variant(1, 5, b"MEMBER")
_GEOSEARCH: Final = _Variant(1, 2)
_GEOSEARCHSTORE: Final = _Variant(2, 3)


@dataclass(slots=True)
class _Query:
    """The arguments of a search.

    Attributes:
        center: where; None as long as it is not known, which it never is without a sorted set.
        member, point: which of FROMMEMBER and FROMLONLAT is given.
        unit_m: of the sizes.
        radius: of a circle; -1 where there is none.
        width, height: of a box; -1 where there is none.
        distances, hashes, coordinates: what is told of each member.
        order: b"ASC", b"DESC", or b"" for the order of finding.
        count: how many members at most, 0 for all.
        any: whether the first ones found do.
        store: the destination.
        store_distances: whether distances are stored, not geohashes.
    """

    center: Point | None = None
    member: bool = False
    point: bool = False
    unit_m: float = 1.0
    radius: float = -1.0
    width: float = -1.0
    height: float = -1.0
    distances: bool = False
    hashes: bool = False
    coordinates: bool = False
    order: bytes = b""
    count: int = 0
    any: bool = False
    store: bytes | None = None
    store_distances: bool = False


def _keys_from(options: int) -> Callable[[list[bytes]], list[int]]:
    """How the keys of GEORADIUS are found: it has a destination only where a word says so."""

    def positions(argv: list[bytes]) -> list[int]:
        words = [argument.upper() for argument in argv[:-1]]
        stores = (b"STORE", b"STOREDIST")
        return [1, *(words.index(word, options) + 1 for word in stores if word in words[options:])]

    return positions


_Found = tuple[float, Point, bytes, float]
"""Distance in metres, place, member, score."""


@command(
    "georadius",
    -6,
    "write denyoom movablekeys",
    keys=["RO access @1", "OW update STORE@6", "OW update STOREDIST@6"],
    acl="geo",
    get_keys=_keys_from(6),
)
def georadius(c: Client, argv: list[bytes]) -> Reply:
    """Get, or store, members within a distance of a point. O(members of nine cells)."""
    return _search(c, argv, _GEORADIUS)


@command("georadius_ro", -6, "readonly", keys=["RO access @1"], acl="geo")
def georadius_ro(c: Client, argv: list[bytes]) -> Reply:
    """Get members within a distance of a point. O(members of nine cells)."""
    return _search(c, argv, _GEORADIUS_RO)


@command(
    "georadiusbymember",
    -5,
    "write denyoom movablekeys",
    keys=["RO access @1", "OW update STORE@5", "OW update STOREDIST@5"],
    acl="geo",
    get_keys=_keys_from(5),
)
def georadiusbymember(c: Client, argv: list[bytes]) -> Reply:
    """Get, or store, members within a distance of a member. O(members of nine cells)."""
    return _search(c, argv, _BY_MEMBER)


@command("georadiusbymember_ro", -5, "readonly", keys=["RO access @1"], acl="geo")
def georadiusbymember_ro(c: Client, argv: list[bytes]) -> Reply:
    """Get members within a distance of a member. O(members of nine cells)."""
    return _search(c, argv, _BY_MEMBER_RO)


@command("geosearch", -7, "readonly", keys=["RO access @1"], acl="geo")
def geosearch(c: Client, argv: list[bytes]) -> Reply:
    """Get members inside a circle or a box. O(members of nine cells)."""
    return _search(c, argv, _GEOSEARCH)


@command("geosearchstore", -8, "write denyoom", keys=["OW update @1", "RO access @2"], acl="geo")
def geosearchstore(c: Client, argv: list[bytes]) -> Reply:
    """Store members inside a circle or a box. O(members of nine cells)."""
    return _search(c, argv, _GEOSEARCHSTORE)


def _search(c: Client, argv: list[bytes], variant: _Variant) -> Reply:
    value = c.db.read(argv[variant.source], SortedSet)
    query = _read_query(argv, variant, value)
    found = [] if value is None else _find(value, query)
    if query.store is None:
        return _tell(found, query)
    event = b"georadiusstore" if variant.center else b"geosearchstore"
    return _store(c, found, query, event)


def _find(value: SortedSet, query: _Query) -> list[_Found]:
    """The members that are wanted, in the order that is wanted."""
    assert query.center is not None, "where there is a sorted set, the centre is known"
    shape = Shape(query.center, query.unit_m, query.radius, query.width, query.height)
    limit = query.count if query.any else 0
    found = _inside(value, shape, limit)
    order = query.order or (b"ASC" if query.count and not query.any else b"")
    if order:
        found.sort(key=lambda each: each[0], reverse=order == b"DESC")
    return found[: query.count] if query.count else found


def _inside(value: SortedSet, shape: Shape, limit: int) -> list[_Found]:
    """The members inside a shape; with a limit, no more than that many."""
    found: list[_Found] = []
    for low, high in geo.score_ranges(shape):
        start, stop = value.by_score(low, False, high, True)
        for at in range(start, stop, _STEP):
            for member, score in value.range(at, min(at + _STEP, stop)):
                place = geo.place_of(score)
                away_m = shape.distance_m(place)
                if away_m is not None:
                    found.append((away_m, place, member, score))
                    if len(found) == limit:
                        return found
    return found


def _tell(found: list[_Found], query: _Query) -> list[Reply]:
    if not (query.distances or query.hashes or query.coordinates):
        return [member for _, _, member, _ in found]
    replies = []
    for away_m, place, member, score in found:
        reply: list[Reply] = [member]
        if query.distances:
            reply.append(_decimals(away_m / query.unit_m))
        if query.hashes:
            # What does not fit becomes the lowest integer, as C on x86-64 converts it.
            reply.append(int(score) if abs(score) < 2.0**63 else INT64_MIN)
        if query.coordinates:
            reply.append(_coordinates(place))
        replies.append(reply)
    return replies


def _store(c: Client, found: list[_Found], query: _Query, event: bytes) -> int:
    db, key = c.db, query.store
    assert key is not None
    if found:
        by_distance, unit_m = query.store_distances, query.unit_m
        db.set(
            key,
            SortedSet(
                db.keyspace.limits,
                (
                    (member, away_m / unit_m if by_distance else score)
                    for away_m, _, member, score in found
                ),
            ),
        )
        db.changed(key, NOTIFY_ZSET, event, len(found))
    elif db.delete(key):
        db.changed(key, NOTIFY_GENERIC, b"del")
    return len(found)


# ------------------------------------------------------------------- its arguments


def _read_query(argv: list[bytes], variant: _Variant, value: SortedSet | None) -> _Query:
    """Read the arguments of a search, and where the centre is a member, look that up.

    Where there is no sorted set the members are not looked up; all else is checked all the same,
    but for the distance of GEORADIUSBYMEMBER.
    """
    query = _Query()
    searching = not variant.center
    if variant.source == 2:
        query.store = argv[1]
    if variant.center == b"POINT":
        query.center = _point(argv[2], argv[3])
        query.radius, query.unit_m = _radius(argv, 4)
    elif variant.center == b"MEMBER" and value is not None:
        query.center = _place_of(value, argv[2])
        query.radius, query.unit_m = _radius(argv, 3)
    i = variant.options
    while i < len(argv):
        word = argv[i].upper()
        left = len(argv) - i - 1
        taken = _read_flag(query, word)
        if not taken and word == b"COUNT" and left:
            query.count = integer(argv[i + 1])
            if query.count <= 0:
                raise COUNT_TOO_SMALL
            taken = 2
        elif not taken and word in (b"STORE", b"STOREDIST") and left and variant.may_store:
            query.store, query.store_distances = argv[i + 1], word == b"STOREDIST"
            taken = 2
        elif not taken and word == b"STOREDIST" and variant.source == 2:
            query.store_distances = True
            taken = 1
        elif not taken and searching:
            taken = _read_shape(query, word, argv, i, value)
        if not taken:
            raise SYNTAX
        i += taken
    _check(query, argv, searching)
    return query


def _read_flag(query: _Query, word: bytes) -> int:
    """Take an option without arguments; how many arguments were taken, 0 for no such option."""
    if word == b"WITHDIST":
        query.distances = True
    elif word == b"WITHHASH":
        query.hashes = True
    elif word == b"WITHCOORD":
        query.coordinates = True
    elif word == b"ANY":
        query.any = True
    elif word in (b"ASC", b"DESC"):
        query.order = word
    else:
        return 0
    return 1


def _read_shape(
    query: _Query, word: bytes, argv: list[bytes], at: int, value: SortedSet | None
) -> int:
    """Take the centre or the size of GEOSEARCH; how many arguments were taken, 0 for neither."""
    left = len(argv) - at - 1
    if word == b"FROMMEMBER" and left and not query.point:
        if value is not None:
            query.center = _place_of(value, argv[at + 1])
        query.member = True
        return 2
    if word == b"FROMLONLAT" and left >= 2 and not query.member:
        query.center = _point(argv[at + 1], argv[at + 2])
        query.point = True
        return 3
    if word == b"BYRADIUS" and left >= 2 and query.width < 0:
        query.radius, query.unit_m = _radius(argv, at + 1)
        return 3
    if word == b"BYBOX" and left >= 3 and query.radius < 0:
        width, height = number(argv[at + 1], NUMERIC_WIDTH), number(argv[at + 2], NUMERIC_HEIGHT)
        if height < 0 or width < 0:
            raise NEGATIVE_BOX
        query.unit_m = _unit_m(argv[at + 3])
        query.width, query.height = width, height
        return 4
    return 0


def _check(query: _Query, argv: list[bytes], searching: bool) -> None:
    """Refuse what does not go together, in Redis's order."""
    if query.store is not None and (query.distances or query.hashes or query.coordinates):
        name = b"GEOSEARCHSTORE" if searching else b"STORE option in GEORADIUS"
        raise CommandError(
            b"ERR %b is not compatible with WITHDIST, WITHHASH and WITHCOORD options" % name
        )
    if searching and not (query.member or query.point):
        raise CommandError(
            b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %b" % argv[0]
        )
    if searching and query.radius < 0 and query.width < 0:
        raise CommandError(
            b"ERR exactly one of BYRADIUS and BYBOX can be specified for %b" % argv[0]
        )
    if query.any and not query.count:
        raise ANY_NEEDS_COUNT


def _point(longitude: bytes, latitude: bytes) -> Point:
    point = number(longitude), number(latitude)
    if not geo.is_place(*point):
        raise CommandError(b"ERR invalid longitude,latitude pair %f,%f" % point)
    return point


def _place_of(value: SortedSet, member: bytes) -> Point:
    score = value.score(member)
    if score is None:
        raise NO_MEMBER
    return geo.place_of(score)


def _radius(argv: list[bytes], at: int) -> tuple[float, float]:
    """A radius, and the metres of its unit."""
    radius = number(argv[at], NUMERIC_RADIUS)
    if radius < 0:
        raise NEGATIVE_RADIUS
    return radius, _unit_m(argv[at + 1])


def _unit_m(argument: bytes) -> float:
    unit_m = UNITS_M.get(argument.upper())
    if unit_m is None:
        raise UNIT
    return unit_m


def _decimals(distance: float) -> bytes:
    """A distance with four decimals, a bulk string in RESP3 as well."""
    return b"%.4f" % distance


def _coordinates(place: Point) -> list[Double]:
    return [Double(format_long_double(long_double(degrees))) for degrees in place]
