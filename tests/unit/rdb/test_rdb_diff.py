"""`rdb diff`: what counts as a difference, what does not, and how it is said."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from tests.unit.rdb.samples import CORPUS, DATA, GOLDENS, corpus_path, is_readable

Item = tuple[int, bytes, int, Any, int | None]
WriteFile = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Write a file of (db, key, type code, value, expires_at_ms) records; return its path."""

    def make(name: str, items: list[Item], functions: tuple[bytes, ...] = (), **how: Any) -> str:
        path = tmp_path / name
        with path.open("wb") as out:
            writer = rdb.RdbWriter(out.write, version=12)
            for code in functions:
                writer.function(code)
            for db, key, type_code, value, at_ms in items:
                writer.select_db(db)
                writer.key(key, type_code, value, at_ms, **how)
            writer.end()
        return str(path)

    return make


def differences(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> list[Any]:
    status = run(["diff", "--json", *arguments])
    found = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert status == (exits.DIFFERENT if found else exits.OK)
    return found


STREAM = rdb.Stream([((1, 0), [b"f", b"v"]), ((2, 0), [b"g", b"w"])], (2, 0), (1, 0), (0, 0), 2)
LATER = rdb.Stream(
    [((2, 0), [b"g", b"x"]), ((3, 0), [b"h", b"y"])],
    (3, 0),
    (2, 0),
    (1, 0),
    3,
    [rdb.Group(b"grp", (2, 0), 1)],
)


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_diff_of_file_with_itself_is_equal(path: Path) -> None:
    assert run(["diff", str(path), str(path)]) == exits.OK


def test_diff_of_other_encodings_and_order_is_equal(write: WriteFile) -> None:
    pairs = [(b"a", 1.0), (b"b", 2.5)]
    first: list[Item] = [
        (0, b"s", 0, b"x" * 100, None),
        (0, b"l", 1, [b"1", b"2"], None),
        (3, b"set", 2, [b"1", b"2"], 9),
        (0, b"z", 5, pairs, None),
        (0, b"h", 4, [b"f", b"1", b"g", b"2"], None),
        (0, b"x", 21, STREAM, None),
    ]
    second: list[Item] = [
        (0, b"x", 19, STREAM, None),
        (0, b"h", 16, [b"g", b"2", b"f", b"1"], None),
        (0, b"z", 17, pairs, None),
        (3, b"set", 11, [b"2", b"1"], 9),
        (0, b"l", 18, [b"1", b"2"], None),
        (0, b"s", 0, b"x" * 100, None),
    ]
    assert run(["diff", write("a", first), write("b", second, compress=False)]) == exits.OK


@pytest.mark.parametrize(
    ("type_code", "before", "after", "delta"),
    [
        (0, b"a", b"\xff", {"before": "a", "after": {"b64": "/w=="}}),
        (1, [b"a", b"b", b"c"], [b"a", b"x", b"y", b"c"],
         {"at": 1, "removed": ["b"], "added": ["x", "y"]}),
        (1, [b"a", b"a"], [b"a"], {"at": 1, "removed": ["a"], "added": []}),
        (2, [b"a", b"b"], [b"c", b"b"], {"removed": ["a"], "added": ["c"]}),
        (5, [(b"a", 1.0), (b"b", 2.0)], [(b"b", 2.5), (b"c", 3.0)],
         {"removed": [["a", "1"]], "added": [["c", "3"]], "changed": [["b", "2", "2.5"]]}),
        (5, [(b"a", 0.0)], [(b"a", -0.0)], {"changed": [["a", "0", "-0"]]}),
        (4, [b"f", b"1", b"g", b"2"], [b"g", b"3", b"h", b"4"],
         {"removed": [["f", "1"]], "added": [["h", "4"]], "changed": [["g", "2", "3"]]}),
        (19, STREAM, LATER,
         {"removed": [["1-0", [["f", "v"]]]], "added": [["3-0", [["h", "y"]]]],
          "changed": [["2-0", [["g", "w"]], [["g", "x"]]]], "last_id": ["2-0", "3-0"],
          "max_deleted_id": ["0-0", "1-0"], "entries_added": [2, 3],
          "groups": {"added": [["grp", {"name": "grp", "last_id": "2-0", "entries_read": 1,
                                        "pending": [], "consumers": []}]]}}),
        (7, rdb.ModuleValue(1 << 40, b"\x00"), rdb.ModuleValue(1 << 40, b"\x02\x01\x00"),
         {"before": "\0", "after": "\2\1\0"}),
    ],
)  # fmt: skip
def test_diff_of_changed_value_goes_down_to_the_element(
    type_code: int,
    before: Any,
    after: Any,
    delta: Any,
    write: WriteFile,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    a = write("a", [(2, b"k", type_code, before, None)])
    b = write("b", [(2, b"k", type_code, after, None)])
    (found,) = differences(capfdbinary, a, b)
    assert (found["change"], found["db"], found["key"]) == ("changed", 2, "k")
    assert found["delta"] == delta


def test_diff_names_added_removed_retyped_and_expiring_keys(
    write: WriteFile, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    a = write("a", [(0, b"gone", 0, b"1", 7), (0, b"type", 0, b"1", None), (0, b"ttl", 0, b"1", 5)])
    b = write(
        "b", [(0, b"type", 1, [b"1"], None), (0, b"ttl", 0, b"1", 6), (1, b"gone", 0, b"1", 7)]
    )
    found = {
        (form["change"], form["db"], form["key"]): form for form in differences(capfdbinary, a, b)
    }
    assert found.keys() == {
        ("removed", 0, "gone"), ("added", 1, "gone"), ("changed", 0, "type"), ("changed", 0, "ttl")
    }  # fmt: skip
    removed = found["removed", 0, "gone"]
    assert (removed["value"], removed["type"], removed["expires_at_ms"]) == ("1", "string", 7)
    assert found["changed", 0, "ttl"]["delta"] == {"expires_at_ms": [5, 6]}
    delta = {"type": ["string", "list"], "before": "1", "after": ["1"]}
    assert found["changed", 0, "type"]["delta"] == delta
    assert len(differences(capfdbinary, "--ignore-ttl", a, b)) == 3
    assert len(differences(capfdbinary, "--match", "t*", a, b)) == 2


def test_diff_of_field_ttl_is_told(
    capfdbinary: pytest.CaptureFixture[bytes], write: WriteFile
) -> None:
    with_ttl = str(DATA / "corpus/files/hdt3213__hash_with_hfe.rdb")
    keys = [record for record in rdb.read(with_ttl) if isinstance(record, rdb.Key)]
    items: list[Item] = [
        (k.db, k.key, 4 if k.kind == "hash" else k.type_code,
         k.value.fields if isinstance(k.value, rdb.ExpiringHash) else k.value, k.expires_at_ms)
        for k in keys
    ]  # fmt: skip
    plain = write("plain", items)
    found = differences(capfdbinary, with_ttl, plain)
    assert found and all(form["delta"].keys() == {"expires_at_ms"} for form in found)
    assert all(
        at is not None and none is None for _, at, none in found[0]["delta"]["expires_at_ms"]
    )
    assert differences(capfdbinary, "--ignore-ttl", with_ttl, plain) == []


REFERENCE = b"\x20\x01h\x01\x01v"
"""A hash of type 32: template 1, value v."""


def file_of(path: Path, records: bytes, version: int = 15) -> str:
    path.write_bytes(rdb.encode_header(version) + records + b"\xff" + bytes(8))
    return str(path)


def test_diff_of_hashes_by_template_compares_their_fields(
    tmp_path: Path, write: WriteFile, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = file_of(tmp_path / "one", b"\xf2\x01\x01\x01f" + REFERENCE)
    # The same bytes of the value, but another meaning of template 1.
    two = file_of(tmp_path / "two", b"\xf2\x01\x01\x01g" + REFERENCE)
    # Other bytes of the value, the same meaning.
    six = file_of(tmp_path / "six", b"\xf2\x06\x01\x01f\x20\x01h\x06\x01v")
    plain = write("plain", [(0, b"h", 4, [b"f", b"v"], None)])
    assert differences(capfdbinary, one, six) == []
    assert differences(capfdbinary, one, plain) == []
    (found,) = differences(capfdbinary, one, two)
    assert found["delta"] == {"removed": [["f", "v"]], "added": [["g", "v"]]}


def test_diff_of_arrays_goes_by_index(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    one = file_of(tmp_path / "one", b"\x1c\x01a\x02\x00\x01\x03\x01x\x05\x03\x01y")
    two = file_of(tmp_path / "two", b"\x1c\x01a\x02\x01\x09\x05\x03\x01z\x07\x03\x01w")
    (found,) = differences(capfdbinary, one, two)
    assert found["delta"] == {
        "removed": [["1", "x"]], "added": [["7", "w"]], "changed": [["5", "y", "z"]],
        "cursor": [None, 9],
    }  # fmt: skip


def test_diff_of_function_libraries_is_told(
    write: WriteFile, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    a = write("a", [], (b"#!lua name=one\n1", b"#!lua name=two\n1"))
    b = write("b", [], (b"#!lua name=two\n2", b"#!lua name=six\n1"))
    found = {form["function"]: form["change"] for form in differences(capfdbinary, a, b)}
    assert found == {"one": "removed", "two": "changed", "six": "added"}


def test_diff_as_text_shows_each_part(
    write: WriteFile, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    a = write("a", [(0, b"h", 4, [b"f", b"1", b"g", b"2"], 5), (0, b"old", 0, b"1", None)])
    b = write("b", [(0, b"h", 4, [b"f", b"2", b"g", b"2"], None), (1, b"new", 0, b"1", None)])
    assert run(["diff", a, b]) == exits.DIFFERENT
    out, err = capfdbinary.readouterr()
    assert out.decode().splitlines() == [
        '~ db 0 hash "h"',
        "    expires_at_ms: 5 -> None",
        '    ~ "f": "1" -> "2"',
        '+ db 1 string "new"',
        '- db 0 string "old"',
    ]
    assert b"1 added, 1 removed, 1 changed, 0 the same" in err
    assert b"2 keys in the file = 2 kept + 0 expired + 0 filtered + 0 dropped" in err
    assert run(["diff", "-q", a, b]) == exits.DIFFERENT
    assert capfdbinary.readouterr().out == b""


@pytest.mark.parametrize(
    "path",
    [corpus_path(e) for e in CORPUS if is_readable(e) and e["checksum"] != "bad"][::4],
    ids=lambda path: path.stem,
)
def test_diff_tells_a_file_from_one_without_its_last_key(
    path: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    keys = [record for record in rdb.read(path, raw_values=True) if isinstance(record, rdb.Key)]
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert differences(capfdbinary, str(path), str(packed)) == []
    if keys and keys[-1].key.isascii() and not set(keys[-1].key) & set(b"*?[\\"):
        found = differences(
            capfdbinary, str(path), str(DATA / "corpus/files/snapchat__empty.rdb"),
            "--match", keys[-1].key.decode(),
        )  # fmt: skip
        assert {form["change"] for form in found} == {"removed"}


def test_diff_of_damaged_operand_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    cut = str(DATA / "corpus/files/syn__neg-trunc0-base.rdb")
    assert run(["diff", str(GOLDENS[0]), cut]) == exits.DAMAGED_OPERAND
    assert "trunc0-base.rdb: damaged: the RDB ends early" in capsys.readouterr().err
    assert run(["diff", "-", "-"]) == exits.USAGE
    assert run(["diff", str(GOLDENS[0]), "/nonexistent"]) == exits.UNREADABLE


def test_diff_of_key_that_stands_twice_is_damage(
    write: WriteFile, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = write("a", [(0, b"k", 0, b"1", None), (0, b"k", 0, b"2", None)])
    assert run(["diff", twice, str(GOLDENS[0])]) == exits.DAMAGED_OPERAND
    assert "stands twice" in capsys.readouterr().err
