"""Lengths, strings, LZF and the checksum: the forms byte for byte, and each refusal."""

from __future__ import annotations

import random

import pytest

import rdb
from rdb import lzf
from rdb.accel import accel
from rdb.checksum import crc64, crcmod_crc64
from rdb.constants import MAX_LZF_RATIO, MAX_STRING_BYTES
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length, encode_length
from rdb.strings import decode_string, decode_strings, decode_strings_reference, encode_string

needs_accel = pytest.mark.skipif(accel is None, reason="rdb._accel was not built")


@pytest.mark.parametrize(
    ("length", "encoded"),
    [
        (0, b"\x00"),
        (63, b"\x3f"),
        (64, b"\x40\x40"),
        (16383, b"\x7f\xff"),
        (16384, b"\x80\x00\x00\x40\x00"),
        (2**32 - 1, b"\x80\xff\xff\xff\xff"),
        (2**32, b"\x81\x00\x00\x00\x01\x00\x00\x00\x00"),
        (2**64 - 1, b"\x81" + b"\xff" * 8),
    ],
)
def test_length_at_each_boundary_takes_the_shortest_form(length: int, encoded: bytes) -> None:
    assert encode_length(length) == encoded
    assert decode_length(b"!" + encoded + b"!", 1) == (length, 1 + len(encoded))
    for cut in range(len(encoded)):
        with pytest.raises(Incomplete) as caught:
            decode_length(encoded[:cut], 0)
        assert cut < caught.value.needed <= len(encoded)


@pytest.mark.parametrize("first", [0x82, 0xBF, 0xC0, 0xC3, 0xFF])
def test_length_of_unknown_form_is_refused(first: int) -> None:
    with pytest.raises(RdbError) as caught:
        decode_length(b"\x00" + bytes((first,)) + bytes(20), 1)
    assert caught.value.offset == 1


@pytest.mark.parametrize(
    ("string", "encoded"),
    [
        (b"", b"\x00"),
        (b"abc", b"\x03abc"),
        (b"0", b"\xc0\x00"),
        (b"-128", b"\xc0\x80"),
        (b"128", b"\xc1\x80\x00"),
        (b"-32768", b"\xc1\x00\x80"),
        (b"32768", b"\xc2\x00\x80\x00\x00"),
        (b"-2147483648", b"\xc2\x00\x00\x00\x80"),
        (b"2147483648", b"\x0a2147483648"),
        *((text, bytes((len(text),)) + text) for text in (b"-0", b"+1", b"007", b"1_0", b" 1")),
        *((text, bytes((len(text),)) + text) for text in (b"-", b"1 ", b"\xb2", b"-2147483649")),
        (b"a" * 20, b"\x14" + b"a" * 20),
        (b"a" * 64, b"\xc3\x05\x40\x40\x00a\xe0\x36\x00"),
    ],
)
def test_string_encodes_to_the_form_redis_picks(string: bytes, encoded: bytes) -> None:
    assert encode_string(string) == encoded
    assert decode_string(b"!" + encoded, 1) == (string, 1 + len(encoded))
    for cut in range(len(encoded)):
        with pytest.raises(Incomplete) as caught:
            decode_string(encoded[:cut], 0)
        assert cut < caught.value.needed <= len(encoded)


def test_string_without_compression_stays_plain() -> None:
    assert encode_string(b"a" * 64, compress=False) == b"\x40\x40" + b"a" * 64


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xc4",  # no such encoding
        b"\x81" + b"\x7f" * 8,  # longer than any machine holds
        b"\xc3\x04\x80\x7f\xff\xff\xff\x00abc",  # 4 bytes that claim to be 2 GiB
        b"\xc3\x01\x20\x00",  # literals that run out
        b"\xc3\x02\x21\x20\x00",  # a copy from before the start
        b"\xc3\x02\x02\x00a",  # one byte where two are claimed
        b"\xc3\x03\x01\x01ab",  # two where one is claimed
    ],
)
def test_string_damaged_gives_rdb_error(damaged: bytes) -> None:
    with pytest.raises(RdbError) as caught:
        decode_string(b"??" + damaged + bytes(40), 2)
    assert caught.value.offset == 2


