"""Listpacks laid out like one that was judged before: which get its verdict, and what is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvrepl.datatypes.limits import Limits
from rdb import constants as c
from rdb.blobs import listpack
from rdb.blobs.layout import MAX_BYTES, MAX_LAYOUTS, PATIENCE, Layouts
from rdb.packed import _HASHES, _NODES, packed_end
from rdb.strings import encode_string

HASH = listpack.encode([b"name", b"somebody", b"nams", b"0123456789", b"n", b"7", b"more", b""])
"""Of its fields two differ in a byte."""
ENTRY = [b"2", b"0", b"3", b"value", b"other", b"5"]
NODE = listpack.assemble(
    [listpack.encode_entry(text) for text in (b"2", b"0", b"2", b"field", b"g", b"0")]
    + [listpack.encode_entry(text) for text in (b"2", b"0", b"0", b"VALUE", b"", b"5")]
    + [b"%c%b%c" % (0x80 | len(text), text, len(text) + 1) for text in ENTRY]
)
"""The numbers of its second entry are texts."""


def hash_value(blob: bytes) -> bytes:
    return encode_string(blob, compress=False)


def stream_value(blob: bytes) -> bytes:
    head = b"\x01" + encode_string(bytes(16), compress=False)
    return head + encode_string(blob, compress=False) + b"\x02" + bytes(8)


def test_layouts_only_bytes_that_are_free_may_differ() -> None:
    layouts: Layouts[str] = Layouts()
    blob = b"head-text-middle-more-end"
    places = [(5, 9), (17, 21)]
    layouts.learn(blob, lambda: places, "said")
    for at in range(len(blob)):
        other = blob[:at] + b"!" + blob[at + 1 :]
        is_free = any(begin <= at < end for begin, end in places)
        assert layouts.verdict(other) == ("said" if is_free else None)
    assert layouts.verdict(blob[:-1]) is layouts.verdict(blob + b"d") is None


def test_layouts_one_that_does_not_fit_is_replaced_after_a_while() -> None:
    layouts: Layouts[int] = Layouts()
    layouts.learn(b"aa", list, 1)
    for _ in range(PATIENCE - 1):
        layouts.learn(b"bb", list, 2)
    assert (layouts.verdict(b"aa"), layouts.verdict(b"bb")) == (1, None)
    layouts.learn(b"bb", list, 2)
    assert (layouts.verdict(b"aa"), layouts.verdict(b"bb")) == (None, 2)


def test_layouts_no_more_are_kept_than_the_limit() -> None:
    layouts: Layouts[int] = Layouts()
    for size in range(MAX_LAYOUTS + PATIENCE - 1):
        layouts.learn(bytes(size), list, size)
    kept = [size for size in range(MAX_BYTES) if layouts.verdict(bytes(size)) == size]
    assert kept == list(range(MAX_LAYOUTS))
    layouts.learn(bytes(1_000), list, 1_000)
    kept = [size for size in range(MAX_BYTES) if layouts.verdict(bytes(size)) == size]
    assert kept == [1_000]
    layouts.learn(bytes(MAX_BYTES + 1), list, 0)
    assert layouts.verdict(bytes(MAX_BYTES + 1)) is None


@pytest.mark.parametrize(
    ("type_code", "value", "blob", "layouts"),
    [
        (c.TYPE_HASH_LISTPACK, hash_value, HASH, _HASHES),
        (c.TYPE_STREAM_LISTPACKS_2, stream_value, NODE, _NODES),
    ],
    ids=["hash", "stream"],
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
