"""What is kept of the use of keys: idle times and counters, and what counts as a use."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kvrepl.keyspace.access import LFU_INIT, LFU_MAX, Lfu, Lru
from tests.unit.commands.session import Session

MINUTE_MS = 60_000


def tracking(policy: str) -> Session:
    session = Session()
    session.engine.config.maxmemory_policy = policy
    session.engine.memory.apply_settings()
    return session


def after(session: Session, seconds: int) -> None:
    session.clock.ms += seconds * 1000
    session.engine.tick()


def test_lru_word_is_one_object_for_all_keys_of_a_second() -> None:
    lru = Lru(5_000_000)
    words: dict[bytes, int] = {}
    lru.created(words, b"a")
    lru.tick(5_000_999)
    lru.touched(words, b"b")

    assert words[b"a"] is words[b"b"]


def test_lru_figure_of_an_unknown_key_counts_from_the_start_of_tracking() -> None:
    lru = Lru(5_000_000)
    lru.tick(5_090_000)

    assert lru.figure({}, b"k") == 90


def test_lru_figure_is_never_negative_when_the_clock_goes_back() -> None:
    lru = Lru(5_000_000)
    words: dict[bytes, int] = {}
    lru.created(words, b"k")
    lru.tick(4_000_000)

    assert lru.figure(words, b"k") == 0


def test_lfu_counter_grows_as_the_table_of_redis_conf_says() -> None:
    # redis.conf: with factor 10, 10 hits after 100, 18 after 1000, 142 after 100k.
    rng = Random(1)
    for hits, expected in ((100, 10), (1_000, 18), (100_000, 142)):
        lfu = Lfu(0, rng.random, log_factor=10, decay_min=0)
        counters = []
        for _ in range(5):
            words: dict[bytes, int] = {}
            lfu.created(words, b"k")
            for _ in range(hits):
                lfu.touched(words, b"k")
            counters.append(lfu.figure(words, b"k"))
        assert sum(counters) / 5 == pytest.approx(expected, abs=max(2, expected * 0.06))


def test_lfu_counter_grows_for_certain_up_to_one_above_the_initial_and_not_past_the_top() -> None:
    lfu = Lfu(0, lambda: 0.999_999, log_factor=10)
    words: dict[bytes, int] = {}
    lfu.created(words, b"k")
    lfu.touched(words, b"k")
    lfu.touched(words, b"k")
    assert lfu.figure(words, b"k") == LFU_INIT + 1

    lfu.put(words, b"k", LFU_MAX)
    Lfu(0, lambda: 0.0).touched(words, b"k")
    assert lfu.figure(words, b"k") == LFU_MAX


@pytest.mark.parametrize(
    ("decay_min", "minutes", "expected"),
    [(1, 0, 100), (1, 7, 93), (3, 7, 98), (1, 500, 0), (0, 500, 100)],
)
def test_lfu_counter_falls_with_the_minutes(decay_min: int, minutes: int, expected: int) -> None:
    lfu = Lfu(0, Random(0).random, decay_min=decay_min)
    words: dict[bytes, int] = {}
    lfu.put(words, b"k", 100)
    lfu.tick(minutes * MINUTE_MS)

    assert lfu.figure(words, b"k") == expected


def test_access_is_not_kept_without_such_a_policy() -> None:
    session = tracking("volatile-ttl")
    session.run("set", "k", "v")

    assert session.engine.keyspace.access is None
    assert session.client.db.accessed == []


USES: list[tuple[object, ...]] = [
    ("get", "string"),
    ("set", "string", "w"),
    ("set", "string", "w", "keepttl"),
    ("append", "string", "w"),
    ("incr", "number"),
    ("lrange", "list", 0, -1),
    ("rpush", "list", "x"),
    ("touch", "string"),
    ("expire", "string", 1000),
]
NO_USES: list[tuple[object, ...]] = [
    ("exists", "string"),
    ("type", "string"),
    ("ttl", "string"),
    ("pttl", "string"),
    ("expiretime", "string"),
    ("object", "encoding", "string"),
    ("memory", "usage", "string"),
    ("scan", 0, "type", "string"),
]


@pytest.mark.parametrize("argv", USES, ids=lambda argv: "-".join(map(str, argv)))
def test_idle_time_begins_anew_with_a_use(argv: tuple[Any, ...]) -> None:
    session = tracking("allkeys-lru")
    session.run("mset", "string", "v", "number", "1")
    session.run("rpush", "list", "a")
    after(session, 100)
    session.run(*argv)
    after(session, 5)

    assert session.run("object", "idletime", argv[1]) == 5


@pytest.mark.parametrize("argv", NO_USES, ids=lambda argv: "-".join(map(str, argv)))
def test_idle_time_goes_on_where_a_key_is_only_looked_at(argv: tuple[Any, ...]) -> None:
    session = tracking("allkeys-lru")
    session.run("set", "string", "v")
    after(session, 100)
    session.run(*argv)

    assert session.run("object", "idletime", "string") == 100


@pytest.mark.parametrize("argv", [("incr", "n"), ("set", "n", "2"), ("set", "n", "2", "keepttl")])
def test_freq_counts_a_command_once(argv: tuple[str, ...]) -> None:
    session = tracking("allkeys-lfu")
    session.run("set", "n", "1")
    assert session.run("object", "freq", "n") == LFU_INIT
    session.engine.config.lfu_log_factor = 0  # every use counts
    session.engine.memory.apply_settings()
    session.run(*argv)

    assert session.run("object", "freq", "n") == LFU_INIT + 1


def test_word_of_a_key_goes_with_the_key() -> None:
    session = tracking("allkeys-lru")
    for argv in (
        ("set", "deleted", "v"), ("set", "expires", "v", "px", "10"), ("set", "old", "v"),
        ("set", "moved", "v"),
    ):  # fmt: skip
        session.run(*argv)
    after(session, 60)
    session.run("del", "deleted")
    session.run("get", "expires")
    session.run("rename", "old", "new")
    session.run("move", "moved", "1")
    databases = session.engine.keyspace.databases
    words = [sorted(key for row in db.accessed for key in row) for db in databases[:2]]

    assert words == [[b"new"], [b"moved"]]


def test_rename_keeps_the_idle_time_that_reading_the_old_name_leaves() -> None:
    session = tracking("allkeys-lfu")
    session.run("set", "old", "v")
    session.run("restore", "other", "0", session.run("dump", "old"), "freq", "77")
    session.engine.keyspace.access.log_factor = 10**9  # type: ignore[union-attr]
    session.run("rename", "other", "new")

    assert session.run("object", "freq", "new") == 77


def test_restore_sets_the_figure_of_its_policy_only() -> None:
    session = tracking("volatile-lru")
    session.run("set", "k", "v")
    payload = session.run("dump", "k")
    session.run("restore", "idle", 0, payload, "idletime", 1234)
    session.run("restore", "often", 0, payload, "freq", 99)
    assert session.run("object", "idletime", "idle") == 1234
    assert session.run("object", "idletime", "often") == 0

    session.engine.config.maxmemory_policy = "volatile-lfu"
    session.engine.memory.apply_settings()
    session.run("restore", "idle", 0, payload, "idletime", 1234, "replace")
    session.run("restore", "often", 0, payload, "freq", 99, "replace")
    assert session.run("object", "freq", "idle") == LFU_INIT
    assert session.run("object", "freq", "often") == 99
    assert session.error("object", "idletime", "idle").startswith("ERR An LFU maxmemory policy is")


def test_swapdb_takes_the_words_along() -> None:
    session = tracking("allkeys-lru")
    session.run("set", "k", "v")
    after(session, 50)
    session.run("swapdb", 0, 1)
    session.run("select", 1)

    assert session.run("object", "idletime", "k") == 50


def test_swap_with_a_keyspace_that_keeps_no_words_begins_afresh() -> None:
    tracked, plain = tracking("allkeys-lru"), Session()
    plain.run("set", "k", "v")
    tracked.client.db.swap(plain.client.db)

    assert tracked.run("get", "k") == b"v"
    assert plain.client.db.accessed == []


def test_flushall_forgets_the_words() -> None:
    session = tracking("allkeys-lru")
    session.run("set", "k", "v")
    session.run("flushall")

    assert not any(session.client.db.accessed)
    session.run("set", "k", "v")
    assert session.run("object", "idletime", "k") == 0
