"""Clients that wait for keys: the same ones are served, with the same replies and propagation."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import flat
from tests.interop.differential.peers import Argv, InProcess, Real, Seen, Tree

KEYS = st.sampled_from([b"k1", b"k2", b"k3", b"k4"])
SIDES = st.sampled_from([b"LEFT", b"right"])
ENDS = st.sampled_from([b"MIN", b"MAX"])
COUNT = st.one_of(st.just(()), st.tuples(st.just(b"COUNT"), st.sampled_from([b"1", b"2", b"9"])))
UNION = b"union"
"""The one destination of ZUNIONSTORE. Over a key of another type Redis 7.0 stores without waking
those who wait there, and leaves them waiting beside a sorted set; we serve them."""
SOME_KEYS = st.lists(st.one_of(KEYS, st.just(UNION)), min_size=1, max_size=3)
COUNTED_KEYS = SOME_KEYS.map(lambda keys: (b"%d" % len(keys), *keys))
FOR_EVER = st.just(b"0")


def _call(name: bytes, *parts: st.SearchStrategy[object]) -> st.SearchStrategy[Argv]:
    return st.tuples(st.just(name), *parts).map(flat)


WAITERS = st.one_of(
    _call(b"BLPOP", SOME_KEYS, FOR_EVER),
    _call(b"BRPOP", SOME_KEYS, FOR_EVER),
    _call(b"BLMPOP", FOR_EVER, COUNTED_KEYS, SIDES, COUNT),
    _call(b"BLMOVE", KEYS, KEYS, SIDES, SIDES, FOR_EVER),
    _call(b"BRPOPLPUSH", KEYS, KEYS, FOR_EVER),
    _call(b"BZPOPMIN", SOME_KEYS, FOR_EVER),
    _call(b"BZPOPMAX", SOME_KEYS, FOR_EVER),
    _call(b"BZMPOP", FOR_EVER, COUNTED_KEYS, ENDS, COUNT),
)
MEMBERS = st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=4)
WRITE = st.one_of(
    _call(b"RPUSH", KEYS, MEMBERS),
    _call(b"LPUSH", KEYS, MEMBERS),
    _call(b"ZADD", KEYS, MEMBERS.map(lambda ms: [(b"%d" % len(m), m) for m in ms])),
    _call(b"ZADD", KEYS, MEMBERS.map(lambda ms: [(b"1", m) for m in ms])),
    _call(b"DEL", KEYS),
    _call(b"SET", KEYS, st.just(b"text")),
    _call(b"SADD", KEYS, MEMBERS),
    _call(b"RPOPLPUSH", KEYS, KEYS),
    _call(b"RENAME", KEYS, KEYS),
    _call(b"COPY", KEYS, KEYS),
    _call(b"ZUNIONSTORE", st.just(UNION), COUNTED_KEYS),
    _call(b"LPOP", KEYS),
)
STEP = st.one_of(
    WRITE.map(lambda argv: [argv]),
    st.lists(WRITE, min_size=1, max_size=4).map(lambda many: [(b"MULTI",), *many, (b"EXEC",)]),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(
    waiters=st.lists(WAITERS, min_size=1, max_size=5),
    steps=st.lists(STEP, min_size=1, max_size=8),
    resp=st.sampled_from([2, 3]),
)
def test_waiting_clients_and_random_writes_are_served_as_by_redis(
    real: Real, ours: InProcess, waiters: list[Argv], steps: list[list[Argv]], resp: int
) -> None:
    theirs, their_answers = _watch_real(real, waiters, steps, resp)
    seen, our_answers = _watch_ours(ours, waiters, steps, resp)

    assert seen.replies == theirs.replies
    assert our_answers == their_answers
    # Redis forgets to count an element that a waiting BLPOP or BLMOVE takes; we do not.
    assert seen.dirty >= theirs.dirty
    for field in set(Seen._fields[1:]) - {"dirty"}:
        assert getattr(seen, field) == getattr(theirs, field), field


def _watch_real(
    real: Real, waiters: list[Argv], steps: list[list[Argv]], resp: int
) -> tuple[Seen, list[list[Tree]]]:
    real.begin()
    writer = real.connect(resp)
    waiting = [real.connect(resp) for _ in waiters]
    for count, argv in enumerate(waiters, 1):
        waiting[count - 1].send([argv])
        real.wait_for_blocked(count)
    replies, answers = [], []
    for step in steps:
        replies += real.run(writer, step)
        writer.ask([b"PING"])
        answers.append([tree for each in waiting for tree in each.read_waiting()])
    seen = real.seen(replies)
    for connection in (*waiting, writer):
        connection.close()
    real.wait_for_blocked(0)
    return seen, answers


def _watch_ours(
    ours: InProcess, waiters: list[Argv], steps: list[list[Argv]], resp: int
) -> tuple[Seen, list[list[Tree]]]:
    ours.begin()
    writer = ours.connect(resp)
    waiting = [ours.connect(resp) for _ in waiters]
    for client, argv in zip(waiting, waiters, strict=True):
        ours.engine.run(client, [list(argv)])
    replies, answers = [], []
    for step in steps:
        replies += ours.run(writer, step)
        answers.append([tree for each in waiting for tree in ours.read(each)])
    return ours.seen(replies), answers
