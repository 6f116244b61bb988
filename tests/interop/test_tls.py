"""TLS: the client port and the replication link, beside a redis-server that has it too.

Certificates are made by the openssl program: an authority, a server and a client that it has
signed, a second server certificate to renew with, and a stranger that signed itself.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Launcher
from tests.interop.datasets import populate
from tests.interop.harness import (
    Directive,
    Kind,
    Pair,
    Server,
    follow,
    free_port,
    sync_counts,
    wait_caught_up,
    wait_same_data,
    wait_until,
)
from tests.interop.proxy import Proxy

pytestmark = pytest.mark.skipif(
    not shutil.which("openssl"), reason="the openssl program is not installed"
)

KEY_PASSWORD = "only for tests"
REFUSED = "Unable to update TLS configuration. Check server logs."


def openssl(folder: Path, line: str) -> None:
    """Run the openssl program in a folder."""
    subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of NAME.crt and NAME.key: ca, server, renewed, client, stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for name in ("ca", "stranger"):
        openssl(folder, f"req -x509 {key} -keyout {name}.key -out {name}.crt -subj /CN={name}")
    for name in ("server", "renewed", "client"):
        openssl(folder, f"req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        signed = f"x509 -req -in {name}.csr -out {name}.crt -CA ca.crt -CAkey ca.key"
        openssl(folder, f"{signed} -CAcreateserial")
    encrypted = ["pkey", "-in", "server.key", "-aes128", "-out", "encrypted.key"]
    subprocess.run(
        ["openssl", *encrypted, "-passout", f"pass:{KEY_PASSWORD}"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


Secure = Callable[..., Server]


@pytest.fixture
def secure(launch: Launcher, certificates: Path) -> Secure:
    """Start a server with TLS on a port of its own beside the plain one (tls_port_of)."""

    def start(kind: Kind, **directives: Directive) -> Server:
        return launch(
            kind,
            **{
                "tls_port": free_port(),
                "tls_cert_file": str(certificates / "server.crt"),
                "tls_key_file": str(certificates / "server.key"),
                "tls_ca_cert_file": str(certificates / "ca.crt"),
                **directives,
            },
        )

    return start


@pytest.fixture(params=["uvloop", "asyncio"])
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on each event loop: they have TLS of their own."""
    monkeypatch.setenv("KVREPL_LOOP", request.param)


def tls_port_of(server: Server) -> int:
    """Give the port for TLS of a server of `secure`."""
    return int(str(server.directives["tls-port"]))


def context(certificates: Path, name: str = "client") -> ssl.SSLContext:
    """Give the context of a client that shows a certificate, "" for none."""
    made = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    made.check_hostname = False
    if name:
        made.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    return made


def connect(server: Server, made: ssl.SSLContext) -> ssl.SSLSocket:
    """Open a connection over TLS."""
    plain = socket.create_connection(("127.0.0.1", tls_port_of(server)), timeout=30)
    return made.wrap_socket(plain)


def answer(server: Server, made: ssl.SSLContext) -> bytes:
    """Give the answer to PING, b"" where the server hung up instead."""
    try:
        with connect(server, made) as client:
            client.sendall(b"PING\r\n")
            return client.recv(64)
    except (ssl.SSLError, ConnectionError):
        return b""


def subject(client: ssl.SSLSocket) -> str:
    """Give the common name of the server's certificate."""
    shown = client.getpeercert() or {}
    return str(dict(pair[0] for pair in shown["subject"])["commonName"])  # type: ignore[misc]


# ---- the replication link


