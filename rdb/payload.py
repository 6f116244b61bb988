"""DUMP payloads: one value that travels by itself (DUMP, RESTORE, MIGRATE).

    type code | value | u16 version | u64 crc64 of all before it       little-endian

Source: createDumpPayload, verifyDumpPayload in cluster.c.
"""

from __future__ import annotations

from typing import Any

from rdb import constants as c
from rdb.checksum import crc64
from rdb.errors import Incomplete, RdbError
from rdb.values import Value, decode_value, encode_value

_FOOTER_BYTES = 10


def encode_payload(type_code: int, value: Value, **options: Any) -> bytes:
    """The DUMP payload of a value; see rdb.values.encode_value for the arguments."""
    body = bytes((type_code,)) + encode_value(type_code, value, **options)
    body += c.WRITE_VERSION.to_bytes(2, "little")
    return body + crc64(body).to_bytes(c.CHECKSUM_BYTES, "little")


def verify_payload(payload: bytes, max_version: int = c.WRITE_VERSION) -> bool:
    """Whether the version and the checksum of a payload are good.

    A checksum of zero is not looked at, as in a file.
    """
    if len(payload) < _FOOTER_BYTES:
        return False
    if int.from_bytes(payload[-10:-8], "little") > max_version:
        return False
    stored = int.from_bytes(payload[-8:], "little")
    return not stored or stored == crc64(payload[:-8])


def decode_payload(payload: bytes) -> tuple[int, Value]:
    """Decode a payload that `verify_payload` has passed.

    Returns:
        (type code, value).

    Raises:
        RdbError: the value is malformed, or bytes are left over.
    """
    body = payload[:-_FOOTER_BYTES]
    if not body:
        raise RdbError("the payload is empty", offset=0)
    try:
        value, end = decode_value(body[0], body, 1)
    except Incomplete:
        raise RdbError("the payload ends early", offset=len(body)) from None
    if end != len(body):
        raise RdbError("the payload goes on after its value", offset=end)
    return body[0], value
