"""PFADD, PFCOUNT, PFMERGE, and what there is to look inside.

The values are strings in the format of kvrepl.datatypes.hyperloglog; a string that lacks it is
refused. They are changed in place, as bytearrays, also by PFCOUNT, which keeps what it computed.

Source: Redis 7.0 hyperloglog.c.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING, Final

from kvrepl.config.notify import NOTIFY_STRING
from kvrepl.datatypes import hyperloglog as hll
from kvrepl.engine.spec import command
from kvrepl.errors import CommandError
from kvrepl.resp.values import OK, Reply, Status

if TYPE_CHECKING:
    from random import Random

    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

NOT_HYPERLOGLOG: Final = CommandError(b"WRONGTYPE Key is not a valid HyperLogLog string value.")
NO_KEY: Final = CommandError(b"ERR The specified key does not exist")
NOT_SPARSE: Final = CommandError(b"ERR HLL encoding is not sparse")

_SPARSE_MAX_BYTES: Final = 3000
_SELF_TEST_CHECKPOINTS: Final = (1, 10, 100, 1_000, 10_000)


@command("pfadd", -2, "write denyoom fast", keys=["RW insert @1"], acl="hyperloglog")
def pfadd(c: Client, argv: list[bytes]) -> Reply:
    """Add elements to a HyperLogLog; creates it. O(elements), a sparse one is read each time."""
    db, key = c.db, argv[1]
    sparse_max_bytes = c.engine.config.hll_sparse_max_bytes
    changes = 0
    value = _editable(db, key, _checked(db.edit_string(key)))
    if value is None:
        value = hll.create()
        db.set(key, value)
        changes += 1
    for element in argv[2:]:
        changes += hll.add(value, element, sparse_max_bytes)
    if not changes:
        return 0
    hll.invalidate(value)
    db.changed(key, NOTIFY_STRING, b"pfadd", changes)
    return 1


@command(
    "pfcount",
    -2,
    "readonly may_replicate",
    keys=[
        "RW access @1..-1 ; RW because it may change the internal representation of the key, and"
        " propagate to replicas"
    ],
    acl="hyperloglog",
)
def pfcount(c: Client, argv: list[bytes]) -> Reply:
    """Get the approximated cardinality of a HyperLogLog, or of the union of some. O(keys).

    Propagates: itself, where it noted the result in its only key.
    """
    db = c.db
    if len(argv) > 2:
        return hll.estimate(_union(db, argv[1:])[0])
    key = argv[1]
    value = _editable(db, key, _checked(db.read_string(key)))
    if value is None:
        return 0
    count = hll.cached_count(value)
    if count is None:
        count = hll.estimate(hll.registers(value))
        hll.cache_count(value, count)
        db.changed(key, 0, b"")
    return count


@command(
    "pfmerge",
    -2,
    "write denyoom",
    keys=["RW access insert @1", "RO access @2..-1"],
    acl="hyperloglog",
)
def pfmerge(c: Client, argv: list[bytes]) -> Reply:
    """Merge HyperLogLogs into the first of them; creates it. O(keys)."""
    db, key = c.db, argv[1]
    plain, dense = _union(db, argv[1:])
    value = _editable(db, key, db.edit_string(key))
    if value is None:
        value = hll.create()
        db.set(key, value)
    if dense:
        hll.to_dense(value)
    hll.merge(value, plain, c.engine.config.hll_sparse_max_bytes)
    hll.invalidate(value)
    db.changed(key, NOTIFY_STRING, b"pfadd")
    return OK


@command("pfdebug", 3, "write denyoom admin", keys=["RW access @2"], acl="hyperloglog")
def pfdebug(c: Client, argv: list[bytes]) -> Reply:
    """Look inside a HyperLogLog: GETREG, DECODE, ENCODING, TODENSE. O(registers).

    Propagates: itself, where it changed the encoding (GETREG does as well).
    """
    db, key = c.db, argv[2]
    value = _editable(db, key, _checked(db.edit_string(key)))
    if value is None:
        raise NO_KEY
    what = argv[1].upper()
    sparse = hll.is_sparse(value)
    if what in (b"GETREG", b"TODENSE"):
        if sparse:
            hll.to_dense(value)
            db.keyspace.dirty += 1
        return int(sparse) if what == b"TODENSE" else list(hll.registers(value))
    if what == b"DECODE":
        if not sparse:
            raise NOT_SPARSE
        return hll.describe(value)
    if what == b"ENCODING":
        return Status(b"sparse" if sparse else b"dense")
    raise CommandError(b"ERR Unknown PFDEBUG subcommand '%b'" % argv[1])


@command("pfselftest", 1, "admin", acl="hyperloglog")
def pfselftest(c: Client, argv: list[bytes]) -> Reply:
    """Check that both encodings agree and that the estimate is as good as it should be. 100 ms.

    Raises:
        CommandError: TESTFAILED, and what was found.
    """
    fault = _self_test(c.engine.rng)
    if fault:
        raise CommandError(b"TESTFAILED %b" % fault)
    return OK


def _self_test(rng: Random) -> bytes:
    """What is wrong with our HyperLogLog, empty where nothing is."""
    sparse, dense = hll.create(), hll.create()
    hll.to_dense(dense)
    added = 0
    for checkpoint in _SELF_TEST_CHECKPOINTS:
        while added < checkpoint:
            element = rng.randbytes(8)
            hll.add(sparse, element, _SPARSE_MAX_BYTES)
            hll.add(dense, element, _SPARSE_MAX_BYTES)
            added += 1
        plain = hll.registers(sparse)
        if plain != hll.registers(dense):
            return b"dense/sparse disagree"
        error = abs(hll.estimate(plain) - checkpoint)
        # Six standard errors: seen once in 500 million tests. Of few elements two may collide.
        if error > max(1, ceil(6 * 1.04 / sqrt(hll.REGISTERS) * checkpoint)):
            return b"Too big error. card:%d abserr:%d" % (checkpoint, error)
    return b""


def _checked(value: bytes | bytearray | None) -> bytes | bytearray | None:
    if value is not None and not hll.is_valid(value):
        raise NOT_HYPERLOGLOG
    return value


def _editable(db: Database, key: bytes, value: bytes | bytearray | None) -> bytearray | None:
    """The string at a key as one that can be changed in place."""
    if type(value) is bytes:
        value = bytearray(value)
        db.set(key, value, keep_ttl=True)
    return value  # type: ignore[return-value]  # what is not bytes is a bytearray or None


def _union(db: Database, keys: list[bytes]) -> tuple[bytes, bool]:
    """The union of some keys: its plain registers, and whether any of the values is dense."""
    plain = bytes(hll.REGISTERS)
    dense = False
    for key in keys:
        value = _checked(db.read_string(key))
        if value is not None:
            dense = dense or not hll.is_sparse(value)
            plain = hll.union(plain, hll.registers(value))
    return plain, dense
