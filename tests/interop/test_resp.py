"""The codec against redis-server itself: protocol errors, number texts, globs and RESP3 forms."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvrepl import glob
from kvrepl.errors import CommandError
from kvrepl.numbers import (
    add_long_doubles,
    format_double,
    format_long_double,
    parse_float,
    parse_int,
    parse_long_double,
)
from kvrepl.resp import (
    ReplyParser,
    RequestParser,
    encode,
    encode_command,
    encode_protocol_error,
    split_inline,
)
from kvrepl.resp.values import Reply, Verbatim
from tests.interop.harness import Server
from tests.unit.resp.test_resp_inline import CASES as INLINE_CASES
from tests.unit.resp.test_resp_requests import ACCEPTED, REFUSED

pytestmark = pytest.mark.interop

TIMEOUT_S = 10.0
MARK = b"*2\r\n$4\r\nECHO\r\n$7\r\nthe-end\r\n"
MARK_REPLY = b"$7\r\nthe-end\r\n"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("resp") / "redis"
    with Server("redis", folder, {}) as server:
        yield server


@pytest.fixture
def ask(redis_server: Server) -> Iterator[Callable[..., list[Reply]]]:
    """Send commands in one go, return their replies."""
    with socket.create_connection(("127.0.0.1", redis_server.port), TIMEOUT_S) as link:
        parser = ReplyParser()

        def exchange(*commands: list[bytes]) -> list[Reply]:
            link.sendall(b"".join(map(encode_command, commands)))
            replies: list[Reply] = []
            while len(replies) < len(commands):
                data = link.recv(1 << 16)
                assert data, "the server closed the connection"
                replies += parser.feed(data)
            assert parser.error is None
            return replies

        yield exchange


def raw(server: Server, data: bytes, mark: bytes = MARK) -> tuple[bytes, bool]:
    """Send bytes; return all that is answered, and whether the server closed the connection.

    The mark, a command behind the bytes, shows where the answers end. Without one the server
    must close.
    """
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as link:
        answer = b""
        try:
            link.sendall(data + mark)
            while not answer.endswith(MARK_REPLY):
                chunk = link.recv(1 << 16)
                if not chunk:
                    return answer, True
                answer += chunk
        except ConnectionError:
            return answer, True
        return answer.removesuffix(MARK_REPLY), False


@pytest.mark.parametrize("name", REFUSED)
def test_refused_input_redis_gives_our_error_and_closes(redis_server: Server, name: str) -> None:
    parser = RequestParser()
    parser.feed(REFUSED[name][0])
    assert parser.error is not None
    # No mark: its line end would be taken for the one that some of these lack.
    answer = raw(redis_server, REFUSED[name][0], mark=b"")
    assert answer == (encode_protocol_error(parser.error), True)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_input_redis_answers_each_request(redis_server: Server, name: str) -> None:
    data, requests = ACCEPTED[name]
    answer, closed = raw(redis_server, data)
    assert not closed
    assert len(ReplyParser().feed(answer)) == len(requests)


@pytest.mark.parametrize("seed", range(10))
def test_mutated_input_redis_and_parser_agree(redis_server: Server, seed: int) -> None:
    """The parser predicts each reply of a server that only knows ECHO, and the closing."""
    rng = random.Random(seed)
    for _ in range(40):
        data = bytearray(
            b"*2\r\n$4\r\nECHO\r\n$2\r\nab\r\nECHO 'c d'\r\n\r\n*0\r\n" * rng.randrange(1, 3)
        )
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.choice(b"*$0123\r\n '\"\0x")
        parser = RequestParser()
        requests = parser.feed(bytes(data) + MARK)
        if parser.error is None and requests[-1:] != [[b"ECHO", b"the-end"]]:
            continue  # the mark was swallowed: redis-server waits for more, and so do we
        expected = [request for request in requests if request != [b"ECHO", b"the-end"]]
        answer, closed = raw(redis_server, bytes(data))
        assert closed == (parser.error is not None), data
        if parser.error is not None:
            error = encode_protocol_error(parser.error)
            assert answer.endswith(error), data
            answer = answer.removesuffix(error)
        replies = ReplyParser().feed(answer.removesuffix(MARK_REPLY))
        assert len(replies) == len(expected), data
        for request, reply in zip(expected, replies, strict=True):
            if len(request) == 2 and request[0].upper() == b"ECHO":
                assert reply == request[1], data


@pytest.mark.parametrize("line", [line for line, _ in INLINE_CASES if b"\0" not in line])
def test_inline_line_redis_splits_it_the_same(redis_server: Server, line: bytes) -> None:
    args = split_inline(b"RPUSH list " + line)
    answer, closed = raw(
        redis_server, b"DEL list\r\nRPUSH list " + line + b"\r\nLRANGE list 0 -1\r\n"
    )
    assert closed == (args is None)
    if args is not None:
        assert ReplyParser().feed(answer)[2] == args[2:]


FLOAT_TEXTS = b"""
    1.5 .5 1. . 1e 1e5 1E+5 -0 -0.0 0e999 1e400 1e-400 4.9e-324 2e-324 inf -inf +inf
    INFINITY infinit nan -nan nan(1) 0x10 0x1p3 0x.8 0x 0x1p 0x1p2000 0x1p-2000 1_0 ++1 1,5
    1e5000 1e-5000 1e4932 18446744073709551617 18446744073709551619 0x1p-18 0x3p-18
    0x1.8p-16446 3.6e-4951 1e-4951 0x1p-16445 0x1p-16446 18446744073709551615 1e28
