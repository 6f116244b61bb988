"""Damaged answers of a master: the link goes on or ends in a line of the log, nothing else.

The replica's machine is given what a master sends, from the reply to PING to a snapshot and the
stream, with bytes changed, lost, repeated or swapped, in any cut. Whatever came, it raises nothing
but what its contract names, says why where it gives up, keeps what it may resume from unless a
snapshot replaced it, and holds no more than what was sent. `FUZZ_SEED=n` moves the seeds.
"""

from __future__ import annotations

import gc
import os
import random
import tracemalloc

import pytest

from kvrepl.replication import actions as do
from kvrepl.replication.actions import Actions
from kvrepl.replication.states import State
from kvrepl.replication.wire import is_replid
from tests.unit.replication.machines import ID, ReplicaShell, texts

FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
OTHER_ID = b"1f" * 20
MARK = bytes(range(65, 91)) + b"01234567890123"
GREETING = b"+PONG\r\n+OK\r\n+OK\r\n"
ANSWERS = [
    b"+CONTINUE\r\n",
    b"+CONTINUE " + OTHER_ID + b"\r\n",
    b"\n\n+CONTINUE " + ID + b"\r\n*1\r\n$4\r\nPING\r\n",
    b"+FULLRESYNC " + OTHER_ID + b" 1234\r\n$9\r\nREDIS0011*1\r\n$4\r\nPING\r\n",
    b"\n+FULLRESYNC " + ID + b" 42\r\n\n$EOF:" + MARK + b"\r\nREDIS0011..." + MARK,
    b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-ERR unknown command 'PSYNC'\r\n$3\r\nRDB",
]
PIECES = (
    b"\r\n",
    b"\n",
    b"+",
    b"-",
    b"$",
    b"$EOF:",
    b"\0",
    b"\xff" * 40,
    b"+FULLRESYNC ",
    b"9" * 25,
)
TALKING = (State.CONNECT, State.CONNECTING, State.CONNECTED, State.REFUSED)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change, lose, repeat or insert a few bytes; one time in ten make them all up."""
    if rng.randrange(10) == 0:
        return rng.randbytes(rng.randrange(1, 80))
    result = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(5):
            case 0:
                result[at : at + 1] = rng.randbytes(1)
            case 1:
                del result[at : at + rng.randrange(1, 12)]
            case 2:
                result[at:at] = rng.choice(PIECES)
            case 3:
                other = rng.randrange(len(result) + 1)
                result[at:at] = result[other : other + rng.randrange(1, 50)]
            case _:
                del result[at:]
    return bytes(result)


class Link:
    """A replica that is answered anything, and a shell that does what is due of it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.shell = ReplicaShell(repl_diskless_load=rng.choice(("disabled", "swapdb")))
        if rng.randrange(2):
            self.shell.to_stream(offset=rng.randrange(1, 1 << 40))
            self.shell.replica.link_lost("cut", 0)
        self.replica = self.shell.replica
        self.loaded = False

    def carry_out(self, actions: Actions) -> None:
        """Load what has come whole; a snapshot like these never has a dataset in it."""
        for action in actions:
            if isinstance(action, do.LoadSnapshot):
                ok = self.rng.randrange(2) == 0
                self.loaded |= ok
                self.carry_out(self.replica.load_finished(ok=ok, stream_db=0, now_ms=0))
            elif isinstance(action, do.ApplyStream) and self.rng.randrange(2):
                self.replica.applied(self.replica.pending.bytes, 0)

    def answer(self, data: bytes) -> Actions:
        """Send it in any cut, until the link is given up or all is sent."""
        told: Actions = []
        while data:
            size = self.rng.randrange(1, len(data) + 1)
            actions = self.replica.receive(data[:size], 0)
            data = data[size:]
            told += actions
            self.carry_out(actions)
            if any(isinstance(action, do.Close) for action in actions):
                break
        return told


def check_answer(rng: random.Random) -> State:
    """Send one damaged conversation; return where the link ended."""
    link = Link(rng)
    replica, history = link.replica, link.shell.repl.stream.history
    held = replica.resume_db is not None
    before = history.replid, history.offset
    link.shell.connect()
    told = link.answer(damaged(GREETING + rng.choice(ANSWERS), rng))
    gave_up = any(isinstance(action, do.Close) for action in told)
    if gave_up:
        assert texts(told)
    if held and not link.loaded and replica.state is not State.CONNECTED:
        assert replica.resume_db is None or history.offset >= before[1]
    assert is_replid(history.replid)
    assert history.offset >= 0
    ended = replica.state
    # Whatever is left open ends by itself: silence closes it, and the next attempt begins.
    closed = link.shell.tick(seconds=61)
    assert ended in TALKING or texts(closed)
    assert replica.state in (State.CONNECTING, State.CONNECT, State.CONNECTED)
    return ended


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 10))
def test_damaged_answers_of_a_master_end_in_a_state_with_a_reason(seed: int) -> None:
    rng = random.Random(seed)
    ended = {check_answer(rng) for _ in range(800)}
    assert ended >= {State.CONNECTED, State.CONNECT, State.RECEIVE_PSYNC_REPLY, State.TRANSFER}


def test_damaged_answers_leave_nothing_behind() -> None:
    rng = random.Random(f"memory {FIRST_SEED}")
    for _ in range(200):
        check_answer(rng)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            check_answer(rng)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 64 << 10
    assert peak - before < 4 << 20


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 20))
def test_damaged_answers_many_times_end_in_a_state_with_a_reason(seed: int) -> None:
    """A million cases over the seeds."""
    rng = random.Random(f"deep {seed}")
    for _ in range(50_000):
        check_answer(rng)
