"""Bitmaps: single bits, counting and finding them, bitwise operations, fields of some bits.

A bitmap is a string. The first command that may write to it makes it a bytearray, which then grows
and changes in place (encoding raw, as in Redis), even where no bit changes.

Source: Redis 7.0 bitops.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from kvrepl.commands.arguments import INT64_MAX, UINT64_MAX, integer, integer_in
from kvrepl.commands.elements import store
from kvrepl.config.notify import NOTIFY_STRING
from kvrepl.datatypes import bitmaps
from kvrepl.datatypes.bitmaps import FAIL, SAT, WRAP, FieldType
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.numbers import parse_int
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.keyspace.database import Database

OFFSET_RANGE: Final = CommandError(b"ERR bit offset is not an integer or out of range")
BIT_RANGE: Final = CommandError(b"ERR bit is not an integer or out of range")
BIT_ARGUMENT: Final = CommandError(b"ERR The bit argument must be 1 or 0.")
ONE_SOURCE: Final = CommandError(b"ERR BITOP NOT must be called with a single source key.")
FIELD_TYPE: Final = CommandError(
    b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64"
    b" is."
)
OVERFLOW_TYPE: Final = CommandError(b"ERR Invalid OVERFLOW type specified")
ONLY_GET: Final = CommandError(b"ERR BITFIELD_RO only supports the GET subcommand")

_MAX_BITS: Final = {b"i": 64, b"u": 63}


# ------------------------------------------------------------------- one bit


@command("setbit", 4, "write denyoom", keys=["RW access update @1"], acl="bitmap")
def setbit(c: Client, argv: list[bytes]) -> Reply:
    """Set or clear the bit at an offset, return what it was. O(1), O(bytes added) if it grows."""
    offset = _offset(c, argv[2])
    bit = integer_in(argv[3], 0, 1, BIT_RANGE)
    value, grown = _editable(c.db, argv[1], offset)
    old = bitmaps.get_bit(value, offset)
    if grown or old != bit:
        bitmaps.set_bit(value, offset, bit)
        c.db.changed(argv[1], NOTIFY_STRING, b"setbit")
    return old


@command("getbit", 3, "readonly fast", keys=["RO access @1"], acl="bitmap")
def getbit(c: Client, argv: list[bytes]) -> Reply:
    """Get the bit at an offset. O(1)."""
    offset = _offset(c, argv[2])
    value = c.db.read_string(argv[1])
    return 0 if value is None else bitmaps.get_bit(value, offset)


def _offset(c: Client, argument: bytes, bits: int = 0) -> int:
    """Read the offset of a bit, or with `bits`, of a field (`#2` is the third such field)."""
    by_field = bits > 0 and argument.startswith(b"#")
    offset = parse_int(argument[1:] if by_field else argument)
    if offset is None:
        raise OFFSET_RANGE
    if by_field:
        # The product is one of 64 bits in Redis, too: a great number can come out small.
        offset = offset * bits & UINT64_MAX
    limit = INT64_MAX if c.is_master else (c.engine.config.proto_max_bulk_len << 3) - 1
    if not 0 <= offset <= limit:
        raise OFFSET_RANGE
    return offset


def _editable(db: Database, key: bytes, offset: int) -> tuple[bytearray, bool]:
    """The string at a key, long enough for the bit at an offset; and whether it was not before."""
    value = db.edit_string(key)
    if type(value) is not bytearray:
        value = bytearray(value or b"")
        db.set(key, value, keep_ttl=True)
    return value, bitmaps.grow(value, offset)


# ------------------------------------------------------------------- many bits


@command("bitcount", -2, "readonly", keys=["RO access @1"], acl="bitmap")
def bitcount(c: Client, argv: list[bytes]) -> Reply:
    """Count set bits in a string, or in a range of its bytes or bits. O(bytes of the range)."""
    value = c.db.read_string(argv[1])
    if value is None:
        return 0
    if len(argv) == 2:
        bounds = _bits_between(0, -1, len(value), by_bit=False)
    elif len(argv) in (4, 5):
        start, stop = integer(argv[2]), integer(argv[3])
        if stop < start < 0:
            return 0  # before the unit is read, right or wrong
        by_bit = len(argv) == 5 and _counts_bits(argv[4])
        bounds = _bits_between(start, stop, len(value), by_bit=by_bit)
    else:
        raise SYNTAX
    return 0 if bounds is None else bitmaps.count(value, *bounds)


@command("bitpos", -3, "readonly", keys=["RO access @1"], acl="bitmap")
def bitpos(c: Client, argv: list[bytes]) -> Reply:
    """Find the first bit set or clear in a string. O(bytes looked at).

    Behind the string the bits are clear, unless the end of the range is given.
    """
    bit = integer(argv[2])
    if bit not in (0, 1):
        raise BIT_ARGUMENT
    value = c.db.read_string(argv[1])
    if value is None:
        return -1 if bit else 0
    if len(argv) > 6:
        raise SYNTAX
    start = integer(argv[3]) if len(argv) > 3 else 0
    by_bit = len(argv) == 6 and _counts_bits(argv[5])
    stop = integer(argv[4]) if len(argv) > 4 else -1
    bounds = _bits_between(start, stop, len(value), by_bit=by_bit)
    if bounds is None:
        return -1
    found = bitmaps.position(value, bit, *bounds)
    if found < 0 and not bit and len(argv) < 5:
        return 8 * len(value)
    return found


def _counts_bits(argument: bytes) -> bool:
    """Whether a range is given in bits and not in bytes."""
    unit = argument.upper()
    if unit not in (b"BIT", b"BYTE"):
        raise SYNTAX
    return unit == b"BIT"


def _bits_between(start: int, stop: int, length: int, *, by_bit: bool) -> tuple[int, int] | None:
    """The first and the last bit of a range, None for an empty one.

    Args:
        start: the first byte or bit; negative counts from the end.
        stop: the last one, likewise.
        length: of the string in bytes.
        by_bit: whether start and stop are bits.
    """
    total = length << 3 if by_bit else length
    if start < 0:
        start = max(start + total, 0)
    if stop < 0:
        stop = max(stop + total, 0)
    stop = min(stop, total - 1)
    if start > stop:
        return None
    return (start, stop) if by_bit else (start << 3, (stop << 3) + 7)


@command("bitop", -4, "write denyoom", keys=["OW update @2", "RO access @3..-1"], acl="bitmap")
def bitop(c: Client, argv: list[bytes]) -> Reply:
    """Store the result of a bitwise operation between strings. O(bytes of all sources)."""
    operation = argv[1].upper()
    if operation not in (b"AND", b"OR", b"XOR", b"NOT"):
        raise SYNTAX
    if operation == b"NOT" and len(argv) != 4:
        raise ONE_SOURCE
    sources = [c.db.read_string(key) or b"" for key in argv[3:]]
    result = bitmaps.combine(operation, sources)
    store(c.db, argv[2], result, NOTIFY_STRING, b"set")
    return len(result)


# ------------------------------------------------------------------- fields


class _Step(NamedTuple):
    """One operation of BITFIELD.

    Attributes:
        name: GET, SET or INCRBY.
        kind: what the field holds.
        offset: of its first bit.
        number: the argument of SET and INCRBY.
        policy: what is done where it does not fit.
    """

    name: bytes
    kind: FieldType
    offset: int
    number: int
    policy: bytes


def _bitfield_key_flags(argv: list[bytes]) -> tuple[str, ...]:
    """BITFIELD writes its key unless it has nothing but GET (and OVERFLOW, which then is idle)."""
    at = 2
    while at < len(argv):
        words = {b"GET": 3, b"OVERFLOW": 2}.get(argv[at].upper())
        if words is None or at + words > len(argv):
            return ("RW", "access", "update")
        at += words
    return ("RO", "access")


@command(
    "bitfield",
    -2,
    "write denyoom",
    keys=[
        "RW access update variable_flags @1 ; This command allows both access and modification of"
        " the key"
    ],
    acl="bitmap",
    key_flags=_bitfield_key_flags,
)
def bitfield(c: Client, argv: list[bytes]) -> Reply:
    """Read, set and increment integers of any width in a string. O(operations).

    Propagates: itself, if a field changed or the string grew. (Redis is silent where the string
    grew for an operation that OVERFLOW FAIL then refused, and its replicas lack those zeros.)
    """
    steps = _steps(c, argv)
    written = [step.offset + step.kind.bits - 1 for step in steps if step.name != b"GET"]
    if not written:
        return _read_fields(c, argv[1], steps)
    db, key = c.db, argv[1]
    value, grown = _editable(db, key, max(written))
    replies: list[int | None] = []
    changes = 0
    for name, kind, offset, number, policy in steps:
        old = bitmaps.get_field(value, kind, offset)
        if name == b"GET":
            replies.append(old)
            continue
        if name == b"INCRBY":
            reply = new = bitmaps.fit(kind, old, number, policy)
        else:
            reply, new = old, bitmaps.fit(kind, number, 0, policy)
        if new is None:
            replies.append(None)
            continue
        replies.append(reply)
        if grown or new != old:
            bitmaps.set_field(value, kind, offset, new)
            changes += 1
    if changes:
        db.changed(key, NOTIFY_STRING, b"setbit", changes)
    elif grown:
        db.changed(key, 0, b"")
    return replies


@command("bitfield_ro", -2, "readonly fast", keys=["RO access @1"], acl="bitmap")
def bitfield_ro(c: Client, argv: list[bytes]) -> Reply:
    """Read integers of any width in a string. O(operations)."""
    steps = _steps(c, argv)
    if any(step.name != b"GET" for step in steps):
        raise ONLY_GET
    return _read_fields(c, argv[1], steps)


def _read_fields(c: Client, key: bytes, steps: list[_Step]) -> list[int]:
    value = c.db.read_string(key) or b""
    return [bitmaps.get_field(value, step.kind, step.offset) for step in steps]


def _steps(c: Client, argv: list[bytes]) -> list[_Step]:
    """Read all operations before the first one is done."""
    steps = []
    policy = WRAP
    i = 2
    while i < len(argv):
        name = argv[i].upper()
        left = len(argv) - i - 1
        if name == b"OVERFLOW" and left:
            policy = argv[i + 1].upper()
            if policy not in (WRAP, SAT, FAIL):
                raise OVERFLOW_TYPE
            i += 2
        elif name == b"GET" and left >= 2:
            kind = _field_type(argv[i + 1])
            steps.append(_Step(name, kind, _offset(c, argv[i + 2], kind.bits), 0, policy))
            i += 3
        elif name in (b"SET", b"INCRBY") and left >= 3:
            kind = _field_type(argv[i + 1])
            offset = _offset(c, argv[i + 2], kind.bits)
            steps.append(_Step(name, kind, offset, integer(argv[i + 3]), policy))
            i += 4
        else:
            raise SYNTAX
    return steps


def _field_type(argument: bytes) -> FieldType:
    """Read the type of a field: i or u, and the number of bits."""
    sign = argument[:1]
    if sign not in _MAX_BITS:
        raise FIELD_TYPE
    return FieldType(sign == b"i", integer_in(argument[1:], 1, _MAX_BITS[sign], FIELD_TYPE))
