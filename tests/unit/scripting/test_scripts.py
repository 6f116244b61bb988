"""EVAL and SCRIPT: replies, refusals, what is propagated, and how long a script may take."""

from __future__ import annotations

import pytest

from kvrepl.engine import gates
from kvrepl.engine.propagation import AOF
from kvrepl.resp import encode
from kvrepl.scripting import runtime
from tests.unit.commands.session import Session
from tests.unit.engine.meters import KeyMeter

SHA_OF_EMPTY = "da39a3ee5e6b4b0d3255bfef95601890afd80709"


def wire(session: Session, code: str, *arguments: object) -> bytes:
    return encode(session.run("eval", code, *(arguments or (0,))), session.client.resp)


@pytest.mark.parametrize(
    ("value", "resp2", "resp3"),
    [
        ("'a'", b"$1\r\na\r\n", b"$1\r\na\r\n"),
        ("3.99", b":3\r\n", b":3\r\n"),
        ("-3.99", b":-3\r\n", b":-3\r\n"),
        ("1e300", b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
        ("nil", b"$-1\r\n", b"_\r\n"),
        ("true", b":1\r\n", b":1\r\n"),
        ("false", b"$-1\r\n", b"_\r\n"),
        ("{1, 2, nil, 4}", b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:1\r\n:2\r\n"),
        ("{ok = 'fine'}", b"+fine\r\n", b"+fine\r\n"),
        ("{err = 'MY bad\\r\\nend'}", b"-MY bad  end\r\n", b"-MY bad  end\r\n"),
        ("{double = 0.5}", b"$3\r\n0.5\r\n", b",0.5\r\n"),
        ("{map = {k = 1}}", b"*2\r\n$1\r\nk\r\n:1\r\n", b"%1\r\n$1\r\nk\r\n:1\r\n"),
        ("{set = {k = true}}", b"*1\r\n$1\r\nk\r\n", b"~1\r\n$1\r\nk\r\n"),
        ("{big_number = '12'}", b"$2\r\n12\r\n", b"(12\r\n"),
        ("{verbatim_string = {format = 'md', string = 'x'}}", b"$1\r\nx\r\n", b"=5\r\nmd :x\r\n"),
        ("setmetatable({}, {__index = {'a'}})", b"*0\r\n", b"*0\r\n"),
    ],
)
def test_script_result_becomes_the_reply_of_its_protocol(
    session: Session, session3: Session, value: str, resp2: bytes, resp3: bytes
) -> None:
    assert wire(session, f"return {value}") == resp2
    assert wire(session3, f"return {value}") == resp3


@pytest.mark.parametrize(
    ("command", "in_resp2", "in_resp3"),
    [
        ("'get', 'none'", "boolean", "nil"),
        ("'hgetall', 'h'", "table 1", "table map"),
        ("'zscore', 'z', 'm'", "string", "table double"),
        ("'smembers', 's'", "table 1", "table set"),
        ("'llen', 'none'", "number", "number"),
        ("'ping'", "table ok", "table ok"),
    ],
)
def test_script_sees_replies_in_the_protocol_it_asked_for(
    session: Session, command: str, in_resp2: str, in_resp3: str
) -> None:
    session.run("hset", "h", "f", "v")
    session.run("zadd", "z", "1.5", "m")
    session.run("sadd", "s", "m")
    tell = (
        f"local v = redis.call({command}) local t = type(v)"
        " if t == 'table' then t = t .. ' ' .. tostring(next(v)) end return t"
    )

    assert session.run("eval", tell, 0) == in_resp2.encode()
    assert session.run("eval", "redis.setresp(3) " + tell, 0) == in_resp3.encode()


def test_script_with_several_writes_propagates_a_transaction(session: Session) -> None:
    code = "redis.call('set', KEYS[1], 1) redis.call('incr', KEYS[1]) return 5"

    assert session.propagated("eval", code, 1, "k") == ["MULTI", "set k 1", "incr k", "EXEC"]


def test_script_with_one_write_propagates_it_bare(session: Session) -> None:
    assert session.propagated(
        "eval", "redis.call('set', 'k', 1) return redis.call('get', 'k')", 0
    ) == ["set k 1"]


def test_script_that_fails_half_way_propagates_what_it_did(session: Session) -> None:
    code = "redis.call('set', 'k', 1) redis.call('set', 'j', 1) error('x')"

    assert session.propagated("eval", code, 0) == ["MULTI", "set k 1", "set j 1", "EXEC"]


def test_script_that_only_reads_propagates_nothing(session: Session) -> None:
    assert session.propagated("eval", "return redis.call('get', 'k')", 0) == []


def test_script_inside_exec_propagates_within_its_transaction(session: Session) -> None:
    session.run("multi")
    session.run("eval", "redis.call('set', 'k', 1)", 0)
    session.run("incr", "j")

    assert session.propagated("exec") == ["MULTI", "set k 1", "incr j", "EXEC"]


def test_script_relative_expiry_and_random_pick_are_propagated_as_effects(session: Session) -> None:
    session.run("sadd", "s", "only")
    code = "redis.call('setex', 'k', 10, 'v') return redis.call('spop', 's')"

    lines = session.propagated("eval", code, 0)

    assert lines[1].startswith("SET k v PXAT ")
    assert lines[2] == "SREM s only"


def test_script_set_repl_leaves_targets_out(session: Session) -> None:
    none = "redis.set_repl(redis.REPL_NONE) redis.call('set', 'a', 1)"
    aof = "redis.set_repl(redis.REPL_AOF) redis.call('set', 'b', 1)"
    both = "redis.set_repl(redis.REPL_ALL) redis.call('set', 'c', 1)"

    assert session.propagated("eval", f"{none} {aof} {both}", 0) == ["set c 1"]
    assert AOF == 1


def test_script_time_stands_still_while_it_runs(session: Session) -> None:
    session.run("set", "k", "v", "px", "5")
    session.engine.config.busy_reply_threshold = 1
    ticks = iter(range(0, 1 << 40, 5_000_000))
    session.clock.monotonic_ns = lambda: next(ticks)  # type: ignore[method-assign]

    def serve_others() -> None:
        session.clock.ms += 10
        session.engine.tick()

    session.engine.scripts.on_busy = serve_others
    code = "for i = 1, 300000 do end return redis.call('get', 'k')"

    assert session.run("eval", code, 0) == b"v"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("return redis.call('nosuch')", "ERR Unknown Redis command called from script"),
        ("return redis.call('get')", "ERR Wrong number of args calling Redis command from script"),
        ("return redis.call('multi')", "ERR This Redis command is not allowed from script"),
        ("return redis.call('eval', 'x', 0)", "ERR This Redis command is not allowed from script"),
        (
            "return redis.call({})",
            "ERR Lua redis lib command arguments must be strings or integers",
        ),
    ],
)
def test_script_error_names_the_script_and_the_line(
    session: Session, code: str, error: str
) -> None:
    sha = session.run("script", "load", code).decode()

    assert session.error("eval", code, 0) == f"{error} script: {sha}, on @user_script:1."


