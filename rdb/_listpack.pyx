# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Packed lists, compiled; the formats and the references are in rdb.blobs.listpack and .ziplist.

    listpack_decode                 listpack.decode_reference
    listpack_encode                 listpack.encode_reference
    listpack_entry                  listpack.encode_entry_reference
    ziplist_decode                  ziplist.decode_reference

_listpack.pxd lists what the other compiled modules use.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from rdb._strings cimport (
    Output,
    bytes_data,
    bytes_size,
    close_output,
    decimal_text,
    integer64_of,
    is_bytes,
    open_output,
    reserve,
)

from rdb.errors import RdbError

cdef enum:
    UNKNOWN_COUNT = 65535
    ZIPLIST_HEADER_BYTES = 10

cdef const char *NO_SIZE = b"listpack header does not give its size"
cdef const char *NO_END = b"listpack does not end in FF"
cdef const char *CUT_OFF = b"listpack entry is cut off or has a wrong backlen"
cdef const char *UNKNOWN = b"unknown listpack encoding"


cdef inline int backlen_bytes(Py_ssize_t entry) noexcept nogil:
    if entry <= 127:
        return 1
    if entry < 16383:
        return 2
    if entry < 2097151:
        return 3
    if entry < 268435455:
        return 4
    return 5


# --- reading


cdef const char *begin_listpack(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos
) noexcept nogil:
    """Check the frame and go to the first entry; NULL, or what is wrong."""
    cdef uint32_t total
    if size < LISTPACK_HEADER_BYTES + 1:
        return NO_SIZE
    memcpy(&total, data, 4)
    if <Py_ssize_t>total != size:
        return NO_SIZE
    if data[size - 1] != 0xFF:
        return NO_END
    pos[0] = LISTPACK_HEADER_BYTES
    return NULL


cdef const char *next_entry(
    const uint8_t *data, Py_ssize_t last, Py_ssize_t *pos, Entry *entry
) noexcept nogil:
    """Read the entry at `pos` and step over it; NULL, or what is wrong.

    `last` is the place of the end mark; where pos is there, no entry is left.
    """
    cdef Py_ssize_t start = pos[0], begin = start + 1, length = 0, end, rest
    cdef uint8_t first = data[start], expected
    cdef uint64_t image = 0
    cdef int width = 0, group, groups
    if first < 0x80:
        pass
    elif first < 0xC0:
        length = first & 0x3F
    elif first < 0xE0:
        width = 1
    elif first < 0xF0:
        length = (<Py_ssize_t>(first & 0x0F) << 8) | data[begin]
        begin += 1
    elif first == 0xF0:
        if begin + 4 > last:
            return CUT_OFF
        memcpy(&image, data + begin, 4)
        length = <Py_ssize_t>image
        begin += 4
    elif first <= 0xF3:
        width = first - 0xF0 + 1
    elif first == 0xF4:
        width = 8
    else:
        return UNKNOWN
    end = begin + length + width
    rest = end - start
    groups = backlen_bytes(rest)
    if end + groups > last:
        return CUT_OFF
    for group in range(groups - 1, -1, -1):
        expected = <uint8_t>(rest & 127)
        if group:
            expected |= 128
        if data[end + group] != expected:
            return CUT_OFF
        rest >>= 7
    entry.text = NULL
    if first < 0x80:
        entry.number = first
    elif not width:
        entry.text = data + begin
        entry.size = length
    elif width == 1:
        image = (<uint64_t>(first & 0x1F) << 8) | data[begin]
        entry.number = <int64_t>image - (8192 if image >= 4096 else 0)
    else:
        image = 0
        memcpy(&image, data + begin, width)
        if width < 8 and image >> (8 * width - 1):
            image |= <uint64_t>-1 << (8 * width)
        entry.number = <int64_t>image
    pos[0] = end + groups
    return NULL


cdef bint count_agrees(const uint8_t *data, Py_ssize_t count) noexcept nogil:
    """Whether the header tells this number of entries, or none."""
    cdef Py_ssize_t told = data[4] | <Py_ssize_t>data[5] << 8
    return told == UNKNOWN_COUNT or told == count


