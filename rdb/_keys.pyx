# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Whole keys into and out of dicts, compiled; each function has its reference in Python.

    parse_strings       RdbReader._parse_key, for string values
    parse_raw           RdbReader._parse_key, for values that stay encoded
    load_keys           rdb.keys.load_keys_reference
    encode_strings      rdb.writer.encode_strings_reference

encode_strings runs in the child of a fork and only borrows what it looks at (_strings.pxd).
load_keys makes no object of what a value holds: it is judged where it lies (_packed.pyx).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t, uint8_t
from libc.string cimport memchr, memcpy, memset

from rdb._packed cimport Judge, close_judge, end_of_packed, open_judge
from rdb._strings cimport (
    Output,
    bytes_data,
    bytes_size,
    close_output,
    dict_get,
    dict_next,
    is_bytes,
    open_output,
    put_length,
    put_raw,
    put_string,
    read_length,
    read_string,
    reserve,
    skip_length,
)

from rdb.records import Key

cdef extern from *:
    """
    /* An instance of a subclass of bytes without slots, as bytes.__new__ makes one. */
    static PyObject *new_packed(PyObject *cls, const uint8_t *data, Py_ssize_t size) {
        PyObject *made = ((PyTypeObject *)cls)->tp_alloc((PyTypeObject *)cls, size);
        if (made == NULL)
            return NULL;
        _Py_COMP_DIAG_PUSH
        _Py_COMP_DIAG_IGNORE_DEPR_DECLS
        ((PyBytesObject *)made)->ob_shash = -1;
        _Py_COMP_DIAG_POP
        memcpy(PyBytes_AS_STRING(made), data, size);
        return made;
    }

    /* A class made in Python has instances with a header for the collector, which one made of a
       specification does not give to a type that needs none. */
    static PyObject *plain_type(const char *name, PyObject *base) {
        PyType_Slot slots[] = {{0, NULL}};
        PyType_Spec spec = {name, 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
        return PyType_FromSpecWithBases(&spec, base);
    }
    """
    object new_packed(PyObject *cls, const uint8_t *data, Py_ssize_t size)
    object plain_type(const char *name, object base)

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject *(*tp_alloc)(PyTypeObject *, Py_ssize_t) except NULL
    PyTypeObject *type_of "Py_TYPE" (PyObject *)
    PyObject *borrowed_item "PyList_GET_ITEM" (object, Py_ssize_t)
    Py_ssize_t dict_size "PyDict_GET_SIZE" (object)
    PyObject *dict_set_default "PyDict_SetDefault" (object, object, object) except NULL
    long long as_long_long "PyLong_AsLongLong" (PyObject *) except? -1
    void decref "Py_DECREF" (PyObject *)
    void untrack "PyObject_GC_UnTrack" (PyObject *)
    void PyTuple_SET_ITEM(object, Py_ssize_t, object)

cdef enum:
    OP_EXPIRE_MS = 252
    OP_FREQ = 249
    OP_IDLE = 248
    TYPE_STRING = 0
    TYPE_CODES = 20
    LZF_MARK = 0xC3

cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF

cdef PyObject *CLASSES[TYPE_CODES]
memset(CLASSES, 0, sizeof(CLASSES))


def packed_type(cls not None):
    """A class like this one without header for the collector: 16 bytes less an instance."""
    made = plain_type(f"{cls.__module__}.{cls.__name__}".encode(), cls.__base__)
    for name, attribute in vars(cls).items():
        if name != "__slots__":
            setattr(made, name, attribute)
    return made


def bind_packed(dict classes not None):
    """Take the classes of packed values by type code; rdb.packed keeps them alive."""
    for code, cls in classes.items():
        assert 0 < code < TYPE_CODES
        CLASSES[<int>code] = <PyObject *>cls


# --- records


cdef inline object _new_key(
    object db, object key, object type_code, object value, object expires_at_ms
):
    """Key(...), without the detour through the argument parsing of __new__."""
    cdef PyTypeObject *cls = <PyTypeObject *>Key
    cdef PyObject *made = cls.tp_alloc(cls, 7)
    cdef object record = <object>made
    # tp_alloc gave one reference and the assignment above took another.
    decref(made)
    # It holds bytes and numbers only, so it is in no cycle, and a million of them would set the
    # collector off again and again (CPython does the same for plain tuples).
    untrack(made)
    Py_INCREF(db)
    PyTuple_SET_ITEM(record, 0, db)
    Py_INCREF(key)
    PyTuple_SET_ITEM(record, 1, key)
    Py_INCREF(type_code)
    PyTuple_SET_ITEM(record, 2, type_code)
    Py_INCREF(value)
    PyTuple_SET_ITEM(record, 3, value)
    Py_INCREF(expires_at_ms)
    PyTuple_SET_ITEM(record, 4, expires_at_ms)
    Py_INCREF(None)
    PyTuple_SET_ITEM(record, 5, None)
    Py_INCREF(None)
    PyTuple_SET_ITEM(record, 6, None)
    return record


