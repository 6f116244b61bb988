"""Places and searches: geohashes, distances, and that a search misses nothing.

The numbers of real places are those that redis-server 7.0.15 gives.
"""

from __future__ import annotations

import importlib
import importlib.util
from math import cos, isnan, pi, radians, sin
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.datatypes import geo
from kvrepl.datatypes.geo import MAX_LATITUDE, MAX_LONGITUDE, STEPS, Shape

_NAME = "kvrepl.datatypes._geo"
_compiled: Any = importlib.import_module(_NAME) if importlib.util.find_spec(_NAME) else None
needs_compiled = pytest.mark.skipif(
    _compiled is None or not _compiled.REFERENCE,
    reason=f"{_NAME} is not built, or KVREPL_PURE=1 leaves it out",
)

longitudes = st.floats(-MAX_LONGITUDE, MAX_LONGITUDE)
latitudes = st.floats(-MAX_LATITUDE, MAX_LATITUDE)

PLACES = [
    (13.361389, 38.115556, 3479099956230698, b"sqc8b49rny0"),
    (15.087269, 37.502669, 3479447370796909, b"sqdtr74hyu0"),
    (2.349014, 48.864716, 3663832805879806, b"u09tvrw3xg0"),
    (-74.005974, 40.712776, 1791873974549417, b"dr5regw3pg0"),
    (179.9, -16.5, 3355687181573352, b"rvpfjsr0tc0"),
    (-179.9, -16.6, 353287392064082, b"2j01d60cfp0"),
    (180.0, 85.05112878, 13510798882111488, b"bp05b5048p0"),
]


@pytest.mark.parametrize(("longitude", "latitude", "score", "text"), PLACES)
def test_geohash_of_a_place_is_that_of_redis(
    longitude: float, latitude: float, score: int, text: bytes
) -> None:
    assert geo.encode(longitude, latitude) == score
    assert geo.geohash_text(float(score)) == text


@given(longitudes, latitudes, st.integers(1, STEPS))
def test_decode_gives_the_cell_that_the_point_lies_in(
    longitude: float, latitude: float, steps: int
) -> None:
    west, east, south, north = geo.decode(geo.encode(longitude, latitude, steps), steps)

    rounding = 1e-12
    assert west - rounding <= longitude <= east + rounding
    assert south - rounding <= latitude <= north + rounding
    assert east - west == pytest.approx(360 / (1 << steps))


@given(longitudes, latitudes)
def test_place_of_a_score_is_within_a_cell(longitude: float, latitude: float) -> None:
    place = geo.place_of(float(geo.encode(longitude, latitude)))

    assert place == pytest.approx((longitude, latitude), abs=360 / (1 << STEPS))


@given(st.floats(allow_nan=False))
def test_place_of_any_score_lies_on_the_map(score: float) -> None:
    assert geo.is_place(*geo.place_of(score))
    assert len(geo.geohash_text(score)) == 11


@pytest.mark.parametrize(
    ("first", "second", "meters"),
    [(0, 0, 0.0), (0, 1, 166274.1516), (4, 5, 24050.3), (0, 3, 4460.0131 * 1609.34)],
)
def test_distance_between_places_is_that_of_redis(first: int, second: int, meters: float) -> None:
    one, other = (geo.place_of(float(PLACES[at][2])) for at in (first, second))

    assert geo.distance_m(*one, *other) == pytest.approx(meters, abs=0.1)
    assert geo.distance_m(*other, *one) == geo.distance_m(*one, *other)


@pytest.mark.parametrize(
    ("score", "place"),
    [
        (-1.0, (MAX_LONGITUDE, MAX_LATITUDE)),
        (-1e300, (MAX_LONGITUDE, -MAX_LATITUDE)),
        (1e300, (-MAX_LONGITUDE, -MAX_LATITUDE)),
        (float("inf"), (-MAX_LONGITUDE, -MAX_LATITUDE)),
    ],
)
def test_place_of_a_score_that_is_no_geohash_is_what_redis_makes_of_it(
    score: float, place: geo.Point
) -> None:
    assert geo.place_of(score) == pytest.approx(place, abs=1e-5)


@given(longitudes, latitudes, longitudes, latitudes)
def test_distance_is_never_more_than_half_around_the_earth(
    longitude: float, latitude: float, longitude2: float, latitude2: float
) -> None:
    away_m = geo.distance_m(longitude, latitude, longitude2, latitude2)

    assert 0 <= away_m <= 20_020_742


def found(shape: Shape, places: list[geo.Point]) -> set[geo.Point]:
    """Give the places in a shape that lie in the ranges of scores that would be read."""
    ranges = list(geo.score_ranges(shape))
    return {
        place
        for place in places
        if shape.distance_m(place) is not None
        and any(low <= geo.encode(*place) < high for low, high in ranges)
    }