def test_strings_read_alike_compiled_and_not() -> None:
    rng = random.Random(3)
    strings = [rng.randbytes(rng.choice((0, 3, 63, 64, 300))) for _ in range(200)]
    strings += [b"%d" % rng.randrange(-(2**33), 2**33) for _ in range(100)] + [b"abc" * 5000]
    rng.shuffle(strings)
    data = b"".join(map(encode_string, strings))
    expected = (strings, len(data))
    assert decode_strings(data, 0, len(strings)) == expected
    assert decode_strings_reference(data, 0, len(strings)) == expected
    with pytest.raises(Incomplete):
        decode_strings(data[:-1], 0, len(strings))


def test_strings_with_a_count_beyond_the_data_take_no_memory() -> None:
    with pytest.raises(Incomplete) as caught:
        decode_strings(b"\x01a", 0, 1 << 63)
    assert caught.value.needed == 1 << 63


def test_crc64_of_check_text_is_that_of_redis() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crcmod_crc64()(b"123456789", 0) == 0xE9C6D914C4B8D9CA


def test_crc64_continued_equals_crc64_of_the_whole() -> None:
    independent = crcmod_crc64()
    data = random.Random(1).randbytes(2000)
    for cut in (0, 1, 7, 8, 999, 2000):
        assert crc64(memoryview(data)[cut:], crc64(data[:cut])) == independent(data, 0)


def samples() -> list[bytes]:
    rng = random.Random(5)
    hexes = [b"%064x" % rng.getrandbits(256) for _ in range(50)]
    texts = [b"%b%b" % (each, each[at : at + rng.randrange(12)]) for at, each in enumerate(hexes)]
    texts += [b"", b"abcd", b"a" * 5, b"abc" * 10, b"a" * 263, b"a" * 264, b"a" * 265, b"a" * 9000]
    texts += [bytes(range(256)) * 40, rng.randbytes(400), rng.randbytes(33) * 300]
    for _ in range(150):
        alphabet = rng.randbytes(rng.choice((1, 2, 4, 16, 200)))
        texts.append(bytes(rng.choices(alphabet, k=int(rng.paretovariate(0.5)) % 3000)))
    return texts


@pytest.mark.parametrize("compress", [lzf.compress, lzf.compress_reference])
@pytest.mark.parametrize(
    "decompress", [lzf.decompress, lzf.decompress_reference, lzf.decompress_with_library]
)
def test_lzf_compressed_decompresses_to_the_same(compress, decompress) -> None:  # type: ignore[no-untyped-def]
    packed_some = False
    for text in samples():
        packed = compress(text)
        if packed is not None:
            packed_some = True
            assert len(packed) <= len(text) - 4
            assert decompress(packed, len(text)) == text
    assert packed_some


@needs_accel
def test_lzf_compiled_gives_the_bytes_of_the_reference() -> None:
    for text in samples():
        assert lzf.compress(text) == lzf.compress_reference(text)


@pytest.mark.parametrize("compress", [lzf.compress, lzf.compress_reference])
def test_lzf_copies_of_three_bytes_alone_are_not_worth_it(compress) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(12)
    triples = [rng.randbytes(3) for _ in range(9)]
    once = b"".join(triples)
    assert compress(once + b"".join(rng.sample(triples, 9))) is None
    assert compress(once + once[:9]) is not None


@pytest.mark.parametrize("compress", [lzf.compress, lzf.compress_reference])
def test_lzf_copies_of_a_short_string_must_take_a_sampled_window(compress) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(13)
    text = rng.randbytes(28)
    for shift in range(7):
        parts = [text[at : at + 5] for at in (shift, shift + 7, shift + 14)]
        doubled = text + parts[0] + parts[2] + parts[1]
        # Five bytes hold two windows.
        assert (compress(doubled) is not None) == (shift in (0, 6))
        assert compress(doubled + rng.randbytes(24)) is not None, "no longer a short string"
        assert compress(text + text[shift : shift + 10]) is not None


