# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Which values may be kept packed, compiled; rdb.packed.packed_end is the reference.

A value is judged where it lies in the input. Its elements are noted as texts, pointers into the
input or into an arena for what is compressed or stored as a number, and no object is made.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from rdb._listpack cimport Entry, begin_listpack, count_agrees, next_entry
from rdb._strings cimport (
    MAX_LZF_RATIO,
    decimal_digits,
    integer64_of,
    lzf_unpack,
    read_length,
    skip_length,
)

cdef enum:
    TYPE_SET = 2
    TYPE_HASH = 4
    TYPE_ZSET_2 = 5
    TYPE_SET_INTSET = 11
    TYPE_HASH_LISTPACK = 16
    TYPE_ZSET_LISTPACK = 17
    TYPE_LIST_QUICKLIST_2 = 18
    TYPE_STREAM_LISTPACKS_2 = 19
    NODE_PLAIN = 1
    NODE_PACKED = 2
    # As in rdb.packed.
    MAX_BYTES = 1 << 16
    MAX_ELEMENTS = 8192
    MAX_TEXT_BYTES = 1 << 18
    MAX_GROUPS = 64
    # What so many texts can take as blobs and as texts, each with head and backlen or as a number.
    ARENA_BYTES = 1 << 20
    SLOTS = 2 * MAX_ELEMENTS
    FEW = 12
    RAW_ID_BYTES = 16
    FLAG_DELETED = 1
    FLAG_SAME_FIELDS = 2


