"""Hashes that share their field names (Redis 8.10): templates, and the hashes made by one.

    template   opcode 242, id, n, n * field                before the keys of the file
    type 29    n, n * field, listpack of n values          a hash by itself (DUMP)
    type 30    listpack of id and n values                 one that refers to a template
    type 31    n, n * (field, value)                       a hash by itself (DUMP)
    type 32    id, n * value                               one that refers to a template

Fields and values are strings, the others lengths. The fields of a template stand in the order of
their length, then of their bytes; that order is not relied upon here.

A hash that refers to a template decodes to what any other decodes to, and shares the field names
with all hashes of that template.

Invariants checked: no field stands twice, the id of a template is new, as many values as fields.

Source: files of Redis 8.10 (tests/data/rdb), and the descriptions of its types.
"""

from __future__ import annotations

from typing import Final

from rdb.blobs import listpack
from rdb.constants import TYPE_HASH_TEMPLATE_ARRAY_REF, TYPE_HASH_TEMPLATE_LISTPACK_REF
from rdb.dialect import Dialect, Template
from rdb.errors import RdbError
from rdb.lengths import decode_length
from rdb.strings import decode_string, decode_strings

REFERENCES: Final = frozenset((TYPE_HASH_TEMPLATE_LISTPACK_REF, TYPE_HASH_TEMPLATE_ARRAY_REF))
"""The types whose values mean nothing without the templates of their file."""
_MAX_FIELDS: Final = 1 << 32
_MAX_ID_DIGITS: Final = 20


def decode_template(data: bytes, pos: int, dialect: Dialect) -> tuple[int, Template, int]:
    """Read what follows opcode 242.

    Returns:
        (id, fields, position after it); `dialect` is left as it is.

    Raises:
        Incomplete, RdbError.
    """
    start = pos
    template_id, pos = decode_length(data, pos)
    if template_id in dialect.templates:
        raise RdbError(f"hash template {template_id} stands twice", offset=start)
    fields, pos = _decode_fields(data, pos)
    return template_id, fields, pos


def _decode_fields(data: bytes, pos: int) -> tuple[Template, int]:
    start = pos
    count, pos = decode_length(data, pos)
    if count > _MAX_FIELDS:
        raise RdbError(f"a hash of {count} fields", offset=start)
    fields, pos = decode_strings(data, pos, count)
    if len(set(fields)) != count:
        raise RdbError("duplicate hash field", offset=start)
    return tuple(fields), pos


def decode_template_listpack(data: bytes, pos: int) -> tuple[list[bytes], int]:
    """Read a hash of type 29: field, value, field, value ...

    Raises:
        Incomplete, RdbError.
    """
    fields, pos = _decode_fields(data, pos)
    blob, pos = decode_string(data, pos)
    return _joined(fields, listpack.decode(blob)), pos


def decode_reference(
    type_code: int, data: bytes, pos: int, dialect: Dialect
) -> tuple[list[bytes], int]:
    """Read a hash of type 30 or 32: field, value, field, value ...

    Raises:
        Incomplete, RdbError.
    """
    start = pos
    if type_code == TYPE_HASH_TEMPLATE_LISTPACK_REF:
        blob, pos = decode_string(data, pos)
        values = listpack.decode(blob)
        if not values or not values[0].isdigit() or len(values[0]) > _MAX_ID_DIGITS:
            raise RdbError("a hash without the id of its template", offset=start)
        fields = dialect.template(int(values.pop(0)), start)
    else:
        template_id, pos = decode_length(data, pos)
        fields = dialect.template(template_id, start)
        values, pos = decode_strings(data, pos, len(fields))
    return _joined(fields, values), pos


def _joined(fields: Template, values: list[bytes]) -> list[bytes]:
    if len(fields) != len(values):
        raise RdbError(f"{len(values)} values for {len(fields)} fields")
    flat = [b""] * (2 * len(fields))
    flat[::2] = fields
    flat[1::2] = values
    return flat
