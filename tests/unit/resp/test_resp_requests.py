"""Requests of clients and of streams, in both implementations.

The expected texts and the acceptance of odd input were read off redis-server 7.0.15 over raw
sockets; tests/interop/test_resp.py asks it again.
"""

from __future__ import annotations

from typing import Any

import pytest

from kvrepl.errors import ProtocolError
from kvrepl.resp.requests import Limits, QueryBufferError
from tests.unit.resp.codecs import CODEC_PARAMS, decode, single_bytes

both = pytest.mark.parametrize("codec", CODEC_PARAMS)

ACCEPTED = {
    "multibulk": (b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", [[b"GET", b"k"]]),
    "pipelined": (b"*1\r\n$4\r\nPING\r\n" * 3, [[b"PING"]] * 3),
    "empty argument": (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", [[b"ECHO", b""]]),
    "binary argument": (b"*1\r\n$4\r\n\r\n\0*\r\n", [[b"\r\n\0*"]]),
    "zero count": (b"*0\r\n*1\r\n$1\r\na\r\n", [[b"a"]]),
    "negative count": (b"*-1\r\n*-100\r\n*1\r\n$1\r\na\r\n", [[b"a"]]),
    "bytes after CR are not looked at": (b"*1\rX$4\rXPINGab*1\r\n$1\r\na\r\n", [[b"PING"], [b"a"]]),
    "inline": (b"PING\r\n", [[b"PING"]]),
    "inline with LF alone": (b"PING\nECHO a\n", [[b"PING"], [b"ECHO", b"a"]]),
    "inline with blanks": (b"  SET\ta   b \r\n", [[b"SET", b"a", b"b"]]),
    "inline of as many words as there may be and one more": (
        b"a " * 64 + b"\n" + b"b " * 65 + b"\n",
        [[b"a"] * 64, [b"b"] * 65],
    ),
    "inline with bytes that are not ASCII": (b"GET \xc3\xa9\r\n", [[b"GET", b"\xc3\xa9"]]),
    "inline with quotes": (b"SET \"a b\" 'c\\'d'\r\n", [[b"SET", b"a b", b"c'd"]]),
    "empty lines": (b"\r\n\n\r\nPING\r\n", [[b"PING"]]),
    "blank line": (b"  \r\nPING\r\n", [[b"PING"]]),
    "many arguments": (b"*300\r\n" + b"$1\r\na\r\n" * 300, [[b"a"] * 300]),
}

REFUSED = {
    "count is no number": (b"*x\r\n", "invalid multibulk length"),
    "count is missing": (b"*\r\n", "invalid multibulk length"),
    "count with zero in front": (b"*01\r\n", "invalid multibulk length"),
    "count with plus": (b"*+1\r\n", "invalid multibulk length"),
    "count beyond INT_MAX": (b"*2147483648\r\n", "invalid multibulk length"),
    "count line without end": (b"*" + b"1" * 65536, "too big mbulk count string"),
    "no dollar": (b"*1\r\nfoo\r\n", "expected '$', got 'f'"),
    "empty line for a dollar": (b"*1\r\n\r\n", "expected '$', got ' '"),
    "byte beyond ASCII for a dollar": (b"*1\r\n\xff\r\n", "expected '$', got '\xff'"),
    "length is negative": (b"*1\r\n$-1\r\n", "invalid bulk length"),
    "length is no number": (b"*1\r\n$1a\r\n", "invalid bulk length"),
    "length with zero in front": (b"*1\r\n$01\r\n", "invalid bulk length"),
    "length beyond the limit": (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    "length line without end": (b"*1\r\n$" + b"1" * 65536, "too big bulk count string"),
    "inline without end": (b"a" * 65537, "too big inline request"),
    "NUL hides the end of a line": (b"PI\0NG\r\n" + b"a" * 65536, "too big inline request"),
    "NUL hides the end of a count": (b"*1\0\r\n" + b"a" * 65536, "too big mbulk count string"),
    "quotes are open": (b'ECHO "a\r\n', "unbalanced quotes in request"),
    "text after a quote": (b'ECHO "a"b\r\n', "unbalanced quotes in request"),
}

INCOMPLETE = {
    "count": b"*1",
    "count without LF": b"*1\r",
    "largest count": b"*2147483647\r\n",
    "length": b"*1\r\n$4",
    "length without LF": b"*1\r\n$4\r",
    "argument": b"*1\r\n$4\r\nPIN",
    "end of argument": b"*1\r\n$4\r\nPING\r",
    "longest argument": b"*1\r\n$536870912\r\n",
    "inline": b"PING",
    "no dollar, no line end": b"*1\r\nfoo",
    "longest inline line": b"a" * 65536,
    "NUL before the end of a line": b"PI\0NG\r\n",
    "NUL before the end of a count": b"*1\0\r\n",
}


@both
@pytest.mark.parametrize("name", ACCEPTED)
def test_request_parser_accepted_input_gives_requests(codec: Any, name: str) -> None:
    data, expected = ACCEPTED[name]
    for pieces in ([data], single_bytes(data)):
        requests, state = decode(codec.RequestParser(), pieces)
        assert requests == expected
        assert state["error"] is None
        assert (state["offset"], state["pending"]) == (len(data), 0)


@both
@pytest.mark.parametrize("name", REFUSED)
def test_request_parser_refused_input_sets_redis_error(codec: Any, name: str) -> None:
    data, text = REFUSED[name]
    ping = b"*1\r\n$4\r\nPING\r\n"
    for pieces in ([data], [ping + data], [ping, data, ping]):
        requests, state = decode(codec.RequestParser(), pieces)
        assert requests == [[b"PING"]] * (len(pieces) > 1 or pieces[0] != data)
        assert state["error"] == (ProtocolError, f"Protocol error: {text}")


@both
@pytest.mark.parametrize("name", INCOMPLETE)
def test_request_parser_incomplete_input_waits(codec: Any, name: str) -> None:
    requests, state = decode(codec.RequestParser(), [INCOMPLETE[name]])
    assert requests == []
    assert (state["error"], state["offset"]) == (None, 0)


@both
def test_request_parser_line_at_limit_is_accepted_either_way(codec: Any) -> None:
    line = b"a" * 65536 + b"\n"
    for pieces in ([line], [line[:-1], line[-1:]]):
        requests, state = decode(codec.RequestParser(), pieces)
        assert (requests, state["error"]) == ([[line[:-1]]], None)


@both
def test_request_parser_after_error_decodes_nothing(codec: Any) -> None:
    parser = codec.RequestParser()
    parser.feed(b"*x\r\n")
    assert parser.feed(b"PING\r\n") == []
    assert parser.pending_bytes == 0


@both
@pytest.mark.parametrize(
    ("header", "text"),
    [
        (b"*11\r\n", "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    ],
)
def test_request_parser_stranger_beyond_limits_is_refused(
    codec: Any, header: bytes, text: str
) -> None:
    parser = codec.RequestParser()
    parser.authenticated = False
    _, state = decode(parser, [header])
    assert state["error"] == (ProtocolError, f"Protocol error: {text}")


@both
def test_request_parser_stranger_at_limits_is_served(codec: Any) -> None:
    parser = codec.RequestParser()
    parser.authenticated = False
    long = b"x" * 16384
    data = b"*10\r\n" + b"$1\r\na\r\n" * 9 + b"$16384\r\n" + long + b"\r\n"
    assert parser.feed(data) == [[b"a"] * 9 + [long]]


@both
@pytest.mark.parametrize("big", [b"*11\r\n" + b"$1\r\na\r\n" * 11, b"*1\r\n$16385\r\n"])
def test_request_parser_auth_before_big_request_defers_it(codec: Any, big: bytes) -> None:
    parser = codec.RequestParser()
    parser.authenticated = False
    assert parser.feed(b"AUTH x\r\n" + big) == [[b"AUTH", b"x"]]
    assert parser.deferred and parser.error is None
    parser.authenticated = True  # the AUTH has run
    served = parser.feed(b"")
    assert served == ([[b"a"] * 11] if big.startswith(b"*11") else [])
    assert not parser.deferred and parser.error is None


@both
def test_request_parser_failed_auth_before_big_request_refuses_it(codec: Any) -> None:
    parser = codec.RequestParser()
    parser.authenticated = False
    parser.feed(b"AUTH bad\r\n*11\r\n")
    assert parser.feed(b"") == []
    assert parser.error.text == "Protocol error: unauthenticated multibulk length"


@both
def test_request_parser_changed_limit_applies_to_next_argument(codec: Any) -> None:
    limits = Limits()
    parser = codec.RequestParser(limits)
    limits.max_bulk_bytes = 1 << 20
    assert parser.feed(b"*1\r\n$1048576\r\n") == []
    assert parser.error is None
    parser = codec.RequestParser(limits)
    parser.feed(b"*1\r\n$1048577\r\n")
    assert parser.error.text == "Protocol error: invalid bulk length"


@both
def test_request_parser_query_buffer_beyond_limit_is_refused_silently(codec: Any) -> None:
    parser = codec.RequestParser(Limits(max_query_buffer_bytes=100))
    parser.feed(b"*1\r\n$1000\r\n" + b"x" * 100)
    assert (parser.error, parser.pending_bytes) == (None, 100)
    parser.feed(b"x")
    assert isinstance(parser.error, QueryBufferError)
    assert (parser.feed(b"x" * 2000), parser.pending_bytes) == ([], 0)


@both
def test_request_parser_long_argument_in_pieces_is_whole(codec: Any) -> None:
    value = bytes(range(256)) * 8192  # 2 MiB
    data = b"*2\r\n$3\r\nSET\r\n$%d\r\n%b\r\nPING\r\n" % (len(value), value)
    pieces = [data[i : i + 4093] for i in range(0, len(data), 4093)]
    requests, state = decode(codec.RequestParser(), pieces)
    assert requests == [[b"SET", value], [b"PING"]]
    assert state["offset"] == len(data)


@both
@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("piece", [300_000, 1 << 20])
def test_request_parser_argument_of_any_size_in_pieces_is_whole(
    codec: Any, size: int, piece: int
) -> None:
    value = (b"%09d" % size) * (size // 9 + 1)
    value = value[:size]
    head = b"*2\r\n$%d\r\n" % size
    pieces = [head, *(value[i : i + piece] for i in range(0, size, piece)), b"\r", b"\n$1\r\na\r\n"]
    requests, state = decode(codec.RequestParser(), pieces)
    assert requests == [[value, b"a"]]
    assert state["pending"] == 0


@both
@pytest.mark.timeout(20)
def test_request_parser_long_argument_in_small_pieces_takes_linear_time(codec: Any) -> None:
    # Joining each piece to those before it would copy 270 GB; the timeout is the assertion.
    piece = b"x" * 2048
    parser = codec.RequestParser()
    parser.feed(b"*1\r\n$%d\r\n" % (16_384 * len(piece)))
    for _ in range(16_384):
        assert parser.feed(piece) == []
    ((value,),) = parser.feed(b"\r\n")
    assert len(value) == 16_384 * len(piece)


@both
@pytest.mark.parametrize("keep", [0, 1])
def test_request_parser_cut_inside_last_line_end_completes(codec: Any, keep: int) -> None:
    parser = codec.RequestParser()
    assert parser.feed(b"*1\r\n$4\r\nPING\r\n"[: 12 + keep]) == []
    assert parser.feed(b"\r\n"[keep:] + b"*1\r\n$1\r\na\r\n") == [[b"PING"], [b"a"]]


@both
def test_request_parser_empty_lines_are_counted(codec: Any) -> None:
    parser = codec.RequestParser()
    parser.feed(b"\nPING\r\n\r\n \r\n")
    assert parser.empty_lines == 2  # a line of blanks is not empty


@both
def test_stream_parser_commands_carry_absolute_end_offsets(codec: Any) -> None:
    parser = codec.StreamParser(1000)
    ping = b"*1\r\n$4\r\nPING\r\n"
    data = ping + b"\n" + ping + b"\r\n*0\r\n" + ping[:5]
    expected = [([b"PING"], 1014), ([b"PING"], 1029)]
    for pieces in ([data], single_bytes(data)):
        parser = codec.StreamParser(1000)
        commands, state = decode(parser, pieces)
        assert commands == expected
        # The empty line and the empty multibulk behind the last command are consumed too.
        assert state["offset"] == 1035
        assert state["error"] is None


@both
def test_stream_parser_inline_from_master_is_refused(codec: Any) -> None:
    parser = codec.StreamParser()
    assert parser.feed(b"*1\r\n$1\r\na\r\nPING\r\n") == [([b"a"], 11)]
    assert parser.error.text == "Master using the inline protocol. Desync?"
    assert parser.offset == 11


@both
def test_stream_parser_lenient_gives_inline_commands(codec: Any) -> None:
    parser = codec.StreamParser(0, strict=False)
    assert parser.feed(b"#TS:1700000000\r\n*1\r\n$1\r\na\r\n") == [
        ([b"#TS:1700000000"], 16),
        ([b"a"], 27),
    ]


@both
def test_stream_parser_argument_beyond_client_limit_is_awaited(codec: Any) -> None:
    parser = codec.StreamParser()
    parser.feed(b"*1\r\n$600000000\r\n")
    assert parser.error is None