cdef int _take(Judge *judge, const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Note a text; 0 where that makes the value too large."""
    if judge.count == MAX_ELEMENTS or size > MAX_TEXT_BYTES - judge.text_bytes:
        return 0
    judge.texts[judge.count].data = data
    judge.texts[judge.count].size = size
    judge.count += 1
    judge.text_bytes += size
    return 1


cdef int _take_number(Judge *judge, int64_t number) noexcept nogil:
    cdef uint8_t *text = judge.arena + judge.used
    cdef int size
    if judge.used + 20 > ARENA_BYTES:
        return 0
    size = decimal_digits(number, text)
    judge.used += size
    return _take(judge, text, size)


cdef int _view(
    Judge *judge, const uint8_t *raw, Py_ssize_t size, Py_ssize_t *pos, Text *text
) noexcept nogil:
    """Look at the string at `pos` where it is, or unpacked in the arena; 0 where it has a flaw."""
    cdef Py_ssize_t at = pos[0], length = 0, packed = 0
    cdef int width
    cdef int64_t number
    if at >= size:
        return 0
    if raw[at] < 0xC0:
        if not read_length(raw, size, &at, &length) or length > size - at:
            return 0
        text.data = raw + at
        text.size = length
        pos[0] = at + length
        return 1
    if raw[at] <= 0xC2:
        width = 1 << (raw[at] - 0xC0)
        if at + 1 + width > size or judge.used + 20 > ARENA_BYTES:
            return 0
        if width == 1:
            number = <signed char>raw[at + 1]
        elif width == 2:
            number = <int16_t>(raw[at + 1] | <unsigned>raw[at + 2] << 8)
        else:
            memcpy(&packed, raw + at + 1, 4)
            number = <int32_t>packed
        text.data = judge.arena + judge.used
        text.size = decimal_digits(number, judge.arena + judge.used)
        judge.used += text.size
        pos[0] = at + 1 + width
        return 1
    if raw[at] != 0xC3:
        return 0
    at += 1
    if not read_length(raw, size, &at, &packed) or not read_length(raw, size, &at, &length):
        return 0
    if packed > size - at or length > packed * MAX_LZF_RATIO:
        return 0
    if length > ARENA_BYTES - judge.used:
        return 0
    if not lzf_unpack(raw + at, packed, judge.arena + judge.used, length):
        return 0
    text.data = judge.arena + judge.used
    text.size = length
    judge.used += length
    pos[0] = at + packed
    return 1


cdef int _take_strings(
    Judge *judge, const uint8_t *raw, Py_ssize_t size, Py_ssize_t *pos, Py_ssize_t count
) noexcept nogil:
    cdef Text text
    while count:
        if not _view(judge, raw, size, pos, &text) or not _take(judge, text.data, text.size):
            return 0
        count -= 1
    return 1


cdef int _take_listpack(
    Judge *judge, const uint8_t *raw, Py_ssize_t size, Py_ssize_t *pos
) noexcept nogil:
    """Note what a listpack holds; 0 where it has a flaw or is empty."""
    cdef Text blob
    cdef Entry entry
    cdef Py_ssize_t at = 0, before = judge.count
    if not _view(judge, raw, size, pos, &blob):
        return 0
    if begin_listpack(blob.data, blob.size, &at) != NULL:
        return 0
    while at < blob.size - 1:
        if next_entry(blob.data, blob.size - 1, &at, &entry) != NULL:
            return 0
        if entry.text == NULL:
            if not _take_number(judge, entry.number):
                return 0
        elif not _take(judge, entry.text, entry.size):
            return 0
    return judge.count > before and count_agrees(blob.data, judge.count - before)


cdef inline bint _same(Text *one, Text *other) noexcept nogil:
    return one.size == other.size and not memcmp(one.data, other.data, one.size)


cdef bint _different(Judge *judge, int step) noexcept nogil:
    """Whether every step-th text is another."""
    cdef Text *texts = judge.texts
    cdef Py_ssize_t i, j, count = judge.count, mask
    cdef uint64_t hashed
    cdef int32_t *slots = judge.slots
    if count <= FEW * step:
        i = step
        while i < count:
            j = 0
            while j < i:
                if _same(&texts[i], &texts[j]):
                    return False
                j += step
            i += step
        return True
    mask = 64
    while mask < 2 * count // step:
        mask *= 2
    memset(slots, 0xFF, mask * sizeof(int32_t))
    mask -= 1
    i = 0
    while i < count:
        hashed = 14695981039346656037ULL  # FNV-1a
        for j in range(texts[i].size):
            hashed = (hashed ^ texts[i].data[j]) * 1099511628211ULL
        j = <Py_ssize_t>((hashed ^ hashed >> 32) & <uint64_t>mask)
        while slots[j] >= 0:
            if _same(&texts[i], &texts[slots[j]]):
                return False
            j = (j + 1) & mask
        slots[j] = <int32_t>i
        i += step
    return True


cdef Py_ssize_t _longest(Judge *judge) noexcept nogil:
    cdef Py_ssize_t i, longest = 0
    for i in range(judge.count):
        longest = max(longest, judge.texts[i].size)
    return longest


cdef bint _all_integers(Judge *judge) noexcept nogil:
    cdef int64_t number
    cdef Py_ssize_t i
    for i in range(judge.count):
        if not integer64_of(judge.texts[i].data, judge.texts[i].size, &number):
            return False
    return True


cdef Py_ssize_t _digits(const uint8_t *text, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    while at < size and 48 <= text[at] <= 57:
        at += 1
    return at


cdef bint _is_score(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """Whether a text is a number as Redis writes scores: rdb.packed._PLAIN_SCORE."""
    cdef Py_ssize_t at = 0, begin
    if size and text[0] == 45:
        at = 1
    if size - at == 3 and not memcmp(text + at, b"inf", 3):
        return True
    begin = at
    at = _digits(text, at, size)
    if at == begin:
        return False
    if at < size and text[at] == 46:
        begin = at + 1
        at = _digits(text, begin, size)
        if at == begin:
            return False
    if at < size and text[at] == 101:
        begin = at + 1
        if begin < size and (text[begin] == 43 or text[begin] == 45):
            begin += 1
        at = _digits(text, begin, size)
        if at == begin:
            return False
    return at == size


cdef bint _is_intset(const uint8_t *data, Py_ssize_t size, Py_ssize_t most) noexcept nogil:
    cdef uint32_t width = 0, count = 0, i
    cdef int64_t number = 0, previous = 0
    cdef int16_t small
    cdef int32_t middle
    if size < 8:
        return False
    memcpy(&width, data, 4)
    memcpy(&count, data + 4, 4)
    if (width != 2 and width != 4 and width != 8) or not 0 < <int64_t>count <= most:
        return False
    if size != 8 + <int64_t>width * count:
        return False
    data += 8
    for i in range(count):
        if width == 2:
            memcpy(&small, data, 2)
            number = small
        elif width == 4:
            memcpy(&middle, data, 4)
            number = middle
        else:
            memcpy(&number, data, 8)
        if i and number <= previous:
            return False
        previous = number
        data += width
    return True


# --- streams


cdef struct Id:
    uint64_t ms
    uint64_t seq


cdef inline uint64_t _big_endian(const uint8_t *raw) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(8):
        number = number << 8 | raw[i]
    return number


cdef int _number(
    const uint8_t *data, Py_ssize_t last, Py_ssize_t *pos, int64_t *number
) noexcept nogil:
    """Read a listpack entry that is an integer, or its text."""
    cdef Entry entry
    if next_entry(data, last, pos, &entry) != NULL:
        return 0
    if entry.text == NULL:
        number[0] = entry.number
        return 1
    return integer64_of(entry.text, entry.size, number)


cdef int _skip(
    const uint8_t *data, Py_ssize_t last, Py_ssize_t *pos, Py_ssize_t count
) noexcept nogil:
    cdef Entry entry
    while count:
        if next_entry(data, last, pos, &entry) != NULL:
            return 0
        count -= 1
    return 1


cdef Py_ssize_t _take_node(
    Judge *judge, const uint8_t *raw, Py_ssize_t size, Py_ssize_t *pos, Id *above, bint *first
) noexcept nogil:
    """Walk a node, whose entries come after `above` unless it is the first.

    Returns the number of entries that are not deleted, -1 where it has a flaw.
    """
    cdef Text text, blob
    cdef Py_ssize_t at = 0, last, elements, taken, living = 0, gone = 0, used = judge.used
    cdef int64_t number, count, deleted, width, flags, ms, seq
    cdef Id master, entry
    if not _view(judge, raw, size, pos, &text) or text.size != RAW_ID_BYTES:
        return -1
    master.ms = _big_endian(text.data)
    master.seq = _big_endian(text.data + 8)
    if not _view(judge, raw, size, pos, &blob) or blob.size > MAX_TEXT_BYTES - judge.text_bytes:
        return -1
    judge.text_bytes += blob.size
    if begin_listpack(blob.data, blob.size, &at) != NULL:
        return -1
    last = blob.size - 1
    if not _number(blob.data, last, &at, &count) or not _number(blob.data, last, &at, &deleted):
        return -1
    if not _number(blob.data, last, &at, &width) or not 0 <= width <= MAX_ELEMENTS:
        return -1
    if not _skip(blob.data, last, &at, width) or not _number(blob.data, last, &at, &number):
        return -1
    if number:
        return -1
    taken = 4 + width
    while at < last:
        if not _number(blob.data, last, &at, &flags) or not _number(blob.data, last, &at, &ms):
            return -1
        if not _number(blob.data, last, &at, &seq):
            return -1
        elements = 3 + width
        number = width
        if not flags & FLAG_SAME_FIELDS:
            if not _number(blob.data, last, &at, &number) or not 0 <= number <= MAX_ELEMENTS:
                return -1
            number *= 2
            elements = 4 + number
        if not _skip(blob.data, last, &at, number) or not _number(blob.data, last, &at, &number):
            return -1
        taken += elements + 1
        if number != elements or taken > MAX_ELEMENTS:
            return -1
        if flags & FLAG_DELETED:
            gone += 1
            continue
        entry.ms = master.ms + <uint64_t>ms
        entry.seq = master.seq + <uint64_t>seq
        if not first[0] and (
            entry.ms < above.ms or (entry.ms == above.ms and entry.seq <= above.seq)
        ):
            return -1
        above[0] = entry
        first[0] = False
        living += 1
    judge.count += taken
    judge.used = used
    if living != count or gone != deleted or judge.count > MAX_ELEMENTS:
        return -1
    return living if count_agrees(blob.data, taken) else -1


cdef Text *_pending(Text *ids, Py_ssize_t count, const uint8_t *raw_id) noexcept nogil:
    """Find an id among ascending ones; NULL where it is not there."""
    cdef Py_ssize_t low = 0, high = count, middle
    cdef int order
    while low < high:
        middle = (low + high) // 2
        order = memcmp(ids[middle].data, raw_id, RAW_ID_BYTES)
        if not order:
            return &ids[middle]
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return NULL


cdef int _take_group(
    Judge *judge, const uint8_t *raw, Py_ssize_t size, Py_ssize_t *pos, Text *name
) noexcept nogil:
    """Walk a group: its pending entries ascend and each is owned by one consumer."""
    cdef Text *texts = judge.texts
    cdef Text *owned
    cdef Py_ssize_t at, skipped = 0, pending = 0, consumers = 0, count = 0, owners = 0, i, j
    if not _view(judge, raw, size, pos, name):
        return 0
    at = pos[0]
    for i in range(3):
        if not skip_length(raw, size, &at):
            return 0
    if not read_length(raw, size, &at, &pending) or pending > MAX_ELEMENTS:
        return 0
    for i in range(pending):
        if at + RAW_ID_BYTES + 8 > size:
            return 0
        texts[i].data = raw + at
        texts[i].size = 0  # owners
        if i and memcmp(texts[i - 1].data, raw + at, RAW_ID_BYTES) >= 0:
            return 0
        at += RAW_ID_BYTES + 8
        if not read_length(raw, size, &at, &skipped):
            return 0
    if not read_length(raw, size, &at, &consumers) or consumers > MAX_ELEMENTS - pending:
        return 0
    for i in range(pending, pending + consumers):
        if not _view(judge, raw, size, &at, &texts[i]):
            return 0
        for j in range(pending, i):
            if _same(&texts[i], &texts[j]):
                return 0
        at += 8
        if at > size or not read_length(raw, size, &at, &count):
            return 0
        if count > pending or at + count * RAW_ID_BYTES > size:
            return 0
        owners += count
        for j in range(count):
            owned = _pending(texts, pending, raw + at)
            if owned == NULL or owned.size:
                return 0
            owned.size = 1
            at += RAW_ID_BYTES
    pos[0] = at
    return owners == pending


cdef int _take_stream(
    Judge *judge, const uint8_t *raw, Py_ssize_t size, Py_ssize_t *pos, Py_ssize_t nodes
) noexcept nogil:
    """Walk a stream of Redis 7.0 from behind the number of its nodes."""
    cdef Text names[MAX_GROUPS]
    cdef Id above = [0, 0]
    cdef bint first = True
    cdef Py_ssize_t living = 0, walked, number = 0, groups = 0, i, j
    while nodes:
        walked = _take_node(judge, raw, size, pos, &above, &first)
        if walked < 0:
            return 0
        living += walked
        nodes -= 1
    if not read_length(raw, size, pos, &number) or number != living:
        return 0
    for i in range(7):  # last, first and highest deleted id, entries added
        if not skip_length(raw, size, pos):
            return 0
    if not read_length(raw, size, pos, &groups) or groups > MAX_GROUPS:
        return 0
    for i in range(groups):
        if not _take_group(judge, raw, size, pos, &names[i]):
            return 0
        for j in range(i):
            if _same(&names[i], &names[j]):
                return 0
    return 1


# --- the judge


cdef Py_ssize_t end_of_packed(
    Judge *judge, int code, const uint8_t *raw, Py_ssize_t size, Py_ssize_t pos
) noexcept nogil:
    """See rdb.packed.packed_end; -1 for None."""
    cdef Py_ssize_t start = pos, count = 0, kind = 0, i
    cdef Text text
    cdef double score
    judge.count = judge.text_bytes = judge.used = 0
    if code == TYPE_SET_INTSET:
        if not _view(judge, raw, size, &pos, &text) or not _is_intset(
            text.data, text.size, min(MAX_ELEMENTS, judge.intset_entries)
        ):
            return -1
    elif code == TYPE_HASH_LISTPACK or code == TYPE_ZSET_LISTPACK:
        if not _take_listpack(judge, raw, size, &pos) or judge.count % 2:
            return -1
        count = judge.count // 2
        if count > (judge.hash_entries if code == TYPE_HASH_LISTPACK else judge.zset_entries):
            return -1
        if not _different(judge, 2):
            return -1
        if code == TYPE_ZSET_LISTPACK:
            for i in range(1, judge.count, 2):
                if not _is_score(judge.texts[i].data, judge.texts[i].size):
                    return -1
    elif code == TYPE_STREAM_LISTPACKS_2:
        if not read_length(raw, size, &pos, &count) or count > MAX_ELEMENTS:
            return -1
        if not _take_stream(judge, raw, size, &pos, count):
            return -1
    else:
        if not read_length(raw, size, &pos, &count) or not 0 < count <= MAX_ELEMENTS:
            return -1
        if code == TYPE_LIST_QUICKLIST_2:
            while count:
                if not read_length(raw, size, &pos, &kind):
                    return -1
                if kind == NODE_PLAIN:
                    if not _take_strings(judge, raw, size, &pos, 1):
                        return -1
                elif kind != NODE_PACKED or not _take_listpack(judge, raw, size, &pos):
                    return -1
                count -= 1
        elif code == TYPE_SET:
            if not _take_strings(judge, raw, size, &pos, count) or not _different(judge, 1):
                return -1
            if count <= judge.intset_entries and _all_integers(judge):
                return -1
        elif code == TYPE_HASH:
            if not _take_strings(judge, raw, size, &pos, 2 * count) or not _different(judge, 2):
                return -1
            if count <= judge.hash_entries and _longest(judge) <= judge.hash_value:
                return -1
        else:
            for i in range(count):
                if not _take_strings(judge, raw, size, &pos, 1) or pos + 8 > size:
                    return -1
                memcpy(&score, raw + pos, 8)
                if score != score:
                    return -1
                pos += 8
            if not _different(judge, 1):
                return -1
            if count <= judge.zset_entries and _longest(judge) <= judge.zset_value:
                return -1
    return pos if pos - start <= MAX_BYTES else -1


cdef int open_judge(Judge *judge, object limits) except -1:
    memset(judge, 0, sizeof(Judge))
    judge.texts = <Text *>PyMem_Malloc(MAX_ELEMENTS * sizeof(Text))
    judge.arena = <uint8_t *>PyMem_Malloc(ARENA_BYTES)
    judge.slots = <int32_t *>PyMem_Malloc(SLOTS * sizeof(int32_t))
    if judge.texts == NULL or judge.arena == NULL or judge.slots == NULL:
        raise MemoryError
    judge.hash_entries = limits.hash_max_listpack_entries
    judge.hash_value = limits.hash_max_listpack_value
    judge.intset_entries = limits.set_max_intset_entries
    judge.zset_entries = limits.zset_max_listpack_entries
    judge.zset_value = limits.zset_max_listpack_value
    return 0


cdef void close_judge(Judge *judge) noexcept:
    PyMem_Free(judge.texts)
    PyMem_Free(judge.arena)
    PyMem_Free(judge.slots)


def packed_end(int type_code, bytes data not None, Py_ssize_t pos, object limits):
    """See rdb.packed.packed_end; for the tests, which hold the two equal."""
    cdef Judge judge
    cdef Py_ssize_t end
    try:
        open_judge(&judge, limits)
        end = end_of_packed(
            &judge, type_code, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), pos
        )
        return None if end < 0 else end
    finally:
        close_judge(&judge)
