"""`python -m tests.chaos [--seed N] [--seconds N]`: round after round, each with a seed of its own.

A round that fails ends the run. Its folder is kept and named, and so is the command that runs the
same schedule again.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.chaos.round import ROUND_S, run_round


@click.command()
@click.option("--seed", type=int, help="Of the first round; the next have the numbers after it.")
@click.option("--seconds", type=click.FloatRange(1), default=600.0, show_default=True)
def main(seed: int | None, seconds: float) -> None:
    """Run mixed clusters under faults; see tests/chaos/cluster.py for what must hold."""
    if seed is None:
        seed = random.SystemRandom().randrange(1_000_000)
    deadline_s = time.monotonic() + seconds
    while (left_s := deadline_s - time.monotonic()) > 1:
        round_s = min(ROUND_S, seconds)
        click.echo(f"round of {round_s:g} s with seed {seed}, {left_s:.0f} s left")
        folder = Path(tempfile.mkdtemp(prefix=f"kvrepl-chaos-{seed}-"))
        try:
            run_round(seed, round_s, folder, click.echo)
        except Exception as error:  # whatever it was, the evidence is kept and named
            click.echo(f"{type(error).__name__}: {error}", err=True)
            click.echo(f"journal, logs and files: {folder}", err=True)
            click.echo(f"the same again: make chaos SEED={seed} SECONDS={round_s:g}", err=True)
            sys.exit(1)
        shutil.rmtree(folder)
        seed += 1


if __name__ == "__main__":
    main()
