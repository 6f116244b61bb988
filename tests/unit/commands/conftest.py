"""The clients that tests of commands speak through."""

from __future__ import annotations

import pytest

from tests.unit.commands.session import Session


@pytest.fixture
def session() -> Session:
    """Give a client that speaks RESP2."""
    return Session()


@pytest.fixture
def session3() -> Session:
    """Give a client that speaks RESP3."""
    return Session(resp=3)
