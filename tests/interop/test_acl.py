"""Access control beside redis-server: the same rules, refusals, log, logins and files.

Random rules and random requests go to both kinds of server, and every answer must be the same. What
Redis leaves to the seed of a hash table, the order of single commands in rendered rules, is sorted
before it is compared.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Launcher
from tests.interop.differential.peers import Tree, encode, read_tree
from tests.interop.harness import (
    Kind,
    Pair,
    Server,
    ServerExited,
    follow,
    wait_same_data,
    wait_until,
)

TABLE = json.loads((Path(__file__).parents[1] / "data" / "commands-7.0.15.json").read_text())
ENTRIES = [each for entry in TABLE for each in (entry, *entry.get("subcommands", ()))]
CATEGORIES = sorted({name.lstrip("@") for each in ENTRIES for name in each["acl_categories"]})
KEYS = ["a", "b1", "b2", "foo:1", "x"]
CHANNELS = ["news", "chat:1", "x"]
PATTERNS = ["a", "b*", "foo:*", "x", "*", "[ab]*", "?"]
ROUNDS = 120
REQUESTS = 25


class Asker:
    """A raw connection of its own: errors are answers too, and nothing reconnects.

    Args:
        server: the server it is to.
    """

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self._stream = self._socket.makefile("rb")

    def __call__(self, *arguments: str) -> Any:
        """Run a request."""
        self._socket.sendall(encode([argument.encode() for argument in arguments]))
        return self.read()

    def read(self) -> Any:
        """Read one more answer: a status or an error as str, the latter with its dash."""
        return plain(read_tree(self._stream))

    def close(self) -> None:
        """Close it from this side."""
        self._stream.close()
        self._socket.close()

    def closed(self) -> bool:
        """Whether the server has closed it."""
        try:
            self("PING")
        except (EOFError, OSError):
            return True
        return False


def plain(tree: Tree) -> Any:
    """A reply without the type bytes."""
    kind, value = tree
    if kind == b"-":
        return "-" + value.decode()
    if kind == b"+":
        return value.decode()
    if kind == b":":
        return int(value)
    if not isinstance(value, list):
        return value
    parts = [plain(each) for each in value]
    # Maps and sets of RESP3 are told apart from arrays, but their order counts too.
    return parts if kind == b"*" else [kind.decode(), *parts]


def both(launch: Launcher, **directives: Any) -> tuple[Server, Server]:
    return launch("redis", **directives), launch("kvrepl", **directives)


Dial = Callable[..., Asker]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Connect to a server by calling it, as that user if one is named; closed at the end."""
    askers: list[Asker] = []

    def connect(server: Server, user: str = "") -> Asker:
        askers.append(Asker(server))
        if user:
            assert askers[-1]("AUTH", user, "p") == "OK"
        return askers[-1]

    yield connect
    for each in askers:
        each.close()


def normal(value: Any) -> Any:
    """Rendered rules with the runs of single commands sorted, in whatever a reply holds."""
    if isinstance(value, list):
        return [normal(each) for each in value]
    if not isinstance(value, bytes) or b"@all" not in value:
        return value
    out: list[bytes] = []
    run: list[bytes] = []
    for word in re.split(rb"( |\)|\()", value):
        if re.match(rb"[-+][^@]", word):
            run.append(word)
        elif word != b" ":
            out += [*sorted(run), word]
            run = []
    return [*out, *sorted(run)]


# ----------------------------------------------------------------- random rules


