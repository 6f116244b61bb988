"""The wire as a client meets it: the same bytes in, the same bytes out, the same endings.

Everything runs against both kinds of server; where the answer is compared, redis-server's is the
measure. What is measured (memory, waiting times) is asserted as a ratio or a generous bound.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kvrepl.resp import ReplyParser, encode_command
from kvrepl.resp.values import Reply, Status
from tests.interop.conftest import KINDS, NO_KVREPL, Launcher
from tests.interop.harness import Kind, Server, wait_until
from tests.unit.resp.test_resp_requests import ACCEPTED, REFUSED

TIMEOUT_S = 30.0
MARK = encode_command([b"ECHO", b"the-end"])
MARK_REPLY = b"$7\r\nthe-end\r\n"
MIB = 1 << 20


class Wire:
    """A bare connection.

    Args:
        server: whom to talk to.
        receive_bytes: the size of the receive buffer, 0 for the system's.
    """

    def __init__(self, server: Server, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(("127.0.0.1", server.port))
        self.parser = ReplyParser()
        self._replies: list[Reply] = []

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, *argv: bytes) -> Wire:
        """Send one command."""
        self.socket.sendall(encode_command(list(argv)))
        return self

    def reply(self) -> Reply:
        """Give the next reply."""
        while not self._replies:
            data = self.socket.recv(1 << 16)
            assert data, "the server closed the connection"
            self._replies += self.parser.feed(data)
        reply = self._replies.pop(0)
        return reply.text if isinstance(reply, Status) else reply

    def call(self, *argv: bytes) -> Reply:
        """Send one command, give its reply."""
        return self.send(*argv).reply()

    def rest(self) -> bytes:
        """Read until the server closes the connection."""
        found = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(1 << 16):
                found += data
        return bytes(found)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """A redis-server and a kvrepl-server, shared by the tests that change nothing."""
    folder: Path = tmp_path_factory.mktemp("wire")
    with Server("redis", folder / "redis", {}) as theirs, Server("kvrepl", folder / "ours") as ours:
        yield [theirs, ours]
        assert not ours.crash_line()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """The same with a password."""
    folder: Path = tmp_path_factory.mktemp("locked")
    with contextlib.ExitStack() as stack:
        servers = []
        for kind in KINDS:
            server = Server(kind, folder / kind)
            stack.callback(server.close)
            server.start()
            server.call("CONFIG", "SET", "requirepass", "secret")
            servers.append(server)
        yield servers


def exchange(server: Server, pieces: list[bytes], mark: bytes = MARK) -> tuple[bytes, bool]:
    """Send bytes; return the answers before that of the mark, and whether it was closed instead."""
    with Wire(server) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = b""
        try:
            for piece in [*pieces, mark]:
                wire.socket.sendall(piece)
            while not (mark and found.endswith(MARK_REPLY)):
                data = wire.socket.recv(1 << 16)
                if not data:
                    return found, True
                found += data
        except ConnectionError:
            return found, True
        return found.removesuffix(MARK_REPLY), False


def same(servers: list[Server], pieces: list[bytes], mark: bytes = MARK) -> tuple[bytes, bool]:
    """Both servers' answer, which must be the same."""
    theirs, ours = (exchange(server, pieces, mark) for server in servers)
    assert ours == theirs
    return ours


# ------------------------------------------------------------------------- requests


@pytest.mark.parametrize("name", REFUSED)
def test_protocol_error_is_answered_as_redis_does_and_closes(both: list[Server], name: str) -> None:
    answer, closed = same(both, [b"PING\r\n" + REFUSED[name][0]], mark=b"")
    assert closed and answer.startswith(b"+PONG\r\n-ERR Protocol error")


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_request_is_answered_as_redis_does(both: list[Server], name: str) -> None:
    data = ACCEPTED[name][0].replace(b"\0", b"0")
    assert not same(both, [data])[1]


