"""Keys as such, whatever they hold: delete, look, rename, move, copy, serialize.

Source: Redis 7.0 db.c, lazyfree.c, cluster.c (DUMP, RESTORE).
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import INT64_MAX, database, integer
from kvrepl.config.notify import NOTIFY_GENERIC
from kvrepl.datatypes.records import from_rdb, rdb_type_and_value
from kvrepl.engine.spec import command
from kvrepl.errors import NO_SUCH_KEY, SYNTAX, CommandError
from kvrepl.keyspace.access import LFU_MAX
from kvrepl.keyspace.encoding import type_name
from kvrepl.resp.values import OK, Reply, Status
from rdb import RdbError
from rdb.payload import decode_payload, encode_payload, verify_payload

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

SAME_OBJECT: Final = CommandError(b"ERR source and destination objects are the same")
BUSYKEY: Final = CommandError(b"BUSYKEY Target key name already exists.")
INVALID_TTL: Final = CommandError(b"ERR Invalid TTL value, must be >= 0")
INVALID_IDLETIME: Final = CommandError(b"ERR Invalid IDLETIME value, must be >= 0")
INVALID_FREQ: Final = CommandError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
WRONG_PAYLOAD: Final = CommandError(b"ERR DUMP payload version or checksum are wrong")
BAD_DATA: Final = CommandError(b"ERR Bad data format")

COLLECTIONS: Final = frozenset((b"list", b"set", b"hash", b"zset"))
"""The types of which there is no empty value."""

_SUM: Final = ["request_policy:multi_shard", "response_policy:agg_sum"]


# ------------------------------------------------------------------ deletion


def _delete(c: Client, argv: list[bytes], *, lazily: bool) -> int:
    db = c.db
    delete = db.unlink if lazily else db.delete
    count = 0
    for key in argv[1:]:
        if db.exists_for_write(key):
            delete(key)
            db.changed(key, NOTIFY_GENERIC, b"del")
            count += 1
    return count


@command("del", -2, "write", keys=["RM delete @1..-1"], acl="keyspace", tips=_SUM)
def del_(c: Client, argv: list[bytes]) -> Reply:
    """Delete keys. O(keys), and O(elements) for each collection."""
    return _delete(c, argv, lazily=c.engine.config.lazyfree_lazy_user_del)


@command("unlink", -2, "write fast", keys=["RM delete @1..-1"], acl="keyspace", tips=_SUM)
def unlink(c: Client, argv: list[bytes]) -> Reply:
    """Delete keys, leaving the memory of large values to be freed later. O(keys)."""
    return _delete(c, argv, lazily=True)


# -------------------------------------------------------------------- looking


@command("exists", -2, "readonly fast", keys=["RO @1..-1"], acl="keyspace", tips=_SUM)
def exists(c: Client, argv: list[bytes]) -> Reply:
    """Count how many of the keys exist, one named twice counting twice. O(keys)."""
    return len(argv) - 1 - list(map(c.db.inspect, argv[1:])).count(None)


@command("touch", -2, "readonly fast", keys=["RO @1..-1"], acl="keyspace", tips=_SUM)
def touch(c: Client, argv: list[bytes]) -> Reply:
    """Count how many of the keys exist, and take that for an access. O(keys)."""
    return len(argv) - 1 - list(map(c.db.get_packed, argv[1:])).count(None)


@command("type", 2, "readonly fast", keys=["RO @1"], acl="keyspace")
def type_(c: Client, argv: list[bytes]) -> Reply:
    """Tell the type of the value stored at a key. O(1)."""
    value = c.db.inspect(argv[1])
    return Status(b"none" if value is None else type_name(value))


# ----------------------------------------------------------- rename, move, copy


@command(
    "rename",
    3,
    "write",
    keys=["RW access delete @1", "OW update @2"],
    acl="keyspace",
)
def rename(c: Client, argv: list[bytes]) -> Reply:
    """Rename a key, replacing what has the new name. O(1)."""
    _rename(c, argv, replace=True)
    return OK


@command(
    "renamenx",
    3,
    "write fast",
    keys=["RW access delete @1", "OW insert @2"],
    acl="keyspace",
)
def renamenx(c: Client, argv: list[bytes]) -> Reply:
    """Rename a key, only if no key has the new name. O(1)."""
    return int(_rename(c, argv, replace=False))


def _rename(c: Client, argv: list[bytes], *, replace: bool) -> bool:
    db, old, new = c.db, argv[1], argv[2]
    value = db.get_for_write(old)
    if value is None:
        raise NO_SUCH_KEY
    if old == new:
        return False
    expires_at_ms = db.expires_at_ms(old)
    figure = db.access_figure(old)
    if db.exists_for_write(new):
        if not replace:
            return False
        (db.unlink if c.engine.config.lazyfree_lazy_server_del else db.delete)(new)
    db.delete(old)
    _put(db, new, value, expires_at_ms)
    db.put_access(new, idle_s=figure, freq=figure)
    db.changed(old, NOTIFY_GENERIC, b"rename_from")
    db.changed(new, NOTIFY_GENERIC, b"rename_to", 0)
    return True


def _put(db: Database, key: bytes, value: Any, expires_at_ms: int | None) -> None:
    db.set(key, value)
    if expires_at_ms is not None:
        db.expire_at(key, expires_at_ms)


@command("move", 3, "write fast", keys=["RW access update @1"], acl="keyspace")
def move(c: Client, argv: list[bytes]) -> Reply:
    """Move a key to another database, unless that has one of the name. O(1)."""
    source, key = c.db, argv[1]
    target = database(c, argv[2])
    if source is target:
        raise SAME_OBJECT
    value = source.get_for_write(key)
    if value is None:
        return 0
    expires_at_ms = source.expires_at_ms(key)
    figure = source.access_figure(key)
    if target.exists_for_write(key):
        return 0
    source.delete(key)
    _put(target, key, value, expires_at_ms)
    target.put_access(key, idle_s=figure, freq=figure)
    source.changed(key, NOTIFY_GENERIC, b"move_from")
    target.changed(key, NOTIFY_GENERIC, b"move_to", 0)
    return 1


@command("copy", -3, "write denyoom", keys=["RO access @1", "OW update @2"], acl="keyspace")
def copy(c: Client, argv: list[bytes]) -> Reply:
    """Copy a key's value and time to live to another name or database. O(elements)."""
    source = target = c.db
    replace = False
    i = 3
    while i < len(argv):
        option = argv[i].upper()
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and i + 1 < len(argv):
            i += 1
            target = database(c, argv[i])
        else:
            raise SYNTAX
        i += 1
    key, new = argv[1], argv[2]
    if source is target and key == new:
        raise SAME_OBJECT
    value = source.get(key)
    if value is None:
        return 0
    expires_at_ms = source.expires_at_ms(key)
    if target.exists_for_write(new):
        if not replace:
            return 0
        target.delete(new)
    _put(target, new, _copy(value), expires_at_ms)
    target.changed(new, NOTIFY_GENERIC, b"copy_to")
    return 1


