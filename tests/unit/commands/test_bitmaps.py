"""Bitmaps: replies, errors, propagation, events and encodings of their commands."""

from __future__ import annotations

import pytest

from tests.unit.commands.session import Session


@pytest.fixture
def bits(session: Session) -> Session:
    """Give b = 00 ff f0, ones = ff ff, n = 12, empty, and a list."""
    session.run("BITFIELD", "b", "SET", "u24", 0, 0x00FFF0)
    session.run("BITFIELD", "ones", "SET", "u16", 0, 0xFFFF)
    session.run("SET", "n", "12")
    session.run("SET", "empty", "")
    session.run("RPUSH", "list", "x")
    session.take_propagated()
    return session


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("GETBIT", "b", 8), 1),
        (("GETBIT", "b", 20), 0),
        (("GETBIT", "b", 4_294_967_295), 0),
        (("GETBIT", "none", 3), 0),
        (("BITCOUNT", "b"), 12),
        (("BITCOUNT", "none"), 0),
        (("BITCOUNT", "none", "x", "y", "z"), 0),
        (("BITCOUNT", "empty"), 0),
        (("BITCOUNT", "b", 1, 1), 8),
        (("BITCOUNT", "b", -1, -1), 4),
        (("BITCOUNT", "b", -2, -1, "byte"), 12),
        (("BITCOUNT", "b", 9, 17, "BIT"), 9),
        (("BITCOUNT", "b", -12, -9, "BIT"), 4),
        (("BITCOUNT", "b", -1, -2, "nonsense"), 0),
        (("BITCOUNT", "b", 2, 1), 0),
        (("BITCOUNT", "b", -100, 100), 12),
        (("BITPOS", "b", 1), 8),
        (("BITPOS", "b", 0), 0),
        (("BITPOS", "b", 0, 1), 20),
        (("BITPOS", "b", 1, 2), 16),
        (("BITPOS", "b", 0, 8, 15, "BIT"), -1),
        (("BITPOS", "b", 1, 10, 15, "BIT"), 10),
        (("BITPOS", "b", 1, 0, 0), -1),
        (("BITPOS", "ones", 0), 16),
        (("BITPOS", "ones", 0, 1), 16),
        (("BITPOS", "ones", 0, 0, -1), -1),
        (("BITPOS", "ones", 0, 2), -1),
        (("BITPOS", "empty", 0), -1),
        (("BITPOS", "none", 0), 0),
        (("BITPOS", "none", 1), -1),
        (("BITFIELD", "b", "GET", "u4", 6), [3]),
        (("BITFIELD", "b", "GET", "i4", "#2"), [-1]),
        (("BITFIELD", "b", "GET", "u8", "#2305843009213693952"), [0]),  # 2**61 * 8 is 2**64
        (("BITFIELD", "none", "GET", "i64", 1000), [0]),
        (("BITFIELD", "b"), []),
        (("BITFIELD_RO", "b", "get", "u16", 8), [0xFFF0]),
        (("BITFIELD_RO", "b", "OVERFLOW", "sat", "GET", "u1", 8), [1]),
    ],
)
def test_bitmap_command_that_reads_replies(
    bits: Session, command: tuple[object, ...], reply: object
) -> None:
    assert bits.run(*command) == reply
    assert bits.take_propagated() == []


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("SETBIT", "b", -1, 1), "ERR bit offset is not an integer or out of range"),
        (("SETBIT", "b", 1 << 32, 1), "ERR bit offset is not an integer or out of range"),
        (("SETBIT", "b", "#1", 1), "ERR bit offset is not an integer or out of range"),
        (("SETBIT", "b", "x", 2), "ERR bit offset is not an integer or out of range"),
        (("SETBIT", "b", 1, 2), "ERR bit is not an integer or out of range"),
        (("SETBIT", "list", 1, 1), "WRONGTYPE Operation against a key"),
        (("BITCOUNT", "b", 1), "ERR syntax error"),
        (("BITCOUNT", "b", 1, 2, "BITS"), "ERR syntax error"),
        (("BITCOUNT", "b", 1, 2, "BIT", 3), "ERR syntax error"),
        (("BITCOUNT", "list", "x"), "WRONGTYPE Operation against a key"),
        (("BITPOS", "none", 2), "ERR The bit argument must be 1 or 0."),
        (("BITPOS", "none", "x"), "ERR value is not an integer or out of range"),
        (("BITPOS", "b", 1, 2, 3, "BITS"), "ERR syntax error"),
        (("BITPOS", "b", 1, "x", 3, "BITS"), "ERR value is not an integer or out of range"),
        (("BITOP", "NOT", "d", "b", "n"), "ERR BITOP NOT must be called with a single source"),
        (("BITOP", "NAND", "d", "list"), "ERR syntax error"),
        (("BITOP", "AND", "d", "none", "list"), "WRONGTYPE Operation against a key"),
        (("BITFIELD", "b", "GET", "u8"), "ERR syntax error"),
        (("BITFIELD", "b", "GET", "u64", 0), "ERR Invalid bitfield type. Use something like"),
        (("BITFIELD", "b", "GET", "i0", 0), "ERR Invalid bitfield type. Use something like"),
        (("BITFIELD", "b", "GET", "U8", 0), "ERR Invalid bitfield type. Use something like"),
        (("BITFIELD", "b", "GET", "u8", "#-1"), "ERR bit offset is not an integer or out of"),
        (("BITFIELD", "b", "SET", "u8", 0, "x"), "ERR value is not an integer or out of range"),
        (("BITFIELD", "b", "OVERFLOW", "CLIP"), "ERR Invalid OVERFLOW type specified"),
        (("BITFIELD", "list", "GET", "u8", 0), "WRONGTYPE Operation against a key"),
        (("BITFIELD_RO", "b", "SET", "u8", 0, 1), "ERR BITFIELD_RO only supports the GET"),
    ],
)
def test_bitmap_command_of_bad_arguments_is_refused(
    bits: Session, command: tuple[object, ...], text: str
) -> None:
    assert bits.error(*command).startswith(text)
    assert bits.take_propagated() == []