cdef int _refuse(const char *message, uint8_t first) except -1:
    if message == UNKNOWN:
        raise RdbError(f"unknown listpack encoding 0x{first:02x}")
    raise RdbError(message.decode())


def listpack_decode(bytes blob not None):
    """See rdb.blobs.listpack.decode."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(blob)
    cdef Py_ssize_t pos = 0, last = PyBytes_GET_SIZE(blob) - 1
    cdef const char *wrong = begin_listpack(data, last + 1, &pos)
    cdef Entry entry
    cdef list elements = []
    if wrong != NULL:
        _refuse(wrong, 0)
    while pos < last:
        wrong = next_entry(data, last, &pos, &entry)
        if wrong != NULL:
            _refuse(wrong, data[pos])
        if entry.text == NULL:
            elements.append(decimal_text(entry.number))
        else:
            elements.append(PyBytes_FromStringAndSize(<const char *>entry.text, entry.size))
    if not count_agrees(data, len(elements)):
        told = data[4] | <Py_ssize_t>data[5] << 8
        raise RdbError(f"listpack holds {len(elements)} entries, its header says {told}")
    return elements


def ziplist_decode(bytes blob not None):
    """See rdb.blobs.ziplist.decode; None where the reference is to say what is wrong."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(blob)
    cdef Py_ssize_t last = PyBytes_GET_SIZE(blob) - 1, pos = ZIPLIST_HEADER_BYTES, length, told
    cdef Py_ssize_t start = ZIPLIST_HEADER_BYTES, before
    cdef uint32_t total, tail
    cdef uint64_t image
    cdef uint8_t first
    cdef int width
    cdef list elements = []
    if last < ZIPLIST_HEADER_BYTES:
        return None
    memcpy(&total, data, 4)
    if <Py_ssize_t>total != last + 1 or data[last] != 0xFF:
        return None
    while pos < last:
        before = pos - start
        start = pos
        told = data[pos]
        pos += 1
        if told == 0xFE:
            if last - pos < 4:
                return None
            memcpy(&total, data + pos, 4)
            told = total
            pos += 4
        if pos >= last or told != before:
            return None
        first = data[pos]
        pos += 1
        if first < 0xC0:
            if first < 0x40:
                length = first
            elif first < 0x80:
                length = (<Py_ssize_t>(first & 0x3F) << 8) | data[pos]
                pos += 1
            elif first == 0x80 and last - pos >= 4:
                length = (
                    (<Py_ssize_t>data[pos] << 24)
                    | (<Py_ssize_t>data[pos + 1] << 16)
                    | (<Py_ssize_t>data[pos + 2] << 8)
                    | data[pos + 3]
                )
                pos += 4
            else:
                return None
            if length > last - pos:
                return None
            elements.append(PyBytes_FromStringAndSize(<const char *>data + pos, length))
            pos += length
            continue
        if 0xF1 <= first <= 0xFD:
            elements.append(decimal_text((first & 0x0F) - 1))
            continue
        width = ziplist_integer_bytes(first)
        if not width or width > last - pos:
            return None
        image = 0
        memcpy(&image, data + pos, width)
        if width < 8 and image >> (8 * width - 1):
            image |= <uint64_t>-1 << (8 * width)
        elements.append(decimal_text(<int64_t>image))
        pos += width
    memcpy(&tail, data + 4, 4)
    if <Py_ssize_t>tail > last or (elements and <Py_ssize_t>tail != start):
        return None
    told = data[8] | <Py_ssize_t>data[9] << 8
    return elements if told == UNKNOWN_COUNT or told == len(elements) else None


cdef inline int ziplist_integer_bytes(uint8_t encoding) noexcept nogil:
    if encoding == 0xC0:
        return 2
    if encoding == 0xD0:
        return 4
    if encoding == 0xE0:
        return 8
    if encoding == 0xF0:
        return 3
    return 1 if encoding == 0xFE else 0


# --- writing


cdef uint8_t *_put_backlen(uint8_t *cursor, Py_ssize_t entry) noexcept nogil:
    cdef int groups = backlen_bytes(entry), group
    for group in range(groups - 1, -1, -1):
        cursor[0] = <uint8_t>(entry >> (7 * group) & 127)
        if group != groups - 1:
            cursor[0] |= 128
        cursor += 1
    return cursor


