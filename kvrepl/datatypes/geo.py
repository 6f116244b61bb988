"""Places on Earth as scores of a sorted set, and the search for what is near.

A place is a *geohash* of 52 bits: the world, longitudes -180 to 180 and latitudes up to 85.05
either way, is halved 26 times in each direction, and the choices of the two take turns (latitude
has the even bits, longitude the odd ones). It fits a double without loss, so it is the score.
Places that share a prefix of 2 * step bits lie in one *cell* of the grid of that step, and a cell
is one range of scores.

A search chooses the step so that the cell of the centre and the eight around it cover the shape,
reads those ranges one after another, and measures each place found. The order of the cells is that
of Redis, which shows in replies that are not sorted.

The Earth is a sphere of EARTH_RADIUS_M. Every formula is computed in the order in which Redis
computes it, for the last bits decide what lies on an edge, and go into the keys that are stored.
Hot functions are the compiled ones of `_geo.pyx` where that was built (and KVREPL_PURE is not 1).

Source: geo.c, geohash.c, geohash_helper.c of Redis 7.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import asin, cos, isfinite, nan, pi, sin, sqrt
from typing import Final, NamedTuple

from kvrepl.resp import ACCELERATED

STEPS: Final = 26
"""Halvings in each direction of a place: 52 bits."""
MAX_LONGITUDE: Final = 180.0
MAX_LATITUDE: Final = 85.05112878
"""Where the square map of Web Mercator (EPSG:3857) ends."""
EARTH_RADIUS_M: Final = 6372797.560856
_MERCATOR_MAX_M: Final = 20037726.37

_RADIANS: Final = pi / 180.0
_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
_STANDARD_MAX_LATITUDE: Final = 90.0
"""Geohashes as text are of a grid that reaches to the poles."""

_UINT64: Final = (1 << 64) - 1
_LATITUDE_BITS: Final = 0x5555555555555555
_LONGITUDE_BITS: Final = 0xAAAAAAAAAAAAAAAA
_SPREAD: Final = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)
"""How a number of 32 bits gets to the even bits of 64: shifts and masks."""
_GATHER: Final = (
    (1, 0x3333333333333333),
    (2, 0x0F0F0F0F0F0F0F0F),
    (4, 0x00FF00FF00FF00FF),
    (8, 0x0000FFFF0000FFFF),
    (16, 0x00000000FFFFFFFF),
)
"""And how it gets back."""

# North, south, east, west, north-east, ...: steps in latitude and in longitude.
_AROUND: Final = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))

Point = tuple[float, float]
"""Longitude and latitude in degrees."""


class Area(NamedTuple):
    """A cell in degrees."""

    min_longitude: float
    max_longitude: float
    min_latitude: float
    max_latitude: float


class Shape(NamedTuple):
    """What is searched.

    Attributes:
        center: its middle.
        unit_m: the metres of the unit that the sizes are given in.
        radius: of a circle; -1 for a box.
        width: of a box, edge to edge.
        height: of a box, edge to edge.
    """

    center: Point
    unit_m: float
    radius: float = -1.0
    width: float = 0.0
    height: float = 0.0

    def distance_m(self, place: Point) -> float | None:
        """How far a place is from the centre, None where it lies outside. O(1)."""
        longitude, latitude = self.center
        if self.radius >= 0:
            away_m = distance_m(longitude, latitude, *place)
            return None if away_m > self.radius * self.unit_m else away_m
        east, north = place
        # Along the parallel of the place, and along its meridian.
        if distance_m(east, north, longitude, north) > self.width * self.unit_m / 2:
            return None
        if distance_m(east, north, east, latitude) > self.height * self.unit_m / 2:
            return None
        return distance_m(longitude, latitude, east, north)


# ------------------------------------------------------------------- places


def is_place(longitude: float, latitude: float) -> bool:
    """Whether a point lies in the part of the world that has geohashes."""
    return abs(longitude) <= MAX_LONGITUDE and abs(latitude) <= MAX_LATITUDE


def encode(
    longitude: float, latitude: float, steps: int = STEPS, max_latitude: float = MAX_LATITUDE
) -> int:
    """The geohash of a point.

    Args:
        longitude: in degrees.
        latitude: in degrees.
        steps: halvings in each direction.
        max_latitude: where the grid ends, to the north and to the south.

    Returns:
        A number of 2 * steps bits; more at the very ends of the world in the east and north. O(1).
    """
    north = (latitude + max_latitude) / (max_latitude + max_latitude)
    east = (longitude + MAX_LONGITUDE) / (MAX_LONGITUDE + MAX_LONGITUDE)
    cells = 1 << steps
    return _spread(int(north * cells)) | _spread(int(east * cells)) << 1


def decode(geohash: int, steps: int = STEPS) -> Area:
    """The cell that a geohash stands for. O(1)."""
    north = _gather(geohash)
    east = _gather(geohash >> 1)
    cells = 1 << steps
    width, height = MAX_LONGITUDE + MAX_LONGITUDE, MAX_LATITUDE + MAX_LATITUDE
    return Area(
        -MAX_LONGITUDE + east / cells * width,
        -MAX_LONGITUDE + (east + 1) / cells * width,
        -MAX_LATITUDE + north / cells * height,
        -MAX_LATITUDE + (north + 1) / cells * height,
    )


def place_of(score: float) -> Point:
    """The place that a score stands for: the middle of its cell. O(1).

    Any score is a place, as a sorted set may hold any.
    """
    west, east, south, north = decode(_unsigned(score))
    longitude, latitude = (west + east) / 2, (south + north) / 2
    return (
        min(max(longitude, -MAX_LONGITUDE), MAX_LONGITUDE),
        min(max(latitude, -MAX_LATITUDE), MAX_LATITUDE),
    )


def geohash_text(score: float) -> bytes:
    """The geohash of 11 letters that other programs use; its last letter is always 0. O(1)."""
    bits = encode(*place_of(score), max_latitude=_STANDARD_MAX_LATITUDE)
    return bytes(_ALPHABET[bits >> shift & 31] for shift in range(47, 1, -5)) + b"0"


def distance_m(longitude: float, latitude: float, longitude2: float, latitude2: float) -> float:
    """The distance between two points along a great circle, by the haversine formula. O(1)."""
    south, west = latitude * _RADIANS, longitude * _RADIANS
    north, east = latitude2 * _RADIANS, longitude2 * _RADIANS
    u = sin((north - south) / 2)
    v = sin((east - west) / 2)
    root = sqrt(u * u + cos(south) * cos(north) * v * v)
    return 2.0 * EARTH_RADIUS_M * (asin(root) if root <= 1.0 else nan)


# ------------------------------------------------------------------- search


def score_ranges(shape: Shape) -> Iterator[tuple[float, float]]:
    """The ranges of scores that hold every place in a shape.

    Yields:
        The lowest score, and the first one that is too high; nine ranges at most, none twice.

    Source: geohash_helper.c geohashCalculateAreasByShapeWGS84, geo.c membersOfAllNeighbors.
    """
    bounds = _bounding_box(shape)
    longitude, latitude = shape.center
    steps = _estimate_steps(shape, latitude)
    center = encode(longitude, latitude, steps)
    if steps > 1 and not _covers(center, steps, bounds):
        steps -= 1
        center = encode(longitude, latitude, steps)
    cells = [center, *(_neighbour(center, steps, *way) for way in _AROUND)]
    useless = _useless(decode(center, steps), bounds) if steps >= 2 else frozenset()
    shift = 52 - steps * 2
    previous = -1
    for number, cell in enumerate(cells):
        if number and _AROUND[number - 1] in useless:
            continue
        # On the coarsest grids a neighbour on one side is also the neighbour on the other.
        if cell == previous:
            continue
        yield float(cell << shift), float(cell + 1 << shift)
        previous = cell if number else -1


def _bounding_box(shape: Shape) -> Area:
    """The part of the grid that a shape touches; NaN where it has no end.

    Meridians come together towards a pole, so the edge that is nearer to it spans more degrees.
    """
    longitude, latitude = shape.center
    if shape.radius >= 0:
        width = height = shape.unit_m * shape.radius
    else:
        width, height = shape.unit_m * (shape.width / 2), shape.unit_m * (shape.height / 2)
    up = height / EARTH_RADIUS_M / _RADIANS
    polar = latitude - up if latitude < 0 else latitude + up
    across = width / EARTH_RADIUS_M / _cos(polar * _RADIANS) / _RADIANS
    return Area(longitude - across, longitude + across, latitude - up, latitude + up)


def _estimate_steps(shape: Shape, latitude: float) -> int:
    """The finest grid of which nine cells cover a shape, mostly."""
    if shape.radius >= 0:
        range_m = shape.radius
    else:
        half_width, half_height = shape.width / 2, shape.height / 2
        range_m = sqrt(half_width * half_width + half_height * half_height)
    range_m *= shape.unit_m
    if range_m == 0:
        return STEPS
    steps = -1
    while range_m < _MERCATOR_MAX_M:
        range_m *= 2
        steps += 1
    if abs(latitude) > 66:
        steps -= 1
        if abs(latitude) > 80:
            steps -= 1
    return min(max(steps, 1), STEPS)


def _covers(center: int, steps: int, bounds: Area) -> bool:
    """Whether the cells around this one reach as far as the bounds."""
    north, south, east, west = (
        decode(_neighbour(center, steps, *way), steps) for way in _AROUND[:4]
    )
    return not (
        north.max_latitude < bounds.max_latitude
        or south.min_latitude > bounds.min_latitude
        or east.max_longitude < bounds.max_longitude
        or west.min_longitude > bounds.min_longitude
    )


def _useless(area: Area, bounds: Area) -> frozenset[tuple[int, int]]:
    """The ways in which the shape does not leave the cell of its centre."""
    return frozenset(
        way
        for way in _AROUND
        if (way[0] < 0 and area.min_latitude < bounds.min_latitude)
        or (way[0] > 0 and area.max_latitude > bounds.max_latitude)
        or (way[1] < 0 and area.min_longitude < bounds.min_longitude)
        or (way[1] > 0 and area.max_longitude > bounds.max_longitude)
    )


def _neighbour(cell: int, steps: int, north: int, east: int) -> int:
    """The cell one step further, 1 or -1 in each direction; the grid has no edge."""
    longitude = cell & _LONGITUDE_BITS
    latitude = cell & _LATITUDE_BITS
    unused = 64 - steps * 2
    # The bits of the other direction are filled so that a carry passes over them.
    if east:
        fill = _LATITUDE_BITS >> unused
        moved = longitude + fill + 1 if east > 0 else (longitude | fill) - (fill + 1)
        longitude = moved & _LONGITUDE_BITS >> unused
    if north:
        fill = _LONGITUDE_BITS >> unused
        moved = latitude + fill + 1 if north > 0 else (latitude | fill) - (fill + 1)
        latitude = moved & _LATITUDE_BITS >> unused
    return longitude | latitude


# ------------------------------------------------------------------- numbers


def _spread(number: int) -> int:
    """Move the bits of a number of 32 bits to the even bits."""
    for shift, mask in _SPREAD:
        number = (number | number << shift) & mask
    return number


def _gather(number: int) -> int:
    """The number of 32 bits that the even bits make."""
    number &= _LATITUDE_BITS
    for shift, mask in _GATHER:
        number = (number | number >> shift) & mask
    return number


def _unsigned(score: float) -> int:
    """A double as a C program on x86-64 converts it to 64 bits without sign."""
    if not -(2.0**63) <= score < 2.0**64:
        return 1 << 63 if score < 0 else 0
    return int(score) & _UINT64


def _cos(angle: float) -> float:
    return cos(angle) if isfinite(angle) else nan


def _accelerate() -> None:
    """Take the compiled functions, where they were built and are wanted."""
    if not ACCELERATED:
        return
    try:
        from kvrepl.datatypes._geo import bind
    except ModuleNotFoundError:
        return
    bind()


_accelerate()
