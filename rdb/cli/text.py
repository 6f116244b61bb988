"""Keys as JSON text: what rdb.cli.form makes objects of, written at once.

    key_text      the text of key_form, with the value or its size where they are given
    value_text    the text of value_form

hot: benchmarks/rdb. Dumping spends its time here; objects and an encoder for them take twice as
long. A test holds the two descriptions against each other on every file.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Final

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


def key_text(key: Key, *, value: str = "", file_bytes: int = -1) -> str:
    """A key as JSON.

    Args:
        key: what to print.
        value: the text of its value, "" for none.
        file_bytes: the size of its value in the file, -1 for none.
    """
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
    if file_bytes >= 0:
        text += f',"bytes":{file_bytes}'
    if value:
        text += f',"value":{value}'
    return text + "}"


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
