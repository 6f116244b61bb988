"""Listpack, ziplist, intset and zipmap: entries byte for byte, and damage of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from rdb.accel import accel
from rdb.blobs import intset, listpack, ziplist, zipmap
from rdb.errors import RdbError

LISTPACK_DECODERS = [listpack.decode, listpack.decode_reference]


@pytest.mark.parametrize(
    ("element", "entry"),
    [
        (b"0", b"\x00\x01"),
        (b"127", b"\x7f\x01"),
        (b"128", b"\xc0\x80\x02"),
        (b"4095", b"\xcf\xff\x02"),
        (b"-1", b"\xdf\xff\x02"),
        (b"-4096", b"\xd0\x00\x02"),
        (b"4096", b"\xf1\x00\x10\x03"),
        (b"-32768", b"\xf1\x00\x80\x03"),
        (b"32768", b"\xf2\x00\x80\x00\x04"),
        (b"-8388608", b"\xf2\x00\x00\x80\x04"),
        (b"8388608", b"\xf3\x00\x00\x80\x00\x05"),
        (b"-2147483649", b"\xf4\xff\xff\xff\x7f\xff\xff\xff\xff\x09"),
        (b"9223372036854775807", b"\xf4" + b"\xff" * 7 + b"\x7f\x09"),
        (b"9223372036854775808", b"\x939223372036854775808\x14"),
        (b"", b"\x80\x01"),
        (b"-0", b"\x82-0\x03"),
        (b"00", b"\x8200\x03"),
        (b"x" * 63, b"\xbf" + b"x" * 63 + b"\x40"),
        (b"x" * 64, b"\xe0\x40" + b"x" * 64 + b"\x42"),
        (b"x" * 125, b"\xe0\x7d" + b"x" * 125 + b"\x7f"),
        (b"x" * 126, b"\xe0\x7e" + b"x" * 126 + b"\x01\x80"),
        (b"x" * 4095, b"\xef\xff" + b"x" * 4095 + b"\x20\x81"),
        (b"x" * 4096, b"\xf0\x00\x10\x00\x00" + b"x" * 4096 + b"\x20\x85"),
    ],
)
def test_listpack_element_has_the_entry_that_redis_makes(element: bytes, entry: bytes) -> None:
    assert listpack.encode_entry(element) == listpack.encode_entry_reference(element) == entry
    blob = listpack.encode([element])
    assert blob == listpack.encode_reference([element])
    assert blob[listpack.HEADER_BYTES : -1] == entry
    for decode in LISTPACK_DECODERS:
        assert decode(blob) == [element]


@pytest.mark.parametrize("size", [16380, 16381, 16382, 16383, 2097150, 2097151, 2097152])
def test_listpack_backlen_boundary_reads_alike_in_both_decoders(size: int) -> None:
    blob = listpack.encode([b"x" * (size - 5), b"after"])
    assert blob == listpack.encode_reference([b"x" * (size - 5), b"after"])
    for decode in LISTPACK_DECODERS:
        assert decode(blob)[1] == b"after"


def test_listpack_of_more_than_65534_elements_has_no_count() -> None:
    elements = [b"%d" % (i % 100) for i in range(70000)]
    blob = listpack.encode(elements)
    assert blob == listpack.encode_reference(elements)
    assert blob[4:6] == b"\xff\xff"
    for decode in LISTPACK_DECODERS:
        assert decode(blob) == elements


def test_listpack_without_elements_is_empty() -> None:
    assert listpack.encode([]) == listpack.EMPTY
    assert listpack.decode(listpack.EMPTY) == []


@pytest.mark.parametrize("decode", LISTPACK_DECODERS)
@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x06\x00\x00\x00\x00\x00",  # no end
        b"\x08\x00\x00\x00\x00\x00\xff",  # another size
        b"\x07\x00\x00\x00\x00\x00\x00",  # no FF
        b"\x07\x00\x00\x00\x01\x00\xff",  # another count
        b"\x09\x00\x00\x00\x01\x00\x05\x02\xff",  # a wrong backlen
        b"\x08\x00\x00\x00\x01\x00\x05\xff",  # no backlen
        b"\x09\x00\x00\x00\x01\x00\xf5\x01\xff",  # no such encoding
        b"\x09\x00\x00\x00\x01\x00\xff\x01\xff",  # an FF before the last
        b"\x09\x00\x00\x00\x01\x00\x8a\x01\xff",  # a string past the end
        b"\x09\x00\x00\x00\x01\x00\xf0\x01\xff",  # half a length
        b"\x0c\x00\x00\x00\x01\x00\xf0\xff\xff\xff\xff\xff",  # 4 GiB
        b"\x08\x00\x00\x00\x01\x00\xf4\xff",  # an integer past the end
        b"\x08\x00\x00\x00\x01\x00\xe0\xff",  # a length past the end
    ],
)
def test_listpack_damaged_is_refused(decode: Callable[[bytes], Any], blob: bytes) -> None:
    with pytest.raises(RdbError):
        decode(blob)


def test_listpack_decoders_agree_on_any_flipped_byte() -> None:
    rng = random.Random(13)
    elements = [b"abc", b"-5", b"100000", b"x" * 80, b"9" * 30, b"7", b"-3000000000", b"300"]
    blob = listpack.encode(elements)
    outcomes = []
    for _ in range(4000):
        damaged = bytearray(blob)
        for _ in range(rng.randrange(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice(
                (0, 1, 0x7F, 0xF0, rng.randrange(256))
            )
        found: list[list[bytes] | None] = []
        for decode in LISTPACK_DECODERS:
            try:
                found.append(decode(bytes(damaged)))
            except RdbError:
                found.append(None)
        assert found[0] == found[1], bytes(damaged)
        outcomes.append(found[0] is None)
    assert set(outcomes) == {True, False}


ZIPLIST = (
    b"\x00\x02ab"  # string of 2
    b"\x04\xf1"  # immediate 0
    b"\x02\xfd"  # immediate 12
    b"\x02\xfe\x80"  # -128
    b"\x03\xc0\x00\x80"  # 16 bits
    b"\x04\xf0\x00\x00\x80"  # 24 bits
    b"\x05\xd0\x00\x00\x00\x80"  # 32 bits
    b"\x06\xe0"
    + b"\xff" * 8
    + b"\x0a\x40\x40"
    + b"y" * 64  # 64 bits; string of 64, 14-bit length
    + b"\xfe\x43\x00\x00\x00\x80\x00\x00\x00\x01z"  # long prevlen, 32-bit length
)


def make_ziplist(entries: bytes, count: int, tail: int = 10) -> bytes:
    total = 11 + len(entries)
    head = total.to_bytes(4, "little") + tail.to_bytes(4, "little") + count.to_bytes(2, "little")
    return head + entries + b"\xff"


ZIPLIST_TAIL = 10 + 103


def test_ziplist_of_every_encoding_decodes() -> None:
    numbers = [b"0", b"12", b"-128", b"-32768", b"-8388608", b"-2147483648", b"-1"]
    expected = [b"ab", *numbers, b"y" * 64, b"z"]
    assert ziplist.decode(make_ziplist(ZIPLIST, 10, ZIPLIST_TAIL)) == expected
    assert ziplist.decode(make_ziplist(ZIPLIST, 65535, ZIPLIST_TAIL)) == expected
    assert ziplist.decode(make_ziplist(b"", 0)) == []


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        make_ziplist(ZIPLIST, 9, ZIPLIST_TAIL),
        make_ziplist(ZIPLIST, 10, ZIPLIST_TAIL)[:-1],
        make_ziplist(ZIPLIST, 10, ZIPLIST_TAIL)[:-1] + b"\x00",
        make_ziplist(ZIPLIST, 10, ZIPLIST_TAIL) + b"\xff",
        make_ziplist(ZIPLIST, 10, ZIPLIST_TAIL - 1),
        make_ziplist(ZIPLIST, 10),
        make_ziplist(ZIPLIST, 65535, len(ZIPLIST) + 10),
        make_ziplist(b"", 0, 11),
        make_ziplist(b"\x00\x01a\x04\xf1", 2, 13),
        make_ziplist(b"\x00\x01a\xfe\x04\x00\x00\x00\xf1", 2, 13),
        make_ziplist(b"\x01\xf1", 1),
        make_ziplist(b"\x00", 1),
        make_ziplist(b"\x00\x05ab", 1),
        make_ziplist(b"\x00\xf0ab", 1),
        make_ziplist(b"\x00\xc1ab", 1),
        make_ziplist(b"\x00\x80\xff\xff\xff\xff", 1),
        make_ziplist(b"\xfe\x00", 1),
    ],
)
def test_ziplist_damaged_is_refused(blob: bytes) -> None:
    with pytest.raises(RdbError):
        ziplist.decode(blob)


@pytest.mark.skipif(accel is None, reason="the accelerators were not built")
def test_ziplist_compiled_reads_what_the_reference_reads_whatever_is_flipped() -> None:
    rng = random.Random(13)
    # What is damaged most is what follows, so that every entry is the first sometimes.
    starts = [0, 4, 6, 8, 11, 15, 20, 26, 36, 103]
    outcomes = []
    for round_ in range(8000):
        first = starts[round_ % len(starts)]
        entries = b"\x00" + ZIPLIST[first + (5 if first == 103 else 1) :]
        tail = 10 + max(103 - first, 0)
        damaged = bytearray(make_ziplist(entries, 65535 if round_ % 3 else 1, tail))
        for _ in range(rng.randrange(3)):
            at = rng.choice((10, 11, 12, rng.randrange(len(damaged))))
            damaged[at] = rng.choice((0, 1, 0x80, 0xF0, 0xFE, rng.randrange(256)))
        blob = bytes(damaged)
        expected: list[bytes] | None
        try:
            expected = ziplist.decode_reference(blob)
        except RdbError:
            expected = None
        assert accel.ziplist_decode(blob) == expected, blob
        outcomes.append(expected is None)
    assert 1000 < sum(outcomes) < 7000


@pytest.mark.parametrize(
    ("members", "width"),
    [([], 2), ([-32768, 32767], 2), ([32768], 4), ([-(2**31)], 4), ([2**31], 8), ([-(2**63)], 8)],
)
def test_intset_has_the_width_of_its_widest_member(members: list[int], width: int) -> None:
    blob = intset.encode(reversed(members))
    assert blob[0] == width
    assert len(blob) == 8 + width * len(members)
    assert intset.decode(blob) == members


@pytest.mark.parametrize(
    "blob",
    [
        b"\x02\x00\x00\x00\x01\x00\x00",
        b"\x03\x00\x00\x00\x01\x00\x00\x00abc",
        b"\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00",
        b"\x02\x00\x00\x00\xff\xff\xff\xff\x01\x00",
        b"\x02\x00\x00\x00\x02\x00\x00\x00\x02\x00\x01\x00",
        b"\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x01\x00",
    ],
)
def test_intset_damaged_is_refused(blob: bytes) -> None:
    with pytest.raises(RdbError):
        intset.decode(blob)


def test_zipmap_with_free_bytes_and_long_lengths_decodes() -> None:
    long_value = b"\xfe\x2c\x01\x00\x00\x00" + b"v" * 300
    blob = b"\x02\x01a\x02\x03bc???\x02kk" + long_value + b"\xff"
    assert zipmap.decode(blob) == [b"a", b"bc", b"kk", b"v" * 300]
    assert zipmap.decode(b"\x00\xff") == []


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff",
        b"\x01\x01a\x01\x00b",
        b"\x01\x01a\xff",
        b"\x01\x01a\x01\xff",
        b"\x01\x01a\x01\x09b\xff",
        b"\x01\x05a\xff",
        b"\x01\xfe\xff\xff\xff\xff\xff",
        b"\x01\x01a\xff\x00b\xff",
    ],
)
def test_zipmap_damaged_is_refused(blob: bytes) -> None:
    with pytest.raises(RdbError):
        zipmap.decode(blob)
