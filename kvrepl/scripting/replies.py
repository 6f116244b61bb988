"""Lua values -> the reply of a script, as RESP; written in Lua, for it walks tables.

    string, number     bulk string; integer, cut towards zero
    true, false        1 and null; with redis.setresp(3) booleans
    nil, others        null
    {err = text}       error; it is counted, unless it came from a command
    {ok = text}        simple string
    {double = n}, {big_number = text}, {verbatim_string = {format, string}}, {map = t}, {set = t}
                       what RESP3 has for them, or what stands for it in RESP2
    any other table    array, up to the first nil

Metatables are not asked. Line ends in errors and simple strings become blanks.

Source: Redis 7.0 script_lua.c (luaReplyToRedisReply).
"""

from __future__ import annotations

from typing import Final

LUA: Final = rb"""
local host = ...
local format, gsub, sub = string.format, string.gsub, string.sub
local next, rawget, type = next, rawget, type

local function bulk(text)
  return '$' .. #text .. '\r\n' .. text .. '\r\n'
end

local MAX_DEPTH = 7995   -- where Redis finds its stack of 8000 values full

local function encode(out, value, resp, depth)
  local kind = type(value)
  if depth > MAX_DEPTH then
    out[#out + 1] = '-ERR reached lua stack limit\r\n'
  elseif kind == 'string' then
    out[#out + 1] = bulk(value)
  elseif kind == 'number' then
    out[#out + 1] = format(':%d\r\n', value)
  elseif kind == 'boolean' then
    if host.resp() == 2 then
      out[#out + 1] = value and ':1\r\n' or (resp == 2 and '$-1\r\n' or '_\r\n')
    elseif resp == 2 then
      out[#out + 1] = value and ':1\r\n' or ':0\r\n'
    else
      out[#out + 1] = value and '#t\r\n' or '#f\r\n'
    end
  elseif kind ~= 'table' then
    out[#out + 1] = resp == 2 and '$-1\r\n' or '_\r\n'
  else
    local text = rawget(value, 'err')
    if type(text) == 'string' then
      host.count_error(text, rawget(value, 'ignore_error_stats_update') == true)
      out[#out + 1] = '-' .. gsub(gsub(text, '%z.*', ''), '[\r\n]', ' ') .. '\r\n'
      return
    end
    text = rawget(value, 'ok')
    if type(text) == 'string' then
      out[#out + 1] = '+' .. gsub(gsub(text, '%z.*', ''), '[\r\n]', ' ') .. '\r\n'
      return
    end
    local number = rawget(value, 'double')
    if type(number) == 'number' then
      text = format('%.17g', number)
      out[#out + 1] = resp == 2 and bulk(text) or ',' .. text .. '\r\n'
      return
    end
    text = rawget(value, 'big_number')
    if type(text) == 'string' then
      text = gsub(text, '[\r\n]', ' ')
      out[#out + 1] = resp == 2 and bulk(text) or '(' .. text .. '\r\n'
      return
    end
    local verbatim = rawget(value, 'verbatim_string')
    if type(verbatim) == 'table' then
      local form, content = rawget(verbatim, 'format'), rawget(verbatim, 'string')
      if type(form) == 'string' and type(content) == 'string' then
        if resp == 3 then
          content = sub(form .. '   ', 1, 3) .. ':' .. content
        end
        out[#out + 1] = resp == 2 and bulk(content) or '=' .. sub(bulk(content), 2)
        return
      end
    end
    local place, count = #out + 1, 0
    local map, set = rawget(value, 'map'), rawget(value, 'set')
    out[place] = ''
    if type(map) == 'table' then
      for k, v in next, map do
        encode(out, k, resp, depth + 4)
        encode(out, v, resp, depth + 3)
        count = count + 1
      end
      out[place] = resp == 2 and format('*%d\r\n', count * 2) or format('%%%d\r\n', count)
    elseif type(set) == 'table' then
      for k in next, set do
        encode(out, k, resp, depth + 3)
        count = count + 1
      end
      out[place] = format(resp == 2 and '*%d\r\n' or '~%d\r\n', count)
    else
      local element = rawget(value, 1)
      while element ~= nil do
        encode(out, element, resp, depth + 1)
        count = count + 1
        element = rawget(value, count + 1)
      end
      out[place] = format('*%d\r\n', count)
    end
  end
end

return encode
"""
