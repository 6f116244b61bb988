"""Glob patterns as KEYS and SCAN take them, over bytes.

    *  any bytes      ?  any byte      [abc] [a-z] [^a]  one byte (not) of a set      \\x  x itself

A set that is never closed ends with the pattern; a range may be written backwards.

Source: stringmatchlen in util.c.
"""

from __future__ import annotations

import re


def compile_glob(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a glob to a regular expression for `fullmatch`. Cost: O(len(pattern))."""
    out = bytearray()
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            # Runs of stars would make the expression backtrack over and over.
            if not out.endswith(b".*"):
                out += b".*"
        elif byte == b"?":
            out += b"."
        elif byte == b"[":
            members, at = _compile_set(pattern, at)
            out += members
        else:
            if byte == b"\\" and at < len(pattern):
                byte = pattern[at : at + 1]
                at += 1
            out += re.escape(byte)
    return re.compile(bytes(out), re.DOTALL)


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
            low, high = sorted((pattern[at], pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(pattern[at])
            at += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", at + 1
    return b"[" + b"".join(b"\\x%02x" % member for member in sorted(members)) + b"]", at + 1
