"""`kvrepl aof` beside redis-check-aof, and its results in redis-server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvrepl.toolbox.aof_cut import utc
from kvrepl.toolbox.aof_scan import open_log, scan
from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server, ServerExited, wait_until

pytestmark = pytest.mark.interop

DATA = Path(__file__).parents[1] / "data" / "aof"
MANIFEST = "appendonly.aof.manifest"
# Under everysec a slow fsync may put off the write of a command that was answered.
WRITTEN_AT_ONCE = {"appendonly": "yes", "appendfsync": "always"}


def aof(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """Run `kvrepl aof` as the user does."""
    command = [sys.executable, "-c", "from kvrepl.cli import main; main()", "aof"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, timeout=60)


def redis_says_whole(manifest: Path) -> bool:
    checked = subprocess.run(["redis-check-aof", manifest], capture_output=True, timeout=60)
    return checked.returncode == 0


def next_second() -> int:
    """Wait until the clock shows a new second; returns the one that is over."""
    now_s = int(time.time())
    wait_until(lambda: int(time.time()) > now_s, "a new second")
    return now_s


def fill(server: Server, mark: str) -> None:
    """Write something of each kind that an AOF treats in a way of its own."""
    client = server.client(db=3)
    with client.pipeline(transaction=True) as pipe:
        pipe.incr("counter")
        pipe.rpush("list", mark, "\n#TS:1\r\n")
        pipe.execute()
    server.client().set(f"key:{mark}", mark, px=10**9)
    client.xadd("stream", {"mark": mark})
    client.zadd("z", {mark: 1.5})


def test_check_agrees_with_redis_check_aof_at_every_cut(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DATA / "timestamps", tmp_path / "log"))
    last = open_log(copy).parts[-1]
    whole = last.path.read_bytes()
    for size in range(1, len(whole)):
        last.path.write_bytes(whole[:size])
        ours = scan(last._replace(size_bytes=size), strict=True)
        # Redis takes an annotation without its end for whole, then glues a command to it.
        annotation = whole[:size].rpartition(b"\n")[2].startswith(b"#")
        assert annotation or ours.is_whole == redis_says_whole(copy / MANIFEST), size


def test_restored_folder_has_the_dataset_of_its_moment(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, **WRITTEN_AT_ONCE, aof_timestamp_enabled="yes", save="")
    moments: list[tuple[int, str]] = []
    for number in range(3):
        if number == 1:  # the base is of this time then, and the first second of it has passed
            server.client().bgrewriteaof()
            wait_until(
                lambda: server.info("persistence")["aof_rewrite_in_progress"] == 0,
                "rewritten",
                server,
            )
        fill(server, f"a{number}")
        digest = server.digest()
        moments.append((next_second(), digest))
    fill(server, "later")
    folder = server.folder / "appendonlydir"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    too_early = aof("restore", "--at", moments[0][0], folder, server.folder / "early")
    assert too_early.returncode == 1 and b"the base was written at" in too_early.stderr
    for at_s, digest in moments[1:]:
        for restored_kind in ("redis", "kvrepl"):
            restored = launch.prepare(restored_kind, appendonly="yes")
            place = restored.folder / "appendonlydir"
            done = aof("restore", "--at", at_s, folder, place)
            assert done.returncode == 0, done.stderr
            assert redis_says_whole(place / MANIFEST)
            restored.start()
            assert restored.digest() == digest
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_server_started_at_a_moment_serves_a_restored_folder(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, **WRITTEN_AT_ONCE, aof_timestamp_enabled="yes", save="")
    fill(server, "wanted")
    digest = server.digest()
    at_s = next_second()
    server.client().flushall()
    server.terminate()
    source = server.folder / "appendonlydir"
    before = {path.name: path.read_bytes() for path in source.iterdir()}

    restored = launch.prepare("kvrepl", dir=str(server.folder), save="")
    restored.arguments = ("--restore-at", utc(at_s), "--hz", "20")
    restored.start()

    assert restored.digest() == digest
    assert restored.client().config_get("hz") == {"hz": "20"}
    [folder] = server.folder.glob("appendonlydir-*")
    assert folder.name.endswith(f"-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(at_s))}")
    assert f"as of {utc(at_s)}" in restored.log_text()
    assert f"into {folder}, which is served now" in restored.log_text()
    restored.client().set("after", "v", px=10**9)
    digest = restored.digest()
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before

    restored.call("CONFIG", "REWRITE")
    restored.terminate()
    with pytest.raises(ServerExited, match="restored to that moment already"):
        restored.start()
    restored.arguments = ()
    restored.start()
    assert restored.digest() == digest


@pytest.mark.parametrize(
    ("moment", "directives", "reason"),
    [
        ("1000", {}, "Can't restore .*: the base was written at"),
        ("1000", {"appendfilename": "other"}, "Can't restore .*other.manifest: No such file"),
        ("1000", {"replicaof": "127.0.0.1 1"}, "Can't restore .*: a replica takes the dataset"),
        ("noon", {}, "--restore-at needs a time like 2026-11-20T09:00:00Z"),
        ("", {}, "--restore-at needs a time like 2026-11-20T09:00:00Z"),
    ],
)
def test_server_that_cannot_be_started_at_a_moment_says_why(
    launch: Launcher, moment: str, directives: dict[str, str], reason: str
) -> None:
    first = launch("kvrepl", appendonly="yes")
    first.terminate()
    server = launch.prepare("kvrepl", dir=str(first.folder), **directives)
    server.arguments = ("--restore-at", moment) if moment else ("--restore-at",)

    with pytest.raises(ServerExited, match=reason) as stopped:
        server.start()

    assert stopped.value.status == 1
    assert "Traceback" not in stopped.value.log
    assert sorted(p.name for p in first.folder.glob("appendonlydir*")) == ["appendonlydir"]


def test_fixed_folder_loads_in_redis_without_truncation(launch: Launcher) -> None:
    server = launch("redis", **WRITTEN_AT_ONCE, aof_load_truncated="no")
    fill(server, "a")
    digest = server.digest()
    server.client().set("torn", "x" * 100)
    server.kill()
    last = server.folder / "appendonlydir" / "appendonly.aof.1.incr.aof"
    last.write_bytes(last.read_bytes()[:-50])

    assert aof("check", server.folder / "appendonlydir").returncode == 1
    assert aof("fix", "--yes", server.folder / "appendonlydir").returncode == 0

    server.start()
    assert server.digest() == digest


def test_dump_as_resp_rebuilds_the_dataset_through_redis_cli(launch: Launcher) -> None:
    server = launch("redis", **WRITTEN_AT_ONCE, save="")
    fill(server, "in the base")
    server.client().bgrewriteaof()
    wait_until(
        lambda: server.info("persistence")["aof_rewrite_in_progress"] == 0, "rewritten", server
    )
    fill(server, "in the increment")
    dumped = aof("dump", "--resp", server.folder / "appendonlydir")
    assert dumped.returncode == 0, dumped.stderr

    other = launch("redis")
    other.cli("--pipe", stdin=dumped.stdout)

    assert other.digest() == server.digest()