STRANGERS = [
    b"PING\r\n",
    b"GET key\r\n",
    b"QUIT\r\n",
    b"NOSUCH\r\n",
    b"AUTH wrong\r\n",
    b"AUTH default wrong\r\n",
    b"AUTH nobody secret\r\n",
    b"AUTH\r\n",
    b"HELLO 3\r\n",
    b"HELLO 3 AUTH default wrong\r\n",
    b"HELLO 4\r\n",
    b"AUTH secret\r\nPING\r\n",
    b"*10\r\n" + b"$1\r\na\r\n" * 10,
    b"*11\r\n" + b"$1\r\na\r\n" * 11,
    b"*1000000000\r\n",
    b"*2\r\n$4\r\nECHO\r\n$16384\r\n" + b"x" * 16384 + b"\r\n",
    b"*2\r\n$4\r\nECHO\r\n$16385\r\n",
    b"AUTH secret\r\n*2\r\n$4\r\nECHO\r\n$16385\r\n" + b"x" * 16385 + b"\r\n",
    b"AUTH secret\r\n*12\r\n$3\r\nDEL\r\n" + b"$1\r\na\r\n" * 11,
]


@pytest.mark.parametrize("data", STRANGERS, ids=lambda data: repr(data[:30]))
def test_unauthenticated_client_is_answered_as_redis_does(
    locked: list[Server], data: bytes
) -> None:
    # In one piece: what comes in behind the closing would make the kernel drop the answer.
    same(locked, [data + b"QUIT\r\n"], mark=b"")


def test_requests_split_at_any_byte_are_answered_the_same(both: list[Server]) -> None:
    data = (
        encode_command([b"SET", b"k\r\n", b"\x00\xff v"])
        + b"GET \"k\\r\\n\"\r\n\r\n*0\r\n  PING  'a b'\r\n"
        + encode_command([b"MGET", b"k\r\n", b"", b"none"])
        + b'DEL "k\\r\\n"\n'
    )
    whole = same(both, [data])
    assert same(both, [data[at : at + 1] for at in range(len(data))]) == whole
    for at in range(1, len(data), 7):
        assert exchange(both[1], [data[:at], data[at:]]) == whole


def test_quit_is_answered_and_closes_though_more_follows(both: list[Server]) -> None:
    assert same(both, [b"PING\r\nQUIT\r\nPING\r\n"], mark=b"") == (b"+PONG\r\n+OK\r\n", True)


@pytest.mark.parametrize("requests", [1, 50_000])
def test_half_closed_connection_gets_every_answer(
    launch: Launcher, kind: Kind, requests: int
) -> None:
    with Wire(launch(kind)) as wire:
        wire.socket.sendall(b"INCR n\r\n" * requests)
        wire.socket.shutdown(socket.SHUT_WR)

        assert wire.rest() == b"".join(b":%d\r\n" % n for n in range(1, requests + 1))


def test_deep_pipeline_is_answered_and_others_are_served_meanwhile(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind)
    requests, waits_s = 200_000, []
    expected = b"".join(b":%d\r\n" % n for n in range(1, requests + 1))
    with Wire(server) as deep, Wire(server) as other:
        deep.socket.setblocking(False)
        data = memoryview(encode_command([b"INCR", b"n"]) * requests)
        received = bytearray()
        started = time.monotonic()
        while len(received) < len(expected):
            with contextlib.suppress(BlockingIOError):
                data = data[deep.socket.send(data) :]
            before = time.monotonic()
            assert other.call(b"PING") == b"PONG"
            waits_s.append(time.monotonic() - before)
            with contextlib.suppress(BlockingIOError):
                while chunk := deep.socket.recv(MIB):
                    received += chunk
        total_s = time.monotonic() - started

    assert bytes(received) == expected
    # Measured: a PING waits some 10 ms, of a second that the pipeline takes.
    assert len(waits_s) >= 5 and statistics.median(waits_s) < total_s / 5


# --------------------------------------------------------------------------- output


def fill(server: Server, wire: Wire, replies: int, value_bytes: int = 100_000) -> None:
    """Have the server owe a client that does not read so many big replies."""
    server.call("SET", "big", b"x" * value_bytes)
    with contextlib.suppress(ConnectionError):
        wire.socket.sendall(b"GET big\r\n" * replies)


def is_cut(server: Server, client_id: Reply) -> bool:
    """Whether the server has closed a client."""
    listed = server.call("CLIENT", "LIST", "ID", str(client_id))
    return not listed


