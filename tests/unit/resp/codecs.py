"""Both implementations of the codec, and what the tests of several rooms ask of them."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import kvrepl.resp  # noqa: F401  (the accelerator is imported by its package, never before it)
from kvrepl.resp import replies, requests

REFERENCE = SimpleNamespace(
    RequestParser=requests.RequestParser,
    StreamParser=requests.StreamParser,
    encode=replies.encode,
    encode_many=replies.encode_many,
    encode_command=replies.encode_command,
    skim_commands=requests.skim_commands,
)

COMPILED: ModuleType | None = None
if importlib.util.find_spec("kvrepl._accel") is not None:
    COMPILED = importlib.import_module("kvrepl._accel")

BOTH = [codec for codec in (REFERENCE, COMPILED) if codec is not None]

CODEC_PARAMS = [
    pytest.param(REFERENCE, id="reference"),
    pytest.param(
        COMPILED,
        id="compiled",
        marks=pytest.mark.skipif(COMPILED is None, reason="kvrepl._accel is not built"),
    ),
]


def decode(parser: Any, pieces: Iterable[bytes]) -> tuple[list[Any], dict[str, Any]]:
    """Feed the pieces; return what came out and the state that callers can see at the end."""
    results: list[Any] = []
    for piece in pieces:
        results += parser.feed(piece)
        while parser.deferred:
            results += parser.feed(b"")
    error = parser.error
    return results, {
        "error": None if error is None else (type(error), error.text),
        "offset": parser.offset,
        "pending": parser.pending_bytes,
        "empty_lines": parser.empty_lines,
    }


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut data at these places (taken modulo its length)."""
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]
