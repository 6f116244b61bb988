"""The collections that a key can hold: no keys, no clock, no chance of their own.

    limits       the thresholds of the encodings, shared by all
    lists        ListValue                        list or BlockList
    sets         SetValue, union and so on        sorted array, dict or SegmentedDict
    hashes       HashValue                        dict or SegmentedDict
    sortedsets   SortedSet                        Run, or RunOrder and a table of scores
    segments     SegmentedDict: a dict that grows without a stall, with random pick and SCAN
    score_order  Run and RunOrder: members in the order of their scores

Each class has a small form that is cheap to have by the million and a large form in which no
single call is long; `encoding` is the name that Redis would give, by Redis's rules, and is a
matter of its own. Random choices are made from a random.Random that is passed in.

The hot methods of the large forms are the compiled ones of `_elements.pyx` where that was built
(and KVREPL_PURE is not 1): they are put into the classes at the end of this module.
"""

from __future__ import annotations

from kvrepl.datatypes.hashes import HashValue
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.lists import ListValue
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet
from kvrepl.resp import ACCELERATED

__all__ = ["HashValue", "Limits", "ListValue", "SetValue", "SortedSet"]


def _accelerate() -> None:
    """Take the compiled methods, where they were built and are wanted."""
    if not ACCELERATED:
        return
    try:
        from kvrepl.datatypes._elements import bind
    except ModuleNotFoundError:
        return
    bind()


_accelerate()
