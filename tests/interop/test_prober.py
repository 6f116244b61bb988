"""The instrument of the benchmarks: a pause of a server is seen, whole, and where it was."""

from __future__ import annotations

import time

import pytest

from benchmarks.prober import PERIOD_S, Prober
from tests.interop.conftest import Launcher
from tests.interop.harness import Kind

PAUSE_S = 0.05
KINDS: tuple[Kind, ...] = ("redis", "kvrepl")


@pytest.mark.parametrize("kind", KINDS)
def test_prober_of_a_server_that_pauses_counts_every_request_due_meanwhile(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind)

    with Prober(server.port) as prober:
        before = time.perf_counter()
        server.call("DEBUG", "SLEEP", PAUSE_S)
        after = time.perf_counter()
        server.call("PING")

    waits = prober.between(before, after)
    assert waits.longest_ms > PAUSE_S * 1e3 - 5
    # They wait 50, 49.5, 49, ... ms: half of those that were due waited for more than half.
    half = sum(1 for wait_ms in prober.waits_ms if wait_ms > PAUSE_S * 1e3 / 2)
    assert half >= PAUSE_S / PERIOD_S / 2 - 10
    assert waits.percentile_ms(50) > PAUSE_S * 1e3 / 4


def test_prober_that_cannot_connect_says_so(launch: Launcher) -> None:
    server = launch("redis")
    server.kill()

    with pytest.raises(RuntimeError, match="did not start"), Prober(server.port):
        pass
