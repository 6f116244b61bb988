"""When the cron has idle collections packed: in slices, with pauses, and not beside a child."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from kvrepl.datatypes import HashValue
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.persistence.packing import Packing
from kvrepl.server import cron
from kvrepl.server.cron import Cron

KEYS = 2_000
OVERRUN_NS = 500_000
"""What one value may take beyond a slice, see kvrepl.persistence.packing."""


class Loop:
    """A loop that keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Any]] = []

    def call_later(self, delay_s: float, callback: Any) -> None:
        """Keep it."""
        self.later.append((delay_s, callback))


@pytest.fixture
def server() -> Any:
    """Give what the cron needs of a server, with a keyspace of idle hashes."""
    keyspace = Keyspace(1)
    (db,) = keyspace.databases
    for number in range(KEYS):
        entries = [(b"f:%d" % field, b"v:%d" % number) for field in range(8)]
        db.set(b"h:%d" % number, HashValue(keyspace.limits, entries))
        db.find_idle(db.segments[hash(b"h:%d" % number) & db.mask])
    return SimpleNamespace(
        children=SimpleNamespace(active=None),
        saver=SimpleNamespace(loading=None),
        config=SimpleNamespace(pack_idle_time=60, rdbcompression=False),
        engine=SimpleNamespace(stats=SimpleNamespace(net_in_bytes=0, repl_in_bytes=0)),
        loop=Loop(),
        packing=Packing(keyspace),
    )


def due(server: Any) -> Cron:
    """Give a cron whose next pass is due."""
    made = Cron(server)
    made._packed_ns -= 60 * 10**9
    return made


def go_on(server: Any) -> float:
    """Call what is to be called later; returns after which pause."""
    ((delay_s, callback),) = server.loop.later
    server.loop.later.clear()
    callback()
    return float(delay_s)


def test_pass_begins_when_the_time_has_passed_and_again_only_then(server: Any) -> None:
    early = Cron(server)
    early._pack_idle()
    assert not server.packing.running and not server.loop.later
    made = due(server)
    made._pack_idle()
    assert server.packing.running and not server.packing.compress
    while server.loop.later:
        go_on(server)
    assert not server.packing.running and server.packing.packed == KEYS
    server.packing._keyspace.databases[0].get(b"h:1")
    made._pack_idle()
    assert not server.packing.running


def test_slice_ends_in_time(server: Any) -> None:
    made, slices_ns = due(server), []
    made._pack_idle()
    while server.loop.later:
        before_ns = time.thread_time_ns()
        go_on(server)
        slices_ns.append(time.thread_time_ns() - before_ns)
    assert len(slices_ns) > 5 and server.packing.packed == KEYS
    slices_ns.sort()
    assert slices_ns[len(slices_ns) * 9 // 10] < cron.PACK_NS + OVERRUN_NS


def test_pause_is_short_while_nobody_sends_anything(server: Any) -> None:
    made = due(server)
    made._pack_idle()
    assert go_on(server) == cron.PACK_PAUSE_QUIET_S
    for counter in ("net_in_bytes", "repl_in_bytes"):
        setattr(server.engine.stats, counter, 100)
        go_on(server)
        assert go_on(server) == cron.PACK_PAUSE_S
        assert go_on(server) == cron.PACK_PAUSE_QUIET_S


@pytest.mark.parametrize("reason", ["child", "load"])
def test_nothing_is_packed_while_a_child_runs_or_a_dataset_loads(server: Any, reason: str) -> None:
    made = due(server)
    made._pack_idle()
    before = server.packing.packed
    if reason == "child":
        server.children.active = object()
    else:
        server.saver.loading = object()
    go_on(server)
    assert not server.loop.later, "the ticks of the cron will look again"
    made._pack_idle()
    assert server.packing.packed == before and server.packing.running
    server.children.active = server.saver.loading = None
    made._pack_idle()
    assert server.packing.packed > before


def test_setting_of_zero_ends_a_pass(server: Any) -> None:
    made = due(server)
    made._pack_idle()
    server.config.pack_idle_time = 0
    go_on(server)
    assert not server.packing.running and not server.loop.later
    made._pack_idle()
    assert not server.packing.running
