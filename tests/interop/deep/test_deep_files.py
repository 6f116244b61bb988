"""A million keys on disk: exchanged with Redis both ways, saved and loaded beside it, and killed.

Run by `make deep`; each test prints its figures.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import psutil
import pytest
import redis

from benchmarks import snapshots
from benchmarks.measure import Bench, Benchmark, run_interleaved
from tests.interop.conftest import NO_KVREPL, Launcher
from tests.interop.datasets import AckedWriters, populate
from tests.interop.deep.workload import (
    LONG_S,
    MILLION,
    benchmark_writes,
    mixed_dump,
    put_dump,
    ratio_lines,
)
from tests.interop.harness import Kind, Server, Tell, wait_until
from tests.interop.test_files import aof_folder, check

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900), NO_KVREPL]

WAYS: list[tuple[Kind, Kind]] = [("kvrepl", "redis"), ("redis", "kvrepl")]
KILLS = 200
SAVE_DELAY_US = 100
LIMIT_RATIO = 1.5


def wait_saved(server: Server, kind: str) -> None:
    """Wait for the end of a child and for its success ("rdb_bgsave" or "aof_rewrite")."""
    wait_until(
        lambda: not server.info("persistence")[f"{kind}_in_progress"],
        f"{kind} has ended",
        server,
        timeout_s=LONG_S,
    )
    status = kind.replace("rdb_", "rdb_last_").replace("aof_rewrite", "aof_last_bgrewrite")
    assert server.info("persistence")[f"{status}_status"] == "ok", server.log_tail()


def start_time_s(server: Server) -> float:
    """Start a prepared server; give the seconds until it answers."""
    started = time.monotonic()
    server.start(timeout_s=LONG_S)
    return time.monotonic() - started


@pytest.mark.parametrize("ways", WAYS, ids="-".join)
def test_rdb_of_a_million_mixed_keys_loads_in_the_other(
    launch: Launcher, deep_folder: Path, tell: Tell, ways: tuple[Kind, Kind]
) -> None:
    writer = put_dump(launch.prepare(ways[0]), mixed_dump(deep_folder))
    path = writer.folder / "dump.rdb"
    path.unlink()  # so that what is checked below was written by this server
    started = time.monotonic()
    writer.call("BGSAVE")
    wait_saved(writer, "rdb_bgsave")
    save_s = time.monotonic() - started
    assert "RDB looks OK" in check("redis-check-rdb", path)
    reader = launch.prepare(ways[1])
    shutil.copy(path, reader.folder)

    load_s = start_time_s(reader)

    digest = writer.digest()
    assert reader.digest() == digest
    tell(
        f"{ways[0]} writes {path.stat().st_size / 1e6:.1f} MB of {MILLION:,} keys in {save_s:.1f} "
        f"s; redis-check-rdb is content; {ways[1]} loads it in {load_s:.1f} s; digest {digest[:12]}"
    )


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("ways", WAYS, ids="-".join)
def test_aof_folder_of_a_million_mixed_keys_loads_in_the_other(
    launch: Launcher, deep_folder: Path, tell: Tell, ways: tuple[Kind, Kind], preamble: str
) -> None:
    writer = launch.prepare(ways[0], aof_use_rdb_preamble=preamble)
    put_dump(writer, mixed_dump(deep_folder))
    started = time.monotonic()
    writer.config_set(appendonly="yes")
    wait_saved(writer, "aof_rewrite")
    rewrite_s = time.monotonic() - started
    with benchmark_writes(writer):
        # Once more under load, so that base and increment both hold something.
        writer.call("BGREWRITEAOF")
        wait_saved(writer, "aof_rewrite")
        time.sleep(1)  # the load, not luck: a second of it goes into the new increment
    digest = writer.digest()
    assert writer.terminate() == 0
    folder = aof_folder(writer)
    report = check("redis-check-aof", folder / "appendonly.aof.manifest")
    assert "All AOF files and manifest are valid" in report
    reader = launch.prepare(ways[1], appendonly="yes", aof_use_rdb_preamble=preamble)
    shutil.copytree(folder, aof_folder(reader))

    load_s = start_time_s(reader)

    assert reader.digest() == digest
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.iterdir())}
    tell(
        f"{ways[0]} rewrites {MILLION:,} keys in {rewrite_s:.1f} s (preamble {preamble}), under "
        f"load to {', '.join(f'{name} {size:.1f} MB' for name, size in sizes.items())}; "
        f"redis-check-aof is content; {ways[1]} loads it in {load_s:.1f} s; digest {digest[:12]}"
    )


class TimedWriters(AckedWriters):
    """Writers that also remember when each append was acknowledged (time.monotonic seconds)."""

    def __init__(self, server: Server, writers: int = 4) -> None:
        super().__init__(server, writers)
        self.acked_at_s: list[list[float]] = [[] for _ in range(writers)]

    def _write(self, number: int, client: redis.Redis) -> None:
        try:
            while True:
                client.rpush(f"acked:{number}", self.acked[number])
                self.acked_at_s[number].append(time.monotonic())
                self.acked[number] += 1
        except redis.ConnectionError:
            return  # the kill that the test is about

    def lost(self, survivor: Server, killed_at_s: float) -> tuple[int, float]:
        """Give how many acknowledged writes are missing and the age of the oldest, in seconds.

        Raises:
            AssertionError: what is there is not a prefix of what was written.
        """
        count, oldest_s = 0, 0.0
        for number, times in enumerate(self.acked_at_s):
            found = [int(item) for item in survivor.call("LRANGE", f"acked:{number}", 0, -1)]
            assert found == list(range(len(found))), f"writer {number}: holes or repeats"
            if len(found) < len(times):
                count += len(times) - len(found)
                oldest_s = max(oldest_s, killed_at_s - times[len(found)])
        return count, oldest_s


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_kill_9_of_a_server_with_a_child_keeps_what_the_policy_promises(
    launch: Launcher, tell: Tell, policy: str
) -> None:
    rng = random.Random(7)
    server = launch.prepare("kvrepl", appendonly="yes", appendfsync=policy)
    server.start(timeout_s=LONG_S)
    keys = populate(server, 20_000)
    acked = lost = 0
    oldest_s = slowest_start_s = 0.0
    children = {"BGREWRITEAOF": 0, "BGSAVE": 0}
    for kill in range(KILLS):
        server.call("DEL", *(f"acked:{number}" for number in range(4)))
        writers = TimedWriters(server).start()
        writers.wait_for(rng.randint(100, 3_000), timeout_s=LONG_S)
        command = "BGREWRITEAOF" if kill % 2 else "BGSAVE"
        # Most take longer than what follows. Some have ended by then, so that what the parent
        # does after them is met too.
        server.config_set(rdb_key_save_delay=rng.choice((0, *[SAVE_DELAY_US] * 4)))
        server.call(command)
        writers.wait_for(sum(writers.acked) + rng.randint(1, 600), timeout_s=LONG_S)
        children[command] += len(psutil.Process(server.pid).children())
        killed_at_s = time.monotonic()
        server.kill()
        writers.join()
        slowest_start_s = max(slowest_start_s, start_time_s(server))
        count, age_s = writers.lost(server, killed_at_s)
        assert not count or policy == "everysec", f"kill {kill}: {count} of {writers.acked} lost"
        acked, lost, oldest_s = acked + sum(writers.acked), lost + count, max(oldest_s, age_s)
        assert int(server.info("keyspace")["db0"]["keys"]) >= keys - keys // 17 - 1
        assert not [*server.folder.rglob("temp-*")], "what the child was writing is left behind"

    running = " and ".join(f"{number} x {command}" for command, number in children.items())
    tell(
        f"appendfsync {policy}: {KILLS} x kill -9, with {running} running, {acked:,} writes "
        f"acknowledged, {lost} lost (the oldest {oldest_s:.3f} s before the kill); every start "
        f"loaded, the slowest in {slowest_start_s:.2f} s"
    )
    assert sum(children.values()) >= KILLS // 2 and all(children.values())
    assert oldest_s <= 1.0


@pytest.mark.parametrize("benchmark", [snapshots.bgsave, snapshots.load], ids=["bgsave", "load"])
def test_a_million_strings_save_and_load_in_at_most_half_more_than_redis_needs(
    bench: Bench, tell: Tell, benchmark: Benchmark
) -> None:
    rows = run_interleaved(benchmark, bench, ("redis", "kvrepl"), tell)

    tell(ratio_lines(f"{bench.scale.keys:,} strings of 64 bytes:", rows))
    timed = [row.ratio() for row in rows if row.unit == "s" and row.case != "empty"]
    assert timed and all(ratio is not None and ratio <= LIMIT_RATIO for ratio in timed)
