"""A running server under random and mutated requests: nothing dies, nothing leaks, all is answered.

Two kinds of connections take turns, each with a batch of requests to any command:

    whole     well-formed requests with odd arguments; behind them a PING whose answer must come
    mutated   the same bytes with some of them changed, cut or doubled; then the sending side is
              closed, whereupon the server must answer what it understood and close

Every byte that comes back must be a whole reply; an error must have its code. At the end the server
is alive, its log has no traceback, and its memory is what it was after the first tenth.

`FUZZ_SEED=n` repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

import psutil
import pytest

import kvrepl.commands  # noqa: F401  (registers every command)
from kvrepl.engine.spec import REGISTRY, Command
from kvrepl.errors import CommandError
from kvrepl.resp import ReplyParser, encode_command
from kvrepl.resp.values import Reply
from tests.interop.harness import Server

SEED = int(os.environ.get("FUZZ_SEED", "1"))
BATCH = 50
MARK = b"the-end-of-the-batch"
PATIENCE = 200
"""Rounds of 50 ms that a batch may take while blocked clients are let go."""

LEFT_OUT = frozenset(
    # end the server, or the test's own grip on it
    ("shutdown", "debug", "failover", "replicaof", "slaveof", "client|kill", "client|pause",
     "acl|setuser", "acl|deluser", "acl|load", "config|set", "config|rewrite", "auth", "hello",
     "client|no-touch", "migrate", "module|load", "module|loadex",
     # fork or write files: slow, and fuzzed elsewhere
     "save", "bgsave", "bgrewriteaof", "acl|save",
     # turn the connection into something that answers no more requests
     "monitor", "sync", "psync", "replconf", "quit")
)  # fmt: skip

TOKENS = [
    *b"0 1 -1 2 3 10 100 -100 1000 65536 9223372036854775807 -9223372036854775808".split(),
    *b"18446744073709551616 1.5 -0.0 1e300 inf -inf nan 0x10 +1 01 (1 [a [b - + $ * 0-0".split(),
    *b"1-1 5-5 > a b c field member EX PX NX XX GT LT CH INCR KEEPTTL GET COUNT MATCH TYPE".split(),
    *b"STORE STOREDIST BY LIMIT ASC DESC ALPHA WITHSCORES REV BYSCORE BYLEX LEFT".split(),
    *b"RIGHT BEFORE AFTER MAXLEN MINID ~ = BLOCK STREAMS GROUP ID IDLE JUSTID FORCE CREATE".split(),
    *b"MKSTREAM WEIGHTS AGGREGATE SUM MIN MAX AND OR XOR NOT BIT BYTE u8 i64 #1 OVERFLOW".split(),
    *b"SAT FAIL WRAP SET INCRBY FROMMEMBER FROMLONLAT BYRADIUS BYBOX m km REPLACE".split(),
    *b"ABSTTL IDLETIME FREQ SYNC ASYNC RANK 13.36 38.11 WITHVALUES WITHCOORD ON OFF BCAST".split(),
    b"return redis.call('set', KEYS[1], ARGV[1])",
    b"return {1, redis.status_reply('x'), {}, false}",
    b"#!lua name=l\nredis.register_function('f', function() return 1 end)",
    b"", b" ", b"\r\n", b"\0", b"\xff\xfe", b"x" * 70, b"y" * 5000, b"a?c*[d]", b"{a}:k*->f",
]  # fmt: skip
KEYS = [b"string", b"number", b"list", b"set", b"intset", b"hash", b"zset", b"stream", b"hll", b""]
SETUP = b"""
    SET string value|SET number 10|RPUSH list a b c 1 2|SADD set a b c|SADD intset 1 2 3
    |HSET hash field a b 1|ZADD zset 1 a 2 b 3 member|XADD stream 1-1 field a|PFADD hll a b c
    |XGROUP CREATE stream a 0
