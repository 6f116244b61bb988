"""decode(encode(x)) == x for every type that can be written, whole and in any pieces."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import rdb
from rdb import lzf
from rdb.blobs import intset, listpack
from rdb.lengths import decode_length, encode_length
from rdb.measure import end_of_value
from rdb.strings import decode_string, encode_string
from rdb.writer import encode_strings_reference

I64 = st.integers(-(2**63), 2**63 - 1)
U64 = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(-(2**66), 2**66).map(lambda n: b"%d" % n)
NEARLY_NUMBERS = st.text("0123456789-+ _e.", max_size=12).map(str.encode)
LONG = st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 900)).map(lambda t: t[0] * t[1])
STRINGS = st.one_of(st.binary(max_size=80), NUMBERS, NEARLY_NUMBERS, LONG)
SCORES = st.floats(allow_nan=False).map(lambda score: score + 0.0)


def flat(pairs: dict[bytes, bytes]) -> list[bytes]:
    return [text for pair in pairs.items() for text in pair]


LISTS = st.lists(STRINGS, max_size=40)
SETS = st.lists(STRINGS, max_size=40, unique=True)
INTEGER_SETS = st.sets(I64, max_size=40).map(lambda s: [b"%d" % n for n in sorted(s)])
HASHES = st.dictionaries(STRINGS, STRINGS, max_size=20).map(flat)
SORTED_SETS = st.dictionaries(STRINGS, SCORES, max_size=20).map(
    lambda d: sorted(d.items(), key=lambda pair: (pair[1], pair[0]))
)
IDS = st.tuples(U64, U64)


@st.composite
def streams(draw: st.DrawFn, type_code: int) -> rdb.Stream:
    ids = sorted(draw(st.sets(IDS, max_size=12)))
    shapes = draw(st.lists(st.lists(STRINGS, min_size=1, max_size=3), min_size=1, max_size=2))
    entries = []
    for entry_id in ids:
        fields = draw(st.sampled_from(shapes))
        values = draw(st.lists(STRINGS, min_size=len(fields), max_size=len(fields)))
        entries.append((entry_id, [t for pair in zip(fields, values, strict=True) for t in pair]))
    stream = rdb.Stream(entries, draw(IDS), draw(IDS), draw(IDS), draw(U64))
    for name in draw(st.sets(STRINGS, max_size=2)):
        group = rdb.Group(name, draw(IDS), draw(I64))
        for consumer in draw(st.sets(STRINGS, max_size=3)):
            seen_ms = draw(I64)
            active_ms = draw(I64) if type_code == 21 else seen_ms
            group.consumers.append(rdb.Consumer(consumer, seen_ms, active_ms))
        owners = [None, *(consumer.name for consumer in group.consumers)]
        for entry_id in sorted(draw(st.sets(IDS, max_size=6))):
            owner = draw(st.sampled_from(owners))
            group.pending.append(rdb.Pending(entry_id, owner, draw(I64), draw(U64)))
        stream.groups.append(group)
    return stream


VALUES: st.SearchStrategy[tuple[int, Any]] = st.one_of(
    st.tuples(st.just(0), STRINGS),
    st.tuples(st.sampled_from((1, 18)), LISTS),
    st.tuples(st.sampled_from((2, 20)), SETS),
    st.tuples(st.just(11), INTEGER_SETS),
    st.tuples(st.sampled_from((4, 16)), HASHES),
    st.tuples(st.sampled_from((5, 17)), SORTED_SETS),
    st.tuples(st.just(19), streams(19)),
    st.tuples(st.just(21), streams(21)),
    st.tuples(
        st.just(7), st.builds(rdb.ModuleValue, U64, st.just(b"\x02\x05\x04" + bytes(8) + b"\x00"))
    ),
)
OPTIONS = st.fixed_dictionaries(
    {
        "compress": st.booleans(),
        "list_max_listpack_size": st.integers(-5, 8),
        "stream_node_max_entries": st.integers(0, 5),
        "stream_node_max_bytes": st.sampled_from((0, 100, 4096)),
    }
)


@given(VALUES, OPTIONS)
def test_value_encoded_decodes_to_itself(value: tuple[int, Any], options: dict[str, Any]) -> None:
    type_code, content = value
    encoded = rdb.encode_value(type_code, content, **options)
    assert rdb.decode_value(type_code, b"!" + encoded + b"?", 1) == (content, 1 + len(encoded))
    assert end_of_value(type_code, b"!" + encoded + b"?", 1) == 1 + len(encoded)


KEYS = st.tuples(
    STRINGS,
    VALUES,
    st.none() | I64,
    st.none() | st.integers(0, 2**32),
    st.none() | st.integers(0, 255),
)


@given(st.lists(KEYS, max_size=5), st.data())
def test_file_written_reads_back_in_any_pieces(keys: list[Any], data: st.DataObject) -> None:
    out: list[bytes] = []
    writer = rdb.RdbWriter(out.append)
    writer.select_db(3, keys=len(keys))
    expected: list[rdb.Record] = [rdb.Header(10), rdb.SelectDb(3), rdb.ResizeDb(len(keys), 0)]
    for key, (type_code, value), at_ms, idle_s, freq in keys:
        freq = freq if idle_s is None else None
        writer.key(key, type_code, value, at_ms, idle_s=idle_s, freq=freq)
        expected.append(rdb.Key(3, key, type_code, value, at_ms, idle_s, freq))
    writer.end()
    whole = b"".join(out)
    # A checksum that happens to be zero means "none".
    expected.append(rdb.End("ok" if whole[-8:] != bytes(8) else "disabled"))
    reader = rdb.RdbReader(accelerate=data.draw(st.booleans()))
    records: list[rdb.Record] = []
    pos = 0
    while pos < len(whole):
        size = data.draw(st.integers(1, 200))
        records += reader.feed(whole[pos : pos + size])
        pos += size
    reader.close()
    assert records == expected


@given(st.dictionaries(STRINGS, st.one_of(STRINGS, LISTS)), st.booleans(), st.data())
def test_strings_of_a_dict_encode_alike_in_both_forms(
    segment: dict[bytes, Any], compress: bool, data: st.DataObject
) -> None:
    expires = data.draw(st.dictionaries(st.sampled_from([*segment, b"none"]), I64))
    expected = encode_strings_reference(segment, expires, compress)
    assert rdb.encode_strings(segment, expires, compress) == expected


@given(STRINGS, st.booleans())
def test_string_encoded_decodes_to_itself(string: bytes, compress: bool) -> None:
    encoded = encode_string(string, compress)
    assert decode_string(encoded, 0) == (string, len(encoded))


@given(U64)
def test_length_encoded_decodes_to_itself(length: int) -> None:
    encoded = encode_length(length)
    assert decode_length(encoded, 0) == (length, len(encoded))


@given(LISTS)
def test_listpack_encoded_decodes_to_itself(elements: list[bytes]) -> None:
    blob = listpack.encode(elements)
    assert blob == listpack.encode_reference(elements)
    assert listpack.decode(blob) == listpack.decode_reference(blob) == elements


@given(st.sets(I64))
def test_intset_encoded_decodes_to_itself(members: set[int]) -> None:
    assert intset.decode(intset.encode(members)) == sorted(members)


@given(st.one_of(LONG, st.binary(max_size=2000)))
def test_lzf_compresses_alike_in_both_forms(data: bytes) -> None:
    packed = lzf.compress_reference(data)
    assert lzf.compress(data) == packed
    if packed is not None:
        assert lzf.decompress(packed, len(data)) == data
        assert lzf.decompress_reference(packed, len(data)) == data


@given(SCORES)
def test_score_text_reads_back(score: float) -> None:
    read = float(rdb.values.format_score(score))
    assert math.isclose(read, score, rel_tol=0) and read == score
