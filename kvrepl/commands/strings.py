"""Strings: GET, SET, counters, ranges, many keys at once, the longest common subsequence.

A string value is `bytes`, or a `bytearray` once it was edited in place (encoding raw); see
kvrepl.keyspace.database. The keys of a command are looked up through its database only.

Source: Redis 7.0 t_string.c; propagation: server.c and t_string.c (rewriteClientCommandVector).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvrepl.commands.arguments import INT64_MAX, INT64_MIN, expiry_at_ms, integer
from kvrepl.config.notify import NOTIFY_GENERIC, NOTIFY_STRING
from kvrepl.engine.spec import command
from kvrepl.errors import NOT_FLOAT, NOT_INTEGER, SYNTAX, CommandError
from kvrepl.numbers import (
    MAX_INT_TEXT_BYTES,
    add_long_doubles,
    format_long_double,
    parse_int,
    parse_long_double,
)
from kvrepl.resp.values import OK, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

OVERFLOW: Final = CommandError(b"ERR increment or decrement would overflow")
DECREMENT_OVERFLOW: Final = CommandError(b"ERR decrement would overflow")
TOO_BIG: Final = CommandError(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")
OFFSET_RANGE: Final = CommandError(b"ERR offset is out of range")
NAN_OR_INFINITY: Final = CommandError(b"ERR increment would produce NaN or Infinity")
NOT_STRINGS: Final = CommandError(b"ERR The specified keys must contain string values")
LENGTH_AND_INDEXES: Final = CommandError(
    b"ERR If you want both the length and indexes, please just use IDX."
)
LCS_MEMORY: Final = CommandError(
    b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
)

_UNITS: Final = frozenset((b"EX", b"PX", b"EXAT", b"PXAT"))


@command("get", 2, "readonly fast", keys=["RO access @1"], acl="string")
def get(c: Client, argv: list[bytes]) -> Reply:
    """Get the value of a key. O(1)."""
    return c.db.read_string(argv[1])


def _set_key_flags(argv: list[bytes]) -> tuple[str, ...]:
    """SET reads its key only with the option GET."""
    if any(word.upper() == b"GET" for word in argv[3:]):
        return ("RW", "access", "update")
    return ("OW", "update")


@command(
    "set",
    -3,
    "write denyoom",
    keys=["RW access update variable_flags @1 ; RW and ACCESS due to the optional `GET` argument"],
    acl="string",
    key_flags=_set_key_flags,
)
def set_(c: Client, argv: list[bytes]) -> Reply:
    """Set the string value of a key. O(1).

    Propagates: itself; with a time to live as SET key value PXAT instant; without GET.
    """
    db = c.db
    key = argv[1]
    if len(argv) == 3:  # hot: benchmarks/commands, SET
        db.set(key, argv[2])
        db.changed(key, NOTIFY_STRING, b"set")
        return OK
    return _set_with_options(c, argv)


def _set_with_options(c: Client, argv: list[bytes]) -> Reply:
    condition = unit = b""
    keep_ttl = want_old = False
    when: bytes = b""
    i = 3
    while i < len(argv):
        option = argv[i].upper()
        if option in (b"NX", b"XX") and not (condition and condition != option):
            condition = option
        elif option == b"GET":
            want_old = True
        elif option == b"KEEPTTL" and not unit:
            keep_ttl = True
        elif option in _UNITS and not keep_ttl and not unit and i + 1 < len(argv):
            unit = option
            i += 1
            when = argv[i]
        else:
            raise SYNTAX
        i += 1
    db, key, value = c.db, argv[1], argv[2]
    expires_at_ms = expiry_at_ms(c, when, unit, b"set") if unit else 0
    old = db.read_string(key) if want_old else None
    if condition and db.exists_for_write(key) != (condition == b"XX"):
        db.touch(key)
        return old
    if keep_ttl:
        db.touch(key)
    db.set(key, value, keep_ttl)
    db.changed(key, NOTIFY_STRING, b"set")
    if unit:
        db.expire_at(key, expires_at_ms)
        c.engine.keyspace.notify(NOTIFY_GENERIC, b"expire", key, db)
        c.engine.propagation.instead([b"SET", key, value, b"PXAT", b"%d" % expires_at_ms])
    elif want_old:
        c.engine.propagation.instead(argv[:3] + [a for a in argv[3:] if a.upper() != b"GET"])
    return _plain(old) if want_old else OK


@command("setnx", 3, "write denyoom fast", keys=["OW insert @1"], acl="string")
def setnx(c: Client, argv: list[bytes]) -> Reply:
    """Set the value of a key, only if the key does not exist. O(1)."""
    if c.db.exists_for_write(argv[1]):
        return 0
    c.db.set(argv[1], argv[2])
    c.db.changed(argv[1], NOTIFY_STRING, b"set")
    return 1


@command("setex", 4, "write denyoom", keys=["OW update @1"], acl="string")
def setex(c: Client, argv: list[bytes]) -> Reply:
    """Set the value and expiration in seconds of a key. O(1).

    Propagates: SET key value PXAT instant.
    """
    return _set_expiring(c, argv, b"EX", b"setex")


@command("psetex", 4, "write denyoom", keys=["OW update @1"], acl="string")
def psetex(c: Client, argv: list[bytes]) -> Reply:
    """Set the value and expiration in milliseconds of a key. O(1).

    Propagates: SET key value PXAT instant.
    """
    return _set_expiring(c, argv, b"PX", b"psetex")


def _set_expiring(c: Client, argv: list[bytes], unit: bytes, name: bytes) -> Reply:
    db, key, value = c.db, argv[1], argv[3]
    expires_at_ms = expiry_at_ms(c, argv[2], unit, name)
    db.set(key, value)
    db.changed(key, NOTIFY_STRING, b"set")
    db.expire_at(key, expires_at_ms)
    c.engine.keyspace.notify(NOTIFY_GENERIC, b"expire", key, db)
    c.engine.propagation.instead([b"SET", key, value, b"PXAT", b"%d" % expires_at_ms])
    return OK


@command("getset", 3, "write denyoom fast", keys=["RW access update @1"], acl="string")
def getset(c: Client, argv: list[bytes]) -> Reply:
    """Set the string value of a key and return its old value. O(1). Propagates: SET key value."""
    old = c.db.read_string(argv[1])
    c.db.set(argv[1], argv[2])
    c.db.changed(argv[1], NOTIFY_STRING, b"set")
    c.engine.propagation.instead([b"SET", argv[1], argv[2]])
    return _plain(old)


@command("getdel", 2, "write fast", keys=["RW access delete @1"], acl="string")
def getdel(c: Client, argv: list[bytes]) -> Reply:
    """Get the value of a key and delete the key. O(1). Propagates: DEL (UNLINK) key."""
    old = c.db.read_string(argv[1])
    if old is not None:
        c.db.delete(argv[1])
        c.db.changed(argv[1], NOTIFY_GENERIC, b"del")
        verb = b"UNLINK" if c.engine.config.lazyfree_lazy_user_del else b"DEL"
        c.engine.propagation.instead([verb, argv[1]])
    return old


@command(
    "getex",
    -2,
    "write fast",
    keys=["RW access update @1 ; RW and UPDATE because it changes the TTL"],
    acl="string",
)
def getex(c: Client, argv: list[bytes]) -> Reply:
    """Get the value of a key and optionally set its expiration. O(1).

    Propagates: PEXPIREAT key instant, DEL (UNLINK) if that is past, PERSIST, or nothing.
    """
    unit, when, persist = b"", b"", False
    i = 2
    while i < len(argv):
        option = argv[i].upper()
        if option == b"PERSIST" and not unit and not persist:
            persist = True
        elif option in _UNITS and not persist and not unit and i + 1 < len(argv):
            unit = option
            i += 1
            when = argv[i]
        else:
            raise SYNTAX
        i += 1
    db, key = c.db, argv[1]
    value = db.read_string(key)
    if value is None:
        return None
    propagation = c.engine.propagation
    if unit:
        expires_at_ms = expiry_at_ms(c, when, unit, b"getex")
        if unit in (b"EXAT", b"PXAT") and c.engine.deletes_past(expires_at_ms):
            db.delete(key)
            db.changed(key, NOTIFY_GENERIC, b"del")
            verb = b"UNLINK" if c.engine.config.lazyfree_lazy_expire else b"DEL"
            propagation.instead([verb, key])
        else:
            db.expire_at(key, expires_at_ms)
            db.changed(key, NOTIFY_GENERIC, b"expire")
            propagation.instead([b"PEXPIREAT", key, b"%d" % expires_at_ms])
    elif persist and db.persist(key):
        db.changed(key, NOTIFY_GENERIC, b"persist")
        propagation.instead([b"PERSIST", key])
    return value


@command("strlen", 2, "readonly fast", keys=["RO @1"], acl="string")
def strlen(c: Client, argv: list[bytes]) -> Reply:
    """Get the length of the value stored in a key. O(1)."""
    value = c.db.read_string(argv[1])
    return 0 if value is None else len(value)


@command("append", 3, "write denyoom fast", keys=["RW insert @1"], acl="string")
def append(c: Client, argv: list[bytes]) -> Reply:
    """Append a value to a key. O(1) amortized."""
    db, key = c.db, argv[1]
    value = db.edit_string(key)
    if value is None:
        db.set(key, argv[2])
        length = len(argv[2])
    else:
        length = len(value) + len(argv[2])
        _check_size(c, length)
        if type(value) is not bytearray:
            value = bytearray(value)
            db.set(key, value, keep_ttl=True)
        value += argv[2]
    db.changed(key, NOTIFY_STRING, b"append")
    return length


@command("setrange", 4, "write denyoom", keys=["RW update @1"], acl="string")
def setrange(c: Client, argv: list[bytes]) -> Reply:
    """Overwrite part of a string at key starting at the specified offset. O(length of the part)."""
    db, key, part = c.db, argv[1], argv[3]
    offset = integer(argv[2])
    if offset < 0:
        raise OFFSET_RANGE
    value = db.edit_string(key)
    if not part:
        return 0 if value is None else len(value)
    _check_size(c, offset + len(part))
    if type(value) is not bytearray:
        value = bytearray(value or b"")
        db.set(key, value, keep_ttl=True)
    if len(value) < offset:
        value.extend(bytes(offset - len(value)))
    value[offset : offset + len(part)] = part
    db.changed(key, NOTIFY_STRING, b"setrange")
    return len(value)


@command("getrange", 4, "readonly", keys=["RO access @1"], acl="string")
def getrange(c: Client, argv: list[bytes]) -> Reply:
    """Get a substring of the string stored at a key. O(length of the substring)."""
    start, stop = integer(argv[2]), integer(argv[3])
    value = c.db.read_string(argv[1])
    if value is None or (start < 0 and stop < 0 and start > stop):
        return b""
    length = len(value)
    start = max(start + length, 0) if start < 0 else start
    stop = max(stop + length, 0) if stop < 0 else stop
    stop = min(stop, length - 1)
    return b"" if start > stop or not length else bytes(value[start : stop + 1])


@command("substr", 4, "readonly", keys=["RO access @1"], acl="string")
def substr(c: Client, argv: list[bytes]) -> Reply:
    """Get a substring of the string stored at a key. O(length of the substring)."""
    return getrange(c, argv)


def _increment(c: Client, key: bytes, by: int) -> int:
    """Add to the integer at `key`. The type of INCR's value stays as Redis has it: encoding int."""
    value = c.db.edit_string(key)
    if value is None:
        old = 0
    else:
        # Of a long text no more is copied than tells that it is no integer.
        parsed = parse_int(
            value if type(value) is bytes else bytes(value[: MAX_INT_TEXT_BYTES + 1])
        )
        if parsed is None:
            raise NOT_INTEGER
        old = parsed
    new = old + by
    if not INT64_MIN <= new <= INT64_MAX:
        raise OVERFLOW
    c.db.set(key, b"%d" % new, keep_ttl=True)
    c.db.changed(key, NOTIFY_STRING, b"incrby")
    return new


