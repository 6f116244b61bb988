"""The errors of the server, one class for each party that can be to blame.

CommandError    the client earned it; its text is the reply (without the leading dash).
ProtocolError   the peer broke RESP or PSYNC; the connection is closed.
AofError        an append-only file or manifest is malformed; carries where.
StorageError    the operating system failed us; the gate is raised, the work is retried.

A broken RDB file is rdb.RdbError. An AssertionError means that this program is wrong.
"""

from __future__ import annotations


class KvreplError(Exception):
    """Base of every error that this package raises on purpose."""


class CommandError(KvreplError):
    """A command was refused; `text` is the error reply, without dash and CRLF.

    Args:
        text: the reply as Redis words it, first word the error code (b"ERR ...",
            b"WRONGTYPE ...").
    """

    def __init__(self, text: bytes) -> None:
        super().__init__(text.decode("utf-8", "backslashreplace"))
        self.text = text


class ProtocolError(KvreplError):
    """The peer sent bytes that are not the protocol; the connection must be closed.

    Args:
        text: what was wrong, in Redis's words where the peer is to read them
            ("Protocol error: invalid bulk length").
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class AofError(KvreplError):
    """An append-only file or its manifest cannot be read.

    Args:
        message: what was expected and what was found.
        path: the file's name, if known.
        offset: the byte offset of the first bad byte, -1 where it has no meaning.
    """

    def __init__(self, message: str, *, path: str = "", offset: int = -1) -> None:
        where = path + (f" at offset {offset}" if offset >= 0 else "")
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.path = path
        self.offset = offset


class StorageError(KvreplError):
    """A file operation failed in the operating system.

    Args:
        what: the operation, for example "write(2) of temp-1.rdb".
        cause: the OSError behind it.
    """

    def __init__(self, what: str, cause: OSError) -> None:
        super().__init__(f"{what}: {cause.strerror or cause}")
        self.what = what
        self.cause = cause


WRONGTYPE = CommandError(b"WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = CommandError(b"ERR syntax error")
NOT_INTEGER = CommandError(b"ERR value is not an integer or out of range")
NOT_FLOAT = CommandError(b"ERR value is not a valid float")
OUT_OF_RANGE = CommandError(b"ERR index out of range")
NO_SUCH_KEY = CommandError(b"ERR no such key")
