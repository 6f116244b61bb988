"""maxmemory-clients: both kinds of server cut the same clients, the largest first."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.interop.conftest import Launcher
from tests.interop.harness import Kind, Pair, Server, follow, wait_same_data, wait_until

KIB, MIB = 1 << 10, 1 << 20


class RawClient:
    """A named connection whose bytes are ours to send, and whose answers are left unread.

    Args:
        server: to connect to.
        name: as CLIENT SETNAME gives it.
        words: what is sent before the name is set, whose answer is awaited.
    """

    def __init__(self, server: Server, name: str, *words: str) -> None:
        self.server = server
        self.name = name
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.settimeout(30)
        for line in (*words, f"CLIENT SETNAME {name}"):
            self.send(line.encode() + b"\r\n")
            assert self.socket.recv(64) == b"+OK\r\n"

    def send(self, data: bytes) -> None:
        """Send bytes; the server may have cut us in the middle of them."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def argument(self, size: int) -> None:
        """Send so many bytes of an argument whose end does not come."""
        self.send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (size + KIB) + bytes(size))
        wait_until(
            lambda: not self.is_connected() or self.memory_bytes() > size,
            f"{self.name} was read or cut",
            self.server,
        )

    def line(self) -> dict[str, str]:
        """Give its line of CLIENT LIST, empty where it is gone."""
        text: bytes = self.server.call("CLIENT", "LIST")
        for line in text.decode().splitlines():
            fields = dict(word.split("=", 1) for word in line.split(" "))
            if fields["name"] == self.name:
                return fields
        return {}

    def is_connected(self) -> bool:
        """Whether the server still has it."""
        return bool(self.line())

    def memory_bytes(self) -> int:
        """What it costs, as CLIENT LIST says."""
        return int(self.line().get("tot-mem", 0))


Connect = Callable[..., RawClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open raw clients by calling it; all are closed at the end."""
    opened: list[RawClient] = []

    def make(server: Server, name: str, *words: str) -> RawClient:
        opened.append(RawClient(server, name, *words))
        return opened[-1]

    yield make
    for each in opened:
        each.socket.close()


def evicted(server: Server) -> int:
    return int(server.info("stats")["evicted_clients"])


def wait_evicted(client: RawClient) -> None:
    wait_until(lambda: not client.is_connected(), f"{client.name} was cut", client.server)


def test_client_with_a_huge_argument_is_cut_and_told_of_in_the_log(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind, maxmemory_clients="1mb")
    greedy = connect(server, "greedy")

    greedy.argument(2 * MIB)

    wait_evicted(greedy)
    assert evicted(server) == 1
    server.wait_log("Evicting client: id=")
    assert "name=greedy" in server.log_text()


def test_client_that_reads_no_answers_is_cut(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind, maxmemory_clients="3mb")
    server.call("SET", "k", bytes(400 * KIB))
    lazy = connect(server, "lazy")

    lazy.send(b"GET k\r\n" * 100)

    wait_evicted(lazy)
    assert evicted(server) == 1


def test_subscriber_that_reads_no_messages_is_cut(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind, maxmemory_clients="3mb", client_output_buffer_limit="pubsub 0 0 0")
    lazy = connect(server, "lazy")
    lazy.send(b"SUBSCRIBE news\r\n")
    wait_until(lambda: lazy.line()["sub"] == "1", "it is subscribed", server)

    publisher = server.client()
    wait_until(
        lambda: not publisher.publish("news", bytes(100 * KIB)), "nobody is subscribed", server
    )

    assert not lazy.is_connected()
    assert evicted(server) == 1


def test_client_that_queues_too_much_is_cut(launch: Launcher, kind: Kind, connect: Connect) -> None:
    server = launch(kind, maxmemory_clients="2mb")
    hoarder = connect(server, "hoarder")
    hoarder.send(b"MULTI\r\n")

    for _ in range(100):
        hoarder.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$30000\r\n" + bytes(30000) + b"\r\n")

    wait_evicted(hoarder)
    assert server.call("EXISTS", "k") == 0


def test_largest_goes_first_and_the_others_stay(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind)
    small, large, middle = (connect(server, name) for name in ("small", "large", "middle"))
    small.argument(200 * KIB)
    large.argument(5 * MIB)
    middle.argument(1200 * KIB)
    assert evicted(server) == 0

    server.config_set(maxmemory_clients="6mb")
    wait_evicted(large)
    assert middle.is_connected()
    server.config_set(maxmemory_clients="1mb")
    wait_evicted(middle)
    assert small.is_connected()
    assert evicted(server) == 2
    server.config_set(maxmemory_clients=0)
    small.send(bytes(50 * KIB))
    assert small.is_connected()


def test_client_with_no_evict_counts_and_stays(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind, maxmemory_clients="4mb")
    server.call("CLIENT", "NO-EVICT", "on")
    kept = connect(server, "kept", "CLIENT NO-EVICT on")
    other = connect(server, "other")
    other.argument(400 * KIB)
    assert "e" in kept.line()["flags"]

    kept.argument(6 * MIB)

    server.wait_log("Over client maxmemory after evicting all evictable clients")
    assert kept.is_connected()
    assert not other.is_connected()
    assert server.log_text().count("name=other") == 1


def test_percentage_is_of_maxmemory_and_of_nothing_without_it(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind, maxmemory_clients="10%")
    client = connect(server, "client")
    client.argument(2 * MIB)
    assert client.is_connected()

    server.config_set(maxmemory=200 * MIB)
    assert client.is_connected()
    server.config_set(maxmemory=10 * MIB)
    wait_evicted(client)


def test_limit_is_never_so_small_that_nobody_gets_in(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, maxmemory_clients=1)
    assert server.call("PING") in (True, b"PONG")
    assert evicted(server) == 0


def test_replica_is_no_client_that_counts(launch: Launcher, pair: Pair) -> None:
    master = launch(pair.master, maxmemory_clients="1mb", repl_diskless_sync="yes")
    replica = launch(pair.replica)
    follow(replica, master.port)
    client = master.client()
    for i in range(50):
        client.set(f"k{i}", bytes(300 * KIB))

    wait_same_data(master, replica)
    assert evicted(master) == 0
    assert int(master.info("stats")["sync_full"]) == 1


def test_debug_shows_the_pools_that_clients_are_in(
    launch: Launcher, kind: Kind, connect: Connect
) -> None:
    server = launch(kind)
    with pytest.raises(Exception, match="maxmemory-clients is disabled"):
        server.call("DEBUG", "CLIENT-EVICTION")
    server.config_set(maxmemory_clients="100mb")
    large = connect(server, "large")
    large.argument(1200 * KIB)

    lines = server.call("DEBUG", "CLIENT-EVICTION").decode().splitlines()

    assert len(lines) == 19
    assert lines[0].startswith("bucket          0 -      32767: tot-mem: ")
    assert lines[18] == "bucket 4294967296+            : tot-mem:          0, clients: 0"
    filled = [line for line in lines[6:] if not line.endswith("clients: 0")]
    assert len(filled) == 1
    assert filled[0].endswith("clients: 1")
