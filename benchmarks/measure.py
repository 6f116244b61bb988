"""Samples, interleaved repetitions, medians.

Each repetition measures redis-server and kvrepl-server one right after the other, and every
second repetition in the opposite order. A machine that grows slower during the run, or a noisy
neighbour, then harms both alike; the median over repetitions drops what harmed one.

Terms:
    benchmark   a function that, for one kind of server, yields samples
    sample      one number with its case ("1,000,000 x 64 B"), metric ("time") and unit
    row         all samples of one (case, metric), for every kind
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.datasets import VALUE_BYTES, mixed, strings
from tests.interop.datasets import feed
from tests.interop.harness import Kind, Server

SHUTDOWN_TIMEOUT_S = 120

Data = Literal["strings", "mixed"]
"""Which dataset: see benchmarks.datasets."""


class Sample(NamedTuple):
    """One measured number."""

    case: str
    metric: str
    unit: str
    value: float
    more_is_better: bool = False


@dataclass
class Row:
    """Every sample of one case and metric, by who was measured."""

    case: str
    metric: str
    unit: str
    more_is_better: bool
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, kind: str) -> float | None:
        """Give the median of a kind's samples, None where it has none."""
        values = self.values.get(kind)
        return statistics.median(values) if values else None

    def ratio(self) -> float | None:
        """Give kvrepl's median over Redis's, None where either is missing or Redis's is 0."""
        ours, theirs = self.median("kvrepl"), self.median("redis")
        return ours / theirs if ours is not None and theirs else None


@dataclass(frozen=True)
class Scale:
    """How much work a run does.

    Args:
        keys: keys of the string dataset and of the mixed one.
        collections: keys of each small-collection dataset.
        requests: requests of each redis-benchmark call.
        repetitions: of every benchmark, for each kind.
    """

    keys: int
    collections: int
    requests: int
    repetitions: int


FULL = Scale(keys=1_000_000, collections=100_000, requests=50_000, repetitions=3)
QUICK = Scale(keys=100_000, collections=20_000, requests=20_000, repetitions=1)


class Bench:
    """What a benchmark function works with: the scale, a folder, and the shared datasets.

    Args:
        scale: how much.
        folder: scratch space on the disk to be measured; emptied by the caller.
    """

    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale = scale
        self.folder = folder
        self._count = 0
        self._dumps: dict[Data, Path] = {}

    def server(self, kind: Kind, **directives: str | int) -> Server:
        """Prepare a server in a fresh folder, not started yet."""
        self._count += 1
        return Server(kind, self.folder / f"{self._count}-{kind}", dict(directives))

    def server_with_data(self, kind: Kind, data: Data = "strings", **directives: Any) -> Server:
        """Prepare a server whose dump.rdb holds a dataset, not started yet."""
        server = self.server(kind, **directives)
        (server.folder / "dump.rdb").hardlink_to(self.dump(data))
        return server

    def dump(self, data: Data = "strings") -> Path:
        """Give an RDB file of scale.keys keys; redis-server makes it once for both kinds."""
        if data not in self._dumps:
            commands = strings if data == "strings" else mixed
            with self.server("redis") as maker:
                feed(maker, commands(self.scale.keys))
                maker.call("SAVE")
                self._dumps[data] = maker.folder / "dump.rdb"
        return self._dumps[data]

    def data_name(self, data: Data = "strings") -> str:
        """Name a dataset, for the tables."""
        what = f"x {VALUE_BYTES} B" if data == "strings" else "of every type"
        return f"{self.scale.keys:,} {what}"


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Have servers that are started in the body see these variables, empty as good as not set."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def kept_bytecode(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Let servers started in the body keep Python's compiled modules, as an installed package does.

    Where PYTHONDONTWRITEBYTECODE is set, every start would compile them all again: a quarter of
    a second that no user of an installed kvrepl pays.

    Args:
        folder: where they are kept, so that nothing is written into the sources.
    """
    return environment(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(folder))


Benchmark = Callable[[Bench, Kind], Iterable[Sample]]


def in_pure_python(benchmark: Benchmark) -> Benchmark:
    """Give the benchmark with none of kvrepl's compiled parts in use."""

    def run(bench: Bench, kind: Kind) -> Iterator[Sample]:
        with environment(KVREPL_PURE="1", RDB_PURE="1"):
            yield from benchmark(bench, kind)

    return run


def run_interleaved(
    benchmark: Benchmark, bench: Bench, kinds: Sequence[Kind], tell: Callable[[str], None]
) -> list[Row]:
    """Run a benchmark scale.repetitions times for each kind, in turns; give its rows.

    Args:
        benchmark: the function.
        bench: scale and scratch folder.
        kinds: which servers.
        tell: called with a line of progress now and then.
    """
    rows: dict[tuple[str, str], Row] = {}
    for repetition in range(bench.scale.repetitions):
        for kind in kinds if repetition % 2 == 0 else tuple(reversed(kinds)):
            started = time.monotonic()
            for sample in benchmark(bench, kind):
                row = rows.setdefault(
                    (sample.case, sample.metric),
                    Row(sample.case, sample.metric, sample.unit, sample.more_is_better),
                )
                row.values.setdefault(kind, []).append(sample.value)
            elapsed_s = time.monotonic() - started
            tell(f"  {repetition + 1}/{bench.scale.repetitions} {kind}: {elapsed_s:.1f} s")
    return list(rows.values())


def machine() -> dict[str, str]:
    """Describe what the figures depend on: processor, cores, memory, versions, commit."""
    import psutil

    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "Processor": f"{cpu}, {psutil.cpu_count()} cores",
        "Memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GiB",
        "Kernel": Path("/proc/sys/kernel/osrelease").read_text().strip(),
        "Python": sys.version.split()[0],
        "Redis": _output("redis-server", "--version").split("v=")[-1].split(" ")[0],
        "Commit": _output("git", "rev-parse", "--short=12", "HEAD") or "unknown",
        "Date": time.strftime("%Y-%m-%d"),
    }


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
