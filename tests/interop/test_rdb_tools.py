"""The `rdb` tools against redis-server: what they write it loads, what they estimate it answers."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from rdb.sizes import memory_usage
from tests.interop.harness import Server
from tests.unit.rdb.samples import GOLDENS

pytestmark = pytest.mark.interop


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server("redis", tmp_path / "redis", {}) as started:
        yield started


@pytest.mark.parametrize("form", ["commands", "restore"])
def test_dump_piped_into_redis_gives_the_same_digest(
    form: str, server: Server, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Twice, the second time over the keys of the first."""
    for path in GOLDENS:
        server.call("FLUSHALL")
        server.call("FUNCTION", "FLUSH")
        for _ in range(2):
            assert run(["dump", "--format", form, "--replace", str(path)]) == exits.OK
            sent = capfdbinary.readouterr().out
            done = subprocess.run(
                ["redis-cli", "-p", str(server.port), "--pipe"],
                input=sent, capture_output=True, check=False,
            )  # fmt: skip
            assert b"errors: 0" in done.stdout, (path.stem, done.stdout)
            expected = json.loads(path.with_suffix(".json").read_text())
            assert server.digest() == expected["digest"], path.stem


def keys_of(path: Path) -> dict[tuple[int, bytes], rdb.Key]:
    return {(r.db, r.key): r for r in rdb.read(path) if isinstance(r, rdb.Key)}


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[Path], Server]]:
    servers: list[Server] = []

    def start(path: Path) -> Server:
        server = Server("redis", tmp_path / f"redis-{len(servers)}", {"save": ""})
        servers.append(server)
        (server.folder / "dump.rdb").write_bytes(path.read_bytes())
        return server.start()

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_converted_file_loads_in_redis_server(
    path: Path, tmp_path: Path, load: Callable[[Path], Server]
) -> None:
    expected: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    for target in (6, 9, 10):
        converted = tmp_path / f"{target}.rdb"
        assert run(["convert", str(path), "-o", str(converted), "--target", str(target)]) in (
            exits.OK,
            exits.INCOMPLETE,
        )
        server = load(converted)
        if keys_of(converted).keys() == keys_of(path).keys():
            assert server.digest() == expected["digest"]
        else:
            assert target == 6 and any(key.kind == "stream" for key in keys_of(path).values())


def test_estimates_are_those_of_redis_server(server: Server) -> None:
    rng = random.Random(5)
    pipe = server.client().pipeline(transaction=False)
    for size in (0, 1, 5, 20, 44, 45, 64, 255, 256, 1000, 70000):
        pipe.set(b"string:%d" % size, rng.randbytes(size))
    for number in (0, 9999, -5, 2**62):
        pipe.set(b"integer:%d" % number, number)
    for count in (1, 10, 128, 129, 512, 513, 1000):
        for width in (4, 64, 65, 200):
            texts = [b"%d" % n + rng.randbytes(width) for n in range(count)]
            name = b":%d:%d" % (count, width)
            pipe.rpush(b"list" + name, *texts)
            pipe.sadd(b"set" + name, *texts)
            pipe.hset(b"hash" + name, mapping=dict(zip(texts, texts, strict=True)))
            pipe.zadd(b"zset" + name, {text: rng.random() for text in texts})
        pipe.sadd(b"intset:%d" % count, *range(count))
        for n in range(count):
            pipe.xadd(b"stream:%d" % count, {b"f": b"%d" % n}, id=b"%d-0" % (1700000000000 + 7 * n))
        pipe.xgroup_create(b"stream:%d" % count, b"group", id=0)
        for consumer in ("alice", "bob"):
            streams: dict[Any, Any] = {f"stream:{count}": ">"}
            pipe.xreadgroup("group", consumer, streams, count=count // 2 + 1)
    pipe.execute()
    server.call("DEBUG", "RELOAD")
    usages = {}
    for name in server.client().scan_iter(count=1000):
        usages[name] = server.call("MEMORY", "USAGE", name, "SAMPLES", 0)
    estimates = {
        record.key: memory_usage(record)
        for record in rdb.read(server.folder / "dump.rdb")
        if isinstance(record, rdb.Key)
    }
    assert estimates.keys() == usages.keys()
    total = sum(usages.values())
    assert abs(sum(estimates.values()) - total) / total < 0.002
    for name, usage in usages.items():
        allowed = 0.05 if name.startswith((b"zset", b"hash")) else 0
        assert abs(estimates[name] - usage) <= allowed * usage, (name, estimates[name], usage)


@pytest.mark.parametrize("form", ["commands", "restore"])
def test_dump_of_what_expired_long_ago_leaves_nothing_in_redis(
    form: str, server: Server, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """RESTORE takes 0 for no expiry at all, and refuses less."""
    path = tmp_path / "old.rdb"
    with path.open("wb") as out:
        writer = rdb.RdbWriter(out.write)
        for at_ms in (0, 1, -5, -(1 << 63)):
            writer.key(b"expired at %d" % at_ms, 0, b"v", at_ms)
        writer.key(b"kept", 0, b"v", (1 << 63) - 1)
        writer.end()
    assert run(["dump", "--format", form, str(path)]) == exits.OK
    answer = server.cli("--pipe", stdin=capfdbinary.readouterr().out)
    assert b"errors: 0" in answer
    assert server.call("KEYS", "*") == [b"kept"]