def around(rng: Random, center: geo.Point, size_km: float) -> geo.Point:
    """Give a point about as far away as that, on either side of the edge of the map."""
    direction, degrees = rng.uniform(0, 2 * pi), size_km * (1 - rng.random() ** 3) / 111.2
    east = degrees * sin(direction) / cos(radians(center[1]))
    return (center[0] + east + 180) % 360 - 180, center[1] + degrees * cos(direction)


@pytest.mark.parametrize(
    ("least_latitude", "most_latitude", "least_km", "most_km"),
    [(0, 60, 0.01, 300), (45, 70, 1000, 5000), (60, 84, 0.01, 300), (80, 84, 0.01, 100)],
)
def test_score_ranges_of_a_shape_hold_every_place_in_it(
    least_latitude: float, most_latitude: float, least_km: float, most_km: float
) -> None:
    rng = Random(1)
    checked = 0
    for _ in range(500):
        latitude = rng.choice((-1, 1)) * rng.uniform(least_latitude, most_latitude)
        center = rng.uniform(-150, 150), latitude
        size_km = least_km * (most_km / least_km) ** rng.random()
        flat = size_km * 2 / rng.uniform(1, 5)
        shape = rng.choice(
            (
                Shape(center, 1000.0, radius=size_km),
                Shape(center, 1000.0, width=size_km * 2, height=flat),
                Shape(center, 1000.0, width=flat, height=size_km * 2),
            )
        )
        places = [around(rng, center, size_km) for _ in range(20)]
        inside = {p for p in places if geo.is_place(*p) and shape.distance_m(p) is not None}
        assert found(shape, list(inside)) == inside, shape
        checked += len(inside)
    assert checked > 3000


@given(longitudes, latitudes, st.floats(0, 3e7))
def test_score_ranges_of_any_circle_are_nine_at_most_and_never_the_same_twice(
    longitude: float, latitude: float, radius: float
) -> None:
    ranges = list(geo.score_ranges(Shape((longitude, latitude), 1.0, radius=radius)))

    assert 1 <= len(ranges) <= 9
    assert len(set(ranges)) == len(ranges)
    assert all(low < high for low, high in ranges)


def test_score_ranges_cross_the_edge_of_the_map() -> None:
    fiji, taveuni = (179.9, -16.5), (-179.9, -16.6)

    assert found(Shape(fiji, 1000.0, radius=100.0), [fiji, taveuni]) == {fiji, taveuni}


@pytest.mark.parametrize("radius", [float("inf"), 1e308, 1e-300, 0.0])
def test_score_ranges_of_extreme_circles_hold_their_centre(radius: float) -> None:
    center = geo.place_of(3479099956230698.0)
    shape = Shape(center, 1000.0, radius=radius)

    assert found(shape, [center]) == {center}


def test_shape_that_is_a_box_measures_along_parallel_and_meridian() -> None:
    box = Shape((10.0, 60.0), 1000.0, width=100.0, height=20.0)
    degree_m = geo.EARTH_RADIUS_M * 3.141592653589793 / 180

    east = 49_000 / degree_m / 0.5  # a degree of longitude is half as long at 60 degrees north
    assert box.distance_m((10.0 + east, 60.0)) == pytest.approx(49_000, rel=1e-3)
    assert box.distance_m((10.0 + east * 1.05, 60.0)) is None
    assert box.distance_m((10.0, 60.0 + 9_900 / degree_m)) == pytest.approx(9_900)
    assert box.distance_m((10.0, 60.0 + 10_100 / degree_m)) is None


@needs_compiled
@given(st.one_of(st.floats(allow_nan=False), st.integers(0, (1 << 52) - 1).map(float)))
def test_compiled_place_of_a_score_is_the_same_to_the_last_bit(score: float) -> None:
    assert _compiled.place_of(score) == _compiled.REFERENCE["place_of"](score)


@needs_compiled
@given(longitudes, latitudes, longitudes, latitudes)
def test_compiled_distance_is_the_same_to_the_last_bit(
    west: float, south: float, east: float, north: float
) -> None:
    compiled = _compiled.distance_m(west, south, east, north)
    reference = _compiled.REFERENCE["distance_m"](west, south, east, north)
    assert compiled == reference or (isnan(compiled) and isnan(reference))


@needs_compiled
@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1))
def test_compiled_bits_spread_and_gather_as_in_python(narrow: int, wide: int) -> None:
    assert _compiled._spread(narrow) == _compiled.REFERENCE["_spread"](narrow)
    assert _compiled._gather(wide) == _compiled.REFERENCE["_gather"](wide)
