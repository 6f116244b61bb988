"""The numbers of the RDB format: magics, versions, opcodes, type codes, limits.

A file is `magic+version (9 bytes) record* FF [crc64]`. A record starts with one byte, which is
an opcode (200 and above) or a value type (below). Redis and Valkey share every number up to
type 21; from there on the same number means different things, so a type code is only ever
looked at together with the magic (rdb.dialect).

    magic      versions   written by
    REDIS      1-4        Redis up to 2.4 (no checksum at the end)
               5-12       Redis 2.6 - 8.0; Valkey 7.2 and 8 (11)
               13         Redis 8.6: streams that know their producers, metadata of keys
               14         Redis 8.8: arrays, streams with released entries
               15         Redis 8.10: hashes that share their field names (templates)
    VALKEY     80         Valkey 9

Source: rdb.h of Redis 7.0 for types up to 19 and opcodes from 245; later numbers as the
releases that introduced them write them.
"""

from __future__ import annotations

from typing import Final

REDIS_MAGIC: Final = b"REDIS"
VALKEY_MAGIC: Final = b"VALKEY"
HEADER_BYTES: Final = 9
CHECKSUM_BYTES: Final = 8
FIRST_CHECKSUM_VERSION: Final = 5
"""Files older than this end at the FF byte."""
MAX_REDIS_VERSION: Final = 15
VALKEY_VERSION: Final = 80
WRITE_VERSION: Final = 10
"""What Redis 7.0 writes."""

# Opcodes.
OP_HASH_TEMPLATE: Final = 242  # REDIS only
OP_KEY_METADATA: Final = 243  # REDIS magic
OP_SLOT_IMPORT: Final = 243  # VALKEY magic: the same number, another record
OP_SLOT_INFO: Final = 244
OP_FUNCTION: Final = 245
OP_FUNCTION_PRE_GA: Final = 246  # 7.0 release candidates
OP_MODULE_AUX: Final = 247
OP_IDLE: Final = 248
OP_FREQ: Final = 249
OP_AUX: Final = 250
OP_RESIZE_DB: Final = 251
OP_EXPIRE_MS: Final = 252
OP_EXPIRE_S: Final = 253
OP_SELECT_DB: Final = 254
OP_EOF: Final = 255

# Value types.
TYPE_STRING: Final = 0
TYPE_LIST: Final = 1
TYPE_SET: Final = 2
TYPE_ZSET: Final = 3
TYPE_HASH: Final = 4
TYPE_ZSET_2: Final = 5
TYPE_MODULE_PRE_GA: Final = 6
TYPE_MODULE_2: Final = 7
TYPE_HASH_ZIPMAP: Final = 9
TYPE_LIST_ZIPLIST: Final = 10
TYPE_SET_INTSET: Final = 11
TYPE_ZSET_ZIPLIST: Final = 12
TYPE_HASH_ZIPLIST: Final = 13
TYPE_LIST_QUICKLIST: Final = 14
TYPE_STREAM_LISTPACKS: Final = 15
TYPE_HASH_LISTPACK: Final = 16
TYPE_ZSET_LISTPACK: Final = 17
TYPE_LIST_QUICKLIST_2: Final = 18
TYPE_STREAM_LISTPACKS_2: Final = 19
TYPE_SET_LISTPACK: Final = 20
TYPE_STREAM_LISTPACKS_3: Final = 21
TYPE_HASH_METADATA_PRE_GA: Final = 22  # REDIS magic: 7.4 release candidates
TYPE_HASH_LISTPACK_EX_PRE_GA: Final = 23
TYPE_HASH_METADATA: Final = 24
TYPE_HASH_LISTPACK_EX: Final = 25
TYPE_STREAM_LISTPACKS_4: Final = 26
TYPE_STREAM_LISTPACKS_5: Final = 27
TYPE_ARRAY: Final = 28
TYPE_HASH_TEMPLATE_LISTPACK: Final = 29
TYPE_HASH_TEMPLATE_LISTPACK_REF: Final = 30
TYPE_HASH_TEMPLATE_ARRAY: Final = 31
TYPE_HASH_TEMPLATE_ARRAY_REF: Final = 32
VALKEY_TYPE_HASH_2: Final = 22  # VALKEY magic: the same number, another layout