class Maker:
    """Random rules and requests.

    Args:
        seed: of the randomness.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def command_rule(self) -> str:
        rng = self.rng
        sign = rng.choice("++-")
        match rng.randrange(10):
            case 0:
                return rng.choice(["+@all", "-@all", "allcommands", "nocommands"])
            case 1 | 2 | 3:
                return f"{sign}@{rng.choice(CATEGORIES)}"
            case 4:
                return f"+{rng.choice(['get', 'select', 'GETEX', 'nope'])}|{rng.choice(KEYS)}"
            case _:
                name = str(rng.choice(ENTRIES)["name"])
                return sign + (name if rng.random() < 0.9 else name.upper())

    def selector_rule(self) -> str:
        rng = self.rng
        match rng.randrange(12):
            case 0:
                return rng.choice(["allkeys", "resetkeys", "allchannels", "resetchannels"])
            case 1 | 2 | 3:
                sign = rng.choice(["~", "~", "%R~", "%W~", "%RW~", "%~", "%rw~", "%X~"])
                return sign + rng.choice(PATTERNS)
            case 4 | 5:
                return f"&{rng.choice(['news', 'chat:*', 'x', '*'])}"
            case _:
                return self.command_rule()

    def rule(self) -> str:
        rng = self.rng
        match rng.randrange(14):
            case 0:
                words = ["on", "off", "nopass", "reset", "resetpass", "clearselectors"]
                return rng.choice([*words, "sanitize-payload", "skip-sanitize-payload", "bogus"])
            case 1:
                digest = hashlib.sha256(b"p").hexdigest()
                return rng.choice([">p", ">q", "<q", f"#{digest}", f"!{digest}", "#12", ""])
            case 2 | 3:
                inner = [self.selector_rule() for _ in range(rng.randrange(5))]
                return f"({' '.join(inner)}{rng.choice([')', ')', ')', ''])}"
            case _:
                return self.selector_rule()

    def request(self) -> list[str]:
        """A command with arguments that mostly fit their number, and keys among them."""
        rng = self.rng
        entry = rng.choice(ENTRIES)
        name = entry["name"].split("|")
        arity = entry["arity"]
        count = arity if arity > 0 else -arity + rng.randrange(4)
        words = ["1", "2", "STORE", "GET", "BY", "STREAMS", "KEYS", "LIMIT", "SET", "u8"]
        rest = [rng.choice([*KEYS, *KEYS, *CHANNELS, *words]) for _ in range(count - len(name))]
        return [*name, *rest]


@pytest.mark.parametrize("seed", range(3))
def test_random_rules_and_requests_are_answered_as_by_redis(
    launch: Launcher, dial: Dial, seed: int
) -> None:
    maker = Maker(seed)
    asks = [dial(server) for server in both(launch)]
    if seed == 2:
        for ask in asks:
            ask("HELLO", "3")

    def same(*arguments: str) -> Any:
        theirs, ours = (normal(ask(*arguments)) for ask in asks)
        assert ours == theirs, arguments
        return ours

    denials = 0
    for _ in range(ROUNDS):
        if maker.rng.random() < 0.3:
            same("ACL", "DELUSER", "u")
        # One rule a time goes further than many at once, of which one is wrong.
        for _ in range(6):
            same("ACL", "SETUSER", "u", maker.rule())
        same("ACL", "SETUSER", "u", *(maker.rule() for _ in range(3)))
        same("ACL", "GETUSER", "u")
        same("ACL", "LIST")
        for _ in range(REQUESTS):
            denials += same("ACL", "DRYRUN", "u", *maker.request()) != "OK"
    assert denials > ROUNDS  # the rules leave something to be denied


WIRE = [
    "SET {k} v", "GET {k}", "SET {k} v GET", "MGET {k} {k}", "DEL {k}", "COPY {k} {k}",
    "EXISTS {k} {k}", "RENAME {k} {k}", "SORT {k} BY w_*", "SORT {k} GET #", "SORT {k} STORE {k}",
    "SORT_RO {k}", "XREAD STREAMS {k} 0", "ZUNIONSTORE {k} 1 {k}", "BITFIELD {k} GET u8 0",
    "PUBLISH {c} m", "SPUBLISH {c} m", "PUBSUB NUMSUB {c}", "CONFIG GET maxmemory",
    "OBJECT ENCODING {k}", "ECHO x",
    "DBSIZE", "SELECT 0", "SELECT 1", "ACL WHOAMI", "ACL SETUSER", "CONFIG", "NOPE", "GET",
    "EVAL return_1 1 {k}",
]  # fmt: skip
SCRIPTS = [
    "return redis.call('get', '{k}')", "return redis.pcall('set', '{k}', 'v')",
    "return redis.call('publish', '{c}', 'm')", "return redis.pcall('config', 'get', 'x')",
    "return redis.acl_check_cmd('set', '{k}', 'v')", "return redis.acl_check_cmd('nope')",
    "return redis.acl_check_cmd('config', 'get', 'x')", "return redis.pcall('dbsize')",
]  # fmt: skip


def test_random_requests_are_refused_on_the_wire_as_by_redis(launch: Launcher, dial: Dial) -> None:
    maker = Maker(7)
    rng = maker.rng
    servers = both(launch)
    admins = [dial(server) for server in servers]
    fresh = ["reset", "on", ">p", "+auth", "+eval", "+multi", "+exec"]
    for admin in admins:
        assert admin("ACL", "SETUSER", "u", *fresh) == "OK"
    users = [dial(server, "u") for server in servers]

    def same(asks: list[Asker], *arguments: str) -> Any:
        theirs, ours = (normal(ask(*arguments)) for ask in asks)
        assert ours == theirs, arguments
        return ours

    def fill(template: str) -> str:
        while "{" in template:
            key, channel = rng.choice(KEYS), rng.choice(CHANNELS)
            template = template.replace("{k}", key, 1).replace("{c}", channel, 1)
        return template

    def logged(ask: Asker) -> list[Any]:
        entries = [dict(zip(e[::2], e[1::2], strict=True)) for e in ask("ACL", "LOG", "100")]
        for entry in entries:
            assert float(entry.pop(b"age-seconds")) < 60
            info = entry.pop(b"client-info")
            found = re.search(rb"flags=(\S+) .* multi=(\S+) .* cmd=(\S+) user=(\S+)", info)
            assert found is not None
            entry["who"] = found.groups()
        return entries

    for _ in range(60):
        same(admins, "ACL", "LOG", "RESET")
        for rule in (*fresh, *(maker.rule() for _ in range(6)), "on", ">p", *fresh[3:]):
            same(admins, "ACL", "SETUSER", "u", rule)
        for _ in range(8):
            same(users, *fill(rng.choice(WIRE)).split())
        same(users, "EVAL", fill(rng.choice(SCRIPTS)), "0")
        if same(users, "MULTI") == "OK":
            for _ in range(3):
                same(users, *fill(rng.choice(WIRE[:5])).split())
            for _ in range(2):
                same(admins, "ACL", "SETUSER", "u", maker.command_rule())
            same(admins, "ACL", "SETUSER", "u", "+auth", "+exec", "+eval", "+multi")
            same(users, "EXEC")
        theirs, ours = (logged(admin) for admin in admins)
        assert ours == theirs


# ----------------------------------------------------------------------- logins


def test_logins_are_as_with_redis(kind: Kind, launch: Launcher, dial: Dial) -> None:
    server = launch(kind)
    admin = dial(server)
    early = dial(server)
    assert early("PING") == "PONG"
    assert admin("ACL", "SETUSER", "u", "on", ">p", "+@all", "~k*") == "OK"
    wrong = "-WRONGPASS invalid username-password pair or user is disabled."
    ask = dial(server)
    for words in (("u", "q"), ("nobody", "p"), ("u", hashlib.sha256(b"p").hexdigest())):
        assert ask("AUTH", *words) == wrong
    assert "without any password configured" in ask("AUTH", "p")
    assert ask("AUTH", "u", "p") == "OK"
    assert ask("ACL", "WHOAMI") == b"u"
    assert b"user=u " in ask("CLIENT", "INFO")
    assert "no permissions" in ask("GET", "x")
    # What the password or `off` says counts for logins only.
    assert admin("ACL", "SETUSER", "u", "off", "resetpass") == "OK"
    assert ask("GET", "k") is None
    assert ask("RESET") == "RESET"
    assert ask("ACL", "WHOAMI") == b"default"
    assert ask("GET", "x") is None
    assert ask("AUTH", "u", "p") == wrong
    # A default user with a password is for new connections.
    assert admin("ACL", "SETUSER", "default", ">d") == "OK"
    assert early("PING") == "PONG"
    late = dial(server)
    assert "Authentication required" in late("PING")
    assert admin("ACL", "SETUSER", "default", "nopass") == "OK"
    assert late("PING") == "PONG"
    assert admin("CONFIG", "SET", "requirepass", "r") == "OK"
    assert "Authentication required" in late("PING")
    assert late("AUTH", "r") == "OK"
    hashed = hashlib.sha256(b"r").hexdigest().encode()
    assert admin("ACL", "LIST")[0] == b"user default on #%b ~* &* +@all" % hashed


def test_clients_of_a_user_who_is_gone_are_disconnected(
    kind: Kind, launch: Launcher, dial: Dial
) -> None:
    server = launch(kind)
    admin = dial(server)
    for name in ("u", "v"):
        assert admin("ACL", "SETUSER", name, "on", ">p", "+@all", "~*", "&*") == "OK"
    one, own, other = dial(server, "u"), dial(server, "u"), dial(server, "v")
    assert admin("CLIENT", "KILL", "USER", "nobody") == "-ERR No such user 'nobody'"
    assert admin("CLIENT", "KILL", "USER", "u") == 2
    assert one.closed()
    assert own.closed()
    one, own = dial(server, "u"), dial(server, "u")
    assert own("ACL", "DELUSER", "u", "nobody") == 1  # it is answered first
    wait_until(lambda: one.closed(), "the deleted user's client is gone", server)
    wait_until(lambda: own.closed(), "the one that deleted itself is gone", server)
    assert other("PING") == "PONG"
    assert "cannot be removed" in admin("ACL", "DELUSER", "v", "default")
    assert other("PING") == "PONG"


@pytest.mark.parametrize("verb", ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
def test_subscribers_who_may_no_longer_are_disconnected(
    kind: Kind, launch: Launcher, dial: Dial, verb: str
) -> None:
    server = launch(kind)
    admin = dial(server)
    assert admin("ACL", "SETUSER", "u", "on", ">p", "+@all", "&a*", "&b") == "OK"
    name = "a*" if verb == "PSUBSCRIBE" else "abc"
    one, other, idle = dial(server, "u"), dial(server, "u"), dial(server, "u")
    assert one(verb, name)[2] == 1
    assert other(verb, "b")[2] == 1
    assert admin("ACL", "SETUSER", "u", "resetchannels", "&a*", "&b", "&c") == "OK"
    assert one("PING") == [b"pong", b""]
    assert admin("ACL", "SETUSER", "u", "resetchannels", "&b") == "OK"
    wait_until(lambda: one.closed(), "the subscriber is gone", server)
    assert other("PING") == [b"pong", b""]
    assert idle("PING") == "PONG"


# ------------------------------------------------------------------------- files


def test_acl_file_is_loaded_saved_and_refused_as_by_redis(launch: Launcher, dial: Dial) -> None:
    saved: list[Any] = []
    for kind in ("redis", "kvrepl"):
        server = launch.prepare(kind, aclfile="users.acl")
        file = server.folder / "users.acl"
        file.write_text("user default on nopass ~* &* +@all\n\n user u on >p (+get  ~k) +@read \n")
        server.start()
        admin = dial(server)
        told = [normal(admin("ACL", "LIST"))]
        user = dial(server, "u")
        file.write_text(
            "user u on foo ~* ~x <p\nuser\nnope\nuser u\nuser w +nope\n# c\nuser z (+get"
        )
        told.append(admin("ACL", "LOAD"))
        assert "no permissions" in user("PING")  # nothing has changed, nobody was disconnected
        file.write_text("user v on >v +@all\n")
        told.append(admin("ACL", "LOAD"))
        wait_until(lambda: user.closed(), "the old user's client is gone", server)  # noqa: B023
        told.append(normal(admin("ACL", "LIST")))
        assert admin("ACL", "SETUSER", "w", "+get", "%R~x") == "OK"
        told += [admin("ACL", "SAVE"), normal(file.read_bytes())]
        file.unlink()
        told.append(admin("ACL", "LOAD"))
        told += [admin("CONFIG", "REWRITE")]
        assert "user" not in re.findall(r"^\w+", (server.folder / "server.conf").read_text(), re.M)
        saved.append(told)
    assert saved[1] == saved[0]


def test_users_of_the_configuration_are_rewritten(launch: Launcher, dial: Dial) -> None:
    texts = []
    for kind in ("redis", "kvrepl"):
        users = ["u on >p ~k* +get (+set ~x)", "v"]
        server = launch(kind, user=users)
        admin = dial(server)
        assert admin("ACL", "SETUSER", "w", "on", "nopass", "allkeys") == "OK"
        assert admin("ACL", "DELUSER", "v") == 1
        assert admin("CONFIG", "REWRITE") == "OK"
        text = (server.folder / "server.conf").read_text()
        texts.append([line for line in text.splitlines() if line.startswith("user ")])
        listed = admin("ACL", "LIST")
        server.kill()
        server.start()
        admin = dial(server)
        # A line for `default` begins with a reset, which leaves sanitize-payload behind.
        assert admin("ACL", "LIST")[1:] == listed[1:]
    assert texts[1] == texts[0]


@pytest.mark.parametrize(
    ("directives", "file"),
    [
        ({"user": ["u on bogus"]}, ""),
        ({"user": ["u on +nope"]}, ""),
        ({"user": ["u on", "u off"]}, ""),
        ({"user": ["u on (+get"]}, ""),
        ({"user": ['"a b" on']}, ""),
        ({"user": ["u on"], "aclfile": "users.acl"}, "user v on\n"),
        ({"aclfile": "users.acl"}, "user v bogus\n"),
        ({"aclfile": "missing.acl"}, ""),
    ],
)
def test_server_with_users_that_are_wrong_does_not_start(
    kind: Kind, launch: Launcher, directives: dict[str, Any], file: str
) -> None:
    server = launch.prepare(kind, **directives)
    (server.folder / "users.acl").write_text(file)
    with pytest.raises(ServerExited) as exited:
        server.start()
    server.meant_to_run = False
    assert exited.value.status == 1


# ------------------------------------------------------------------- replication


def test_replica_logs_in_as_a_user_who_may_only_replicate(
    pair: Pair, launch: Launcher, dial: Dial
) -> None:
    master = launch(
        pair.master,
        user=["replicator on >s3cret +psync +replconf +ping", "default on nopass +@all ~* &*"],
    )
    replica = launch(
        pair.replica, masteruser="replicator", masterauth="s3cret", user=["u on >p +get ~a"]
    )
    master.call("SET", "a", "1")
    follow(replica, master.port)
    master.call("SET", "b", "2")
    wait_same_data(master, replica)
    assert "user=replicator" in master.call("CLIENT", "LIST", "TYPE", "replica").decode()
    # Users are each server's own: what the master sends is not judged, and users are not sent.
    assert master.call("ACL", "USERS") == [b"default", b"replicator"]
    assert replica.call("ACL", "USERS") == [b"default", b"u"]
    ask = dial(replica, "u")
    assert ask("GET", "a") == b"1"
    assert "keys used as arguments" in ask("GET", "b")


def test_secrets_stay_out_of_slowlog_and_monitor(kind: Kind, launch: Launcher, dial: Dial) -> None:
    server = launch(kind, slowlog_log_slower_than=0)
    watcher = dial(server)
    assert watcher("MONITOR") == "OK"
    ask = dial(server)
    for request in (
        "ACL SETUSER u on >hush +@all ~*", "AUTH u hush", "AUTH u nohush", "AUTH hush",
        "HELLO 2 AUTH u hush", "MIGRATE h 1 k 0 9 AUTH hush",
        "CONFIG SET masterauth hush requirepass hush", "CONFIG SET masterauth", "ECHO over",
    ):  # fmt: skip
        ask(*request.split())
    lines = [watcher.read()]
    while "over" not in lines[-1]:
        lines.append(watcher.read())
    assert "hush" not in "".join(lines)
    assert "hush" not in str(ask("SLOWLOG", "GET", "100"))
    assert "redacted" in str(ask("SLOWLOG", "GET", "100"))
