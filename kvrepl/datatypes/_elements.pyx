# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The hot methods of the large collections, compiled: tables, runs in order of scores, lists.

Each does what the Python method of its name does; see kvrepl.datatypes.segments, score_order and
lists. `bind` puts them in their place in the classes, which stay plain Python classes with their
slots (kvrepl/_slots.pxd). What is rare (a run that is split or joined, a list that changes its
form) is left to the Python method, which is called before anything was changed.

Optional: kvrepl.datatypes binds it where it was built.
"""

from cpython.array cimport array
from cpython.dict cimport PyDict_Contains, PyDict_DelItem, PyDict_GetItemWithError, PyDict_SetItem
from cpython.list cimport PyList_Append, PyList_CheckExact, PyList_Insert
from cpython.object cimport (
    PyObject, PyObject_Hash, PyObject_RichCompareBool, Py_EQ, Py_LT, Py_TYPE,
)

from kvrepl._slots cimport add_int, get_int, get_slot, slot_offset

from kvrepl.datatypes.lists import BLOCK as _BLOCK
from kvrepl.datatypes.lists import SMALL as _SMALL
from kvrepl.datatypes.lists import BlockList, ListValue
from kvrepl.datatypes.score_order import RUN as _RUN
from kvrepl.datatypes.score_order import Run, RunOrder
from kvrepl.datatypes.segments import MERGE_LOAD as _MERGE_LOAD
from kvrepl.datatypes.segments import SPLIT_LOAD as _SPLIT_LOAD
from kvrepl.datatypes.segments import SegmentedDict

cdef extern from "Python.h":
    Py_ssize_t dict_size "PyDict_GET_SIZE"(PyObject *)
    Py_ssize_t list_size "PyList_GET_SIZE"(PyObject *)
    PyObject *list_item "PyList_GET_ITEM"(PyObject *, Py_ssize_t)
    PyObject *tuple_item "PyTuple_GET_ITEM"(PyObject *, Py_ssize_t)
    int delete_slice "PyList_SetSlice"(object, Py_ssize_t, Py_ssize_t, PyObject *) except -1

cdef Py_ssize_t BLOCK = _BLOCK
cdef Py_ssize_t SMALL = _SMALL
cdef Py_ssize_t RUN = _RUN
cdef Py_ssize_t MERGE_LOAD = _MERGE_LOAD
cdef Py_ssize_t SPLIT_LOAD = _SPLIT_LOAD

cdef Py_ssize_t TABLE_COUNT = slot_offset(SegmentedDict, "_count")
cdef Py_ssize_t TABLE_HIGH = slot_offset(SegmentedDict, "_high")
cdef Py_ssize_t TABLE_LOW = slot_offset(SegmentedDict, "_low")
cdef Py_ssize_t TABLE_SEGMENTS = slot_offset(SegmentedDict, "_segments")
cdef Py_ssize_t RUN_MEMBERS = slot_offset(Run, "members")
cdef Py_ssize_t RUN_SCORES = slot_offset(Run, "scores")
cdef Py_ssize_t ORDER_LASTS = slot_offset(RunOrder, "_lasts")
cdef Py_ssize_t ORDER_LENGTH = slot_offset(RunOrder, "_length")
cdef Py_ssize_t ORDER_RUNS = slot_offset(RunOrder, "_runs")
cdef Py_ssize_t ORDER_TREE = slot_offset(RunOrder, "_tree")
cdef Py_ssize_t LIST_ITEMS = slot_offset(ListValue, "_items")
cdef Py_ssize_t BLOCKS = slot_offset(BlockList, "_blocks")
cdef Py_ssize_t BLOCKS_LENGTH = slot_offset(BlockList, "_length")

REFERENCE = {}  # (class, name) -> the method that was replaced; the tests compare the two

cdef object ORDER_DELETE, ORDER_INSERT, PUSH_LEFT, PUSH_RIGHT


def bind():
    """Give the classes these methods."""
    global ORDER_DELETE, ORDER_INSERT, PUSH_LEFT, PUSH_RIGHT
    for cls, name, method in METHODS:
        REFERENCE[cls, name] = vars(cls)[name]
        setattr(cls, name, method)
    ORDER_DELETE, ORDER_INSERT = REFERENCE[RunOrder, "delete"], REFERENCE[RunOrder, "insert"]
    PUSH_LEFT, PUSH_RIGHT = REFERENCE[ListValue, "push_left"], REFERENCE[ListValue, "push_right"]


cdef inline int check(object self, object cls) except -1:
    """Slots are read by offset: nobody else's objects may come here."""
    if <PyObject *> Py_TYPE(self) != <PyObject *> cls:
        raise TypeError(f"not a {cls.__name__}")
    return 0


