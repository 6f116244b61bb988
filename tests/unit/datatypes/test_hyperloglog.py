"""HyperLogLog: its bytes as redis-server 7.0.15 has them, and its registers against a dict.

The digests are of strings made there by PFADD of element:0, element:1, ..., 500 at a time, and by
PFCOUNT after that; PFDEBUG DECODE gave the operations.
"""

from __future__ import annotations

from hashlib import sha1
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.datatypes import hyperloglog as hll
from kvrepl.errors import CommandError

MAX_BYTES = 3000


def filled(elements: list[bytes], max_bytes: int = MAX_BYTES) -> bytearray:
    """Make a value to which elements were added."""
    value = hll.create()
    for element in elements:
        hll.add(value, element, max_bytes)
    hll.invalidate(value)
    return value


def numbered(start: int, stop: int) -> list[bytes]:
    """Give element:start up to, not including, element:stop."""
    return [b"element:%d" % number for number in range(start, stop)]


def expected_registers(elements: list[bytes]) -> bytes:
    """Give the registers by the definition: the longest run of zeros, counted as text."""
    plain = bytearray(hll.REGISTERS)
    for element in elements:
        text = f"{hll.murmur_hash_64a(element):064b}"
        index, rest = int(text[-14:], 2), "1" + text[:-14]
        plain[index] = max(plain[index], len(rest) - rest.rindex("1"))
    return bytes(plain)


def test_create_is_sparse_empty_and_18_bytes() -> None:
    value = hll.create()

    assert value == b"HYLL\x01" + bytes(11) + b"\x7f\xff"
    assert hll.cached_count(value) == 0
    assert hll.describe(value) == b"Z:16384"


@pytest.mark.parametrize(
    ("count", "size", "before", "estimate", "after"),
    [
        (100, 285, "adb8b211e8f1c583accacde62d6a276b6655b70e", 99, "4d1b3bef5d497d64"),
        (1000, 1897, "0e960765508b760a1d14e0dbf53a47cda116bf34", 997, "600cc26e1c0791fc"),
        (3000, 12304, "66aa5c54fd1fce025b32b413efc42d075b3ee285", 3002, "a456ded68989065f"),
    ],
)
def test_value_of_numbered_elements_has_the_bytes_of_redis(
    count: int, size: int, before: str, estimate: int, after: str
) -> None:
    value = filled(numbered(0, count))

    assert len(value) == size
    assert sha1(value).hexdigest() == before
    assert hll.cached_count(value) is None
    hll.cache_count(value, hll.estimate(hll.registers(value)))
    assert hll.cached_count(value) == estimate
    assert sha1(value).hexdigest().startswith(after)


def test_describe_lists_the_operations_as_redis_does() -> None:
    value = filled([b"a", b"b", b"c"])

    assert value[16:] == b"`\xf3\x80P\xb1\x84K\xfb\x80BZ"
    assert hll.describe(value) == b"Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"


@pytest.mark.parametrize(
    ("before", "max_bytes", "after"),
    [
        # The rest of a VAL is joined with the next one, four operations on.
        ("71a5 82 81 4e54", 3000, b"Z:12710 v:1,1 v:2,1 v:1,3 Z:3669"),
        # What gets no longer stays sparse, however short a sparse value has to be.
        ("71a6 80 4e57", 0, b"Z:12711 v:2,1 Z:3672"),
        ("71a6 4000 4e57", 0, b"Z:12711 v:2,1 Z:3672"),
        ("71a6 81 4e56", 0, None),
    ],
)
def test_sparse_operations_change_as_in_redis(
    before: str, max_bytes: int, after: bytes | None
) -> None:
    value = hll.create()
    value[16:] = bytes.fromhex(before)

    assert hll.add(value, b"a", max_bytes)  # register 12711 gets 2
    assert (hll.describe(value) if hll.is_sparse(value) else None) == after


def test_merge_of_two_sparse_values_has_the_bytes_of_redis() -> None:
    plain = hll.union(
        hll.registers(filled(numbered(0, 300))), hll.registers(filled(numbered(200, 600)))
    )
    merged = hll.create()
    hll.merge(merged, plain, MAX_BYTES)
    hll.invalidate(merged)

    assert hll.estimate(plain) == 602
    assert sha1(merged).hexdigest() == "bf1513d34eadc80f3917b1f894c55bb077947e68"