""".replace(b"\n", b"")


def callable_commands() -> list[tuple[bytes, ...]]:
    """Every command and subcommand that may be called, as the words that name it."""
    found: list[tuple[bytes, ...]] = []

    def add(command: Command) -> None:
        if command.name not in LEFT_OUT:
            found.append(tuple(command.name.upper().encode().split(b"|")))
        for sub in command.subcommands.values():
            add(sub)

    for command in REGISTRY.values():
        add(command)
    return found


class Fuzzer:
    """Makes requests from a seed, and puts them to a server.

    Args:
        server: a running one.
        seed: of all randomness.
    """

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.rng = random.Random(seed)
        self.commands = callable_commands()
        self.errors: dict[bytes, int] = {}
        self.replies = 0

    def run(self, requests: int) -> None:
        """Put so many requests, in batches."""
        for _ in range(requests // BATCH):
            batch = [self.request() for _ in range(BATCH)]
            if self.rng.random() < 0.1:
                batch[:0] = [line.split() for line in SETUP.split(b"|")]
            if self.rng.random() < 0.7:
                self.whole(batch)
            else:
                self.mutated(batch)

    def request(self) -> list[bytes]:
        """Make a request: mostly of the right length, with keys where keys are likely."""
        rng = self.rng
        words = list(rng.choice(self.commands))
        if rng.random() < 0.02:
            words[-1] = words[-1][: rng.randrange(len(words[-1]))] + rng.choice(TOKENS)
        for position in range(rng.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 9))):
            likely_key = 0.8 if position == 0 else 0.2
            words.append(rng.choice(KEYS if rng.random() < likely_key else TOKENS))
        return words

    def whole(self, batch: list[list[bytes]]) -> None:
        """Send requests as they are; all must be answered."""
        end = [[b"DISCARD"], [b"CLIENT", b"REPLY", b"ON"], [b"PING", MARK]]
        data = b"".join(map(encode_command, [*batch, *end]))
        with socket.create_connection(("127.0.0.1", self.server.port), 30) as link:
            link.sendall(encode_command([b"CLIENT", b"ID"]) + data)
            link.settimeout(0.05)
            found = bytearray()
            for _ in range(PATIENCE):
                try:
                    chunk = link.recv(1 << 18)
                    assert chunk, f"closed on {batch}\n{self.server.log_tail()}"
                    found += chunk
                except TimeoutError:
                    if found:
                        client_id = bytes(found[1 : found.index(b"\r")])
                        self.server.call("CLIENT", "UNBLOCK", client_id)
                if found.endswith(MARK + b"\r\n"):
                    break
            else:
                raise AssertionError(f"no end of the answers to {batch}: {bytes(found)[-200:]!r}")
        self.check(bytes(found))

    def mutated(self, batch: list[list[bytes]]) -> None:
        """Change some bytes, and say that no more will come; the server must come to an end."""
        rng = self.rng
        data = bytearray(b"".join(map(encode_command, batch)))
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.choice(b"*$0123456789\r\n \"'\0\xff-")
                case 1:
                    del data[at : at + rng.randrange(1, 20)]
                case 2:
                    data[at:at] = data[at : at + rng.randrange(1, 50)]
                case _:
                    del data[max(at, 100) :]
        with socket.create_connection(("127.0.0.1", self.server.port), 30) as link:
            found = bytearray()
            with contextlib.suppress(ConnectionError):
                link.sendall(data)
                link.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):  # closed with bytes of ours unread
                while chunk := link.recv(1 << 18):
                    found += chunk
        self.check(bytes(found))

    def check(self, answer: bytes) -> None:
        """Every byte belongs to a whole reply, and every error has a code."""
        parser = ReplyParser()
        replies = parser.feed(answer)
        assert parser.error is None and not parser.pending_bytes, answer[-300:]
        for reply in replies:
            self.note(reply)

    def note(self, reply: Reply) -> None:
        """Count a reply; an error must begin with a code and be one line."""
        self.replies += 1
        if isinstance(reply, CommandError):
            code = reply.text.partition(b" ")[0]
            assert code.isupper() and b"\n" not in reply.text, reply
            assert b"internal error" not in reply.text, f"{reply}\n{self.server.log_tail(60)}"
            self.errors[code] = self.errors.get(code, 0) + 1


def rss_after_cleaning(server: Server) -> int:
    """Resident bytes when nothing is left that was put in."""
    server.call("FLUSHALL")
    with contextlib.suppress(Exception):
        server.call("SCRIPT", "FLUSH")
    return int(psutil.Process(server.pid).memory_info().rss)


def storm(folder: Path, requests: int) -> None:
    """Start a server, put the requests to it, and look at what is left of it."""
    limits = {"proto-max-bulk-len": "1mb", "save": "", "maxmemory": "1gb"}
    with Server("kvrepl", folder, limits) as server:
        pid = server.pid
        fuzzer = Fuzzer(server, SEED)
        fuzzer.run(requests // 10)
        before = rss_after_cleaning(server)
        fuzzer.run(requests - requests // 10)
        after = rss_after_cleaning(server)
        info = server.info("everything")

        assert server.pid == pid and server.running
        assert server.crash_line() is None, server.log_tail(60)
        assert "Internal error" not in server.log_text(), server.log_tail(60)
        assert info["connected_clients"] == 1 and info["blocked_clients"] == 0
        assert after - before < max(before // 4, 16 << 20), (before, after)
        # That the requests were neither all refused nor all understood.
        assert fuzzer.errors[b"ERR"] > requests / 10 and fuzzer.errors[b"WRONGTYPE"] > 0
        assert fuzzer.replies - sum(fuzzer.errors.values()) > requests / 20


def test_server_under_random_requests_lives_and_answers(tmp_path: Path) -> None:
    storm(tmp_path, 20_000)


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_server_under_a_million_random_requests_lives_and_answers(tmp_path: Path) -> None:
    storm(tmp_path, 1_000_000)
