"""The redis-server that every differential test asks, one for the whole room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.differential.peers import InProcess, Real
from tests.interop.harness import Server


@pytest.fixture(scope="package")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Start a redis-server with low thresholds, watched."""
    server = Server("redis", tmp_path_factory.mktemp("oracle"), Real.directives())
    with server:
        peer = Real(server)
        yield peer
        peer.close()


@pytest.fixture(scope="package")
def ours() -> InProcess:
    """Give our engine with the same thresholds."""
    return InProcess()
