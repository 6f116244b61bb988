"""DEBUG: for tests and for looking inside; what the test rigs of Redis lean on.

Source: Redis 7.0 debug.c (debugCommand).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kvrepl import glob
from kvrepl.commands.arguments import INT64_MAX, NOT_POSITIVE, integer, integer_in
from kvrepl.config.notify import NOTIFY_STRING
from kvrepl.config.text import parse_memory
from kvrepl.datatypes.packed import unpack
from kvrepl.datatypes.records import rdb_type_and_value
from kvrepl.engine.client_pools import FIRST_LIMIT_BITS, POOLS
from kvrepl.errors import NO_SUCH_KEY, CommandError, StorageError
from kvrepl.keyspace.digest import digest_dataset, digest_value
from kvrepl.keyspace.encoding import encoding
from kvrepl.numbers import parse_float
from kvrepl.persistence.snapshot import SnapshotLoader
from kvrepl.resp.values import OK, Encoded, Push, Reply, SetReply, Status, Verbatim
from rdb import Packed, RdbError, encode_key

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database
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
        raise _unknown(argv)
    return found[2](server, client, argv)


def _unknown(argv: list[bytes]) -> CommandError:
    return CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try DEBUG HELP."
        % argv[1][:128]
    )


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
        value = _value_of(db, key)
        if value is None:
            found.append(Status(b"0" * 40))
        else:
            has_expiry = db.expires_at_ms(key) is not None
            found.append(Status(digest_value(value, has_expiry).hex().encode()))
    return found


@_sub(b"object", 3, 4)
def _object(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG OBJECT key: where a value is, how it is encoded, how long its dump would be."""
    value = client.db.peek(argv[2])
    if value is None:
        raise NO_SUCH_KEY
    access = client.engine.keyspace.access
    idle_s = 0 if access is None or access.is_lfu else client.db.access_figure(argv[2]) or 0
    return Status(
        b"Value at:0x%x refcount:1 encoding:%b serializedlength:%d lru:%d lru_seconds_idle:%d"
        % (
            id(value),
            encoding(value),
            _serialized_length(value, server),
            (server.engine.keyspace.now_ms // 1000 - idle_s) & 0xFFFFFF,
            idle_s,
        )
    )


def _serialized_length(value: object, server: Server) -> int:
    limits = server.engine.keyspace.limits
    type_code, plain = rdb_type_and_value(value, limits)
    return len(encode_key(b"", type_code, plain)) - 2  # without the type code and an empty key


@_sub(b"populate", 3, 5)
def _populate(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG POPULATE count [prefix [size]]: string keys by the number, not propagated."""
    count = integer_in(argv[2], 0, INT64_MAX, NOT_POSITIVE)
    prefix = argv[3] if len(argv) > 3 else b"key"
    size = integer_in(argv[4], 0, INT64_MAX, NOT_POSITIVE) if len(argv) > 4 else 0
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
        drop_expired_at_ms=None if server.engine.is_replica else server.clock.now_ms(),
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
        raise CommandError(b"ERR Error trying to load the RDB dump") from error
    server.saver.last_loaded = loaded
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


@_sub(b"htstats", 3)
def _htstats(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG HTSTATS dbid: how evenly the keys of a database are spread. O(segments)."""
    databases = server.engine.keyspace.databases
    index = integer(argv[2])
    if not 0 <= index < len(databases):
        raise CommandError(b"ERR Out of range database")
    db = databases[index]
    text = "[Dictionary HT]\n" + _spread([len(segment) for _, segment, _ in db.parts()])
    text += "[Expires HT]\n" + _spread([len(expires) for _, _, expires in db.parts()])
    return Verbatim(text.encode())


@_sub(b"htstats-key", 3)
def _htstats_key(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG HTSTATS-KEY key: the same for one value that is a hash table."""
    value = _value(client, argv[2])
    if encoding(value) != b"hashtable":
        raise CommandError(
            b"ERR The value stored at the specified key is not represented using an hash table"
        )
    return Verbatim(_spread([len(value)]).encode())


def _spread(sizes: list[int]) -> str:
    """The sizes of tables in the words of Redis's dictGetStats."""
    total = sum(sizes)
    if not total:
        return "No stats available for empty dictionaries\n"
    used = sum(size > 0 for size in sizes)
    return (
        f"Hash table 0 stats (main hash table):\n table size: {len(sizes)}\n"
        f" number of elements: {total}\n different slots: {used}\n"
        f" max chain length: {max(sizes)}\n avg chain length (counted): {total / used:.2f}\n"
    )


@_sub(b"listpack", 3)
def _listpack(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG LISTPACK key: log a value that is kept as a listpack."""
    value = _value(client, argv[2])
    if encoding(value) != b"listpack":
        raise CommandError(b"ERR Not a listpack encoded object.")
    server.log.warning(f"DEBUG LISTPACK: {value!r}"[:4096])
    return Status(b"Listpack structure printed on stdout")


@_sub(b"quicklist", 3, 4)
def _quicklist(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG QUICKLIST key [0|1]: log a list."""
    value = _value(client, argv[2])
    if encoding(value) != b"quicklist":
        raise CommandError(b"ERR Not a quicklist encoded object.")
    server.log.warning(f"DEBUG QUICKLIST: {value!r}"[:4096])
    return Status(b"Quicklist structure printed on stdout")


@_sub(b"sdslen", 3)
def _sdslen(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SDSLEN key: the lengths of a key and of its string."""
    value = _value(client, argv[2])
    if type(value) not in (bytes, bytearray):
        raise CommandError(b"ERR Not an sds encoded string.")
    return Status(
        b"key_sds_len:%d, key_sds_avail:0, key_zmalloc: %d,"
        b" val_sds_len:%d, val_sds_avail:0, val_zmalloc: %d"
        % (len(argv[2]), sys.getsizeof(argv[2]), len(value), sys.getsizeof(value))
    )


def _value(client: Client, key: bytes) -> Any:
    value = _value_of(client.db, key)
    if value is None:
        raise NO_SUCH_KEY
    return value


def _value_of(db: Database, key: bytes) -> Any:
    """A value, unpacked, without a look-up that would be counted."""
    value = db.peek(key)
    return unpack(value, db.keyspace.limits) if isinstance(value, Packed) else value


@_sub(b"pack", 2)
def _pack(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG PACK: pack every small collection now, used or not; how many that are."""
    if server.children.active is not None:
        raise CommandError(b"ERR a child runs, and would have its memory copied")
    server.packing.compress = server.config.rdbcompression
    return server.packing.pack_all()


@_sub(b"quicklist-packed-threshold", 3)
def _packed_threshold(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG QUICKLIST-PACKED-THRESHOLD size: accepted; a long element is no special case here."""
    size = parse_memory(argv[2])
    if size is None or size >= 1 << 32:
        raise CommandError(
            b"ERR argument must be a memory value bigger than 1 and smaller than 4gb"
        )
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


@_sub(b"aof-flush-sleep", 3)
def _aof_flush_sleep(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG AOF-FLUSH-SLEEP microseconds: be slow whenever the AOF has something to write."""
    sleep_us = integer(argv[2])
    steps = server.turn.steps
    steps[:] = [step for step in steps if not isinstance(step, _FlushSleep)]
    if sleep_us > 0:
        steps.insert(0, _FlushSleep(server, sleep_us / 1e6))
    return OK


@dataclass
class _FlushSleep:
    """A step of the turn, before that of the AOF."""

    server: Server
    sleep_s: float

    def __call__(self) -> None:
        if self.server.aof.log.writer.buffer_bytes:
            time.sleep(self.sleep_s)


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
            if client.resp == 2:
                raise CommandError(b"ERR RESP2 is not supported by this command")
            client.send(Push([b"server-cpu-usage", 42]))
            return b"Some real reply following the push reply"
        case b"bignum":
            number = b"1234567999999999999999999999999999999"
            return number if client.resp == 2 else Encoded(b"(%b\r\n" % number)
        case b"attrib":
            if client.resp > 2:
                client.send(
                    Encoded(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n")
                )
            return b"Some real reply following the attribute"
        case _:
            raise CommandError(
                b"ERR Wrong protocol type name. Please use one of the following: string|integer|"
                b"double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
            )


@_sub(b"replybuffer", 4)
def _replybuffer(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG REPLYBUFFER RESIZING|PEAK-RESET-TIME value: accepted; there is no fixed buffer."""
    match argv[2].lower():
        case b"resizing":
            integer(argv[3])
        case b"peak-reset-time":
            if argv[3].lower() not in (b"never", b"reset"):
                integer(argv[3])
        case _:
            raise _unknown(argv)
    return OK


@_sub(b"client-eviction", 2)
def _client_eviction(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG CLIENT-EVICTION: how many clients of which size there are."""
    pools = server.clients.eviction.pools
    if pools is None:
        raise CommandError(b"ERR maxmemory-clients is disabled.")
    limits = [0] + [1 << (FIRST_LIMIT_BITS + i) for i in range(POOLS - 1)]
    ends = [b" - %10d: " % (limit - 1) for limit in limits[1:]] + [b"+            : "]
    return Verbatim(
        b"".join(
            b"bucket %10d%btot-mem: %10d, clients: %d\n" % (limit, end, size_bytes, count)
            for limit, end, (size_bytes, count) in zip(limits, ends, pools.describe(), strict=True)
        )
    )


@_sub(b"stringmatch-len", 4)
def _stringmatch_len(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG STRINGMATCH-LEN length pattern: match a string of that many a's.

    For test rigs that know it; 7.0.15 itself does not.
    """
    return int(glob.match(argv[3], b"a" * integer(argv[2])))


@_sub(b"log", 3)
def _log(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG LOG message."""
    server.log.warning(f"DEBUG LOG: {argv[2].decode(errors='backslashreplace')}")
    return OK


@_sub(b"error", 3)
def _error(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG ERROR text: reply with that error, which counts as none."""
    return Encoded(b"-%b\r\n" % argv[2].translate(bytes.maketrans(b"\r\n", b"  ")))


# ------------------------------------------------------------------- the process


@_sub(b"segfault", 2)
def _segfault(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG SEGFAULT: crash, to see what a crash leaves in the log."""
    ctypes.string_at(0)
    return OK


@_sub(b"panic", 2)
def _panic(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG PANIC: end as after a mistake that nothing can be trusted after."""
    server.faults.panic(RuntimeError("called by DEBUG PANIC"))


@_sub(b"assert", 2)
def _assert(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG ASSERT: end as after a failed assertion."""
    server.log.warning("=== ASSERTION FAILED ===")
    server.faults.panic(AssertionError("1 == 2"))


@_sub(b"oom", 2)
def _oom(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG OOM: end as when memory runs out."""
    server.log.warning("Out Of Memory (DEBUG OOM)")
    server.faults.panic(MemoryError("called by DEBUG OOM"))


@_sub(b"restart", 2, 3)
def _restart(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG RESTART [milliseconds]: save, and start anew in the same process."""
    delay_ms = _delay(argv)
    if server.config.config_file:
        server.host.config_rewrite()
    if not server.shutdown.prepare_restart():
        raise CommandError(b"ERR failed to restart the server. Check server logs.")
    _start_anew(server, delay_ms)
    return OK


@_sub(b"crash-and-recover", 2, 3)
def _crash_and_recover(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG CRASH-AND-RECOVER [milliseconds]: start anew in the same process, saving nothing."""
    _start_anew(server, _delay(argv))
    return OK


def _delay(argv: list[bytes]) -> int:
    return max(integer(argv[2]), 0) if len(argv) > 2 else 0


def _start_anew(server: Server, delay_ms: int) -> None:
    """Replace the program of this process; its sockets and files close by themselves."""
    time.sleep(delay_ms / 1000)
    server.remove_pidfile()
    try:
        os.chdir(server.start_dir)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError as error:
        server.log.warning(f"Can't restart: {error.strerror}")
        raise CommandError(b"ERR failed to restart the server. Check server logs.") from error


@_sub(b"structsize", 2)
def _structsize(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG STRUCTSIZE: bytes that values take before anything is in them."""
    kinds: tuple[object, ...] = (b"", [], {}, set())
    sizes = b" ".join(b"%b:%d" % (type(v).__name__.encode(), sys.getsizeof(v)) for v in kinds)
    return Status(b"bits:64 " + sizes)


@_sub(b"leak", 3)
def _leak(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG LEAK string: keep a string for ever."""
    _LEAKED.append(argv[2])
    return OK


_LEAKED: Final[list[bytes]] = []


@_sub(b"drop-cluster-packet-filter", 3)
@_sub(b"clusterlink", 5)
def _no_cluster(server: Server, client: Client, argv: list[bytes]) -> Reply:
    """DEBUG of the cluster: refused, there is none."""
    raise CommandError(b"ERR Debug option only available for cluster mode enabled setup!")


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
