"""What the deep tests share: a million keys made in seconds, and a load that does not pause."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import Row
from tests.interop.datasets import count_keys
from tests.interop.harness import Server

MILLION: Final = 1_000_000
KEYS_A_SCRIPT: Final = 50_000
LONG_S: Final = 300.0
WRITING_TESTS: Final = "set,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,mset"

# Ten makers in turn, as datasets.mixed has them. Run on redis-server alone: a script makes fifty
# thousand keys in half a second, where redis-cli --pipe takes two and first needs their text.
MIXED: Final = """
math.randomseed(tonumber(ARGV[3]))
local function text(size)
  local parts = {}
  for n = 1, math.ceil(size / 7) do parts[n] = string.format('%07x', math.random(0, 268435455)) end
  return string.sub(table.concat(parts), 1, size)
end
local function size()
  if math.random(2000) == 1 then return math.random(150, 700) end
  return math.random(1, 10)
end
local makers = {
  function(key) redis.call('SET', key, text(math.random(0, 60))) end,
  function(key) redis.call('SET', key, math.random(-2000000000, 2000000000)) end,
  function(key) redis.call('SET', key, string.rep('ab', math.random(1, 200))) end,
  function(key) for _ = 1, size() do redis.call('RPUSH', key, text(12)) end end,
  function(key) for _ = 1, size() do redis.call('SADD', key, text(10)) end end,
  function(key) for _ = 1, size() do redis.call('SADD', key, math.random(-40000, 40000)) end end,
  function(key) for n = 1, size() do redis.call('HSET', key, 'f' .. n, text(8)) end end,
  function(key) for n = 1, size() do redis.call('ZADD', key, math.random() * 99, 'm' .. n) end end,
  function(key)
    for n = 1, math.min(size(), 20) do redis.call('XADD', key, n .. '-1', 'field', text(6)) end
    redis.call('XGROUP', 'CREATE', key, 'group', 0)
    redis.call('XREADGROUP', 'GROUP', 'group', 'reader', 'COUNT', 2, 'STREAMS', key, '>')
  end,
  function(key) redis.call('SETBIT', key, math.random(0, 2000), 1) end,
}
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  redis.call('SELECT', number % 17 == 0 and 9 or 0)
  local key = 'k:' .. number
  makers[number % #makers + 1](key)
  if number % 11 == 0 then redis.call('PEXPIREAT', key, 32503680000000 + number) end
end
"""


def mixed_dump(folder: Path, keys: int = MILLION) -> Path:
    """Make, once in a run, an RDB file of `keys` keys of every type; give its path.

    Args:
        folder: where it is kept for the tests that follow.
        keys: how many.
    """
    path = folder / f"mixed-{keys}.rdb"
    if not path.exists():
        with (
            tempfile.TemporaryDirectory(dir=folder) as scratch,
            Server("redis", Path(scratch), {"lua-time-limit": 60_000}) as maker,
        ):
            for start in range(0, keys, KEYS_A_SCRIPT):
                maker.call("EVAL", MIXED, 0, start, min(start + KEYS_A_SCRIPT, keys), start + 1)
            assert count_keys(maker) == keys
            maker.call("SAVE")
            shutil.move(Path(scratch) / "dump.rdb", path)
    return path


def put_dump(server: Server, dump: Path) -> Server:
    """Give a prepared server a file to load, and start it."""
    shutil.copy(dump, server.folder / "dump.rdb")
    return server.start(timeout_s=LONG_S)


@contextlib.contextmanager
def benchmark_writes(server: Server, tests: str = WRITING_TESTS) -> Iterator[None]:
    """Let redis-benchmark write without a pause while the body runs.

    Its write tests take turns of 5,000 requests, by 20 clients, over 100,000 keys.

    Raises:
        AssertionError: redis-benchmark ended by itself, which it does at an error.
    """
    argv = ["redis-benchmark", "-p", str(server.port), "-l", "-q", "-t", tests]
    argv += ["-c", "20", "-n", "5000", "-r", "100000", "-d", "64"]
    before = commands_run(server)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as load:
        try:
            # A transfer that begins before the load would prove nothing.
            deadline = time.monotonic() + 30
            while commands_run(server) < before + 5_000:
                assert time.monotonic() < deadline, "redis-benchmark does not write"
                time.sleep(0.01)
            yield
            status = load.poll()
            assert status is None, f"redis-benchmark ended with {status}: {_errors(load)}"
        finally:
            load.kill()


def _errors(load: subprocess.Popen[bytes]) -> str:
    assert load.stderr is not None
    return os.read(load.stderr.fileno(), 2000).decode(errors="replace")


def commands_run(server: Server) -> int:
    """Give how many commands a server has run, for the difference between two moments."""
    return int(server.info("stats")["total_commands_processed"])


def ratio_lines(title: str, rows: list[Row]) -> str:
    """Render measured rows, one a line: medians and ratio of each."""
    parts = [
        f"{row.case} {row.metric}: redis {row.median('redis'):,.4g} {row.unit}, "
        f"kvrepl {row.median('kvrepl'):,.4g} {row.unit}, ratio {row.ratio():.2f}"
        for row in rows
    ]
    return "\n  ".join([title, *parts])
