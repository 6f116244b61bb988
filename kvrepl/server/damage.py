"""An RDB that cannot be read, in the words of Redis.

Our own errors say more (which key, at which offset), and stand in the line after these; supervisors
and test rigs wait for these.

    Wrong RDB checksum expected: (..) but got (..). Aborting now.
    Internal error in RDB reading offset N -> RDB CRC error
    Internal error in RDB reading offset N -> Unexpected EOF reading RDB file
    Internal error in RDB reading offset N -> integrity check failed: ...
    Terminating server after rdb file reading failure.

Source: Redis 7.0 rdb.c rdbReportError, rdbLoadRioWithLoadingCtx.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rdb import RdbError

TERMINATING: Final = "Terminating server after rdb file reading failure."
_CHECKSUMS: Final = re.compile(r"wrong checksum: (\w+) is stored, (\w+) computed")


def lines_about(error: RdbError) -> list[str]:
    """What Redis logs where it meets such damage; nothing where that is not in a record."""
    reading = f"Internal error in RDB reading offset {max(error.offset, 0)} -> "
    if (found := _CHECKSUMS.match(error.message)) is not None:
        stored, computed = (int(text, 16) for text in found.groups())
        return [
            f"Wrong RDB checksum expected: ({computed:x}) but got ({stored:x}). Aborting now.",
            reading + "RDB CRC error",
        ]
    if error.message == "the RDB ends early":
        return [
            "Short read or OOM loading DB. Unrecoverable error, aborting now.",
            reading + "Unexpected EOF reading RDB file",
        ]
    if error.key is None or error.message.startswith("the key is in the file twice"):
        return []
    return [reading + f"integrity check failed: {error.message}"]
