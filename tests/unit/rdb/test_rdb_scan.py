"""Listpacks by the regular expression engine: what it covers it judges as rdb.blobs.listpack."""

from __future__ import annotations

import random

import pytest

from rdb.blobs import listpack, scan
from rdb.errors import RdbError
from rdb.packed import _PLAIN_SCORE

NUMBERS = [
    edge + step
    for edge in (0, 127, *(sign * (1 << bits) for bits in (12, 15, 23, 31, 63) for sign in (1, -1)))
    for step in (-1, 0, 1)
    if -(1 << 63) <= edge + step < 1 << 63
]
WIDTHS = {2: 0xF1, 3: 0xF2, 4: 0xF3, 8: 0xF4}


def text_of(rng: random.Random) -> bytes:
    return rng.choice(
        (
            rng.randbytes(rng.randrange(scan.MAX_STRING_BYTES + 2)),
            b"%d" % rng.choice(NUMBERS),
            b"%d" % rng.randrange(200),
            b"%r" % rng.random(),
            b"name %d" % rng.randrange(9),
        )
    )


def forms_of(number: int) -> list[bytes]:
    """Every entry that has the text of a number, the canonical one among them."""
    text = b"%d" % number
    forms = [b"%c%b%c" % (0x80 | len(text), text, len(text) + 1), listpack.encode_int_entry(number)]
    if -4096 <= number < 4096:
        forms.append(bytes((0xC0 | number >> 8 & 0x1F, number & 0xFF, 2)))
    for width, head in WIDTHS.items():
        if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
            raw = number.to_bytes(width, "little", signed=True)
            forms.append(b"%c%b%c" % (head, raw, width + 1))
    return forms


def check(blob: bytes) -> bool:
    """Hold what is found against the exact decoder; whether anything was."""
    entries, fields, members = scan.entries(blob), scan.fields(blob), scan.members(blob)
    equal = scan.equal_strings(blob)
    if entries is None:
        assert fields is None and members is None and equal is None
        return False
    assert equal in (None, len(entries))
    texts = listpack.decode_reference(blob)
    assert len(entries) == len(texts)
    assert list(map(scan.number_of, entries)) == list(map(listpack.integer_of, texts))
    if fields is not None:
        assert len(texts) == 2 * fields == 2 * len(set(texts[::2]))
    if members is not None:
        assert fields == members
        assert all(map(_PLAIN_SCORE.fullmatch, texts[1::2]))
    return True


def test_scan_every_size_of_string_is_covered_up_to_the_limit() -> None:
    for size in range(scan.MAX_STRING_BYTES + 2):
        blob = listpack.encode([b"x" * size, b"v"])
        covered = size <= scan.MAX_STRING_BYTES
        assert (scan.entries(blob) is not None) == covered
        assert scan.fields(blob) == (1 if covered else None)
        assert scan.members(listpack.encode([b"x" * size, b"7"])) == (1 if covered else None)


def test_scan_every_size_of_number_is_covered() -> None:
    texts = [b"%d" % number for number in sorted(set(NUMBERS))]
    assert scan.fields(listpack.encode([part for text in texts for part in (text, b"v")])) == len(
        texts
    )
    assert check(listpack.encode(texts))
    assert scan.members(listpack.encode([p for t in texts for p in (t + b"!", t)])) == len(texts)


@pytest.mark.parametrize("number", NUMBERS)
def test_scan_fields_only_the_canonical_form_of_a_number_is_covered(number: int) -> None:
    for form in forms_of(number):
        blob = listpack.assemble([form, b"\x01\x01"])
        assert check(blob)
        is_canonical = form == listpack.encode_int_entry(number)
        assert scan.fields(blob) == scan.members(blob) == (1 if is_canonical else None)


@pytest.mark.parametrize(
    "texts",
    [[], [b"a"], [b"a", b"1", b"a", b"2"], [b"a", b"1", b"b"], [b"7", b"1", b"7", b"2"]],
)
def test_scan_fields_that_are_no_pairs_or_stand_twice_are_none(texts: list[bytes]) -> None:
    blob = listpack.encode(texts)
    assert scan.fields(blob) == scan.members(blob) == (None if texts else 0)


@pytest.mark.parametrize(
    "parts",
    [
        [b"\xf5"],
        [b"\xf5", b""],
        [b"\x82ab\x04"],
        [b"\x82ab\x02", b""],
        [b"\xe0\x05hello\x07", b"\x01\x01"],
        [b"\x81a\x02", b"\x811\x03"],
        [b"\x81a\x02", b"\x8212\x02"],
        [b"\x81a\x02", b"\x81", b"12\x03"],
    ],
)
def test_scan_what_is_no_entry_is_not_covered(parts: list[bytes]) -> None:
    blob = listpack.assemble(parts)
    assert scan.entries(blob) is None
    assert scan.fields(blob) is None and scan.members(blob) is None


