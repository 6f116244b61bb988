"""Append-only folders between kvrepl.persistence and the real programs, without a kvrepl server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvrepl.persistence.aof import AofReplay, EndKind
from kvrepl.persistence.disk import write_durably
from kvrepl.persistence.lifecycle import AppendOnlyLog, child_result, child_temp
from kvrepl.persistence.manifest import Layout
from kvrepl.persistence.rewrite import RewriteSchedule, aof_base
from kvrepl.persistence.startup import StartupPlan, open_log, plan_startup
from kvrepl.persistence.writer import NO_DB, AofWriter, FsyncPolicy
from kvrepl.resp import encode_command
from kvrepl.server.disk import RealDisk
from rdb.streams import decode_stream
from tests.interop.conftest import Launcher
from tests.interop.harness import Server, ServerExited, wait_until

pytestmark = pytest.mark.interop

LAYOUT = Layout()
DATA = Path(__file__).parents[1] / "data" / "aof"


def commands_of(disk: RealDisk, plan: StartupPlan) -> list[list[bytes]]:
    """All that a log without RDB parts says."""
    found: list[list[bytes]] = []
    for file in plan.files:
        replay = AofReplay()
        for chunk in disk.read(file.path, 1000):
            found += [argv for argv, _ in replay.feed(chunk)]
        assert replay.finish().kind is EndKind.WHOLE
    return found


def digest_of(launch: Launcher, commands: list[list[bytes]]) -> str:
    """The dataset that a real server makes of commands."""
    return replayed(launch, commands).digest()


def replayed(launch: Launcher, commands: list[list[bytes]]) -> Server:
    """A real server that has run commands."""
    server = launch("redis")
    pipe: Any = server.client().pipeline(transaction=False)
    for argv in commands:
        pipe.execute_command(*argv)
    pipe.execute_command("SELECT", 0)
    pipe.execute()
    return server


def test_folder_written_here_is_checked_and_loaded_by_redis(launch: Launcher) -> None:
    server = launch.prepare("redis", appendonly="yes", aof_disable_auto_gc="yes")
    disk = RealDisk(str(server.folder))
    opened = open_log(
        disk, LAYOUT, plan_startup(disk, LAYOUT).manifest, empty_base=[], rdb=False, pid=1
    )
    writer = AofWriter(FsyncPolicy.ALWAYS, timestamps=True)
    log = AppendOnlyLog(disk, LAYOUT, writer, RewriteSchedule())
    log.rdb_base = False
    log.opened(opened.manifest, opened.file, opened.file_bytes, opened.total_bytes, 0)

    def write(db: int, *argv: bytes) -> None:
        writer.feed(db, encode_command(list(argv)))
        assert not log.flush(0)

    writer.set_time(1_700_000_000)
    write(0, b"SET", b"before", b"the rewrite")
    log.begin_rewrite(0)
    log.child_started(7, 0)
    values = [b"%d" % number for number in range(100)]
    entries = [
        (b"s", b"string", b"\x00\xff\r\n", 4_102_445_546_000),
        (b"l", b"list", values, None),
        (b"t", b"set", set(values), None),
        (b"h", b"hash", dict(zip(values, values, strict=True)), None),
        (b"z", b"zset", [(b"a", float("-inf")), (b"b", 0.1), (b"c", 1e300)], None),
    ]
    base = aof_base([(0, entries), (9, [(b"k", b"string", b"v", None)])], now_s=1_700_000_001)
    write_durably(disk, child_temp(7), child_result(7), base)
    writer.set_time(1_700_000_002)
    write(3, b"RPUSH", b"during", b"x")
    log.child_exited(7, 0, 0, 0)
    writer.feed(NO_DB, encode_command([b"MULTI"]))
    writer.feed(0, encode_command([b"INCR", b"n"]))
    writer.feed(0, encode_command([b"INCR", b"n"]))
    write(NO_DB, b"EXEC")
    writer.close()

    checked = subprocess.run(
        ["redis-check-aof", LAYOUT.manifest], cwd=server.folder, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
    assert "All AOF files and manifest are valid" in checked.stdout
    server.start()
    client = server.client()
    assert server.call("PEXPIRETIME", "s") == 4_102_445_546_000
    assert client.get("s") == b"\x00\xff\r\n"
    assert client.lrange("l", 0, -1) == values
    assert client.scard("t") == client.hlen("h") == 100
    assert client.zscore("z", "b") == 0.1 and client.zcount("z", "-inf", "-inf") == 1
    assert client.get("n") == b"2" and client.get("before") is None
    assert server.client(db=3).lrange("during", 0, -1) == [b"x"]
    assert server.client(db=9).get("k") == b"v"


def test_folder_written_by_redis_means_the_same_here(launch: Launcher) -> None:
    # Not everysec: under it a slow fsync may put off the write of an answered command.
    server = launch("redis", appendonly="yes", aof_use_rdb_preamble="no", appendfsync="always")
    client = server.client()
    for number in range(200):
        client.rpush(f"list{number % 3}", number)
        client.incrbyfloat("sum", number / 7)
    client.bgrewriteaof()
    with client.pipeline(transaction=True) as pipe:
        pipe.zadd("z", {"a": 1.5})
        pipe.hset("h", "f", "v")
        pipe.execute()
    wait_until(
        lambda: server.info("persistence")["aof_rewrite_in_progress"] == 0, "rewritten", server
    )
    server.client(db=5).set("k", "v", px=10**9)
    digest = server.digest()
    server.kill()
    disk = RealDisk(str(server.folder))
    plan = plan_startup(disk, LAYOUT)
    assert [file.name for file in plan.files] == [
        "appendonly.aof.2.base.aof",
        "appendonly.aof.2.incr.aof",
    ]
    assert digest_of(launch, commands_of(disk, plan)) == digest


def test_streams_rewritten_here_are_the_same_in_redis(launch: Launcher) -> None:
    server = launch("redis")
    client = server.client()
    for number in range(5):
        client.xadd("s", {"f": number, "g": "x"}, id=f"{number + 1}-7")
    client.xdel("s", "5-7")
    client.xgroup_create("s", "group", "0")
    client.xgroup_createconsumer("s", "group", "idle")
    client.xreadgroup("group", "busy", {"s": ">"}, count=2)
    client.xgroup_create("empty", "group", "$", mkstream=True)
    entries = []
    for key in (b"s", b"empty"):
        dump: bytes = server.call("DUMP", key)
        stream, end = decode_stream(dump[0], dump, 1)
        assert end == len(dump) - 10  # a version and a checksum follow
        entries.append((key, b"stream", stream, None))
    commands = [argv for chunk in aof_base([(0, entries)]) for argv, _ in AofReplay().feed(chunk)]
    again = replayed(launch, commands)
    assert again.digest() == server.digest()
    assert stream_facts(again) == stream_facts(server)


def stream_facts(server: Server) -> list[object]:
    """What DEBUG DIGEST leaves out of a stream, but for times of day."""
    client = server.client()
    facts: list[object] = []
    for key in ("s", "empty"):
        info = client.xinfo_stream(key)
        facts += [info["last-generated-id"], info["entries-added"], info["max-deleted-entry-id"]]
        facts += client.xinfo_groups(key)
        facts += [consumer["name"] for consumer in client.xinfo_consumers(key, "group")]
        for owed in client.xpending_range(key, "group", "-", "+", 100):
            facts.append((owed["message_id"], owed["consumer"], owed["times_delivered"]))
    return facts


def test_golden_folder_means_here_what_it_did_in_redis(launch: Launcher, tmp_path: Path) -> None:
    shutil.copytree(DATA / "rewritten-once", tmp_path / LAYOUT.dirname)
    disk = RealDisk(str(tmp_path))
    found = commands_of(disk, plan_startup(disk, LAYOUT))
    assert digest_of(launch, found) == "717fdfb8bc4420e3298073975ff3390832e24ebf"


TEXT = b"".join(
    encode_command(line.split())
    for line in (b"SET a 1", b"MULTI", b"INCR a", b"INCR a", b"EXEC", b"SET b 2")
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TEXT[:-1], "the last byte"),
        (TEXT[:-20], "an argument"),
        (TEXT[:20], "the first command"),
        (TEXT + b"*", "only a mark"),
        (TEXT + b"*3\r\n$3\r\nSET\r\n$1", "inside a length"),
        (TEXT + b"*1\r\n$100\r\n", "a value to come"),
        (TEXT + b"#TS:1700000000\r\n*1\r\n", "after an annotation"),
    ],
)
def test_torn_file_is_cut_where_redis_cuts_it(launch: Launcher, text: bytes, why: str) -> None:
    server = incr_server(launch, text)
    server.start()
    replay = AofReplay()
    replay.feed(text)
    end = replay.finish()
    assert end.kind in (EndKind.SHORT_READ, EndKind.OPEN_TRANSACTION)
    where = f"!!! Truncating the AOF one at offset {end.valid_up_to_bytes} !!!"
    assert where in server.log_text(), why


def test_file_torn_inside_a_transaction_is_cut_before_it_unlike_in_redis(launch: Launcher) -> None:
    # Redis cuts behind the last whole command, which leaves an open MULTI in the file; all that
    # it appends from then on is taken for a part of that transaction by the next start.
    text = TEXT[:60]
    server = incr_server(launch, text).start()
    assert "!!! Truncating the AOF one at offset 42 !!!" in server.log_text()
    replay = AofReplay()
    replay.feed(text)
    assert replay.finish()[:2] == (EndKind.SHORT_READ, len(encode_command([b"SET", b"a", b"1"])))


@pytest.mark.parametrize(
    "text",
    [
        TEXT + b"!",
        TEXT + b"\r\n",
        TEXT + b"PING\r\n",
        TEXT + b"*x\r\n",
        TEXT + b"*0\r\n" + TEXT,
        TEXT + b"*-1\r\n",
        TEXT + b"#" + b"x" * 1021 + b"\r\n" + TEXT,
        TEXT + b"*1\r\n:1\r\n",
        TEXT + b"*2\n$1\na\n$1\nb\n",
        TEXT + b"\0" * 100,
    ],
)
def test_bad_file_is_refused_where_redis_refuses_it(launch: Launcher, text: bytes) -> None:
    replay = AofReplay()
    replay.feed(text)
    error = replay.finish().error("one")
    assert replay.finish().kind is EndKind.BAD_FORMAT
    with pytest.raises(ServerExited) as exited:
        incr_server(launch, text).start()
    assert error.message in exited.value.log


def incr_server(launch: Launcher, text: bytes) -> Server:
    """A real server about to start on a log of one increment."""
    server = launch.prepare("redis", appendonly="yes")
    folder = server.folder / LAYOUT.dirname
    folder.mkdir()
    (folder / "one").write_bytes(text)
    (server.folder / LAYOUT.manifest).write_text("file one seq 1 type i\n")
    return server
