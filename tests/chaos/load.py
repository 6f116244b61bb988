"""What is written during a round: redis-benchmark, random writes of every type, and a witness.

All of them write to whoever is master at the time and take errors as they come: a server that was
killed, a master that was deposed. The witness alone draws conclusions (see cluster.py for what
must be kept when).
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Final

import redis

from tests.interop.datasets import WRITES
from tests.interop.harness import Server

BENCHMARK_TESTS: Final = "set,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,mset"
BENCHMARK_LIMIT_S: Final = 20.0
PAUSE_S: Final = 0.02
WITNESS_KEY: Final = "witness"
WAIT_MS: Final = 100

Master = Callable[[], Server]
"""Gives the server that is to be written to now."""


class Witness:
    """Writes 1, 2, 3, ... and remembers how far each number got.

    Attributes:
        acknowledged: numbers that WAIT said enough replicas have; once in here they must survive.
        answered: numbers that the master of this reign has answered.
    """

    def __init__(self, replicas_needed: int) -> None:
        self.acknowledged: set[int] = set()
        self.answered: set[int] = set()
        self._needed = replicas_needed
        self._number = 0
        self._lock = threading.Lock()
        self._reign = 0

    def new_reign(self, *, answered_survives: bool) -> None:
        """Another server is master from now on.

        Args:
            answered_survives: whether it has all that the old one answered.
        """
        with self._lock:
            self._reign += 1
            if not answered_survives:
                self.answered = set()

    def answered_in_reign(self) -> set[int]:
        """Give the numbers that the master of this reign has answered."""
        with self._lock:
            return set(self.answered)

    def write(self, client: redis.Redis) -> None:
        """Write the next number, and wait a little for replicas to have it.

        Raises:
            redis.RedisError: it was not answered; whether it was written is not known.
        """
        self._number += 1
        number, reign = self._number, self._reign
        with client.pipeline(transaction=False) as both:
            both.zadd(WITNESS_KEY, {str(number): number})
            both.wait(self._needed, WAIT_MS)
            added, kept = both.execute(raise_on_error=False)
        if isinstance(added, Exception):
            raise added
        with self._lock:
            if reign == self._reign:  # an answer from before it may be of a deposed master
                self.answered.add(number)
            if not isinstance(kept, Exception) and kept >= self._needed:
                self.acknowledged.add(number)


def numbers_on(server: Server) -> set[int]:
    """Give the numbers of the witness that a server has."""
    return {int(number) for number in server.call("ZRANGE", WITNESS_KEY, 0, -1)}


class Load:
    """Three writers in threads, until the body of `writing` ends."""

    def __init__(self, master: Master, witness: Witness, seed: int) -> None:
        self.errors: dict[str, int] = {}
        self._master = master
        self._witness = witness
        self._rng = random.Random(seed)
        self._ending = threading.Event()
        self._unexpected: list[BaseException] = []

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write while the body runs.

        Raises:
            Exception: a writer of ours failed by something that is no answer of a server.
        """
        writers = (self._witness_writes, self._random_writes, self._benchmark)
        threads = [threading.Thread(target=self._run, args=(w,), daemon=True) for w in writers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in threads:
                thread.join(60)
        if self._unexpected:
            raise self._unexpected[0]

    def _run(self, writer: Callable[[], None]) -> None:
        try:
            writer()
        except BaseException as error:
            self._unexpected.append(error)

    def _each(self, write: Callable[[redis.Redis], None]) -> None:
        """Write again and again, each time to the master of the moment."""
        server, client = None, None
        while not self._ending.is_set():
            now = self._master()
            if server is not now:
                server = now
                client = now.client(socket_timeout=2, socket_connect_timeout=2)
            assert client is not None
            try:
                write(client)
            except redis.RedisError as error:
                name = f"{type(error).__name__}: {str(error).partition(' ')[0]}"
                self.errors[name] = self.errors.get(name, 0) + 1
                client.connection_pool.disconnect()
                self._ending.wait(PAUSE_S)

    def _witness_writes(self) -> None:
        self._each(self._witness.write)

    def _random_writes(self) -> None:
        def write(client: redis.Redis) -> None:
            with client.pipeline(transaction=rng.randrange(4) == 0) as batch:
                if rng.randrange(8) == 0:
                    batch.execute_command("SELECT", 9)  # type: ignore[no-untyped-call]
                for _ in range(10):
                    batch.execute_command(*rng.choice(WRITES)(rng))  # type: ignore[no-untyped-call]
                batch.execute_command("SELECT", 0)  # type: ignore[no-untyped-call]
                batch.execute()
            self._ending.wait(PAUSE_S)  # it is there for variety; the benchmark is the load

        rng = self._rng
        self._each(write)

    def _benchmark(self) -> None:
        while not self._ending.is_set():
            argv = ["redis-benchmark", "-p", str(self._master().port), "-q", "-t", BENCHMARK_TESTS]
            argv += ["-c", "4", "-n", "300", "-r", "5000", "-d", "64"]
            with subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as run:
                # It ends by itself at an error, and hangs with a server that hangs.
                started = 0.0
                while run.poll() is None and started < BENCHMARK_LIMIT_S:
                    if self._ending.wait(PAUSE_S):
                        break
                    started += PAUSE_S
                run.kill()
            self._ending.wait(PAUSE_S)
