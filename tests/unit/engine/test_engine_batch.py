"""The hot loops, read and compiled: what they do, and that they do the same."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvrepl.clock import FRESH_NS
from kvrepl.config.notify import NOTIFY_KEYEVENT, NOTIFY_STRING
from kvrepl.engine import batch, gates
from kvrepl.engine.client import Client
from kvrepl.resp import encode_command
from kvrepl.resp.values import Push
from tests.unit.engine.twins import (
    COMPILED,
    LOOPS,
    REFERENCE,
    START_MS,
    Bench,
    needs_compiled,
)


@pytest.fixture(params=LOOPS)
def bench(request: pytest.FixtureRequest) -> Bench:
    """Give an engine run by either kind of loop."""
    return Bench(request.param)


def test_run_pipeline_answers_each_in_order(bench: Bench) -> None:
    done = bench.run(b"SET k 1", b"GET k", b"get nothing", b"INCR k", b"NOSUCH", b"GET")
    assert done == 6
    assert bench.replies() == (
        b"+OK\r\n$1\r\n1\r\n$-1\r\n:2\r\n"
        b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n"
        b"-ERR wrong number of arguments for 'get' command\r\n"
    )


def test_run_writes_propagate_as_one_command_each_in_order(bench: Bench) -> None:
    bench.run(b"SET a 1", b"GET a", b"INCR a", b"SELECT 1", b"SET b 2", b"DEL nothing")
    expected = (
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n"
        b"<1>*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"
    )
    assert bench.aof.data == bench.replicas.data == expected


def test_run_command_that_leaves_less_to_save_is_not_propagated(bench: Bench) -> None:
    def save(client: Client, argv: list[bytes]) -> bytes:
        bench.engine.keyspace.dirty = 0
        return b""

    command = bench.engine.find(b"save")
    assert command is not None
    command.handler = save
    bench.run(b"SET a 1", b"SAVE")
    assert bench.replicas.data == b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"


def test_run_unknown_name_with_a_nul_is_shown_up_to_there(bench: Bench) -> None:
    bench.run(b"NO\x00SUCH a\x00b c")
    assert bench.replies() == (b"-ERR unknown command 'NO', with args beginning with: 'a' 'c' \r\n")


def test_run_plain_writes_hand_on_before_a_command_that_is_not_plain(bench: Bench) -> None:
    seen = []

    def look(client: Client, argv: list[bytes]) -> bytes:
        seen.append((bench.aof.data, list(client.out)))
        return b""

    command = bench.engine.find(b"echo")
    assert command is not None
    assert not command.plain
    command.handler = look
    bench.run(b"SET a 1", b"SET b 2", b"ECHO x", b"SET c 3")
    ((stream, out),) = seen
    assert stream == (
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"
    )
    assert b"".join(out) == b"+OK\r\n+OK\r\n"
    assert bench.replies() == b"+OK\r\n+OK\r\n$0\r\n\r\n+OK\r\n"


def test_run_push_to_the_client_itself_stands_before_the_reply_that_caused_it(
    bench: Bench,
) -> None:
    engine, client = bench.engine, bench.client
    client.resp = 3
    engine.keyspace.notify_flags = NOTIFY_KEYEVENT | NOTIFY_STRING
    engine.keyspace.sink = engine
    engine.notify = lambda *_: client.send(Push([b"told"]))  # type: ignore[method-assign]
    bench.run(b"GET a", b"SET a 1", b"GET a", b"SET a 2")
    told = b">1\r\n$4\r\ntold\r\n"
    assert bench.replies() == b"_\r\n" + told + b"+OK\r\n$1\r\n1\r\n" + told + b"+OK\r\n"


def test_run_huge_value_is_answered_in_order(bench: Bench) -> None:
    value = b"v" * 100_000
    bench.run(b"SET k " + value, b"GET k", b"STRLEN k", b"GET k")
    bulk = b"$100000\r\n" + value + b"\r\n"
    assert bench.replies() == b"+OK\r\n" + bulk + b":100000\r\n" + bulk


def test_run_expired_key_propagates_its_deletion_before_the_command(bench: Bench) -> None:
    bench.run(b"SET a 1 PX 10", b"SET b 1")
    bench.clock.ms += 11
    bench.engine.tick()
    before = len(bench.aof.data)
    bench.run(b"SET b 2", b"GET a", b"SETNX a 3")
    assert bench.aof.data[before:] == (
        b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2\r\n"
        b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n"
        b"*3\r\n$5\r\nSETNX\r\n$1\r\na\r\n$1\r\n3\r\n"
    )


def test_run_blocked_client_is_served_after_the_command_that_filled_the_key(
    bench: Bench,
) -> None:
    waiting = bench.engine.connect()
    bench.run(b"BLPOP list 0", client=waiting)
    assert waiting.wait is not None
    bench.run(b"SET a 1", b"RPUSH list x", b"SET b 1")
    assert bench.replies(waiting) == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
    names = [line for line in bench.aof.data.split(b"\r\n") if line.isupper() and line.isalpha()]
    assert names == [b"SET", b"RPUSH", b"LPOP", b"SET"]


def test_run_blocking_command_ends_the_batch(bench: Bench) -> None:
    assert bench.run(b"SET a 1", b"BLPOP list 0", b"GET a") == 2
    assert bench.replies() == b"+OK\r\n"


def test_run_postponed_command_is_not_done(bench: Bench) -> None:
    bench.engine.raise_gate(gates.PAUSE_WRITES)
    assert bench.run(b"GET a", b"SET a 1", b"GET a") == 1
    assert bench.replies() == b"$-1\r\n"


def test_run_batch_that_used_its_time_yields(bench: Bench) -> None:
    bench.clock.step_ns = 1_000
    bench.engine.budget_ns = 3_000
    assert bench.run(*[b"SET a 1"] * 10) == 3
    assert bench.replies() == b"+OK\r\n" * 3


def test_run_counts_each_command_and_its_time(bench: Bench) -> None:
    bench.clock.step_ns = 100
    bench.run(b"SET a 1", b"SET a 2", b"HGET a f", b"GET a")
    found = {name: bench.engine.commands[name] for name in ("set", "get", "hget")}
    assert {name: (c.calls, c.nanoseconds, c.failed) for name, c in found.items()} == {
        "set": (2, 200, 0), "get": (1, 100, 0), "hget": (1, 100, 1),
    }  # fmt: skip


def test_run_slow_command_is_reported_with_its_own_time(bench: Bench) -> None:
    reported = []
    bench.engine.on_slow = lambda client, command, argv, ns: reported.append((command.name, ns))
    bench.clock.step_ns = 50
    bench.engine.slow_ns = 50
    bench.run(b"GET a", b"SELECT 0")
    assert reported == [("get", 50), ("select", 50)]


def test_run_command_that_waits_is_counted_at_once_and_timed_when_it_is_served(
    bench: Bench,
) -> None:
    engine, reported, spikes = bench.engine, [], []
    engine.on_slow = lambda client, command, argv, ns: reported.append((client, argv, ns))
    engine.on_spike = lambda event, ns: spikes.append((event, ns))
    bench.clock.step_ns = engine.slow_ns = 50
    command, argv = engine.commands["blpop"], [b"BLPOP", b"list", b"0"]
    waiting = engine.connect()
    bench.loops.run(engine, waiting, [argv])
    assert (command.calls, command.nanoseconds, sum(command.spans)) == (1, 50, 0)
    assert (reported, spikes) == ([], [(b"command", 50)])

    bench.run(b"RPUSH list x")

    assert (command.calls, command.nanoseconds, sum(command.spans)) == (1, 100, 1)
    assert [what for what in reported if what[0] is waiting] == [(waiting, argv, 100)]
    assert spikes[1:] == [(b"fast-command", 50), (b"command-unblocking", 50)]


def test_run_command_whose_wait_is_over_is_never_timed(bench: Bench) -> None:
    engine, reported = bench.engine, []
    engine.on_slow = lambda client, command, argv, ns: reported.append(ns)
    bench.clock.step_ns = engine.slow_ns = 50
    bench.run(b"BLPOP list 1")
    bench.clock.ms += 1001
    engine.tick()
    engine.blocking.expire()
    command = engine.commands["blpop"]
    assert (command.calls, command.nanoseconds, sum(command.spans)) == (1, 50, 0)
    assert reported == []
    assert bench.replies() == b"*-1\r\n"


def test_run_fault_of_a_handler_hands_on_what_was_done(bench: Bench) -> None:
    def broken(c: Any, argv: list[bytes]) -> Any:
        raise ZeroDivisionError

    bench.engine.commands["strlen"].handler = broken
    with pytest.raises(ZeroDivisionError):
        bench.run(b"SET a 1", b"STRLEN a")
    assert bench.aof.data.startswith(b"*3\r\n$3\r\nSET")
    if bench.loops is not REFERENCE:
        assert bench.replies() == b"+OK\r\n"
    bench.engine.on_fault = lambda *_: None
    bench.run(b"STRLEN a")
    assert b"-ERR internal error in 'strlen'" in bench.replies()


def test_run_nobody_listening_keeps_nothing(bench: Bench) -> None:
    bench.engine.propagation.connect(aof=None, replicas=None)
    bench.run(b"SET a 1", b"SET b 1 EX 10")
    assert bench.aof.data == b""
    assert bench.engine.propagation.ops == []


# ----------------------------------------------------------------------------- bytes


def test_serve_pieces_of_a_request_run_it_once_it_is_complete(bench: Bench) -> None:
    assert bench.serve(b"*2\r\n$3\r\nGET\r\n$1\r\n") is None
    assert bench.replies() == b""
    assert bench.serve(b"k\r\nPING\r\nPI") is None
    assert bench.replies() == b"$-1\r\n+PONG\r\n"
    assert bench.engine.stats.net_in_bytes == 28


def test_serve_client_that_blocks_is_left_with_the_requests_behind(bench: Bench) -> None:
    assert bench.serve(b"SET a 1\r\nBLPOP l 0\r\nGET a\r\nGET b\r\n") == [
        [b"GET", b"a"], [b"GET", b"b"],
    ]  # fmt: skip
    assert bench.replies() == b"+OK\r\n"


def test_serve_protocol_error_is_reported_after_the_requests_before_it(bench: Bench) -> None:
    assert bench.serve(b"SET a 1\r\n*1\r\nx\r\n") == []
    assert bench.parser.error is not None
    assert bench.replies() == b"+OK\r\n"


def test_serve_stranger_is_reported_each_time(bench: Bench) -> None:
    bench.parser.authenticated = False
    assert bench.serve(b"PING\r\n") == []
    assert bench.replies() == b"+PONG\r\n"


def test_serve_takes_the_time_once_it_is_old(bench: Bench) -> None:
    bench.clock.ms += 1
    bench.clock.ns += FRESH_NS - 1
    bench.serve(b"PING\r\n")
    assert bench.client.last_interaction_ms == START_MS
    bench.clock.ns += 1
    bench.serve(b"PING\r\n")
    assert bench.client.last_interaction_ms == bench.engine.keyspace.now_ms == START_MS + 1


# --------------------------------------------------------------------------- streams


def test_run_judges_each_request_of_a_restricted_user(bench: Bench) -> None:
    bench.run(b"ACL SETUSER u on nopass ~k* +@all -del", b"AUTH u x")
    bench.replies()
    bench.run(b"SET k1 v", b"SET x v", b"DEL k1", b"GET k1", b"SELECT 0", b"CONFIG GET a", b"NOPE")
    assert bench.replies() == (
        b"+OK\r\n"
        b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
        b"-NOPERM this user has no permissions to run the 'del' command\r\n"
        b"$1\r\nv\r\n+OK\r\n*0\r\n"
        b"-ERR unknown command 'NOPE', with args beginning with: \r\n"
    )
    assert [entry.count for entry in bench.engine.acl.log.entries] == [1, 1]
    assert bench.aof.data == b"*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$1\r\nv\r\n"
    assert bench.engine.commands["del"].rejected == 1
    # A rule that changes in the middle of a batch counts from there on.
    bench.run(b"GET k1", b"ACL SETUSER u -get", b"GET k1", b"MULTI", b"SET k1 w", b"GET k1")
    assert bench.replies() == (
        b"$1\r\nv\r\n+OK\r\n"
        b"-NOPERM this user has no permissions to run the 'get' command\r\n"
        b"+OK\r\n+QUEUED\r\n"
        b"-NOPERM this user has no permissions to run the 'get' command\r\n"
    )


def _stream(*lines: bytes) -> list[tuple[list[bytes], int]]:
    return [(line.split(b" "), number) for number, line in enumerate(lines, 1)]


def test_apply_stops_before_what_is_not_plain(bench: Bench) -> None:
    client = bench.engine.internal_client()
    commands = _stream(b"SET a 1", b"INCR a", b"SELECT 1", b"SET a 5")
    assert bench.loops.apply(bench.engine, client, commands, 0) == (2, None)
    assert bench.loops.apply(bench.engine, client, commands, 2) == (2, None)
    assert bench.loops.apply(bench.engine, client, commands, 3) == (4, None)
    assert bench.loops.apply(bench.engine, client, commands, 4) == (4, None)


def test_apply_stops_after_an_error_and_names_it(bench: Bench) -> None:
    client = bench.engine.internal_client()
    commands = _stream(b"SET a x", b"INCR a", b"SET a 2")
    done, error = bench.loops.apply(bench.engine, client, commands, 0)
    assert (done, error.text) == (2, b"ERR value is not an integer or out of range")


def test_apply_inside_multi_runs_nothing(bench: Bench) -> None:
    client = bench.engine.internal_client()
    bench.engine.apply(client, [b"MULTI"])
    assert bench.loops.apply(bench.engine, client, _stream(b"SET a 1"), 0) == (0, None)


def test_apply_with_blocked_clients_runs_one_at_a_time(bench: Bench) -> None:
    bench.run(b"BLPOP list 0")
    client = bench.engine.internal_client()
    commands = _stream(b"SET a 1", b"RPUSH list x", b"SET b 1")
    assert bench.loops.apply(bench.engine, client, commands, 0) == (1, None)
    assert bench.loops.apply(bench.engine, client, commands, 1) == (2, None)
    assert bench.replies() == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
    assert bench.loops.apply(bench.engine, client, commands, 2) == (3, None)


def test_apply_sees_keys_that_have_expired_and_the_mode_is_put_back(bench: Bench) -> None:
    bench.run(b"SET a 1 PX 10")
    mode = bench.engine.keyspace.expiry_mode
    bench.clock.ms += 11
    bench.engine.tick()
    bench.loops.apply(bench.engine, bench.engine.internal_client(), _stream(b"INCR a"), 0)
    assert bench.engine.keyspace.databases[0].peek(b"a") == b"2"
    assert bench.engine.keyspace.expiry_mode == mode


# ------------------------------------------------------------------- the two are one

KEYS = st.sampled_from([b"a", b"b", b"c"])
LINES = st.one_of(
    st.builds(lambda k: b"GET " + k, KEYS),
    st.builds(lambda k, v: b"SET %b %d" % (k, v), KEYS, st.integers(0, 99)),
    st.builds(lambda k: b"SET %b 1 PX 5" % k, KEYS),
    st.builds(lambda k: b"SET %b 1 NX GET" % k, KEYS),
    st.builds(lambda k: b"INCR " + k, KEYS),
    st.builds(lambda k: b"APPEND %b x" % k, KEYS),
    st.builds(lambda k: b"DEL " + k, KEYS),
    st.builds(lambda k: b"GETDEL " + k, KEYS),
    st.builds(lambda k: b"RPUSH %b x y" % k, KEYS),
    st.builds(lambda k: b"LPOP " + k, KEYS),
    st.builds(lambda k: b"SADD %b m n" % k, KEYS),
    st.builds(lambda k: b"SPOP " + k, KEYS),
    st.builds(lambda k: b"HSET %b f v" % k, KEYS),
    st.builds(lambda k: b"WATCH " + k, KEYS),
    st.sampled_from(
        [b"SELECT 0", b"SELECT 1", b"MULTI", b"EXEC", b"DISCARD", b"PING", b"nonsense", b"GET",
         b"FLUSHDB", b"MGET a b c", b"MSET a 1 b 2", b"CLIENT REPLY SKIP", b"HELLO 3", b"HELLO 2"]
    ),
)  # fmt: skip
BATCHES = st.lists(
    st.tuples(st.sampled_from([0, 0, 6]), st.lists(LINES, min_size=1, max_size=8)),
    min_size=1,
    max_size=8,
)


@needs_compiled
@settings(max_examples=50)
@given(BATCHES)
def test_run_compiled_equals_reference(batches: list[tuple[int, list[bytes]]]) -> None:
    twins = Bench(REFERENCE, pure=True), Bench(COMPILED)
    for pause_ms, lines in batches:
        for twin in twins:
            twin.clock.ms += pause_ms
            twin.clock.step_ns = 7
            twin.engine.tick()
        reference, compiled = twins
        assert reference.run(*lines) == compiled.run(*lines)
        assert reference.replies() == compiled.replies()
        assert reference.state() == compiled.state()


@needs_compiled
@settings(max_examples=50)
@given(BATCHES, st.lists(st.integers(1, 40), min_size=1, max_size=6), st.booleans())
def test_serve_compiled_equals_reference(
    batches: list[tuple[int, list[bytes]]], sizes: list[int], breaks: bool
) -> None:
    twins = Bench(REFERENCE, pure=True), Bench(COMPILED)
    reference, compiled = twins
    for pause_ms, lines in batches:
        data = b"".join(
            encode_command(line.split(b" ")) if number % 2 else line + b"\r\n"
            for number, line in enumerate(lines)
        )
        data += b"*1\r\n!\r\n" if breaks else b""
        for size in itertools.cycle(sizes):
            if not data:
                break
            piece, data = data[:size], data[size:]
            for twin in twins:
                twin.clock.ms += pause_ms
                twin.clock.ns += pause_ms * 1_000_000
                twin.clock.step_ns = 7
            assert reference.serve(piece) == compiled.serve(piece)
            assert reference.replies() == compiled.replies()
            assert reference.state() == compiled.state()


@needs_compiled
@settings(max_examples=50)
@given(BATCHES)
def test_apply_compiled_equals_reference(batches: list[tuple[int, list[bytes]]]) -> None:
    twins = Bench(REFERENCE, pure=True), Bench(COMPILED)
    clients = [twin.engine.internal_client() for twin in twins]
    for pause_ms, lines in batches:
        for twin in twins:
            twin.clock.ms += pause_ms
            twin.engine.tick()
        commands = _stream(*lines)
        done = 0
        while done < len(commands):
            ends = [
                twin.loops.apply(twin.engine, client, commands, done)
                for twin, client in zip(twins, clients, strict=True)
            ]
            assert (ends[0][0], repr(ends[0][1])) == (ends[1][0], repr(ends[1][1]))
            if ends[0][0] == done:
                for twin, client in zip(twins, clients, strict=True):
                    twin.engine.apply(client, commands[done][0])
                done += 1
            else:
                done = ends[0][0]
        assert twins[0].state() == twins[1].state()


@needs_compiled
def test_run_compiled_gathers_what_a_batch_answers_and_propagates() -> None:
    bench = Bench(COMPILED)
    bench.run(*[b"SET k v", b"GET k"] * 8)
    assert bench.aof.feeds == bench.replicas.feeds == 1
    assert len(bench.client.out) == 1


@needs_compiled
def test_loops_compiled_refuse_objects_of_other_classes() -> None:
    bench = Bench(COMPILED)
    with pytest.raises(TypeError):
        COMPILED.run(bench.engine, object(), [[b"GET", b"k"]])
    with pytest.raises(TypeError):
        COMPILED.run(SimpleNamespace(**vars(bench.engine)), bench.client, [[b"GET", b"k"]])
    with pytest.raises(TypeError):
        COMPILED.serve(bench.engine, bench.client, object(), b"")
    with pytest.raises(TypeError):
        type(bench.client.db).get(object(), b"k")  # type: ignore[arg-type]


@needs_compiled
def test_engine_takes_the_compiled_loops_where_they_are_built() -> None:
    assert batch.COMPILED
    assert batch.serve is COMPILED.serve
    assert batch.run is COMPILED.run
    assert batch.apply is COMPILED.apply