@pytest.mark.parametrize(
    ("element", "operations"),
    [
        (b"", b"Z:5938 v:2,1 Z:10445"),
        (b"a", b"Z:12711 v:2,1 Z:3672"),
        (b"1234567", b"Z:10327 v:3,1 Z:6056"),
        (b"12345678", b"Z:10579 v:3,1 Z:5804"),
        (b"123456789", b"Z:9293 v:2,1 Z:7090"),
        (b"0123456789abcdef", b"Z:5949 v:1,1 Z:10434"),
        (b"0123456789abcdefg", b"Z:14057 v:2,1 Z:2326"),
        (bytes(range(248, 256)) * 3 + b"\xff", b"Z:13046 v:8,1 Z:3337"),
    ],
)
def test_element_of_any_length_is_hashed_as_in_redis(element: bytes, operations: bytes) -> None:
    assert hll.describe(filled([element])) == operations


@given(st.lists(st.binary(max_size=20), max_size=60), st.sampled_from([0, 30, 100, 3000]))
def test_registers_of_any_elements_are_the_longest_runs(
    elements: list[bytes], max_bytes: int
) -> None:
    value = filled(elements, max_bytes)

    assert hll.registers(value) == expected_registers(elements)
    assert hll.is_valid(value)
    if hll.is_sparse(value):
        assert len(value) <= max(max_bytes, 18)


@given(st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_union_keeps_the_larger_of_each_register(seed: int, other: int) -> None:
    first, second = (bytes(Random(s).choices(range(64), k=hll.REGISTERS)) for s in (seed, other))

    assert hll.union(first, second) == bytes(map(max, first, second))


def test_to_dense_keeps_registers_and_the_cached_count() -> None:
    value = filled(numbered(0, 200))
    hll.cache_count(value, 200)
    plain = hll.registers(value)

    hll.to_dense(value)

    assert not hll.is_sparse(value)
    assert hll.is_valid(value)
    assert hll.registers(value) == plain
    assert hll.cached_count(value) == 200


@pytest.mark.parametrize("max_bytes", [0, 100, 400, 3000])
def test_merge_into_any_value_gives_the_union(max_bytes: int) -> None:
    value = filled(numbered(0, 90), max_bytes=300)
    plain = hll.union(hll.registers(value), hll.registers(filled(numbered(50, 1200))))

    hll.merge(value, plain, max_bytes)

    assert hll.registers(value) == plain
    assert hll.is_sparse(value) == (max_bytes == 3000)


def runs(rng: Random) -> bytes:
    """Give registers with runs of equal values, which are joined."""
    plain = bytearray(hll.REGISTERS)
    for _ in range(rng.randrange(1, 40)):
        at = rng.randrange(400)
        size = rng.randrange(12)
        plain[at : at + size] = bytes([rng.choice((1, 1, 2, 3))]) * size
    return bytes(plain)


def test_merge_in_one_go_gives_the_bytes_of_one_register_after_another() -> None:
    rng = Random(3)
    for _ in range(20):
        base = hll.create()
        hll.merge(base, runs(rng), MAX_BYTES)
        reached = bytearray(hll.registers(base))
        plain = hll.union(runs(rng), bytes(reached))
        whole, stepwise = bytearray(base), bytearray(base)

        hll.merge(whole, plain, MAX_BYTES)
        for index, rank in enumerate(plain):
            if reached[index] != rank:
                reached[index] = rank
                hll.merge(stepwise, bytes(reached), MAX_BYTES)

        assert hll.is_sparse(whole)
        assert whole == stepwise


def test_merge_of_registers_side_by_side_joins_behind_them_as_redis_does() -> None:
    value = hll.create()
    value[16:] = bytes([9] * 10) + bytes.fromhex("80 00 81 82 7f94")  # v:1,1 z:1 v:1,2 v:1,3 Z
    plain = bytearray(hll.registers(value))
    plain[101], plain[102] = 1, 2

    hll.merge(value, bytes(plain), MAX_BYTES)

    assert hll.describe(value) == b"z:10 " * 10 + b"v:1,2 v:2,1 v:1,4 Z:16277"


def test_merge_of_a_register_above_32_makes_the_value_dense() -> None:
    plain = bytearray(hll.REGISTERS)
    plain[5], plain[9] = 1, 33
    value = hll.create()

    hll.merge(value, bytes(plain), MAX_BYTES)

    assert not hll.is_sparse(value)
    assert hll.registers(value) == plain


def test_last_register_of_a_dense_value_is_set_without_growing() -> None:
    plain = bytearray(hll.REGISTERS)
    value = hll.create()
    hll.to_dense(value)
    element = next(
        e for e in numbered(0, 1 << 20) if hll.murmur_hash_64a(e) & 0x3FFF == hll.REGISTERS - 1
    )

    assert hll.add(value, element, MAX_BYTES)
    assert not hll.add(value, element, MAX_BYTES)

    plain[-1] = expected_registers([element])[-1]
    assert len(value) == hll.DENSE_BYTES
    assert hll.registers(value) == plain


@pytest.mark.parametrize("count", [1, 30, 500, 5_000, 40_000])
def test_estimate_of_random_elements_is_within_four_standard_errors(count: int) -> None:
    rng = Random(count)
    value = hll.create()
    for _ in range(count):
        hll.add(value, rng.randbytes(8), MAX_BYTES)

    error = abs(hll.estimate(hll.registers(value)) - count)
    assert error <= max(1, 4 * 0.0081 * count)


@pytest.mark.parametrize(
    ("plain", "count"),
    [
        (bytes([51]) * 8192 + bytes(8192), 13268),
        (bytes([51, 1]) * 8192, 47274),
        (bytes([51]) * 16300 + bytes([3]) * 84, 18441452),
        (bytes([51]) * 100 + bytes([20]) * 16284, 12468759305),
        (bytes([40]) * 16384, 12994641697113596),
        (bytes([49]) * 16384, 6653256548922161152),
        (bytes([51]) * 16350 + bytes([40]) * 34, 5941237893839090688),
    ],
)
def test_estimate_of_registers_seldom_seen_is_that_of_redis(plain: bytes, count: int) -> None:
    assert hll.estimate(plain) == count


@pytest.mark.parametrize("register", [51, 52, 63])
def test_estimate_of_registers_that_no_hash_gives_is_what_redis_answers(register: int) -> None:
    value = hll.create()
    count = hll.estimate(bytes([register]) * hll.REGISTERS)
    hll.cache_count(value, count)

    assert count == -9223372036854775808
    assert hll.cached_count(value) is None


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"", False),
        (b"HYLL\x01", False),
        (b"HYLL\x01" + bytes(11), True),
        (b"hyll\x01" + bytes(11), False),
        (b"HYLL\x02" + bytes(11), False),
        (b"HYLL\x00" + bytes(11), False),
        (b"HYLL\x00" + bytes(12299), True),
        (b"HYLL\x00" + bytes(12300), False),
    ],
)
def test_is_valid_looks_at_header_and_dense_length(value: bytes, valid: bool) -> None:
    assert hll.is_valid(value) is valid


