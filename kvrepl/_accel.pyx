# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The RESP codec, compiled: the loops of kvrepl.resp.requests and kvrepl.resp.replies.

Optional. Import the names from kvrepl.resp, which takes them from here where this module was
built. Only what is hot is written a second time:

    Decoder        well-formed multibulk requests; all else goes to the functions of
                   kvrepl.resp.requests, so that both implementations refuse the same things
                   in the same words
    skim_commands  commands as servers write them, counted and not made
    encode...      the usual values; all else goes to kvrepl.resp.replies.encode_value

The states and invariants are those of requests.py. Nothing here runs without the GIL, and no
reference to the input outlives a call.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from libc.string cimport memchr, memcpy, strlen

from kvrepl._slots cimport get_slot, slot_offset

from kvrepl.resp.replies import encode_command as _encode_command
from kvrepl.resp.replies import encode_value as _encode_value
from kvrepl.resp.requests import (
    MAX_LINE_BYTES,
    UNAUTHENTICATED_ARGUMENTS,
    UNAUTHENTICATED_BULK_BYTES,
    UNLIMITED,
    Limits,
    check_line,
    check_query_buffer,
    read_count,
    read_length,
    take_line,
)
from kvrepl.resp.values import BLOCKED, NO_REPLY, Double, Status

cdef extern from "Python.h":
    PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t) except NULL
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1
    char *bytes_text "PyBytes_AS_STRING"(PyObject *)
    void Py_XDECREF(PyObject *)
    object bytes_of "PyBytes_FromStringAndSize"(const char *, Py_ssize_t)
    list PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(object, Py_ssize_t, PyObject *)
    int Py_EnterRecursiveCall(const char *) except *  # fails with 1 or -1, by version
    void Py_LeaveRecursiveCall()
    char *PyOS_double_to_string(double, char, int, int, int *) except NULL

cdef enum:
    FIRST_BULK_BYTES = 1 << 20  # room made at once for an argument that is not complete
    WHOLE_ARGUMENTS = 64  # requests of so many are located first and built at once
    COUNT_DIGITS = 10  # more than any count or length of an argument has
    NUMBER_BYTES = 24  # any 64-bit integer, with its type byte and CR LF

cdef Py_ssize_t line_bytes = MAX_LINE_BYTES
cdef Py_ssize_t plain_length = UNAUTHENTICATED_BULK_BYTES  # no limit refuses such a string
cdef Py_ssize_t stranger_count = UNAUTHENTICATED_ARGUMENTS


# ---------------------------------------------------------------------- requests


cdef inline Py_ssize_t plain_number(
    const char *buf, Py_ssize_t pos, Py_ssize_t end, char kind, Py_ssize_t *number
) noexcept:
    """Read `<kind><canonical number up to plain_length> CR any` at pos.

    Returns the position after it, -1 where something else (or too little) stands there.
    """
    cdef Py_ssize_t value
    cdef unsigned int digit
    if end - pos < 4 or buf[pos] != kind:
        return -1
    digit = <unsigned char> buf[pos + 1] - 48u
    if digit > 9:
        return -1
    value = digit
    pos += 2
    if value:
        while pos < end:
            digit = <unsigned char> buf[pos] - 48u
            if digit > 9:
                break
            value = value * 10 + digit
            if value > plain_length:
                return -1
            pos += 1
    if end - pos < 2 or buf[pos] != c"\r":
        return -1
    number[0] = value
    return pos + 2


cdef list built(
    const char *buf, const Py_ssize_t *starts, const Py_ssize_t *lengths, Py_ssize_t count
):
    """Make a request of the arguments that were located."""
    cdef Py_ssize_t i
    cdef list argv = PyList_New(count)
    for i in range(count):
        PyList_SET_ITEM(argv, i, PyBytes_FromStringAndSize(buf + starts[i], lengths[i]))
    return argv


cdef Py_ssize_t take_whole(
    const char *buf, Py_ssize_t pos, Py_ssize_t end, Py_ssize_t count, list requests
) except -2:
    """Build a request whose plain bulk strings all stand at pos.

    Returns the position after it, -1 where it is not plain or not complete: nothing is built then.
    """
    cdef Py_ssize_t starts[WHOLE_ARGUMENTS]
    cdef Py_ssize_t lengths[WHOLE_ARGUMENTS]
    cdef Py_ssize_t i, length = 0
    for i in range(count):
        pos = plain_number(buf, pos, end, c"$", &length)
        if pos < 0 or end - pos < length + 2:
            return -1
        starts[i] = pos
        lengths[i] = length
        pos += length + 2
    requests.append(built(buf, starts, lengths, count))
    return pos


