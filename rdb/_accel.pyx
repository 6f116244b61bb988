# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled hot paths; each has its reference in Python, and the tests hold them equal.

    lzf_compress, lzf_decompress    rdb.lzf
    listpack_decode                 rdb.blobs.listpack
    listpack_encode, listpack_entry rdb.blobs.listpack
    read_strings                    rdb.strings.decode_strings_reference
    read_scored                     rdb.values, the loop of a type 5 sorted set
    parse_strings                   RdbReader._parse_key, for string values
    encode_elements                 rdb.values.encode_elements_reference
    encode_strings                  rdb.writer.encode_strings_reference

encode_strings and encode_elements run in the child of a fork. They declare the C API with PyObject* instead of
object, so that Cython has nothing to count: the dataset's reference counts, and with them the
pages they are on, stay as they are.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Malloc, PyMem_Realloc, PyMem_Free
from cpython.ref cimport PyObject, Py_INCREF
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from rdb.errors import RdbError
from rdb.records import Key

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject *(*tp_alloc)(PyTypeObject *, Py_ssize_t) except NULL
    int _exact_bytes "PyBytes_CheckExact" (PyObject *)
    char *_bytes_data "PyBytes_AS_STRING" (PyObject *)
    Py_ssize_t _bytes_size "PyBytes_GET_SIZE" (PyObject *)
    int _exact_dict "PyDict_CheckExact" (PyObject *)
    int _exact_list "PyList_CheckExact" (PyObject *)
    Py_ssize_t _list_size "PyList_GET_SIZE" (PyObject *)
    PyObject *_list_item "PyList_GET_ITEM" (PyObject *, Py_ssize_t)
    int _dict_next "PyDict_Next" (PyObject *, Py_ssize_t *, PyObject **, PyObject **)
    PyObject *_dict_get "PyDict_GetItemWithError" (PyObject *, PyObject *) except? NULL
    long long _as_long_long "PyLong_AsLongLong" (PyObject *) except? -1
    void _decref "Py_DECREF" (PyObject *)
    void _untrack "PyObject_GC_UnTrack" (PyObject *)
    void PyTuple_SET_ITEM(object, Py_ssize_t, object)

cdef enum:
    MAX_LITERAL = 32
    MAX_MATCH = 264
    MAX_DISTANCE = 8192
    MIN_TABLE_BITS = 8
    MAX_TABLE_BITS = 14
    MIN_SAVING = 4
    MIN_LZF_BYTES = 21
    MAX_LZF_RATIO = 88
    OP_EXPIRE_MS = 252


# --- LZF


cdef inline uint8_t *_put_literals(
    uint8_t *out, uint8_t *stop, const uint8_t *source, Py_ssize_t count
) noexcept nogil:
    """Append literals; NULL where they do not fit before `stop`."""
    cdef Py_ssize_t run
    while count:
        run = MAX_LITERAL if count > MAX_LITERAL else count
        if out + run + 1 > stop:
            return NULL
        out[0] = <uint8_t>(run - 1)
        memcpy(out + 1, source, run)
        out += run + 1
        source += run
        count -= run
    return out


