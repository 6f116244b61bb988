"""Replies of commands -> Lua values, as redis.call gives them to a script.

    reply              RESP2                    RESP3
    bytes              string                   string
    int                number                   number
    None, NULL_ARRAY   false                    nil
    list, Push         table                    table
    Status             {ok = text}              {ok = text}
    CommandError       {err = text}             {err = text}
    bool               number 1 or 0            boolean
    float, Double      string                   {double = number}
    dict               flat table               {map = table}
    SetReply           table                    {set = {element = true}}
    Verbatim           string                   {verbatim_string = {format, string}}

Source: Redis 7.0 script_lua.c (redisProtocolToLuaType*).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvrepl.errors import CommandError
from kvrepl.numbers import format_double
from kvrepl.resp import ReplyParser
from kvrepl.resp.values import (
    NO_REPLY,
    NULL_ARRAY,
    Double,
    Encoded,
    Reply,
    SetReply,
    Status,
    Verbatim,
)

Table = Callable[[Any], Any]
"""Makes a Lua table of a list or a dict."""


def to_lua(value: Reply, resp: int, table: Table) -> Any:
    """Convert one reply. O(size).

    Args:
        value: what the handler returned.
        resp: the protocol that the script asked for with redis.setresp.
        table: makes tables of the state that the script runs in.

    Raises:
        TypeError: the value has no form in Lua.
    """
    kind = type(value)
    if kind is bytes or kind is int:
        return value
    if value is None or value is NULL_ARRAY or value is NO_REPLY:
        return False if resp == 2 else None
    if kind is Status:
        return table({b"ok": value.text})
    if kind is CommandError:
        return error_table(value.text, table)
    if resp == 3:
        found = _resp3(value, table)
        if found is not None:
            return found
    if isinstance(value, dict):
        value = [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        return table([to_lua(each, resp, table) for each in value])
    if kind is bool:
        return int(value)
    if kind is float:
        return format_double(value)
    if kind is Double or kind is Verbatim:
        return value.text
    if isinstance(value, (bytearray, bytes)):
        return bytes(value)
    if isinstance(value, int):
        return int(value)
    if kind is Encoded:
        return to_lua(_decoded(value), resp, table)
    raise TypeError(f"{kind.__name__} has no form in Lua")


def error_table(text: bytes, table: Table) -> Any:
    """An error that a command replied with; its count is taken already."""
    return table({b"err": text, b"ignore_error_stats_update": True})


def _resp3(value: Reply, table: Table) -> Any:
    """The values that only RESP3 knows; None for any other."""
    kind = type(value)
    if kind is bool:
        return value
    if kind is float or kind is Double:
        number = value if kind is float else float(value.text)
        return table({b"double": number})
    if isinstance(value, dict):
        content = {to_lua(k, 3, table): to_lua(v, 3, table) for k, v in value.items()}
        return table({b"map": table(content)})
    if kind is SetReply:
        return table({b"set": table({to_lua(each, 3, table): True for each in value})})
    if kind is Verbatim:
        parts = table({b"format": value.format, b"string": value.text})
        return table({b"verbatim_string": parts})
    return None


def _decoded(value: Encoded) -> Reply:
    parser = ReplyParser()
    (reply,) = parser.feed(value.wire)
    return reply