TYPE_NAMES: Final[dict[int, str]] = {
    TYPE_STRING: "string",
    TYPE_LIST: "list",
    TYPE_SET: "set",
    TYPE_ZSET: "zset",
    TYPE_HASH: "hash",
    TYPE_ZSET_2: "zset2",
    TYPE_MODULE_PRE_GA: "module",
    TYPE_MODULE_2: "module2",
    TYPE_HASH_ZIPMAP: "hash-zipmap",
    TYPE_LIST_ZIPLIST: "list-ziplist",
    TYPE_SET_INTSET: "set-intset",
    TYPE_ZSET_ZIPLIST: "zset-ziplist",
    TYPE_HASH_ZIPLIST: "hash-ziplist",
    TYPE_LIST_QUICKLIST: "quicklist",
    TYPE_STREAM_LISTPACKS: "stream",
    TYPE_HASH_LISTPACK: "hash-listpack",
    TYPE_ZSET_LISTPACK: "zset-listpack",
    TYPE_LIST_QUICKLIST_2: "quicklist2",
    TYPE_STREAM_LISTPACKS_2: "stream2",
    TYPE_SET_LISTPACK: "set-listpack",
    TYPE_STREAM_LISTPACKS_3: "stream3",
    TYPE_HASH_METADATA_PRE_GA: "hash2",
    TYPE_HASH_LISTPACK_EX_PRE_GA: "hash-listpack-ex-rc",
    TYPE_HASH_METADATA: "hash-metadata",
    TYPE_HASH_LISTPACK_EX: "hash-listpack-ex",
    TYPE_STREAM_LISTPACKS_4: "stream4",
    TYPE_STREAM_LISTPACKS_5: "stream5",
    TYPE_ARRAY: "array",
    TYPE_HASH_TEMPLATE_LISTPACK: "hash-template-listpack",
    TYPE_HASH_TEMPLATE_LISTPACK_REF: "hash-template-listpack-ref",
    TYPE_HASH_TEMPLATE_ARRAY: "hash-template-array",
    TYPE_HASH_TEMPLATE_ARRAY_REF: "hash-template-array-ref",
}
"""Short names for people: `rdb check`, `rdb dump` and error messages."""

VALKEY_TYPES: Final = frozenset(TYPE_NAMES) - frozenset(range(VALKEY_TYPE_HASH_2 + 1, 64))
"""The type codes under the VALKEY magic."""

KINDS: Final[dict[int, str]] = {
    TYPE_STRING: "string",
    TYPE_LIST: "list",
    TYPE_SET: "set",
    TYPE_ZSET: "zset",
    TYPE_HASH: "hash",
    TYPE_ZSET_2: "zset",
    TYPE_MODULE_2: "module",
    TYPE_HASH_ZIPMAP: "hash",
    TYPE_LIST_ZIPLIST: "list",
    TYPE_SET_INTSET: "set",
    TYPE_ZSET_ZIPLIST: "zset",
    TYPE_HASH_ZIPLIST: "hash",
    TYPE_LIST_QUICKLIST: "list",
    TYPE_STREAM_LISTPACKS: "stream",
    TYPE_HASH_LISTPACK: "hash",
    TYPE_ZSET_LISTPACK: "zset",
    TYPE_LIST_QUICKLIST_2: "list",
    TYPE_STREAM_LISTPACKS_2: "stream",
    TYPE_SET_LISTPACK: "set",
    TYPE_STREAM_LISTPACKS_3: "stream",
    TYPE_HASH_METADATA_PRE_GA: "hash",
    TYPE_HASH_LISTPACK_EX_PRE_GA: "hash",
    TYPE_HASH_METADATA: "hash",
    TYPE_HASH_LISTPACK_EX: "hash",
    TYPE_STREAM_LISTPACKS_4: "stream",
    TYPE_STREAM_LISTPACKS_5: "stream",
    TYPE_ARRAY: "array",
    TYPE_HASH_TEMPLATE_LISTPACK: "hash",
    TYPE_HASH_TEMPLATE_LISTPACK_REF: "hash",
    TYPE_HASH_TEMPLATE_ARRAY: "hash",
    TYPE_HASH_TEMPLATE_ARRAY_REF: "hash",
}
"""Type code -> what TYPE answers for the key."""

# Special string encodings (the low six bits of a length byte whose high bits are 11).
ENC_INT8: Final = 0
ENC_INT16: Final = 1
ENC_INT32: Final = 2
ENC_LZF: Final = 3

# Items inside a module's value.
MODULE_EOF: Final = 0
MODULE_SINT: Final = 1
MODULE_UINT: Final = 2
MODULE_FLOAT: Final = 3
MODULE_DOUBLE: Final = 4
MODULE_STRING: Final = 5

# How an element of an array is stored; it is text in any case.
ARRAY_STRING: Final = 0
ARRAY_INT: Final = 1
ARRAY_DOUBLE: Final = 2
ARRAY_SHORT_STRING: Final = 3

# Containers of a quicklist2 node.
NODE_PLAIN: Final = 1
NODE_PACKED: Final = 2

MAX_INT_STRING_BYTES: Final = 11
"""Strings longer than this are never written as an integer (rdbTryIntegerEncoding)."""
MIN_LZF_BYTES: Final = 21
"""Strings shorter than this are never compressed (rdbSaveRawString)."""
LZF_MIN_SAVING_BYTES: Final = 4
"""A compressed form must be at least this much shorter (rdbSaveLzfStringObject)."""
MAX_LZF_RATIO: Final = 88
"""Three bytes of LZF make at most 264, so a larger claim is a lie, and no memory is set aside."""
MAX_STRING_BYTES: Final = 1 << 40
"""No string is this long on any machine: an eight-byte length above it is damage."""
EOF_MARK_BYTES: Final = 40
"""Length of the mark that ends a diskless transfer (CONFIG_RUN_ID_SIZE)."""