@command("incr", 2, "write denyoom fast", keys=["RW access update @1"], acl="string")
def incr(c: Client, argv: list[bytes]) -> Reply:
    """Increment the integer value of a key by one. O(1)."""
    return _increment(c, argv[1], 1)


@command("decr", 2, "write denyoom fast", keys=["RW access update @1"], acl="string")
def decr(c: Client, argv: list[bytes]) -> Reply:
    """Decrement the integer value of a key by one. O(1)."""
    return _increment(c, argv[1], -1)


@command("incrby", 3, "write denyoom fast", keys=["RW access update @1"], acl="string")
def incrby(c: Client, argv: list[bytes]) -> Reply:
    """Increment the integer value of a key by the given amount. O(1)."""
    return _increment(c, argv[1], integer(argv[2]))


@command("decrby", 3, "write denyoom fast", keys=["RW access update @1"], acl="string")
def decrby(c: Client, argv: list[bytes]) -> Reply:
    """Decrement the integer value of a key by the given number. O(1)."""
    by = integer(argv[2])
    if by == INT64_MIN:
        raise DECREMENT_OVERFLOW
    return _increment(c, argv[1], -by)


@command("incrbyfloat", 3, "write denyoom fast", keys=["RW access update @1"], acl="string")
def incrbyfloat(c: Client, argv: list[bytes]) -> Reply:
    """Increment the float value of a key by the given amount. O(1).

    Propagates: SET key result KEEPTTL, because two machines may add floats differently.
    """
    db, key = c.db, argv[1]
    value = db.edit_string(key)
    old = parse_long_double(bytes(value) if value is not None else b"0")
    by = parse_long_double(argv[2])
    if old is None or by is None:
        raise NOT_FLOAT
    result = add_long_doubles(old, by)
    if result is None:
        raise NAN_OR_INFINITY
    text = format_long_double(result)
    db.set(key, text, keep_ttl=True)
    db.changed(key, NOTIFY_STRING, b"incrbyfloat")
    c.engine.propagation.instead([b"SET", key, text, b"KEEPTTL"])
    return text


