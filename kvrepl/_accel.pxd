"""What kvrepl.engine._batch uses of the compiled codec: replies gathered in one buffer."""

cdef struct Buffer:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity
    char *heap  # NULL while data is the caller's array

cdef int put_value(Buffer *out, object value, int protocol) except -1
cdef int put_command(Buffer *out, object argv) except -1
