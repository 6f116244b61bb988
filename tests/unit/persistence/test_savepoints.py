"""When a snapshot is due."""

from __future__ import annotations

import pytest

from kvrepl.persistence.savepoints import SavePoint, due, may_try

POINTS = (SavePoint(3600, 1), SavePoint(300, 100), SavePoint(60, 10_000))


@pytest.mark.parametrize(
    ("dirty", "elapsed_s", "expected"),
    [
        (0, 10_000, None),
        (1, 3600, None),  # more than 3,600 seconds, not as many
        (1, 3601, POINTS[0]),
        (99, 301, None),
        (100, 301, POINTS[1]),
        (10_000, 61, POINTS[2]),
        (10_000, 60, None),
    ],
)
def test_due_needs_both_changes_and_time(
    dirty: int, elapsed_s: int, expected: SavePoint | None
) -> None:
    reached = due(POINTS, dirty=dirty, now_s=elapsed_s, last_save_s=0, last_try_s=0, last_ok=True)
    assert reached == expected


def test_due_after_a_failure_waits_five_seconds() -> None:
    for gap_s, expected in ((5, None), (6, POINTS[0])):
        reached = due(
            POINTS, dirty=1, now_s=9000, last_save_s=0, last_try_s=9000 - gap_s, last_ok=False
        )
        assert reached == expected
    assert may_try(0, 0, True) and not may_try(5, 0, False)


def test_due_without_save_points_is_never() -> None:
    assert due((), dirty=9, now_s=9, last_save_s=0, last_try_s=0, last_ok=True) is None


def test_save_point_announces_itself_as_in_redis() -> None:
    assert POINTS[1].log_line() == "100 changes in 300 seconds. Saving..."
