"""The backlog: shared bytes, cursors, trimming."""

from __future__ import annotations

import pytest

from kvrepl.replication.backlog import BLOCK_BYTES, MIN_LIMIT_BYTES, Backlog, Cursor


def drain(cursor: Cursor, max_bytes: int = 1 << 30) -> bytes:
    data = b"".join(bytes(piece) for piece in cursor.peek(max_bytes))
    cursor.advance(len(data))
    return data


def test_backlog_fresh_is_empty_at_its_offset() -> None:
    backlog = Backlog(1 << 20, 42)
    assert (backlog.start, backlog.end, backlog.histlen) == (42, 42, 0)
    assert backlog.first_byte_offset == 43
    assert backlog.covers(42)
    assert not backlog.covers(41)
    assert not backlog.covers(43)
    assert backlog.cursor(42).peek(10) == []


def test_backlog_cursor_reads_what_is_fed_in_order() -> None:
    backlog = Backlog(1 << 20, 0)
    cursor = backlog.cursor(0)
    for part in (b"abc", b"defgh", b"", b"i"):
        backlog.feed(part)
    assert cursor.lag_bytes == 9
    assert drain(cursor, 4) == b"abcd"
    assert drain(cursor, 100) == b"efghi"
    backlog.feed(b"jk")
    assert drain(cursor) == b"jk"
    assert cursor.lag_bytes == 0


def test_backlog_large_feed_is_kept_without_a_copy() -> None:
    backlog = Backlog(1 << 20, 0)
    cursor = backlog.cursor(0)
    large = b"x" * (3 * BLOCK_BYTES)
    backlog.feed(large)
    assert cursor.peek(1 << 20)[0] is large


def test_backlog_small_feeds_are_joined_to_blocks() -> None:
    backlog = Backlog(1 << 20, 0)
    reader = backlog.cursor(0)
    for _ in range(10_000):
        backlog.feed(b"0123456789")
        drain(reader)
    pieces = backlog.cursor(0).peek(1 << 20)
    assert sum(map(len, pieces)) == 100_000
    assert len(pieces) <= 100_000 // (BLOCK_BYTES // 2)


def test_backlog_views_outlive_later_feeds_and_trims() -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, 0)
    cursor = backlog.cursor(0)
    backlog.feed(b"early")
    (view,) = cursor.peek(5)
    cursor.close()
    for _ in range(100):
        backlog.feed(b"y" * 1000)
    assert not backlog.covers(0)
    assert bytes(view) == b"early"


def test_backlog_beyond_limit_is_trimmed_to_no_less_than_it() -> None:
    backlog = Backlog(4 * BLOCK_BYTES, 0)
    for _ in range(1000):
        backlog.feed(b"z" * 1000)
        assert backlog.histlen >= min(backlog.end, 4 * BLOCK_BYTES)
        assert backlog.histlen <= 4 * BLOCK_BYTES + 2 * BLOCK_BYTES
    assert backlog.start > 0


def test_backlog_with_a_reader_that_keeps_up_is_trimmed_as_well() -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, 0)
    reader = backlog.cursor(0)
    for _ in range(1000):
        backlog.feed(b"z" * 100)
        drain(reader)
        assert backlog.histlen <= MIN_LIMIT_BYTES + 2 * BLOCK_BYTES
    assert backlog.start > 0


def test_backlog_slow_cursor_keeps_its_bytes_beyond_the_limit() -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, 0)
    slow, fast = backlog.cursor(0), backlog.cursor(0)
    fed = b"".join(b"%09d\n" % n for n in range(20_000))
    for at in range(0, len(fed), 1000):
        backlog.feed(fed[at : at + 1000])
        drain(fast)
    assert backlog.histlen == len(fed)
    assert slow.lag_bytes == len(fed)
    assert drain(slow) == fed


def test_backlog_slow_cursor_that_catches_up_lets_go_at_once() -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, 0)
    slow = backlog.cursor(0)
    for _ in range(200):
        backlog.feed(b"y" * 1000)
    while drain(slow, 1000):
        assert backlog.histlen <= max(slow.lag_bytes, MIN_LIMIT_BYTES) + 2 * BLOCK_BYTES
    assert backlog.histlen <= MIN_LIMIT_BYTES + 2 * BLOCK_BYTES


def test_backlog_closed_cursor_lets_go_of_its_bytes() -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, 0)
    slow = backlog.cursor(0)
    for _ in range(200):
        backlog.feed(b"y" * 1000)
    slow.close()
    slow.close()
    assert backlog.histlen <= MIN_LIMIT_BYTES + 2 * BLOCK_BYTES


def test_backlog_resized_keeps_more_or_less_at_once() -> None:
    backlog = Backlog(1 << 20, 0)
    for _ in range(500):
        backlog.feed(b"y" * 1000)
    assert backlog.histlen == 500_000
    backlog.resize(100_000)
    assert 100_000 <= backlog.histlen <= 100_000 + BLOCK_BYTES * 2
    backlog.resize(1)
    assert backlog.limit_bytes == MIN_LIMIT_BYTES


def test_backlog_huge_value_is_not_kept_whole_for_ever() -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, 0)
    huge = bytes(range(256)) * 4096
    backlog.feed(huge)
    assert backlog.histlen < 2 * MIN_LIMIT_BYTES
    cursor = backlog.cursor(backlog.start)
    assert drain(cursor) == huge[backlog.start :]


def test_backlog_cursor_outside_is_our_error() -> None:
    backlog = Backlog(1 << 20, 10)
    with pytest.raises(AssertionError):
        backlog.cursor(9)
    with pytest.raises(AssertionError):
        backlog.cursor(11)
    cursor = backlog.cursor(10)
    with pytest.raises(AssertionError):
        cursor.advance(1)


def test_backlog_clone_reads_on_its_own() -> None:
    backlog = Backlog(1 << 20, 0)
    first = backlog.cursor(0)
    backlog.feed(b"abcdef")
    drain(first, 2)
    second = first.clone()
    assert drain(first) == b"cdef"
    assert drain(second) == b"cdef"


def test_backlog_readers_share_one_copy_of_the_bytes() -> None:
    backlog = Backlog(1 << 20, 0)
    cursors = [backlog.cursor(0) for _ in range(50)]
    for _ in range(100):
        backlog.feed(b"y" * 300)
    first = cursors[0].peek(1 << 20)
    for cursor in cursors[1:]:
        assert all(a is b for a, b in zip(first, cursor.peek(1 << 20), strict=True))
