"""Commands counted where they lie: compiled and not, against the parser that makes them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from kvrepl.resp.replies import encode_command
from kvrepl.resp.requests import StreamParser
from tests.unit.resp.codecs import BOTH, CODEC_PARAMS

STOPS = frozenset((b"MULTI", b"EXEC"))
SET = encode_command([b"SET", b"k", b"v" * 200])
GET = encode_command([b"get", b""])


@pytest.mark.parametrize("codec", CODEC_PARAMS)
@pytest.mark.parametrize(
    "stop",
    [
        b"",
        b"#TS:5\r\n",
        b"*0\r\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n$04\r\nPING\r\n",
        b"*1\r\n$+4\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n:4\r\n",
        b"*1\r\n$4\rXPING\r\n",
        b"*1\r\n$4\r\nPING\r\r",
        b"*1\r\n$4\r\nPINGX\n",
        b"*1\r\n$99999999999\r\n",
        b"*99999999999\r\n",
        b"PING\r\n",
        encode_command([b"multi"]),
        encode_command([b"EXEC", b"more"]),
        *(SET[:cut] for cut in range(1, len(SET))),
    ],
)
def test_skim_ends_before_what_is_cut_off_written_otherwise_or_a_stop(
    codec: Any, stop: bytes
) -> None:
    names = {b"SET": 5}
    data = b"?" + SET + GET + SET + stop
    assert codec.skim_commands(data, 1, STOPS, names) == len(data) - len(stop)
    assert names == {b"SET": 7, b"get": 1}


@pytest.mark.parametrize("codec", CODEC_PARAMS)
def test_skim_counts_every_command_of_a_run(codec: Any) -> None:
    names: Counter[bytes] = Counter()
    data = (SET + GET) * 3 + encode_command([b"DEL", *(b"%d" % n for n in range(3000))]) + GET
    assert codec.skim_commands(data, 0, STOPS, names) == len(data)
    assert names == {b"SET": 3, b"get": 4, b"DEL": 1}


def test_skim_of_damaged_runs_is_a_prefix_of_what_the_parser_makes() -> None:
    rng = random.Random(8)
    run = b"".join(
        encode_command([rng.choice((b"SET", b"x", b"")), *([b"\r\n$1\r\n"] * rng.randrange(4))])
        for _ in range(6)
    )
    stopped = 0
    for _ in range(5000):
        data = bytearray(run)
        for _ in range(rng.randrange(3)):
            data[rng.randrange(len(data))] = rng.choice(b"*$\r\n019x")
        found = []
        for codec in BOTH:
            names: dict[bytes, int] = {}
            found.append((codec.skim_commands(bytes(data), 0, STOPS, names), names))
        position, names = found[0]
        assert all(other == (position, names) for other in found), bytes(data)
        commands = [argv for argv, _ in StreamParser().feed(bytes(data[:position]))]
        assert b"".join(map(encode_command, commands)) == data[:position]
        assert Counter(argv[0] for argv in commands) == names
        stopped += position < len(data)
    assert 1000 < stopped < 4500
