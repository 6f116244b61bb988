"""Module values: skipped by their own framing, kept as bytes.

    value       id (length, 64 bits), item*, 0
    item        1 signed (length) | 2 unsigned (length) | 3 float (4 bytes)
                | 4 double (8 bytes) | 5 string
    aux         id, 2, when (length: before or after the keys), item*, 0
    metadata    n, n * (u32 class, item*, 0)              of a key (opcode 243; Redis 8.6)
    id          nine characters of 6 bits each, then a 10-bit encoding version
    class       four such characters, a 5-bit version, 3 bits of flags

No module is loaded here, so what the items mean is not known; the framing lets a reader step
over them, and a tool carry them along.

Source: rdbLoadCheckModuleValue in rdb.c, moduleTypeNameByID in module.c; keymeta.c of Redis 8.6.
"""

from __future__ import annotations

from dataclasses import dataclass

from rdb.constants import (
    MODULE_DOUBLE,
    MODULE_EOF,
    MODULE_FLOAT,
    MODULE_SINT,
    MODULE_STRING,
    MODULE_UINT,
)
from rdb.errors import Incomplete, RdbError
from rdb.lengths import decode_length
from rdb.strings import decode_string

_NAME_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_CLASS_BYTES = 4
_CLASS_CHARACTERS = _NAME_CHARACTERS[:-2] + "_-"
"""Redis has the last two the other way round here."""


@dataclass(slots=True)
class ModuleValue:
    """The value of a module's data type.

    Attributes:
        module_id: the 64-bit type id.
        payload: the items, with the end marker.
    """

    module_id: int
    payload: bytes

    @property
    def name(self) -> str:
        """The nine-character name of the data type."""
        return module_name(self.module_id)

    @property
    def version(self) -> int:
        """The version of the module's own encoding."""
        return self.module_id & 0x3FF


def module_name(module_id: int) -> str:
    """The nine characters in a module type id."""
    return "".join(_NAME_CHARACTERS[module_id >> shift & 0x3F] for shift in range(58, 9, -6))


def decode_metadata(data: bytes, pos: int) -> tuple[tuple[tuple[str, int, bytes], ...], int]:
    """Read what follows opcode 243: (class, version, items) of each.

    Raises:
        Incomplete, RdbError.
    """
    count, pos = decode_length(data, pos)
    classes = []
    for _ in range(count):
        begin = pos + _CLASS_BYTES
        if begin > len(data):
            raise Incomplete(begin)
        spec = int.from_bytes(data[pos:begin], "little")
        pos = skip_items(data, begin)
        name = "".join(_CLASS_CHARACTERS[spec >> shift & 0x3F] for shift in range(26, 7, -6))
        classes.append((name, spec >> 3 & 0x1F, data[begin:pos]))
    return tuple(classes), pos


def skip_items(data: bytes, pos: int) -> int:
    """Return the position after the items that start at `pos`, end marker included.

    Raises:
        Incomplete, RdbError.
    """
    while True:
        start = pos
        code, pos = decode_length(data, pos)
        if code == MODULE_EOF:
            return pos
        if code in (MODULE_SINT, MODULE_UINT):
            _, pos = decode_length(data, pos)
        elif code in (MODULE_FLOAT, MODULE_DOUBLE):
            pos += 4 if code == MODULE_FLOAT else 8
            if pos > len(data):
                raise Incomplete(pos)
        elif code == MODULE_STRING:
            _, pos = decode_string(data, pos)
        else:
            raise RdbError(f"unknown module item {code}", offset=start)


def decode_module(data: bytes, pos: int) -> tuple[ModuleValue, int]:
    """Read a module value (type 7).

    Raises:
        Incomplete, RdbError.
    """
    module_id, pos = decode_length(data, pos)
    end = skip_items(data, pos)
    return ModuleValue(module_id, data[pos:end]), end
