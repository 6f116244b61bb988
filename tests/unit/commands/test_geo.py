"""Geo: replies, errors, propagation and stored results of its commands.

The numbers are those that redis-server 7.0.15 gives for the same places.
"""

from __future__ import annotations

import pytest

from kvrepl.resp import encode
from kvrepl.resp.values import NULL_ARRAY
from tests.unit.commands.session import Session

SICILY = ("GEOADD", "g", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")
NEAR = ("FROMLONLAT", 15, 37, "BYRADIUS", 200, "km")


@pytest.fixture
def sicily(session: Session) -> Session:
    """Give g = Palermo, Catania and Paris, and a string."""
    session.run(*SICILY, 2.349014, 48.864716, "Paris")
    session.run("SET", "text", "x")
    session.take_propagated()
    return session


def test_geoadd_is_propagated_as_zadd_in_lower_case(session: Session) -> None:
    assert session.propagated(*SICILY) == [
        "zadd g 3479099956230698 Palermo 3479447370796909 Catania"
    ]
    assert session.propagated(*SICILY) == []
    assert session.propagated("GEOADD", "g", "xx", "ch", 1, 2, "Palermo") == [
        "zadd g xx ch 3378080408407459 Palermo"
    ]


def test_geoadd_options_choose_what_is_added_and_counted(sicily: Session) -> None:
    assert sicily.run("GEOADD", "g", "NX", 1, 1, "Palermo", 1, 1, "new") == 1
    assert sicily.run("ZSCORE", "g", "Palermo") == 3479099956230698
    assert sicily.run("GEOADD", "g", "XX", 2, 2, "Palermo", 1, 1, "newer") == 0
    assert sicily.run("ZSCORE", "g", "newer") is None
    assert sicily.run("GEOADD", "g", "XX", "CH", 3, 3, "Palermo", 3, 3, "newer") == 1
    assert sicily.run("GEOADD", "none", "XX", 3, 3, "Palermo") == 0
    assert sicily.run("EXISTS", "none") == 0


def test_geoadd_counts_changes_as_dirt_and_tells_zadd(sicily: Session) -> None:
    assert sicily.dirt("GEOADD", "g", 1, 1, "Palermo", 1, 1, "new", 1, 1, "new") == 2
    assert sicily.events("GEOADD", "g", 2, 1, "new") == ["zadd g"]


def test_geoadd_at_the_corner_of_the_map_stores_more_than_52_bits(session: Session) -> None:
    session.run("GEOADD", "g", 180, 85.05112878, "corner")

    assert session.run("ZSCORE", "g", "corner") == 13510798882111488
    assert session.take_propagated() == ["zadd g 13510798882111488 corner"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("GEODIST", "g", "Palermo", "Catania"), b"166274.1516"),
        (("GEODIST", "g", "Palermo", "Catania", "KM"), b"166.2742"),
        (("GEODIST", "g", "Palermo", "Catania", "mi"), b"103.3182"),
        (("GEODIST", "g", "Palermo", "none"), None),
        (("GEODIST", "none", "a", "b"), None),
        (("GEOHASH", "g", "Palermo", "none"), [b"sqc8b49rny0", None]),
        (("GEOHASH", "none", "a"), [None]),
        (("GEOPOS", "none", "a"), [NULL_ARRAY]),
        (("GEOPOS", "g"), []),
        (("GEOSEARCH", "g", *NEAR), [b"Palermo", b"Catania"]),
        (("GEOSEARCH", "g", *NEAR, "ASC"), [b"Catania", b"Palermo"]),
        (("GEOSEARCH", "g", *NEAR, "COUNT", 1), [b"Catania"]),
        (("GEOSEARCH", "g", *NEAR, "DESC", "COUNT", 1), [b"Palermo"]),
        (("GEOSEARCH", "g", *NEAR, "COUNT", 1, "ANY"), [b"Palermo"]),
        (("GEOSEARCH", "g", *NEAR, "WITHDIST", "ASC"), [
            [b"Catania", b"56.4413"], [b"Palermo", b"190.4424"],
        ]),
        (("GEOSEARCH", "g", *NEAR, "WITHHASH"), [
            [b"Palermo", 3479099956230698], [b"Catania", 3479447370796909],
        ]),
        (("GEOSEARCH", "g", "bybox", 400, 400, "km", "frommember", "Catania", "asc"),
         [b"Catania", b"Palermo"]),
        (("GEOSEARCH", "g", "BYBOX", 400, 100, "km", "FROMMEMBER", "Catania"), [b"Catania"]),
        (("GEOSEARCH", "g", "BYRADIUS", 0, "m", "FROMMEMBER", "Catania"), [b"Catania"]),
        (("GEOSEARCH", "none", "FROMMEMBER", "x", "BYRADIUS", 1, "m"), []),
        (("GEORADIUS", "g", 15, 37, 200, "km", "DESC"), [b"Palermo", b"Catania"]),
        (("GEORADIUS_RO", "g", 15, 37, 200, "km", "ASC"), [b"Catania", b"Palermo"]),
        (("GEORADIUSBYMEMBER", "g", "Paris", 1500, "km", "ASC"), [b"Paris", b"Palermo"]),
        (("GEORADIUSBYMEMBER_RO", "g", "Paris", 1, "ft"), [b"Paris"]),
        (("GEORADIUSBYMEMBER", "none", "Paris", "no number", "no unit"), []),
    ],
)  # fmt: skip
def test_geo_command_that_reads_replies(
    sicily: Session, command: tuple[object, ...], reply: object
) -> None:
    assert sicily.run(*command) == reply
    assert sicily.take_propagated() == []