@command(
    "mget",
    -2,
    "readonly fast",
    keys=["RO access @1..-1"],
    acl="string",
    tips=["request_policy:multi_shard"],
)
def mget(c: Client, argv: list[bytes]) -> Reply:
    """Get the values of all the given keys. O(keys)."""
    get_ = c.db.get
    values = []
    for key in argv[1:]:
        value = get_(key)
        values.append(_plain(value) if type(value) in (bytes, bytearray) else None)
    return values


@command(
    "mset",
    -3,
    "write denyoom",
    keys=["OW update @1..-1/2"],
    acl="string",
    tips=["request_policy:multi_shard", "response_policy:all_succeeded"],
)
def mset(c: Client, argv: list[bytes]) -> Reply:
    """Set multiple keys to multiple values. O(keys)."""
    _set_many(c, argv, b"mset")
    return OK


@command(
    "msetnx",
    -3,
    "write denyoom",
    keys=["OW insert @1..-1/2"],
    acl="string",
    tips=["request_policy:multi_shard", "response_policy:agg_min"],
)
def msetnx(c: Client, argv: list[bytes]) -> Reply:
    """Set multiple keys to multiple values, only if none of the keys exist. O(keys)."""
    if len(argv) % 2 == 1 and any(c.db.exists_for_write(key) for key in argv[1::2]):
        return 0
    _set_many(c, argv, b"msetnx")
    return 1


