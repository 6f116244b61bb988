"""Tables and plots of measured rows: Markdown for readers, CSV for programs, SVG for eyes."""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Scale
from tests.interop.harness import Kind

COLOURS: dict[Kind, str] = {"redis": "#a0a0a0", "kvrepl": "#2a6fbb"}


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


def write_csv(path: Path, rows: Sequence[Row], kinds: Sequence[Kind]) -> None:
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


def can_plot() -> bool:
    """Tell whether matplotlib is installed (`pip install kvrepl[bench]`)."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plot(path: Path, title: str, rows: Sequence[Row], kinds: Sequence[Kind]) -> None:
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
    heights = [0.9 + 0.42 * len(cases[metric]) for metric in metrics]
    figure, axes = pyplot.subplots(
        len(metrics),
        1,
        figsize=(9, sum(heights) + 0.6),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    figure.suptitle(title)
    for axis, (metric, unit) in zip(axes[:, 0], metrics, strict=True):
        _panel(axis, cases[(metric, unit)], kinds)
        axis.set_xlabel(f"{metric} [{unit}]")
    axes[0, 0].legend(loc="best", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _panel(axis: Any, rows: Sequence[Row], kinds: Sequence[Kind]) -> None:
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