def parse_strings(bytes data not None, Py_ssize_t pos, object db, list records not None):
    """Append the Key records of string values that follow each other from `pos`.

    Returns the position after the last; the loop ends at anything else, and at a record that is
    cut off or malformed.
    """
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at
    cdef int64_t instant_ms
    cdef object zero = 0, expires_at_ms, key, value
    while pos < size:
        at = pos
        expires_at_ms = None
        if raw[at] == OP_EXPIRE_MS:
            if at + 10 > size:
                break
            # RDB integers are little-endian, and so is every machine this is built for.
            memcpy(&instant_ms, raw + at + 1, 8)
            expires_at_ms = instant_ms
            at += 9
        if raw[at] != TYPE_STRING:
            break
        at += 1
        key = read_string(raw, size, &at)
        if key is None:
            break
        value = read_string(raw, size, &at)
        if value is None:
            break
        records.append(_new_key(db, key, zero, value, expires_at_ms))
        pos = at
    return pos


cdef inline int _skip_string(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos
) noexcept:
    """Step over a string; 0 where the reference must look at it."""
    cdef Py_ssize_t at = pos[0], length = 0
    if at >= size:
        return 0
    if data[at] < 0xC0:
        if not read_length(data, size, &at, &length):
            return 0
    elif data[at] == 0xC3:
        at += 1
        if not read_length(data, size, &at, &length) or not skip_length(data, size, &at):
            return 0
    elif data[at] <= 0xC2:
        length = 1 + (<Py_ssize_t>1 << (data[at] - 0xC0))
    else:
        return 0
    if length > size - at:
        return 0
    pos[0] = at + length
    return 1


cdef int _skip_value(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos, uint8_t type_code
) noexcept:
    """Step over a value; 0 where it is cut off, malformed, or not of the types known here."""
    cdef Py_ssize_t count = 0
    cdef int strings = 1, fixed_bytes = 0, with_length = 0
    if type_code == 0 or 9 <= type_code <= 13 or type_code in (16, 17, 20):
        return _skip_string(data, size, pos)
    if type_code == 4:
        strings = 2
    elif type_code == 5:
        fixed_bytes = 8
    elif type_code == 18:
        with_length = 1
    elif type_code not in (1, 2, 14):
        return 0
    if not read_length(data, size, pos, &count):
        return 0
    while count > 0:
        count -= 1
        if with_length and not skip_length(data, size, pos):
            return 0
        if not _skip_string(data, size, pos):
            return 0
        if strings == 2 and not _skip_string(data, size, pos):
            return 0
        pos[0] += fixed_bytes
        if pos[0] > size:
            return 0
    return 1


def parse_raw(bytes data not None, Py_ssize_t pos, object db, list records not None):
    """Append the Key records that follow each other from `pos`, their values still encoded.

    Returns the position after the last; the loop ends at anything else, at a value of a rare
    type, and at a record that is cut off or malformed.
    """
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t at, begin
    cdef int64_t instant_ms
    cdef uint8_t type_code
    cdef object expires_at_ms, key, value
    while pos < size:
        at = pos
        expires_at_ms = None
        if raw[at] == OP_EXPIRE_MS:
            if at + 10 > size:
                break
            memcpy(&instant_ms, raw + at + 1, 8)
            expires_at_ms = instant_ms
            at += 9
        type_code = raw[at]
        if type_code > 20:
            break
        at += 1
        key = read_string(raw, size, &at)
        if key is None:
            break
        begin = at
        if not _skip_value(raw, size, &at, type_code):
            break
        value = PyBytes_FromStringAndSize(<const char *>raw + begin, at - begin)
        records.append(_new_key(db, key, type_code, value, expires_at_ms))
        pos = at
    return pos


# --- loading


def load_keys(
    bytes data not None,
    Py_ssize_t pos,
    list segments not None,
    list expires not None,
    list due_ms not None,
    object limits,
    object drop_before_ms,
):
    """See rdb.keys.load_keys."""
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at, end, before, place
    cdef Py_ssize_t mask = len(segments) - 1, due_mask = len(due_ms) - 1, count = 0, expiring = 0
    cdef int64_t instant_ms = 0, earliest_ms = NEVER, drop_ms = 0
    cdef bint has_expiry, drops = drop_before_ms is not None
    cdef object key, value, segment
    cdef Judge judge
    cdef int code
    if drops:
        drop_ms = drop_before_ms
    try:
        open_judge(&judge, limits)
        while pos < size:
            at = pos
            has_expiry = raw[at] == OP_EXPIRE_MS
            if has_expiry:
                if at + 10 > size:
                    break
                memcpy(&instant_ms, raw + at + 1, 8)
                if drops and instant_ms < drop_ms:
                    break
                at += 9
            code = raw[at]
            if code and (code >= TYPE_CODES or CLASSES[code] == NULL):
                break
            at += 1
            key = read_string(raw, size, &at)
            if key is None:
                break
            if not code:
                value = read_string(raw, size, &at)
                if value is None:
                    break
            else:
                end = end_of_packed(&judge, code, raw, size, at)
                if end < 0:
                    break
                value = new_packed(CLASSES[code], raw + at, end - at)
                at = end
            place = PyObject_Hash(key) & mask
            segment = <object>borrowed_item(segments, place)
            before = dict_size(segment)
            dict_set_default(segment, key, value)
            if dict_size(segment) == before:
                break
            if has_expiry:
                (<dict>borrowed_item(expires, place))[key] = instant_ms
                expiring += 1
                place &= due_mask
                if due_ms[place] > instant_ms:
                    due_ms[place] = instant_ms
                if instant_ms < earliest_ms:
                    earliest_ms = instant_ms
            count += 1
            pos = at
        return pos, count, expiring, None if earliest_ms == NEVER else earliest_ms
    finally:
        close_judge(&judge)