def test_script_blocking_command_does_not_wait(session: Session) -> None:
    assert session.run("eval", "return redis.call('blmpop', 0, 1, 'none', 'left')", 0) is None


def fill_memory(session: Session) -> None:
    session.run("mset", "a", 1, "b", 2)
    KeyMeter(session.engine, limit_keys=1)


@pytest.mark.parametrize(
    ("gate", "error"),
    [
        (gates.READONLY, "READONLY You can't write against a read only replica."),
        (gates.FEW_REPLICAS, "NOREPLICAS Not enough good replicas to write."),
        (gates.OOM, "OOM command not allowed when used memory > 'maxmemory'."),
    ],
)
def test_script_write_is_refused_while_a_gate_is_raised(
    session: Session, gate: int, error: str
) -> None:
    if gate == gates.OOM:
        fill_memory(session)
    session.engine.raise_gate(gate)

    assert session.error("eval", "return redis.call('set', 'k', 1)", 0).startswith(error)
    assert session.run("eval", "return redis.call('get', 'k')", 0) is None
    assert session.error("eval", "#!lua\nreturn 1", 0) == error
    assert session.run("eval", "#!lua flags=no-writes\nreturn 1", 0) == 1


def test_script_stale_replica_runs_only_what_says_it_may(session: Session) -> None:
    session.engine.raise_gate(gates.STALE)

    assert session.error("eval", "return 1", 0).startswith("MASTERDOWN")
    assert session.run("eval", "#!lua flags=allow-stale,no-writes\nreturn 1", 0) == 1


def test_script_allow_oom_may_write_beyond_the_limit(session: Session) -> None:
    fill_memory(session)
    assert "OOM" in session.error("eval", "return redis.call('set', 'k', 1)", 0)

    assert wire(session, "#!lua flags=allow-oom\nreturn redis.call('set', 'k', 1)") == b"+OK\r\n"


def test_script_read_only_forms_refuse_writes(session: Session) -> None:
    refused = "ERR Write commands are not allowed from read-only scripts."

    assert session.error("eval_ro", "return redis.call('set', 'k', 1)", 0).startswith(refused)
    assert session.error("eval_ro", "return redis.call('publish', 'c', 1)", 0).startswith(refused)
    assert "flag using *_ro command" in session.error("eval_ro", "#!lua\nreturn 1", 0)


def test_script_select_does_not_last(session: Session) -> None:
    session.run("eval", "redis.call('select', 3) redis.call('set', 'k', 1)", 0)

    assert session.client.db.index == 0
    assert session.run("get", "k") is None
    session.run("select", "3")
    assert session.run("get", "k") == b"1"


