"""The histogram behind LATENCY HISTOGRAM and INFO latencystats."""

from __future__ import annotations

import pytest

from kvrepl.engine.latency import BUCKETS, bucket_of, cumulative, highest_ns, percentile_ns
from kvrepl.engine.spec import REGISTRY
from tests.unit.commands.session import Session


def counts_of(*spans_ns: int) -> list[int]:
    """A histogram of these spans."""
    counts = [0] * BUCKETS
    for span in spans_ns:
        counts[bucket_of(span)] += 1
    return counts


def test_buckets_follow_each_other_without_gap_or_overlap() -> None:
    for bucket in range(BUCKETS - 2):
        assert bucket_of(highest_ns(bucket)) == bucket
        assert bucket_of(highest_ns(bucket) + 1) == bucket + 1


@pytest.mark.parametrize("span_ns", [0, 1, 31, 32, 1000, 12345, 10**6, 10**9, 10**12])
def test_highest_value_of_a_bucket_is_at_most_a_sixteenth_above(span_ns: int) -> None:
    highest = highest_ns(bucket_of(span_ns))
    assert span_ns <= highest <= span_ns + span_ns // 16 + 1


def test_span_beyond_the_last_bucket_is_counted_in_it() -> None:
    assert bucket_of(1 << 60) == BUCKETS - 1


def test_percentiles_are_those_of_the_sorted_spans() -> None:
    counts = counts_of(*range(1000, 101_000, 1000))
    for percent in (1, 50, 90, 99, 100):
        exact = percent * 1000
        assert exact <= percentile_ns(counts, percent) <= exact * 17 // 16 + 1


def test_cumulative_counts_calls_up_to_powers_of_two_microseconds() -> None:
    counts = counts_of(500, 700, 3_000, 3_500, 40_000)
    assert cumulative(counts) == {1: 2, 4: 4, 64: 5}


def test_loop_counts_a_call_in_the_bucket_of_its_span() -> None:
    session = Session()
    engine = session.engine
    times = iter(range(0, 10**9, 5_000))
    engine.clock.monotonic_ns = lambda: next(times)  # type: ignore[method-assign]
    engine.run(session.client, [[b"GET", b"k"]] * 3)
    spans = engine.commands["get"].spans
    assert spans[bucket_of(5_000)] == 3 == sum(spans)
    assert not REGISTRY["get"].spans, "engines do not share counters"
