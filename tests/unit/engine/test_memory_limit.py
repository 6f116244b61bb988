"""maxmemory: what is refused, what is evicted, how it is propagated, and how long it may take."""

from __future__ import annotations

from sys import getsizeof

import pytest

from kvrepl.engine import gates
from kvrepl.engine.memory import FULL, OK, RUNNING, slice_us
from kvrepl.scripting import interpreter, runtime
from tests.unit.commands.session import Session
from tests.unit.engine.meters import KeyMeter

OOM = "OOM command not allowed when used memory > 'maxmemory'."


@pytest.fixture
def session() -> Session:
    return Session()


POLICIES = [
    f"{which}-{how}" for which in ("allkeys", "volatile") for how in ("lru", "lfu", "random")
] + ["volatile-ttl"]


def filled(session: Session, keys: int, *, expiring: bool = False) -> None:
    for i in range(keys):
        session.run("set", f"k{i}", "v", *(("ex", 1000 + i) if expiring else ()))


def keys_of(session: Session) -> set[str]:
    return {key.decode() for segment in session.client.db.segments for key in segment}


def test_noeviction_refuses_what_may_take_memory_and_nothing_else(session: Session) -> None:
    filled(session, 3)
    KeyMeter(session.engine, limit_keys=2)

    assert session.error("set", "new", "v") == OOM
    assert session.error("lpush", "new", "v") == OOM
    assert session.run("get", "k0") == b"v"
    assert session.run("del", "k0") == 1
    assert session.run("set", "k1", "w") is not None
    assert session.run("get", "k1") == b"w"


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_evicts_until_memory_is_below_the_limit(session: Session, policy: str) -> None:
    filled(session, 50, expiring=True)
    KeyMeter(session.engine, limit_keys=20, policy=policy)
    session.run("set", "new", "v")

    assert len(session.engine.keyspace) == 21  # the limit holds before a command, not after
    assert session.engine.stats.evicted == 30
    assert session.run("get", "new") == b"v"


@pytest.mark.parametrize("policy", [p for p in POLICIES if p.startswith("volatile")])
def test_volatile_policy_leaves_keys_that_do_not_expire(session: Session, policy: str) -> None:
    filled(session, 10)
    session.run("set", "expires", "v", "ex", 100)
    KeyMeter(session.engine, limit_keys=9, policy=policy)

    assert session.error("set", "new", "v") == OOM
    assert keys_of(session) == {f"k{i}" for i in range(10)}


def test_volatile_ttl_takes_what_expires_soonest_where_it_sees_all(session: Session) -> None:
    filled(session, 12, expiring=True)
    session.engine.config.maxmemory_samples = 12
    KeyMeter(session.engine, limit_keys=5, policy="volatile-ttl")
    session.run("set", "new", "v")

    assert keys_of(session) == {"new", *(f"k{i}" for i in range(7, 12))}


def test_allkeys_lru_keeps_what_was_used_where_it_sees_all(session: Session) -> None:
    session.engine.config.maxmemory_samples = 30
    KeyMeter(session.engine, limit_keys=100, policy="allkeys-lru")
    filled(session, 30)
    session.advance(60_000)
    for i in range(0, 30, 3):
        session.run("get", f"k{i}")
    session.engine.config.maxmemory = 10 * (4 << 20)
    session.engine.memory.apply_settings()
    session.run("set", "new", "v")

    assert keys_of(session) == {"new", *(f"k{i}" for i in range(0, 30, 3))}


def test_allkeys_lfu_keeps_what_is_used_often_where_it_sees_all(session: Session) -> None:
    session.engine.config.maxmemory_samples = 30
    session.engine.config.lfu_log_factor = 0
    KeyMeter(session.engine, limit_keys=100, policy="allkeys-lfu")
    filled(session, 30)
    for _ in range(4):
        for i in range(0, 30, 3):
            session.run("get", f"k{i}")
    for i in range(30):
        session.run("get", f"k{i}")  # used last, and seldom
    session.engine.config.maxmemory = 10 * (4 << 20)
    session.engine.memory.apply_settings()
    session.run("set", "new", "v")

    assert keys_of(session) == {"new", *(f"k{i}" for i in range(0, 30, 3))}


