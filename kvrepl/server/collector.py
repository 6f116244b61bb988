"""The cyclic collector, where it cannot stop the server.

Left alone it walks every container of the dataset in one go, a second and more for millions of
keys, whenever enough of them were made. Nothing that holds data makes cycles (a test counts the
garbage of a workload: none), so that walk would find nothing. Cycles come from exceptions and
from the event loop only; they are young when they die. So:

    automatic collections   off
    each tick of the cron   the youngest generation, if it is small
                            the second one, once so much has passed through it
    many new containers     frozen without a look: they are data (a load, a full synchronisation)

No walk is over more than LIMIT containers, which takes about a millisecond; what grows old is
not looked at again. Reference counts free all data, whatever its generation.

Source: CPython 3.11-3.13, Modules/gcmodule.c (gc_freeze, gc_collect_main).
"""

from __future__ import annotations

import gc
from typing import Final

LIMIT: Final = 10_000
"""Containers that a collection may walk over."""


class Collector:
    """Runs the collector in place of the interpreter."""

    def __init__(self) -> None:
        self._middle_aged = 0

    def take_over(self) -> None:
        """Switch the automatic collections off; what exists is code and stays for ever."""
        gc.collect()
        gc.freeze()
        gc.disable()

    def tick(self) -> None:
        """Collect what is young. O(LIMIT); called ten times a second."""
        young = gc.get_count()[0]
        if young > LIMIT:
            gc.freeze()
            # Freezing counts nothing down; a collection does, of a generation now empty.
            gc.collect(0)
            self._middle_aged = 0
        elif self._middle_aged + young > LIMIT:
            gc.collect(1)
            self._middle_aged = 0
        else:
            gc.collect(0)
            self._middle_aged += young
