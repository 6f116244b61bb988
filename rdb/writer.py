"""The writer: keys and values in, the bytes of an RDB out.

    header  aux*  function*  {FE db  FB keys expires  key*}*  FF  crc64

A key is [FC expires at ms] [F8 idle | F9 freq] type key value. The functions each make one
piece; RdbWriter strings them together and keeps the checksum.

`encode_strings` makes the records of every string and packed value (rdb.packed) in one dict. It
is what a snapshot child spends its time in, and the compiled form must be used there: it only
borrows references, while any Python loop writes a reference count into each object it looks at
and so copies the pages that the child is meant to share with its parent.

Source: rdbSaveRio, rdbSaveKeyValuePair in rdb.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rdb import constants as c
from rdb.accel import accel
from rdb.checksum import crc64
from rdb.lengths import SHORT_LENGTHS, encode_length
from rdb.lzf import SAMPLED_BYTES, which_may_shorten
from rdb.packed import PACKED
from rdb.strings import encode_string
from rdb.values import LIST_MAX_LISTPACK_SIZE, Value, encode_value

_FLUSH_BYTES: Final = 1 << 16


def encode_header(version: int = c.WRITE_VERSION, magic: bytes = c.REDIS_MAGIC) -> bytes:
    """The first nine bytes."""
    return magic + b"%0*d" % (c.HEADER_BYTES - len(magic), version)


def encode_aux(key: bytes, value: bytes) -> bytes:
    """An auxiliary field; written first, in the order redis-ver, redis-bits, ctime, used-mem,
    [repl-stream-db, repl-id, repl-offset], aof-base."""
    return b"\xfa" + encode_string(key, False) + encode_string(value, False)


def encode_function(code: bytes, compress: bool = True) -> bytes:
    """A function library."""
    return b"\xf5" + encode_string(code, compress)


def encode_select_db(db: int) -> bytes:
    """The head of a database."""
    return b"\xfe" + encode_length(db)


def encode_resize_db(keys: int, expires: int) -> bytes:
    """How many keys follow in the database, and how many of them expire."""
    return b"\xfb" + encode_length(keys) + encode_length(expires)


def encode_key(
    key: bytes,
    type_code: int,
    value: Value,
    expires_at_ms: int | None = None,
    *,
    idle_s: int | None = None,
    freq: int | None = None,
    compress: bool = True,
    list_max_listpack_size: int = LIST_MAX_LISTPACK_SIZE,
    **options: int,
) -> bytes:
    """Encode a key with its value.

    Args:
        key, type_code, value: see rdb.values.encode_value.
        expires_at_ms: wall clock instant, or None.
        idle_s: seconds since the last access, to be stored under an LRU policy.
        freq: access counter, to be stored under an LFU policy.
        compress, list_max_listpack_size, options: passed on to encode_value.
    """
    body = encode_value(
        type_code,
        value,
        compress=compress,
        list_max_listpack_size=list_max_listpack_size,
        **options,
    )
    head = encode_key_prefix(expires_at_ms, idle_s, freq)
    return b"%b%c%b%b" % (head, type_code, encode_string(key, compress), body)


def encode_key_prefix(
    expires_at_ms: int | None = None, idle_s: int | None = None, freq: int | None = None
) -> bytes:
    """What stands before the type code of a key."""
    prefix = b""
    if expires_at_ms is not None:
        prefix = b"\xfc" + expires_at_ms.to_bytes(8, "little", signed=True)
    if idle_s is not None:
        prefix += b"\xf8" + encode_length(idle_s)
    elif freq is not None:
        prefix += b"\xf9" + freq.to_bytes(1, "big")
    return prefix


class Accesses(NamedTuple):
    """How a server keeps what it knows of the use of keys, to be stored with them.

    Attributes:
        words: key -> the second of its last use; or, for LFU, minute of it << 8 | counter.
        default: the word of a key that is not in `words`.
        clock: the second, or minute, that it is now.
        is_lfu: which of the two it is.
        decay_min: minutes of disuse that lower the counter by one, 0 for never.
    """

    words: dict[bytes, int]
    default: int
    clock: int
    is_lfu: bool = False
    decay_min: int = 0

    def figure(self, key: bytes) -> int:
        """Seconds since the last use of a key, or its counter by now."""
        word = self.words.get(key, self.default)
        if not self.is_lfu:
            return max(self.clock - word, 0)
        unused_min = max(self.clock - (word >> 8), 0)
        return max((word & 255) - (unused_min // self.decay_min if self.decay_min else 0), 0)

    def prefix(self, key: bytes) -> bytes:
        """What is stored before a key."""
        figure = self.figure(key)
        if self.is_lfu:
            return encode_key_prefix(freq=figure)
        return encode_key_prefix(idle_s=figure)


def encode_records(
    segment: dict[bytes, Any],
    expires: dict[bytes, int],
    compress: bool,
    accesses: Accesses | None,
    other: Callable[[bytes, Any], bytes],
) -> bytes:
    """Encode a dict in Python: what is no string and not packed as `other` has it."""
    # hot: benchmarks/bgsave-pure
    out: list[bytes] = []
    append = out.append
    head = b""
    # Strings that LZF might make shorter stand in `out` as they are, head and text, until it is
    # known of all of them together.
    waiting: list[bytes] = []
    places: list[int] = []
    for key, value in segment.items():
        type_code = _TYPE_CODES.get(type(value))
        if type_code is None or (not compress and type_code != b"\0" and value.may_hold_lzf()):
            append(other(key, value))
            continue
        if expires:
            head = encode_key_prefix(expires.get(key))
        if accesses is not None:
            out += (head, accesses.prefix(key))
        elif head:
            append(head)
        size = len(key)
        if c.MAX_INT_STRING_BYTES < size < c.MIN_LZF_BYTES:
            out += (type_code, SHORT_LENGTHS[size], key)
        else:
            out += (type_code, encode_string(key, compress))
        if type_code != b"\0":
            append(value)
            continue
        size = len(value)
        if compress and c.MIN_LZF_BYTES <= size <= SAMPLED_BYTES:
            waiting.append(value)
            places.append(len(out))
            out += (SHORT_LENGTHS[size], value)
        else:
            append(encode_string(value, compress))
    for n in which_may_shorten(waiting):
        place = places[n]
        out[place : place + 2] = encode_string(waiting[n]), b""
    return b"".join(out)


_TYPE_CODES: Final = {bytes: b"\0"} | {
    each: code.to_bytes(1, "big") for code, each in PACKED.items()
}


def encode_strings_reference(
    segment: dict[bytes, Any],
    expires: dict[bytes, int],
    compress: bool = True,
    accesses: Accesses | None = None,
) -> tuple[bytes, int, list[bytes]]:
    """Encode in Python; see `encode_strings`."""
    leftovers: list[bytes] = []

    def leave(key: bytes, value: Any) -> bytes:
        leftovers.append(key)
        return b""

    records = encode_records(segment, expires, compress, accesses, leave)
    return records, len(segment) - len(leftovers), leftovers


def encode_strings(
    segment: dict[bytes, Any],
    expires: dict[bytes, int],
    compress: bool = True,
    accesses: Accesses | None = None,
) -> tuple[bytes, int, list[bytes]]:
    """Encode every key of a dict whose value is a string, as bytes, or packed.

    Args:
        segment: key -> value; neither is changed, nor, in the compiled form, its reference
            count written to.
        expires: key -> wall clock instant in ms, for the keys that have one. Share the key
            objects with `segment`: an equal key that is another object has its reference
            count touched when it is compared.
        compress: whether LZF may be used.
        accesses: what is known of the use of the keys, where it is to be stored; the keys of its
            words are shared like those of `expires`.

    Returns:
        (records, how many, the keys with other values, for the caller to encode).
        Cost: O(bytes).
    """
    return _encode_strings(segment, expires, compress, accesses)


_encode_strings: Callable[
    [dict[bytes, Any], dict[bytes, int], bool, Accesses | None], tuple[bytes, int, list[bytes]]
] = encode_strings_reference if accel is None else accel.encode_strings


class RdbWriter:
    """Writes one RDB.

    Args:
        write: takes the bytes, in pieces of some 64 KiB and in order.
        version: of the format; 9 and 10 differ in nothing but what may be in them.
        magic: b"REDIS" or b"VALKEY".
        checksum: whether to compute one (`rdbchecksum`); zero is written otherwise.

    Attributes:
        written: bytes given to `write` or waiting to be.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        version: int = c.WRITE_VERSION,
        magic: bytes = c.REDIS_MAGIC,
        checksum: bool = True,
    ) -> None:
        self._write = write
        self._checksum = checksum
        self._crc = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.written = 0
        self.raw(encode_header(version, magic))

    def raw(self, data: bytes) -> None:
        """Append whole records that are encoded already."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        self.written += len(data)
        if self._pending_bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Give everything so far to `write`."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        if self._checksum:
            self._crc = crc64(data, self._crc)
        if data:
            self._write(data)

    def aux(self, key: bytes, value: bytes) -> None:
        """Append an auxiliary field."""
        self.raw(encode_aux(key, value))

    def function(self, code: bytes, compress: bool = True) -> None:
        """Append a function library."""
        self.raw(encode_function(code, compress))

    def select_db(self, db: int, keys: int | None = None, expires: int = 0) -> None:
        """Start a database, with its sizes where they are known."""
        self.raw(encode_select_db(db))
        if keys is not None:
            self.raw(encode_resize_db(keys, expires))

    def key(
        self,
        key: bytes,
        type_code: int,
        value: Value,
        expires_at_ms: int | None = None,
        **options: Any,
    ) -> None:
        """Append a key; see `encode_key`."""
        self.raw(encode_key(key, type_code, value, expires_at_ms, **options))

    def end(self) -> None:
        """Append the end and give everything to `write`."""
        self.raw(b"\xff")
        self.flush()
        self._checksum, crc = False, self._crc
        self.raw(crc.to_bytes(c.CHECKSUM_BYTES, "little"))
        self.flush()
