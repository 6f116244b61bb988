"""COMMAND, and what is told of slow commands, latency, memory, users and modules."""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from kvrepl.engine import introspection
from kvrepl.engine.spec import REGISTRY
from kvrepl.resp import encode
from kvrepl.resp.values import OK, Status
from kvrepl.server.memory import Figures
from tests.unit.commands.session import START_MS, Session

START_S = START_MS // 1000


class HandHost:
    """A host with a slow log and spikes of its own."""

    def __init__(self) -> None:
        slow = [
            SimpleNamespace(
                number=n, time_s=START_S, duration_us=n, argv=[b"get"], address=b"a:1", name=b""
            )
            for n in range(20, 0, -1)
        ]
        spikes = SimpleNamespace(
            samples=deque([(START_S - 7200, 10), (START_S - 60, 40), (START_S - 5, 25)]), max_ms=90
        )
        self.shown = SimpleNamespace(slowlog=deque(slow), latency={b"command": spikes})

    def monitoring(self) -> Any:
        """What was slow."""
        return self.shown

    def memory(self) -> Figures:
        """A server that took 400,000 bytes at its start, and 4,000,000 at most."""
        none = dict.fromkeys((each.name for each in fields(Figures)), 0)
        known = {"used_bytes": 1_000_000, "peak_bytes": 4_000_000, "start_bytes": 400_000}
        return Figures(**none | known)


@pytest.fixture
def host(session: Session) -> HandHost:
    """Put a host under the session's engine."""
    host = HandHost()
    session.engine.host = host
    return host


# ------------------------------------------------------------------------ COMMAND


def test_command_count_counts_commands_without_subcommands(session: Session) -> None:
    assert session.run("command", "count") == len(REGISTRY)
    assert len(session.run("command")) == len(REGISTRY)


def test_command_info_of_get_is_that_of_redis(session: Session) -> None:
    # redis-server 7.0.15: COMMAND INFO get
    assert encode(session.run("command", "info", "GET")) == (
        b"*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n"
        b"+@read\r\n+@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n"
        b"$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex"
        b"\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\n"
        b"lastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n"
    )


def test_command_info_tells_flags_in_the_order_of_redis(session: Session) -> None:
    flags = [each.text for each in session.run("command", "info", "eval")[0][2]]
    order = [b"noscript", b"stale", b"skip_monitor", b"no_mandatory_keys", b"movablekeys"]
    assert flags == order


def test_command_info_of_sort_in_resp3_has_sets_and_maps(session3: Session) -> None:
    wire = encode(session3.run("command", "info", "sort"), 3)
    assert wire.startswith(b"*1\r\n*10\r\n$4\r\nsort\r\n:-2\r\n~3\r\n+write\r\n+denyoom\r\n")
    assert wire.count(b"$5\r\nnotes\r\n") == 2
    assert wire.count(b"$7\r\nunknown\r\n$4\r\nspec\r\n%0\r\n") == 4
    assert wire.endswith(b"~0\r\n")


def test_command_info_in_resp3_has_subcommands_as_an_array(session3: Session) -> None:
    wire = encode(session3.run("command", "info", "latency"), 3)
    assert b"*7\r\n*10\r\n$" in wire


def test_command_info_knows_subcommands_by_name_and_nulls_the_unknown(session: Session) -> None:
    assert session.run("command", "info", "nosuch", "config|nosuch") == [None, None]
    assert session.run("command", "info", "CONFIG|GET")[0][0] == b"config|get"


def test_command_list_filters(session: Session) -> None:
    assert b"config|get" in session.run("command", "list")
    assert session.run("command", "list", "filterby", "pattern", "EX*AT") == [b"expireat"]
    assert set(session.run("command", "list", "filterby", "aclcat", "Transaction")) == {
        b"multi", b"exec", b"discard", b"watch", b"unwatch",
    }  # fmt: skip
    assert session.run("command", "list", "filterby", "module", "x") == []
    assert session.error("command", "list", "filterby", "zz", "x") == "ERR syntax error"


