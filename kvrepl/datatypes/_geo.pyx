# cython: language_level=3, cdivision=True
"""The hot functions of kvrepl.datatypes.geo, compiled; see there.

A search decodes and measures every place in up to nine cells. All is computed in the order of the
reference, and built without fused operations (pyproject.toml), so that the last bits agree.

Optional: kvrepl.datatypes.geo binds it where it was built.
"""

from libc.math cimport asin, cos, sin, sqrt

from kvrepl.datatypes import geo

ctypedef unsigned long long uint64

cdef double RADIANS = geo._RADIANS
cdef double EARTH_RADIUS_M = geo.EARTH_RADIUS_M
cdef double MAX_LONGITUDE = geo.MAX_LONGITUDE
cdef double MAX_LATITUDE = geo.MAX_LATITUDE
cdef double NAN = geo.nan
cdef double CELLS = 1 << geo.STEPS

NAMES = ("place_of", "distance_m", "_spread", "_gather")
REFERENCE = {}  # name -> the function that was replaced; the tests compare the two


def bind():
    """Give the module these functions."""
    for name in NAMES:
        REFERENCE[name] = getattr(geo, name)
        setattr(geo, name, globals()[name])


cdef uint64 gathered(uint64 number) noexcept:
    number &= 0x5555555555555555ULL
    number = (number | number >> 1) & 0x3333333333333333ULL
    number = (number | number >> 2) & 0x0F0F0F0F0F0F0F0FULL
    number = (number | number >> 4) & 0x00FF00FF00FF00FFULL
    number = (number | number >> 8) & 0x0000FFFF0000FFFFULL
    return (number | number >> 16) & 0x00000000FFFFFFFFULL


cdef inline double within(double value, double limit) noexcept:
    return -limit if value < -limit else limit if value > limit else value


def _gather(uint64 number):
    """See kvrepl.datatypes.geo._gather."""
    return gathered(number)


def _spread(uint64 number):
    """See kvrepl.datatypes.geo._spread."""
    number = (number | number << 16) & 0x0000FFFF0000FFFFULL
    number = (number | number << 8) & 0x00FF00FF00FF00FFULL
    number = (number | number << 4) & 0x0F0F0F0F0F0F0F0FULL
    number = (number | number << 2) & 0x3333333333333333ULL
    return (number | number << 1) & 0x5555555555555555ULL


def place_of(double score):
    """See kvrepl.datatypes.geo.place_of."""
    cdef uint64 geohash
    cdef double north, east, west, south, width, height
    if not -9223372036854775808.0 <= score < 18446744073709551616.0:
        geohash = 1ULL << 63 if score < 0 else 0
    elif score < 0:
        geohash = <uint64> <long long> score
    else:
        geohash = <uint64> score
    south = <double> gathered(geohash)
    west = <double> gathered(geohash >> 1)
    width = MAX_LONGITUDE + MAX_LONGITUDE
    height = MAX_LATITUDE + MAX_LATITUDE
    east = -MAX_LONGITUDE + (west + 1) / CELLS * width
    west = -MAX_LONGITUDE + west / CELLS * width
    north = -MAX_LATITUDE + (south + 1) / CELLS * height
    south = -MAX_LATITUDE + south / CELLS * height
    return within((west + east) / 2, MAX_LONGITUDE), within((south + north) / 2, MAX_LATITUDE)


def distance_m(double longitude, double latitude, double longitude2, double latitude2):
    """See kvrepl.datatypes.geo.distance_m."""
    cdef double south = latitude * RADIANS, west = longitude * RADIANS
    cdef double north = latitude2 * RADIANS, east = longitude2 * RADIANS
    cdef double u = sin((north - south) / 2), v = sin((east - west) / 2)
    cdef double root = sqrt(u * u + cos(south) * cos(north) * v * v)
    return 2.0 * EARTH_RADIUS_M * (asin(root) if root <= 1.0 else NAN)
