"""The first line of a script or a library: `#!lua name=mylib flags=no-writes,allow-stale`.

A script may have one, for its flags; a library must, for its name. A script without one runs in
the manner of older Redis: nothing is declared, each command is judged when it is called.

Source: Redis 7.0 eval.c (evalExtractShebangFlags), functions.c (functionExtractLibMetaData),
script.c (scripts_flags_def).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvrepl.errors import CommandError
from kvrepl.resp import split_inline

NO_WRITES: Final = b"no-writes"
ALLOW_OOM: Final = b"allow-oom"
ALLOW_STALE: Final = b"allow-stale"

FLAGS: Final = (NO_WRITES, ALLOW_OOM, ALLOW_STALE, b"no-cluster", b"allow-cross-slot-keys")
"""In the order in which FUNCTION LIST names them."""

Flags = frozenset[bytes]

BAD_NAME: Final = CommandError(
    b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least"
    b" one character long"
)
_NAME: Final = re.compile(rb"[A-Za-z0-9_]+")


class Library(NamedTuple):
    """What the first line of a library says, and the code behind it.

    Attributes:
        name: of the library.
        engine: as written.
        code: from the end of that line on, so that line numbers stay.
    """

    name: bytes
    engine: bytes
    code: bytes


def script_flags(body: bytes) -> tuple[Flags | None, bytes]:
    """The flags of a script, None where it has no such line, and the code to compile.

    Raises:
        CommandError: the line is not right.
    """
    if not body.startswith(b"#!"):
        return None, body
    line, end, _ = body.partition(b"\n")
    if not end:
        raise CommandError(b"ERR Invalid script shebang")
    words = split_inline(line)
    if not words:
        raise CommandError(b"ERR Invalid engine in script shebang")
    if words[0] != b"#!lua":
        raise CommandError(b"ERR Unexpected engine in script shebang: " + words[0])
    flags: set[bytes] = set()
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise CommandError(b"ERR Unknown lua shebang option: " + word)
        named = word[len(b"flags=") :]
        for flag in named.split(b",") if named else ():
            if flag not in FLAGS:
                raise CommandError(b"ERR Unexpected flag in script shebang: " + flag)
            flags.add(flag)
    return frozenset(flags), body[len(line) :]


def library(payload: bytes) -> Library:
    """Read the first line of a library.

    Raises:
        CommandError: it has none, or that is not right.
    """
    if not payload.startswith(b"#!"):
        raise CommandError(b"ERR Missing library metadata")
    line, end, _ = payload.partition(b"\n")
    words = split_inline(line) if end else None
    if not words:
        raise CommandError(b"ERR Invalid library metadata")
    name: bytes | None = None
    for word in words[1:]:
        if word[:5].lower() != b"name=":
            raise CommandError(b"ERR Invalid metadata value given: " + word)
        if name is not None:
            raise CommandError(
                b"ERR Invalid metadata value, name argument was given multiple times"
            )
        name = word[5:]
    if name is None:
        raise CommandError(b"ERR Library name was not given")
    if not is_name(name):
        raise BAD_NAME
    return Library(name, words[0][2:], payload[len(line) :])


def is_name(name: bytes) -> bool:
    """Whether a library or function may be called that."""
    return _NAME.fullmatch(name) is not None