@pytest.mark.parametrize(
    ("request_line", "keys"),
    [
        ("get a", "a"),
        ("mset a 1 b 2", "a b"),
        ("blpop a b 0", "a b"),
        ("zunionstore d 2 a b", "d a b"),
        ("object encoding a", "a"),
        ("sort a by x limit 0 store get y store z", "a z"),
        ("migrate h p a 0 10", "a"),
        ("memory usage a", "a"),
    ],
)
def test_command_getkeys_finds_the_keys(session: Session, request_line: str, keys: str) -> None:
    found = session.run("command", "getkeys", *request_line.split())
    assert found == [key.encode() for key in keys.split()]


def test_command_getkeys_of_migrate_finds_the_list_at_the_end(session: Session) -> None:
    found = session.run("command", "getkeys", "migrate", "h", "p", "", 0, 10, "keys", "a", "b")
    assert found == [b"a", b"b"]


@pytest.mark.parametrize(
    ("request_line", "text"),
    [
        ("nosuch a", "ERR Invalid command specified"),
        ("ping a", "ERR The command has no key arguments"),
        ("spublish a b", "ERR The command has no key arguments"),
        ("get a b", "ERR Invalid number of arguments specified for command"),
        ("zunion x a b", "ERR Invalid arguments specified for command"),
        ("zunion 5 a b", "ERR Invalid arguments specified for command"),
    ],
)
def test_command_getkeys_of_what_has_none_is_refused(
    session: Session, request_line: str, text: str
) -> None:
    assert session.error("command", "getkeys", *request_line.split()) == text


def test_keys_of_a_command_leave_out_channels() -> None:
    assert not introspection.find_keys(REGISTRY["spublish"], [b"spublish", b"c", b"m"])


def test_command_getkeysandflags_tells_whether_set_and_bitfield_read(session: Session) -> None:
    writes = [[b"k", [Status(b"OW"), Status(b"update")]]]
    reads = [[b"k", [Status(b"RO"), Status(b"access")]]]
    both = [[b"k", [Status(b"RW"), Status(b"access"), Status(b"update")]]]
    assert session.run("command", "getkeysandflags", "set", "k", "v") == writes
    assert session.run("command", "getkeysandflags", "set", "k", "v", "get") == both
    get, set_ = ["get", "u8", "0"], ["set", "u8", "0", "1"]
    overflow = ["overflow", "sat"]
    for arguments, told in ((get, reads), ([*get, *set_], both), ([*overflow, *get], reads)):
        assert session.run("command", "getkeysandflags", "bitfield", "k", *arguments) == told
    assert session.run("command", "getkeysandflags", "bitfield", "k", "get", "u8") == both


def test_command_getkeysandflags_tells_what_is_done(session: Session) -> None:
    found = session.run("command", "getkeysandflags", "copy", "a", "b")
    assert found == [
        [b"a", [Status(b"RO"), Status(b"access")]],
        [b"b", [Status(b"OW"), Status(b"update")]],
    ]


def test_command_docs_tells_summary_release_group_and_cost(session: Session) -> None:
    docs = session.run("command", "docs", "get", "nosuch", "client")
    assert docs[b"get"] == {
        b"summary": b"Get the value of a key",
        b"since": b"1.0.0",
        b"group": b"string",
        b"complexity": b"O(1)",
        b"arguments": [{b"name": b"key", b"type": b"key", b"key_spec_index": 0}],
    }
    assert docs[b"client"][b"subcommands"][b"client|id"][b"since"] == b"5.0.0"
    assert set(docs) == {b"get", b"client"}


@pytest.mark.parametrize(
    "name",
    ["object", "client", "pubsub", "command", "latency", "slowlog", "memory", "acl", "module"],
)
def test_help_names_every_subcommand(session: Session, name: str) -> None:
    text = b"\n".join(line.text for line in session.run(name, "help")).decode()
    shown = {line.split()[0].lower() for line in text.splitlines() if not line.startswith(" ")}
    subcommands = {sub.decode() for sub in REGISTRY[name].subcommands}
    # What is refused here as a whole needs no help.
    assert subcommands - shown <= {"load", "loadex", "unload"}


