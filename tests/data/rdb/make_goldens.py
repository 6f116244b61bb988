"""Makes the golden files in goldens/ with the redis-server on the PATH; run by hand.

    python tests/data/rdb/make_goldens.py [port [name ...]]

Each golden is one dataset, made by the commands below in an empty server, saved with SAVE. What
the server says of every key is kept beside the file: TYPE, OBJECT ENCODING, the expiry, the
DEBUG DIGEST-VALUE and the value itself, in the form that corpus/README.md describes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

GOLDENS = Path(__file__).parent / "goldens"
FAR_MS = 4102444800000  # 2100-01-01, so that no golden expires
LONG_TEXT = 2000
Command = tuple[Any, ...]
Ask = Callable[..., Any]


def text(data: bytes) -> Any:
    """A JSON string where the bytes are printable UTF-8, else {"b64": ...}."""
    try:
        decoded = data.decode()
    except UnicodeDecodeError:
        decoded = ""
    printable = all(c.isprintable() or c in "\t\r\n" for c in decoded)
    if printable and decoded.encode() == data:
        return decoded
    return {"b64": base64.b64encode(data).decode()}


def score_text(score: float) -> str:
    """The shortest text of a score that reads back, an integer without a point."""
    return repr(score + 0.0).removesuffix(".0")  # The sum turns -0.0 into 0.0.


def goldens() -> dict[str, tuple[dict[str, str], list[Command]]]:
    """Name -> (configuration, commands)."""
    rng = random.Random(7)
    strings: list[Command] = [("SET", "empty", ""), ("SET", "binary", bytes(range(256)))]
    for number in (0, 63, 64, -1, 127, -128, 128, 32767, -32768, 32768, 2**31 - 1, -(2**31)):
        strings.append(("SET", f"int:{number}", str(number)))
    for odd in ("2147483648", "007", "-0", "+1", "1e3", " 1", "12345678901", "-", "9" * 25):
        strings.append(("SET", f"text:{odd}", odd))
    for length in (19, 20, 21, 22, 63, 64, 300, 16383, 16384, 70000):
        strings.append(("SET", f"same:{length}", "a" * length))
        strings.append(("SET", f"noise:{length}", rng.randbytes(length)))
    numbers = [0, 127, 128, -1, -4096, 4095, 4096, -4097, 32767, -32768, 32768, 8388607, -8388608]
    numbers += [8388608, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63)]
    lists: list[Command] = [
        ("RPUSH", "ints", *numbers, 2**63, -(2**63) - 1),
        ("RPUSH", "sizes", *("x" * size for size in (0, 1, 63, 64, 127, 128, 4095, 4096))),
        ("RPUSH", "wide", *("y" * size for size in (9000, 10, 20000, 70000, 3, 8170, 8190))),
    ]
    lists += [("RPUSH", "long", *range(start, start + 50)) for start in range(0, 5000, 50)]
    scores = [
        "1",
        "-1",
        "0",
        "0.1",
        "-0.5",
        "1e17",
        "1e300",
        "inf",
        "-inf",
        "3.0",
        "4503599627370496",
    ]
    scores += [
        "123456789012345678",
        "2.5e-8",
        "9007199254740993",
        "4611686018427387904",
        "-9223372036854775808",
        "-0",
    ]
    zsets: list[Command] = [
        ("ZADD", "small", *(x for i, score in enumerate(scores) for x in (score, f"m{i}"))),
        ("ZADD", "wide", "1.5", "z" * 65, "-3", "short"),
    ]
    zsets += [("ZADD", "big", str(i * 0.37 - 30), f"member:{i}") for i in range(200)]
    zsets += [("ZADD", "big", score, f"edge:{score}") for score in scores]
    hashes: list[Command] = [
        ("HSET", "small", *(x for i, n in enumerate(numbers) for x in (f"f{i}", n))),
        ("HSET", "texts", "a", "", "", "empty name", "b", bytes(range(64)), "7", "1.5"),
        ("HSET", "wide", "f", "v" * 65),
        ("HSET", "big", *(x for i in range(600) for x in (f"field:{i}", f"value-{i * i}"))),
    ]
    sets: list[Command] = [
        ("SADD", "int16", 1, -2, 300, 32767, -32768),
        ("SADD", "int32", 1, 70000, -(2**31)),
        ("SADD", "int64", 1, 2**40, -(2**63), 2**63 - 1),
        ("SADD", "texts", "a", "b", "", "12", bytes(range(200, 256))),
        ("SADD", "many", *range(1000)),
    ]
    streams: list[Command] = [
        ("XADD", "same", f"{1000 + i}-{i}", "f", i, "g", "v" * (i % 90)) for i in range(350)
    ]
    streams += [
        ("XADD", "mixed", f"{5 + i // 3}-{i}", *(x for j in range(1 + i % 4) for x in (f"k{j}", i)))
        for i in range(250)
    ]
    streams += [("XADD", "wide", f"1-{i + 1}", "body", "w" * 1500) for i in range(9)]
    groups: list[Command] = [("XADD", "s", f"{i}-1", "n", i) for i in range(1, 31)]
    groups += [
        ("XGROUP", "CREATE", "s", "early", "0"),
        ("XGROUP", "CREATE", "s", "late", "$", "ENTRIESREAD", "30"),
        ("XGROUP", "CREATE", "s", "unknown", "17-5"),
        ("XREADGROUP", "GROUP", "early", "ann", "COUNT", "7", "STREAMS", "s", ">"),
        ("XREADGROUP", "GROUP", "early", "bob", "COUNT", "5", "STREAMS", "s", ">"),
        ("XREADGROUP", "GROUP", "early", "ann", "STREAMS", "s", "0"),
        ("XACK", "s", "early", "3-1", "9-1"),
        ("XGROUP", "CREATECONSUMER", "s", "late", "idle"),
        ("XADD", "drained", "7-7", "a", "b"),
        ("XGROUP", "CREATE", "drained", "g", "0"),
        ("XDEL", "drained", "7-7"),
    ]
    holes: list[Command] = [("XADD", "s", f"{i}-0", "n", i) for i in range(1, 251)]
    holes += [("XDEL", "s", *(f"{i}-0" for i in range(5, 240, 3))), ("XTRIM", "s", "MAXLEN", 120)]
    # Sizes on both sides of where a node is full, and of where a backlen grows.
    edges: list[Command] = []
    for size in range(2034, 2044):
        edges.append(("RPUSH", f"list:{size}", "a" * size, "b" * size, "c"))
    edges.append(("RPUSH", "backlen", *("d" * size for size in (16376, 16377, 16378, 16379))))
    for size in range(15, 60):
        edges += [("XADD", f"stream:{size}", f"{i}-1", "f", "v" * size) for i in range(1, 9)]
    keys: list[Command] = [
        ("SET", "plain", "v"),
        ("SET", "expires", "v", "PXAT", FAR_MS + 1),
        ("RPUSH", "list expires", "a"),
        ("PEXPIREAT", "list expires", FAR_MS + 2),
        ("SELECT", 3),
        ("SET", "in three", "v"),
        ("SELECT", 15),
        ("SADD", "in fifteen", 1),
        ("SELECT", 0),
    ]
    library = "#!lua name=mylib\nredis.register_function('f', function(k, a) return 1 end)"
    off = {"rdbcompression": "no"}
    return {
        "empty": (off, []),
        "strings": (off, strings),
        "strings-compressed": ({}, strings),
        "lists": (off, lists),
        "lists-compressed": ({}, lists),
        "lists-of-five": (off | {"list-max-listpack-size": "5"}, lists),
        "lists-of-64kib": (off | {"list-max-listpack-size": "-5"}, lists),
        "zsets": (off, zsets),
        "hashes": (off, hashes),
        "hashes-compressed": ({}, hashes),
        "sets": (off, sets),
        "streams": (off, streams),
        "streams-of-10": (off | {"stream-node-max-entries": "10"}, streams),
        "stream-groups": (off, groups),
        "stream-holes": (off, holes),
        "edges": (off | {"list-max-listpack-size": "-1", "stream-node-max-bytes": "201"}, edges),
        "keys": (off, keys),
        "keys-lru": (off | {"maxmemory-policy": "allkeys-lru"}, keys),
        "keys-lfu": (off | {"maxmemory-policy": "allkeys-lfu"}, keys),
        "functions": (off, [("FUNCTION", "LOAD", library), ("SET", "a", "1")]),
        "no-checksum": (off | {"rdbchecksum": "no"}, keys),
    }


def stream_value(ask: Ask, key: bytes) -> dict[str, Any]:
    """What XINFO and XRANGE say of a stream."""
    raw = ask("XINFO", "STREAM", key, "FULL", "COUNT", 0)
    info = dict(zip(raw[::2], raw[1::2], strict=True))
    groups = []
    for flat in info[b"groups"]:
        group = dict(zip(flat[::2], flat[1::2], strict=True))
        read = group[b"entries-read"]
        groups.append(
            {
                "name": text(group[b"name"]),
                "last_id": group[b"last-delivered-id"].decode(),
                "entries_read": -1 if read is None else read,
                "pel": [[i.decode(), text(c), ms, n] for i, c, ms, n in group[b"pending"]],
                "consumers": [
                    {"name": text(c[1]), "seen_ms": c[3], "active_ms": None, "pending": c[5]}
                    for c in group[b"consumers"]
                ],
            }
        )
    entries = ask("XRANGE", key, "-", "+")
    return {
        "length": info[b"length"],
        "last_id": info[b"last-generated-id"].decode(),
        "first_id": info[b"recorded-first-entry-id"].decode(),
        "max_deleted_id": info[b"max-deleted-entry-id"].decode(),
        "entries_added": info[b"entries-added"],
        "entries": [
            [i.decode(), [[text(f), text(v)] for f, v in zip(a[::2], a[1::2], strict=True)]]
            for i, a in entries
        ],
        "groups": groups,
    }


def describe(ask: Ask, db: int, key: bytes) -> dict[str, Any]:
    """One key as corpus/README.md describes it."""
    kind = ask("TYPE", key).decode()
    if kind == "string":
        value: Any = text(ask("GET", key))
    elif kind == "list":
        value = [text(element) for element in ask("LRANGE", key, 0, -1)]
    elif kind == "set":
        value = sorted(map(text, ask("SMEMBERS", key)), key=json.dumps)
    elif kind == "hash":
        flat = list(map(text, ask("HGETALL", key)))
        value = sorted(map(list, zip(flat[::2], flat[1::2], strict=True)), key=json.dumps)
    elif kind == "zset":
        flat = ask("ZRANGE", key, 0, -1, "WITHSCORES")
        value = [
            [text(member), score_text(float(score))]
            for member, score in zip(flat[::2], flat[1::2], strict=True)
        ]
    else:
        value = stream_value(ask, key)
    instant_ms = ask("PEXPIRETIME", key)
    form: dict[str, Any] = {"value": value}
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if kind != "stream" and len(canonical) > LONG_TEXT:
        form = {
            "value_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
            "value_count": len(value),
        }
    return {
        "db": db,
        "key": text(key),
        "type": kind,
        "encoding": ask("OBJECT", "ENCODING", key).decode(),
        "expire_at_ms": None if instant_ms == -1 else instant_ms,
        "digest": ask("DEBUG", "DIGEST-VALUE", key)[0].decode(),
        **form,
    }


def connect(port: int) -> Ask:
    """A connection's way to run a command; it leaves every reply as the server sent it."""
    client = redis.Redis(port=port, protocol=2, single_connection_client=True)
    client.response_callbacks.clear()
    ask: Ask = client.execute_command
    return ask


def main() -> None:
    """Start a server, make every golden, stop the server."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 21099
    GOLDENS.mkdir(exist_ok=True)
    wanted = sys.argv[2:]
    for name, (config, commands) in goldens().items():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--port", str(port), "--dir", folder, "--save", "", "--bind", "127.0.0.1"]
            arguments += ["--enable-debug-command", "yes"]
            for directive, setting in config.items():
                arguments += [f"--{directive}", setting]
            server = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
            try:
                ask = connect(port)
                while True:
                    try:
                        ask("PING")
                        break
                    except redis.ConnectionError:
                        time.sleep(0.02)
                for command in commands:
                    ask(*command)
                ask("SAVE")
                keys = []
                for db in range(16):
                    ask("SELECT", db)
                    names = sorted(ask("KEYS", "*"))
                    keys += [describe(ask, db, key) for key in names]
                digest = ask("DEBUG", "DIGEST").decode()
                shutil.copy(Path(folder) / "dump.rdb", GOLDENS / f"{name}.rdb")
                (GOLDENS / f"{name}.json").write_text(
                    json.dumps({"config": config, "digest": digest, "keys": keys}) + "\n"
                )
            finally:
                server.kill()
                server.wait()


if __name__ == "__main__":
    main()
