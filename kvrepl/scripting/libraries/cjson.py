"""The library `cjson`: JSON, of Lua values; written in Lua, for it walks tables.

    encode    numbers with 14 digits; "/" as "\\/"; a table is an array where its keys are positive
              integers, not too sparse, else an object in the order of `next`; cjson.null is null
    decode    null is cjson.null, whose identity is all it has; numbers are doubles

The limits (depth, sparseness, precision, whether nan and inf pass) are set by functions of the
library and hold for the state, as in Redis.

Source: lua-cjson 2.1.0, its documentation (deps/lua/src/lua_cjson.c in Redis 7.0); RFC 8259.
"""

from __future__ import annotations

from typing import Final

LUA: Final = rb"""
local host, freeze, as_library = ...
local byte, char, concat, find = string.byte, string.char, table.concat, string.find
local floor = math.floor
local format, gsub, sub, match = string.format, string.gsub, string.sub, string.match
local error, next, rawget, select = error, next, rawget, select
local tonumber, tostring, type, huge = tonumber, tostring, type, math.huge

local null = newproxy()

local ESCAPES = {['"'] = '\\"', ['\\'] = '\\\\', ['/'] = '\\/', ['\b'] = '\\b', ['\t'] = '\\t',
  ['\n'] = '\\n', ['\f'] = '\\f', ['\r'] = '\\r', ['\127'] = '\\u007f'}
for code = 0, 31 do
  local c = char(code)
  ESCAPES[c] = ESCAPES[c] or format('\\u%04x', code)
end

local new

function new()
  local sparse_convert, sparse_ratio, sparse_safe = false, 2, 10
  local encode_depth, decode_depth, keep_buffer = 1000, 1000, true
  local number_format, precision = '%.14g', 14
  local encode_invalid, decode_invalid = false, true

  -- ------------------------------------------------------------------- encode

  local function refuse(kind, reason)
    error({format('Cannot serialise %s: %s', kind, reason)})
  end

  local function number_text(n)
    if n ~= n or n == huge or n == -huge then
      if encode_invalid == 'null' then
        return 'null'
      elseif not encode_invalid then
        refuse('number', 'must not be NaN or Inf')
      end
      return n ~= n and 'nan' or (n > 0 and 'inf' or '-inf')
    end
    return format(number_format, n)
  end

  local function string_text(s)
    return '"' .. gsub(s, '[%z\1-\31"\\/\127]', ESCAPES) .. '"'
  end

  -- The length of an array, or nil where a table is none.
  local function array_length(t)
    local max, items = 0, 0
    for key in next, t do
      if type(key) ~= 'number' or key < 1 or key ~= floor(key) then
        return nil
      end
      items = items + 1
      if key > max then max = key end
    end
    if sparse_ratio > 0 and max > items * sparse_ratio and max > sparse_safe then
      if not sparse_convert then
        refuse('table', 'excessively sparse array')
      end
      return nil
    end
    return max > 0 and max or nil
  end

  local function append(out, value, depth)
    local kind = type(value)
    if kind == 'string' then
      out[#out + 1] = string_text(value)
    elseif kind == 'number' then
      out[#out + 1] = number_text(value)
    elseif kind == 'boolean' then
      out[#out + 1] = value and 'true' or 'false'
    elseif kind == 'nil' or value == null then
      out[#out + 1] = 'null'
    elseif kind == 'table' then
      depth = depth + 1
      if depth > encode_depth then
        error({format('Cannot serialise, excessive nesting (%d)', depth)})
      end
      local length = array_length(value)
      if length then
        out[#out + 1] = '['
        for i = 1, length do
          if i > 1 then out[#out + 1] = ',' end
          append(out, rawget(value, i), depth)
        end
        out[#out + 1] = ']'
        return
      end
      out[#out + 1] = '{'
      local first = true
      for key, each in next, value do
        if not first then out[#out + 1] = ',' end
        first = false
        if type(key) == 'number' then
          out[#out + 1] = '"' .. number_text(key) .. '":'
        elseif type(key) == 'string' then
          out[#out + 1] = string_text(key) .. ':'
        else
          refuse(type(key), 'table key must be a number or string')
        end
        append(out, each, depth)
      end
      out[#out + 1] = '}'
    else
      refuse(kind, 'type not supported')
    end
  end

  -- ------------------------------------------------------------------- decode

  local text, at

  local function expected(what, found, where)
    error({format('Expected %s but found %s at character %d', what, found, where)})
  end

  local UNESCAPES = {b = '\b', t = '\t', n = '\n', f = '\f', r = '\r', ['"'] = '"', ['\\'] = '\\',
    ['/'] = '/'}

  local function utf8(code)
    if code < 0x80 then return char(code) end
    if code < 0x800 then return char(0xc0 + floor(code / 64), 0x80 + code % 64) end
    if code < 0x10000 then
      return char(0xe0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(0xf0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64,
      0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end

  local function unicode(from)
    local digits = match(text, '^u(%x%x%x%x)', from)
    return digits and tonumber(digits, 16)
  end

  -- The string that opens at `start`: its value, or nil and what is wrong where.
  local function scan_string(start)
    local from, parts = start + 1, {}
    while true do
      local stop = find(text, '["\\%z]', from)
      if not stop or byte(text, stop) == 0 then
        return nil, 'unexpected end of string', stop or #text + 1
      end
      parts[#parts + 1] = sub(text, from, stop - 1)
      if byte(text, stop) == 34 then
        at = stop + 1
        return concat(parts)
      end
      local c = sub(text, stop + 1, stop + 1)
      local plain = UNESCAPES[c]
      if plain then
        parts[#parts + 1] = plain
        from = stop + 2
      elseif c == 'u' then
        local code, size = unicode(stop + 1), 6
        if code and code >= 0xd800 and code < 0xe000 then
          local low = code < 0xdc00 and sub(text, stop + 6, stop + 6) == '\\' and unicode(stop + 7)
          if low and low >= 0xdc00 and low < 0xe000 then
            code, size = 0x10000 + (code - 0xd800) * 1024 + low - 0xdc00, 12
          else
            code = nil
          end
        end
        if not code then
          return nil, 'invalid unicode escape code', stop
        end
        parts[#parts + 1] = utf8(code)
        from = stop + size
      else
        return nil, 'invalid escape code', stop
      end
    end
  end

  local NAMES = {['{'] = 'T_OBJ_BEGIN', ['}'] = 'T_OBJ_END', ['['] = 'T_ARR_BEGIN',
    [']'] = 'T_ARR_END', [','] = 'T_COMMA', [':'] = 'T_COLON'}
  local WORDS = {['true'] = true, ['false'] = false}
  local NAN = -(0/0)   -- positive: the sign is printed

  local function scan_number(start)
    local first = match(text, '^[+-]?[iInN]', start)
    if first then
      local word = string.lower(match(text, '^[+-]?(%a+)', start))
      local sign = sub(text, start, start) == '-' and -1 or 1
      local size = #first - 1
      if sub(word, 1, 8) == 'infinity' then
        return sign * huge, start + size + 8
      elseif sub(word, 1, 3) == 'inf' then
        return sign * huge, start + size + 3
      elseif sub(word, 1, 3) == 'nan' then
        return NAN, start + size + 3
      end
      return nil
    end
    local _, stop = find(text, '^[+-]?0[xX]%x+', start)
    if not stop then
      _, stop = find(text, '^[+-]?%d+%.?%d*', start)
      if not stop then
        _, stop = find(text, '^[+-]?%.%d+', start)
      end
      if not stop then
        return nil
      end
      local _, longer = find(text, '^[eE][+-]?%d+', stop + 1)
      stop = longer or stop
    end
    local digits = gsub(sub(text, start, stop), '^%+', '')
    local sign = 1
    if find(digits, '^%-0[xX]') then
      sign, digits = -1, sub(digits, 2)
    end
    return sign * tonumber(digits), stop + 1
  end

  -- The next token: its name, its value, where it begins.
  local function token()
    local start = find(text, '[^ \t\n\r]', at)
    if not start then
      at = #text + 1
      return 'T_END', nil, at
    end
    local c = sub(text, start, start)
    local name = NAMES[c]
    if name then
      at = start + 1
      return name, nil, start
    elseif c == '"' then
      local value, wrong, where = scan_string(start)
      if value then
        return 'T_STRING', value, start
      end
      return 'T_ERROR', wrong, where
    elseif c == '\0' then
      if start <= #text then
        return 'T_ERROR', 'invalid token', start
      end
    elseif find(c, '[%d%-]') or (decode_invalid and find(c, '[iInN+]')) then
      local word = match(text, '^null', start)
      if word then
        at = start + 4
        return 'T_NULL', null, start
      end
      local invalid = find(text, '^%-?0[%dxX]', start) or find(text, '^%-?[iInN]', start)
      if invalid and not decode_invalid then
        return 'T_ERROR', 'invalid number', start
      end
      local value, stop = scan_number(start)
      if not value then
        return 'T_ERROR', find(c, '[%d%-]') and 'invalid number' or 'invalid token', start
      end
      at = stop
      return 'T_NUMBER', value, start
    end
    for word, value in next, WORDS do
      if sub(text, start, start + #word - 1) == word then
        at = start + #word
        return 'T_BOOLEAN', value, start
      end
    end
    return 'T_ERROR', 'invalid token', start
  end

  local function mismatch(what, name, value, where)
    expected(what, name == 'T_ERROR' and value or name, where)
  end

  local process

  local function descend(depth)
    if depth > decode_depth then
      error({format('Found too many nested data structures (%d) at character %d', depth, at - 1)})
    end
  end

  local function read_object(depth)
    descend(depth)
    local t = {}
    local name, key, where = token()
    if name == 'T_OBJ_END' then
      return t
    end
    while true do
      if name ~= 'T_STRING' then
        mismatch('object key string', name, key, where)
      end
      local mark, wrong, place = token()
      if mark ~= 'T_COLON' then
        mismatch('colon', mark, wrong, place)
      end
      local value
      name, value, where = token()
      t[key] = process(name, value, where, depth)
      name, key, where = token()
      if name == 'T_OBJ_END' then
        return t
      elseif name ~= 'T_COMMA' then
        mismatch('comma or object end', name, key, where)
      end
      name, key, where = token()
    end
  end

  local function read_array(depth)
    descend(depth)
    local t, count = {}, 0
    local name, value, where = token()
    if name == 'T_ARR_END' then
      return t
    end
    while true do
      count = count + 1
      t[count] = process(name, value, where, depth)
      name, value, where = token()
      if name == 'T_ARR_END' then
        return t
      elseif name ~= 'T_COMMA' then
        mismatch('comma or array end', name, value, where)
      end
      name, value, where = token()
    end
  end

  function process(name, value, where, depth)
    if name == 'T_STRING' or name == 'T_NUMBER' or name == 'T_BOOLEAN' or name == 'T_NULL' then
      return value
    elseif name == 'T_OBJ_BEGIN' then
      return read_object(depth + 1)
    elseif name == 'T_ARR_BEGIN' then
      return read_array(depth + 1)
    end
    return mismatch('value', name, value, where)
  end

  local function decode_all(json)
    text, at = json, 1
    local name, value, where = token()
    local found = process(name, value, where, 0)
    name, value, where = token()
    if name ~= 'T_END' then
      mismatch('the end', name, value, where)
    end
    return found
  end

  -- ---------------------------------------------------------------- functions

  local cjson = {null = null, _NAME = 'cjson', _VERSION = '2.1.0'}

  function cjson.encode(...)
    if select('#', ...) ~= 1 then
      error({"bad argument #1 to 'encode' (expected 1 argument)"})
    end
    local out = {}
    append(out, (...), 0)
    return concat(out)
  end

  function cjson.decode(...)
    local json = ...
    if select('#', ...) ~= 1 then
      error({"bad argument #1 to 'decode' (expected 1 argument)"})
    elseif type(json) ~= 'string' and type(json) ~= 'number' then
      error({"bad argument #1 to 'decode' (string expected, got " .. type(json) .. ')'})
    end
    json = tostring(json)
    if #json >= 2 and (byte(json, 1) == 0 or byte(json, 2) == 0) then
      error({'JSON parser does not support UTF-16 or UTF-32'})
    end
    return decode_all(json)
  end

  local function option(name, position, value, low, high, old)
    if value == nil then
      return old
    end
    local n = tonumber(value)
    if not n then
      error({format("bad argument #%d to '%s' (number expected, got %s)", position, name,
        type(value))})
    elseif n < low or n > high then
      error({format("bad argument #%d to '%s' (expected integer between %d and %d)", position,
        name, low, high)})
    end
    return floor(n)
  end

  local function choice(name, position, value, words, old)
    if value == nil then
      return old
    elseif type(value) == 'boolean' then
      return value
    elseif words[value] ~= nil then
      return words[value]
    end
    error({format("bad argument #%d to '%s' (invalid option '%s')", position, name,
      tostring(value))})
  end

  local SWITCH = {on = true, off = false}
  local SWITCH_NULL = {on = true, off = false, null = 'null'}

  function cjson.encode_sparse_array(convert, ratio, safe)
    sparse_convert = choice('encode_sparse_array', 1, convert, SWITCH, sparse_convert)
    sparse_ratio = option('encode_sparse_array', 2, ratio, 0, 2147483647, sparse_ratio)
    sparse_safe = option('encode_sparse_array', 3, safe, 0, 2147483647, sparse_safe)
    return sparse_convert, sparse_ratio, sparse_safe
  end

  function cjson.encode_max_depth(depth)
    encode_depth = option('encode_max_depth', 1, depth, 1, 2147483647, encode_depth)
    return encode_depth
  end

  function cjson.decode_max_depth(depth)
    decode_depth = option('decode_max_depth', 1, depth, 1, 2147483647, decode_depth)
    return decode_depth
  end

  function cjson.encode_number_precision(digits)
    precision = option('encode_number_precision', 1, digits, 1, 14, precision)
    number_format = '%.' .. precision .. 'g'
    return precision
  end

  function cjson.encode_keep_buffer(keep)
    keep_buffer = choice('encode_keep_buffer', 1, keep, SWITCH, keep_buffer)
    return keep_buffer
  end

  function cjson.encode_invalid_numbers(setting)
    encode_invalid = choice('encode_invalid_numbers', 1, setting, SWITCH_NULL, encode_invalid)
    return encode_invalid
  end

  function cjson.decode_invalid_numbers(setting)
    decode_invalid = choice('decode_invalid_numbers', 1, setting, SWITCH, decode_invalid)
    return decode_invalid
  end

  cjson.new = function()
    return freeze(as_library(new()))
  end
  return cjson
end

return new()
"""
