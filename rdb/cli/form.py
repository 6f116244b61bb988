r"""Records as JSON, nothing lost.

Bytes are a JSON string where they are UTF-8, else {"b64": "..."}; `spelled` changes that. Numbers
that JSON cannot hold exactly, scores and stream ids, are text. What a record does not have is left
out.

    text        as above
    escaped     always a string: printable ASCII as it is, \\ for \, \xHH for all other bytes
    base64      always {"b64": "..."}

    header      magic, version
    aux         key, value
    function    code
    module-aux  module, when, payload
    db          db
    sizes       keys, expires
    slot        slot, keys, expires
    slot-import job, ranges
    hash-template  id, fields
    metadata    key, classes: [[name, version, payload] ...] of the key that comes next
    key         db, key, type, type_code, [expires_at_ms], [idle_s], [freq], value
    end         checksum

    string      bytes
    list, set   [element ...] in the order of the file
    zset        [[member, score] ...]
    hash        [[field, value] ...], with TTLs [[field, value, expires_at_ms or null] ...]
    stream      {entries: [[id, [[field, value] ...]] ...], last_id, first_id, max_deleted_id,
                entries_added, groups: [{name, last_id, entries_read, pending: [[id, consumer
                or null, delivered_at_ms, deliveries] ...], consumers: [{name, seen_ms,
                active_ms} ...], [released: [id ...]]} ...], [producers: {window_s,
                window_messages, remembered, refused, producers: [{name, messages: [[message
                id, entry id] ...]} ...]}]}
    array       {elements: [[index, text] ...], [cursor]}
    module      {module, version, payload}
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from rdb.arrays import Array
from rdb.records import (
    Aux,
    End,
    Function,
    HashTemplate,
    Header,
    Key,
    KeyMetadata,
    ModuleAux,
    Part,
    Record,
    ResizeDb,
    SelectDb,
    SlotImport,
    SlotInfo,
)
from rdb.streams import Group, Producers, Stream, StreamId
from rdb.values import ExpiringHash

Json = Any


SPELLINGS: Final = ("text", "escaped", "base64")
_spelling: ContextVar[str] = ContextVar("spelling", default="text")
_ESCAPES: Final = {byte: f"\\x{byte:02x}" for byte in range(256) if not 0x20 <= byte < 0x7F} | {
    ord("\\"): "\\\\"
}


@contextmanager
def spelled(spelling: str) -> Iterator[None]:
    """Have bytes spelled in one of SPELLINGS meanwhile."""
    token = _spelling.set(spelling)
    try:
        yield
    finally:
        _spelling.reset(token)


def bytes_form(data: bytes) -> Json:
    """Bytes in the spelling that is asked for: as text where they are text, if none is."""
    spelling = _spelling.get()
    if spelling == "escaped":
        return data.decode("latin-1").translate(_ESCAPES)
    if spelling == "text":
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(data).decode()}


def id_form(entry_id: StreamId) -> str:
    """A stream id as Redis spells it."""
    return f"{entry_id[0]}-{entry_id[1]}"


def record_form(record: Record) -> dict[str, Json]:
    """A record as a JSON object. Cost: O(its size)."""
    match record:
        case Key():
            return key_form(record) | {"value": value_form(record)}
        case Part():
            raise AssertionError("the tools do not ask for parts")
        case Header(version, magic):
            return {"record": "header", "magic": magic.decode(), "version": version}
        case Aux(key, value):
            return {"record": "aux", "key": bytes_form(key), "value": bytes_form(value)}
        case Function(code):
            return {"record": "function", "code": bytes_form(code)}
        case ModuleAux(module, when, payload):
            data = bytes_form(payload)
            return {"record": "module-aux", "module": module, "when": when, "payload": data}
        case SelectDb(db):
            return {"record": "db", "db": db}
        case ResizeDb(keys, expires):
            return {"record": "sizes", "keys": keys, "expires": expires}
        case SlotInfo(slot, keys, expires):
            return {"record": "slot", "slot": slot, "keys": keys, "expires": expires}
        case SlotImport(job, ranges):
            pairs = [list(pair) for pair in ranges]
            return {"record": "slot-import", "job": bytes_form(job), "ranges": pairs}
        case HashTemplate(template_id, fields):
            names = [bytes_form(name) for name in fields]
            return {"record": "hash-template", "id": template_id, "fields": names}
        case KeyMetadata(key, classes):
            data = [[name, version, bytes_form(items)] for name, version, items in classes]
            return {"record": "metadata", "key": bytes_form(key), "classes": data}
        case End(checksum):
            return {"record": "end", "checksum": checksum}


def key_form(key: Key) -> dict[str, Json]:
    """A key without its value."""
    form = {
        "record": "key",
        "db": key.db,
        "key": bytes_form(key.key),
        "type": key.kind,
        "type_code": key.type_code,
    }
    for name in ("expires_at_ms", "idle_s", "freq"):
        number = getattr(key, name)
        if number is not None:
            form[name] = number
    return form


def value_form(key: Key) -> Json:
    """The value of a key."""
    kind, value = key.kind, key.value
    if kind == "string":
        return bytes_form(value)
    if kind in ("list", "set"):
        return [bytes_form(element) for element in value]
    if kind == "zset":
        return [[bytes_form(member), score_form(score)] for member, score in value]
    if kind == "hash":
        if not isinstance(value, ExpiringHash):
            return pairs_form(value)
        expires = value.expires_at_ms
        return [
            [bytes_form(field), bytes_form(text), expires.get(field)]
            for field, text in zip(value.fields[::2], value.fields[1::2], strict=True)
        ]
    if kind == "stream":
        return _stream_form(value)
    if kind == "array":
        return array_form(value)
    payload = bytes_form(value.payload)
    return {"module": value.name, "version": value.version, "payload": payload}


def score_form(score: float) -> str:
    """A score in the fewest digits that read back as the same."""
    return repr(score).removesuffix(".0")


def pairs_form(flat: list[bytes]) -> Json:
    """[field, value, field, value ...] as [[field, value] ...]."""
    fields = map(bytes_form, flat)
    return [[field, value] for field, value in zip(fields, fields, strict=True)]


def array_form(array: Array) -> Json:
    """An array; indexes are text, as stream ids are."""
    form: Json = {"elements": [[str(at), bytes_form(text)] for at, text in array.elements]}
    if array.cursor is not None:
        form["cursor"] = str(array.cursor)
    return form


def _stream_form(stream: Stream) -> Json:
    form = {
        "entries": [[id_form(entry_id), pairs_form(flat)] for entry_id, flat in stream.entries],
        "last_id": id_form(stream.last_id),
        "first_id": id_form(stream.first_id),
        "max_deleted_id": id_form(stream.max_deleted_id),
        "entries_added": stream.entries_added,
        "groups": [group_form(group) for group in stream.groups],
    }
    if stream.producers is not None:
        form["producers"] = producers_form(stream.producers)
    return form


def producers_form(producers: Producers) -> dict[str, Json]:
    """What a stream remembers of its producers."""
    return {
        "window_s": producers.window_s,
        "window_messages": producers.window_messages,
        "remembered": producers.remembered,
        "refused": producers.refused,
        "producers": [
            {
                "name": bytes_form(producer.name),
                "messages": [[bytes_form(m), id_form(entry)] for m, entry in producer.messages],
            }
            for producer in producers.producers
        ],
    }


def group_form(group: Group) -> dict[str, Json]:
    """A consumer group."""
    form: dict[str, Json] = {
        "name": bytes_form(group.name),
        "last_id": id_form(group.last_id),
        "entries_read": group.entries_read,
        "pending": [
            [
                id_form(pending.id),
                None if pending.consumer is None else bytes_form(pending.consumer),
                pending.delivered_at_ms,
                pending.deliveries,
            ]
            for pending in group.pending
        ],
        "consumers": [
            {
                "name": bytes_form(consumer.name),
                "seen_ms": consumer.seen_ms,
                "active_ms": consumer.active_ms,
            }
            for consumer in group.consumers
        ],
    }
    if group.released:
        form["released"] = [id_form(entry_id) for entry_id in group.released]
    return form
