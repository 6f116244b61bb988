"""No way out: what a script can reach, and what it can change for the next one.

Each attempt was seen to work in a Lua state without the sandbox.
"""

from __future__ import annotations

import pytest

from tests.unit.commands.session import Session

READONLY = "Attempt to modify a readonly table"

REACHABLE = """
local seen, found, work = {}, {}, {{'_G', _G}, {'meta of string', getmetatable('')}}
while #work > 0 do
  local path, value = unpack(table.remove(work))
  local kind = type(value)
  if kind == 'userdata' or kind == 'thread' then
    found[#found + 1] = path .. ' ' .. kind
  end
  if kind == 'table' and not seen[value] then
    seen[value] = true
    for k, v in pairs(value) do
      work[#work + 1] = {path .. '.' .. tostring(k), v}
      work[#work + 1] = {path .. ' key', k}
    end
  end
  local meta = getmetatable(value)
  if meta ~= nil and not seen[meta] then
    work[#work + 1] = {path .. ' meta', meta}
  end
end
table.sort(found)
return table.concat(found, ',')
"""


def evaluate(session: Session, code: str) -> object:
    return session.run("eval", code, 0)


def test_sandbox_everything_reachable_holds_no_object_of_python(session: Session) -> None:
    assert evaluate(session, REACHABLE) == b"_G.cjson.null userdata"


@pytest.mark.parametrize(
    "name",
    (
        *("io", "os", "package", "debug", "print", "dofile", "loadfile", "require", "module"),
        *("python", "getfenv", "setfenv", "newproxy", "lupa"),
    ),
)
def test_sandbox_dangerous_global_is_nonexistent(session: Session, name: str) -> None:
    error = session.error("eval", f"return {name}", 0)

    assert f"Script attempted to access nonexistent global variable '{name}'" in error
    assert evaluate(session, f"return rawget(_G, '{name}')") is None
    assert "nonexistent" in session.error("eval", f"return loadstring('return {name}')()", 0)


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "_G.x = 1",
        "redis = 1",
        "redis.call = 1",
        "string.format = 1",
        "math.random = nil",
        "cjson.encode = 1",
        "bit.band = 1",
        "rawset(_G, 'x', 1)",
        "rawset(redis, 'call', 1)",
        "setmetatable(_G, {})",
        "setmetatable(string, nil)",
        "getmetatable(_G).__index = {}",
        "getmetatable(redis).__newindex = nil",
        "getmetatable('').__index = {}",
        "rawset(getmetatable(''), '__index', {})",
        "rawset(getmetatable(_G), '__index', {})",
        "setmetatable(getmetatable(_G), {})",
        "loadstring('y = 1')()",
        "coroutine.wrap(function() y = 1 end)()",
    ],
)
def test_sandbox_change_of_what_scripts_share_is_refused(session: Session, code: str) -> None:
    assert READONLY in session.error("eval", code, 0)


@pytest.mark.parametrize(
    "code",
    [
        "table.insert(redis, 'mine')",
        "table.insert(_G, 'mine')",
        "table.insert(getmetatable(_G), 'mine')",
        "table.setn(redis, 5)",
    ],
)
def test_sandbox_what_slips_into_a_shared_table_is_gone_afterwards(
    session: Session, code: str
) -> None:
    evaluate(session, f"pcall(function() {code} end)")

    for name in ("redis", "_G", "getmetatable(_G)"):
        seen = evaluate(session, f"local ok, v = pcall(function() return {name}[1] end) return v")
        assert seen != b"mine"


def test_sandbox_function_of_a_proxy_iteration_gives_no_real_table(session: Session) -> None:
    code = "local f, t = pairs(redis) t.call = 1"

    assert READONLY in session.error("eval", code, 0)
    assert READONLY in session.error("eval", "for k, v in pairs(_G) do if k == 'redis' then"
                                     " v.call = 1 end end", 0)  # fmt: skip


@pytest.mark.parametrize(
    "catch",
    [
        "local _, e = pcall(f)",
        "local _, e = xpcall(f, function(e) return e end)",
        "local _, e = coroutine.resume(coroutine.create(f))",
        "local _, e = pcall(coroutine.wrap(f))",
        "local e xpcall(f, function(x) e = x end)",
        "local _, e = pcall(pcall, f) _, e = pcall(error, e)",
    ],
)
@pytest.mark.parametrize(
    "f",
    [
        "function() return redis.call('nosuch') end",
        "function() return cjson.decode('{') end",
        "function() return bit.band({}) end",
        "function() return struct.pack('i99999999999999', 1) end",
        "function() return redis.log({}, 1) end",
        "function() return redis.set_repl(99) end",
    ],
)
def test_sandbox_caught_error_is_never_an_object_of_python(
    session: Session, catch: str, f: str
) -> None:
    assert evaluate(session, f"local f = {f} {catch} return type(e)") in (
        b"string",
        b"table",
        b"boolean",
    )


@pytest.mark.parametrize(
    "code",
    [
        "return loadstring(string.dump(function() return 1 end))",
        "return load(function() local s = once once = nil return s end)",
        "return loadstring('\\27Lua')",
    ],
)
def test_sandbox_binary_chunk_is_not_loaded(session: Session, code: str) -> None:
    code = code.replace("once = nil", "").replace("local s = once", "local s = string.char(27)")
    if "load(function" in code:
        code = (
            "local n = 0 return load(function() n = n + 1 if n == 1 then return '\\27Lua' end end)"
        )

    assert evaluate(session, code) is None


def test_sandbox_script_that_is_a_binary_chunk_is_refused(session: Session) -> None:
    assert "Error compiling script" in str(session.run("eval", b"\x1bLua\x51", 0))


def test_sandbox_python_functions_refuse_attributes_and_dumps(session: Session) -> None:
    assert "attempt to index" in session.error("eval", "return redis.call.__globals__", 0)
    assert "unable to dump" in session.error("eval", "return string.dump(redis.call)", 0)
    assert evaluate(session, "return type(redis.call)") == b"function"
    assert evaluate(session, "return getmetatable(redis.call)") is None


def test_sandbox_collector_cannot_be_stopped_for_good(session: Session) -> None:
    evaluate(session, "collectgarbage('stop')")
    evaluate(session, "collectgarbage('setpause', 1000000)")

    peak = evaluate(
        session, "for i = 1, 200000 do local t = {i} end return collectgarbage('count')"
    )

    assert isinstance(peak, int)
    assert peak < 8_000


def test_sandbox_stack_overflow_is_an_error_of_the_script(session: Session) -> None:
    error = session.error("eval", "local function f() return f() + 1 end return f()", 0)

    assert "stack overflow" in error
    assert evaluate(session, "return 1") == 1


def test_sandbox_error_in_an_error_handler_is_an_error_of_the_script(session: Session) -> None:
    code = "error(setmetatable({}, {__tostring = function() error('x') end}))"

    assert session.error("eval", code, 0).startswith("ERR")
    assert evaluate(session, "return 1") == 1


def test_sandbox_error_without_a_text_is_answered(session: Session) -> None:
    assert session.error("eval", "error({x = 1})", 0).startswith("ERR the script raised an error")


def test_sandbox_keys_of_one_script_are_not_those_of_the_next(session: Session) -> None:
    session.run("eval", "keep = 1", 1, "k")
    session.run("eval", "KEYS[2] = 'mine' return 1", 1, "k")

    assert evaluate(session, "return #KEYS + #ARGV") == 0