def _set_many(c: Client, argv: list[bytes], name: bytes) -> None:
    if len(argv) % 2 == 0:
        raise CommandError(b"ERR wrong number of arguments for '%b' command" % name)
    db = c.db
    for i in range(1, len(argv), 2):
        db.set(argv[i], argv[i + 1])
        db.changed(argv[i], NOTIFY_STRING, b"set")


# ------------------------------------------------------------------- LCS


class _Match(NamedTuple):
    """A piece that both strings have in common: where it begins in each, and its length."""

    a: int
    b: int
    length: int


@command("lcs", -3, "readonly", keys=["RO access @1..1"], acl="string")
def lcs(c: Client, argv: list[bytes]) -> Reply:
    """Find the longest common subsequence of two strings. O(n * m / 64)."""
    a, b = (_or_empty(c.db.get(key)) for key in argv[1:3])
    length_only = with_indexes = with_lengths = False
    least = 0
    i = 3
    while i < len(argv):
        option = argv[i].upper()
        if option == b"IDX":
            with_indexes = True
        elif option == b"LEN":
            length_only = True
        elif option == b"WITHMATCHLEN":
            with_lengths = True
        elif option == b"MINMATCHLEN" and i + 1 < len(argv):
            i += 1
            least = integer(argv[i])
        else:
            raise SYNTAX
        i += 1
    if with_indexes and length_only:
        raise LENGTH_AND_INDEXES
    # We need 1/32 of the table that Redis makes, but refuse where Redis does.
    if 4 * (len(a) + 1) * (len(b) + 1) > c.engine.config.proto_max_bulk_len:
        raise LCS_MEMORY
    table = _Table(a, b)
    if length_only:
        return table.length
    matches = table.matches()
    if not with_indexes:
        return b"".join(a[m.a : m.a + m.length] for m in reversed(matches))
    found = []
    for m in matches:
        if m.length >= least:
            ranges: list[Reply] = [[at, at + m.length - 1] for at in (m.a, m.b)]
            found.append([*ranges, m.length] if with_lengths else ranges)
    return {b"matches": found, b"len": table.length}


