"""Random sequences over every command, carried on: by a link, by an AOF, by an RDB file.

A redis-server and a kvrepl-server run the same sequences as masters. Replicas of either kind must
then hold what their masters hold; and what one has written, as AOF before and after a rewrite and
as RDB file, the other kind must load as the same dataset.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.interop.conftest import NO_KVREPL
from tests.interop.differential.comparing import near, now_ms
from tests.interop.differential.peers import Argv, Connection
from tests.interop.differential.servers import Dataset, Session, Watched, dataset
from tests.interop.differential.test_whole_servers import COMMANDS, DEEP_SEQUENCES, RESET, sequences
from tests.interop.harness import Directive, Kind, Server, Tell, follow, wait_caught_up, wait_until
from tests.interop.test_files import aof_folder

pytestmark = [pytest.mark.interop, NO_KVREPL]

OTHER: Final[dict[Kind, Kind]] = {"redis": "kvrepl", "kvrepl": "redis"}
REPLICAS: Final[dict[Kind, list[Kind]]] = {"redis": ["kvrepl"], "kvrepl": ["redis", "kvrepl"]}
TOGETHER: Final = 10
"""So many sequences make a round; replicas are looked at after each."""
ROUNDS: Final = 5
"""In CI; the files are looked at after the last."""
ROUNDS_TO_FILES: Final = 40
"""In the deep run."""


class Carried:
    """The two masters, their replicas, and servers that load their files.

    Args:
        folder: where all of them live.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loads = 0
        self.masters = {kind: self._server(kind, f"master-{kind}") for kind in OTHER}
        self.replicas = {
            kind: [self._server(each, f"{kind}-to-{each}") for each in kinds]
            for kind, kinds in REPLICAS.items()
        }
        for kind, master in self.masters.items():
            master.start()
            for replica in self.replicas[kind]:
                follow(replica.start(), master.port)

    def _server(self, kind: Kind, name: str) -> Server:
        aof: dict[str, Directive] = {
            "appendonly": "yes",
            "appendfsync": "always",
            "auto_aof_rewrite_percentage": "0",
        }
        return Server(kind, self._folder / name, {**Watched.directives(), **aof})

    def run(self, commands: list[Argv], resp: int) -> None:
        """Run a sequence on both masters, from a clean state of the server but for its keys.

        Without DEBUG: RELOAD NOSAVE brings an old dataset back and tells no replica.
        """
        commands = [argv for argv in commands if argv[0].upper() != b"DEBUG"]
        for master in self.masters.values():
            connection = Connection(master.port, 2)
            connection.ask_all(*RESET)
            connection.close()
            session = Session(master.port, resp)
            session.run(commands)
            session.close()

    def empty(self) -> None:
        """Remove what the masters hold."""
        for master in self.masters.values():
            master.call("FLUSHALL")

    def check_links(self) -> None:
        """Every replica holds what its master holds."""
        for kind, master in self.masters.items():
            wanted = held(master)
            wait_caught_up(master, *self.replicas[kind])
            for replica in self.replicas[kind]:
                assert_same(held(replica), wanted, f"{kind} -> {replica.kind}")

    def check_files(self) -> None:
        """What each master has written loads as the same dataset in the other kind."""
        for kind, master in self.masters.items():
            wanted = held(master)
            self._check_aof(kind, wanted, "AOF")
            master.call("BGREWRITEAOF")
            wait_until(partial(_is_rewritten, master), "the AOF is rewritten", master)
            self._check_aof(kind, wanted, "rewritten AOF")
            master.call("SAVE")
            loader = self._loader(OTHER[kind], appendonly="no")
            shutil.copy(master.folder / "dump.rdb", loader.folder)
            self._check_loaded(loader, wanted, f"RDB of {kind}")

    def _check_aof(self, kind: Kind, wanted: Dataset, what: str) -> None:
        loader = self._loader(OTHER[kind], appendonly="yes")
        shutil.copytree(aof_folder(self.masters[kind]), aof_folder(loader))
        self._check_loaded(loader, wanted, f"{what} of {kind}")

    def _loader(self, kind: Kind, appendonly: str) -> Server:
        self._loads += 1
        directives = {**Watched.directives(), "appendonly": appendonly}
        return Server(kind, self._folder / f"load-{self._loads}", directives)

    @staticmethod
    def _check_loaded(loader: Server, wanted: Dataset, what: str) -> None:
        with loader:
            assert_same(held(loader), wanted, f"{what} in {loader.kind}")
        shutil.rmtree(loader.folder)

    def close(self) -> None:
        """End all servers; none may have ended before."""
        servers = [*self.masters.values(), *chain.from_iterable(self.replicas.values())]
        tails = [each.log_tail() for each in servers if not each.running or each.crash_line()]
        for each in servers:
            each.close()
        assert not tails, "\n".join(tails)


def _is_rewritten(server: Server) -> bool:
    info = server.info("persistence")
    manifest = (aof_folder(server) / "appendonly.aof.manifest").read_text()
    # A file of type h is one that is to be deleted.
    return not info["aof_rewrite_in_progress"] and " type h" not in manifest


def held(server: Server) -> Dataset:
    """What a server holds."""
    connection = Connection(server.port, 2)
    found = dataset(connection)
    connection.close()
    return found


def assert_same(ours: Dataset, theirs: Dataset, way: str) -> None:
    """Two datasets are equal, but for encodings: those of a loaded value go by its size alone."""
    keys = [[(db, key, left_ms) for db, key, _, left_ms in each.keys] for each in (ours, theirs)]
    assert near(keys[0], keys[1], now_ms(), spans=True), (way, keys)
    assert ours.digest == theirs.digest, (way, ours.keys)


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Carried]:
    """Give masters of both kinds with replicas of both kinds."""
    carried = Carried(tmp_path_factory.mktemp("ways"))
    yield carried
    carried.close()


def drawn(count: int) -> list[list[Argv]]:
    """So many sequences. They go to servers that are not made anew, so that nothing is shrunk."""
    found: list[list[Argv]] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(sequences())
    def draw(commands: list[Argv]) -> None:
        found.append(commands)

    draw()
    return found


def carry(carried: Carried, rounds: int, rounds_to_files: int, tell: Tell) -> int:
    """Run rounds of sequences, compare, and tell; give the number of commands."""
    left, run = drawn(rounds * TOGETHER), 0
    for number in range(1, rounds + 1):
        carried.empty()
        for commands in left[-TOGETHER:]:
            carried.run(commands, 2 + number % 2)
            run += len(commands)
        del left[-TOGETHER:]
        carried.check_links()
        if number % rounds_to_files == 0:
            carried.check_files()
            tell(f"{run:,} commands reached every replica and file")
    return run


def test_sequences_reach_replicas_and_files_of_either_kind(carried: Carried) -> None:
    assert carry(carried, ROUNDS, ROUNDS, lambda text: None) > ROUNDS


@pytest.mark.deep
@pytest.mark.timeout(7200)
def test_two_hundred_thousand_commands_reach_replicas_and_files_of_either_kind(
    carried: Carried, tell: Tell
) -> None:
    assert carry(carried, DEEP_SEQUENCES // TOGETHER, ROUNDS_TO_FILES, tell) >= COMMANDS