cdef inline bint is_none(PyObject *value) noexcept:
    return value == <PyObject *> None


# ------------------------------------------------------------------- tables


cdef inline PyObject *segment_of(object self, object key) except NULL:
    """The dict in which a key has its place."""
    cdef PyObject *segments
    cdef Py_ssize_t index
    check(self, SegmentedDict)
    segments = get_slot(<PyObject *> self, TABLE_SEGMENTS)
    index = PyObject_Hash(key) & get_int(<PyObject *> self, TABLE_HIGH)
    if index >= list_size(segments):
        index &= get_int(<PyObject *> self, TABLE_LOW)
    return list_item(segments, index)


cdef inline int counted(object self, int more) except -1:
    """Entries came or went: count them, and see whether a segment is to be split or merged."""
    cdef long long count
    cdef Py_ssize_t size = list_size(get_slot(<PyObject *> self, TABLE_SEGMENTS))
    add_int(<PyObject *> self, TABLE_COUNT, more)
    count = get_int(<PyObject *> self, TABLE_COUNT)
    if more > 0:
        if count > SPLIT_LOAD * size:
            self._split()
    elif count < MERGE_LOAD * size:
        self._merge()
    return 0


def table_contains(self, key):
    """See SegmentedDict.__contains__."""
    return PyDict_Contains(<object> segment_of(self, key), key) != 0


def table_get(self, key, default=None):
    """See SegmentedDict.get."""
    cdef PyObject *found = PyDict_GetItemWithError(<object> segment_of(self, key), key)
    return default if found == NULL else <object> found


def table_put(self, key, value):
    """See SegmentedDict.put."""
    cdef PyObject *segment = segment_of(self, key)
    cdef Py_ssize_t before = dict_size(segment)
    PyDict_SetItem(<object> segment, key, value)
    if dict_size(segment) == before:
        return False
    counted(self, 1)
    return True


def table_add(self, key, value):
    """See SegmentedDict.add."""
    cdef PyObject *segment = segment_of(self, key)
    if PyDict_Contains(<object> segment, key):
        return False
    PyDict_SetItem(<object> segment, key, value)
    counted(self, 1)
    return True


def table_pop(self, key, default):
    """See SegmentedDict.pop."""
    cdef PyObject *segment = segment_of(self, key)
    cdef PyObject *found = PyDict_GetItemWithError(<object> segment, key)
    if found == NULL:
        return default
    value = <object> found
    PyDict_DelItem(<object> segment, key)
    counted(self, -1)
    return value


# ------------------------------------------------------------- order of scores


cdef Py_ssize_t score_rank(double *scores, double score, Py_ssize_t high, bint above) noexcept:
    """How many of the first `high` scores are lower, or with `above` lower or equal."""
    cdef Py_ssize_t low = 0, middle
    while low < high:
        middle = (low + high) >> 1
        if scores[middle] < score or (above and scores[middle] == score):
            low = middle + 1
        else:
            high = middle
    return low


cdef Py_ssize_t run_place(object run, double score, object member) except -1:
    """How many entries of a run come before this one."""
    cdef array scores
    cdef PyObject *members
    cdef Py_ssize_t size, low, high, middle
    check(run, Run)
    scores = <array?> <object> get_slot(<PyObject *> run, RUN_SCORES)
    members = get_slot(<PyObject *> run, RUN_MEMBERS)
    size = len(scores)
    low = score_rank(scores.data.as_doubles, score, size, False)
    if low == size or scores.data.as_doubles[low] != score:
        return low
    high = score_rank(scores.data.as_doubles, score, size, True)
    while low < high:
        middle = (low + high) >> 1
        if PyObject_RichCompareBool(<object> list_item(members, middle), member, Py_LT):
            low = middle + 1
        else:
            high = middle
    return low


cdef int run_put(object run, double score, object member) except -1:
    cdef Py_ssize_t at = run_place(run, score, member)
    PyList_Insert(<object> get_slot(<PyObject *> run, RUN_MEMBERS), at, member)
    (<object> get_slot(<PyObject *> run, RUN_SCORES)).insert(at, score)
    return 0


cdef int run_take(object run, double score, object member) except -1:
    cdef Py_ssize_t at = run_place(run, score, member)
    delete_slice(<object> get_slot(<PyObject *> run, RUN_MEMBERS), at, at + 1, NULL)
    del (<object> get_slot(<PyObject *> run, RUN_SCORES))[at]
    return 0


