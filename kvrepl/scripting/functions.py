"""The function libraries: what FUNCTION LOAD keeps and FCALL calls.

The code of the libraries (`Engine.function_libraries`) is the truth: it is what is saved,
replicated and dumped. What is compiled from it follows: whoever puts another list there (a load,
a full sync, an emptied dataset) need not know of Lua, for `Functions` compiles anew when it finds
a list that is not the one it made.

All libraries live in one Lua state. A library is loaded into that state by running its code; one
that fails leaves nothing behind but garbage.

Source: Redis 7.0 functions.c, function_lua.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import rdb
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply, SetReply, Status
from kvrepl.scripting import shebang
from kvrepl.scripting.interpreter import Interpreter, ScriptError
from kvrepl.scripting.run import Api, Run
from rdb import constants
from rdb.errors import Incomplete
from rdb.strings import decode_string

if TYPE_CHECKING:
    from kvrepl.engine.dispatch import Engine

ENGINE: Final = b"LUA"
WARNING: Final = 3

NOT_FOUND: Final = CommandError(b"ERR Library not found")
BAD_PAYLOAD: Final = CommandError(b"ERR DUMP payload version or checksum are wrong")
NO_FUNCTIONS: Final = CommandError(b"ERR No functions registered")


class Function:
    """A function of a library.

    Attributes:
        callback: the Lua function.
        flags: what it declared.
    """

    __slots__ = ("callback", "description", "flags", "name")

    def __init__(
        self, name: bytes, callback: Any, description: bytes | None, flags: shebang.Flags
    ) -> None:
        self.name = name
        self.callback = callback
        self.description = description
        self.flags = flags


class Library:
    """A library and its functions.

    Attributes:
        payload: its whole code, with the first line.
    """

    __slots__ = ("functions", "name", "payload")

    def __init__(self, name: bytes, payload: bytes) -> None:
        self.name = name
        self.payload = payload
        self.functions: dict[bytes, Function] = {}


Libraries = dict[bytes, Library]


class Functions:
    """The libraries of one server.

    Args:
        engine: who keeps their code.
        api: makes the functions of `redis` for the Lua state.
        log: writes a line: level, text.
    """

    def __init__(
        self, engine: Engine, api: Callable[[], Api], log: Callable[[int, bytes], None]
    ) -> None:
        self._engine = engine
        self._make_api = api
        self._log = log
        self._compiled_from: list[bytes] | None = None
        self._libraries: Libraries = {}
        self._functions: dict[bytes, Function] = {}
        self._api: Api | None = None

    # ------------------------------------------------------------- the state

    @property
    def libraries(self) -> Libraries:
        """The libraries by name, compiled anew where their code was replaced."""
        if self._compiled_from is not self._engine.function_libraries:
            self._compile_all()
        return self._libraries

    @property
    def api(self) -> Api:
        """The functions behind `redis` in the state of the libraries, which is made when needed."""
        if self._api is None:
            self._api = api = self._make_api()
            api.interpreter = Interpreter(api.functions(), for_libraries=True)
        return self._api

    def memory_bytes(self) -> int:
        """What the Lua state takes."""
        return self._api.interpreter.memory_bytes() if self._api is not None else 0

    def find(self, name: bytes) -> Function | None:
        """The function of that name, None where there is none. O(1)."""
        if self._compiled_from is not self._engine.function_libraries:
            self._compile_all()
        return self._functions.get(name)

    def run(self, run: Run, function: Function, keys: list[bytes], rest: list[bytes]) -> Reply:
        """Call a function.

        Returns:
            The reply, and whether an error in it is counted already.
        """
        api = self.api
        api.run = run
        try:
            return api.interpreter.run(
                function.callback, function.name, keys, rest, run.caller.resp
            )
        finally:
            api.run = None

    def _compile_all(self) -> None:
        """Follow a list of libraries that was put in place of ours."""
        codes = self._engine.function_libraries
        self._libraries, self._functions, self._api = {}, {}, None
        for code in codes:
            try:
                self._add(self._libraries, self._make(code), replace=True)
            except CommandError as error:
                self._log(WARNING, b"A function library cannot be used: " + error.text)
        self._compiled_from = codes
        self._index()

    def _adopt(self, libraries: Libraries) -> None:
        self._libraries = libraries
        self._compiled_from = [each.payload for each in libraries.values()]
        self._engine.function_libraries = self._compiled_from
        self._engine.keyspace.dirty += 1
        self._index()

    def _index(self) -> None:
        self._functions = {
            name: function
            for library in self._libraries.values()
            for name, function in library.functions.items()
        }

    # -------------------------------------------------------------- commands

    def load(self, payload: bytes, *, replace: bool) -> bytes:
        """FUNCTION LOAD: take a library in. O(its code and what that does).

        Returns:
            Its name.

        Raises:
            CommandError: it cannot be; nothing has changed.
        """
        libraries = dict(self.libraries)
        named = shebang.library(payload)
        if named.engine.upper() != ENGINE:
            raise CommandError(b"ERR Engine '%b' not found" % named.engine)
        if named.name in libraries and not replace:
            raise CommandError(b"ERR Library '%b' already exists" % named.name)
        self._add(libraries, self._make(payload), replace=True)
        self._adopt(libraries)
        return named.name

    def delete(self, name: bytes) -> None:
        """FUNCTION DELETE.

        Raises:
            CommandError: there is no such library.
        """
        libraries = dict(self.libraries)
        if libraries.pop(name, None) is None:
            raise NOT_FOUND
        self._adopt(libraries)

    def flush(self) -> None:
        """FUNCTION FLUSH: forget all libraries, and the state they lived in."""
        self._api = None
        self._adopt({})

    def restore(self, payload: bytes, policy: bytes) -> None:
        """FUNCTION RESTORE.

        Args:
            payload: what FUNCTION DUMP gave.
            policy: b"append", b"replace" or b"flush".

        Raises:
            CommandError: the payload is bad, or a library or function of that name exists.
        """
        if not rdb.verify_payload(payload):
            raise BAD_PAYLOAD
        fresh: Libraries = {}
        for code in _codes(payload):
            self._add(fresh, self._make(code), replace=False)
        libraries = {} if policy == b"flush" else dict(self.libraries)
        for library in fresh.values():
            if library.name in libraries:
                if policy != b"replace":
                    raise CommandError(b"ERR Library %b already exists" % library.name)
                del libraries[library.name]
        for library in fresh.values():
            self._add(libraries, library, replace=False)
        self._adopt(libraries)

    def dump(self) -> bytes:
        """FUNCTION DUMP: all libraries, as they stand in an RDB file, sealed. O(code)."""
        compress = self._engine.config.rdbcompression
        codes = self._engine.function_libraries
        body = b"".join(rdb.encode_function(code, compress) for code in codes)
        body += constants.WRITE_VERSION.to_bytes(2, "little")
        return body + rdb.crc64(body).to_bytes(constants.CHECKSUM_BYTES, "little")

    def describe(self, *, with_code: bool, names: Callable[[bytes], bool]) -> Reply:
        """FUNCTION LIST: the libraries whose name is wanted."""
        return [
            _description(library, with_code)
            for library in self.libraries.values()
            if names(library.name)
        ]

    def counts(self) -> tuple[int, int]:
        """How many libraries and how many functions there are."""
        return len(self.libraries), len(self._functions)

    # --------------------------------------------------------------- loading

    def _add(self, libraries: Libraries, library: Library, *, replace: bool) -> None:
        if not replace and library.name in libraries:
            raise CommandError(b"ERR Library '%b' already exists" % library.name)
        for name in library.functions:
            for other in libraries.values():
                if other.name != library.name and name in other.functions:
                    raise CommandError(b"ERR Function %b already exists" % name)
        libraries.pop(library.name, None)
        libraries[library.name] = library

    def _make(self, payload: bytes) -> Library:
        """Compile a library and have it register its functions."""
        named = shebang.library(payload)
        if named.engine.upper() != ENGINE:
            raise CommandError(b"ERR Engine '%b' not found" % named.engine)
        api = self.api
        chunk = api.interpreter.compile(named.code, b"@user_function")
        if isinstance(chunk, bytes):
            raise CommandError(b"ERR Error compiling function: " + chunk)
        library = Library(named.name, payload)

        def register(name: bytes, callback: Any, description: bytes | None, flags: bytes) -> None:
            if not shebang.is_name(name):
                raise ScriptError(shebang.BAD_NAME.text)
            if name in library.functions:
                raise ScriptError(b"ERR Function already exists in the library")
            declared = frozenset(flags.split(b",")) if flags else frozenset()
            library.functions[name] = Function(name, callback, description, declared)

        api.on_register = register
        api.load_began_ns = self._engine.clock.monotonic_ns()
        try:
            error = api.interpreter.load(chunk)
        finally:
            api.on_register = None
        if error is not None:
            raise CommandError(b"ERR Error registering functions: " + error)
        if not library.functions:
            raise NO_FUNCTIONS
        return library


def _codes(payload: bytes) -> Iterable[bytes]:
    """The libraries in a payload whose seal is good."""
    body = payload[: -2 - constants.CHECKSUM_BYTES]
    at = 0
    while at < len(body):
        if body[at] != constants.OP_FUNCTION:
            raise CommandError(b"ERR given type is not a function")
        try:
            code, at = decode_string(body, at + 1)
        except (rdb.RdbError, Incomplete):
            raise CommandError(b"ERR Failed loading library payload") from None
        yield code


def _description(library: Library, with_code: bool) -> dict[bytes, Reply]:
    told: dict[bytes, Reply] = {
        b"library_name": library.name,
        b"engine": ENGINE,
        b"functions": [
            {
                b"name": function.name,
                b"description": function.description,
                b"flags": SetReply(Status(f) for f in shebang.FLAGS if f in function.flags),
            }
            for function in library.functions.values()
        ],
    }
    if with_code:
        told[b"library_code"] = library.payload
    return told
