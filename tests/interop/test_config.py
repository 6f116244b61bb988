"""The configuration against redis-server: the same defaults, replies, files and refusals.

kvrepl's side is the pure Config object, fed with what the real server is fed; no socket of ours is
involved. Everything is compared as bytes. Redis lists and appends settings in the order of a
randomly seeded hash table, so these lists are compared sorted; nothing else is normalised.
"""

from __future__ import annotations

import glob
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from kvrepl.config import BY_NAME, SETTINGS, Config, ConfigError, Flags, Setting
from kvrepl.config.kinds import Choice, Memory, Number, ShutdownFlags, YesNo
from kvrepl.config.rewrite import SIGNATURE
from kvrepl.errors import CommandError
from tests.interop.harness import Server

Launch = Callable[..., Server]


def read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="surrogateescape")


def config_in(folder: Path, arguments: list[str]) -> Config:
    """Our configuration after a start with these arguments in the folder."""
    config = Config.from_args(
        arguments,
        lambda path: read_text(str(folder / path)),
        expand_pattern=lambda pattern: sorted(glob.glob(pattern, root_dir=folder)),
        absolute=lambda path: str(folder / path),
    )
    config.dir = str(folder)
    return config


def config_of(server: Server) -> Config:
    """Our configuration after the start with the same file, in the same folder."""
    return config_in(server.folder, ["server.conf"])


def connect(server: Server) -> Any:
    return redis.Redis(port=server.port, socket_timeout=10)


def ask(client: Any, *words: bytes) -> bytes:
    """The reply of CONFIG SET as bytes, an error with its leading code."""
    try:
        return bytes(client.execute_command(b"CONFIG SET", *words, NEVER_DECODE=True))
    except redis.exceptions.ResponseError as error:
        # redis-py cuts the code off known errors; no reply of CONFIG SET starts with another.
        return b"ERR " + str(error).removeprefix("ERR ").encode("utf-8", "surrogateescape")


def ask_ours(config: Config, *words: bytes) -> bytes:
    try:
        config.set_many(list(zip(words[::2], words[1::2], strict=True)))
    except CommandError as error:
        return error.text
    return b"OK"


def shown(client: Any, *patterns: bytes) -> list[tuple[bytes, bytes]]:
    reply = client.execute_command(b"CONFIG GET", *patterns, NEVER_DECODE=True)
    if isinstance(reply, dict):
        return sorted(reply.items())
    return sorted(zip(reply[::2], reply[1::2], strict=True))


OWN = {setting.name.encode() for setting in SETTINGS if setting.has(Flags.OWN)}


def all_shown(config: Config) -> list[tuple[bytes, bytes]]:
    """What CONFIG GET * tells of the settings that Redis has, too."""
    return sorted(pair for pair in config.get([b"*"]) if pair[0] not in OWN)


def test_config_get_after_start_equals_redis(launch: Launch) -> None:
    server = launch("redis")
    client, config = connect(server), config_of(server)
    assert shown(client, b"*") == all_shown(config)
    hidden = [setting.name.encode() for setting in SETTINGS if setting.has(Flags.HIDDEN)]
    assert hidden and shown(client, *hidden) == sorted(config.get(hidden))


@pytest.mark.parametrize(
    "patterns",
    [
        [b"MAXMEMORY", b"maxmemory"],
        [b"MAXMEMORY", b"max*emory"],
        [b"max*emory", b"MAXMEMORY"],
        [b"*MEMORY"],
        [b"slave-p[a-r]iority", b"replica-priorit?"],
        [b"watchdog-perio*", b"watchdog-period"],
        [b"nothing"],
        [b"\\m\\axmemory"],
    ],
)
def test_config_get_patterns_equal_redis(launch: Launch, patterns: list[bytes]) -> None:
    server = launch("redis")
    assert shown(connect(server), *patterns) == sorted(config_of(server).get(patterns))


