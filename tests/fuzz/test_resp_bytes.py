"""Any bytes at all: values or our own error, never another exception; whole or byte by byte.

`FUZZ_SEED=n` repeats a run; the seed of each case is in its id.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from kvrepl import glob
from kvrepl.errors import ProtocolError
from kvrepl.numbers import parse_float, parse_int, parse_long_double
from kvrepl.resp import ReplyParser, split_inline
from tests.unit.resp.codecs import BOTH, decode, single_bytes

FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 20)
CASES_PER_SEED = 60

ALPHABET = b"*$:+-_,#%~>|(=0123456789\r\n\r\n \"'\\x\0ab\xff"
SAMPLES = [
    b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n",
    b"SET key 'a value' \"\\x00\\n\"\r\n",
    b"\r\n*0\r\n\n",
    b"*12\r\n" + b"$1\r\na\r\n" * 12,
    b"%1\r\n+a\r\n~1\r\n,1.5\r\n",
    b"=6\r\ntxt:ab\r\n|1\r\n:1\r\n:2\r\n#t\r\n_\r\n",
]


def make_input(rng: random.Random) -> bytes:
    """Make either noise of the protocol's own bytes or well-formed input with a few mistakes."""
    if rng.random() < 0.4:
        return bytes(rng.choices(ALPHABET, k=rng.randrange(60)))
    data = bytearray(b"".join(rng.choices(SAMPLES, k=rng.randrange(1, 5))))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.choice(ALPHABET)
            case 1:
                del data[at : at + rng.randrange(1, 4)]
            case _:
                data.insert(at, rng.choice(ALPHABET))
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_request_parsers_any_bytes_give_commands_or_protocol_error(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(CASES_PER_SEED):
        data = make_input(rng)
        for authenticated in (True, False):
            outcomes = []
            for codec in BOTH:
                for pieces in ([data], single_bytes(data)):
                    parser = codec.RequestParser()
                    parser.authenticated = authenticated
                    outcomes.append(check_commands(parser, pieces))
            assert all(outcome == outcomes[0] for outcome in outcomes), data


@pytest.mark.parametrize("seed", SEEDS)
def test_stream_parsers_any_bytes_give_commands_or_protocol_error(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(CASES_PER_SEED):
        data = make_input(rng)
        for strict in (True, False):
            outcomes = []
            for codec in BOTH:
                for pieces in ([data], single_bytes(data)):
                    outcomes.append(check_commands(codec.StreamParser(5, strict), pieces))
            assert all(outcome == outcomes[0] for outcome in outcomes), data


def check_commands(parser: Any, pieces: list[bytes]) -> Any:
    results, state = decode(parser, pieces)
    for result in results:
        argv = result if isinstance(result, list) else result[0]
        assert argv
        assert all(type(arg) is bytes for arg in argv)
    assert state["error"] is None or state["error"][0] is ProtocolError
    return results, state


@pytest.mark.parametrize("seed", SEEDS)
def test_reply_parser_any_bytes_give_values_or_protocol_error(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(CASES_PER_SEED):
        data = make_input(rng)
        outcomes = []
        for pieces in ([data], single_bytes(data)):
            parser = ReplyParser()
            replies = [reply for piece in pieces for reply in parser.feed(piece)]
            assert parser.error is None or type(parser.error) is ProtocolError
            outcomes.append((len(replies), str(parser.error)))
        assert outcomes[0] == outcomes[1], data


@pytest.mark.parametrize("seed", SEEDS)
def test_text_functions_any_bytes_give_a_value_or_none(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(CASES_PER_SEED):
        text = bytes(rng.choices(b"0123456789.eExXpP+-_ infa\0\"'\\*?[]^", k=rng.randrange(20)))
        for function in (parse_int, parse_float, parse_long_double, split_inline):
            function(text)
        glob.match(text, text[::-1])
