"""One Lua state: chunks are compiled and run in it, closed in by `kvrepl.scripting.sandbox`.

What a run returns crosses as scalars and bytes; tables are made RESP on the Lua side. The other
way, keys, arguments and replies become Lua tables here, and no Python object is ever handed to
Lua but the functions of `Api`, each wrapped as a C function.

Source: Redis 7.0 script_lua.c (luaCallFunction, luaRegisterRedisAPI).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from kvrepl.errors import CommandError
from kvrepl.resp.values import Encoded, Reply
from kvrepl.scripting import registration, replies
from kvrepl.scripting.libraries import bits, cjson, cmsgpack, structs
from kvrepl.scripting.libraries.arguments import ArgumentError
from kvrepl.scripting.sandbox import CHUNK, SANDBOX

try:
    from lupa.lua51 import LuaRuntime
except ImportError:
    LuaRuntime = None

AVAILABLE: Final = LuaRuntime is not None
"""Whether there is a Lua at all."""

INT64_MIN: Final = -(1 << 63)

_AS_C_FUNCTIONS: Final = b"""
local wrap, functions = python.as_function, ...
local wrapped = {}
for name, f in pairs(functions) do wrapped[name] = wrap(f) end
return wrapped
"""

_SCALAR, _RESP, _ERROR, _FAILED = range(4)


class ScriptError(Exception):
    """Raised by a function of the host: an error inside the script.

    Args:
        text: the error, its code first.
        counted: whether INFO errorstats has counted it.
        located: whether the line is to be put before the text, as Lua does it.
    """

    def __init__(self, text: bytes, *, counted: bool = False, located: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.counted = counted
        self.located = located


class Interpreter:
    """A Lua state.

    Args:
        functions: what the host offers, by name; the sandbox says which there must be.
        for_libraries: whether it runs functions of libraries instead of scripts of EVAL.
    """

    def __init__(
        self, functions: dict[bytes, Callable[..., Any]], *, for_libraries: bool = False
    ) -> None:
        self._lua = LuaRuntime(
            encoding=None,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            attribute_filter=_refuse_attribute,
        )
        host = dict(functions)
        host[b"translate"] = self._translate
        host[b"trampoline"] = _trampoline
        host.update(cmsgpack.HOST)
        wrap = self._lua.compile(_AS_C_FUNCTIONS)
        sandbox = self._compile(SANDBOX)(
            wrap(self._lua.table_from(host)),
            for_libraries,
            self._compile(replies.LUA),
            self._compile(registration.LUA),
            self._compile(cjson.LUA),
            self._compile(cmsgpack.LUA),
            wrap(self._lua.table_from(_library(bits.FUNCTIONS))),
            wrap(self._lua.table_from(_library(structs.FUNCTIONS))),
            self._lua.compile(b"return python.as_function")(),
        )
        self._compile_chunk: Any = sandbox[b"compile"]
        self._run: Any = sandbox[b"run"]
        self._load: Any = sandbox[b"load"]
        self._memory: Any = sandbox[b"memory"]

    def _compile(self, code: bytes) -> Any:
        return self._lua.compile(code, name=CHUNK)

    def table(self, content: Sequence[Any] | dict[bytes, Any]) -> Any:
        """A new Lua table out of values that Lua has as well. O(elements)."""
        return self._lua.table_from(content)

    def compile(self, code: bytes, name: bytes) -> Any:
        """Compile a chunk.

        Returns:
            The Lua function, or the error as bytes.
        """
        chunk, error = self._compile_chunk(code, name)
        return error if chunk is None else chunk

    def run(
        self, chunk: Any, name: bytes, keys: Sequence[bytes], arguments: Sequence[bytes], resp: int
    ) -> tuple[Reply, bool]:
        """Run a function with KEYS and ARGV.

        Args:
            chunk: what `compile` or the registration of a function gave.
            name: how errors call it.
            keys, arguments: of the script.
            resp: the protocol of whoever called.

        Returns:
            The reply, a CommandError where there was an error, and whether that was counted.
        """
        found = self._run(chunk, self.table(keys), self.table(arguments), resp)
        kind, *values = found
        if kind == _SCALAR:
            value = values[0] if values else None
            return (_truncated(value) if type(value) is float else value), False
        if kind == _RESP:
            return Encoded(values[0]), False
        if kind == _ERROR:
            return CommandError(_c_string(values[0])), values[1]
        if kind == _FAILED:
            text, source, line, counted = values
            if not isinstance(text, bytes):
                text = b"ERR the script raised an error without a text"
            text = _c_string(text)
            if source is not None:
                text += b" script: %b, on %b:%d." % (name, source, line)
            return CommandError(text), counted
        return CommandError(b"ERR Error running script %b, %b" % (name, values[0][:100])), False

    def load(self, chunk: Any) -> bytes | None:
        """Run the code of a library, which registers its functions.

        Returns:
            None, or the error.
        """
        error: bytes | None = self._load(chunk)
        return error

    def memory_bytes(self) -> int:
        """Bytes that Lua has allocated."""
        return int(self._memory())

    def _translate(self, error: object) -> Any:
        """An exception of ours that Lua caught, as a table."""
        if isinstance(error, ScriptError):
            error.__traceback__ = error.__context__ = None
            found: dict[bytes, Any] = {b"err": error.text}
            if error.counted:
                found[b"ignore_error_stats_update"] = True
            if error.located:
                found[b"located"] = True
            return self.table(found)
        if isinstance(error, BaseException):
            return self.table({b"err": b"ERR internal error"})
        return None


def _refuse_attribute(instance: object, name: object, is_setting: bool) -> str:
    raise AttributeError("scripts see no Python object")


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a library's error as the script is to see it."""

    def checked(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ArgumentError as error:
            raise ScriptError(b"ERR " + error.text, located=True) from None

    return checked


def _trampoline(function: Any) -> Callable[..., Any]:
    """A Lua function that gives (true, results) or (false, error, located), as a C function.

    The values pass by reference: nothing here looks into a table.
    """

    def trampoline(*arguments: Any) -> Any:
        ok, *results = function(*arguments)
        if ok:
            return tuple(results)
        raise ScriptError(b"ERR " + results[0], located=results[1])

    return trampoline


def _library(functions: dict[bytes, Callable[..., Any]]) -> dict[bytes, Callable[..., Any]]:
    return {name: guarded(each) for name, each in functions.items()}


def _truncated(number: float) -> int:
    """A double as C makes it a 64-bit integer: what does not fit is the least one."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else INT64_MIN


def _c_string(text: bytes) -> bytes:
    return text.partition(b"\0")[0]
