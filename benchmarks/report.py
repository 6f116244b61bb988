"""Tables and plots of measured rows: Markdown for readers, CSV for programs, SVG for eyes."""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Row, Scale
from tests.interop.harness import Kind


class Highlight(NamedTuple):
    """One line of the short table: which row it shows, and how it calls it.

    Args:
        name: the benchmark, which is the stem of its CSV.
        case_end: the last words of the row's case; before them stands the size of the dataset.
        metric: the row's metric.
        label: "{case}" in it stands for the whole case.
    """

    name: str
    case_end: str
    metric: str
    label: str


ONE, MANY = "throughput, unpipelined", "throughput, 16 at a time"
HIGHLIGHTS = (
    Highlight("bgsave", "64 B", "time", "BGSAVE of {case}"),
    Highlight("bgsave", "64 B", "fork", "pause of its fork"),
    Highlight("bgsave", "64 B", "copied by the child", "memory copied by its child"),
    Highlight("load", "64 B", "start to first PONG", "start-up with {case}"),
    Highlight("load", "64 B", "loading alone", "loading alone, by its log"),
    Highlight("sync", "as master, diskless", "time", "full sync to a redis-server, diskless"),
    Highlight("sync", "as replica, diskless", "time", "full sync from a redis-server, diskless"),
    Highlight("requests", "GET", ONE, "GET, 50 clients"),
    Highlight("requests", "SET", ONE, "SET, 50 clients"),
    Highlight("requests", "GET", MANY, "GET, 50 clients, 16 at a time"),
    Highlight("requests", "SET", MANY, "SET, 50 clients, 16 at a time"),
    Highlight("attached", "SET with a replica", MANY, "the same with a replica attached"),
    Highlight("aof", "everysec", ONE, "SET, appendfsync everysec"),
    Highlight("aof", "always", ONE, "SET, appendfsync always"),
    Highlight("memory", "string of 64 B", "written", "memory, string of 64 B"),
    Highlight("memory", "hash of 8 x 12 B", "written", "memory, hash of 8 x 12 B, written"),
    Highlight(
        "memory", "hash of 8 x 12 B", "written, idle", "memory, hash of 8 x 12 B, written, idle"
    ),
    Highlight("memory", "hash of 8 x 12 B", "loaded", "memory, hash of 8 x 12 B, loaded"),
)

COLOURS = {"redis": "#a0a0a0", "kvrepl": "#2a6fbb", "rdbtools": "#a0a0a0", "rdb": "#2a6fbb"}


def number_text(value: float | None) -> str:
    """Give three significant digits, thousands separated; a dash for nothing."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(
    title: str, rows: Sequence[Row], kinds: Sequence[Kind], scale: Scale, machine: dict[str, str]
) -> str:
    """Render a page: the machine, how it was run, and a table of medians with their spread."""
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += [
        f"- Medians of {scale.repetitions} interleaved repetitions (lowest to highest); the ratio "
        "is kvrepl / redis, ▲ where more is better and ▼ where less is.",
        "",
        "| case | metric | unit | " + " | ".join(kinds) + " | ratio |",
        "|---|---|---|" + "---:|" * len(kinds) + "---:|",
    ]
    for row in rows:
        cells = [_spread(row, kind) for kind in kinds]
        ratio = row.ratio()
        verdict = f"{ratio:.2f} {'▲' if row.more_is_better else '▼'}" if ratio is not None else "-"
        lines.append(f"| {' | '.join([row.case, row.metric, row.unit, *cells, verdict])} |")
    return "\n".join(lines) + "\n"


def _spread(row: Row, kind: Kind) -> str:
    values = row.values.get(kind, [])
    text = number_text(row.median(kind))
    if len(values) < 2:
        return text
    return f"{text} ({number_text(min(values))} to {number_text(max(values))})"


def write_csv(path: Path, rows: Sequence[Row], kinds: Sequence[str]) -> None:
    """Write one line for each sample, so that any other statistic can be taken from it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "metric", "unit", "server", "repetition", "value"])
        for row in rows:
            for kind in kinds:
                for repetition, value in enumerate(row.values.get(kind, []), 1):
                    writer.writerow(
                        [row.case, row.metric, row.unit, kind, repetition, f"{value:.6g}"]
                    )


def read_csv(path: Path) -> list[Row]:
    """Read back what write_csv wrote; which way is better is not in it."""
    rows: dict[tuple[str, str], Row] = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            case, metric = line["case"], line["metric"]
            row = rows.setdefault((case, metric), Row(case, metric, line["unit"], False))
            kind: Kind = "redis" if line["server"] == "redis" else "kvrepl"
            row.values.setdefault(kind, []).append(float(line["value"]))
    return list(rows.values())


def summary(folder: Path) -> str:
    """Render the highlights of the results in a folder as a short Markdown table.

    Raises:
        FileNotFoundError: a benchmark that has a highlight has not been run.
    """
    measured = {name: read_csv(folder / f"{name}.csv") for name in {h.name for h in HIGHLIGHTS}}
    lines = ["| | redis-server | kvrepl-server | ratio |", "|---|---:|---:|---:|"]
    for highlight in HIGHLIGHTS:
        for row in measured[highlight.name]:
            # Whole words: what is said of SET is not said of HSET.
            if row.metric != highlight.metric or not f" {row.case}".endswith(
                f" {highlight.case_end}"
            ):
                continue
            label = highlight.label.format(case=row.case)
            ours, theirs, ratio = row.median("kvrepl"), row.median("redis"), row.ratio()
            cells = [f"{number_text(value)} {row.unit}" for value in (theirs, ours)]
            lines.append(f"| {label} | {' | '.join(cells)} | {number_text(ratio)} |")
    return "\n".join(lines) + "\n"


def can_plot() -> bool:
    """Tell whether matplotlib is installed (`pip install kvrepl[bench]`)."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plot(path: Path, title: str, rows: Sequence[Row], kinds: Sequence[str]) -> None:
    """Draw one panel a metric, one bar for each case and kind, zero-based."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    # Text stays text and ids stay the same from run to run: the file then diffs and searches.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kvrepl"})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    metrics = list(dict.fromkeys((row.metric, row.unit) for row in rows))
    cases = {
        metric: [row for row in rows if (row.metric, row.unit) == metric] for metric in metrics
    }
    # Two beside each other where there are many: throughput with its latency, for one.
    columns = 2 if len(metrics) > 3 else 1
    lines = -(-len(metrics) // columns)
    heights = [0.9 + 0.42 * max(map(len, cases.values()))] * lines
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(9 * columns, sum(heights) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(title)
    for axis in axes.flat[len(metrics) :]:
        axis.set_visible(False)
    for axis, (metric, unit) in zip(axes.flat, metrics, strict=False):
        _panel(axis, cases[(metric, unit)], kinds)
        axis.set_xlabel(f"{metric} [{unit}]")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(axis: Any, rows: Sequence[Row], kinds: Sequence[str]) -> None:
    thickness = 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        middles = [index + (place - (len(kinds) - 1) / 2) * thickness for index in range(len(rows))]
        values = [row.median(kind) or 0 for row in rows]
        bars = axis.barh(middles, values, thickness, color=COLOURS[kind], label=kind)
        axis.bar_label(bars, [number_text(value) for value in values], padding=3, fontsize=8)
    axis.set_yticks(range(len(rows)), [row.case for row in rows])
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.spines[["top", "right"]].set_visible(False)
