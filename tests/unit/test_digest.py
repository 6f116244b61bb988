"""The dataset digest, against what redis-server 7.0.15 answered.

The goldens are the replies to DEBUG DIGEST-VALUE and DEBUG DIGEST after these commands:

    SET string value                    SET integer -12345          SET empty ""
    RPUSH list a b a 1 -7               SADD intset 3 1 2 -9223372036854775808
    SADD set a b 10                     HSET hash f v g 17
    ZADD zset 1 a -inf b inf c 0.1 d -0 e
    CONFIG SET zset-max-listpack-entries 0
    ZADD skiplist -0 e 0.30000000000000004 d 1e300 c
    XADD stream 5-1 f v g w             XADD stream 6-0 f x
    SET expiring value                  PEXPIREAT expiring 4102444800000

and then, for the second database, SELECT 9 and SET string value.
"""

from __future__ import annotations

import math

import pytest

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.keyspace.digest import EMPTY, digest_dataset, digest_key, digest_value
from rdb.streams import Stream

LIMITS = Limits()
UNPACKED = Limits()
UNPACKED.zset_max_listpack_entries = 0
SCORES = [(b"a", 1.0), (b"b", -math.inf), (b"c", math.inf), (b"d", 0.1), (b"e", -0.0)]
EXTREME_SCORES = [(b"e", -0.0), (b"d", 0.30000000000000004), (b"c", 1e300)]
ENTRIES = [((5, 1), [b"f", b"v", b"g", b"w"]), ((6, 0), [b"f", b"x"])]

VALUES: dict[bytes, tuple[object, str]] = {
    b"string": (b"value", "d59ec93db87f4cd915db3cdf44bb63755bc4a635"),
    b"integer": (b"-12345", "9364d007acb0ba24016c9866e6283671e674924f"),
    b"empty": (b"", "8b3447c33a834b810e3e181b6fd6a2ee1020921c"),
    b"list": (
        ListValue(LIMITS, [b"a", b"b", b"a", b"1", b"-7"]),
        "8221e7a6d92662c3714a76d745400a0136ad6084",
    ),
    b"intset": (
        SetValue(LIMITS, [b"3", b"1", b"2", b"-9223372036854775808"]),
        "4b9cf2fa6e979605e33c93c17d89835c82bc9819",
    ),
    b"set": (SetValue(LIMITS, [b"a", b"b", b"10"]), "6c4c4a8172124064173b70cedf712f77142f8623"),
    b"hash": (
        HashValue(LIMITS, [(b"f", b"v"), (b"g", b"17")]),
        "1f6eaa767070417428e3b00c42829231ed5661ab",
    ),
    b"zset": (SortedSet(LIMITS, SCORES), "78c7cc19336190fa88a3b2730bc6c93a76586166"),
    b"skiplist": (
        SortedSet(UNPACKED, EXTREME_SCORES),
        "4c6436b964c9d8f1357d95b81ba29cabcf287db3",
    ),
    b"stream": (Stream(entries=ENTRIES), "324725b2f2ac6f17506d3c733a45924a1195facf"),
}
EXPIRING = "331b37c26446a68dd4cdd72701d1acee416ae7b6"
ONE_DATABASE = "cba1443a0a0abf16e42e55e77eca8bd95d17add1"
TWO_DATABASES = "f968bc8cc5eee13a7dd56bf792816dfed66a70e0"
ONE_KEY = "264ccf65edec66bccfa7cc659414ccca432057d2"  # SET k v alone
EXPIRES_AT_MS = 4_102_444_800_000

Rows = list[tuple[bytes, object, int | None]]


def rows() -> Rows:
    plain: Rows = [(key, value, None) for key, (value, _) in VALUES.items()]
    return [*plain, (b"expiring", b"value", EXPIRES_AT_MS)]


@pytest.mark.parametrize("key", VALUES)
def test_digest_value_of_each_type_is_that_of_redis(key: bytes) -> None:
    value, golden = VALUES[key]
    assert digest_value(value).hex() == golden


def test_digest_value_of_an_expiring_key_is_that_of_redis() -> None:
    assert digest_value(b"value", has_expire=True).hex() == EXPIRING


def test_digest_value_raw_string_is_that_of_its_bytes() -> None:
    assert digest_value(bytearray(b"value")) == digest_value(b"value")


def test_digest_dataset_is_that_of_redis_in_any_order_of_keys() -> None:
    assert digest_dataset([(0, rows())]).hex() == ONE_DATABASE
    assert digest_dataset([(0, rows()[::-1])]).hex() == ONE_DATABASE
    assert digest_dataset([(0, [(b"k", b"v", None)])]).hex() == ONE_KEY


def test_digest_dataset_mixes_numbers_of_databases_that_have_keys() -> None:
    second: Rows = [(b"string", b"value", None)]
    assert digest_dataset([(0, rows()), (3, []), (9, second)]).hex() == TWO_DATABASES
    assert digest_dataset([(0, rows()), (8, second)]).hex() != TWO_DATABASES


def test_digest_dataset_without_keys_is_zeros() -> None:
    assert digest_dataset([]) == digest_dataset([(0, []), (1, iter(()))]) == EMPTY


def test_digest_dataset_when_a_key_expires_counts_and_until_when_does_not() -> None:
    first: Rows = [(b"k", b"v", 1)]
    second: Rows = [(b"k", b"v", 2)]
    assert digest_dataset([(0, first)]) == digest_dataset([(0, second)])
    assert digest_dataset([(0, first)]).hex() != ONE_KEY


@pytest.mark.parametrize("has_expire", [False, True])
def test_digest_key_tells_key_value_and_expiry_apart(has_expire: bool) -> None:
    digests = {
        digest_key(b"k", b"v", has_expire),
        digest_key(b"k", b"w", has_expire),
        digest_key(b"l", b"v", has_expire),
        digest_key(b"k", b"v", not has_expire),
        digest_key(b"k", ListValue(LIMITS, [b"v"]), has_expire),
    }
    assert len(digests) == 5


def test_digest_of_what_is_no_value_is_refused() -> None:
    with pytest.raises(KeyError):
        digest_value("text")
