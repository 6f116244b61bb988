"""Listpacks that are laid out like one that was judged before.

Values of one kind have the same fields in the same order, and values of them that are ids, hashes
or dates have one size. Where a listpack differs from one that was judged in nothing but bytes that
may be anything, texts that nobody compares, the verdict must be the same, and all that is left to
do is to compare the rest, in C.

    layout     a size, the places of the bytes that matter, and what they are
    verdict    what the exact judge said of a listpack of that layout

One layout is kept for each size of a listpack. What does not fit replaces it only now and then, so
that values of many layouts cost little more than without.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

MAX_LAYOUTS: Final = 256
"""Kept for one kind of values."""
MAX_BYTES: Final = 2048
"""Of a listpack whose layout is kept."""
PATIENCE: Final = 64
"""Listpacks in vain before a layout is replaced: as learning takes as long as some twenty."""

Verdict = TypeVar("Verdict")


class Layouts(Generic[Verdict]):
    """The layouts of one kind of values, and the verdicts."""

    __slots__ = ("_known", "_vain")

    def __init__(self) -> None:
        self._known: dict[int, tuple[Callable[[bytes], tuple[bytes, ...]], object, Verdict]] = {}
        self._vain = 0

    def forget(self) -> None:
        """Start anew."""
        self._known.clear()
        self._vain = 0

    def verdict(self, blob: bytes) -> Verdict | None:
        """What was said of a listpack of this layout; None where none is known. O(len(blob))."""
        # hot: benchmarks/load-pure
        known = self._known.get(len(blob))
        if known is None:
            return None
        read, fixed, verdict = known
        return verdict if read(blob) == fixed else None

    def learn(
        self, blob: bytes, free: Callable[[], Iterable[tuple[int, int]]], said: Verdict
    ) -> None:
        """Note a verdict.

        Args:
            blob: the listpack that was judged.
            free: gives where its bytes do not matter to the verdict: (begin, end), ascending.
            said: the verdict.
        """
        size = len(blob)
        if size > MAX_BYTES:
            return
        if size in self._known or len(self._known) == MAX_LAYOUTS:
            self._vain += 1
            if self._vain < PATIENCE:
                return
            if size not in self._known:
                self._known.clear()
        self._vain = 0
        form = ["="]
        at = 0
        for begin, end in free():
            form.append(f"{begin - at}s{end - begin}x")
            at = end
        form.append(f"{size - at}s")
        read = struct.Struct("".join(form)).unpack
        self._known[size] = read, read(blob), said
