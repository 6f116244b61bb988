"""Properties of the codec: splits do not matter, both implementations agree, inverses invert."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.errors import CommandError
from kvrepl.resp import ReplyParser, quote, split_inline
from kvrepl.resp.reader import MAX_DEPTH
from kvrepl.resp.values import NULL_ARRAY, Push, SetReply, Status
from tests.unit.resp.codecs import BOTH, CODEC_PARAMS, REFERENCE, cut, decode, single_bytes

COMMANDS = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=12), max_size=12)
NOISE = st.sampled_from([b"\n", b"\r\n", b"*0\r\n", b"*-1\r\n", b" \r\n"])
PIECES_OF_WIRE = st.one_of(
    st.lists(st.binary(max_size=30), min_size=1, max_size=5).map(REFERENCE.encode_command),
    NOISE,
    st.text("ab'\" \t\r\0\x80", max_size=12).map(lambda line: line.encode("latin1") + b"\r\n"),
    st.sampled_from([b"PING\r\n", b"SET k 'a b'\n", b"*3\r\n$1\r\na\r\n", b"*1\r\n$3\rXabcYZ"]),
    st.sampled_from(
        [b"*x\r\n", b"*1\r\n$-1\r\n", b"*1\r\n:1\r\n", b'"\r\n', b"*12\r\n", b"*1\0\r\n"]
    ),
)
WIRE = st.lists(PIECES_OF_WIRE, max_size=8).map(b"".join)
PLACES = st.lists(st.integers(0, 10_000), max_size=6)

SCALARS = st.one_of(
    st.binary(max_size=20),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.integers(-(10**18), 10**18).map(float),
    st.just(NULL_ARRAY),
    st.binary(max_size=9).map(lambda text: Status(text.translate(None, b"\r\n"))),
)
KEYS = st.one_of(st.binary(max_size=8), st.integers(-9, 9))
VALUES = st.recursive(
    SCALARS,
    lambda children: st.one_of(
        st.lists(children, max_size=5),
        st.lists(children, max_size=4).map(SetReply),
        st.lists(children, max_size=4).map(Push),
        st.dictionaries(KEYS, children, max_size=4),
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("kind", ["client", "stranger", "master", "file"])
@given(data=WIRE, places=PLACES)
def test_parsers_any_split_gives_same_commands_offsets_and_error(
    kind: str, data: bytes, places: list[int]
) -> None:
    outcomes = []
    for codec in BOTH:
        for pieces in ([data], cut(data, places), single_bytes(data)):
            outcomes.append(decode(make_parser(codec, kind), pieces))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def make_parser(codec: Any, kind: str) -> Any:
    if kind in ("client", "stranger"):
        parser = codec.RequestParser()
        parser.authenticated = kind == "client"
        return parser
    return codec.StreamParser(7, strict=kind == "master")


@pytest.mark.parametrize("codec", CODEC_PARAMS)
@given(commands=COMMANDS, places=PLACES)
def test_stream_parser_encoded_commands_come_back_with_their_ends(
    codec: Any, commands: list[list[bytes]], places: list[int]
) -> None:
    wires = [codec.encode_command(argv) for argv in commands]
    ends = [sum(map(len, wires[: i + 1])) for i in range(len(wires))]
    decoded, state = decode(codec.StreamParser(), cut(b"".join(wires), places))
    assert decoded == list(zip(commands, ends, strict=True))
    assert (state["offset"], state["pending"]) == (sum(map(len, wires)), 0)


@given(argv=st.lists(st.binary(max_size=600), max_size=80), as_tuple=st.booleans())
def test_encode_command_implementations_agree(argv: list[bytes], as_tuple: bool) -> None:
    given_argv = tuple(argv) if as_tuple else argv
    assert len({codec.encode_command(given_argv) for codec in BOTH}) == 1


@given(values=st.lists(VALUES, max_size=4), protocol=st.sampled_from([2, 3]))
def test_encode_implementations_agree(values: list[Any], protocol: int) -> None:
    for value in values:
        assert len({codec.encode(value, protocol) for codec in BOTH}) == 1
    assert len({codec.encode_many(values, protocol) for codec in BOTH}) == 1


def as_resp3_reads(value: Any) -> Any:
    """What RESP3 cannot tell apart: both nulls are one; a container keeps its kind."""
    if value is NULL_ARRAY:
        return None
    if isinstance(value, dict):
        return {key: as_resp3_reads(element) for key, element in value.items()}
    if isinstance(value, list):
        return type(value)(as_resp3_reads(element) for element in value)
    return value


def same(left: Any, right: Any) -> bool:
    """Equality that tells True from 1, a set from a list and 0.0 from -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@given(value=VALUES, places=PLACES)
def test_reply_parser_encoded_resp3_value_comes_back(value: Any, places: list[int]) -> None:
    wire = REFERENCE.encode([value, b"end"], 3)
    parser = ReplyParser()
    replies = [reply for piece in cut(wire, places) for reply in parser.feed(piece)]
    assert parser.error is None
    assert len(replies) == 1
    assert same(replies[0], [as_resp3_reads(value), b"end"])


@given(text=st.binary(max_size=20))
def test_reply_parser_error_text_comes_back_on_one_line(text: bytes) -> None:
    (reply,) = ReplyParser().feed(REFERENCE.encode(CommandError(text)))
    assert reply.text == text.strip(b"\r\n").replace(b"\r", b" ").replace(b"\n", b" ")


def test_reply_parser_deepest_value_comes_back() -> None:
    value: Any = b"end"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert ReplyParser().feed(REFERENCE.encode(value)) == [value]


@given(args=st.lists(st.binary(max_size=20), max_size=5))
def test_split_inline_quoted_arguments_come_back(args: list[bytes]) -> None:
    assert split_inline(b" ".join(map(quote, args))) == args


@given(args=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_request_parser_quoted_inline_equals_multibulk(args: list[bytes]) -> None:
    line = b" ".join(map(quote, args)) + b"\r\n"
    for codec in BOTH:
        assert codec.RequestParser().feed(line) == [args]
