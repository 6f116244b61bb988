"""Glob patterns as KEYS and SCAN take them, over bytes.

    *  any bytes      ?  any byte      [abc] [a-z] [^a]  one byte (not) of a set      \\x  x itself

A set that is never closed ends with the pattern; a range may be written backwards, and compares
signed chars, so that bytes from 0x80 up come before all others.

All but a star take one byte, so the first place where what stands between two stars fits is as
good as any: it is kept (an atomic group), and a*a*a*b costs O(pattern * key), not a power of it.

Source: stringmatchlen in util.c.
"""

from __future__ import annotations

import re


def compile_glob(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a glob to a regular expression for `fullmatch`. Cost: O(len(pattern))."""
    runs = [b""]  # what stands between the stars
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            runs.append(b"")
        elif byte == b"?":
            runs[-1] += b"."
        elif byte == b"[":
            members, at = _compile_set(pattern, at)
            runs[-1] += members
        else:
            if byte == b"\\" and at < len(pattern):
                byte = pattern[at : at + 1]
                at += 1
            runs[-1] += re.escape(byte)
    first, *rest = runs
    if rest:
        *middle, last = rest
        first += b"".join(b"(?>.*?%b)" % run for run in middle if run) + b".*" + last
    return re.compile(first, re.DOTALL)


def _compile_set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The expression of the set whose first byte, after the bracket, is at `at`."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            members.add(pattern[at + 1])
            at += 2
        elif at + 2 < len(pattern) and pattern[at + 1] == ord("-"):
            low, high = sorted((_signed(pattern[at]), _signed(pattern[at + 2])))
            members.update(char & 255 for char in range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", at + 1
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]", at + 1


def _signed(byte: int) -> int:
    return byte - 256 if byte >= 128 else byte
