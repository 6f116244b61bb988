"""RESP2 and RESP3: requests in, replies out, and the reverse for links and tools.

    values      what a command may return, and its wire forms
    requests    RequestParser (clients), StreamParser (links, AOF): bytes -> commands;
                skim_commands counts them
    replies     encode, encode_many, encode_command: values -> bytes
    reader      ReplyParser: bytes -> values
    inline      text lines <-> arguments

The names below are the compiled ones of `kvrepl._accel` where that module was built, the
reference ones otherwise or where the environment has KVREPL_PURE=1. They behave the same; import
them from here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from kvrepl.resp.inline import quote, split_inline
from kvrepl.resp.reader import ReplyParser
from kvrepl.resp.replies import RESP2, RESP3, encode_protocol_error
from kvrepl.resp.requests import Limits, QueryBufferError

__all__ = [
    "ACCELERATED",
    "RESP2",
    "RESP3",
    "Limits",
    "QueryBufferError",
    "ReplyParser",
    "RequestParser",
    "StreamParser",
    "encode",
    "encode_command",
    "encode_many",
    "encode_protocol_error",
    "quote",
    "skim_commands",
    "split_inline",
]


def _accelerated() -> bool:
    """Say whether the compiled codec is to be used."""
    if os.environ.get("KVREPL_PURE") == "1":
        return False
    try:
        import kvrepl._accel  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


ACCELERATED: Final = _accelerated()
"""Whether the names of this package are the compiled ones."""

if TYPE_CHECKING or not ACCELERATED:
    from kvrepl.resp.replies import encode, encode_command, encode_many
    from kvrepl.resp.requests import RequestParser, StreamParser, skim_commands
else:
    from kvrepl._accel import (
        RequestParser,
        StreamParser,
        encode,
        encode_command,
        encode_many,
        skim_commands,
    )
