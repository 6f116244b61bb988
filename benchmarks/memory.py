"""Memory a key: growth of the process (RSS), after writing the keys and after loading them.

RSS is what the machine pays and what fork must copy page tables for. Written data comes by
redis-cli --pipe, loaded data from the RDB file that the same server then saves; both include the
growth of tables and the slack of allocators, as in real use.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from benchmarks.datasets import (
    ELEMENTS,
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


def memory(bench: Bench, kind: Kind) -> Iterator[Sample]:
    """Fill one fresh server with each dataset in turn."""
    few = bench.scale.collections
    datasets: dict[str, tuple[int, Iterator[Command]]] = {
        "string of 64 B": (bench.scale.keys, strings(bench.scale.keys)),
        f"list of {ELEMENTS} x 12 B": (few, collections_of(few, make_list)),
        f"set of {ELEMENTS} x 12 B": (few, collections_of(few, make_set)),
        f"set of {ELEMENTS} integers": (few, collections_of(few, make_intset)),
        f"hash of {ELEMENTS} x 12 B": (few, collections_of(few, make_hash)),
        f"sorted set of {ELEMENTS} x 12 B": (few, collections_of(few, make_zset)),
    }
    for case, (keys, commands) in datasets.items():
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
