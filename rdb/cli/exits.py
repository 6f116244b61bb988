"""What the exit status of `rdb` means."""

from __future__ import annotations

from typing import Final

OK: Final = 0
DAMAGED: Final = 1
"""The input was read and is not a whole, well-formed RDB."""
DIFFERENT: Final = 1
"""`rdb diff`, which shares this number with diff(1): the files do not mean the same."""
USAGE: Final = 2
UNREADABLE: Final = 3
"""The input, or the output, failed in the operating system."""
DAMAGED_OPERAND: Final = 4
"""`rdb diff`, where 1 is taken: an input is not a whole, well-formed RDB."""
INCOMPLETE: Final = 5
"""`rdb convert`: written, but without keys that the target cannot hold."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells count it (128 + SIGINT)."""
BROKEN_PIPE: Final = 141
"""The reader of our output went away (128 + SIGPIPE)."""
