"""Save points: when a snapshot is due without anybody asking for one.

`save 3600 1 300 100 60 10000` means: after 3,600 seconds if at least 1 key changed, after 300
seconds if 100 did, after 60 if 10,000 did. After a snapshot that failed, the next attempt waits
for a few seconds, so that a full disk does not cost a fork in every cron.

Source: Redis 7.0 server.c serverCron.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

RETRY_S: Final = 5
"""Wait after a failed snapshot (CONFIG_BGSAVE_RETRY_DELAY)."""


class SavePoint(NamedTuple):
    """One pair of the setting `save`."""

    seconds: int
    changes: int

    def log_line(self) -> str:
        """What the log says before the snapshot starts."""
        return f"{self.changes} changes in {self.seconds} seconds. Saving..."


def may_try(now_s: int, last_try_s: int, last_ok: bool) -> bool:
    """Whether a snapshot may start on its own, or a scheduled one, after the last attempt.

    Args:
        now_s: Unix time.
        last_try_s: when the last snapshot was started.
        last_ok: whether the last one that ended was good.
    """
    return last_ok or now_s - last_try_s > RETRY_S


def due(
    points: Iterable[SavePoint],
    *,
    dirty: int,
    now_s: int,
    last_save_s: int,
    last_try_s: int,
    last_ok: bool,
) -> SavePoint | None:
    """The first save point that is reached, None if none is.

    Args:
        points: the setting, in its order.
        dirty: changes since the last good snapshot.
        now_s: Unix time.
        last_save_s: when the last good snapshot was made.
        last_try_s: when the last snapshot was started.
        last_ok: whether the last one that ended was good.

    Cost: O(points).
    """
    if not may_try(now_s, last_try_s, last_ok):
        return None
    for point in points:
        if dirty >= point.changes and now_s - last_save_s > point.seconds:
            return point
    return None
