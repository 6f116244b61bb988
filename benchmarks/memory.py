"""Memory a key: growth of the process (RSS), after writing the keys and after loading them.

RSS is what the machine pays and what fork must copy page tables for. Written data comes by
redis-cli --pipe, loaded data from the RDB file that the same server then saves; both include the
growth of tables and the slack of allocators, as in real use.

"Written, idle" is of the same data, written in PARTS between which nobody uses it: kvrepl packs it
then, Redis does nothing. Packing what was written all at once leaves the process as large as it was
(the memory is free, for what is written next, and used_memory says so).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import psutil

from benchmarks.datasets import (
    ELEMENTS,
    Maker,
    collections_of,
    make_hash,
    make_intset,
    make_list,
    make_set,
    make_zset,
    strings,
)
from benchmarks.measure import Bench, Sample
from tests.interop.datasets import Command, feed
from tests.interop.harness import Kind, Server

PARTS = 10


def memory(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Fill one fresh server with each dataset in turn."""
    many, few = bench.scale.keys, bench.scale.collections
    makers: dict[str, Maker] = {
        f"list of {ELEMENTS} x 12 B": make_list,
        f"set of {ELEMENTS} x 12 B": make_set,
        f"set of {ELEMENTS} integers": make_intset,
        f"hash of {ELEMENTS} x 12 B": make_hash,
        f"sorted set of {ELEMENTS} x 12 B": make_zset,
    }
    yield from _written_and_loaded(bench, kind, "string of 64 B", many, strings(many))
    for case, make in makers.items():
        yield from _written_and_loaded(bench, kind, case, few, collections_of(few, make))
        with bench.server(kind) as server:
            empty_bytes = _resident_bytes(server)
            commands = collections_of(few, make)
            for _ in range(PARTS):
                feed(server, islice(commands, few // PARTS))
                if kind == "kvrepl":
                    server.call("DEBUG", "PACK")
            used_bytes = _resident_bytes(server) - empty_bytes
            yield Sample(case, "written, idle", "B/key", used_bytes / server.call("DBSIZE"))


def _written_and_loaded(
    bench: Bench, kind: Kind, case: str, keys: int, commands: Iterator[Command]
) -> Iterator[Sample]:
    """Write a dataset at once, and load it."""
    with bench.server(kind) as server:
        empty_bytes = _resident_bytes(server)
        feed(server, commands)
        assert server.call("DBSIZE") == keys
        yield Sample(case, "written", "B/key", (_resident_bytes(server) - empty_bytes) / keys)
        server.call("SAVE")
        server.restart()
        yield Sample(case, "loaded", "B/key", (_resident_bytes(server) - empty_bytes) / keys)


def _resident_bytes(server: Server) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)
