"""The daemon as operators and their scripts know it: starting, signals, files, log lines.

What redis-server can be asked is asked of both; where kvrepl says something of its own (its name,
its version) only the part that scripts look for is compared.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import redis

from kvrepl.server.children import NICE
from tests.interop.conftest import KINDS, NO_KVREPL, Launcher
from tests.interop.harness import Kind, ServerExited, command_of, free_port, wait_until

TIMEOUT_S = 20
LINE = re.compile(
    r"^\d+:[MSC] \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} [.*#-] \S.*$", re.MULTILINE
)


def start(
    kind: Kind, folder: Path, *arguments: str, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a server that ends by itself; give its status and what it said."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [*command_of(kind), *arguments],
        cwd=folder,
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


# ---------------------------------------------------------------------------- start


@NO_KVREPL
def test_version_and_help_are_printed_and_nothing_is_started(tmp_path: Path) -> None:
    for option in ("--version", "-v"):
        run = start("kvrepl", tmp_path, option)
        assert run.returncode == 0 and "Redis 7.0.15" in run.stdout
    for option in ("--help", "-h"):
        run = start("kvrepl", tmp_path, option)
        assert run.returncode == 0 and "kvrepl-server" in run.stdout
    assert not list(tmp_path.iterdir())


REFUSED = {
    "unknown": ["--no-such-directive", "x"],
    "not a number": ["--port", "abc"],
    "out of range": ["--databases", "0"],
    "bad choice": ["--appendfsync", "sometimes"],
    "bad save": ["--save", "60"],
    "bad limit": ["--client-output-buffer-limit", "normal 1"],
    "no such command": ["--rename-command", "foo", "bar"],
    "taken name": ["--rename-command", "get", "set"],
    "no folder for the log": ["--logfile", "/no/such/folder/x"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_configuration_that_redis_refuses_is_refused_in_its_words(
    tmp_path: Path, name: str
) -> None:
    theirs, ours = (start(kind, tmp_path, *REFUSED[name]) for kind in KINDS)

    assert theirs.returncode == ours.returncode == 1
    assert "FATAL CONFIG FILE ERROR" in theirs.stderr
    assert ours.stderr == theirs.stderr
    assert ours.stdout == ""


@NO_KVREPL
def test_line_of_a_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "my.conf").write_text("port 7000\n\nmaxmemory lots\n")

    run = start("kvrepl", tmp_path, "my.conf")

    assert run.returncode == 1
    assert "at line 3\n>>> 'maxmemory lots'\nargument must be a memory value" in run.stderr


UNABLE = {
    "port taken": (["--port", "{taken}"], "Failed listening on port {taken} (TCP), aborting."),
    "no such address": (
        ["--port", "{free}", "--bind", "192.0.2.1"],
        "Could not create server TCP listening socket 192.0.2.1:{free}: bind: Cannot assign"
        " requested address",
    ),
    "nowhere": (["--port", "0"], "Configured to not listen anywhere, exiting."),
    "only absent": (
        ["--port", "{free}", "--bind", "-192.0.2.1"],
        "Configured to not listen anywhere, exiting.",
    ),
    "no folder for the socket": (
        ["--port", "0", "--unixsocket", "/no/such/folder/s"],
        "Failed opening Unix socket: bind: No such file or directory",
    ),
    "no such folder": (["--port", "{free}", "--dir", "/no/such/folder"], "No such file or dir"),
    "no such file": (["/no/such.conf"], "Fatal error, can't open config file '/no/such.conf'"),
}


@pytest.mark.parametrize("name", UNABLE)
def test_start_that_is_impossible_says_why_and_exits_with_one(
    tmp_path: Path, kind: Kind, name: str
) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        ports = {"taken": str(listener.getsockname()[1]), "free": str(free_port())}
        arguments, reason = UNABLE[name]

        run = start(kind, tmp_path, *(argument.format(**ports) for argument in arguments))

    assert run.returncode == 1
    assert reason.format(**ports) in run.stdout + run.stderr
    assert "Ready to accept connections" not in run.stdout


def test_broken_dump_stops_the_start(launch: Launcher, kind: Kind) -> None:
    server = launch.prepare(kind)
    (server.folder / "dump.rdb").write_bytes(b"REDIS0009 this is no dump at all" * 10)

    with pytest.raises(ServerExited) as caught:
        server.start()

    assert caught.value.status == 1
    assert "Traceback" not in caught.value.log
    assert "Ready to accept connections" not in caught.value.log


def test_directives_come_from_file_standard_input_and_options_in_this_order(
    tmp_path: Path, kind: Kind
) -> None:
    (tmp_path / "my.conf").write_text("maxmemory 1mb\ntimeout 1\nport 0\n")
    run = subprocess.Popen(
        [*command_of(kind), "my.conf", "--maxmemory", "3mb", "--unixsocket", "s", "-"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert run.stdin is not None
    run.stdin.write(b"maxmemory 2mb\ntimeout 2\n")
    run.stdin.close()
    try:
        client = redis.Redis(unix_socket_path=str(tmp_path / "s"))
        wait_until(client.ping, "it answers")
        assert client.config_get("maxmemory")["maxmemory"] == str(3 << 20)
        assert client.config_get("timeout")["timeout"] == "2"
    finally:
        run.terminate()
        assert run.wait(TIMEOUT_S) == 0
    assert not (tmp_path / "s").exists()


def test_log_tells_of_the_start_in_order_and_in_the_form_of_redis(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind, always_show_logo="yes")
    text = server.log_text()
    at = [
        text.index(words)
        for words in (
            "oO0OoO0OoO0Oo",
            "Configuration loaded",
            f" PID: {server.pid}",
            "Server initialized",
            "Ready to accept connections",
        )
    ]
    assert at == sorted(at)
    assert text.count("Ready to accept connections") == 1
    stamped = [line for line in text.splitlines() if line.startswith(f"{server.pid}:")]
    assert len(stamped) > 3 and all(LINE.match(line) for line in stamped)


def test_log_file_is_beside_the_data_and_made_anew_when_rotated(
    launch: Launcher, kind: Kind
) -> None:
    server = launch(kind, logfile="my.log", loglevel="verbose")
    log = server.folder / "my.log"
    assert "Ready to accept connections" in log.read_text()

    log.rename(server.folder / "my.log.1")
    server.call("CONFIG", "SET", "loglevel", "debug")
    server.call("DEBUG", "LOG", "after the rotation")

    assert "after the rotation" in log.read_text()


def test_daemonized_server_detaches_and_keeps_its_pidfile(tmp_path: Path, kind: Kind) -> None:
    port, pidfile = free_port(), tmp_path / "my.pid"
    run = start(
        kind, tmp_path, "--daemonize", "yes", "--pidfile", str(pidfile), "--port", str(port),
        "--logfile", "my.log", "--save", "", "--bind", "127.0.0.1",
    )  # fmt: skip
    client = redis.Redis(port=port)
    wait_until(client.ping, "it answers")
    pid = client.info("server")["process_id"]
    process = psutil.Process(pid)
    try:
        assert run.returncode == 0 and run.stdout == run.stderr == ""
        assert int(pidfile.read_text()) == pid
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    finally:
        process.terminate()
    wait_until(lambda: not psutil.pid_exists(pid) or process.status() == "zombie", "the end")
    assert not pidfile.exists()
    assert "ready to exit, bye bye" in (tmp_path / "my.log").read_text()


def test_supervisor_hears_of_readiness_and_of_the_end(launch: Launcher, kind: Kind) -> None:
    server = launch.prepare(kind, supervised="systemd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(server.folder / "notify"))
        notify.settimeout(TIMEOUT_S)
        os.environ["NOTIFY_SOCKET"] = str(server.folder / "notify")
        try:
            server.start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        said = ""
        while "READY=1" not in said:
            said += notify.recv(1000).decode()
        server.terminate()
        while "STOPPING=1" not in said:
            said += notify.recv(1000).decode()


def test_several_addresses_are_listened_on_and_can_be_changed(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, bind="127.0.0.1 127.0.0.2 -192.0.2.1", unixsocket="s", unixsocketperm=700)
    other, path = free_port(), server.folder / "s"
    assert answers("127.0.0.2", server.port)
    assert redis.Redis(unix_socket_path=str(path)).ping()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700

    server.call("CONFIG", "SET", "bind", "127.0.0.1")
    assert not answers("127.0.0.2", server.port)
    server.call("CONFIG", "SET", "bind", "* -::*")
    assert answers("127.0.0.2", server.port)
    server.call("CONFIG", "SET", "port", str(other))
    assert answers("127.0.0.1", other) and not answers("127.0.0.1", server.port)

    with pytest.raises(redis.ResponseError, match="Failed to bind to specified addresses"):
        server.call("CONFIG", "SET", "bind", "192.0.2.1")
    assert answers("127.0.0.1", other)


def answers(host: str, port: int) -> bool:
    """Whether somebody answers PING there; False where the connection is refused."""
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as link:
            link.sendall(b"PING\r\n")
            return link.recv(100) == b"+PONG\r\n"
    except ConnectionRefusedError:
        return False


def has_ipv6() -> bool:
    """Whether this host has an IPv6 loopback."""
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")
def test_ipv6_clients_are_served_and_shown_in_brackets(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, bind="127.0.0.1 ::1", protected_mode="yes")
    with socket.create_connection(("::1", server.port), TIMEOUT_S) as link:
        link.sendall(b"CLIENT INFO\r\n")
        assert b" addr=[::1]:" in link.recv(4096)


# ---------------------------------------------------------------------------- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_where_save_points_are_set_and_exits_with_zero(
    launch: Launcher, kind: Kind, number: signal.Signals
) -> None:
    server = launch(kind, save="3600 1")
    server.call("SET", "key", "value")

    server.signal(number)

    assert server.wait_exit() == 0
    text = server.log_text()
    assert f"Received {number.name} scheduling shutdown..." in text
    assert "User requested shutdown..." in text
    assert "Redis is now ready to exit, bye bye..." in text
    assert server.start().call("GET", "key") == b"value"


def test_signal_saves_nothing_where_no_save_points_are_set(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, save='""')
    server.call("SET", "key", "value")
    assert server.terminate() == 0
    assert not (server.folder / "dump.rdb").exists()


def test_second_sigint_ends_the_server_at_once(launch: Launcher, kind: Kind) -> None:
    master = launch(kind, shutdown_timeout=60)
    replica = launch("redis", replicaof=f"127.0.0.1 {master.port}")
    wait_until(
        lambda: replica.info("replication")["master_link_status"] == "up", "the link", replica
    )
    replica.signal(signal.SIGSTOP)
    try:
        master.call("SET", "key", "value")
        master.signal(signal.SIGINT)
        master.wait_log("Waiting for replicas before shutting down")
        master.signal(signal.SIGINT)

        assert master.wait_exit() == 1
        assert "You insist... exiting now." in master.log_text()
    finally:
        replica.signal(signal.SIGCONT)


def test_stopped_and_continued_server_goes_on(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(server.pid).status() == "stopped", "it is stopped")
    server.signal(signal.SIGCONT)
    assert server.call("PING")


@NO_KVREPL
@pytest.mark.parametrize(
    ("cause", "number"),
    [("SEGFAULT", signal.SIGSEGV), ("PANIC", signal.SIGABRT), ("", signal.SIGSEGV)],
)
def test_crash_leaves_a_report_in_the_log(
    launch: Launcher, cause: str, number: signal.Signals
) -> None:
    server = launch("kvrepl", logfile="my.log")
    if cause:
        with pytest.raises(redis.ConnectionError):
            server.call("DEBUG", cause)
    else:
        server.signal(number)

    assert server.wait_exit() == -number
    text = (server.folder / "my.log").read_text()
    assert f"crashed by signal: {number.value}" in text
    assert "STACK TRACE" in text and "most recent call first" in text
    assert "kvrepl/server/app.py" in text or "kvrepl/cli.py" in text


def test_hang_is_told_by_the_watchdog(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.call("CONFIG", "SET", "watchdog-period", "200")
    server.call("DEBUG", "SLEEP", "0.6")
    server.wait_log("WATCHDOG TIMER EXPIRED")
    assert server.call("PING")


@pytest.mark.parametrize("how", ["RESTART", "CRASH-AND-RECOVER"])
def test_debug_restart_keeps_the_pid(launch: Launcher, kind: Kind, how: str) -> None:
    server = launch(kind, save="3600 1")
    server.call("SET", "key", "value")
    run_id, pid = server.info("server")["run_id"], server.pid
    with pytest.raises(redis.ConnectionError):
        server.call("DEBUG", how)

    wait_until(lambda: server.info("server")["run_id"] != run_id, "the new server", server)

    assert server.info("server")["process_id"] == pid
    assert server.call("EXISTS", "key") == int(how == "RESTART")


# -------------------------------------------------------------------------- settings


@NO_KVREPL
def test_title_of_the_process_names_the_server(launch: Launcher) -> None:
    server = launch("kvrepl")
    process = psutil.Process(server.pid)
    assert process.name() == "kvrepl-server"
    assert process.cmdline()[0].startswith(f"kvrepl-server 127.0.0.1:{server.port}")


def test_renamed_command_answers_to_its_new_name_only(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, rename_command=["FLUSHALL sweep", 'KEYS ""'])
    assert server.call("SWEEP")
    for gone in (["FLUSHALL"], ["KEYS", "*"]):
        with pytest.raises(redis.ResponseError, match="unknown command"):
            server.call(*gone)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may lower an oom_score_adj")
def test_child_has_a_title_and_an_oom_score_of_its_own(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, oom_score_adj="absolute", oom_score_adj_values="10 20 30")
    server.call("DEBUG", "POPULATE", "100")
    server.call("CONFIG", "SET", "rdb-key-save-delay", "100000")
    server.call("BGSAVE")
    (child,) = psutil.Process(server.pid).children()

    wait_until(lambda: "rdb-bgsave" in child.cmdline()[0], "the child has its title", server)

    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "30"
    behind = child.nice() - psutil.Process(server.pid).nice()
    assert behind == (NICE if kind == "kvrepl" else 0)
    child.send_signal(signal.SIGUSR1)
    wait_until(
        lambda: server.info("persistence")["rdb_bgsave_in_progress"] == 0, "it is gone", server
    )
    assert server.info("persistence")["rdb_last_bgsave_status"] == "ok"
    assert not list(server.folder.glob("temp-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may lower an oom_score_adj")
def test_oom_score_follows_the_role(launch: Launcher, kind: Kind) -> None:
    server = launch(kind, oom_score_adj="absolute", oom_score_adj_values="10 20 30")
    score = Path(f"/proc/{server.pid}/oom_score_adj")
    assert score.read_text().strip() == "10"
    server.call("REPLICAOF", "127.0.0.1", "1")
    wait_until(lambda: score.read_text().strip() == "20", "the score of a replica", server)
    server.call("CONFIG", "SET", "oom-score-adj", "no")
    server.call("REPLICAOF", "NO", "ONE")


def test_info_has_the_fields_of_redis_in_their_order(launch: Launcher) -> None:
    fields = []
    for kind in KINDS:
        server = launch(kind)
        server.call("SET", "key", "value")
        text = server.cli("INFO", "everything").decode()
        lines = [line.partition(":")[0] for line in text.split("\r\n") if line]
        fields.append([line for line in lines if not line.startswith(("cmdstat_", "latency_p"))])
    own = ("kvrepl_", "python_version")
    ours = [field for field in fields[1] if not field.startswith(own)]
    assert ours == fields[0]


DEBUG = [
    ["QUICKLIST-PACKED-THRESHOLD", "100b"],
    ["QUICKLIST-PACKED-THRESHOLD", "x"],
    ["AOF-FLUSH-SLEEP", "0"],
    ["REPLYBUFFER", "RESIZING", "1"],
    ["REPLYBUFFER", "PEAK-RESET-TIME", "NEVER"],
    ["REPLYBUFFER", "NOTHING", "1"],
    ["HTSTATS", "99"],
    ["HTSTATS-KEY", "string"],
    ["LISTPACK", "list"],
    ["LISTPACK", "none"],
    ["LISTPACK", "hash"],
    ["QUICKLIST", "list"],
    ["CLIENT-EVICTION"],
    ["LEAK", "x"],
    ["CLUSTERLINK", "KILL", "to", "x"],
    ["PROTOCOL", "string"],
    ["PROTOCOL", "double"],
    ["PROTOCOL", "bignum"],
    ["PROTOCOL", "attrib"],
    ["PROTOCOL", "push"],
    ["PROTOCOL", "nothing"],
    ["ERROR", "MY error"],
    ["LOG", "x"],
    ["PAUSE-CRON", "0"],
    ["SET-ACTIVE-EXPIRE", "1"],
    ["SET-DISABLE-DENY-SCRIPTS", "0"],
    ["CHANGE-REPL-ID"],
    ["DIGEST"],
    ["DIGEST-VALUE", "string", "list", "none"],
    ["OBJECT", "none"],
    ["POPULATE", "-1"],
    ["POPULATE", "3", "k", "5"],
    ["RELOAD"],
    ["RELOAD", "NOTHING"],
    ["NOTHING"],
    ["SLEEP"],
]


def test_debug_answers_as_redis_does(launch: Launcher) -> None:
    servers = [launch(kind) for kind in KINDS]
    all_said: list[list[object]] = [[], []]
    for server, said in zip(servers, all_said, strict=True):
        server.call("SET", "string", "value")
        server.call("RPUSH", "list", "a", "b")
        server.call("HSET", "hash", "f", "v")
        for argv in DEBUG:
            try:
                said.append((argv, server.call("DEBUG", *argv)))
            except redis.ResponseError as error:
                said.append((argv, str(error)))
    assert all_said[1] == all_said[0]


def test_debug_offers_what_rigs_of_later_versions_ask_for(launch: Launcher) -> None:
    server = launch("kvrepl")
    assert server.call("DEBUG", "STRINGMATCH-LEN", 3, "a*a") == 1
    assert server.call("DEBUG", "STRINGMATCH-LEN", 3, "a*b") == 0


def test_uptime_and_time_are_those_of_the_clock(launch: Launcher, kind: Kind) -> None:
    info = launch(kind).info("server")
    assert abs(info["server_time_usec"] / 1e6 - time.time()) < 30
    assert info["uptime_in_seconds"] < 30 and info["tcp_port"]


def test_slow_load_answers_loading_and_can_be_shut_down(launch: Launcher, kind: Kind) -> None:
    server = launch(kind)
    server.call("DEBUG", "POPULATE", "20000", "key", "100")
    server.call("SAVE")
    server.terminate()
    # Half a millisecond a key, and clients are answered after each kilobyte.
    server.arguments = (
        "--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024",
    )  # fmt: skip

    server.start(ready=False)
    info = wait_until(lambda: server.info("persistence"), "INFO is answered", server)
    with pytest.raises(redis.BusyLoadingError):
        server.call("GET", "key:1")

    assert info["loading"] == 1 and 0 <= float(info["loading_loaded_perc"]) < 100
    assert server.terminate() == 0
    assert "Ready to accept connections" not in server.log_text().rpartition("oO0OoO0OoO0Oo")[2]
