"""Records of keys in C: see rdb/_keys.pyx. What is given is only borrowed."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from rdb._strings cimport Output

cdef struct Heads:
    PyObject *expires  # a dict, NULL where nothing expires
    PyObject *words  # of the use of keys, see rdb.writer.Accesses; NULL where it is not stored
    int64_t default
    int64_t clock
    bint is_lfu
    int64_t decay_min

cdef int open_heads(Heads *heads, dict expires, object accesses) except -1
cdef int code_of(PyObject *value, bint compress) noexcept
cdef int put_head(Output *out, PyObject *key, Heads *heads, int code) except -1
cdef int put_plain(Output *out, PyObject *value) except -1
