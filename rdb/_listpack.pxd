"""Listpacks in C, for the compiled modules: see rdb/_listpack.pyx."""

from libc.stdint cimport int64_t, uint8_t

from rdb._strings cimport Output

cdef enum:
    LISTPACK_HEADER_BYTES = 6

cdef struct Entry:
    const uint8_t *text  # NULL for an integer
    Py_ssize_t size  # of the text
    int64_t number

cdef const char *begin_listpack(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos
) noexcept nogil
cdef const char *next_entry(
    const uint8_t *data, Py_ssize_t last, Py_ssize_t *pos, Entry *entry
) noexcept nogil
cdef bint count_agrees(const uint8_t *data, Py_ssize_t count) noexcept nogil

cdef int open_listpack(Output *out) except -1
cdef int put_number(Output *out, int64_t number) except -1
cdef int put_entry(Output *out, const uint8_t *text, Py_ssize_t size) except -1
cdef int close_listpack(Output *out, Py_ssize_t count) except -1