def test_geo_positions_are_bulks_in_resp2_and_doubles_in_resp3(sicily: Session) -> None:
    positions = sicily.run("GEOPOS", "g", "Palermo", "none")

    assert encode(positions, 2) == (
        b"*2\r\n*2\r\n$20\r\n13.36138933897018433\r\n$20\r\n38.11555639549629859\r\n*-1\r\n"
    )
    assert encode(positions, 3) == (
        b"*2\r\n*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n_\r\n"
    )


def test_geo_distances_are_bulks_in_resp3_as_well(sicily: Session) -> None:
    assert encode(sicily.run("GEODIST", "g", "Paris", "Paris"), 3) == b"$6\r\n0.0000\r\n"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("GEOADD", "g", "NX", "XX", 1, 2, "m"), "ERR syntax error"),
        (("GEOADD", "g", "NX", "CH", "NX"), "ERR syntax error"),
        (("GEOADD", "g", 1, 2, "m", 3), "ERR syntax error"),
        (("GEOADD", "text", "x", 2, "m"), "ERR value is not a valid float"),
        (("GEOADD", "g", 181, 2, "m"), "ERR invalid longitude,latitude pair 181.000000,2.000000"),
        (("GEOADD", "g", 1, -85.06, "m"), "ERR invalid longitude,latitude pair 1.000000,-85.06"),
        (("GEOADD", "text", 1, 2, "m"), "WRONGTYPE Operation against a key"),
        (("GEODIST", "text", "a", "b", "yd"), "ERR unsupported unit provided. please use M, KM"),
        (("GEODIST", "g", "a", "b", "m", "x"), "ERR syntax error"),
        (("GEODIST", "text", "a", "b"), "WRONGTYPE Operation against a key"),
        (("GEOSEARCH", "text", "x", "x", "x", "x", "x"), "WRONGTYPE Operation against a key"),
        (("GEOSEARCH", "none", "BYRADIUS", "x", "m", "FROMMEMBER", "a"), "ERR need numeric radius"),
        (("GEOSEARCH", "g", "BYRADIUS", -1, "m", "FROMMEMBER", "Paris"), "ERR radius cannot be"),
        (("GEOSEARCH", "g", "BYBOX", "x", 1, "m", "ASC"), "ERR need numeric width"),
        (("GEOSEARCH", "g", "BYBOX", 1, "x", "m", "ASC"), "ERR need numeric height"),
        (("GEOSEARCH", "g", "BYBOX", 1, -1, "m", "ASC"), "ERR height or width cannot be negative"),
        (("GEOSEARCH", "g", "BYBOX", 1, 1, "yd", "ASC"), "ERR unsupported unit provided"),
        (("GEOSEARCH", "g", "FROMMEMBER", "none", "BYRADIUS", 1, "m"), "ERR could not decode"),
        (("GEOSEARCH", "g", *NEAR, "FROMMEMBER", "Paris"), "ERR syntax error"),
        (("GEOSEARCH", "g", *NEAR, "BYBOX", 1, 1, "m"), "ERR syntax error"),
        (("GEOSEARCH", "g", *NEAR, "STORE", "d"), "ERR syntax error"),
        (("GEOSEARCH", "g", *NEAR, "COUNT", 0), "ERR COUNT must be > 0"),
        (("GEOSEARCH", "g", *NEAR, "ANY"), "ERR the ANY argument requires COUNT argument"),
        (
            ("GeoSearch", "g", "BYRADIUS", 1, "m", "ASC", "ASC"),
            "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GeoSearch",
        ),
        (
            ("GEOSEARCH", "g", "FROMMEMBER", "Paris", "ASC", "ASC", "ASC"),
            "ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH",
        ),
        (
            ("GEOSEARCHSTORE", "d", "g", *NEAR, "WITHDIST"),
            "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        ),
        (
            ("GEORADIUS", "g", 1, 1, 1, "m", "STORE", "d", "WITHCOORD"),
            "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and",
        ),
        (("GEORADIUS_RO", "g", 1, 1, 1, "m", "STORE", "d"), "ERR syntax error"),
        (("GEORADIUSBYMEMBER_RO", "g", "Paris", 1, "m", "STOREDIST", "d"), "ERR syntax error"),
        (("GEORADIUS", "none", "x", 1, 1, "m"), "ERR value is not a valid float"),
    ],
)
def test_geo_command_of_bad_arguments_is_refused(
    sicily: Session, command: tuple[object, ...], text: str
) -> None:
    assert sicily.error(*command).startswith(text)
    assert sicily.take_propagated() == []


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (("GEOSEARCHSTORE", "d", "g", *NEAR), "geosearchstore d"),
        (("GEORADIUS", "g", 15, 37, 200, "km", "STOREDIST", "x", "STORE", "d"), "georadiusstore d"),
        (("GEORADIUSBYMEMBER", "g", "Catania", 200, "km", "STORE", "d"), "georadiusstore d"),
    ],
)
def test_geo_store_of_scores_makes_a_sorted_set(
    sicily: Session, command: tuple[object, ...], event: str
) -> None:
    sicily.run("SET", "d", "old", "EX", 100)
    sicily.take_propagated()

    assert sicily.events(*command) == [event]
    assert sicily.take_propagated() == [" ".join(map(str, command))]
    assert sicily.run("ZRANGE", "d", 0, -1) == [b"Palermo", b"Catania"]
    assert sicily.run("ZSCORE", "d", "Palermo") == 3479099956230698
    assert sicily.run("TTL", "d") == -1
    assert sicily.dirt(*command) == 2


