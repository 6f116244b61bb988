"""The walk over a segment: compiled, it gives the bytes of the reference and copies no page."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from kvrepl.datatypes import HashValue, Limits, ListValue, SetValue, SortedSet
from kvrepl.datatypes.streams import StreamValue
from kvrepl.persistence.walk import COMPILED, Walker, encode_segment_reference
from rdb import PACKED, RdbReader, Stream, encode_header, encode_value
from rdb.writer import Accesses

needs_compiled = pytest.mark.skipif(COMPILED is None, reason="_walker is not built, or not wanted")
SIZES = (1, 2, 7, 40, 130, 600, 2500)


def text(rng: random.Random) -> bytes:
    return rng.choice(
        (
            b"%d" % rng.randrange(-(1 << rng.randrange(1, 66)), 1 << rng.randrange(1, 66)),
            rng.randbytes(rng.randrange(80)),
            b"ab" * rng.randrange(40),
            b"x" * rng.randrange(9_000),
        )
    )


def score(rng: random.Random) -> float:
    return rng.choice(
        (
            float(rng.randrange(-1000, 1000)),
            rng.random(),
            rng.random() * 10 ** rng.randrange(-300, 300),
            2.0**62,
            -(2.0**62),
            2.0**62 + 1024,
            float("inf"),
            float("-inf"),
            -0.0,
        )
    )


def value_of(rng: random.Random, limits: Limits) -> Any:
    size = rng.choice(SIZES)
    texts = [text(rng) if size < 600 else b"%d:%d" % (n, size) for n in range(size)]
    match rng.randrange(9):
        case 0:
            return texts[0]
        case 1:
            return bytearray(texts[0])
        case 2:
            return ListValue(limits, texts)
        case 3:
            return SetValue(limits, texts)
        case 4:
            bits = rng.choice((4, 15, 16, 31, 32, 63))
            numbers = [rng.randrange(-(1 << bits), 1 << bits) for _ in range(size)]
            return SetValue(limits, [b"%d" % number for number in numbers])
        case 5:
            return HashValue(limits, [(each, text(rng)) for each in texts])
        case 6:
            return SortedSet(limits, [(each, score(rng)) for each in texts])
        case 7:
            stream = StreamValue()
            for number in range(size):
                stream.add((number + 1, 0), [b"field", b"%d" % number])
            return stream
        case _:
            return PACKED[18](encode_value(18, texts[:9]))


def segment_of(seed: int) -> tuple[dict[bytes, Any], dict[bytes, int], Limits]:
    rng = random.Random(seed)
    limits = Limits()
    limits.list_max_listpack_size = rng.choice((-5, -2, -1, 0, 1, 3, 128))
    segment = {b"key:%d" % n: value_of(rng, limits) for n in range(12)}
    expires = {key: rng.randrange(-(1 << 62), 1 << 62) for key in segment if rng.random() < 0.4}
    return segment, expires, limits


@needs_compiled
@pytest.mark.parametrize("seed", range(40))
def test_encode_segment_compiled_gives_the_bytes_of_the_reference(seed: int) -> None:
    segment, expires, limits = segment_of(seed)
    words = {key: 1_000 << 8 | n for n, key in enumerate(segment) if n % 2}
    policies = (None, Accesses(words, 7, 300_000), Accesses(words, 1_900 << 8 | 5, 2_000, True, 9))
    for compress in (False, True):
        arguments = (segment, expires, limits, compress, policies[seed % 3])
        assert COMPILED is not None
        assert COMPILED(*arguments) == encode_segment_reference(*arguments)


def test_encode_segment_reference_gives_one_record_a_key() -> None:
    segment, expires, limits = segment_of(7)
    reader = RdbReader()
    reader.feed(encode_header())
    records: Any = reader.feed(encode_segment_reference(segment, expires, limits, True))
    assert [record.key for record in records] == list(segment)
    assert {r.key: r.expires_at_ms for r in records if r.expires_at_ms is not None} == expires


@needs_compiled
def test_encode_segment_compiled_refuses_what_is_no_value() -> None:
    assert COMPILED is not None
    for segment in ({"text": b"v"}, {b"k": "text"}, {b"k": ListValue(Limits(), ["x"])}):  # type: ignore[list-item]
        with pytest.raises((TypeError, AssertionError)):
            COMPILED(segment, {}, Limits(), True)  # type: ignore[arg-type]


def private_dirty_kb() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty in smaps_rollup")


@needs_compiled
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs smaps_rollup")
def test_encode_segment_compiled_in_a_child_copies_no_pages_of_the_dataset() -> None:
    limits = Limits()
    segments = []
    for s in range(50):
        segment: dict[bytes, Any] = {}
        for n in range(300):
            texts = [b"element %d of %d, %d" % (i, n, s) for i in range(8)]
            segment[b"list %d %d" % (n, s)] = ListValue(limits, texts)
            segment[b"hash %d %d" % (n, s)] = HashValue(
                limits, [(each[::-1], each + b"!") for each in texts]
            )
            segment[b"set %d %d" % (n, s)] = SetValue(limits, [each + b"?" for each in texts])
            segment[b"zset %d %d" % (n, s)] = SortedSet(
                limits, [(each + b"#", i + 0.5) for i, each in enumerate(texts)]
            )
            segment[b"intset %d %d" % (n, s)] = SetValue(limits, [b"%d" % i for i in range(n)])
        segments.append(segment)
    grown_kb = []
    for encode in (COMPILED, encode_segment_reference):
        assert encode is not None
        receiving, sending = os.pipe()
        pid = os.fork()
        if pid == 0:
            before = private_dirty_kb()
            for segment in segments:
                encode(segment, {}, limits, True)
            os.write(sending, b"%d" % (private_dirty_kb() - before))
            os._exit(0)
        os.waitpid(pid, 0)
        grown_kb.append(int(os.read(receiving, 20)))
        os.close(receiving)
        os.close(sending)
    compiled_kb, reference_kb = grown_kb
    # 75,000 values are some 90 MB; the reference shows that the measurement works.
    assert reference_kb > 30_000
    assert compiled_kb < 3_000


REPETITIVE = [b"member:%d:" % n + b"ab" * 60 for n in range(6)]
PACKABLE: dict[int, Any] = {
    2: REPETITIVE,
    4: REPETITIVE,
    5: [(member, float(n)) for n, member in enumerate(REPETITIVE)],
    11: [b"%d" % (1 << 40 | n) for n in range(100)],
    16: [text[:50] for text in REPETITIVE],
    17: [(member[:50], float(n)) for n, member in enumerate(REPETITIVE)],
    18: REPETITIVE,
    19: Stream([((5, n), [b"field", text]) for n, text in enumerate(REPETITIVE)], (5, 5)),
}


@pytest.mark.parametrize(
    "walk", [encode_segment_reference, pytest.param(COMPILED, marks=needs_compiled)]
)
@pytest.mark.parametrize("type_code", PACKABLE)
def test_packed_value_is_written_without_lzf_where_that_is_not_wanted(
    walk: Walker, type_code: int
) -> None:
    plain = PACKABLE[type_code]
    packed = PACKED[type_code](encode_value(type_code, plain))
    assert packed.may_hold_lzf()
    bare = PACKED[type_code](encode_value(type_code, plain, compress=False))
    segment: dict[bytes, Any] = {b"first": packed, b"second": bare, b"third": b"x" * 50}
    expires = {b"first": 7}

    kept = walk(segment, expires, Limits(), True)
    freed = walk(segment, expires, Limits(), False)

    assert kept.count(packed) == kept.count(bare) == 1
    assert freed.count(bare) == 2 and freed.count(packed) == 0
    assert read(kept) == read(freed)


def read(records: bytes) -> list[Any]:
    reader = RdbReader()
    return reader.feed(encode_header(10) + records)