cdef Py_ssize_t take_plain_line(
    const char *buf, Py_ssize_t pos, Py_ssize_t end, list requests
) except -2:
    """Build an inline request of words between spaces, no quotes and nothing unprintable.

    Returns the position after it, -1 where it is not plain or not complete: nothing is built then.
    """
    cdef Py_ssize_t starts[WHOLE_ARGUMENTS]
    cdef Py_ssize_t lengths[WHOLE_ARGUMENTS]
    cdef Py_ssize_t stop, count = 0
    cdef unsigned char byte
    cdef const char *line_end = <const char *> memchr(buf + pos, c"\n", min(end - pos, line_bytes))
    if line_end == NULL:
        return -1
    end = stop = line_end - buf
    if stop > pos and buf[stop - 1] == c"\r":
        stop -= 1
    while pos < stop:
        if buf[pos] == c" ":
            pos += 1
            continue
        if count == WHOLE_ARGUMENTS:
            return -1
        starts[count] = pos
        while pos < stop:
            byte = <unsigned char> buf[pos]
            if byte <= 32 or byte == c'"' or byte == c"'":
                break
            pos += 1
        if pos < stop and buf[pos] != c" ":
            return -1
        lengths[count] = pos - starts[count]
        count += 1
    if count == 0:
        return -1
    requests.append(built(buf, starts, lengths, count))
    return end + 1


cdef inline Py_ssize_t find_return(
    const char *buf, Py_ssize_t pos, Py_ssize_t end
) noexcept:
    """Find the CR of the header line at pos, within the limit; -1 where there is none."""
    cdef Py_ssize_t span = min(end - pos, line_bytes + 1)
    cdef const char *found = <const char *> memchr(buf + pos, c"\r", span)
    return -1 if found == NULL else found - buf


