"""Strings of an RDB in C, for the compiled modules: see rdb/_strings.pyx.

What is declared with PyObject* borrows: the reference counts of a forked child's dataset, and with
them the pages they are on, stay as they are.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "Python.h":
    int is_bytes "PyBytes_CheckExact" (PyObject *)
    Py_ssize_t bytes_size "PyBytes_GET_SIZE" (PyObject *)
    int is_dict "PyDict_CheckExact" (PyObject *)
    int is_list "PyList_CheckExact" (PyObject *)
    Py_ssize_t list_size "PyList_GET_SIZE" (PyObject *)
    PyObject *list_item "PyList_GET_ITEM" (PyObject *, Py_ssize_t)
    int dict_next "PyDict_Next" (PyObject *, Py_ssize_t *, PyObject **, PyObject **)
    PyObject *dict_get "PyDict_GetItemWithError" (PyObject *, PyObject *) except? NULL

cdef extern from *:
    """
    #define bytes_data(object) ((uint8_t *)PyBytes_AS_STRING(object))
    """
    uint8_t *bytes_data(PyObject *)

cdef enum:
    MAX_TABLE_BITS = 14
    MAX_LZF_RATIO = 88

cdef struct Output:
    uint8_t *data
    Py_ssize_t size
    Py_ssize_t room
    int32_t *table  # for LZF, 1 << MAX_TABLE_BITS places; NULL where nothing is compressed

cdef int open_output(Output *out, Py_ssize_t room, bint compress) except -1
cdef int grow(Output *out, Py_ssize_t more) except -1
cdef void close_output(Output *out) noexcept
cdef int put_string(Output *out, const uint8_t *data, Py_ssize_t size) except -1

cdef int put_raw(Output *out, const uint8_t *data, Py_ssize_t size) except -1

cdef inline int reserve(Output *out, Py_ssize_t more) except -1:
    """Make room for `more` bytes."""
    return grow(out, more) if out.size + more > out.room else 0

cdef int lzf_unpack(
    const uint8_t *data, Py_ssize_t size, uint8_t *out, Py_ssize_t length
) noexcept nogil
cdef bytes decimal_text(int64_t number)
cdef int decimal_digits(int64_t number, uint8_t *text) noexcept nogil
cdef int read_length(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos, Py_ssize_t *length
) noexcept nogil
cdef int skip_length(const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos) noexcept nogil
cdef object read_string(const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos)
cdef uint8_t *put_length(uint8_t *out, uint64_t length) noexcept nogil
cdef int integer64_of(const uint8_t *text, Py_ssize_t size, int64_t *number) noexcept nogil
