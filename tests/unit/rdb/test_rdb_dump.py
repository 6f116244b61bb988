"""`rdb dump` in its other forms: CSV and commands, and the choice of keys."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import random
import re
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from rdb.cli.form import key_form, record_form
from rdb.cli.text import ENCODER, key_line, key_line_reference
from tests.unit.rdb.samples import DATA, GOLDENS, READABLE

KEYS = DATA / "goldens" / "keys.rdb"
FIELDS_WITH_TTL = DATA / "corpus/files/hdt3213__hash_with_hfe.rdb"


def test_dump_as_csv_quotes_what_must_be(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "a.rdb"
    with path.open("wb") as out:
        writer = rdb.RdbWriter(out.write)
        writer.select_db(2)
        writer.key(b'a,"b"', 0, b"line\r\nline", 5)
        writer.key(b"h", 4, [b"f,", b"1"])
        writer.key(b"z", 5, [(b"m", 1.0), (b'"', 2.5)])
        writer.key(b"l", 1, [b"x", b"\xc3\xa9"])
        writer.key(b"s", 2, [b"m"])
        stream = rdb.Stream([((1, 0), [b"f", b"v"])], (1, 0), (1, 0), (0, 0), 1)
        writer.key(b"x", 19, stream)
        writer.end()
    assert run(["dump", "--format", "csv", str(path)]) == exits.OK
    text = capfdbinary.readouterr().out.decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [
        ["db", "key", "type", "expires_at_ms", "element", "value"],
        ["2", 'a,"b"', "string", "5", "", "line\r\nline"],
        ["2", "h", "hash", "", "f,", "1"],
        ["2", "z", "zset", "", "m", "1"],
        ["2", "z", "zset", "", '"', "2.5"],
        ["2", "l", "list", "", "0", "x"],
        ["2", "l", "list", "", "1", "é"],
        ["2", "s", "set", "", "m", ""],
        ["2", "x", "stream", "", "1-0", '[["f", "v"]]'],
    ]


def test_dump_of_chosen_keys_accounts_for_the_others(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    def names(*arguments: str) -> list[str]:
        assert run(["dump", *arguments, str(KEYS)]) == exits.OK
        lines = capfdbinary.readouterr().out.splitlines()
        return sorted(json.loads(line)["key"] for line in lines)

    assert names("--expiring") == ["expires", "list expires"]
    assert names("--type", "list") == ["list expires"]
    assert names("--no-expiring", "--exclude", "in*") == ["plain"]
    assert names("--min-size", "100000") == []
    assert run(["dump", "--expiring", str(KEYS)]) == exits.OK
    err = capfdbinary.readouterr().err
    assert b"5 keys in the file = 2 kept + 0 expired + 3 filtered + 0 dropped" in err


def test_dump_as_restore_drops_what_redis_cannot_hold(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert run(["dump", "--format", "restore", str(FIELDS_WITH_TTL)]) == exits.INCOMPLETE
    assert b"need version 12" in capfdbinary.readouterr().err
    assert run(["dump", "--format", "commands", str(FIELDS_WITH_TTL)]) == exits.OK
    assert b"HPEXPIREAT" in capfdbinary.readouterr().out


@pytest.mark.parametrize("arguments", [["--format", "csv", "--keys-only"], ["--replace"]])
def test_dump_options_that_exclude_each_other_are_wrong_usage(arguments: list[str]) -> None:
    assert run(["dump", *arguments, str(KEYS)]) == exits.USAGE


def test_dump_as_restore_gives_the_instant_not_the_span(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert run(["dump", "--format", "restore", "--expiring", str(KEYS)]) == exits.OK
    out = capfdbinary.readouterr().out
    instants = [
        record.expires_at_ms
        for record in rdb.read(KEYS)
        if isinstance(record, rdb.Key) and record.expires_at_ms is not None
    ]
    assert out.count(b"ABSTTL") == len(instants) == 2
    assert all(b"\r\n%d\r\n" % at_ms in out for at_ms in instants)


def assert_lines(key: rdb.Key) -> None:
    """Hold the lines of a key, compiled and not, against the objects that they are to say."""
    for make in (partial(key_line, key), partial(key_line_reference, key)):
        assert json.loads(make(with_value=True, more=b"")) == record_form(key)
        assert make(with_value=True, more=b"") == ENCODER.encode(record_form(key)).encode() + b"\n"
        form = key_form(key) | {"bytes": 5}
        assert make(with_value=False, more=b',"bytes":5') == ENCODER.encode(form).encode() + b"\n"


@pytest.mark.parametrize("path", GOLDENS + READABLE, ids=lambda path: path.stem)
def test_line_of_every_key_is_that_of_its_form(path: Path) -> None:
    for key in rdb.read(path):
        if isinstance(key, rdb.Key):
            assert_lines(key)


def test_line_of_any_bytes_is_that_of_their_form() -> None:
    rng = random.Random(5)
    # Every byte and every pair around what UTF-8 and JSON treat differently, cut and whole.
    edges = (
        b'\x00\x08\x1f"\\a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5'
    )
    texts = [bytes((byte,)) for byte in range(256)]
    texts += [bytes(rng.choices(edges, k=rng.randrange(6))) for _ in range(20_000)]
    texts += [chr(point).encode() for point in range(0x80, 0xD800, 37)]
    texts += [chr(point).encode() for point in range(0xE000, 0x110000, 997)]
    assert_lines(rdb.Key(0, b"k", 1, texts, -(1 << 63), (1 << 64) - 1, 255))
    for text in texts[:3000]:
        assert_lines(rdb.Key(3, text, 0, text, (1 << 63) - 1))


def test_line_of_any_score_is_that_of_its_form() -> None:
    rng = random.Random(5)
    scores = [0.0, -0.0, 1e15, -1e15, 1e15 - 1, 1e16, 1e22, 1e-7, 0.1, math.inf, -math.inf, 5e-324]
    scores += [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(5000)]
    pairs = [(b"m", score) for score in scores if score == score]
    assert_lines(rdb.Key(0, b"k", 5, pairs))


def unescaped(text: str) -> bytes:
    return re.sub(
        rb"\\(\\|x[0-9a-f]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes.fromhex(found[1][1:].decode()),
        text.encode("ascii"),
    )


def assert_same_form(form: Any, other: Any, spelling: str) -> None:
    """Hold what is printed under --bytes against what is printed without."""
    if isinstance(form, dict) and form.keys() != {"b64"} and form.keys() == other.keys():
        for name, part in form.items():
            assert_same_form(part, other[name], spelling)
    elif isinstance(form, list):
        for part, its_other in zip(form, other, strict=True):
            assert_same_form(part, its_other, spelling)
    elif isinstance(form, (str, dict)) and form != other:
        data = form.encode() if isinstance(form, str) else base64.b64decode(form["b64"])
        if spelling == "escaped":
            assert unescaped(other) == data
        else:
            assert base64.b64decode(other["b64"], validate=True) == data
    else:
        assert form == other


@pytest.mark.parametrize("spelling", ["escaped", "base64"])
@pytest.mark.parametrize("options", [[], ["--keys-only"], ["--db", "0"]])
def test_dump_spells_bytes_as_it_is_told(
    spelling: str, options: list[str], capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    odd = tmp_path / "odd.rdb"
    with odd.open("wb") as file:
        writer = rdb.RdbWriter(file.write)
        writer.key(b'\\x41"\\', 0, b"\x00\x7f\xff\n\xc3\xa9")
        writer.end()
    for path in (odd, *GOLDENS):
        texts = []
        for more in ([], ["--bytes", spelling]):
            assert run(["dump", str(path), *options, *more]) == exits.OK
            texts.append(capfdbinary.readouterr().out.splitlines())
        for line, other in zip(*texts, strict=True):
            assert_same_form(json.loads(line), json.loads(other), spelling)
        if path is odd and not options and spelling == "escaped":
            assert json.loads(texts[1][1])["key"] == r"\\x41" + '"' + r"\\"
            assert json.loads(texts[1][1])["value"] == r"\x00\x7f\xff\x0a\xc3\xa9"
    assert run(["dump", "--bytes", spelling, "--format", "csv", str(odd)]) == exits.USAGE
