"""A second process that reads the file that is loaded, and takes keys out of it for the first.

    chunk        0         1         2         3         4        ...
    partner      skips     parses    parses    parses    skips
                              |         |         |
                              v         v         v                  messages, in order
    loader       parses    places    places    places    parses
                 places                                  places

Reading and judging keys in Python costs more than putting them into their places, which only the
process that keeps them can do. Nothing depends on the partner: a run of keys is taken only where
it was made of the very bytes that the loader is at, and whatever it did not send the loader reads
itself. So it says nothing of damage, and may die at any moment.

    message = marshal of [(offset, end, crc64 of the bytes between, Run), ...]
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from rdb import RdbError, RdbReader
from rdb.checksum import crc64
from rdb.keys import Run, parse_keys, skip_keys
from rdb.packed import Thresholds

CHUNKS: Final = 4
"""Of so many chunks the loader reads the first itself, as what else it does takes less time."""


def is_for_partner(number: int) -> bool:
    """Whether the chunk of that number, from 0, is read by the partner."""
    return number % CHUNKS != 0


class Found(NamedTuple):
    """A run of keys, and what it was made of.

    Attributes:
        end: where in the file it ends.
        crc: of the bytes.
        run: the keys; its own `end` counts from where they began to be looked at.
    """

    end: int
    crc: int
    run: Run

    def of(self, data: bytes, pos: int, offset: int) -> Run | None:
        """Give the run, if it was made of what stands at `pos`; None if not.

        Args:
            data: what is at hand of the file.
            pos: where the run would begin in it.
            offset: where `data` begins in the file.
        """
        end = self.end - offset
        if crc64(memoryview(data)[pos:end]) != self.crc:
            return None
        return self.run._replace(end=end)


def read_along(
    chunks: Iterable[bytes], limits: Thresholds, drop_before_ms: int | None
) -> Iterator[bytes]:
    """Yield a message for each chunk that is for the partner, up to the end or the first damage.

    Args:
        chunks: the file, cut as the loader reads it.
        limits, drop_before_ms: as for rdb.load_keys.
    """
    found: list[tuple[int, int, int, tuple[object, ...]]] = []
    parses = False

    def take(data: bytes, pos: int, db: int) -> int:
        if not parses:
            return skip_keys(data, pos)
        run = parse_keys(data, pos, limits, drop_before_ms)
        if run.keys:
            crc = crc64(memoryview(data)[pos : run.end])
            found.append((reader.offset + pos, reader.offset + run.end, crc, tuple(run)))
        return run.end

    reader = RdbReader(verify_checksum=False, raw_values=True, take=take)
    for number, chunk in enumerate(chunks):
        parses = is_for_partner(number)
        try:
            reader.feed(chunk)
        except RdbError:
            return
        if parses:
            yield marshal.dumps(found)
            found.clear()
        if reader.finished:
            return


def runs_of(message: bytes | memoryview) -> dict[int, Found]:
    """Read a message: the runs, by where in the file they begin."""
    return {
        offset: Found(end, crc, Run._make(run)) for offset, end, crc, run in marshal.loads(message)
    }
