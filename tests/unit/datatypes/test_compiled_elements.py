"""The compiled methods of the large collections do what the Python ones do, step by step."""

from __future__ import annotations

import importlib
import importlib.util
from array import array
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from kvrepl.datatypes import Limits, ListValue
from kvrepl.datatypes.lists import BLOCK
from kvrepl.datatypes.score_order import RUN, Run, RunOrder
from kvrepl.datatypes.segments import SegmentedDict

_NAME = "kvrepl.datatypes._elements"
_elements: Any = importlib.import_module(_NAME) if importlib.util.find_spec(_NAME) else None

pytestmark = pytest.mark.skipif(
    _elements is None or not _elements.REFERENCE,
    reason=f"{_NAME} is not built, or KVREPL_PURE=1 leaves it out",
)
STEPS = 8_000
History = list[Any]


def table_history() -> History:
    """Fill a table, empty it, and look on: what each call said, and how it ended."""
    rng = Random(1)
    table = SegmentedDict[int]({})
    said: History = []
    for step in range(STEPS):
        key = b"%d" % rng.randrange(3_000)
        grows = step < STEPS // 2
        way = rng.randrange(8)
        if way < 5 if grows else way < 1:
            said.append(table.put(key, step) if way % 2 else table.add(key, step))
        elif way < 6:
            said.append((table.get(key), table.get(key, b"none"), key in table))
        else:
            said.append(table.pop(key, None))
        said.append(len(table))
    return [said, [list(segment.items()) for segment in table.segments()]]


def run_history() -> History:
    """Put entries into a run, with many equal scores, and take them out."""
    rng = Random(2)
    run = Run([], array("d"))
    said: History = []
    for _ in range(STEPS // 8):
        score, member = float(rng.randrange(-3, 3)), b"%d" % rng.randrange(1_000)
        said.append(run.rank(score, member))
        if (score, member) not in zip(run.scores, run.members, strict=True):
            run.insert(score, member)
        elif rng.random() < 0.9:
            run.delete(score, member)
    return [said, run.members, list(run.scores)]


def order_history() -> History:
    """Let an order of runs grow past several splits and shrink past several merges."""
    rng = Random(3)
    order = RunOrder(Run([], array("d")))
    held: dict[bytes, float] = {}
    said: History = []
    for step in range(STEPS):
        member = b"%d" % rng.randrange(4 * RUN)
        if member in held:
            order.delete(held.pop(member), member)
        if rng.random() < (0.9 if step < STEPS // 2 else 0.2):
            held[member] = rng.choice((float(rng.randrange(50)), rng.random(), float("inf"), -0.0))
            order.insert(held[member], member)
        if step % 50 == 0 and held:
            some = rng.choice(sorted(held))
            said.append(order.rank(held[some], some))  # makes the tree, which is then kept right
            said.append(order.select(len(order) // 2))
            near = rng.choice((held[some], rng.random() * 50, float("-inf"), float("inf")))
            said.append((order.score_rank(near, False), order.score_rank(near, True)))
            said.append(order.rank(near, b"5"))
    assert sorted((score, member) for member, score in order.items()) == sorted(
        (score, member) for member, score in held.items()
    )
    return [said, list(order.items()), [len(run) for run in order.runs()], order._lasts]


def list_history() -> History:
    """Push and pop at both ends, from nothing to several blocks and back."""
    rng = Random(4)
    value = ListValue(Limits())
    said: History = []
    for step in range(STEPS):
        some = [b"%d" % (step + n) for n in range(rng.randrange(4))]
        grows = step < STEPS // 2
        if rng.random() < (0.7 if grows else 0.2):
            (value.push_left if rng.random() < 0.5 else value.push_right)(*some)
        elif len(value):
            said.append(value.pop_left() if rng.random() < 0.5 else value.pop_right())
        said.append(len(value))
    assert max(entry for entry in said if isinstance(entry, int)) > 3 * BLOCK
    return [said, list(value), [len(part) for part in value.parts()]]


HISTORIES = [table_history, run_history, order_history, list_history]


@pytest.mark.parametrize("history", HISTORIES)
def test_compiled_methods_and_the_python_ones_have_the_same_history(
    history: Callable[[], History], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = history()
    for (cls, name), method in _elements.REFERENCE.items():
        monkeypatch.setattr(cls, name, method)
    assert compiled == history()


def test_pop_of_an_empty_list_is_refused() -> None:
    for pop in (ListValue(Limits()).pop_left, ListValue(Limits()).pop_right):
        with pytest.raises(IndexError):
            pop()


def test_compiled_methods_refuse_objects_of_other_classes() -> None:
    for cls, name in _elements.REFERENCE:
        arguments = {"__len__": (), "pop_left": (), "pop_right": ()}.get(name, (1.0, b"x"))
        with pytest.raises(TypeError):
            getattr(cls, name)(object(), *arguments)
