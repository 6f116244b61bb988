"""The server, as commands: INFO, CONFIG, saving, shutting down, emptying databases, DEBUG.

Source: Redis 7.0 server.c, config.c, db.c, rdb.c, debug.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import INT32_MAX, INT32_MIN, REDACTED, integer_in
from kvrepl.engine import admission, gates
from kvrepl.engine.propagation import BOTH
from kvrepl.engine.spec import command, container
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import OK, Reply, Status, Verbatim

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

FIRST_DB: Final = CommandError(b"ERR invalid first DB index")
SECOND_DB: Final = CommandError(b"ERR invalid second DB index")
DB_RANGE: Final = CommandError(b"ERR DB index is out of range")


@command(
    "info",
    -1,
    "loading stale",
    acl="dangerous",
    tips=["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
)
def info(c: Client, argv: list[bytes]) -> Reply:
    """Get information and statistics about the server. O(1)."""
    return Verbatim(c.engine.host.info([name.lower() for name in argv[1:]]))


# ------------------------------------------------------------------------ saving


@command("save", 1, "admin noscript no_async_loading no_multi")
def save(c: Client, argv: list[bytes]) -> Reply:
    """Synchronously save the dataset to disk. O(keys)."""
    return c.engine.host.save()


@command("bgsave", -1, "admin noscript no_async_loading")
def bgsave(c: Client, argv: list[bytes]) -> Reply:
    """Asynchronously save the dataset to disk. O(1) here, O(keys) in a child."""
    if len(argv) == 2 and argv[1].lower() == b"schedule":
        return c.engine.host.bgsave(schedule=True)
    if len(argv) == 2 and argv[1].lower() == b"cancel":  # Valkey 8.1; Redis has a syntax error
        return c.engine.host.bgsave_cancel()
    if len(argv) > 1:
        raise SYNTAX
    return c.engine.host.bgsave(schedule=False)


@command("bgrewriteaof", 1, "admin noscript no_async_loading")
def bgrewriteaof(c: Client, argv: list[bytes]) -> Reply:
    """Asynchronously rewrite the append-only file. O(1) here, O(keys) in a child."""
    return c.engine.host.bgrewriteaof()


@command(
    "lastsave", 1, "loading stale fast", acl="admin dangerous", tips=["nondeterministic_output"]
)
def lastsave(c: Client, argv: list[bytes]) -> Reply:
    """Get the Unix time stamp of the last successful save to disk. O(1)."""
    return c.engine.host.lastsave()


@command("shutdown", -1, "admin noscript loading stale no_multi allow_busy")
def shutdown(c: Client, argv: list[bytes]) -> Reply:
    """Synchronously save the dataset to disk and then shut down the server. O(keys)."""
    keep: bool | None = None
    now = force = abort = False
    for word in map(bytes.lower, argv[1:]):
        if word == b"nosave" and keep is not True:
            keep = False
        elif word == b"save" and keep is not False:
            keep = True
        elif word == b"now":
            now = True
        elif word == b"force":
            force = True
        elif word == b"abort":
            abort = True
        else:
            raise SYNTAX
    if abort:
        if len(argv) > 2:
            raise SYNTAX
        return c.engine.host.shutdown_abort()
    engine = c.engine
    if not engine.gates & gates.BUSY:
        return engine.host.shutdown(c, save=keep, now=now, force=force)
    if keep is not False:
        raise engine.scripts.busy()
    reply = engine.host.shutdown(c, save=False, now=True, force=force)
    engine.scripts.abandon()
    return reply


# ---------------------------------------------------------------- configuration

container("config", summary="A container for server configuration commands")


@command("config|get", -3, "admin noscript loading stale")
def config_get(c: Client, argv: list[bytes]) -> Reply:
    """Get the values of configuration parameters. O(settings) for each pattern."""
    return dict(c.engine.config.get(argv[2:]))


@command(
    "config|set",
    -4,
    "admin noscript loading stale",
    tips=["request_policy:all_nodes", "response_policy:all_succeeded"],
)
def config_set(c: Client, argv: list[bytes]) -> Reply:
    """Set configuration parameters to the given values, all or none. O(settings)."""
    if len(argv) % 2:
        raise SYNTAX
    pairs = list(zip(argv[2::2], argv[3::2], strict=True))
    config = c.engine.config
    for i in range(2, len(argv), 2):
        if config.is_sensitive(argv[i]):
            argv[i + 1] = REDACTED
    config.set_many(pairs, local_client=c.is_local, loading=c.engine.is_loading)
    return OK


@command("config|resetstat", 2, "admin noscript loading stale")
def config_resetstat(c: Client, argv: list[bytes]) -> Reply:
    """Reset the statistics that INFO reports. O(commands)."""
    c.engine.reset_stats()
    c.engine.host.reset_stats()
    return OK


@command("config|rewrite", 2, "admin noscript loading stale")
def config_rewrite(c: Client, argv: list[bytes]) -> Reply:
    """Rewrite the configuration file with the settings in memory. O(settings)."""
    return c.engine.host.config_rewrite()


@command("config|help", 2, "loading stale")
def config_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the different subcommands."""
    return [
        Status(line)
        for line in (
            b"CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            b"GET <pattern>",
            b"    Return parameters matching the glob-like <pattern> and their values.",
            b"SET <directive> <value>",
            b"    Set the configuration <directive> to <value>.",
            b"RESETSTAT",
            b"    Reset statistics reported by the INFO command.",
            b"REWRITE",
            b"    Rewrite the configuration file.",
            b"HELP",
            b"    Print this help.",
        )
    ]