def test_client_that_never_reads_is_cut_at_the_hard_limit(launch: Launcher, kind: Kind) -> None:
    limit = 8 * MIB
    server = launch(kind, client_output_buffer_limit=f"normal {limit} 0 0")
    process = psutil.Process(server.pid)
    with Wire(server, receive_bytes=8192) as wire:
        client_id = wire.call(b"CLIENT", b"ID")
        before = process.memory_info().rss

        fill(server, wire, 10_000)

        peak = before
        while not is_cut(server, client_id):
            peak = max(peak, process.memory_info().rss)
        server.wait_log("overcoming of output buffer limits")
    # A batch takes 5 ms, in which some 40 MB of answers can gather; 1 GB was asked for.
    assert peak - before < limit + 100 * MIB
    assert server.call("PING")


def test_client_over_the_soft_limit_is_cut_though_it_asks_nothing_more(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind, client_output_buffer_limit=f"normal 0 {MIB} 1")
    with Wire(server, receive_bytes=8192) as wire, Wire(server, receive_bytes=8192) as modest:
        client_id, modest_id = wire.call(b"CLIENT", b"ID"), modest.call(b"CLIENT", b"ID")
        fill(server, wire, 200)
        fill(server, modest, 5)

        wait_until(lambda: is_cut(server, client_id), "the client is cut", server)

        assert not is_cut(server, modest_id)


def test_subscriber_that_never_reads_is_cut(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, client_output_buffer_limit=f"pubsub {4 * MIB} 0 0")
    with Wire(server, receive_bytes=8192) as wire:
        wire.call(b"SUBSCRIBE", b"news")
        message = b"x" * 100_000

        wait_until(
            lambda: server.call("PUBLISH", "news", message) == 0, "nobody listens any more", server
        )


