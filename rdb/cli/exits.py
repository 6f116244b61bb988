"""What the exit status of `rdb` means."""

from __future__ import annotations

from typing import Final

OK: Final = 0
DAMAGED: Final = 1
"""The input was read and is not a whole, well-formed RDB."""
USAGE: Final = 2
UNREADABLE: Final = 3
"""The input, or the output, failed in the operating system."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells count it (128 + SIGINT)."""
BROKEN_PIPE: Final = 141
"""The reader of our output went away (128 + SIGPIPE)."""
