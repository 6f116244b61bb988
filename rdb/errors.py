"""The one error of this library, and the signal that more input is needed."""

from __future__ import annotations


class RdbError(Exception):
    """The bytes are not a readable RDB.

    Args:
        message: what was expected and what was found.
        offset: byte offset in the RDB of the record or field at fault, -1 where unknown.
        key: the key whose record it is, if one was read already.
    """

    def __init__(self, message: str, *, offset: int = -1, key: bytes | None = None) -> None:
        text = message
        if key is not None:
            text += f", key {key[:64]!r}" + ("..." if len(key) > 64 else "")
        if offset >= 0:
            text += f", at offset {offset}"
        super().__init__(text)
        self.message = message
        self.offset = offset
        self.key = key


class Incomplete(Exception):
    """The input ends inside a record. Never leaves this library.

    Args:
        needed: how long the buffer must be before another attempt can get further.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed
