"""The cyclic collector under the server's control."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from kvrepl.server.collector import LIMIT, Collector


class Node:
    """Something that can be part of a cycle."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Give a collector that has taken over, and hand back to the interpreter afterwards."""
    collector = Collector()
    collector.take_over()
    yield collector
    gc.unfreeze()
    gc.enable()
    gc.collect()


def test_take_over_switches_automatic_collections_off(collector: Collector) -> None:
    assert not gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_tick_young_cycle_is_collected(collector: Collector) -> None:
    gone = weakref.ref(Node())
    assert gone() is not None
    collector.tick()
    assert gone() is None


def test_tick_many_new_containers_are_frozen_unseen(collector: Collector) -> None:
    before = gc.get_freeze_count()
    data = [[None] for _ in range(2 * LIMIT)]
    cycle = weakref.ref(Node())
    collector.tick()
    assert gc.get_freeze_count() >= before + len(data)
    assert cycle() is not None  # nobody walked
    assert gc.get_count()[0] < LIMIT


def test_tick_walks_no_more_than_the_limit_of_what_grows_older(collector: Collector) -> None:
    kept: list[object] = []
    for _ in range(8):
        kept.append([[None] for _ in range(LIMIT // 3)])
        collector.tick()
        assert len(gc.get_objects(generation=1)) <= LIMIT + 100
