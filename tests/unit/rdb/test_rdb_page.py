"""docs/RDB.md: its examples decode to what it says, its tables name what the reader knows."""

from __future__ import annotations

import json
import re

import rdb
from rdb import constants as c
from rdb.cli.form import value_form
from tests.unit.rdb.samples import DATA

TEXT = (DATA.parents[2] / "docs" / "RDB.md").read_text()
HEX = r"(?:[0-9a-f]{2} ?)+"
HEX_LINE = re.compile(rf"^    ([0-9a-f]{{4}})  ({HEX})(?: |$)", re.MULTILINE)
VALUE = re.compile(rf"^    type (\d+) +({HEX}(?:\n {{13}}{HEX})*)\n +=   (.+)$", re.MULTILINE)


def test_values_on_the_page_decode_to_what_it_says() -> None:
    seen = set()
    for type_code, data, expected in VALUE.findall(TEXT):
        encoded = bytes.fromhex(data)
        value, end = rdb.decode_value(int(type_code), encoded, 0)
        assert end == len(encoded)
        assert value_form(rdb.Key(0, b"", int(type_code), value)) == json.loads(expected)
        seen.add(int(type_code))
    assert seen == {0, 1, 3, 4, 5, 7, 9, 10, 11, 16, 17, 18, 19, 24, 28, 29}
    assert len(VALUE.findall(TEXT)) == TEXT.count("\n    type ")


def test_file_on_the_page_is_the_one_that_it_names() -> None:
    path = DATA / "goldens" / "keys.rdb"
    assert f"`tests/data/rdb/goldens/{path.name}`, {path.stat().st_size} bytes" in TEXT
    rows = [(int(m[1], 16), bytes.fromhex(m[2])) for m in HEX_LINE.finditer(TEXT)]
    assert b"".join(data for _, data in rows) == path.read_bytes()
    position = 0
    for offset, data in rows:
        assert offset == position
        position += len(data)
    # Every record begins a row.
    reader = rdb.RdbReader()
    starts = {0}
    for at in range(position):
        if reader.feed(path.read_bytes()[at : at + 1]) and not reader.finished:
            starts.add(reader.offset)
    grouped = {0x52, 0x98, 0xA9}  # Sizes, beside the database that they are of.
    assert starts - grouped <= {offset for offset, _ in rows}


def test_tables_on_the_page_name_every_type_and_opcode() -> None:
    rows = re.findall(r"^\| ([0-9][^|]*)\| (?:both|REDIS|VALKEY)", TEXT, re.MULTILINE)
    named = {int(number) for row in rows for number in re.findall(r"\d+", row)}
    assert named == {*c.TYPE_NAMES}
    opcodes = {int(code, 16) for code in re.findall(r"^\| ([0-9A-F]{2}) \|", TEXT, re.MULTILINE)}
    known = {value for name, value in vars(c).items() if name.startswith("OP_")}
    assert opcodes >= known
