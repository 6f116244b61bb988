"""`python -m benchmarks [NAMES...] [--quick] [--out FOLDER]`: run benchmarks, write results."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from benchmarks import eviction, families, memory, report, requests, snapshots, sync
from benchmarks.measure import (
    FULL,
    QUICK,
    Bench,
    Benchmark,
    in_pure_python,
    kept_bytecode,
    machine,
    run_interleaved,
)
from tests.interop.harness import Kind

BENCHMARKS: dict[str, tuple[str, Benchmark]] = {
    "bgsave": ("Background save", snapshots.bgsave),
    "load": ("Start and load", snapshots.load),
    "bgsave-pure": (
        "Background save without the compiled parts",
        in_pure_python(snapshots.bgsave),
    ),
    "load-pure": (
        "Start and load without the compiled parts",
        in_pure_python(snapshots.load),
    ),
    "sync": ("Full synchronisation", sync.sync),
    "link": ("A replication link, plain and compressed", sync.link),
    "requests": ("Requests", requests.requests),
    "families": ("Families of commands, 16 requests at a time", families.families),
    "attached": ("SET with a replica attached", requests.attached),
    "aof": ("Append-only file policies (SET)", requests.aof),
    "memory": ("Memory", memory.memory),
    "eviction": ("What eviction keeps", eviction.eviction),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="A tenth of the data, once: a look, not a result.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Where the tables and plots go.",
)
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder on the disk to measure with; the system's temporary folder by default.",
)
@click.option(
    "--repetitions", type=click.IntRange(1), help="Repetitions of each, instead of the default."
)
@click.option("--only", type=click.Choice(["redis", "kvrepl"]), help="One kind of server alone.")
@click.option("--readme", is_flag=True, help="Measure nothing; print README's table from --out.")
def main(
    names: tuple[str, ...],
    quick: bool,
    out: Path,
    scratch: Path | None,
    repetitions: int | None,
    only: Kind | None,
    readme: bool,
) -> None:
    """Measure kvrepl-server beside redis-server; all benchmarks without NAMES."""
    if readme:
        click.echo(report.summary(out), nl=False)
        return
    scale = QUICK if quick else FULL
    if repetitions is not None:
        scale = type(scale)(scale.keys, scale.collections, scale.requests, repetitions)
    kinds: Sequence[Kind] = (only,) if only else ("redis", "kvrepl")
    if "kvrepl" in kinds and find_spec("kvrepl.cli") is None:
        raise click.ClickException("this build has no kvrepl-server; try --only redis")
    if not report.can_plot():
        click.echo("No plots: matplotlib is not installed (pip install 'kvrepl[bench]').", err=True)
    out.mkdir(parents=True, exist_ok=True)
    description = machine()
    with tempfile.TemporaryDirectory(prefix="kvrepl-bytecode-") as kept, kept_bytecode(Path(kept)):
        for name in names or BENCHMARKS:
            title, benchmark = BENCHMARKS[name]
            click.echo(f"{name}: {title}")
            with tempfile.TemporaryDirectory(prefix="kvrepl-bench-", dir=scratch) as folder:
                rows = run_interleaved(benchmark, Bench(scale, Path(folder)), kinds, click.echo)
            page = report.markdown(title, rows, kinds, scale, description)
            (out / f"{name}.md").write_text(page)
            report.write_csv(out / f"{name}.csv", rows, kinds)
            if report.can_plot():
                report.write_plot(out / f"{name}.svg", title, rows, kinds)
            click.echo(page)


if __name__ == "__main__":
    main()
