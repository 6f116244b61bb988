"""The scripts of EVAL: compiled once, kept by the SHA1 of their text until SCRIPT FLUSH.

Source: Redis 7.0 eval.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply
from kvrepl.scripting import shebang
from kvrepl.scripting.interpreter import Interpreter
from kvrepl.scripting.run import Api, Run, sha1hex

NO_SCRIPT: Final = CommandError(b"NOSCRIPT No matching script. Please use EVAL.")

SHA1_DIGITS: Final = 40


class Script:
    """A script in the cache.

    Attributes:
        sha: of its text, in lower case hexadecimal digits.
        flags: of its first line; None where it has none.
        chunk: the Lua function.
    """

    __slots__ = ("body", "chunk", "flags", "sha")

    def __init__(self, sha: bytes, body: bytes, flags: shebang.Flags | None, chunk: Any) -> None:
        self.sha = sha
        self.body = body
        self.flags = flags
        self.chunk = chunk


class Scripts:
    """The cache, and the Lua state behind it.

    Args:
        api: makes the functions of `redis` for a new state.
    """

    def __init__(self, api: Callable[[], Api]) -> None:
        self._make_api = api
        self._by_sha: dict[bytes, Script] = {}
        self._by_body: dict[bytes, Script] = {}
        self._api: Api | None = None

    def __len__(self) -> int:
        return len(self._by_sha)

    @property
    def api(self) -> Api:
        """The functions behind `redis`; the state is made when it is needed first."""
        if self._api is None:
            self._api = api = self._make_api()
            api.interpreter = Interpreter(api.functions())
        return self._api

    def __contains__(self, sha: bytes) -> bool:
        return sha.lower() in self._by_sha

    def by_sha(self, sha: bytes) -> Script:
        """The script of that SHA1.

        Raises:
            CommandError: it is not in the cache.
        """
        script = self._by_sha.get(sha.lower()) if len(sha) == SHA1_DIGITS else None
        if script is None:
            raise NO_SCRIPT
        return script

    def by_body(self, body: bytes) -> Script:
        """The script of that text, compiled if it is new. O(1), O(text) where it is new.

        Raises:
            CommandError: it cannot be compiled.
        """
        script = self._by_body.get(body)
        if script is None:
            script = self._compiled(body)
            self._by_body[body] = self._by_sha[script.sha] = script
        return script

    def flags(self, named: bytes, *, by_sha: bool) -> shebang.Flags | None:
        """What a script declares, None where that is nothing or there is no such script.

        Args:
            named: its text, which need not be in the cache; or its SHA1.
            by_sha: which of the two.
        """
        script = (self._by_sha if by_sha else self._by_body).get(named.lower() if by_sha else named)
        if script is not None:
            return script.flags
        try:
            return None if by_sha else shebang.script_flags(named)[0]
        except CommandError:
            return None

    def _compiled(self, body: bytes) -> Script:
        flags, code = shebang.script_flags(body)
        chunk = self.api.interpreter.compile(code, b"@user_script")
        if isinstance(chunk, bytes):
            raise CommandError(b"ERR Error compiling script (new function): " + chunk)
        return Script(sha1hex(body), body, flags, chunk)

    def run(self, run: Run, script: Script, keys: list[bytes], rest: list[bytes]) -> Reply:
        """Run a script.

        Returns:
            The reply, and whether an error in it is counted already.
        """
        api = self.api
        api.run = run
        try:
            return api.interpreter.run(script.chunk, script.sha, keys, rest, run.caller.resp)
        finally:
            api.run = None

    def flush(self) -> None:
        """SCRIPT FLUSH: forget every script, and the state they ran in."""
        self._by_sha.clear()
        self._by_body.clear()
        self._api = None

    def memory_bytes(self) -> int:
        """What the Lua state takes."""
        return self._api.interpreter.memory_bytes() if self._api is not None else 0

    def text_bytes(self) -> int:
        """What the texts of the scripts take."""
        return sum(map(len, self._by_body))
