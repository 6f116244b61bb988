"""A million keys over a link: either end, both framings, at rest and under load, in a chain.

Run by `make deep`; each test prints its figures.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.interop.conftest import NO_KVREPL, Launcher
from tests.interop.deep.workload import (
    LONG_S,
    MILLION,
    benchmark_writes,
    commands_run,
    mixed_dump,
    put_dump,
)
from tests.interop.harness import (
    Kind,
    Server,
    Tell,
    follow,
    sync_counts,
    wait_caught_up,
    wait_linked,
    wait_same_data,
    wait_until,
)

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900), NO_KVREPL]

ENDS: list[tuple[Kind, Kind]] = [("kvrepl", "redis"), ("redis", "kvrepl"), ("kvrepl", "kvrepl")]
CHAINS: list[tuple[Kind, Kind, Kind]] = [
    ("redis", "kvrepl", "redis"),
    ("kvrepl", "redis", "kvrepl"),
]
FRAMINGS = {"disk": "no", "diskless": "yes"}  # repl-diskless-sync


def sync_time_s(replica: Server, master: Server) -> float:
    """Attach a replica; give the seconds until its link is up."""
    started = time.monotonic()
    follow(replica, master.port, wait=False)
    wait_linked(replica, timeout_s=LONG_S)
    return time.monotonic() - started


def wait_commands(server: Server, count: int) -> None:
    """Wait until a server has run this many more commands."""
    goal = commands_run(server) + count
    wait_until(lambda: commands_run(server) >= goal, f"{count} more commands", server)


def wait_partial_resyncs(master: Server, count: int) -> None:
    """Wait until a master has continued a broken link this many times."""
    wait_until(lambda: sync_counts(master)[1] >= count, f"partial resync number {count}", master)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ends", ENDS, ids="-".join)
def test_a_million_mixed_keys_reach_a_replica_at_rest_and_under_load(
    launch: Launcher, deep_folder: Path, tell: Tell, ends: tuple[Kind, Kind], framing: str
) -> None:
    diskless = FRAMINGS[framing]
    master = launch.prepare(ends[0], repl_diskless_sync=diskless)
    put_dump(master, mixed_dump(deep_folder))
    first, second = launch(ends[1]), launch(ends[1])

    rest_s = sync_time_s(first, master)
    wait_same_data(master, first, timeout_s=LONG_S)
    with benchmark_writes(master):
        before = commands_run(master)
        load_s = sync_time_s(second, master)
        during = commands_run(master) - before
    digest = wait_same_data(master, first, second, timeout_s=LONG_S)

    assert during > 1_000, "the load stood still during the transfer"
    assert sync_counts(master) == (2, 0)
    tell(
        f"{' -> '.join(ends)}, {framing}, {MILLION:,} keys: {rest_s:.1f} s at rest, {load_s:.1f} s "
        f"while redis-benchmark ran {during:,} commands; digest {digest[:12]} on all three"
    )


@pytest.mark.parametrize("kinds", CHAINS, ids="-".join)
def test_a_million_mixed_keys_go_down_a_chain_under_load(
    launch: Launcher, deep_folder: Path, tell: Tell, kinds: tuple[Kind, Kind, Kind]
) -> None:
    head = put_dump(launch.prepare(kinds[0]), mixed_dump(deep_folder))
    middle, leaf = launch(kinds[1]), launch(kinds[2])

    with benchmark_writes(head):
        before = commands_run(head)
        middle_s, leaf_s = sync_time_s(middle, head), sync_time_s(leaf, middle)
        during = commands_run(head) - before
    ended = time.monotonic()
    wait_caught_up(head, middle, leaf, timeout_s=LONG_S)
    behind_s = time.monotonic() - ended
    digest = wait_same_data(head, middle, leaf, timeout_s=LONG_S)

    assert sync_counts(head) == (1, 0)
    assert sync_counts(middle) == (1, 0)
    tell(
        f"{' -> '.join(kinds)}, {MILLION:,} keys and {during:,} commands meanwhile: {middle_s:.1f} "
        f"s and {leaf_s:.1f} s; caught up {behind_s:.2f} s after the load; digest {digest[:12]} "
        "on all three"
    )


@pytest.mark.parametrize("ends", ENDS, ids="-".join)
def test_fifty_cuts_of_the_link_of_a_million_keys_need_no_full_sync(
    launch: Launcher, deep_folder: Path, tell: Tell, ends: tuple[Kind, Kind]
) -> None:
    master = launch.prepare(ends[0], repl_backlog_size="256mb")
    put_dump(master, mixed_dump(deep_folder))
    replica = launch(ends[1])
    sync_time_s(replica, master)
    wait_caught_up(master, replica, timeout_s=LONG_S)

    slowest_s = 0.0
    with benchmark_writes(master):
        before = commands_run(master)
        for number in range(1, 51):
            started = time.monotonic()
            # From the master's side, which the replica notices as it would a restarted switch.
            assert master.call("CLIENT", "KILL", "TYPE", "replica") == 1
            wait_partial_resyncs(master, number)
            wait_linked(replica)
            slowest_s = max(slowest_s, time.monotonic() - started)
            wait_commands(master, 1_000)  # so that every cut falls into traffic
        during = commands_run(master) - before
    digest = wait_same_data(master, replica, timeout_s=LONG_S)

    assert sync_counts(master) == (1, 50)
    tell(
        f"{' -> '.join(ends)}, {MILLION:,} keys: 50 cuts while {during:,} commands ran, sync_full "
        f"1, sync_partial_ok 50, back within {slowest_s:.2f} s; digest {digest[:12]} on both"
    )