def test_eviction_visits_every_database(session: Session) -> None:
    for db in range(4):
        session.run("select", db)
        filled(session, 10)
    KeyMeter(session.engine, limit_keys=4, policy="allkeys-random")
    session.run("set", "new", "v")

    assert sum(len(db) for db in session.engine.keyspace.databases) == 5


@pytest.mark.parametrize(("lazily", "verb"), [(False, "DEL"), (True, "UNLINK")])
def test_eviction_is_propagated_key_by_key_before_the_command(
    session: Session, lazily: bool, verb: str
) -> None:
    filled(session, 3)
    session.engine.config.lazyfree_lazy_eviction = lazily
    KeyMeter(session.engine, limit_keys=1, policy="allkeys-random")
    session.take_propagated()
    before = keys_of(session)
    lines = session.propagated("set", "new", "v")
    gone = before - keys_of(session)

    assert lines[-1] == "set new v"
    assert sorted(lines[:-1]) == sorted(f"{verb} {key}" for key in gone)
    assert len(gone) == 2


def test_eviction_notifies_and_touches_watched_keys(session: Session) -> None:
    filled(session, 2)
    session.run("watch", "k0")
    session.run("watch", "k1")
    KeyMeter(session.engine, limit_keys=1, policy="allkeys-random")
    events = session.events("set", "new", "v")

    assert any(event in events for event in ("evicted k0", "evicted k1"))
    assert session.client.dirty_cas


def test_multi_refuses_to_queue_anything_but_its_end(session: Session) -> None:
    filled(session, 3)
    session.run("multi")
    KeyMeter(session.engine, limit_keys=1)

    assert session.error("get", "k0") == OOM
    assert session.error("exec").startswith("EXECABORT Transaction discarded because of previous")


def test_exec_is_refused_where_what_it_holds_may_take_memory(session: Session) -> None:
    filled(session, 3)
    session.run("multi")
    session.run("set", "k0", "w")
    KeyMeter(session.engine, limit_keys=1)

    assert session.error("exec") == f"EXECABORT Transaction discarded because of: {OOM}"


def test_exec_evicts_before_it_runs_and_not_within(session: Session) -> None:
    filled(session, 3)
    session.run("multi")
    for i in range(5):
        session.run("set", f"new{i}", "w")
    KeyMeter(session.engine, limit_keys=2, policy="allkeys-random")
    lines = session.propagated("exec")

    assert [line.split()[0] for line in lines[:2]] == ["DEL", "MULTI"]
    assert len(session.engine.keyspace) == 7


@pytest.mark.skipif(not interpreter.AVAILABLE, reason="lupa is not installed")
def test_script_evicts_before_it_begins(session: Session) -> None:
    runtime.connect(session.engine)
    filled(session, 3)
    KeyMeter(session.engine, limit_keys=1, policy="allkeys-random")
    code = "redis.call('set', 'a', 1) redis.call('set', 'b', 1) return 1"
    lines = session.propagated("eval", code, 0)

    assert [line.split()[0] for line in lines] == ["DEL", "DEL", "MULTI", "set", "set", "EXEC"]


def test_our_master_is_not_refused(session: Session) -> None:
    filled(session, 3)
    KeyMeter(session.engine, limit_keys=1)
    master = session.engine.internal_client()
    session.engine.apply(master, [b"set", b"from master", b"v"])

    assert session.run("get", "from master") == b"v"


