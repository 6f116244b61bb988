"""redis.register_function: how a library makes its functions known; written in Lua.

    redis.register_function(name, callback)
    redis.register_function{function_name=, callback=, description=, flags={...}}

What is wrong with the arguments is an error of the library's code, in the order in which Redis
finds it.

Source: Redis 7.0 function_lua.c (luaRegisterFunction).
"""

from __future__ import annotations

from typing import Final

LUA: Final = rb"""
local host = ...
local concat, lower = table.concat, string.lower
local error, ipairs, next, rawget, select, tostring, type =
  error, ipairs, next, rawget, select, tostring, type

local function register_error(message)
  error({err = 'ERR ' .. message})
end

local is_flag = {}
for _, flag in ipairs({host.flags()}) do
  is_flag[flag] = true
end

local function named_arguments(t)
  if type(t) ~= 'table' then
    register_error('calling redis.register_function with a single argument is only applicable to'
      .. ' Lua table (representing named arguments).')
  end
  local name, callback, description, flags
  for key, value in next, t do
    if type(key) ~= 'string' and type(key) ~= 'number' then
      register_error('named argument key given to redis.register_function is not a string')
    end
    local word, kind = lower(key), type(value)
    local is_text = kind == 'string' or kind == 'number'
    if word == 'function_name' then
      if not is_text then
        register_error('function_name argument given to redis.register_function must be a string')
      end
      name = tostring(value)
    elseif word == 'description' then
      if not is_text then
        register_error('description argument given to redis.register_function must be a string')
      end
      description = tostring(value)
    elseif word == 'callback' then
      if kind ~= 'function' then
        register_error('callback argument given to redis.register_function must be a function')
      end
      callback = value
    elseif word == 'flags' then
      if kind ~= 'table' then
        register_error('flags argument to redis.register_function must be a table representing'
          .. ' function flags')
      end
      local list, number = {}, 1
      while rawget(value, number) ~= nil do
        local flag = rawget(value, number)
        flag = type(flag) == 'string' and lower(flag)
        if not is_flag[flag] then
          register_error('unknown flag given')
        end
        list[number] = flag
        number = number + 1
      end
      flags = concat(list, ',')
    else
      register_error('unknown argument given to redis.register_function')
    end
  end
  if not name then
    register_error('redis.register_function must get a function name argument')
  end
  if not callback then
    register_error('redis.register_function must get a callback argument')
  end
  return name, callback, description, flags
end

local function register(...)
  local count = select('#', ...)
  local name, callback, description, flags = ...
  if count < 1 or count > 2 then
    register_error('wrong number of arguments to redis.register_function')
  elseif count == 1 then
    name, callback, description, flags = named_arguments(name)
  elseif type(name) ~= 'string' and type(name) ~= 'number' then
    register_error('first argument to redis.register_function must be a string')
  elseif type(callback) ~= 'function' then
    register_error('second argument to redis.register_function must be a function')
  else
    name, description, flags = tostring(name), nil, nil
  end
  host.register(name, callback, description, flags or '')
end

return register, register_error
"""