def _copy(value: Any) -> Any:
    if type(value) is bytes:
        return value  # cannot be changed in place
    duplicate = getattr(value, "copy", None)
    return duplicate() if duplicate is not None else deepcopy(value)


# --------------------------------------------------------------- serialization


@command(
    "dump",
    2,
    "readonly",
    keys=["RO access @1"],
    acl="keyspace",
    tips=["nondeterministic_output"],
)
def dump(c: Client, argv: list[bytes]) -> Reply:
    """Get a key's value in the form in which RESTORE takes it. O(elements)."""
    value = c.db.get_packed(argv[1])
    if value is None:
        return None
    config = c.engine.config
    type_code, plain = rdb_type_and_value(value, c.engine.keyspace.limits)
    return encode_payload(
        type_code,
        plain,
        compress=config.rdbcompression,
        list_max_listpack_size=config.list_max_listpack_size,
        stream_node_max_bytes=config.stream_node_max_bytes,
        stream_node_max_entries=config.stream_node_max_entries,
    )


@command("restore", -4, "write denyoom", keys=["OW update @1"], acl="keyspace dangerous")
def restore(c: Client, argv: list[bytes]) -> Reply:
    """Make a key from what DUMP gave. O(elements).

    Propagates: itself, with a relative time to live as an instant and ABSTTL; the deletion of
    what was replaced, where that instant is past.
    """
    return _restore(c, argv)


