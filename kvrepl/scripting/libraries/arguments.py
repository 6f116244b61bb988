"""Arguments of library functions, checked as Lua's own C functions check theirs.

Source: Lua 5.1 lauxlib.c (luaL_checknumber, luaL_checklstring, luaL_typerror).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ArgumentError(Exception):
    """A library function was called wrongly.

    Args:
        text: as Lua words it, without the place.
    """

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def bad_argument(name: bytes, position: int, reason: bytes) -> ArgumentError:
    """The error for the argument at a position, counted from 1."""
    return ArgumentError(b"bad argument #%d to '%b' (%b)" % (position, name, reason))


def type_name(arguments: Sequence[Any], position: int) -> bytes:
    """What Lua calls the type of an argument."""
    if position > len(arguments):
        return b"no value"
    value = arguments[position - 1]
    if value is None:
        return b"nil"
    if isinstance(value, bool):
        return b"boolean"
    if isinstance(value, (int, float)):
        return b"number"
    if isinstance(value, bytes):
        return b"string"
    kind = type(value).__name__
    return {"_LuaTable": b"table", "_LuaFunction": b"function"}.get(kind, b"userdata")


def number_at(name: bytes, arguments: Sequence[Any], position: int) -> int | float:
    """A number, or a string that reads as one."""
    value = arguments[position - 1] if position <= len(arguments) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, bytes):
        try:
            return float(value) if b"_" not in value else _no_number()
        except ValueError:
            try:
                return int(value, 16)
            except ValueError:
                pass
    raise bad_argument(name, position, b"number expected, got " + type_name(arguments, position))


def _no_number() -> float:
    raise ValueError


def text_at(name: bytes, arguments: Sequence[Any], position: int) -> bytes:
    """A string, or a number as Lua prints it."""
    value = arguments[position - 1] if position <= len(arguments) else None
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return b"%.14g" % value
    raise bad_argument(name, position, b"string expected, got " + type_name(arguments, position))


def integer_at(name: bytes, arguments: Sequence[Any], position: int, default: int | None) -> int:
    """A number cut to an integer; the default, if there is one, where it is not given."""
    if default is not None and (position > len(arguments) or arguments[position - 1] is None):
        return default
    value = number_at(name, arguments, position)
    if isinstance(value, float) and not abs(value) < 2.0**63:
        return -(1 << 63)
    return int(value)
