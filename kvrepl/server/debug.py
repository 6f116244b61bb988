"""DEBUG: for tests and for looking inside; what the test rigs of Redis lean on.

Source: Redis 7.0 debug.c (debugCommand).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kvrepl import glob
from kvrepl.commands.arguments import integer
from kvrepl.config.notify import NOTIFY_STRING
from kvrepl.errors import NO_SUCH_KEY, CommandError, StorageError
from kvrepl.keyspace.digest import digest_dataset, digest_key
from kvrepl.keyspace.encoding import encoding
from kvrepl.numbers import parse_float
from kvrepl.persistence.records import rdb_type_and_value
from kvrepl.persistence.snapshot import SnapshotLoader
from kvrepl.resp.values import OK, Push, Reply, SetReply, Status, Verbatim
from rdb import RdbError, encode_key

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server

Handler = Callable[["Server", "Client", list[bytes]], Reply]
_SUBCOMMANDS: Final[dict[bytes, tuple[int, int, Handler]]] = {}
MANY: Final = 1 << 30


def run(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """Run a DEBUG subcommand.

    Raises:
        CommandError: unknown, or with the wrong number of arguments.
    """
    found = _SUBCOMMANDS.get(argv[1].lower())
    if found is None or not found[0] <= len(argv) <= found[1]:
        raise CommandError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try DEBUG HELP."
            % argv[1][:128]
        )
    return found[2](server, client, argv)


def _sub(name: bytes, least: int, most: int | None = None) -> Callable[[Handler], Handler]:
    def declare(handler: Handler) -> Handler:
        _SUBCOMMANDS[name] = (least, most if most is not None else least, handler)
        return handler

    return declare


# ------------------------------------------------------------------- the dataset


@_sub(b"digest", 2)
def _digest(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG DIGEST: one hash for the whole dataset; equal data, equal hash."""
    keyspace = server.engine.keyspace
    return Status(
        digest_dataset((db.index, db.items()) for db in keyspace.nonempty()).hex().encode()
    )