INTEGERS = [
    *b"-1 0 1 +1 01 1.0 7 99 100 101 501 1000 65535 65536 x".split(),
    b"",
    b" 1",
    *b"2147483647 2147483648 -2147483648 -2147483649 4294967296".split(),
    *b"9223372036854775807 9223372036854775808 -9223372036854775808".split(),
]
SIZES = [
    *INTEGERS,
    *(b"1B 1k 1KB 2m 2Mb 1g 1gb 1xb 1kbx 1.5gb mb 50% 100% 101% -5% % 0%".split()),
    b"18446744073709551615",
    b"18446744073709551566",
    b"18446744073709551515",
    b"99999999999999999999",
    b"1" * 128,
]
SPECIAL = {
    "save": b"|1 1|1 1 2 2|1|0 1|1 -1|+1 +2|1 1 |9999999999 9999999999|a b|1 |x".split(b"|"),
    "client-output-buffer-limit": [
        b"",
        b"normal 1 2",
        b"normal 1 2 3 ",
        b"normal 1 2 ",
        b"NORMAL 1kb 2k 3 Replica 1 1 1",
        b"slave 5 5 99999999999",
        b"pubsub 1 1 -1",
        b"pubsub 99999999999999999999 1 1",
        b"master 1 1 1",
        b"pubsub x 1 1",
        b"pubsub 1 1 x",
    ],
    "oom-score-adj-values": b"|1 2|1 2 3|-2000 0 2000|0 0 2001|x 1 1|1  2 3|3 2 1".split(b"|"),
    "notify-keyspace-events": b"|A|AKE|KEA|g$lshzxetd|Kn|An|AKEmnd|gKEmxn$|Q|K E|ke".split(b"|"),
    "latency-tracking-info-percentiles": (
        b"|50|50 99.123456789|0x10 1e1 .5 5.|-0.0 0.0000001|101|-1|nan|inf|50 |x".split(b"|")
    ),
    "proc-title-template": b"|a b|{title}|{title|{}|{nope}|{{title}}|x}|   |{port} {".split(b"|"),
    "bind": [b" ".join([b"127.0.0.1"] * 17)],
    "dbfilename": b"|a.rdb|a/b|a\\b|/|..".split(b"|"),
    "cluster-announce-hostname": [b"", b"a-b.C9", b"a_b", b"_", b"a" * 255, b"a" * 256],
    # Redis raises it to two rounds of its cron, which is for the watchdog itself to do.
    "watchdog-period": [b"5000", b"0", b"-1", b"2147483648", b"x"],
    "appendonly": [b"maybe"],
    "port": [b"-1", b"65536", b"x"],
    "maxclients": [b"100", b"0", b"-1", b"4294967296", b"x"],
    "oom-score-adj": [b"no", b"relative", b"YES", b"maybe"],
}
# What these set is the work of a subscriber (a listening socket, TLS, the folder).
APPLIED_ELSEWHERE = {"dir", "tls-port", "tls-cluster", "tls-replication"}


def candidates(setting: Setting) -> list[bytes]:
    """Values to try, good and bad."""
    kind = setting.kind
    if setting.name in SPECIAL:
        return SPECIAL[setting.name]
    if isinstance(kind, YesNo):
        return [b"yes", b"no", b"YES", b"", b"1", b"yes no"]
    if isinstance(kind, Memory):
        return SIZES
    if isinstance(kind, Number):
        return INTEGERS
    if isinstance(kind, Choice):
        return [*map(str.encode, kind.names), kind.names[-1].upper().encode(), b"", b"maybe"]
    if isinstance(kind, ShutdownFlags):
        return b"|now|NOW save|save nosave|default|default now|save  now|x|force now".split(b"|")
    return [b"", b"a", b'a "b" \\ \xff\r\n', b"a"]


def test_config_set_of_every_setting_equals_redis(launch: Launch) -> None:
    server = launch("redis", enable_protected_configs="yes")
    client, config = connect(server), config_of(server)
    wrong: list[tuple[object, ...]] = []
    for name, setting in BY_NAME.items():
        if setting.name in APPLIED_ELSEWHERE or setting.has(Flags.OWN):
            continue
        values = [b"x"] if setting.has(Flags.IMMUTABLE) else candidates(setting)
        before = dict(config.get([name]))[name]
        for value in [*values, before]:
            theirs, ours = ask(client, name, value), ask_ours(config, name, value)
            if theirs != ours:
                wrong.append((name, value, theirs, ours))
            told, mine = shown(client, name), config.get([name])
            if told != mine:
                wrong.append((name, value, told, mine))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    "words",
    [
        [b"maxmemory", b"1", b"foo", b"2"],
        [b"FOO", b"1"],
        [b"maxmemory", b"1", b"MAXMEMORY", b"2"],
        [b"MAXMEMORY", b"x"],
        [b"DIR", b"/"],
        [b"dbfilename", b"x"],
        [b"port", b"x", b"Databases", b"4"],
        [b"databases", b"4", b"foo", b"1"],
        [b"replica-priority", b"5", b"slave-priority", b"6"],
        [b"timeout", b"5", b"maxmemory", b"x"],
        [b"timeout", b"5", b"maxmemory", b"1kb"],
    ],
)
def test_config_set_of_several_equals_redis(launch: Launch, words: list[bytes]) -> None:
    server = launch("redis")
    client, config = connect(server), config_of(server)
    assert ask(client, *words) == ask_ours(config, *words)
    assert shown(client, *words[::2]) == sorted(config.get(words[::2]))


