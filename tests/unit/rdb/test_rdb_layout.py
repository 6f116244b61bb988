"""Listpacks laid out like one that was judged before: which get its verdict, and what is kept."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable

import pytest

from kvrepl.datatypes.limits import Limits
from rdb import constants as c
from rdb.blobs import intset, listpack
from rdb.blobs.layout import MAX_BYTES, MAX_LAYOUTS, MAX_PATIENCE, PATIENCE, Layouts
from rdb.errors import Incomplete, RdbError
from rdb.keys import load_keys_reference
from rdb.lengths import decode_length, encode_length
from rdb.packed import _HASHES, _LISTS, _NODES, _SETS, _ZSETS, packed_end
from rdb.strings import decode_strings_reference, encode_string

HASH = listpack.encode([b"name", b"somebody", b"nams", b"0123456789", b"n", b"7", b"more", b""])
"""Of its fields two differ in a byte."""
ENTRY = [b"2", b"0", b"3", b"value", b"other", b"5"]
NODE = listpack.assemble(
    [listpack.encode_entry(text) for text in (b"2", b"0", b"2", b"field", b"g", b"0")]
    + [listpack.encode_entry(text) for text in (b"2", b"0", b"0", b"VALUE", b"", b"5")]
    + [b"%c%b%c" % (0x80 | len(text), text, len(text) + 1) for text in ENTRY]
)
"""The numbers of its second entry are texts."""
ONE_ENTRY = listpack.encode(
    [b"1", b"0", b"2", b"field", b"g", b"0", b"2", b"0", b"0", b"VALUE 0123456789", b"900", b"5"]
)


INTS = listpack.encode([b"a", b"5", b"b", b"-300", b"c", b"%d" % (1 << 40)])
"""A hash whose values are numbers."""
ZSET = listpack.encode([b"member 01", b"7", b"member 02", b"700", b"m2", b"%d" % (1 << 20)])
"""Of its members two end alike."""
LIST = listpack.encode([b"some", b"7", b"700", b"%d" % -(1 << 50), b"x" * 70, b""])


def hash_value(blob: bytes) -> bytes:
    return encode_string(blob, compress=False)


def stream_value(blob: bytes) -> bytes:
    head = b"\x01" + encode_string(bytes(16), compress=False)
    entries = 1 if len(blob) == len(ONE_ENTRY) else 2
    return head + encode_string(blob, compress=False) + bytes((entries,)) + bytes(8)


def list_value(blob: bytes) -> bytes:
    # In the form of two bytes, which is what most have.
    return b"\x01\x02" + (0x4000 | len(blob)).to_bytes(2, "big") + blob


def learn(layouts: Layouts[int], size: int) -> None:
    layouts.learn(bytes(size), lambda: (b"\xff" * size, size))


def test_layouts_only_bytes_that_are_free_may_differ() -> None:
    layouts: Layouts[str] = Layouts()
    blob = b"head-text-middle-more-end"
    places = [(5, 9), (17, 21)]
    mask = bytes(0 if any(begin <= at < end for begin, end in places) else 0xFF for at in range(25))
    layouts.learn(blob, lambda: (mask, "said"))
    for at in range(len(blob)):
        other = blob[:at] + b"!" + blob[at + 1 :]
        is_free = any(begin <= at < end for begin, end in places)
        assert layouts.verdict(other) == ("said" if is_free else None)
    assert layouts.verdict(blob[:-1]) is layouts.verdict(blob + b"d") is None


def test_layouts_only_bits_that_are_free_may_differ() -> None:
    layouts: Layouts[str] = Layouts()
    layouts.learn(b"\xc1\x02", lambda: (b"\xe0\xff", "said"))
    for first in range(256):
        expected = "said" if 0xC0 <= first < 0xE0 else None
        assert layouts.verdict(bytes((first, 2))) == expected


def test_layouts_one_that_does_not_fit_is_replaced_after_a_while() -> None:
    layouts: Layouts[int] = Layouts()
    layouts.learn(b"aa", lambda: (b"\xff\xff", 1))
    for _ in range(PATIENCE - 1):
        layouts.learn(b"bb", lambda: (b"\xff\xff", 2))
    assert (layouts.verdict(b"aa"), layouts.verdict(b"bb")) == (1, None)
    layouts.learn(b"bb", lambda: (b"\xff\xff", 2))
    assert (layouts.verdict(b"aa"), layouts.verdict(b"bb")) == (None, 2)


def test_layouts_are_replaced_ever_less_often_where_it_is_in_vain() -> None:
    layouts: Layouts[int] = Layouts()
    learn(layouts, 2)
    made = []

    def make() -> tuple[bytes, int]:
        made.append(0)
        return b"\xff\xff", 0

    for _ in range(10 * MAX_PATIENCE):
        layouts.learn(b"aa", make)
    doubling = (MAX_PATIENCE // PATIENCE).bit_length() - 1
    assert len(made) == doubling + (10 * MAX_PATIENCE - (MAX_PATIENCE - PATIENCE)) // MAX_PATIENCE
    layouts.forget()
    for _ in range(PATIENCE + 1):
        layouts.learn(b"aa", lambda: (b"\xff\xff", 7))
    assert layouts.verdict(b"aa") == 7


def test_layouts_no_more_are_kept_than_the_limit() -> None:
    layouts: Layouts[int] = Layouts()
    for size in range(MAX_LAYOUTS + PATIENCE - 1):
        learn(layouts, size)
    kept = [size for size in range(MAX_BYTES) if layouts.verdict(bytes(size)) == size]
    assert kept == list(range(MAX_LAYOUTS))
    learn(layouts, 1_000)
    kept = [size for size in range(MAX_BYTES) if layouts.verdict(bytes(size)) == size]
    assert kept == [*range(1, MAX_LAYOUTS), 1_000]
    learn(layouts, MAX_BYTES + 1)
    assert layouts.verdict(bytes(MAX_BYTES + 1)) is None


@pytest.mark.parametrize(
    ("type_code", "value", "blob", "layouts"),
    [
        (c.TYPE_HASH_LISTPACK, hash_value, HASH, _HASHES),
        (c.TYPE_HASH_LISTPACK, hash_value, INTS, _HASHES),
        (c.TYPE_ZSET_LISTPACK, hash_value, ZSET, _ZSETS),
        (c.TYPE_LIST_QUICKLIST_2, list_value, LIST, _LISTS),
        (c.TYPE_STREAM_LISTPACKS_2, stream_value, NODE, _NODES),
        (c.TYPE_STREAM_LISTPACKS_2, stream_value, ONE_ENTRY, _NODES),
    ],
    ids=["hash", "numbers", "zset", "list", "stream", "entry"],
)
def test_packed_end_known_layout_changes_no_verdict(
    type_code: int, value: Callable[[bytes], bytes], blob: bytes, layouts: Layouts[object]
) -> None:
    known = 0
    for at in range(len(blob)):
        for byte in (*range(0, 256, 5), 1, 2, 48, 57, 0x80, 0x84, 0xC0, 0xE0, 0xF0, 0xF4, 0xFF):
            damaged = blob[:at] + bytes((byte,)) + blob[at + 1 :]
            layouts.forget()
            assert layouts.verdict(damaged) is None
            expected = packed_end(type_code, value(damaged), 0, Limits())
            layouts.forget()
            assert packed_end(type_code, value(blob), 0, Limits()) == len(value(blob))
            known += layouts.verdict(damaged) is not None and damaged != blob
            assert packed_end(type_code, value(damaged), 0, Limits()) == expected, damaged
    assert known > 500, "no layout was ever known"


@pytest.mark.parametrize(
    ("type_code", "value", "blob", "layouts"),
    [
        (c.TYPE_HASH_LISTPACK, hash_value, HASH, _HASHES),
        (c.TYPE_ZSET_LISTPACK, hash_value, ZSET, _ZSETS),
        (c.TYPE_LIST_QUICKLIST_2, list_value, LIST, _LISTS),
        (c.TYPE_STREAM_LISTPACKS_2, stream_value, ONE_ENTRY, _NODES),
    ],
    ids=["hash", "zset", "list", "stream"],
)
def test_packed_end_known_layout_takes_nothing_that_is_cut_off(
    type_code: int, value: Callable[[bytes], bytes], blob: bytes, layouts: Layouts[object]
) -> None:
    whole = value(blob)
    layouts.forget()
    assert packed_end(type_code, whole, 0, Limits()) == len(whole)
    assert layouts.verdict(blob) is not None
    assert packed_end(type_code, whole + b"more", 0, Limits()) == len(whole)
    for cut in range(len(whole)):
        assert packed_end(type_code, whole[:cut], 0, Limits()) is None
    # The listpack is all there, and less than the value says it has.
    longer = value(blob + bytes(9))
    begin = longer.index(blob)
    assert packed_end(type_code, longer[: begin + len(blob)], 0, Limits()) is None


@pytest.mark.parametrize(
    "members",
    [
        [b"member 01", b"member 02", b"nember 02"],
        [b"12", b"13", b"1a"],
        [b"-1", b"-2", b"-3"],
        [b"1", b"2"],
        [b"a"],
        [b""],
    ],
)
def test_packed_end_set_of_one_size_is_judged_as_by_its_members(members: list[bytes]) -> None:
    whole = encode_length(len(members)) + b"".join(
        encode_length(len(member)) + member for member in members
    )
    taken = 0
    for at in range(len(whole)):
        for byte in range(256):
            data = whole[:at] + bytes((byte,)) + whole[at + 1 :]
            end = packed_end(c.TYPE_SET, data, 0, Limits())
            try:
                count, begin = decode_length(data, 0)
                found, expected = decode_strings_reference(data, begin, count)
            except (Incomplete, RdbError):
                assert end is None
                continue
            is_kept = 0 < count == len(set(found)) and None in map(listpack.integer_of, found)
            assert end == (expected if is_kept else None), data
            taken += is_kept
    assert taken or members == [b""], "no set was ever taken"
    for cut in range(len(whole)):
        assert packed_end(c.TYPE_SET, whole[:cut], 0, Limits()) is None


def test_packed_end_sets_of_any_count_and_size_are_kept_in_few_layouts() -> None:
    for count in range(1, 64):
        for size in range(2, 64):
            members = b"".join(bytes((size, n)) + b"x" * (size - 1) for n in range(count))
            data = bytes((count,)) + members
            assert packed_end(c.TYPE_SET, data, 0, Limits()) == len(data)
            assert len(_SETS) <= 256


def test_packed_end_intset_damaged_is_judged_as_by_its_members() -> None:
    taken = 0
    for form in ("<IIhhhh", "<IIiiii", "<IIqqqq"):
        width = struct.calcsize(form[:1] + form[-1])
        blob = struct.pack(form, width, 4, -300, -2, 5, 700)
        for at in range(len(blob)):
            for byte in range(256):
                other = blob[:at] + bytes((byte,)) + blob[at + 1 :]
                head, members = struct.unpack(form, other)[:2], struct.unpack(form, other)[2:]
                is_kept = head == (width, 4) and sorted(set(members)) == list(members)
                data = bytes((len(other),)) + other
                expected = len(data) if is_kept else None
                assert packed_end(c.TYPE_SET_INTSET, data, 0, Limits()) == expected, other
                taken += is_kept
        for cut in range(len(blob)):
            assert packed_end(c.TYPE_SET_INTSET, bytes((cut,)) + blob[:cut], 0, Limits()) is None
    assert taken > 1_000


@pytest.mark.parametrize(
    ("first", "other"),
    [
        # Not every text is a score.
        ([b"\x81m\x02", b"\x843.25\x05"], [b"\x81m\x02", b"\x84nan!\x05"]),
        # A text is another one's integer.
        (
            [b"\x07\x01", b"\x01\x01", b"\x81x\x02", b"\x01\x01"],
            [b"\x07\x01", b"\x01\x01", b"\x817\x02", b"\x01\x01"],
        ),
        # No members at all, twice.
        ([], []),
    ],
)
def test_packed_end_zsets_of_one_form_are_not_taken_where_that_says_too_little(
    first: list[bytes], other: list[bytes]
) -> None:
    _ZSETS.forget()
    data = hash_value(listpack.assemble(first))
    for _ in range(2):
        expected = len(data) if first else None
        assert packed_end(c.TYPE_ZSET_LISTPACK, data, 0, Limits()) == expected
    data = hash_value(listpack.assemble(other))
    assert packed_end(c.TYPE_ZSET_LISTPACK, data, 0, Limits()) is None


@pytest.mark.parametrize("blob", [NODE, ONE_ENTRY], ids=["two", "one"])
def test_packed_end_known_node_changes_no_verdict_on_what_stands_around_it(blob: bytes) -> None:
    whole = stream_value(blob)
    begin = whole.index(blob)
    taken = 0
    for at in (*range(begin), *range(begin + len(blob), len(whole))):
        for byte in range(256):
            damaged = whole[:at] + bytes((byte,)) + whole[at + 1 :] + bytes(9)
            _NODES.forget()
            expected = packed_end(c.TYPE_STREAM_LISTPACKS_2, damaged, 0, Limits())
            assert packed_end(c.TYPE_STREAM_LISTPACKS_2, whole, 0, Limits()) == len(whole)
            assert _NODES.verdict(blob) is not None
            assert packed_end(c.TYPE_STREAM_LISTPACKS_2, damaged, 0, Limits()) == expected, damaged
            taken += expected is not None
    assert taken > 1_000


def test_packed_end_hash_larger_than_the_limit_is_not_loaded_packed() -> None:
    for size, is_kept in ((60_000, True), (70_000, False)):
        value = hash_value(listpack.encode([b"field", b"\x00" * size]))
        segments: list[dict[bytes, object]] = [{}]
        data = bytes((c.TYPE_HASH_LISTPACK,)) + b"\x01k" + value
        pos, *_ = load_keys_reference(data, 0, segments, [{}], [0], Limits(), None)
        assert pos == (len(data) if is_kept else 0) and bool(segments[0]) == is_kept


@pytest.mark.parametrize(("form", "highest"), [("h", 1 << 15), ("i", 1 << 31), ("q", 1 << 63)])
def test_intset_natural_members_are_told_where_they_are_in_order(form: str, highest: int) -> None:
    rng = random.Random(29)
    edges = [0, 1, 2, highest // 2, highest - 2, highest - 1, -1, -2, -highest]
    told = 0
    for _ in range(5_000):
        count = rng.randrange(1, 7)
        members = [
            rng.choice(edges) if rng.random() < 0.4 else rng.randrange(highest)
            for _ in range(count)
        ]
        if rng.random() < 0.8:
            members.sort()
        blob = struct.pack(f"<II{count}{form}", struct.calcsize(form), count, *members)
        with contextlib.suppress(RdbError):
            intset.members(blob)
        in_order = members == sorted(set(members)) and members[0] >= 0
        found = intset.natural_members(blob)
        assert found in ((count, None) if in_order else (None,)), members
        told += found is not None
    assert told > 1_000


def test_intset_of_many_members_is_told_by_lanes_up_to_a_limit() -> None:
    for count, is_told in ((512, True), (513, False)):
        blob = intset.encode(range(count))
        assert intset.members(blob) == tuple(range(count))
        assert intset.natural_members(blob) == (count if is_told else None)


def test_intsets_of_one_size_and_two_widths_are_both_told() -> None:
    narrow, wide = intset.encode([1, 2, 3, 4]), intset.encode([1, 1 << 20])
    assert len(narrow) == len(wide)
    for _ in range(2):
        for blob, count in ((narrow, 4), (wide, 2)):
            intset.members(blob)
            assert intset.natural_members(blob) == count
            assert intset.natural_members(blob + b"\0") is None
