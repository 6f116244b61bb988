"""What the exit status of `rdb` means."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

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

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the process by way of every `finally`: no half file stays behind.

    The status is 128 and the number of the signal, as shells count it.
    """
    # Under nohup SIGHUP is to be ignored, and stays so.
    ours = [n for n in _ENDING if signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    # timeout(1) sends its signal twice, systemd may send both: the first is to clean up in peace.
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