def test_setbit_grows_with_zeros_and_returns_the_old_bit(session: Session) -> None:
    assert session.run("SETBIT", "k", 17, 1) == 0
    assert session.run("SETBIT", "k", 17, 0) == 1
    assert session.run("GET", "k") == b"\x00\x00\x00"


def test_setbit_that_changes_nothing_propagates_nothing(bits: Session) -> None:
    assert bits.propagated("SETBIT", "b", 8, 1) == []
    assert bits.propagated("SETBIT", "new", 8, 0) == ["SETBIT new 8 0"]
    assert bits.propagated("SETBIT", "new", 8, 0) == []
    assert bits.events("SETBIT", "new", 16, 0) == ["setbit new"]


def test_setbit_of_a_number_makes_it_raw_even_without_a_change(bits: Session) -> None:
    assert bits.run("OBJECT", "ENCODING", "n") == b"int"
    assert bits.run("SETBIT", "n", 2, 1) == 1
    assert bits.run("OBJECT", "ENCODING", "n") == b"raw"


def test_setbit_keeps_the_time_to_live(bits: Session) -> None:
    bits.run("EXPIRE", "n", 100)
    bits.run("SETBIT", "n", 0, 1)

    assert bits.run("TTL", "n") == 100


def test_setbit_from_the_master_may_pass_the_limit_of_clients(session: Session) -> None:
    session.engine.config.proto_max_bulk_len = 1 << 20
    assert session.error("SETBIT", "k", 1 << 23, 1).startswith("ERR bit offset")

    session.client.is_master = True
    assert session.run("SETBIT", "k", 1 << 23, 1) == 0


@pytest.mark.parametrize(
    ("operation", "sources", "result"),
    [
        ("AND", ["b", "ones"], b"\x00\xff\x00"),
        ("or", ["b", "ones", "none"], b"\xff\xff\xf0"),
        ("XOR", ["b", "ones"], b"\xff\x00\xf0"),
        ("NOT", ["b"], b"\xff\x00\x0f"),
    ],
)
def test_bitop_stores_a_string_as_long_as_its_longest_source(
    bits: Session, operation: str, sources: list[str], result: bytes
) -> None:
    bits.run("EXPIRE", "n", 100)

    assert bits.events("BITOP", operation, "n", *sources) == ["set n"]
    assert bits.run("GET", "n") == result
    assert bits.run("TTL", "n") == -1
    assert bits.run("OBJECT", "ENCODING", "n") == b"raw"


def test_bitop_of_nothing_deletes_its_destination(bits: Session) -> None:
    assert bits.events("BITOP", "AND", "list", "none", "empty") == ["del list"]
    assert bits.propagated("BITOP", "AND", "list", "none") == []


def test_bitop_into_its_own_source_reads_before_it_writes(bits: Session) -> None:
    assert bits.run("BITOP", "XOR", "b", "b", "ones", "b") == 3
    assert bits.run("GET", "b") == b"\xff\xff\x00"


def test_bitfield_runs_its_operations_in_order(session: Session) -> None:
    assert session.run(
        *("BITFIELD", "k", "SET", "u8", "#1", 255, "INCRBY", "u4", 8, 2, "GET", "u8", "#1"),
        *("OVERFLOW", "SAT", "INCRBY", "i5", 100, 300, "OVERFLOW", "FAIL", "INCRBY", "i5", 100, 1),
        *("GET", "i5", 100),
    ) == [0, 1, 31, 15, None, 15]
    assert session.run("STRLEN", "k") == 14


def test_bitfield_counts_each_change_as_dirt(bits: Session) -> None:
    command = ("BITFIELD", "b", "SET", "u8", 0, 1, "GET", "u8", 0, "SET", "u8", 8, 255)

    assert bits.dirt(*command) == 1
    assert bits.dirt(*command) == 0
    assert bits.events("BITFIELD", "b", "SET", "u8", 100, 0, "SET", "u8", 8, 0) == ["setbit b"]


def test_bitfield_that_grows_and_then_fails_is_propagated_so_that_replicas_agree(
    session: Session,
) -> None:
    command = ("BITFIELD", "k", "OVERFLOW", "FAIL", "INCRBY", "u2", 70, 100)

    assert session.run(*command) == [None]
    sent = session.take_propagated()
    assert session.run("STRLEN", "k") == 9
    assert session.events(*command) == []
    assert sent == ["BITFIELD k OVERFLOW FAIL INCRBY u2 70 100"]
    replica = Session()
    for line in sent:
        replica.run(*line.split())
    assert replica.run("STRLEN", "k") == 9