cdef class Decoder:
    """The compiled kvrepl.resp.requests.Decoder."""

    def __cinit__(self):
        self.authenticated = True
        self.length = -1
        self.rest = b""

    def __dealloc__(self):
        Py_XDECREF(self.bulk)

    @property
    def pending_bytes(self):
        """Bytes that wait for the rest of their line or argument."""
        return PyBytes_GET_SIZE(self.rest) + self.received

    cdef int decode(self, bytes data, list requests, list ends) except -1:
        cdef Py_ssize_t pos = 0, end, line_end, after, number = 0
        cdef Py_ssize_t largest_count = plain_length if self.authenticated else stranger_count
        cdef long long missing, base, length
        cdef const char *buf
        cdef list argv
        if self.error is not None:
            return 0
        self.deferred = False
        if self.length >= 0:
            pos = self.continue_bulk(data, requests, ends)
            if pos < 0:
                return 0
        elif PyBytes_GET_SIZE(self.rest):
            data = self.rest + data
            self.rest = b""
        buf = PyBytes_AS_STRING(data)
        end = PyBytes_GET_SIZE(data)
        base = self.position
        argv = self.argv
        missing = self.missing
        while pos < end:
            if missing == 0:
                if buf[pos] != c"*":
                    after = -1 if self.strict else take_plain_line(buf, pos, end, requests)
                    if after >= 0:
                        pos = after
                        self.offset = base + pos
                        if ends is not None:
                            ends.append(self.offset)
                        continue
                    after = take_line(self, data, pos, base, requests, ends)
                    if after < 0:
                        break
                    pos = after
                    continue
                after = plain_number(buf, pos, end, c"*", &number)
                if after >= 0 and 0 < number <= largest_count:
                    missing = number
                    pos = after
                    if missing <= WHOLE_ARGUMENTS:
                        after = take_whole(buf, pos, end, missing, requests)
                        if after >= 0:
                            pos = after
                            missing = 0
                            self.offset = base + pos
                            if ends is not None:
                                ends.append(self.offset)
                            continue
                else:
                    line_end = find_return(buf, pos, end)
                    if line_end < 0 or line_end + 2 > end:
                        check_line(self, line_end, end - pos, "mbulk")
                        break
                    count = read_count(self, data[pos:line_end], end - pos, len(requests) > 0)
                    if count is None:
                        break
                    missing = max(count, 0)
                    pos = line_end + 2
                argv = []
                if missing == 0:
                    self.offset = base + pos
                continue
            after = plain_number(buf, pos, end, c"$", &number)
            if after >= 0:
                length = number
                pos = after
            else:
                line_end = find_return(buf, pos, end)
                if line_end < 0 or line_end + 2 > end:
                    check_line(self, line_end, end - pos, "bulk")
                    break
                size = read_length(self, data[pos:line_end], end - pos, len(requests) > 0)
                if size is None:
                    break
                length = size
                pos = line_end + 2
            if end - pos - 2 < length:
                self.position = base + pos
                self.argv = argv
                self.missing = missing
                self.begin_bulk(length, buf + pos, end - pos)
                return 0
            argv.append(bytes_of(buf + pos, length))
            pos += length + 2
            missing -= 1
            if missing == 0:
                requests.append(argv)
                self.offset = base + pos
                if ends is not None:
                    ends.append(self.offset)
        self.argv = argv if missing else None
        self.missing = missing
        self.position = base + pos
        if pos < end and self.error is None:
            self.rest = data[pos:]
        return 0

    cdef int begin_bulk(self, long long length, const char *data, Py_ssize_t size) except -1:
        """Keep the first bytes of an argument that is not complete."""
        self.room = min(length, FIRST_BULK_BYTES)
        self.bulk = PyBytes_FromStringAndSize(NULL, self.room)
        self.length = length
        return self.extend_bulk(data, size)

    cdef int extend_bulk(self, const char *data, Py_ssize_t size) except -1:
        """Copy what belongs to the argument; bytes of its line end are only counted."""
        cdef Py_ssize_t kept = min(size, self.length - self.received)
        if kept > 0:
            if self.received + kept > self.room:
                # The room doubles, but never beyond the length: the last size is the right one.
                self.room = min(self.length, max(2 * self.room, self.received + kept))
                try:
                    _PyBytes_Resize(&self.bulk, self.room)
                except MemoryError:
                    self.drop_bulk()  # the object is gone already
                    raise
            memcpy(bytes_text(self.bulk) + self.received, data, kept)
        self.received += size
        return 0

    cdef void drop_bulk(self) noexcept:
        Py_XDECREF(self.bulk)
        self.bulk = NULL
        self.received = 0
        self.length = -1

    cdef Py_ssize_t continue_bulk(self, bytes data, list requests, list ends) except -2:
        """Complete the argument that an earlier piece began.

        Returns the position in data after it, -1 where data does not reach its end.
        """
        cdef Py_ssize_t have = self.received, size = PyBytes_GET_SIZE(data), pos
        if have + size - 2 < self.length:
            self.extend_bulk(PyBytes_AS_STRING(data), size)
            return -1
        pos = self.length + 2 - have
        self.extend_bulk(PyBytes_AS_STRING(data), pos)
        self.argv.append(<object> self.bulk)
        self.drop_bulk()
        self.position += have
        self.missing -= 1
        if self.missing == 0:
            requests.append(self.argv)
            self.argv = None
            self.offset = self.position + pos
            if ends is not None:
                ends.append(self.offset)
        return pos


cdef class RequestParser(Decoder):
    """The compiled kvrepl.resp.requests.RequestParser; see there."""

    def __init__(self, limits=None):
        self.limits = Limits() if limits is None else limits

    def feed(self, bytes data not None):
        """Take bytes; return the requests that they complete."""
        return self.take(data)

    cdef list take(self, bytes data):
        """Take bytes, as feed does."""
        cdef list requests = []
        self.decode(data, requests, None)
        if (self.received or PyBytes_GET_SIZE(self.rest)) and check_query_buffer(self):
            self.rest = b""
            self.drop_bulk()
        return requests


cdef class StreamParser(Decoder):
    """The compiled kvrepl.resp.requests.StreamParser; see there."""

    def __init__(self, long long offset=0, bint strict=True):
        self.limits = UNLIMITED
        self.offset = self.position = offset
        self.strict = strict

    def feed(self, bytes data not None):
        """Take bytes; return each command that they complete with the offset where it ends."""
        cdef list requests = [], ends = []
        self.decode(data, requests, ends)
        return list(zip(requests, ends))


cdef Py_ssize_t canonical_number(
    const char *buf, Py_ssize_t pos, Py_ssize_t end, char kind, Py_ssize_t *number
) noexcept:
    """Read `<kind><canonical number> CR LF` at pos; the position after it, -1 for all else."""
    cdef Py_ssize_t value = 0, first = pos + 1
    if pos >= end or buf[pos] != kind:
        return -1
    pos += 1
    while pos < end and c"0" <= buf[pos] <= c"9" and pos - first < COUNT_DIGITS:
        value = value * 10 + (buf[pos] - 48)
        pos += 1
    if pos == first or (buf[first] == c"0" and pos - first > 1):
        return -1
    if end - pos < 2 or buf[pos] != c"\r" or buf[pos + 1] != c"\n":
        return -1
    number[0] = value
    return pos + 2