"""


def float_texts() -> list[bytes]:
    rng = random.Random(7)
    texts = FLOAT_TEXTS.split()
    texts += [
        b"%.*g" % (rng.randrange(1, 25), rng.uniform(-9, 9) * 10 ** rng.randrange(-30, 30))
        for _ in range(300)
    ]
    texts += [bytes(rng.choices(b"0123456789.eE+-", k=rng.randrange(1, 9))) for _ in range(300)]
    return texts


def test_score_texts_redis_reads_and_prints_the_same(ask: Callable[..., list[Reply]]) -> None:
    for text in float_texts():
        # A member longer than a listpack allows keeps the set a skiplist, which keeps -0.
        member = b"m" * 65
        added, score, _ = ask(
            [b"ZADD", b"z", text, member], [b"ZSCORE", b"z", member], [b"DEL", b"z"]
        )
        value = parse_float(text)
        assert (value is None) == isinstance(added, CommandError), text
        assert score == (None if value is None else format_double(value)), text


def test_increment_texts_redis_adds_and_prints_the_same(ask: Callable[..., list[Reply]]) -> None:
    texts = float_texts()
    for text, other in zip(texts, reversed(texts), strict=True):
        _, total, _ = ask([b"SET", b"f", other], [b"INCRBYFLOAT", b"f", text], [b"DEL", b"f"])
        left, right = parse_long_double(other), parse_long_double(text)
        if left is None or right is None:
            assert isinstance(total, CommandError) and b"valid float" in total.text, (other, text)
            continue
        result = add_long_doubles(left, right)
        if result is None:
            assert isinstance(total, CommandError) and b"Infinity" in total.text, (other, text)
        else:
            assert total == format_long_double(result), (other, text)


def test_integer_texts_redis_reads_the_same(ask: Callable[..., list[Reply]]) -> None:
    rng = random.Random(3)
    texts = [b"0", b"-0", b"00", b"+1", b" 1", b"1 ", b"-", b"", b"-9223372036854775808"]
    texts += [b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"1_0"]
    texts += [bytes(rng.choices(b"0123-+ ", k=rng.randrange(1, 5))) for _ in range(200)]
    for text in texts:
        _, value = ask([b"SET", b"n", text], [b"INCRBY", b"n", b"0"])
        expected = parse_int(text)
        if expected is None:
            assert isinstance(value, CommandError), text
        else:
            assert value == expected, text


def test_glob_random_patterns_redis_matches_the_same_keys(ask: Callable[..., list[Reply]]) -> None:
    rng = random.Random(11)
    letters = b"abc\\]-^\x80\xffA*"
    keys = [bytes(rng.choices(letters, k=rng.randrange(5))) for _ in range(300)]
    ask([b"FLUSHALL"], [b"MSET", *(part for key in keys for part in (key, b""))])
    for _ in range(1500):
        pattern = bytes(rng.choices(b"abc*?[]^-\\\x80\xffA", k=rng.randrange(1, 8)))
        if pattern == b"*":
            continue  # KEYS passes every key through
        (found,) = ask([b"KEYS", pattern])
        matches = glob.compile(pattern)
        assert sorted(found) == sorted({key for key in keys if matches(key)}), pattern
    ask([b"FLUSHALL"])


def test_glob_nocase_random_patterns_redis_lists_the_same_commands(
    ask: Callable[..., list[Reply]],
) -> None:
    rng = random.Random(5)
    (names,) = ask([b"COMMAND", b"LIST"])
    for _ in range(300):
        pattern = bytes(rng.choices(b"gGeEtTsS*?[]-^Zz\\", k=rng.randrange(1, 7))) + b"*"
        (found,) = ask([b"COMMAND", b"LIST", b"FILTERBY", b"PATTERN", pattern])
        matches = glob.compile(pattern, nocase=True)
        assert sorted(found) == sorted(name for name in names if matches(name)), pattern


@pytest.mark.parametrize("protocol", [2, 3])
def test_debug_protocol_values_encode_as_redis_sends_them(
    redis_server: Server, protocol: int
) -> None:
    values: dict[str, Reply] = {
        "string": b"Hello World",
        "integer": 12345,
        "double": 3.141,
        "null": None,
        "array": [0, 1, 2],
        "map": {0: False, 1: True, 2: False},
        "true": True,
        "false": False,
        "verbatim": Verbatim(b"This is a verbatim\nstring"),
    }
    with socket.create_connection(("127.0.0.1", redis_server.port), TIMEOUT_S) as link:
        reader = link.makefile("rb")
        link.sendall(b"HELLO %d\r\n" % protocol + MARK)
        while not reader.readline().endswith(b"the-end\r\n"):
            pass
        for name, value in values.items():
            expected = encode(value, protocol)
            link.sendall(b"DEBUG PROTOCOL %b\r\n" % name.encode())
            assert reader.read(len(expected)) == expected, name