FILES = {
    "plain": "",
    "messy": """



# c1
  maxmemory 10000000\t
SLAVE-priority 5
Replica-Priority 6
slaveof no one
client-output-buffer-limit slave 1mb 2mb 3
save 1 1
save 2 2
save 3 3
include inc*.conf
rename-command get GOT
user foo on +get
user bar on
lua-replicate-commands yes
timeout 0
timeout 3
hash-max-ziplist-entries 512
hash-max-ziplist-value 7
requirepass ""
logfile ""
loglevel notice
notify-keyspace-events ""
dir ./
dbfilename "dump.rdb"
proc-title-template "{title} x"
maxmemory-clients 50%
oom-score-adj-values 0 200 800
shutdown-on-sigterm save now
repl-backlog-size 100
tcp-keepalive 300

""",
    "signed": """# Generated by CONFIG REWRITE
save ""
# a
user default on nopass ~* &* +@all
masterauth 'a "b'
""",
    "aclfile": """aclfile users.acl
bind * -::*
latency-tracking-info-percentiles ""
""",
    "replica": """replicaof 127.0.0.1 1
replica-announce-ip ""
tls-ciphers "A:B"
""",
}
PACKAGED = Path("/etc/redis/redis.conf")
CHANGES = [
    [],
    [b"save", b"", b"timeout", b"4", b"masterauth", b'a"b\x01\xff c', b"maxmemory", b"3gb"],
    [
        *(b"save", b"9 9 8 8 7 7 6 6", b"notify-keyspace-events", b"KEA", b"timeout", b"0"),
        *(b"client-output-buffer-limit", b"pubsub 0 0 0 replica 1kb 1 1"),
        *(b"maxmemory-clients", b"7%", b"maxmemory-policy", b"allkeys-lru", b"loglevel", b"debug"),
        *(b"latency-tracking-info-percentiles", b"1 2.5", b"oom-score-adj-values", b"0 1 2"),
        *(b"hash-max-listpack-value", b"64", b"slave-priority", b"100", b"tls-ciphers", b""),
        *(b"repl-backlog-size", b"3kb", b"shutdown-on-sigint", b"force nosave"),
    ],
]


@pytest.mark.parametrize("changes", CHANGES, ids=["none", "few", "many"])
@pytest.mark.parametrize("name", list(FILES))
def test_config_rewrite_equals_redis(launch: Launch, name: str, changes: list[bytes]) -> None:
    compare_rewrites(launch_with(launch, FILES[name]), changes)


def compare_rewrites(server: Server, changes: list[bytes]) -> None:
    """Change the same in both, have both rewrite the file twice, and compare."""
    client, config = connect(server), config_of(server)
    path = server.folder / "server.conf"
    if changes:
        assert ask(client, *changes) == ask_ours(config, *changes) == b"OK"
    for _ in range(2):
        old = read_text(str(path))
        users = client.execute_command("ACL", "LIST", NEVER_DECODE=True)
        ours = config.rewrite(old, user_lines=users)
        assert client.execute_command("CONFIG REWRITE") in (True, b"OK")
        theirs = read_text(str(path))
        head, _, tail = theirs.partition(SIGNATURE)
        my_head, _, my_tail = ours.partition(SIGNATURE)
        if SIGNATURE not in old:
            # Only what was appended just now is in the order of Redis's hash table.
            assert sorted(my_tail.split("\n")) == sorted(tail.split("\n"))
            assert my_head == head
        else:
            appended = set(theirs.split("\n")) - set(old.split("\n"))
            assert [x for x in ours.split("\n") if x not in appended] == [
                x for x in theirs.split("\n") if x not in appended
            ]
            assert sorted(ours.split("\n")) == sorted(theirs.split("\n"))


