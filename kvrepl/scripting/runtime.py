"""What the commands EVAL, FCALL, SCRIPT and FUNCTION ask for: the port `Engine.scripts`.

`connect` gives an engine its scripting, with Lua where the package `lupa` is installed and
without it where not. Only one script runs at a time.

A script that runs for longer than busy-reply-threshold is said in the log, raises the gate BUSY,
and from then on calls `on_busy` from within its hook every so many instructions. That is where a
server is to serve its other clients, who are answered -BUSY but for the few commands that are
allowed, SCRIPT KILL among them (kvrepl.server.busy).

Source: Redis 7.0 eval.c, functions.c, script.c (scriptKill, scriptInterrupt).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import admission, gates
from kvrepl.errors import NOT_INTEGER, CommandError
from kvrepl.numbers import parse_int
from kvrepl.resp.values import OK, Reply
from kvrepl.scripting import interpreter
from kvrepl.scripting.functions import Function, Functions
from kvrepl.scripting.run import Api, Run, refusal_at_start
from kvrepl.scripting.scripts import NO_SCRIPT, SHA1_DIGITS, Script, Scripts
from kvrepl.scripting.shebang import ALLOW_OOM, ALLOW_STALE, NO_WRITES, Flags

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine

WARNING: Final = 3

NO_LUA: Final = CommandError(
    b"ERR Scripts and functions need Lua, and this server has none: install the Python package"
    b" 'lupa' and restart it"
)
BAD_KEY_COUNT: Final = CommandError(b"ERR Bad number of keys provided")
TOO_MANY_KEYS: Final = CommandError(b"ERR Number of keys can't be greater than number of args")
NEGATIVE_KEYS: Final = CommandError(b"ERR Number of keys can't be negative")
NO_FUNCTION: Final = CommandError(b"ERR Function not found")
NOT_BUSY: Final = CommandError(b"NOTBUSY No scripts in execution right now.")
UNKILLABLE_MASTER: Final = CommandError(
    b"UNKILLABLE The busy script was sent by a master instance in the context of replication and"
    b" cannot be killed."
)
UNKILLABLE_WROTE: Final = CommandError(
    b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can"
    b" either wait the script termination or kill the server in a hard way using the SHUTDOWN"
    b" NOSAVE command."
)
BUSY_SCRIPT: Final = CommandError(
    b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
)
BUSY_FUNCTION: Final = CommandError(
    b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
)

Log = Callable[[int, bytes], None]


class Scripting:
    """Scripts and functions of one engine.

    Attributes:
        log: writes a line: level 0 (debug) to 3 (warning), text.
        on_busy: serves other clients while a script runs for too long; returns soon.
        running: the script that is running, None between scripts.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.log: Log = _silent
        self.on_busy: Callable[[], None] = _nobody
        self.running: Run | None = None
        self.scripts = Scripts(self._api)
        self.functions = Functions(engine, self._api, self._write)

    def _api(self) -> Api:
        return Api(self._engine, self._write, self._slow)

    def _write(self, level: int, text: bytes) -> None:
        self.log(level, text)

    # ------------------------------------------------------------------ runs

    def eval(self, caller: Client, argv: list[bytes], *, by_sha: bool, read_only: bool) -> Reply:
        """EVAL, EVALSHA and their _RO forms.

        Args:
            caller: whose script it is.
            argv: the command: script or SHA1, number of keys, keys, further arguments.
            by_sha: the script is named by its SHA1.
            read_only: it may not write.

        Raises:
            CommandError: it cannot be found, compiled or run now, or ended in an error.
        """
        self._show(caller, argv)
        scripts = self.scripts
        if by_sha and len(argv[1]) != SHA1_DIGITS:
            raise NO_SCRIPT
        end = 3 + _key_count(argv, NOT_INTEGER)
        script = scripts.by_sha(argv[1]) if by_sha else scripts.by_body(argv[1])
        run = self._start(caller, argv, script.sha, script.flags, True, read_only)
        return self._carry_out(run, scripts.run, script, argv[3:end], argv[end:])

    def _show(self, caller: Client, argv: list[bytes]) -> None:
        """Let MONITOR show the call of a script before what that calls."""
        if self._engine.gates & gates.MONITORED:
            admission.show(self._engine, caller, caller.addr, argv)

    def call_function(self, caller: Client, argv: list[bytes], *, read_only: bool) -> Reply:
        """FCALL and FCALL_RO; see `eval`."""
        self._show(caller, argv)
        function = self.functions.find(argv[1])
        if function is None:
            raise NO_FUNCTION
        end = 3 + _key_count(argv, BAD_KEY_COUNT)
        run = self._start(caller, argv, function.name, function.flags, False, read_only)
        return self._carry_out(run, self.functions.run, function, argv[3:end], argv[end:])

    def declared(self, name: str, argv: list[bytes]) -> frozenset[str] | None:
        """What a script may do, in flags of commands, by what it declares.

        Args:
            name: eval, evalsha or fcall, with _ro or without.
            argv: the request.

        Returns:
            Which of write, denyoom and stale hold; None where it declares nothing, and each of
            its commands is judged by itself, or where there is no such script.

        Source: Redis 7.0 eval.c (evalGetCommandFlags), functions.c (fcallGetCommandFlags).
        """
        flags: Flags | None
        if name.startswith("fcall"):
            function = self.functions.find(argv[1])
            flags = None if function is None else function.flags
        else:
            flags = self.scripts.flags(argv[1], by_sha=name.startswith("evalsha"))
        if flags is None:
            return None
        found = {"stale"} if ALLOW_STALE in flags else set()
        if NO_WRITES not in flags:
            found.add("write")
            if ALLOW_OOM not in flags:
                found.add("denyoom")
        return frozenset(found)

    def _start(
        self,
        caller: Client,
        argv: list[bytes],
        name: bytes,
        flags: Flags | None,
        is_eval: bool,
        read_only: bool,
    ) -> Run:
        refusal = refusal_at_start(caller, flags, read_only=read_only)
        if refusal is not None:
            raise refusal
        declared = flags or frozenset()
        return Run(
            caller,
            argv,
            name,
            is_eval=is_eval,
            read_only=read_only or NO_WRITES in declared,
            allow_oom=ALLOW_OOM in declared,
        )

    def _carry_out(
        self,
        run: Run,
        carry_out: Callable[..., Any],
        what: Script | Function,
        keys: list[bytes],
        rest: list[bytes],
    ) -> Reply:
        engine = self._engine
        assert self.running is None, "scripts do not call scripts"
        self.running = run
        engine.depth += 1
        try:
            reply, counted = carry_out(run, what, keys, rest)
        finally:
            engine.depth -= 1
            self.running = None
            if run.is_slow:
                engine.lower_gate(gates.BUSY)
            if run.abandoned:
                engine.propagation.ops.clear()
            engine.propagation.nothing()
        if isinstance(reply, CommandError):
            if counted:
                return reply
            raise reply
        return reply

    # ------------------------------------------------------------ slow scripts

    def _slow(self, run: Run) -> None:
        if not run.is_slow:
            run.is_slow = True
            command = b"SCRIPT KILL" if run.is_eval else b"FUNCTION KILL"
            self._write(
                WARNING,
                b"Slow script detected: still in execution after %d milliseconds. You can try"
                b" killing the script using the %b command. Script name is: %b."
                % (run.elapsed_ms(), command, run.name),
            )
            self._engine.raise_gate(gates.BUSY)
        with self._engine.aside():
            self.on_busy()
        self._engine.keyspace.now_ms = run.now_ms

    def busy(self) -> CommandError:
        """What other clients are told while a script runs for too long."""
        is_function = self.running is not None and not self.running.is_eval
        return BUSY_FUNCTION if is_function else BUSY_SCRIPT

    def abandon(self) -> None:
        """The server ends, and so does the script that runs; nothing of it is kept or sent."""
        if self.running is not None:
            self.running.killed = self.running.abandoned = True

    def kill(self, *, is_eval: bool) -> Reply:
        """SCRIPT KILL and FUNCTION KILL.

        Raises:
            CommandError: nothing runs, or it cannot be killed.
        """
        run = self.running
        if run is None:
            raise NOT_BUSY
        if run.caller.is_master:
            raise UNKILLABLE_MASTER
        if run.wrote:
            raise UNKILLABLE_WROTE
        if run.is_eval != is_eval:
            raise BUSY_SCRIPT if run.is_eval else BUSY_FUNCTION
        run.killed = True
        self._write(WARNING, b"Lua script killed by user with SCRIPT KILL.")
        return OK

    def stats(self) -> Reply:
        """FUNCTION STATS: what runs, and how much there is."""
        run = self.running
        if run is not None and run.is_eval:
            raise BUSY_SCRIPT
        running = None
        if run is not None:
            running = {
                b"name": run.name,
                b"command": list(run.argv),
                b"duration_ms": run.elapsed_ms(),
            }
        libraries, functions = self.functions.counts()
        counts = {b"libraries_count": libraries, b"functions_count": functions}
        return {b"running_script": running, b"engines": {b"LUA": counts}}

    # --------------------------------------------------------------- the cache

    def load(self, body: bytes) -> bytes:
        """SCRIPT LOAD: the SHA1 of a script, which is in the cache from now on."""
        return self.scripts.by_body(body).sha

    def exist(self, shas: Sequence[bytes]) -> list[int]:
        """SCRIPT EXISTS: 1 for each that is in the cache, 0 for others."""
        return [int(sha in self.scripts) for sha in shas]

    def flush(self) -> None:
        """SCRIPT FLUSH."""
        self.scripts.flush()


class NoScripting:
    """The port where there is no Lua: one clear error, whatever is asked for.

    The code of libraries that came with a snapshot stays in the engine and is passed on.
    """

    running: Run | None = None

    def __init__(self) -> None:
        self.log: Log = _silent
        self.on_busy: Callable[[], None] = _nobody

    def declared(self, name: str, argv: list[bytes]) -> frozenset[str] | None:
        """Nothing: the call itself says what is wrong."""
        return None

    def __getattr__(self, name: str) -> Any:
        raise NO_LUA


def _key_count(argv: list[bytes], not_integer: CommandError) -> int:
    """The number of keys, which stands before them."""
    count = parse_int(argv[2])
    if count is None:
        raise not_integer
    if count > len(argv) - 3:
        raise TOO_MANY_KEYS
    if count < 0:
        raise NEGATIVE_KEYS
    return count


def connect(engine: Engine) -> Scripting | NoScripting:
    """Give an engine its scripting."""
    scripting = Scripting(engine) if interpreter.AVAILABLE else NoScripting()
    engine.scripts = scripting
    return scripting


def _silent(level: int, text: bytes) -> None:
    """Write nothing: an engine without a server has no log."""


def _nobody() -> None:
    """Serve nobody: an engine without a server has no clients that wait."""