@_sub(b"digest-value", 2, MANY)
def _digest_value(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG DIGEST-VALUE key ...: a hash of each value."""
    db = client.db
    found = []
    for key in argv[2:]:
        value = db.peek(key)
        if value is None:
            found.append(Status(b"0" * 40))
        else:
            has_expiry = db.expires_at_ms(key) is not None
            found.append(Status(digest_key(b"", value, has_expiry).hex().encode()))
    return found


@_sub(b"object", 3, 4)
def _object(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG OBJECT key: where a value is, how it is encoded, how long its dump would be."""
    value = client.db.peek(argv[2])
    if value is None:
        raise NO_SUCH_KEY
    return Status(
        b"Value at:0x%x refcount:1 encoding:%b serializedlength:%d lru:%d lru_seconds_idle:%d"
        % (
            id(value),
            encoding(value),
            _serialized_length(value, server),
            server.engine.keyspace.now_ms // 1000 & 0xFFFFFF,
            0,
        )
    )


def _serialized_length(value: object, server: Server) -> int:
    limits = server.engine.keyspace.limits
    type_code, plain = rdb_type_and_value(value, limits)
    return len(encode_key(b"", type_code, plain)) - 2  # without the type code and an empty key


@_sub(b"populate", 3, 5)
def _populate(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG POPULATE count [prefix [size]]: string keys by the number, not propagated."""
    count = integer(argv[2])
    prefix = argv[3] if len(argv) > 3 else b"key"
    size = integer(argv[4]) if len(argv) > 4 else 0
    if count < 0 or size < 0:
        raise CommandError(b"ERR value is out of range, must be positive")
    db = client.db
    for number in range(count):
        key = b"%b:%d" % (prefix, number)
        if db.peek(key) is None:
            value = b"value:%d" % number
            if size:
                value = value[:size].ljust(size, b"\0")
            db.set(key, value)
            db.changed(key, NOTIFY_STRING, b"set", 0)
    return OK


@_sub(b"reload", 2, MANY)
def _reload(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG RELOAD [NOSAVE] [NOFLUSH] [MERGE]: save, and load again."""
    options = {word.lower() for word in argv[2:]}
    if options - {b"nosave", b"noflush", b"merge"}:
        raise CommandError(b"ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    if b"nosave" not in options:
        server.saver.save()
    keyspace = server.engine.keyspace
    if b"noflush" not in options:
        server.engine.flush_for_load(lazily=False)
    loader = SnapshotLoader(
        keyspace,
        verify_checksum=server.config.rdbchecksum,
        replace=b"merge" in options,
        log=server.log.notice,
    )
    try:
        with server.loading(0):
            for chunk in server.disk.read(server.config.dbfilename, 1 << 20):
                loader.feed(chunk)
            loaded = loader.close()
    except (RdbError, StorageError) as error:
        server.log.warning(f"DEBUG RELOAD failed: {error}")
        raise CommandError(b"ERR Error trying to load the RDB dump, check server logs.") from error
    server.adopt_functions(loaded.functions)
    server.log.warning("DB reloaded by DEBUG RELOAD")
    return OK


@_sub(b"loadaof", 2)
def _loadaof(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG LOADAOF: write the log out, and load the dataset from it."""
    if not server.aof.is_on:
        raise CommandError(b"ERR the append-only file is off")
    server.aof.reload()
    server.log.warning("Append Only File loaded by DEBUG LOADAOF")
    return OK


# ------------------------------------------------------------------ time and cron


@_sub(b"sleep", 3)
def _sleep(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SLEEP seconds: stop the whole server for a while."""
    seconds = parse_float(argv[2])
    time.sleep(max(seconds or 0.0, 0.0))
    server.refresh_time()
    return OK


@_sub(b"set-active-expire", 3)
def _set_active_expire(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SET-ACTIVE-EXPIRE 0|1: whether keys expire without being asked for."""
    server.cron.active_expiry = bool(integer(argv[2]))
    return OK


@_sub(b"pause-cron", 3)
def _pause_cron(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG PAUSE-CRON 0|1."""
    server.cron.paused = bool(integer(argv[2]))
    return OK


# --------------------------------------------------------------------- replication


@_sub(b"change-repl-id", 2)
def _change_repl_id(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG CHANGE-REPL-ID: our replicas will not be able to resume."""
    server.replication.machine.history.change()
    server.log.warning("Changing replication IDs after receiving change-repl-id")
    return OK


@_sub(b"replicate", 4, MANY)
def _replicate(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG REPLICATE <aof|repl|both> command ...: propagate without running."""
    where = argv[2].lower()
    targets = {b"aof": 1, b"repl": 2, b"both": 3}.get(where, 3)
    rest = argv[3:] if where in (b"aof", b"repl", b"both") else argv[2:]
    server.engine.propagation.also(client.db.index, rest, targets)
    return OK


# ------------------------------------------------------------------- the protocol


@_sub(b"protocol", 3)
def _protocol(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG PROTOCOL type: a reply of that type, for authors of clients."""
    kind = argv[2].lower()
    match kind:
        case b"string":
            return b"Hello World"
        case b"integer":
            return 12345
        case b"double":
            return 3.141
        case b"null":
            return None
        case b"array":
            return [0, 1, 2]
        case b"set":
            return SetReply([0, 1, 2])
        case b"map":
            return {0: False, 1: True, 2: False}
        case b"true":
            return True
        case b"false":
            return False
        case b"verbatim":
            return Verbatim(b"This is a verbatim\nstring")
        case b"push":
            return Push([b"server-cpu-usage", 42])
        case b"bignum" | b"attrib":
            raise CommandError(b"ERR this type is not supported by DEBUG PROTOCOL here")
        case _:
            raise CommandError(
                b"ERR Wrong protocol type name. Please use one of the following: string|integer|"
                b"double|null|array|set|map|attrib|push|verbatim|true|false"
            )


@_sub(b"stringmatch-len", 4)
def _stringmatch_len(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG STRINGMATCH-LEN length pattern: match a string of that many a's."""
    return int(glob.match(argv[3], b"a" * integer(argv[2])))


@_sub(b"log", 3)
def _log(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG LOG message."""
    server.log.warning(f"DEBUG LOG: {argv[2].decode(errors='backslashreplace')}")
    return OK


@_sub(b"error", 3)
def _error(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG ERROR text: reply with that error."""
    raise CommandError(argv[2].translate(bytes.maketrans(b"\r\n", b"  ")))


# ------------------------------------------------------------------- the process


@_sub(b"segfault", 2)
def _segfault(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SEGFAULT: crash, to see what a crash leaves in the log."""
    server.log.warning("kvrepl crashed by signal: 11, DEBUG SEGFAULT")
    os.kill(os.getpid(), signal.SIGSEGV)
    return OK


@_sub(b"panic", 2)
def _panic(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG PANIC: end as after a failed assertion."""
    server.log.warning("Guru Meditation: called by DEBUG PANIC; crashed by signal: 6")
    os.kill(os.getpid(), signal.SIGABRT)
    return OK


@_sub(b"oom", 2)
def _oom(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG OOM: end as when memory runs out."""
    server.log.warning("Out Of Memory (DEBUG OOM)")
    os.kill(os.getpid(), signal.SIGABRT)
    return OK


@_sub(b"jmap", 2)
def _jmap(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG JMAP is refused, as in Redis."""
    raise CommandError(b"ERR DEBUG JMAP is not supported")


@_sub(b"set-skip-checksum-validation", 3)
def _skip_checksum(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SET-SKIP-CHECKSUM-VALIDATION 0|1: for RESTORE and RDB files."""
    server.engine.skip_checksum = bool(integer(argv[2]))
    return OK


@_sub(b"set-disable-deny-scripts", 3)
def _disable_deny_scripts(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SET-DISABLE-DENY-SCRIPTS 0|1."""
    integer(argv[2])
    return OK


@_sub(b"config-rewrite-force-all", 2)
def _rewrite_force_all(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG CONFIG-REWRITE-FORCE-ALL: rewrite every setting, defaults as well."""
    return server.host.config_rewrite(force_all=True)


@_sub(b"help", 2)
def _help(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG HELP."""
    lines = [b"DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for name, (_, _, handler) in sorted(_SUBCOMMANDS.items()):
        lines.append(name.upper())
        text = (handler.__doc__ or "").strip().partition("\n")[0].partition(": ")[2]
        if text:
            lines.append(b"    " + text[0].upper().encode() + text[1:].encode())
    return [Status(line) for line in lines]
