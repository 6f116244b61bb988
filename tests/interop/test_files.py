"""Files on disk: what one kind of server writes, the other loads and Redis's own tools accept.

`pair.master` writes the files here and `pair.replica` reads them. Sources: rdb.c, aof.c of
Redis 7.0.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.interop.conftest import Launcher
from tests.interop.datasets import AckedWriters, Load, populate
from tests.interop.harness import Kind, Pair, Server, ServerExited, drop_expired, wait_until

SOON_MS = 100_000


def check(tool: str, path: Path) -> str:
    """Run redis-check-rdb or redis-check-aof on a file; give its report, fail if it objects."""
    run = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{tool} refuses {path.name}:\n{run.stdout}{run.stderr}"
    return run.stdout


def aof_folder(server: Server) -> Path:
    """Give the folder of the multi-part AOF."""
    return server.folder / "appendonlydir"


def wait_rewritten(server: Server) -> None:
    """Wait for the end of an AOF rewrite and for its success."""
    wait_until(
        lambda: (
            not server.info("persistence")["aof_rewrite_in_progress"]
            and not server.info("persistence")["aof_rewrite_scheduled"]
        ),
        "the rewrite has ended",
        server,
    )
    assert server.info("persistence")["aof_last_bgrewrite_status"] == "ok"


@pytest.mark.parametrize("command", ["SAVE", "BGSAVE"])
def test_rdb_written_by_one_loads_in_the_other(launch: Launcher, pair: Pair, command: str) -> None:
    writer = launch(pair.master)
    populate(writer, 5_000)
    writer.call(command)
    wait_until(
        lambda: not writer.info("persistence")["rdb_bgsave_in_progress"], "the save ended", writer
    )
    assert writer.info("persistence")["rdb_last_bgsave_status"] == "ok"
    path = writer.folder / "dump.rdb"
    assert "RDB looks OK" in check("redis-check-rdb", path)
    reader = launch.prepare(pair.replica)
    shutil.copy(path, reader.folder)

    reader.start()

    assert reader.digest() == writer.digest()
    assert [p.name for p in writer.folder.glob("temp-*")] == []


def test_shutdown_with_save_points_leaves_a_file_the_other_loads(
    launch: Launcher, pair: Pair
) -> None:
    writer = launch(pair.master, save="3600 1")
    populate(writer, 1_000)
    digest = writer.digest()
    assert writer.terminate() == 0
    reader = launch.prepare(pair.replica)
    shutil.copy(writer.folder / "dump.rdb", reader.folder)

    assert reader.start().digest() == digest


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewritten", [False, True], ids=["grown", "rewritten"])
def test_aof_folder_written_by_one_loads_in_the_other(
    launch: Launcher, pair: Pair, preamble: str, rewritten: bool
) -> None:
    writer = launch(pair.master, appendonly="yes", aof_use_rdb_preamble=preamble)
    populate(writer, 2_000)
    if rewritten:
        writer.call("BGREWRITEAOF")
        wait_rewritten(writer)
    with Load(writer) as load:
        load.wait_for(1_000)
    wait_only_lasting(writer)
    digest = writer.digest()
    assert writer.terminate() == 0
    manifest = aof_folder(writer) / "appendonly.aof.manifest"
    assert "All AOF files and manifest are valid" in check("redis-check-aof", manifest)
    reader = launch.prepare(pair.replica, appendonly="yes", aof_use_rdb_preamble=preamble)
    shutil.copytree(aof_folder(writer), aof_folder(reader))

    reader.start()

    assert reader.digest() == digest


def wait_only_lasting(server: Server) -> None:
    """Wait until no key is left that expires soon, so that a digest stays true over a restart."""
    wait_until(
        lambda: not _short_lived(server), "the short-lived keys are gone", server, poll_s=0.2
    )


def _short_lived(server: Server) -> int:
    drop_expired(server)
    found = 0
    for name in server.info("keyspace"):
        client = server.client(db=int(name.removeprefix("db")))
        asked = client.pipeline(transaction=False)
        for key in client.scan_iter(count=10_000):
            asked.pttl(key)
        found += sum(0 < ttl_ms < SOON_MS for ttl_ms in asked.execute())
        client.close()
    return found


def test_rewrite_under_load_keeps_every_write(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, appendonly="yes", rdb_key_save_delay=50)
    populate(server, 4_000)

    with Load(server) as load:
        for _ in range(3):
            load.wait_for(200)
            server.call("BGREWRITEAOF")
            wait_rewritten(server)
    wait_only_lasting(server)
    digest = server.digest()

    server.restart()

    assert server.digest() == digest
    names = sorted(path.name for path in aof_folder(server).iterdir())
    assert len(names) == 3, f"one base, one incr and the manifest are left, not {names}"


def kill_and_count(launch: Launcher, pair: Pair, acked: int) -> None:
    """Kill a writer with fsync=always under load; its files must hold every acknowledged write."""
    victim = launch(pair.master, appendonly="yes", appendfsync="always")
    writers = AckedWriters(victim).start()
    writers.wait_for(acked)
    victim.call("BGREWRITEAOF")
    writers.wait_for(2 * acked)
    victim.kill()
    writers.join()
    heir = launch.prepare(pair.replica, appendonly="yes")
    shutil.copytree(aof_folder(victim), aof_folder(heir))

    for survivor in (victim.restart(), heir.start()):
        writers.assert_nothing_lost(survivor)


def test_kill_9_with_appendfsync_always_loses_nothing_acknowledged(
    launch: Launcher, pair: Pair
) -> None:
    kill_and_count(launch, pair, acked=500)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_kill_9_fifty_times_with_appendfsync_always_loses_nothing_acknowledged(
    launch: Launcher, pair: Pair
) -> None:
    for _ in range(50):
        kill_and_count(launch, pair, acked=2_000)


def test_kill_9_of_the_save_child_harms_nothing(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, rdb_key_save_delay=2_000)
    populate(server, 2_000)
    before = set(server.folder.iterdir())
    server.call("BGSAVE")
    (child,) = wait_until(psutil.Process(server.pid).children, "the child is there", server)

    child.kill()

    wait_until(
        lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err",
        "the failure is reported",
        server,
    )
    assert server.call("PING")
    assert set(server.folder.iterdir()) == before, "the child's temporary file is left behind"


def test_log_tells_of_the_file_that_is_loaded(launch: Launcher, pair: Pair) -> None:
    writer = launch(pair.master)
    writer.call("SET", "k", "v")
    writer.call("SAVE")
    reader = launch.prepare(pair.replica)
    shutil.copy(writer.folder / "dump.rdb", reader.folder)
    reader.start()
    told = reader.log_text()
    version = re.search(r"Loading RDB produced by version (\S+)\n", told)
    age = re.search(r"RDB age (\d+) seconds\n", told)
    assert version and version[1] == writer.info("server")["redis_version"]
    assert age and int(age[1]) < 60
    assert re.search(r"RDB memory usage when created \d+\.\d\d Mb\n", told)
    assert "checksum disabled" not in told


def test_log_tells_that_nobody_checks_a_file_without_a_checksum(
    launch: Launcher, pair: Pair
) -> None:
    writer = launch(pair.master, rdbchecksum="no")
    writer.call("SAVE")
    reader = launch.prepare(pair.replica)
    shutil.copy(writer.folder / "dump.rdb", reader.folder)
    reader.start()
    assert "RDB file was saved with checksum disabled: no check performed." in reader.log_text()


def damaged(data: bytes, what: str) -> bytes:
    """An RDB of redis-server with a hash in it, damaged."""
    if what == "checksum":
        return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]
    if what == "end":
        return data[:-20]
    at = data.index(b"packed") + len(b"packed") + 1
    assert data[at + 4 : at + 6] == b"\x02\x00", "the header of the listpack"
    return data[: at + 4] + b"\x03" + data[at + 5 : -8] + bytes(8)


@pytest.mark.parametrize("appendonly", ["no", "yes"])
@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "checksum",
            (
                r"Wrong RDB checksum expected: \(\w+\) but got \(\w+\)\. Aborting now\.",
                r"Internal error in RDB reading offset \d+.*-> RDB CRC error",
            ),
        ),
        ("end", (r"Internal error in RDB reading offset \d+.*-> Unexpected EOF reading RDB file",)),
        ("value", (r"Internal error in RDB reading offset \d+.*-> .*integrity check failed",)),
    ],
)
def test_log_says_what_is_wrong_with_a_file_in_the_words_of_redis(
    launch: Launcher, kind: Kind, appendonly: str, what: str, words: tuple[str, ...]
) -> None:
    writer = launch.prepare("redis", rdbcompression="no").start()
    writer.call("HSET", "packed", "f", "v")
    writer.call("SAVE")
    writer.close()
    data = damaged((writer.folder / "dump.rdb").read_bytes(), what)

    reader = launch.prepare(kind, appendonly=appendonly, sanitize_dump_payload="yes")
    path = reader.folder / "dump.rdb"
    if appendonly == "yes":
        folder = aof_folder(reader)
        folder.mkdir()
        (folder / "appendonly.aof.manifest").write_text("file base.rdb seq 1 type b\n")
        path = folder / "base.rdb"
    path.write_bytes(data)
    with pytest.raises(ServerExited) as exited:
        reader.start()
    log = exited.value.log
    assert exited.value.status == 1
    assert all(re.search(line, log) for line in words), log
    if kind == "kvrepl" and appendonly == "yes":
        assert "Error reading the RDB base file base.rdb, AOF loading aborted" in log
    if what == "value" and appendonly == "no":
        assert "Terminating server after rdb file reading failure." in log


def test_debug_loadaof_is_neither_logged_nor_sent_nor_a_change(
    launch: Launcher, pair: Pair
) -> None:
    """A redis-server that finds it in a log crashes."""
    master = launch(pair.master, appendonly="yes", appendfsync="always")
    replica = launch(pair.replica)
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "linked", replica)
    for number in range(10):
        master.call("SET", f"key:{number}", "v")

    master.call("DEBUG", "LOADAOF")

    assert master.info("persistence")["rdb_changes_since_last_save"] == 0
    master.call("SET", "after", "v")
    wait_until(lambda: replica.call("GET", "after") == b"v", "the stream goes on", replica)
    assert replica.info("commandstats").get("cmdstat_debug|loadaof") is None
    assert replica.info("commandstats").get("cmdstat_debug") is None
    for path in aof_folder(master).iterdir():
        assert b"LOADAOF" not in path.read_bytes().upper()


def test_debug_reload_counts_the_keys_it_loads(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.call("SET", "key", "v")
    server.call("DEBUG", "RELOAD")
    told = server.info("persistence")
    assert (told["rdb_last_load_keys_loaded"], told["rdb_last_load_keys_expired"]) == (1, 0)
