"""Listpacks that are laid out like one that was judged before.

Values of one kind have the same fields in the same order, and values of them that are ids, hashes
or dates have one size. Where a listpack differs from one that was judged in nothing but bits that
may be anything, those of texts and numbers that nobody compares, the verdict must be the same, and
all that is left to do is to compare the rest, in C: the listpack is one number, and so is the mask
of what matters.

    layout     a size, a mask of the bits that matter, and what they are
    verdict    what the exact judge said of a listpack of that layout

One layout is kept for each size of a listpack. What does not fit replaces it only now and then, so
that values of many layouts cost little more than without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

MAX_LAYOUTS: Final = 256
"""Kept for one kind of values."""
MAX_BYTES: Final = 2048
"""Of a listpack whose layout is kept."""
PATIENCE: Final = 64
MAX_PATIENCE: Final = 4096
"""Listpacks in vain before a layout is replaced, as learning takes as long as some twenty; it
doubles with each, so that values that are all different soon cost no more than without layouts."""

Verdict = TypeVar("Verdict")


class Layouts(Generic[Verdict]):
    """The layouts of one kind of values, and the verdicts.

    Attributes:
        known: size -> (mask, what its bits are, verdict); for those to whom the call of `verdict`
            is too much, who compare in the same way.
    """

    __slots__ = ("_patience", "_vain", "known")

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int, Verdict]] = {}
        self._vain = 0
        self._patience = PATIENCE

    def forget(self) -> None:
        """Start anew."""
        self.known.clear()
        self._vain = 0
        self._patience = PATIENCE

    def verdict(self, blob: bytes) -> Verdict | None:
        """What was said of a listpack of this layout; None where none is known. O(len(blob))."""
        known = self.known.get(len(blob))
        if known is None:
            return None
        mask, fixed, verdict = known
        return verdict if int.from_bytes(blob, "little") & mask == fixed else None

    def learn(self, blob: bytes, made: Callable[[], tuple[bytes, Verdict]]) -> None:
        """Note a verdict.

        Args:
            blob: the listpack that was judged.
            made: gives as many bytes, whose bits are set where those of it matter to the verdict,
                and that. Not called unless it is to be kept.
        """
        size = len(blob)
        if size > MAX_BYTES:
            return
        if size in self.known or len(self.known) == MAX_LAYOUTS:
            self._vain += 1
            if self._vain < self._patience:
                return
            self._patience = min(2 * self._patience, MAX_PATIENCE)
            if size not in self.known:
                del self.known[next(iter(self.known))]
        self._vain = 0
        bits, said = made()
        mask = int.from_bytes(bits, "little")
        self.known[size] = mask, int.from_bytes(blob, "little") & mask, said
