"""The judge of packed values in C: see rdb/_packed.pyx."""

from libc.stdint cimport int32_t, uint8_t

cdef struct Text:
    const uint8_t *data
    Py_ssize_t size


cdef struct Judge:
    Py_ssize_t hash_entries, hash_value, intset_entries, zset_entries, zset_value
    Py_ssize_t count, text_bytes  # of the texts so far
    Py_ssize_t used  # of the arena
    Text *texts
    uint8_t *arena  # for what does not stand in the input as it is
    int32_t *slots

cdef int open_judge(Judge *judge, object limits) except -1
cdef void close_judge(Judge *judge) noexcept
cdef Py_ssize_t end_of_packed(
    Judge *judge, int code, const uint8_t *raw, Py_ssize_t size, Py_ssize_t pos
) noexcept nogil