@pytest.mark.parametrize("ignores", [True, False])
def test_replica_evicts_only_where_it_does_not_ignore_the_limit(
    session: Session, ignores: bool
) -> None:
    filled(session, 3)
    session.engine.is_replica = True
    session.engine.config.replica_ignore_maxmemory = ignores
    KeyMeter(session.engine, limit_keys=1, policy="allkeys-random")
    session.engine.memory.make_room()

    assert len(session.engine.keyspace) == (3 if ignores else 1)


def test_nothing_is_evicted_while_clients_are_paused(session: Session) -> None:
    filled(session, 3)
    KeyMeter(session.engine, limit_keys=1, policy="allkeys-random")
    session.engine.raise_gate(gates.PAUSE_WRITES)

    assert session.engine.memory.make_room() == OK
    assert len(session.engine.keyspace) == 3


def test_buffers_of_replicas_and_aof_do_not_count(session: Session) -> None:
    filled(session, 3)
    meter = KeyMeter(session.engine, limit_keys=3, policy="allkeys-random")
    meter.uncounted = 1 << 30
    session.engine.memory.watch()
    session.run("set", "k0", "w")

    assert len(session.engine.keyspace) == 3


def test_slice_that_runs_out_of_time_goes_on_later(session: Session) -> None:
    filled(session, 100)
    asked = []
    session.engine.memory.on_running = lambda: asked.append(1)
    session.engine.config.maxmemory_eviction_tenacity = 0
    KeyMeter(session.engine, limit_keys=10, policy="allkeys-random")
    ticks = iter(range(1_000_000))
    session.clock.monotonic_ns = lambda: next(ticks) * 1000  # type: ignore[method-assign]
    memory = session.engine.memory

    assert memory.make_room() == RUNNING
    assert len(session.engine.keyspace) == 84  # the clock is looked at every 16 keys
    assert asked == [1]
    assert session.run("set", "new", "v") is not None  # which is not refused meanwhile
    while memory.make_room() == RUNNING:
        pass
    assert len(session.engine.keyspace) == 10
    assert memory.exceeded_ns > 0
    assert memory.exceeded_since_ns is None


def test_full_memory_counts_as_exceeded_until_it_is_below(session: Session) -> None:
    filled(session, 3)
    KeyMeter(session.engine, limit_keys=2)
    session.clock.monotonic_ns = lambda: 5_000_000  # type: ignore[method-assign]
    assert session.engine.memory.make_room() == FULL
    session.clock.monotonic_ns = lambda: 12_000_000  # type: ignore[method-assign]
    assert session.engine.memory.exceeded_ms() == (7, 7)
    session.run("del", "k0", "k1")
    session.engine.tick()

    assert session.engine.memory.exceeded_ms() == (7, 0)


def test_gate_is_raised_only_near_the_limit(session: Session) -> None:
    filled(session, 3)
    meter = KeyMeter(session.engine, limit_keys=4)
    assert not session.engine.gates & gates.OOM
    assert meter.is_exact
    filled(session, 4)
    session.engine.tick()
    assert session.engine.gates & gates.OOM
    session.engine.config.maxmemory = 0
    session.engine.memory.apply_settings()
    assert not session.engine.gates & gates.OOM
    assert not meter.is_exact


@pytest.mark.parametrize(
    ("tenacity", "limit_us"),
    [(0, 0), (1, 50), (10, 500), (11, 575), (99, 500 * 1.15**89), (100, float("inf"))],
)
def test_slice_lasts_as_long_as_redis_allows(tenacity: int, limit_us: float) -> None:
    assert slice_us(tenacity) == pytest.approx(limit_us)


def test_database_shrinks_what_deleted_keys_leave(session: Session) -> None:
    db = session.client.db
    db.segments[0].update({b"%d" % i: b"v" for i in range(1000)})
    full = getsizeof(db.segments[0])
    for i in range(995):
        del db.segments[0][b"%d" % i]
    db.shrink(0)

    assert getsizeof(db.segments[0]) < full / 50
    assert list(db.segments[0]) == [b"%d" % i for i in range(995, 1000)]
