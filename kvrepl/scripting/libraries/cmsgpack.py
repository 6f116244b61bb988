"""The library `cmsgpack`: MessagePack, of Lua values; written in Lua, for it walks tables.

    nil, booleans              as such; functions and userdata as nil
    numbers that are integers  the shortest integer form; others float where exact, else double
    strings                    str 8/16/32 (fixstr up to 31 bytes); bin and ext are not read
    tables                     an array where the keys are exactly 1..n (an empty table, too),
                               else a map, in the order of `next`; deeper than 16 tables: nil

Integers of 64 bits and floating point numbers are made of bytes, and back, by `HOST`.

Source: lua-cmsgpack 0.4.0, its documentation (deps/lua/src/lua_cmsgpack.c in Redis 7.0);
the MessagePack specification.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final


def packed_number(number: int | float) -> bytes:
    """A number in the shortest form; integers beyond 32 bits, and floating point."""
    if isinstance(number, float) and number.is_integer() and -(2.0**63) <= number < 2.0**63:
        number = int(number)
    if isinstance(number, int):
        if number < 0:
            return b"\xd3" + struct.pack(">q", number)
        return b"\xcf" + struct.pack(">Q", number)
    try:
        single = struct.pack(">f", number)
    except OverflowError:
        return b"\xcb" + struct.pack(">d", number)
    if struct.unpack(">f", single)[0] == number:
        return b"\xca" + single
    return b"\xcb" + struct.pack(">d", number)


def unpacked_number(form: bytes, data: bytes) -> float:
    """A number out of its bytes, by its form in the language of struct."""
    return float(struct.unpack(b">" + form, data)[0])


HOST: Final[dict[bytes, Callable[..., Any]]] = {
    b"msgpack_number": packed_number,
    b"msgpack_unnumber": unpacked_number,
}

LUA: Final = rb"""
local host = ...
local byte, char, format, sub = string.byte, string.char, string.format, string.sub
local concat, floor, unpack = table.concat, math.floor, unpack
local error, next, select, tonumber, tostring, type = error, next, select, tonumber, tostring, type
local MAX_NESTING = 16

local function big(n, count)
  local out = {}
  for i = count, 1, -1 do
    out[i] = char(n % 256)
    n = floor(n / 256)
  end
  return concat(out)
end

local function pack_size(n, short, limit, codes)
  if n <= limit then
    return char(short + n)
  elseif n <= 0xff and codes[1] then
    return char(codes[1], n)
  elseif n <= 0xffff then
    return char(codes[2]) .. big(n, 2)
  end
  return char(codes[3]) .. big(n, 4)
end

local function pack_number(n)
  if n ~= floor(n) or n >= 4294967296 or n < -2147483648 then
    return host.msgpack_number(n)
  elseif n >= 0 then
    if n <= 127 then return char(n) end
    if n <= 0xff then return char(0xcc, n) end
    if n <= 0xffff then return char(0xcd) .. big(n, 2) end
    return char(0xce) .. big(n, 4)
  end
  if n >= -32 then return char(256 + n) end
  if n >= -128 then return char(0xd0, 256 + n) end
  if n >= -32768 then return char(0xd1) .. big(n + 65536, 2) end
  return char(0xd2) .. big(n + 4294967296, 4)
end

local STRINGS, ARRAYS, MAPS = {0xd9, 0xda, 0xdb}, {nil, 0xdc, 0xdd}, {nil, 0xde, 0xdf}

local function is_array(t)
  local count, max = 0, 0
  for key in next, t do
    if type(key) ~= 'number' or key <= 0 or key ~= floor(key) then
      return false
    end
    count = count + 1
    if key > max then max = key end
  end
  return max == count, count
end