@command(
    "restore-asking",
    -4,
    "write denyoom asking",
    keys=["OW update @1"],
    acl="keyspace dangerous",
)
def restore_asking(c: Client, argv: list[bytes]) -> Reply:
    """Make a key from what DUMP gave, during a migration between cluster nodes. O(elements)."""
    return _restore(c, argv)


def _restore(c: Client, argv: list[bytes]) -> Reply:
    replace, absolute, idle_s, freq = _restore_options(argv)
    db, key = c.db, argv[1]
    if not replace and db.exists_for_write(key):
        raise BUSYKEY
    ttl_ms = integer(argv[2])
    if ttl_ms < 0:
        raise INVALID_TTL
    value = _load(c, argv[3])
    deleted = replace and db.delete(key)
    if not ttl_ms:
        expires_at_ms = None
    else:
        expires_at_ms = ttl_ms if absolute else ttl_ms + c.engine.keyspace.now_ms
        if expires_at_ms > INT64_MAX:
            expires_at_ms -= 1 << 64  # it overflows in Redis, and so is long past
    propagation = c.engine.propagation
    if expires_at_ms is not None and c.engine.deletes_past(expires_at_ms):
        if deleted:
            verb = b"UNLINK" if c.engine.config.lazyfree_lazy_server_del else b"DEL"
            propagation.instead([verb, key])
            db.changed(key, NOTIFY_GENERIC, b"del")
        return OK
    _put(db, key, value, expires_at_ms)
    db.put_access(key, idle_s=idle_s, freq=freq)
    if expires_at_ms is not None and not absolute:
        propagation.instead([*argv[:2], b"%d" % expires_at_ms, *argv[3:], b"ABSTTL"])
    db.changed(key, NOTIFY_GENERIC, b"restore")
    return OK


def _restore_options(argv: list[bytes]) -> tuple[bool, bool, int | None, int | None]:
    """Read the options: REPLACE, ABSTTL, and the figures of IDLETIME and FREQ."""
    replace = absolute = False
    idle_s: int | None = None
    freq: int | None = None
    i = 4
    while i < len(argv):
        option = argv[i].upper()
        if option == b"REPLACE":
            replace = True
        elif option == b"ABSTTL":
            absolute = True
        elif option == b"IDLETIME" and i + 1 < len(argv) and freq is None:
            i += 1
            idle_s = integer(argv[i])
            if idle_s < 0:
                raise INVALID_IDLETIME
        elif option == b"FREQ" and i + 1 < len(argv) and idle_s is None:
            i += 1
            freq = integer(argv[i])
            if not 0 <= freq <= LFU_MAX:
                raise INVALID_FREQ
        else:
            raise SYNTAX
        i += 1
    return replace, absolute, idle_s, freq


def _load(c: Client, payload: bytes) -> object:
    if not (c.engine.skip_checksum or verify_payload(payload)):
        raise WRONG_PAYLOAD
    try:
        type_code, plain = decode_payload(payload)
        value = from_rdb(type_code, plain, c.engine.keyspace.limits)
    except RdbError:
        raise BAD_DATA from None
    if type_name(value) in COLLECTIONS and not value:
        raise BAD_DATA
    return value