cdef int put_number(Output *out, int64_t number) except -1:
    """Append the entry of an integer."""
    cdef uint8_t *cursor
    cdef int width
    reserve(out, 10)
    cursor = out.data + out.size
    if 0 <= number <= 127:
        cursor[0] = <uint8_t>number
        cursor[1] = 1
        out.size += 2
        return 0
    if -4096 <= number <= 4095:
        cursor[0] = <uint8_t>(0xC0 | (number >> 8 & 0x1F))
        cursor[1] = <uint8_t>(number & 0xFF)
        cursor[2] = 2
        out.size += 3
        return 0
    if -32768 <= number <= 32767:
        cursor[0] = 0xF1
        width = 2
    elif -8388608 <= number <= 8388607:
        cursor[0] = 0xF2
        width = 3
    elif -2147483648 <= number <= 2147483647:
        cursor[0] = 0xF3
        width = 4
    else:
        cursor[0] = 0xF4
        width = 8
    memcpy(cursor + 1, &number, width)
    cursor[1 + width] = <uint8_t>(1 + width)
    out.size += 2 + width
    return 0


cdef int put_entry(Output *out, const uint8_t *text, Py_ssize_t size) except -1:
    """Append the entry of a text: as an integer where it is one."""
    cdef uint8_t *start
    cdef uint8_t *cursor
    cdef int64_t number = 0
    if integer64_of(text, size, &number):
        return put_number(out, number)
    if size > 0xFFFFFFFF:
        raise OverflowError("a listpack element is limited to 4 GiB")
    # Longest head 5 bytes, longest backlen 5.
    reserve(out, size + 10)
    start = cursor = out.data + out.size
    if size < 64:
        cursor[0] = <uint8_t>(0x80 | size)
        cursor += 1
    elif size < 4096:
        cursor[0] = <uint8_t>(0xE0 | size >> 8)
        cursor[1] = <uint8_t>(size & 0xFF)
        cursor += 2
    else:
        cursor[0] = 0xF0
        memcpy(cursor + 1, &size, 4)
        cursor += 5
    memcpy(cursor, text, size)
    cursor += size
    cursor = _put_backlen(cursor, cursor - start)
    out.size = cursor - out.data
    return 0


cdef int open_listpack(Output *out) except -1:
    """Begin a listpack in an output of its own, emptying it."""
    out.size = 0
    reserve(out, LISTPACK_HEADER_BYTES)
    out.size = LISTPACK_HEADER_BYTES
    return 0


cdef int close_listpack(Output *out, Py_ssize_t count) except -1:
    """End a listpack of `count` entries."""
    cdef uint32_t total
    reserve(out, 1)
    out.data[out.size] = 0xFF
    out.size += 1
    if out.size > 0xFFFFFFFF:
        raise OverflowError("a listpack is limited to 4 GiB")
    total = <uint32_t>out.size
    memcpy(out.data, &total, 4)
    if count > UNKNOWN_COUNT:
        count = UNKNOWN_COUNT
    memcpy(out.data + 4, &count, 2)
    return 0


def listpack_entry(bytes element not None):
    """See rdb.blobs.listpack.encode_entry."""
    cdef Output out
    cdef Py_ssize_t size = PyBytes_GET_SIZE(element)
    try:
        open_output(&out, size + 16, False)
        put_entry(&out, <const uint8_t *>PyBytes_AS_STRING(element), size)
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        close_output(&out)


def listpack_encode(elements not None):
    """See rdb.blobs.listpack.encode."""
    cdef Output out
    cdef object element
    cdef Py_ssize_t count = 0
    try:
        open_output(&out, 512, False)
        open_listpack(&out)
        for element in elements:
            if not is_bytes(<PyObject *>element):
                raise TypeError("elements must be bytes")
            put_entry(&out, bytes_data(<PyObject *>element), bytes_size(<PyObject *>element))
            count += 1
        close_listpack(&out, count)
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        close_output(&out)
