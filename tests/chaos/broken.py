"""`python broken.py MISTAKE ARGS...`: kvrepl-server ARGS with one rule broken on purpose.

A round is worth what it catches: test_chaos.py runs these in place of kvrepl-server and wants to
see the round fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from kvrepl import cli
from kvrepl.replication.actions import Actions
from kvrepl.replication.apply import StreamApplyState
from kvrepl.replication.replica import ReplicaSide
from kvrepl.server.aof import Aof


def count_one_too_many() -> None:
    """Count a byte more than was applied, once in a thousand commands."""
    real = StreamApplyState.ran
    ran = 0

    def mutated(self: StreamApplyState, count: int, *, in_multi: bool) -> int:
        nonlocal ran
        ran += 1
        return real(self, count, in_multi=in_multi) + (ran % 1000 == 0)

    StreamApplyState.ran = mutated  # type: ignore[method-assign]


def acknowledge_too_much() -> None:
    """Acknowledge a hundred thousand bytes that have not come."""
    real = ReplicaSide.acknowledge

    def mutated(self: ReplicaSide) -> Actions:
        history = self._stream.history
        history.offset += 100_000
        try:
            return real(self)
        finally:
            history.offset -= 100_000

    ReplicaSide.acknowledge = mutated  # type: ignore[method-assign]


def log_now_and_then() -> None:
    """Answer before the append-only file has it, but for one turn in a hundred."""
    real = Aof.before_replies
    turns = 0

    def mutated(self: Aof) -> None:
        nonlocal turns
        turns += 1
        if turns % 100 == 0:
            real(self)

    Aof.before_replies = mutated  # type: ignore[method-assign]


MISTAKES: Final[dict[str, Callable[[], None]]] = {
    mistake.__name__: mistake
    for mistake in (count_one_too_many, acknowledge_too_much, log_now_and_then)
}

if __name__ == "__main__":
    MISTAKES[sys.argv.pop(1)]()
    cli.server_main()