def test_slow_reader_within_the_limit_gets_everything(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    with Wire(server, receive_bytes=8192) as wire:
        fill(server, wire, 100)
        for _ in range(100):
            assert wire.reply() == b"x" * 100_000


# -------------------------------------------------------------------------- endings


def test_client_killed_while_blocked_takes_no_element(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    with Wire(server) as blocked, Wire(server) as other:
        client_id = blocked.call(b"CLIENT", b"ID")
        assert isinstance(client_id, int)
        blocked.send(b"BLPOP", b"list", b"0")
        wait_until(lambda: server.info("clients")["blocked_clients"] == 1, "it blocks", server)

        other.socket.sendall(
            encode_command([b"CLIENT", b"KILL", b"ID", b"%d" % client_id])
            + encode_command([b"RPUSH", b"list", b"element"])
            + encode_command([b"LLEN", b"list"])
        )

        assert [other.reply() for _ in range(3)] == [1, 1, 1]
        assert blocked.rest() == b""
        assert server.info("clients")["blocked_clients"] == 0


def test_client_gone_while_blocked_is_forgotten(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    with Wire(server) as blocked:
        blocked.send(b"BLPOP", b"list", b"0")
        wait_until(lambda: server.info("clients")["blocked_clients"] == 1, "it blocks", server)
    wait_until(lambda: server.info("clients")["blocked_clients"] == 0, "it is gone", server)

    assert server.call("RPUSH", "list", "element") == 1
    assert server.call("LLEN", "list") == 1


def test_requests_behind_a_blocked_one_wait_and_keep_their_order(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind)
    with Wire(server) as blocked:
        blocked.send(b"BLPOP", b"list", b"0").send(b"SET", b"k", b"v").send(b"GET", b"k")
        wait_until(lambda: server.info("clients")["blocked_clients"] == 1, "it blocks", server)
        assert server.call("EXISTS", "k") == 0

        server.call("RPUSH", "list", "element")

        assert [blocked.reply() for _ in range(3)] == [[b"list", b"element"], b"OK", b"v"]


def test_long_chain_of_clients_that_unblock_each_other_runs_through(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind)
    length = 400
    with contextlib.ExitStack() as stack:
        chain = [stack.enter_context(Wire(server)) for _ in range(length)]
        for number, wire in enumerate(chain):
            wire.send(b"BLPOP", b"l%d" % number, b"0")
            wire.send(b"RPUSH", b"l%d" % (number + 1), b"x")
        wait_until(lambda: server.info("clients")["blocked_clients"] == length, "all block", server)

        server.call("RPUSH", "l0", "x")

        for number, wire in enumerate(chain):
            assert [wire.reply(), wire.reply()] == [[b"l%d" % number, b"x"], 1]
        assert server.call("LLEN", f"l{length}") == 1


def test_idle_client_is_closed_after_the_timeout_and_a_busy_one_is_not(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind, timeout=1)
    with Wire(server) as idle, Wire(server) as blocked, Wire(server) as subscribed:
        blocked.send(b"BLPOP", b"list", b"0")
        subscribed.call(b"SUBSCRIBE", b"news")
        assert idle.rest() == b""

        with Wire(server) as fresh:  # the server's own client was idle for as long
            fresh.call(b"RPUSH", b"list", b"element")
            assert blocked.reply() == [b"list", b"element"]
            assert fresh.call(b"PUBLISH", b"news", b"item") == 1


def test_one_client_too_many_is_told_so(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, maxclients=3)
    with Wire(server) as first, Wire(server) as second:
        assert first.call(b"PING") == second.call(b"PING")
        server.call("PING")
        with Wire(server) as third:
            assert third.rest() == b"-ERR max number of clients reached\r\n"
        assert server.info("stats")["rejected_connections"] == 1


def own_address() -> str:
    """An address of this host that is not loopback, "" if it has none."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return str(address.address)
    return ""


@pytest.mark.skipif(not own_address(), reason="this host has no address but loopback")
def test_protected_mode_refuses_strangers_in_the_words_of_redis(launch: Launcher) -> None:
    answers = []
    for kind in KINDS:
        server = launch(kind, bind="*", protected_mode="yes")
        with socket.create_connection((own_address(), server.port), TIMEOUT_S) as stranger:
            answers.append(stranger.makefile("rb").read())
        server.call("CONFIG", "SET", "requirepass", "secret")
        with socket.create_connection((own_address(), server.port), TIMEOUT_S) as stranger:
            stranger.sendall(b"AUTH secret\r\n")
            assert stranger.recv(100) == b"+OK\r\n"
    assert answers[0].startswith(b"-DENIED Redis is running in protected mode")
    assert answers[1] == answers[0]


@NO_KVREPL
def test_ten_thousand_idle_connections_cost_little_memory(launch: Launcher) -> None:
    wanted = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted + 500:
        pytest.skip(f"ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    sockets: list[socket.socket] = []
    try:
        server = launch("kvrepl", maxclients=wanted + 100)
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        for _ in range(wanted):
            sockets.append(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S))
        for link in sockets:
            link.sendall(b"PING\r\n")
        for link in sockets:
            assert link.recv(16) == b"+PONG\r\n"
        used_bytes = (process.memory_info().rss - before) / wanted
        started = time.monotonic()
        for _ in range(100):
            assert server.call("PING")
        ping_s = (time.monotonic() - started) / 100
        assert server.info("clients")["connected_clients"] == wanted + 1
    finally:
        for link in sockets:
            link.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: server.info("clients")["connected_clients"] == 1, "all are gone", server)
    # Measured: 2.5 kB; redis-server 9.8 kB, mostly for its buffers.
    assert used_bytes < 8_000, f"{used_bytes:.0f} B for each connection"
    assert ping_s < 0.01


def test_client_gone_while_blocked_behind_a_deep_pipeline_is_forgotten(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind)
    with Wire(server) as blocked:
        pipeline = encode_command([b"SET", b"k", b"x" * 100]) * 20_000
        blocked.socket.sendall(pipeline + encode_command([b"BLPOP", b"list", b"0"]))
        for _ in range(20_000):
            assert blocked.reply() == b"OK"
        wait_until(lambda: server.info("clients")["blocked_clients"] == 1, "it blocks", server)

    wait_until(lambda: server.info("clients")["connected_clients"] == 1, "it is gone", server)
    assert server.info("clients")["blocked_clients"] == 0