cdef Py_ssize_t _lzf_compress(
    const uint8_t *data, Py_ssize_t size, uint8_t *out, Py_ssize_t limit, int32_t *table
) noexcept nogil:
    """Compress into at most `limit` bytes at `out`; 0 where that does not do.

    `table` has room for 1 << MAX_TABLE_BITS places. Inputs end below 2 GiB (the caller's care).
    """
    cdef int bits = MIN_TABLE_BITS, shift
    cdef Py_ssize_t pos = 0, literals_from = 0, candidate, length, longest, back
    cdef uint32_t slot
    cdef uint8_t *end = out + limit
    cdef uint8_t *start = out
    while bits < MAX_TABLE_BITS and (<Py_ssize_t>1 << bits) <= size:
        bits += 1
    shift = 32 - bits
    memset(table, 0xFF, sizeof(int32_t) << bits)
    while pos + 2 < size:
        slot = (<uint32_t>data[pos] << 16) | (<uint32_t>data[pos + 1] << 8) | data[pos + 2]
        slot = (slot * <uint32_t>2654435761) >> shift
        candidate = table[slot]
        table[slot] = <int32_t>pos
        if (
            candidate < 0
            or pos - candidate > MAX_DISTANCE
            or data[candidate] != data[pos]
            or data[candidate + 1] != data[pos + 1]
            or data[candidate + 2] != data[pos + 2]
        ):
            pos += 1
            continue
        length = 3
        longest = size - pos
        if longest > MAX_MATCH:
            longest = MAX_MATCH
        while length < longest and data[candidate + length] == data[pos + length]:
            length += 1
        out = _put_literals(out, end, data + literals_from, pos - literals_from)
        if out == NULL or out + 3 > end + (1 if length < 9 else 0):
            return 0
        back = pos - candidate - 1
        if length < 9:
            out[0] = <uint8_t>((length - 2) << 5 | back >> 8)
            out += 1
        else:
            out[0] = <uint8_t>(7 << 5 | back >> 8)
            out[1] = <uint8_t>(length - 9)
            out += 2
        out[0] = <uint8_t>(back & 0xFF)
        out += 1
        pos += length
        literals_from = pos
    out = _put_literals(out, end, data + literals_from, size - literals_from)
    if out == NULL:
        return 0
    return out - start