def skim_commands(bytes data not None, Py_ssize_t position, frozenset stops not None, names):
    """See kvrepl.resp.requests.skim_commands."""
    cdef const char *buf = PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data), pos, count = 0, length = 0, name_at, name_size
    cdef dict counts = <dict> names  # or a subclass, as Counter is
    cdef object name, seen
    if not isinstance(names, dict):
        raise TypeError("names must be a dict")
    while True:
        pos = canonical_number(buf, position, end, c"*", &count)
        if pos < 0 or count == 0:
            return position
        name_at = name_size = 0
        while count:
            pos = canonical_number(buf, pos, end, c"$", &length)
            if pos < 0 or end - pos < length + 2:
                return position
            if not name_at:
                name_at, name_size = pos, length
            pos += length + 2
            if buf[pos - 2] != c"\r" or buf[pos - 1] != c"\n":
                return position
            count -= 1
        name = bytes_of(buf + name_at, name_size)
        seen = counts.get(name)
        if seen is None:
            if name.upper() in stops:
                return position
            seen = 0
        counts[name] = seen + 1
        position = pos



# ---------------------------------------------------------------------- replies


cdef int grow(Buffer *out, Py_ssize_t more) except -1:
    """Make room for so many more bytes."""
    cdef Py_ssize_t capacity = max(out.capacity * 2, out.size + more)
    cdef char *heap = <char *> PyMem_Realloc(out.heap, capacity)
    if heap == NULL:
        raise MemoryError()
    if out.heap == NULL:
        memcpy(heap, out.data, out.size)
    out.heap = out.data = heap
    out.capacity = capacity
    return 0


cdef inline int put(Buffer *out, const char *data, Py_ssize_t size) except -1:
    if out.size + size > out.capacity:
        grow(out, size)
    memcpy(out.data + out.size, data, size)
    out.size += size
    return 0


cdef inline Py_ssize_t format_number(char *target, char kind, long long value) noexcept:
    """Write `<kind><value> CR LF` to target (NUMBER_BYTES of room); return its length."""
    cdef char digits[20]
    cdef int count = 0
    cdef Py_ssize_t size = 1
    cdef unsigned long long rest = <unsigned long long> value
    target[0] = kind
    if value < 0:
        target[size] = c"-"
        size += 1
        rest = 0 - rest
    while True:
        digits[count] = <char> (48 + rest % 10)
        count += 1
        rest //= 10
        if rest == 0:
            break
    while count:
        count -= 1
        target[size] = digits[count]
        size += 1
    target[size] = c"\r"
    target[size + 1] = c"\n"
    return size + 2


cdef inline int put_number(Buffer *out, char kind, long long value) except -1:
    if out.size + NUMBER_BYTES > out.capacity:
        grow(out, NUMBER_BYTES)
    out.size += format_number(out.data + out.size, kind, value)
    return 0


cdef inline int put_bulk(Buffer *out, const char *data, Py_ssize_t size) except -1:
    if out.size + size + NUMBER_BYTES + 2 > out.capacity:
        grow(out, size + NUMBER_BYTES + 2)
    out.size += format_number(out.data + out.size, c"$", size)
    memcpy(out.data + out.size, data, size)
    out.size += size
    out.data[out.size] = c"\r"
    out.data[out.size + 1] = c"\n"
    out.size += 2
    return 0


