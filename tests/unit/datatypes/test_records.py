"""Values to RDB records and back, and the encodings that loading chooses.

That these are Redis's choices is shown against the real server in tests/interop.
"""

from __future__ import annotations

from typing import Any

import pytest

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.datatypes.records import from_rdb, rdb_type_and_value
from kvrepl.datatypes.streams import StreamValue
from kvrepl.keyspace.digest import digest_value
from rdb import constants as c
from rdb.errors import RdbError
from rdb.streams import Consumer, Group, Pending, Stream
from rdb.values import ExpiringHash, decode_value, encode_value

WORDS = [b"w%d" % number for number in range(1000)]
NUMBERS = [b"%d" % number for number in range(-500, 500)]
LONG = b"x" * 65


def scored(members: list[bytes]) -> list[tuple[bytes, float]]:
    return [(member, float(number)) for number, member in enumerate(members)]


def flat(members: list[bytes]) -> list[bytes]:
    return [text for member in members for text in (member, b"v")]


VALUES: list[tuple[int, Any]] = [
    (c.TYPE_STRING, b"value"),
    (c.TYPE_STRING, b""),
    (c.TYPE_LIST_QUICKLIST_2, ListValue(Limits(), WORDS)),
    (c.TYPE_SET_INTSET, SetValue(Limits(), NUMBERS[:512])),
    (c.TYPE_SET_INTSET, SetValue(Limits(), [b"1", b"70000"])),
    (c.TYPE_SET_INTSET, SetValue(Limits(), [b"-9223372036854775808", b"9223372036854775807"])),
    (c.TYPE_SET, SetValue(Limits(), NUMBERS)),
    (c.TYPE_SET, SetValue(Limits(), WORDS)),
    (c.TYPE_HASH_LISTPACK, HashValue(Limits(), [(word, b"1") for word in WORDS[:512]])),
    (c.TYPE_HASH, HashValue(Limits(), [(word, b"1") for word in WORDS])),
    (c.TYPE_HASH, HashValue(Limits(), [(b"f", LONG)])),
    (c.TYPE_ZSET_LISTPACK, SortedSet(Limits(), scored(WORDS[:128]))),
    (c.TYPE_ZSET_2, SortedSet(Limits(), scored(WORDS))),
    (c.TYPE_ZSET_2, SortedSet(Limits(), [(LONG, 0.1)])),
]


@pytest.mark.parametrize(("type_code", "value"), VALUES)
def test_record_written_and_read_is_the_same_value(type_code: int, value: Any) -> None:
    written_type, plain = rdb_type_and_value(value, Limits())
    assert written_type == type_code
    encoded = encode_value(written_type, plain)
    decoded, end = decode_value(written_type, encoded, 0)
    assert end == len(encoded)
    loaded: Any = from_rdb(written_type, decoded, Limits())
    assert digest_value(loaded) == digest_value(value)
    if type_code != c.TYPE_STRING:
        assert loaded.encoding == value.encoding
        order = sorted if loaded.encoding == b"hashtable" else list
        assert order(loaded) == order(value)


def test_rdb_type_raw_string_is_written_as_bytes() -> None:
    assert rdb_type_and_value(bytearray(b"abc"), Limits()) == (c.TYPE_STRING, b"abc")


def test_rdb_type_of_what_is_no_value_is_our_own_fault() -> None:
    with pytest.raises(AssertionError):
        rdb_type_and_value("text", Limits())


