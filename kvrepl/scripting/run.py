"""One run of a script: what it may do, and the functions behind the table `redis`.

A run is top-level or stands inside EXEC; either way its commands are called as EXEC calls its
own: `Engine.depth` is raised, so that nothing blocks, and what they propagate gathers and is
wrapped in MULTI and EXEC by `kvrepl.engine.propagation`. The script itself is never sent.

Each command is judged when it is called, in Redis's order: known, number of arguments, allowed in
scripts, stale replica, the user's rights, writes (read-only script or replica, disk, too few
replicas), memory. Once a script has written it is not refused for the state of the server any
more: half a script is worse than one write too many.

Time stands still: every command of a run sees the instant at which it began.

Source: Redis 7.0 script.c (scriptPrepareForRun, scriptCall), script_lua.c.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kvrepl import REDIS_VERSION
from kvrepl.engine import admission, gates
from kvrepl.engine.client import Client
from kvrepl.engine.propagation import AOF, BOTH, REPLICAS
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply
from kvrepl.scripting import shebang
from kvrepl.scripting.conversion import error_table, to_lua
from kvrepl.scripting.interpreter import Interpreter, ScriptError, guarded
from kvrepl.scripting.libraries.arguments import ArgumentError, bad_argument, integer_at

if TYPE_CHECKING:
    from kvrepl.engine.dispatch import Engine
    from kvrepl.engine.spec import Command

UNKNOWN: Final = CommandError(b"ERR Unknown Redis command called from script")
ARITY: Final = CommandError(b"ERR Wrong number of args calling Redis command from script")
NOSCRIPT: Final = CommandError(b"ERR This Redis command is not allowed from script")
STALE: Final = CommandError(b"ERR Can not execute the command on a stale replica")
READ_ONLY: Final = CommandError(b"ERR Write commands are not allowed from read-only scripts.")
RO_COMMAND: Final = CommandError(
    b"ERR Can not execute a script with write flag using *_ro command."
)

NO_ARGUMENTS: Final = b"ERR Please specify at least one argument for this redis lib call"
BAD_ARGUMENTS: Final = b"ERR Lua redis lib command arguments must be strings or integers"
KILLED: Final = b"ERR Script killed by user with SCRIPT KILL..."
LOAD_TIMEOUT: Final = b"ERR FUNCTION LOAD timeout"

LOAD_TIMEOUT_MS: Final = 500
"""How long the code of a library may take to register its functions (function_lua.c)."""

EXACT_DIGITS: Final = 10**16
"""Integers below it print the same with %d and %.17g."""

_SEED_LOW: Final = 0x330E
_RANDOM_START: Final = 0x1234ABCD330E
_RANDOM_RANGE: Final = (1 << 31) - 1


class Run:
    """A script that is running.

    Args:
        caller: whose script it is.
        argv: how it was called.
        name: of the function, or the SHA1 of the script.
        is_eval: a script, not a function.
        read_only: it may not write.
        allow_oom: it may use memory beyond maxmemory.

    Attributes:
        client: who calls the commands.
        wrote: it has called a write command.
        targets: who gets what it propagates from now on.
        killed: it is to end; abandoned: what it has written is nowhere to be sent.
        is_slow: it has been running for too long, and that has been said.
        old_errors, new_errors: in its reply, those that a command was answered, and its own.
    """

    def __init__(
        self,
        caller: Client,
        argv: list[bytes],
        name: bytes,
        *,
        is_eval: bool,
        read_only: bool,
        allow_oom: bool,
    ) -> None:
        engine = caller.engine
        self.caller = caller
        self.argv = argv
        self.name = name
        self.is_eval = is_eval
        self.read_only = read_only
        self.wrote = self.killed = self.abandoned = self.is_slow = False
        self.targets = BOTH
        self.old_errors = self.new_errors = 0
        self.began_ns = engine.clock.monotonic_ns()
        self.now_ms = engine.keyspace.now_ms
        self.client = client = Client(engine, caller.id)
        client.db = caller.db
        client.user = caller.user
        client.is_master = caller.is_master
        client.exempt = caller.exempt
        client.addr = b"lua"
        client.tracking = caller.tracking
        self._is_short = (
            not allow_oom and not client.exempt & gates.OOM and engine.memory.is_short()
        )

    def elapsed_ms(self) -> int:
        """How long it has been running."""
        return (self.caller.engine.clock.monotonic_ns() - self.began_ns) // 1_000_000

    def call(self, argv: list[bytes]) -> Reply:
        """Call a command.

        Returns:
            Its reply; a CommandError is returned, counted, not raised.
        """
        client = self.client
        engine = client.engine
        command = engine.find(argv[0])
        if command is not None and command.subcommands and len(argv) > 1:
            command = command.subcommands.get(argv[1].lower())
        refusal = self._refusal(command, argv)
        if command is None or refusal is not None:
            if command is not None:
                command.rejected += 1
            engine.stats.error(refusal or UNKNOWN)
            return refusal or UNKNOWN
        if command.is_write:
            self.wrote = True
        ops = engine.propagation.ops
        mark = len(ops)
        reply = engine.call(client, command, argv)
        if engine.gates & gates.MONITORED:
            admission.feed_monitors(engine, client, command, argv, b"lua")
        if self.targets != BOTH:
            ops[mark:] = [
                (db, each, kept) for db, each, to in ops[mark:] if (kept := to & self.targets)
            ]
        client.out.clear()
        return reply

    def _refusal(self, command: Command | None, argv: list[bytes]) -> CommandError | None:
        if command is None:
            return UNKNOWN
        if not command.least <= len(argv) <= command.most or command.handler is None:
            return ARITY
        flags = command.flags
        if "noscript" in flags:
            return NOSCRIPT
        client = self.client
        raised = client.engine.gates & ~client.exempt
        if raised & gates.STALE and "stale" not in flags:
            return STALE
        if self.caller.gates & gates.ACL:
            denied = client.engine.acl.refusal_in_script(self.caller, command, argv)
            if denied is not None:
                return denied
        if self.read_only and (command.is_write or "may_replicate" in flags):
            return READ_ONLY
        if self.wrote:
            return None
        if command.is_write:
            if raised & gates.READONLY:
                return admission.READONLY
            if raised & gates.DISK and not client.is_master:
                return client.engine.disk_error()
            if raised & gates.FEW_REPLICAS:
                return admission.NOREPLICAS
        if self._is_short and "denyoom" in flags:
            return admission.OOM
        return None


def refusal_at_start(
    caller: Client, flags: shebang.Flags | None, *, read_only: bool
) -> CommandError | None:
    """Why a script may not run at all now, by what it declared; None where it may.

    Args:
        caller: who called it.
        flags: of its first line or its registration, None where it declared nothing.
        read_only: it was called with one of the *_RO commands.
    """
    engine = caller.engine
    raised = engine.gates & ~caller.exempt
    if flags is None:
        return admission.MASTERDOWN if raised & gates.STALE else None
    writes = shebang.NO_WRITES not in flags
    may_grow = writes and shebang.ALLOW_OOM not in flags
    if raised & gates.OOM and may_grow and engine.memory.is_short():
        return admission.OOM
    if writes:
        if raised & gates.DISK and not caller.is_master:
            return engine.disk_error()
        if raised & gates.FEW_REPLICAS:
            return admission.NOREPLICAS
        if raised & gates.READONLY:
            return admission.READONLY
    if raised & gates.STALE and shebang.ALLOW_STALE not in flags:
        return admission.MASTERDOWN
    return RO_COMMAND if writes and read_only else None


class Api:
    """The functions behind the table `redis` of one Lua state.

    Args:
        engine: whose commands they call.
        log: writes a line: level 0 (debug) to 3 (warning), text.
        on_slow: called again and again while a script runs for too long.

    Attributes:
        run: the script that is running, None between scripts.
        interpreter: the state; set by its owner, who needs the functions to make it.
        on_register: takes (name, callback, description, flags) while a library is loaded.
    """

    def __init__(
        self,
        engine: Engine,
        log: Callable[[int, bytes], None],
        on_slow: Callable[[Run], None],
    ) -> None:
        self._engine = engine
        self._log = log
        self._on_slow = on_slow
        self._random = _RANDOM_START
        self.run: Run | None = None
        self.interpreter: Interpreter
        self.on_register: Callable[[bytes, Any, bytes | None, bytes], None] | None = None
        self.load_began_ns = 0

    def functions(self) -> dict[bytes, Callable[..., Any]]:
        """The functions by the names that the sandbox calls them by."""
        return {
            b"call": self._call,
            b"pcall": self._pcall,
            b"sha1hex": self._sha1hex,
            b"log": self._write_log,
            b"setresp": self._setresp,
            b"set_repl": self._set_repl,
            b"acl_check_cmd": self._acl_check_cmd,
            b"resp": self._resp,
            b"version": _version,
            b"flags": _flags,
            b"random": guarded(self._next_random),
            b"randomseed": guarded(self._seed),
            b"count_error": self._count_error,
            b"tick": self._tick,
            b"register": self._register,
        }

    # ------------------------------------------------------------ commands

    def _running(self, name: bytes) -> Run:
        if self.run is None:
            raise ScriptError(b"ERR %b can only be called inside a script invocation" % name)
        return self.run

    def _reply(self, arguments: tuple[Any, ...]) -> tuple[Run, Reply]:
        run = self._running(b"redis.call/pcall")
        return run, run.call(_argv(arguments))

    def _call(self, *arguments: Any) -> Any:
        run, reply = self._reply(arguments)
        if type(reply) is bytes or type(reply) is int:
            return reply
        if type(reply) is CommandError:
            raise ScriptError(_with_code(reply.text), counted=True)
        return to_lua(reply, run.client.resp, self.interpreter.table)

    def _pcall(self, *arguments: Any) -> Any:
        try:
            run, reply = self._reply(arguments)
        except ScriptError as error:
            if self.run is None:
                raise
            return self.interpreter.table({b"err": error.text})
        if type(reply) is CommandError:
            return error_table(_with_code(reply.text), self.interpreter.table)
        return to_lua(reply, run.client.resp, self.interpreter.table)

    def _acl_check_cmd(self, *arguments: Any) -> bool:
        run = self._running(b"redis.acl_check_cmd")
        argv = _argv(arguments)
        command = self._engine.resolve(argv)
        if command is None:
            raise ScriptError(b"ERR Invalid command passed to redis.acl_check_cmd()")
        return self._engine.acl.denial(run.caller, command, argv) is None

    # ------------------------------------------------------ other functions

    def _sha1hex(self, *arguments: Any) -> bytes:
        if len(arguments) != 1:
            raise ScriptError(b"ERR wrong number of arguments")
        return sha1hex(_text(arguments[0]) or b"")

    def _write_log(self, *arguments: Any) -> None:
        if len(arguments) < 2:
            raise ScriptError(b"ERR redis.log() requires two arguments or more.")
        level = _number(arguments[0])
        if level is None:
            raise ScriptError(b"ERR First argument must be a number (log level).")
        if not 0 <= int(level) <= 3:
            raise ScriptError(b"ERR Invalid debug level.")
        texts = [text for each in arguments[1:] if (text := _text(each)) is not None]
        self._log(int(level), b" ".join(texts))

    def _setresp(self, *arguments: Any) -> None:
        run = self._running(b"redis.setresp")
        if len(arguments) != 1:
            raise ScriptError(b"ERR redis.setresp() requires one argument.")
        resp = int(_number(arguments[0]) or 0)
        if resp not in (2, 3):
            raise ScriptError(b"ERR RESP version must be 2 or 3.")
        run.client.resp = resp

    def _set_repl(self, *arguments: Any) -> None:
        run = self._running(b"redis.set_repl")
        if len(arguments) != 1:
            raise ScriptError(b"ERR redis.set_repl() requires two arguments.")
        targets = int(_number(arguments[0]) or 0)
        if targets & ~(AOF | REPLICAS):
            raise ScriptError(
                b"ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."
            )
        run.targets = targets

    def _resp(self) -> int:
        return self.run.client.resp if self.run is not None else 2

    def _count_error(self, text: bytes, counted: bool) -> None:
        run = self._running(b"an error")
        if counted:
            run.old_errors += 1
        else:
            run.new_errors += 1
            self._engine.stats.error(CommandError(text))

    def _next_random(self, *arguments: Any) -> float:
        """math.random: drand48's sequence, as Redis makes it, the same on every system."""
        self._running(b"math.random")
        self._random = (self._random * 0x5DEECE66D + 0xB) & ((1 << 48) - 1)
        fraction = (self._random >> 17) % _RANDOM_RANGE / _RANDOM_RANGE
        count = len(arguments)
        if count == 0:
            return fraction
        if count > 2:
            raise ArgumentError(b"wrong number of arguments")
        low = integer_at(b"random", arguments, 1, None) if count == 2 else 1
        high = integer_at(b"random", arguments, count, None)
        if low > high:
            raise bad_argument(b"random", count, b"interval is empty")
        return int(fraction * (high - low + 1)) + low

    def _seed(self, *arguments: Any) -> None:
        self._running(b"math.randomseed")
        seed = integer_at(b"randomseed", arguments, 1, None)
        self._random = (seed & 0xFFFFFFFF) << 16 | _SEED_LOW

    # ---------------------------------------------------------------- time

    def _tick(self) -> bytes | None:
        """Called every so many instructions: whether the script is to end, and with what error."""
        run = self.run
        if run is None:
            if self.on_register is not None:
                spent = self._engine.clock.monotonic_ns() - self.load_began_ns
                if spent > LOAD_TIMEOUT_MS * 1_000_000:
                    return LOAD_TIMEOUT
            return None
        threshold_ms = self._engine.config.busy_reply_threshold
        if 0 < threshold_ms <= run.elapsed_ms():
            self._on_slow(run)
        return KILLED if run.killed else None

    def _register(self, name: bytes, callback: Any, description: Any, flags: bytes) -> None:
        assert self.on_register is not None
        self.on_register(name, callback, description, flags)