def lzf_compress(bytes data not None):
    """See rdb.lzf.compress."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t limit = size - MIN_SAVING
    cdef int32_t *table
    cdef uint8_t *out
    cdef Py_ssize_t packed
    if limit <= 0 or size > 0x7FFFFFFF:
        return None
    out = <uint8_t *>PyMem_Malloc(limit)
    table = <int32_t *>PyMem_Malloc(sizeof(int32_t) << MAX_TABLE_BITS)
    try:
        if out == NULL or table == NULL:
            raise MemoryError
        packed = _lzf_compress(
            <const uint8_t *>PyBytes_AS_STRING(data), size, out, limit, table
        )
        if not packed:
            return None
        return PyBytes_FromStringAndSize(<char *>out, packed)
    finally:
        PyMem_Free(out)
        PyMem_Free(table)


cdef int _lzf_decompress(
    const uint8_t *data, Py_ssize_t size, uint8_t *out, Py_ssize_t length
) noexcept nogil:
    """Decompress to exactly `length` bytes at `out`; 0 where the input does not."""
    cdef const uint8_t *end = data + size
    cdef uint8_t *start = out
    cdef uint8_t *stop = out + length
    cdef Py_ssize_t run, distance
    cdef uint8_t control
    cdef const uint8_t *source
    while data < end:
        control = data[0]
        data += 1
        if control < 32:
            run = control + 1
            if run > end - data or run > stop - out:
                return 0
            memcpy(out, data, run)
            data += run
            out += run
        else:
            run = control >> 5
            if run == 7:
                if data >= end:
                    return 0
                run += data[0]
                data += 1
            if data >= end:
                return 0
            distance = ((<Py_ssize_t>(control & 0x1F) << 8) | data[0]) + 1
            data += 1
            run += 2
            if distance > out - start or run > stop - out:
                return 0
            source = out - distance
            if run <= distance:
                memcpy(out, source, run)
                out += run
            else:
                while run:
                    out[0] = source[0]
                    out += 1
                    source += 1
                    run -= 1
    return out == stop


def lzf_decompress(bytes data not None, Py_ssize_t length):
    """See rdb.lzf.decompress."""
    cdef bytes result
    if length < 0 or length > PyBytes_GET_SIZE(data) * MAX_LZF_RATIO:
        raise RdbError("malformed LZF string")
    result = PyBytes_FromStringAndSize(NULL, length)
    if not _lzf_decompress(
        <const uint8_t *>PyBytes_AS_STRING(data),
        PyBytes_GET_SIZE(data),
        <uint8_t *>PyBytes_AS_STRING(result),
        length,
    ):
        raise RdbError("malformed LZF string")
    return result


# --- reading


cdef inline bytes _decimal(int64_t number):
    cdef char text[24]
    cdef char *cursor = text + 24
    cdef uint64_t rest = <uint64_t>number
    if number < 0:
        rest = 0 - rest
    while True:
        cursor -= 1
        cursor[0] = <char>(48 + rest % 10)
        rest //= 10
        if not rest:
            break
    if number < 0:
        cursor -= 1
        cursor[0] = 45
    return PyBytes_FromStringAndSize(cursor, text + 24 - cursor)


cdef inline int _length(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos, Py_ssize_t *length
) noexcept:
    """Read a length of up to 32 bits and step over it; 0 where that cannot be done."""
    cdef Py_ssize_t at = pos[0]
    cdef uint8_t first
    if at >= size:
        return 0
    first = data[at]
    if first < 0x40:
        length[0] = first
        pos[0] = at + 1
    elif first < 0x80:
        if at + 2 > size:
            return 0
        length[0] = (<Py_ssize_t>(first & 0x3F) << 8) | data[at + 1]
        pos[0] = at + 2
    elif first == 0x80:
        if at + 5 > size:
            return 0
        length[0] = (
            (<Py_ssize_t>data[at + 1] << 24)
            | (<Py_ssize_t>data[at + 2] << 16)
            | (<Py_ssize_t>data[at + 3] << 8)
            | data[at + 4]
        )
        pos[0] = at + 5
    else:
        return 0
    return 1


cdef inline object _string(const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos):
    """Read a string and step over it; None where the reference must look at it."""
    cdef Py_ssize_t at = pos[0], length = 0, packed = 0
    cdef bytes result
    if at >= size:
        return None
    if data[at] < 0xC0:
        if not _length(data, size, &at, &length) or length > size - at:
            return None
        pos[0] = at + length
        return PyBytes_FromStringAndSize(<const char *>data + at, length)
    if data[at] == 0xC0:
        if at + 2 > size:
            return None
        pos[0] = at + 2
        return _decimal(<signed char>data[at + 1])
    if data[at] == 0xC1:
        if at + 3 > size:
            return None
        pos[0] = at + 3
        return _decimal(<int16_t>(data[at + 1] | <unsigned>data[at + 2] << 8))
    if data[at] == 0xC2:
        if at + 5 > size:
            return None
        pos[0] = at + 5
        return _decimal(<int32_t>(
            data[at + 1]
            | <uint32_t>data[at + 2] << 8
            | <uint32_t>data[at + 3] << 16
            | <uint32_t>data[at + 4] << 24
        ))
    if data[at] == 0xC3:
        at += 1
        if not _length(data, size, &at, &packed) or not _length(data, size, &at, &length):
            return None
        if packed > size - at or length > packed * MAX_LZF_RATIO:
            return None
        result = PyBytes_FromStringAndSize(NULL, length)
        if not _lzf_decompress(
            data + at, packed, <uint8_t *>PyBytes_AS_STRING(result), length
        ):
            return None
        pos[0] = at + packed
        return result
    return None


def read_strings(bytes data not None, Py_ssize_t pos, Py_ssize_t count, list strings not None):
    """Append up to `count` - len(strings) strings that start at `pos`.

    Returns the position after the last; fewer than `count` are appended where one is cut off or
    malformed, for the reference to say which.
    """
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t left = count - len(strings)
    cdef object string
    while left > 0:
        string = _string(raw, size, &pos)
        if string is None:
            break
        strings.append(string)
        left -= 1
    return pos


def read_scored(bytes data not None, Py_ssize_t pos, Py_ssize_t count, list pairs not None):
    """Append up to `count` - len(pairs) pairs of a string and a little-endian double.

    Returns the position after the last; ends as read_strings does.
    """
    cdef const uint8_t *raw = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t left = count - len(pairs), at
    cdef double score
    cdef object member
    while left > 0:
        at = pos
        member = _string(raw, size, &at)
        if member is None or at + 8 > size:
            break
        memcpy(&score, raw + at, 8)
        if score != score:
            break
        pairs.append((member, score))
        pos = at + 8
        left -= 1
    return pos


cdef inline object _new_key(
    object db, object key, object type_code, object value, object expires_at_ms
):
    """Key(...), without the detour through the argument parsing of __new__."""
    cdef PyTypeObject *cls = <PyTypeObject *>Key
    cdef PyObject *made = cls.tp_alloc(cls, 7)
    cdef object record = <object>made
    # tp_alloc gave one reference and the assignment above took another.
    _decref(made)
    # It holds bytes and numbers only, so it is in no cycle, and a million of them would set the
    # collector off again and again (CPython does the same for plain tuples).
    _untrack(made)
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
        if raw[at] != 0:
            break
        at += 1
        key = _string(raw, size, &at)
        if key is None:
            break
        value = _string(raw, size, &at)
        if value is None:
            break
        records.append(_new_key(db, key, zero, value, expires_at_ms))
        pos = at
    return pos


cdef inline int _backlen_bytes(Py_ssize_t entry) noexcept:
    if entry <= 127:
        return 1
    if entry < 16383:
        return 2
    if entry < 2097151:
        return 3
    if entry < 268435455:
        return 4
    return 5


def listpack_decode(bytes blob not None):
    """See rdb.blobs.listpack.decode."""
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(blob)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(blob)
    cdef Py_ssize_t pos = 6, last = size - 1, begin, end, length, entry, rest
    cdef uint32_t total, count
    cdef uint64_t image
    cdef int width, group, groups
    cdef uint8_t first, expected
    cdef list elements = []
    cdef object element
    if size < 7:
        raise RdbError("listpack header does not give its size")
    total = data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24
    if total != size:
        raise RdbError("listpack header does not give its size")
    if data[last] != 0xFF:
        raise RdbError("listpack does not end in FF")
    while pos < last:
        first = data[pos]
        begin = pos + 1
        length = 0
        width = 0
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
                raise RdbError("listpack entry is cut off or has a wrong backlen")
            length = (
                data[begin]
                | <Py_ssize_t>data[begin + 1] << 8
                | <Py_ssize_t>data[begin + 2] << 16
                | <Py_ssize_t>data[begin + 3] << 24
            )
            begin += 4
        elif first == 0xF1:
            width = 2
        elif first == 0xF2:
            width = 3
        elif first == 0xF3:
            width = 4
        elif first == 0xF4:
            width = 8
        else:
            raise RdbError(f"unknown listpack encoding 0x{first:02x}")
        end = begin + length + width
        entry = end - pos
        groups = _backlen_bytes(entry)
        if end + groups > last:
            raise RdbError("listpack entry is cut off or has a wrong backlen")
        rest = entry
        for group in range(groups - 1, -1, -1):
            expected = <uint8_t>(rest & 127)
            if group:
                expected |= 128
            if data[end + group] != expected:
                raise RdbError("listpack entry is cut off or has a wrong backlen")
            rest >>= 7
        if first < 0x80:
            element = _decimal(first)
        elif not width:
            element = PyBytes_FromStringAndSize(<const char *>data + begin, length)
        elif width == 1:
            image = (<uint64_t>(first & 0x1F) << 8) | data[begin]
            element = _decimal(<int64_t>image - (8192 if image >= 4096 else 0))
        else:
            image = 0
            memcpy(&image, data + begin, width)
            if width < 8 and image >> (8 * width - 1):
                image |= <uint64_t>-1 << (8 * width)
            element = _decimal(<int64_t>image)
        elements.append(element)
        pos = end + groups
    count = data[4] | <uint32_t>data[5] << 8
    if count != 65535 and count != <uint32_t>len(elements):
        raise RdbError(f"listpack holds {len(elements)} entries, its header says {count}")
    return elements


# --- writing


cdef struct Output:
    uint8_t *data
    Py_ssize_t size
    Py_ssize_t room


cdef inline int _reserve(Output *out, Py_ssize_t more) except -1:
    cdef Py_ssize_t room
    cdef uint8_t *grown
    if out.size + more <= out.room:
        return 0
    room = out.room * 2
    if room < out.size + more:
        room = out.size + more
    grown = <uint8_t *>PyMem_Realloc(out.data, room)
    if grown == NULL:
        raise MemoryError
    out.data = grown
    out.room = room
    return 0


cdef inline uint8_t *_put_length(uint8_t *out, uint64_t length) noexcept nogil:
    cdef int shift
    if length < 64:
        out[0] = <uint8_t>length
        return out + 1
    if length < 16384:
        out[0] = <uint8_t>(0x40 | length >> 8)
        out[1] = <uint8_t>(length & 0xFF)
        return out + 2
    if length >> 32 == 0:
        out[0] = 0x80
        shift = 24
    else:
        out[0] = 0x81
        shift = 56
    out += 1
    while shift >= 0:
        out[0] = <uint8_t>(length >> shift & 0xFF)
        out += 1
        shift -= 8
    return out


cdef inline int _integer_of(const uint8_t *text, Py_ssize_t size, int32_t *number) noexcept nogil:
    """Whether `text`, 1..11 bytes, is the canonical decimal text of 32 bits."""
    cdef int64_t value = 0
    cdef Py_ssize_t at = 0
    cdef int negative = text[0] == 45
    if negative:
        at = 1
    if at == size:
        return 0
    if text[at] == 48:
        # "0" is canonical; "-0" and "007" are not.
        if size != 1:
            return 0
        number[0] = 0
        return 1
    while at < size:
        if text[at] < 48 or text[at] > 57:
            return 0
        value = value * 10 + (text[at] - 48)
        at += 1
    if negative:
        value = -value
    if value < -2147483648 or value > 2147483647:
        return 0
    number[0] = <int32_t>value
    return 1


cdef inline int _put_string(
    Output *out, const uint8_t *data, Py_ssize_t size, bint compress, int32_t *table
) except -1:
    cdef uint8_t *cursor
    cdef int32_t number = 0
    cdef Py_ssize_t packed, prefix
    # Longest prefix: 1 byte and two lengths of up to 9.
    _reserve(out, size + 19)
    cursor = out.data + out.size
    if size <= 11:
        if size and (data[0] <= 57 and _integer_of(data, size, &number)):
            if -128 <= number <= 127:
                cursor[0] = 0xC0
                cursor[1] = <uint8_t>number
                out.size += 2
            elif -32768 <= number <= 32767:
                cursor[0] = 0xC1
                cursor[1] = <uint8_t>(number & 0xFF)
                cursor[2] = <uint8_t>(number >> 8 & 0xFF)
                out.size += 3
            else:
                cursor[0] = 0xC2
                cursor[1] = <uint8_t>(number & 0xFF)
                cursor[2] = <uint8_t>(number >> 8 & 0xFF)
                cursor[3] = <uint8_t>(number >> 16 & 0xFF)
                cursor[4] = <uint8_t>(number >> 24 & 0xFF)
                out.size += 5
            return 0
    elif compress and size >= MIN_LZF_BYTES and size <= 0x7FFFFFFF:
        # Compressed past the room that the longest prefix takes, then moved up to the true one.
        packed = _lzf_compress(data, size, cursor + 19, size - MIN_SAVING, table)
        if packed:
            cursor[0] = 0xC3
            cursor = _put_length(_put_length(cursor + 1, packed), size)
            prefix = cursor - (out.data + out.size)
            memmove(cursor, out.data + out.size + 19, packed)
            out.size += prefix + packed
            return 0
    cursor = _put_length(cursor, size)
    memcpy(cursor, data, size)
    out.size = (cursor - out.data) + size
    return 0


cdef inline int _put_element(
    Output *out, PyObject *element, bint compress, int32_t *table
) except -1:
    if not _exact_bytes(element):
        raise TypeError("elements must be bytes")
    _put_string(
        out, <const uint8_t *>_bytes_data(element), _bytes_size(element), compress, table
    )
    return 0


def encode_elements(container not None, bint compress):
    """See rdb.values.encode_elements. A list and a dict lend their elements, others count them."""
    cdef PyObject *source = <PyObject *>container
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    cdef Py_ssize_t cursor = 0, count
    cdef object element
    cdef Output out
    cdef int32_t *table = NULL
    out.size = 0
    out.room = 1024
    out.data = <uint8_t *>PyMem_Malloc(out.room)
    try:
        table = <int32_t *>PyMem_Malloc(sizeof(int32_t) << MAX_TABLE_BITS)
        if out.data == NULL or table == NULL:
            raise MemoryError
        if _exact_dict(source):
            while _dict_next(source, &cursor, &key, &value):
                _put_element(&out, key, compress, table)
                _put_element(&out, value, compress, table)
        elif _exact_list(source):
            count = _list_size(source)
            while cursor < count:
                _put_element(&out, _list_item(source, cursor), compress, table)
                cursor += 1
        else:
            for element in container:
                _put_element(&out, <PyObject *>element, compress, table)
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        PyMem_Free(out.data)
        PyMem_Free(table)


# --- listpack


cdef inline int _int64_of(const uint8_t *text, Py_ssize_t size, int64_t *number) noexcept nogil:
    """Whether `text` is the canonical decimal text of 64 bits."""
    cdef uint64_t value = 0, digit, limit = 0x7FFFFFFFFFFFFFFF
    cdef Py_ssize_t at = 0
    if size == 0 or size > 20:
        return 0
    if text[0] == 45:
        at = 1
        limit += 1
        if size == 1:
            return 0
    if text[at] == 48:
        number[0] = 0
        return size == 1
    while at < size:
        if text[at] < 48 or text[at] > 57:
            return 0
        digit = text[at] - 48
        if value > (limit - digit) // 10:
            return 0
        value = value * 10 + digit
        at += 1
    number[0] = <int64_t>(0 - value if text[0] == 45 else value)
    return 1


cdef int _put_entry(Output *out, const uint8_t *text, Py_ssize_t size) except -1:
    cdef uint8_t *start
    cdef uint8_t *cursor
    cdef int64_t number = 0
    cdef int width = 0, group
    cdef Py_ssize_t entry
    # Longest head 5 bytes, longest backlen 5.
    _reserve(out, size + 10)
    start = cursor = out.data + out.size
    if _int64_of(text, size, &number):
        if 0 <= number <= 127:
            cursor[0] = <uint8_t>number
            cursor += 1
        elif -4096 <= number <= 4095:
            cursor[0] = <uint8_t>(0xC0 | (number >> 8 & 0x1F))
            cursor[1] = <uint8_t>(number & 0xFF)
            cursor += 2
        else:
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
            cursor += 1 + width
    else:
        if size < 64:
            cursor[0] = <uint8_t>(0x80 | size)
            cursor += 1
        elif size < 4096:
            cursor[0] = <uint8_t>(0xE0 | size >> 8)
            cursor[1] = <uint8_t>(size & 0xFF)
            cursor += 2
        else:
            if size > 0xFFFFFFFF:
                raise OverflowError("a listpack element is limited to 4 GiB")
            cursor[0] = 0xF0
            memcpy(cursor + 1, &size, 4)
            cursor += 5
        memcpy(cursor, text, size)
        cursor += size
    entry = cursor - start
    for group in range(_backlen_bytes(entry) - 1, -1, -1):
        cursor[0] = <uint8_t>(entry >> (7 * group) & 127)
        if cursor != start + entry:
            cursor[0] |= 128
        cursor += 1
    out.size = cursor - out.data
    return 0


def listpack_entry(bytes element not None):
    """See rdb.blobs.listpack.encode_entry."""
    cdef Output out
    out.size = 0
    out.room = PyBytes_GET_SIZE(element) + 16
    out.data = <uint8_t *>PyMem_Malloc(out.room)
    try:
        if out.data == NULL:
            raise MemoryError
        _put_entry(
            &out, <const uint8_t *>PyBytes_AS_STRING(element), PyBytes_GET_SIZE(element)
        )
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        PyMem_Free(out.data)


def listpack_encode(elements not None):
    """See rdb.blobs.listpack.encode."""
    cdef Output out
    cdef object element
    cdef Py_ssize_t count = 0
    cdef uint32_t total
    out.size = 6
    out.room = 512
    out.data = <uint8_t *>PyMem_Malloc(out.room)
    try:
        if out.data == NULL:
            raise MemoryError
        for element in elements:
            if type(element) is not bytes:
                raise TypeError("elements must be bytes")
            _put_entry(
                &out, <const uint8_t *>PyBytes_AS_STRING(element), PyBytes_GET_SIZE(element)
            )
            count += 1
        _reserve(&out, 1)
        out.data[out.size] = 0xFF
        out.size += 1
        if out.size > 0xFFFFFFFF:
            raise OverflowError("a listpack is limited to 4 GiB")
        total = <uint32_t>out.size
        memcpy(out.data, &total, 4)
        if count > 65535:
            count = 65535
        memcpy(out.data + 4, &count, 2)
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        PyMem_Free(out.data)


# --- a segment of the keyspace


def encode_strings(dict segment not None, dict expires not None, bint compress):
    """See rdb.writer.encode_strings."""
    cdef PyObject *source = <PyObject *>segment
    cdef PyObject *deadlines = <PyObject *>expires
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    cdef PyObject *deadline
    cdef Py_ssize_t cursor = 0, count = 0
    cdef bint any_expires = len(expires) > 0
    cdef int64_t instant_ms
    cdef list leftovers = []
    cdef Output out
    cdef int32_t *table = NULL
    out.size = 0
    out.room = 4096
    out.data = <uint8_t *>PyMem_Malloc(out.room)
    try:
        table = <int32_t *>PyMem_Malloc(sizeof(int32_t) << MAX_TABLE_BITS)
        if out.data == NULL or table == NULL:
            raise MemoryError
        while _dict_next(source, &cursor, &key, &value):
            if not _exact_bytes(value):
                leftovers.append(<object>key)
                continue
            if not _exact_bytes(key):
                raise TypeError("keys must be bytes")
            if any_expires:
                deadline = _dict_get(deadlines, key)
                if deadline != NULL:
                    instant_ms = _as_long_long(deadline)
                    _reserve(&out, 9)
                    out.data[out.size] = OP_EXPIRE_MS
                    memcpy(out.data + out.size + 1, &instant_ms, 8)
                    out.size += 9
            _reserve(&out, 1)
            out.data[out.size] = 0
            out.size += 1
            _put_string(
                &out, <const uint8_t *>_bytes_data(key), _bytes_size(key), compress, table
            )
            _put_string(
                &out, <const uint8_t *>_bytes_data(value), _bytes_size(value), compress, table
            )
            count += 1
        return PyBytes_FromStringAndSize(<char *>out.data, out.size), count, leftovers
    finally:
        PyMem_Free(out.data)
        PyMem_Free(table)
