"""The commands that rebuild a dataset, and when they are due to be written."""

from __future__ import annotations

import pytest

from kvrepl.persistence.aof import AofReplay, EndKind
from kvrepl.persistence.rewrite import CHUNK_BYTES, RewriteSchedule, aof_base


def commands(chunks: list[bytes]) -> list[list[bytes]]:
    replay = AofReplay()
    got = [argv for chunk in chunks for argv, _ in replay.feed(chunk)]
    assert replay.finish().kind is EndKind.WHOLE
    return got


def test_base_of_each_type_is_the_command_that_makes_it() -> None:
    entries = [
        (b"s", b"string", bytearray(b"v"), 1234),
        (b"l", b"list", [b"a", b"b"], None),
        (b"h", b"hash", {b"f": b"1", b"g": b"2"}, None),
        (b"z", b"zset", [(b"m", -0.1), (b"n", 3.0), (b"o", float("inf"))], None),
    ]
    base = list(
        aof_base([(0, []), (2, entries), (3, [(b"t", b"set", {b"x"}, None)])], functions=[b"code"])
    )
    assert commands(base) == [
        [b"FUNCTION", b"LOAD", b"code"],
        [b"SELECT", b"2"],
        [b"SET", b"s", b"v"],
        [b"PEXPIREAT", b"s", b"1234"],
        [b"RPUSH", b"l", b"a", b"b"],
        [b"HMSET", b"h", b"f", b"1", b"g", b"2"],
        [b"ZADD", b"z", b"-0.10000000000000001", b"m", b"3", b"n", b"inf", b"o"],
        [b"SELECT", b"3"],
        [b"SADD", b"t", b"x"],
    ]


def test_base_of_large_collections_has_64_items_a_command() -> None:
    items = [b"%d" % number for number in range(130)]
    got = commands(
        list(
            aof_base(
                [
                    (
                        0,
                        [
                            (b"l", b"list", items, None),
                            (b"h", b"hash", dict.fromkeys(items, b""), None),
                        ],
                    )
                ]
            )
        )
    )
    assert [len(argv) for argv in got] == [2, 66, 66, 4, 130, 130, 6]
    assert [item for argv in got[1:4] for item in argv[2:]] == items


def test_base_with_time_starts_with_it_and_comes_in_chunks() -> None:
    entries = [(b"%d" % number, b"string", b"x" * 1000, None) for number in range(200)]
    chunks = list(aof_base([(0, entries)], now_s=7))
    assert chunks[0].startswith(b"#TS:7\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    assert all(CHUNK_BYTES <= len(chunk) < CHUNK_BYTES + 1100 for chunk in chunks[:-1])
    assert list(aof_base([])) == []


def test_base_of_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no rewriter"):
        list(aof_base([(0, [(b"k", b"module", None, None)])]))


@pytest.mark.parametrize(
    ("size_bytes", "base_bytes", "expected"),
    [(1000, 500, None), (1001, 501, None), (1001, 500, 100), (3000, 0, 299_900), (1500, 500, 200)],
)
def test_schedule_wants_both_size_and_growth(
    size_bytes: int, base_bytes: int, expected: int | None
) -> None:
    assert RewriteSchedule(100, 1000).growth_percent(size_bytes, base_bytes) == expected
    assert RewriteSchedule(0, 1000).growth_percent(size_bytes, base_bytes) is None


def test_schedule_after_three_failures_waits_longer_each_time() -> None:
    schedule = RewriteSchedule()
    now_s = 1_000_000
    assert schedule.may_start(now_s, 2) == (True, [])
    waits = []
    for failures in range(3, 11):
        allowed, logs = schedule.may_start(now_s, failures)
        assert not allowed
        started_s = now_s
        waits.append(int(logs[0].text.split()[-2]))
        while not schedule.may_start(now_s, failures)[0]:
            now_s += 10
        assert now_s - started_s == waits[-1] * 60
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (
        "triggered the limit, will retry in 1 minutes"
        in RewriteSchedule().may_start(0, 3)[1][0].text
    )
    # One success, and it starts over.
    assert schedule.may_start(now_s, 0) == (True, [])
    assert schedule.may_start(now_s, 3)[1][0].text.endswith("in 1 minutes")
