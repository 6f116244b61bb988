"""How long commands took, as a histogram of fixed size for each.

A span in nanoseconds falls into a bucket by its highest five bits, so a bucket is at most 1/16 of
its values wide:

    shift = max(bits - 5, 0)        bucket = 16 * shift + (span >> shift)

Percentiles are given as the highest value of a bucket, as Redis gives them. Counting a span is one
shift and one addition; the compiled loop does the same (`_batch.pyx`, `count`).

Source: Redis 7.0 server.c (updateCommandLatencyHistogram, fillPercentileDistributionLatencies),
latency.c (fillCommandCDF), which keep an HDR histogram of two digits up to one second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

BUCKETS: Final = 640
"""Enough for 2^41 ns, over half an hour; what takes longer is counted in the last one."""

EMPTY: Final = (0,) * BUCKETS

CDF_UNIT_NS: Final = 1024
"""What LATENCY HISTOGRAM takes for a microsecond."""


def bucket_of(span_ns: int) -> int:
    """The bucket of a span. O(1)."""
    shift = max(span_ns.bit_length() - 5, 0)
    return min(16 * shift + (span_ns >> shift), BUCKETS - 1)


def highest_ns(bucket: int) -> int:
    """The longest span that falls into a bucket. O(1)."""
    shift = max(bucket // 16 - 1, 0)
    return ((bucket - 16 * shift + 1) << shift) - 1


def percentile_ns(counts: Sequence[int], percent: float) -> int:
    """The span that `percent` of the calls did not exceed. O(buckets).

    Args:
        counts: calls by bucket, at least one call.
        percent: 0 to 100.
    """
    wanted = max(int(percent / 100 * sum(counts) + 0.5), 1)
    for bucket, count in enumerate(counts):
        wanted -= count
        if wanted <= 0:
            return highest_ns(bucket)
    raise AssertionError("a histogram without calls has no percentiles")


def cumulative(counts: Sequence[int]) -> dict[int, int]:
    """Upper bound in microseconds (powers of two) -> calls that took no longer.

    Bounds at which nothing is added are left out. O(buckets).
    """
    found: dict[int, int] = {}
    total = below = 0
    limit_us = 1
    for bucket, count in enumerate(counts):
        if not count:
            continue
        while highest_ns(bucket) >= limit_us * CDF_UNIT_NS:
            if total > below:
                found[limit_us] = below = total
            limit_us *= 2
        total += count
    if total > below:
        found[limit_us] = total
    return found
