"""The RDB format of Redis and Valkey: a library of its own.

    import rdb

    for record in rdb.read("dump.rdb"):
        print(record)

A huge value can be had in parts, in bounded memory: `rdb.read(path, part_bytes=1 << 20)`.

Nothing here but `read` touches a file: RdbReader takes bytes in pieces of any size and returns
records, RdbWriter takes values and hands out bytes. Keys, values and elements are bytes. Bad
input raises RdbError and nothing else.
"""

from rdb.arrays import Array
from rdb.checksum import crc64
from rdb.dialect import Dialect
from rdb.errors import RdbError
from rdb.files import read, read_stream
from rdb.keys import load_keys
from rdb.modules import ModuleValue
from rdb.packed import PACKED, Packed
from rdb.payload import decode_payload, encode_payload, verify_payload
from rdb.reader import RdbReader
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
from rdb.streams import Consumer, Group, Pending, Producer, Producers, Stream
from rdb.values import ExpiringHash, decode_packed, decode_value, encode_value
from rdb.writer import (
    RdbWriter,
    encode_aux,
    encode_function,
    encode_header,
    encode_key,
    encode_resize_db,
    encode_select_db,
    encode_strings,
)

__all__ = [
    "PACKED",
    "Array",
    "Aux",
    "Consumer",
    "Dialect",
    "End",
    "ExpiringHash",
    "Function",
    "Group",
    "HashTemplate",
    "Header",
    "Key",
    "KeyMetadata",
    "ModuleAux",
    "ModuleValue",
    "Packed",
    "Part",
    "Pending",
    "Producer",
    "Producers",
    "RdbError",
    "RdbReader",
    "RdbWriter",
    "Record",
    "ResizeDb",
    "SelectDb",
    "SlotImport",
    "SlotInfo",
    "Stream",
    "crc64",
    "decode_packed",
    "decode_payload",
    "decode_value",
    "encode_aux",
    "encode_function",
    "encode_header",
    "encode_key",
    "encode_payload",
    "encode_resize_db",
    "encode_select_db",
    "encode_strings",
    "encode_value",
    "load_keys",
    "read",
    "read_stream",
    "verify_payload",
]