def _or_empty(value: Any) -> bytes:
    """The string at a key, the empty one where there is no key."""
    if value is not None and type(value) not in (bytes, bytearray):
        raise NOT_STRINGS
    return bytes(value or b"")


class _Table:
    """The lengths of the longest common subsequences of all prefixes of two strings.

    A row of it is an integer of len(b) bits, for each prefix of `a`. Bit j is clear where
    b[: j + 1] has one byte more in common with that prefix than b[:j]; so the number of clear bits
    below bit j is a length of the table.

    Args:
        a: the one string.
        b: the other.

    Cost: O(len(a) * len(b) / 64).
    Source: M. Crochemore, C. S. Iliopoulos, Y. J. Pinzon, J. F. Reid, "A fast and practical
    bit-vector algorithm for the longest common subsequence problem" (2001).
    """

    def __init__(self, a: bytes, b: bytes) -> None:
        self.a, self.b = a, b
        backwards = b[::-1]
        # Where each byte of `a` stands in `b`, as bits; in base 2 int() is linear.
        self.places = {
            byte: int(b"0" + backwards.translate(b"0" * byte + b"1" + b"0" * (255 - byte)), 2)
            for byte in set(a)
        }
        full = (1 << len(b)) - 1
        row = full
        self.rows = [row]
        for byte in a:
            hits = row & self.places[byte]
            row = (row + hits | row - hits) & full
            self.rows.append(row)

    @property
    def length(self) -> int:
        """Of the longest common subsequence of the whole strings."""
        return len(self.b) - self.rows[-1].bit_count()

    def matches(self) -> list[_Match]:
        """The pieces of one longest common subsequence, the last one first.

        Of several subsequences it is the one that Redis finds by going back through the table:
        take a common byte, otherwise shorten `a` where that alone loses nothing, otherwise `b`.

        Cost: O(len(a) * len(b) / 64).
        """
        a, b = self.a, self.b
        found: list[_Match] = []
        i, j = len(a), len(b)
        length = 0
        while i and j:
            if a[i - 1] == b[j - 1]:
                length += 1
                i -= 1
                j -= 1
                continue
            if length:
                found.append(_Match(i, j, length))
                length = 0
            # Shorten `b` in one go, up to a common byte or to where that would lose one.
            stops = self.places[a[i - 1]] | ~self.rows[i]
            j = (stops & (1 << j) - 1).bit_length()
            if j and a[i - 1] != b[j - 1]:
                i -= 1
        if length:
            found.append(_Match(i, j, length))
        return found


def _check_size(c: Client, length: int) -> None:
    if length > c.engine.config.proto_max_bulk_len and not c.is_master:
        raise TOO_BIG


def _plain(value: bytes | bytearray | None) -> bytes | None:
    """A reply outlives the command, a bytearray in the keyspace may change: copy it."""
    return value if value is None or type(value) is bytes else bytes(value)
