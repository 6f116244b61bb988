"""The files in tests/data/rdb, and records in the form their expected content is kept in."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import rdb

DATA = Path(__file__).parents[2] / "data" / "rdb"
GOLDENS = sorted((DATA / "goldens").glob("*.rdb"))
CORPUS: list[dict[str, Any]] = json.loads((DATA / "corpus" / "manifest.json").read_text())


def corpus_path(entry: dict[str, Any]) -> Path:
    """The file of a manifest entry."""
    path: Path = DATA / "corpus" / entry["file"]
    return path


def is_readable(entry: dict[str, Any]) -> bool:
    """Whether this library promises to read the file of a manifest entry."""
    if entry.get("expected") is None:
        return False
    version: int = entry["version"]
    return version == 80 if entry["magic"] == "VALKEY" else version <= 15


READABLE = [corpus_path(e) for e in CORPUS if is_readable(e) and e["checksum"] != "bad"]
NEWEST = [corpus_path(e) for e in CORPUS if e["version"] in range(13, 16)]
A_THIRD = sorted({*READABLE[::3], *NEWEST})
"""Enough of them for tests that take long; all of the versions that few are of."""


def text(data: bytes) -> Any:
    """Bytes as JSON."""
    try:
        decoded = data.decode()
    except UnicodeDecodeError:
        decoded = ""
    printable = all(c.isprintable() or c in "\t\r\n" for c in decoded)
    if printable and decoded.encode() == data:
        return decoded
    return {"b64": base64.b64encode(data).decode()}


def score_text(score: float) -> str:
    """A score as the expected content spells it."""
    return repr(score + 0.0).removesuffix(".0")  # The sum turns -0.0 into 0.0.


def id_text(entry_id: tuple[int, int]) -> str:
    """A stream id as Redis spells it."""
    return f"{entry_id[0]}-{entry_id[1]}"


def pairs_of(flat: list[bytes]) -> list[list[Any]]:
    """field, value ... -> [[field, value] ...] as JSON."""
    return [[text(f), text(v)] for f, v in zip(flat[::2], flat[1::2], strict=True)]


def stream_form(stream: rdb.Stream) -> dict[str, Any]:
    """A stream as JSON."""
    groups = []
    for group in stream.groups:
        pel = [
            [
                id_text(p.id),
                None if p.consumer is None else text(p.consumer),
                p.delivered_at_ms,
                p.deliveries,
            ]
            for p in group.pending
        ]
        owners = [p.consumer for p in group.pending]
        released = {"nacked": [id_text(i) for i in group.released]} if group.released else {}
        groups.append(
            released
            | {
                "name": text(group.name),
                "last_id": id_text(group.last_id),
                "entries_read": group.entries_read,
                "pel": pel,
                "consumers": sorted(
                    (
                        {
                            "name": text(c.name),
                            "seen_ms": c.seen_ms,
                            "active_ms": c.active_ms,
                            "pending": owners.count(c.name),
                        }
                        for c in group.consumers
                    ),
                    key=lambda c: json.dumps(c["name"]),
                ),
            }
        )
    form = {
        "length": stream.length,
        "last_id": id_text(stream.last_id),
        "first_id": id_text(stream.first_id),
        "max_deleted_id": id_text(stream.max_deleted_id),
        "entries_added": stream.entries_added,
        "entries": [[id_text(i), pairs_of(fields)] for i, fields in stream.entries],
        "groups": sorted(groups, key=lambda g: json.dumps(g["name"])),
    }
    if stream.producers is not None:
        form["idmp"] = {
            "duration_s": stream.producers.window_s,
            "max_entries": stream.producers.window_messages,
            "iids_added": stream.producers.remembered,
            "iids_duplicates": stream.producers.refused,
            "producers": [
                {"pid": text(p.name), "entries": [[text(m), id_text(i)] for m, i in p.messages]}
                for p in stream.producers.producers
            ],
        }
    return form


def value_form(key: rdb.Key) -> Any:
    """A value as JSON, in the canonical order."""
    kind, value = key.kind, key.value
    if kind == "string":
        return text(value)
    if kind == "list":
        return [text(element) for element in value]
    if kind == "set":
        return sorted(map(text, value), key=json.dumps)
    if kind == "zset":
        ordered = sorted(value, key=lambda pair: (pair[1], pair[0]))
        return [[text(member), score_text(score)] for member, score in ordered]
    if kind == "hash":
        if isinstance(value, rdb.ExpiringHash):
            pairs = pairs_of(value.fields)
            if value.expires_at_ms:
                for pair, field in zip(pairs, value.fields[::2], strict=True):
                    pair.append(value.expires_at_ms.get(field))
        else:
            pairs = pairs_of(value)
        return sorted(pairs, key=json.dumps)
    if kind == "stream":
        return stream_form(value)
    if kind == "array":
        elements = [[index, text(element)] for index, element in value.elements]
        return {"elements": elements, "insert_idx": value.cursor}
    return {"module": f"{value.name}/{value.version}", "raw_len": len(value.payload)}


def key_form(key: rdb.Key) -> dict[str, Any]:
    """A key as the expected content has it, without what only a server knows."""
    return {
        "db": key.db,
        "key": text(key.key),
        "type": key.kind,
        "expire_at_ms": key.expires_at_ms,
        "value": value_form(key),
    }


def sha256_of(value: Any) -> str:
    """The digest that stands for a long value."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def assert_same_key(key: rdb.Key, expected: dict[str, Any]) -> None:
    """Hold a key that was read against what an oracle says of it."""
    form = key_form(key)
    for name in ("db", "key", "type", "expire_at_ms"):
        assert form[name] == expected[name], (name, form["key"])
    if "value_sha256" in expected:
        assert sha256_of(form["value"]) == expected["value_sha256"], form["key"]
    elif key.kind == "stream":
        assert_same_stream(form["value"], expected["value"])
    else:
        assert form["value"] == expected["value"], form["key"]


def assert_same_stream(form: dict[str, Any], expected: dict[str, Any]) -> None:
    """Hold a stream against an oracle's.

    Two things are no difference: what the file does not store and an oracle that is no server
    leaves out, and a length that counts more entries than there are, as pre-releases of Redis 5
    wrote it.
    """
    expected = json.loads(json.dumps(expected))
    expected["length"] = min(expected["length"], len(expected["entries"]))
    for groups in (form["groups"], expected["groups"]):
        groups.sort(key=lambda g: json.dumps(g["name"]))
        for group in groups:
            group["consumers"].sort(key=lambda c: json.dumps(c["name"]))
    _fill_in(expected, form, ("first_id", "max_deleted_id", "entries_added"))
    for theirs, ours in zip(expected["groups"], form["groups"], strict=True):
        _fill_in(theirs, ours, ("entries_read",))
        for consumer in theirs["consumers"]:
            if consumer.get("active_ms") is None:
                consumer["active_ms"] = consumer["seen_ms"]
    assert form == expected


def _fill_in(expected: dict[str, Any], form: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        expected.setdefault(name, form[name])
