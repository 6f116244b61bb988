"""The harness itself, against redis-server: what it promises is what the other tests lean on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.interop.conftest import Launcher
from tests.interop.datasets import AckedWriters, count_keys, populate
from tests.interop.harness import Server, ServerExited, free_port, wait_until
from tests.interop.proxy import Direction, Proxy


def test_server_with_a_wrong_directive_raises_with_status_and_log(tmp_path: Path) -> None:
    server = Server("redis", tmp_path, {"no-such-directive": 1})

    with pytest.raises(ServerExited) as caught:
        server.start()

    assert caught.value.status == 1
    assert "no-such-directive" in caught.value.log


def test_server_whose_port_was_taken_moves_to_another(tmp_path: Path) -> None:
    server = Server("redis", tmp_path)
    with socket.create_server(("127.0.0.1", server.port)) as squatter, server:
        assert server.port != squatter.getsockname()[1]
        assert server.call("PING")


def test_server_killed_and_restarted_keeps_port_and_files(launch: Launcher) -> None:
    server = launch("redis", appendonly="yes", appendfsync="always")
    server.call("SET", "key", "kept")
    port, pid = server.port, server.pid

    server.kill()
    server.restart()

    assert (server.port, server.call("GET", "key")) == (port, b"kept")
    assert server.pid != pid


def test_launcher_verdict_names_a_server_that_crashed(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    server = launcher("redis")
    with pytest.raises(redis.ConnectionError):
        server.call("DEBUG", "SEGFAULT")
    wait_until(lambda: not server.running, "the crash")

    faults = launcher.verdict()

    assert len(faults) == 2
    assert "died by itself" in faults[0]
    server.close()


def test_wait_until_that_never_holds_says_what_it_saw(launch: Launcher) -> None:
    server = launch("redis")

    with pytest.raises(AssertionError, match=r"a key; last: None(.|\n)*Ready to accept"):
        wait_until(lambda: server.call("GET", "absent"), "a key", server, timeout_s=0.1)


def test_populate_with_one_seed_gives_one_dataset_of_every_type(launch: Launcher) -> None:
    one, other = launch("redis"), launch("redis")

    assert populate(one, 1_000) == populate(other, 1_000) == count_keys(one) >= 990

    assert one.digest() == other.digest()
    assert one.digest() != "0" * 40
    kinds = {one.call("TYPE", f"k:{number}") for number in range(1, 11)}
    assert kinds == {b"string", b"list", b"set", b"hash", b"zset", b"stream"}


@pytest.mark.parametrize("harm", ["LPOP", "RPOP", "LMOVE"])
def test_acked_writers_with_a_lost_reordered_or_repeated_write_object(
    launch: Launcher, harm: str
) -> None:
    server = launch("redis", appendonly="yes", appendfsync="always")
    writers = AckedWriters(server, writers=1).start()
    writers.wait_for(100)
    server.kill()
    writers.join()
    writers.assert_nothing_lost(server.restart())

    if harm == "LMOVE":
        server.call("LMOVE", "acked:0", "acked:0", "LEFT", "RIGHT")
    else:
        server.call(harm, "acked:0", 2)

    with pytest.raises(AssertionError, match="writer 0"):
        writers.assert_nothing_lost(server)


def test_proxy_cut_after_passes_exactly_that_many_bytes(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    proxy = proxy_to(launch("redis"))
    proxy.cut_after(10, Direction.DOWN)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(b"PING\r\nPING\r\n")  # +PONG twice is 14 bytes
        got = b"".join(iter(lambda: client.recv(64), b""))

    assert got == b"+PONG\r\n+PO"
    assert (proxy.connections, proxy.passed_bytes[Direction.DOWN]) == (1, 10)


def test_proxy_stall_holds_bytes_back_until_resume(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    server = launch("redis")
    proxy = proxy_to(server)
    proxy.stall(Direction.DOWN)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as client:
        client.sendall(b"SET key passed\r\n")
        wait_until(lambda: server.call("GET", "key"), "the way up is open")
        with pytest.raises(TimeoutError):
            client.recv(64)
        client.settimeout(10)
        proxy.resume()

        assert client.recv(64) == b"+OK\r\n"


def test_proxy_cut_with_reset_gives_a_reset(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    proxy = proxy_to(launch("redis"))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        wait_until(lambda: proxy.alive == 1, "the connection is through")
        proxy.cut(reset=True)

        with pytest.raises(ConnectionResetError):
            client.recv(64)


def test_proxy_that_refuses_ends_new_connections_at_once(
    launch: Launcher, proxy_to: Callable[[Server], Proxy]
) -> None:
    proxy = proxy_to(launch("redis"))
    proxy.refuse()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        assert client.recv(64) == b""

    proxy.accept()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(64) == b"+PONG\r\n"


def test_free_port_gives_ports_outside_the_range_of_outgoing_connections() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert all(free_port() < first_outgoing for _ in range(20))
