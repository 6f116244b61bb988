"""The reader: bytes in, records out, whatever the pieces they come in.

    header -> records -> end
                           `- what follows the end is kept in `unused`

A record that is not all there yet is kept and tried again when enough has arrived. "Enough" is
exact for strings; a long value is measured step by step (rdb.measure) so that small pieces do
not make it quadratic. Most of the time a piece holds many records whole, and those are decoded
straight from it, without a copy; runs of string keys, and with raw_values of most others, go
through a compiled loop where the accelerator is built.

    _carry        bytes of the unfinished record, None between records
    _needed       length of _carry at which another attempt makes sense
    _measure      the walk through its value, once it is known to be a key

Invariants: `offset` is the number of bytes of the RDB consumed as whole records; every byte
consumed is in the running checksum; the records are the same for any split of the input; after
an error nothing more is yielded.

Neither duplicate keys nor empty collections are refused here. A set of all keys would cost as
much memory as the dataset; the consumer that stores the keys sees twins for nothing (Redis
gives up at one) and skips keys that `is_empty` (as Redis does).

Source: rdbLoadRioWithLoadingCtx in rdb.c.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from rdb import constants as c
from rdb.accel import accel
from rdb.checksum import crc64
from rdb.dialect import Dialect
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length
from rdb.measure import Measure, end_of_value, measure_value
from rdb.modules import decode_metadata, module_name, skip_items
from rdb.parts import Splitter, splits
from rdb.records import (
    Aux,
    End,
    Function,
    HashTemplate,
    Header,
    Key,
    KeyMetadata,
    ModuleAux,
    Part,
    Record,
    ResizeDb,
    SelectDb,
    SlotImport,
    SlotInfo,
)
from rdb.strings import decode_string
from rdb.templates import decode_template
from rdb.values import decode_value

_STRING_RUN_STARTS = frozenset((c.TYPE_STRING, c.OP_EXPIRE_MS))
_RAW_RUN_STARTS = frozenset((*range(c.TYPE_SET_LISTPACK + 1), c.OP_EXPIRE_MS))
_MAX_DB = 0x7FFFFFFF
_FIRST_OPCODE = 200
"""Whatever is below is a value type."""
_MAX_SLOT_RANGES = 16384


class RdbReader:
    """Turns the bytes of one RDB into records.

    Args:
        verify_checksum: whether to compute and compare the checksum at the end.
        raw_values: give `Key.value` as its encoded bytes instead of decoding it.
        accelerate: whether the compiled loop may be used; for tests.
        take: called with (data, position, database) where a key may stand; it takes as many keys
            as it likes (rdb.keys) and returns the position after them. Those do not come as
            records, and it may see keys before records that stand in front of them were read.
        part_bytes: give a value that takes more bytes than this in parts (rdb.parts), 0 all
            values whole. Memory is then bounded by some thirty times this (what Python takes for
            short elements), the largest element, and the piece that was fed.

    Attributes:
        finished: whether the end was reached.
        offset: bytes of the RDB consumed.
        unused: bytes that came after the end of the RDB.
        dialect: what its type codes mean; needed to decode what raw_values leaves encoded.
    """

    def __init__(
        self,
        *,
        verify_checksum: bool = True,
        raw_values: bool = False,
        accelerate: bool = True,
        take: Callable[[bytes, int, int], int] | None = None,
        part_bytes: int = 0,
    ) -> None:
        if raw_values and part_bytes:
            raise ValueError("a value that stays encoded cannot come in parts")
        self.finished = False
        self.offset = 0
        self.unused = b""
        self._verify_checksum = verify_checksum
        self._raw_values = raw_values
        # The compiled loop, and the first bytes of records at which it is tried.
        self._parse_run: Callable[[bytes, int, int, list[Record]], int] | None = None
        self._run_starts: Container[int] = ()
        if accelerate and accel is not None:
            self._parse_run = accel.parse_raw if raw_values else accel.parse_strings
            self._run_starts = _RAW_RUN_STARTS if raw_values else _STRING_RUN_STARTS
        self._take = take
        self._part_bytes = part_bytes
        # The key that comes in parts at the moment: its record but for the value, and its parts.
        self._head: Key | None = None
        self._splitter: Splitter | None = None
        self._parts = 0
        self._carry: bytearray | None = None
        self._needed = 0
        self._measure: Measure | None = None
        # (type code, where its value starts in _carry, key) of a key whose value goes on.
        self._unfinished: tuple[int, int, bytes] | None = None
        self._error: RdbError | None = None
        self._crc = 0
        self._version = -1
        self.dialect = Dialect()
        self._db = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[Record]:
        """Take the next piece.

        Args:
            data: any number of bytes, in order; not kept unless of type bytes.

        Returns:
            The records that are now whole. Cost: O(len(data)) over the whole input.

        Raises:
            RdbError: the input is malformed. Records before the damage are returned first,
                and the error is then raised by the next call of `feed` or `close`.
        """
        if self._error is not None:
            raise self._error
        if self.finished:
            self.unused += data
            return []
        records: list[Record] = []
        try:
            whole = self._accumulate(data)
            if whole is not None:
                pos = self._parse(whole, records)
                self._consume(whole, pos)
        except RdbError as error:
            failure = self._fail(error)
            if not records:
                raise failure from None
        return records

    def close(self) -> None:
        """Say that there is no more input.

        Raises:
            RdbError: the RDB did not end, or was malformed.
        """
        if self._error is not None:
            raise self._error
        if not self.finished:
            kept = 0 if self._carry is None else len(self._carry)
            key = None if self._unfinished is None else self._unfinished[2]
            if self._head is not None:
                key = self._head.key
            raise self._fail(RdbError("the RDB ends early", offset=kept, key=key))

    def _fail(self, error: RdbError) -> RdbError:
        """Make `error`, whose offset counts from the unconsumed input, the reader's last word."""
        key = error.key
        if key is None and self._unfinished is not None:
            key = self._unfinished[2]
        self._error = RdbError(error.message, offset=self.offset + max(error.offset, 0), key=key)
        self._carry = self._measure = None
        return self._error

    def _accumulate(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Join `data` to what is kept; None while that cannot make a record whole."""
        carry = self._carry
        if carry is None:
            return bytes(data)  # The same object where it is bytes already.
        carry += data
        if self._unfinished is not None and self._is_huge(len(carry)):
            self._carry = self._measure = None
            return bytes(carry)
        if len(carry) < self._needed:
            return None
        if self._measure is not None:
            # Every step yields more than is there, so this ends the piece or the value.
            for needed in self._measure:
                if len(carry) < needed:
                    self._needed = needed
                    return None
        self._carry = self._measure = None
        return bytes(carry)

    def _consume(self, whole: bytes, pos: int) -> None:
        """Account for whole[:pos], which is records, and keep the rest."""
        self.offset += pos
        if self.finished:
            self.unused = whole[pos:]
            return
        if self._verify_checksum:
            self._crc = crc64(memoryview(whole)[:pos], self._crc)
        if pos == len(whole):
            return
        self._carry = carry = bytearray(memoryview(whole)[pos:])
        if self._unfinished is not None:
            type_code, at, _ = self._unfinished
            self._measure = measure_value(type_code, carry, at, self.dialect)
            needed = next(self._measure, None)
            assert needed is not None, "the measure finds an end where the decoder found none"
            self._needed = needed

    def _parse(self, data: bytes, records: list[Record]) -> int:
        """Append the whole records of `data`; return the position after the last of them."""
        pos = 0
        size = len(data)
        parse_run, run_starts, take = self._parse_run, self._run_starts, self._take
        self._unfinished = None
        try:
            if self._version < 0:
                pos = self._parse_header(data, records)
            while pos < size and not self.finished:
                if self._head is not None:
                    pos = self._parse_parts(data, pos, records)
                    continue
                opcode = data[pos]
                if take is not None and (opcode < _FIRST_OPCODE or opcode == c.OP_EXPIRE_MS):
                    after = take(data, pos, self._db)
                    if after != pos:
                        pos = after
                        continue
                elif parse_run is not None and opcode in run_starts:
                    # hot: stops before what it does not understand, and so do not we.
                    after = parse_run(data, pos, self._db, records)
                    if after != pos:
                        pos = after
                        continue
                handler = _HANDLERS.get(opcode, RdbReader._parse_key)
                pos = handler(self, data, pos, records)
        except Incomplete as stop:
            self._needed = stop.needed - pos
        return pos

    def _parse_header(self, data: bytes, records: list[Record]) -> int:
        head = data[: c.HEADER_BYTES]
        for magic in (c.REDIS_MAGIC, c.VALKEY_MAGIC):
            if head.startswith(magic[: len(head)]):
                break
        else:
            raise RdbError(f"not an RDB: it starts with {head!r}", offset=0)
        if len(head) < c.HEADER_BYTES:
            raise Incomplete(c.HEADER_BYTES)
        digits = head[len(magic) :]
        version = int(digits) if digits.isdigit() else 0
        self.dialect.valkey = magic == c.VALKEY_MAGIC
        if self.dialect.valkey:
            readable = version == c.VALKEY_VERSION
        else:
            readable = 1 <= version <= c.MAX_REDIS_VERSION
        if not readable:
            raise RdbError(f"RDB version {head.decode('latin-1')} cannot be read", offset=0)
        self._version = version
        records.append(Header(version, magic))
        return c.HEADER_BYTES

    def _parse_key(self, data: bytes, start: int, records: list[Record]) -> int:
        expires_at_ms: int | None = None
        idle_s: int | None = None
        freq: int | None = None
        metadata: tuple[tuple[str, int, bytes], ...] = ()
        pos = start
        while (code := _byte(data, pos)) in _KEY_PREFIXES:
            pos += 1
            if code == c.OP_EXPIRE_MS:
                pos = _until(data, pos + 8)
                expires_at_ms = int.from_bytes(data[pos - 8 : pos], "little", signed=True)
            elif code == c.OP_EXPIRE_S:
                pos = _until(data, pos + 4)
                expires_at_ms = int.from_bytes(data[pos - 4 : pos], "little", signed=True) * 1000
            elif code == c.OP_IDLE:
                idle_s, pos = decode_length(data, pos)
            elif code == c.OP_KEY_METADATA:
                if self.dialect.valkey:
                    raise RdbError("a slot migration inside the record of a key", offset=pos - 1)
                metadata, pos = decode_metadata(data, pos)
            else:
                freq = _byte(data, pos)
                pos += 1
        if code not in (c.VALKEY_TYPES if self.dialect.valkey else c.TYPE_NAMES):
            raise RdbError(f"unknown opcode or value type {code}", offset=pos)
        key, pos = decode_string(data, pos + 1)
        begin = pos
        value: Any
        try:
            if self._part_bytes and self._comes_in_parts(code, data, begin):
                if metadata:
                    records.append(KeyMetadata(key, metadata))
                self._head = Key(self._db, key, code, None, expires_at_ms, idle_s, freq)
                self._splitter = Splitter(code, self.dialect, self._part_bytes)
                self._parts = 0
                return begin
            if self._raw_values:
                pos = end_of_value(code, data, begin, self.dialect)
                value = data[begin:pos]
            else:
                value, pos = decode_value(code, data, pos, self.dialect)
        except Incomplete:
            self._unfinished = (code, begin - start, key)
            raise
        except RdbError as error:
            raise RdbError(error.message, offset=error.offset, key=key) from None
        if metadata:
            records.append(KeyMetadata(key, metadata))
        records.append(Key(self._db, key, code, value, expires_at_ms, idle_s, freq))
        return pos

    def _comes_in_parts(self, code: int, data: bytes, begin: int) -> bool:
        """Whether the value at `begin` takes more than part_bytes; Incomplete: not known yet."""
        if not splits(code, self.dialect) or len(data) - begin <= self._part_bytes:
            return False
        try:
            end = end_of_value(code, data, begin, self.dialect)
        except Incomplete:
            return True
        return end - begin > self._part_bytes

    def _is_huge(self, carried_bytes: int) -> bool:
        """Whether the unfinished value, of whose record so much is there, comes in parts."""
        if not self._part_bytes or self._unfinished is None:
            return False
        code, at, _ = self._unfinished
        return carried_bytes - at > self._part_bytes and splits(code, self.dialect)

    def _parse_parts(self, data: bytes, pos: int, records: list[Record]) -> int:
        assert self._head is not None and self._splitter is not None
        number, key, code, _, expires_at_ms, idle_s, freq = self._head
        try:
            parts, pos = self._splitter.take(data, pos)
        except RdbError as error:
            raise RdbError(error.message, offset=error.offset, key=key) from None
        done = self._splitter.is_done
        for n, value in enumerate(parts, 1):
            is_last = done and n == len(parts)
            records.append(
                Part(number, key, code, value, expires_at_ms, idle_s, freq, self._parts, is_last)
            )
            self._parts += 1
        if done:
            self._head = self._splitter = None
        return pos

    def _parse_aux(self, data: bytes, pos: int, records: list[Record]) -> int:
        name, pos = decode_string(data, pos + 1)
        value, pos = decode_string(data, pos)
        records.append(Aux(name, value))
        return pos

    def _parse_select_db(self, data: bytes, start: int, records: list[Record]) -> int:
        db, pos = decode_length(data, start + 1)
        if db > _MAX_DB:
            raise RdbError(f"database number {db}", offset=start)
        self._db = db
        records.append(SelectDb(db))
        return pos

    def _parse_resize_db(self, data: bytes, pos: int, records: list[Record]) -> int:
        keys, pos = decode_length(data, pos + 1)
        expires, pos = decode_length(data, pos)
        records.append(ResizeDb(keys, expires))
        return pos

    def _parse_function(self, data: bytes, pos: int, records: list[Record]) -> int:
        code, pos = decode_string(data, pos + 1)
        records.append(Function(code))
        return pos

    def _parse_function_pre_ga(self, data: bytes, pos: int, records: list[Record]) -> int:
        """{name, engine, has description, [description], code}; the head line was not in it."""
        name, pos = decode_string(data, pos + 1)
        engine, pos = decode_string(data, pos)
        described, pos = decode_length(data, pos)
        if described:
            _, pos = decode_string(data, pos)
        code, pos = decode_string(data, pos)
        records.append(Function(b"#!%b name=%b\n%b" % (engine, name, code)))
        return pos

    def _parse_module_aux(self, data: bytes, start: int, records: list[Record]) -> int:
        module_id, pos = decode_length(data, start + 1)
        when_code, pos = decode_length(data, pos)
        when, pos = decode_length(data, pos)
        if when_code != c.MODULE_UINT:
            raise RdbError("module data does not say when it is to be loaded", offset=start)
        end = skip_items(data, pos)
        records.append(ModuleAux(module_name(module_id), when, data[pos:end]))
        return end

    def _parse_slot_info(self, data: bytes, pos: int, records: list[Record]) -> int:
        slot, pos = decode_length(data, pos + 1)
        keys, pos = decode_length(data, pos)
        expires, pos = decode_length(data, pos)
        records.append(SlotInfo(slot, keys, expires))
        return pos

    def _parse_hash_template(self, data: bytes, start: int, records: list[Record]) -> int:
        if self.dialect.valkey:
            raise RdbError(f"unknown opcode or value type {data[start]}", offset=start)
        template_id, fields, pos = decode_template(data, start + 1, self.dialect)
        self.dialect.templates[template_id] = fields
        records.append(HashTemplate(template_id, fields))
        return pos

    def _parse_slot_import(self, data: bytes, start: int, records: list[Record]) -> int:
        """Opcode 243, which is a slot migration or the metadata of a key, as the magic says."""
        if not self.dialect.valkey:
            return self._parse_key(data, start, records)
        job, pos = decode_string(data, start + 1)
        count, pos = decode_length(data, pos)
        if count > _MAX_SLOT_RANGES:
            raise RdbError(f"{count} slot ranges", offset=start)
        ranges = []
        for _ in range(count):
            first, pos = decode_length(data, pos)
            last, pos = decode_length(data, pos)
            ranges.append((first, last))
        records.append(SlotImport(job, tuple(ranges)))
        return pos

    def _parse_end(self, data: bytes, start: int, records: list[Record]) -> int:
        pos = start + 1
        state = "none"
        if self._version >= c.FIRST_CHECKSUM_VERSION:
            end = _until(data, pos + c.CHECKSUM_BYTES)
            stored = int.from_bytes(data[pos:end], "little")
            state = self._judge(stored, memoryview(data)[:pos], pos)
            pos = end
        records.append(End(state))
        self.finished = True
        return pos

    def _judge(self, stored: int, unaccounted: memoryview, pos: int) -> str:
        if not stored:
            return "disabled"
        if not self._verify_checksum:
            return "unverified"
        computed = crc64(unaccounted, self._crc)
        if computed != stored:
            raise RdbError(
                f"wrong checksum: {stored:016x} is stored, {computed:016x} computed", offset=pos
            )
        return "ok"


def _byte(data: bytes, pos: int) -> int:
    if pos >= len(data):
        raise Incomplete(pos + 1)
    return data[pos]


def _until(data: bytes, end: int) -> int:
    if end > len(data):
        raise Incomplete(end)
    return end


_KEY_PREFIXES = frozenset((c.OP_EXPIRE_MS, c.OP_EXPIRE_S, c.OP_IDLE, c.OP_FREQ, c.OP_KEY_METADATA))
_HANDLERS: dict[int, Callable[[RdbReader, bytes, int, list[Record]], int]] = {
    c.OP_HASH_TEMPLATE: RdbReader._parse_hash_template,
    c.OP_SLOT_IMPORT: RdbReader._parse_slot_import,
    c.OP_SLOT_INFO: RdbReader._parse_slot_info,
    c.OP_FUNCTION: RdbReader._parse_function,
    c.OP_FUNCTION_PRE_GA: RdbReader._parse_function_pre_ga,
    c.OP_MODULE_AUX: RdbReader._parse_module_aux,
    c.OP_AUX: RdbReader._parse_aux,
    c.OP_RESIZE_DB: RdbReader._parse_resize_db,
    c.OP_SELECT_DB: RdbReader._parse_select_db,
    c.OP_EOF: RdbReader._parse_end,
}
