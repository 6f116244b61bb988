"""The `rdb` tools beside rdbtools, the best known of their kind: records a second, and memory.

    python -m benchmarks.rdb --rdbtools VENV/bin/rdb      (make benchrdb makes VENV)

One file is made: strings, a tenth of all keys with an expiry, hashes, sorted sets, lists and sets
of ten elements or so, in the encodings of version 9, the last that rdbtools reads. Ours read all of
it. rdbtools would take half an hour of processor time for a gigabyte, so it gets what the file
begins with, as a file of its own; both read a key at a time, so that its speed does not depend on
the size. They run one after the other, their output into /dev/null, and what counts is processor
time, as whatever else the machine does goes into the time on the wall. Where several repetitions
are asked for, their median counts.

What is printed is the same as nearly as it can be: every value as JSON; the sizes of every key;
the name of every key. rdbtools prints a name once more for every element, and `rdb dump
--keys-only` the type, expiry and size of a key with its name.

The tools that rdbtools has no counterpart for run alone, for their memory.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

import rdb
from benchmarks.measure import Row, machine
from benchmarks.report import can_plot, number_text, write_csv, write_plot

THEIRS, OURS = "rdbtools", "rdb"
SPEED, MEMORY = "throughput", "peak memory"
PAIRS = {
    "every value as JSON": (["-c", "json"], ["dump"]),
    "memory of every key": (["-c", "memory"], ["memory", "--list"]),
    "names of the keys": (["-c", "justkeys"], ["dump", "--keys-only"]),
}
ALONE = [["check"], ["memory"], ["convert", "-o", "/dev/stdout"]]
OUR_RDB = [sys.executable, "-c", "from rdb.cli import main; main()"]


class Dump(NamedTuple):
    """A file, and how many keys it has."""

    path: Path
    keys: int


class Run(NamedTuple):
    """What a process took; of memory never less than this process, from which it was forked."""

    cpu_s: float
    peak_mb: float


def make_file(path: Path, size_mb: int) -> Dump:
    """Write a file. A larger one begins with the keys of a smaller one."""
    rng = random.Random(1)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randrange(4, 12)))
             for _ in range(2000)]  # fmt: skip
    noise = rng.randbytes(1 << 20)
    keys = 0

    def some(count: int) -> list[bytes]:
        return [words[(keys * 7 + n) % len(words)] + b"%d" % n for n in range(count)]

    with path.open("wb") as out:
        writer = rdb.RdbWriter(out.write, version=9)
        writer.select_db(0)
        while writer.written < size_mb << 20:
            keys += 1
            kind = keys % 10
            if kind < 6:
                at = rng.randrange(len(noise) - 64)
                at_ms = 1893456000000 + keys if kind == 5 else None
                writer.key(b"user:%d:profile" % keys, 0, noise[at : at + 64], at_ms)
            elif kind == 6:
                writer.key(b"hash:%d" % keys, 4, some(20))
            elif kind == 7:
                pairs = [(member, float(n)) for n, member in enumerate(some(12))]
                writer.key(b"zset:%d" % keys, 5, pairs)
            else:
                writer.key(b"list:%d" % keys, 1 if kind == 8 else 2, some(10))
        writer.end()
    return Dump(path, keys)


def run(command: Sequence[str]) -> Run:
    """Run a command to its end. Raises CalledProcessError where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(rdbtools: str, first: Dump, whole: Dump, repetitions: int) -> Iterator[tuple[Row, Row]]:
    """Measure each pair in turn, and then ours alone; yield its throughput and its memory.

    Args:
        rdbtools: the command; "" for ours alone.
        first: what it reads.
        whole: what ours read.
        repetitions: how often each runs.
    """
    cases = list(PAIRS.items()) + [("rdb " + " ".join(ours), ([], ours)) for ours in ALONE]
    for what, (theirs, ours) in cases:
        runs = {OURS: ([*OUR_RDB, *ours], whole)}
        if rdbtools and theirs:
            runs[THEIRS] = ([rdbtools, *theirs], first)
        speed, memory = Row(what, SPEED, "keys/s", True), Row(what, MEMORY, "MB", False)
        for _ in range(repetitions):
            for who, (command, dump) in runs.items():
                done = run([*command, str(dump.path)])
                speed.values.setdefault(who, []).append(dump.keys / done.cpu_s)
                memory.values.setdefault(who, []).append(done.peak_mb)
        yield speed, memory


def cells(speed: Row, memory: Row) -> str:
    """One line of the table."""
    ours, theirs = speed.median(OURS), speed.median(THEIRS)
    ratio = ours / theirs if ours and theirs else None
    numbers = [theirs, ours, ratio, memory.median(THEIRS), memory.median(OURS)]
    return f"| {' | '.join([speed.case, *map(number_text, numbers)])} |"


@click.command()
@click.option("--rdbtools", default="", help="The rdb command of rdbtools; none: ours alone.")
@click.option("--mb", default=1024, show_default=True, help="Size of the file.")
@click.option("--first-mb", default=128, show_default=True, help="How much of it rdbtools reads.")
@click.option("--repetitions", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="A folder for page, table and plot.")
def main(rdbtools: str, mb: int, first_mb: int, repetitions: int, out: Path | None) -> None:
    """Measure the rdb tools beside rdbtools."""
    lines = ["# RDB tools", ""]
    lines += [f"- {name}: {value}" for name, value in machine().items()]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kvrepl-bench-") as folder:
        whole = make_file(Path(folder) / "whole.rdb", mb)
        first = make_file(Path(folder) / "first.rdb", min(first_mb, mb)) if rdbtools else whole
        lines += [
            f"- {OURS} reads {whole.keys:,} keys in {mb:,} MB"
            + (f", {THEIRS} the first {first.keys:,} of them" if rdbtools else ""),
            f"- Keys by second of processor time, medians of {repetitions}",
            "",
            f"| | {THEIRS}, keys/s | {OURS}, keys/s | ratio | {THEIRS}, MB | {OURS}, MB |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for speed, memory in measure(rdbtools, first, whole, repetitions):
            rows += (speed, memory)
            lines.append(cells(speed, memory))
            click.echo(lines[-1])
    page = "\n".join(lines) + "\n"
    click.echo(page)
    if out is not None:
        (out / "rdb.md").write_text(page)
        write_csv(out / "rdb.csv", rows, (THEIRS, OURS))
        if can_plot():
            write_plot(out / "rdb.svg", "RDB tools", rows, (THEIRS, OURS))


if __name__ == "__main__":
    main()
