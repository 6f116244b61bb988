"""The end of a server that others follow, and the pause it needs for that.

Source of the behaviour: server.c (prepareForShutdown, isReadyToShutdown), networking.c
(pauseClients) of Redis 7.0.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Server, follow, position, wait_caught_up, wait_until
from tests.interop.proxy import Proxy

FOR_EVER_MS = 600_000
LAST_WORD = "Redis is now ready to exit, bye bye..."


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Let a server hang."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def ask(server: Server, *words: str) -> None:
    """Send a command that is not answered, on a connection of its own."""
    server.client().connection_pool.get_connection().send_command(*words)  # type: ignore[no-untyped-call]


def test_middle_of_a_chain_waits_for_the_end_of_it(launch: Launcher, kind: Kind) -> None:
    master, middle, end = launch(kind), launch(kind), launch(kind)
    follow(middle, master.port)
    follow(end, middle.port)
    with stopped(end):
        master.call("SET", "k", "v")
        wait_caught_up(master, middle)
        middle.signal(signal.SIGTERM)
        middle.wait_log("Waiting for replicas before shutting down")
        offset = position(middle)[1]
        master.call("SET", "later", "v")
        wait_until(
            lambda: middle.info("replication")["slave_read_repl_offset"] > offset,
            "it reads on",
            middle,
        )
        assert position(middle)[1] == offset, "what it waits for must not move"
    assert middle.wait_exit() == 0
    assert end.call("GET", "k") == b"v"
    told = middle.log_text()
    assert "1 of 1 replicas are in sync when shutting down." in told
    assert told.rstrip().endswith(LAST_WORD)


def test_master_tells_of_replicas_that_lag_when_its_time_is_over(
    launch: Launcher, kind: Kind
) -> None:
    master = launch(kind, shutdown_timeout=1)
    replica = launch(kind)
    follow(replica, master.port)
    with stopped(replica):
        master.call("SET", "k", "v")
        ask(master, "SHUTDOWN")
        assert master.wait_exit() == 0
    told = master.log_text()
    order = [
        "User requested shutdown...", "Waiting for replicas before shutting down",
        f"Lagging replica 127.0.0.1:{replica.port} reported offset", LAST_WORD,
    ]  # fmt: skip
    assert [line for line in order if line in told] == order
    assert [told.index(line) for line in order] == sorted(told.index(line) for line in order)
    assert told.rstrip().endswith(LAST_WORD)


def test_what_was_asked_first_holds_and_now_ends_the_wait(launch: Launcher) -> None:
    master, replica = launch("kvrepl", shutdown_timeout=600), launch("kvrepl")
    follow(replica, master.port)
    with stopped(replica):
        master.call("SET", "k", "v")
        ask(master, "SHUTDOWN", "SAVE")
        master.wait_log("Waiting for replicas before shutting down")
        master.signal(signal.SIGTERM)
        ask(master, "SHUTDOWN")
        ask(master, "SHUTDOWN", "NOW")
        assert master.wait_exit() == 0
    assert (master.folder / "dump.rdb").exists()


def test_client_that_asked_for_the_end_is_answered_before_what_it_sent_after(
    launch: Launcher, kind: Kind
) -> None:
    master, replica = launch(kind, shutdown_timeout=600), launch(kind)
    follow(replica, master.port)
    with stopped(replica), socket.create_connection(("127.0.0.1", master.port), 20) as client:
        master.call("SET", "k", "v")
        client.sendall(b"SHUTDOWN\r\nPING\r\n")
        wait_until(lambda: master.info("clients")["blocked_clients"] == 1, "it waits", master)
        master.call("SHUTDOWN", "ABORT")
        replies = b""
        while replies.count(b"\r\n") < 2:
            replies += client.recv(1000)
        assert replies == b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n+PONG\r\n"
        assert master.info("clients")["blocked_clients"] == 0


def test_end_that_is_forced_says_that_it_saved_nothing(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, save="100000 1")
    (server.folder / "dump.rdb").mkdir()
    ask(server, "SHUTDOWN", "FORCE")
    assert server.wait_exit() == 0
    assert "Error trying to save the DB. Exit anyway." in server.log_text()
    assert "can't exit" not in server.log_text()


@pytest.mark.parametrize("load", ["disabled", "swapdb"])
def test_end_in_mid_transfer_leaves_no_temporary_file(
    launch: Launcher, proxy_to: Callable[[Server], Proxy], load: str
) -> None:
    master = launch("redis", rdbcompression="no")
    master.call("DEBUG", "POPULATE", 20_000, "key", 100)
    replica = launch("kvrepl", repl_diskless_load=load)
    proxy = proxy_to(master)
    proxy.trickle(20_000, 0.05)
    follow(replica, proxy.port, wait=False)
    wait_until(
        lambda: replica.info("replication").get("master_sync_read_bytes", 0) > 100_000,
        "a part of the snapshot is here",
        replica,
    )
    assert replica.terminate() == 0
    assert not list(replica.folder.glob("temp-*"))
    assert replica.log_text().rstrip().endswith(LAST_WORD)


def test_stream_waits_on_a_replica_whose_clients_are_paused(launch: Launcher, kind: Kind) -> None:
    master, replica = launch(kind), launch(kind)
    follow(replica, master.port)
    master.call("SET", "k", "first")  # the SELECT before it is no write, and passes at Redis
    wait_caught_up(master, replica)
    before = position(replica)
    replica.call("CLIENT", "PAUSE", FOR_EVER_MS, "WRITE")
    client = master.client()
    with client.pipeline() as pipe:
        for number in range(100):
            pipe.set("k", number)
        pipe.execute()
    wait_until(
        lambda: replica.info("replication")["slave_read_repl_offset"] == position(master)[1],
        "the stream is there",
        replica,
    )
    assert position(replica) == before
    assert replica.call("GET", "k") == b"first"
    replica.call("CLIENT", "UNPAUSE")
    wait_caught_up(master, replica)
    assert replica.call("GET", "k") == b"99"
    started = time.monotonic()
    assert master.call("WAIT", 1, 5_000) == 1
    assert time.monotonic() - started < 4
