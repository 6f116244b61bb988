"""Replies, in both implementations; the RESP3 forms are those that redis-server 7.0.15 sends."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from kvrepl.errors import CommandError, ProtocolError
from kvrepl.resp import encode_protocol_error
from kvrepl.resp.values import (
    BLOCKED,
    NO_REPLY,
    NULL_ARRAY,
    OK,
    Double,
    Encoded,
    Push,
    SetReply,
    Verbatim,
)
from tests.unit.resp.codecs import CODEC_PARAMS

both = pytest.mark.parametrize("codec", CODEC_PARAMS)


class Code(enum.IntEnum):
    ONE = 1


class LinkError(CommandError):
    pass


VALUES: list[tuple[Any, bytes, bytes]] = [
    (b"ab", b"$2\r\nab\r\n", b"$2\r\nab\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (bytearray(b"ab"), b"$2\r\nab\r\n", b"$2\r\nab\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (-1, b":-1\r\n", b":-1\r\n"),
    (1024, b":1024\r\n", b":1024\r\n"),
    (-(1 << 63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    ((1 << 63) - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
    (1 << 64, b":18446744073709551616\r\n", b":18446744073709551616\r\n"),
    (Code.ONE, b":1\r\n", b":1\r\n"),
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n"),
    (-0.0, b"$2\r\n-0\r\n", b",-0\r\n"),
    (0.1, b"$19\r\n0.10000000000000001\r\n", b",0.10000000000000001\r\n"),
    (1e20, b"$5\r\n1e+20\r\n", b",1e+20\r\n"),
    (5e-324, b"$23\r\n4.9406564584124654e-324\r\n", b",4.9406564584124654e-324\r\n"),
    (0.0, b"$1\r\n0\r\n", b",0\r\n"),
    (999999999999999.0, b"$15\r\n999999999999999\r\n", b",999999999999999\r\n"),
    (1e17, b"$5\r\n1e+17\r\n", b",1e+17\r\n"),
    (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
    (float("-inf"), b"$4\r\n-inf\r\n", b",-inf\r\n"),
    (float("nan"), b"$3\r\nnan\r\n", b",nan\r\n"),
    (Double(b"3.141"), b"$5\r\n3.141\r\n", b",3.141\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ([b"a", 1, None], b"*3\r\n$1\r\na\r\n:1\r\n$-1\r\n", b"*3\r\n$1\r\na\r\n:1\r\n_\r\n"),
    (
        (b"a", [2, ()]),
        b"*2\r\n$1\r\na\r\n*2\r\n:2\r\n*0\r\n",
        b"*2\r\n$1\r\na\r\n*2\r\n:2\r\n*0\r\n",
    ),
    ({b"a": True}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n#t\r\n"),
    ({}, b"*0\r\n", b"%0\r\n"),
    (SetReply([1, 2]), b"*2\r\n:1\r\n:2\r\n", b"~2\r\n:1\r\n:2\r\n"),
    (Push([b"m", None]), b"*2\r\n$1\r\nm\r\n$-1\r\n", b">2\r\n$1\r\nm\r\n_\r\n"),
    (OK, b"+OK\r\n", b"+OK\r\n"),
    ([OK, OK], b"*2\r\n+OK\r\n+OK\r\n", b"*2\r\n+OK\r\n+OK\r\n"),
    (Verbatim(b"a\nb"), b"$3\r\na\nb\r\n", b"=7\r\ntxt:a\nb\r\n"),
    (CommandError(b"ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    (CommandError(b"ERR a\r\nb\n"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    (LinkError(b"ERR x"), b"-ERR x\r\n", b"-ERR x\r\n"),
    (Encoded(b":7\r\n"), b":7\r\n", b":7\r\n"),
    (BLOCKED, b"", b""),
    (NO_REPLY, b"", b""),
]


@both
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[0])[:30])
def test_encode_value_has_the_wire_form_of_redis(codec: Any, value: Any) -> None:
    python, resp2, resp3 = value
    assert codec.encode(python) == resp2
    assert codec.encode(python, 2) == resp2
    assert codec.encode(python, 3) == resp3


@both
def test_encode_nested_values_are_the_joined_forms_of_their_elements(codec: Any) -> None:
    values = [value for value, _, _ in VALUES if value is not BLOCKED and value is not NO_REPLY]
    for protocol in (2, 3):
        inner = b"".join(codec.encode(value, protocol) for value in values)
        assert codec.encode(values, protocol) == b"*%d\r\n%b" % (len(values), inner)
        assert codec.encode((values,), protocol) == b"*1\r\n*%d\r\n%b" % (len(values), inner)


@both
def test_encode_many_joins_and_leaves_out_what_has_no_reply(codec: Any) -> None:
    values = [value for value, _, _ in VALUES] + [b"x" * 10_000]
    for protocol in (2, 3):
        expected = b"".join(codec.encode(value, protocol) for value in values)
        assert codec.encode_many(values, protocol) == expected
        assert codec.encode_many(iter(values), protocol) == expected


@both
@pytest.mark.parametrize("size", [0, 1, 481, 482, 483, 511, 512, 513, 4096, 1 << 20])
def test_encode_bytes_of_any_size_is_exact(codec: Any, size: int) -> None:
    value = b"v" * size
    bulk = b"$%d\r\n%b\r\n" % (size, value)
    assert codec.encode(value) == bulk
    assert codec.encode([value, value]) == b"*2\r\n" + bulk + bulk
    assert codec.encode_command([b"SET", value]) == b"*2\r\n$3\r\nSET\r\n" + bulk


@both
@pytest.mark.parametrize("value", ["text", object(), {1}, [1, "text"], [BLOCKED], {b"a": NO_REPLY}])
def test_encode_value_without_wire_form_raises_type_error(codec: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        codec.encode(value)


@both
def test_encode_value_inside_itself_raises_recursion_error(codec: Any) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        codec.encode(value)


@both
@pytest.mark.parametrize("make", [list, tuple])
def test_encode_command_gives_a_multibulk(codec: Any, make: Any) -> None:
    assert codec.encode_command(make([b"SET", b"", b"\r\n"])) == (
        b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n"
    )


def test_encode_protocol_error_keeps_the_byte_it_names() -> None:
    error = ProtocolError("Protocol error: expected '$', got '\xff'")
    assert encode_protocol_error(error) == b"-ERR Protocol error: expected '$', got '\xff'\r\n"