def run_rank(self, double score, member):
    """See Run.rank."""
    return run_place(self, score, member)


def run_insert(self, double score, member):
    """See Run.insert."""
    run_put(self, score, member)


def run_delete(self, double score, member):
    """See Run.delete."""
    run_take(self, score, member)


cdef Py_ssize_t run_number(object self, double score, object member) except -1:
    """The run in which an entry has its place: the first whose last is no lower."""
    cdef PyObject *lasts = get_slot(<PyObject *> self, ORDER_LASTS)
    cdef Py_ssize_t low = 0, high = list_size(lasts), middle
    cdef PyObject *last
    cdef double at
    while low < high:
        middle = (low + high) >> 1
        last = list_item(lasts, middle)
        at = (<object> tuple_item(last, 0))
        if at < score or (
            at == score and PyObject_RichCompareBool(<object> tuple_item(last, 1), member, Py_LT)
        ):
            low = middle + 1
        else:
            high = middle
    return low


cdef Py_ssize_t entries_before(object self, Py_ssize_t number) except -1:
    """How many entries the runs before this one hold."""
    cdef PyObject *tree = get_slot(<PyObject *> self, ORDER_TREE)
    cdef list counts = <list?> (self._built_tree() if is_none(tree) else <object> tree)
    cdef Py_ssize_t total = 0
    while number:
        total += <Py_ssize_t> counts[number]
        number &= number - 1
    return total


def order_rank(self, double score, member):
    """See RunOrder.rank."""
    cdef Py_ssize_t number
    cdef PyObject *runs
    check(self, RunOrder)
    runs = get_slot(<PyObject *> self, ORDER_RUNS)
    number = run_number(self, score, member)
    if number == list_size(runs):
        return get_int(<PyObject *> self, ORDER_LENGTH)
    return entries_before(self, number) + run_place(
        <object> list_item(runs, number), score, member
    )


def order_score_rank(self, double score, bint above):
    """See RunOrder.score_rank."""
    cdef Py_ssize_t number = 0, high, middle
    cdef PyObject *lasts
    cdef double last
    cdef array scores
    check(self, RunOrder)
    lasts = get_slot(<PyObject *> self, ORDER_LASTS)
    high = list_size(lasts)
    while number < high:
        middle = (number + high) >> 1
        last = <object> tuple_item(list_item(lasts, middle), 0)
        if last < score or (above and last == score):
            number = middle + 1
        else:
            high = middle
    if number == list_size(lasts):
        return get_int(<PyObject *> self, ORDER_LENGTH)
    run = <object> list_item(get_slot(<PyObject *> self, ORDER_RUNS), number)
    check(run, Run)
    scores = <array?> <object> get_slot(<PyObject *> run, RUN_SCORES)
    return entries_before(self, number) + score_rank(
        scores.data.as_doubles, score, len(scores), above
    )


cdef int note(object self, Py_ssize_t number, int change) except -1:
    """Count an entry, in the tree of the runs' lengths as well where there is one."""
    cdef PyObject *tree = get_slot(<PyObject *> self, ORDER_TREE)
    cdef list counts
    add_int(<PyObject *> self, ORDER_LENGTH, change)
    if not is_none(tree):
        counts = <list?> <object> tree
        number += 1
        while number < len(counts):
            counts[number] = <long long> counts[number] + change
            number += number & -number
    return 0


cdef inline PyObject *members_of(object self, Py_ssize_t number) except NULL:
    """The members of a run."""
    run = <object> list_item(get_slot(<PyObject *> self, ORDER_RUNS), number)
    check(run, Run)
    return get_slot(<PyObject *> run, RUN_MEMBERS)


def order_insert(self, double score, member):
    """See RunOrder.insert."""
    cdef Py_ssize_t number
    cdef PyObject *runs
    check(self, RunOrder)
    runs = get_slot(<PyObject *> self, ORDER_RUNS)
    number = run_number(self, score, member)
    if number == list_size(runs) or list_size(members_of(self, number)) >= RUN:
        ORDER_INSERT(self, score, member)
        return
    run_put(<object> list_item(runs, number), score, member)
    note(self, number, 1)


