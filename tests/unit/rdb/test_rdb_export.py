"""`rdb export`: what pyarrow reads back is what is in the file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

import rdb
from rdb.cli import exits, run
from rdb.sizes import memory_usage
from tests.conftest import IN_CI
from tests.unit.rdb.samples import DATA, GOLDENS, NEWEST

KEYS = DATA / "goldens" / "keys.rdb"
FIELDS_WITH_TTL = DATA / "corpus/files/hdt3213__hash_with_hfe.rdb"
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None and not IN_CI, reason="pyarrow is not installed"
)


def table_of(path: Path, out: Path, *arguments: str) -> list[dict[str, Any]]:
    assert run(["export", str(path), "-o", str(out), *arguments]) == exits.OK
    # Read without its threads, so that no pool is left behind in the test process.
    table = importlib.import_module("pyarrow.parquet").ParquetFile(out).read(use_threads=False)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def keys_of(path: Path) -> list[rdb.Key]:
    return [record for record in rdb.read(path) if isinstance(record, rdb.Key)]


@needs_pyarrow
@pytest.mark.parametrize("path", GOLDENS + NEWEST, ids=lambda path: path.stem)
def test_export_of_elements_gives_them_all(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name rdb.cli.export is that of the command.
    monkeypatch.setattr(sys.modules["rdb.cli.export"], "ROWS_A_GROUP", 50)
    rows = table_of(path, tmp_path / "out.parquet")
    found: dict[tuple[int, bytes], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["db"], row["key"]), []).append(row)
    keys = {(key.db, key.key): key for key in keys_of(path)}
    assert found.keys() == {name for name, key in keys.items() if key.kind == "string" or len(
        key.value.entries if key.kind == "stream" else key.value)}  # fmt: skip
    for name, of_key in found.items():
        key = keys[name]
        assert {row["type"] for row in of_key} == {key.kind}
        told = [(row["element"], row["value"]) for row in of_key]
        if key.kind == "string":
            assert told == [(b"", key.value)]
        elif key.kind == "list":
            assert [value for _, value in told] == key.value
            assert [element for element, _ in told] == [b"%d" % n for n in range(len(told))]
        elif key.kind == "set":
            assert [element for element, _ in told] == key.value
        elif key.kind == "hash":
            assert [text for pair in told for text in pair] == key.value
        elif key.kind == "zset":
            assert [(row["element"], row["score"]) for row in of_key] == key.value
        elif key.kind == "array":
            assert [(int(element), value) for element, value in told] == key.value.elements
        else:
            ids = [b"%d-%d" % entry_id for entry_id, _ in key.value.entries]
            assert [element for element, _ in told] == ids


@needs_pyarrow
def test_export_tells_when_keys_and_fields_expire(tmp_path: Path) -> None:
    def ms(instant: Any) -> int | None:
        return None if instant is None else round(instant.timestamp() * 1000)

    rows = table_of(KEYS, tmp_path / "a.parquet")
    assert {row["key"]: ms(row["expires_at"]) for row in rows} == {
        key.key: key.expires_at_ms for key in keys_of(KEYS)
    }
    rows = table_of(FIELDS_WITH_TTL, tmp_path / "b.parquet", "--type", "hash")
    told = {(row["key"], row["element"]): ms(row["element_expires_at"]) for row in rows}
    expected = {
        (key.key, field): key.value.expires_at_ms.get(field)
        for key in keys_of(FIELDS_WITH_TTL)
        if isinstance(key.value, rdb.ExpiringHash)
        for field in key.value.fields[::2]
    }
    assert expected and any(expected.values()) and told == told | expected


@needs_pyarrow
def test_export_of_keys_gives_their_sizes_and_the_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table_of(KEYS, tmp_path / "out.parquet", "--rows", "keys", "--no-expiring")
    assert "5 keys in the file = 3 kept + 0 expired + 2 filtered + 0 dropped" in (
        capsys.readouterr().err
    )
    raw = {key.key: len(key.value) for key in rdb.read(KEYS, raw_values=True)
           if isinstance(key, rdb.Key)}  # fmt: skip
    whole = {key.key: key for key in keys_of(KEYS)}
    assert len(rows) == 3
    for row in rows:
        assert row["file_bytes"] == raw[row["key"]]
        assert row["memory_bytes"] == memory_usage(whole[row["key"]])


@needs_pyarrow
def test_export_of_damaged_file_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    cut = str(DATA / "corpus/files/syn__neg-trunc0-base.rdb")
    assert run(["export", cut, "-o", str(out)]) == exits.DAMAGED
    assert not list(tmp_path.iterdir())


def test_export_without_pyarrow_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "out.parquet"
    assert run(["export", str(KEYS), "-o", str(out)]) == exits.USAGE
    assert "pip install 'kvrepl[export]'" in capsys.readouterr().err
    assert not out.exists()