@pytest.mark.parametrize(
    ("score", "is_score"),
    [
        (b"3", True),
        (b"-3.25", True),
        (b"1e+30", True),
        (b"-1.7976931348623157e+308", True),
        (b"inf", True),
        (b"-inf", True),
        (b"nan", False),
        (b"1.", False),
        (b"", False),
        (b"1\x02", False),
        (b"1\x03a", False),
        (b"0x10", False),
    ],
)
def test_scan_members_scores_are_numbers_as_redis_writes_them(score: bytes, is_score: bool) -> None:
    assert scan.members(listpack.encode([b"m", score])) == (1 if is_score else None)


@pytest.mark.parametrize("count", [1, 2, 9, 70_000])
def test_scan_equal_strings_of_every_short_size_are_counted(count: int) -> None:
    for size in range(1, 64):
        texts = [b"%c" % (97 + size % 20) * size] * count
        # A listpack does not tell more than 65,534, and those are left to the decoder.
        expected = count if count < listpack.UNKNOWN_COUNT else None
        assert scan.equal_strings(listpack.encode(texts)) == expected
        if count > 2:
            continue
        for other in (b"x" * (size + 1), b"7", b"x" * 64):
            assert scan.equal_strings(listpack.encode([*texts, other])) is None
            assert scan.equal_strings(listpack.encode([other[:64], *texts])) is None
    assert scan.equal_strings(listpack.EMPTY) is None


def test_scan_damaged_equal_strings_are_never_covered_unless_the_decoder_takes_them() -> None:
    blob = listpack.encode([b"%04x" % n for n in range(40_000, 40_006)])
    covered = 0
    for at in range(len(blob)):
        for byte in range(256):
            damaged = blob[:at] + bytes((byte,)) + blob[at + 1 :]
            check(damaged)
            covered += scan.equal_strings(damaged) is not None
    assert covered == 6 * 4 * 256 + (len(blob) - 6 * 4)
    for cut in range(len(blob)):
        assert scan.equal_strings(blob[:cut]) is None


def test_scan_mask_leaves_free_what_an_entry_holds_and_not_what_it_is() -> None:
    texts = [b"12", b"name", b"", b"x" * 63, b"y" * 64, *(b"%d" % n for n in NUMBERS), b"z"]
    blob = listpack.encode(texts)
    entries = scan.entries(blob)
    assert entries is not None
    assert scan.mask(entries, lambda place: False) == b"\xff" * len(blob)
    rng = random.Random(23)
    for free in range(len(entries)):
        mask = int.from_bytes(scan.mask(entries, free.__eq__), "little")
        noise = int.from_bytes(rng.randbytes(len(blob)), "little")
        other = (int.from_bytes(blob, "little") & mask | noise & ~mask).to_bytes(
            len(blob), "little"
        )
        found = scan.entries(other)
        assert found is not None and list(map(len, found)) == list(map(len, entries))
        assert found[:free] + found[free + 1 :] == entries[:free] + entries[free + 1 :]
        # All bits are free that may be: the others give another kind or size of entry.
        free_bits = 8 * len(blob) - mask.bit_count()
        first, size = entries[free][0], len(entries[free])
        if first < 0x80:
            assert free_bits == 7
        elif 0xC0 <= first < 0xE0:
            assert free_bits == 13
        else:
            assert free_bits == 8 * (size - (3 if first == 0xE0 else 2))


def test_scan_random_listpacks_are_judged_as_the_decoder_does() -> None:
    rng = random.Random(17)
    covered = 0
    for _ in range(2000):
        covered += check(listpack.encode([text_of(rng) for _ in range(rng.randrange(12))]))
    assert covered > 1500


def test_scan_damaged_listpacks_are_never_covered_unless_the_decoder_takes_them() -> None:
    rng = random.Random(19)
    refused = covered = 0
    for _ in range(20_000):
        texts = [text_of(rng) for _ in range(rng.randrange(1, 8))]
        damaged = bytearray(listpack.encode(texts))
        for _ in range(rng.randrange(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), 0, 1, 0xFF))
        blob = bytes(damaged)
        if check(blob):
            covered += 1
        else:
            try:
                listpack.decode_reference(blob)
            except RdbError:
                refused += 1
    assert covered > 1000 and refused > 1000