@pytest.mark.parametrize(
    ("type_code", "plain", "encoding"),
    [
        (c.TYPE_LIST, WORDS, b"quicklist"),
        (c.TYPE_LIST_ZIPLIST, WORDS[:3], b"quicklist"),
        (c.TYPE_SET, NUMBERS[:512], b"intset"),
        (c.TYPE_SET, NUMBERS[:513], b"hashtable"),
        (c.TYPE_SET, [b"1", b"01"], b"hashtable"),
        (c.TYPE_SET_INTSET, NUMBERS[:513], b"hashtable"),
        (c.TYPE_SET_LISTPACK, [b"1", b"2"], b"intset"),
        (c.TYPE_HASH, flat(WORDS[:512]), b"listpack"),
        (c.TYPE_HASH, flat(WORDS[:513]), b"hashtable"),
        (c.TYPE_HASH, flat([LONG]), b"hashtable"),
        (c.TYPE_HASH_ZIPMAP, flat([LONG]), b"hashtable"),
        (c.TYPE_HASH_LISTPACK, flat([LONG]), b"listpack"),
        (c.TYPE_HASH_ZIPLIST, flat([LONG]), b"listpack"),
        (c.TYPE_HASH_LISTPACK, flat(WORDS[:513]), b"hashtable"),
        (c.TYPE_HASH_METADATA, ExpiringHash([b"f", b"v"], {}), b"listpack"),
        (c.TYPE_ZSET_2, scored(WORDS[:128])[::-1], b"listpack"),
        (c.TYPE_ZSET_2, scored(WORDS[:129])[::-1], b"skiplist"),
        (c.TYPE_ZSET, scored([LONG]), b"skiplist"),
        (c.TYPE_ZSET_LISTPACK, scored([LONG]), b"listpack"),
        (c.TYPE_ZSET_ZIPLIST, scored(WORDS[:129]), b"skiplist"),
    ],
)
def test_from_rdb_encoding_depends_on_type_and_thresholds(
    type_code: int, plain: Any, encoding: bytes
) -> None:
    loaded: Any = from_rdb(type_code, plain, Limits())
    assert loaded.encoding == encoding


def test_from_rdb_empty_collections_are_left_to_the_caller() -> None:
    for type_code in (c.TYPE_LIST, c.TYPE_SET, c.TYPE_HASH, c.TYPE_ZSET_2):
        loaded: Any = from_rdb(type_code, [], Limits())
        assert len(loaded) == 0


def test_from_rdb_stream_comes_back_with_all_that_a_file_holds_of_it() -> None:
    readers = [Consumer(b"idle", 5, 5), Consumer(b"reader", 9, 9)]
    owed = [Pending((2, 0), b"reader", 7, 3), Pending((3, 1), b"reader", 8, 1)]
    stream = Stream(
        entries=[((2, 0), [b"f", b"1"]), ((3, 1), [b"g", LONG, b"h", b""])],
        last_id=(9, 0),
        first_id=(2, 0),
        max_deleted_id=(1, 7),
        entries_added=4,
        groups=[Group(b"g", (3, 1), 2, owed, readers), Group(b"unread", (0, 0), -1)],
    )
    value = from_rdb(c.TYPE_STREAM_LISTPACKS_2, stream, Limits())
    assert isinstance(value, StreamValue)
    type_code, written = rdb_type_and_value(value, Limits())
    assert type_code == c.TYPE_STREAM_LISTPACKS_2
    assert encode_value(type_code, written) == encode_value(type_code, stream)


@pytest.mark.parametrize(
    "group",
    [
        Group(b"twice", (0, 0), 0),
        Group(b"other", (0, 0), 0, consumers=[Consumer(b"same", 1, 1)] * 2),
    ],
)
def test_from_rdb_stream_with_a_name_twice_is_refused(group: Group) -> None:
    stream = Stream(groups=[Group(b"twice", (0, 0), 0), group])
    with pytest.raises(RdbError, match="of one name"):
        from_rdb(c.TYPE_STREAM_LISTPACKS_2, stream, Limits())


@pytest.mark.parametrize(
    ("type_code", "plain"),
    [
        (c.TYPE_MODULE_2, object()),
        (99, b""),
        (c.TYPE_HASH_METADATA, ExpiringHash([b"f", b"v"], {b"f": 1})),
    ],
)
def test_from_rdb_what_redis_has_no_value_for_is_refused(type_code: int, plain: Any) -> None:
    with pytest.raises(RdbError):
        from_rdb(type_code, plain, Limits())