@pytest.mark.parametrize("longest", [lzf.SAMPLED_BYTES, 40, 25])
def test_lzf_of_many_texts_none_that_shortens_is_overlooked(longest: int) -> None:
    rng = random.Random(14)
    texts = []
    for _ in range(5_000):
        text = (
            rng.randbytes(longest)
            if rng.random() < 0.5
            else b"%0*x" % (longest, rng.getrandbits(99))
        )
        at, size = rng.randrange(longest), rng.randrange(3, 9)
        repeating = text[:at] + text[at : at + size] * 3 + text
        texts.append(repeating[: rng.randint(21, longest)])
    shorter = [n for n, text in enumerate(texts) if lzf.compress_reference(text) is not None]
    found = lzf.which_may_shorten(texts)
    assert found == sorted(found)
    assert shorter and set(shorter) <= set(found)
    assert len(found) < 2 * len(shorter) + 50
    for few in (0, 1, 63, 64):
        assert {n for n in shorter if n < few} <= set(lzf.which_may_shorten(texts[:few]))


@pytest.mark.parametrize("decompress", [lzf.decompress, lzf.decompress_with_library])
def test_lzf_in_c_refuses_what_the_reference_refuses(decompress) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(11)
    outcomes = set()
    for _ in range(3000):
        length = rng.randrange(60)
        packed = bytes(rng.choices((0, 1, 2, 31, 32, 33, 64, 97, 224, 255), k=rng.randrange(12)))
        try:
            expected: bytes | None = lzf.decompress_reference(packed, length)
        except RdbError:
            expected = None
        try:
            found: bytes | None = decompress(packed, length)
        except RdbError:
            found = None
        assert found == expected
        outcomes.add(expected is None)
    assert outcomes == {True, False}


def test_payload_round_trip_and_damage() -> None:
    payload = rdb.encode_payload(1, [b"a", b"b"])
    assert rdb.verify_payload(payload)
    assert rdb.decode_payload(payload) == (1, [b"a", b"b"])
    for at in range(len(payload)):
        damaged = bytearray(payload)
        damaged[at] ^= 0x10
        assert not rdb.verify_payload(bytes(damaged))
    assert not rdb.verify_payload(payload[:9])
    for bad in (b"\x01\x05" + bytes(10), b"\x00\x01ab" + bytes(10), bytes(10), b"\x09"):
        with pytest.raises(RdbError):
            rdb.decode_payload(bad)


def test_payload_of_redis_decodes() -> None:
    # SET k 10; DUMP k and RPUSH l a 1; DUMP l, redis-server 7.0.15.
    assert rdb.decode_payload(b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb") == (0, b"10")


def decoded(data: bytes, pos: int) -> tuple[bytes, int] | type[Exception]:
    try:
        return decode_string(data, pos)
    except (Incomplete, RdbError) as error:
        return type(error)


@pytest.mark.parametrize("behind", [b"", bytes(40_000)], ids=["alone", "followed"])
def test_string_of_lzf_damaged_or_cut_is_read_as_by_the_reference(behind: bytes) -> None:
    def expected(data: bytes) -> tuple[bytes, int] | type[Exception]:
        try:
            packed_size, begin = decode_length(data, 1)
            size, begin = decode_length(data, begin)
            if size > packed_size * MAX_LZF_RATIO or packed_size > MAX_STRING_BYTES:
                return RdbError
            if (end := begin + packed_size) > len(data):
                return Incomplete
            return lzf.decompress_reference(data[begin:end], size), end
        except (Incomplete, RdbError) as error:
            return type(error)

    packed = lzf.compress_reference(b"abcdefgh" * 40)
    assert packed is not None
    whole = b"\xc3" + bytes((0x40, len(packed))) + encode_length(320) + packed
    assert decoded(whole + behind, 0) == (b"abcdefgh" * 40, len(whole))
    for at in range(1, len(whole)):
        for byte in range(256):
            data = whole[:at] + bytes((byte,)) + whole[at + 1 :] + behind
            assert decoded(data, 0) == expected(data), data[: len(whole)]
    for cut in range(1, len(whole)):
        assert decoded(whole[:cut], 0) == expected(whole[:cut]) == Incomplete