def test_script_cache_knows_what_was_loaded_until_it_is_flushed(session: Session) -> None:
    sha = session.run("script", "load", "return 7")

    assert session.run("evalsha", sha.upper(), 0) == 7
    assert session.run("script", "exists", sha, SHA_OF_EMPTY) == [1, 0]
    session.run("script", "flush")
    assert session.error("evalsha", sha, 0) == "NOSCRIPT No matching script. Please use EVAL."


def test_script_error_is_counted_once(session: Session) -> None:
    session.run("eval", "return redis.call('nosuch')", 0)
    session.run("eval", "return {err = 'MY own'}", 0)

    assert session.engine.stats.error_counts == {b"ERR": 1, b"MY": 1}


def test_script_calls_are_counted_as_commands(session: Session) -> None:
    session.run("eval", "for i = 1, 3 do redis.call('ping') end", 0)

    assert session.engine.commands["ping"].calls == 3


def test_script_that_is_killed_ends_though_it_catches_errors(session: Session) -> None:
    session.engine.config.busy_reply_threshold = 1
    kills: list[object] = []
    scripts = session.engine.scripts
    session.clock.monotonic_ns = lambda: next(ticks)  # type: ignore[method-assign]
    ticks = iter(range(0, 1 << 40, 5_000_000))

    def kill() -> None:
        if not kills:
            kills.append(scripts.kill(is_eval=True))

    scripts.on_busy = kill
    error = session.error("eval", "while true do pcall(function() while true do end end) end", 0)

    assert error.startswith("ERR Script killed by user with SCRIPT KILL... script: ")
    assert session.engine.gates & gates.BUSY == 0
    assert session.run("eval", "return 1", 0) == 1


def test_script_that_is_killed_ends_inside_a_coroutine(session: Session) -> None:
    session.engine.config.busy_reply_threshold = 1
    scripts = session.engine.scripts
    ticks = iter(range(0, 1 << 40, 5_000_000))
    session.clock.monotonic_ns = lambda: next(ticks)  # type: ignore[method-assign]
    scripts.on_busy = lambda: scripts.running.killed or scripts.kill(is_eval=True)

    error = session.error("eval", "coroutine.wrap(function() while true do end end)()", 0)

    assert "Script killed by user" in error


def test_script_that_wrote_cannot_be_killed(session: Session) -> None:
    session.engine.config.busy_reply_threshold = 1
    ticks = iter(range(0, 1 << 40, 5_000_000))
    session.clock.monotonic_ns = lambda: next(ticks)  # type: ignore[method-assign]
    scripts = session.engine.scripts
    refusals = []

    def kill() -> None:
        try:
            scripts.kill(is_eval=True)
        except Exception as error:
            refusals.append(str(error)[:10])

    scripts.on_busy = kill
    session.run("eval", "redis.call('set', 'k', 1) for i = 1, 300000 do end", 0)

    assert set(refusals) == {"UNKILLABLE"}


def test_script_kill_without_a_script_says_so(session: Session) -> None:
    assert session.error("script", "kill").startswith("NOTBUSY")
    assert session.error("function", "kill").startswith("NOTBUSY")


def test_script_random_numbers_are_those_of_redis(session: Session) -> None:
    # redis-server 7.0.15: EVAL "math.randomseed(5) return {...}"
    code = "math.randomseed(5) return {math.random(1000), math.random(1000), math.random(1000)}"

    assert wire(session, code) == b"*3\r\n:525\r\n:273\r\n:789\r\n"


def test_script_without_lua_is_refused_with_one_clear_error() -> None:
    session = Session()
    session.engine.scripts = runtime.NoScripting()

    for request in (
        ["eval", "x", 0],
        ["script", "load", "x"],
        ["function", "list"],
        ["fcall", "f", 0],
    ):
        assert "install the Python package 'lupa'" in session.error(*request)


def test_effects_of_a_slow_script_stay_together_while_others_are_served(session: Session) -> None:
    engine = session.engine
    engine.config.busy_reply_threshold = 1
    ticks = iter(range(0, 1 << 40, 5_000_000))
    session.clock.monotonic_ns = lambda: next(ticks)  # type: ignore[method-assign]
    waiting, other = session.wait("blpop", "list", 0), engine.connect()
    seen: list[bool] = []

    def serve_others() -> None:
        engine.run(other, [[b"unwatch"]])
        seen.append(waiting.wait is not None and not session.take_propagated())

    engine.scripts.on_busy = serve_others
    push = "redis.call('rpush', 'list', 'a')"

    sent = session.propagated("eval", f"{push} for i = 1, 300000 do end {push}", 0)

    assert other.out
    assert seen and all(seen)
    assert sent == ["MULTI", "rpush list a", "rpush list a", "EXEC", "LPOP list"]
    assert waiting.wait is None
