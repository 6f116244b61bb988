"""The transcript of docs/PSYNC.md is what passes on a link, whichever server is at either end."""

from __future__ import annotations

from pathlib import Path

from tests.interop.conftest import Launcher
from tests.interop.harness import Pair, Server, wait_linked, wait_until
from tests.interop.transcript import Recorder, transcript

PAGE = Path(__file__).parents[2] / "docs" / "PSYNC.md"


def wait_acknowledged(master: Server) -> None:
    """Wait until the replica has acknowledged all there is."""

    def acknowledged() -> bool:
        info = master.info("replication")
        return bool(info["slave0"]["offset"] == info["master_repl_offset"])

    wait_until(acknowledged, "everything is acknowledged", master)


def record(launch: Launcher, pair: Pair) -> list[str]:
    """Let a replica attach, write, ask for its offset, break the link, write, let it resume."""
    # The one ping of this period comes with the master's first second, before there is a replica.
    master = launch(pair.master, repl_ping_replica_period=1000, repl_diskless_sync="yes")
    master.call("SET", "before", "the snapshot")
    wait_until(lambda: master.info("server")["uptime_in_seconds"] >= 2, "the first ping", master)
    with Recorder(master.port) as recorder:
        replica = launch(pair.replica, replicaof=f"127.0.0.1 {recorder.port}")
        wait_linked(replica)
        wait_until(lambda: "slave0" in master.info("replication"), "it is attached", master)
        with master.client().pipeline(transaction=False) as both:
            both.set("during", "the stream")
            both.wait(1, 0)
            assert both.execute()[1] == 1
        wait_acknowledged(master)
        seen = recorder.connections
        recorder.refuse()
        recorder.cut()
        master.call("SET", "while", "the link was down")
        recorder.accept()
        recorder.wait_reconnected(seen)
        wait_until(lambda: replica.call("GET", "while"), "the write arrived", master, replica)
        wait_acknowledged(master)
        return transcript(recorder)


def test_transcript_of_the_page_is_what_passes_on_a_link(launch: Launcher, pair: Pair) -> None:
    page = PAGE.read_text()
    shown = page.split("<!-- transcript -->\n```\n")[1].split("```")[0].splitlines()

    assert record(launch, pair) == shown
