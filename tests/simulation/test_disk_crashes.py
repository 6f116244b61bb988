"""The log after a power cut, or a failing call, at every single point of its life."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from kvrepl.errors import StorageError
from kvrepl.persistence.lifecycle import AofState
from kvrepl.persistence.writer import FsyncPolicy
from tests.simulation.disk import (
    ForgetfulDisk,
    Keep,
    PowerCut,
    keep_everything,
    keep_nothing,
)
from tests.simulation.disk_server import LAYOUT, Exited, LogServer, encode


def some_of(seed: int) -> Keep:
    rng = random.Random(seed)
    return lambda most: rng.randint(0, most)


KEEPS: list[tuple[str, Callable[[], Keep]]] = [
    ("nothing", lambda: keep_nothing),
    ("everything", lambda: keep_everything),
    *((f"seed {seed}", lambda seed=seed: some_of(seed)) for seed in range(6)),
]


def live(server: LogServer) -> None:
    """A short life with everything in it: writes, rewrites that work and fail, off and on."""
    server.start()
    server.push()
    server.push(3)
    server.rewrite()
    server.push(2)
    server.end_rewrite()
    server.push()
    server.tick()
    server.rewrite()
    server.push()
    server.end_rewrite(exit_code=1)
    server.push(2)
    server.rewrite()
    server.end_rewrite(signal=10)
    server.rewrite()
    server.push()
    server.end_rewrite()
    server.tick()
    server.push()
    server.turn_off()
    server.push()
    server.turn_on()
    server.push(2)
    server.end_rewrite(exit_code=1)
    server.push()
    server.tick()
    server.push()
    server.end_rewrite()
    server.push(2)
    server.tick()


def check_after(disk: ForgetfulDisk, before: LogServer, policy: FsyncPolicy) -> LogServer:
    """Start again on what is left: it loads, in order, and holds what was promised."""
    again = LogServer(disk, policy)
    again.start()
    assert again.numbers == list(range(len(again.numbers))), "not a prefix"
    assert len(again.numbers) in before.boundaries, "half a transaction"
    again.boundaries |= before.boundaries
    assert len(again.numbers) >= before.promised, "a promise broken"
    return again


def test_life_without_faults_keeps_everything() -> None:
    server = LogServer(ForgetfulDisk(), FsyncPolicy.ALWAYS)
    live(server)
    assert server.log.state is AofState.ON
    assert server.promised == len(server.numbers) == 19
    server.disk.crash()
    check_after(server.disk, server, FsyncPolicy.ALWAYS)
    files = server.disk.listdir(LAYOUT.dirname)
    assert files == [
        "appendonly.aof.4.base.aof",
        "appendonly.aof.6.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert server.disk.listdir("") == []


@pytest.mark.parametrize("policy", [FsyncPolicy.ALWAYS, FsyncPolicy.EVERYSEC])
@pytest.mark.parametrize(("name", "make_keep"), KEEPS, ids=[name for name, _ in KEEPS])
def test_power_cut_at_every_point_loads_and_keeps_what_was_promised(
    policy: FsyncPolicy, name: str, make_keep: Callable[[], Keep]
) -> None:
    for point in itertools.count(1):
        disk = ForgetfulDisk()
        disk.crash_at = point
        server = LogServer(disk, policy)
        try:
            live(server)
        except PowerCut:
            pass
        else:
            assert point > 100  # the life is as eventful as it should be
            break
        disk.crash(make_keep())
        again = check_after(disk, server, policy)
        # And what is written from now on is as safe as before, through another power cut.
        again.push()
        disk.crash(make_keep())
        third = LogServer(disk, policy)
        third.start()
        assert len(third.numbers) >= again.promised
        assert third.numbers == list(range(len(third.numbers)))


@pytest.mark.parametrize("pushes", [0, 1])
def test_kill_at_every_point_and_then_a_power_cut_keeps_what_the_next_process_showed(
    pushes: int,
) -> None:
    for point in itertools.count(1):
        disk = ForgetfulDisk()
        disk.crash_at = point
        server = LogServer(disk, FsyncPolicy.ALWAYS)
        try:
            live(server)
        except PowerCut:
            pass
        else:
            break
        disk.kill()
        second = check_after(disk, server, FsyncPolicy.ALWAYS)
        if pushes:
            second.push()
        disk.crash()
        check_after(disk, second, FsyncPolicy.ALWAYS)


@pytest.mark.parametrize("policy", [FsyncPolicy.ALWAYS, FsyncPolicy.EVERYSEC])
def test_every_call_failing_once_loses_nothing_that_was_promised(policy: FsyncPolicy) -> None:
    for point in itertools.count(1):
        disk = ForgetfulDisk()
        disk.fail_at = point
        server = LogServer(disk, policy)
        try:
            live(server)
        except (Exited, StorageError):
            pass  # `always`, or a start: it ended itself, and is started again
        if disk.calls < point:
            break
        if server.log.state is AofState.ON and not server.log.error:
            # The gate is open again, so a second later all is durable, whatever the policy.
            for _ in range(3):
                server.tick()
            server.promised = len(server.numbers) if not server.log.error else server.promised
        disk.crash()
        check_after(disk, server, policy)
    assert point > 100


@pytest.mark.parametrize("policy", [FsyncPolicy.ALWAYS, FsyncPolicy.EVERYSEC])
def test_folder_not_synced_and_then_a_power_cut_loses_nothing_that_was_promised(
    policy: FsyncPolicy,
) -> None:
    rehearsal = ForgetfulDisk()
    live(LogServer(rehearsal, policy))
    points = [point for point, name in enumerate(rehearsal.trace, 1) if name == "fsync_dir"]
    assert len(points) > 20
    for fail_at, distance in itertools.product(points, range(1, 10)):
        disk = ForgetfulDisk()
        disk.fail_at = fail_at
        disk.crash_at = fail_at + distance
        server = LogServer(disk, policy)
        try:
            live(server)
        except (PowerCut, Exited, StorageError):
            pass
        disk.crash(some_of(fail_at * distance))
        check_after(disk, server, policy)


@pytest.mark.parametrize(("name", "make_keep"), KEEPS, ids=[name for name, _ in KEEPS])
def test_first_log_of_a_running_server_cut_anywhere_is_none_or_whole(
    name: str, make_keep: Callable[[], Keep]
) -> None:
    for point in itertools.count(1):
        disk = ForgetfulDisk()
        disk.crash_at = point
        server = LogServer(disk, FsyncPolicy.ALWAYS)
        try:
            server.push(3)
            server.turn_on()
            server.push(2)
            server.end_rewrite()
            server.push()
        except PowerCut:
            pass
        else:
            assert server.promised == 6
        disk.crash(make_keep())
        check_after(disk, server, FsyncPolicy.ALWAYS)
        if server.promised == 6:
            break


@pytest.mark.parametrize(("name", "make_keep"), KEEPS, ids=[name for name, _ in KEEPS])
def test_upgrade_cut_anywhere_keeps_the_old_file(name: str, make_keep: Callable[[], Keep]) -> None:
    for point in itertools.count(1):
        disk = ForgetfulDisk()
        file = disk.create(LAYOUT.legacy)
        file.write(b"".join(encode(b"RPUSH", b"list", b"%d" % number) for number in range(5)))
        file.fsync()
        disk.fsync_dir("")
        disk.crash_at = disk.calls + point
        server = LogServer(disk, FsyncPolicy.ALWAYS)
        try:
            server.start()
        except PowerCut:
            pass
        else:
            assert point > 8
            break
        disk.crash(make_keep())
        again = LogServer(disk, FsyncPolicy.ALWAYS)
        again.start()
        assert again.numbers == [0, 1, 2, 3, 4]
        assert disk.size(LAYOUT.legacy) is None
