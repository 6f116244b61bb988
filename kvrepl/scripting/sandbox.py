"""The Lua code that closes a state in, and runs scripts inside.

It is run once, before any script, with the functions of the host as C functions, and keeps what
it needs in locals; what it returns is for `kvrepl.scripting.interpreter` alone. A script sees the
globals listed in `real` and nothing else: io, os, package, debug, print, dofile, getfenv, setfenv,
newproxy and everything of lupa are not among them.

How scripts are held in:

    read-only tables    Redis patched its Lua for them. Here a script gets an empty table whose
                        metatable leads to the real one; writing meets `readonly`, rawset and
                        setmetatable refuse, and what slips in by other ways (table.insert) is
                        swept out after the run.
    globals             the same, and a miss is an error. Each chunk gets them as its environment;
                        the state's own global table is an empty one that no script can reach
                        (lupa looks for debug.traceback there, and is not to meet our error).
    binary chunks       refused: Lua 5.1 does not verify them.
    Python exceptions   Lua carries them as userdata. Every way to catch an error (pcall, xpcall,
                        coroutines) is ours and translates them first: no script ever holds one.
    endless scripts     a hook asks the host every COUNT instructions. Coroutines have hooks of
                        their own in Lua 5.1, so they are made by us, too. Once the host wants a
                        script dead the hook is called for each line, so that no pcall survives it.

Functions of the host are C functions on purpose: `return redis.call(...)` is a tail call, which
would drop the caller's frame, and with it the line for the error message, if a Lua function stood
behind it.

Source: Redis 7.0 script_lua.c, function_lua.c.
"""

from __future__ import annotations

from typing import Final

CHUNK: Final = b"=sandbox"
"""The name of our own chunks; frames of that name are not shown as where an error happened."""