# -------------------------------------------------------------- SLOWLOG and LATENCY


def test_slowlog_get_gives_the_newest_first(session: Session, host: HandHost) -> None:
    assert session.run("slowlog", "get", 1) == [[20, START_S, 20, [b"get"], b"a:1", b""]]
    assert [len(session.run("slowlog", "get", *n)) for n in ((), (-1,), (15,))] == [10, 20, 15]
    assert session.error("slowlog", "get", -2) == (
        "ERR count should be greater than or equal to -1"
    )


def test_slowlog_reset_empties_it(session: Session, host: HandHost) -> None:
    assert session.run("slowlog", "len") == 20
    assert session.run("slowlog", "reset") == OK
    assert session.run("slowlog", "len") == 0


def test_latency_tells_the_spikes_until_they_are_reset(session: Session, host: HandHost) -> None:
    assert session.run("latency", "latest") == [[b"command", START_S - 5, 25, 90]]
    assert session.run("latency", "history", "command")[0] == [START_S - 7200, 10]
    assert session.run("latency", "history", "nosuch") == []
    assert session.run("latency", "reset", "nosuch") == 0
    assert session.run("latency", "reset") == 1
    assert session.run("latency", "latest") == []


def test_latency_graph_draws_the_spikes(session: Session, host: HandHost) -> None:
    rows = session.run("latency", "graph", "command").text.decode().splitlines()
    assert rows[0] == "command - high 40 ms, low 10 ms (all time high 90 ms)"
    assert rows[1] == "-" * 80
    assert rows[2:] == [" ` ", " |_", " ||", "_||", "215", "hms"]
    assert session.error("latency", "graph", "x") == "ERR No samples available for event 'x'"


def test_latency_doctor_knows_whether_it_watches(session: Session, host: HandHost) -> None:
    assert b"disabled" in session.run("latency", "doctor").text
    session.engine.config.latency_monitor_threshold = 10
    assert b"command: 3, 25 ms in the mean, 90 ms at the worst" in (
        session.run("latency", "doctor").text
    )


# ----------------------------------------------------------------------- the rest


def test_memory_stats_counts_keys_and_overhead(session: Session, host: HandHost) -> None:
    session.run("set", "a", 1, "px", 10)
    session.run("set", "b", 1)
    stats = session.run("memory", "stats")
    assert stats[b"keys.count"] == 2
    assert stats[b"keys.bytes-per-key"] == 300_000  # what is there beyond the start
    assert stats[b"peak.percentage"] == 25.0
    assert (
        stats[b"db.0"][b"overhead.hashtable.main"]
        == 2 * (stats[b"db.0"][b"overhead.hashtable.expires"])
    )


def test_memory_doctor_tells_what_is_wrong(session: Session, host: HandHost) -> None:
    assert b"Peak memory" in session.run("memory", "doctor").text
    assert b"Over the limit" not in session.run("memory", "doctor").text
    session.engine.config.maxmemory = 999_999
    assert b"Over the limit" in session.run("memory", "doctor").text


def test_acl_knows_the_default_user_and_the_categories(session: Session) -> None:
    assert session.run("acl", "whoami") == b"default"
    assert session.run("acl", "users") == [b"default"]
    assert len(session.run("acl", "cat")) == 21
    assert b"multi" in session.run("acl", "cat", "transaction")
    assert session.error("acl", "cat", "zz") == "ERR Unknown category 'zz'"


def test_module_list_is_empty(session: Session) -> None:
    assert session.run("module", "list") == []
    assert session.error("module", "load", "x").startswith("ERR MODULE command not allowed")


def test_lolwut_tells_the_version(session: Session) -> None:
    assert session.run("lolwut", "version", 5).text == b"Redis ver. 7.0.15\n"
    assert session.error("lolwut", "version", "x") == "ERR value is not an integer or out of range"
