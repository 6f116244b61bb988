"""Bitmaps against their definition: a string as a text of zeros and ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.datatypes import bitmaps
from kvrepl.datatypes.bitmaps import CHUNK_BYTES, FAIL, SAT, WRAP, FieldType

strings = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\x00", b"\xff"]).flatmap(
        lambda byte: st.integers(0, 40).map(lambda size: byte * size)
    ),
)
kinds = st.one_of(
    st.builds(FieldType, st.just(True), st.integers(1, 64)),
    st.builds(FieldType, st.just(False), st.integers(1, 63)),
)


def digits(data: bytes | bytearray) -> str:
    """Give the bits of a string as text, bit 0 first."""
    return "".join(f"{byte:08b}" for byte in data)


@given(strings.filter(bool), st.data())
def test_count_and_position_of_any_range_agree_with_the_digits(
    data: bytes, draw: st.DataObject
) -> None:
    text = digits(data)
    first = draw.draw(st.integers(0, len(text) - 1))
    last = draw.draw(st.integers(first, len(text) - 1))
    part = text[first : last + 1]

    assert bitmaps.count(data, first, last) == part.count("1")
    for bit in (0, 1):
        at = part.find(str(bit))
        assert bitmaps.position(data, bit, first, last) == (at if at < 0 else first + at)


@pytest.mark.parametrize("at", [0, 7, CHUNK_BYTES * 8 - 1, CHUNK_BYTES * 8, CHUNK_BYTES * 16 + 11])
def test_single_bit_in_a_string_of_several_chunks_is_found_and_counted(at: int) -> None:
    data = bytearray(2 * CHUNK_BYTES + 3)
    last = 8 * len(data) - 1
    bitmaps.set_bit(data, at, 1)
    inverted = bitmaps.combine(b"NOT", [data])

    assert bitmaps.count(data, 0, last) == 1
    assert bitmaps.count(inverted, 0, last) == last
    assert bitmaps.position(data, 1, 0, last) == at
    assert bitmaps.position(inverted, 0, 0, last) == at
    assert bitmaps.position(data, 1, at + 1, last) == -1


@given(st.lists(strings, min_size=1, max_size=4))
def test_combine_strings_of_any_lengths_agrees_byte_by_byte(sources: list[bytes]) -> None:
    length = max(map(len, sources))
    columns = list(zip(*(source.ljust(length, b"\0") for source in sources), strict=True))
    expected = {b"AND": bytearray(), b"OR": bytearray(), b"XOR": bytearray()}
    for column in columns:
        anded, ored, xored = column[0], column[0], column[0]
        for byte in column[1:]:
            anded, ored, xored = anded & byte, ored | byte, xored ^ byte
        expected[b"AND"].append(anded)
        expected[b"OR"].append(ored)
        expected[b"XOR"].append(xored)

    assert {name: bitmaps.combine(name, sources) for name in expected} == expected


def test_combine_beyond_a_chunk_keeps_the_tail_of_the_longer_source() -> None:
    long, short = b"\x0f" * (CHUNK_BYTES + 9), b"\xff" * (CHUNK_BYTES - 5)

    assert bitmaps.combine(b"AND", [long, short]) == short.replace(b"\xff", b"\x0f") + bytes(14)
    assert bitmaps.combine(b"XOR", [short, long]) == b"\xf0" * len(short) + b"\x0f" * 14


@given(strings, kinds, st.integers(0, 400))
def test_field_read_anywhere_is_its_digits_with_zeros_behind_the_end(
    data: bytes, kind: FieldType, offset: int
) -> None:
    text = (digits(data) + "0" * 500)[offset : offset + kind.bits]
    number = int(text, 2)
    if kind.signed and text[0] == "1":
        number -= 1 << kind.bits

    assert bitmaps.get_field(data, kind, offset) == number


@given(strings, kinds, st.integers(0, 400), st.data())
def test_field_written_reads_back_and_leaves_other_bits_alone(
    data: bytes, kind: FieldType, offset: int, draw: st.DataObject
) -> None:
    number = draw.draw(st.integers(kind.lowest, kind.highest))
    changed = bytearray(data)
    bitmaps.grow(changed, offset + kind.bits - 1)
    before = digits(changed)

    bitmaps.set_field(changed, kind, offset, number)

    after = digits(changed)
    end = offset + kind.bits
    assert bitmaps.get_field(changed, kind, offset) == number
    assert (after[:offset], after[end:]) == (before[:offset], before[end:])


@given(kinds, st.data())
def test_fit_of_a_sum_wraps_saturates_or_fails(kind: FieldType, draw: st.DataObject) -> None:
    number = draw.draw(st.integers(kind.lowest, kind.highest))
    increment = draw.draw(st.integers(-(1 << 63), (1 << 63) - 1))
    total = number + increment
    fits = kind.lowest <= total <= kind.highest

    wrapped = bitmaps.fit(kind, number, increment, WRAP)
    assert wrapped is not None and kind.lowest <= wrapped <= kind.highest
    assert (wrapped - total) % (1 << kind.bits) == 0
    assert bitmaps.fit(kind, number, increment, FAIL) == (total if fits else None)
    assert bitmaps.fit(kind, number, increment, SAT) == min(max(total, kind.lowest), kind.highest)


@pytest.mark.parametrize(
    ("kind", "number", "put"),
    [
        (FieldType(True, 8), 128, 127),
        (FieldType(True, 8), -129, -128),
        (FieldType(True, 8), -(1 << 63) + 128, -128),
        (FieldType(True, 8), -(1 << 63) + 127, 127),  # as redis-server 7.0.15 answers
        (FieldType(True, 8), -(1 << 63), 127),  # likewise
        (FieldType(False, 8), -1, 255),
        (FieldType(False, 8), 256, 255),
    ],
)
def test_fit_of_a_number_put_saturates_as_in_redis(kind: FieldType, number: int, put: int) -> None:
    assert bitmaps.fit(kind, number, 0, SAT) == put


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (7, 1), (8, 2), (8 * 70_000, 70_001)])
def test_grow_makes_room_for_one_bit_once(offset: int, length: int) -> None:
    data = bytearray()

    assert bitmaps.grow(data, offset)
    assert len(data) == length
    assert not bitmaps.grow(data, offset)
    assert bitmaps.get_bit(data, offset) == bitmaps.get_bit(data, offset + 8) == 0