@pytest.mark.skipif(not shutil.which("redis-sentinel"), reason="redis-sentinel is not installed")
def test_sentinel_that_speaks_tls_alone_replaces_a_killed_master(
    secure: Secure, launch: Launcher, certificates: Path
) -> None:
    master = secure("kvrepl", tls_replication="yes")
    followed = f"127.0.0.1 {tls_port_of(master)}"
    replicas = [
        secure(kind, tls_replication="yes", replicaof=followed) for kind in ("kvrepl", "redis")
    ]
    populate(master, 100)
    wait_caught_up(master, *replicas)
    tls: dict[str, Any] = {
        name.replace("-", "_"): value for name, value in master.directives.items() if "tls" in name
    }
    tls["tls_port"] = free_port()
    sentinel = launch.sentinel(master, port=tls_port_of(master), **tls)
    ports = {tls_port_of(replica): replica for replica in replicas}

    def elected() -> int:
        return int(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "m")[1])

    def watches_all() -> bool:
        told = sentinel.call("SENTINEL", "REPLICAS", "m")
        found = [dict(zip(words[::2], words[1::2], strict=True)) for words in told]
        return {int(words[b"port"]) for words in found} == set(ports) and all(
            words[b"flags"] == b"slave" for words in found
        )

    wait_until(watches_all, "the sentinel finds the replicas over TLS", sentinel, *replicas)
    master.kill()
    wait_until(lambda: elected() in ports, "a new master", sentinel, *replicas)
    promoted = ports[elected()]
    sibling = next(replica for replica in replicas if replica is not promoted)
    wait_until(
        lambda: (
            sibling.info("replication")["master_port"] == tls_port_of(promoted)
            and sibling.info("replication")["master_link_status"] == "up"
        ),
        "the sibling follows it",
        promoted,
        sibling,
    )
    assert sync_counts(promoted) == (0, 1)
    promoted.call("SET", "after", "failover")
    wait_same_data(promoted, sibling)


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_link_over_tls_syncs_fully_then_resumes(
    secure: Secure, pair: Pair, diskless: str, certificates: Path
) -> None:
    master = secure(pair.master, repl_diskless_sync=diskless)
    replica = secure(pair.replica, tls_replication="yes")
    populate(master, 1_000)
    for number in range(40):
        master.call("SET", f"big{number}", b"%d" % number * 100_000)
    with Proxy(tls_port_of(master)) as proxy:
        follow(replica, proxy.port)
        wait_caught_up(master, replica)
        shown = master.info("replication")["slave0"]
        assert int(shown["port"]) == tls_port_of(replica)

        proxy.refuse()
        proxy.cut()
        master.call("SET", "written", "while the link was down" * 10_000)
        proxy.accept()

        wait_until(lambda: replica.call("GET", "written"), "the write arrived", master, replica)
        wait_same_data(master, replica)
    assert sync_counts(master) == (1, 1)


def test_replica_that_reads_slowly_gets_all_of_the_stream(
    secure: Secure, pair: Pair, each_loop: None
) -> None:
    master = secure(pair.master)
    replica = secure(pair.replica, tls_replication="yes")
    with Proxy(tls_port_of(master)) as proxy:
        follow(replica, proxy.port)
        wait_caught_up(master, replica)
        proxy.trickle(1 << 16, 0.001)
        for number in range(60):
            master.call("SET", f"big{number}", b"%d" % (number % 10) * 200_000)
        wait_same_data(master, replica, timeout_s=60)
    assert sync_counts(master) == (1, 0)


def test_replica_that_does_not_trust_its_master_says_so(secure: Secure, certificates: Path) -> None:
    master = secure("redis")
    stranger = str(certificates / "stranger.crt")
    replica = secure("kvrepl", tls_replication="yes", tls_ca_cert_file=stranger)
    follow(replica, tls_port_of(master), wait=False)
    replica.wait_log("certificate verify failed")
    assert replica.info("replication")["master_link_status"] == "down"

    replica.config_set(tls_ca_cert_file=str(certificates / "ca.crt"))

    wait_caught_up(master, replica)


# ---- clients


@pytest.mark.parametrize("auth", ["yes", "optional", "no"])
@pytest.mark.parametrize("shown", ["client", "stranger", ""])
def test_certificates_of_clients_are_demanded_as_redis_does(
    secure: Secure, certificates: Path, auth: str, shown: str
) -> None:
    theirs, ours = (secure(kind, tls_auth_clients=auth) for kind in ("redis", "kvrepl"))
    made = context(certificates, shown)
    expected = answer(theirs, made)
    assert answer(ours, made) == expected
    if not expected:
        ours.wait_log("Error accepting a client connection: ")


def test_whoever_speaks_no_tls_is_cut_off_and_leaves_nothing(
    secure: Secure, each_loop: None
) -> None:
    server = secure("kvrepl")
    open_files = Path(f"/proc/{server.pid}/fd")
    before = len(list(open_files.iterdir()))
    for data in (b"PING\r\n", b"\0" * 3_000, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b""):
        with socket.create_connection(("127.0.0.1", tls_port_of(server)), timeout=30) as client:
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
    wait_until(
        lambda: server.log_text().count("Error accepting a client connection: ") == 4,
        "a line for each in the log",
        server,
    )
    wait_until(lambda: len(list(open_files.iterdir())) == before, "descriptors are free", server)
    assert server.info("clients")["connected_clients"] == 1


