"""Replies read back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kvrepl.errors import CommandError, ProtocolError
from kvrepl.resp import ReplyParser
from kvrepl.resp.reader import MAX_DEPTH
from kvrepl.resp.values import NULL_ARRAY, Push, SetReply, Status, Verbatim


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"+OK\r\n", Status(b"OK")),
        (b"+\r\n", Status(b"")),
        (b":-5\r\n", -5),
        (b"$2\r\n\r\n\r\n", b"\r\n"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"_\r\n", None),
        (b"*-1\r\n", NULL_ARRAY),
        (b"*0\r\n", []),
        (b"*2\r\n*1\r\n:1\r\n*0\r\n", [[1], []]),
        (b",1.5\r\n", 1.5),
        (b",-inf\r\n", -math.inf),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b"(-12345678901234567890\r\n", -12345678901234567890),
        (b"%2\r\n$1\r\na\r\n:1\r\n+b\r\n*0\r\n", {b"a": 1, Status(b"b"): []}),
        (b"*2\r\n|1\r\n+ttl\r\n:9\r\n:1\r\n:2\r\n", [1, 2]),
    ],
)
def test_reply_parser_reply_gives_value(data: bytes, expected: Any) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        parser = ReplyParser()
        replies = [reply for piece in pieces for reply in parser.feed(piece)]
        assert replies == [expected]
        assert type(replies[0]) is type(expected)
        assert parser.pending_bytes == 0


def test_reply_parser_resp3_kinds_keep_their_type() -> None:
    data = b"~1\r\n:1\r\n>1\r\n$1\r\nm\r\n=5\r\ntxt:a\r\n-ERR no\r\n,nan\r\n"
    kind, push, verbatim, error, nan = ReplyParser().feed(data)
    assert isinstance(kind, SetReply) and kind == [1]
    assert isinstance(push, Push) and push == [b"m"]
    assert isinstance(verbatim, Verbatim) and (verbatim.format, verbatim.text) == (b"txt", b"a")
    assert isinstance(error, CommandError) and error.text == b"ERR no"
    assert math.isnan(nan)


@pytest.mark.parametrize(
    "data",
    [
        b"PING\r\n",
        b"\r\n",
        b":1a\r\n",
        b":\r\n",
        b"$-2\r\n",
        b"*-2\r\n",
        b"%-1\r\n",
        b"~-1\r\n",
        b"$1\r\nabc",
        b"$01\r\na\r\n",
        b"#x\r\n",
        b"_1\r\n",
        b",1_0\r\n",
        b"(1 \r\n",
        b"(" + b"1" * 5000 + b"\r\n",
        b"=3\r\ntxt\r\n",
        b"%1\r\n*0\r\n:1\r\n",
        b"*1\r\n" * (MAX_DEPTH + 1),
        b"+" + b"a" * 70_000,
    ],
)
def test_reply_parser_malformed_reply_sets_error_after_the_good_ones(data: bytes) -> None:
    parser = ReplyParser()
    assert parser.feed(b":1\r\n" + data) == [1]
    assert isinstance(parser.error, ProtocolError)
    assert parser.feed(b":2\r\n") == []


def test_reply_parser_max_replies_leaves_the_payload_alone() -> None:
    parser = ReplyParser()
    assert parser.feed(b"+FULLRESYNC x 0\r\n$5\r\nREDIS", max_replies=1) == [
        Status(b"FULLRESYNC x 0")
    ]
    assert parser.take_pending() == b"$5\r\nREDIS"
    assert parser.pending_bytes == 0
    assert parser.feed(b":1\r\n") == [1]