local function pack(out, value, level)
  local kind = type(value)
  if kind == 'table' and level == MAX_NESTING then
    kind = 'nil'
  end
  if kind == 'string' then
    out[#out + 1] = pack_size(#value, 0xa0, 31, STRINGS)
    out[#out + 1] = value
  elseif kind == 'boolean' then
    out[#out + 1] = value and '\195' or '\194'
  elseif kind == 'number' then
    out[#out + 1] = pack_number(value)
  elseif kind == 'table' then
    local array, count = is_array(value)
    if array then
      out[#out + 1] = pack_size(count, 0x90, 15, ARRAYS)
      for i = 1, count do
        pack(out, value[i], level + 1)
      end
    else
      count = 0
      for _ in next, value do count = count + 1 end
      out[#out + 1] = pack_size(count, 0x80, 15, MAPS)
      for k, v in next, value do
        pack(out, k, level + 1)
        pack(out, v, level + 1)
      end
    end
  else
    out[#out + 1] = '\192'
  end
end

local MISSING, BAD = 'Missing bytes in input.', 'Bad data format in input.'
local INTEGERS = {[0xcc] = 1, [0xcd] = 2, [0xce] = 4, [0xcf] = 8, [0xd0] = 1, [0xd1] = 2,
  [0xd2] = 4, [0xd3] = 8}
local FORMS = {[0xcf] = 'Q', [0xd0] = 'b', [0xd1] = 'h', [0xd2] = 'i', [0xd3] = 'q',
  [0xca] = 'f', [0xcb] = 'd'}
local SIZES = {[0xd9] = 1, [0xda] = 2, [0xdb] = 4,
  [0xdc] = 2, [0xdd] = 4, [0xde] = 2, [0xdf] = 4}

local function need(data, at, count)
  if #data - at + 1 < count then
    error({MISSING})
  end
end

local function number_of(data, at, count)
  need(data, at, count)
  local n = 0
  for i = at, at + count - 1 do
    n = n * 256 + byte(data, i)
  end
  return n
end

local read

local function read_array(data, at, count)
  local t = {}
  for i = 1, count do
    t[i], at = read(data, at)
  end
  return t, at
end

local function read_map(data, at, count)
  local t = {}
  for _ = 1, count do
    local k, v
    k, at = read(data, at)
    v, at = read(data, at)
    if k == nil or k ~= k then
      error({'table index is ' .. (k == nil and 'nil' or 'NaN'), 0})
    end
    t[k] = v
  end
  return t, at
end

local function read_string(data, at, count)
  need(data, at, count)
  return sub(data, at, at + count - 1), at + count
end

function read(data, at)
  need(data, at, 1)
  local code = byte(data, at)
  at = at + 1
  if code < 0x80 then return code, at end
  if code >= 0xe0 then return code - 256, at end
  if code < 0x90 then return read_map(data, at, code - 0x80) end
  if code < 0xa0 then return read_array(data, at, code - 0x90) end
  if code < 0xc0 then return read_string(data, at, code - 0xa0) end
  if code == 0xc0 then return nil, at end
  if code == 0xc2 then return false, at end
  if code == 0xc3 then return true, at end
  local form = FORMS[code]
  if form then
    local count = INTEGERS[code] or (code == 0xca and 4 or 8)
    need(data, at, count)
    return host.msgpack_unnumber(form, sub(data, at, at + count - 1)), at + count
  elseif INTEGERS[code] then
    return number_of(data, at, INTEGERS[code]), at + INTEGERS[code]
  end
  local width = SIZES[code]
  if not width then
    error({BAD})
  end
  local count = number_of(data, at, width)
  at = at + width
  if code >= 0xde then return read_map(data, at, count) end
  if code >= 0xdc then return read_array(data, at, count) end
  return read_string(data, at, count)
end

-- Values from an offset on, as many as asked for or all, and the offset behind them.
local function read_some(data, offset, limit, all)
  local values, count, at = {}, 0, offset + 1
  while at <= #data and (all or count < limit) do
    count = count + 1
    values[count], at = read(data, at)
  end
  return values, count, at - 1
end

local function text_of(value, name)
  if type(value) ~= 'string' and type(value) ~= 'number' then
    error({format("bad argument #1 to '%s' (string expected, got %s)", name,
      value == nil and 'no value' or type(value))})
  end
  return tostring(value)
end

local function integer_of(value, position, name, default)
  if value == nil and default then
    return default
  end
  local n = tonumber(value)
  if not n then
    error({format("bad argument #%d to '%s' (number expected, got %s)", position, name,
      value == nil and 'no value' or type(value))})
  end
  return n < 0 and -floor(-n) or floor(n)
end

local function unpack_some(data, limit, offset)
  if offset < 0 or limit < 0 then
    error({format('Invalid request to unpack with offset of %d and limit of %d.', offset, #data)})
  elseif offset > #data then
    error({format('Start offset %d greater than input length %d.', offset, #data)})
  end
  local all = limit == 0 and offset == 0
  local values, count, stop = read_some(data, offset, limit, all)
  if all then
    return unpack(values, 1, count)
  end
  return stop < #data and stop or -1, unpack(values, 1, count)
end

local cmsgpack = {
  _NAME = 'cmsgpack', _VERSION = 'lua-cmsgpack 0.4.0',
  _COPYRIGHT = 'Copyright (C) 2012, Salvatore Sanfilippo',
  _DESCRIPTION = 'MessagePack C implementation for Lua',
}

function cmsgpack.pack(...)
  local count, out = select('#', ...), {}
  if count == 0 then
    error({"bad argument #0 to 'pack' (MessagePack pack needs input.)"})
  end
  for i = 1, count do
    pack(out, (select(i, ...)), 0)
  end
  return concat(out)
end

function cmsgpack.unpack(data)
  return unpack_some(text_of(data, 'unpack'), 0, 0)
end

function cmsgpack.unpack_one(data, offset)
  return unpack_some(text_of(data, 'unpack_one'), 1, integer_of(offset, 2, 'unpack_one', 0))
end

function cmsgpack.unpack_limit(data, limit, offset)
  return unpack_some(text_of(data, 'unpack_limit'), integer_of(limit, 2, 'unpack_limit'),
    integer_of(offset, 3, 'unpack_limit', 0))
end

return cmsgpack
"""
