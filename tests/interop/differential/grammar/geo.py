"""Places: each member has places of its own, so that no two are at the same distance."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import Argv, call, case, option, seldom

PLACES = st.sampled_from([b"g1", b"g2"] * 10 + [b"l1", b"none"])
NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
NAME = st.sampled_from(NAMES)
LONGITUDES = [0.0, 13.36, 13.37, 2.35, -74.0, 179.9, -179.9, 179.9999]
LATITUDES = [0.0, 38.11, 37.5, 48.86, -16.5, 84.9, -84.9, 66.5, 80.5]
longitude = seldom([b"%r" % x for x in [*LONGITUDES, 15.0]], [b"180", b"181", b"x", b"inf"])
latitude = seldom([b"%r" % y for y in [*LATITUDES, 37.0]], [b"85.05112878", b"86", b"x", b"-90"])
point = st.tuples(longitude, latitude)
SIZE = seldom(
    [b"0", b"0.5", b"3", b"100", b"200.7", b"1500", b"9000", b"20000", b"1e9"],
    [b"-1", b"x", b"inf", b"nan"],
)
UNIT = seldom([b"m", b"km", b"KM", b"mi", b"ft"], [b"yd"])
TELL = st.lists(case(b"WITHDIST", b"WITHCOORD", b"WITHHASH"), max_size=2)
COUNTS = option(
    case(b"COUNT"), seldom([b"1", b"2", b"3", b"20"], [b"0", b"x"]), option(case(b"ANY"))
)
ORDER = option(case(b"ASC", b"DESC"))
STORE = option(case(b"STORE", b"STOREDIST"), st.sampled_from([b"d1", b"g2"]))


def place(drawn: tuple[int, int, int]) -> Argv:
    """A member at one of the places, moved by a distance that is its own."""
    name, x, y = drawn
    return b"%r" % (LONGITUDES[x] - name / 97), b"%r" % (LATITUDES[y] + name / 83), NAMES[name]


ENTRY = st.tuples(
    st.integers(0, len(NAMES) - 1),
    st.integers(0, len(LONGITUDES) - 1),
    st.integers(0, len(LATITUDES) - 1),
).map(place)
ENTRIES = st.lists(ENTRY, min_size=1, max_size=8)
SHAPE = st.one_of(
    st.tuples(case(b"BYRADIUS"), SIZE, UNIT), st.tuples(case(b"BYBOX"), SIZE, SIZE, UNIT)
)
CENTER = st.one_of(st.tuples(case(b"FROMMEMBER"), NAME), st.tuples(case(b"FROMLONLAT"), point))
GEO = [
    call(b"GEOADD", PLACES, ENTRIES),
    call(b"GEOADD", PLACES, ENTRIES),
    call(b"GEOADD", PLACES, st.lists(case(b"NX", b"XX", b"CH"), max_size=2), ENTRIES),
    call(b"GEOADD", PLACES, point, NAME),
    call(b"GEOPOS", PLACES, st.lists(NAME, max_size=3)),
    call(b"GEOHASH", PLACES, st.lists(NAME, max_size=3)),
    call(b"GEODIST", PLACES, NAME, NAME, option(UNIT)),
    call(b"GEORADIUS", PLACES, point, SIZE, UNIT, TELL, COUNTS, ORDER),
    call(b"GEORADIUS", PLACES, point, SIZE, UNIT, COUNTS, STORE, ORDER),
    call(b"GEORADIUS_RO", PLACES, point, SIZE, UNIT, COUNTS, TELL, STORE),
    call(b"GEORADIUSBYMEMBER", PLACES, NAME, SIZE, UNIT, STORE, TELL, COUNTS, ORDER),
    call(b"GEORADIUSBYMEMBER_RO", PLACES, NAME, SIZE, UNIT, TELL, COUNTS, ORDER),
    call(b"GEOSEARCH", PLACES, CENTER, SHAPE, ORDER, COUNTS, TELL),
    call(b"GEOSEARCH", PLACES, SHAPE, CENTER, TELL, ORDER),
    call(b"GEOSEARCH", PLACES, option(CENTER), SHAPE, option(SHAPE), ORDER),
    call(b"GEOSEARCHSTORE", st.sampled_from([b"d1", b"g1", b"l1"]), PLACES, CENTER, SHAPE, COUNTS),
    call(
        b"GEOSEARCHSTORE",
        st.sampled_from([b"d1", b"g1"]),
        PLACES,
        SHAPE,
        CENTER,
        option(case(b"STOREDIST")),
        ORDER,
    ),
    call(b"ZRANGE", st.sampled_from([b"d1", b"g1", b"g2"]), st.just((b"0", b"-1", b"WITHSCORES"))),
]
