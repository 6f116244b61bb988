"""docs/AOF.md: its worked example is the file that it names, and its options exist."""

from __future__ import annotations

import re
from pathlib import Path

from click import Group

from kvrepl.toolbox.aof import aof
from kvrepl.toolbox.aof_scan import items, open_log

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "AOF.md").read_text()
EXAMPLE = ROOT / "tests/data/aof/timestamps/appendonly.aof.1.incr.aof"
HEX_LINE = re.compile(r"^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)(?:  |$)( *\S.*)?", re.MULTILINE)


def test_example_in_docs_is_the_file_that_it_names() -> None:
    rows = [(int(m[1], 16), bytes.fromhex(m[2])) for m in HEX_LINE.finditer(TEXT)]

    assert b"".join(data for _, data in rows) == EXAMPLE.read_bytes()
    position = 0
    for offset, data in rows:
        assert offset == position
        position += len(data)


def test_example_in_docs_begins_a_paragraph_at_each_command() -> None:
    noted = [int(m[1], 16) for m in HEX_LINE.finditer(TEXT) if m[3]]

    [part] = open_log(EXAMPLE).parts
    assert noted == [item.offset for item in items(part, 0, part.size_bytes or 0)]


def test_docs_name_every_command_and_every_option() -> None:
    assert isinstance(aof, Group)
    for name, command in aof.commands.items():
        assert f"`{name} " in TEXT
        for option in (o for p in command.params for o in p.opts if o.startswith("--")):
            assert option in TEXT, f"{name} {option}"
