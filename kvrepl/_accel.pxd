"""What kvrepl.engine._batch uses of the compiled codec: the requests of a client, and replies
gathered in one buffer.
"""

from cpython.object cimport PyObject

cdef struct Buffer:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity
    char *heap  # NULL while data is the caller's array

cdef int put_value(Buffer *out, object value, int protocol) except -1
cdef int put_command(Buffer *out, object argv) except -1


cdef class Decoder:
    cdef public object limits
    cdef public object error
    cdef public bint strict
    cdef public bint authenticated
    cdef public bint deferred
    cdef public long long empty_lines
    cdef public long long offset
    cdef long long position
    cdef long long missing
    cdef long long length
    cdef bytes rest
    cdef list argv
    # The argument being read: a bytes object of our own, filled in place and handed over.
    # `received` counts its bytes and those of its line end, `room` is the object's size.
    cdef PyObject *bulk
    cdef Py_ssize_t received
    cdef Py_ssize_t room

    cdef int decode(self, bytes data, list requests, list ends) except -1
    cdef int begin_bulk(self, long long length, const char *data, Py_ssize_t size) except -1
    cdef int extend_bulk(self, const char *data, Py_ssize_t size) except -1
    cdef void drop_bulk(self) noexcept
    cdef Py_ssize_t continue_bulk(self, bytes data, list requests, list ends) except -2


cdef class RequestParser(Decoder):
    cdef list take(self, bytes data)
