"""Glob patterns as Redis matches them, on bytes (KEYS, SCAN MATCH, PSUBSCRIBE, ACL, CONFIG GET).

A pattern is a row of tokens; every token but `*` takes exactly one byte:

    *           any bytes, also none
    ?           any byte
    [abc]       one of these; [a-z] a range (either order), [^abc] any other
    \\x          x itself, inside brackets and out
    x           x

Because all tokens but `*` have length one, the first place where the tokens between two stars
fit is always good enough: a match that starts later leaves less for the rest. So a pattern
compiles to a regular expression whose stars never backtrack (atomic groups), and `a*a*a*a*b`
costs O(len(pattern) * len(data)) where the recursive definition is exponential.

The corners are Redis's own and are kept: brackets that are never closed reach to the end of the
pattern; `]` cannot be a member and ends even an empty class, which then matches nothing (`[^]`:
anything); the second end of a range may be `]`; ranges compare signed chars, so bytes from 0x80
up count as negative; and a pattern of stars does not match the empty string (commands that pass
every key through know `*` by itself).

Source: Redis 7.0 util.c stringmatchlen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], object]
"""Called with the bytes to test; its result is truthy where they match."""

_STAR: Final = None
_ALL: Final = frozenset(range(256))
_CACHED_PATTERNS: Final = 512

Token = frozenset[int] | None
"""The set of bytes that one place accepts, or _STAR."""


@lru_cache(maxsize=_CACHED_PATTERNS)
def compile(pattern: bytes, nocase: bool = False) -> Matcher:
    """Make a matcher of a glob pattern.

    Args:
        pattern: the glob.
        nocase: ASCII letters match both cases (CONFIG GET, COMMAND LIST).

    Returns:
        A callable, truthy for the bytes that match; O(len(pattern) * len(data)) a call.

    Source: util.c stringmatchlen.
    """
    if not nocase and not any(special in pattern for special in b"*?[\\"):
        return pattern.__eq__
    tokens = _parse(pattern, nocase)
    if tokens and all(token is _STAR for token in tokens):
        return bool  # not the empty string
    return re.compile(_regex(tokens), re.DOTALL).match


def match(pattern: bytes, data: bytes, nocase: bool = False) -> bool:
    """Say whether data matches the glob pattern; see compile."""
    return bool(compile(pattern, nocase)(data))


def _parse(pattern: bytes, nocase: bool) -> list[Token]:
    """Split a pattern into tokens; consecutive stars are one."""
    tokens: list[Token] = []
    pos = 0
    while pos < len(pattern):
        byte = pattern[pos]
        if byte == 0x2A:  # *
            if not tokens or tokens[-1] is not _STAR:
                tokens.append(_STAR)
        elif byte == 0x3F:  # ?
            tokens.append(_ALL)
        elif byte == 0x5B:  # [
            members, pos = _parse_class(pattern, pos + 1, nocase)
            tokens.append(members)
        else:
            if byte == 0x5C and pos + 1 < len(pattern):  # backslash; a last one is itself
                pos += 1
                byte = pattern[pos]
            tokens.append(_cases(byte) if nocase else frozenset((byte,)))
        pos += 1
    return tokens


def _parse_class(pattern: bytes, pos: int, nocase: bool) -> tuple[frozenset[int], int]:
    """Read a class whose first member stands at pos; return it and the place of its `]`."""
    negated = pattern[pos : pos + 1] == b"^"
    if negated:
        pos += 1
    members: set[int] = set()
    while pos < len(pattern):
        byte = pattern[pos]
        if byte == 0x5C and pos + 1 < len(pattern):
            pos += 1
            members.add(pattern[pos])  # escaped: as it stands, even without regard to case
        elif byte == 0x5D:  # ]
            break
        elif pattern[pos + 1 : pos + 2] == b"-" and pos + 2 < len(pattern):
            members |= _range(byte, pattern[pos + 2], nocase)
            pos += 2
        else:
            members |= _cases(byte) if nocase else {byte}
        pos += 1
    return (_ALL - members if negated else frozenset(members)), pos


def _range(first: int, last: int, nocase: bool) -> set[int]:
    """Return the bytes of a range, in the order of signed chars."""
    low, high = sorted((_signed(first), _signed(last)))
    if nocase:
        # The ends are lowered after they are put in order: [Z-a] is then empty.
        low, high = _lower(low), _lower(high)
    return {
        byte
        for byte in range(256)
        if low <= (_lower(_signed(byte)) if nocase else _signed(byte)) <= high
    }


def _signed(byte: int) -> int:
    return byte - 256 if byte >= 128 else byte


def _lower(char: int) -> int:
    return char + 32 if 0x41 <= char <= 0x5A else char


def _cases(byte: int) -> frozenset[int]:
    return frozenset(bytes((byte,)).lower() + bytes((byte,)).upper())


def _regex(tokens: list[Token]) -> bytes:
    """Spell tokens as a regular expression in which no star is ever tried twice.

    Each run of tokens after a star is found at its first place and kept (atomic group). The
    last run must end the data, so that the star before it takes all it can.
    """
    runs: list[list[bytes]] = [[]]
    for token in tokens:
        if token is _STAR:
            runs.append([])
        else:
            runs[-1].append(_place(token))
    first, *rest = [b"".join(run) for run in runs]
    if not rest:
        return first + rb"\Z"
    *middle, last = rest
    tail = b".*" + last + rb"\Z" if last else b""
    return first + b"".join(b"(?>.*?%b)" % run for run in middle) + tail


def _place(members: frozenset[int]) -> bytes:
    if len(members) == 256:
        return b"."
    if not members:
        return b"(?!)"
    if len(members) == 1:
        return re.escape(bytes(members))
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in sorted(members))
