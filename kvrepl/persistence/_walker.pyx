# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A segment of the keyspace as records of an RDB, compiled; see kvrepl.persistence.walk.

It runs in the child of a fork and only borrows what it looks at: no reference count of the dataset
is written to, and so none of the pages that the child shares with its parent is copied. That is
why everything here is a PyObject*, and why slots are read at their offsets (kvrepl/_slots.pxd).

Streams are the exception: they go through Python, as in the reference.
"""

from array import array as _array

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memmove, strlen

from kvrepl._slots cimport get_slot, slot_offset
from rdb._keys cimport Heads, code_of, open_heads, put_head, put_plain
from rdb._listpack cimport close_listpack, open_listpack, put_entry, put_number
from rdb._strings cimport (
    Output,
    bytes_data,
    bytes_size,
    close_output,
    dict_next,
    is_bytes,
    is_dict,
    is_list,
    list_item,
    list_size,
    open_output,
    put_length,
    put_raw,
    put_string,
    reserve,
)

from kvrepl.datatypes.hashes import HashValue
from kvrepl.datatypes.lists import BlockList, ListValue
from kvrepl.datatypes.score_order import Run, RunOrder
from kvrepl.datatypes.segments import SegmentedDict
from kvrepl.datatypes.sets import SetValue
from kvrepl.datatypes.sortedsets import SortedSet

cdef extern from *:
    """
    /* The head of an array.array, as Modules/arraymodule.c has it in CPython 3.11 to 3.13. */
    typedef struct {
        PyObject_VAR_HEAD
        char *items;
        Py_ssize_t allocated;
        const struct { char typecode; int itemsize; } *descr;
    } array_head;
    #define array_items(a) ((const uint8_t *)((array_head *)(a))->items)
    #define array_size(a) Py_SIZE(a)
    #define array_item_bytes(a) (((array_head *)(a))->descr->itemsize)
    """
    const uint8_t *array_items(PyObject *)
    Py_ssize_t array_size(PyObject *)
    int array_item_bytes(PyObject *)

cdef extern from "Python.h":
    PyObject *type_of "(PyObject *)Py_TYPE" (PyObject *)
    PyObject *Py_True
    Py_ssize_t dict_size "PyDict_GET_SIZE" (PyObject *)
    char *PyOS_double_to_string(double, char, int, int, int *) except NULL
    int is_bytearray "PyByteArray_CheckExact" (PyObject *)
    char *bytearray_data "PyByteArray_AS_STRING" (PyObject *)
    Py_ssize_t bytearray_size "PyByteArray_GET_SIZE" (PyObject *)

cdef extern from "math.h":
    bint isinf(double)

cdef enum:
    TYPE_STRING = 0
    TYPE_SET = 2
    TYPE_HASH = 4
    TYPE_ZSET_2 = 5
    TYPE_SET_INTSET = 11
    TYPE_HASH_LISTPACK = 16
    TYPE_ZSET_LISTPACK = 17
    TYPE_LIST_QUICKLIST_2 = 18
    NODE_PLAIN = 1
    NODE_PACKED = 2
    ENTRY_OVERHEAD_BYTES = 8
    PLAIN_NODE_BYTES = 1 << 30

cdef double MAX_INTEGER_SCORE = 2.0 ** 62

cdef PyObject *HASH = <PyObject *>HashValue
cdef PyObject *SET = <PyObject *>SetValue
cdef PyObject *LIST = <PyObject *>ListValue
cdef PyObject *ZSET = <PyObject *>SortedSet
cdef PyObject *SEGMENTED = <PyObject *>SegmentedDict
cdef PyObject *BLOCKS = <PyObject *>BlockList
cdef PyObject *RUN = <PyObject *>Run
cdef PyObject *ARRAY = <PyObject *>_array

cdef Py_ssize_t HASH_ITEMS = slot_offset(HashValue, "_items")
cdef Py_ssize_t HASH_PACKED = slot_offset(HashValue, "_packed")
cdef Py_ssize_t SET_ITEMS = slot_offset(SetValue, "_items")
cdef Py_ssize_t LIST_ITEMS = slot_offset(ListValue, "_items")
cdef Py_ssize_t ZSET_ORDER = slot_offset(SortedSet, "_order")
cdef Py_ssize_t ZSET_SCORES = slot_offset(SortedSet, "_scores")
cdef Py_ssize_t TABLE_SEGMENTS = slot_offset(SegmentedDict, "_segments")
cdef Py_ssize_t BLOCKS_OF = slot_offset(BlockList, "_blocks")
cdef Py_ssize_t RUNS = slot_offset(RunOrder, "_runs")
cdef Py_ssize_t RUN_MEMBERS = slot_offset(Run, "members")
cdef Py_ssize_t RUN_SCORES = slot_offset(Run, "scores")


cdef struct Walk:
    Output out
    Heads heads
    Output blob  # the listpack that is being made
    Py_ssize_t node_bytes, node_entries  # how full a node of a list gets; -1 for no such limit


cdef inline int _count(Output *out, Py_ssize_t count) except -1:
    reserve(out, 9)
    out.size = put_length(out.data + out.size, count) - out.data
    return 0


cdef inline int _text(Output *out, PyObject *text, bint packed) except -1:
    """Append a text: as an entry of a listpack or as a string."""
    if not is_bytes(text):
        raise TypeError("elements must be bytes")
    if packed:
        return put_entry(out, bytes_data(text), bytes_size(text))
    return put_string(out, bytes_data(text), bytes_size(text))


cdef int _put_blob(Walk *walk, Py_ssize_t count) except -1:
    """Append the listpack of `count` entries that is in walk.blob."""
    close_listpack(&walk.blob, count)
    return put_string(&walk.out, walk.blob.data, walk.blob.size)


# --- sets and hashes


cdef Py_ssize_t _table_size(PyObject *table) except -1:
    cdef PyObject *segments
    cdef Py_ssize_t total = 0, i
    if is_dict(table):
        return dict_size(table)
    if type_of(table) != SEGMENTED:
        raise TypeError("not a table")
    segments = get_slot(table, TABLE_SEGMENTS)
    for i in range(list_size(segments)):
        total += dict_size(list_item(segments, i))
    return total


cdef int _put_dict(Output *out, PyObject *entries, bint values, bint packed) except -1:
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    cdef Py_ssize_t cursor = 0
    while dict_next(entries, &cursor, &key, &value):
        _text(out, key, packed)
        if values:
            _text(out, value, packed)
    return 0


cdef int _put_table(Output *out, PyObject *table, bint values, bint packed) except -1:
    """Append the keys of a table, each followed by its value where `values` says so."""
    cdef PyObject *segments
    cdef Py_ssize_t i
    if is_dict(table):
        return _put_dict(out, table, values, packed)
    segments = get_slot(table, TABLE_SEGMENTS)
    for i in range(list_size(segments)):
        _put_dict(out, list_item(segments, i), values, packed)
    return 0


cdef int _put_hash(Walk *walk, PyObject *key, PyObject *value) except -1:
    cdef PyObject *items = get_slot(value, HASH_ITEMS)
    cdef Py_ssize_t count = _table_size(items)
    if get_slot(value, HASH_PACKED) == Py_True:
        put_head(&walk.out, key, &walk.heads, TYPE_HASH_LISTPACK)
        open_listpack(&walk.blob)
        _put_table(&walk.blob, items, True, True)
        return _put_blob(walk, 2 * count)
    put_head(&walk.out, key, &walk.heads, TYPE_HASH)
    _count(&walk.out, count)
    return _put_table(&walk.out, items, True, False)


cdef int _put_set(Walk *walk, PyObject *key, PyObject *value) except -1:
    cdef PyObject *items = get_slot(value, SET_ITEMS)
    cdef uint32_t header[2]
    if type_of(items) != ARRAY:
        put_head(&walk.out, key, &walk.heads, TYPE_SET)
        _count(&walk.out, _table_size(items))
        return _put_table(&walk.out, items, False, False)
    put_head(&walk.out, key, &walk.heads, TYPE_SET_INTSET)
    header[0] = array_item_bytes(items)
    header[1] = <uint32_t>array_size(items)
    walk.blob.size = 0
    put_raw(&walk.blob, <const uint8_t *>header, 8)
    put_raw(&walk.blob, array_items(items), array_size(items) * array_item_bytes(items))
    return put_string(&walk.out, walk.blob.data, walk.blob.size)


# --- lists


cdef struct Nodes:
    Py_ssize_t nodes  # closed so far
    Py_ssize_t entries  # of the open one, in walk.blob


cdef int _close_node(Walk *walk, Nodes *state) except -1:
    if state.entries:
        _count(&walk.out, NODE_PACKED)
        _put_blob(walk, state.entries)
        open_listpack(&walk.blob)
        state.nodes += 1
        state.entries = 0
    return 0


cdef int _put_elements(Walk *walk, Nodes *state, PyObject *elements) except -1:
    """Append the elements of a list to the nodes: see rdb.values.encode_quicklist."""
    cdef PyObject *element
    cdef Py_ssize_t i, grown
    for i in range(list_size(elements)):
        element = list_item(elements, i)
        if not is_bytes(element):
            raise TypeError("elements must be bytes")
        if bytes_size(element) >= PLAIN_NODE_BYTES:
            _close_node(walk, state)
            _count(&walk.out, NODE_PLAIN)
            put_string(&walk.out, bytes_data(element), bytes_size(element))
            state.nodes += 1
            continue
        # The end mark is not there yet.
        grown = walk.blob.size + 1 + bytes_size(element) + ENTRY_OVERHEAD_BYTES
        if state.entries and (
            grown > walk.node_bytes or 0 <= walk.node_entries <= state.entries
        ):
            _close_node(walk, state)
        put_entry(&walk.blob, bytes_data(element), bytes_size(element))
        state.entries += 1
    return 0


cdef int _put_nodes(Walk *walk, PyObject *items, Nodes *state) except -1:
    cdef PyObject *blocks
    cdef Py_ssize_t i
    open_listpack(&walk.blob)
    if is_list(items):
        _put_elements(walk, state, items)
    elif type_of(items) == BLOCKS:
        blocks = get_slot(items, BLOCKS_OF)
        for i in range(list_size(blocks)):
            _put_elements(walk, state, list_item(blocks, i))
    else:
        raise TypeError("not a list")
    return _close_node(walk, state)


cdef int _put_list(Walk *walk, PyObject *key, PyObject *value) except -1:
    cdef Nodes state
    cdef Py_ssize_t start, count_bytes
    cdef uint8_t count[9]
    state.nodes = state.entries = 0
    put_head(&walk.out, key, &walk.heads, TYPE_LIST_QUICKLIST_2)
    # How many nodes there are is known behind them: most often one, whose count is put in front.
    start = walk.out.size
    reserve(&walk.out, 1)
    walk.out.size += 1
    _put_nodes(walk, get_slot(value, LIST_ITEMS), &state)
    count_bytes = put_length(count, state.nodes) - count
    if count_bytes > 1:
        reserve(&walk.out, count_bytes - 1)
        memmove(
            walk.out.data + start + count_bytes,
            walk.out.data + start + 1,
            walk.out.size - start - 1,
        )
        walk.out.size += count_bytes - 1
    memmove(walk.out.data + start, count, count_bytes)
    return 0


# --- sorted sets


cdef int _put_score(Output *out, double score) except -1:
    """Append a score to a listpack: see rdb.values.format_score."""
    cdef char *text
    if isinf(score):
        if score > 0:
            return put_entry(out, <const uint8_t *>b"inf", 3)
        return put_entry(out, <const uint8_t *>b"-inf", 4)
    if -MAX_INTEGER_SCORE <= score <= MAX_INTEGER_SCORE and score == <double><int64_t>score:
        return put_number(out, <int64_t>score)
    text = PyOS_double_to_string(score, b"g", 17, 0, NULL)
    try:
        return put_entry(out, <const uint8_t *>text, strlen(text))
    finally:
        PyMem_Free(text)


cdef int _put_run(Output *out, PyObject *run, bint packed) except -1:
    """Append a run: to a listpack, or as type 5 has it, the highest score first."""
    cdef PyObject *members = get_slot(run, RUN_MEMBERS)
    cdef PyObject *scores = get_slot(run, RUN_SCORES)
    cdef const double *values
    cdef Py_ssize_t count = list_size(members), i
    if type_of(scores) != ARRAY or array_size(scores) != count:
        raise TypeError("not a run")
    values = <const double *>array_items(scores)
    if packed:
        for i in range(count):
            _text(out, list_item(members, i), True)
            _put_score(out, values[i])
        return 0
    i = count
    while i:
        i -= 1
        _text(out, list_item(members, i), False)
        put_raw(out, <const uint8_t *>&values[i], 8)
    return 0


cdef int _put_sorted_set(Walk *walk, PyObject *key, PyObject *value) except -1:
    cdef PyObject *order = get_slot(value, ZSET_ORDER)
    cdef PyObject *runs
    cdef Py_ssize_t i
    if type_of(order) == RUN:
        put_head(&walk.out, key, &walk.heads, TYPE_ZSET_LISTPACK)
        open_listpack(&walk.blob)
        _put_run(&walk.blob, order, True)
        return _put_blob(walk, 2 * list_size(get_slot(order, RUN_MEMBERS)))
    put_head(&walk.out, key, &walk.heads, TYPE_ZSET_2)
    _count(&walk.out, _table_size(get_slot(value, ZSET_SCORES)))
    runs = get_slot(order, RUNS)
    i = list_size(runs)
    while i:
        i -= 1
        _put_run(&walk.out, list_item(runs, i), False)
    return 0


# --- a segment


cdef int _put_key(Walk *walk, PyObject *key, PyObject *value, object other) except -1:
    cdef int code = code_of(value, walk.out.table != NULL)
    cdef PyObject *cls = type_of(value)
    cdef bytes encoded
    if code >= 0:
        put_head(&walk.out, key, &walk.heads, code)
        return put_plain(&walk.out, value)
    if cls == HASH:
        return _put_hash(walk, key, value)
    if cls == SET:
        return _put_set(walk, key, value)
    if cls == LIST:
        return _put_list(walk, key, value)
    if cls == ZSET:
        return _put_sorted_set(walk, key, value)
    if is_bytearray(value):
        put_head(&walk.out, key, &walk.heads, TYPE_STRING)
        return put_string(
            &walk.out, <const uint8_t *>bytearray_data(value), bytearray_size(value)
        )
    encoded = other(<object>key, <object>value)
    return put_raw(&walk.out, bytes_data(<PyObject *>encoded), bytes_size(<PyObject *>encoded))


def encode_segment(
    dict segment not None,
    dict expires not None,
    bint compress,
    Py_ssize_t node_bytes,
    Py_ssize_t node_entries,
    object other,
    object accesses,
):
    """See kvrepl.persistence.walk.encode_segment.

    Args:
        segment, expires, compress: as there.
        node_bytes, node_entries: how full a node of a list gets; -1 entries for no such limit.
        other: encodes a key whose value is of none of the types here, given both.
        accesses: as there.
    """
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    cdef Py_ssize_t cursor = 0
    cdef Walk walk
    open_heads(&walk.heads, expires, accesses)
    walk.node_bytes = node_bytes
    walk.node_entries = node_entries
    walk.out.data = walk.blob.data = NULL
    walk.out.table = walk.blob.table = NULL
    try:
        open_output(&walk.out, 4096, compress)
        open_output(&walk.blob, 4096, False)
        while dict_next(<PyObject *>segment, &cursor, &key, &value):
            _put_key(&walk, key, value, other)
        return PyBytes_FromStringAndSize(<char *>walk.out.data, walk.out.size)
    finally:
        close_output(&walk.out)
        close_output(&walk.blob)
