"""Keys as lines of JSON: what rdb.cli.form makes objects of, written at once.

    key_line        a key, with its value or without; compiled in rdb._text
    value_text      the text of value_form

hot: benchmarks/rdb. Dumping spends its time here; objects and an encoder for them take twice as
long. A test holds the two descriptions against each other on every file.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Final

from rdb.accel import accel
from rdb.cli.form import score_form, value_form
from rdb.records import Key
from rdb.values import ExpiringHash

ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def bytes_text(data: bytes) -> str:
    """The text of bytes_form(data)."""
    try:
        return encode_basestring(data.decode())
    except UnicodeDecodeError:
        return f'{{"b64":"{b2a_base64(data, newline=False).decode()}"}}'


def key_line(key: Key, *, with_value: bool = False, more: bytes = b"") -> bytes:
    """A key as a line of JSON Lines, its end included.

    Args:
        key: what to print; with its value decoded, if that is to be printed.
        with_value: whether it is.
        more: further members, each after a comma; they stand in front of the value.

    Returns:
        key_form(key), `more`, and value_form(key) under "value". Cost: O(size of what is printed).
    """
    if accel is not None:
        # None for the rare values that are left to the reference.
        line: bytes | None = accel.key_line(key, with_value, more)
        if line is not None:
            return line
    return key_line_reference(key, with_value, more)


def key_line_reference(key: Key, with_value: bool, more: bytes) -> bytes:
    """Write in Python; see `key_line`."""
    number, name, type_code, _, expires_at_ms, idle_s, freq = key
    text = (
        f'{{"record":"key","db":{number},"key":{bytes_text(name)},"type":"{key.kind}",'
        f'"type_code":{type_code}'
    )
    if expires_at_ms is not None:
        text += f',"expires_at_ms":{expires_at_ms}'
    if idle_s is not None:
        text += f',"idle_s":{idle_s}'
    if freq is not None:
        text += f',"freq":{freq}'
    text += more.decode()
    if with_value:
        text += f',"value":{value_text(key)}'
    return (text + "}\n").encode()


def value_text(key: Key) -> str:
    """The value of a key with a decoded value. Cost: O(size)."""
    kind, value = key.kind, key.value
    if kind == "string":
        return bytes_text(value)
    if kind in ("list", "set"):
        return _list(map(bytes_text, value))
    if kind == "zset":
        return _list(f'[{bytes_text(member)},"{score_form(score)}"]' for member, score in value)
    if kind == "hash" and not isinstance(value, ExpiringHash):
        texts = map(bytes_text, value)
        return _list(f"[{field},{text}]" for field, text in zip(texts, texts, strict=True))
    return ENCODER.encode(value_form(key))


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(texts)}]"
