"""Scripts and functions, as commands: EVAL, FCALL, SCRIPT, FUNCTION.

Each only reads its arguments; what happens is in kvrepl.scripting, behind the port
`Engine.scripts`.

Source: Redis 7.0 eval.c, functions.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.engine import admission
from kvrepl.engine.introspection import help_lines, wrong_subcommand
from kvrepl.engine.spec import command, container
from kvrepl.errors import CommandError
from kvrepl.glob import match
from kvrepl.resp.values import OK, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

SCRIPT_FLUSH: Final = CommandError(b"ERR SCRIPT FLUSH only support SYNC|ASYNC option")
FUNCTION_FLUSH: Final = CommandError(b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
NO_CODE: Final = CommandError(b"ERR Function code is missing")
NO_PATTERN: Final = CommandError(b"ERR library name argument was not given")
BAD_POLICY: Final = CommandError(
    b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
)
DEBUG_USAGE: Final = CommandError(b"ERR Use SCRIPT DEBUG YES/SYNC/NO")
NO_DEBUGGER: Final = CommandError(b"ERR this server has no script debugger")

_NODES: Final = "request_policy:all_nodes"
_SHARDS: Final = "request_policy:all_shards"
_ALL: Final = "response_policy:all_succeeded"
_ONE: Final = "response_policy:one_succeeded"

# ------------------------------------------------------------------------- EVAL, FCALL

_FLAGS: Final = "noscript skip_monitor stale movablekeys no_mandatory_keys"
_WORST: Final = "We cannot tell how the keys will be used so we assume the worst"
_RW: Final = [f"RW access update @2# ; {_WORST}, RW and UPDATE"]
_RO: Final = [f"RO access @2# ; {_WORST}, RO and ACCESS"]


@command("eval", -3, f"{_FLAGS} may_replicate", keys=_RW, acl="scripting")
def eval_(c: Client, argv: list[bytes]) -> Reply:
    """Execute a Lua script server side. Depends on the script.

    Propagates: what its commands propagate, between MULTI and EXEC where that is more than one.
    """
    _show(c, argv)
    return c.engine.scripts.eval(c, argv, by_sha=False, read_only=False)


@command("evalsha", -3, f"{_FLAGS} may_replicate", keys=["RW access update @2#"], acl="scripting")
def evalsha(c: Client, argv: list[bytes]) -> Reply:
    """Execute a Lua script server side, by its SHA1. Depends on the script. Propagates as EVAL."""
    _show(c, argv)
    return c.engine.scripts.eval(c, argv, by_sha=True, read_only=False)


@command("eval_ro", -3, f"{_FLAGS} readonly", keys=_RO, acl="scripting")
def eval_ro(c: Client, argv: list[bytes]) -> Reply:
    """Execute a read-only Lua script server side. Depends on the script."""
    _show(c, argv)
    return c.engine.scripts.eval(c, argv, by_sha=False, read_only=True)


@command("evalsha_ro", -3, f"{_FLAGS} readonly", keys=["RO access @2#"], acl="scripting")
def evalsha_ro(c: Client, argv: list[bytes]) -> Reply:
    """Execute a read-only Lua script server side, by its SHA1. Depends on the script."""
    _show(c, argv)
    return c.engine.scripts.eval(c, argv, by_sha=True, read_only=True)


@command("fcall", -3, f"{_FLAGS} may_replicate", keys=_RW, acl="scripting")
def fcall(c: Client, argv: list[bytes]) -> Reply:
    """Invoke a function. Depends on the function. Propagates as EVAL."""
    _show(c, argv)
    return c.engine.scripts.call_function(c, argv, read_only=False)


@command("fcall_ro", -3, f"{_FLAGS} readonly", keys=_RO, acl="scripting")
def fcall_ro(c: Client, argv: list[bytes]) -> Reply:
    """Invoke a read-only function. Depends on the function."""
    _show(c, argv)
    return c.engine.scripts.call_function(c, argv, read_only=True)


def _show(c: Client, argv: list[bytes]) -> None:
    """Show a script to monitors, before the commands that it calls."""
    if c.engine.monitors:
        admission.show(c.engine, c, c.addr, argv)


# ------------------------------------------------------------------------------ SCRIPT

container("script", summary="A container for Lua scripts management commands")


@command("script|load", 3, "noscript stale", acl="scripting", tips=[_NODES, _ALL])
def script_load(c: Client, argv: list[bytes]) -> Reply:
    """Load the specified Lua script into the script cache. O(length of the script)."""
    return c.engine.scripts.load(argv[2])


@command(
    "script|exists",
    -3,
    "noscript",
    acl="scripting",
    tips=[_SHARDS, "response_policy:agg_logical_and"],
)
def script_exists(c: Client, argv: list[bytes]) -> Reply:
    """Check existence of scripts in the script cache. O(scripts asked for)."""
    return c.engine.scripts.exist(argv[2:])


@command("script|flush", -2, "noscript", acl="scripting", tips=[_NODES, _ALL])
def script_flush(c: Client, argv: list[bytes]) -> Reply:
    """Remove all the scripts from the script cache. O(scripts)."""
    _flush_mode(argv, SCRIPT_FLUSH)
    c.engine.scripts.flush()
    return OK


@command("script|kill", 2, "noscript allow_busy", acl="scripting", tips=[_SHARDS, _ONE])
def script_kill(c: Client, argv: list[bytes]) -> Reply:
    """Kill the script currently in execution. O(1)."""
    return c.engine.scripts.kill(is_eval=True)


@command("script|debug", 3, "noscript", acl="scripting")
def script_debug(c: Client, argv: list[bytes]) -> Reply:
    """Set the debug mode for executed scripts; only NO is there to be set. O(1)."""
    mode = argv[2].lower()
    if mode not in (b"yes", b"sync", b"no"):
        raise DEBUG_USAGE
    if mode != b"no":
        raise NO_DEBUGGER
    return OK


@command("script|help", 2, "loading stale", acl="scripting")
def script_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "SCRIPT",
        ("DEBUG NO", "There is no debugger."),
        ("EXISTS <sha1> [<sha1> ...]", "Which of these scripts are in the cache, 1 or 0 each."),
        ("FLUSH [ASYNC|SYNC]", "Forget every script."),
        ("KILL", "End the script that runs, if it has not written yet."),
        ("LOAD <script>", "Put a script in the cache without running it; its SHA1."),
    )


# ---------------------------------------------------------------------------- FUNCTION

container("function", summary="A container for function commands")


@command("function|load", -3, "noscript write denyoom", acl="scripting", tips=[_SHARDS, _ALL])
def function_load(c: Client, argv: list[bytes]) -> Reply:
    """Create a function library. O(1), and what its code does. Propagates as it came."""
    options = argv[2:-1]
    for option in options:
        if option.lower() != b"replace":
            raise CommandError(b"ERR Unknown option given: " + option)
    return c.engine.scripts.functions.load(argv[-1], replace=bool(options))


@command("function|delete", 3, "noscript write", acl="scripting", tips=[_SHARDS, _ALL])
def function_delete(c: Client, argv: list[bytes]) -> Reply:
    """Delete a function library. O(functions). Propagates as it came."""
    c.engine.scripts.functions.delete(argv[2])
    return OK


@command("function|flush", -2, "noscript write", acl="scripting", tips=[_SHARDS, _ALL])
def function_flush(c: Client, argv: list[bytes]) -> Reply:
    """Delete all function libraries. O(functions). Propagates as it came."""
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    _flush_mode(argv, FUNCTION_FLUSH)
    c.engine.scripts.functions.flush()
    return OK


@command("function|dump", 2, "noscript", acl="scripting")
def function_dump(c: Client, argv: list[bytes]) -> Reply:
    """Dump all function libraries into a serialized binary payload. O(bytes of their code)."""
    return c.engine.scripts.functions.dump()


@command("function|restore", -3, "noscript write denyoom", acl="scripting", tips=[_SHARDS, _ALL])
def function_restore(c: Client, argv: list[bytes]) -> Reply:
    """Restore all the function libraries in a payload. O(functions). Propagates as it came."""
    if len(argv) > 4:
        raise wrong_subcommand(argv)
    policy = argv[3].lower() if len(argv) == 4 else b"append"
    if policy not in (b"append", b"replace", b"flush"):
        raise BAD_POLICY
    c.engine.scripts.functions.restore(argv[2], policy)
    return OK


@command("function|list", -2, "noscript", acl="scripting", tips=["nondeterministic_output_order"])
def function_list(c: Client, argv: list[bytes]) -> Reply:
    """List information about all the function libraries. O(functions)."""
    with_code = False
    pattern: bytes | None = None
    words = iter(argv[2:])
    for word in words:
        if not with_code and word.lower() == b"withcode":
            with_code = True
        elif pattern is None and word.lower() == b"libraryname":
            pattern = next(words, None)
            if pattern is None:
                raise NO_PATTERN
        else:
            raise CommandError(b"ERR Unknown argument " + word)
    return c.engine.scripts.functions.describe(
        with_code=with_code,
        names=lambda name: pattern is None or match(pattern, name, True),
    )


@command(
    "function|stats",
    2,
    "noscript allow_busy",
    acl="scripting",
    tips=["nondeterministic_output", _SHARDS, "response_policy:special"],
)
def function_stats(c: Client, argv: list[bytes]) -> Reply:
    """Return information about the function currently running and the engines. O(1)."""
    return c.engine.scripts.stats()


@command("function|kill", 2, "noscript allow_busy", acl="scripting", tips=[_SHARDS, _ONE])
def function_kill(c: Client, argv: list[bytes]) -> Reply:
    """Kill the function currently in execution. O(1)."""
    return c.engine.scripts.kill(is_eval=False)


@command("function|help", 2, "loading stale", acl="scripting")
def function_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "FUNCTION",
        ("LOAD [REPLACE] <FUNCTION CODE>", "Create a library; its name."),
        ("DELETE <LIBRARY NAME>", "Delete a library."),
        ("LIST [LIBRARYNAME PATTERN] [WITHCODE]", "The libraries and their functions."),
        ("STATS", "The function that runs, and how many libraries and functions there are."),
        ("KILL", "End the function that runs, if it has not written yet."),
        ("FLUSH [ASYNC|SYNC]", "Delete all libraries."),
        ("DUMP", "All libraries as one payload, for RESTORE."),
        (
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "Take in the libraries of a payload: instead of all there are, in addition (the"
            " default), or in place of those of the same name.",
        ),
    )


def _flush_mode(argv: list[bytes], error: CommandError) -> None:
    """Check SYNC and ASYNC; either way all that is to be freed is let go at once."""
    if len(argv) > 3 or (len(argv) == 3 and argv[2].lower() not in (b"sync", b"async")):
        raise error