@given(st.binary(max_size=60), st.binary(max_size=8))
def test_sparse_value_of_any_bytes_is_read_or_called_corrupt(body: bytes, element: bytes) -> None:
    value = bytearray(b"HYLL\x01" + bytes(11) + body)
    try:
        plain = hll.registers(value)
    except CommandError as error:
        assert error is hll.CORRUPT
    else:
        assert len(plain) == hll.REGISTERS
    try:
        hll.add(value, element, MAX_BYTES)
    except CommandError as error:
        assert error is hll.CORRUPT
    hll.describe(value)


@pytest.mark.parametrize(
    "body", [b"", b"\x7f\xfe", b"\x7f\xff\x00", b"\x7f\xff" * 3, b"\x3f" * 40_000, b"\x80"]
)
def test_sparse_value_that_does_not_give_all_registers_is_corrupt(body: bytes) -> None:
    value = bytearray(b"HYLL\x01" + bytes(11) + body)

    with pytest.raises(CommandError, match="INVALIDOBJ Corrupted HLL object detected"):
        hll.registers(value)
    with pytest.raises(CommandError, match="INVALIDOBJ Corrupted HLL object detected"):
        hll.to_dense(value)


def test_sparse_value_that_ends_inside_an_operation_reads_a_zero_there() -> None:
    # As in Redis, whose strings have a NUL behind their end.
    value = bytearray(b"HYLL\x01" + bytes(11) + b"\x7f\xfe\x40")

    assert hll.registers(value) == bytes(hll.REGISTERS)
