# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Strings of an RDB, compiled; each function has its reference in Python.

    lzf_compress, lzf_decompress    rdb.lzf
    read_strings                    rdb.strings.decode_strings_reference
    read_scored                     rdb.values, the loop of a type 5 sorted set
    encode_elements                 rdb.values.encode_elements_reference

_strings.pxd lists what the other compiled modules use.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from rdb.errors import RdbError

cdef enum:
    MAX_LITERAL = 32
    MAX_MATCH = 264
    MAX_DISTANCE = 8192
    MIN_TABLE_BITS = 8
    MIN_SAVING = 4
    MIN_LONGER = 3
    SAMPLED_BYTES = 64
    STRIDE = 7
    WINDOW_BYTES = 4
    MIN_LZF_BYTES = 21


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
    cdef Py_ssize_t longer = 0
    cdef bint is_sampled = size > SAMPLED_BYTES
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
        longer += length - 3
        is_sampled |= (STRIDE - candidate % STRIDE) % STRIDE + WINDOW_BYTES <= length
    out = _put_literals(out, end, data + literals_from, size - literals_from)
    if out == NULL or longer < MIN_LONGER or not is_sampled:
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


cdef int lzf_unpack(
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
    if not lzf_unpack(
        <const uint8_t *>PyBytes_AS_STRING(data),
        PyBytes_GET_SIZE(data),
        <uint8_t *>PyBytes_AS_STRING(result),
        length,
    ):
        raise RdbError("malformed LZF string")
    return result


# --- reading


cdef int decimal_digits(int64_t number, uint8_t *text) noexcept nogil:
    """Write the decimal text of a number to `text`, which has room for 20 bytes; its length."""
    cdef uint8_t reversed[20]
    cdef uint64_t rest = <uint64_t>number
    cdef int digits = 0, size = 0
    if number < 0:
        rest = 0 - rest
        text[0] = 45
        size = 1
    while True:
        reversed[digits] = <uint8_t>(48 + rest % 10)
        digits += 1
        rest //= 10
        if not rest:
            break
    while digits:
        digits -= 1
        text[size] = reversed[digits]
        size += 1
    return size


cdef bytes decimal_text(int64_t number):
    """The decimal text of a number."""
    cdef uint8_t text[20]
    cdef int size = decimal_digits(number, text)
    return PyBytes_FromStringAndSize(<char *>text, size)


cdef int read_length(
    const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos, Py_ssize_t *length
) noexcept nogil:
    """Read a length and step over it; 0 where that cannot be done."""
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
    elif first == 0x81:
        if at + 9 > size or data[at + 1] & 0x80:
            return 0
        length[0] = 0
        for first in range(1, 9):
            length[0] = length[0] << 8 | data[at + first]
        pos[0] = at + 9
    else:
        return 0
    return 1


cdef int skip_length(const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos) noexcept nogil:
    """Step over a length, which may be any number of 64 bits; 0 where that cannot be done."""
    cdef Py_ssize_t length = 0
    if pos[0] >= size:
        return 0
    if data[pos[0]] == 0x81:
        if pos[0] + 9 > size:
            return 0
        pos[0] += 9
        return 1
    return read_length(data, size, pos, &length)


cdef object read_string(const uint8_t *data, Py_ssize_t size, Py_ssize_t *pos):
    """Read a string and step over it; None where the reference must look at it."""
    cdef Py_ssize_t at = pos[0], length = 0, packed = 0
    cdef bytes result
    if at >= size:
        return None
    if data[at] < 0xC0:
        if not read_length(data, size, &at, &length) or length > size - at:
            return None
        pos[0] = at + length
        return PyBytes_FromStringAndSize(<const char *>data + at, length)
    if data[at] == 0xC0:
        if at + 2 > size:
            return None
        pos[0] = at + 2
        return decimal_text(<signed char>data[at + 1])
    if data[at] == 0xC1:
        if at + 3 > size:
            return None
        pos[0] = at + 3
        return decimal_text(<int16_t>(data[at + 1] | <unsigned>data[at + 2] << 8))
    if data[at] == 0xC2:
        if at + 5 > size:
            return None
        pos[0] = at + 5
        return decimal_text(<int32_t>(
            data[at + 1]
            | <uint32_t>data[at + 2] << 8
            | <uint32_t>data[at + 3] << 16
            | <uint32_t>data[at + 4] << 24
        ))
    if data[at] == 0xC3:
        at += 1
        if not read_length(data, size, &at, &packed) or not read_length(data, size, &at, &length):
            return None
        if packed > size - at or length > packed * MAX_LZF_RATIO:
            return None
        result = PyBytes_FromStringAndSize(NULL, length)
        if not lzf_unpack(
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
        string = read_string(raw, size, &pos)
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
        member = read_string(raw, size, &at)
        if member is None or at + 8 > size:
            break
        memcpy(&score, raw + at, 8)
        if score != score:
            break
        pairs.append((member, score))
        pos = at + 8
        left -= 1
    return pos


# --- writing


cdef int open_output(Output *out, Py_ssize_t room, bint compress) except -1:
    """Begin an output; close_output ends it, whatever happened."""
    out.size = 0
    out.room = room
    out.table = NULL
    out.data = <uint8_t *>PyMem_Malloc(room)
    if compress:
        out.table = <int32_t *>PyMem_Malloc(sizeof(int32_t) << MAX_TABLE_BITS)
    if out.data == NULL or (compress and out.table == NULL):
        raise MemoryError
    return 0


cdef void close_output(Output *out) noexcept:
    PyMem_Free(out.data)
    PyMem_Free(out.table)
    out.data = NULL
    out.table = NULL


cdef int grow(Output *out, Py_ssize_t more) except -1:
    """Make room for `more` bytes where there is not enough; use `reserve`."""
    cdef Py_ssize_t room = max(out.room * 2, out.size + more)
    cdef uint8_t *grown = <uint8_t *>PyMem_Realloc(out.data, room)
    if grown == NULL:
        raise MemoryError
    out.data = grown
    out.room = room
    return 0


cdef int put_raw(Output *out, const uint8_t *data, Py_ssize_t size) except -1:
    """Append bytes as they are."""
    reserve(out, size)
    memcpy(out.data + out.size, data, size)
    out.size += size
    return 0


cdef uint8_t *put_length(uint8_t *out, uint64_t length) noexcept nogil:
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


cdef int integer64_of(const uint8_t *text, Py_ssize_t size, int64_t *number) noexcept nogil:
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


cdef int put_string(Output *out, const uint8_t *data, Py_ssize_t size) except -1:
    """Append a string in the form that Redis would choose; see rdb.strings.encode_string."""
    cdef uint8_t *cursor
    cdef int32_t number = 0
    cdef Py_ssize_t packed, prefix
    # Longest prefix: 1 byte and two lengths of up to 9.
    reserve(out, size + 19)
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
    elif out.table != NULL and size >= MIN_LZF_BYTES and size <= 0x7FFFFFFF:
        # Compressed past the room that the longest prefix takes, then moved up to the true one.
        packed = _lzf_compress(data, size, cursor + 19, size - MIN_SAVING, out.table)
        if packed:
            cursor[0] = 0xC3
            cursor = put_length(put_length(cursor + 1, packed), size)
            prefix = cursor - (out.data + out.size)
            memmove(cursor, out.data + out.size + 19, packed)
            out.size += prefix + packed
            return 0
    cursor = put_length(cursor, size)
    memcpy(cursor, data, size)
    out.size = (cursor - out.data) + size
    return 0


cdef int _put_element(Output *out, PyObject *element) except -1:
    if not is_bytes(element):
        raise TypeError("elements must be bytes")
    return put_string(out, bytes_data(element), bytes_size(element))


def encode_elements(container not None, bint compress):
    """See rdb.values.encode_elements. A list and a dict lend their elements, others count them."""
    cdef PyObject *source = <PyObject *>container
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    cdef Py_ssize_t cursor = 0, count
    cdef object element
    cdef Output out
    try:
        open_output(&out, 1024, compress)
        if is_dict(source):
            while dict_next(source, &cursor, &key, &value):
                _put_element(&out, key)
                _put_element(&out, value)
        elif is_list(source):
            count = list_size(source)
            while cursor < count:
                _put_element(&out, list_item(source, cursor))
                cursor += 1
        else:
            for element in container:
                _put_element(&out, <PyObject *>element)
        return PyBytes_FromStringAndSize(<char *>out.data, out.size)
    finally:
        close_output(&out)