def sha1hex(data: bytes) -> bytes:
    """The SHA1 of data, in lower case hexadecimal digits."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest().encode()


def _argv(arguments: tuple[Any, ...]) -> list[bytes]:
    """Arguments of Lua as those of a command: numbers in full precision."""
    if not arguments:
        raise ScriptError(NO_ARGUMENTS)
    argv: list[bytes] = []
    for each in arguments:
        kind = type(each)
        if kind is bytes:
            argv.append(each)
        elif kind is int:
            small = -EXACT_DIGITS < each < EXACT_DIGITS
            argv.append(b"%d" % each if small else b"%.17g" % each)
        elif kind is float:
            argv.append(b"%.17g" % each)
        else:
            raise ScriptError(BAD_ARGUMENTS)
    return argv


def _text(value: Any) -> bytes | None:
    """A string, or a number as Lua prints it; None for anything else."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return b"%.14g" % value
    return None


def _number(value: Any) -> float | None:
    """A number, or a string that reads as one; None for anything else, and for no finite one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, bytes)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 2.0**63 else None


def _with_code(text: bytes) -> bytes:
    """An error as luaPushErrorBuff keeps it: what has no blank gets a code of its own."""
    return text if b" " in text else b"ERR " + text


def _version() -> tuple[bytes, int]:
    major, minor, patch = map(int, REDIS_VERSION.split("."))
    return REDIS_VERSION.encode(), major << 16 | minor << 8 | patch


def _flags() -> tuple[bytes, ...]:
    return shebang.FLAGS