def order_delete(self, double score, member):
    """See RunOrder.delete."""
    cdef Py_ssize_t number
    cdef PyObject *last
    check(self, RunOrder)
    number = run_number(self, score, member)
    last = list_item(get_slot(<PyObject *> self, ORDER_LASTS), number)
    if list_size(members_of(self, number)) <= RUN // 4 or PyObject_RichCompareBool(
        <object> tuple_item(last, 1), member, Py_EQ
    ):
        ORDER_DELETE(self, score, member)
        return
    run_take(<object> list_item(get_slot(<PyObject *> self, ORDER_RUNS), number), score, member)
    note(self, number, -1)


# ------------------------------------------------------------------- lists


cdef inline PyObject *items_of(object self) except NULL:
    check(self, ListValue)
    return get_slot(<PyObject *> self, LIST_ITEMS)


cdef inline bint is_plain(PyObject *items) except -1:
    """Whether a list is one Python list; a BlockList otherwise."""
    if PyList_CheckExact(<object> items):
        return True
    check(<object> items, BlockList)
    return False


def list_len(self):
    """See ListValue.__len__."""
    cdef PyObject *items = items_of(self)
    return list_size(items) if is_plain(items) else get_int(items, BLOCKS_LENGTH)


def push_left(self, *elements):
    """See ListValue.push_left."""
    cdef PyObject *items = items_of(self)
    cdef PyObject *blocks
    if is_plain(items):
        if list_size(items) + len(elements) > SMALL:
            PUSH_LEFT(self, *elements)
            return
        for element in elements:
            PyList_Insert(<object> items, 0, element)
        return
    blocks = get_slot(items, BLOCKS)
    for element in elements:
        if list_size(blocks) and list_size(list_item(blocks, 0)) < BLOCK:
            PyList_Insert(<object> list_item(blocks, 0), 0, element)
        else:
            PyList_Insert(<object> blocks, 0, [element])
    add_int(items, BLOCKS_LENGTH, len(elements))


def push_right(self, *elements):
    """See ListValue.push_right."""
    cdef PyObject *items = items_of(self)
    cdef PyObject *blocks
    cdef PyObject *last
    if is_plain(items):
        if list_size(items) + len(elements) > SMALL:
            PUSH_RIGHT(self, *elements)
            return
        for element in elements:
            PyList_Append(<object> items, element)
        return
    blocks = get_slot(items, BLOCKS)
    for element in elements:
        last = list_item(blocks, list_size(blocks) - 1) if list_size(blocks) else NULL
        if last != NULL and list_size(last) < BLOCK:
            PyList_Append(<object> last, element)
        else:
            PyList_Append(<object> blocks, [element])
    add_int(items, BLOCKS_LENGTH, len(elements))


cdef object popped(object self, bint left):
    """Take an element off an end; the list is not empty."""
    cdef PyObject *items = items_of(self)
    cdef PyObject *blocks
    cdef Py_ssize_t number, at
    cdef bint plain = is_plain(items)
    cdef object block, value
    if plain:
        block = <object> items
    else:
        blocks = get_slot(items, BLOCKS)
        number = 0 if left else list_size(blocks) - 1
        if number < 0 or not list_size(blocks):
            raise IndexError("pop from an empty list")
        block = <object> list_item(blocks, number)
    at = 0 if left else list_size(<PyObject *> block) - 1
    if not list_size(<PyObject *> block):
        raise IndexError("pop from an empty list")
    value = <object> list_item(<PyObject *> block, at)
    delete_slice(block, at, at + 1, NULL)
    if not plain:
        if not list_size(<PyObject *> block):
            delete_slice(<object> blocks, number, number + 1, NULL)
        add_int(items, BLOCKS_LENGTH, -1)
    return value


def pop_left(self):
    """See ListValue.pop_left."""
    return popped(self, True)


def pop_right(self):
    """See ListValue.pop_right."""
    return popped(self, False)


METHODS = (
    (SegmentedDict, "__contains__", table_contains),
    (SegmentedDict, "get", table_get),
    (SegmentedDict, "put", table_put),
    (SegmentedDict, "add", table_add),
    (SegmentedDict, "pop", table_pop),
    (Run, "rank", run_rank),
    (Run, "insert", run_insert),
    (Run, "delete", run_delete),
    (RunOrder, "rank", order_rank),
    (RunOrder, "score_rank", order_score_rank),
    (RunOrder, "insert", order_insert),
    (RunOrder, "delete", order_delete),
    (ListValue, "__len__", list_len),
    (ListValue, "push_left", push_left),
    (ListValue, "push_right", push_right),
    (ListValue, "pop_left", pop_left),
    (ListValue, "pop_right", pop_right),
)