@pytest.mark.skipif(not PACKAGED.exists(), reason=f"no {PACKAGED} on this machine")
@pytest.mark.parametrize("changes", CHANGES, ids=["none", "few", "many"])
def test_config_rewrite_of_the_packaged_file_equals_redis(
    launch: Launch, changes: list[bytes]
) -> None:
    here = {"bind", "port", "dir", "logfile", "pidfile", "daemonize"}  # the test has its own
    lines = PACKAGED.read_text().split("\n")
    text = "\n".join(line for line in lines if line.split(" ")[0] not in here)
    compare_rewrites(launch_with(launch, text), changes)


def launch_with(launch: Launch, text: str) -> Server:
    """A redis-server on this text, beside an included file and an ACL file."""
    server: Server = launch.prepare("redis")  # type: ignore[attr-defined]
    (server.folder / "inc1.conf").write_text("tcp-backlog 300\n")
    (server.folder / "users.acl").write_text("user default on nopass ~* &* +@all\n")
    port, bind = f"port {server.port}\n", "" if "\nbind " in text else "bind 127.0.0.1\n"
    (server.folder / "server.conf").write_text(port + bind + text)
    server.start()
    return server


def test_config_rewrite_forced_equals_redis(launch: Launch) -> None:
    server = launch_with(launch, "enable-debug-command yes\n")
    client, config = connect(server), config_of(server)
    old = read_text(str(server.folder / "server.conf"))
    users = client.execute_command("ACL", "LIST", NEVER_DECODE=True)
    client.execute_command("DEBUG", "CONFIG-REWRITE-FORCE-ALL")
    theirs = read_text(str(server.folder / "server.conf"))
    ours = config.rewrite(old, user_lines=users, force_all=True).split("\n")
    both = [line for line in ours if line.partition(" ")[0].encode() not in OWN]
    assert sorted(both) == sorted(theirs.split("\n"))
    assert len(both) == len(ours) - len(OWN)


