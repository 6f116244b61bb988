"""In what two values of a key differ, as JSON; {} where they mean the same.

    string   before, after
    list     at (index of the first difference), removed, added: what stands between the common
             head and the common tail
    set      removed, added
    zset     removed, added: [[member, score] ...]; changed: [[member, before, after] ...]
    hash     removed, added: [[field, value] ...]; changed: [[field, before, after] ...];
             expires_at_ms: [[field, before, after] ...], null for none
    stream   removed, added: [[id, fields] ...]; changed: [[id, before, after] ...]; last_id,
             max_deleted_id, entries_added, producers: [before, after]; groups: as entries, by
             name
    array    removed, added: [[index, text] ...]; changed: [[index, before, after] ...]; cursor:
             [before, after]
    module   before, after: the payloads

Meaning is what commands can see: the order of a set or hash, the encoding of a value, and the
times at which consumers of a stream were last seen make no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rdb.arrays import Array
from rdb.cli.form import (
    Json,
    bytes_form,
    group_form,
    id_form,
    key_form,
    pairs_form,
    producers_form,
    score_form,
    value_form,
)
from rdb.records import Key
from rdb.streams import Stream
from rdb.values import ExpiringHash

T = TypeVar("T")
Delta = dict[str, Json]


def key_delta(before: Key, after: Key, *, ttl: bool = True) -> Delta:
    """In what two keys of the same name differ.

    Args:
        before, after: with decoded values.
        ttl: whether the expiry of keys and fields counts.

    Returns:
        The delta of the values; `type` and `expires_at_ms` as [before, after] where those
        differ. Cost: O(size), for an average element.
    """
    delta: Delta = {}
    if ttl and before.expires_at_ms != after.expires_at_ms:
        delta["expires_at_ms"] = [before.expires_at_ms, after.expires_at_ms]
    if before.kind != after.kind:
        delta["type"] = [before.kind, after.kind]
        return delta | {"before": value_form(before), "after": value_form(after)}
    return delta | _DELTAS[before.kind](before.value, after.value, ttl)


def whole_form(change: str, key: Key) -> dict[str, Json]:
    """The line of a key that only one file has."""
    form = key_form(key)
    del form["record"], form["type_code"]
    return {"change": change} | form | {"value": value_form(key)}


def _scalar(before: Any, after: Any, form: Callable[[Any], Json]) -> Delta:
    return {} if before == after else {"before": form(before), "after": form(after)}


def _string(before: bytes, after: bytes, ttl: bool) -> Delta:
    return _scalar(before, after, bytes_form)


def _list(before: list[bytes], after: list[bytes], ttl: bool) -> Delta:
    if before == after:
        return {}
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return {
        "at": head,
        "removed": [bytes_form(element) for element in before[head : len(before) - tail]],
        "added": [bytes_form(element) for element in after[head : len(after) - tail]],
    }


def _set(before: list[bytes], after: list[bytes], ttl: bool) -> Delta:
    old, new = set(before), set(after)
    delta = {
        "removed": [bytes_form(member) for member in sorted(old - new)],
        "added": [bytes_form(member) for member in sorted(new - old)],
    }
    return _without_empty(delta)


def _zset(before: list[tuple[bytes, float]], after: list[tuple[bytes, float]], ttl: bool) -> Delta:
    # As text, because -0 and 0 are equal numbers and different answers of ZSCORE.
    old = {member: score_form(score) for member, score in before}
    new = {member: score_form(score) for member, score in after}
    return _mapping(old, new, bytes_form, str)


def _hash(before: Any, after: Any, ttl: bool) -> Delta:
    old, old_ms = _fields(before)
    new, new_ms = _fields(after)
    delta = _mapping(old, new, bytes_form, bytes_form)
    if ttl and old_ms != new_ms:
        moved = [
            [bytes_form(field), old_ms.get(field), new_ms.get(field)]
            for field in sorted(old.keys() & new.keys())
            if old_ms.get(field) != new_ms.get(field)
        ]
        delta |= _without_empty({"expires_at_ms": moved})
    return delta


def _fields(value: Any) -> tuple[dict[bytes, bytes], Mapping[bytes, int]]:
    flat, expires = (
        (value.fields, value.expires_at_ms) if isinstance(value, ExpiringHash) else (value, {})
    )
    return dict(zip(flat[::2], flat[1::2], strict=True)), expires


def _stream(before: Stream, after: Stream, ttl: bool) -> Delta:
    delta = _mapping(dict(before.entries), dict(after.entries), id_form, pairs_form)
    for name in ("last_id", "max_deleted_id"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            delta[name] = [id_form(old), id_form(new)]
    if before.entries_added != after.entries_added:
        delta["entries_added"] = [before.entries_added, after.entries_added]
    if before.producers is not None and after.producers is not None:
        forms = producers_form(before.producers), producers_form(after.producers)
        delta |= _changed("producers", *forms)
    groups = _mapping(_groups(before), _groups(after), bytes_form, lambda form: form)
    return delta | _without_empty({"groups": groups})


def _groups(stream: Stream) -> dict[bytes, Json]:
    forms = {}
    for group in stream.groups:
        form = group_form(group)
        form["consumers"] = sorted(
            (bytes_form(consumer.name) for consumer in group.consumers), key=str
        )
        forms[group.name] = form
    return forms


def _array(before: Array, after: Array, ttl: bool) -> Delta:
    delta = _mapping(dict(before.elements), dict(after.elements), str, bytes_form)
    return delta | _changed("cursor", before.cursor, after.cursor)


def _changed(name: str, before: Json, after: Json) -> Delta:
    return {} if before == after else {name: [before, after]}


def _module(before: Any, after: Any, ttl: bool) -> Delta:
    if before.module_id != after.module_id:
        return {
            "module": [before.name, after.name],
            "before": bytes_form(before.payload),
            "after": bytes_form(after.payload),
        }
    return _scalar(before.payload, after.payload, bytes_form)


def _mapping(
    old: Mapping[T, Any],
    new: Mapping[T, Any],
    name: Callable[[T], Json],
    form: Callable[[Any], Json],
) -> Delta:
    """Removed and added in the order of their file, changed in that of the new one."""
    delta = {
        "removed": [[name(k), form(v)] for k, v in old.items() if k not in new],
        "added": [[name(k), form(v)] for k, v in new.items() if k not in old],
        "changed": [
            [name(k), form(old[k]), form(v)] for k, v in new.items() if k in old and old[k] != v
        ],
    }
    return _without_empty(delta)


def _without_empty(delta: Delta) -> Delta:
    return {name: part for name, part in delta.items() if part}


_DELTAS: dict[str, Callable[[Any, Any, bool], Delta]] = {
    "string": _string,
    "list": _list,
    "set": _set,
    "zset": _zset,
    "hash": _hash,
    "stream": _stream,
    "array": _array,
    "module": _module,
}
