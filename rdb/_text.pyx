# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Keys as lines of JSON, compiled: rdb.cli.text.key_line_reference in one pass over the bytes.

JSON is UTF-8, and so is a text that needs no base64: it is checked and copied, never decoded.
"""

from binascii import b2a_base64

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.math cimport signbit
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport strlen

from rdb._strings cimport (
    Output,
    bytes_data,
    bytes_size,
    close_output,
    decimal_digits,
    is_bytes,
    open_output,
    put_raw,
    reserve,
)

from rdb.constants import KINDS

cdef extern from "Python.h":
    char *PyOS_double_to_string(double, char, int, int, int *) except NULL

cdef enum:
    OTHER
    TEXT
    ELEMENTS
    SCORED
    PAIRS

cdef dict SHAPE_OF_KIND = {
    "string": TEXT, "list": ELEMENTS, "set": ELEMENTS, "zset": SCORED, "hash": PAIRS,
}
cdef dict SHAPES = {code: SHAPE_OF_KIND.get(kind, OTHER) for code, kind in KINDS.items()}
cdef dict TYPES = {
    code: b',"type":"%b","type_code":%d' % (kind.encode(), code) for code, kind in KINDS.items()
}
cdef const uint8_t *HEX_DIGITS = b"0123456789abcdef"
cdef double MAX_EXACT = 1e15  # repr writes larger integers in digits no longer


def key_line(key not None, bint with_value, bytes more not None):
    """See rdb.cli.text.key_line_reference; None for a value of another form than these."""
    cdef tuple record = <tuple>key
    cdef int shape = SHAPES[record[2]]
    cdef object value = record[3]
    cdef Output out
    if with_value and not (type(value) is bytes if shape == TEXT else type(value) is list):
        return None
    try:
        open_output(&out, 512, False)
        _put(&out, b'{"record":"key","db":')
        _put_number(&out, record[0])
        _put(&out, b',"key":')
        if not _put_text(&out, record[1]):
            return None
        _put_bytes(&out, TYPES[record[2]])
        if record[4] is not None:
            _put(&out, b',"expires_at_ms":')
            _put_number(&out, record[4])
        if record[5] is not None:
            _put_bytes(&out, b',"idle_s":%d' % record[5])
        if record[6] is not None:
            _put_bytes(&out, b',"freq":%d' % record[6])
        _put_bytes(&out, more)
        if with_value:
            _put(&out, b',"value":')
            if not _put_value(&out, value, shape):
                return None
        _put(&out, b"}\n")
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        close_output(&out)


cdef bint _put_value(Output *out, object value, int shape) except -1:
    """Append a value; False where an element is not of the form that the shape asks for."""
    cdef bint first = True, odd = False
    cdef object element
    if shape == TEXT:
        return _put_text(out, value)
    if shape == OTHER:
        return False
    _put(out, b"[")
    for element in <list>value:
        if not first:
            _put(out, b",")
        first = False
        if shape == SCORED:
            if type(element) is not tuple or len(<tuple>element) != 2:
                return False
            _put(out, b"[")
            if not _put_text(out, (<tuple>element)[0]):
                return False
            _put(out, b',"')
            _put_score(out, (<tuple>element)[1])
            _put(out, b'"]')
            continue
        if shape == PAIRS and not odd:
            _put(out, b"[")
        if not _put_text(out, element):
            return False
        if shape == PAIRS:
            if odd:
                _put(out, b"]")
            odd = not odd
    _put(out, b"]")
    return not odd


cdef inline int _put(Output *out, const char *text) except -1:
    return put_raw(out, <const uint8_t *>text, strlen(text))


cdef inline int _put_bytes(Output *out, object text) except -1:
    return put_raw(out, bytes_data(<PyObject *>text), bytes_size(<PyObject *>text))


cdef int _put_number(Output *out, int64_t number) except -1:
    reserve(out, 20)
    out.size += decimal_digits(number, out.data + out.size)
    return 0


cdef int _put_score(Output *out, double score) except -1:
    """Append rdb.cli.form.score_form(score)."""
    cdef char *text
    if -MAX_EXACT < score < MAX_EXACT and score == <double><int64_t>score:
        if score or not signbit(score):
            return _put_number(out, <int64_t>score)
    text = PyOS_double_to_string(score, b"r", 0, 0, NULL)
    try:
        return _put(out, text)
    finally:
        PyMem_Free(text)


cdef bint _put_text(Output *out, object text) except -1:
    """Append bytes as rdb.cli.text.bytes_text has them; False where they are none."""
    cdef const uint8_t *data
    cdef Py_ssize_t size, at = 0, copied = 0, start = out.size
    cdef int width
    if not is_bytes(<PyObject *>text):
        return False
    data = bytes_data(<PyObject *>text)
    size = bytes_size(<PyObject *>text)
    _put(out, b'"')
    while at < size:
        if data[at] >= 0x80:
            width = _utf8_width(data + at, size - at)
            if not width:
                out.size = start
                _put(out, b'{"b64":"')
                _put_bytes(out, b2a_base64(text, newline=False))
                _put(out, b'"}')
                return True
            at += width
        elif data[at] < 0x20 or data[at] == 0x22 or data[at] == 0x5C:
            put_raw(out, data + copied, at - copied)
            _put_escape(out, data[at])
            at += 1
            copied = at
        else:
            at += 1
    put_raw(out, data + copied, size - copied)
    _put(out, b'"')
    return True


cdef int _put_escape(Output *out, uint8_t byte) except -1:
    cdef uint8_t letter = 0
    if byte == 0x22 or byte == 0x5C:
        letter = byte
    elif byte == 8:
        letter = b"b"
    elif byte == 9:
        letter = b"t"
    elif byte == 10:
        letter = b"n"
    elif byte == 12:
        letter = b"f"
    elif byte == 13:
        letter = b"r"
    reserve(out, 6)
    out.data[out.size] = 0x5C
    out.data[out.size + 1] = letter
    out.size += 2
    if not letter:
        out.size -= 1
        _put(out, b"u00")
        out.data[out.size] = HEX_DIGITS[byte >> 4]
        out.data[out.size + 1] = HEX_DIGITS[byte & 15]
        out.size += 2
    return 0


cdef inline bint _continues(uint8_t byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef int _utf8_width(const uint8_t *data, Py_ssize_t left) noexcept nogil:
    """How many bytes the character takes that begins with a byte from 80 on; 0: it is none.

    Source: RFC 3629, section 4.
    """
    cdef uint8_t first = data[0], low = 0x80, high = 0xBF
    if first < 0xC2 or first > 0xF4 or left < 2:
        return 0
    if first < 0xE0:
        return 2 if _continues(data[1]) else 0
    if first == 0xE0:
        low = 0xA0
    elif first == 0xED:
        high = 0x9F
    elif first == 0xF0:
        low = 0x90
    elif first == 0xF4:
        high = 0x8F
    if data[1] < low or data[1] > high or left < 3 or not _continues(data[2]):
        return 0
    if first < 0xF0:
        return 3
    return 4 if left > 3 and _continues(data[3]) else 0
