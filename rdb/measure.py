"""Where a value ends, found without decoding it and without starting over.

A value that the buffer does not hold yet is measured by a generator: it walks the value as
far as the bytes go, yields how long the buffer must be for its next step, and goes on from
there when more has arrived. So a list of a million elements that comes in small pieces is
walked once and decoded once, where repeated attempts to decode would take quadratic time.

The layouts are those of rdb.values; a test holds the two against each other on every type.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from rdb import constants as c
from rdb.dialect import REDIS, Dialect
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length

Measure = Generator[int, None, int]
"""Yields the buffer length needed next; returns the position after the value."""

_INT_STRING_BYTES = (2, 3, 5)
_RAW_ID_BYTES = 16
_MS_BYTES = 8


def measure_value(
    type_code: int, buffer: bytearray | bytes, pos: int, dialect: Dialect = REDIS
) -> Measure:
    """Measure the value at `pos`.

    Args:
        type_code: how it is encoded.
        buffer: grows at its end between steps, and must not change otherwise.
        pos: where the value starts.
        dialect: that of the file.

    Returns:
        A generator; it raises RdbError at bytes that cannot be walked. Cost: O(elements).
    """
    if type_code == c.TYPE_HASH_TEMPLATE_ARRAY_REF and not dialect.valkey:
        return _hash_template_array_ref(buffer, pos, dialect)
    walker = (_VALKEY_WALKERS if dialect.valkey else _WALKERS).get(type_code)
    if walker is None:
        raise RdbError(f"unknown value type {type_code}", offset=pos)
    return walker(buffer, pos)


def end_of_value(type_code: int, data: bytes, pos: int, dialect: Dialect = REDIS) -> int:
    """Return the position after the value at `pos`.

    Raises:
        Incomplete: the buffer ends inside it.
        RdbError: it cannot be walked. What it packs is not looked at.
    """
    try:
        needed = next(measure_value(type_code, data, pos, dialect))
    except StopIteration as stop:
        end: int = stop.value
        return end
    raise Incomplete(needed)


def _length(buffer: bytearray | bytes, pos: int) -> Generator[int, None, tuple[int, int]]:
    while True:
        try:
            return decode_length(buffer, pos)  # type: ignore[arg-type]
        except Incomplete as stop:
            yield stop.needed


def _skip(buffer: bytearray | bytes, end: int) -> Measure:
    while len(buffer) < end:
        yield end
    return end


def _string(buffer: bytearray | bytes, pos: int) -> Measure:
    return (yield from _strings(buffer, pos, 1))


def _strings(buffer: bytearray | bytes, pos: int, count: int) -> Measure:
    while count:
        count -= 1
        while len(buffer) <= pos:
            yield pos + 1
        first = buffer[pos]
        if first < 0x40:
            pos += 1 + first
        elif first < 0xC0:
            length, pos = yield from _length(buffer, pos)
            if length > c.MAX_STRING_BYTES:
                raise RdbError(f"a string of {length} bytes", offset=pos)
            pos += length
        elif first == 0xC0 | c.ENC_LZF:
            length, after = yield from _length(buffer, pos + 1)
            _, after = yield from _length(buffer, after)
            if length > c.MAX_STRING_BYTES:
                raise RdbError(f"an LZF string of {length} bytes", offset=pos)
            pos = after + length
        elif first & 0x3F < len(_INT_STRING_BYTES):
            pos += _INT_STRING_BYTES[first & 0x3F]
        else:
            raise RdbError(f"unknown string encoding {first & 0x3F}", offset=pos)
        # A later string is never looked at before the end of this one is there, so that the
        # length yielded grows.
        while len(buffer) < pos:
            yield pos
    return pos


def _strings_counted(factor: int) -> Callable[[bytearray | bytes, int], Measure]:
    def walk(buffer: bytearray | bytes, pos: int) -> Measure:
        count, pos = yield from _length(buffer, pos)
        return (yield from _strings(buffer, pos, count * factor))

    return walk


def _records(
    strings: int, fixed_bytes: int, *, head_bytes: int = 0, with_length: bool = False
) -> Callable[[bytearray | bytes, int], Measure]:
    """Walk `head_bytes`, a count, then that many of [length], strings, fixed bytes."""

    def walk(buffer: bytearray | bytes, pos: int) -> Measure:
        pos = yield from _skip(buffer, pos + head_bytes)
        count, pos = yield from _length(buffer, pos)
        while count:
            count -= 1
            if with_length:
                _, pos = yield from _length(buffer, pos)
            pos = yield from _strings(buffer, pos, strings)
            pos = yield from _skip(buffer, pos + fixed_bytes)
        return pos

    return walk


def _zset(buffer: bytearray | bytes, pos: int) -> Measure:
    count, pos = yield from _length(buffer, pos)
    while count:
        count -= 1
        pos = yield from _string(buffer, pos)
        pos = yield from _skip(buffer, pos + 1)
        size = buffer[pos - 1]
        if size < 253:
            pos = yield from _skip(buffer, pos + size)
    return pos


def _hash_listpack_ex(buffer: bytearray | bytes, pos: int) -> Measure:
    pos = yield from _skip(buffer, pos + _MS_BYTES)
    return (yield from _string(buffer, pos))


def _module(buffer: bytearray | bytes, pos: int) -> Measure:
    _, pos = yield from _length(buffer, pos)
    return (yield from _items(buffer, pos))


def _items(buffer: bytearray | bytes, pos: int) -> Measure:
    while True:
        start = pos
        code, pos = yield from _length(buffer, pos)
        if code == c.MODULE_EOF:
            return pos
        if code in (c.MODULE_SINT, c.MODULE_UINT):
            _, pos = yield from _length(buffer, pos)
        elif code == c.MODULE_FLOAT:
            pos = yield from _skip(buffer, pos + 4)
        elif code == c.MODULE_DOUBLE:
            pos = yield from _skip(buffer, pos + 8)
        elif code == c.MODULE_STRING:
            pos = yield from _string(buffer, pos)
        else:
            raise RdbError(f"unknown module item {code}", offset=start)


def _lengths(buffer: bytearray | bytes, pos: int, count: int) -> Measure:
    for _ in range(count):
        _, pos = yield from _length(buffer, pos)
    return pos


def _array(buffer: bytearray | bytes, pos: int) -> Measure:
    count, pos = yield from _length(buffer, pos)
    start = pos
    cursors, pos = yield from _length(buffer, pos)
    if cursors > 1:
        raise RdbError(f"array cursor flag {cursors}", offset=start)
    pos = yield from _lengths(buffer, pos, cursors)
    while count:
        count -= 1
        _, pos = yield from _length(buffer, pos)
        start = pos
        tag, pos = yield from _length(buffer, pos)
        if tag in (c.ARRAY_STRING, c.ARRAY_SHORT_STRING):
            pos = yield from _string(buffer, pos)
        elif tag in (c.ARRAY_INT, c.ARRAY_DOUBLE):
            pos = yield from _skip(buffer, pos + 8)
        else:
            raise RdbError(f"unknown array element {tag}", offset=start)
    return pos


def _hash_template_listpack(buffer: bytearray | bytes, pos: int) -> Measure:
    fields, pos = yield from _length(buffer, pos)
    return (yield from _strings(buffer, pos, fields + 1))


def _hash_template_array_ref(buffer: bytearray | bytes, pos: int, dialect: Dialect) -> Measure:
    start = pos
    template_id, pos = yield from _length(buffer, pos)
    return (yield from _strings(buffer, pos, len(dialect.template(template_id, start))))


def _stream(
    *, counters: bool, consumer_times: int, releases: bool = False, producers: bool = False
) -> Callable[[bytearray | bytes, int], Measure]:
    def walk(buffer: bytearray | bytes, pos: int) -> Measure:
        nodes, pos = yield from _length(buffer, pos)
        pos = yield from _strings(buffer, pos, 2 * nodes)
        pos = yield from _lengths(buffer, pos, 8 if counters else 3)
        groups, pos = yield from _length(buffer, pos)
        while groups:
            groups -= 1
            pos = yield from _string(buffer, pos)
            pos = yield from _lengths(buffer, pos, 3 if counters else 2)
            pending, pos = yield from _length(buffer, pos)
            while pending:
                pending -= 1
                pos = yield from _skip(buffer, pos + _RAW_ID_BYTES + _MS_BYTES)
                _, pos = yield from _length(buffer, pos)
            consumers, pos = yield from _length(buffer, pos)
            while consumers:
                consumers -= 1
                pos = yield from _string(buffer, pos)
                pos = yield from _skip(buffer, pos + consumer_times * _MS_BYTES)
                owned, pos = yield from _length(buffer, pos)
                pos = yield from _skip(buffer, pos + owned * _RAW_ID_BYTES)
            if releases:
                released, pos = yield from _length(buffer, pos)
                pos = yield from _skip(buffer, pos + released * _RAW_ID_BYTES)
        if producers:
            pos = yield from _producers(buffer, pos)
        return pos

    return walk


def _producers(buffer: bytearray | bytes, pos: int) -> Measure:
    pos = yield from _lengths(buffer, pos, 2)
    count, pos = yield from _length(buffer, pos)
    while count:
        count -= 1
        pos = yield from _string(buffer, pos)
        messages, pos = yield from _length(buffer, pos)
        while messages:
            messages -= 1
            pos = yield from _string(buffer, pos)
            pos = yield from _lengths(buffer, pos, 2)
    return (yield from _lengths(buffer, pos, 2))


_SHARED_WALKERS: dict[int, Callable[[bytearray | bytes, int], Measure]] = {
    c.TYPE_STRING: _string,
    c.TYPE_LIST: _strings_counted(1),
    c.TYPE_SET: _strings_counted(1),
    c.TYPE_ZSET: _zset,
    c.TYPE_HASH: _strings_counted(2),
    c.TYPE_ZSET_2: _records(1, 8),
    c.TYPE_MODULE_2: _module,
    c.TYPE_HASH_ZIPMAP: _string,
    c.TYPE_LIST_ZIPLIST: _string,
    c.TYPE_SET_INTSET: _string,
    c.TYPE_ZSET_ZIPLIST: _string,
    c.TYPE_HASH_ZIPLIST: _string,
    c.TYPE_LIST_QUICKLIST: _strings_counted(1),
    c.TYPE_STREAM_LISTPACKS: _stream(counters=False, consumer_times=1),
    c.TYPE_HASH_LISTPACK: _string,
    c.TYPE_ZSET_LISTPACK: _string,
    c.TYPE_LIST_QUICKLIST_2: _records(1, 0, with_length=True),
    c.TYPE_STREAM_LISTPACKS_2: _stream(counters=True, consumer_times=1),
    c.TYPE_SET_LISTPACK: _string,
    c.TYPE_STREAM_LISTPACKS_3: _stream(counters=True, consumer_times=2),
}
_WALKERS = _SHARED_WALKERS | {
    c.TYPE_HASH_METADATA_PRE_GA: _records(2, 0, with_length=True),
    c.TYPE_HASH_LISTPACK_EX_PRE_GA: _string,
    c.TYPE_HASH_METADATA: _records(2, 0, head_bytes=_MS_BYTES, with_length=True),
    c.TYPE_HASH_LISTPACK_EX: _hash_listpack_ex,
    c.TYPE_STREAM_LISTPACKS_4: _stream(counters=True, consumer_times=2, producers=True),
    c.TYPE_STREAM_LISTPACKS_5: _stream(
        counters=True, consumer_times=2, releases=True, producers=True
    ),
    c.TYPE_ARRAY: _array,
    c.TYPE_HASH_TEMPLATE_LISTPACK: _hash_template_listpack,
    c.TYPE_HASH_TEMPLATE_LISTPACK_REF: _string,
    c.TYPE_HASH_TEMPLATE_ARRAY: _strings_counted(2),
}
_VALKEY_WALKERS = _SHARED_WALKERS | {c.VALKEY_TYPE_HASH_2: _records(2, 8)}


def _hash_template(buffer: bytearray | bytes, pos: int) -> Measure:
    _, pos = yield from _length(buffer, pos)
    fields, pos = yield from _length(buffer, pos)
    return (yield from _strings(buffer, pos, fields))


def _key_metadata(buffer: bytearray | bytes, pos: int) -> Measure:
    classes, pos = yield from _length(buffer, pos)
    while classes:
        classes -= 1
        pos = yield from _skip(buffer, pos + 4)
        pos = yield from _items(buffer, pos)
    return pos


def _function_pre_ga(buffer: bytearray | bytes, pos: int) -> Measure:
    pos = yield from _strings(buffer, pos, 2)
    described, pos = yield from _length(buffer, pos)
    return (yield from _strings(buffer, pos, 2 if described else 1))


def _slot_import(buffer: bytearray | bytes, pos: int) -> Measure:
    pos = yield from _string(buffer, pos)
    ranges, pos = yield from _length(buffer, pos)
    return (yield from _lengths(buffer, pos, 2 * ranges))


_OPCODE_WALKERS: dict[int, Callable[[bytearray | bytes, int], Measure]] = {
    c.OP_AUX: lambda buffer, pos: _strings(buffer, pos, 2),
    c.OP_FUNCTION: _string,
    c.OP_FUNCTION_PRE_GA: _function_pre_ga,
    c.OP_SELECT_DB: lambda buffer, pos: _lengths(buffer, pos, 1),
    c.OP_RESIZE_DB: lambda buffer, pos: _lengths(buffer, pos, 2),
    c.OP_HASH_TEMPLATE: _hash_template,
    c.OP_SLOT_INFO: lambda buffer, pos: _lengths(buffer, pos, 3),
}
_PREFIX_BYTES = {c.OP_EXPIRE_MS: 8, c.OP_EXPIRE_S: 4, c.OP_FREQ: 1}


def measure_record(buffer: bytearray | bytes, pos: int, dialect: Dialect = REDIS) -> Measure:
    """Measure the whole record at `pos`, a key with what precedes it or anything else.

    Args:
        buffer, pos, dialect: see measure_value.

    Returns:
        A generator; it raises RdbError at bytes that are no record. The end record is measured
        without its checksum.
    """
    while True:
        yield from _skip(buffer, pos + 1)
        code = buffer[pos]
        pos += 1
        if code in _PREFIX_BYTES:
            pos = yield from _skip(buffer, pos + _PREFIX_BYTES[code])
        elif code == c.OP_IDLE:
            _, pos = yield from _length(buffer, pos)
        elif code == c.OP_KEY_METADATA and not dialect.valkey:
            pos = yield from _key_metadata(buffer, pos)
        else:
            break
    if code == c.OP_EOF:
        return pos
    if code == c.OP_SLOT_IMPORT:
        return (yield from _slot_import(buffer, pos))
    if code == c.OP_MODULE_AUX:
        # When it is to be loaded takes two lengths more than a value has before its items.
        pos = yield from _lengths(buffer, pos, 2)
        return (yield from _module(buffer, pos))
    if code in _OPCODE_WALKERS:
        return (yield from _OPCODE_WALKERS[code](buffer, pos))
    pos = yield from _string(buffer, pos)
    return (yield from measure_value(code, buffer, pos, dialect))
