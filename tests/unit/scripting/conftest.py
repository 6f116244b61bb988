"""A client of an engine that has scripting."""

from __future__ import annotations

import pytest

from kvrepl.scripting import runtime
from tests.unit.commands.session import Session

pytest.importorskip("lupa.lua51")


def scripted(resp: int = 2) -> Session:
    """Give a client of an engine of its own, with Lua."""
    session = Session(resp)
    runtime.connect(session.engine)
    return session


@pytest.fixture
def session() -> Session:
    """Give a client that speaks RESP2."""
    return scripted()


@pytest.fixture
def session3() -> Session:
    """Give a client that speaks RESP3."""
    return scripted(resp=3)