SANDBOX: Final = rb"""
local host, for_functions, new_encode, new_register, new_cjson, new_cmsgpack, bit, struct,
  as_function = ...

local assert, error, ipairs, loadstring, next = assert, error, ipairs, loadstring, next
local pairs, pcall, rawget, rawset, select = pairs, pcall, rawget, rawset, select
local setmetatable, tonumber, tostring, type = setmetatable, tonumber, tostring, type
local unpack, xpcall, setfenv, collectgarbage = unpack, xpcall, setfenv, collectgarbage
local byte, concat, format, floor = string.byte, table.concat, string.format, math.floor
local gsub, sub = string.gsub, string.sub
local create, resume, status = coroutine.create, coroutine.resume, coroutine.status
local getinfo, sethook = debug.getinfo, debug.sethook

local COUNT = 100000
local CHUNK = '=sandbox'
local READONLY = 'Attempt to modify a readonly table'

-- ------------------------------------------------------------- read-only tables

local hidden = {}    -- the table that a script holds -> the real one
local sealed         -- what getmetatable gives for them

local function readonly()
  error(READONLY, 2)
end

local function nonexistent(_, name)
  if type(name) ~= 'string' and type(name) ~= 'number' then
    error('Second argument to luaProtectedTableError must be a string or number', 2)
  end
  error("Script attempted to access nonexistent global variable '" .. name .. "'", 2)
end

local function freeze(content)
  local face = {}
  hidden[face] = content
  return setmetatable(face, {__index = content, __newindex = readonly, __metatable = sealed})
end

sealed = freeze({})
debug.getmetatable(sealed).__metatable = false

local function sweep()
  for face in next, hidden do
    local key = next(face)
    while key ~= nil do
      rawset(face, key, nil)
      key = next(face)
    end
  end
end

-- ---------------------------------------------------------------------- errors

-- An error as a script may see it: Python exceptions become tables.
local function translate(e)
  if type(e) == 'userdata' then
    return host.translate(e) or e
  end
  return e
end

-- Called where an error was raised that nobody catches: notes where that was.
local function handler(e)
  e = translate(e)
  local level, where = 2, nil
  repeat
    where = getinfo(level, 'Sl')
    level = level + 1
  until not where or (where.what ~= 'C' and where.what ~= 'tail' and where.source ~= CHUNK)
  local found = {}
  if type(e) == 'table' then
    found.err = rawget(e, 'err')
    found.ignore_error_stats_update = rawget(e, 'ignore_error_stats_update')
    if rawget(e, 'located') and where then
      found.err = format('ERR %s:%d: %s', where.short_src, where.currentline, sub(found.err, 5))
    end
  else
    found.err = 'ERR ' .. tostring(e)
  end
  if where then
    found.source, found.line = where.source, where.currentline
  end
  return found
end

local function bad_argument(number, name, message)
  error(format("bad argument #%d to '%s' (%s)", number, name, message), 3)
end

local function check_table(count, value, name)
  if type(value) ~= 'table' then
    local got = count == 0 and 'no value' or type(value)
    error(format("bad argument #1 to '%s' (table expected, got %s)", name, got), 3)
  end
end

-- -------------------------------------------------------------- the time it takes

local interrupt
local is_dying = false

local function die()
  local reason = getinfo(2, 'S').source ~= CHUNK and host.tick()
  if reason then
    error({err = reason})
  end
end

function interrupt()
  local reason = host.tick()
  if reason then
    is_dying = true
    sethook(die, 'l')
    error({err = reason})
  end
end

sethook(interrupt, '', COUNT)

-- What a run may have left behind.
local function clean_up()
  sweep()
  if is_dying then
    is_dying = false
    sethook(interrupt, '', COUNT)
  end
end

-- --------------------------------------------------------- functions of Lua, held in

local globals   -- what a script sees as _G

-- A chunk as a function, or nil and the error.
local function compile(code, name)
  if byte(code) == 27 then
    return nil, 'binary chunks are not loaded'
  end
  local f, wrong = loadstring(code, name)
  if f then
    setfenv(f, globals)
  end
  return f, wrong
end

local real = {
  _VERSION = _VERSION, assert = assert, error = error, gcinfo = gcinfo, ipairs = ipairs,
  rawequal = rawequal, select = select, tonumber = tonumber, tostring = tostring, type = type,
  unpack = unpack, getmetatable = getmetatable,
}

local function see_next(...)
  local t, key = ...
  check_table(select('#', ...), t, 'next')
  return next(hidden[t] or t, key)
end

real.next = see_next

function real.pairs(...)
  local t = ...
  check_table(select('#', ...), t, 'pairs')
  if hidden[t] then
    return see_next, t, nil
  end
  return next, t, nil
end

function real.rawget(...)
  local t, key = ...
  check_table(select('#', ...), t, 'rawget')
  return rawget(hidden[t] or t, key)
end

function real.rawset(...)
  local t, key, value = ...
  check_table(select('#', ...), t, 'rawset')
  if hidden[t] then
    error(READONLY, 0)
  end
  return rawset(t, key, value)
end

function real.setmetatable(...)
  local t, meta = ...
  check_table(select('#', ...), t, 'setmetatable')
  if hidden[t] then
    error(READONLY, 0)
  end
  if type(meta) ~= 'table' and type(meta) ~= 'nil' then
    bad_argument(2, 'setmetatable', 'nil or table expected')
  end
  return setmetatable(t, meta)
end

function real.collectgarbage(option, argument)
  -- What would last beyond the script does nothing.
  if option == nil or option == 'collect' or option == 'count' or option == 'step' then
    return collectgarbage(option or 'collect', argument)
  end
  return 0
end

function real.loadstring(code, name)
  if type(code) ~= 'string' and type(code) ~= 'number' then
    bad_argument(1, 'loadstring', 'string expected, got ' .. type(code))
  end
  return compile(tostring(code), name or tostring(code))
end

function real.load(reader, name)
  if type(reader) ~= 'function' then
    bad_argument(1, 'load', 'function expected, got ' .. type(reader))
  end
  local pieces = {}
  while true do
    local piece = reader()
    if piece == nil or piece == '' then
      break
    end
    if type(piece) ~= 'string' then
      return nil, 'reader function must return a string'
    end
    pieces[#pieces + 1] = piece
  end
  return real.loadstring(concat(pieces), name or '=(load)')
end

-- As Redis has it: of an error table only the text is given on.
local function caught(ok, e, ...)
  if ok then
    return ok, e, ...
  end
  e = translate(e)
  if type(e) == 'table' then
    local text = rawget(e, 'err')
    if type(text) == 'string' or type(text) == 'number' then
      return false, text
    end
  end
  return false, e
end

function real.pcall(...)
  if select('#', ...) == 0 then
    bad_argument(1, 'pcall', 'value expected')
  end
  return caught(pcall(...))
end

function real.xpcall(f, on_error)
  return xpcall(f, function(e) return on_error(translate(e)) end)
end

local function resumed(ok, e, ...)
  if ok then
    return ok, e, ...
  end
  return ok, translate(e)
end

local routines = {}
for name, f in next, coroutine do
  routines[name] = f
end

function routines.create(f)
  if type(f) ~= 'function' then
    bad_argument(1, 'create', 'Lua function expected')
  end
  local thread = create(f)
  sethook(thread, interrupt, '', COUNT)
  return thread
end

function routines.resume(thread, ...)
  if type(thread) ~= 'thread' then
    bad_argument(1, 'resume', 'coroutine expected')
  end
  return resumed(resume(thread, ...))
end

local function unwrapped(ok, e, ...)
  if ok then
    return e, ...
  end
  e = translate(e)
  error(e, type(e) == 'string' and 3 or 0)
end

local function give(...)
  return ...
end

function routines.wrap(f)
  local thread = routines.create(f)
  return function(...)
    return give(unwrapped(resume(thread, ...)))  -- no tail call: the error's level counts on it
  end
end

local numbers = {}
for name, f in next, math do
  numbers[name] = f
end

numbers.random, numbers.randomseed = host.random, host.randomseed

-- ------------------------------------------------------------------- the redis table

local function with_log(t)
  t.log = host.log
  t.LOG_DEBUG, t.LOG_VERBOSE, t.LOG_NOTICE, t.LOG_WARNING = 0, 1, 2, 3
  t.REDIS_VERSION, t.REDIS_VERSION_NUM = host.version()
  return t
end

local redis = with_log({
  call = host.call, pcall = host.pcall, setresp = host.setresp, sha1hex = host.sha1hex,
  set_repl = host.set_repl, acl_check_cmd = host.acl_check_cmd,
  REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
})

function redis.error_reply(...)
  local text = ...
  if select('#', ...) ~= 1 or type(text) ~= 'string' then
    return {err = 'ERR wrong number or type of arguments'}
  end
  text = gsub(text, '^%-', '')
  local code, message = string.match(text, '^([^ ]*) (.*)$')
  if not code then
    code, message = 'ERR', text
  end
  message = gsub(gsub(message, '^[\r\n]+', ''), '[\r\n]+$', '')
  return {err = code .. ' ' .. message}
end

function redis.status_reply(...)
  local text = ...
  if select('#', ...) ~= 1 or type(text) ~= 'string' then
    return {err = 'ERR wrong number or type of arguments'}
  end
  return {ok = text}
end

if not for_functions then
  function redis.replicate_commands() return true end
  function redis.breakpoint() return false end
  function redis.debug() end
  real.__redis__err__handler = handler
end

-- ----------------------------------------------------------------------- libraries

-- Give (true, results) or (false, error, whether it is to say where).
local function outcome(ok, e, ...)
  if ok then
    return ok, e, ...
  elseif type(e) == 'table' then
    return false, e[1], e[2] ~= 0
  end
  return false, tostring(e), false
end

-- A library of Lua functions as one of C functions (see above for why).
local function as_library(functions)
  local library = {}
  for name, f in next, functions do
    if type(f) == 'function' then
      library[name] = as_function(host.trampoline(function(...) return outcome(pcall(f, ...)) end))
    else
      library[name] = f
    end
  end
  return library
end

-- ------------------------------------------------------------------------- globals

getmetatable('').__metatable = sealed

real.string = freeze(string)
real.table = freeze(table)
real.math = freeze(numbers)
real.coroutine = freeze(routines)
real.bit = freeze(bit)
real.struct = freeze(struct)
real.cjson = freeze(as_library(new_cjson(host, freeze, as_library)))
real.cmsgpack = freeze(as_library(new_cmsgpack(host)))
real.redis = freeze(redis)
setmetatable(real, {__index = nonexistent})

globals = freeze(real)
real._G = globals
local lead = debug.getmetatable(globals)
setfenv(0, {})

-- ----------------------------------------------------------------------- for the host

local sandbox = {}
local encode = new_encode(host)

sandbox.compile = compile

-- Give (0, scalar), (1, reply as RESP), (2, text of an error reply, counted already), or
-- (3, text, source, line, counted already) where the script failed.
function sandbox.run(f, keys, argv, resp)
  local ok, value
  if for_functions then
    ok, value = xpcall(function() return f(keys, argv) end, handler)
  else
    rawset(real, 'KEYS', keys)
    rawset(real, 'ARGV', argv)
    ok, value = xpcall(f, handler)
    rawset(real, 'KEYS', nil)
    rawset(real, 'ARGV', nil)
  end
  clean_up()
  if not ok then
    if type(value) ~= 'table' then
      return 4, tostring(value)
    end
    return 3, value.err, value.source, value.line, value.ignore_error_stats_update == true
  end
  local kind = type(value)
  if kind == 'string' or kind == 'number' or kind == 'nil' then
    return 0, value
  elseif kind == 'boolean' then
    if host.resp() == 2 then
      value = value and 1 or nil
    end
    return 0, value
  elseif kind == 'table' and type(rawget(value, 'err')) == 'string' then
    return 2, rawget(value, 'err'), rawget(value, 'ignore_error_stats_update') == true
  end
  local out = {}
  encode(out, value, resp, 1)
  return 1, concat(out)
end

local register, register_error = new_register(host)

local function late()
  register_error('redis.register_function can only be called on FUNCTION LOAD command')
end

local loading = {}
local at_load = with_log({register_function = function(...)
  return (loading.open and register or late)(...)
end})
setmetatable(at_load, {__index = nonexistent})
local load_globals = setmetatable({redis = freeze(at_load)}, {__index = nonexistent})

-- Run a library's code, which registers its functions; give nil, or the error.
function sandbox.load(f)
  lead.__index, loading.open = load_globals, true
  local ok, e = pcall(f)
  lead.__index, loading.open = real, false
  clean_up()
  if ok then
    return nil
  end
  e = translate(e)
  if type(e) == 'table' then
    return tostring(rawget(e, 'err'))
  end
  return 'ERR ' .. tostring(e)
end

function sandbox.memory()
  return collectgarbage('count') * 1024
end

return sandbox
"""