# --------------------------------------------------------------------- emptying


def _lazily(c: Client, argv: list[bytes]) -> bool:
    if len(argv) == 1:
        return c.engine.config.lazyfree_lazy_user_flush
    if len(argv) == 2 and argv[1].lower() in (b"async", b"sync"):
        return argv[1].lower() == b"async"
    raise SYNTAX


@command(
    "flushdb",
    -1,
    "write",
    acl="keyspace dangerous",
    tips=["request_policy:all_shards", "response_policy:all_succeeded"],
)
def flushdb(c: Client, argv: list[bytes]) -> Reply:
    """Remove all keys from the current database. O(segments), the rest as ASYNC says.

    Propagates: itself, even if there was nothing to remove.
    """
    c.engine.empty([c.db], lazily=_lazily(c, argv))
    c.engine.propagation.force(BOTH)
    return OK


@command(
    "flushall",
    -1,
    "write",
    acl="keyspace dangerous",
    tips=["request_policy:all_shards", "response_policy:all_succeeded"],
)
def flushall(c: Client, argv: list[bytes]) -> Reply:
    """Remove all keys from all databases. O(segments), the rest as ASYNC says.

    Propagates: itself, even if there was nothing to remove.
    """
    c.engine.empty(c.engine.keyspace.databases, lazily=_lazily(c, argv))
    c.engine.host.flushed_all()
    c.engine.propagation.force(BOTH)
    return OK


@command("swapdb", 3, "write fast", acl="keyspace dangerous")
def swapdb(c: Client, argv: list[bytes]) -> Reply:
    """Swap two databases, so that clients see the other's data at once. O(watched keys)."""
    first = integer_in(argv[1], INT32_MIN, INT32_MAX, FIRST_DB)
    second = integer_in(argv[2], INT32_MIN, INT32_MAX, SECOND_DB)
    databases = c.engine.keyspace.databases
    if not (0 <= first < len(databases) and 0 <= second < len(databases)):
        raise DB_RANGE
    if first != second:
        c.engine.swap(databases[first], databases[second])
    c.engine.keyspace.dirty += 1
    c.engine.propagation.force(BOTH)
    return OK


# ------------------------------------------------------------------------ DEBUG


@command("debug", -2, "admin noscript loading stale")
def debug(c: Client, argv: list[bytes]) -> Reply:
    """Look into the server, and make it misbehave for tests."""
    admission.check_protected(c, c.engine.commands["debug"])
    return c.engine.host.debug(c, argv)