# --- writing


cdef int code_of(PyObject *value, bint compress) noexcept:
    """The type code of bytes and of packed values, -1 for any other, which put_plain cannot write.

    Any other are also packed values that may hold LZF where that is not wanted.
    """
    cdef PyObject *cls = <PyObject *>type_of(value)
    cdef int code
    if is_bytes(value):
        return TYPE_STRING
    for code in range(TYPE_CODES):
        if CLASSES[code] == cls:
            if not compress and memchr(bytes_data(value), LZF_MARK, bytes_size(value)) != NULL:
                return -1
            return code
    return -1


cdef int open_heads(Heads *heads, dict expires, object accesses) except -1:
    """Note where put_head looks; both arguments must outlive its calls.

    `accesses` is an rdb.writer.Accesses, or None where the use of keys is not stored.
    """
    cdef dict words
    memset(heads, 0, sizeof(Heads))
    if expires:
        heads.expires = <PyObject *>expires
    if accesses is not None:
        words, heads.default, heads.clock, heads.is_lfu, heads.decay_min = accesses
        heads.words = <PyObject *>words
    return 0


cdef int _put_access(Output *out, PyObject *key, Heads *heads) except -1:
    """Append the idle time or the counter of a key; see rdb.writer.Accesses."""
    cdef PyObject *word = dict_get(heads.words, key)
    cdef int64_t known = heads.default if word == NULL else as_long_long(word)
    cdef int64_t figure
    reserve(out, 10)
    if heads.is_lfu:
        figure = known & 255
        if heads.decay_min > 0:
            figure = max(figure - max(heads.clock - (known >> 8), 0) // heads.decay_min, 0)
        out.data[out.size] = OP_FREQ
        out.data[out.size + 1] = <uint8_t>figure
        out.size += 2
    else:
        figure = max(heads.clock - known, 0)
        out.data[out.size] = OP_IDLE
        out.size = put_length(out.data + out.size + 1, <uint64_t>figure) - out.data
    return 0


cdef int put_head(Output *out, PyObject *key, Heads *heads, int code) except -1:
    """Append what stands before a value: when the key expires, its use, type code and name."""
    cdef PyObject *deadline
    cdef int64_t instant_ms
    if not is_bytes(key):
        raise TypeError("keys must be bytes")
    if heads.expires != NULL:
        deadline = dict_get(heads.expires, key)
        if deadline != NULL:
            instant_ms = as_long_long(deadline)
            reserve(out, 9)
            out.data[out.size] = OP_EXPIRE_MS
            memcpy(out.data + out.size + 1, &instant_ms, 8)
            out.size += 9
    if heads.words != NULL:
        _put_access(out, key, heads)
    reserve(out, 1)
    out.data[out.size] = <uint8_t>code
    out.size += 1
    return put_string(out, bytes_data(key), bytes_size(key))


cdef int put_plain(Output *out, PyObject *value) except -1:
    """Append a value that is bytes or packed."""
    if is_bytes(value):
        return put_string(out, bytes_data(value), bytes_size(value))
    return put_raw(out, bytes_data(value), bytes_size(value))


def encode_strings(
    dict segment not None, dict expires not None, bint compress, object accesses=None
):
    """See rdb.writer.encode_strings."""
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    cdef Py_ssize_t cursor = 0, count = 0
    cdef int code
    cdef list leftovers = []
    cdef Heads heads
    cdef Output out
    open_heads(&heads, expires, accesses)
    try:
        open_output(&out, 4096, compress)
        while dict_next(<PyObject *>segment, &cursor, &key, &value):
            code = code_of(value, compress)
            if code < 0:
                leftovers.append(<object>key)
                continue
            put_head(&out, key, &heads, code)
            put_plain(&out, value)
            count += 1
        return PyBytes_FromStringAndSize(<char *>out.data, out.size), count, leftovers
    finally:
        close_output(&out)