cdef inline int put_bytes(Buffer *out, bytes value) except -1:
    return put_bulk(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef int put_double(Buffer *out, const char *text, Py_ssize_t size, int protocol) except -1:
    if protocol == 2:
        return put_bulk(out, text, size)
    put(out, ",", 1)
    put(out, text, size)
    return put(out, "\r\n", 2)


cdef int put_float(Buffer *out, double value, int protocol) except -1:
    # 17 digits and no flags: what b"%.17g" prints in kvrepl.numbers.format_double.
    cdef char digits[NUMBER_BYTES]
    cdef char *text
    cdef Py_ssize_t size
    if 0 < value < 1e15 and value == <double> <long long> value:
        size = format_number(digits, c" ", <long long> value)
        return put_double(out, digits + 1, size - 3, protocol)
    text = PyOS_double_to_string(value, c"g", 17, 0, NULL)
    try:
        return put_double(out, text, strlen(text), protocol)
    finally:
        PyMem_Free(text)


cdef Py_ssize_t STATUS_WIRE = slot_offset(Status, "wire")


cdef inline bytes wire_of(object status):
    """Give the wire form of a Status, whose type was looked at."""
    return <bytes> get_slot(<PyObject *> status, STATUS_WIRE)


cdef int put_value(Buffer *out, object value, int protocol) except -1:
    """Append the wire form of a value; see kvrepl.resp.replies.encode_value."""
    cdef bytes wire
    kind = type(value)
    if kind is bytes:
        return put_bytes(out, <bytes> value)
    if kind is int and -(1 << 63) <= value < (1 << 63):
        return put_number(out, c":", value)
    if value is None:
        return put(out, "$-1\r\n", 5) if protocol == 2 else put(out, "_\r\n", 3)
    if kind is list or kind is tuple or kind is dict:
        Py_EnterRecursiveCall(" while encoding a reply")
        try:
            return put_elements(out, value, protocol)
        finally:
            Py_LeaveRecursiveCall()
    if kind is float:
        return put_float(out, value, protocol)
    if kind is Double:
        wire = value.text
        return put_double(out, PyBytes_AS_STRING(wire), PyBytes_GET_SIZE(wire), protocol)
    wire = wire_of(value) if kind is Status else _encode_value(value, protocol)
    return put(out, PyBytes_AS_STRING(wire), PyBytes_GET_SIZE(wire))


cdef int put_elements(Buffer *out, object value, int protocol) except -1:
    if type(value) is dict:
        if protocol == 2:
            put_number(out, c"*", 2 * len(<dict> value))
        else:
            put_number(out, c"%", len(<dict> value))
        for key, element in (<dict> value).items():
            put_value(out, key, protocol)
            put_value(out, element, protocol)
    elif type(value) is list:
        put_number(out, c"*", PyList_GET_SIZE(value))
        for element in <list> value:
            put_value(out, element, protocol)
    else:
        put_number(out, c"*", len(<tuple> value))
        for element in <tuple> value:
            put_value(out, element, protocol)
    return 0


cdef bytes bulk_of(bytes value):
    """Give a bulk string in an object of its own, for which the value is copied once."""
    cdef char header[NUMBER_BYTES]
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    cdef Py_ssize_t length = format_number(header, c"$", size)
    cdef bytes wire = bytes_of(NULL, length + size + 2)
    cdef char *at = PyBytes_AS_STRING(wire)
    memcpy(at, header, length)
    memcpy(at + length, PyBytes_AS_STRING(value), size)
    at[length + size] = c"\r"
    at[length + size + 1] = c"\n"
    return wire


def encode(value, int protocol=2):
    """Encode one reply; see kvrepl.resp.replies.encode."""
    cdef char space[512]
    cdef Buffer out
    if type(value) is Status:
        return wire_of(value)
    if type(value) is bytes:
        return bulk_of(<bytes> value)
    if value is BLOCKED or value is NO_REPLY:
        return b""
    out.data, out.size, out.capacity, out.heap = space, 0, sizeof(space), NULL
    try:
        put_value(&out, value, protocol)
        return bytes_of(out.data, out.size)
    finally:
        PyMem_Free(out.heap)


def encode_many(values, int protocol=2):
    """Encode the replies of one batch; see kvrepl.resp.replies.encode_many."""
    cdef char space[4096]
    cdef Buffer out
    out.data, out.size, out.capacity, out.heap = space, 0, sizeof(space), NULL
    try:
        for value in values:
            if value is not BLOCKED and value is not NO_REPLY:
                put_value(&out, value, protocol)
        return bytes_of(out.data, out.size)
    finally:
        PyMem_Free(out.heap)


cdef int put_command(Buffer *out, object argv) except -1:
    """Append a command as an array of bulk strings."""
    cdef Py_ssize_t before = out.size
    cdef bytes wire
    if type(argv) is list:
        put_number(out, c"*", PyList_GET_SIZE(argv))
        for arg in <list> argv:
            if type(arg) is not bytes:
                out.size = before
                break
            put_bytes(out, <bytes> arg)
        else:
            return 0
    wire = _encode_command(argv)
    return put(out, PyBytes_AS_STRING(wire), PyBytes_GET_SIZE(wire))


def encode_command(argv):
    """Encode a command as an array of bulk strings; see kvrepl.resp.replies.encode_command."""
    cdef char space[512]
    cdef Buffer out
    out.data, out.size, out.capacity, out.heap = space, 0, sizeof(space), NULL
    try:
        put_command(&out, argv)
        return bytes_of(out.data, out.size)
    finally:
        PyMem_Free(out.heap)
