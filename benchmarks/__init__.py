"""kvrepl-server measured beside redis-server, both in one run on one machine.

    measure     what a sample is; interleaved repetitions, medians and ratios
    report      the tables (Markdown, CSV) and the plots (SVG)
    snapshots   BGSAVE and loading
    sync        full synchronisation, either end
    requests    redis-benchmark: commands, pipelining, AOF policies
    memory      bytes a key

`python -m benchmarks --help` runs them. A figure from another day or another machine is never
compared: only the ratio within one run means anything.
"""
