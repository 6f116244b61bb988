"""The arithmetic and the tables of the benchmarks, on numbers made up here."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.datasets import strings
from benchmarks.measure import (
    Bench,
    Row,
    Sample,
    Scale,
    in_pure_python,
    kept_bytecode,
    run_interleaved,
)
from benchmarks.prober import Prober, Waits
from benchmarks.report import (
    HIGHLIGHTS,
    markdown,
    number_text,
    read_csv,
    summary,
    write_csv,
)
from tests.interop.harness import Kind

SCALE = Scale(keys=10, collections=10, requests=10, repetitions=3)
KINDS: tuple[Kind, ...] = ("redis", "kvrepl")


def row(redis: list[float], kvrepl: list[float]) -> Row:
    return Row("case", "time", "s", False, {"redis": redis, "kvrepl": kvrepl})


def test_row_ratio_is_of_medians_so_one_outlier_changes_nothing() -> None:
    assert row([1.0, 2.0, 100.0], [3.0, 4.0, 5.0]).ratio() == 2.0


@pytest.mark.parametrize("one", [row([], [1.0]), row([1.0], []), row([0.0], [1.0])])
def test_row_ratio_without_a_base_is_none(one: Row) -> None:
    assert one.ratio() is None


def test_run_interleaved_turns_the_order_round_every_repetition(tmp_path: Path) -> None:
    order: list[Kind] = []

    def benchmark(bench: Bench, kind: Kind) -> Iterator[Sample]:
        order.append(kind)
        yield Sample("case", "time", "s", float(len(order)))

    (found,) = run_interleaved(benchmark, Bench(SCALE, tmp_path), KINDS, lambda line: None)

    assert order == ["redis", "kvrepl", "kvrepl", "redis", "redis", "kvrepl"]
    assert found.values == {"redis": [1.0, 4.0, 5.0], "kvrepl": [2.0, 3.0, 6.0]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (123456.7, "123,457")],
)
def test_number_text_keeps_three_digits(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_markdown_names_the_machine_and_gives_medians_spread_and_ratio() -> None:
    page = markdown("Load", [row([1, 2, 3], [4, 6, 8])], KINDS, SCALE, {"Redis": "7.0.15"})

    assert "- Redis: 7.0.15\n" in page
    assert "| case | time | s | 2 (1 to 3) | 6 (4 to 8) | 3.00 ▼ |\n" in page


def test_write_csv_has_every_sample(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [row([1, 2], [3, 4])], KINDS)

    with (tmp_path / "x.csv").open() as file:
        lines = list(csv.DictReader(file))

    assert [(line["server"], line["value"]) for line in lines] == [
        ("redis", "1"),
        ("redis", "2"),
        ("kvrepl", "3"),
        ("kvrepl", "4"),
    ]


def test_kept_bytecode_lets_children_cache_and_restores_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    before = dict(os.environ)

    with kept_bytecode(tmp_path):
        asked = "import sys; print(sys.dont_write_bytecode, sys.pycache_prefix)"
        answer = subprocess.check_output([sys.executable, "-c", asked], text=True)

    assert answer.split() == ["False", str(tmp_path)]
    assert dict(os.environ) == before


def test_in_pure_python_servers_see_no_compiled_parts_and_later_ones_do(tmp_path: Path) -> None:
    asked = "from rdb.accel import accel; print(accel is None)"

    def benchmark(bench: Bench, kind: Kind) -> Iterator[Sample]:
        answer = subprocess.check_output([sys.executable, "-c", asked], text=True)
        yield Sample("case", answer.strip(), "", float(os.environ["KVREPL_PURE"]))

    before = dict(os.environ)
    assert list(in_pure_python(benchmark)(Bench(SCALE, tmp_path), "kvrepl")) == [
        Sample("case", "True", "", 1.0)
    ]
    assert dict(os.environ) == before


def test_read_csv_gives_back_what_write_csv_wrote(tmp_path: Path) -> None:
    rows = [row([1.5, 2], [3, 4]), Row("other", "size", "B", False, {"kvrepl": [7.0]})]

    write_csv(tmp_path / "x.csv", rows, KINDS)

    assert read_csv(tmp_path / "x.csv") == rows


def test_summary_shows_each_highlight_once_with_medians_and_ratio(tmp_path: Path) -> None:
    rows: dict[str, list[Row]] = {}
    for name, case_end, metric, _ in HIGHLIGHTS:
        values: dict[str, list[float]] = {"redis": [1, 2, 9], "kvrepl": [3, 3, 3]}
        size = "1,000 x " if name == "bgsave" else ""
        rows.setdefault(name, []).append(Row(size + case_end, metric, "s", False, values))
        rows[name].append(Row(size + case_end, f"not {metric}", "s", False, values))
        rows[name].append(Row(f"H{case_end}", metric, "s", False, values))
    for name, of_name in rows.items():
        write_csv(tmp_path / f"{name}.csv", of_name, KINDS)

    lines = summary(tmp_path).splitlines()

    assert len(lines) == 2 + len(HIGHLIGHTS)
    assert lines[2] == "| BGSAVE of 1,000 x 64 B | 2 s | 3 s | 1.5 |"


def test_strings_are_the_same_in_every_run_and_distinct() -> None:
    values = [command[2] for command in strings(100)]

    assert values == [command[2] for command in strings(100)]
    assert len(set(values)) == 100
    assert {len(value) for value in values if isinstance(value, bytes)} == {64}


def test_waits_percentile_is_the_wait_that_so_many_were_not_longer_than() -> None:
    waits = Waits(array("d", [float(ms) for ms in range(1, 1001)]))

    assert (waits.percentile_ms(50), waits.percentile_ms(99.9)) == (501, 1000)
    assert waits.longest_ms == 1000


def test_prober_between_gives_the_requests_that_were_due_then() -> None:
    prober = Prober(0, period_s=0.5)
    prober.began_s = 10.0
    prober.waits_ms = array("d", [0, 1, 2, 3, 4, 5])  # due at 10, 10.5, 11, 11.5, ...

    waits = prober.between(10.9, 11.6)

    assert (waits.percentile_ms(0), waits.longest_ms) == (2, 3)
