"""Keys as CSV rows, and as commands for redis-cli --pipe.

csv       db,key,type,expires_at_ms,element,value      one row an element, bytes as they are
          element is the index of a list or array, the member of a set or sorted set, the field
          of a hash, the entry id of a stream; value is its text, its score, or the fields of
          the entry as JSON
commands  SET, RPUSH, SADD, ZADD, HSET and PEXPIREAT; streams, modules and sorted sets
              with a score of -0 as RESTORE; no arrays, which Redis 7.0 has not
restore   RESTORE of every key, with its payload as Redis 7.0 reads it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain

from rdb.checksum import crc64
from rdb.cli.form import id_form, pairs_form, score_form
from rdb.constants import CHECKSUM_BYTES, WRITE_VERSION
from rdb.dialect import Dialect
from rdb.records import Key
from rdb.targets import fit
from rdb.values import ExpiringHash

CSV_HEADER = b"db,key,type,expires_at_ms,element,value\r\n"
_ITEMS_A_COMMAND = 64
_WRITERS = {"list": b"RPUSH", "set": b"SADD", "zset": b"ZADD", "hash": b"HSET"}


def csv_rows(key: Key) -> bytes:
    """The rows of a key with a decoded value."""
    at_ms = b"" if key.expires_at_ms is None else b"%d" % key.expires_at_ms
    head = b"%d,%b,%b,%b" % (key.db, _quoted(key.key), key.kind.encode(), at_ms)
    rows = (b"%b,%b,%b\r\n" % (head, _quoted(e), _quoted(v)) for e, v in elements(key))
    return b"".join(rows)


def _quoted(cell: bytes) -> bytes:
    """A cell as RFC 4180 has it."""
    if any(mark in cell for mark in (b",", b'"', b"\r", b"\n")):
        return b'"%b"' % cell.replace(b'"', b'""')
    return cell


def elements(key: Key) -> Iterator[tuple[bytes, bytes]]:
    """Yield (element, value) of a key with a decoded value; see above."""
    value = key.value
    match key.kind:
        case "string":
            yield b"", value
        case "list":
            yield from ((b"%d" % index, element) for index, element in enumerate(value))
        case "set":
            yield from ((member, b"") for member in value)
        case "zset":
            yield from ((member, score_form(score).encode()) for member, score in value)
        case "hash":
            flat = value.fields if isinstance(value, ExpiringHash) else value
            yield from zip(flat[::2], flat[1::2], strict=True)
        case "array":
            yield from ((b"%d" % index, text) for index, text in value.elements)
        case "stream":
            for entry_id, flat in value.entries:
                fields = json.dumps(pairs_form(flat), ensure_ascii=False)
                yield id_form(entry_id).encode(), fields.encode()
        case _:
            yield value.name.encode(), value.payload


def request(*arguments: bytes) -> bytes:
    """A command as a client sends it."""
    parts = (b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments)
    return b"*%d\r\n%b" % (len(arguments), b"".join(parts))


def commands(key: Key, raw: Key, dialect: Dialect, *, replace: bool) -> bytes:
    """The commands that make a key.

    Args:
        key, raw: the key with its value decoded, and encoded.
        dialect: that of its file.
        replace: whether one that is there already is to be deleted.

    Raises:
        Unfit, RdbError: see `restore`.
    """
    kind, name, value = key.kind, key.key, key.value
    # ZADD to a small sorted set loses the sign of a zero, as packed scores have none.
    if kind in ("stream", "array", "module") or (kind == "zset" and _has_minus_zero(value)):
        return restore(raw, dialect, replace=replace)
    out = [request(b"DEL", name)] if replace else []
    if kind == "string":
        out.append(request(b"SET", name, value))
    else:
        flat, step = value, 1
        if kind == "zset":
            texts = ((score_form(score).encode(), member) for member, score in value)
            flat, step = list(chain.from_iterable(texts)), 2
        elif kind == "hash":
            flat, step = (value.fields if isinstance(value, ExpiringHash) else value), 2
        batch = step * _ITEMS_A_COMMAND
        for at in range(0, len(flat), batch):
            out.append(request(_WRITERS[kind], name, *flat[at : at + batch]))
        if isinstance(value, ExpiringHash):
            for field, at_ms in value.expires_at_ms.items():
                out.append(request(b"HPEXPIREAT", name, b"%d" % at_ms, b"FIELDS", b"1", field))
    if key.expires_at_ms is not None:
        out.append(request(b"PEXPIREAT", name, b"%d" % key.expires_at_ms))
    return b"".join(out)


def _has_minus_zero(pairs: list[tuple[bytes, float]]) -> bool:
    return any(not score and str(score) == "-0.0" for _, score in pairs)


def restore(raw: Key, dialect: Dialect, *, replace: bool) -> bytes:
    """The RESTORE command of a key with an encoded value.

    Raises:
        Unfit: Redis 7.0 has no such value.
        RdbError: the value is damaged, and had to be decoded.
    """
    key = fit(raw, WRITE_VERSION, dialect)
    body = bytes((key.type_code,)) + key.value + WRITE_VERSION.to_bytes(2, "little")
    payload = body + crc64(body).to_bytes(CHECKSUM_BYTES, "little")
    at_ms = 0  # none
    if key.expires_at_ms is not None:
        at_ms = max(key.expires_at_ms, 1)  # what is past is past; RESTORE refuses less
    arguments = [b"RESTORE", key.key, b"%d" % at_ms, payload]
    arguments += [b"ABSTTL"] * (key.expires_at_ms is not None) + [b"REPLACE"] * replace
    if key.idle_s is not None:
        arguments += [b"IDLETIME", b"%d" % key.idle_s]
    elif key.freq is not None:
        arguments += [b"FREQ", b"%d" % key.freq]
    return request(*arguments)