def test_geo_store_of_distances_keeps_all_their_digits(sicily: Session) -> None:
    by_radius = ("FROMMEMBER", "Palermo", "BYRADIUS", 2000, "km", "COUNT", 2)

    assert sicily.run("GEOSEARCHSTORE", "d", "g", *by_radius, "STOREDIST") == 2
    assert sicily.run("ZSCORE", "d", "Palermo") == 0.0
    assert sicily.run("ZSCORE", "d", "Catania") == 166.27415156960032


def test_geo_store_of_nothing_deletes_the_destination(sicily: Session) -> None:
    nowhere = ("FROMLONLAT", -100, 0, "BYRADIUS", 1, "km")

    assert sicily.events("GEOSEARCHSTORE", "text", "g", *nowhere) == ["del text"]
    assert sicily.propagated("GEOSEARCHSTORE", "text", "g", *nowhere) == []
    assert sicily.events("GEORADIUS", "none", 0, 0, 1, "m", "STORE", "g") == ["del g"]


def test_geo_store_larger_than_a_listpack_is_a_skiplist(session: Session) -> None:
    session.limits.zset_max_listpack_entries = 3
    for number in range(4):
        session.run("GEOADD", "g", number / 1000, 1, f"m{number}")

    assert session.run("GEOSEARCHSTORE", "d", "g", "FROMMEMBER", "m0", "BYRADIUS", 1, "km") == 4
    assert session.encoding("d") == "skiplist"
    session.run("GEOSEARCHSTORE", "d", "g", "FROMMEMBER", "m0", "BYRADIUS", 250, "m")
    assert session.encoding("d") == "listpack"


def test_geo_search_of_more_members_than_are_read_at_a_time_finds_all(session: Session) -> None:
    places = [text for n in range(1500) for text in (n / 1e5, 1, f"m{n}")]
    session.run("GEOADD", "g", *places)

    around = ("GEOSEARCH", "g", "FROMLONLAT", 0, 1, "BYRADIUS", 2, "km")
    assert session.run(*around, "ASC") == [b"m%d" % n for n in range(1500)]
    assert len(session.run(*around, "COUNT", 700, "ANY")) == 700


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        (("GEORADIUS", "g", 1, 2, 3, "m"), ["g"]),
        (("GEORADIUS", "g", 1, 2, 3, "m", "store", "d"), ["g", "d"]),
        (("GEORADIUS", "g", 1, 2, 3, "m", "STOREDIST", "d", "STORE", "e"), ["g", "e", "d"]),
        (("GEORADIUS", "g", 1, 2, 3, "m", "STORE"), ["g"]),
        (("GEORADIUS", "g", "STORE", 2, 3, "m"), ["g"]),
        (("GEORADIUSBYMEMBER", "g", "a", 3, "m", "STORE", "d", "STORE", "e"), ["g", "d"]),
    ],
)
def test_georadius_names_its_destination_among_its_keys(
    session: Session, command: tuple[object, ...], keys: list[str]
) -> None:
    assert session.run("COMMAND", "GETKEYS", *command) == [key.encode() for key in keys]