def test_commands_before_the_farewell_of_a_client_are_run_and_answered(
    secure: Secure, certificates: Path, each_loop: None
) -> None:
    server = secure("kvrepl")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context(certificates).wrap_bio(incoming, outgoing)
    address = ("127.0.0.1", tls_port_of(server))
    with socket.create_connection(address, timeout=30) as client:
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.sendall(outgoing.read())
                incoming.write(client.recv(1 << 16))
        for number in range(3_000):
            session.write(b"SET key:%d x\r\n" % number)
        session.write(b"DBSIZE\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            session.unwrap()
        client.sendall(outgoing.read())  # handshake, commands and farewell in one piece

        while data := client.recv(1 << 16):
            incoming.write(data)
    answers = b""
    with pytest.raises(ssl.SSLZeroReturnError):  # the server's own farewell
        while data := session.read(1 << 16):
            answers += data
    assert answers == b"+OK\r\n" * 3_000 + b":3000\r\n"


def test_tls_alone_serves_redis_cli_and_benchmark(launch: Launcher, certificates: Path) -> None:
    port = free_port()
    server = launch.prepare(
        "kvrepl",
        tls_port=port,
        tls_cert_file=str(certificates / "server.crt"),
        tls_key_file=str(certificates / "server.key"),
        tls_ca_cert_file=str(certificates / "ca.crt"),
    )
    config = server.folder / "server.conf"
    config.write_text(config.read_text() + "port 0\n")
    server.start(ready=False)
    server.wait_log("Ready to accept connections")
    flags = ["-p", str(port), "--tls", "--cacert", str(certificates / "ca.crt")]
    flags += ["--cert", str(certificates / "client.crt"), "--key", str(certificates / "client.key")]

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *flags, *arguments], capture_output=True, check=True, timeout=60, text=True
        )
        return done.stdout

    assert run("redis-cli", "PING") == "PONG\n"
    assert f"tcp_port:{port}\n" in run("redis-cli", "INFO", "server").replace("\r", "")
    assert "requests per second" in run("redis-benchmark", "-n", "2000", "-P", "16", "-t", "set")


# ---- CONFIG SET


BAD = [
    ("tls-cert-file", "/nonexistent"),
    ("tls-key-file", "client.key"),
    ("tls-ca-cert-file", ""),
    ("tls-ca-cert-file", "ca.key"),
    ("tls-protocols", "TLSv1.2 SSLv3"),
    ("tls-protocols", " "),
    ("tls-ciphers", "none such"),
    ("tls-dh-params-file", "ca.crt"),
]


def test_config_set_of_what_is_wrong_is_refused_as_redis_does_and_changes_nothing(
    secure: Secure, certificates: Path
) -> None:
    theirs, ours = secure("redis"), secure("kvrepl")
    made = context(certificates)
    with connect(ours, made) as before:
        for name, value in BAD:
            path = str(certificates / value) if "." in value and "file" in name else value
            told = {server.cli("CONFIG", "SET", name, path) for server in (theirs, ours)}
            assert len(told) == 1, (name, value, told)
            assert REFUSED.encode() in told.pop(), (name, value)
            assert answer(ours, made) == b"+PONG\r\n"
        before.sendall(b"PING\r\n")
        assert before.recv(64) == b"+PONG\r\n"
    taken = ours.cli("CONFIG", "SET", "tls-port", str(ours.port))
    assert b"Unable to listen on this port. Check server logs." in taken
    assert answer(ours, made) == b"+PONG\r\n"


def test_config_set_of_the_same_file_takes_a_renewed_certificate(
    secure: Secure, kind: Kind, certificates: Path, tmp_path: Path
) -> None:
    for part in ("crt", "key"):
        shutil.copy(certificates / f"server.{part}", tmp_path / f"mine.{part}")
    mine = {"tls_cert_file": f"{tmp_path}/mine.crt", "tls_key_file": f"{tmp_path}/mine.key"}
    server = secure(kind, **mine)
    made = context(certificates)
    with connect(server, made) as before:
        assert subject(before) == "server"
        for part in ("crt", "key"):
            shutil.copy(certificates / f"renewed.{part}", tmp_path / f"mine.{part}")
        assert server.call("CONFIG", "SET", *_flat(mine)) in (b"OK", True)
        with connect(server, made) as after:
            assert subject(after) == "renewed"
        before.sendall(b"PING\r\n")
        assert before.recv(64) == b"+PONG\r\n"


def test_key_with_a_password_is_opened_with_it_only(secure: Secure, certificates: Path) -> None:
    server = secure("kvrepl")
    encrypted = str(certificates / "encrypted.key")
    for wrong in ("", "another"):
        told = server.cli("CONFIG", "SET", "tls-key-file", encrypted, "tls-key-file-pass", wrong)
        assert REFUSED.encode() in told
    server.call("CONFIG", "SET", "tls-key-file", encrypted, "tls-key-file-pass", KEY_PASSWORD)
    assert answer(server, context(certificates)) == b"+PONG\r\n"


def test_tls_is_turned_on_and_off_while_running(secure: Secure, certificates: Path) -> None:
    server = secure("kvrepl")
    made = context(certificates)
    server.config_set(tls_port=0)
    with pytest.raises(ConnectionRefusedError):
        connect(server, made)
    server.config_set(tls_port=tls_port_of(server))
    assert answer(server, made) == b"+PONG\r\n"


def test_protocols_that_were_not_chosen_are_refused(secure: Secure, certificates: Path) -> None:
    server = secure("kvrepl", tls_protocols='"TLSv1.2"')
    made = context(certificates)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    assert answer(server, made) == b""
    server.config_set(tls_protocols="TLSv1.3")
    assert answer(server, made) == b"+PONG\r\n"


def _flat(directives: dict[str, str]) -> list[str]:
    return [word for name, value in directives.items() for word in (name.replace("_", "-"), value)]