REFUSED: dict[str, tuple[list[str], str]] = {
    "option": (["--port", "0", "--zzz"], ""),
    "option value": (["--zzz", "--port", "0"], ""),
    "option is a value": (["--requirepass", "--foo", "--zzz"], ""),
    "option in one word": (["--port 0", "--zzz", "a", "b c", 'd"e\\'], ""),
    "too many values": (["--port", "0", "xx", "--zzz"], ""),
    "save without a value": (["--save", "--port", "0", "--zzz"], ""),
    "save last": (["--zzz", "1", "--save"], ""),
    "words before options": (["a.conf", "zzz", "1", "--port", "2"], "port 0\n"),
    "file then option": (["a.conf", "--zzz"], "port 0"),
    "file ending in a newline then option": (["a.conf", "--zzz"], "port 0\n"),
    "stdin": (["-", "--zzz"], ""),
    "no file": (["nope.conf"], ""),
    "no included file": (["a.conf"], "include nope.conf\n"),
    "quotes": (["a.conf"], 'port 0\nmaxmemory "1'),
    "after quotes": (["a.conf"], 'port 0\n  maxmemory "1"x \n'),
    "quoted name": (["a.conf"], '"port" 0\n"po""rt" 1\n'),
    "empty name": (["a.conf"], '""\n'),
    "unknown": (["a.conf"], "port 0\nfoo bar\n"),
    "nothing after the name": (["a.conf"], "port 0\nport\n"),
    "rename one word": (["a.conf"], "rename-command get\n"),
    "user no word": (["a.conf"], "user\n"),
    "loadmodule no word": (["a.conf"], "loadmodule\n"),
    "sentinel": (["a.conf"], "sentinel monitor\n"),
    "retired": (["a.conf"], "list-max-ziplist-entries 3\nlist-max-ziplist-value 4 5\n"),
    "cluster replica": (["a.conf"], "cluster-enabled yes\nport 0\nreplicaof a 1"),
    "replicaof one word": (["a.conf"], "replicaof a\n"),
    "replicaof port": (["a.conf"], "replicaof a 70000\n"),
    "replicaof no port": (["a.conf"], "slaveof a 7x\n"),
    "dir two words": (["a.conf"], "dir /tmp /x\n"),
    "octal": (["a.conf"], "unixsocketperm 0799\n"),
    "octal range": (["a.conf"], "unixsocketperm 1000\n"),
    "range": (["a.conf"], "hz -1\n"),
    "unsigned range": (["a.conf"], "socket-mark-id 4294967296\n"),
    "choice": (["a.conf"], "supervised never\n"),
    "two choices": (["a.conf"], "appendfsync always no\n"),
    "shutdown flags": (["a.conf"], "shutdown-on-sigint now save x\n"),
    "no shutdown flags": (["a.conf"], "shutdown-on-sigint\n"),
    "bool": (["a.conf"], "daemonize maybe\n"),
    "file name": (["a.conf"], "appendfilename a/b\n"),
    "folder name": (["a.conf"], 'appenddirname ""\n'),
    "save": (["a.conf"], "save 1 1 2\n"),
    "save of one word": (["a.conf"], 'save "4 4 5"\n'),
    "limits": (["a.conf"], "client-output-buffer-limit normal 1 2\n"),
    "included line": (["a.conf"], "port 0\ninclude b.conf\n"),
    "include twice as wide": (["a.conf"], "include b.conf c.conf\n"),
    "bytes": (["a.conf"], "zzz \udcff\n"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_start_reports_as_redis(case: str, tmp_path: Path) -> None:
    arguments, text = REFUSED[case]
    (tmp_path / "a.conf").write_text(text, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "b.conf").write_text("\n# b\nmaxmemory 10xx\n")
    done = subprocess.run(
        ["redis-server", *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
    )
    assert done.returncode == 1
    with pytest.raises(ConfigError) as caught:
        config_in(tmp_path, arguments)
    ours = caught.value.report().encode("utf-8", "surrogateescape")
    if case.startswith("no ") and "file" in case:
        assert done.stdout.endswith(b" # " + ours)  # a line of the log, after pid and time
    else:
        assert done.stderr == ours


ACCEPTED: dict[str, tuple[list[str], str]] = {
    "save lines add up": (["a.conf"], "save 1 1\nsave 2 2 3 3\n"),
    "save in one word": (["a.conf"], 'save "1 1  2 2"\nsave " 3 3 "\n'),
    "words in one word": (
        ["a.conf", "--oom-score-adj-values", "1 2 3"],
        'client-output-buffer-limit "normal 1 2 \\"3\\""\nshutdown-on-sigint "now force"\n',
    ),
    "save cleared": (["a.conf"], 'save 1 1\nsave ""\nsave 5 5\n'),
    "bare save": (["a.conf"], "save\n"),
    "bare save after": (["a.conf"], "save 3 3\nsave\n"),
    "save option": (["a.conf", "--save", ""], "save 5 5\n"),
    "save option adds": (["a.conf", "--save", "7", "7"], "save 5 5\n"),
    "save option alone": (["--save"], ""),
    "save option first": (["--save", "--hz", "20"], ""),
    "hz": (["a.conf"], "hz 0\n"),
    "backlog": (["a.conf"], "repl-backlog-size 100\n"),
    "limits": (["a.conf"], "client-output-buffer-limit\nclient-output-buffer-limit pubsub 1 2 3\n"),
    "quotes": (["a.conf"], "requirepass 'a\\'b'\nmasterauth \"\\x41\\n\\q\\\"\"\n"),
    "one word": (["--hz 30", "--timeout", "5", "--masterauth", "--x"], ""),
    "include": (["a.conf"], "include none*.conf\ninclude [b].conf\n"),
}


@pytest.mark.parametrize("case", list(ACCEPTED))
def test_accepted_start_shows_as_redis(case: str, tmp_path: Path) -> None:
    arguments, text = ACCEPTED[case]
    socket = str(tmp_path / "redis.sock")
    arguments = [*arguments, "--port", "0", "--unixsocket", socket]
    (tmp_path / "a.conf").write_text(text)
    (tmp_path / "b.conf").write_text("maxmemory 10mb")
    config = config_in(tmp_path, arguments)
    process = subprocess.Popen(
        ["redis-server", *arguments],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if b"now ready to accept connections at" in line:
                break
        password = config.requirepass.decode() or None
        client = redis.Redis(unix_socket_path=socket, password=password)
        assert shown(client, b"*") == all_shown(config)
        client.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
