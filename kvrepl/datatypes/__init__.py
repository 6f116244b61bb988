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
"""

from __future__ import annotations

from kvrepl.datatypes.hashes import HashValue
from kvrepl.datatypes.limits import Limits
from kvrepl.datatypes.lists import ListValue
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet

__all__ = ["HashValue", "Limits", "ListValue", "SetValue", "SortedSet"]
