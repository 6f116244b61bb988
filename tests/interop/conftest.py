"""Fixtures of the interop room: servers that are watched, proxies, and the pairs of kinds.

Every test here carries the `interop` marker. A test that takes `pair` runs for each combination
of master and replica; redis-redis is the control that tells a wrong test from a wrong server.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.interop.harness import Directive, Kind, Pair, Server, Tell
from tests.interop.proxy import Proxy

HERE = Path(__file__).parent
KINDS: tuple[Kind, ...] = ("redis", "kvrepl")
NO_KVREPL = pytest.mark.skipif(
    find_spec("kvrepl.cli") is None, reason="this build has no kvrepl-server"
)


def _kind_param(*kinds: Kind, value: Any) -> Any:
    marks = [NO_KVREPL] if "kvrepl" in kinds else []
    return pytest.param(value, id="-".join(kinds), marks=marks)


@pytest.fixture(params=[_kind_param(kind, value=kind) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Give each kind of server in turn."""
    value: Kind = request.param
    return value


@pytest.fixture(params=[_kind_param(m, r, value=Pair(m, r)) for m in KINDS for r in KINDS])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Give each (master, replica) combination in turn."""
    value: Pair = request.param
    return value


class Launcher:
    """Start servers in folders of their own under one test's tmp_path."""

    def __init__(self, folder: Path) -> None:
        self.servers: list[Server] = []
        self.test_failed = False
        self._folder = folder

    def prepare(self, kind: Kind, **directives: Directive) -> Server:
        """Make a server and its folder, for files to be put there before it starts."""
        server = Server(kind, self._folder / f"{len(self.servers)}-{kind}", directives)
        self.servers.append(server)
        return server

    def sentinel(
        self,
        master: Server,
        *,
        quorum: int = 1,
        down_after_ms: int = 3_000,
        port: int = 0,
        **directives: Directive,
    ) -> Server:
        """Start a redis-sentinel that watches a master under the name "m".

        Args:
            master: whom it watches, at `port` if that is not 0.
            quorum: how many of its kind must agree.
            down_after_ms: after what silence it takes a server for down.
            port: the master's other port (TLS).
            directives: of the sentinel itself.

        Sentinel may take a second to reconnect to the master it has just switched to; with a
        down_after_ms near that it at times declares the new master down and fails over again.
        """
        watched = [
            f"monitor m 127.0.0.1 {port or master.port} {quorum}",
            f"down-after-milliseconds m {down_after_ms}",
            "failover-timeout m 10000",
        ]
        folder = self._folder / f"{len(self.servers)}-sentinel"
        own: dict[str, Directive] = {"sentinel": watched, **directives}
        server = Server("redis", folder, own, arguments=["--sentinel"])
        self.servers.append(server)
        server.start()
        # It learns from INFO of replicas and of roles; every ten seconds is long for a test.
        server.call("SENTINEL", "DEBUG", "INFO-PERIOD", 500, "PUBLISH-PERIOD", 500)
        return server

    def __call__(self, kind: Kind, **directives: Directive) -> Server:
        """Make a server, start it and wait until it is ready."""
        return self.prepare(kind, **directives).start()

    def verdict(self) -> list[str]:
        """Say which servers died untold or logged a crash."""
        faults = [f"{s} died by itself" for s in self.servers if s.meant_to_run and not s.running]
        faults += [f"{s}: {line}" for s in self.servers if (line := s.crash_line())]
        return faults


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    """Start servers by calling it; all are closed at the end and must not have crashed."""
    launcher = Launcher(tmp_path)
    yield launcher
    # A failed test has said its word already, with the tails of the logs.
    faults = [] if launcher.test_failed else launcher.verdict()
    tails = [server.log_tail() for server in launcher.servers] if faults else []
    for server in launcher.servers:
        server.close()
    assert not faults, "\n".join([*faults, *tails])


@pytest.fixture
def proxy_to() -> Iterator[Callable[[Server], Proxy]]:
    """Put a proxy before a server by calling it; all are closed at the end."""
    proxies: list[Proxy] = []

    def make(server: Server) -> Proxy:
        proxies.append(Proxy(server.port))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print figures at once; the output of a passed test would not be shown."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", flush=True)

    return say


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder; pytest hands this hook the items of all folders."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.interop)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the tails of the servers' logs under a failure."""
    report = yield
    launcher = getattr(item, "funcargs", {}).get("launch")
    if report.failed and isinstance(launcher, Launcher):
        launcher.test_failed = True
        for server in launcher.servers:
            report.sections.append((repr(server), server.log_tail()))
    return report
