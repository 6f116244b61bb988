"""`rdb memory`: its estimates against MEMORY USAGE, and its fixed memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from rdb.cli.form import key_form
from rdb.cli.memory import Survey, elements_of
from rdb.lengths import decode_length
from rdb.sizes import allocated, memory_usage, rax_nodes
from rdb.strings import decode_string
from rdb.values import encode_quicklist
from tests.unit.rdb.samples import DATA

KEYS = DATA / "goldens" / "keys.rdb"
STREAM = rdb.Stream([((1700000000000, 0), [b"f", b"0123456789", b"g", b"0"])])


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 8), (8, 8), (9, 16), (17, 32), (128, 128), (129, 160), (161, 192), (257, 320),
     (4097, 5120), (20000, 20480), (1 << 20, 1 << 20), ((1 << 20) + 1, 5 << 18)],
)  # fmt: skip
def test_allocation_is_the_size_class_of_jemalloc(size: int, expected: int) -> None:
    assert allocated(size) == expected


@pytest.mark.parametrize(
    ("key", "type_code", "value", "expected"),
    [
        (b"s:0", 0, b"", 64),
        (b"s:44", 0, b"\xff" * 44, 96),
        (b"s:45", 0, b"\xff" * 45, 112),
        (b"i:9999", 0, b"9999", 48),
        (b"i:4611686018427387904", 0, b"4611686018427387904", 72),
        (b"iset:100", 2, [b"%d" % n for n in range(100)], 280),
        (b"set:1:4", 2, [b"\xff" * 4], 176),
        (b"set:10:20", 2, [bytes([n]) * 20 for n in range(200, 210)], 800),
        (b"h:1:4", 4, [b"\xff" * 4, b"\xfe" * 4], 80),
        (b"li:100", 1, [b"%d" % n for n in range(100)], 352),
        (b"lbig:3", 1, [b"\xff" * 20000] * 3, 61648),
        (b"x:1", 19, STREAM, 680),
    ],
)
def test_estimate_is_what_a_server_answered(
    key: bytes, type_code: int, value: Any, expected: int
) -> None:
    """The figures are those of redis-server 7.0.15, MEMORY USAGE key SAMPLES 0, after a load."""
    assert memory_usage(rdb.Key(0, key, type_code, value)) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], 1),
        ([b"abcd"], 2),
        ([b"abcd", b"abce"], 4),  # A run, a fork, two leaves.
        ([b"abcd", b"aecd"], 6),  # A run, a fork, two runs, two leaves.
        ([b"abcd", b"bbcd"], 5),  # No run above the fork.
        ([b"ab", b"ac", b"bb"], 6),  # Fork on a, leaves under a second fork, a run to bb.
    ],
)
def test_radix_tree_nodes_are_counted(keys: list[bytes], expected: int) -> None:
    assert rax_nodes(keys) == expected


def survey_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["memory", "--json", *arguments]) == exits.OK
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_memory_groups_by_type_prefix_and_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.rdb"
    with path.open("wb") as out:
        writer = rdb.RdbWriter(out.write)
        writer.select_db(0)
        for n in range(30):
            writer.key(b"user:%d:name" % (n % 3 + n * 3), 0, b"x" * n)
        writer.key(b"session:1", 1, [b"y" * 50] * 100)
        writer.key(b"alone", 0, b"1")
        writer.end()
    found = survey_of(capsys, "--top", "2", str(path))
    assert found["total"]["keys"] == 32
    assert [(row["type"], row["keys"]) for row in found["types"]] == [("list", 1), ("string", 31)]
    assert [row["prefix"] for row in found["prefixes"]] == ["session:", "user:"]
    assert found["largest"][0]["key"] == "session:1"
    assert found["largest"][0]["elements"] == 100 and len(found["largest"]) == 2
    deep = survey_of(capsys, "--depth", "2", "--top", "99", str(path))
    assert {row["prefix"]: row["keys"] for row in deep["prefixes"]}[""] == 2
    assert len(deep["prefixes"]) == 31
    assert sum(row["used_bytes"] for row in deep["prefixes"]) == found["total"]["used_bytes"]
    assert survey_of(capsys, "--type", "list", str(path))["total"]["keys"] == 1


def test_memory_as_text_ends_with_the_account(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["memory", "--db", "3", str(KEYS)]) == exits.OK
    out, err = capsys.readouterr()
    assert out.startswith("1 keys, some ") and 'db 3 string "in three"' in out
    assert "5 keys in the file = 1 kept + 0 expired + 4 filtered + 0 dropped" in err


def test_prefixes_without_end_stay_in_a_bounded_table() -> None:
    survey = Survey(3, b":", 1, max_prefixes=50)
    for n in range(1000):
        for name in (b"heavy:%d" % n, b"p%d:x" % n):
            survey.add(rdb.Key(0, name, 0, b"v"), 2)
    assert len(survey.prefixes) <= 50
    assert survey.prefixes[b"heavy:"].keys == 1000
    rows = [*survey.prefixes.values(), survey.others]
    assert sum(row.keys for row in rows) == survey.total.keys == 2000
    assert sum(row.used_bytes for row in rows) == survey.total.used_bytes


def test_memory_of_damaged_file_shows_what_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    cut = str(DATA / "corpus/files/syn__neg-trunc0-base.rdb")
    assert run(["memory", cut]) == exits.DAMAGED
    out, err = capsys.readouterr()
    assert out.startswith("5 keys") and "damaged: the RDB ends early" in err


def test_memory_list_gives_every_key_with_its_sizes(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert run(["memory", "--list", str(KEYS)]) == exits.OK
    listed = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    whole = [key for key in rdb.read(KEYS) if isinstance(key, rdb.Key)]
    raw = [key for key in rdb.read(KEYS, raw_values=True) if isinstance(key, rdb.Key)]
    for line, key, encoded in zip(listed, whole, raw, strict=True):
        sizes = {"used_bytes": memory_usage(key), "elements": elements_of(key)}
        assert line == key_form(key) | sizes | {"file_bytes": len(encoded.value)}


def test_memory_list_of_damaged_file_lists_what_was_read(
    capfd: pytest.CaptureFixture[str],
) -> None:
    cut = str(DATA / "corpus/files/syn__neg-trunc0-base.rdb")
    assert run(["memory", "--list", cut]) == exits.DAMAGED
    assert len(capfd.readouterr().out.splitlines()) == 5


def test_memory_list_as_one_object_is_refused() -> None:
    assert run(["memory", "--list", "--json", str(KEYS)]) == exits.USAGE


@pytest.mark.parametrize("spare", range(-2, 3))
def test_list_of_one_node_or_two_takes_what_its_encoding_does(spare: int) -> None:
    """Around the limit of a node, where a list is no longer encoded to be measured."""
    value = [b"x" * 4096, b"y" * (4074 + spare)]
    encoded = encode_quicklist(value, compress=False)
    nodes, pos = decode_length(encoded, 0)
    assert nodes == (2 if spare > 0 else 1)
    node_bytes = []
    for _ in range(nodes):
        node, pos = decode_string(encoded, pos + 1)
        node_bytes.append(allocated(len(node)))
    head_bytes = 24 + 8 + 16 + 40 + 40 * nodes
    assert memory_usage(rdb.Key(0, b"k", 1, value)) == head_bytes + sum(node_bytes)
