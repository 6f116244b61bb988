"""The `rdb` tools beside rdbtools, the best known of their kind: records a second, and memory.

    python -m benchmarks.rdb --rdbtools VENV/bin/rdb      (make benchrdb makes VENV)

One file is made: strings, a fifth of them with an expiry, hashes, sorted sets, lists and sets of
ten elements or so, in the encodings of version 9, the last that rdbtools reads. Both run on it in
turn, output to /dev/null, and the median of the repetitions counts: of processor time, as whatever
else the machine does goes into the time on the wall. A larger file then shows the memory of ours
alone.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

import rdb
from benchmarks.measure import machine

PAIRS = {
    "every value as JSON": (["-c", "json"], ["dump"]),
    "memory of every key": (["-c", "memory"], ["memory"]),
    "names of the keys": (["-c", "justkeys"], ["dump", "--keys-only"]),
}
ALONE = [["check"], ["dump"], ["dump", "--keys-only"], ["memory"], ["convert", "-o", "/dev/stdout"]]
OUR_RDB = [sys.executable, "-c", "from rdb.cli import main; main()"]


class Run(NamedTuple):
    """What a process took."""

    user_s: float
    peak_mb: float


def make_file(path: Path, size_mb: int) -> int:
    """Write the file; return how many keys it has."""
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
    return keys


def run(command: Sequence[str]) -> Run:
    """Run a command to its end. Raises CalledProcessError where it fails."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(rdbtools: str, path: Path, keys: int, repetitions: int) -> list[str]:
    """Measure each pair in turn; return the rows of a table."""
    rows = ["| | rdbtools | rdb | ratio |", "|---|---:|---:|---:|"]
    for what, (theirs, ours) in PAIRS.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repetitions):
            times[0].append(run([rdbtools, *theirs, str(path)]).user_s)
            times[1].append(run([*OUR_RDB, *ours, str(path)]).user_s)
        slow, fast = (keys / statistics.median(column) for column in times)
        rows.append(f"| {what} | {slow:,.0f} keys/s | {fast:,.0f} keys/s | {fast / slow:.1f} |")
    return rows


def alone(path: Path, keys: int) -> list[str]:
    """Measure our tools; return the rows of a table."""
    rows = ["| | keys/s | peak memory |", "|---|---:|---:|"]
    for arguments in ALONE:
        done = run([*OUR_RDB, *arguments, str(path)])
        name = "rdb " + " ".join(arguments)
        rows.append(f"| `{name}` | {keys / done.user_s:,.0f} | {done.peak_mb:,.0f} MB |")
    return rows


@click.command()
@click.option("--rdbtools", default="", help="The rdb command of rdbtools; none: ours alone.")
@click.option("--mb", default=50, show_default=True, help="Size of the file for both.")
@click.option("--large-mb", default=1024, show_default=True, help="Size of the file for ours.")
@click.option("--repetitions", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Where the page goes, else stdout.")
def main(rdbtools: str, mb: int, large_mb: int, repetitions: int, out: Path | None) -> None:
    """Measure the rdb tools beside rdbtools, and their memory on a large file."""
    lines = ["# RDB tools", ""]
    lines += [f"- {name}: {value}" for name, value in machine().items()]
    with tempfile.TemporaryDirectory(prefix="kvrepl-bench-") as folder:
        path = Path(folder) / "a.rdb"
        if rdbtools:
            keys = make_file(path, mb)
            lines += ["", f"{keys:,} keys in {mb} MB, keys by processor time:", ""]
            lines += compare(rdbtools, path, keys, repetitions)
        keys = make_file(path, large_mb)
        lines += ["", f"{keys:,} keys in {large_mb:,} MB:", ""]
        lines += alone(path, keys)
    page = "\n".join(lines) + "\n"
    if out is not None:
        out.write_text(page)
    click.echo(page)


if __name__ == "__main__":
    main()
