"""Random sequences over every command, to redis-server and to kvrepl-server over sockets.

Everything a client, an operator or a replica can see must agree: each reply in either protocol,
the stream that a replica receives, and in the end the dataset with its encodings and times to
live. What is left out stands in grammar/exempt.py, what is not compared in comparing.py, each with
its reason. Keys expire when they are touched, not in the background, which would be by chance.

    make differential                  200,000 commands; SEED= repeats a run

Sequences are of one theme each: a family, the families of data together, or everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.interop.conftest import NO_KVREPL
from tests.interop.differential import grammar
from tests.interop.differential.comparing import (
    dataset_difference,
    first_difference,
    stream_difference,
)
from tests.interop.differential.grammar.keys import any_key
from tests.interop.differential.grammar.server import RESTORED
from tests.interop.differential.peers import Argv
from tests.interop.differential.servers import Session, Watched
from tests.interop.harness import Kind, Server, Tell

pytestmark = [pytest.mark.interop, NO_KVREPL]

PINGS: list[Argv] = [(b"PING",), (b"PING",)]
"""What a session sends at the end of each sequence."""
COMMANDS = 200_000
DEEP_SEQUENCES = 8_000
"""These hold more than so many commands."""
SEQUENCES = 300
"""In CI."""

RESET: list[Argv] = [
    (b"SCRIPT", b"FLUSH"), (b"FUNCTION", b"FLUSH"), (b"ACL", b"DELUSER", b"u1", b"u2"),
    (b"ACL", b"LOG", b"RESET"), (b"CLIENT", b"UNPAUSE"), (b"SLOWLOG", b"RESET"),
    (b"LATENCY", b"RESET"), (b"DEBUG", b"SET-ACTIVE-EXPIRE", b"0"),
    *((b"CONFIG", b"SET", name, value) for name, value in RESTORED.items()),
]  # fmt: skip

Both = tuple[Watched, Watched]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Give a kvrepl-server and a redis-server, watched."""
    kinds: tuple[Kind, Kind] = ("kvrepl", "redis")
    servers = [
        Server(kind, tmp_path_factory.mktemp(kind), Watched.directives()).start() for kind in kinds
    ]
    watched = [Watched(server, RESET) for server in servers]
    yield watched[0], watched[1]
    for each in watched:
        each.close()
    tails = [server.log_tail() for server in servers if not server.running or server.crash_line()]
    for server in servers:
        server.close()
    assert not tails, "\n".join(tails)


def sequences() -> st.SearchStrategy[list[Argv]]:
    """Sequences of one theme each."""
    families = list(grammar.FAMILIES.values())
    data = [each for family in families[:14] for each in family]
    everything = [each for family in families for each in family]
    themes = [st.one_of(*family, *any_key()) for family in families]
    themes += [st.one_of(*data)] * 4 + [st.one_of(*everything)] * 6
    theme: st.SearchStrategy[st.SearchStrategy[Any]] = st.sampled_from(themes)

    def some(command: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
        # Lists of lists, for hypothesis keeps single ones short.
        return st.lists(st.lists(command, min_size=1, max_size=12), min_size=1, max_size=10)

    return theme.flatmap(some).map(chain.from_iterable).map(flattened)


def flattened(items: Iterable[Any]) -> list[Argv]:
    """The commands one by one, without those that cannot be read back inside MULTI."""
    out: list[Argv] = []
    in_multi = False
    for item in items:
        for argv in item if isinstance(item, list) else [item]:
            name = argv[0].upper()
            if in_multi and (
                name.endswith(b"SUBSCRIBE")
                or name == b"CLIENT"
                or (name == b"DEBUG" and argv[-1].lower() == b"push")
            ):
                continue
            if name == b"MULTI" and len(argv) == 1:
                in_multi = True
            elif name in (b"EXEC", b"DISCARD", b"RESET") and len(argv) == 1:
                in_multi = False
            out.append(argv)
    return out


def assert_alike(both: Both, resp: int, commands: list[Argv]) -> None:
    """Run the commands on both and compare everything there is to see."""
    answers, streams, datasets = [], [], []
    for watched in both:
        watched.begin()
        session = Session(watched.server.port, resp)
        answers.append(session.run(commands))
        session.close()
        streams.append(watched.sent())
        datasets.append(watched.dataset())
    difference = (
        first_difference([*commands, *PINGS], *answers)
        or stream_difference(*streams)
        or dataset_difference(commands, *datasets)
    )
    if difference:
        raise AssertionError(difference)


def check(both: Both, count: int, tell: Tell) -> int:
    """Compare on so many sequences, and tell now and then; give the number of commands."""
    done = run = 0

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sequences(), st.sampled_from([2, 3]))
    def agree(commands: list[Argv], resp: int) -> None:
        nonlocal done, run
        assert_alike(both, resp, commands)
        done += 1
        run += len(commands)
        if done % 500 == 0:
            tell(f"{run:,} commands answered alike")

    agree()
    return run


def test_every_command_in_random_order_is_answered_as_by_redis(both: Both) -> None:
    assert check(both, SEQUENCES, lambda text: None) > SEQUENCES


@pytest.mark.deep
@pytest.mark.timeout(7200)
def test_two_hundred_thousand_commands_are_answered_as_by_redis(both: Both, tell: Tell) -> None:
    assert check(both, DEEP_SEQUENCES, tell) >= COMMANDS
