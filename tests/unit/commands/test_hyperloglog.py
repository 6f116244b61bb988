"""HyperLogLog: replies, errors, propagation and encodings of its commands."""

from __future__ import annotations

from random import Random

import pytest

from kvrepl.datatypes import hyperloglog as hll
from tests.unit.commands.session import Session

DENSE_FROM = 40
"""hll-sparse-max-bytes of the key `big`: a few elements make it dense."""


@pytest.fixture
def logs(session: Session) -> Session:
    """Give h = a b c, big = x 0..19 (dense), a number, a list, and a corrupt value."""
    session.run("PFADD", "h", "a", "b", "c")
    session.engine.config.hll_sparse_max_bytes = DENSE_FROM
    session.run("PFADD", "big", "x", *range(20))
    session.engine.config.hll_sparse_max_bytes = 3000
    session.run("SET", "n", "12")
    session.run("RPUSH", "list", "x")
    session.run("SET", "bad", "HYLL\x01" + "\0" * 10 + "\x7f\0")
    session.run("SETBIT", "bad", 15 * 8, 1)
    session.take_propagated()
    return session


def test_pfadd_tells_whether_anything_changed(session: Session) -> None:
    assert session.propagated("PFADD", "k") == ["PFADD k"]
    assert session.propagated("PFADD", "k") == []
    assert session.propagated("PFADD", "k", "a", "b") == ["PFADD k a b"]
    assert session.propagated("PFADD", "k", "a", "b") == []
    assert session.run("PFADD", "k", "a", "c") == 1
    assert session.run("PFADD", "k", "c") == 0
    assert session.run("PFCOUNT", "k") == 3


def test_pfadd_counts_the_key_and_each_register_as_dirt(session: Session) -> None:
    assert session.dirt("PFADD", "k", "a", "b", "a") == 3
    assert session.dirt("PFADD", "k", "a") == 0
    assert session.events("PFADD", "k", "c") == ["pfadd k"]


def test_pfadd_that_changes_nothing_keeps_the_cached_count(logs: Session) -> None:
    logs.run("PFCOUNT", "h")
    logs.run("PFADD", "h", "a")

    assert logs.propagated("PFCOUNT", "h") == []


def test_pfadd_beyond_the_threshold_makes_the_value_dense(logs: Session) -> None:
    assert logs.run("PFDEBUG", "ENCODING", "h").text == b"sparse"
    assert logs.run("PFDEBUG", "ENCODING", "big").text == b"dense"
    assert logs.run("STRLEN", "big") == hll.DENSE_BYTES
    assert logs.run("PFCOUNT", "big") == 21


def test_pfcount_that_notes_its_result_is_propagated_once(logs: Session) -> None:
    assert logs.propagated("PFCOUNT", "h") == ["PFCOUNT h"]
    assert logs.propagated("PFCOUNT", "h") == []
    assert logs.events("PFCOUNT", "big") == []
    assert logs.dirt("PFCOUNT", "h", "big") == 0


def test_pfcount_of_a_loaded_value_keeps_its_time_to_live(logs: Session) -> None:
    logs.run("SET", "loaded", bytes(logs.client.db.peek(b"h") or b""), "EX", 100)

    assert logs.run("PFCOUNT", "loaded") == 3
    assert logs.run("OBJECT", "ENCODING", "loaded") == b"raw"
    assert logs.run("TTL", "loaded") == 100


def test_pfcount_of_several_keys_is_of_their_union(logs: Session) -> None:
    assert logs.run("PFCOUNT", "none") == 0
    assert logs.run("PFCOUNT", "none", "other") == 0
    assert logs.run("PFCOUNT", "h", "big", "none", "h") == 24


def test_pfmerge_creates_its_destination_even_of_nothing(session: Session) -> None:
    assert session.propagated("PFMERGE", "d") == ["PFMERGE d"]
    assert session.run("GET", "d") == b"HYLL\x01" + bytes(10) + b"\x80\x7f\xff"
    assert session.events("PFMERGE", "d", "none") == ["pfadd d"]


def test_pfmerge_is_dense_where_any_of_its_sources_is(logs: Session) -> None:
    logs.run("PFMERGE", "d", "h")
    assert logs.run("PFDEBUG", "ENCODING", "d").text == b"sparse"

    logs.run("PFMERGE", "d", "big")
    assert logs.run("PFDEBUG", "ENCODING", "d").text == b"dense"
    assert logs.run("PFCOUNT", "d") == 24


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("PFADD", "n", "x"), "WRONGTYPE Key is not a valid HyperLogLog string value."),
        (("PFADD", "list", "x"), "WRONGTYPE Operation against a key"),
        (("PFADD", "bad", "x"), "INVALIDOBJ Corrupted HLL object detected"),
        (("PFCOUNT", "n"), "WRONGTYPE Key is not a valid HyperLogLog string value."),
        (("PFCOUNT", "h", "n"), "WRONGTYPE Key is not a valid HyperLogLog string value."),
        (("PFCOUNT", "bad"), "INVALIDOBJ Corrupted HLL object detected"),
        (("PFCOUNT", "h", "bad"), "INVALIDOBJ Corrupted HLL object detected"),
        (("PFMERGE", "n", "h"), "WRONGTYPE Key is not a valid HyperLogLog string value."),
        (("PFMERGE", "d", "bad"), "INVALIDOBJ Corrupted HLL object detected"),
        (("PFDEBUG", "ENCODING", "none"), "ERR The specified key does not exist"),
        (("PFDEBUG", "DECODE", "big"), "ERR HLL encoding is not sparse"),
        (("PFDEBUG", "Encode", "h"), "ERR Unknown PFDEBUG subcommand 'Encode'"),
        (("PFDEBUG", "TODENSE", "bad"), "INVALIDOBJ Corrupted HLL object detected"),
    ],
)
def test_hyperloglog_command_of_a_bad_value_is_refused(
    logs: Session, command: tuple[object, ...], text: str
) -> None:
    assert logs.error(*command).startswith(text)
    assert logs.take_propagated() == []
    assert logs.run("EXISTS", "d") == 0


def test_pfdebug_todense_is_propagated_where_it_changed_the_encoding(logs: Session) -> None:
    assert logs.run("PFDEBUG", "DECODE", "h").startswith(b"Z:8436 v:1,1 ")
    assert logs.propagated("PFDEBUG", "todense", "h") == ["PFDEBUG todense h"]
    assert logs.run("PFDEBUG", "TODENSE", "h") == 0
    assert logs.take_propagated() == []


def test_pfdebug_getreg_tells_the_registers_and_leaves_the_value_dense(logs: Session) -> None:
    registers = logs.run("PFDEBUG", "GETREG", "h")

    assert len(registers) == hll.REGISTERS
    assert [rank for rank in registers if rank] == [1, 2, 1]
    assert logs.take_propagated() == ["PFDEBUG GETREG h"]


class Stuck(Random):
    """Chance that always gives the same bytes."""

    def randbytes(self, n: int) -> bytes:
        """Give zeros."""
        return bytes(n)


def test_pfselftest_passes_by_chance_and_fails_without(session: Session) -> None:
    assert session.run("PFSELFTEST").text == b"OK"

    session.engine.rng = Stuck()
    assert session.error("PFSELFTEST") == "TESTFAILED Too big error. card:10 abserr:9"
